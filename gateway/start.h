/* gateway/start.h: sessions that begin or are taken up again, a bounded number at a time: each costs the store several commands, and after a
 * restart they all come at once. Whoever comes back goes first, but for every eighth turn. */
#ifndef XD_START_H
#define XD_START_H

#include "base/loop.h"

struct gateway;

enum start_state { START_IDLE, START_WAITING, START_RUNNING };

/* Embedded in its owner, who ends it before going away. */
struct start {
    struct link link;
    enum start_state state;
    uint64_t since_ms;
    void (*run)(struct start *s);     /* its turn has come; start_end() follows when it is done with */
    void (*give_up)(struct start *s); /* it has waited for redis-timeout; it is idle already */
};

struct starts {
    struct gateway *gw;
    struct link returning, fresh; /* waiting */
    uint32_t running, turns;
    struct task next;
};

void starts_init(struct starts *s, struct gateway *g);
/* Gives up whoever waits. */
void starts_fini(struct starts *s);
/* Now and then: gives up those that have waited too long. */
void starts_tick(struct starts *s);

void start_init(struct start *s, void (*run)(struct start *s), void (*give_up)(struct start *s));
/* Runs it, perhaps before this returns, or lets it wait. */
void start_begin(struct starts *all, struct start *s, bool returning);
/* It is over, or nobody waits for it any more. Harmless when idle. */
void start_end(struct starts *all, struct start *s);

#endif
