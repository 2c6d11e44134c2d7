/* gateway/http.c: the HTTP routes: health, metrics, the demo page; the API is in api.c. */
#include "base/buf.h"
#include "base/log.h"
#include "base/utf8.h"
#include "gateway/api.h"
#include "gateway/api_call.h"
#include "gateway/engine.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "gateway/mina.h"
#include "gateway/tunnel.h"
#include "gateway/web/page.h"
#include "proto/json.h"

static void respond_text(struct http_exchange *x, int status, struct slice body)
{
    x->respond(x, &(struct http_response){.status = status, .content_type = "text/plain; charset=utf-8", .body = body});
}

void api_fail(struct http_exchange *x, enum err err, const char *text)
{
    struct buf body = BUF_INIT;
    struct slice sentence = slice_str(text);
    while (!utf8_valid(sentence))
        sentence.n--; /* built with a fixed size: its last character may be cut */
    buf_printf(&body, "{\"code\":\"%s\",\"message\":", err_name(err));
    json_quote(&body, sentence);
    buf_append_str(&body, "}\n");
    metrics->errors[err]++;
    x->respond(x, &(struct http_response){.status = err_http_status(err),
                                          .headers = err == ERR_UNAUTHORIZED ? "WWW-Authenticate: Bearer\r\n" : NULL,
                                          .body = buf_slice(&body)});
    buf_fini(&body);
}

static void get_health(struct gateway *g, const struct http_request *r, struct http_exchange *x)
{
    (void)g;
    (void)r;
    respond_text(x, 200, SLICE("ok\n"));
}

static void get_ready(struct gateway *g, const struct http_request *r, struct http_exchange *x)
{
    (void)r;
    const char *why = gateway_not_ready(g);
    struct buf body = BUF_INIT;
    if (why == NULL)
        buf_printf(&body, "{\"ready\":true,\"node\":\"%s\"}\n", g->node);
    else
        buf_printf(&body, "{\"ready\":false,\"node\":\"%s\",\"reason\":\"%s\"}\n", g->node, why);
    x->respond(x, &(struct http_response){.status = why == NULL ? 200 : 503, .body = buf_slice(&body)});
    buf_fini(&body);
}

static void get_metrics(struct gateway *g, const struct http_request *r, struct http_exchange *x)
{
    (void)r;
    struct buf body = BUF_INIT;
    metrics->broker = g->broker->stats;
    metrics_render(&body);
    x->respond(x, &(struct http_response){.status = 200,
                                          .content_type = "text/plain; version=0.0.4; charset=utf-8",
                                          .body = buf_slice(&body)});
    buf_fini(&body);
}

static void get_demo(struct gateway *g, const struct http_request *r, struct http_exchange *x)
{
    if (!g->cfg->demo || r->by_api_listener) {
        api_fail(x, ERR_NOT_FOUND, "nothing here");
        return;
    }
    x->respond(x, &(struct http_response){.status = 200,
                                          .content_type = "text/html; charset=utf-8",
                                          .headers =
                                              "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; "
                                              "script-src 'unsafe-inline'; img-src data:; connect-src 'self' ws: wss:; "
                                              "base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n",
                                          .body = web_demo_page()});
}

static const struct {
    const char *path;
    bool prefix; /* anything below it instead */
    void (*get)(struct gateway *g, const struct http_request *r, struct http_exchange *x);
} routes[] = {
    {"/", false, get_demo},           {"/healthz", false, get_health},  {"/readyz", false, get_ready},
    {"/metrics", false, get_metrics}, {"/api/v1/", true, api_dispatch},
};

size_t gateway_http_body_max(const struct gateway *g, const struct http_request *r)
{
    if (slice_starts(r->path, SLICE("/api/v1/")))
        return api_body_max(g, r);
    return engine_path(g, r->path) ? g->cfg->max_message_size : 0;
}

bool gateway_http_overlaps(const struct http_request *r)
{
    return slice_starts(r->path, SLICE("/api/v1/")) && api_overlaps(r);
}

void gateway_http(struct gateway *g, const struct http_request *r, struct http_exchange *x)
{
    metrics->http_requests++;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        struct slice path = slice_str(routes[i].path);
        if (routes[i].prefix ? !slice_starts(r->path, path) : !slice_eq(r->path, path))
            continue;
        if (routes[i].get == api_dispatch || slice_eq(r->method, SLICE("GET")) || slice_eq(r->method, SLICE("HEAD")))
            routes[i].get(g, r, x);
        else
            x->respond(x, &(struct http_response){
                              .status = 405,
                              .headers = "Allow: GET, HEAD\r\n",
                              .body = SLICE("{\"code\":\"bad_request\",\"message\":\"only GET and HEAD here\"}\n")});
        return;
    }
    if (tunnel_http(g, r, x))
        return;
    if (mina_path(r->path)) {
        mina_http(g, r, x);
        return;
    }
    if (engine_path(g, r->path)) {
        engine_http(g, r, x);
        return;
    }
    if (slice_eq(r->path, SLICE("/ws")) || slice_starts(r->path, SLICE("/ws/"))) {
        x->respond(x, &(struct http_response){
                          .status = 426,
                          .headers = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n",
                          .body = SLICE("{\"code\":\"bad_request\",\"message\":\"this is a WebSocket endpoint\"}\n")});
        return;
    }
    api_fail(x, ERR_NOT_FOUND, "nothing here");
}
