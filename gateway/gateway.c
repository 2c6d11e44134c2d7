/* gateway/gateway.c: one node: ties sessions, rooms, broker and policy together; ticks, retries, drains. */
#include "gateway/gateway.h"
#include "gateway/forward.h"

#include <assert.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "gateway/acks.h"
#include "gateway/act.h"
#include "gateway/actions.h"
#include "gateway/admit.h"
#include "gateway/api_keys.h"
#include "gateway/audit.h"
#include "gateway/broadcast.h"
#include "gateway/conn.h"
#include "gateway/control.h"
#include "gateway/delivery.h"
#include "gateway/emitter.h"
#include "gateway/emitter_stream.h"
#include "gateway/fork.h"
#include "gateway/leaving.h"
#include "gateway/limits.h"
#include "gateway/message.h"
#include "gateway/metrics.h"
#include "gateway/mina.h"
#include "gateway/move.h"
#include "gateway/orders.h"
#include "gateway/polling.h"
#include "gateway/report.h"
#include "gateway/room.h"
#include "gateway/session.h"
#include "gateway/socketio_rules.h"
#include "gateway/trail.h"
#include "gateway/tunnel.h"
#include "gateway/watch.h"
#include "gateway/webhook/backend.h"

#define TICK_MS         1000u
#define RETRY_MS        500u
#define ONCE_TTL_MS     120000u
#define SESSION_TTL_MS  3600000u
#define QUEUE_COMMANDS  100000u
#define BACKEND_WAITING 4096u /* requests that wait for a connection to the backend */

/* --- news from the broker --- */

void gateway_tell_session(struct gateway *g, const struct envelope *e)
{
    struct session *s;
    struct slice sid = slice_from(e->room, sizeof "$session:" - 1);
    HASH_FIND(hh, g->sessions, sid.p, sid.n, s);
    if (s == NULL)
        move_hold(g, sid, e);
    if (s == NULL || s->conn == NULL || e->kind != ENVELOPE_MESSAGE)
        return;
    metrics->deliveries++;
    metrics->encodes++;
    struct buf bytes = BUF_INIT;
    struct event event = message_live(e);
    s->told = e->position;
    trail_set(s, &event);
    s->conn->protocol->encode(s->conn->protocol, &event, &bytes);
    struct msg *m = msg_new(buf_slice(&bytes));
    buf_fini(&bytes);
    (void)conn_send(s->conn, m, POLICY_SLOW_DEFAULT);
    msg_unref(&m);
}

static void on_envelope(void *owner, const struct envelope *e)
{
    struct gateway *g = owner;
    if (e->kind == ENVELOPE_EMIT) {
        acks_envelope(g, e);
        return;
    }
    if (e->kind == ENVELOPE_VERDICT) {
        admit_verdict_came(g, e);
        return;
    }
    if (!room_is_session(e->room)) {
        struct room *r = room_find(g, e->room);
        if (r != NULL)
            room_envelope(r, e);
        return;
    }
    if (e->kind == ENVELOPE_CONTROL || e->kind == ENVELOPE_CONTROLLED) {
        if (e->kind != ENVELOPE_CONTROLLED || !broadcast_answer(g, e))
            control_envelope(g, e);
        return;
    }
    gateway_tell_session(g, e);
}

static void on_link(void *owner, bool up)
{
    struct gateway *g = owner;
    if (up)
        LOG(INFO, "store connected", "broker=%s", g->broker->ops->name);
    else
        LOG(WARN, "store lost", "broker=%s", g->broker->ops->name);
    tails_link(&g->tails, up, loop_now_ms(g->loop));
    if (!up)
        return;
    struct room *r, *next;
    HASH_ITER (hh, g->rooms, r, next) {
        room_link_up(r);
    }
    watch_link_up(g);
    gateway_retry_later(g);
    admit_all_again(g); /* a verdict may have been missed */
    audit_all(g);
}

static void on_resubscribed(void *owner, struct slice room)
{
    struct gateway *g = owner;
    struct room *r = room_find(g, room);
    if (r != NULL)
        room_link_up(r);
    audit_all(g);
}

static void on_user_changed(void *owner, const struct user_record *u)
{
    watch_changed(owner, u);
}

static void on_rewatched(void *owner, struct slice user)
{
    watch_again(owner, user);
}

static void on_expelled(void *owner)
{
    struct gateway *g = owner;
    LOG(WARN, "this node was declared dead; putting its sessions back", "sessions=%u", HASH_COUNT(g->sessions));
    struct session *s, *next;
    HASH_ITER (hh, g->sessions, s, next) {
        session_restore(s);
    }
}

