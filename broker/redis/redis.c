/* broker/redis/redis.c: the broker that joins nodes through Redis. */
#include "broker/internal.h"

struct broker *broker_redis_create(struct loop *loop, const struct broker_config *cfg,
                                   const struct broker_events *events, void *owner, struct error *reterr)
{
    (void)loop;
    (void)cfg;
    (void)events;
    (void)owner;
    fail(reterr, ERR_UNSUPPORTED, "the redis broker is not built yet");
    return NULL;
}
