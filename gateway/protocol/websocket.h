/* gateway/protocol/websocket.h: WebSocket frames (RFC 6455 §5): building the server's, taking the client's apart. Pure bytes.
 *
 * No extension is negotiated, so RSV bits must be 0; client frames must be masked (§5.1). */
#ifndef XD_WEBSOCKET_H
#define XD_WEBSOCKET_H

#include "base/buf.h"
#include "base/error.h"
#include "base/slice.h"

enum ws_opcode { WS_CONTINUATION = 0, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

#define WS_HEADER_MAX 10 /* of an unmasked frame */

/* Writes the header of an unmasked frame with n bytes of payload; returns its size. */
size_t ws_header(char ret[WS_HEADER_MAX], enum ws_opcode opcode, uint64_t n);

/* Appends one complete unmasked frame. */
void ws_frame_append(struct buf *ret, enum ws_opcode opcode, struct slice payload);

/* Appends a close frame; reason is cut to 123 bytes, at the end of a character. */
void ws_close_append(struct buf *ret, int code, struct slice reason);

/* Takes the first of complete unmasked frames, as they were appended above; false when none is left. */
bool ws_frame_take(struct slice *frames, enum ws_opcode *ret_opcode, struct slice *ret_payload);

/* Takes a stream apart into complete messages. Incoming bytes are unmasked in place. A message that lies whole in the input is handed out
 * without a copy; others are collected in `partial`, at most max_message bytes, and that memory is given back afterwards. */
struct ws_parser {
    uint32_t max_message;
    /* private */
    struct buf partial;            /* payload collected of the present message */
    struct buf held;               /* an incomplete header, or an incomplete control frame: < 140 bytes */
    uint64_t frame_left;           /* payload bytes of the present data frame still to come */
    uint8_t mask[4];               /* turned so that [0] is for the next byte */
    enum ws_opcode message_opcode; /* WS_TEXT or WS_BINARY while a message is under way, else WS_CONTINUATION */
    bool in_frame, fin;
};

struct ws_parser_events {
    /* A complete data message, or a PING, PONG or CLOSE (payload as sent). Text is valid UTF-8 already (§8.1). The payload is borrowed.
     * Return false to stop parsing (the connection is going away); the parser must not be used afterwards. */
    bool (*message)(void *owner, enum ws_opcode opcode, struct slice payload);
};

void ws_parser_init(struct ws_parser *w, uint32_t max_message);
void ws_parser_fini(struct ws_parser *w);

/* Feeds n bytes, which are modified. OK, or why the connection must be closed: *ret_close is then the close code (1002 protocol error, 1007
 * not UTF-8, 1009 too large) and *reterr says what, which and how much. A frame header that announces more than max_message is refused at
 * once, and so are lengths that do not use the fewest bytes (§5.2). Must not be fed again after an error. When an event stopped the parsing the
 * answer is OK and the parser is not touched any more. */
enum err ws_parse(struct ws_parser *w, char *p, size_t n, const struct ws_parser_events *events, void *owner,
                  int *ret_close, struct error *reterr);

/* The code and reason of a CLOSE payload (§5.5.1, §7.4): 1005 for an empty one; false when malformed (1 byte, a code that must not appear on
 * the wire, a reason that is not UTF-8). 1000-1003, 1007-1014, 3000-4999 may appear. */
bool ws_close_parse(struct slice payload, int *ret_code, struct slice *ret_reason);

#endif
