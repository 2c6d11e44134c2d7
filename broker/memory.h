/* broker/memory.h: the embedded broker's state: requests in order of arrival, rooms, sessions, users, idempotency keys. */
#ifndef XD_BROKER_MEMORY_H
#define XD_BROKER_MEMORY_H

#include "base/list.h"
#include "base/table.h"
#include "broker/internal.h"

struct memory;

/* A request waiting for its turn; a retained publish lives on as the entry of its room's log. */
struct op {
    struct link link;
    uint64_t period_ms, lead_ms; /* secrets; times of a login */
    void (*run)(struct memory *m, struct op *op);
    broker_done *done;
    void *arg;
    size_t size;
    struct publish
        p; /* its slices point into bytes; other requests use room, from (a session), user and data (a cursor) */
    uint32_t limit;
    enum exit_reason reason;
    struct position position; /* of the message; for history where to read from */
    uint64_t time_ms;
    bool back, tell; /* read */
    char bytes[];
};

struct member {
    UT_hash_handle hh;      /* in the order of joining, which is the order of seq */
    struct link in_session; /* unlinked when the session was never put */
    struct room *room;
    bool suspended;
    uint64_t seq, since_ms;
    struct slice sid, user;
    char bytes[];
};

struct room {
    UT_hash_handle hh;
    struct link all;      /* m->rooms_all, rotated by the sweep */
    struct link occupied; /* m->occupied while it has members, in the order of seq */
    struct link vacant;   /* m->vacant while it has neither members nor a subscription, longest vacant first */
    uint64_t seq, vacant_ms;
    uint64_t born;    /* tells it from others that had its name */
    uint64_t keep_ms; /* how long it is remembered while vacant */
    uint64_t log_age_ms;
    struct position head;
    struct member *members;
    struct link log;
    size_t log_count;
    bool subscribed;
    struct slice name;
    char bytes[];
};

/* What is kept of a session for those who ask. */
enum told {
    TOLD_PROTOCOL,
    TOLD_IP,
    TOLD_AGENT,
    TOLD_ORIGIN,
    TOLD_NAMESPACE,
    TOLD_ATTRIBUTES,
    TOLD_TUNNEL,
    TOLD_GIVEN,
    TOLD_COUNT
};

struct session {
    UT_hash_handle hh;
    struct user *user; /* NULL when it belongs to nobody */
    struct link members;
    struct link parked; /* on m->parked while it is */
    uint64_t parked_until_ms, connected_ms;
    char *watches; /* NULL: none */
    struct position head;
    uint64_t seq;
    char token_hash[72];
    char *told[TOLD_COUNT]; /* NULL: nothing */
    size_t n;
    char sid[];
};

struct user { /* known while he has sessions or is watched, and for a while after that */
    UT_hash_handle hh;
    struct link gone;                    /* on m->gone while he has neither, longest gone first */
    uint64_t sessions, suspended, told;  /* told: how many sessions those who watch know of */
    uint64_t since_ms, seen_ms, version; /* as in struct user_record */
    uint64_t gone_ms;                    /* by the loop's clock */
    enum user_state state;
    bool watched;
    struct read *reads;
    size_t n;
    char id[];
};

struct read { /* how far a user has read a room */
    UT_hash_handle hh;
    struct position at;
    uint64_t born; /* of the log, when it is his inbox */
    size_t n;
    char room[];
};

struct once {
    UT_hash_handle hh; /* by room, NUL, idempotency key */
    struct link link;  /* oldest first */
    uint64_t expires_ms;
    struct position position;
    char key[];
};

/* A ban, or a revocation: in one table, by a letter for which and the name. */
struct verdict {
    UT_hash_handle hh;
    struct link all;
    uint64_t since_ms, until_ms, before_s;
    struct slice name; /* with its letter */
    struct slice reason, by;
    char bytes[];
};

/* Events of a shard. */
struct memory_events {
    struct link list;
    uint64_t last, cursor; /* places */
    uint64_t count, dropped;
    bool read; /* somebody delivers them */
};

