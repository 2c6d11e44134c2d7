/* gateway/session.h: one client's life. It begins when the store has it. When its connection goes it is parked in the store, to be resumed on any node, or it
 * ends; either way this node lets go of it when the store knows, and what the store could not be told is told again. */
#ifndef XD_SESSION_H
#define XD_SESSION_H

#include "base/list.h"
#include "base/table.h"
#include "broker/broker.h"
#include "gateway/bucket.h"
#include "gateway/protocol/protocol.h"
#include "gateway/secret.h"
#include "gateway/start.h"
#include "gateway/transport.h"

struct conn;
struct control_job;
struct gateway;
struct grant;
struct request;
struct resume;
struct tunnel;
struct watch;

/* OPENING: being put into the store, or being adopted from it. ACTIVE: welcomed. PARKING: no connection any more; the store is being told that it may come back.
 * ENDING: no connection any more, and it will not come back; still in the store. */
#define SESSION_STATE_MAP(X)                                                                                           \
    X(OPENING)                                                                                                         \
    X(ACTIVE)                                                                                                          \
    X(PARKING)                                                                                                         \
    X(ENDING)

enum session_state {
#define X(name) SESSION_##name,
    SESSION_STATE_MAP(X)
#undef X
};

struct session {
    UT_hash_handle hh;
    struct start start; /* OPENING: waits for its turn, or has it */
    struct gateway *gw;
    struct conn *conn; /* NULL in PARKING and ENDING */
    char sid[SID_LEN + 1];
    char token[TOKEN_LEN + 1];
    struct slice user; /* points behind the struct; empty: none */
    enum session_state state;
    struct link members;
    struct link audit;     /* in gateway->audits */
    struct link recheck;   /* in gateway->rechecks: may it still be here? */
    struct link farewell;  /* in gateway->farewells until told that the node is draining */
    uint32_t member_count; /* not counting implicit ones */
    uint32_t opening; /* implicit rooms that are not joined yet, and questions to the store whether it may be here */
    uint32_t refs;    /* requests under way, and one of its own until the store knows that it is gone */
    uint32_t requests;
    uint32_t granted_requests; /* those of them that the token asked for, not the client */
    uint32_t returning;        /* members that are being caught up */
    bool stored;               /* the store may know it */
    bool stale;                /* the store must be told of it again */
    bool busy;                 /* parking or removal is under way in the store */
    bool gone;                 /* its own reference has been given back */
    bool may_resume;           /* its client has announced a resume, and asked for nothing yet */
    bool resuming;             /* its client has asked for another session instead */
    bool admitted;         /* it may be here, or its user was let in already as the session that asked for it; … */
    uint64_t verdicts;     /* … when the store was asked so many had been heard (gateway->verdicts) */
    uint32_t rechecking;   /* questions under way whether it may still be here */
    bool refused;          /* it may not, and has been told; it is not parked */
    bool taken;            /* resumed elsewhere: no longer listed, and not ours to end in the store */
    struct watch *watches; /* users it watches (gateway/watch.h) */
    uint32_t watch_count;
    bool watches_noted; /* what the store has of them is ours to say */
    bool has_inbox;
    struct position told; /* the last message to it alone */
    bool acting;          /* what the backend wanted done when it came in is under way */
    struct bucket rate, errors;
    uint64_t connected_ms;
    char *agent, *origin;    /* what the client said of itself */
    struct resume *resume;   /* OPENING of an adopted session; owned */
    struct resume *wish;     /* OPENING: the session that its client would rather have (gateway/recover.h); owned */
    enum exit_reason exit;   /* what others are told when it ends */
    struct control_job *job; /* somebody waits for its end */
    struct reports *reports; /* what the backend is to hear of it; NULL: nothing (yet); owned */
    struct link asks;        /* what the backend is asked by it, oldest first */
    uint64_t emission;       /* the last one for which it was looked at (gateway/emit.c) */
    struct tunnel *tunnel;   /* it is one; NULL: it is not; owned */
    struct grant *grant;     /* what its token lets it do; NULL with --auth open; owned */
};

/* A session for a fresh connection. Its own rooms ($all, $user:…) are joined first, then the store learns of it, then the client is welcomed: so
 * nothing that is sent to it from the moment others can find it is lost. Of r only what the client says of itself is used. Takes `grant`. */
void session_open(struct conn *c, const struct http_request *r, struct slice user, struct grant *grant);

/* The same for a tunnel, whose session has its name already. Takes `tunnel`. */
void session_open_tunnel(struct conn *c, const struct http_request *r, struct tunnel *tunnel);

