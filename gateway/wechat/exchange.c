/* gateway/wechat/exchange.c: login codes to users. */
#include "gateway/wechat/exchange.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/tls_client.h"
#include "base/utf8.h"
#include "gateway/webhook/breaker.h"
#include "gateway/webhook/client.h"
#include "proto/json.h"

#define WAITING 1024u /* requests that wait for a connection */
#define ARENA   4096u

struct call {
    struct link link; /* refused ones, until they are told */
    struct wechat *wechat;
    wechat_done *done;
    void *arg;
    uint64_t since_us;
    bool probe;
};

struct wechat {
    struct loop *loop;
    struct wechat_config cfg;
    struct webhook_url url;
    struct tls_client *tls;
    struct http_client *client;
    struct wechat_stats stats;
    struct breaker breaker;
    struct link refused;
    struct task task;
    bool closing;
};

/* --- the answer --- */

static void judge(int64_t errcode, struct wechat_identity *ret)
{
    switch (errcode) {
    case 40029: /* not a code, or over */
    case 40163: /* used before */
    case 41008: /* none */
        ret->verdict = WECHAT_BAD_CODE;
        ret->why = "WeChat does not take the code";
        return;
    case -1:    /* busy */
    case 45011: /* too often for this user */
        ret->verdict = WECHAT_AWAY;
        ret->why = "WeChat has no time now";
        return;
    default: ret->verdict = WECHAT_REFUSED; ret->why = "WeChat refuses";
    }
}

static bool read_errcode(struct json_value v, int64_t *ret)
{
    uint64_t n = 0;
    struct json_value digits = v;
    bool negative = v.kind == JSON_KIND_NUMBER && v.raw.p[0] == '-';
    if (v.kind == JSON_KIND_NONE) {
        *ret = 0;
        return true;
    }
    if (negative)
        digits.raw = slice_from(v.raw, 1);
    if (v.kind != JSON_KIND_NUMBER || !json_uint(digits, INT32_MAX, &n))
        return false;
    *ret = negative ? -(int64_t)n : (int64_t)n;
    return true;
}

static bool read_text(struct json_value v, struct arena *arena, size_t max, struct slice *ret)
{
    struct error ignored;
    return v.kind == JSON_KIND_STRING && json_unquote(v, arena, ret, &ignored) == OK && utf8_name_valid(*ret, max);
}

void wechat_answer_read(int status, struct slice body, struct arena *arena, struct wechat_identity *ret)
{
    enum { OPENID, UNIONID, SESSION_KEY, ERRCODE, MEMBERS };
    static const char *const names[MEMBERS] = {"openid", "unionid", "session_key", "errcode"};
    struct json_value v[MEMBERS];
    struct error ignored;
    *ret = (struct wechat_identity){.verdict = WECHAT_NONSENSE, .why = "WeChat's answer cannot be understood"};
    if (status >= 500 || status == 429) {
        ret->verdict = WECHAT_AWAY;
        ret->why = "WeChat does not work";
        return;
    }
    if (status != 200 || !utf8_valid(body) || json_members(body, names, MEMBERS, v, &ignored) != OK ||
        !read_errcode(v[ERRCODE], &ret->errcode))
        return;
    if (ret->errcode != 0) {
        judge(ret->errcode, ret);
        return;
    }
    if (!read_text(v[OPENID], arena, WECHAT_OPENID_MAX, &ret->openid) ||
        !read_text(v[SESSION_KEY], arena, WECHAT_OPENID_MAX, &ret->session_key) ||
        (v[UNIONID].kind != JSON_KIND_NONE && !read_text(v[UNIONID], arena, WECHAT_OPENID_MAX, &ret->unionid)))
        return;
    ret->verdict = WECHAT_KNOWN;
    ret->why = NULL;
}

/* --- asking --- */

static void end(struct call *c, const struct wechat_identity *who)
{
    wechat_done *done = c->done;
    void *arg = c->arg;
    list_del(&c->link);
    free(c);
    done(arg, who);
}

