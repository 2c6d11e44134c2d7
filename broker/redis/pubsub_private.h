/* broker/redis/pubsub_private.h: what pubsub.c (what is wanted, who waits for it) and feed.c (links and confirmations) share. */
#ifndef XD_BROKER_REDIS_PUBSUB_PRIVATE_H
#define XD_BROKER_REDIS_PUBSUB_PRIVATE_H

#include "base/list.h"
#include "base/table.h"
#include "broker/internal.h"
#include "broker/redis/pubsub.h"

/* One subscriber's link: there is one, or in a cluster one for each primary. */
struct feed {
    struct link all;
    struct pubsub *ps;
    uint32_t shard; /* its id; 0 without a cluster */
    struct redis_host host;
    struct redis_link_config cfg;
    struct redis_link *link;
    struct link pending; /* channels for which a SUBSCRIBE must be sent */
    struct link calls;   /* in a cluster: SSUBSCRIBE and SUNSUBSCRIBE on the way */
    size_t restoring;    /* channels wanted when the link came up, and not confirmed since */
    unsigned slots;
    int probed;           /* the slot through which we hear ourselves, -1: none */
    uint64_t progress_ms; /* of restoring: the link came up, or another confirmation arrived */
    uint64_t heard_ms;
};

/* Stays in the table while it is wanted or while confirmations for it are under way. */
struct channel {
    UT_hash_handle hh;   /* by name */
    struct link all;     /* ps->all, while wanted; rotated by pubsub_next_room */
    struct link pending; /* its feed's pending */
    struct link waiters;
    struct feed *feed;    /* where it is to be subscribed; NULL: nobody has its slot */
    uint32_t unconfirmed; /* SUBSCRIBEs sent and not confirmed: only the last one counts */
    uint32_t serial;      /* of the last one */
    uint16_t slot;
    enum channel_kind kind;
    bool wanted, confirmed;
    bool restoring; /* counted in feed->restoring: was wanted when the link came up */
    bool gap;       /* it was confirmed once, and then not any more: something may have been missed */
    size_t name_n;
    struct slice room; /* the end of name, before encoding; part of bytes */
    char bytes[];
};

struct pubsub {
    const struct pubsub_config *cfg;
    const struct pubsub_events *events;
    void *owner;
    struct loop *loop;
    struct broker_stats *stats;
    struct cluster *cluster;
    struct link feeds;
    struct channel *channels;
    struct link all;
    struct link waiters, ready; /* ready: their channel is confirmed, or refused; told from the task */
    size_t waiter_count, wanted_count;
    struct timer timer; /* for the oldest waiter */
    struct timer retry; /* of subscriptions that were refused */
    bool timer_set, up, closing;
    struct task task;
    /* In a cluster, for each slot: how often its inbox is wanted, and the tag in its name. */
    uint32_t *inbox_refs;
    char (*tags)[SLOT_TAG_LEN + 1];
    char *inbox_prefix;
};

/* pubsub.c */
struct channel *channel_find(struct pubsub *ps, struct slice name);
void channel_release(struct pubsub *ps, struct channel *c);
void channel_confirmed(struct pubsub *ps, struct channel *c);

/* feed.c */
struct feed *feed_create(struct pubsub *ps, const struct shard *s);
/* After its link was closed. */
void feed_free(struct feed *f);
/* Where this slot's channels belong, NULL: nowhere. */
struct feed *feed_of(struct pubsub *ps, uint16_t slot);
/* Sends the SUBSCRIBEs that are pending, if the link is up. */
void feed_send(struct feed *f);
/* A channel of this feed, not pending any more: it is not to be subscribed. */
void feed_unsubscribe(struct feed *f, struct channel *c);
/* The channel belongs to this feed from now on (NULL: nowhere), and is subscribed there if it is wanted. */
void feed_adopt(struct feed *f, struct channel *c);
void feed_restored(struct channel *c);
/* Every channel of every link that is up is confirmed, and that is enough. */
bool feeds_ready(const struct pubsub *ps);
/* Makes feeds for new primaries, gives up those of primaries that are none any more. */
void feeds_update(struct pubsub *ps);

#endif
