/* broker/redis/cluster.c: the way of a request through a Redis Cluster. */
#include "broker/redis/cluster.h"

#include <stdio.h>

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/table.h"
#include "broker/redis/link_private.h"
#include "broker/redis/topology.h"

#define REDIRECTS_MAX   64
#define REDIRECTS_QUICK 5 /* after so many at once there is time to breathe between them */
#define LATER_FIRST_MS  5 /* before TRYAGAIN is obeyed, doubling */
#define LATER_MAX_MS    100
#define FENCE_MS        1 /* how often a fence is looked at */

/* A slot whose requests wait here: in their order, until the time has come, everything sent before them has been answered, and there is
 * somebody to send them to. */
struct trouble {
    UT_hash_handle hh;
    uint16_t slot;
    struct link requests;
    uint64_t until_ms;
    const struct shard *fence; /* on this one's link so many must have passed; NULL: none */
    uint64_t fence_sent;
};

struct cluster {
    struct loop *loop;
    const struct redis_link_config *cfg;
    const struct cluster_events *events;
    void *owner;
    struct broker_stats *stats;
    struct topology *topology;
    struct link shards;
    uint32_t shard_ids;
    struct shard *owners[SLOTS];
    struct trouble *troubles;
    struct redis_backlog backlog;
    struct link given_up; /* not counted; to be told so from the task */
    uint64_t numbers;
    struct timer timer;
    struct task task;
    bool changed, been_up;
};

/* Requests that wait. */

static struct trouble *trouble_find(const struct cluster *c, uint16_t slot)
{
    struct trouble *t;
    HASH_FIND(hh, c->troubles, &slot, sizeof slot, t);
    return t;
}

static struct trouble *trouble_get(struct cluster *c, uint16_t slot)
{
    struct trouble *t = trouble_find(c, slot);
    if (t != NULL)
        return t;
    t = xcalloc(1, sizeof *t);
    t->slot = slot;
    list_init(&t->requests);
    HASH_ADD_KEYPTR(hh, c->troubles, &t->slot, sizeof t->slot, t);
    return t;
}

static void trouble_free(struct cluster *c, struct trouble *t)
{
    HASH_DELETE(hh, c->troubles, t);
    free(t);
}

/* By number: those that were asked for first go first. */
static void hold(struct cluster *c, struct trouble *t, struct request *q)
{
    struct link *after = t->requests.prev;
    while (after != &t->requests && list_entry(after, struct request, link)->number > q->number)
        after = after->prev;
    list_prepend(after, &q->link);
    loop_idle(c->loop, &c->task, 0);
}

static void give_up(struct cluster *c, struct request *q, const char *why)
{
    list_del(&q->link);
    q->why = why;
    list_append(&c->given_up, &q->link);
    loop_idle(c->loop, &c->task, 0);
}

/* Nobody overtakes: what is on the way on this link must be answered first, and what has not left yet waits as well. */
static void fence(struct cluster *c, struct trouble *t, const struct shard *s)
{
    struct redis_link *l = s->link;
    t->fence = s;
    t->fence_sent = l->sent_count;
    list_for_each_safe (it, &l->queue) {
        struct request *q = list_entry(it, struct request, link);
        if (q->slot != t->slot || q->asking)
            continue;
        list_del(&q->link);
        hold(c, t, q);
    }
}

static void expire(struct cluster *c, struct trouble *t, uint64_t now)
{
    list_for_each_safe (it, &t->requests) {
        struct request *q = list_entry(it, struct request, link);
        if (q->due_ms > now)
            continue;
        list_del(&q->link);
        backlog_sub(&c->backlog, c->stats, q);
        c->stats->timeouts++;
        request_complete(q, NULL, ERR_TIMEOUT, "the Redis Cluster could not do it in time; it was not done");
    }
}

static bool may_go(const struct cluster *c, const struct trouble *t, uint64_t now)
{
    const struct shard *s = c->owners[t->slot];
    return s != NULL && redis_link_is_up(s->link) && now >= t->until_ms &&
           (t->fence == NULL || link_has_passed(t->fence->link, t->fence_sent));
}

