/* gateway/protocol/protocol.h: what a client protocol is: bytes <-> commands and events. No I/O, no clock, no state of its own.
 *
 * Adding a protocol is one file and one row in protocols.c. */
#ifndef XD_PROTOCOL_H
#define XD_PROTOCOL_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/slice.h"
#include "proto/envelope.h"

#define NAME_MAX_ROOM  255 /* bytes; docs/protocol.md */
#define NAME_MAX_USER  128
#define NAME_MAX_EVENT 128
#define NAME_MAX_KEY   64
#define NAME_MAX_ID    66 /* the id a client gives a frame, as written: 64 bytes and two quotes */

#define COMMAND_MAP(X)                                                                                                 \
    X(CMD_JOIN, "join")                                                                                                \
    X(CMD_LEAVE, "leave")                                                                                              \
    X(CMD_PUBLISH, "publish")                                                                                          \
    X(CMD_SEND, "send")                                                                                                \
    X(CMD_BROADCAST, "broadcast")                                                                                      \
    X(CMD_PRESENCE, "presence")                                                                                        \
    X(CMD_HISTORY, "history")                                                                                          \
    X(CMD_AUTH, "auth")                                                                                                \
    X(CMD_CALL, "call")                                                                                                \
    X(CMD_RESUME, "resume")                                                                                            \
    X(CMD_PING, "ping")                                                                                                \
    X(CMD_WATCH, "watch")                                                                                              \
    X(CMD_UNWATCH, "unwatch")                                                                                          \
    X(CMD_READ, "read")

#define X(code, name) code,
enum command_kind { COMMAND_MAP(X) COMMANDS };
#undef X

/* What a client has seen of a room already: all that is after the offset `start`, up to `at`. */
struct seen {
    struct position at;
    uint64_t start; /* 0: it began before anything that matters now */
};

/* What a client asks for. Slices point into the frame or the arena. Names are valid (docs/protocol.md) when decode succeeded; `data` is one
 * valid JSON value or any bytes. Absent members are empty. */
struct command_position {
    struct slice room;
    struct seen seen;
};

struct command {
    enum command_kind kind;
    struct slice id; /* raw: echoed as written */
    struct slice room, event, key, to_user, to_session, cursor, data;
    struct slice session, token; /* resume; auth has a token of another kind */
    struct slice code, appid;    /* auth: of wx.login, instead of a token */
    enum data_type data_type;
    uint32_t limit;
    bool echo;    /* publish: the sender gets it too */
    bool granted; /* join: not asked for by the client but by its token */
    bool has_after, has_before, has_position;
    uint64_t after, before;                   /* history: offsets, exclusive */
    struct seen seen;                         /* join with a position */
    const struct command_position *positions; /* resume: the same, for every room */
    size_t position_count;
    const struct slice *users; /* watch, unwatch; NULL: not given */
    size_t user_count;
    bool from_read; /* join: `seen` is what the user has read */
    bool back;      /* read: it may be less than before */
    bool devices;   /* watch: tell of every session, not only of the first and the last */
};

/* What a client is told. One flat struct: each kind uses the fields that docs/protocol.md lists for it. */
enum event_kind {
    EVENT_WELCOME,
    EVENT_MESSAGE,
    EVENT_ENTER,
    EVENT_EXIT,
    EVENT_SUSPEND,
    EVENT_ACK,
    EVENT_ERROR,
    EVENT_PONG,
    EVENT_GOODBYE,
    EVENT_RECOVERED,
    EVENT_JOINED,
    EVENT_LEFT,
    EVENT_STATUS,
    EVENT_WATCHING,
    EVENT_READ,
    EVENT_TOKEN,
    EVENT_EXPIRING,
    EVENTS
};

struct event_member {
    struct slice sid, user;
    uint64_t since_ms;
    bool suspended;
};

struct event_user {
    struct slice user;
    enum user_state state;
    uint64_t sessions, since_ms, seen_ms; /* times: 0 if not known */
};

