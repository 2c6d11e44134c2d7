/* gateway/mina.c: who may ask, logging in, checking, answering. */
#include "gateway/mina.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "gateway/addresses.h"
#include "gateway/api.h"
#include "gateway/gateway.h"
#include "gateway/limits.h"
#include "gateway/metrics.h"
#include "gateway/mina_body.h"
#include "gateway/secret.h"
#include "gateway/uri.h"
#include "gateway/wechat/exchange.h"
#include "gateway/wechat/userdata.h"
#include "gateway/wxlogin.h"
#include "proto/json.h"

#define ARENA ((size_t)2 * MINA_BODY_MAX)

/* A request under way. */
struct mina {
    struct gateway *gw;
    struct http_exchange *x;
    struct wechat_apps *apps; /* a reference, with the app in it */
    const struct wechat_app *app;
    struct buf sealed; /* encrypt_data, then iv */
    size_t data_n;
    struct buf info; /* what is told of the user */
    char id[SECRET_HASH_LEN + 1], name[MINA_NAME_LEN + 1], skey[MINA_SKEY_LEN + 1];
};

/* --- answering --- */

static void mina_free(struct mina *q)
{
    wechat_apps_unref(&q->apps);
    buf_fini(&q->sealed);
    buf_fini(&q->info);
    explicit_bzero(q->skey, sizeof q->skey);
    free(q);
}

/* Whatever became of it, the status is 200: the SDKs look no further else. */
static void respond(struct http_exchange *x, struct slice json)
{
    x->respond(x, &(struct http_response){.status = 200, .headers = "Cache-Control: no-store\r\n", .body = json});
}

static void refuse(struct http_exchange *x, enum mina_code code, const char *why)
{
    struct buf b = BUF_INIT;
    metrics->wechat_refused++;
    LOG(DEBUG, "session service", "code=%d why=%s", (int)code, log_q(slice_str(why)));
    buf_printf(&b, "{\"returnCode\":%d,\"returnMessage\":", (int)code);
    json_quote(&b, slice_str(why));
    buf_append_str(&b, ",\"returnData\":\"\"}\n");
    respond(x, buf_slice(&b));
    buf_fini(&b);
}

static void mina_refuse(struct mina *q, enum mina_code code, const char *why)
{
    refuse(q->x, code, why != NULL ? why : mina_code_text(code));
    mina_free(q);
}

static void append_member(struct buf *b, const char *label, const char *value)
{
    buf_append_str(b, label);
    json_quote(b, slice_str(value));
}

/* --- logging in --- */

static void on_put(void *arg, const struct broker_result *r)
{
    struct mina *q = arg;
    struct buf b = BUF_INIT;
    const struct wechat_app *app = q->app;
    if (r->err != OK) {
        mina_refuse(q, r->err == ERR_UNAVAILABLE || r->err == ERR_TIMEOUT ? MINA_STORE : MINA_NOT_KEPT, NULL);
        return;
    }
    metrics->wechat_logins++;
    buf_append_str(&b, "{\"returnCode\":0,\"returnMessage\":\"OK\",\"returnData\":{\"id\":");
    buf_printf(&b, "\"%s.%s\"", q->id, q->name);
    append_member(&b, ",\"skey\":", q->skey);
    buf_append_str(&b, ",\"user_info\":");
    buf_append(&b, buf_slice(&q->info));
    buf_append_str(&b, ",\"duration\":");
    buf_append_u64(&b, app->login_s < app->session_s ? app->login_s : app->session_s);
    buf_append_str(&b, "}}\n");
    respond(q->x, buf_slice(&b));
    explicit_bzero(b.p, b.n);
    buf_fini(&b);
    mina_free(q);
}

static void set_times(const struct wechat_app *app, struct wechat_login *l)
{
    l->appid = slice_str(app->appid);
    l->whole_ms = app->login_s * 1000ull;
    l->idle_ms = app->session_s * 1000ull;
}

/* The same for a user of an app each time, and tells outsiders nothing of his openid. */
static void name_user(struct mina *q, struct slice openid)
{
    struct buf b = BUF_INIT;
    buf_append_str(&b, q->app->appid);
    buf_append_char(&b, ':');
    buf_append(&b, openid);
    secret_hash(buf_slice(&b), q->id);
    q->id[MINA_ID_LEN] = '\0';
    buf_fini(&b);
}

static void keep(struct mina *q, const struct wechat_identity *who)
{
    char hash[SECRET_HASH_LEN + 1];
    name_user(q, who->openid);
    random_id(q->name, MINA_NAME_LEN);
    random_id(q->skey, MINA_SKEY_LEN);
    secret_hash(slice_str(q->skey), hash);
    struct wechat_login l = {.id = slice_str(q->id),
                             .name = slice_str(q->name),
                             .hash = slice_str(hash),
                             .openid = who->openid,
                             .unionid = who->unionid,
                             .info = buf_slice(&q->info)};
    set_times(q->app, &l);
    q->gw->broker->ops->wechat_put(q->gw->broker, &l, on_put, q);
}

