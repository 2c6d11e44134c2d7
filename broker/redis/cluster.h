/* broker/redis/cluster.h: the primaries of a Redis Cluster, a link to each, and the way of a request to the one that has its slot.
 *
 * Requests of one slot are sent in the order in which they were asked for. One that is refused (MOVED, TRYAGAIN…) holds back the later ones
 * of its slot until it goes again; it goes again only after everything that was sent behind it has been answered. Should a later one of its
 * slot have been done meanwhile, and both tell something to the slot's rooms, it is given up: the order is never changed silently. */
#ifndef XD_BROKER_REDIS_CLUSTER_H
#define XD_BROKER_REDIS_CLUSTER_H

#include "broker/redis/durable.h"
#include "broker/redis/link.h"
#include "broker/redis/replica.h"
#include "broker/redis/slots.h"

struct cluster;

/* A primary, as this node sees it. */
struct shard {
    struct link all;
    struct cluster *cluster;
    uint32_t id; /* never used again */
    struct redis_host host;
    struct redis_link_config cfg;
    struct redis_link *link;
    struct durables durables;
    struct replica *replica; /* that is read from, NULL: none */
    uint64_t up_ms;          /* when the link last came up, 0 while it is down */
    unsigned slots;          /* so many are its own */
    uint16_t first;          /* one of them */
    bool stale;              /* its link is to be given up: another one has all that it had */
};

struct cluster_events {
    void (*changed)(void *owner); /* links have come up or gone down, slots have moved; told from the loop */
};

/* As redis_link_create, redis_link_close, redis_link_destroy. cfg is borrowed while it lives. */
struct cluster *cluster_create(struct loop *loop, const struct redis_link_config *cfg,
                               const struct cluster_events *events, void *owner, struct broker_stats *stats);
bool cluster_close(struct cluster *c);
void cluster_destroy(struct cluster **cluster);

/* Takes a request_new() with its slot. */
void cluster_send(struct cluster *c, struct request *q);

/* More than half of all slots can be reached, and the others were tried. */
bool cluster_is_up(const struct cluster *c);
/* For how long the slot's primary has been reachable, ms; 0 while it is not. */
uint64_t cluster_up_for(const struct cluster *c, uint16_t slot);
/* NULL while nobody is known to have the slot. Valid until the next turn of the loop. */
const struct shard *cluster_owner(const struct cluster *c, uint16_t slot);
/* For publishes that replicas of this slot's primary shall confirm; NULL while nobody is known to have it. */
struct durables *cluster_durables(struct cluster *c, uint16_t slot);
/* The shards with slots: calls each for all of them. */
void cluster_each(const struct cluster *c, void (*each)(void *arg, const struct shard *s), void *arg);
/* As topology_problem. */
const char *cluster_problem(const struct cluster *c);
/* The primary with this id has said that a slot has moved. */
void cluster_moved(struct cluster *c, uint32_t shard, const struct redirect *r);
/* Somebody else has noticed that the map may be wrong. */
void cluster_doubt(struct cluster *c);

#endif
