/* gateway/tunnel_http.c: what business servers ask the tunnel service for: URLs of tunnels, and pushes to them. */
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/utf8.h"
#include "gateway/gateway.h"
#include "gateway/limits.h"
#include "gateway/metrics.h"
#include "gateway/push.h"
#include "gateway/secret.h"
#include "gateway/tenants.h"
#include "gateway/transport.h"
#include "gateway/tunnel.h"
#include "gateway/tunnel_body.h"
#include "gateway/webhook/signature.h"
#include "gateway/webhook/url.h"
#include "proto/json.h"

#define ARENA_BYTES ((size_t)1 << 20)
#define HOST_MAX    255u

/* What a request comes to: who asks, and for what. */
struct visit {
    struct gateway *gw;
    struct http_exchange *x;
    const struct tenant *tenant; /* until the handler returns */
    const char *key;             /* the same: what it is signed with */
    struct wafer_request request;
};

/* --- answers --- */

/* Always with status 200: the SDKs show code and message then, and nothing otherwise. */
static void refuse(struct gateway *g, struct http_exchange *x, enum wafer_code code, const char *text)
{
    struct buf body = BUF_INIT;
    struct slice sentence = slice_str(text);
    while (!utf8_valid(sentence))
        sentence.n--; /* built with a fixed size */
    (void)g;
    metrics->tunnel_refused++;
    LOG_PEER(INFO, "request for tunnels refused", "code=%d why=%s", (int)code, log_q(sentence));
    buf_printf(&body, "{\"code\":%d,\"message\":", (int)code);
    json_quote(&body, sentence);
    buf_append_str(&body, "}\n");
    x->respond(x, &(struct http_response){.status = 200, .body = buf_slice(&body)});
    buf_fini(&body);
}

static void answer(struct http_exchange *x, struct slice data, bool as_text, const char *signature)
{
    struct buf body = BUF_INIT;
    buf_append_str(&body, "{\"code\":0,\"message\":\"OK\",\"data\":");
    if (as_text)
        json_quote(&body, data);
    else
        buf_append(&body, data);
    if (as_text && signature == NULL)
        buf_append_str(&body, ",\"dataEncode\":\"json\"");
    if (signature != NULL)
        buf_printf(&body, ",\"signature\":\"%s\"", signature);
    buf_append_str(&body, "}\n");
    x->respond(x, &(struct http_response){.status = 200, .body = buf_slice(&body)});
    buf_fini(&body);
}

/* --- who asks --- */

static enum wafer_code identify(struct visit *v, struct error *reterr)
{
    const struct wafer_request *r = &v->request;
    char name[TENANT_ID_MAX + 16];
    v->tenant = tenants_find(tunnels_tenants(v->gw), r->id);
    if (v->tenant == NULL) {
        (void)fail(reterr, ERR_UNAUTHORIZED, "unknown tcId");
        return WAFER_UNKNOWN_TENANT;
    }
    v->key = tenant_proved(v->tenant, r->data, r->signature, r->key);
    if (v->key == NULL) {
        (void)fail(reterr, ERR_UNAUTHORIZED, "%s",
                   r->signature.n == 0 && v->tenant->signatures ? "signature is missing" : "check signature failed");
        return r->signature.n == 0 && v->tenant->signatures ? WAFER_MISSING : WAFER_SIGNATURE;
    }
    (void)snprintf(name, sizeof name, "wafer:%s", v->tenant->id);
    if (!limits_take(v->gw->limits, LIMIT_KEY, slice_str(name), v->tenant->requests, 0)) {
        (void)fail(reterr, ERR_RATE_LIMITED, "more than %u requests per second", v->tenant->requests);
        return WAFER_TOO_OFTEN;
    }
    return WAFER_OK;
}

/* --- /get/wsurl --- */

/* An URL on its way to the store. */
struct offering {
    struct gateway *gw;
    struct http_exchange *x;
    struct buf data;
    char signature[WAFER_SIGNATURE_LEN + 1];
};

static void on_offered(void *arg, const struct broker_result *r)
{
    struct offering *o = arg;
    if (r->err == OK) {
        metrics->tunnel_urls++;
        answer(o->x, buf_slice(&o->data), true, o->signature);
    } else {
        refuse(o->gw, o->x, WAFER_UNAVAILABLE, "the store does not answer; try again");
    }
    buf_fini(&o->data);
    free(o);
}