static void refuse_code(struct mina *q, const struct wechat_identity *who)
{
    char why[160];
    int n = snprintf(why, sizeof why, "%s", who->why);
    if (who->errcode != 0 && n > 0 && (size_t)n < sizeof why)
        (void)snprintf(why + n, sizeof why - (size_t)n, " (errcode %lld)", (long long)who->errcode);
    if (who->verdict == WECHAT_REFUSED)
        LOG(WARN, "WeChat refuses to exchange a code", "appid=%s errcode=%lld", q->app->appid, (long long)who->errcode);
    mina_refuse(q,
                who->verdict == WECHAT_AWAY       ? MINA_WECHAT_AWAY
                : who->verdict == WECHAT_BAD_CODE ? MINA_BAD_CODE
                                                  : MINA_WECHAT_ANSWER,
                why);
}

static void on_exchanged(void *arg, const struct wechat_identity *who)
{
    struct mina *q = arg;
    struct error error = {0};
    struct slice all = buf_slice(&q->sealed);
    if (who->verdict != WECHAT_KNOWN) {
        refuse_code(q, who);
        return;
    }
    const struct wechat_sealed sealed = {
        .session_key = who->session_key, .data = {all.p, q->data_n}, .iv = slice_from(all, q->data_n)};
    if (all.n == 0)
        wechat_userdata_none(who->openid, &q->info);
    else if (wechat_userdata_open(q->app, &sealed, who->openid, loop_wall_ms(q->gw->loop) / 1000, &q->info, &error) !=
             OK) {
        mina_refuse(q, MINA_DECRYPT, error.text);
        return;
    }
    if (q->info.n > WECHAT_INFO_MAX)
        mina_refuse(q, MINA_DECRYPT, "too much is told of the user");
    else
        keep(q, who);
}

static void log_in(struct mina *q, const struct mina_body *body)
{
    buf_append(&q->sealed, body->data);
    buf_append(&q->sealed, body->iv);
    q->data_n = body->data.n;
    wechat_exchange(q->gw->wechat, q->app, body->code, on_exchanged, q);
}

/* --- checking --- */

static void on_checked(void *arg, const struct broker_result *r)
{
    struct mina *q = arg;
    struct buf b = BUF_INIT;
    if (r->err != OK) {
        mina_refuse(q,
                    r->err == ERR_NOT_FOUND                              ? MINA_UNKNOWN
                    : r->err == ERR_UNAUTHORIZED                         ? MINA_EXPIRED
                    : r->err == ERR_UNAVAILABLE || r->err == ERR_TIMEOUT ? MINA_STORE
                                                                         : MINA_NOT_TOUCHED,
                    NULL);
        return;
    }
    metrics->wechat_checks++;
    struct error ignored;
    buf_append_str(&b, "{\"returnCode\":0,\"returnMessage\":\"OK\",\"returnData\":{\"user_info\":");
    if (json_check(r->wechat->info, &ignored) == OK) /* others write to the store, too */
        buf_append(&b, r->wechat->info);
    else
        buf_append_str(&b, "{}");
    buf_append_str(&b, "}}\n");
    respond(q->x, buf_slice(&b));
    buf_fini(&b);
    mina_free(q);
}

static void check(struct mina *q, const struct mina_body *body)
{
    char hash[SECRET_HASH_LEN + 1];
    secret_hash(body->skey, hash);
    struct wechat_login l = {.id = body->id, .name = body->name, .hash = slice_str(hash)};
    set_times(q->app, &l);
    q->gw->broker->ops->wechat_check(q->gw->broker, &l, on_checked, q);
}

/* --- asking --- */

static void dispatch(struct gateway *g, const struct http_request *r, const struct mina_body *body,
                     struct http_exchange *x)
{
    bool found;
    struct slice appid = body->appid.n != 0 ? body->appid : uri_query(r->query, "appid", &found);
    const struct wechat_app *app = wechat_apps_find(g->wechat_apps, appid);
    if (app == NULL) {
        enum mina_code code = appid.n == 0 ? MINA_NO_APP : MINA_UNKNOWN_APP;
        refuse(x, code, mina_code_text(code));
        return;
    }
    if (body->interface == MINA_LOGIN && !limits_take(g->limits, LIMIT_WECHAT, slice_str(app->appid), app->rate, 0)) {
        api_fail(x, ERR_RATE_LIMITED, "more logins per second than the app may have (login_rate)");
        return;
    }
    struct mina *q = xcalloc(1, sizeof *q);
    q->gw = g;
    q->x = x;
    q->apps = wechat_apps_ref(g->wechat_apps);
    q->app = app;
    if (body->interface == MINA_LOGIN)
        log_in(q, body);
    else
        check(q, body);
}

