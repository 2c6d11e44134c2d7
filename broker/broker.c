/* broker/broker.c: chooses a backend, and the little that all backends share. */
#include "broker/broker.h"

#include "base/random.h"
#include "broker/internal.h"

const uint32_t broker_rtt_bounds_us[11] = {100, 250, 500, 1000, 2500, 5000, 10000, 50000, 250000, 1000000, 5000000};

struct broker *broker_create(struct loop *loop, const struct broker_config *cfg, const struct broker_events *events,
                             void *owner, struct error *reterr)
{
    struct slice url = slice_str(cfg->url);
    if (slice_eq(url, SLICE("memory")))
        return broker_memory_create(loop, cfg, events, owner);
    if (slice_starts(url, SLICE("redis:")) || slice_starts(url, SLICE("rediss:")))
        return broker_redis_create(loop, cfg, events, owner, reterr);
    fail(reterr, ERR_BAD_REQUEST, "no such broker: it is memory or redis://[user:password@]host[:port][/db]");
    return NULL;
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
    unsigned char raw[TAG_LEN / 2];
    random_bytes(raw, sizeof raw);
    for (size_t i = 0; i < sizeof raw; i++) {
        ret[2 * i] = "0123456789abcdef"[raw[i] >> 4];
        ret[2 * i + 1] = "0123456789abcdef"[raw[i] & 15];
    }
    ret[TAG_LEN] = '\0';
}
