/* base/wheel.c: a hashed timing wheel; entries further away than one turn stay in their slot until their turn comes. */
#include "base/wheel.h"

void wheel_init(struct wheel *w, uint64_t tick_ms, uint64_t now_ms)
{
    w->tick_ms = tick_ms;
    w->now = now_ms / tick_ms;
    for (int i = 0; i < WHEEL_SLOTS; i++)
        list_init(&w->slots[i]);
}

void wheel_set(struct wheel *w, struct wheel_entry *e, uint64_t delay_ms)
{
    uint64_t ticks = (delay_ms + w->tick_ms - 1) / w->tick_ms;
    list_del(&e->link);
    e->due = w->now + ticks + 1; /* part of the present tick has passed already: never early */
    list_append(&w->slots[e->due % WHEEL_SLOTS], &e->link);
}

static void run_slot(struct wheel *w, struct link *slot)
{
    /* Detached first: a callback that sets an entry again must not have it visited in the same turn. */
    struct link pending;
    list_init(&pending);
    list_splice(&pending, slot);
    while (!list_empty(&pending)) {
        struct wheel_entry *e = list_first(&pending, struct wheel_entry, link);
        list_del(&e->link);
        if (e->due <= w->now)
            e->run(e);
        else
            list_append(slot, &e->link);
    }
}

void wheel_advance(struct wheel *w, uint64_t now_ms)
{
    uint64_t target = now_ms / w->tick_ms;
    /* After a long pause one full turn reaches everything that is due. */
    if (target > w->now + WHEEL_SLOTS)
        w->now = target - WHEEL_SLOTS;
    while (w->now < target) {
        w->now++;
        run_slot(w, &w->slots[w->now % WHEEL_SLOTS]);
    }
}
