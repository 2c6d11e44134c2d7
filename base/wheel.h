/* base/wheel.h: a timing wheel: very many coarse timeouts (one per connection) for the price of a list operation each.
 *
 * Resolution is one tick; an entry fires at the first tick that is not before its due time, never early. */
#ifndef XD_BASE_WHEEL_H
#define XD_BASE_WHEEL_H

#include <stdint.h>

#include "base/list.h"

#define WHEEL_SLOTS 256

struct wheel_entry {
    struct link link; /* linked while set */
    uint64_t due;     /* in ticks */
    void (*run)(struct wheel_entry *e);
};

struct wheel {
    struct link slots[WHEEL_SLOTS];
    uint64_t tick_ms, now; /* now: the last tick that was run */
};

/* tick_ms is the resolution; now_ms is where its clock starts. */
void wheel_init(struct wheel *w, uint64_t tick_ms, uint64_t now_ms);

static inline void wheel_entry_init(struct wheel_entry *e, void (*run)(struct wheel_entry *))
{
    *e = (struct wheel_entry){.run = run};
    list_init(&e->link);
}

/* Sets or moves an entry to fire delay_ms from now, which is as old as the last wheel_advance: after a pause of several ticks advance
 * first, or the delay is shorter by the pause. */
void wheel_set(struct wheel *w, struct wheel_entry *e, uint64_t delay_ms);

static inline void wheel_unset(struct wheel_entry *e)
{
    list_del(&e->link);
}

/* Runs everything that is due. A callback may set or unset any entry, its own included. */
void wheel_advance(struct wheel *w, uint64_t now_ms);

#endif
