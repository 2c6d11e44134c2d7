/* gateway/reader.c: lease, pages, cursor. */
#include "gateway/reader.h"

#include <stdio.h>

#include "base/mem.h"
#include "base/random.h"

#define PAGE    32u
#define KICK_MS 2u

static void copy_place(char to[EVENT_PLACE_MAX + 1], struct slice place)
{
    (void)snprintf(to, EVENT_PLACE_MAX + 1, "%.*s", SLICE_FMT(place));
}

static void forget(struct reader *r)
{
    r->ops->forget(r);
    r->settled[0] = r->last[0] = '\0';
}

static void on_page(struct reader *r, const struct broker_result *result)
{
    if (result->anew || !r->mine) {
        forget(r);
        copy_place(r->last, result->cursor);
    }
    r->mine = true;
    r->lease_until_ms = r->asked_ms + r->lease_ms; /* the store counts from when it was asked, or later */
    if (result->dropped > r->gone) {
        r->ops->dropped(r, result->dropped - r->gone);
        r->gone = result->dropped;
    }
    for (size_t i = 0; i < result->count; i++) {
        copy_place(r->last, result->events[i].id);
        r->ops->take(r, &result->events[i]);
    }
}

static uint32_t next_look(struct reader *r, const struct broker_result *result)
{
    if (!r->mine)
        return r->lease_ms / 3 + random_below(r->lease_ms / 6 + 1);
    if (r->ops->full(r))
        return r->lease_ms / 3;
    return result->err == OK && result->count == PAGE ? 0 : r->idle_ms;
}

static void on_events(void *arg, const struct broker_result *result)
{
    struct reader *r = arg;
    r->asking = false;
    if (r->stopping) {
        r->mine = r->mine || result->mine;
        r->ops->stopped(r);
        return;
    }
    if (result->err == OK && result->mine) {
        on_page(r, result);
    } else if (result->err == OK || loop_now_ms(r->loop) > r->lease_until_ms) {
        forget(r);
        r->mine = false;
    }
    timer_start(&r->look, next_look(r, result));
}

static void on_look(struct timer *t)
{
    struct reader *r = container_of(t, struct reader, look);
    struct events_ask what = {.lease_ms = r->lease_ms,
                              .limit = r->ops->full(r) ? 0 : PAGE,
                              .settled = slice_str(r->settled),
                              .after = slice_str(r->last)};
    if (r->asking || r->stopping)
        return;
    r->asking = true;
    r->kicked = false;
    r->asked_ms = loop_now_ms(r->loop);
    r->ops->send(r, &what, on_events, r);
}

void reader_init(struct reader *r, struct loop *loop, const struct reader_ops *ops, uint32_t lease_ms, uint32_t idle_ms)
{
    *r = (struct reader){.ops = ops, .loop = loop, .lease_ms = lease_ms, .idle_ms = idle_ms};
    timer_init(&r->look, loop, on_look);
    timer_start(&r->look, random_below(100)); /* so that nodes that start together share the streams */
}

void reader_settled(struct reader *r, const char *place)
{
    copy_place(r->settled, slice_str(place));
}

void reader_kick(struct reader *r)
{
    if (!r->mine || r->asking || r->kicked || r->stopping)
        return;
    r->kicked = true;
    timer_start(&r->look, KICK_MS);
}

void reader_stop(struct reader *r)
{
    r->stopping = true;
    timer_stop(&r->look);
}

void reader_release(struct reader *r, broker_done *done, void *arg)
{
    struct events_ask what = {.settled = slice_str(r->settled)};
    r->ops->send(r, &what, done, arg);
}
