/* broker/redis/strangers.c: sessions that are stored as this node's, but which it does not have: a failover has brought them back. It never happens that they
 * are noticed otherwise: this node lives, so nobody cleans up after it.
 *
 * A round looks through the set of this node's sessions, page by page. What is in it and not here is looked at again after a while, longer than any request can
 * be under way; if it is not here then either, and the store still says that it is ours, it is ended if this node remembers that it did so, else parked as if
 * this node had died just now: whoever has its token may be on the way. */
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "broker/redis/redis.h"

#define EVERY_MS    300000 /* without any reason */
#define SOON_MS     2000   /* with one */
#define PATIENCE_MS 1000   /* beyond a request's own */
#define PAGE        256
#define SETTLE_PAGE 64
#define MAX         4096 /* of each kind; what is more is found by the next round */
#define REMEMBER_MS 900000
#define RECALL_MS   120000

/* Seen in the set and not here, or ended by this node not long ago. */
struct stranger {
    UT_hash_handle hh;
    struct link link; /* by age */
    uint64_t at_ms;
    size_t n, reason_n;
    char sid[]; /* and what the backend was told why it ended */
};

static struct stranger *find(const struct stranger_set *set, struct slice sid)
{
    struct stranger *s;
    HASH_FIND(hh, set->table, sid.p, sid.n, s);
    return s;
}

static void drop(struct stranger_set *set, struct stranger *s)
{
    if (s == NULL)
        return;
    HASH_DELETE(hh, set->table, s);
    list_del(&s->link);
    free(s);
}

static struct stranger *oldest(const struct stranger_set *set)
{
    return list_empty(&set->by_age) ? NULL : list_first(&set->by_age, struct stranger, link);
}

static void put(struct stranger_set *set, struct slice sid, struct slice reason, uint64_t now)
{
    struct stranger *s = xcalloc(1, sizeof *s + sid.n + reason.n);
    memcpy(s->sid, sid.p, sid.n);
    if (reason.n != 0)
        memcpy(s->sid + sid.n, reason.p, reason.n);
    s->n = sid.n;
    s->reason_n = reason.n;
    s->at_ms = now;
    list_append(&set->by_age, &s->link);
    HASH_ADD_KEYPTR(hh, set->table, s->sid, s->n, s);
}

static void clear(struct stranger_set *set)
{
    while (!list_empty(&set->by_age))
        drop(set, oldest(set));
}

void strangers_ended(struct redis *r, struct slice sid, struct slice reason)
{
    struct stranger_set *set = &r->strangers.ended;
    drop(set, find(set, sid));
    if (HASH_COUNT(set->table) >= MAX)
        drop(set, oldest(set));
    put(set, sid, reason, loop_now_ms(r->b.loop));
}

void strangers_begun(struct redis *r, struct slice sid)
{
    drop(&r->strangers.ended, find(&r->strangers.ended, sid));
    drop(&r->strangers.seen, find(&r->strangers.seen, sid));
}

/* A round. */

static bool is_ours(const struct redis *r, struct slice sid)
{
    return local_find(r, sid) != NULL || sessions_owes(r, sid);
}

static void on_page(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct redis *r = arg;
    struct strangers *all = &r->strangers;
    const redisReply *page = reply_at(reply, 1);
    (void)why;
    all->busy = false;
    if (r->closing || err != OK || !reply_u64(reply_at(reply, 0), &all->cursor) || page == NULL ||
        page->type != REDIS_REPLY_ARRAY) {
        all->cursor = 0; /* begun anew by whatever brings the link back */
        all->scanning = false;
        return;
    }
    all->scanning = all->cursor != 0;
    for (size_t i = 0; i < page->elements; i++) {
        struct slice sid = reply_slice(page->element[i]);
        if (sid.n == 0 || slice_eq(sid, SLICE("-")) || is_ours(r, sid) || find(&all->seen, sid) != NULL)
            continue;
        if (HASH_COUNT(all->seen.table) < MAX)
            put(&all->seen, sid, SLICE_NONE, loop_now_ms(r->b.loop));
        else
            strangers_look(r);
    }
}

