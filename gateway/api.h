/* gateway/api.h: the HTTP API below /api/v1 (docs/api.md). Read-only so far, and as public as the demo: what policy presence=off hides is hidden here too. */
#ifndef XD_API_H
#define XD_API_H

#include "base/error.h"
#include "gateway/transport.h"

/* GET /api/v1/rooms?limit=&cursor= */
void api_get_rooms(struct gateway *g, const struct http_request *r, struct http_exchange *x);
/* GET /api/v1/rooms/<room>?limit=&cursor= */
void api_get_room(struct gateway *g, const struct http_request *r, struct http_exchange *x);

/* Answers with the error's status and {"code","message"}; text must not need escaping in JSON. */
void api_fail(struct http_exchange *x, enum err err, const char *text);

#endif
