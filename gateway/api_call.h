/* gateway/api_call.h: one request to the HTTP API: who asks, what the path names, how it is answered. Shared by the files api*.c. */
#ifndef XD_API_CALL_H
#define XD_API_CALL_H

#include "base/arena.h"
#include "base/buf.h"
#include "gateway/api_keys.h"
#include "gateway/protocol/protocol.h"
#include "gateway/transport.h"

#define API_PARAMS     2
#define API_REQUEST_ID 64

struct gateway;
struct api_gate;
struct api_route;
struct auth_claims;

/* Lives until it is answered: exactly once, through base.respond or one of the functions below, which all add the request's id. */
struct api_call {
    struct http_exchange base;
    struct http_exchange *outer;
    struct gateway *gw;
    struct api_keys *keys; /* a reference, with the key in it */
    struct api_key *key;   /* NULL: none was presented; then it is a route that is open to clients */
    const struct api_route *route;
    struct slice params[API_PARAMS]; /* of the path, still encoded: until the handler returns */
    char id[API_REQUEST_ID + 1];
    struct api_gate *gate; /* its client came with a token; NULL: he has not, or may be here */
};

typedef void api_handler(struct api_call *c, const struct http_request *r);

/* Of a request below /api/v1: see gateway_http_body_max() and gateway_http_overlaps(). */
size_t api_body_max(const struct gateway *g, const struct http_request *r);
bool api_overlaps(const struct http_request *r);
/* Any request below /api/v1. */
void api_dispatch(struct gateway *g, const struct http_request *r, struct http_exchange *x);

/* 200 with this JSON. */
void api_answer(struct api_call *c, struct slice json);
/* The error's status and {"code","message"}. */
void api_refuse(struct api_call *c, const struct error *error);
void api_refuse_with(struct api_call *c, enum err err, const char *why);
/* What a completion of the broker or of control.c says, as far as others may know it. */
void api_refuse_result(struct api_call *c, enum err err, const char *why);

/* Appends label and s as a JSON string; null when it is empty, or not UTF-8: others write to the store, too. */
void api_put(struct buf *b, const char *label, struct slice s);
/* The same with a time, in whatever unit; 0: null. */
void api_put_time(struct buf *b, const char *label, uint64_t at);
enum err api_check_utf8(struct slice body, struct error *reterr);

/* Asks the store whether the client with these claims is banned, or his token revoked; the answer to the call waits for that, or a refusal takes its place. For requests
 * that change nothing: they are done meanwhile. */
void api_admit(struct api_call *c, const struct auth_claims *claims, struct slice ip);
/* For api_call.c: r is held back, or has been answered in another way. */
bool api_gate_takes(struct api_call *c, const struct http_response *r);

/* Decoded and valid; *ret points into bytes. */
enum err api_param_room(struct slice raw, char bytes[NAME_MAX_ROOM], struct slice *ret, struct error *reterr);
enum err api_param_user(struct slice raw, char bytes[NAME_MAX_USER], struct slice *ret, struct error *reterr);
enum err api_param_session(struct slice raw, char bytes[NAME_MAX_KEY], struct slice *ret, struct error *reterr);
/* The same of a query; *ret is empty when it is not there. */
enum err api_query_text(struct slice query, const char *name, char *bytes, size_t size, struct slice *ret,
                        struct error *reterr);
/* Takes one of what the key may ask for in a second; false, and counted, when there is no more. */
bool api_key_take(const struct api_call *c);
/* The session that the query names; it must. */
enum err api_query_session(struct slice query, char bytes[NAME_MAX_KEY], struct slice *ret, struct error *reterr);
/* May the key do something with this room? ERR_FORBIDDEN */
enum err api_may_room(const struct api_call *c, struct slice room, struct error *reterr);

#endif