static void go(struct cluster *c, struct trouble *t)
{
    struct redis_link *l = c->owners[t->slot]->link;
    while (!list_empty(&t->requests)) {
        struct request *q = list_first(&t->requests, struct request, link);
        list_del(&q->link);
        link_take(l, q);
    }
    trouble_free(c, t);
}

/* When to look at it again, if nothing happens before. */
static uint64_t next_look(const struct cluster *c, const struct trouble *t, uint64_t now)
{
    uint64_t at = list_empty(&t->requests) ? UINT64_MAX : list_first(&t->requests, struct request, link)->due_ms;
    if (t->until_ms > now)
        return t->until_ms < at ? t->until_ms : at;
    const struct shard *s = c->owners[t->slot];
    bool fenced = t->fence != NULL && !link_has_passed(t->fence->link, t->fence_sent);
    if (fenced || (s != NULL && redis_link_is_up(s->link)))
        return now + FENCE_MS;
    return at;
}

static void run_troubles(struct cluster *c)
{
    uint64_t now = loop_now_ms(c->loop), next = UINT64_MAX;
    struct trouble *t, *following;
    HASH_ITER (hh, c->troubles, t, following) {
        expire(c, t, now);
        if (may_go(c, t, now)) {
            go(c, t);
        } else if (list_empty(&t->requests) && t->fence == NULL) {
            trouble_free(c, t);
        } else {
            uint64_t at = next_look(c, t, now);
            next = at < next ? at : next;
        }
    }
    if (next != UINT64_MAX)
        timer_start(&c->timer, next > now ? next - now : FENCE_MS);
}

static void route(struct cluster *c, struct request *q)
{
    struct shard *s = c->owners[q->slot];
    struct trouble *t = trouble_find(c, q->slot);
    if (t == NULL && s != NULL && redis_link_is_up(s->link))
        link_take(s->link, q);
    else
        hold(c, t != NULL ? t : trouble_get(c, q->slot), q);
}

void cluster_send(struct cluster *c, struct request *q)
{
    q->number = ++c->numbers;
    if (!request_fits(c->cfg, &c->backlog, q)) {
        c->stats->refused++;
        give_up(c, q, "too many requests wait for Redis");
        return;
    }
    backlog_add(&c->backlog, c->stats, q);
    route(c, q);
}

/* Shards. */

static void changed(struct cluster *c)
{
    c->changed = true;
    loop_idle(c->loop, &c->task, 0);
}

static void on_up(void *owner)
{
    struct shard *s = owner;
    s->up_ms = loop_now_ms(s->cluster->loop);
    changed(s->cluster);
}

static void on_down(void *owner)
{
    struct shard *s = owner;
    s->up_ms = 0;
    changed(s->cluster);
}

static void on_failed(void *owner)
{
    struct shard *s = owner;
    if (!s->stale)
        topology_doubt(s->cluster->topology);
}

static void on_stranded(void *owner, struct request *q)
{
    struct shard *s = owner;
    q->asking = false;
    hold(s->cluster, trouble_get(s->cluster, q->slot), q);
}

static bool on_refused(void *owner, struct request *q, const redisReply *error);
static void on_answered(void *owner, const struct request *q);

static const struct redis_link_events shard_events = {.up = on_up,
                                                      .down = on_down,
                                                      .failed = on_failed,
                                                      .refused = on_refused,
                                                      .answered = on_answered,
                                                      .stranded = on_stranded};

static void on_durable_refused(void *owner, const redisReply *error);