static void on_node_stats(void *owner, uint64_t *ret_connections, uint64_t *ret_rooms)
{
    const struct gateway *g = owner;
    *ret_connections = HASH_COUNT(g->sessions);
    *ret_rooms = HASH_COUNT(g->rooms);
}

static void on_taken(void *owner, struct slice sid)
{
    struct gateway *g = owner;
    struct session *s;
    HASH_FIND(hh, g->sessions, sid.p, sid.n, s);
    if (s == NULL)
        return;
    leaving_taken(s);
    session_taken(s);
}

static void on_heard(void *owner, struct slice channel, struct slice body)
{
    const struct gateway *g = owner;
    if (g->emitter != NULL)
        emitter_heard(g->emitter, channel, body);
}

static const struct broker_events broker_events = {
    .heard = on_heard,
    .taken = on_taken,
    .envelope = on_envelope,
    .link = on_link,
    .resubscribed = on_resubscribed,
    .user_changed = on_user_changed,
    .rewatched = on_rewatched,
    .expelled = on_expelled,
    .node_stats = on_node_stats,
};

/* --- time --- */

static void copy_stats(struct gateway *g)
{
    const struct backend_stats *s = backend_stats(g->backend);
    metrics->backend_requests = s->requests;
    metrics->backend_failures = s->failures;
    metrics->backend_opened = s->opened;
    metrics->backend_down = s->open;
    metrics->backend_connections = s->connections;
    metrics->backend_us = s->us_sum;
}

static void on_tick(struct timer *t)
{
    struct gateway *g = container_of(t, struct gateway, tick);
    timer_start(t, TICK_MS);
    wheel_advance(&g->wheel, loop_now_ms(g->loop));
    starts_tick(&g->starts);
    tails_expire(&g->tails, loop_now_ms(g->loop));
    forks_settle(g);
    metrics->store_up = gateway_not_ready(g) == NULL;
    metrics->broker = g->broker->stats;
    if (g->backend != NULL)
        copy_stats(g);
    if (g->delivery != NULL)
        metrics->events_lag_ms = delivery_lag_ms(g->delivery);
    mina_count(g);
}

static void on_retry(struct timer *t)
{
    struct gateway *g = container_of(t, struct gateway, retry);
    struct session *s, *next;
    g->retrying = false;
    HASH_ITER (hh, g->sessions, s, next) {
        session_retry(s);
    }
    reports_retry(g);
    struct room *r, *next_room;
    HASH_ITER (hh, g->rooms, r, next_room) {
        stream_retry(r);
    }
    watch_retry(g);
}

void gateway_retry_later(struct gateway *g)
{
    if (g->retrying)
        return;
    g->retrying = true;
    timer_start(&g->retry, RETRY_MS);
}

/* --- life --- */

/* *ret stays NULL when nobody is asked for a token. */
static enum err auth_create(const struct config *cfg, struct auth_jwt **ret, struct error *reterr)
{
    *ret = NULL;
    if (cfg->auth != AUTH_JWT)
        return OK;
    *ret = auth_jwt_create(&(struct auth_jwt_config){.keys = cfg->jwt_keys.items,
                                                     .key_count = cfg->jwt_keys.count,
                                                     .audience = cfg->jwt_audience,
                                                     .issuer = cfg->jwt_issuer,
                                                     .leeway_s = cfg->jwt_leeway_s},
                           reterr);
    return *ret != NULL ? OK : reterr->code;
}

static void log_keys(const struct gateway *g)
{
    if (g->auth != NULL)
        LOG(INFO, "token keys loaded", "keys=%zu ignored=%zu", auth_jwt_key_count(g->auth),
            auth_jwt_ignored_count(g->auth));
}

static enum err api_keys_create(const struct config *cfg, struct api_keys **ret, struct error *reterr)
{
    *ret = cfg->api_keys != NULL ? api_keys_load(cfg->api_keys, reterr) : NULL;
    return *ret != NULL || cfg->api_keys == NULL ? OK : reterr->code;
}

static void log_api_keys(const struct gateway *g)
{
    if (g->api_keys != NULL)
        LOG(INFO, "API keys loaded", "keys=%zu", api_keys_count(g->api_keys));
}

enum err gateway_reload_api_keys(struct gateway *g, struct error *reterr)
{
    struct api_keys *fresh;
    enum err err = api_keys_create(g->cfg, &fresh, reterr);
    if (err != OK)
        return err;
    api_keys_unref(&g->api_keys);
    g->api_keys = fresh;
    log_api_keys(g);
    return OK;
}

