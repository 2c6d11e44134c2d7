/* gateway/api_call.c: which route a request to the API takes, whether it may, and how it is answered. */
#include "gateway/api_call.h"

#include <stdio.h>
#include <strings.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/text.h"
#include "base/utf8.h"
#include "gateway/api.h"
#include "gateway/api_routes.h"
#include "gateway/gateway.h"
#include "gateway/limits.h"
#include "gateway/metrics.h"
#include "gateway/uri.h"
#include "proto/json.h"

#define MADE_ID      16
#define HEADERS_SIZE 256
#define RETRY_S      1

struct api_route {
    const char *method, *path;
    enum api_scope scope;
    bool open;
    api_handler *run;
};

static const struct api_route routes[] = {
#define X(method, path, scope, open, run) {method, path, scope, open, run},
    API_ROUTE_MAP(X)
#undef X
};

/* --- answering --- */

static void respond(struct http_exchange *x, const struct http_response *r)
{
    struct api_call *c = container_of(x, struct api_call, base);
    struct http_response with = *r;
    if (api_gate_takes(c, r))
        return;
    char headers[HEADERS_SIZE];
    bool later = r->status == 429 || r->status == 503 || r->status == 504;
    int n = snprintf(headers, sizeof headers, "X-Request-Id: %s\r\n", c->id);
    if (later)
        n += snprintf(headers + n, sizeof headers - (size_t)n, "Retry-After: %d\r\n", RETRY_S);
    if (r->headers != NULL && strlen(r->headers) < sizeof headers - (size_t)n)
        (void)snprintf(headers + n, sizeof headers - (size_t)n, "%s", r->headers);
    with.headers = headers;
    if (c->key != NULL)
        LOG(DEBUG, "api", "key=%s id=%s method=%s route=%s status=%d", log_q(slice_str(c->key->name)), c->id,
            c->route->method, c->route->path, r->status);
    c->outer->respond(c->outer, &with);
    api_keys_unref(&c->keys);
    free(c);
}

void api_answer(struct api_call *c, struct slice json)
{
    c->base.respond(&c->base, &(struct http_response){.status = 200, .body = json});
}

void api_refuse_with(struct api_call *c, enum err err, const char *why)
{
    api_fail(&c->base, err, why);
}

void api_refuse(struct api_call *c, const struct error *error)
{
    api_refuse_with(c, error->code, error->text);
}

/* Sentences about Redis are for the operator. */
void api_refuse_result(struct api_call *c, enum err err, const char *why)
{
    bool ours = err == ERR_INTERNAL || why == NULL;
    if (ours)
        LOG(WARN, "the store refused what the API asked", "id=%s code=%s why=%s", c->id, err_name(err),
            log_q(slice_str(why != NULL ? why : "")));
    api_refuse_with(c, err, ours ? "the store could not do it" : why);
}

void api_put(struct buf *b, const char *label, struct slice s)
{
    buf_append_str(b, label);
    if (s.n != 0 && utf8_valid(s))
        json_quote(b, s);
    else
        buf_append_str(b, "null");
}

void api_put_time(struct buf *b, const char *label, uint64_t at)
{
    buf_append_str(b, label);
    if (at != 0)
        buf_append_u64(b, at);
    else
        buf_append_str(b, "null");
}

enum err api_check_utf8(struct slice body, struct error *reterr)
{
    return utf8_valid(body) ? OK : fail(reterr, ERR_BAD_UTF8, "the body is not UTF-8");
}

/* --- what a request names --- */

enum err api_param_room(struct slice raw, char bytes[NAME_MAX_ROOM], struct slice *ret, struct error *reterr)
{
    return api_room(raw, bytes, ret, reterr);
}

enum err api_param_user(struct slice raw, char bytes[NAME_MAX_USER], struct slice *ret, struct error *reterr)
{
    struct slice user;
    if (!text_percent_decode(raw, bytes, NAME_MAX_USER, &user) || !utf8_name_valid(user, NAME_MAX_USER))
        return fail(reterr, ERR_INVALID_NAME, "a user is 1 to %d bytes of UTF-8 without control characters",
                    NAME_MAX_USER);
    *ret = user;
    return OK;
}