static struct shard *shard_get(struct cluster *c, const char *host, int port)
{
    list_for_each (it, &c->shards) {
        struct shard *s = list_entry(it, struct shard, all);
        if (s->host.port == port && strcmp(s->host.host, host) == 0)
            return s;
    }
    struct shard *s = xcalloc(1, sizeof *s);
    s->cluster = c;
    s->id = ++c->shard_ids;
    s->host = (struct redis_host){.host = xstrdup(host), .port = port};
    s->cfg = *c->cfg;
    s->cfg.host = &s->host;
    s->cfg.backlog = &c->backlog;
    s->link = redis_link_create(c->loop, &s->cfg, &shard_events, s, c->stats);
    durables_init(&s->durables, c->loop, &s->cfg, c->stats);
    s->durables.refused = on_durable_refused;
    s->durables.owner = s;
    if (c->cfg->read_replicas)
        s->replica = replica_create_in_cluster(c->loop, &s->cfg, c->stats);
    list_append(&c->shards, &s->all);
    return s;
}

static void shard_free(struct cluster *c, struct shard *s)
{
    struct trouble *t, *next;
    HASH_ITER (hh, c->troubles, t, next) {
        if (t->fence == s)
            t->fence = NULL;
    }
    (void)replica_close(s->replica);
    replica_destroy(&s->replica);
    while (redis_link_close(s->link)) {
    }
    while (durables_close(&s->durables, "the Redis that had this slot is no primary any more")) {
    }
    durables_fini(&s->durables);
    redis_link_destroy(&s->link);
    list_del(&s->all);
    free(s->host.host);
    free(s);
}

/* What is on the way to somebody who has lost the slot meanwhile: later requests wait until he has answered. */
static void fence_moved(struct cluster *c, const struct shard *s)
{
    list_for_each (it, &s->link->sent) {
        const struct request *q = list_entry(it, struct request, link);
        if (!q->setup && !q->asking && c->owners[q->slot] != s)
            fence(c, trouble_get(c, q->slot), s);
    }
    list_for_each_safe (it, &s->link->queue) {
        struct request *q = list_entry(it, struct request, link);
        if (q->asking || c->owners[q->slot] == s)
            continue;
        list_del(&q->link);
        hold(c, trouble_get(c, q->slot), q);
    }
}

static void count_slots(struct cluster *c)
{
    list_for_each (it, &c->shards) {
        list_entry(it, struct shard, all)->slots = 0;
    }
    for (unsigned slot = SLOTS; slot-- > 0;) {
        struct shard *s = c->owners[slot];
        if (s == NULL)
            continue;
        s->slots++;
        s->first = (uint16_t)slot;
    }
}

static void on_map(void *owner, const struct slot_map *map)
{
    struct cluster *c = owner;
    bool news = false;
    AUTO_FREE struct shard **shards = xcalloc(map->primary_count, sizeof(struct shard *));
    for (size_t i = 0; i < map->primary_count; i++)
        shards[i] = shard_get(c, map->primaries[i].host, map->primaries[i].port);
    for (size_t i = 0; c->cfg->read_replicas && i < map->primary_count; i++)
        replica_offer(shards[i]->replica, map, i);
    for (size_t slot = 0; slot < SLOTS; slot++) {
        struct shard *s = map->owner[slot] != SLOT_NOBODY ? shards[map->owner[slot]] : NULL;
        news = news || s != c->owners[slot];
        c->owners[slot] = s;
    }
    if (!news)
        return;
    count_slots(c);
    list_for_each (it, &c->shards) {
        struct shard *s = list_entry(it, struct shard, all);
        s->stale = s->slots == 0;
        fence_moved(c, s);
        if (s->stale)
            redis_link_drop(s->link, "it has no slots any more");
    }
    LOG(INFO, "the slots of the Redis Cluster have owners", "primaries=%zu", map->primary_count);
    changed(c);
}

/* Refusals. */

static uint64_t later_ms(const struct request *q)
{
    uint64_t ms = LATER_FIRST_MS << (q->redirects < 6 ? q->redirects : 6);
    return ms < LATER_MAX_MS ? ms : LATER_MAX_MS;
}

static struct shard *target(const struct shard *asked, const struct slot_node *node)
{
    return shard_get(asked->cluster, node->host[0] != '\0' ? node->host : asked->host.host, node->port);
}

