/* gateway/protocol/engineio.h: Engine.IO 3 and 4: the packets below Socket.IO, as the WebSocket transport has them. Pure bytes.
 *
 * A packet is a WebSocket text message: one digit, its type, then its data. Binary messages are the data of a MESSAGE; revision 3 puts a byte with the type in front. */
#ifndef XD_ENGINEIO_H
#define XD_ENGINEIO_H

#include "base/buf.h"
#include "base/error.h"
#include "base/slice.h"

enum eio_revision { EIO_3 = 3, EIO_4 = 4 };

enum eio_type { EIO_OPEN, EIO_CLOSE, EIO_PING, EIO_PONG, EIO_MESSAGE, EIO_UPGRADE, EIO_NOOP, EIO_TYPES };

struct eio_packet {
    enum eio_type type;
    bool binary;
    struct slice data; /* points into the message */
};

/* Errors of the opening request, as {"code","message"}: the codes of the official server. */
enum eio_refusal {
    EIO_UNKNOWN_TRANSPORT,
    EIO_UNKNOWN_SID,
    EIO_BAD_METHOD,
    EIO_BAD_REQUEST,
    EIO_FORBIDDEN,
    EIO_UNSUPPORTED_VERSION,
    EIO_REFUSALS
};

/* What the open packet tells the client. */
struct eio_open {
    struct slice sid;
    uint32_t ping_interval_ms, ping_timeout_ms, max_payload;
    bool upgrade; /* to a WebSocket */
};

/* Any EIO but 4 means revision 3, as the official server has it. */
enum eio_revision eio_revision(struct slice eio);

/* ERR_BAD_REQUEST for what must end the connection: no packet, a type that does not exist, a binary message of revision 3 that is no MESSAGE. */
enum err eio_parse(enum eio_revision revision, struct slice message, bool binary, struct eio_packet *ret,
                   struct error *reterr);

/* Appends the open packet as a complete WebSocket frame. */
void eio_open_append(struct buf *ret, const struct eio_open *o);

/* {"code":0,"message":"Transport unknown"} */
void eio_refusal_append(struct buf *ret, enum eio_refusal why);
/* The same with a sentence of our own. */
void eio_refused_append(struct buf *ret, enum eio_refusal why, struct slice sentence);

#endif
