/* broker/redis/pubsub.c: the desired set of channels and its confirmation by Redis. */
#include "broker/redis/pubsub.h"

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/table.h"
#include "broker/internal.h"

#define BATCH 500

struct waiter {
    struct link link;    /* in its channel */
    struct link overall; /* by age, in the pubsub; all have the same patience */
    uint64_t due_ms;
    broker_done *done;
    void *arg;
    enum err err; /* what it is told when its turn comes without a channel */
};

/* Stays in the table while it is wanted or while confirmations for it are under way. */
struct channel {
    UT_hash_handle hh;   /* by name */
    struct link all;     /* ps->all, while wanted; rotated by pubsub_next_room */
    struct link pending; /* ps->pending, while a SUBSCRIBE must be sent */
    struct link waiters;
    uint32_t unconfirmed; /* SUBSCRIBEs sent on this connection and not confirmed: only the last one counts */
    bool wanted, confirmed, inbox;
    bool restoring; /* counted in ps->restoring: was wanted when the link came up */
    size_t name_n;
    struct slice room; /* the end of name, before encoding; part of bytes */
    char bytes[];
};

struct pubsub {
    const struct pubsub_config *cfg;
    const struct pubsub_events *events;
    void *owner;
    struct loop *loop;
    struct broker_stats *stats;
    struct redis_link *link;
    struct channel *channels;
    struct link all, pending;
    struct link waiters, ready; /* ready: their channel is confirmed, or refused; told from the task */
    size_t waiter_count, wanted_count, restoring;
    struct timer timer; /* for the oldest waiter */
    bool timer_set, up;
    uint64_t progress_ms; /* of restoring: the link came up, or another confirmation arrived */
    struct task task;
};

static struct channel *channel_find(struct pubsub *ps, struct slice name)
{
    struct channel *c;
    HASH_FIND(hh, ps->channels, name.p, name.n, c);
    return c;
}

static struct channel *channel_new(struct pubsub *ps, struct slice name, struct slice room)
{
    struct channel *c = xcalloc(1, sizeof *c + name.n + room.n);
    memcpy(c->bytes, name.p, name.n);
    memcpy(c->bytes + name.n, room.p, room.n);
    c->name_n = name.n;
    c->room = (struct slice){c->bytes + name.n, room.n};
    list_init(&c->all);
    list_init(&c->pending);
    list_init(&c->waiters);
    HASH_ADD_KEYPTR(hh, ps->channels, c->bytes, c->name_n, c);
    return c;
}

static void channel_release(struct pubsub *ps, struct channel *c)
{
    if (c->wanted || c->unconfirmed != 0)
        return;
    HASH_DELETE(hh, ps->channels, c);
    free(c);
}

static void timer_arm(struct pubsub *ps)
{
    ps->timer_set = !list_empty(&ps->waiters);
    if (!ps->timer_set)
        return;
    uint64_t due = list_first(&ps->waiters, struct waiter, overall)->due_ms, now = loop_now_ms(ps->loop);
    timer_start(&ps->timer, due > now ? due - now : 0);
}

/* The waiter is told from the task: never from within the call that made it wait. */
static void waiter_ready(struct pubsub *ps, struct waiter *w, enum err err)
{
    w->err = err;
    list_del(&w->link);
    list_del(&w->overall);
    list_append(&ps->ready, &w->overall);
    loop_idle(ps->loop, &ps->task, 0);
}

static void waiters_ready(struct pubsub *ps, struct channel *c, enum err err)
{
    while (!list_empty(&c->waiters))
        waiter_ready(ps, list_first(&c->waiters, struct waiter, link), err);
}

static void on_timer(struct timer *t)
{
    struct pubsub *ps = container_of(t, struct pubsub, timer);
    uint64_t now = loop_now_ms(ps->loop);
    while (!list_empty(&ps->waiters)) {
        struct waiter *w = list_first(&ps->waiters, struct waiter, overall);
        if (w->due_ms > now)
            break;
        ps->stats->timeouts++;
        waiter_ready(ps, w, ERR_TIMEOUT);
    }
    timer_arm(ps);
}

static void tell_ready(struct pubsub *ps)
{
    struct link turn;
    list_init(&turn);
    list_splice(&turn, &ps->ready);
    while (!list_empty(&turn)) {
        struct waiter *w = list_first(&turn, struct waiter, overall);
        list_del(&w->overall);
        ps->waiter_count--;
        struct broker_result r = {.err = w->err};
        if (w->err != OK)
            r.why = w->err == ERR_TIMEOUT ? "Redis did not confirm the subscription in time"
                                          : "the subscription was given up";
        broker_complete(w->done, w->arg, &r);
        free(w);
    }
}

