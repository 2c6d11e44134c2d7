/* gateway/polling_http.c: requests of the long-polling transport: who may ask from where, what is wrong with a request, and what answers look like over HTTP. */
#include <stdio.h>

#include "base/mem.h"
#include "gateway/api.h"
#include "gateway/door.h"
#include "gateway/engine.h"
#include "gateway/forward.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "gateway/polling.h"
#include "gateway/protocol/engineio_payload.h"
#include "gateway/uri.h"

#define STAMP_MAX 64u /* bytes of what a client writes into each request, so that nobody caches it */

/* A GET or POST that a session has not answered yet. */
struct waiting {
    struct poll poll;
    struct gateway *gw;
    struct http_exchange *exchange;
    struct polling *polling; /* that is to answer; NULL while it is being opened */
    struct forward *forward; /* or this is */
    bool get, jsonp;
    struct slice index, origin, stamp; /* copies, behind the struct */
};

/* --- answers --- */

/* For pages of other origins: those that are allowed get their own name back, because clients 2.x ask with credentials. */
static void cors_append(struct buf *ret, struct slice origin)
{
    if (origin.n == 0)
        return;
    buf_append(ret, SLICE("Access-Control-Allow-Origin: "));
    buf_append(ret, origin);
    buf_append(ret, SLICE("\r\nAccess-Control-Allow-Credentials: true\r\nVary: Origin\r\n"));
}

static void respond(struct http_exchange *x, struct slice origin, struct http_response r)
{
    struct buf headers = BUF_INIT;
    if (r.headers != NULL)
        buf_append_str(&headers, r.headers);
    cors_append(&headers, origin);
    buf_append_char(&headers, '\0');
    r.headers = headers.p;
    x->respond(x, &r);
    buf_fini(&headers);
}

static void respond_refusal(struct http_exchange *x, struct slice origin, enum eio_refusal why)
{
    struct buf body = BUF_INIT;
    eio_refusal_append(&body, why);
    respond(x, origin,
            (struct http_response){.status = why == EIO_FORBIDDEN ? 403 : 400,
                                   .content_type = "application/json",
                                   .body = buf_slice(&body)});
    buf_fini(&body);
}

static void respond_packets(const struct waiting *w, const struct poll_answer *a)
{
    uint32_t threshold = w->gw->cfg->socketio_gzip_threshold;
    struct buf script = BUF_INIT;
    struct http_response r = {.status = 200, .body = a->body};
    if (w->jsonp) {
        eio_jsonp_append(&script, w->index, a->body);
        r.body = buf_slice(&script);
    }
    r.content_type = a->bytes   ? "application/octet-stream"
                     : w->jsonp ? "text/javascript; charset=UTF-8"
                                : "text/plain; charset=UTF-8";
    r.compress = threshold != 0 && r.body.n >= threshold;
    respond(w->exchange, w->origin, r);
    buf_fini(&script);
}

static void on_answer(struct poll *p, const struct poll_answer *a)
{
    struct waiting *w = container_of(p, struct waiting, poll);
    if (a->status == 400)
        respond_refusal(w->exchange, w->origin, a->reason);
    else if (a->status != 200)
        respond(w->exchange, w->origin, (struct http_response){.status = a->status, .content_type = "text/plain"});
    else if (w->get)
        respond_packets(w, a);
    else
        respond(w->exchange, w->origin,
                (struct http_response){.status = 200, .content_type = "text/html", .body = a->body});
    free(w);
}

static void on_found(struct poll *p, struct polling *po)
{
    struct waiting *w = container_of(p, struct waiting, poll);
    w->forward = NULL;
    w->polling = po;
}

static void on_gone(struct http_exchange *x)
{
    struct waiting *w = x->owner;
    if (w->forward != NULL)
        forward_cancel(w->forward);
    else
        polling_vanished(w->polling, &w->poll);
    free(w);
}

/* --- requests --- */

static struct waiting *wait_for(struct gateway *g, const struct http_request *r, struct http_exchange *x, bool get)
{
    bool jsonp, said;
    struct slice index = uri_query(r->query, "j", &jsonp);
    struct slice stamp = uri_query(r->query, "t", &said);
    if (stamp.n > STAMP_MAX)
        stamp = SLICE_NONE;
    struct waiting *w = xmalloc(sizeof *w + index.n + r->origin.n + stamp.n);
    char *at = (char *)(w + 1);
    *w = (struct waiting){.poll = {.answer = on_answer,
                                   .found = on_found,
                                   .revision = (uint8_t)eio_revision(uri_query(r->query, "EIO", &said))},
                          .gw = g,
                          .exchange = x,
                          .get = get,
                          .jsonp = jsonp};
    w->index = slice_put(&at, index);
    w->origin = slice_put(&at, r->origin);
    w->stamp = slice_put(&at, stamp);
    x->owner = w;
    x->gone = on_gone;
    return w;
}