static void scan(struct redis *r)
{
    struct args a;
    args_init(&a);
    arg_str(&a, "SSCAN");
    (void)arg_key(&a, r->node_prefix, slice_str(r->node), ":sessions");
    arg_u64(&a, r->strangers.cursor);
    arg_str(&a, "COUNT");
    arg_u64(&a, PAGE);
    r->strangers.busy = true;
    store_send(r->store, &a, REQUEST_REPEATABLE, on_page, r);
}

static void on_settled(void *arg, const struct broker_result *result)
{
    struct redis *r = arg;
    if (result->err != OK && !r->closing)
        strangers_look(r);
}

static void settle(struct redis *r, const struct stranger *s)
{
    const struct stranger *ended = find(&r->strangers.ended, (struct slice){s->sid, s->n});
    struct clearing what = {.node = slice_str(r->node),
                            .sid = {s->sid, s->n},
                            .set = ":sessions",
                            .heartbeat_ms = lease_redis_now(r),
                            .reason = EXIT_DISCONNECT,
                            .event = SLICE("closed"),
                            .returned = true};
    if (ended != NULL) {
        what.heartbeat_ms = 0;
        what.event = (struct slice){ended->sid + ended->n, ended->reason_n};
    }
    session_clear(r, &what, on_settled, r);
}

static void settle_seen(struct redis *r)
{
    struct stranger_set *seen = &r->strangers.seen;
    uint64_t now = loop_now_ms(r->b.loop), wait_ms = 2ull * r->link_cfg.timeout_ms + PATIENCE_MS;
    for (int i = 0; i < SETTLE_PAGE; i++) {
        struct stranger *s = oldest(seen);
        if (s == NULL || now - s->at_ms < wait_ms)
            return;
        if (!is_ours(r, (struct slice){s->sid, s->n}))
            settle(r, s);
        drop(seen, s);
    }
}

static void forget(struct stranger_set *ended, uint64_t now)
{
    for (struct stranger *s; (s = oldest(ended)) != NULL && now - s->at_ms > REMEMBER_MS;)
        drop(ended, s);
}

void strangers_look(struct redis *r)
{
    uint64_t soon = loop_now_ms(r->b.loop) + SOON_MS;
    if (r->strangers.due_ms > soon)
        r->strangers.due_ms = soon;
}

/* A session may be back that the set no longer names: they need not have the same primary, or the last step of its end was done by the new one. */
static void recall(struct redis *r)
{
    struct strangers *all = &r->strangers;
    uint64_t now = loop_now_ms(r->b.loop);
    list_for_each (it, &all->ended.by_age) {
        const struct stranger *s = list_entry(it, struct stranger, link);
        struct slice sid = {s->sid, s->n};
        if (now - s->at_ms < RECALL_MS && find(&all->seen, sid) == NULL && HASH_COUNT(all->seen.table) < MAX)
            put(&all->seen, sid, SLICE_NONE, now);
    }
}

void strangers_tick(struct redis *r)
{
    struct strangers *all = &r->strangers;
    uint64_t now = loop_now_ms(r->b.loop);
    forget(&all->ended, now);
    settle_seen(r);
    if (all->busy || (!all->scanning && now < all->due_ms))
        return;
    if (!all->scanning) {
        all->scanning = true;
        all->cursor = 0;
        all->due_ms = now + EVERY_MS;
        recall(r);
    }
    scan(r);
}

void strangers_init(struct redis *r)
{
    list_init(&r->strangers.seen.by_age);
    list_init(&r->strangers.ended.by_age);
    r->strangers.due_ms = loop_now_ms(r->b.loop) + EVERY_MS;
}

void strangers_fini(struct redis *r)
{
    clear(&r->strangers.seen);
    clear(&r->strangers.ended);
}