/* One SUBSCRIBE for up to BATCH channels; a channel costs one argument, and one confirmation. */
static void send_batch(struct pubsub *ps)
{
    struct args a;
    args_init(&a);
    arg_str(&a, "SUBSCRIBE");
    for (int i = 0; i < BATCH && !list_empty(&ps->pending); i++) {
        struct channel *c = list_first(&ps->pending, struct channel, pending);
        list_del(&c->pending);
        c->unconfirmed++;
        arg_slice(&a, (struct slice){c->bytes, c->name_n});
    }
    redis_link_send(ps->link, &a, REQUEST_UNANSWERED | REQUEST_UNBOUNDED, NULL, NULL);
}

static void on_task(struct task *t)
{
    struct pubsub *ps = container_of(t, struct pubsub, task);
    tell_ready(ps);
    while (redis_link_is_up(ps->link) && !list_empty(&ps->pending))
        send_batch(ps);
    if (!ps->up && ps->restoring == 0 && redis_link_is_up(ps->link)) {
        ps->up = true;
        ps->events->up(ps->owner);
    }
}

static void restored(struct pubsub *ps, struct channel *c)
{
    if (!c->restoring)
        return;
    c->restoring = false;
    if (--ps->restoring == 0)
        loop_idle(ps->loop, &ps->task, 0);
}

static void on_confirmation(struct pubsub *ps, struct slice name)
{
    struct channel *c = channel_find(ps, name);
    ps->progress_ms = loop_now_ms(ps->loop);
    if (c == NULL || c->unconfirmed == 0) {
        ps->stats->undecodable++;
        return;
    }
    if (--c->unconfirmed == 0 && c->wanted && list_empty(&c->pending)) {
        c->confirmed = true;
        waiters_ready(ps, c, OK);
        restored(ps, c);
    } else {
        channel_release(ps, c);
    }
}

static struct slice element(const redisReply *r, size_t at)
{
    const redisReply *e = r->element[at];
    return e->type == REDIS_REPLY_STRING ? (struct slice){e->str, (size_t)e->len} : SLICE_NONE;
}

static void on_push(void *owner, const redisReply *r)
{
    struct pubsub *ps = owner;
    struct slice kind = element(r, 0), name = element(r, 1);
    if (slice_eq(kind, SLICE("subscribe"))) {
        on_confirmation(ps, name);
        return;
    }
    if (!slice_eq(kind, SLICE("message")))
        return;
    const struct channel *c = channel_find(ps, name);
    if (c != NULL && c->wanted)
        ps->events->message(ps->owner, c->inbox, c->room, element(r, 2));
}

static void on_link_up(void *owner)
{
    struct pubsub *ps = owner;
    ps->progress_ms = loop_now_ms(ps->loop);
    ps->restoring = 0;
    list_for_each (it, &ps->all) {
        struct channel *c = list_entry(it, struct channel, all);
        c->restoring = true;
        ps->restoring++;
        if (list_empty(&c->pending))
            list_append(&ps->pending, &c->pending);
    }
    loop_idle(ps->loop, &ps->task, 0);
}

static void on_link_down(void *owner)
{
    struct pubsub *ps = owner;
    struct channel *c, *next;
    HASH_ITER (hh, ps->channels, c, next) {
        c->unconfirmed = 0;
        c->confirmed = false;
        c->restoring = false;
        channel_release(ps, c);
    }
    bool was_up = ps->up;
    ps->up = false;
    if (was_up)
        ps->events->down(ps->owner);
}

static void wait_for(struct pubsub *ps, struct channel *c, broker_done *done, void *arg)
{
    struct waiter *w = xcalloc(1, sizeof *w);
    w->done = done;
    w->arg = arg;
    w->due_ms = loop_now_ms(ps->loop) + ps->cfg->link.timeout_ms;
    list_append(&c->waiters, &w->link);
    list_append(&ps->waiters, &w->overall);
    ps->waiter_count++;
    if (ps->waiter_count > ps->cfg->waiters_max) {
        ps->stats->refused++;
        waiter_ready(ps, w, ERR_UNAVAILABLE);
    } else if (c->confirmed) {
        waiter_ready(ps, w, OK);
    } else if (!ps->timer_set) {
        timer_arm(ps);
    }
}