enum err api_param_session(struct slice raw, char bytes[NAME_MAX_KEY], struct slice *ret, struct error *reterr)
{
    struct slice sid;
    bool ok = text_percent_decode(raw, bytes, NAME_MAX_KEY, &sid) && sid.n != 0;
    for (size_t i = 0; ok && i < sid.n; i++)
        ok = (sid.p[i] >= '0' && sid.p[i] <= '9') || (sid.p[i] >= 'a' && sid.p[i] <= 'z') ||
             (sid.p[i] >= 'A' && sid.p[i] <= 'Z') || strchr("_.:-", sid.p[i]) != NULL;
    if (!ok)
        return fail(reterr, ERR_INVALID_NAME, "a session is 1 to %d of A-Z a-z 0-9 _ . : -", NAME_MAX_KEY);
    *ret = sid;
    return OK;
}

enum err api_query_text(struct slice query, const char *name, char *bytes, size_t size, struct slice *ret,
                        struct error *reterr)
{
    bool found;
    struct slice text = SLICE_NONE, raw = uri_query(query, name, &found);
    if (found && (!text_percent_decode(raw, bytes, size, &text) || !utf8_name_valid(text, size)))
        return fail(reterr, ERR_BAD_REQUEST, "%s must be 1 to %zu bytes of UTF-8 without control characters", name,
                    size);
    *ret = text;
    return OK;
}

enum err api_query_session(struct slice query, char bytes[NAME_MAX_KEY], struct slice *ret, struct error *reterr)
{
    bool found;
    struct slice raw = uri_query(query, "session", &found);
    return found ? api_param_session(raw, bytes, ret, reterr)
                 : fail(reterr, ERR_BAD_REQUEST, "session=… must say whose");
}

enum err api_may_room(const struct api_call *c, struct slice room, struct error *reterr)
{
    if (c->key == NULL || api_key_room(c->key, room))
        return OK;
    return fail(reterr, ERR_FORBIDDEN, "the key is not for this room");
}

/* --- the way to the handler --- */

static struct slice next_segment(struct slice *path)
{
    const char *slash = path->n > 1 ? memchr(path->p + 1, '/', path->n - 1) : NULL;
    size_t n = slash != NULL ? (size_t)(slash - path->p) : path->n;
    struct slice segment = {path->p + 1, n - 1};
    *path = slice_from(*path, n);
    return segment;
}

static bool matches(const struct api_route *route, struct slice path, struct slice ret_params[API_PARAMS])
{
    struct slice want = slice_str(route->path);
    size_t params = 0;
    while (want.n != 0 && path.n != 0) {
        struct slice w = next_segment(&want), p = next_segment(&path);
        if (slice_starts(w, SLICE("{")))
            ret_params[params++] = p;
        else if (!slice_eq(w, p))
            return false;
    }
    return want.n == 0 && path.n == 0;
}

/* NULL: none. *ret_allow: the methods with which there would be one. */
static const struct api_route *find_route(const struct http_request *r, struct slice ret_params[API_PARAMS],
                                          struct buf *ret_allow)
{
    struct slice path = slice_from(r->path, sizeof "/api/v1" - 1);
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        if (!matches(&routes[i], path, ret_params))
            continue;
        if (slice_eq(r->method, slice_str(routes[i].method)))
            return &routes[i];
        buf_append_str(ret_allow, ret_allow->n == 0 ? "Allow: " : ", ");
        buf_append_str(ret_allow, routes[i].method);
        if (strcmp(routes[i].method, "GET") == 0)
            buf_append_str(ret_allow, ", HEAD");
    }
    return NULL;
}

static void refuse_method(struct api_call *c, struct buf *allow)
{
    buf_append(allow, SLICE("\r\n\0"));
    metrics->errors[ERR_BAD_REQUEST]++;
    c->base.respond(&c->base, &(struct http_response){
                                  .status = 405,
                                  .headers = allow->p,
                                  .body = SLICE("{\"code\":\"bad_request\",\"message\":\"not with this method\"}\n")});
}

