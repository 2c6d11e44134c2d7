/* gateway/outq.h: what waits to be sent to one client: references to shared messages, each holding whole WebSocket frames.
 *
 * Costs nothing while empty. The first entry may be partly sent; it is then never dropped, or the client would lose its place in the stream. */
#ifndef XD_OUTQ_H
#define XD_OUTQ_H

#include "base/msg.h"

struct outq {
    struct msg **ring;
    uint32_t head, count, cap; /* cap is a power of two, or 0 */
    uint32_t sent;             /* bytes of the first entry that are gone already */
    bool pinned;               /* the transport saw the first entry: it must be finished */
    size_t bytes;              /* still to be sent */
};

void outq_fini(struct outq *q);
/* Takes over one reference. */
void outq_push(struct outq *q, struct msg *m);
/* Takes over one reference; in front of everything that has not begun. */
void outq_push_front(struct outq *q, struct msg *m);
/* All of `from`, of which nothing has been sent, behind what is there. */
void outq_move(struct outq *q, struct outq *from);
/* What to send next, empty when there is nothing. */
struct slice outq_front(const struct outq *q);
/* n bytes of the front were taken; the entry goes when it is finished, else it stays pinned (n may be 0: the transport has seen it). */
void outq_taken(struct outq *q, size_t n);
/* Drops the oldest entry that has not begun; returns its bytes, 0 when there is none. */
size_t outq_drop_oldest(struct outq *q);

#endif