struct memory {
    struct broker b;
    struct task task;
    struct timer sweep;
    struct link queue;
    bool up, dispatching, closing;
    char *node, *address, *version;
    uint64_t started_ms;
    uint32_t queue_bytes, queue_commands, once_ttl_ms;
    uint64_t next_seq, next_born;
    struct room *rooms;
    struct link rooms_all, occupied, vacant;
    size_t vacant_count;
    struct session *sessions;
    struct user *users;
    struct once *once;
    struct link once_list;
    struct link parked; /* sessions */
    struct verdict *verdicts;
    struct link verdicts_all; /* rotated by the sweep */
    struct offer *offers;
    struct link offers_by_age;
    struct polling *pollings;
    struct link pollings_by_age;
    struct wechat_user *wechat;
    struct link wechat_all; /* the same users, rotated by the sweep */
    struct link gone;       /* users */
    size_t gone_count;
    uint64_t user_keep_ms;
    struct memory_secret {
        char *text;
        size_t n;
        uint64_t from_ms;
    } secrets[SECRETS_MAX]; /* oldest first */
    size_t secret_count;
    struct memory_events *events;
    uint32_t event_shards, event_count;
    uint64_t event_age_ms;
};

/* memory_events.c */
void memory_event(struct broker *b, const struct event_record *e, broker_done *done, void *arg);
void memory_events(struct broker *b, const struct events_ask *ask, broker_done *done, void *arg);
/* `disconnect`; nothing without a reason. */
void memory_event_ended(struct memory *m, const struct session *s, struct slice reason);
void memory_events_init(struct memory *m, const struct broker_config *cfg);
void memory_events_clear(struct memory *m);

void memory_run_secrets(struct memory *m, struct op *op);
void memory_secrets_clear(struct memory *m);

/* Queues a request. Its slices are copied; it is refused when too much waits, unless it gives something back. */
struct op *memory_request(struct broker *b, void (*run)(struct memory *, struct op *), const struct publish *p,
                          broker_done *done, void *arg);

/* ENTER, EXIT, SUSPEND: it has a place in the room's order, but no offset of its own. Fills in what is the room's. */
void memory_announce(struct memory *m, const struct room *room, struct envelope *e);

/* Finds the room, making it when there is none. */
struct room *memory_room(struct memory *m, struct slice name);
/* NULL when nobody ever used it, or it was forgotten. */
struct room *memory_room_find(struct memory *m, struct slice name);
/* To be called after every change of members or subscription, and after every publish. */
void memory_room_touch(struct memory *m, struct room *r);
void memory_room_free(struct memory *m, struct room *r);
/* Forgets some of what is too old: a bounded piece of work. */
void memory_sweep(struct memory *m);

/* Forgets the room's log. */
void memory_log_clear(struct room *r);
/* Takes op as the newest entry of the room's log, drops what is over op's retention. */
void memory_log_append(struct memory *m, struct room *r, struct op *op);

/* Idempotent; the result tells whether something changed. Adding a suspended member makes it active again. */
bool memory_member_add(struct memory *m, struct room *r, struct slice sid, struct slice user);
bool memory_member_remove(struct memory *m, struct room *r, struct slice sid);
bool memory_member_suspend(struct room *r, struct slice sid);

/* memory_sessions.c */
struct session *memory_session_find(struct memory *m, struct slice sid);
struct user *memory_user_find(struct memory *m, struct slice id);
void memory_session_put(struct broker *b, const struct session_record *s, broker_done *done, void *arg);
void memory_session_park(struct broker *b, struct slice sid, uint32_t ttl_ms, broker_done *done, void *arg);
void memory_session_resume(struct broker *b, struct slice sid, struct slice token_hash, broker_done *done, void *arg);
void memory_session_audit(struct broker *b, struct slice sid, broker_done *done, void *arg);
void memory_session_remove(struct broker *b, struct slice sid, struct slice user, struct slice reason,
                           broker_done *done, void *arg);
void memory_run_session_park(struct memory *m, struct op *op);
void memory_run_session_remove(struct memory *m, struct op *op);
/* Out of all its rooms, and forgotten. */
void memory_session_end(struct memory *m, struct session *s, enum exit_reason reason);
/* The operations. users: in data, each with its length before it. read: position is what is said, key the room. */
void memory_run_read(struct memory *m, struct op *op);
void memory_run_users(struct memory *m, struct op *op);
void memory_run_watch(struct memory *m, struct op *op);
void memory_run_unwatch(struct memory *m, struct op *op);
/* One session more or less, or one more or less that is away: tells who watches. u is not to be used any more. */
void memory_user_changed(struct memory *m, struct user *u);
struct user *memory_user(struct memory *m, struct slice id);
/* Forgets users who are gone for long. */
void memory_users_expire(struct memory *m);
void memory_users_clear(struct memory *m);

