/* broker/redis/redis.h: the parts of the redis broker and what they know of each other. */
#ifndef XD_BROKER_REDIS_H
#define XD_BROKER_REDIS_H

#include "base/table.h"
#include "broker/internal.h"
#include "broker/redis/pubsub.h"
#include "broker/redis/scripts.h"

/* A room that nobody is in is remembered for a day, or for its retention. */
#define KEEP_MS (24ull * 3600 * 1000)

/* lease.c: this node's own life, and the death of others. */
struct lease {
    struct timer tick;
    uint64_t beat_due_ms, scan_due_ms, expelled_ms;
    uint64_t redis_ms, redis_at_ms; /* Redis' clock as last told, and when that was by ours */
    bool registered, being_reaped, retired;
    /* The probe: are we heard by ourselves? Times are by our own clock. */
    uint64_t probe_seq, probe_sent_us, heard_ms, baseline_ms;
    bool heard;
    struct link reaps; /* dead nodes being cleaned up after */
    size_t reap_count;
};

/* sessions.c: the sessions of this node, and what is still owed for those that ended while Redis could not be reached. */
struct sessions {
    struct local_session *table;
    struct link all;   /* rotated by the refresh */
    struct owed *owed; /* by session and room */
    struct link owed_list;
    size_t refresh_credit; /* sessions × milliseconds not spent yet */
};

struct redis {
    struct broker b;
    struct redis_url url;
    char *prefix, *node, *address, *version;
    char *session_prefix, *user_prefix, *node_prefix, *rooms_key, *nodes_key;
    uint32_t lease_ms, once_ttl_ms, session_ttl_ms;
    uint64_t started_ms;
    struct redis_link_config link_cfg;
    struct pubsub_config pubsub_cfg;
    struct redis_link *link;
    struct pubsub *pubsub;
    bool told_up, closing;
    struct link deferred; /* completions that need no Redis */
    struct task task;
    struct lease lease;
    struct sessions sessions;
};

static inline struct redis *redis_of(struct broker *b)
{
    return container_of(b, struct redis, b);
}

/* What the contexts of all calls begin with. */
struct call {
    struct redis *r;
    broker_done *done;
    void *arg;
};

/* calls.c: completing without Redis, and after several replies. */
void redis_complete_later(struct redis *r, broker_done *done, void *arg, enum err err, const char *why);
/* False when there was nothing. */
bool deferred_run(struct redis *r);

/* Several requests, one completion, after the last of them, with the first error. */
struct gather {
    struct call call;
    unsigned left, flags; /* flags: of the requests; REQUEST_REPEATABLE unless changed */
    enum err err;
    char why[160];
};
struct gather *gather_new(struct redis *r, broker_done *done, void *arg);
/* Sends a; its reply counts. */
void gather_send(struct gather *g, struct args *a);
/* For other calls that count: hold before the call, gather_release (with g) as its completion. */
void gather_hold(struct gather *g);
void gather_release(void *g, const struct broker_result *result);
/* To be called once, when everything has been sent. */
void gather_close(struct gather *g);

/* rooms.c */
void redis_publish(struct broker *b, const struct publish *p, broker_done *done, void *arg);
void redis_join(struct broker *b, struct slice room, struct slice sid, struct slice user, broker_done *done, void *arg);
void redis_leave(struct broker *b, struct slice room, struct slice sid, struct slice user, enum exit_reason reason,
                 broker_done *done, void *arg);
struct member_id {
    struct slice room, sid, user, node;
};
/* Takes a member that came through the given node out of the room. */
void redis_leave_as(struct redis *r, const struct member_id *id, enum exit_reason reason, broker_done *done, void *arg);

/* read.c */
void redis_presence(struct broker *b, struct slice room, struct slice cursor, uint32_t limit, broker_done *done,
                    void *arg);
void redis_rooms(struct broker *b, struct slice cursor, uint32_t limit, broker_done *done, void *arg);
void redis_history(struct broker *b, struct slice room, const struct position *after, uint32_t limit, broker_done *done,
                   void *arg);

/* sessions.c */
void sessions_init(struct redis *r);
void sessions_fini(struct redis *r);
/* To be called every tick while the link is up: renews some sessions' time to live, pays what is owed. */
void sessions_tick(struct redis *r, uint64_t elapsed_ms);
size_t sessions_count(const struct redis *r);
void redis_session_put(struct broker *b, const struct session_record *s, broker_done *done, void *arg);
void redis_session_remove(struct broker *b, struct slice sid, struct slice user, broker_done *done, void *arg);
/* A leave failed: it will be done when Redis is back, unless the session joins again. */
void sessions_owe(struct redis *r, struct slice sid, struct slice room, struct slice user, enum exit_reason reason);
void sessions_owe_no_more(struct redis *r, struct slice sid, struct slice room);

struct clearing {
    struct slice node, sid, user;
    const char *set; /* after the node in the name of the set that names this session: ":sessions" or ":lost" */
    enum exit_reason reason;
    bool *
        missing; /* when not NULL: set when there is no hash that names the session's rooms; its name then stays in the set */
};
/* Takes the session out of every room it is still in, removes it, and then its name from the set. */
void session_clear(struct redis *r, const struct clearing *what, broker_done *done, void *arg);

/* lease.c */
void lease_init(struct redis *r);
void lease_fini(struct redis *r);
/* Both links are there. */
void lease_up(struct redis *r);
void lease_heard(struct redis *r, const struct envelope *probe);
/* Sessions of this node have vanished from the store: the owner is asked to put them again, at most once per lease. */
void lease_expelled(struct redis *r, const char *why);
const char *redis_not_ready(struct broker *b);
void redis_retire(struct broker *b, broker_done *done, void *arg);

/* reap.c */
void reap_start(struct redis *r, struct slice node);

/* replies.c: replies to plain values. Redis is shared: what others wrote there under our names must do no harm. */
bool reply_position(const redisReply *r, size_t at, struct position *ret);
/* A number, as integer or as digits; false otherwise. */
bool reply_u64(const redisReply *r, uint64_t *ret);
/* Bytes of a string, SLICE_NONE for anything else. */
struct slice reply_slice(const redisReply *r);
/* The at-th element, or NULL. */
const redisReply *reply_at(const redisReply *r, size_t at);
/* `node since state user` */
bool member_parse(struct slice sid, struct slice value, struct member_record *ret);
/* An entry of a log; false when it is not one of ours. */
bool message_parse(const redisReply *entry, struct message_record *ret);

#endif
