/* broker/redis/redis.h: the parts of the redis broker and what they know of each other. */
#ifndef XD_BROKER_REDIS_H
#define XD_BROKER_REDIS_H

#include "base/table.h"
#include "broker/internal.h"
#include "broker/redis/pubsub.h"
#include "broker/redis/replica.h"
#include "broker/redis/scripts.h"
#include "broker/redis/sentinel.h"
#include "broker/redis/store.h"

/* A room that nobody is in is remembered for a day, or for its retention. */
#define KEEP_MS (24ull * 3600 * 1000)

/* lease.c: this node's own life, and the death of others. */
struct lease {
    struct timer tick;
    uint64_t beat_due_ms, scan_due_ms, expelled_ms;
    uint64_t anew; /* not 0: Redis says since then that the sessions are gone, and they are being put again */
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
    uint32_t window_ms;    /* the longest that any of them may be parked */
    uint64_t last_serial;
};

/* strangers.c */
struct stranger_set {
    struct stranger *table;
    struct link by_age;
};

struct strangers {
    struct stranger_set seen;  /* in the set of this node's sessions, but not here */
    struct stranger_set ended; /* by this node, not long ago */
    uint64_t due_ms, cursor;
    bool scanning, busy; /* busy: a page is under way */
};

/* park.c: what is being ended of what was parked. */
struct expiry {
    bool busy; /* a page of them is under way */
    size_t page;
    uint64_t due_ms;
};

struct event_limits {
    uint32_t shards; /* 0: events are off; of commands: 1, or off */
    uint32_t count;
    uint64_t age_ms;
};

