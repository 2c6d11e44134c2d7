/* broker/broker.h: what joins the nodes: rooms, sessions, presence, leases. Two backends: memory and redis.
 *
 * Rules, the same for every backend and tested by one suite (tests/unit/test_broker*.c):
 * - One loop, one thread. A completion is called exactly once, from the loop, never before the call that asked for it has
 *   returned, and never after broker_destroy() has returned (which completes what is left with ERR_UNAVAILABLE).
 * - Arguments are borrowed until the call returns, results until the completion returns.
 * - Nothing blocks and nothing waits for ever: when the store cannot be reached requests wait in a bounded queue; over the bound,
 *   or after the command timeout, they complete with ERR_UNAVAILABLE or ERR_TIMEOUT.
 * - Envelopes of a room arrive in the room's order. ENTER and EXIT have their place in that order. */
#ifndef XD_BROKER_H
#define XD_BROKER_H

#include "base/error.h"
#include "base/loop.h"
#include "base/slice.h"
#include "proto/envelope.h"

#define SID_LEN   16 /* letters of base64url: 96 random bits; a name, not a secret */
#define TOKEN_LEN 32

#define REPLICAS_MAX 8 /* that a publish may wait for */

struct broker;
struct node_view;
struct session_view;

/* What a node tells of a session; becomes the hash xd:session:{sid}. All borrowed. */
struct session_record {
    struct slice sid, token_hash, user, protocol, ip, agent, origin;
    struct slice nsp;        /* of Socket.IO; empty: of none */
    struct slice attributes; /* a JSON object; empty: nothing is said of them */
    struct slice watches;    /* whom it watches, a line each, for whoever resumes it; NULL: nothing is said of them */
    struct slice tunnel;     /* whose it is, if it is a tunnel; told with its `disconnect` */
    uint64_t connected_ms;
    uint32_t resume_window_ms; /* how long it is kept when its node dies; 0: not at all */
};

/* What a tunnel's URL stands for until somebody uses it. ticket: a name that says nothing of the URL. */
struct tunnel_offer {
    struct slice ticket, sid, tunnel;
    uint32_t ttl_ms;
};

/* What another node needs to go on with a connection by long-polling. */
struct polling_record {
    struct slice sid;
    struct slice state;    /* JSON, or empty: what others wrote there */
    struct slice before;   /* the same as it was before the last answer; empty: no different */
    struct slice answered; /* name of the request that was answered last; may be empty */
    uint32_t ttl_ms;       /* not 0; then it is forgotten, unless it is put again */
};

/* How a user is there. */
struct user_record {
    struct slice user;
    enum user_state state;
    uint64_t sessions;          /* those that are away included */
    uint64_t since_ms, seen_ms; /* when he came into this state; when he was last online. 0: not known (any more) */
    uint64_t version;           /* grows with every change of this user, as long as the store remembers him */
};

enum member_state { MEMBER_ACTIVE, MEMBER_SUSPENDED };

struct member_record {
    struct slice sid, user, node;
    uint64_t since_ms;
    uint64_t seen_ms; /* of sessions: when the client was last seen there, as last told; 0: not known, or of members */
    enum member_state state;
};

struct room_record {
    struct slice room;
    uint64_t total;
};

struct message_record { /* one entry of a room's log */
    struct position position;
    uint64_t time_ms;
    struct slice event, from, user, id, except, data;
    enum data_type data_type;
    struct was was;
};

#define USERS_MAX      128
#define READ_ROOMS_MAX 1000 /* rooms of one user */

#define SECRETS_MAX 8
struct secret_record {
    struct slice text;
    int64_t age_ms; /* for how long it has been in use; negative: not yet */
};

/* A user whom nobody lets in. Reason and by may be empty. */
#define BAN_REASON_MAX 255 /* bytes */
struct ban_record {
    struct slice user, reason, by;
    uint64_t since_ms; /* the store says when it began */
    uint64_t until_ms; /* 0: for ever */
};

/* Tokens that count no longer: the one of this name or, where there is none, those of the user that were issued before a time. */
struct revocation {
    struct slice jti, user, by;
    uint64_t before_s; /* Unix seconds; of a user */
    uint64_t until_ms; /* then it is forgotten: such tokens are over anyway */
};

