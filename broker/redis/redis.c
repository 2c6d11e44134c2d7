/* broker/redis/redis.c: the broker that joins nodes through Redis: its parts put together. */
#include "broker/redis/redis.h"

#include <stdio.h>

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"

#define LEASE_MIN_MS    300
#define CLUSTER_DEAF_MS 1500u /* a slot moves, or its replica takes over, and its inboxes are subscribed again */
#define CLOSE_ROUNDS    100

static void tell_link(struct redis *r)
{
    bool up = store_is_up(r->store) && pubsub_is_up(r->pubsub);
    if (up == r->told_up || r->closing)
        return;
    r->told_up = up;
    if (up)
        lease_up(r);
    r->b.events->link(r->b.owner, up);
}

static void on_link_changed(void *owner)
{
    struct redis *r = owner;
    r->store_changes++;
    if (r->pubsub != NULL)
        tell_link(r);
}

static void on_cluster_changed(void *owner)
{
    struct redis *r = owner;
    r->store_changes++;
    if (r->pubsub == NULL || r->closing)
        return;
    strangers_look(r);
    pubsub_rehome(r->pubsub);
    follow_rehome(r->follow);
}

static void on_resubscribed(void *owner, enum channel_kind kind, struct slice name)
{
    struct redis *r = owner;
    if (r->closing)
        return;
    strangers_look(r);
    void (*tell)(void *, struct slice) = kind == CHANNEL_USER ? r->b.events->rewatched : r->b.events->resubscribed;
    if (tell != NULL)
        tell(r->b.owner, name);
}

static void on_pubsub_changed(void *owner)
{
    tell_link(owner);
}

static bool for_one_node(const struct envelope *e)
{
    return e->kind == ENVELOPE_CONTROL || e->kind == ENVELOPE_CONTROLLED;
}

/* On a room's channel only that room's envelopes count, in the inbox only what is for this node: a stray PUBLISH is counted, not believed. */
static bool belongs(enum channel_kind kind, struct slice name, const struct envelope *e)
{
    if (kind == CHANNEL_INBOX)
        return e->kind == ENVELOPE_PROBE || e->kind == ENVELOPE_TAKEN ||
               ((e->kind == ENVELOPE_MESSAGE || for_one_node(e)) && room_is_session(e->room));
    return (kind == CHANNEL_USER) == (e->kind == ENVELOPE_STATUS) && e->kind != ENVELOPE_PROBE &&
           e->kind != ENVELOPE_TAKEN && !for_one_node(e) && slice_eq(e->room, name) &&
           (e->kind != ENVELOPE_VERDICT || slice_eq(name, SLICE("$all")));
}

static void on_message(void *owner, enum channel_kind kind, struct slice name, struct slice body)
{
    struct redis *r = owner;
    struct arena arena;
    struct envelope e;
    struct error error;
    if (kind == CHANNEL_FOREIGN) {
        if (r->b.events->heard != NULL)
            r->b.events->heard(r->b.owner, name, body);
        return;
    }
    arena_init(&arena, 2 * body.n + 16384);
    enum err err = envelope_unpack(body, &arena, &e, &error);
    if (err == ERR_UNKNOWN_TYPE) {
        LOG_PEER(DEBUG, "ignored what only newer nodes know", "room=%s what=%s", log_q(name), error.text);
    } else if (err != OK || !belongs(kind, name, &e)) {
        r->b.stats.undecodable++;
        LOG_PEER(WARN, "a message on our channel is not an envelope", "name=%s bytes=%zu", log_q(name), body.n);
    } else if (e.kind == ENVELOPE_PROBE) {
        lease_heard(r, &e);
    } else if (e.kind == ENVELOPE_TAKEN) {
        session_check(r, e.from); /* it may have come back to us since */
    } else if (e.kind == ENVELOPE_STATUS) {
        users_heard(r, &e);
    } else {
        r->b.stats.received++;
        r->b.events->envelope(r->b.owner, &e);
    }
    arena_reset(&arena);
}

