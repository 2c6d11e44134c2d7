/* gateway/protocol/emission.h: what is emitted to Socket.IO clients past the rooms' logs, as the API and as Redis emitters write it: npm @socket.io/redis-emitter publishes
 * msgpack [uid, {type, data: [event, …arguments], nsp}, {rooms, except, flags}] on the channels of the classic adapter; @socket.io/redis-streams-emitter appends
 * {packet: {type, data, nsp}, opts: {rooms, except, flags}} to the stream of the streams adapter, as JSON, or with bytes in it as base64 of msgpack. Pure bytes.
 *
 * Read by a parser of our own: it writes JSON while it reads and builds no tree, so what a few hostile bytes can make us do is bounded by their number. msgpack-c
 * allocates for as many elements as an array says it has, and takes no limits. */
#ifndef XD_EMISSION_H
#define XD_EMISSION_H

#include "base/buf.h"
#include "base/error.h"
#include "proto/envelope.h"

#define EMISSION_ROOMS_MAX      100 /* rooms that are named, and as many that are left out */
#define EMISSION_TIMEOUT_MS     5000u
#define EMISSION_TIMEOUT_MAX_MS 30000u

/* Rooms are names within the namespace, as Socket.IO has them: the id of a socket is one, too. */
struct emission_target {
    struct slice nsp;
    size_t room_count, except_count; /* no rooms: everybody in the namespace */
    struct slice rooms[EMISSION_ROOMS_MAX], except[EMISSION_ROOMS_MAX];
};

struct emission {
    struct emission_target to;
    struct slice event; /* a valid name; of the API it may be empty */
    bool is_volatile;   /* nothing for those who have something to read already */
    bool ack;           /* clients are asked for one, and waited for timeout_ms; of the API only */
    uint32_t timeout_ms;
    struct slice data; /* JSON, as the data of a message: {"$args":[…],"$attachments":[…]?}, or one argument */
    struct buf made;   /* what was written for that */
    struct buf bytes;  /* what was decoded before it was read */
};

/* *ret borrows from body. max_data: of the JSON. On failure there is nothing to free. */
enum err emission_read_msgpack(struct slice body, size_t max_data, struct emission *ret, struct error *reterr);
void emission_fini(struct emission *e);

/* The body of POST /emit: {namespace?, rooms?, except?, event?, data | data_base64, volatile?, ack?, timeout?}. *ret borrows from body and arena; nothing is to be freed. */
enum err emission_read_json(struct slice body, struct arena *a, struct emission *ret, struct error *reterr);

/* What an emitter asks to be done with sockets: JSON on the request channel of the classic adapter. */
enum emitter_verb { EMITTER_JOIN = 2, EMITTER_LEAVE = 3, EMITTER_DISCONNECT = 4 };
struct emitter_request {
    enum emitter_verb verb;
    struct emission_target to; /* nsp is not set: the channel has it */
    size_t room_count;         /* JOIN, LEAVE */
    struct slice rooms[EMISSION_ROOMS_MAX];
    bool close; /* DISCONNECT: the connection, too */
};
/* *ret borrows from body and arena. ERR_UNSUPPORTED: something that only Socket.IO servers ask each other. */
enum err emitter_read_request(struct slice body, struct arena *a, struct emitter_request *ret, struct error *reterr);

/* --- entries of the streams adapter's stream --- */

/* What the field `type` of an entry says; others are of servers among themselves. */
enum streamed_type { STREAMED_BROADCAST = 3, STREAMED_JOIN = 4, STREAMED_LEAVE = 5, STREAMED_DISCONNECT = 6 };

/* The fields `nsp` and `data` of a BROADCAST. *ret borrows from both and a. On failure there is nothing to free. */
enum err emission_read_streamed(struct slice nsp, struct slice data, size_t max_data, struct arena *a,
                                struct emission *ret, struct error *reterr);
/* Of the others; *ret borrows from all. */
enum err emitter_read_streamed(enum streamed_type type, struct slice nsp, struct slice data, struct arena *a,
                               struct emitter_request *ret, struct error *reterr);
/* Part of the first: data that is msgpack; *ret is empty but for `bytes`. */
enum err emission_read_streamed_msgpack(struct slice nsp, struct slice body, size_t max_data, struct emission *ret,
                                        struct error *reterr);

#endif