/* Who asks to be let in. Revocations count for tokens alone. */
struct admission {
    struct slice user; /* empty: nobody in particular */
    bool by_token;
    struct slice jti;  /* empty: the token has no name */
    uint64_t issued_s; /* 0: it does not say; then it was before any time */
};

/* Somebody who has logged in at WeChat, and one login of his: its secret proves later that it is him. He has WECHAT_LOGINS_MAX at most: a new one takes the place of the one
 * that was not checked for longest. */
#define WECHAT_LOGINS_MAX 8
#define WECHAT_INFO_MAX   8192 /* bytes */
#define WECHAT_KEEP_MS    86400000
struct wechat_login {
    struct slice id;         /* his in this app, and always the same */
    struct slice name, hash; /* of the login: 1 to 64 letters; its secret's SHA-256 in hex */
    struct slice appid;
    struct slice openid, unionid, info; /* unionid may be empty; info: JSON */
    uint64_t whole_ms, idle_ms;         /* it is good for so long, and for so long after it was checked last */
};

/* What happened to a session, for a backend. The fields are for whoever reads them, the store knows none of them; it adds `time`. */
#define EVENT_FIELDS_MAX 24
#define EVENT_SHARDS_MAX 64
struct event_field {
    struct slice name, value;
};
struct event_record {
    struct slice session; /* events of one session keep their order */
    const struct event_field *fields;
    size_t count;
};
/* One that was read. */
struct event_entry {
    struct slice id; /* its place: EVENT_PLACE_MAX letters at most */
    const struct event_field *fields;
    size_t count;
};
#define EVENT_PLACE_MAX 41

/* A node's wish to deliver the events of a shard. */
struct events_ask {
    uint32_t shard, limit; /* limit 0: reads nothing */
    uint32_t lease_ms;     /* 0: gives it back */
    struct slice settled,
        after; /* places: everything up to it is delivered; where to read on. Empty: nothing new, and from the cursor on */
};

/* Of a limit that the nodes share: what was taken and wanted at this node since it said so last. */
struct limit_report {
    struct slice subject;
    uint32_t rate, burst; /* tokens per second, tokens; not 0 */
    uint64_t taken, wanted;
};

/* What a completion is told. err is OK or why not; the rest is set as the operation says, borrowed until it returns. */
struct broker_result {
    enum err err;
    const char *why;          /* a sentence when err is not OK */
    struct position position; /* publish: the message's; join, leave, presence: the room's head;
                               * session_resume: of the last message to it */
    uint64_t total;           /* join, leave, presence: members; publish: nodes that were told, in $user:… sessions */
    bool repeated;            /* publish: the key was known, this is the first publish's position */
    uint32_t replicas;        /* publish that asked for replicas: so many have it, possibly more than asked for */
    bool more;                /* pages: there is more after `cursor` */
    struct slice cursor;
    size_t count; /* entries of the array that the operation fills */
    const struct member_record *members;
    const struct room_record *rooms;
    const struct message_record *messages;
    const struct secret_record *secrets;
    const struct ban_record *bans;
    const struct session_view *session;
    const struct node_view *nodes;
    uint64_t parked;                   /* nodes: sessions in the cluster that are parked */
    bool away;                         /* control: nobody has the session at the moment, it is parked */
    uint64_t limit_used, limit_wanted; /* limit: of all nodes, in thousandths of tokens */
    const struct event_entry *events;
    bool mine, anew;  /* events: the shard is this node's; only since now, so that `cursor` is what counts */
    uint64_t dropped; /* events: how many went undelivered since ever */
    bool stored;      /* publish to $user:… that is retained: none of his sessions was connected */
    const struct user_record *users; /* as many as were asked for, in their order */
    struct slice user;               /* session_resume: whose session it is; its rooms are in `rooms` */
    struct slice watches;
    uint64_t connected_ms;
    const struct tunnel_offer *offer;     /* tunnel_take: sid, tunnel */
    const struct slice *where;            /* where, polling: nodes, `count` of them */
    const struct polling_record *polling; /* polling_take: state, before, answered */
    const struct wechat_login *wechat;    /* wechat_check: openid, unionid, info */
};

/* A page of a log. may_lag: a replica's answer will do, if the log's head there has reached at_least (0: not known) and is anything at all. */
struct log_page {
    struct slice room;
    uint64_t after; /* an offset, exclusive */
    uint32_t limit;
    bool may_lag;
    uint64_t at_least;
};

