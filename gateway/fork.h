/* gateway/fork.h: what a failover took from a room, and how it comes back.
 *
 * Redis replicates asynchronously: a promoted replica may lack the newest messages, and goes on from where it is. Then a node has delivered a branch of history
 * that the log no longer has (gateway/stream.c finds that out, and where both part). What this node still holds of the lost branch (gateway/tail.h) it
 * appends to the log again, in order, one after the other; each at most once in the cluster, for each says where it stood (struct was) and the store takes it for
 * a repetition when another node was first, or its own publisher. Who has seen a message on the lost branch is not told it again.
 *
 * Nothing is appended again when the log has nothing in common with what was delivered: then it was not its end that the store lost. */
#ifndef XD_FORK_H
#define XD_FORK_H

#include "base/list.h"
#include "broker/broker.h"

struct gateway;
struct member;
struct room;

#define FORKS_MAX   4 /* remembered per room */
#define BRANCH_NONE UINT32_MAX

/* A room's forks. */
struct forks {
    struct link list;     /* oldest first */
    uint32_t count;       /* ever: the number of the branch that the room is on */
    struct lost *sending; /* under way to the store, or NULL */
    bool mending;
};

/* A message on a lost branch, as far as this node knows it. */
struct lost {
    struct link link;
    struct fork *fork;
    struct position at;
    char tag[TAG_LEN + 1]; /* names the message: that of its first position */
    struct slice id;       /* idempotency key; points behind the struct */
    uint64_t time_ms;
    bool back;               /* the log has it again */
    struct tail_entry *held; /* owned; NULL when this node does not hold it, or no longer has to */
};

struct fork {
    struct link in_room;
    struct link open; /* gateway->forks_open until it is accounted for */
    struct room *room;
    uint32_t branch;       /* the branch that was lost */
    bool mendable;         /* `since` is known, and this node may append again what came after it */
    struct position since; /* what both have in common */
    uint64_t to;           /* the newest offset on the lost branch */
    struct link lost; /* oldest first; those that are back are on `returned`, so that what comes next is found soon */
    struct link returned;
    uint64_t back, appended, held;
    uint64_t due_ms;
};

/* A message that may have been seen on a lost branch: which, and where there. */
struct sight {
    struct fork *fork; /* this node has delivered that branch; NULL: it has not */
    struct lost *lost; /* NULL: it no longer knows more of the message than where it stood */
    uint64_t since, offset;
};

void forks_init(struct forks *f);
/* Accounts for what is still open. */
void forks_fini(struct forks *f);

/* The room's stream is about to go on from `since` on another branch; what the tail has after it is taken over. */
void fork_begin(struct room *r, const struct position *since, bool mendable);

/* The fork that took this position, or NULL. */
const struct fork *fork_of(const struct room *r, const struct position *at);

/* False: nobody has seen this message before. */
bool fork_sight(const struct room *r, const struct was *was, struct slice id, uint64_t time_ms, struct sight *ret);
/* The same for a message that the stream delivers: what was lost is back. */
bool fork_return(struct room *r, const struct envelope *e, struct sight *ret);
/* Whether this member is among those who have seen it. */
bool fork_seen_by(const struct member *m, const struct sight *s);

/* Appends again what is still to be, one message after the other; goes on by itself, and after a failure when called again. */
void fork_mend(struct room *r);

/* Counts and logs what has come of forks, some time after each. */
void forks_settle(struct gateway *g);

#endif