static void redis_subscribe(struct broker *b, struct slice room, broker_done *done, void *arg)
{
    pubsub_subscribe(redis_of(b)->pubsub, room, done, arg);
}

static void redis_unsubscribe(struct broker *b, struct slice room)
{
    pubsub_unsubscribe(redis_of(b)->pubsub, room);
}

static void redis_hear(struct broker *b, struct slice channel)
{
    pubsub_hear(redis_of(b)->pubsub, channel);
}

static void redis_hear_no_more(struct broker *b, struct slice channel)
{
    pubsub_hear_no_more(redis_of(b)->pubsub, channel);
}

static void on_task(struct task *t)
{
    (void)deferred_run(container_of(t, struct redis, task));
}

static void redis_destroy(struct broker *b)
{
    struct redis *r = redis_of(b);
    r->closing = true;
    lease_fini(r);
    bool any = true;
    for (int i = 0; any && i < CLOSE_ROUNDS; i++) { /* completions may ask for more */
        any = replica_close(r->replica);            /* first: the primary is asked then */
        any = store_close(r->store) || any;
        any = pubsub_close(r->pubsub) || any;
        any = follow_close(r->follow) || any;
        any = deferred_run(r) || any;
    }
    replica_destroy(&r->replica);
    store_destroy(&r->store);
    pubsub_destroy(&r->pubsub);
    follow_destroy(&r->follow);
    replies_fini(r);
    task_cancel(&r->task);
    sessions_fini(r);
    strangers_fini(r);
    sentinel_destroy(&r->sentinel);
    tls_client_destroy(&r->tls);
    redis_url_fini(&r->url);
    free(r->prefix);
    free(r->channel_prefix);
    free(r->node);
    free(r->address);
    free(r->version);
    free(r->session_prefix);
    free(r->user_prefix);
    free(r->user_channel_prefix);
    free(r->node_prefix);
    free(r->rooms_key);
    free(r->nodes_key);
    free(r->parked_key);
    free(r->ban_prefix);
    free(r->bans_key);
    free(r->revoked_user_prefix);
    free(r->revoked_token_prefix);
    free(r->limit_prefix);
    free(r->wechat_prefix);
    free(r->tunnel_prefix);
    free(r->polling_prefix);
    free(r);
}

static const struct broker_ops redis_ops = {
    .name = "redis",
    .publish = redis_publish,
    .subscribe = redis_subscribe,
    .unsubscribe = redis_unsubscribe,
    .emit = redis_emit,
    .hear = redis_hear,
    .hear_no_more = redis_hear_no_more,
    .follow = redis_follow,
    .join = redis_join,
    .leave = redis_leave,
    .suspend = redis_suspend,
    .presence = redis_presence,
    .rooms = redis_rooms,
    .history = redis_history,
    .session_put = redis_session_put,
    .session_park = redis_session_park,
    .session_resume = redis_session_resume,
    .session_remove = redis_session_remove,
    .session_audit = redis_session_audit,
    .ban = redis_ban,
    .unban = redis_unban,
    .bans = redis_bans,
    .revoke = redis_revoke,
    .admit = redis_admit,
    .sessions = redis_sessions,
    .session_get = redis_session_get,
    .session_give = redis_session_give,
    .room_clear = redis_room_clear,
    .nodes = redis_nodes,
    .limit = redis_limit,
    .control = redis_control,
    .control_to = redis_control_to,
    .where = redis_where,
    .control_answer = redis_control_answer,
    .control_end = redis_control_end,
    .control_listen = redis_control_listen,
    .session_end = redis_session_end,
    .away_join = redis_away_join,
    .away_leave = redis_away_leave,
    .event = redis_event,
    .events = redis_events,
    .commands = redis_commands,
    .command_result = redis_command_result,
    .users = redis_users,
    .watch = redis_watch,
    .unwatch = redis_unwatch,
    .read = redis_read,
    .secrets = redis_secrets,
    .tunnel_offer = redis_tunnel_offer,
    .tunnel_take = redis_tunnel_take,
    .polling_put = redis_polling_put,
    .polling_take = redis_polling_take,
    .polling_find = redis_polling_find,
    .polling_drop = redis_polling_drop,
    .wechat_put = redis_wechat_put,
    .wechat_check = redis_wechat_check,
    .not_ready = redis_not_ready,
    .retire = redis_retire,
    .destroy = redis_destroy,
};