typedef void broker_done(void *arg, const struct broker_result *r);

/* How far a user has read a room, or his inbox ($user:<id>). */
struct read_mark {
    struct slice user, sid, room; /* sid: of his session that says it, or asks */
    struct position at;           /* offset 0: nothing is said, only asked */
    bool back;                    /* it may be less than before */
    bool tell;                    /* the session hears of it in the inbox, an envelope READ, even if it is no news */
};

struct publish {
    struct slice room, event, from, user, except, data;
    struct slice key; /* idempotency key or empty */
    struct was was;   /* set: appended again; without a key its tag is what makes it idempotent */
    enum data_type data_type;
    uint32_t retain_count, retain_age_s; /* 0: no log */
    uint32_t replicas;                   /* so many must have it, up to REPLICAS_MAX; 0: none */
};

/* What the store knows of a session, for those who ask. */
struct session_view {
    struct slice sid, user, node, state, protocol, ip, agent, origin; /* state: active, parked */
    struct slice nsp;                                                 /* of Socket.IO, or empty */
    struct slice attributes; /* a JSON object that its token brought, or empty */
    struct slice given;      /* the same from backends, set by session_give */
    uint64_t connected_ms, seen_ms, parked_until_ms;
};

/* A node in the directory. Not alive: its lease is over, and nobody has cleaned up after it yet. */
struct node_view {
    struct slice node, address, version;
    uint64_t started_ms, heartbeat_ms, connections, rooms;
    bool alive;
};

/* With the limit of a page of members or sessions: it is as long as the store likes, several hundreds perhaps, and none that is there all the time is left out of the pages
 * when others go meanwhile. */
#define PAGE_UNCUT 0x80000000u

/* Sessions of a user, parked ones too; or those that a node has. */
enum sessions_by { SESSIONS_BY_USER, SESSIONS_BY_NODE };
struct session_query {
    enum sessions_by by;
    struct slice name, cursor;
    struct slice
        nsp; /* only those in this namespace of Socket.IO; empty: all. Then a page may have fewer than there are */
    uint32_t limit;
};

/* From one node to another, about a session. */
struct control_message {
    struct slice sid;
    struct slice id;   /* at most 64 bytes; the answer has the same */
    struct slice verb; /* what is to be done; in the answer: how that went */
    struct slice data; /* JSON, or empty */
    struct slice node; /* of an answer: who had asked */
};

/* For all nodes that are subscribed to the room. */
struct emit_message {
    struct slice room;
    struct slice sid;  /* names it; like that of a session, but of none */
    struct slice data; /* JSON */
    bool answered;     /* each of them answers, by control_answer with this sid, to this node */
};

/* News. owner is what broker_create was given. */
struct broker_events {
    /* Something was published in a room this node is subscribed to. e is borrowed. */
    void (*envelope)(void *owner, const struct envelope *e);
    /* The link to the store came up (after the start or a loss) or went down. After `true` every wanted room is subscribed again. */
    void (*link)(void *owner, bool up);
    /* While the link is up: this room was not subscribed for a while (part of the store was away, or the room has moved within it), and is
     * again. */
    void (*resubscribed)(void *owner, struct slice room);
    /* This node was declared dead while it was not (a pause longer than the lease): its sessions are gone from the store and must be put
     * and joined again. */
    void (*expelled)(void *owner);
    /* A user this node watches is there, away or gone, or has one session more or less. u is borrowed. */
    void (*user_changed)(void *owner, const struct user_record *u);
    /* While the link is up: this user was not watched for a while, and is again: ask how he is. */
    void (*rewatched)(void *owner, struct slice user);
    /* A session of this node was resumed on another one: let it go without telling the store anything. */
    void (*taken)(void *owner, struct slice sid);
    /* Something was published on a channel that is `hear`d. */
    void (*heard)(void *owner, struct slice channel, struct slice body);
    /* Filled in just before each heartbeat, for xd:node:{node}. */
    void (*node_stats)(void *owner, uint64_t *ret_connections, uint64_t *ret_rooms);
};