enum err gateway_check_auth(const struct config *cfg, struct error *reterr)
{
    struct auth_jwt *a;
    enum err err = auth_create(cfg, &a, reterr);
    if (err == OK)
        err = mina_check(cfg, a, reterr);
    auth_jwt_destroy(&a);
    struct api_keys *keys = NULL;
    if (err == OK)
        err = api_keys_create(cfg, &keys, reterr);
    api_keys_unref(&keys);
    return err;
}

/* *ret stays NULL without a backend. */
static enum err create_backend(struct loop *loop, const struct config *cfg, struct backend **ret, struct error *reterr)
{
    *ret = NULL;
    if (cfg->backend_url == NULL)
        return OK;
    const struct backend_config backend = {.url = cfg->backend_url,
                                           .secret_file = cfg->backend_secret_file,
                                           .ca = cfg->backend_ca,
                                           .version = VERSION,
                                           .connections = 2 * cfg->backend_concurrency,
                                           .waiting = BACKEND_WAITING,
                                           .timeout_ms = cfg->backend_timeout_ms};
    *ret = backend_create(loop, &backend, reterr);
    return *ret != NULL ? OK : reterr->code;
}

enum err gateway_check_backend(const struct config *cfg, struct error *reterr)
{
    struct backend *b;
    enum err err = create_backend(NULL, cfg, &b, reterr);
    backend_destroy(&b);
    return err != OK ? err : tunnels_check(cfg, reterr);
}

enum err gateway_reload_backend(struct gateway *g, struct error *reterr)
{
    return g->backend != NULL ? backend_reload(g->backend, reterr) : OK;
}

struct gateway *gateway_create(struct loop *loop, const struct config *cfg, const char *node, struct error *reterr)
{
    struct gateway *g = xcalloc(1, sizeof *g);
    g->cfg = cfg;
    g->loop = loop;
    list_init(&g->catchup_turns);
    list_init(&g->forks_open);
    tails_init(&g->tails);
    list_init(&g->farewells);
    watch_init(g);
    starts_init(&g->starts, g);
    list_init(&g->greetings);
    list_init(&g->reporting);
    list_init(&g->acts);
    list_init(&g->paused_actions);
    g->reports_on = cfg->events || cfg->backend_url != NULL;
    list_init(&g->rechecks);
    list_init(&g->audits);
    list_init(&g->engines);
    list_init(&g->pollings);
    (void)snprintf(g->node, sizeof g->node, "%s", node);
    wheel_init(&g->wheel, TICK_MS, loop_now_ms(loop));
    timer_init(&g->tick, loop, on_tick);
    timer_init(&g->retry, loop, on_retry);
    timer_init(&g->recheck, loop, admit_on_timer);
    timer_init(&g->audit, loop, audit_on_timer);
    timer_init(&g->farewell, loop, gateway_farewell);
    bool ready = auth_create(cfg, &g->auth, reterr) == OK && api_keys_create(cfg, &g->api_keys, reterr) == OK &&
                 create_backend(loop, cfg, &g->backend, reterr) == OK && mina_open(g, reterr) == OK &&
                 tunnels_open(g, reterr) == OK;
    g->policies =
        ready ? policies_create(cfg->policies.items, cfg->policies.count, cfg->socketio_recovery, reterr) : NULL;
    g->sio_rules =
        g->policies != NULL ? sio_rules_create(cfg->socketio_events.items, cfg->socketio_events.count, reterr) : NULL;
    if (g->sio_rules != NULL)
        g->broker = broker_create(
            loop,
            &(struct broker_config){.url = cfg->broker,
                                    .node = g->node,
                                    .address = cfg->listen.items[0],
                                    .version = VERSION,
                                    .key_prefix = cfg->key_prefix,
                                    .lease_ms = cfg->lease_ms,
                                    .timeout_ms = cfg->redis_timeout_ms,
                                    .queue_bytes = cfg->redis_queue_bytes,
                                    .read_replicas = cfg->redis_read_replicas,
                                    .queue_commands = QUEUE_COMMANDS,
                                    .once_ttl_ms = ONCE_TTL_MS,
                                    .session_ttl_ms = SESSION_TTL_MS,
                                    .event_shards = g->reports_on || g->tunnels != NULL ? cfg->event_shards : 0,
                                    .event_count = cfg->event_count,
                                    .event_age_s = cfg->event_age_s,
                                    .command_count = cfg->commands ? cfg->command_count : 0,
                                    .command_age_s = cfg->command_age_s,
                                    .user_keep_ms = cfg->user_memory_s * 1000ull,
                                    .follow = emitter_stream_name(cfg)},
            &broker_events, g, reterr);
    if (g->broker == NULL) {
        sio_rules_destroy(&g->sio_rules);
        policies_destroy(&g->policies);
        auth_jwt_destroy(&g->auth);
        api_keys_unref(&g->api_keys);
        backend_destroy(&g->backend);
        mina_close(g);
        tunnels_close(g);
        free(g);
        return NULL;
    }
    if (g->backend != NULL || g->tunnels != NULL)
        g->delivery =
            delivery_create(g, &(struct delivery_config){.shards = cfg->event_shards, .lease_ms = cfg->lease_ms});
    if (cfg->commands && g->broker->ops->commands != NULL)
        g->orders = orders_create(g, cfg->lease_ms);
    log_keys(g);
    log_api_keys(g);
    g->limits = limits_create(g);
    g->emitter = emitter_create(g);
    g->emitter_stream = emitter_stream_create(g);
    g->all = room_get(g, SLICE("$all"));
    timer_start(&g->tick, TICK_MS);
    return g;
}