static const struct store_events store_events = {
    .up = on_link_changed, .down = on_link_changed, .changed = on_cluster_changed};
static const struct pubsub_events pubsub_events = {
    .message = on_message, .up = on_pubsub_changed, .down = on_pubsub_changed, .resubscribed = on_resubscribed};

static char *join(const char *a, const char *b)
{
    size_t n = strlen(a) + strlen(b) + 1;
    char *s = xmalloc(n);
    (void)snprintf(s, n, "%s%s", a, b);
    return s;
}

static void configure(struct redis *r, const struct broker_config *cfg)
{
    char db[16] = "";
    if (r->url.db != 0)
        (void)snprintf(db, sizeof db, "%u:", r->url.db);
    r->prefix = xstrdup(cfg->key_prefix);
    r->channel_prefix = join(r->prefix, db);
    r->node = xstrdup(cfg->node);
    r->address = xstrdup(cfg->address != NULL ? cfg->address : "");
    r->version = xstrdup(cfg->version != NULL ? cfg->version : "");
    r->session_prefix = join(r->prefix, "session:");
    r->user_prefix = join(r->prefix, "user:");
    r->user_channel_prefix = join(r->channel_prefix, "user:");
    r->node_prefix = join(r->prefix, "node:");
    r->rooms_key = join(r->prefix, "rooms");
    r->nodes_key = join(r->prefix, "nodes");
    r->parked_key = join(r->prefix, "parked");
    r->ban_prefix = join(r->prefix, "ban:");
    r->bans_key = join(r->prefix, "bans");
    r->revoked_user_prefix = join(r->prefix, "revoked:user:");
    r->revoked_token_prefix = join(r->prefix, "revoked:token:");
    r->limit_prefix = join(r->prefix, "limit:");
    r->wechat_prefix = join(r->prefix, "wechat:");
    r->tunnel_prefix = join(r->prefix, "tunnel:");
    r->polling_prefix = join(r->prefix, "polling:");
    r->lease_ms = cfg->lease_ms > LEASE_MIN_MS ? cfg->lease_ms : LEASE_MIN_MS;
    r->once_ttl_ms = cfg->once_ttl_ms != 0 ? cfg->once_ttl_ms : 1;
    /* The time to live is the last resort: a reaper must always come first. */
    r->session_ttl_ms = cfg->session_ttl_ms > 10 * r->lease_ms ? cfg->session_ttl_ms : 10 * r->lease_ms;
    r->user_keep_ms = cfg->user_keep_ms != 0 ? cfg->user_keep_ms : 1;
    r->started_ms = loop_wall_ms(r->b.loop);
    r->events = (struct event_limits){cfg->event_shards, cfg->event_count, cfg->event_age_s * (uint64_t)1000};
    r->commands =
        (struct event_limits){cfg->command_count != 0, cfg->command_count, cfg->command_age_s * (uint64_t)1000};
    bool in_cluster = r->url.topology == REDIS_CLUSTER;
    r->link_cfg = (struct redis_link_config){.name = r->node,
                                             .url = &r->url,
                                             .tls = r->tls,
                                             .sentinel = r->sentinel,
                                             .timeout_ms = cfg->timeout_ms,
                                             .queue_bytes = cfg->queue_bytes,
                                             .queue_commands = cfg->queue_commands,
                                             .read_replicas = cfg->read_replicas,
                                             .scripts = in_cluster ? redis_cluster_scripts : redis_scripts,
                                             .script_count = SCRIPT_COUNT};
    r->pubsub_cfg = (struct pubsub_config){.link = {.name = r->node,
                                                    .url = &r->url,
                                                    .tls = r->tls,
                                                    .sentinel = r->sentinel,
                                                    .timeout_ms = cfg->timeout_ms},
                                           .prefix = r->channel_prefix,
                                           .inbox_prefix = r->node_prefix,
                                           .user_prefix = r->user_channel_prefix,
                                           .node = r->node,
                                           .waiters_max = cfg->queue_commands};
}

