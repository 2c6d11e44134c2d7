/* broker/redis/sentinel.h: which Redis is the primary, according to the sentinels of the url and those that they know.
 *
 * All of them are asked every second, and tell of a failover at once. The answer with the highest epoch counts: a sentinel that was cut off
 * together with an old primary is overruled as soon as any other can be reached. Rules of clients:
 * https://redis.io/docs/latest/develop/reference/sentinel-clients/ */
#ifndef XD_BROKER_REDIS_SENTINEL_H
#define XD_BROKER_REDIS_SENTINEL_H

#include "broker/redis/watcher.h"

struct sentinel;

/* Whoever wants to be where the primary is. Embedded in its owner. */
struct sentinel_listener {
    struct link link;
    /* A primary was named: after sentinel_ask, or because it is another one now. */
    void (*named)(struct sentinel_listener *l);
};

struct sentinel_config {
    const char *node;            /* for logs and CLIENT SETNAME; copied */
    const struct redis_url *url; /* borrowed, as is tls */
    const struct tls_client *tls;
    uint32_t timeout_ms;
};

/* Starts asking at once. stats gets the failovers. */
struct sentinel *sentinel_create(struct loop *loop, const struct sentinel_config *cfg, struct broker_stats *stats);
/* When nobody listens any more. NULL-safe, clears the pointer. */
void sentinel_destroy(struct sentinel **s);

void sentinel_listen(struct sentinel *s, struct sentinel_listener *l);
void sentinel_forget(struct sentinel_listener *l);
/* Asks all sentinels now; `named` follows, from the loop: when more than half of them have answered, or a moment after the first answer. When none answers and
 * a primary was known, that one is named. */
void sentinel_ask(struct sentinel *s);

/* NULL while none is known. Borrowed, for a moment. */
const struct named_host *sentinel_primary(const struct sentinel *s);
/* The primary's replicas that are in order, as the sentinel said that answered last. Borrowed, for a moment. */
const struct named_host *sentinel_replicas(const struct sentinel *s, size_t *ret_n);
/* Asks all sentinels for them. */
void sentinel_ask_replicas(struct sentinel *s);
/* Why no primary is known. */
const char *sentinel_trouble(const struct sentinel *s);

#endif