struct event {
    enum event_kind kind;
    struct slice id;   /* what is answered, raw; empty: nothing */
    struct slice room; /* may be empty for ACK, ERROR */
    struct slice name; /* MESSAGE: event name */
    struct slice sid;  /* MESSAGE: sender (empty: backend); ENTER…: who; WELCOME: the client itself */
    struct slice user; /* its user, empty: none */
    struct slice data;
    enum data_type data_type;
    struct slice
        trail; /* MESSAGE: how far its reader has been told of other rooms (protocol/socketio_offset.h); WELCOME: where it began */
    const struct position *position;       /* MESSAGE, ACK, JOINED; NULL: none */
    uint64_t time_ms;                      /* MESSAGE, ENTER, EXIT, SUSPEND, PONG */
    uint64_t total;                        /* EXPIRING: seconds */
    bool has_total;                        /* ACK */
    bool stored;                           /* ACK of a send: he was not connected, it is kept for him */
    uint32_t replicas;                     /* ACK of a publish where policy asks for replicas: so many have it */
    enum exit_reason exit_reason;          /* EXIT */
    struct slice token, node;              /* WELCOME; TOKEN: another kind of token */
    uint32_t heartbeat_s, resume_window_s; /* WELCOME */
    uint64_t expires_s;          /* WELCOME, TOKEN, EXPIRING, ACK of an auth: of the token, Unix seconds; 0: never */
    bool asks;                   /* MESSAGE to Socket.IO clients: `id` is none of theirs, they are to answer it */
    bool resumed;                /* WELCOME */
    bool before_welcome;         /* ERROR, GOODBYE: instead of a welcome */
    bool recovered;              /* RECOVERED; if not, text says why: expired, fork, not_retained */
    bool has_more, more;         /* ACK of a history */
    enum err err;                /* ERROR */
    struct slice text;           /* ERROR: the sentence; GOODBYE, LEFT: the reason */
    struct slice reason;         /* ERROR banned: as whoever banned has put it, may be empty */
    uint64_t until_ms;           /* ERROR banned: 0: for ever */
    uint64_t reconnect_after_ms; /* GOODBYE; ERROR: when to try again, 0: not said */
    const struct event_member *members; /* ACK of presence; NULL: none */
    size_t member_count;
    const struct event_user *users; /* STATUS: one; WATCHING, ACK of watch; NULL: none */
    size_t user_count;
    struct slice next; /* ACK of presence: cursor of the next page, empty: none */
};

struct protocol_ops {
    const char *name;        /* in the session store and logs */
    const char *subprotocol; /* Sec-WebSocket-Protocol it answers to */

    /* True when frame is a heartbeat of this protocol (answered before anything is parsed); *ret_answer is then the payload of the text frame
     * to answer with (static storage), or empty for none. */
    bool (*heartbeat)(struct slice frame, bool binary, struct slice *ret_answer);

    /* Decodes one complete WebSocket message. On failure *reterr says why, and *ret holds at least `id` and `room` as far as they were
     * understood (both may be empty), so that the error can be answered. */
    enum err (*decode)(struct slice frame, bool binary, struct arena *a, struct command *ret, struct error *reterr);

    /* Appends the complete WebSocket frame(s) of e (server to client: unmasked), if e means anything in this protocol. All clients with the same ops
     * share the bytes: the address of the ops is the encoding key. */
    void (*encode)(const struct protocol_ops *self, const struct event *e, struct buf *ret);
};

extern const struct protocol_ops protocol_native;

/* Chooses by the client's Sec-WebSocket-Protocol header (a comma-separated list, may be empty). *ret_selected is the subprotocol to echo, or
 * empty. An offer with nothing we know gets the native protocol without echo, as RFC 6455 §4.2.2 allows. */
const struct protocol_ops *protocol_select(struct slice offered, struct slice *ret_selected);

const char *command_name(enum command_kind kind);
/* False when there is no such command. */
bool command_find(struct slice name, enum command_kind *ret);

#endif