/* These end up inside keys and channels, next to braces that must stay the only ones. */
static bool plain_name(const char *s)
{
    for (; *s != '\0'; s++) {
        if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') ||
              strchr("._:-", *s) != NULL))
            return false;
    }
    return true;
}

/* *ret is NULL for connections without TLS. */
static bool read_certificates(const struct redis_url *url, struct tls_client **ret, struct error *reterr)
{
    const struct tls_client_config cfg = {.ca = url->ca,
                                          .cert = url->cert,
                                          .key = url->key,
                                          .name = url->server_name,
                                          .ca_name = "ca",
                                          .ca_hint = "ca=FILE",
                                          .cert_hint = "cert and key"};
    *ret = url->tls ? tls_client_create(&cfg, reterr) : NULL;
    return !url->tls || *ret != NULL;
}

enum err broker_redis_check_url(const char *url, struct error *reterr)
{
    struct redis_url parsed;
    struct tls_client *tls;
    if (!redis_url_parse(url, &parsed, reterr))
        return reterr->code;
    bool ok = read_certificates(&parsed, &tls, reterr);
    tls_client_destroy(&tls);
    redis_url_fini(&parsed);
    return ok ? OK : reterr->code;
}

struct broker *broker_redis_create(struct loop *loop, const struct broker_config *cfg,
                                   const struct broker_events *events, void *owner, struct error *reterr)
{
    struct redis_url url;
    struct tls_client *tls;
    if (cfg->node[0] == '\0' || !plain_name(cfg->node) || !plain_name(cfg->key_prefix)) {
        fail(reterr, ERR_INVALID_NAME, "node names and key prefixes are made of letters, digits and . _ : -");
        return NULL;
    }
    if (!redis_url_parse(cfg->url, &url, reterr))
        return NULL;
    if (!read_certificates(&url, &tls, reterr)) {
        redis_url_fini(&url);
        return NULL;
    }
    struct redis *r = xcalloc(1, sizeof *r);
    r->b = (struct broker){.ops = &redis_ops, .events = events, .owner = owner, .loop = loop};
    r->url = url;
    r->tls = tls;
    if (url.topology == REDIS_SENTINEL) {
        struct sentinel_config sentinels = {
            .node = cfg->node, .url = &r->url, .tls = tls, .timeout_ms = cfg->timeout_ms};
        r->sentinel = sentinel_create(loop, &sentinels, &r->b.stats);
    }
    configure(r, cfg);
    list_init(&r->deferred);
    list_init(&r->replies);
    task_init(&r->task, on_task);
    sessions_init(r);
    strangers_init(r);
    lease_init(r);
    r->store = store_create(loop, &r->link_cfg, &store_events, r, &r->b.stats);
    r->cluster = r->pubsub_cfg.cluster = store_cluster(r->store);
    r->b.deaf_ms = r->cluster != NULL ? CLUSTER_DEAF_MS : 0;
    r->pubsub = pubsub_create(loop, &r->pubsub_cfg, &pubsub_events, r, &r->b.stats);
    if (cfg->read_replicas && r->cluster == NULL)
        r->replica = replica_create(loop, &r->link_cfg, &r->b.stats);
    if (cfg->follow != NULL)
        r->follow = follow_create(r, cfg->follow);
    inbox_open(r);
    pubsub_subscribe(r->pubsub, SLICE("$all"), NULL, NULL);
    return &r->b;
}
