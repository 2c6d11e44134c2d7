/* broker/redis/reap.c: cleaning up after a node that died, page by page, so that it does not matter if the one who does it dies too. */
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "broker/redis/redis.h"

#define PAGE          64
#define REAP_MAX      4 /* dead nodes at once */
#define SWEEP_ROOMS   64
#define SWEEP_MEMBERS 512

struct reap {
    struct link link;
    struct redis *r;
    uint64_t sessions;
    uint64_t heartbeat_ms; /* the node's last, by Redis' clock */
    size_t page;
    bool missing, swept; /* hashes were missing, so the rooms themselves must be asked; they have been */
    /* The sweep. */
    struct slice rooms[SWEEP_ROOMS]; /* point into names */
    char *names;
    struct buf last_room;
    size_t room_count, room_at;
    uint64_t scan;
    size_t node_n;
    char node[];
};

static struct slice dead_node(const struct reap *p)
{
    return (struct slice){p->node, p->node_n};
}

static void rooms_free(struct reap *p)
{
    free(TAKE(p->names));
    p->room_count = p->room_at = 0;
    p->scan = 0;
}

static uint64_t lock_ms(const struct redis *r)
{
    return r->lease_ms + 2ull * r->link_cfg.timeout_ms;
}

static void reap_end(struct reap *p)
{
    rooms_free(p);
    buf_fini(&p->last_room);
    list_del(&p->link);
    p->r->lease.reap_count--;
    free(p);
}

static void claim(struct reap *p);
static void sweep_begin(struct reap *p);

/* What every completion checks first. When it fails, the lock runs out and the next look-out finds the node again. */
static bool goes_on(struct reap *p, enum err err)
{
    if (!p->r->closing && err != ERR_UNAVAILABLE && err != ERR_TIMEOUT)
        return true;
    reap_end(p);
    return false;
}

static void count(const struct reap *p)
{
    p->r->b.stats.reaped_nodes++;
    LOG(WARN, "cleaned up after a dead node", "dead=%s sessions=%lu", log_q(dead_node(p)), (unsigned long)p->sessions);
}

/* Two may find nothing left to do; the one that takes the node out of the directory has cleaned up. */
static void on_struck_off(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct reap *p = arg;
    uint64_t removed = 0;
    (void)why;
    if (err == OK && !p->r->closing && reply_u64(reply, &removed) && removed == 1)
        count(p);
    reap_end(p);
}

static void finished(struct reap *p)
{
    struct redis *r = p->r;
    if (slice_eq(dead_node(p), slice_str(r->node))) {
        count(p);
        reap_end(p);
        return;
    }
    struct args a;
    args_init(&a);
    arg_str(&a, "ZREM");
    arg_str(&a, r->nodes_key);
    arg_slice(&a, dead_node(p));
    store_send(r->store, &a, REQUEST_REPEATABLE, on_struck_off, p);
}

static void on_page_done(void *arg, const struct broker_result *result)
{
    struct reap *p = arg;
    if (!goes_on(p, result->err))
        return;
    if (p->missing && !p->swept) {
        sweep_begin(p);
        return;
    }
    p->sessions += p->page;
    p->r->b.stats.reaped_sessions += p->page;
    claim(p);
}

static void clear_page(struct reap *p, const redisReply *reply)
{
    struct gather *g = gather_new(p->r, on_page_done, p);
    p->page = 0;
    for (size_t i = 1; i < reply->elements; i++) {
        struct clearing what = {.node = dead_node(p),
                                .sid = reply_slice(reply->element[i]),
                                .set = ":lost",
                                .heartbeat_ms = p->heartbeat_ms,
                                .reason = EXIT_NODE_LOST,
                                .event = SLICE("node_lost"),
                                .missing = p->swept ? NULL : &p->missing};
        if (what.sid.n == 0)
            continue;
        p->page++;
        gather_hold(g);
        session_clear(p->r, &what, gather_release, g);
    }
    gather_close(g);
}

static void on_claim(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct reap *p = arg;
    const redisReply *state = reply_at(reply, 0);
    (void)why;
    long long answer = 0; /* it lives, or somebody else is at it */
    if (!p->r->closing && err == OK && state != NULL && state->type == REDIS_REPLY_INTEGER)
        answer = state->integer;
    if (answer == 1)
        clear_page(p, reply);
    else if (answer == 2)
        finished(p);
    else
        reap_end(p);
}

static void claim(struct reap *p)
{
    struct redis *r = p->r;
    struct args a;
    script_args(&a, r, SCRIPT_CLAIM, 4);
    (void)arg_key(&a, r->node_prefix, dead_node(p), "");
    (void)arg_key(&a, r->node_prefix, dead_node(p), ":sessions");
    (void)arg_key(&a, r->node_prefix, dead_node(p), ":lost");
    (void)arg_key(&a, r->node_prefix, dead_node(p), ":reaper");
    arg_str(&a, r->node);
    arg_u64(&a, lock_ms(r));
    arg_u64(&a, PAGE);
    store_send(r->store, &a, REQUEST_REPEATABLE, on_claim, p);
}

/* The sweep: when sessions' hashes have expired (everything was down for that long), only the rooms know who was in them.
 * Every room of the directory is scanned for members that came through the dead node. */

static void sweep_page(struct reap *p);
static void sweep_room(struct reap *p);

