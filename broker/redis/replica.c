/* broker/redis/replica.c: choosing a replica, staying with it while it is in order, and asking it. */
#include "broker/redis/replica.h"

#include <stdio.h>

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "broker/redis/sentinel.h"

#define TICK_MS       1000
#define PATIENCE_PART 4    /* of the timeout: what is left of it is the primary's */
#define MISSING_MS    3000 /* not reached for so long: another one may be */

struct replica {
    struct loop *loop;
    struct broker_stats *stats;
    struct redis_link_config cfg;
    struct sentinel *sentinel; /* that names replicas; NULL: the url does, or the cluster */
    bool in_cluster;
    struct named_host offered[WATCHER_REPLICAS]; /* by the cluster */
    size_t offered_count;
    struct sentinel_listener listener;
    struct redis_host host; /* with Sentinel: points to named */
    struct named_host named;
    struct redis_link *link; /* NULL: none is chosen */
    struct timer tick;
    uint64_t since_ms; /* when it was chosen */
    bool follows;      /* it said so */
    bool lost;         /* the link went down: given up at the next chance */
};

bool replica_is_ready(const struct replica *r)
{
    return r != NULL && r->link != NULL && r->follows && redis_link_is_up(r->link);
}

void replica_send(struct replica *r, struct args *a, redis_done *done, void *arg)
{
    redis_link_send(r->link, a, 0, done, arg);
}

/* "slave", its primary's host and port, and "connected" if the link between them is there: https://redis.io/docs/latest/commands/role/ */
static bool is_following(const redisReply *role)
{
    if (role->type != REDIS_REPLY_ARRAY || role->elements < 4)
        return false;
    const redisReply *what = role->element[0], *state = role->element[3];
    return what->type == REDIS_REPLY_STRING && strcmp(what->str, "slave") == 0 && state->type == REDIS_REPLY_STRING &&
           strcmp(state->str, "connected") == 0;
}

static void on_role(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct replica *r = arg;
    (void)why;
    bool follows = err == OK && reply != NULL && is_following(reply);
    if (reply != NULL && follows != r->follows)
        LOG(INFO, follows ? "history is read from a replica" : "the replica does not follow its primary", "redis=%s:%d",
            r->host.host, r->host.port);
    r->follows = follows;
}

static void ask_role(struct replica *r)
{
    struct args a;
    args_init(&a);
    arg_str(&a, "ROLE");
    redis_link_send(r->link, &a, 0, on_role, r);
}

static void on_up(void *owner)
{
    ask_role(owner);
}

static void on_down(void *owner)
{
    struct replica *r = owner;
    r->follows = false;
    r->lost = true;
    timer_start(&r->tick, 0); /* what was not sent yet would wait for the next connection otherwise */
}

static const struct redis_link_events link_events = {.up = on_up, .down = on_down};

static void begin(struct replica *r)
{
    r->since_ms = loop_now_ms(r->loop);
    r->follows = false;
    r->link = redis_link_create(r->loop, &r->cfg, &link_events, r, r->stats);
}

/* What waits completes with an error: the primary is asked. */
static bool leave(struct replica *r)
{
    bool any = r->link != NULL && redis_link_close(r->link);
    redis_link_destroy(&r->link);
    r->follows = r->lost = false;
    return any;
}

static bool is_at(const struct replica *r, const struct named_host *host)
{
    return host->port == r->named.port && strcmp(host->host, r->named.host) == 0;
}

/* Any but the one that was left, if there is another. */
static void choose(struct replica *r, const struct named_host *hosts, size_t n)
{
    if (n == 0)
        return;
    size_t at = random_below((uint32_t)n);
    if (n > 1 && is_at(r, &hosts[at]))
        at = (at + 1) % n;
    r->named = hosts[at];
    r->host = (struct redis_host){.host = r->named.host, .port = r->named.port};
    begin(r);
}

/* Those that may be chosen. */
static const struct named_host *candidates(const struct replica *r, size_t *ret_n)
{
    if (r->sentinel != NULL)
        return sentinel_replicas(r->sentinel, ret_n);
    *ret_n = r->offered_count;
    return r->offered;
}

