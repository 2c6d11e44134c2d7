/* broker/redis/pubsub.c: the desired set of channels, and who waits for its confirmation by Redis. */
#include "broker/redis/pubsub.h"

#include <stdio.h>

#include "base/mem.h"
#include "broker/redis/pubsub_private.h"

struct waiter {
    struct link link;    /* in its channel */
    struct link overall; /* by age, in the pubsub; all have the same patience */
    uint64_t due_ms;
    broker_done *done;
    void *arg;
    enum err err; /* what it is told when its turn comes without a channel */
};

struct channel *channel_find(struct pubsub *ps, struct slice name)
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
    c->slot = ps->cluster != NULL ? slot_of_key(name) : 0;
    list_init(&c->all);
    list_init(&c->pending);
    list_init(&c->waiters);
    HASH_ADD_KEYPTR(hh, ps->channels, c->bytes, c->name_n, c);
    return c;
}

void channel_release(struct pubsub *ps, struct channel *c)
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

static void on_task(struct task *t)
{
    struct pubsub *ps = container_of(t, struct pubsub, task);
    tell_ready(ps);
    list_for_each (it, &ps->feeds)
        feed_send(list_entry(it, struct feed, all));
    if (!ps->up && feeds_ready(ps)) {
        ps->up = true;
        ps->events->up(ps->owner);
    }
}

static void on_retry(struct timer *t)
{
    struct pubsub *ps = container_of(t, struct pubsub, retry);
    loop_idle(ps->loop, &ps->task, 0);
}

static void restored(struct pubsub *ps, struct channel *c)
{
    if (!c->restoring)
        return;
    feed_restored(c);
    if (c->feed->restoring == 0)
        loop_idle(ps->loop, &ps->task, 0);
}