struct broker_config {
    const char *url;     /* memory, or one of broker/redis/url.h */
    const char *node;    /* this node's id, unique for this boot */
    const char *address; /* shown in xd:node:{node} */
    const char *version;
    const char *key_prefix;               /* "xd:" */
    uint32_t lease_ms;                    /* a node silent for so long is dead */
    uint32_t timeout_ms;                  /* of one command, and of connecting */
    uint32_t queue_bytes, queue_commands; /* bound of what waits for the store */
    uint32_t once_ttl_ms;                 /* how long an idempotency key is remembered */
    uint32_t session_ttl_ms;
    bool read_replicas;                    /* history that may lag is read from a replica, if there is one */
    uint32_t event_shards;                 /* 0: nobody wants to know what happens to sessions */
    uint32_t event_count;                  /* how many events a shard keeps at most … */
    uint32_t event_age_s;                  /* … and for how long */
    uint32_t command_count, command_age_s; /* the same of commands; 0: nobody carries them out here */
    uint64_t user_keep_ms;                 /* how long it is kept when a user who is gone was last seen */
    const char *follow;                    /* a stream of Redis that is not ours, by its very name; NULL: none */
};

struct broker_stats { /* monotonic counters, and gauges marked (g) */
    uint64_t commands, command_errors, timeouts, reconnects, redirects, refused, published, received, undecodable, deaf,
        reaped_nodes, reaped_sessions, failovers;
    uint64_t reconciled_sessions; /* the store had them as this node's after this node had let go of them */
    uint64_t queued_bytes, queued_commands, subscriptions; /* (g) */
    uint64_t rtt_us_sum, rtt_count;                        /* round trip of the probe */
    uint64_t rtt_bucket[12]; /* cumulative not: count per bucket, bounds broker_rtt_bounds_us, last is above all */
    uint64_t replica_reads,
        replica_fallbacks;        /* pages of logs that a replica gave, and that the primary had to give instead */
    uint64_t events, events_lost; /* appended; given up because the store would not take them */
    uint64_t replicated, quorum_missed; /* publishes that enough replicas have, and that were published without */
    uint64_t wait_us_sum,
        wait_bucket[12]; /* from sending a batch of such publishes to the replicas' answer; as rtt_bucket */
};
extern const uint32_t broker_rtt_bounds_us[11];

struct broker_ops {
    const char *name;

    /* Appends to the room's log (if retained) and publishes, in one step. The room may be $all, $user:<id> or $session:<sid>; for the last
     * ERR_NOT_FOUND when there is no such session and ERR_UNAVAILABLE while it is parked, for $user: ERR_NOT_FOUND when the user has no session
     * and nothing is retained.
     * With replicas it completes when so many have it, or with ERR_NOT_REPLICATED when that was not confirmed in time: then it is published, position is
     * set, and the same with the same key publishes nothing new but asks the replicas again. ERR_UNSUPPORTED without Redis. */
    void (*publish)(struct broker *b, const struct publish *p, broker_done *done, void *arg);

    /* Idempotent. Completes when envelopes published from now on will arrive. $session:<sid> of sessions put by this node and $all need no
     * subscription. unsubscribe needs no completion; envelopes may still arrive until it took effect. */
    void (*subscribe)(struct broker *b, struct slice room, broker_done *done, void *arg);
    void (*unsubscribe)(struct broker *b, struct slice room);

    /* A channel of Redis that is not ours, by its very name (PUBLISH, in a cluster too): what others say there is told as `heard` as long as it is wanted. Idempotent.
     * Nothing is heard on it while the link is away, and nobody is told. Without Redis nothing ever is. */
    void (*hear)(struct broker *b, struct slice channel);
    void (*hear_no_more)(struct broker *b, struct slice channel);

    /* What others have appended to the stream that the configuration names (`follow`): the first time after its end at that moment, then what follows what was told
     * last, each entry once and in the stream's order. Completes when there is something, which may be never; one call at a time. What came while the link was away is told
     * when it is back, as far as the store still has it; anew: it has not, nobody knows how much is missing before the first of these. Until the end is known the broker is
     * not_ready. NULL without Redis. */
    void (*follow)(struct broker *b, broker_done *done, void *arg);

    /* Tells all nodes that are subscribed to the room at this moment, past its log and its order: an envelope EMIT. Completes with `total`, how many they are. After OK, if it is
     * answered, control_end when no answer is waited for any more. */
    void (*emit)(struct broker *b, const struct emit_message *m, broker_done *done, void *arg);

