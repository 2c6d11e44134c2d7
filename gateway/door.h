/* gateway/door.h: who may come in. gateway_upgrade() of transport.h lives here too. */
#ifndef XD_DOOR_H
#define XD_DOOR_H

#include "gateway/auth/auth.h"
#include "gateway/transport.h"

struct gateway;

/* Checks a token now and counts the outcome. On OK the caller owns *ret; else ERR_UNAUTHORIZED with a sentence for the client. */
enum err door_check(struct gateway *g, struct slice token, const char *ip, struct auth_claims *ret,
                    struct error *reterr);

/* How many tokens the request has (query, Authorization, subprotocols), and one of them, as written. */
unsigned door_token(const struct http_request *r, struct slice *ret);

/* Counts and logs a refusal that is not auth_jwt_check()'s own, and says it. Returns ERR_UNAUTHORIZED. */
enum err door_refuse(enum auth_refusal why, struct slice ip, struct error *reterr);

/* May pages of this origin come in? If not it is counted and logged. */
enum err door_origin(const struct gateway *g, const struct http_request *r, struct error *reterr);

/* For the HTTP API: with --auth jwt a token must come in the query or the Authorization header. *ret_none: there are no tokens in this mode; otherwise
 * the caller owns *ret on OK. */
enum err door_http(struct gateway *g, const struct http_request *r, bool *ret_none, struct auth_claims *ret,
                   struct error *reterr);

#endif
