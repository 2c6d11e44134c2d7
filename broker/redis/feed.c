/* broker/redis/feed.c: one subscriber's link: SUBSCRIBE in batches where there is one Redis, SSUBSCRIBE (or, of others' channels, SUBSCRIBE) one by one in a cluster. */
#include "base/log.h"
#include "base/mem.h"
#include "broker/redis/link_private.h"
#include "broker/redis/pubsub_private.h"

#define BATCH    500
#define RETRY_MS 50

/* In a cluster every command is answered by itself, with a confirmation or with an error: a slot may have moved. */
struct feed_call {
    struct link link; /* feed->calls */
    struct feed *feed;
    struct channel *channel;
    uint32_t serial;
    bool subscribe;
};

static struct slice channel_name(const struct channel *c)
{
    return (struct slice){c->bytes, c->name_n};
}

/* One SUBSCRIBE for up to BATCH channels; a channel costs one argument, and one confirmation. */
static void send_batch(struct feed *f)
{
    struct args a;
    args_init(&a);
    arg_str(&a, "SUBSCRIBE");
    for (int i = 0; i < BATCH && !list_empty(&f->pending); i++) {
        struct channel *c = list_first(&f->pending, struct channel, pending);
        list_del(&c->pending);
        c->unconfirmed++;
        arg_slice(&a, channel_name(c));
    }
    redis_link_send(f->link, &a, REQUEST_UNANSWERED | REQUEST_UNBOUNDED, NULL, NULL);
}

/* Confirmations. */

static void subscribed(struct feed *f, struct channel *c)
{
    c->confirmed = true;
    channel_confirmed(f->ps, c);
}

static void on_confirmation(struct feed *f, struct slice name)
{
    struct pubsub *ps = f->ps;
    struct channel *c = channel_find(ps, name);
    f->progress_ms = loop_now_ms(ps->loop);
    if (c == NULL || c->unconfirmed == 0) {
        ps->stats->undecodable++;
        return;
    }
    if (--c->unconfirmed == 0 && c->wanted && list_empty(&c->pending))
        subscribed(f, c);
    else
        channel_release(ps, c);
}

/* Refused: the slot may be somebody else's by now. Whoever it is will be asked. */
static void refused(struct feed *f, struct channel *c, const redisReply *r)
{
    struct pubsub *ps = f->ps;
    struct redirect where;
    redirect_parse((struct slice){r->str, (size_t)r->len}, &where);
    bool moved = where.kind == REDIRECT_MOVED && where.slot == c->slot;
    if (where.kind == REDIRECT_MOVED && !moved) {
        redis_link_drop(f->link, "an answer to another question");
        return;
    }
    if (moved)
        cluster_moved(ps->cluster, f->shard, &where);
    else
        cluster_doubt(ps->cluster);
    if (c->wanted && c->feed == f && list_empty(&c->pending)) {
        list_append(&f->pending, &c->pending);
        timer_start(&ps->retry, RETRY_MS);
    }
}

static void on_called(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct feed_call *call = arg;
    struct channel *c = call->channel;
    struct feed *f = call->feed;
    (void)why;
    list_del(&call->link);
    c->unconfirmed--;
    f->progress_ms = loop_now_ms(f->ps->loop);
    bool current = call->subscribe && call->serial == c->serial && c->feed == f && c->wanted;
    if (current && err == OK)
        subscribed(f, c);
    else if (current && r != NULL)
        refused(f, c, r);
    else
        channel_release(f->ps, c);
    free(call);
}

static void ask(struct feed *f, struct channel *c, bool subscribe)
{
    struct feed_call *call = xcalloc(1, sizeof *call);
    call->feed = f;
    call->channel = c;
    call->subscribe = subscribe;
    call->serial = ++c->serial;
    c->unconfirmed++;
    list_append(&f->calls, &call->link);
    struct args a;
    args_init(&a);
    if (c->kind == CHANNEL_FOREIGN)
        arg_str(&a, subscribe ? "SUBSCRIBE" : "UNSUBSCRIBE");
    else
        arg_str(&a, subscribe ? "SSUBSCRIBE" : "SUNSUBSCRIBE");
    arg_slice(&a, channel_name(c));
    redis_link_send(f->link, &a, REQUEST_UNBOUNDED, on_called, call);
}

void feed_send(struct feed *f)
{
    while (redis_link_is_up(f->link) && !list_empty(&f->pending)) {
        if (f->ps->cluster == NULL) {
            send_batch(f);
        } else {
            struct channel *c = list_first(&f->pending, struct channel, pending);
            list_del(&c->pending);
            ask(f, c, true);
        }
    }
}

