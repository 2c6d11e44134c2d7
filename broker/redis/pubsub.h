/* broker/redis/pubsub.h: the subscriber's link: the set of channels this node wants, kept subscribed, and what arrives on them.
 *
 * A channel once wanted stays wanted until it is unsubscribed, whatever happens to the link; after a loss the whole set is
 * subscribed again in batches. */
#ifndef XD_BROKER_REDIS_PUBSUB_H
#define XD_BROKER_REDIS_PUBSUB_H

#include "broker/redis/link.h"

struct pubsub;

struct pubsub_events {
    /* Something arrived on a channel that is wanted: the room's, or the inbox of this node. */
    void (*message)(void *owner, bool inbox, struct slice room, struct slice body);
    void (*up)(void *owner); /* every channel that was wanted when the link came up is confirmed */
    void (*down)(void *owner);
};

struct pubsub_config {
    struct redis_link_config link;
    const char *prefix;       /* a room's channel is `<prefix>{<room>}` */
    const char *inbox_prefix; /* a node's inbox is `<inbox_prefix>{<node>}` */
    const char *node;
    uint32_t waiters_max;
};

/* cfg is borrowed while it lives. */
struct pubsub *pubsub_create(struct loop *loop, const struct pubsub_config *cfg, const struct pubsub_events *events,
                             void *owner, struct broker_stats *stats);
/* As redis_link_close and redis_link_destroy. */
bool pubsub_close(struct pubsub *ps);
void pubsub_destroy(struct pubsub **pubsub);

/* Completes when Redis has confirmed it; done may be NULL. */
void pubsub_subscribe(struct pubsub *ps, struct slice room, broker_done *done, void *arg);
void pubsub_unsubscribe(struct pubsub *ps, struct slice room);

/* Wants what others publish to this node itself, from the next connection on at the latest. */
void pubsub_open_inbox(struct pubsub *ps);

/* Connects anew, from the loop. */
void pubsub_drop(struct pubsub *ps, const char *why);
bool pubsub_is_up(const struct pubsub *ps);
/* When (by the loop's clock) restoring the subscriptions last made progress. */
uint64_t pubsub_progress_ms(const struct pubsub *ps);

/* Walks the wanted rooms round and round: each call returns the next; SLICE_NONE for the inbox, or when there is none. */
struct slice pubsub_next_room(struct pubsub *ps);
size_t pubsub_count(const struct pubsub *ps);

#endif
