/* broker/redis/watcher.h: one sentinel: asked for the primary now and then, and subscribed to, so that it tells of a failover by itself.
 *
 * Two links, because who subscribes may ask nothing else. */
#ifndef XD_BROKER_REDIS_WATCHER_H
#define XD_BROKER_REDIS_WATCHER_H

#include "broker/redis/link.h"

#define WATCHER_HOST_MAX 256
#define WATCHER_ID_MAX   64
#define WATCHER_REPLICAS 16 /* of which one is chosen */

struct watcher;

/* A server as a sentinel names it. */
struct named_host {
    char host[WATCHER_HOST_MAX];
    int port;
};

struct watcher_answer {
    bool known;     /* it knows a primary of that name */
    uint64_t ms;    /* when it said so, by the loop's clock; 0: never */
    uint64_t epoch; /* of its configuration: grows with every failover */
    struct named_host primary;
};

struct watcher_events {
    void (*answered)(void *owner, const struct watcher_answer *answer);
    /* Replicas of that primary which it thinks are in order. */
    void (*replicas)(void *owner, const struct named_host *primary, const struct named_host *hosts, size_t n);
    /* It knows of another sentinel; id may be empty. Not to be answered by creating or destroying watchers. */
    void (*peer)(void *owner, const struct named_host *host, struct slice id);
};

/* Borrowed while the watcher lives. */
struct watcher_config {
    const char *name;            /* for logs and CLIENT SETNAME */
    const char *service;         /* the primary's name */
    const struct redis_url *url; /* credentials of the sentinels */
    const struct tls_client *tls;
    uint32_t timeout_ms;
    const struct watcher_events *events;
    void *owner;
};

/* host is copied. */
struct watcher *watcher_create(struct loop *loop, const struct watcher_config *cfg, const char *host, int port,
                               struct broker_stats *stats);
/* Not from within one of its events. NULL-safe, clears the pointer. */
void watcher_destroy(struct watcher **w);

/* Asks, when it can be reached: for the primary; for the other sentinels; for the replicas. */
void watcher_ask(struct watcher *w);
void watcher_ask_peers(struct watcher *w);
void watcher_ask_replicas(struct watcher *w);

bool watcher_is_up(const struct watcher *w);
bool watcher_is_at(const struct watcher *w, const char *host, int port);
/* Its own id; empty while it has not said it. */
const char *watcher_id(const struct watcher *w);
/* The last answer. */
const struct watcher_answer *watcher_answer(const struct watcher *w);

/* A server's address from two replies; false when they are none. */
bool named_host_set(struct named_host *ret, const redisReply *host, const redisReply *port);

#endif
