/* broker/redis/replica.h: a connection to one replica of the primary, for reads that may lag behind.
 *
 * The replica is the one that the url names, or one of those that Sentinel thinks are in order or that the cluster has listed, chosen at random; another one when
 * it can be reached no longer or is no replica any more. Every second it is asked whether it still follows its primary. */
#ifndef XD_BROKER_REDIS_REPLICA_H
#define XD_BROKER_REDIS_REPLICA_H

#include "broker/redis/link.h"
#include "broker/redis/slots.h"

struct replica;

/* cfg, of the links to the primary, is copied; what it points to is borrowed. NULL, with a warning, when the url names no
 * replica. Not in a Redis Cluster. */
struct replica *replica_create(struct loop *loop, const struct redis_link_config *cfg, struct broker_stats *stats);
/* For one primary of a Redis Cluster, whose replicas are those that were offered last. */
struct replica *replica_create_in_cluster(struct loop *loop, const struct redis_link_config *cfg,
                                          struct broker_stats *stats);
void replica_offer(struct replica *r, const struct slot_map *map, size_t primary);
/* As redis_link_close and redis_link_destroy, but NULL-safe. */
bool replica_close(struct replica *r);
void replica_destroy(struct replica **r);

/* It can be reached and follows its primary, as far as is known. NULL-safe. */
bool replica_is_ready(const struct replica *r);
/* As redis_link_send, only while it is ready. Completes with an error after a fraction of the timeout, so that there is time to ask the primary. Never
 * sent twice. */
void replica_send(struct replica *r, struct args *a, redis_done *done, void *arg);

#endif