void feed_unsubscribe(struct feed *f, struct channel *c)
{
    if (!redis_link_is_up(f->link))
        return;
    if (f->ps->cluster != NULL) {
        ask(f, c, false);
        return;
    }
    struct args a;
    args_init(&a);
    arg_str(&a, "UNSUBSCRIBE");
    arg_slice(&a, channel_name(c));
    redis_link_send(f->link, &a, REQUEST_UNANSWERED | REQUEST_UNBOUNDED, NULL, NULL);
}

/* What arrives. */

static struct slice element(const redisReply *r, size_t at)
{
    const redisReply *e = r->element[at];
    return e->type == REDIS_REPLY_STRING ? (struct slice){e->str, (size_t)e->len} : SLICE_NONE;
}

static void on_message(struct feed *f, struct slice name, struct slice body)
{
    struct pubsub *ps = f->ps;
    const struct channel *c = channel_find(ps, name);
    f->heard_ms = loop_now_ms(ps->loop);
    if (c != NULL && c->wanted && (c->feed == f || c->kind != CHANNEL_FOREIGN)) /* those are heard on every link */
        ps->events->message(ps->owner, c->kind, c->room, body);
}

static bool on_classic_push(struct feed *f, const redisReply *r)
{
    struct slice kind = element(r, 0), name = element(r, 1);
    if (slice_eq(kind, SLICE("subscribe")))
        on_confirmation(f, name);
    else if (slice_eq(kind, SLICE("message")))
        on_message(f, name, element(r, 2));
    else
        return slice_eq(kind, SLICE("unsubscribe"));
    return true;
}

/* The slot is another primary's now. Asking again tells whose. */
static void on_taken_away(struct feed *f, struct slice name)
{
    struct channel *c = channel_find(f->ps, name);
    if (c == NULL || !c->wanted || c->feed != f || !c->confirmed)
        return;
    c->confirmed = false;
    c->gap = true;
    if (list_empty(&c->pending))
        list_append(&f->pending, &c->pending);
    loop_idle(f->ps->loop, &f->ps->task, 0);
}

static bool on_sharded_push(struct feed *f, const redisReply *r)
{
    struct slice kind = element(r, 0), name = element(r, 1);
    if (slice_eq(kind, SLICE("smessage")) || slice_eq(kind, SLICE("message"))) {
        on_message(f, name, element(r, 2));
        return true;
    }
    if (!slice_eq(kind, SLICE("sunsubscribe")))
        return false;
    const struct feed_call *next = list_empty(&f->calls) ? NULL : list_first(&f->calls, struct feed_call, link);
    if (next != NULL && !next->subscribe && slice_eq(channel_name(next->channel), name))
        return false; /* our own doing: it is the answer */
    on_taken_away(f, name);
    return true;
}

static bool on_push(void *owner, const redisReply *r)
{
    struct feed *f = owner;
    if (r->type != REDIS_REPLY_ARRAY || r->elements != 3)
        return false;
    return f->ps->cluster != NULL ? on_sharded_push(f, r) : on_classic_push(f, r);
}

/* The link. */

static void on_link_up(void *owner)
{
    struct feed *f = owner;
    struct pubsub *ps = f->ps;
    f->progress_ms = f->heard_ms = loop_now_ms(ps->loop);
    f->restoring = 0;
    list_for_each (it, &ps->all) {
        struct channel *c = list_entry(it, struct channel, all);
        if (c->feed != f)
            continue;
        c->restoring = true;
        f->restoring++;
        if (list_empty(&c->pending))
            list_append(&f->pending, &c->pending);
    }
    loop_idle(ps->loop, &ps->task, 0);
}

static void on_link_down(void *owner)
{
    struct feed *f = owner;
    struct pubsub *ps = f->ps;
    struct channel *c, *next;
    HASH_ITER (hh, ps->channels, c, next) {
        if (c->feed != f)
            continue;
        if (ps->cluster == NULL)
            c->unconfirmed = 0; /* of a cluster's feeds every call ends by itself */
        c->gap = c->gap || c->confirmed;
        c->confirmed = false;
        c->restoring = false;
        channel_release(ps, c);
    }
    f->restoring = 0;
    if (ps->up && !feeds_ready(ps)) {
        ps->up = false;
        ps->events->down(ps->owner);
    }
}

static void on_failed(void *owner)
{
    const struct feed *f = owner;
    if (f->ps->cluster != NULL && !f->ps->closing)
        cluster_doubt(f->ps->cluster);
}