static bool host_allowed(const struct config *cfg, struct slice host)
{
    if (host.n == 0 || host.n > HOST_MAX)
        return false;
    for (size_t i = 0; i < cfg->wafer_hosts.count; i++)
        if (slice_eq(host, slice_str(cfg->wafer_hosts.items[i])))
            return true;
    return false;
}

static enum wafer_code put_base(const struct visit *v, struct slice host, struct buf *ret, struct error *reterr)
{
    const struct config *cfg = v->gw->cfg;
    if (cfg->wafer_url != NULL) {
        buf_append_str(ret, cfg->wafer_url);
        return WAFER_OK;
    }
    if (!host_allowed(cfg, host)) {
        (void)fail(reterr, ERR_FORBIDDEN, "tunnels do not connect to this host (wafer-host)");
        return WAFER_HOST;
    }
    buf_append_str(ret, "wss://");
    buf_append(ret, host);
    return WAFER_OK;
}

static void offer(const struct visit *v, struct slice receive_url, struct buf *url)
{
    struct gateway *g = v->gw;
    struct offering *o = xcalloc(1, sizeof *o);
    struct buf whose = BUF_INIT;
    char sid[SID_LEN + 1], ticket[TICKET_LEN + 1], name[SECRET_HASH_LEN + 1];
    random_id(sid, SID_LEN);
    random_id(ticket, TICKET_LEN);
    secret_hash(slice_str(ticket), name);
    buf_append_str(url, TUNNEL_PATH);
    buf_append_str(url, ticket);
    o->gw = g;
    o->x = v->x;
    buf_printf(&o->data, "{\"tunnelId\":\"%s\",\"connectUrl\":", sid);
    json_quote(&o->data, buf_slice(url));
    buf_append_char(&o->data, '}');
    wafer_sign(buf_slice(&o->data), slice_str(v->key), o->signature);
    buf_printf(&whose, "%s %.*s", v->tenant->id, SLICE_FMT(receive_url));
    g->broker->ops->tunnel_offer(g->broker,
                                 &(struct tunnel_offer){.ticket = slice_str(name),
                                                        .sid = slice_str(sid),
                                                        .tunnel = buf_slice(&whose),
                                                        .ttl_ms = g->cfg->wafer_url_time_s * 1000u},
                                 on_offered, o);
    buf_fini(&whose);
}

/* What stands for a * on the list may be anything, also what no request can have. */
static bool can_be_posted_to(struct slice url)
{
    AUTO_FREE char *text = xstrndup(url.p, url.n);
    struct webhook_url parsed;
    struct error ignored;
    if (url.n > WEBHOOK_URL_MAX || webhook_url_parse(text, &parsed, &ignored) != OK)
        return false;
    webhook_url_fini(&parsed);
    return true;
}

static void get_wsurl(struct visit *v, const struct http_request *r, struct arena *a)
{
    struct slice receive_url;
    struct buf url = BUF_INIT;
    struct error error = {0};
    enum wafer_code code = wafer_read_wsurl(v->request.data, a, &receive_url, &error);
    if (code == WAFER_OK && (!tenant_may_receive(v->tenant, receive_url) || !can_be_posted_to(receive_url))) {
        (void)fail(&error, ERR_FORBIDDEN, "receiveUrl is not on the list of tenant %.64s", v->tenant->name);
        code = WAFER_RECEIVE_URL;
    }
    if (code == WAFER_OK)
        code = put_base(v, r->host, &url, &error);
    if (code == WAFER_OK)
        offer(v, receive_url, &url);
    else
        refuse(v->gw, v->x, code, error.text);
    buf_fini(&url);
}

/* --- /ws/push --- */

/* Packets on their way. */
struct posting {
    struct gateway *gw;
    struct http_exchange *x;
    bool as_text;
    size_t left;
    enum err err;
    struct buf gone; /* JSON strings with a comma behind each */
    uint32_t unreached;
};

