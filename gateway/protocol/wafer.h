/* gateway/protocol/wafer.h: tunnels (信道) as the Wafer client SDKs speak them: text frames `type` or `type:content` (docs/wafer.md). */
#ifndef XD_WAFER_H
#define XD_WAFER_H

#include "gateway/protocol/protocol.h"

/* UNKNOWN: to be ignored, as the SDKs do with what they do not know. */
enum wafer_type { WAFER_MESSAGE, WAFER_PING, WAFER_PONG, WAFER_CLOSE, WAFER_UNKNOWN };

/* What a client sends. content: behind the colon as written, of a message; the SDKs of business servers take it for JSON or, if it is none, for plain text. */
struct wafer_packet {
    enum wafer_type type;
    struct slice content;
};

/* Any text is a packet. *ret points into it. */
void wafer_read(struct slice text, struct wafer_packet *ret);

/* Is it what a client can take as a message: a JSON object? *reterr says what is wrong. */
enum err wafer_check_content(struct slice content, struct error *reterr);

/* Append a complete frame: a message whose content was found good; a client that gets `close` does not come back. */
void wafer_message(struct slice content, struct buf *ret);
void wafer_close(struct buf *ret);

/* As in protocol.h: a message of a room becomes message:{"type":<its event, or "message">,"content":<its data>}; bytes are base64, with "binary":true. Tunnels are chosen by
 * their path, not by a subprotocol, and their packets are no commands: decode() takes nothing. */
extern const struct protocol_ops protocol_wafer;

#endif
