/* gateway/tail.h: the newest messages of this node's rooms, kept for the moment at which the store turns out to have lost them (gateway/fork.h).
 *
 * A copy per message, oldest first, in its room and among all of the node. Kept are so many bytes per room (--tail-bytes) and altogether
 * (--tail-total-bytes), and nothing for longer than a failover can matter: 30 s in which the store was there. While it is away nothing gets too old. */
#ifndef XD_TAIL_H
#define XD_TAIL_H

#include "base/list.h"
#include "broker/broker.h"

struct tail_entry {
    struct link in_room, overall;
    struct tails *tails;
    size_t *room_bytes, size;
    uint64_t kept_ms;        /* on the clock of tails */
    struct message_record m; /* its slices point into bytes */
    char bytes[];
};

struct tail { /* one room's */
    struct link entries;
    size_t bytes;
};

struct tails { /* the node's */
    struct link all;
    size_t bytes;     /* of all entries, taken ones too */
    uint64_t away_ms; /* how long the store has been away, up to the last time it came back */
    uint64_t down_ms; /* since when it is; 0: it is there */
};

void tails_init(struct tails *t);
/* The store went away or came back. */
void tails_link(struct tails *t, bool up, uint64_t now_ms);
/* Drops what is too old; called now and then. */
void tails_expire(struct tails *t, uint64_t now_ms);

void tail_init(struct tail *t);
void tail_fini(struct tail *t);

struct tail_limits {
    size_t room, node; /* bytes; 0: nothing is kept */
};
/* Keeps a copy of the MESSAGE e, at the expense of the oldest. */
void tail_keep(struct tails *tails, struct tail *t, const struct envelope *e, struct tail_limits limits,
               uint64_t now_ms);
/* The entry of that offset, or NULL. */
struct tail_entry *tail_find(const struct tail *t, uint64_t offset);
/* Takes the entry out of its room: it gets neither old nor evicted any more, and is the caller's to free. */
void tail_take(struct tail *t, struct tail_entry *e);
/* Of an entry that was taken. */
void tail_entry_free(struct tail_entry *e);

#endif