/* An id that is good for a log and a header is taken, for anything else one is made. */
static void name_request(struct api_call *c, struct slice given)
{
    bool ok = given.n != 0 && given.n <= API_REQUEST_ID;
    for (size_t i = 0; ok && i < given.n; i++)
        ok = given.p[i] > ' ' && given.p[i] < 0x7f && strchr("\"\\,;", given.p[i]) == NULL;
    if (ok)
        (void)snprintf(c->id, sizeof c->id, "%.*s", SLICE_FMT(given));
    else
        random_id(c->id, MADE_ID);
}

/* A bearer token that is an API key, as far as it looks. */
static bool presented_key(const struct http_request *r, struct slice *ret)
{
    const struct slice scheme = SLICE("bearer ");
    if (r->authorization.n < scheme.n || strncasecmp(r->authorization.p, scheme.p, scheme.n) != 0)
        return false;
    *ret = text_trim(slice_from(r->authorization, scheme.n));
    return slice_starts(*ret, SLICE(API_KEY_PREFIX));
}

bool api_key_take(const struct api_call *c)
{
    return limits_take(c->gw->limits, LIMIT_KEY, slice_str(c->key->name), c->key->rate, 0);
}

/* Backends have a port of their own, and this is not it. */
static bool elsewhere(const struct gateway *g, const struct http_request *r)
{
    return g->cfg->api_listen.count != 0 && !r->by_api_listener;
}

/* OK with a key, or without one where none is needed. Whoever has none is not told why, or what a good one could do. */
static enum err admit(struct api_call *c, const struct http_request *r, struct error *reterr)
{
    struct gateway *g = c->gw;
    struct slice key;
    if (elsewhere(g, r) && !c->route->open)
        return fail(reterr, ERR_NOT_FOUND, "nothing here");
    if (g->api_keys == NULL && !c->route->open)
        return fail(reterr, ERR_UNSUPPORTED, "the server API is off: the gateway has no api-keys");
    bool has_key = g->api_keys != NULL && !elsewhere(g, r) && presented_key(r, &key);
    if (!has_key && c->route->open)
        return OK;
    c->key = has_key ? api_keys_find(g->api_keys, key) : NULL;
    if (c->key == NULL) {
        metrics->api_refused++;
        LOG_PEER(INFO, "api key refused", "peer=%s id=%s key=%s", log_q(r->ip), c->id, has_key ? "unknown" : "none");
        return fail(reterr, ERR_UNAUTHORIZED, "an API key is needed");
    }
    c->keys = api_keys_ref(g->api_keys);
    if (!api_key_has(c->key, c->route->scope))
        return fail(reterr, ERR_FORBIDDEN, "the key has not the scope %s", api_scope_name(c->route->scope));
    if (!api_key_take(c))
        return fail(reterr, ERR_RATE_LIMITED, "more than %u requests per second with this key", c->key->rate);
    return OK;
}

/* Only who has a key may make us keep more. */
size_t api_body_max(const struct gateway *g, const struct http_request *r)
{
    struct slice key;
    bool known =
        g->api_keys != NULL && !elsewhere(g, r) && presented_key(r, &key) && api_keys_find(g->api_keys, key) != NULL;
    return known ? g->cfg->api_body_size : 0;
}

bool api_overlaps(const struct http_request *r)
{
    struct slice path = slice_from(r->path, sizeof "/api/v1" - 1);
    return slice_eq(r->method, SLICE("POST")) &&
           (slice_eq(path, SLICE("/publish")) || slice_eq(path, SLICE("/publish/batch")) ||
            slice_eq(path, SLICE("/send")) || slice_eq(path, SLICE("/broadcast")));
}

void api_dispatch(struct gateway *g, const struct http_request *r, struct http_exchange *x)
{
    struct api_call *c = xcalloc(1, sizeof *c);
    struct error error = {0};
    struct buf allow = BUF_INIT;
    metrics->api_requests++;
    c->base.respond = respond;
    c->outer = x;
    c->gw = g;
    name_request(c, r->request_id);
    c->route = find_route(r, c->params, &allow);
    if (c->route == NULL && allow.n != 0)
        refuse_method(c, &allow);
    else if (c->route == NULL)
        api_refuse_with(c, ERR_NOT_FOUND, "nothing here");
    else if (admit(c, r, &error) != OK)
        api_refuse(c, &error);
    else
        c->route->run(c, r);
    buf_fini(&allow);
}
