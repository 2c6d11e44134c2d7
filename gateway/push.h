/* gateway/push.h: one packet to many tunnels, wherever they are: at most one envelope to each node, whose answer says which of them it does not have.
 *
 * A tunnel never moves: what the store has said of where it is holds until that node says that it is gone. So the store is asked once for each tunnel. */
#ifndef XD_PUSH_H
#define XD_PUSH_H

#include "broker/broker.h"
#include "gateway/tunnel_body.h"

#define PUSHES_MAX 10000u /* envelopes under way on this node, over which a push is refused */

struct gateway;
struct pushes;

struct pushes *pushes_create(struct gateway *g);
/* The broker is gone: what is under way completes. NULL-safe, clears the pointer. */
void pushes_destroy(struct pushes **p);

struct push_result {
    enum err err;       /* OK, or ERR_UNAVAILABLE, ERR_TIMEOUT: the store did not say where some of them are */
    struct slice gone;  /* tunnels that there are not, SID_LEN letters each */
    uint32_t unreached; /* tunnels there are, as far as the store knows, on nodes that did not answer */
};

typedef void push_done(void *arg, const struct push_result *r);

/* id: the tenant's, whose tunnels alone are reached. Everything is copied. Completes once; perhaps before it returns, when all of them are here or nowhere. Tunnels whose
 * names cannot be one are gone too, but are for the caller to tell. */
void push_send(struct pushes *p, struct slice id, const struct wafer_push *packet, push_done *done, void *arg);
/* No more than that can be under way at the moment. */
bool pushes_busy(const struct pushes *p);

/* Could it be the name of a tunnel? */
bool push_name_valid(struct slice tunnel);

/* For control.c: an envelope with the verb `push`, or the answer to one. False: it is none. */
bool push_command(struct gateway *g, const struct envelope *e);
bool push_answer(struct gateway *g, const struct envelope *e);

#endif
