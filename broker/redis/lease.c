/* broker/redis/lease.c: this node's entry in the directory, the probe that tells whether it hears itself, and the look-out for dead nodes. */
#include <stdio.h>

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "broker/redis/redis.h"

#define TICK_MS         1000
#define RETRY_MS        200  /* while somebody cleans up after us */
#define NOT_HEARD_MS    2000 /* not ready */
#define DEAF_MS         5000 /* a new connection for the subscriptions */
#define SCAN_NODES      8
#define ROOM_REFRESH_MS 60000

static uint64_t tick_ms(const struct redis *r)
{
    return r->lease_ms / 3 < TICK_MS ? r->lease_ms / 3 : TICK_MS;
}

/* The probe. */

static void probe(struct redis *r)
{
    struct lease *l = &r->lease;
    char id[24];
    (void)snprintf(id, sizeof id, "%lu", (unsigned long)++l->probe_seq);
    struct envelope e = {.kind = ENVELOPE_PROBE, .id = slice_str(id), .node = slice_str(r->node)};
    struct buf body = BUF_INIT;
    envelope_pack(&e, &body);
    l->probe_sent_us = loop_now_us(r->b.loop);
    inbox_probe(r, buf_slice(&body));
    buf_fini(&body);
}

void lease_heard(struct redis *r, const struct envelope *e)
{
    struct lease *l = &r->lease;
    struct broker_stats *s = &r->b.stats;
    char id[24];
    (void)snprintf(id, sizeof id, "%lu", (unsigned long)l->probe_seq);
    if (!slice_eq(e->node, slice_str(r->node)))
        return;
    l->heard = true;
    l->heard_ms = loop_now_ms(r->b.loop);
    if (!slice_eq(e->id, slice_str(id)))
        return; /* an earlier one, late: it was heard, but says nothing about the round trip of the last */
    uint64_t us = loop_now_us(r->b.loop) - l->probe_sent_us;
    size_t bucket = 0;
    while (bucket < ARRAY_LEN(broker_rtt_bounds_us) && us > broker_rtt_bounds_us[bucket])
        bucket++;
    s->rtt_bucket[bucket]++;
    s->rtt_us_sum += us;
    s->rtt_count++;
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void check_deaf(struct redis *r)
{
    struct lease *l = &r->lease;
    static const char why[] = "nothing was heard through it, not even our own probe";
    uint64_t now = loop_now_ms(r->b.loop);
    if (r->cluster != NULL) {
        r->b.stats.deaf += pubsub_drop_deaf(r->pubsub, DEAF_MS, why);
        return;
    }
    uint64_t since = later(l->baseline_ms, pubsub_is_up(r->pubsub) ? l->heard_ms : pubsub_progress_ms(r->pubsub));
    if (now - since < DEAF_MS || !store_is_up(r->store))
        return;
    l->baseline_ms = now;
    r->b.stats.deaf++;
    pubsub_drop(r->pubsub, why);
}

const char *redis_not_ready(struct broker *b)
{
    struct redis *r = redis_of(b);
    const struct lease *l = &r->lease;
    if (l->retired)
        return "this node has retired";
    if (r->sentinel != NULL && sentinel_primary(r->sentinel) == NULL)
        return sentinel_trouble(r->sentinel);
    if (!store_is_up(r->store))
        return r->cluster == NULL                    ? "the link to Redis is down"
               : cluster_problem(r->cluster) != NULL ? cluster_problem(r->cluster)
                                                     : "half of the slots of the Redis Cluster cannot be reached";
    if (!pubsub_is_up(r->pubsub))
        return "the subscriptions are being restored";
    if (follow_problem(r->follow) != NULL)
        return follow_problem(r->follow);
    if (l->being_reaped)
        return "this node was given up for dead and is being cleaned up after";
    if (!l->registered)
        return "this node is not registered yet";
    if (!l->heard)
        return "this node has not heard itself through Redis yet";
    if (loop_now_ms(r->b.loop) - l->heard_ms > NOT_HEARD_MS)
        return "this node has not heard itself through Redis for more than 2 s";
    if (r->cluster != NULL && pubsub_slots_heard(r->pubsub, NOT_HEARD_MS) <= SLOTS / 2)
        return "this node has not heard itself through half of the Redis Cluster for more than 2 s";
    return NULL;
}

/* The heartbeat. */

bool lease_expelled(struct redis *r, const char *why)
{
    struct lease *l = &r->lease;
    uint64_t now = loop_now_ms(r->b.loop);
    if (l->expelled_ms != 0 && now - l->expelled_ms < r->lease_ms)
        return false;
    l->expelled_ms = now;
    LOG(WARN, "sessions of this node are gone from the store, putting them again", "reason=%s sessions=%zu",
        log_q(slice_str(why)), sessions_count(r));
    r->b.events->expelled(r->b.owner);
    return true;
}

static void enlist(struct redis *r, uint64_t score)
{
    struct args a;
    args_init(&a);
    arg_str(&a, "ZADD");
    arg_str(&a, r->nodes_key);
    arg_u64(&a, score);
    arg_str(&a, r->node);
    store_send(r->store, &a, REQUEST_REPEATABLE, NULL, NULL);
}

static void beat(struct redis *r);

static void on_beat(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct redis *r = arg;
    struct lease *l = &r->lease;
    uint64_t state, time, anew, now = loop_now_ms(r->b.loop);
    (void)why;
    if (r->closing || l->retired || err != OK)
        return;
    if (!reply_u64(reply_at(reply, 0), &state) || !reply_u64(reply_at(reply, 1), &time) ||
        !reply_u64(reply_at(reply, 2), &anew))
        return;
    l->redis_ms = time;
    l->redis_at_ms = now;
    l->being_reaped = state == 2;
    if (l->being_reaped) {
        l->beat_due_ms = now + RETRY_MS;
        return;
    }
    l->registered = true;
    enlist(r, time);
    if (state == 0)
        l->anew = 0;
    /* Told until it could be acted upon; then we say that it was heard, or a lost answer would go unnoticed. */
    if (state == 1 && anew != l->anew &&
        lease_expelled(r, "this node was silent for longer than its lease, or Redis was emptied")) {
        l->anew = anew;
        beat(r);
    }
}

static void arg_pair(struct args *a, const char *name, uint64_t value)
{
    arg_str(a, name);
    arg_u64(a, value);
}

static void beat(struct redis *r)
{
    uint64_t connections = 0, rooms = 0;
    if (r->b.events->node_stats != NULL)
        r->b.events->node_stats(r->b.owner, &connections, &rooms);
    struct args a;
    struct slice node = slice_str(r->node);
    script_args(&a, r, SCRIPT_HEARTBEAT, 4);
    (void)arg_key(&a, r->node_prefix, node, "");
    (void)arg_key(&a, r->node_prefix, node, ":sessions");
    (void)arg_key(&a, r->node_prefix, node, ":lost");
    (void)arg_key(&a, r->node_prefix, node, ":reaper");
    arg_u64(&a, r->lease_ms);
    arg_u64(&a, r->lease.anew != 0 ? r->lease.anew : r->lease.registered);
    arg_str(&a, "address");
    arg_str(&a, r->address);
    arg_str(&a, "version");
    arg_str(&a, r->version);
    arg_pair(&a, "started_at", r->started_ms);
    arg_pair(&a, "connections", connections);
    arg_pair(&a, "rooms", rooms);
    store_send(r->store, &a, REQUEST_REPEATABLE, on_beat, r);
}

/* The look-out. */

/* In a cluster a node whose own primary was away could not say that it lives; it is given the time to do so. */
static bool had_its_chance(const struct redis *r, struct slice node)
{
    struct args a;
    if (r->cluster == NULL)
        return true;
    args_init(&a);
    uint16_t slot = slot_of_key(arg_key(&a, r->node_prefix, node, ""));
    args_fini(&a);
    return cluster_up_for(r->cluster, slot) > r->lease_ms / 2;
}

static void on_dead_nodes(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct redis *r = arg;
    (void)why;
    if (r->closing || err != OK || reply->type != REDIS_REPLY_ARRAY)
        return;
    for (size_t i = 0; i < reply->elements; i++) {
        struct slice node = reply_slice(reply->element[i]);
        if (node.n != 0 && had_its_chance(r, node) && (r->lease.being_reaped || !slice_eq(node, slice_str(r->node))))
            reap_start(r, node);
    }
}

uint64_t lease_redis_now(const struct redis *r)
{
    const struct lease *l = &r->lease;
    return l->redis_ms != 0 ? l->redis_ms + (loop_now_ms(r->b.loop) - l->redis_at_ms) : 0;
}

static void scan(struct redis *r)
{
    uint64_t redis_now = lease_redis_now(r);
    if (redis_now == 0)
        return;
    struct args a;
    args_init(&a);
    arg_str(&a, "ZRANGEBYSCORE");
    arg_str(&a, r->nodes_key);
    arg_str(&a, "-inf");
    arg_u64(&a, redis_now > r->lease_ms ? redis_now - r->lease_ms : 0);
    arg_str(&a, "LIMIT");
    arg_u64(&a, 0);
    arg_u64(&a, SCAN_NODES);
    store_send(r->store, &a, REQUEST_REPEATABLE, on_dead_nodes, r);
}

/* Rooms that fell out of the directory (an ill-timed ZREM, a lost command) come back with their nodes' next round. */
static void refresh_rooms(struct redis *r, uint64_t elapsed_ms)
{
    size_t count = pubsub_count(r->pubsub);
    size_t n = (count * elapsed_ms + ROOM_REFRESH_MS - 1) / ROOM_REFRESH_MS;
    for (size_t i = 0; i < n; i++) {
        struct slice room = pubsub_next_room(r->pubsub);
        if (room.n == 0 || room.p[0] == '$')
            continue;
        struct args a;
        args_init(&a);
        arg_str(&a, "ZADD");
        arg_str(&a, r->rooms_key);
        arg_str(&a, "0");
        arg_slice(&a, room);
        store_send(r->store, &a, REQUEST_REPEATABLE, NULL, NULL);
    }
}

static void work(struct redis *r)
{
    struct lease *l = &r->lease;
    uint64_t now = loop_now_ms(r->b.loop);
    if (l->retired || !store_is_up(r->store))
        return;
    if (now >= l->beat_due_ms) {
        l->beat_due_ms = now + r->lease_ms / 3;
        beat(r);
    }
    if (now >= l->scan_due_ms) {
        l->scan_due_ms = now + r->lease_ms / 2;
        scan(r);
    }
}

static void on_tick(struct timer *t)
{
    struct redis *r = container_of(t, struct redis, lease.tick);
    uint64_t every = r->lease.being_reaped ? RETRY_MS : tick_ms(r);
    timer_start(&r->lease.tick, every);
    check_deaf(r);
    work(r);
    if (r->lease.retired || !store_is_up(r->store))
        return;
    probe(r);
    if (r->lease.registered) {
        sessions_tick(r, every);
        park_tick(r);
        strangers_tick(r);
        refresh_rooms(r, every);
    }
}

void lease_up(struct redis *r)
{
    struct lease *l = &r->lease;
    l->baseline_ms = loop_now_ms(r->b.loop);
    l->beat_due_ms = 0;
    if (l->registered) /* else there is nothing yet that could have been lost */
        strangers_look(r);
    work(r);
    if (!l->retired)
        probe(r);
}

void lease_init(struct redis *r)
{
    struct lease *l = &r->lease;
    list_init(&l->reaps);
    l->baseline_ms = loop_now_ms(r->b.loop);
    timer_init(&l->tick, r->b.loop, on_tick);
    timer_start(&l->tick, tick_ms(r));
}

void lease_fini(struct redis *r)
{
    timer_stop(&r->lease.tick);
}

/* Retiring. */

static void on_retired(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct call *c = arg;
    struct redis *r = c->r;
    uint64_t clean = 0;
    if (err == OK && !reply_u64(reply, &clean)) {
        err = ERR_INTERNAL;
        why = "the retire script gave a strange answer";
    }
    if (err != OK || r->closing) {
        broker_fail(c->done, c->arg, err, why);
        free(c);
        return;
    }
    struct gather *g = gather_new(r, c->done, c->arg);
    struct args a;
    args_init(&a);
    arg_str(&a, clean != 0 ? "ZREM" : "ZADD");
    arg_str(&a, r->nodes_key);
    if (clean == 0)
        arg_str(&a, "0"); /* dead since ever: others clean up at once */
    arg_str(&a, r->node);
    gather_send(g, &a);
    gather_close(g);
    free(c);
}

void redis_retire(struct broker *b, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    r->lease.retired = true;
    struct call *c = xcalloc(1, sizeof *c);
    *c = (struct call){.r = r, .done = done, .arg = arg};
    struct args a;
    script_args(&a, r, SCRIPT_RETIRE, 2);
    (void)arg_key(&a, r->node_prefix, slice_str(r->node), "");
    (void)arg_key(&a, r->node_prefix, slice_str(r->node), ":sessions");
    store_send(r->store, &a, REQUEST_REPEATABLE, on_retired, c);
}