/* On a port of their own business servers are let in; where everybody comes in, only those on the list. */
static bool may_ask(const struct gateway *g, const struct http_request *r)
{
    const struct config *cfg = g->cfg;
    if (g->wechat == NULL || (cfg->api_listen.count != 0 && !r->by_api_listener))
        return false;
    if (cfg->wechat_allow.count == 0 ? r->by_api_listener : address_in(&cfg->wechat_allow, r->ip))
        return true;
    LOG_PEER(INFO, "session service: not on the list (wechat-allow)", "peer=%s", log_q(r->ip));
    return false;
}

bool mina_path(struct slice path)
{
    return slice_eq(path, SLICE("/mina_auth/")) || slice_eq(path, SLICE("/mina_auth"));
}

void mina_http(struct gateway *g, const struct http_request *r, struct http_exchange *x)
{
    struct mina_body body;
    struct arena arena;
    const char *why;
    if (!may_ask(g, r)) {
        api_fail(x, ERR_NOT_FOUND, "nothing here");
        return;
    }
    if (!slice_eq(r->method, SLICE("POST"))) {
        x->respond(
            x, &(struct http_response){.status = 405,
                                       .headers = "Allow: POST\r\n",
                                       .body = SLICE("{\"code\":\"bad_request\",\"message\":\"only POST here\"}\n")});
        return;
    }
    arena_init(&arena, ARENA);
    enum mina_code code = mina_body_parse(r->body, &arena, &body, &why);
    if (code != MINA_OK)
        refuse(x, code, why);
    else
        dispatch(g, r, &body, x);
    arena_reset(&arena);
}

/* --- life --- */

static struct wechat *create(struct loop *loop, const struct config *cfg, struct error *reterr)
{
    return wechat_create(loop,
                         &(struct wechat_config){.url = cfg->wechat_url,
                                                 .ca = cfg->wechat_ca,
                                                 .version = VERSION,
                                                 .connections = cfg->wechat_concurrency,
                                                 .timeout_ms = cfg->wechat_timeout_ms},
                         reterr);
}

/* *ret stays NULL without any. */
static enum err load_apps(const struct config *cfg, const struct auth_jwt *auth, uint64_t now_s,
                          struct wechat_apps **ret, struct error *reterr)
{
    if (cfg->wechat_apps == NULL)
        return OK;
    struct wechat_apps *apps = wechat_apps_load(cfg->wechat_apps, reterr);
    if (apps == NULL)
        return reterr->code;
    if (cfg->wechat_login && wxlogin_check(auth, apps, now_s, reterr) != OK) {
        wechat_apps_unref(&apps);
        return reterr->code;
    }
    *ret = apps;
    return OK;
}

enum err mina_reload(struct gateway *g, struct error *reterr)
{
    struct wechat_apps *fresh = NULL;
    if (load_apps(g->cfg, g->auth, loop_wall_ms(g->loop) / 1000, &fresh, reterr) != OK)
        return reterr->code;
    if (fresh != NULL && g->wechat == NULL) {
        g->wechat = create(g->loop, g->cfg, reterr);
        if (g->wechat == NULL) {
            wechat_apps_unref(&fresh);
            return reterr->code;
        }
    }
    wechat_apps_unref(&g->wechat_apps);
    g->wechat_apps = fresh;
    if (fresh != NULL)
        LOG(INFO, "WeChat apps loaded", "apps=%zu", wechat_apps_count(fresh));
    return OK;
}

enum err mina_open(struct gateway *g, struct error *reterr)
{
    return mina_reload(g, reterr);
}

void mina_close(struct gateway *g)
{
    wechat_destroy(&g->wechat);
    wechat_apps_unref(&g->wechat_apps);
}

enum err mina_check(const struct config *cfg, const struct auth_jwt *auth, struct error *reterr)
{
    struct wechat_apps *apps = NULL;
    enum err err = load_apps(cfg, auth, 0, &apps, reterr); /* tokens are made and checked at the same time */
    if (err != OK || apps == NULL)
        return err;
    struct wechat *w = create(NULL, cfg, reterr);
    err = w != NULL ? OK : reterr->code;
    wechat_destroy(&w);
    wechat_apps_unref(&apps);
    return err;
}

void mina_count(const struct gateway *g)
{
    if (g->wechat == NULL)
        return;
    const struct wechat_stats *s = wechat_stats(g->wechat);
    metrics->wechat_requests = s->requests;
    metrics->wechat_failures = s->failures;
    metrics->wechat_opened = s->opened;
    metrics->wechat_us = s->us_sum;
}