/* A session that the store has given to this node takes over the connection of the one that asked for it; that one ends. Takes `resume`. */
struct session *session_adopt(struct session *asking, struct slice sid, struct slice user, struct resume *resume);
/* Joins $all and $user:…, after which the session is put and welcomed, or resume_ready() is called; perhaps at once. */
void session_join_implicit(struct session *s);
/* Tells the client that it is back, in answer to the frame with this id; ACTIVE from here on. began: of a Socket.IO client, what its pid ends with. */
void session_welcome_back(struct session *s, struct slice id, struct slice began);

/* All that is left is to tell the store of it; then it is welcomed. */
void session_begin(struct session *s);
/* One that was adopted, and given up before its client was told of it, ends. */
void session_over(struct session *s);

/* One of what it waits for before its welcome has come: an implicit room has been joined, the store has let it in. */
void session_opened_part(struct session *s);
/* Not welcome now: the store has too much to do, or cannot be reached. */
void session_turn_away(struct session *s, enum err err, const char *why);

/* Puts the session's record into the store again: what it says of the client has changed, or the store has forgotten it. */
void session_put(struct session *s);

/* A command has been decoded, or not: err, reterr. Charges it and answers what is wrong; true when it may be run. */
bool session_may_run(struct session *s, const struct command *c, enum err err, struct error *reterr);

/* One complete message from the client. */
void session_frame(struct session *s, struct slice frame, bool binary);

/* Answers with an error; too many of them close the connection. id and room may be empty. */
void session_error(struct session *s, struct slice id, struct slice room, enum err err, struct slice why);

/* The same, with a hint when it may be tried again; 0: none. */
void session_error_later(struct session *s, struct slice id, struct slice room, enum err err, struct slice why,
                         uint32_t retry_ms);

/* The connection is gone: park, or leave every room and then the store. */
void session_conn_gone(struct session *s, const char *why);
/* An adopted session whose client is gone before it was told: parked again. */
void session_lost(struct session *s);
/* Resumed elsewhere: forget it without telling the store; its connection, if any, is closed. */
void session_taken(struct session *s);

/* An active session ends, by the will of others: its client is told goodbye, and from this moment on nobody can resume it. job (taken, may be NULL) is answered when
 * the store has forgotten it. */
void session_expel(struct session *s, int code, struct slice reason, uint32_t reconnect_after_ms,
                   struct control_job *job);

/* The client has read what was queued for it. */
void session_drained(struct session *s);
/* Tries again what the store could not be told. */
void session_retry(struct session *s);
/* This node was declared dead: the store has forgotten the session and its memberships. */
void session_restore(struct session *s);

/* Lets go of a session whose store is no more: only when the gateway is destroyed, with no request under way. */
void session_abandon(struct session *s);

void session_ref(struct session *s);
void session_unref(struct session *s);

/* "-" for NULL. */
const char *session_sid(const struct session *s);

/* The member of that room, or NULL. */
struct member *session_member(const struct session *s, struct slice room);

/* What the store knows of a session's token: whoever resumes it must have the token, and with --auth jwt be the same user. */
void session_token_hash(const struct session *s, struct slice token, char ret[SECRET_HASH_LEN + 1]);

/* commands.c */
void command_run(struct session *s, const struct command *c);
/* A message without a room: published to each room the session is in, or to everybody in its Socket.IO namespace. */
void command_relay(struct session *s, const struct command *c, bool to_namespace);
/* Publishes to a room of any kind what was found allowed. Takes the request. */
void command_publish(struct request *request, const struct command *c, struct slice room);
/* The same for others than the client, which is told JOINED, or LEFT. When OK is returned, job is (or will be) answered. */
enum err command_join_for(struct session *s, struct slice room, struct control_job *job, struct error *reterr);
enum err command_leave_for(struct session *s, struct slice room, struct slice reason, struct control_job *job,
                           struct error *reterr);
/* It is certain that this session will be used: joins the rooms that its token names to be joined at once. */
void command_join_granted(struct session *s);

/* resume.c */
enum err resume_run(struct session *s, const struct command *c, struct error *reterr);
/* The adopted session's own rooms are joined. Frees s->resume. */
void resume_ready(struct session *s);
void resume_free(struct resume *r);
/* How far a session that was at another node until now had been told of that room there; NULL: that is not known, or it is none. */
const struct seen *resume_told(const struct session *s, struct slice room);
/* Of the frame that asked for it; empty for NULL. */
struct slice resume_id(const struct resume *r);

#endif