/* With the broker gone nothing completes any more: what waited for the store is simply let go. */
static void abandon_sessions(struct gateway *g)
{
    struct session *s, *next;
    HASH_ITER (hh, g->sessions, s, next) {
        resume_free(TAKE(s->resume)); /* it holds a request of the session that asked */
    }
    HASH_ITER (hh, g->sessions, s, next) {
        session_abandon(s);
    }
}

void gateway_destroy(struct gateway **gp)
{
    struct gateway *g = TAKE(*gp);
    if (g == NULL)
        return;
    g->drained = NULL;
    pollings_abandon(g);
    delivery_abandon(g->delivery);
    orders_abandon(g->orders);
    struct broker *broker = TAKE(g->broker); /* a gateway without broker asks for nothing more */
    broker_destroy(&broker);                 /* completes what is under way: no request is left */
    backend_destroy(&g->backend);            /* the same */
    mina_close(g);                           /* and this */
    control_fini(g);
    forwards_fini(g);
    act_fini(g); /* what waits to be tried again */
    actions_fini(g);
    broadcasts_fini(g);
    acks_fini(g);
    delivery_destroy(&g->delivery);
    orders_destroy(&g->orders);
    watch_fini(g);
    limits_destroy(&g->limits);
    starts_fini(&g->starts);
    reports_abandon(g);
    abandon_sessions(g);
    tunnels_close(g);
    task_cancel(&g->starts.next);
    assert(g->sessions == NULL);
    room_unref(g->all);
    assert(g->rooms == NULL);
    emitter_destroy(&g->emitter);
    emitter_stream_destroy(&g->emitter_stream);
    timer_stop(&g->tick);
    timer_stop(&g->retry);
    timer_stop(&g->recheck);
    timer_stop(&g->audit);
    timer_stop(&g->farewell);
    sio_rules_destroy(&g->sio_rules);
    policies_destroy(&g->policies);
    auth_jwt_destroy(&g->auth);
    api_keys_unref(&g->api_keys);
    buf_fini(&g->scratch);
    buf_fini(&g->trail);
    buf_fini(&g->trailed);
    free(g);
}

enum err gateway_reload(struct gateway *g, struct error *reterr)
{
    struct policies *fresh =
        policies_create(g->cfg->policies.items, g->cfg->policies.count, g->cfg->socketio_recovery, reterr);
    struct sio_rules *rules =
        fresh != NULL ? sio_rules_create(g->cfg->socketio_events.items, g->cfg->socketio_events.count, reterr) : NULL;
    if (rules == NULL) {
        policies_destroy(&fresh);
        return reterr->code;
    }
    struct policies *old = g->policies;
    g->policies = fresh;
    sio_rules_destroy(&g->sio_rules);
    g->sio_rules = rules;
    struct room *r, *next;
    HASH_ITER (hh, g->rooms, r, next) {
        room_reload(r);
    }
    policies_destroy(&old);
    metrics->reloads++;
    return OK;
}

enum err gateway_reload_auth(struct gateway *g, struct error *reterr)
{
    struct auth_jwt *fresh;
    enum err err = auth_create(g->cfg, &fresh, reterr);
    if (err != OK)
        return err;
    auth_jwt_destroy(&g->auth);
    g->auth = fresh;
    log_keys(g);
    return OK;
}

const char *gateway_not_ready(struct gateway *g)
{
    if (g->draining)
        return "draining";
    return g->broker->ops->not_ready(g->broker);
}

uint32_t gateway_resume_window_s(const struct gateway *g)
{
    return g->broker != NULL && g->broker->ops->suspend != NULL ? g->cfg->resume_window_s : 0;
}

uint32_t gateway_session_count(const struct gateway *g)
{
    return HASH_COUNT(g->sessions);
}
