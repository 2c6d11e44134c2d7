/* gateway/api.h: the HTTP API below /api/v1 (docs/api.md): what its reading part shares, and errors of all HTTP routes. Without a key reading is as public as the
 * demo: what policy presence=off and public-history=off hide is hidden here too. */
#ifndef XD_API_H
#define XD_API_H

#include "base/error.h"
#include "broker/broker.h"
#include "gateway/protocol/protocol.h"
#include "gateway/transport.h"

/* A page of a list: the parameters `limit` and `cursor`. */
#define API_CURSOR_MAX 300
struct api_page {
    uint32_t limit;
    struct slice cursor; /* points into cursor_bytes */
    char cursor_bytes[API_CURSOR_MAX];
};
enum err api_read_page(const struct http_request *r, struct api_page *ret, struct error *reterr);
/* Appends `"sessions":[…],"next":…` of a page of members. */
void api_put_sessions(struct buf *b, const struct broker_result *r);

/* The parameter `limit`, or its default. */
enum err api_limit(struct slice query, uint32_t *ret, struct error *reterr);
/* The room that a part of a path names: decoded into ret_bytes, valid, and not the server's own. */
enum err api_room(struct slice path, char ret_bytes[NAME_MAX_ROOM], struct slice *ret, struct error *reterr);

/* Answers with the error's status and {"code","message"}. */
void api_fail(struct http_exchange *x, enum err err, const char *text);

#endif