static const struct redis_link_events link_events = {
    .up = on_link_up, .down = on_link_down, .push = on_push, .failed = on_failed};

struct feed *feed_create(struct pubsub *ps, const struct shard *s)
{
    struct feed *f = xcalloc(1, sizeof *f);
    f->ps = ps;
    f->cfg = ps->cfg->link;
    f->probed = -1;
    list_init(&f->pending);
    list_init(&f->calls);
    if (s != NULL) {
        f->shard = s->id;
        f->host = (struct redis_host){.host = xstrdup(s->host.host), .port = s->host.port};
        f->cfg.host = &f->host;
    }
    list_append(&ps->feeds, &f->all);
    f->link = redis_link_create(ps->loop, &f->cfg, &link_events, f, ps->stats);
    return f;
}

void feed_free(struct feed *f)
{
    redis_link_destroy(&f->link);
    list_del(&f->all);
    free(f->host.host);
    free(f);
}

struct feed *feed_of(struct pubsub *ps, uint16_t slot)
{
    if (ps->cluster == NULL)
        return list_first(&ps->feeds, struct feed, all);
    const struct shard *s = cluster_owner(ps->cluster, slot);
    if (s == NULL)
        return NULL;
    list_for_each (it, &ps->feeds) {
        struct feed *f = list_entry(it, struct feed, all);
        if (f->shard == s->id)
            return f;
    }
    return NULL;
}

void feed_restored(struct channel *c)
{
    if (!c->restoring)
        return;
    c->restoring = false;
    c->feed->restoring--;
}

void feed_adopt(struct feed *f, struct channel *c)
{
    if (c->feed == f)
        return;
    feed_restored(c);
    list_del(&c->pending);
    c->gap = c->gap || c->confirmed;
    if (c->feed != NULL && c->confirmed)
        feed_unsubscribe(c->feed, c);
    c->confirmed = false;
    c->feed = f;
    if (f == NULL || !c->wanted)
        return;
    list_append(&f->pending, &c->pending);
    loop_idle(f->ps->loop, &f->ps->task, 0);
}

/* All of them together. */

struct update {
    const struct pubsub *ps;
    unsigned ready, behind;
};

static struct feed *feed_by_shard(const struct pubsub *ps, uint32_t id)
{
    list_for_each (it, &ps->feeds) {
        struct feed *f = list_entry(it, struct feed, all);
        if (f->shard == id)
            return f;
    }
    return NULL;
}

static void count_ready(void *arg, const struct shard *s)
{
    struct update *u = arg;
    const struct feed *f = feed_by_shard(u->ps, s->id);
    if (f != NULL && redis_link_is_up(f->link) && f->restoring == 0)
        u->ready += s->slots;
    else if (redis_link_is_up(s->link) && !u->ps->up)
        u->behind++; /* it can be reached, so it is worth waiting for */
}

bool feeds_ready(const struct pubsub *ps)
{
    if (ps->cluster == NULL) {
        const struct feed *f = list_first(&ps->feeds, struct feed, all);
        return redis_link_is_up(f->link) && f->restoring == 0;
    }
    struct update u = {.ps = ps};
    cluster_each(ps->cluster, count_ready, &u);
    return u.ready > SLOTS / 2 && u.behind == 0;
}

static void update_feed(void *arg, const struct shard *s)
{
    struct pubsub *ps = arg;
    struct feed *f = feed_by_shard(ps, s->id);
    if (f == NULL)
        f = feed_create(ps, s);
    f->slots = s->slots;
    if (f->probed == (int)s->first)
        return;
    if (f->probed >= 0)
        pubsub_listen_no_more(ps, (uint16_t)f->probed);
    f->probed = s->first;
    pubsub_listen(ps, s->first, NULL, NULL);
}

void feeds_update(struct pubsub *ps)
{
    list_for_each (it, &ps->feeds)
        list_entry(it, struct feed, all)->slots = 0;
    cluster_each(ps->cluster, update_feed, ps);
    list_for_each (it, &ps->all) {
        struct channel *c = list_entry(it, struct channel, all);
        feed_adopt(feed_of(ps, c->slot), c);
    }
    list_for_each_safe (it, &ps->feeds) {
        struct feed *f = list_entry(it, struct feed, all);
        if (f->slots != 0)
            continue;
        if (f->probed >= 0)
            pubsub_listen_no_more(ps, (uint16_t)f->probed);
        f->probed = -1;
        (void)redis_link_close(f->link);
        feed_free(f);
    }
}
