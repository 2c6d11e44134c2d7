/* gateway/protocol/frame.h: a WebSocket frame whose length is known when its payload is complete. For encoders. */
#ifndef XD_FRAME_H
#define XD_FRAME_H

#include <string.h>

#include "gateway/protocol/websocket.h"

/* Where the frame's header begins and how much was left free for it. */
struct frame {
    size_t at, header;
};

static inline size_t frame_header_size(size_t n)
{
    char ignored[WS_HEADER_MAX];
    return ws_header(ignored, WS_TEXT, n);
}

/* The length is known only afterwards: `expected` guesses it, so that the bytes seldom have to move. */
static inline struct frame frame_begin(struct buf *b, size_t expected)
{
    struct frame f = {b->n, frame_header_size(expected)};
    (void)buf_reserve(b, WS_HEADER_MAX + expected);
    b->n += f.header;
    return f;
}

static inline void frame_end(struct buf *b, struct frame f, enum ws_opcode opcode)
{
    size_t n = b->n - f.at - f.header, header = frame_header_size(n);
    if (header != f.header) {
        (void)buf_reserve(b, WS_HEADER_MAX);
        memmove(b->p + f.at + header, b->p + f.at + f.header, n);
        b->n = f.at + header + n;
    }
    (void)ws_header(b->p + f.at, opcode, n);
}

#endif