struct redis {
    struct broker b;
    struct redis_url url;
    struct tls_client *tls;    /* NULL: plain */
    struct sentinel *sentinel; /* NULL without Sentinel */
    char *prefix, *node, *address, *version;
    char *channel_prefix;      /* pub/sub knows no databases: other than 0 they have their number in it */
    char *user_channel_prefix; /* of what is told of users */
    char *session_prefix, *user_prefix, *node_prefix, *rooms_key, *nodes_key, *parked_key;
    char *ban_prefix, *bans_key, *revoked_user_prefix, *revoked_token_prefix, *limit_prefix, *wechat_prefix,
        *tunnel_prefix, *polling_prefix;
    uint32_t lease_ms, once_ttl_ms, session_ttl_ms;
    uint64_t user_keep_ms, started_ms;
    struct redis_link_config link_cfg;
    struct pubsub_config pubsub_cfg;
    struct redis_store *store;
    struct cluster *cluster; /* the store's; NULL: there is one Redis */
    struct pubsub *pubsub;
    struct replica *replica; /* NULL: everything is read from the primary */
    uint32_t store_changes;  /* how often a link to it was lost or made, or the cluster's primaries became others */
    bool told_up, closing;
    struct turns *turns;  /* turns.c */
    struct link deferred; /* completions that need no Redis */
    struct link replies;  /* to other nodes, not heard yet */
    struct task task;
    struct lease lease;
    struct sessions sessions;
    struct expiry expiry;
    struct event_limits events, commands;
    struct strangers strangers;
    struct follow *follow; /* NULL: no stream is followed */
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

/* Begins a call of the script; its keys, then its other arguments follow. */
static inline void script_args(struct args *a, const struct redis *r, enum script script, unsigned keys)
{
    args_init(a);
    arg_str(a, "EVALSHA");
    arg_str(a, r->link_cfg.scripts[script].sha1);
    arg_u64(a, keys);
}

/* The set or sorted set `<before>{<name>}<after>` gets or loses a member. */
static inline void set_args(struct args *a, const char *command, const char *before, struct slice name,
                            const char *after, struct slice member)
{
    args_init(a);
    arg_str(a, command);
    (void)arg_key(a, before, name, after);
    arg_slice(a, member);
}

/* calls.c: completing with one reply, without Redis, and after several replies. */
struct call *call_new(struct redis *r, broker_done *done, void *arg);
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

/* turns.c */
struct turn_step {
    struct args *args; /* finished by turn_take */
    unsigned flags;
    redis_done *done;
    void *arg;
};
/* Sends first, then second (or NULL): in a cluster second only when first was done, else it completes with first's error; what takes a turn
 * with the same key meanwhile waits. The keys of two turns with the same key must be the same. */
void turn_take(struct redis *r, struct slice key, struct turn_step *first, struct turn_step *second);

/* inbox.c */
/* Two arguments: what stands before and after a node's name in the name of the inbox through which it hears of this session. */
void arg_inbox(struct args *a, const struct redis *r, struct slice sid);
/* The inbox of that node for this session; false when no node is called so. */
bool arg_inbox_of(struct args *a, const struct redis *r, struct slice sid, struct slice node);
uint16_t session_slot(const struct redis *r, struct slice sid);
void inbox_open(struct redis *r);
/* Nothing without a cluster: the inbox for sessions with this slot is wanted, is wanted no longer. */
void inbox_hold(struct redis *r, uint16_t slot);
void inbox_release(struct redis *r, uint16_t slot);
/* Whether it is open counts. */
void inbox_wait(struct redis *r, uint16_t slot, struct gather *g);
/* Publishes to ourselves, through every primary. */
void inbox_probe(struct redis *r, struct slice body);

/* rooms.c */
void redis_publish(struct broker *b, const struct publish *p, broker_done *done, void *arg);
void redis_join(struct broker *b, struct slice room, struct slice sid, struct slice user, broker_done *done, void *arg);
void redis_leave(struct broker *b, struct slice room, struct slice sid, struct slice user, enum exit_reason reason,
                 broker_done *done, void *arg);
struct member_id {
    struct slice room, sid, user, node;
    bool any; /* whichever node it came through */
};
/* Takes a member that came through the given node out of the room; suspends it. redis_join_as makes it one: the session's hash must name the room by then;
 * note (may be NULL) does that. */
void redis_leave_as(struct redis *r, const struct member_id *id, enum exit_reason reason, broker_done *done, void *arg);
void redis_join_as(struct redis *r, const struct member_id *id, struct args *note, broker_done *done, void *arg);
void redis_suspend_as(struct redis *r, const struct member_id *id, broker_done *done, void *arg);
void redis_suspend(struct broker *b, struct slice room, struct slice sid, struct slice user, broker_done *done,
                   void *arg);

/* read.c */
void redis_presence(struct broker *b, struct slice room, struct slice cursor, uint32_t limit, broker_done *done,
                    void *arg);
void redis_rooms(struct broker *b, struct slice cursor, uint32_t limit, broker_done *done, void *arg);
void redis_history(struct broker *b, const struct log_page *page, broker_done *done, void *arg);

/* `<the scan's cursor>:<how many of its batch were told>`; empty: the beginning. */
bool scan_cursor_parse(struct slice cursor, uint64_t *ret_scan, uint32_t *ret_skip);

/* sessions.c */
void sessions_init(struct redis *r);
void sessions_fini(struct redis *r);
/* To be called every tick while the link is up: renews some sessions' time to live, pays what is owed. */
void sessions_tick(struct redis *r, uint64_t elapsed_ms);
size_t sessions_count(const struct redis *r);
void redis_session_put(struct broker *b, const struct session_record *s, broker_done *done, void *arg);
void redis_session_remove(struct broker *b, struct slice sid, struct slice user, struct slice reason, broker_done *done,
                          void *arg);
/* A leave failed: it will be done when Redis is back, unless the session joins again. */
void sessions_owe(struct redis *r, struct slice sid, struct slice room, struct slice user, enum exit_reason reason);
void sessions_owe_no_more(struct redis *r, struct slice sid, struct slice room);

/* The sessions that are at this node. */
struct local_session *local_find(const struct redis *r, struct slice sid);
void local_add(struct redis *r, struct slice sid, struct slice user);
void local_is_tunnel(struct local_session *s, struct slice tunnel);
void local_free(struct redis *r, struct local_session *s);
/* The turn with which this node got it; 0: not known yet. Both NULL-safe. */
uint64_t local_taken(const struct local_session *s);
/* 0: it is not here. */
uint64_t local_serial(const struct redis *r, struct slice sid);
void local_took(struct local_session *s, uint64_t turn);
struct slice local_user(const struct local_session *s);
/* A session was resumed here, but has not joined this room again: it is a member through some other node. */
void local_returning(struct local_session *s, struct slice room);
/* Suspends it there, whichever node that is. */
void local_suspend_returning(struct redis *r, struct local_session *s);
/* From now on it is no longer so. */
void local_rejoined(struct redis *r, struct slice sid, struct slice room);
/* Asks the store whether a session of this node is still ours; if not, lets go of it. */
void session_check(struct redis *r, struct slice sid);
/* It is another node's now. */
void session_moved(struct redis *r, struct slice sid);
/* Whether this node resumed it is not known: if it did, it will be parked when Redis is back, unless it is resumed or put again. */
void sessions_owe_park(struct redis *r, struct slice sid);

/* It is owed something. */
bool sessions_owes(const struct redis *r, struct slice sid);

/* strangers.c */
void strangers_init(struct redis *r);
void strangers_fini(struct redis *r);
/* To be called every tick while the link is up. */
void strangers_tick(struct redis *r);
/* There is reason to look: the store may have lost what it was told last. */
void strangers_look(struct redis *r);
/* This node has ended the session, and told the backend this reason (or empty: nothing); begins it, or tries to: nothing that was known of it counts any more. */
void strangers_ended(struct redis *r, struct slice sid, struct slice reason);
void strangers_begun(struct redis *r, struct slice sid);

/* clear.c */
/* What end.lua says. */
enum verdict { NO_HASH = 0, END = 1, NOT_OURS = 2, PARKED = 3, TO_BE_PARKED = 4 };
struct clearing {
    struct slice sid, user; /* user: for when the store does not know */
    struct slice node;      /* whose session it must be; empty: any that is parked and whose time is over */
    const char
        *set; /* after the node in the name of the set that names this session: ":sessions" or ":lost"; or NULL */
    enum exit_reason reason;
    struct slice tunnel; /* for when the store does not know */
    struct slice event;  /* what the event `disconnect` says is the reason; empty: there is none */
    uint64_t
        heartbeat_ms; /* of a node that died: the session's window began then, and it is parked until that is over. 0: it is not */
    bool *
        missing; /* when not NULL: set when there is no hash that names the session's rooms; its name then stays in the set */
    bool returned;      /* this node has let go of it before: counted and logged, should the store still have it */
    struct slice score; /* of a parked one: what due.lua gave it */
    bool early;         /* a parked one: its time counts as over */
    uint64_t *verdict;  /* when not NULL: set to what end.lua said, an enum verdict */
};
/* Takes the session out of every room it is still in, forgets it, and then removes its name from the set. */
void session_clear(struct redis *r, const struct clearing *what, broker_done *done, void *arg);

/* park.c */
/* To be called every second while the link is up: ends parked sessions whose time is over. */
void park_tick(struct redis *r);
void redis_session_park(struct broker *b, struct slice sid, uint32_t ttl_ms, broker_done *done, void *arg);
void redis_session_resume(struct broker *b, struct slice sid, struct slice token_hash, broker_done *done, void *arg);
/* audit.c */
/* The store says that it is another node's: lets go of it, unless that is only what the store said before a failover. */
void session_contest(struct redis *r, struct slice sid);
void redis_session_audit(struct broker *b, struct slice sid, broker_done *done, void *arg);
/* park.c again: the store no longer counts it among a node's own: parks it. window_ms 0: its own. from_ms 0: from now. */
struct parking {
    struct slice sid, user, node;
    const char *set; /* as in struct clearing; NULL: stays as it is */
    uint64_t turn;   /* session_index: of the session, when it was found parked */
    uint64_t from_ms;
    uint32_t window_ms;
};
void session_set_aside(struct redis *r, const struct parking *what, broker_done *done, void *arg);
/* Into the index of parked sessions, then out of the node's set. */
void session_index(struct redis *r, const struct parking *what, uint64_t until_ms, broker_done *done, void *arg);

/* follow.c */
/* stream is copied. */
struct follow *follow_create(struct redis *r, const char *stream);
/* In a cluster: slots or links have changed. NULL-safe. */
void follow_rehome(struct follow *f);
/* Why what is appended now might never be told; NULL: it will be. NULL-safe. */
const char *follow_problem(const struct follow *f);
/* As redis_link_close and redis_link_destroy; NULL-safe. */
bool follow_close(struct follow *f);
void follow_destroy(struct follow **f);
void redis_follow(struct broker *b, broker_done *done, void *arg);

/* lease.c */
void lease_init(struct redis *r);
void lease_fini(struct redis *r);
/* Both links are there. */
void lease_up(struct redis *r);
void lease_heard(struct redis *r, const struct envelope *probe);
/* Sessions of this node have vanished from the store: the owner is asked to put them again, at most once per lease; false: not now. */
bool lease_expelled(struct redis *r, const char *why);
const char *redis_not_ready(struct broker *b);
void redis_retire(struct broker *b, broker_done *done, void *arg);

/* inspect.c */
void redis_sessions(struct broker *b, const struct session_query *q, broker_done *done, void *arg);
void redis_session_get(struct broker *b, struct slice sid, broker_done *done, void *arg);
void redis_session_give(struct broker *b, struct slice sid, struct slice was, struct slice given, broker_done *done,
                        void *arg);
void redis_room_clear(struct broker *b, struct slice room, broker_done *done, void *arg);
void redis_nodes(struct broker *b, broker_done *done, void *arg);

/* control.c */
void redis_control(struct broker *b, const struct control_message *m, broker_done *done, void *arg);
void redis_control_to(struct broker *b, const struct control_message *m, broker_done *done, void *arg);
void redis_control_answer(struct broker *b, const struct control_message *m);
void replies_fini(struct redis *r);
void redis_control_end(struct broker *b, struct slice sid);
void redis_control_listen(struct broker *b, struct slice sid);
void redis_session_end(struct broker *b, struct slice sid, enum exit_reason reason, broker_done *done, void *arg);
void redis_away_join(struct broker *b, struct slice sid, struct slice room, uint32_t rooms_max, broker_done *done,
                     void *arg);
void redis_away_leave(struct broker *b, struct slice sid, struct slice room, broker_done *done, void *arg);

/* emit.c */
void redis_emit(struct broker *b, const struct emit_message *m, broker_done *done, void *arg);

/* secrets.c */
void redis_secrets(struct broker *b, struct slice fresh, uint64_t period_ms, uint64_t lead_ms, broker_done *done,
                   void *arg);

/* tunnels.c */
void redis_tunnel_offer(struct broker *b, const struct tunnel_offer *o, broker_done *done, void *arg);
void redis_tunnel_take(struct broker *b, struct slice ticket, broker_done *done, void *arg);
void redis_where(struct broker *b, const struct slice *sids, size_t count, broker_done *done, void *arg);

/* polling.c */
void redis_polling_put(struct broker *b, const struct polling_record *record, broker_done *done, void *arg);
void redis_polling_take(struct broker *b, struct slice sid, struct slice from, broker_done *done, void *arg);
void redis_polling_find(struct broker *b, struct slice sid, broker_done *done, void *arg);
void redis_polling_drop(struct broker *b, struct slice sid);

/* wechat.c */
void redis_wechat_put(struct broker *b, const struct wechat_login *l, broker_done *done, void *arg);
void redis_wechat_check(struct broker *b, const struct wechat_login *l, broker_done *done, void *arg);

/* bans.c */
void redis_ban(struct broker *b, const struct ban_record *ban, broker_done *done, void *arg);
void redis_unban(struct broker *b, struct slice user, broker_done *done, void *arg);
void redis_bans(struct broker *b, struct slice cursor, uint32_t limit, broker_done *done, void *arg);
void redis_revoke(struct broker *b, const struct revocation *what, broker_done *done, void *arg);
void redis_admit(struct broker *b, const struct admission *who, broker_done *done, void *arg);
/* users.c */
/* What has become of a session, for the directory of its user. */
struct attendance {
    struct slice sid, user; /* no user: nothing is to be done */
    const char *state;      /* active, parked, gone */
    uint64_t turn;          /* as the script said that changed the session */
};
void user_attend(struct redis *r, const struct attendance *what, broker_done *done, void *arg);
/* Keeps alive what the directory has of him. */
void user_renew(struct redis *r, struct slice user);
/* Asks how many sessions he has; with `away_too` as present.lua does. */
void users_count_args(struct args *a, const struct redis *r, struct slice user, bool away_too);
void users_heard(struct redis *r, const struct envelope *status);
void redis_users(struct broker *b, const struct slice *users, size_t count, broker_done *done, void *arg);
void redis_watch(struct broker *b, struct slice user, broker_done *done, void *arg);
void redis_unwatch(struct broker *b, struct slice user);

/* limit.c */
void redis_limit(struct broker *b, const struct limit_report *report, broker_done *done, void *arg);

/* reads.c */
void redis_read(struct broker *b, const struct read_mark *mark, broker_done *done, void *arg);

/* Redis' clock, estimated; 0 when it was never heard. */
uint64_t lease_redis_now(const struct redis *r);

/* events.c */
void redis_event(struct broker *b, const struct event_record *e, broker_done *done, void *arg);
void redis_events(struct broker *b, const struct events_ask *ask, broker_done *done, void *arg);
void redis_commands(struct broker *b, const struct events_ask *ask, broker_done *done, void *arg);
void redis_command_result(struct broker *b, const struct event_field *fields, size_t count, broker_done *done,
                          void *arg);
struct ended {
    struct slice sid, user, reason;
    struct slice tunnel; /* of struct session_record */
    uint64_t since_ms;   /* makes the event's id; 0: the store does not know */
};
void redis_event_ended(struct redis *r, const struct ended *what, broker_done *done, void *arg);

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
/* An entry of a stream; fields: room for EVENT_FIELDS_MAX, more are left out. */
void entry_parse(const redisReply *entry, struct event_field *fields, struct event_entry *ret);
/* An entry of a log; false when it is not one of ours. */
bool message_parse(const redisReply *entry, struct message_record *ret);

#endif