void channel_confirmed(struct pubsub *ps, struct channel *c)
{
    bool gap = c->gap;
    c->gap = false;
    waiters_ready(ps, c, OK);
    restored(ps, c);
    /* While it is not up, everything is looked at when it will be. */
    bool told = c->kind == CHANNEL_ROOM || c->kind == CHANNEL_USER;
    if (gap && ps->up && ps->cluster != NULL && told && ps->events->resubscribed != NULL)
        ps->events->resubscribed(ps->owner, c->kind, c->room);
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

static struct channel *want(struct pubsub *ps, struct slice name, struct slice room)
{
    struct channel *c = channel_find(ps, name);
    if (c == NULL)
        c = channel_new(ps, name, room);
    if (!c->wanted) {
        c->wanted = true;
        c->gap = false;
        ps->wanted_count++;
        ps->stats->subscriptions++;
        list_append(&ps->all, &c->all);
        feed_adopt(feed_of(ps, c->slot), c);
        if (c->feed != NULL && list_empty(&c->pending))
            list_append(&c->feed->pending, &c->pending);
        loop_idle(ps->loop, &ps->task, 0);
    }
    return c;
}

static struct channel *channel_want(struct pubsub *ps, const char *prefix, struct slice room)
{
    struct args a;
    args_init(&a);
    struct channel *c = want(ps, arg_key(&a, prefix, room, ""), room);
    args_fini(&a);
    return c;
}

void pubsub_subscribe(struct pubsub *ps, struct slice room, broker_done *done, void *arg)
{
    wait_for(ps, channel_want(ps, ps->cfg->prefix, room), done, arg);
}

void pubsub_open_inbox(struct pubsub *ps)
{
    channel_want(ps, ps->cfg->inbox_prefix, slice_str(ps->cfg->node))->kind = CHANNEL_INBOX;
}

static void want_not(struct pubsub *ps, struct slice name)
{
    struct channel *c = channel_find(ps, name);
    if (c == NULL || !c->wanted)
        return;
    c->wanted = false;
    c->confirmed = false;
    ps->wanted_count--;
    ps->stats->subscriptions--;
    bool sent = list_empty(&c->pending);
    list_del(&c->all);
    list_del(&c->pending);
    waiters_ready(ps, c, ERR_UNAVAILABLE);
    struct feed *f = c->feed;
    restored(ps, c);
    if (ps->cluster != NULL)
        c->feed = NULL; /* it may be gone when the channel is wanted again */
    if (sent && f != NULL)
        feed_unsubscribe(f, c);
    channel_release(ps, c);
}

static void channel_want_not(struct pubsub *ps, const char *prefix, struct slice room)
{
    struct args a;
    args_init(&a);
    want_not(ps, arg_key(&a, prefix, room, ""));
    args_fini(&a);
}

void pubsub_hear(struct pubsub *ps, struct slice channel)
{
    want(ps, channel, channel)->kind = CHANNEL_FOREIGN;
}

void pubsub_hear_no_more(struct pubsub *ps, struct slice channel)
{
    want_not(ps, channel);
}

void pubsub_unsubscribe(struct pubsub *ps, struct slice room)
{
    channel_want_not(ps, ps->cfg->prefix, room);
}

void pubsub_watch(struct pubsub *ps, struct slice user, broker_done *done, void *arg)
{
    struct channel *c = channel_want(ps, ps->cfg->user_prefix, user);
    c->kind = CHANNEL_USER;
    wait_for(ps, c, done, arg);
}

void pubsub_unwatch(struct pubsub *ps, struct slice user)
{
    channel_want_not(ps, ps->cfg->user_prefix, user);
}

const char *pubsub_inbox_prefix(const struct pubsub *ps)
{
    return ps->inbox_prefix;
}

const char *pubsub_slot_tag(const struct pubsub *ps, uint16_t slot)
{
    return ps->tags[slot];
}

void pubsub_listen(struct pubsub *ps, uint16_t slot, broker_done *done, void *arg)
{
    struct channel *c = channel_want(ps, ps->inbox_prefix, slice_str(ps->tags[slot]));
    c->kind = CHANNEL_INBOX;
    ps->inbox_refs[slot]++;
    if (done != NULL)
        wait_for(ps, c, done, arg);
}

void pubsub_listen_no_more(struct pubsub *ps, uint16_t slot)
{
    if (--ps->inbox_refs[slot] == 0)
        channel_want_not(ps, ps->inbox_prefix, slice_str(ps->tags[slot]));
}

void pubsub_rehome(struct pubsub *ps)
{
    feeds_update(ps);
    loop_idle(ps->loop, &ps->task, 0);
    if (ps->up && !feeds_ready(ps)) {
        ps->up = false;
        ps->events->down(ps->owner);
    }
}

void pubsub_drop(struct pubsub *ps, const char *why)
{
    list_for_each (it, &ps->feeds)
        redis_link_drop(list_entry(it, struct feed, all)->link, why);
}

unsigned pubsub_drop_deaf(struct pubsub *ps, uint64_t ms, const char *why)
{
    uint64_t now = loop_now_ms(ps->loop);
    unsigned count = 0;
    list_for_each (it, &ps->feeds) {
        struct feed *f = list_entry(it, struct feed, all);
        uint64_t since = f->restoring != 0 ? f->progress_ms : f->heard_ms;
        if (!redis_link_is_up(f->link) || now - since < ms)
            continue;
        f->heard_ms = f->progress_ms = now;
        redis_link_drop(f->link, why);
        count++;
    }
    return count;
}

unsigned pubsub_slots_heard(const struct pubsub *ps, uint64_t ms)
{
    uint64_t now = loop_now_ms(ps->loop);
    unsigned count = 0;
    list_for_each (it, &ps->feeds) {
        const struct feed *f = list_entry(it, struct feed, all);
        count += redis_link_is_up(f->link) && now - f->heard_ms <= ms ? f->slots : 0;
    }
    return count;
}

bool pubsub_is_up(const struct pubsub *ps)
{
    return ps->up;
}

uint64_t pubsub_progress_ms(const struct pubsub *ps)
{
    return list_empty(&ps->feeds) ? 0 : list_first(&ps->feeds, struct feed, all)->progress_ms;
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
    return c->kind != CHANNEL_ROOM ? SLICE_NONE : c->room;
}

struct pubsub *pubsub_create(struct loop *loop, const struct pubsub_config *cfg, const struct pubsub_events *events,
                             void *owner, struct broker_stats *stats)
{
    struct pubsub *ps = xcalloc(1, sizeof *ps);
    ps->cfg = cfg;
    ps->events = events;
    ps->owner = owner;
    ps->loop = loop;
    ps->stats = stats;
    ps->cluster = cfg->cluster;
    list_init(&ps->feeds);
    list_init(&ps->all);
    list_init(&ps->waiters);
    list_init(&ps->ready);
    timer_init(&ps->timer, loop, on_timer);
    timer_init(&ps->retry, loop, on_retry);
    task_init(&ps->task, on_task);
    if (ps->cluster == NULL) {
        (void)feed_create(ps, NULL);
        return ps;
    }
    size_t n = strlen(cfg->inbox_prefix) + strlen(cfg->node) + 2;
    ps->inbox_prefix = xmalloc(n);
    (void)snprintf(ps->inbox_prefix, n, "%s%s:", cfg->inbox_prefix, cfg->node);
    ps->inbox_refs = xcalloc(SLOTS, sizeof *ps->inbox_refs);
    ps->tags = xcalloc(SLOTS, sizeof *ps->tags);
    slot_tags(ps->tags);
    return ps;
}

bool pubsub_close(struct pubsub *ps)
{
    ps->closing = true;
    list_for_each (it, &ps->feeds)
        (void)redis_link_close(list_entry(it, struct feed, all)->link);
    struct channel *c, *next;
    HASH_ITER (hh, ps->channels, c, next)
        waiters_ready(ps, c, ERR_UNAVAILABLE);
    bool any = !list_empty(&ps->ready);
    tell_ready(ps);
    timer_stop(&ps->timer);
    timer_stop(&ps->retry);
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
    list_for_each_safe (it, &ps->feeds)
        feed_free(list_entry(it, struct feed, all));
    free(ps->inbox_prefix);
    free(ps->inbox_refs);
    free(ps->tags);
    free(ps);
    *pubsub = NULL;
}
