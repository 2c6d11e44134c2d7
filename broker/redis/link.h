/* broker/redis/link.h: one pipelined connection to Redis that comes back by itself.
 *
 * Requests are answered in the order they were sent. While the link is down they wait in a bounded queue. When it is lost,
 * requests that were not sent yet, and sent ones that may be repeated, go out again on the next connection if they still have time;
 * what was sent and must not be repeated completes with ERR_UNAVAILABLE. Completions come from the loop only.
 * OpenSSL writes without MSG_NOSIGNAL: the process must ignore SIGPIPE. */
#ifndef XD_BROKER_REDIS_LINK_H
#define XD_BROKER_REDIS_LINK_H

#include <hiredis/hiredis.h>

#include "base/loop.h"
#include "base/tls_client.h"
#include "broker/broker.h"
#include "broker/redis/args.h"
#include "broker/redis/url.h"

struct redis_link;
struct sentinel;
struct request;

struct redis_script {
    const char *text, *sha1;
};

/* A command put together but not sent yet. */
struct command {
    char *bytes; /* for redisFreeCommand */
    size_t n;
    uint16_t slot; /* in a cluster */
};

/* What waits or is unanswered, of one link or of several together. */
struct redis_backlog {
    size_t bytes, count;
};

/* All borrowed while the link lives. */
struct redis_link_config {
    const char *name; /* for logs and CLIENT SETNAME */
    const struct redis_url *url;
    const struct tls_client *tls;         /* of the url; NULL: plain */
    const struct redis_host *host;        /* where to, with the url's credentials; NULL: where the url says */
    struct sentinel *sentinel;            /* not NULL: to the primary that it names, instead */
    uint32_t timeout_ms;                  /* of one request, and of connecting */
    uint32_t queue_bytes, queue_commands; /* bound of what waits or is unanswered; 0: no bound */
    struct redis_backlog *backlog;        /* what counts for it; NULL: this link alone */
    const struct redis_script *scripts;   /* loaded on every connection, and again when Redis has forgotten them */
    size_t script_count;
    bool read_replicas; /* of a cluster: replicas are to be read from as well */
    bool readonly;      /* it is a replica of a cluster, and is asked as one */
    bool quiet;         /* to fail is nothing to be logged */
};

struct redis_link_events {
    void (*up)(void *owner);
    void (*down)(void *owner);
    /* A reply, before it is taken for the answer to the oldest request; true: it is no answer but a message or a confirmation, and has been
     * taken. NULL when there is no such thing. */
    bool (*push)(void *owner, const redisReply *r);
    /* For links of a cluster, all NULL elsewhere; requests are handed over in the order in which they were sent (link_private.h).
     * failed: an attempt to connect failed. refused: an error reply; true when the request was taken. answered: the request is about to
     * complete with a reply. stranded: the connection is gone, the request may be done on another one, and is taken. */
    void (*failed)(void *owner);
    bool (*refused)(void *owner, struct request *q, const redisReply *error);
    void (*answered)(void *owner, const struct request *q);
    void (*stranded)(void *owner, struct request *q);
};

/* REPEATABLE: doing it twice is as good as once. UNANSWERED: answered by pushes only. UNBOUNDED: never refused for a full queue. BORROWED: the bytes
 * stay the caller's and as they are until the completion. QUIET: an error reply is the asker's business alone. TELLS: a script that publishes: in a
 * cluster such requests of one slot never overtake each other, and none is done where nobody listens. */
enum {
    REQUEST_REPEATABLE = 1,
    REQUEST_UNANSWERED = 2,
    REQUEST_UNBOUNDED = 4,
    REQUEST_BORROWED = 8,
    REQUEST_QUIET = 16,
    REQUEST_TELLS = 32
};

/* r is the reply, an error reply (err set, why its text), or NULL (err says why). Borrowed until return. */
typedef void redis_done(void *arg, const redisReply *r, enum err err, const char *why);

/* Starts connecting at once. */
struct redis_link *redis_link_create(struct loop *loop, const struct redis_link_config *cfg,
                                     const struct redis_link_events *events, void *owner, struct broker_stats *stats);
/* Disconnects for good and completes everything with ERR_UNAVAILABLE; false when there was nothing. What completions send meanwhile needs
 * another call. Not from within a completion or event. */
bool redis_link_close(struct redis_link *l);
/* After redis_link_close. NULL-safe, clears the pointer. */
void redis_link_destroy(struct redis_link **l);

/* Takes the arguments: a is finished. done may be NULL. */
void redis_link_send(struct redis_link *l, struct args *a, unsigned flags, redis_done *done, void *arg);
/* The same with what args_format made, which is taken (but see BORROWED). */
void redis_link_send_bytes(struct redis_link *l, char *bytes, size_t n, unsigned flags, redis_done *done, void *arg);
/* A command's bytes, for redisFreeCommand; a is finished. */
char *args_format(struct args *a, size_t *ret_n);
/* Gives this connection up and makes a new one, from the loop. */
void redis_link_drop(struct redis_link *l, const char *why);
bool redis_link_is_up(const struct redis_link *l);

#endif