static void posting_done(struct posting *p)
{
    struct buf data = BUF_INIT;
    if (--p->left != 0)
        return;
    if (p->gone.n != 0)
        p->gone.n--;
    buf_append_str(&data, "{\"invalidTunnelIds\":[");
    buf_append(&data, buf_slice(&p->gone));
    buf_append_char(&data, ']');
    if (p->unreached != 0)
        buf_printf(&data, ",\"unreachedTunnels\":%u", p->unreached);
    buf_append_char(&data, '}');
    if (p->err == OK)
        answer(p->x, buf_slice(&data), p->as_text, NULL);
    else
        refuse(p->gw, p->x, WAFER_UNAVAILABLE, "the store does not answer; not all tunnels were found");
    buf_fini(&data);
    buf_fini(&p->gone);
    free(p);
}

static void put_gone(struct posting *p, struct slice id)
{
    json_quote(&p->gone, id);
    buf_append_char(&p->gone, ',');
}

static void on_pushed(void *arg, const struct push_result *r)
{
    struct posting *p = arg;
    for (size_t i = 0; i < r->gone.n; i += SID_LEN)
        put_gone(p, (struct slice){r->gone.p + i, SID_LEN});
    p->unreached += r->unreached;
    p->err = p->err != OK ? p->err : r->err;
    posting_done(p);
}

static enum wafer_code check_push(const struct visit *v, const struct wafer_push *packets, size_t count,
                                  struct error *reterr)
{
    for (size_t i = 0; i < count; i++)
        if (packets[i].content.n > v->tenant->packet_bytes) {
            (void)fail(reterr, ERR_TOO_LARGE, "content of %zu bytes, at most %u (packet_bytes)", packets[i].content.n,
                       v->tenant->packet_bytes);
            return WAFER_TOO_MUCH;
        }
    if (!pushes_busy(v->gw->pushes))
        return WAFER_OK;
    (void)fail(reterr, ERR_RATE_LIMITED, "too many pushes are under way");
    return WAFER_TOO_OFTEN;
}

static void push(const struct visit *v, const struct wafer_push *packets, size_t count)
{
    struct posting *p = xcalloc(1, sizeof *p);
    *p = (struct posting){.gw = v->gw, .x = v->x, .as_text = v->request.data_as_text, .left = count + 1};
    for (size_t i = 0; i < count; i++) {
        metrics->tunnel_pushes++;
        for (size_t k = 0; k < packets[i].id_count; k++)
            if (!push_name_valid(packets[i].ids[k]))
                put_gone(p, packets[i].ids[k]);
        push_send(v->gw->pushes, v->request.id, &packets[i], on_pushed, p);
    }
    posting_done(p);
}

static void ws_push(struct visit *v, const struct http_request *r, struct arena *a)
{
    struct wafer_push *packets = NULL;
    struct error error = {0};
    size_t count = 0;
    (void)r;
    enum wafer_code code = wafer_read_push(v->request.data, a, &packets, &count, &error);
    if (code == WAFER_OK)
        code = check_push(v, packets, count, &error);
    if (code == WAFER_OK)
        push(v, packets, count);
    else
        refuse(v->gw, v->x, code, error.text);
}

/* --- routes --- */

static void serve(struct gateway *g, const struct http_request *r, struct http_exchange *x,
                  void handler(struct visit *, const struct http_request *, struct arena *))
{
    struct visit v = {.gw = g, .x = x};
    struct error error = {0};
    struct arena arena;
    arena_init(&arena, ARENA_BYTES);
    enum wafer_code code = wafer_read_request(r->body, &arena, &v.request, &error);
    if (code == WAFER_OK)
        code = identify(&v, &error);
    if (code == WAFER_OK)
        handler(&v, r, &arena);
    else
        refuse(g, x, code, error.text);
    arena_reset(&arena);
}

bool tunnel_http(struct gateway *g, const struct http_request *r, struct http_exchange *x)
{
    bool url = slice_eq(r->path, SLICE("/get/wsurl"));
    if (g->tunnels == NULL || (!url && !slice_eq(r->path, SLICE("/ws/push"))))
        return false;
    if (slice_eq(r->method, SLICE("POST")))
        serve(g, r, x, url ? get_wsurl : ws_push);
    else
        x->respond(x, &(struct http_response){.status = 405,
                                              .headers = "Allow: POST\r\n",
                                              .body = SLICE("{\"code\":9002,\"message\":\"only POST here\"}\n")});
    return true;
}
