/* gateway/outlet.c: the backend, and the business servers of tunnels. */
#include "gateway/outlet.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "broker/broker.h"
#include "gateway/event_json.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "gateway/tenants.h"
#include "gateway/tunnel.h"
#include "gateway/webhook/signature.h"
#include "proto/json.h"

#define WAITING 4096u /* requests that wait for a connection */

/* What a business server is told of, and how its SDKs call that. NULL: not at all. */
static const char *callback_type(struct slice type)
{
    static const char *const words[][2] = {{"connect", "connect"}, {"message", "message"}, {"disconnect", "close"}};
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (slice_eq(type, slice_str(words[i][0])))
            return words[i][1];
    return NULL;
}

bool outlet_route(const struct gateway *g, const struct event_entry *e, struct slice *ret_whose)
{
    *ret_whose = event_field(e, "tunnel");
    if (ret_whose->n == 0)
        return g->backend != NULL;
    return callback_type(event_field(e, "type")) != NULL;
}

/* NULL: it is no tenant any more, or may not receive there. */
static const struct tenant *tenant_of(const struct outlet *o)
{
    struct slice id, url;
    if (!tunnel_whose((struct slice){o->whose, o->n}, &id, &url))
        return NULL;
    const struct tenant *t = tenants_find(tunnels_tenants(o->gw), id);
    return t != NULL && tenant_may_receive(t, url) ? t : NULL;
}

static struct backend *receiver_create(const struct gateway *g, struct slice url, struct error *reterr)
{
    AUTO_FREE char *text = xstrndup(url.p, url.n);
    const struct backend_config cfg = {.url = text,
                                       .ca = g->cfg->wafer_ca,
                                       .version = VERSION,
                                       .connections = g->cfg->wafer_concurrency,
                                       .waiting = WAITING,
                                       .timeout_ms = g->cfg->backend_timeout_ms};
    return backend_create(g->loop, &cfg, reterr);
}

static struct outlet *outlet_create(struct gateway *g, struct slice whose)
{
    struct outlet *o = xcalloc(1, sizeof *o + whose.n + 1);
    struct slice id, url;
    struct error why = {0};
    o->gw = g;
    o->own = whose.n != 0;
    o->limit = o->own ? g->cfg->wafer_concurrency : g->cfg->backend_concurrency;
    o->n = whose.n;
    list_init(&o->ready);
    if (whose.n != 0)
        memcpy(o->whose, whose.p, whose.n);
    if (!o->own)
        o->backend = g->backend;
    else if (tenant_of(o) != NULL && tunnel_whose(whose, &id, &url))
        o->backend = receiver_create(g, url, &why);
    if (o->backend == NULL) {
        LOG_PEER(ERROR, "callbacks of a tunnel cannot be posted", "tunnel=%s why=%s", log_q(whose),
                 why.code != OK ? why.text : "its tenant is none here, or may not receive there");
        free(o);
        return NULL;
    }
    metrics->receivers += o->own;
    o->idle_ms = loop_now_ms(g->loop);
    return o;
}

struct outlet *outlet_get(struct outlet **all, struct gateway *g, struct slice whose)
{
    struct outlet *o;
    if (whose.n == 0)
        whose = SLICE(""); /* not NULL */
    HASH_FIND(hh, *all, whose.p, whose.n, o);
    if (o == NULL && (o = outlet_create(g, whose)) != NULL)
        HASH_ADD_KEYPTR(hh, *all, o->whose, o->n, o);
    return o;
}

static void outlet_forget(struct outlet **all, struct outlet *o)
{
    HASH_DELETE(hh, *all, o);
    if (o->own) {
        metrics->receivers--;
        backend_destroy(&o->backend);
    }
    free(o);
}

void outlets_sweep(struct outlet **all, uint64_t idle_ms)
{
    struct outlet *o, *next;
    HASH_ITER (hh, *all, o, next) {
        if (o->own && o->chains == 0 && loop_now_ms(o->gw->loop) - o->idle_ms >= idle_ms)
            outlet_forget(all, o);
    }
}

void outlets_stop(struct outlet *all)
{
    struct outlet *o, *next;
    HASH_ITER (hh, all, o, next) {
        if (o->own)
            backend_destroy(&o->backend);
    }
}

void outlets_fini(struct outlet **all)
{
    struct outlet *o, *next;
    HASH_ITER (hh, *all, o, next) {
        outlet_forget(all, o);
    }
}

/* --- what is posted --- */

static void put_text(struct buf *b, const char *label, struct slice s)
{
    buf_append_str(b, label);
    json_quote(b, utf8_valid(s) ? s : SLICE_NONE); /* others write to the store, too */
}

void outlet_body(const struct outlet *o, const struct event_entry *e, struct buf *ret)
{
    if (!o->own) {
        event_json(e, ret);
        return;
    }
    struct slice type = slice_str(callback_type(event_field(e, "type")));
    put_text(ret, "{\"tunnelId\":", event_field(e, "session"));
    put_text(ret, ",\"type\":", type);
    if (slice_eq(type, SLICE("message")))
        put_text(ret, ",\"content\":", event_field(e, "content"));
    buf_append_char(ret, '}');
}

/* Signed when it is posted: with the key that its tenant has by then. */
void outlet_post(struct outlet *o, struct slice id, struct slice body, backend_done *done, void *arg)
{
    const struct tenant *t = o->own ? tenant_of(o) : NULL;
    char signature[WAFER_SIGNATURE_LEN + 1] = "";
    struct buf signed_body = BUF_INIT;
    if (!o->own) {
        backend_post(o->backend, id, body, done, arg);
        return;
    }
    if (t != NULL) /* else it is given up when this has failed */
        wafer_sign(body, slice_str(t->keys[0]), signature);
    buf_append_str(&signed_body, "{\"data\":");
    json_quote(&signed_body, body);
    buf_printf(&signed_body, ",\"signature\":\"%s\"}", signature);
    backend_post(o->backend, id, buf_slice(&signed_body), done, arg);
    buf_fini(&signed_body);
}

bool outlet_gives_up(const struct outlet *o, uint64_t time_ms)
{
    if (!o->own)
        return false;
    const struct tenant *t = tenant_of(o);
    return t == NULL || loop_wall_ms(o->gw->loop) > time_ms + t->patience_s * 1000ull;
}

/* 400, 413, 422 …: it has looked at it and will never take it. 401, 403, 404 and the like speak of how it is set up. */
static bool refused_for_good(int status)
{
    return status == 400 || status == 410 || status == 413 || status == 415 || status == 422;
}

/* SDKs answer {"code":0}; what an application says in its own way counts as taken. */
static bool code_says_no(struct slice body)
{
    static const char *const names[] = {"code"};
    struct json_value v[1];
    struct error ignored;
    uint64_t code;
    return utf8_valid(body) && json_members(body, names, 1, v, &ignored) == OK && v[0].kind == JSON_KIND_NUMBER &&
           (!json_uint(v[0], UINT32_MAX, &code) || code != 0);
}

bool outlet_took(const struct outlet *o, const struct backend_result *r, bool *ret_refused)
{
    bool taken = r->err == OK && r->status / 100 == 2;
    *ret_refused = r->err == OK && refused_for_good(r->status);
    if (taken && o->own && code_says_no(r->body)) {
        *ret_refused = true;
        return false;
    }
    return taken;
}