static bool is_listed(const struct replica *r)
{
    size_t n;
    const struct named_host *hosts = candidates(r, &n);
    for (size_t i = 0; i < n; i++) {
        if (is_at(r, &hosts[i]))
            return true;
    }
    return false;
}

/* After a failover what followed the old primary is not asked once more: it may have what the new one lacks. */
static void on_named(struct sentinel_listener *l)
{
    struct replica *r = container_of(l, struct replica, listener);
    if (r->link == NULL || is_listed(r))
        return;
    r->follows = false;
    timer_start(&r->tick, 0);
}

static void choose_again(struct replica *r)
{
    size_t n;
    const struct named_host *hosts = candidates(r, &n);
    bool missing =
        r->link != NULL && !redis_link_is_up(r->link) && loop_now_ms(r->loop) - r->since_ms >= MISSING_MS && n > 1;
    if (r->link != NULL && (missing || !is_listed(r))) {
        LOG(INFO, "the replica that history was read from is left", "redis=%s:%d reason=%s", r->named.host,
            r->named.port, missing ? "unreachable" : "not-listed");
        (void)leave(r);
    }
    if (r->link == NULL)
        choose(r, hosts, n);
    if (r->sentinel != NULL)
        sentinel_ask_replicas(r->sentinel);
}

static void on_tick(struct timer *t)
{
    struct replica *r = container_of(t, struct replica, tick);
    timer_start(&r->tick, TICK_MS);
    if (r->lost) {
        (void)leave(r);
        return;
    }
    if (r->sentinel != NULL || r->in_cluster)
        choose_again(r);
    else if (r->link == NULL)
        begin(r);
    if (r->link != NULL && redis_link_is_up(r->link))
        ask_role(r);
}

static struct replica *replica_new(struct loop *loop, const struct redis_link_config *cfg, struct broker_stats *stats)
{
    struct replica *r = xcalloc(1, sizeof *r);
    r->loop = loop;
    r->stats = stats;
    r->sentinel = cfg->sentinel;
    r->cfg = *cfg;
    r->cfg.sentinel = NULL; /* that is the way to the primary */
    r->cfg.host = &r->host;
    r->cfg.backlog = NULL;
    r->cfg.scripts = NULL;
    r->cfg.script_count = 0;
    r->cfg.timeout_ms = cfg->timeout_ms / PATIENCE_PART;
    timer_init(&r->tick, loop, on_tick);
    list_init(&r->listener.link);
    r->listener.named = on_named;
    return r;
}

struct replica *replica_create_in_cluster(struct loop *loop, const struct redis_link_config *cfg,
                                          struct broker_stats *stats)
{
    struct replica *r = replica_new(loop, cfg, stats);
    r->in_cluster = r->cfg.readonly = true;
    timer_start(&r->tick, TICK_MS);
    return r;
}

void replica_offer(struct replica *r, const struct slot_map *map, size_t primary)
{
    r->offered_count = 0;
    for (size_t i = 0; i < map->replica_count && r->offered_count < WATCHER_REPLICAS; i++) {
        const struct slot_node *node = &map->replicas[i];
        if (node->primary != primary)
            continue;
        struct named_host *host = &r->offered[r->offered_count++];
        host->port = node->port;
        (void)snprintf(host->host, sizeof host->host, "%s", node->host);
    }
    timer_start(&r->tick, 0);
}

struct replica *replica_create(struct loop *loop, const struct redis_link_config *cfg, struct broker_stats *stats)
{
    const struct redis_url *url = cfg->url;
    if (url->topology == REDIS_STANDALONE && url->replica.host == NULL) {
        LOG(WARN, "redis-read-replicas has no effect", "reason=\"the url has no replica=host:port\"");
        return NULL;
    }
    struct replica *r = replica_new(loop, cfg, stats);
    timer_start(&r->tick, cfg->sentinel != NULL ? 0 : TICK_MS);
    if (cfg->sentinel != NULL) {
        sentinel_listen(cfg->sentinel, &r->listener);
    } else {
        r->host = url->replica;
        begin(r);
    }
    return r;
}

bool replica_close(struct replica *r)
{
    if (r == NULL)
        return false;
    timer_stop(&r->tick);
    sentinel_forget(&r->listener);
    return leave(r);
}

void replica_destroy(struct replica **replica)
{
    free(*replica);
    *replica = NULL;
}