    /* Makes sid a member and publishes ENTER (also when it was one already). The room must be subscribed; the ENTER arrives in order on this
     * node too, and is what tells the node where the member's view begins. */
    void (*join)(struct broker *b, struct slice room, struct slice sid, struct slice user, broker_done *done,
                 void *arg);
    /* Ends membership and publishes EXIT if it was one. */
    void (*leave)(struct broker *b, struct slice room, struct slice sid, struct slice user, enum exit_reason reason,
                  broker_done *done, void *arg);

    /* Pages of members (result: members, total, position), of rooms with members (rooms), of a log from a position on, exclusive (messages). What the log and
     * its head are is taken for the truth about forks (gateway/stream.c), so it must not come from a replica that lags behind; what is only shown to
     * a client may: struct log_page. */
    void (*presence)(struct broker *b, struct slice room, struct slice cursor, uint32_t limit, broker_done *done,
                     void *arg);
    void (*rooms)(struct broker *b, struct slice cursor, uint32_t limit, broker_done *done, void *arg);
    void (*history)(struct broker *b, const struct log_page *page, broker_done *done, void *arg);

    /* Shows a member of this node as suspended and publishes SUSPEND, if it was active. A join makes it active again and publishes ENTER. */
    void (*suspend)(struct broker *b, struct slice room, struct slice sid, struct slice user, broker_done *done,
                    void *arg);

    /* A session of this node begins or ends.
     * park: its connection is gone and it may come back within ttl_ms. It belongs to no node then; when nobody has resumed it by the end, one node ends it: EXIT
     * (disconnect) in every room, and it is forgotten. The caller has suspended its memberships. Does nothing when another node has resumed it meanwhile.
     * remove: reason is what the event `disconnect` says; empty: there is to be none.
     * resume: makes sid a session of this node, parked or not, if token_hash is that of session_put. The result has user, connected_ms and rooms (names
     * only). A node that still has it is told `taken`. ERR_NOT_FOUND: no such session any more; ERR_UNAUTHORIZED: another token. */
    void (*session_put)(struct broker *b, const struct session_record *s, broker_done *done, void *arg);
    void (*session_park)(struct broker *b, struct slice sid, uint32_t ttl_ms, broker_done *done, void *arg);
    void (*session_resume)(struct broker *b, struct slice sid, struct slice token_hash, broker_done *done, void *arg);
    void (*session_remove)(struct broker *b, struct slice sid, struct slice user, struct slice reason,
                           broker_done *done, void *arg);
    /* What the store has of a session that is open here: the rooms that it names for it (`rooms`, total 1 where it is an active member through this node, else 0).
     * ERR_NOT_FOUND: none, or not as an open one: it must be put and joined again. ERR_CONFLICT: it is another node's; `taken` follows. */
    void (*session_audit)(struct broker *b, struct slice sid, broker_done *done, void *arg);

    /* Appends to the events of the session's shard. Doing it twice makes two entries. What was completed with ERR_UNAVAILABLE or ERR_TIMEOUT may have been
     * appended. With event_shards the store itself appends `disconnect` of sessions that end: before it forgets them, at least once, with an id
     * that is the same each time unless the store has lost the session. Without: ERR_UNSUPPORTED. */
    void (*event)(struct broker *b, const struct event_record *e, broker_done *done, void *arg);
    /* Claims a shard, or keeps it; tells the store how far everything is delivered; reads what follows `after`. Result: mine, anew, cursor, dropped,
     * total (entries there are), events. A shard that is another node's: mine is false, no error. */
    void (*events)(struct broker *b, const struct events_ask *ask, broker_done *done, void *arg);

    /* The same of the commands that others have appended (there is one such stream, the shard does not matter), and what became of one, in fields that others read.
     * NULL without a store that others can write to. */
    void (*commands)(struct broker *b, const struct events_ask *ask, broker_done *done, void *arg);
    void (*command_result)(struct broker *b, const struct event_field *fields, size_t count, broker_done *done,
                           void *arg);