static void open_session(struct gateway *g, const struct http_request *r, struct http_exchange *x)
{
    bool base64;
    struct error error = {0};
    struct polling *po;
    if (g->draining) {
        respond(x, r->origin, (struct http_response){.status = 503, .content_type = "text/plain"});
        return;
    }
    struct waiting *w = wait_for(g, r, x, true);
    (void)uri_query(r->query, "b64", &base64);
    enum err err = polling_open(g, r, &w->poll, base64 || w->jsonp, &po, &error);
    if (err == OK) {
        w->polling = po;
        polling_named(po, w->stamp);
        return;
    }
    free(w);
    x->gone = NULL;
    struct buf body = BUF_INIT;
    eio_refused_append(&body, EIO_FORBIDDEN, slice_str(error.text));
    metrics->errors[err]++;
    respond(x, r->origin,
            (struct http_response){.status = 403, .content_type = "application/json", .body = buf_slice(&body)});
    buf_fini(&body);
}

static void refuse(struct waiting *w, enum eio_refusal why)
{
    on_answer(&w->poll, &(struct poll_answer){.status = 400, .reason = why});
}

/* po NULL: no session of this node; perhaps of another. */
static void get(struct gateway *g, struct polling *po, struct slice sid, struct waiting *w)
{
    if (po != NULL)
        polling_get(po, &w->poll, w->jsonp, w->stamp);
    else if ((w->forward = forward_get(g, sid, w->jsonp, w->stamp, &w->poll)) == NULL)
        refuse(w, EIO_UNKNOWN_SID);
}

static void post(struct gateway *g, struct polling *po, struct slice sid, struct waiting *w,
                 const struct http_request *r)
{
    struct buf payload = BUF_INIT;
    bool bytes = !w->jsonp && slice_starts(r->content_type, SLICE("application/octet-stream"));
    if (w->jsonp && !eio_jsonp_take(r->body, &payload)) {
        refuse(w, EIO_BAD_REQUEST);
    } else {
        struct slice body = w->jsonp ? buf_slice(&payload) : r->body;
        if (po != NULL)
            polling_post(po, &w->poll, bytes, body);
        else if ((w->forward = forward_post(g, sid, bytes, body, &w->poll)) == NULL)
            refuse(w, EIO_UNKNOWN_SID);
    }
    buf_fini(&payload);
}

static void poll_session(struct gateway *g, const struct http_request *r, struct slice sid, struct http_exchange *x)
{
    bool is_get = slice_eq(r->method, SLICE("GET"));
    struct polling *po = polling_find(g, sid);
    if ((!is_get && !slice_eq(r->method, SLICE("POST"))) || (po == NULL && engine_find(g, sid) != NULL)) {
        respond_refusal(x, r->origin, EIO_BAD_REQUEST);
        return;
    }
    struct waiting *w = wait_for(g, r, x, is_get);
    w->polling = po;
    if (is_get)
        get(g, po, sid, w);
    else
        post(g, po, sid, w, r);
}

/* What a browser asks before it lets a page send something that is no plain form. */
static void preflight(const struct http_request *r, struct http_exchange *x)
{
    respond(x, r->origin,
            (struct http_response){.status = 204,
                                   .content_type = "text/plain",
                                   .headers = "Access-Control-Allow-Methods: GET, POST\r\n"
                                              "Access-Control-Allow-Headers: Content-Type, Authorization\r\n"
                                              "Access-Control-Max-Age: 600\r\n"});
}

/* The scripts of JSONP are asked for without an Origin; the Referer has it, unless the page forbids that: then it is one of those that have no name. */
static enum err check_origin(const struct gateway *g, const struct http_request *r, struct error *reterr)
{
    bool script;
    struct http_request asked = *r;
    (void)uri_query(r->query, "j", &script);
    if (script && r->origin.n == 0) {
        asked.origin = uri_origin(r->referer);
        if (asked.origin.n == 0)
            asked.origin = SLICE("null");
    }
    return door_origin(g, &asked, reterr);
}

void engine_http(struct gateway *g, const struct http_request *r, struct http_exchange *x)
{
    bool found;
    struct error error;
    struct slice transport = uri_query(r->query, "transport", &found);
    if (check_origin(g, r, &error) != OK) {
        respond_refusal(x, SLICE_NONE, EIO_FORBIDDEN);
        return;
    }
    if (slice_eq(r->method, SLICE("OPTIONS"))) {
        preflight(r, x);
        return;
    }
    metrics->polls++;
    if (slice_eq(transport, SLICE("websocket")) && g->cfg->socketio_transports != SIO_TRANSPORTS_POLLING) {
        respond_refusal(x, r->origin, EIO_BAD_REQUEST);
        return;
    }
    if (!slice_eq(transport, SLICE("polling")) || g->cfg->socketio_transports == SIO_TRANSPORTS_WEBSOCKET) {
        respond_refusal(x, r->origin, EIO_UNKNOWN_TRANSPORT);
        return;
    }
    struct slice sid = uri_query(r->query, "sid", &found);
    if (sid.n != 0)
        poll_session(g, r, sid, x);
    else if (!slice_eq(r->method, SLICE("GET")))
        respond_refusal(x, r->origin, EIO_BAD_METHOD);
    else if (!engine_speaks(g, r))
        respond_refusal(x, r->origin, EIO_UNSUPPORTED_VERSION);
    else
        open_session(g, r, x);
}