static void moved(const struct shard *s, const struct redirect *r)
{
    struct cluster *c = s->cluster;
    struct shard *now = target(s, &r->node);
    if (c->owners[r->slot] == now)
        return;
    c->owners[r->slot] = now;
    now->stale = false;
    count_slots(c);
    topology_doubt(c->topology);
    changed(c);
}

void cluster_moved(struct cluster *c, uint32_t shard, const struct redirect *r)
{
    list_for_each (it, &c->shards) {
        const struct shard *s = list_entry(it, struct shard, all);
        if (s->id != shard)
            continue;
        moved(s, r);
        fence_moved(c, s);
        return;
    }
    topology_doubt(c->topology);
}

static void on_durable_refused(void *owner, const redisReply *error)
{
    const struct shard *s = owner;
    struct redirect r;
    redirect_parse((struct slice){error->str, (size_t)error->len}, &r);
    if (r.kind == REDIRECT_MOVED)
        cluster_moved(s->cluster, s->id, &r);
}

/* Holds q, and all that follow it in its slot, for a while. */
static void hold_refused(struct shard *s, struct request *q, uint64_t ms)
{
    struct cluster *c = s->cluster;
    struct trouble *t = trouble_get(c, q->slot);
    uint64_t until = loop_now_ms(c->loop) + ms;
    if (ms != 0 && until > t->until_ms)
        t->until_ms = until;
    q->redirects++;
    hold(c, t, q);
    fence(c, t, s);
}

static bool on_refused(void *owner, struct request *q, const redisReply *error)
{
    struct shard *s = owner;
    struct redirect r;
    redirect_parse((struct slice){error->str, (size_t)error->len}, &r);
    if (r.kind == REDIRECT_NONE || q->redirects >= REDIRECTS_MAX)
        return false;
    bool elsewhere = r.kind != REDIRECT_LATER && r.slot == q->slot;
    q->asking = false;
    s->cluster->stats->redirects++;
    if (r.kind == REDIRECT_MOVED && elsewhere) {
        moved(s, &r);
        hold_refused(s, q, q->redirects < REDIRECTS_QUICK ? 0 : later_ms(q));
        return true;
    }
    /* Who subscribes to a slot that is being moved listens where it comes from; what tells something must not be done elsewhere. */
    if (r.kind == REDIRECT_ASK && elsewhere && (q->flags & REQUEST_TELLS) == 0) {
        struct shard *importer = target(s, &r.node);
        if (redis_link_is_up(importer->link) && trouble_find(s->cluster, q->slot) == NULL) {
            q->redirects++;
            q->asking = true;
            link_take(importer->link, q);
            return true;
        }
    }
    if (r.kind == REDIRECT_LATER)
        topology_doubt(s->cluster->topology);
    hold_refused(s, q, later_ms(q));
    return true;
}

/* Something was told that was asked for after what waits here: told now, that would come too late. */
static void on_answered(void *owner, const struct request *q)
{
    struct cluster *c = ((struct shard *)owner)->cluster;
    if (c->troubles == NULL || (q->flags & REQUEST_TELLS) == 0)
        return;
    struct trouble *t = trouble_find(c, q->slot);
    if (t == NULL)
        return;
    list_for_each_safe (it, &t->requests) {
        struct request *waiting = list_entry(it, struct request, link);
        if ((waiting->flags & REQUEST_TELLS) == 0 || waiting->number > q->number)
            continue;
        backlog_sub(&c->backlog, c->stats, waiting);
        give_up(c, waiting, "the Redis Cluster put it off, and did a later one first; it was not done");
    }
}

/* The loop. */

static bool tell_given_up(struct cluster *c)
{
    struct link turn;
    list_init(&turn);
    list_splice(&turn, &c->given_up);
    bool any = !list_empty(&turn);
    while (!list_empty(&turn)) {
        struct request *q = list_first(&turn, struct request, link);
        list_del(&q->link);
        request_complete(q, NULL, ERR_UNAVAILABLE, q->why);
    }
    return any;
}

