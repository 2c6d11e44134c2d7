/* gateway/protocol/engineio_payload.h: several Engine.IO packets as the body of one HTTP request or answer: the long-polling transport of revisions 3 and 4. Pure bytes.
 *
 * The core sees the same messages as over a WebSocket: a text that begins with its type, or bytes (of revision 3 with the byte 4 in front). */
#ifndef XD_ENGINEIO_PAYLOAD_H
#define XD_ENGINEIO_PAYLOAD_H

#include "gateway/protocol/engineio.h"

/* The body of a POST, packet by packet. */
struct eio_payload {
    enum eio_revision revision;
    bool bytes;        /* revision 3: the body is application/octet-stream */
    struct slice rest; /* borrowed */
    /* private */
    bool begun;
    struct buf decoded;
};

/* Everything but octet-stream must be UTF-8: ERR_BAD_REQUEST otherwise, and for a body without any packet. */
enum err eio_payload_begin(struct eio_payload *ret, enum eio_revision revision, bool bytes, struct slice body,
                           struct error *reterr);
void eio_payload_fini(struct eio_payload *p);
/* Is there another one? */
bool eio_payload_more(const struct eio_payload *p);
/* Takes the next packet; *ret is valid until the next call. An error ends the connection. */
enum err eio_payload_next(struct eio_payload *p, struct slice *ret, bool *ret_binary, struct error *reterr);

/* Bytes as base64, as they stand behind the letter b; of revision 3 the type is first. *ret is what is in decoded. A WebSocket may carry them too. */
enum err eio_base64_take(enum eio_revision revision, struct slice text, struct buf *decoded, struct slice *ret,
                         struct error *reterr);

/* Appends what a GET is answered with. frames: complete unmasked frames of a server, as they would go to a WebSocket; of those that are neither text nor
 * bytes, CLOSE becomes `closing`, a packet, and others are left out. base64: the client wants no octet-stream. *ret_bytes: the answer is octet-stream. */
void eio_payload_append(struct buf *ret, enum eio_revision revision, struct slice frames, bool base64, char closing,
                        bool *ret_bytes);

/* JSONP: ___eio[index]("…"); index keeps its digits only. */
void eio_jsonp_append(struct buf *ret, struct slice index, struct slice payload);
/* The field `d` of a form, as JSONP clients post a payload; empty if there is none. False: it is not percent-encoded as it should be. */
bool eio_jsonp_take(struct slice form, struct buf *ret);

#endif
