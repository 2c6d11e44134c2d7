/* broker/broker.c: chooses a backend, and the little that all backends share. */
#include "broker/broker.h"

#include <stdio.h>

#include "base/random.h"
#include "broker/internal.h"

const uint32_t broker_rtt_bounds_us[11] = {100, 250, 500, 1000, 2500, 5000, 10000, 50000, 250000, 1000000, 5000000};

static bool is_memory(const char *url)
{
    return strcmp(url, "memory") == 0;
}

static enum err check_scheme(const char *url, struct error *reterr)
{
    if (is_memory(url) || slice_starts(slice_str(url), SLICE("redis")))
        return OK;
    return fail(reterr, ERR_BAD_REQUEST, "it must be memory or a url that begins with redis");
}

enum err broker_check_url(const char *url, struct error *reterr)
{
    enum err e = check_scheme(url, reterr);
    return e != OK || is_memory(url) ? e : broker_redis_check_url(url, reterr);
}

struct broker *broker_create(struct loop *loop, const struct broker_config *cfg, const struct broker_events *events,
                             void *owner, struct error *reterr)
{
    if (check_scheme(cfg->url, reterr) != OK)
        return NULL;
    return is_memory(cfg->url) ? broker_memory_create(loop, cfg, events, owner)
                               : broker_redis_create(loop, cfg, events, owner, reterr);
}

void broker_destroy(struct broker **b)
{
    if (*b == NULL)
        return;
    (*b)->ops->destroy(*b);
    *b = NULL;
}

void broker_tag(char ret[TAG_LEN + 1])
{
    random_id(ret, TAG_LEN);
}

struct slice broker_once_key(const struct publish *p, char scratch[ONCE_SCRATCH])
{
    if (p->key.n != 0 || p->was.at.offset == 0)
        return p->key;
    (void)snprintf(scratch, ONCE_SCRATCH, "~%s", p->was.at.tag);
    return slice_str(scratch);
}

/* FNV-1a: every node must come to the same. */
uint32_t event_shard(struct slice session, uint32_t shards)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < session.n; i++)
        h = (h ^ (unsigned char)session.p[i]) * 16777619u;
    return h % shards;
}
