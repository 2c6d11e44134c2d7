/* gateway/net/response.h: HTTP responses as bytes. Pure. */
#ifndef XD_RESPONSE_H
#define XD_RESPONSE_H

#include "base/buf.h"
#include "gateway/transport.h"

struct response_context {
    bool keep_alive, http_1_0;
    bool head; /* leave the body out */
    bool gzip; /* the client takes it */
    uint64_t wall_ms;
};

/* Appends the whole response. Cache-Control is no-store unless r->headers has one. */
void response_append(struct buf *ret, const struct http_response *r, const struct response_context *c);

/* Appends the body of an error: {"code":"…","message":"…"}. */
void response_error_body(struct buf *ret, const struct error *e);

#endif
