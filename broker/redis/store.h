/* broker/redis/store.h: where commands go.
 *
 * As a link (broker/redis/link.h), but a command's place is found by its key: the second argument, or for EVALSHA the first key.
 * Commands whose keys have the same hash tag are done in the order in which they were sent. */
#ifndef XD_BROKER_REDIS_STORE_H
#define XD_BROKER_REDIS_STORE_H

#include "broker/redis/cluster.h"
#include "broker/redis/durable.h"
#include "broker/redis/link.h"

struct redis_store;

struct store_events {
    void (*up)(void *owner);
    void (*down)(void *owner);
    void (*changed)(void *owner); /* in a cluster: as its own */
};

/* Starts connecting at once. cfg is borrowed while it lives. */
struct redis_store *store_create(struct loop *loop, const struct redis_link_config *cfg,
                                 const struct store_events *events, void *owner, struct broker_stats *stats);
/* As redis_link_close and redis_link_destroy. */
bool store_close(struct redis_store *s);
void store_destroy(struct redis_store **store);

/* As redis_link_send. */
void store_send(struct redis_store *s, struct args *a, unsigned flags, redis_done *done, void *arg);
/* The same in two steps: store_prepare finishes a, store_send_prepared takes the command. */
struct command store_prepare(struct redis_store *s, struct args *a);
void store_send_prepared(struct redis_store *s, struct command *c, unsigned flags, redis_done *done, void *arg);

/* The same for a publish that so many replicas shall confirm (broker/redis/durable.h), over a connection of its own: it keeps no order with the others.
 * NULL, or why not: j was not begun then. In a cluster it is not sent again when its slot has moved: it ends with ERR_UNAVAILABLE. */
const char *store_send_durable(struct redis_store *s, struct command *c, uint32_t replicas, struct durable_job *j);

/* In a cluster: enough of it is. */
bool store_is_up(const struct redis_store *s);
/* NULL where there is one Redis. */
struct cluster *store_cluster(const struct redis_store *s);

#endif
