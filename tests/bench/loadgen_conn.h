/* loadgen_conn.h: one WebSocket client: connect, TLS, upgrade, enter the room, count what arrives.
 *
 * Parses no more of a message than the stamp in its payload. News goes up through conn_events. */
#ifndef XD_BENCH_CONN_H
#define XD_BENCH_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loadgen_options.h"
#include "loadgen_tls.h"

/* A payload starts with "XB1:", 16 hex digits of time (ns), 8 hex digits of sequence; then filler up to --size. */
#define STAMP_MARK  "XB1:"
#define STAMP_SIZE  28
#define MAX_PAYLOAD 16384

enum conn_state { CONN_CLOSED, CONN_CONNECTING, CONN_TLS, CONN_UPGRADING, CONN_ENTERING, CONN_OPEN };

struct conn {
    struct stream stream;
    enum conn_state state;
    uint32_t index, room;
    uint64_t received;
    uint64_t order;         /* digest of the sequence of messages: equal for all members of a room */
    uint8_t *part, *unsent; /* incomplete frame received; bytes the socket did not take */
    size_t part_len, part_cap, unsent_len, unsent_cap;
    bool wants_write;
};

struct conn_events {
    void (*opened)(void *owner, struct conn *c);
    void (*message)(void *owner, struct conn *c, uint64_t sent_ns);
    /* Last event of c, which is closed already. reason is borrowed until return. */
    void (*failed)(void *owner, struct conn *c, const char *reason);
};

/* What all connections share. */
struct conn_env {
    const struct options *options;
    const struct conn_events *events;
    void *owner;
    struct ssl_ctx_st *tls; /* NULL: plain ws */
    int epoll;
    uint8_t *rx;           /* one read, and in front of it the rest of the last one */
    uint8_t *tx;           /* one frame being built */
    size_t stamp_from_end; /* where the last stamp was: all messages of a run look alike */
    uint64_t bytes_in;
    uint32_t mask;
    char reason[256];
};

bool conn_env_init(struct conn_env *env, const struct options *o, const struct conn_events *events, void *owner);
void conn_env_fini(struct conn_env *env);

/* Starts connecting; everything else, failure included, comes as an event. */
void conn_open(struct conn_env *env, struct conn *c, uint32_t index, uint32_t room);
/* Idempotent, legal inside any event; no event follows. Does not free c's memory, which epoll may still mention. */
void conn_close(struct conn *c);
void conn_fini(struct conn *c);
/* To be called with what epoll reported for c. */
void conn_ready(struct conn_env *env, struct conn *c, uint32_t epoll_events);
/* Publishes a stamped message to c's room. False when c failed (after the event). */
bool conn_publish(struct conn_env *env, struct conn *c, uint64_t stamp_ns, uint32_t sequence);

#endif
