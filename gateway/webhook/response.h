/* gateway/webhook/response.h: a response of HTTP/1.1 (RFC 9112) as it arrives, byte by byte if need be. Pure; trusts nothing. */
#ifndef XD_WEBHOOK_RESPONSE_H
#define XD_WEBHOOK_RESPONSE_H

#include "base/buf.h"

#define RESPONSE_HEAD_MAX 16384u /* bytes of head and trailers together */
#define RESPONSE_BODY_MAX 262144u

enum response_state {
    RESPONSE_STATUS,
    RESPONSE_HEADERS,
    RESPONSE_BODY,   /* `left` bytes */
    RESPONSE_TO_END, /* until the connection ends */
    RESPONSE_CHUNK_SIZE,
    RESPONSE_CHUNK, /* `left` bytes, then a line break */
    RESPONSE_CHUNK_END,
    RESPONSE_TRAILERS,
    RESPONSE_DONE,
    RESPONSE_BAD
};

struct response {
    enum response_state state;
    int status;
    bool keep; /* the connection may be used again */
    uint32_t retry_after_s;
    struct buf body;
    const char *why; /* RESPONSE_BAD */
    /* inside */
    struct buf line;
    size_t head;
    uint64_t left;
    bool chunked, has_length;
};

void response_init(struct response *r);
void response_fini(struct response *r);
/* Takes what belongs to the response; returns how many bytes that were. After DONE or BAD nothing is taken. */
size_t response_feed(struct response *r, const char *p, size_t n);
/* The connection has ended. */
void response_eof(struct response *r);

#endif
