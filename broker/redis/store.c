/* broker/redis/store.c: commands to the one Redis there is. */
#include "broker/redis/store.h"

#include "base/mem.h"

struct redis_store {
    const struct store_events *events;
    void *owner;
    struct redis_link *link;
    struct durables durables;
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

static const struct redis_link_events link_events = {.up = on_up, .down = on_down};

void store_send(struct redis_store *s, struct args *a, unsigned flags, redis_done *done, void *arg)
{
    redis_link_send(s->link, a, flags, done, arg);
}

struct command store_prepare(struct redis_store *s, struct args *a)
{
    struct command c;
    (void)s;
    c.bytes = args_format(a, &c.n);
    return c;
}

void store_send_prepared(struct redis_store *s, struct command *c, unsigned flags, redis_done *done, void *arg)
{
    redis_link_send_bytes(s->link, TAKE(c->bytes), c->n, flags, done, arg);
}

bool store_send_durable(struct redis_store *s, struct command *c, uint32_t replicas, struct durable_job *j)
{
    return durables_send(&s->durables, replicas, TAKE(c->bytes), c->n, j);
}

bool store_is_up(const struct redis_store *s)
{
    return redis_link_is_up(s->link);
}

struct redis_store *store_create(struct loop *loop, const struct redis_link_config *cfg,
                                 const struct store_events *events, void *owner, struct broker_stats *stats)
{
    struct redis_store *s = xcalloc(1, sizeof *s);
    s->events = events;
    s->owner = owner;
    s->link = redis_link_create(loop, cfg, &link_events, s, stats);
    durables_init(&s->durables, loop, cfg, stats);
    return s;
}

bool store_close(struct redis_store *s)
{
    bool any = redis_link_close(s->link);
    return durables_close(&s->durables) || any;
}

void store_destroy(struct redis_store **store)
{
    struct redis_store *s = *store;
    if (s == NULL)
        return;
    redis_link_destroy(&s->link);
    durables_fini(&s->durables);
    free(s);
    *store = NULL;
}
