/* gateway/action.h: one thing that a backend wants done, as it writes it: `{"do":"publish","room":…}` in an answer, or the fields of a command in the store.
 * The members are those of the server API (docs/api.md). Pure: no I/O, no clock. */
#ifndef XD_ACTION_H
#define XD_ACTION_H

#include "gateway/api_body.h"
#include "gateway/control.h"

#define ACTION_ARENA (1u << 20) /* what the names and bytes of one action may need */

/* X(enumerator, word) */
#define ACTION_MAP(X)                                                                                                  \
    X(ACTION_PUBLISH, "publish")                                                                                       \
    X(ACTION_SEND, "send")                                                                                             \
    X(ACTION_BROADCAST, "broadcast")                                                                                   \
    X(ACTION_EMIT, "emit")                                                                                             \
    X(ACTION_JOIN, "join")                                                                                             \
    X(ACTION_LEAVE, "leave")                                                                                           \
    X(ACTION_DISCONNECT, "disconnect")                                                                                 \
    X(ACTION_BAN, "ban")                                                                                               \
    X(ACTION_UNBAN, "unban")                                                                                           \
    X(ACTION_ATTRIBUTES, "attributes")

enum action_kind {
#define X(code, word) code,
    ACTION_MAP(X)
#undef X
        ACTIONS
};

/* Slices point into what was read, or the arena. */
struct action {
    enum action_kind kind;
    struct api_message message; /* PUBLISH, SEND, BROADCAST */
    struct control control;     /* JOIN, LEAVE, DISCONNECT, ATTRIBUTES: whose; no sid: all of the user's */
    struct slice user;          /* DISCONNECT, BAN, UNBAN */
    struct ban_record ban;
    struct slice attributes; /* a JSON value */
    struct slice emission;   /* EMIT: the object itself, which emission_read_json() takes */
};

const char *action_word(enum action_kind k);

/* One JSON object without space before it; the text may be any bytes. session: whose it is when the object names none, or empty. */
enum err action_read(struct slice object, struct slice session, uint64_t now_ms, struct arena *a, struct action *ret,
                     struct error *reterr);

/* Fields as people write them, to such an object, appended to *ret: `data`, `to`, `attributes`, `volatile` and lists are JSON already, numbers are digits, everything
 * else is text;
 * `user` or `session` of a `send` are whom it is to. What is no JSON where it must be is an error; everything else action_read() judges. */
enum err action_of_fields(const struct event_field *fields, size_t count, struct buf *ret, struct error *reterr);

#endif
