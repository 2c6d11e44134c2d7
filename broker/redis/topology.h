/* broker/redis/topology.h: who has which slots, asked of the cluster's nodes in turn: now and then, and whenever there is reason to doubt. */
#ifndef XD_BROKER_REDIS_TOPOLOGY_H
#define XD_BROKER_REDIS_TOPOLOGY_H

#include "broker/redis/link.h"
#include "broker/redis/slots.h"

struct topology;

/* map is borrowed until return. */
typedef void topology_found(void *owner, const struct slot_map *map);

/* Asks at once: the hosts of cfg's url first. cfg is borrowed while it lives. */
struct topology *topology_create(struct loop *loop, const struct redis_link_config *cfg, topology_found *found,
                                 void *owner, struct broker_stats *stats);
/* NULL-safe, clears the pointer. Not from within a completion or event. */
void topology_destroy(struct topology **topology);

/* There is reason to doubt: asks soon, however often it is called. NULL-safe. */
void topology_doubt(struct topology *t);
/* Why this cluster cannot be used, once that is known; else NULL. */
const char *topology_problem(const struct topology *t);

#endif
