/* broker/redis/pubsub.h: the set of channels this node wants, kept subscribed, and what arrives on them.
 *
 * A channel once wanted stays wanted until it is unsubscribed, whatever happens to the links; after a loss the whole set is
 * subscribed again in batches. In a cluster there is a link to each primary, and a channel is subscribed (SSUBSCRIBE) at the one that has
 * its slot, wherever that moves. */
#ifndef XD_BROKER_REDIS_PUBSUB_H
#define XD_BROKER_REDIS_PUBSUB_H

#include "broker/redis/cluster.h"
#include "broker/redis/link.h"

struct pubsub;

/* A room's, the inbox of this node, what is told of a user, or somebody else's. */
enum channel_kind { CHANNEL_ROOM, CHANNEL_INBOX, CHANNEL_USER, CHANNEL_FOREIGN };

struct pubsub_events {
    /* Something arrived on a channel that is wanted. name: the room, or the user, or the channel. */
    void (*message)(void *owner, enum channel_kind kind, struct slice name, struct slice body);
    /* Every channel that was wanted when the link came up is confirmed; in a cluster: those of more than half of the slots, and of
     * every primary that can be reached. */
    void (*up)(void *owner);
    void (*down)(void *owner);
    /* In a cluster, while up: this was not subscribed for a while, and is again. Told of rooms and users only. */
    void (*resubscribed)(void *owner, enum channel_kind kind, struct slice name);
};

struct pubsub_config {
    struct redis_link_config link;
    const char *prefix; /* a room's channel is `<prefix>{<room>}` */
    const char *
        inbox_prefix; /* a node's inbox is `<inbox_prefix>{<node>}`; in a cluster, for each slot, `<inbox_prefix><node>:{<tag>}` */
    const char *user_prefix; /* what is told of a user has the channel `<user_prefix>{<user>}` */
    const char *node;
    uint32_t waiters_max;
    struct cluster *cluster; /* NULL: there is one Redis */
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
/* The same for what is told of a user. */
void pubsub_watch(struct pubsub *ps, struct slice user, broker_done *done, void *arg);
void pubsub_unwatch(struct pubsub *ps, struct slice user);

/* Somebody else's channel, by its name: in a cluster subscribed with SUBSCRIBE, at the primary that has its slot for no other reason than to spread them. */
void pubsub_hear(struct pubsub *ps, struct slice channel);
void pubsub_hear_no_more(struct pubsub *ps, struct slice channel);

/* Wants what others publish to this node itself, from the next connection on at the latest. Not in a cluster. */
void pubsub_open_inbox(struct pubsub *ps);
/* In a cluster a script can publish to channels of its keys' slot only: the inbox is a channel per slot. Wanted as often as it was asked
 * for; listen completes as pubsub_subscribe. */
void pubsub_listen(struct pubsub *ps, uint16_t slot, broker_done *done, void *arg);
void pubsub_listen_no_more(struct pubsub *ps, uint16_t slot);
/* What stands before and between the braces in the name of the channel of a slot. */
const char *pubsub_inbox_prefix(const struct pubsub *ps);
const char *pubsub_slot_tag(const struct pubsub *ps, uint16_t slot);
/* The cluster's slots or links have changed. */
void pubsub_rehome(struct pubsub *ps);

/* Connects anew, from the loop. */
void pubsub_drop(struct pubsub *ps, const char *why);
/* In a cluster: drops the links on which nothing was heard for so long, and tells how many. */
unsigned pubsub_drop_deaf(struct pubsub *ps, uint64_t ms, const char *why);
/* In a cluster: how many slots have a primary from which something was heard within this time. */
unsigned pubsub_slots_heard(const struct pubsub *ps, uint64_t ms);
bool pubsub_is_up(const struct pubsub *ps);
/* When (by the loop's clock) restoring the subscriptions last made progress. */
uint64_t pubsub_progress_ms(const struct pubsub *ps);

/* Walks the wanted rooms round and round: each call returns the next; SLICE_NONE for what is none, or when there is none. */
struct slice pubsub_next_room(struct pubsub *ps);
size_t pubsub_count(const struct pubsub *ps);

#endif
