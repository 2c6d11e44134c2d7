/* gateway/protocol/socketio.h: Socket.IO protocol 5 (clients 3.x and 4.x, over Engine.IO 4) and 4 (2.x, over Engine.IO 3). Pure bytes.
 *
 * docs/socketio.md says what an event means here and how it looks to clients of other protocols. */
#ifndef XD_SOCKETIO_H
#define XD_SOCKETIO_H

#include "gateway/protocol/engineio.h"
#include "gateway/protocol/protocol.h"
#include "proto/json.h"

#define SIO_ATTACHMENTS_MAX 10
#define SIO_NAMESPACE_MAX   100 /* bytes; with a comma and the name of a room it must fit into NAME_MAX_ROOM */
#define SIO_ID_MAX          16  /* digits: all whole numbers of JavaScript */

enum sio_type {
    SIO_CONNECT,
    SIO_DISCONNECT,
    SIO_EVENT,
    SIO_ACK,
    SIO_CONNECT_ERROR,
    SIO_BINARY_EVENT,
    SIO_BINARY_ACK,
    SIO_TYPES
};

/* Everything points into the message, or into the assembly. */
struct sio_packet {
    enum sio_type type;
    uint32_t attachment_count;
    struct slice nsp;        /* "/", "/admin" */
    struct slice query;      /* what followed a ? in it; clients 2.x */
    struct slice id;         /* digits; empty: none */
    struct slice payload;    /* valid JSON; empty: none */
    struct json_value event; /* EVENT: its name, a string or a number as written */
    struct slice attachments[SIO_ATTACHMENTS_MAX];
};

/* Takes one text packet apart. ERR_BAD_REQUEST for all that must end the connection, by the rules of the official decoder. */
enum err sio_parse(struct slice text, struct sio_packet *ret, struct error *reterr);

/* A packet that waits for its attachments. Zero-initialised is empty. */
struct sio_assembly {
    size_t max_bytes; /* of the attachments of a packet, together; set by the owner */
    /* private */
    struct buf text, bytes;
    uint32_t expected, count;
    size_t ends[SIO_ATTACHMENTS_MAX]; /* of the attachments in bytes */
};

void sio_assembly_fini(struct sio_assembly *a);
/* Of a packet whose attachments have not all come, what has: at 0 its text, then its attachments. False: there is no more. Borrowed. */
bool sio_assembly_piece(const struct sio_assembly *a, uint32_t at, struct slice *ret);

/* Takes the data of one MESSAGE. *ret_complete: *ret is a whole packet, valid until the next call; else its attachments are still to come.
 * An error ends the connection. */
enum err sio_assemble(struct sio_assembly *a, struct slice data, bool binary, bool *ret_complete,
                      struct sio_packet *ret, struct error *reterr);

/* The name of an EVENT, valid as the name of an event. *ret_id is set first, so that an error can be answered. */
enum err sio_event_name(const struct sio_packet *p, struct arena *a, struct slice *ret, struct error *reterr);

/* An EVENT as a wish of the kind: its first argument has the members of the native frame, or, for those that have a room and little more, is the
 * room. On failure ret->id is right all the same. */
enum err sio_decode_verb(const struct sio_packet *p, enum command_kind kind, struct arena *a, struct command *ret,
                         struct error *reterr);

/* An EVENT as a message that is still to get a room: its event and data. */
enum err sio_decode_message(const struct sio_packet *p, struct arena *a, struct command *ret, struct error *reterr);

/* Names that clients' libraries keep for themselves: an event of that name must not reach them. */
bool sio_reserved(enum eio_revision revision, struct slice event);

/* The protocol of one namespace: what is encoded for its clients begins with its name. */
struct sio_protocol {
    struct protocol_ops ops;
    enum eio_revision revision;
    bool recovers;    /* CONNECT says with what to come back, events say how far their reader has been told */
    struct slice nsp; /* points behind the struct */
};

/* The protocol that these are, or NULL: it is another one. */
const struct sio_protocol *sio_protocol_of(const struct protocol_ops *ops);

/* free() ends it. */
struct sio_protocol *sio_protocol_create(enum eio_revision revision, struct slice nsp, bool recovers);

/* Appends CONNECT_ERROR of a namespace that does not exist, as a frame. */
void sio_unknown_namespace_append(struct buf *ret, enum eio_revision revision, struct slice nsp);
/* CONNECT_ERROR with an error; its `before_welcome` is not looked at. */
void sio_refusal_append(struct buf *ret, enum eio_revision revision, struct slice nsp, const struct event *e);
/* The event $offset, which says nothing but how far its reader has been told. */
void sio_offset_event_append(struct buf *ret, struct slice nsp, struct slice offset);
/* DISCONNECT by the server. */
void sio_disconnect_append(struct buf *ret, struct slice nsp);

/* --- what a message's data looks like where it must be JSON: socketio_data.c --- */

/* Makes the data of arguments: the text of a JSON array without its first `skip` elements. One argument is itself the data, binary if it is an attachment;
 * anything else becomes {"$args":[…]}, with "$attachments":["base64",…] if there are any. */
enum err sio_data_from_arguments(const struct sio_packet *p, struct slice array, size_t skip, struct arena *a,
                                 struct command *ret, struct error *reterr);

/* The way back. */
struct sio_arguments {
    struct slice text; /* JSON values with commas between them, may be empty */
    uint32_t attachment_count;
    struct slice attachments[SIO_ATTACHMENTS_MAX];
};
/* Data that is not of that form, or wrong, is one argument as it is. */
void sio_arguments_from_data(struct slice data, enum data_type type, struct arena *a, struct sio_arguments *ret);

/* True when every placeholder in valid JSON is that of an attachment there is: others would end the connection of whoever gets them. */
bool sio_placeholders_valid(struct slice json, uint32_t attachment_count);

#endif
