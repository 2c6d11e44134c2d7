/* broker/redis/calls.c: what calls begin with, and completions that no single reply brings. */
#include <stdio.h>

#include "base/list.h"
#include "base/mem.h"
#include "broker/redis/redis.h"

struct call *call_new(struct redis *r, broker_done *done, void *arg)
{
    struct call *c = xcalloc(1, sizeof *c);
    *c = (struct call){.r = r, .done = done, .arg = arg};
    return c;
}

struct deferred {
    struct link link;
    struct call call;
    enum err err;
    const char *why;
};

void redis_complete_later(struct redis *r, broker_done *done, void *arg, enum err err, const char *why)
{
    struct deferred *d = xcalloc(1, sizeof *d);
    d->call = (struct call){.r = r, .done = done, .arg = arg};
    d->err = err;
    d->why = why;
    list_append(&r->deferred, &d->link);
    loop_idle(r->b.loop, &r->task, 0);
}

bool deferred_run(struct redis *r)
{
    struct link turn;
    list_init(&turn);
    list_splice(&turn, &r->deferred);
    bool any = !list_empty(&turn);
    while (!list_empty(&turn)) {
        struct deferred *d = list_first(&turn, struct deferred, link);
        list_del(&d->link);
        broker_fail(d->call.done, d->call.arg, d->err, d->why);
        free(d);
    }
    return any;
}

struct gather *gather_new(struct redis *r, broker_done *done, void *arg)
{
    struct gather *g = xcalloc(1, sizeof *g);
    g->call = (struct call){.r = r, .done = done, .arg = arg};
    g->left = 1;
    g->flags = REQUEST_REPEATABLE;
    return g;
}

static void gather_count(struct gather *g, enum err err, const char *why)
{
    if (err != OK && g->err == OK) {
        g->err = err;
        (void)snprintf(g->why, sizeof g->why, "%s", why);
    }
    if (--g->left != 0)
        return;
    struct broker_result result = {.err = g->err, .why = g->err != OK ? g->why : NULL};
    broker_complete(g->call.done, g->call.arg, &result);
    free(g);
}

static void on_gather_reply(void *arg, const redisReply *r, enum err err, const char *why)
{
    (void)r;
    gather_count(arg, err, why);
}

void gather_send(struct gather *g, struct args *a)
{
    g->left++;
    store_send(g->call.r->store, a, g->flags, on_gather_reply, g);
}

void gather_hold(struct gather *g)
{
    g->left++;
}

void gather_release(void *g, const struct broker_result *result)
{
    gather_count(g, result->err, result->why);
}

void gather_close(struct gather *g)
{
    gather_count(g, OK, NULL);
}