static struct channel *channel_want(struct pubsub *ps, const char *prefix, struct slice room)
{
    struct args a;
    args_init(&a);
    struct slice name = arg_key(&a, prefix, room, "");
    struct channel *c = channel_find(ps, name);
    if (c == NULL)
        c = channel_new(ps, name, room);
    args_fini(&a);
    if (!c->wanted) {
        c->wanted = true;
        ps->wanted_count++;
        ps->stats->subscriptions++;
        list_append(&ps->all, &c->all);
        list_append(&ps->pending, &c->pending);
        loop_idle(ps->loop, &ps->task, 0);
    }
    return c;
}

void pubsub_subscribe(struct pubsub *ps, struct slice room, broker_done *done, void *arg)
{
    wait_for(ps, channel_want(ps, ps->cfg->prefix, room), done, arg);
}

void pubsub_open_inbox(struct pubsub *ps)
{
    channel_want(ps, ps->cfg->inbox_prefix, slice_str(ps->cfg->node))->inbox = true;
}

void pubsub_unsubscribe(struct pubsub *ps, struct slice room)
{
    struct args a;
    args_init(&a);
    arg_str(&a, "UNSUBSCRIBE");
    struct channel *c = channel_find(ps, arg_key(&a, ps->cfg->prefix, room, ""));
    if (c == NULL || !c->wanted) {
        args_fini(&a);
        return;
    }
    c->wanted = false;
    c->confirmed = false;
    ps->wanted_count--;
    ps->stats->subscriptions--;
    bool sent = list_empty(&c->pending);
    list_del(&c->all);
    list_del(&c->pending);
    waiters_ready(ps, c, ERR_UNAVAILABLE);
    if (sent && redis_link_is_up(ps->link))
        redis_link_send(ps->link, &a, REQUEST_UNANSWERED | REQUEST_UNBOUNDED, NULL, NULL);
    else
        args_fini(&a);
    restored(ps, c);
    channel_release(ps, c);
}

void pubsub_drop(struct pubsub *ps, const char *why)
{
    redis_link_drop(ps->link, why);
}

bool pubsub_is_up(const struct pubsub *ps)
{
    return ps->up;
}

uint64_t pubsub_progress_ms(const struct pubsub *ps)
{
    return ps->progress_ms;
}

size_t pubsub_count(const struct pubsub *ps)
{
    return ps->wanted_count;
}

struct slice pubsub_next_room(struct pubsub *ps)
{
    if (list_empty(&ps->all))
        return SLICE_NONE;
    struct channel *c = list_first(&ps->all, struct channel, all);
    list_del(&c->all);
    list_append(&ps->all, &c->all);
    return c->inbox ? SLICE_NONE : c->room;
}

static const struct redis_link_events link_events = {.up = on_link_up, .down = on_link_down, .push = on_push};

struct pubsub *pubsub_create(struct loop *loop, const struct pubsub_config *cfg, const struct pubsub_events *events,
                             void *owner, struct broker_stats *stats)
{
    struct pubsub *ps = xcalloc(1, sizeof *ps);
    ps->cfg = cfg;
    ps->events = events;
    ps->owner = owner;
    ps->loop = loop;
    ps->stats = stats;
    list_init(&ps->all);
    list_init(&ps->pending);
    list_init(&ps->waiters);
    list_init(&ps->ready);
    timer_init(&ps->timer, loop, on_timer);
    task_init(&ps->task, on_task);
    ps->link = redis_link_create(loop, &cfg->link, &link_events, ps, stats);
    return ps;
}

bool pubsub_close(struct pubsub *ps)
{
    (void)redis_link_close(ps->link);
    struct channel *c, *next;
    HASH_ITER (hh, ps->channels, c, next)
        waiters_ready(ps, c, ERR_UNAVAILABLE);
    bool any = !list_empty(&ps->ready);
    tell_ready(ps);
    timer_stop(&ps->timer);
    ps->timer_set = true; /* stays off */
    task_cancel(&ps->task);
    return any;
}

void pubsub_destroy(struct pubsub **pubsub)
{
    struct pubsub *ps = *pubsub;
    if (ps == NULL)
        return;
    struct channel *c, *next;
    HASH_ITER (hh, ps->channels, c, next) {
        HASH_DELETE(hh, ps->channels, c);
        free(c);
    }
    redis_link_destroy(&ps->link);
    free(ps);
    *pubsub = NULL;
}