    /* Bans. ban takes the place of an older ban of that user; his parked sessions end (EXIT kicked). unban: ERR_NOT_FOUND when there was none. bans: a page of them, those
     * that end first first. revoke: what was revoked before stays revoked; of two times the later one counts.
     * After a ban, and after revoking, every node gets an envelope VERDICT; it may be lost on the way.
     * admit: OK; ERR_BANNED, and `bans` has the ban; ERR_UNAUTHORIZED: the token is revoked; else it is not known. Whoever is told OK was neither when the
     * store was asked, which is after the call. */
    void (*ban)(struct broker *b, const struct ban_record *ban, broker_done *done, void *arg);
    void (*unban)(struct broker *b, struct slice user, broker_done *done, void *arg);
    void (*bans)(struct broker *b, struct slice cursor, uint32_t limit, broker_done *done, void *arg);
    void (*revoke)(struct broker *b, const struct revocation *what, broker_done *done, void *arg);
    void (*admit)(struct broker *b, const struct admission *who, broker_done *done, void *arg);

    /* For people and backends that ask. sessions: a page (members, with since_ms of the connection; suspended: parked). session_get: `session`, and `rooms` with the time of
     * joining as total. session_give: attributes from backends; ERR_CONFLICT when they are not `was` any more. room_clear: forgets the log of a room that nobody
     * is in; ERR_CONFLICT. nodes: `nodes`, `parked`, and rooms with members as total. */
    void (*sessions)(struct broker *b, const struct session_query *q, broker_done *done, void *arg);
    void (*session_get)(struct broker *b, struct slice sid, broker_done *done, void *arg);
    void (*session_give)(struct broker *b, struct slice sid, struct slice was, struct slice given, broker_done *done,
                         void *arg);
    void (*room_clear)(struct broker *b, struct slice room, broker_done *done, void *arg);
    void (*nodes)(struct broker *b, broker_done *done, void *arg);

    /* What one node wants of another's session (gateway/control.h). control hands a message to the node that has the session, which gets it as an envelope
     * CONTROL; for an answer (CONTROLLED) this node listens until control_end, called once for each control that completed with OK and is not `away`.
     * ERR_NOT_FOUND: no such session; ERR_UNAVAILABLE: its node does not listen, nothing was done. Either may be lost on the way. */
    void (*control)(struct broker *b, const struct control_message *m, broker_done *done, void *arg);
    void (*control_answer)(struct broker *b, const struct control_message *m);
    void (*control_end)(struct broker *b, struct slice sid);
    /* From now on this node hears controls for sid although no session of its has that name; until control_end. */
    void (*control_listen)(struct broker *b, struct slice sid);

    /* where: which nodes have these sessions open; empty: none. control_to: a control for whatever sessions that node (m->node) has, of which m->sid is one; completes as control, and
     * ERR_UNAVAILABLE when that node does not listen. For its answer, and the control_end, all is as with control. */
    void (*where)(struct broker *b, const struct slice *sids, size_t count, broker_done *done, void *arg);
    void (*control_to)(struct broker *b, const struct control_message *m, broker_done *done, void *arg);

    /* The same for a session that nobody has, being parked: ends it now; makes it a (suspended) member of a room, if it is in less than rooms_max; takes it
     * out of one (EXIT kicked). ERR_NOT_FOUND: no such session; ERR_CONFLICT: somebody has it, nothing was done; ERR_LIMIT_EXCEEDED; ERR_NOT_MEMBER. */
    void (*session_end)(struct broker *b, struct slice sid, enum exit_reason reason, broker_done *done, void *arg);
    void (*away_join)(struct broker *b, struct slice sid, struct slice room, uint32_t rooms_max, broker_done *done,
                      void *arg);
    void (*away_leave)(struct broker *b, struct slice sid, struct slice room, broker_done *done, void *arg);
    /* How users are there, at most USERS_MAX of them. watch completes when changes from now on will be heard (user_changed); both are as subscribe. */
    void (*users)(struct broker *b, const struct slice *users, size_t count, broker_done *done, void *arg);
    void (*watch)(struct broker *b, struct slice user, broker_done *done, void *arg);
    void (*unwatch)(struct broker *b, struct slice user);

    /* Adds to what was taken of a limit, and what was wanted of it. The result has what is taken and not refilled yet (it may be more than the burst), and what was wanted
     * lately: half as much counts after each second. NULL when there is but one node. */
    void (*limit)(struct broker *b, const struct limit_report *report, broker_done *done, void *arg);