static void on_swept_members_left(void *arg, const struct broker_result *result)
{
    struct reap *p = arg;
    if (!goes_on(p, result->err))
        return;
    if (p->scan == 0)
        p->room_at++;
    sweep_room(p);
}

static struct slice room_name(const struct reap *p)
{
    return p->rooms[p->room_at];
}

static void on_swept_members(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct reap *p = arg;
    const redisReply *batch = reply_at(reply, 1);
    (void)why;
    if (!goes_on(p, err))
        return;
    if (err != OK || !reply_u64(reply_at(reply, 0), &p->scan) || batch == NULL || batch->type != REDIS_REPLY_ARRAY) {
        p->scan = 0;
        batch = NULL;
    }
    struct gather *g = gather_new(p->r, on_swept_members_left, p);
    for (size_t i = 0; batch != NULL && i + 1 < batch->elements; i += 2) {
        struct member_record m;
        if (!member_parse(reply_slice(batch->element[i]), reply_slice(batch->element[i + 1]), &m) ||
            !slice_eq(m.node, dead_node(p)) || m.state != MEMBER_ACTIVE) /* parked sessions have their hash still */
            continue;
        struct member_id id = {.room = room_name(p), .sid = m.sid, .user = m.user, .node = m.node};
        gather_hold(g);
        redis_leave_as(p->r, &id, EXIT_NODE_LOST, gather_release, g);
    }
    gather_close(g);
}

static void sweep_room(struct reap *p)
{
    struct redis *r = p->r;
    if (p->room_at == p->room_count) {
        sweep_page(p);
        return;
    }
    struct args a;
    args_init(&a);
    arg_str(&a, "HSCAN");
    (void)arg_key(&a, r->prefix, room_name(p), ":members");
    arg_u64(&a, p->scan);
    arg_str(&a, "COUNT");
    arg_u64(&a, SWEEP_MEMBERS);
    store_send(r->store, &a, REQUEST_REPEATABLE, on_swept_members, p);
}

static void on_swept_rooms(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct reap *p = arg;
    (void)why;
    if (!goes_on(p, err))
        return;
    size_t n = err == OK && reply->type == REDIS_REPLY_ARRAY ? reply->elements : 0, bytes = 1;
    rooms_free(p);
    if (n == 0) {
        p->swept = true;
        claim(p);
        return;
    }
    for (size_t i = 0; i < n; i++)
        bytes += reply_slice(reply->element[i]).n;
    char *at = p->names = xmalloc(bytes);
    for (size_t i = 0; i < n && i < SWEEP_ROOMS; i++)
        p->rooms[p->room_count++] = slice_put(&at, reply_slice(reply->element[i]));
    buf_clear(&p->last_room);
    buf_append(&p->last_room, p->rooms[p->room_count - 1]);
    sweep_room(p);
}

static void sweep_page(struct reap *p)
{
    struct redis *r = p->r;
    struct args a;
    args_init(&a);
    arg_str(&a, "PEXPIRE"); /* it is we who still work at it */
    (void)arg_key(&a, r->node_prefix, dead_node(p), ":reaper");
    arg_u64(&a, lock_ms(r));
    store_send(r->store, &a, REQUEST_REPEATABLE, NULL, NULL);
    args_init(&a);
    arg_str(&a, "ZRANGEBYLEX");
    arg_str(&a, r->rooms_key);
    if (p->last_room.n == 0)
        arg_str(&a, "-");
    else
        arg_join(&a, SLICE("("), buf_slice(&p->last_room));
    arg_str(&a, "+");
    arg_str(&a, "LIMIT");
    arg_u64(&a, 0);
    arg_u64(&a, SWEEP_ROOMS);
    store_send(r->store, &a, REQUEST_REPEATABLE, on_swept_rooms, p);
}

static void sweep_begin(struct reap *p)
{
    LOG(WARN, "sessions of a dead node have no hash any more, searching all rooms", "dead=%s", log_q(dead_node(p)));
    sweep_page(p);
}

/* A node that left the directory before its sessions did (score 0) left just now. */
static void on_heartbeat(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct reap *p = arg;
    (void)why;
    if (p->r->closing || err != OK) {
        reap_end(p);
        return;
    }
    if (!reply_u64(reply, &p->heartbeat_ms) || p->heartbeat_ms == 0)
        p->heartbeat_ms = lease_redis_now(p->r);
    claim(p);
}

static void ask_heartbeat(struct reap *p)
{
    struct redis *r = p->r;
    struct args a;
    args_init(&a);
    arg_str(&a, "ZSCORE");
    arg_str(&a, r->nodes_key);
    arg_slice(&a, dead_node(p));
    store_send(r->store, &a, REQUEST_REPEATABLE, on_heartbeat, p);
}

void reap_start(struct redis *r, struct slice node)
{
    if (r->lease.reap_count >= REAP_MAX)
        return;
    list_for_each (it, &r->lease.reaps) {
        if (slice_eq(dead_node(list_entry(it, struct reap, link)), node))
            return;
    }
    struct reap *p = xcalloc(1, sizeof *p + node.n);
    p->r = r;
    p->node_n = node.n;
    memcpy(p->node, node.p, node.n);
    list_append(&r->lease.reaps, &p->link);
    r->lease.reap_count++;
    ask_heartbeat(p);
}
