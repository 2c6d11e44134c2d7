/* broker/redis/link_private.h: what link.c (requests) and connect.c (connections) share. */
#ifndef XD_BROKER_REDIS_LINK_PRIVATE_H
#define XD_BROKER_REDIS_LINK_PRIVATE_H

#include "base/list.h"
#include "base/resolve.h"
#include "broker/redis/link.h"
#include "broker/redis/sentinel.h"
#include "broker/redis/wire.h"

/* ASKING: the sentinels. */
enum link_state { LINK_WAITING, LINK_ASKING, LINK_RESOLVING, LINK_CONNECTING, LINK_SETUP, LINK_UP };

struct request {
    struct link link;
    uint64_t due_ms;
    redis_done *done;
    void *arg;
    unsigned flags;
    bool retried; /* once, after NOSCRIPT */
    bool setup;
    char *bytes;
    size_t n;
    /* Of a cluster's requests. */
    uint16_t slot;
    bool asking;        /* to be preceded by ASKING */
    uint32_t redirects; /* how often it was refused */
    uint64_t number;    /* the later asked for, the higher */
    uint64_t sent;      /* the later sent on its link, the higher */
    const char *why;    /* it was given up, and is about to be told so */
};

struct redis_link {
    const struct redis_link_config *cfg;
    const struct redis_link_events *events;
    void *owner;
    struct loop *loop;
    struct broker_stats *stats;
    enum link_state state;
    struct wire *wire; /* NULL while waiting, asking or resolving */
    struct io io;
    struct timer connect_timer; /* the next attempt; while connecting, its end */
    struct timer request_timer;
    bool request_timer_set;
    struct task task;
    struct link queue, sent, refused;
    struct redis_backlog own, *backlog; /* queue and sent; backlog may be &own */
    uint64_t sent_count;
    size_t setup_left;
    uint32_t failures;         /* attempts since it was up for a while */
    bool was_down;             /* it could not be reached, or was lost, and that was logged */
    char told[48];             /* the reason logged last, or its beginning */
    uint64_t up_ms;            /* when it came up */
    struct resolver *resolver; /* NULL when the host is an address already */
    struct named_host to;      /* where the present connection goes, or the last one */
    struct sentinel_listener listener;
    char drop_why[128]; /* not empty: to be given up at the next chance */
};

/* link.c */
/* Takes the command. Not counted, and on no list. */
struct request *request_new(const struct redis_link_config *cfg, struct loop *loop, struct command *c, unsigned flags,
                            redis_done *done, void *arg);
/* What a connection needs to begin does not count. */
void backlog_add(struct redis_backlog *b, struct broker_stats *stats, const struct request *q);
void backlog_sub(struct redis_backlog *b, struct broker_stats *stats, const struct request *q);
/* q is off every list and not counted. */
void request_complete(struct request *q, const redisReply *r, enum err err, const char *why);
bool request_fits(const struct redis_link_config *cfg, const struct redis_backlog *backlog, const struct request *q);
/* Puts a request that is counted into the queue. */
void link_take(struct redis_link *l, struct request *q);
/* Whether everything that was sent up to this number has been answered. */
bool link_has_passed(const struct redis_link *l, uint64_t sent);
bool link_is_idle(const struct redis_link *l);
void request_waits(struct redis_link *l, const struct request *q);
/* Takes q off its list and completes it with an error. */
void request_finish(struct redis_link *l, struct request *q, enum err err, const char *why);
void link_io(struct io *io, int events);
void link_flush(struct redis_link *l);

/* connect.c */
void link_connect_start(struct redis_link *l);
void link_connect_stop(struct redis_link *l);
/* The socket is ready for the next step of connecting. */
void link_connected(struct redis_link *l);
/* Gives the connection up and plans the next: what may be repeated waits for it, the rest completes with an error. */
void link_lose(struct redis_link *l, const char *why);
void link_load_scripts(struct redis_link *l, redis_done *done);
/* ASKING, for the command that is sent next. */
void link_ask(struct redis_link *l);

#endif