/* Ends the parked sessions whose time is over. */
void memory_sessions_expire(struct memory *m);
void memory_sessions_clear(struct memory *m);

/* memory_bans.c */
void memory_ban(struct broker *b, const struct ban_record *ban, broker_done *done, void *arg);
void memory_unban(struct broker *b, struct slice user, broker_done *done, void *arg);
void memory_bans(struct broker *b, struct slice cursor, uint32_t limit, broker_done *done, void *arg);
void memory_revoke(struct broker *b, const struct revocation *what, broker_done *done, void *arg);
void memory_admit(struct broker *b, const struct admission *who, broker_done *done, void *arg);
void memory_bans_sweep(struct memory *m);
void memory_bans_clear(struct memory *m);

/* memory_tunnels.c */
void memory_tunnel_offer(struct broker *b, const struct tunnel_offer *o, broker_done *done, void *arg);
void memory_tunnel_take(struct broker *b, struct slice ticket, broker_done *done, void *arg);
void memory_tunnels_sweep(struct memory *m);
void memory_tunnels_clear(struct memory *m);
void memory_where(struct broker *b, const struct slice *sids, size_t count, broker_done *done, void *arg);

/* memory_polling.c */
void memory_polling_put(struct broker *b, const struct polling_record *r, broker_done *done, void *arg);
void memory_polling_take(struct broker *b, struct slice sid, struct slice from, broker_done *done, void *arg);
void memory_polling_find(struct broker *b, struct slice sid, broker_done *done, void *arg);
void memory_polling_drop(struct broker *b, struct slice sid);
void memory_run_polling_drop(struct memory *m, struct op *op);
void memory_polling_sweep(struct memory *m);
void memory_polling_clear(struct memory *m);

/* memory_wechat.c */
void memory_wechat_put(struct broker *b, const struct wechat_login *l, broker_done *done, void *arg);
void memory_wechat_check(struct broker *b, const struct wechat_login *l, broker_done *done, void *arg);
void memory_wechat_sweep(struct memory *m);
void memory_wechat_clear(struct memory *m);

/* memory_inspect.c */
void memory_sessions_list(struct broker *b, const struct session_query *q, broker_done *done, void *arg);
void memory_session_get(struct broker *b, struct slice sid, broker_done *done, void *arg);
void memory_session_give(struct broker *b, struct slice sid, struct slice was, struct slice given, broker_done *done,
                         void *arg);
void memory_room_clear(struct broker *b, struct slice room, broker_done *done, void *arg);
void memory_nodes(struct broker *b, broker_done *done, void *arg);

/* memory_control.c */
void memory_control(struct broker *b, const struct control_message *m, broker_done *done, void *arg);
void memory_control_to(struct broker *b, const struct control_message *m, broker_done *done, void *arg);
void memory_control_answer(struct broker *b, const struct control_message *m);
void memory_emit(struct broker *b, const struct emit_message *m, broker_done *done, void *arg);
void memory_control_end(struct broker *b, struct slice sid);
void memory_control_listen(struct broker *b, struct slice sid);
void memory_session_end_away(struct broker *b, struct slice sid, enum exit_reason reason, broker_done *done, void *arg);
void memory_away_join(struct broker *b, struct slice sid, struct slice room, uint32_t rooms_max, broker_done *done,
                      void *arg);
void memory_away_leave(struct broker *b, struct slice sid, struct slice room, broker_done *done, void *arg);

/* Pages, given to op's completion. */
void memory_run_presence(struct memory *m, struct op *op);
void memory_run_rooms(struct memory *m, struct op *op);
void memory_run_history(struct memory *m, struct op *op);

/* The position published first under this key, or NULL. */
const struct position *memory_once_find(struct memory *m, struct slice room, struct slice key);
void memory_once_add(struct memory *m, struct slice room, struct slice key, const struct position *position);
void memory_once_clear(struct memory *m);

#endif
