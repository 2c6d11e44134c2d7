/* gateway/session.h: one client's life. It begins when the store has it and ends when the store has forgotten it, which is later than the end of its
 * connection: what the store could not be told is told again. */
#ifndef XD_SESSION_H
#define XD_SESSION_H

#include "base/list.h"
#include "base/table.h"
#include "broker/broker.h"
#include "gateway/bucket.h"
#include "gateway/protocol/protocol.h"
#include "gateway/transport.h"

struct conn;
struct gateway;

/* OPENING: being put into the store. ACTIVE: welcomed. ENDING: no connection any more, still in the store. */
#define SESSION_STATE_MAP(X)                                                                                           \
    X(OPENING)                                                                                                         \
    X(ACTIVE)                                                                                                          \
    X(ENDING)

enum session_state {
#define X(name) SESSION_##name,
    SESSION_STATE_MAP(X)
#undef X
};

struct session {
    UT_hash_handle hh;
    struct gateway *gw;
    struct conn *conn; /* NULL in ENDING */
    char sid[SID_LEN + 1];
    char token[TOKEN_LEN + 1];
    struct slice user; /* points behind the struct; empty: none */
    enum session_state state;
    struct link members;
    uint32_t member_count; /* not counting implicit ones */
    uint32_t opening;      /* implicit rooms that are not joined yet */
    uint32_t refs;         /* requests under way, and one of its own until removed from the store */
    uint32_t requests;
    bool stored; /* the store may know it */
    bool stale;  /* the store must be told of it again */
    bool removing;
    struct bucket rate, errors;
    uint64_t connected_ms;
    char *agent, *origin; /* what the client said of itself */
};

/* A session for a fresh connection. Its own rooms ($all, $user:…) are joined first, then the store learns of it, then the client is welcomed: so
 * nothing that is sent to it from the moment others can find it is lost. */
void session_open(struct conn *c, const struct http_request *r, struct slice user);

/* An implicit room has been joined. */
void session_implicit_joined(struct session *s);

/* One complete message from the client. */
void session_frame(struct session *s, struct slice frame, bool binary);

/* The connection is gone: leave every room, then the store. */
void session_conn_gone(struct session *s, const char *why);

/* Answers with an error; too many of them close the connection. id and room may be empty. */
void session_error(struct session *s, struct slice id, struct slice room, enum err err, struct slice why);

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

/* commands.c */
void command_run(struct session *s, const struct command *c);

#endif