    /* Says or asks how far a user has read a room; the result's position is how far he has by then (offset 0: not at all, as far as is known). Less than what was
     * said before changes nothing, unless `back`. His sessions hear of news by an envelope READ in $user:<id>. What is known of an inbox is forgotten when its
     * log has begun anew. ERR_LIMIT_EXCEEDED: READ_ROOMS_MAX rooms are known already. */
    void (*read)(struct broker *b, const struct read_mark *mark, broker_done *done, void *arg);

    /* Secrets that all nodes share (for TLS session tickets), at most SECRETS_MAX, oldest first. `fresh` (text) becomes one of them when it is time: each is
     * used for one period, known lead_ms before that to all who ask often enough, and dropped after two. */
    void (*secrets)(struct broker *b, struct slice fresh, uint64_t period_ms, uint64_t lead_ms, broker_done *done,
                    void *arg);

    /* A tunnel's URL is given out; is used: once, and in time, else ERR_NOT_FOUND. */
    void (*tunnel_offer)(struct broker *b, const struct tunnel_offer *o, broker_done *done, void *arg);
    void (*tunnel_take)(struct broker *b, struct slice ticket, broker_done *done, void *arg);

    /* Connections by long-polling, each of which is one node's. put: makes it ours, if there was none, or writes ours anew; ERR_CONFLICT: it is another node's (`where`) by now.
     * take: makes it ours if it is still `from`'s, or ours already; its time goes on. ERR_CONFLICT: it is another node's (`where`); ERR_NOT_FOUND. find: whose it is (`where`), or
     * ERR_NOT_FOUND. drop: forgets it if it is ours; what was asked for one connection is done in that order. */
    void (*polling_put)(struct broker *b, const struct polling_record *r, broker_done *done, void *arg);
    void (*polling_take)(struct broker *b, struct slice sid, struct slice from, broker_done *done, void *arg);
    void (*polling_find)(struct broker *b, struct slice sid, broker_done *done, void *arg);
    void (*polling_drop)(struct broker *b, struct slice sid);

    /* wechat_put: a login begins. wechat_check: is it one, with this secret, of this app (id, name, hash, appid and the times)? Then it was checked last just now.
     * ERR_NOT_FOUND: no such login; ERR_UNAUTHORIZED: there was one, and its time is over (known for WECHAT_KEEP_MS longer than that). */
    void (*wechat_put)(struct broker *b, const struct wechat_login *l, broker_done *done, void *arg);
    void (*wechat_check)(struct broker *b, const struct wechat_login *l, broker_done *done, void *arg);

    /* NULL when a message published now would be heard by this node through the store; else why not (borrowed, short-lived). */
    const char *(*not_ready)(struct broker *b);

    /* Takes this node out of the directory (its sessions have left already). Before destroy, when stopping in order. */
    void (*retire)(struct broker *b, broker_done *done, void *arg);
    void (*destroy)(struct broker *b);
};

/* Every backend's struct begins with this. */
struct broker {
    const struct broker_ops *ops;
    const struct broker_events *events;
    void *owner;
    struct loop *loop;
    uint32_t deaf_ms; /* for so long control_to may find that a node does not listen although it is there; 0: never */
    struct broker_stats stats;
};

/* Is it a url that broker_create takes? reterr never quotes it: it may hold a password. */
enum err broker_check_url(const char *url, struct error *reterr);

/* Chooses the backend by the url's scheme. Strings of cfg are copied. NULL with *reterr for a bad url; an unreachable store is not an error. */
struct broker *broker_create(struct loop *loop, const struct broker_config *cfg, const struct broker_events *events,
                             void *owner, struct error *reterr);
/* NULL-safe, clears the pointer. */
void broker_destroy(struct broker **b);

/* The backends' own constructors, for broker_create. */
struct broker *broker_memory_create(struct loop *loop, const struct broker_config *cfg,
                                    const struct broker_events *events, void *owner);
struct broker *broker_redis_create(struct loop *loop, const struct broker_config *cfg,
                                   const struct broker_events *events, void *owner, struct error *reterr);
enum err broker_redis_check_url(const char *url, struct error *reterr);

/* Which shard the events of a session belong to. */
uint32_t event_shard(struct slice session, uint32_t shards);

static inline bool room_is_session(struct slice room)
{
    return slice_starts(room, SLICE("$session:"));
}

static inline bool room_is_user(struct slice room)
{
    return slice_starts(room, SLICE("$user:"));
}

#endif
