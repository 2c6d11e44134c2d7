/* proto/envelope.h: the envelope as a plain struct, and its bytes (proto/envelope.proto).
 *
 * Every slice is borrowed: from the caller when packing, from the packed bytes or the arena when unpacking. */
#ifndef XD_PROTO_ENVELOPE_H
#define XD_PROTO_ENVELOPE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/slice.h"
#include "proto/position.h"

/* Where a message stood before the store lost it and a node appended it again (docs/reliability.md, "Forks"). at.offset is 0 for all others. The
 * tag names the message, however often that happens to it. */
struct was {
    struct position at;
    uint64_t since; /* the last offset which the lost branch has in common with the log */
};

enum envelope_kind {
    ENVELOPE_MESSAGE = 1,
    ENVELOPE_ENTER,
    ENVELOPE_EXIT,
    ENVELOPE_SUSPEND,
    ENVELOPE_PROBE,
    ENVELOPE_TAKEN,   /* to the inbox of a node: `node` has resumed the session `from`, see whether it is still yours */
    ENVELOPE_CONTROL, /* to the node of the session `from`: do `event` with it, and tell `node`; `data` is JSON */
    ENVELOPE_CONTROLLED, /* the answer: what was asked as `id` is done, or why not */
    ENVELOPE_VERDICT, /* to all nodes, in $all: a user was banned, or tokens revoked; `event` is "user" or "token", `user` the name */
    ENVELOPE_STATUS, /* to who watches the user `room`: he is there, away, or gone */
    ENVELOPE_READ,   /* in $user:<id>: how far that user has read the room `read_room` */
    ENVELOPE_EMIT, /* to all nodes that listen to the room: emit `data` to those of their Socket.IO clients who are meant. `from` names it; with `again`, tell `node` who was
                        meant and what they answered, as CONTROLLED */
    ENVELOPE_KINDS
};

/* A user is there as long as he has a session; suspended: all of them are parked. */
enum user_state { USER_OFFLINE, USER_SUSPENDED, USER_ONLINE, USER_STATES };

/* JSON: data is one valid JSON value. BINARY: any bytes. EMISSION: JSON that says itself what is meant and for whom (gateway/protocol/emission.h); in $namespace:… alone. */
enum data_type { DATA_JSON = 0, DATA_BINARY = 1, DATA_EMISSION = 2, DATA_TYPES };

#define EXIT_REASON_MAP(X)                                                                                             \
    X(EXIT_LEAVE, "leave")                                                                                             \
    X(EXIT_DISCONNECT, "disconnect")                                                                                   \
    X(EXIT_NODE_LOST, "node_lost")                                                                                     \
    X(EXIT_KICKED, "kicked")

enum exit_reason {
#define X(code, name) code,
    EXIT_REASON_MAP(X)
#undef X
        EXIT_REASONS
};

struct envelope {
    enum envelope_kind kind;
    enum data_type data_type;
    enum exit_reason reason;
    bool again; /* ENTER of an active member: a marker for its own node, no news for the others. EMIT: it is answered */
    uint32_t total;
    uint64_t time_ms;
    struct slice room, event, id, from, user, node, except, data;
    struct position position;   /* of a MESSAGE; the room's head for the other kinds */
    char prev[TAG_LEN + 1];     /* tag of the message before this one, empty for the first */
    struct was was;             /* MESSAGE */
    enum user_state user_state; /* STATUS; total and time_ms (since when) with it */
    uint64_t seen_ms, version;  /* STATUS */
    struct slice read_room;     /* READ */
    struct position read;       /* READ; offset 0: nothing yet */
};

const char *exit_reason_name(enum exit_reason reason);

/* Appends e without what the publish script adds (offset, time, prev; for kinds other than MESSAGE also total and tag), ending
 * just before the bytes of data: the caller sends these bytes, then e->data, and the script joins them. */
void envelope_pack_head(const struct envelope *e, struct buf *ret);

/* Appends the whole of e: what arrives on a channel. */
void envelope_pack(const struct envelope *e, struct buf *ret);

/* Unpacks what arrived on a channel. Strings are checked to be UTF-8 and within the limits of docs/protocol.md.
 * ERR_UNKNOWN_TYPE for a kind that only newer nodes know, to be ignored; ERR_BAD_REQUEST for anything else. *ret is then untouched. */
enum err envelope_unpack(struct slice bytes, struct arena *a, struct envelope *ret, struct error *reterr);

#endif