static void on_answer(void *arg, const struct http_result *r)
{
    struct call *c = arg;
    struct wechat *w = c->wechat;
    struct wechat_identity who = {.verdict = WECHAT_AWAY, .why = r->why};
    struct arena arena;
    arena_init(&arena, ARENA);
    w->stats.us_sum += loop_now_us(w->loop) - c->since_us;
    if (r->status != 0)
        wechat_answer_read(r->status, r->body, &arena, &who);
    if (w->closing)
        who.why = "this node is stopping";
    else if (r->status == 0 || who.verdict == WECHAT_NONSENSE || r->status >= 500)
        breaker_failed(&w->breaker, c->probe, who.why);
    else
        breaker_worked(&w->breaker, c->probe);
    end(c, &who);
    arena_reset(&arena);
}

static void refuse(struct call *c)
{
    end(c, &(struct wechat_identity){.verdict = WECHAT_AWAY, .why = "WeChat cannot be asked at the moment"});
}

static void on_task(struct task *t)
{
    struct wechat *w = container_of(t, struct wechat, task);
    while (!list_empty(&w->refused))
        refuse(list_first(&w->refused, struct call, link));
}

static void append_encoded(struct buf *b, const char *label, struct slice s)
{
    buf_append_str(b, label);
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                     (c != '\0' && strchr("-._~", c) != NULL);
        if (plain)
            buf_append_char(b, c);
        else
            buf_printf(b, "%%%02X", (unsigned)(unsigned char)c);
    }
}

static void put_request(const struct wechat *w, const struct wechat_app *app, struct slice code, struct buf *ret)
{
    buf_append_str(ret, "GET ");
    buf_append_str(ret, w->url.target);
    if (!slice_ends(slice_str(w->url.target), SLICE("/")))
        buf_append_char(ret, '/');
    append_encoded(ret, "sns/jscode2session?appid=", slice_str(app->appid));
    append_encoded(ret, "&secret=", slice_str(app->secret));
    append_encoded(ret, "&js_code=", code);
    buf_printf(ret,
               "&grant_type=authorization_code HTTP/1.1\r\nHost: %s\r\nUser-Agent: xindao/%s\r\n"
               "Accept: application/json\r\n\r\n",
               w->url.authority, w->cfg.version);
}

void wechat_exchange(struct wechat *w, const struct wechat_app *app, struct slice code, wechat_done *done, void *arg)
{
    struct call *c = xcalloc(1, sizeof *c);
    struct buf request = BUF_INIT;
    *c = (struct call){.wechat = w, .done = done, .arg = arg, .since_us = loop_now_us(w->loop)};
    list_init(&c->link);
    if (breaker_wait_ms(&w->breaker) != 0) {
        list_append(&w->refused, &c->link);
        loop_idle(w->loop, &w->task, 0);
        return;
    }
    c->probe = breaker_begin(&w->breaker);
    w->stats.requests++;
    put_request(w, app, code, &request);
    http_client_post(w->client, &request, w->cfg.timeout_ms, on_answer, c);
}

const struct wechat_stats *wechat_stats(struct wechat *w)
{
    w->stats.failures = w->breaker.failed;
    w->stats.opened = w->breaker.opened;
    return &w->stats;
}

/* --- life --- */

struct wechat *wechat_create(struct loop *loop, const struct wechat_config *cfg, struct error *reterr)
{
    struct wechat *w = xcalloc(1, sizeof *w);
    struct error why;
    w->loop = loop;
    w->cfg = *cfg;
    list_init(&w->refused);
    task_init(&w->task, on_task);
    bool ok = webhook_url_parse(cfg->url, &w->url, &why) == OK;
    if (!ok)
        (void)fail(reterr, why.code, "wechat-url: %.150s", why.text);
    if (ok && w->url.tls)
        ok = (w->tls = tls_client_create(
                  &(struct tls_client_config){.ca = cfg->ca, .ca_name = "wechat-ca", .ca_hint = "wechat-ca"},
                  reterr)) != NULL;
    if (!ok) {
        webhook_url_fini(&w->url);
        free(w);
        return NULL;
    }
    breaker_init(&w->breaker, loop, w->url.authority);
    w->client = http_client_create(
        loop, &(struct http_client_config){
                  .url = &w->url, .tls = w->tls, .connections = cfg->connections, .waiting = WAITING});
    return w;
}

void wechat_destroy(struct wechat **wp)
{
    struct wechat *w = TAKE(*wp);
    if (w == NULL)
        return;
    w->closing = true;
    breaker_fini(&w->breaker);
    http_client_destroy(&w->client);
    task_cancel(&w->task);
    on_task(&w->task);
    tls_client_destroy(&w->tls);
    webhook_url_fini(&w->url);
    free(w);
}