static void drop_stale(struct cluster *c)
{
    list_for_each_safe (it, &c->shards) {
        struct shard *s = list_entry(it, struct shard, all);
        if (s->stale && s->slots == 0 && link_is_idle(s->link))
            shard_free(c, s);
    }
}

static void on_task(struct task *task)
{
    struct cluster *c = container_of(task, struct cluster, task);
    (void)tell_given_up(c);
    bool news = c->changed;
    c->changed = false;
    c->been_up = c->been_up || cluster_is_up(c);
    if (news) {
        c->events->changed(c->owner);
        drop_stale(c);
    }
    run_troubles(c);
}

static void on_timer(struct timer *timer)
{
    run_troubles(container_of(timer, struct cluster, timer));
}

bool cluster_is_up(const struct cluster *c)
{
    unsigned up = 0;
    bool untried = false;
    list_for_each (it, &c->shards) {
        const struct shard *s = list_entry(it, struct shard, all);
        if (redis_link_is_up(s->link))
            up += s->slots;
        else
            untried = untried || (s->slots != 0 && !s->link->was_down);
    }
    return up > SLOTS / 2 && (c->been_up || !untried);
}

uint64_t cluster_up_for(const struct cluster *c, uint16_t slot)
{
    const struct shard *s = c->owners[slot];
    return s != NULL && s->up_ms != 0 ? loop_now_ms(c->loop) - s->up_ms : 0;
}

const struct shard *cluster_owner(const struct cluster *c, uint16_t slot)
{
    return c->owners[slot];
}

struct durables *cluster_durables(struct cluster *c, uint16_t slot)
{
    return c->owners[slot] != NULL ? &c->owners[slot]->durables : NULL;
}

void cluster_each(const struct cluster *c, void (*each)(void *arg, const struct shard *s), void *arg)
{
    list_for_each (it, &c->shards) {
        const struct shard *s = list_entry(it, struct shard, all);
        if (s->slots != 0)
            each(arg, s);
    }
}

const char *cluster_problem(const struct cluster *c)
{
    return c->topology != NULL ? topology_problem(c->topology) : NULL;
}

void cluster_doubt(struct cluster *c)
{
    topology_doubt(c->topology);
}

struct cluster *cluster_create(struct loop *loop, const struct redis_link_config *cfg,
                               const struct cluster_events *events, void *owner, struct broker_stats *stats)
{
    struct cluster *c = xcalloc(1, sizeof *c);
    c->loop = loop;
    c->cfg = cfg;
    c->events = events;
    c->owner = owner;
    c->stats = stats;
    list_init(&c->shards);
    list_init(&c->given_up);
    timer_init(&c->timer, loop, on_timer);
    task_init(&c->task, on_task);
    c->topology = topology_create(loop, cfg, on_map, c, stats);
    return c;
}

bool cluster_close(struct cluster *c)
{
    topology_destroy(&c->topology);
    bool any = false;
    list_for_each (it, &c->shards) {
        struct shard *s = list_entry(it, struct shard, all);
        any = replica_close(s->replica) || any;
        any = redis_link_close(s->link) || any;
        any = durables_close(&s->durables, "the broker is closing") || any;
    }
    struct trouble *t, *next;
    HASH_ITER (hh, c->troubles, t, next) {
        while (!list_empty(&t->requests)) {
            struct request *q = list_first(&t->requests, struct request, link);
            backlog_sub(&c->backlog, c->stats, q);
            give_up(c, q, "the broker is closing");
        }
        trouble_free(c, t);
    }
    any = tell_given_up(c) || any;
    timer_stop(&c->timer);
    task_cancel(&c->task);
    return any;
}

void cluster_destroy(struct cluster **cluster)
{
    struct cluster *c = TAKE(*cluster);
    if (c == NULL)
        return;
    list_for_each_safe (it, &c->shards)
        shard_free(c, list_entry(it, struct shard, all));
    timer_stop(&c->timer);
    task_cancel(&c->task);
    free(c);
}
