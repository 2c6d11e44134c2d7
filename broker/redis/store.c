/* broker/redis/store.c: commands to the one Redis there is, or into the cluster. */
#include "broker/redis/store.h"

#include "base/mem.h"
#include "broker/redis/link_private.h"

struct redis_store {
    const struct redis_link_config *cfg;
    const struct store_events *events;
    void *owner;
    struct loop *loop;
    struct redis_link *link; /* NULL with a cluster */
    struct durables durables;
    struct cluster *cluster;
    bool up;
};

static void on_up(void *owner)
{
    struct redis_store *s = owner;
    s->events->up(s->owner);
}

static void on_down(void *owner)
{
    struct redis_store *s = owner;
    s->events->down(s->owner);
}

static void on_changed(void *owner)
{
    struct redis_store *s = owner;
    bool up = cluster_is_up(s->cluster), was_up = s->up;
    s->up = up;
    s->events->changed(s->owner);
    if (up && !was_up)
        s->events->up(s->owner);
    else if (!up && was_up)
        s->events->down(s->owner);
}

static const struct redis_link_events link_events = {.up = on_up, .down = on_down};
static const struct cluster_events cluster_events = {.changed = on_changed};

struct command store_prepare(struct redis_store *s, struct args *a)
{
    struct command c = {.slot = s->cluster != NULL ? slot_of_command(a) : 0};
    c.bytes = args_format(a, &c.n);
    return c;
}

void store_send_prepared(struct redis_store *s, struct command *c, unsigned flags, redis_done *done, void *arg)
{
    if (s->cluster == NULL) {
        redis_link_send_bytes(s->link, TAKE(c->bytes), c->n, flags, done, arg);
        return;
    }
    cluster_send(s->cluster, request_new(s->cfg, s->loop, c, flags, done, arg));
}

void store_send(struct redis_store *s, struct args *a, unsigned flags, redis_done *done, void *arg)
{
    struct command c = store_prepare(s, a);
    store_send_prepared(s, &c, flags, done, arg);
}

const char *store_send_durable(struct redis_store *s, struct command *c, uint32_t replicas, struct durable_job *j)
{
    struct durables *all = s->cluster != NULL ? cluster_durables(s->cluster, c->slot) : &s->durables;
    if (all == NULL) {
        redisFreeCommand(TAKE(c->bytes));
        return "nobody in the Redis Cluster is known to have this slot";
    }
    return durables_send(all, replicas, TAKE(c->bytes), c->n, j) ? NULL : "too many requests wait for Redis";
}

bool store_is_up(const struct redis_store *s)
{
    return s->cluster != NULL ? s->up : redis_link_is_up(s->link);
}

struct cluster *store_cluster(const struct redis_store *s)
{
    return s->cluster;
}

struct redis_store *store_create(struct loop *loop, const struct redis_link_config *cfg,
                                 const struct store_events *events, void *owner, struct broker_stats *stats)
{
    struct redis_store *s = xcalloc(1, sizeof *s);
    s->cfg = cfg;
    s->events = events;
    s->owner = owner;
    s->loop = loop;
    durables_init(&s->durables, loop, cfg, stats);
    if (cfg->url->topology == REDIS_CLUSTER)
        s->cluster = cluster_create(loop, cfg, &cluster_events, s, stats);
    else
        s->link = redis_link_create(loop, cfg, &link_events, s, stats);
    return s;
}

bool store_close(struct redis_store *s)
{
    bool any = s->cluster != NULL ? cluster_close(s->cluster) : redis_link_close(s->link);
    return durables_close(&s->durables, "the broker is closing") || any;
}

void store_destroy(struct redis_store **store)
{
    struct redis_store *s = *store;
    if (s == NULL)
        return;
    redis_link_destroy(&s->link);
    durables_fini(&s->durables);
    cluster_destroy(&s->cluster);
    free(s);
    *store = NULL;
}
