/* gateway/wxlogin.c: from a login code to a token, and from the token to what it lets its user do. */
#include "gateway/wxlogin.h"

#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/utf8.h"
#include "gateway/gateway.h"
#include "gateway/limits.h"
#include "gateway/metrics.h"
#include "gateway/protocol/protocol.h"
#include "gateway/wechat/exchange.h"

#define JTI_LEN       16u
#define ADDRESS_BURST 4u /* seconds' worth of an address' logins */

struct wxlogin {
    struct gateway *gw;
    struct wechat_apps *apps; /* a reference, with the app in it */
    const struct wechat_app *app;
    wxlogin_done *done; /* NULL: cancelled */
    void *arg;
    char ip[48];
};

/* `https://servicewechat.com/<appid>/<version>/page-frame.html` */
static struct slice appid_of(struct slice referer)
{
    const struct slice prefix = SLICE("https://servicewechat.com/");
    if (!slice_starts(referer, prefix))
        return SLICE_NONE;
    struct slice rest = slice_from(referer, prefix.n);
    const char *slash = rest.n != 0 ? memchr(rest.p, '/', rest.n) : NULL;
    return slash != NULL ? (struct slice){rest.p, (size_t)(slash - rest.p)} : SLICE_NONE;
}

static void end(struct wxlogin *w, struct wxlogin_result *r)
{
    wxlogin_done *done = w->done;
    void *arg = w->arg;
    if (r->err != OK)
        LOG_PEER(INFO, "WeChat login refused", "peer=%s appid=%s code=%s why=%s", w->ip, w->app->appid,
                 err_name(r->err), log_q(slice_str(r->why)));
    wechat_apps_unref(&w->apps);
    free(w);
    if (done != NULL)
        done(arg, r);
}

/* The user's name: his in this app, or in all apps of one owner. */
static bool name_user(const struct wechat_app *app, const struct wechat_identity *who, struct buf *ret)
{
    if (app->by_unionid && who->unionid.n == 0)
        return false;
    buf_append_str(ret, app->by_unionid ? "unionid" : app->appid);
    buf_append_char(ret, ':');
    buf_append(ret, app->by_unionid ? who->unionid : who->openid);
    return ret->n <= NAME_MAX_USER;
}

struct issued {
    struct buf token;
    struct auth_claims claims;
};

static void issued_fini(struct issued *i)
{
    auth_claims_fini(&i->claims);
    if (i->token.p != NULL)
        explicit_bzero(i->token.p, i->token.n);
    buf_fini(&i->token);
}

/* What is issued here is looked at as any token: one way in. */
static enum err issue(const struct auth_jwt *auth, const struct wechat_app *app, struct slice user, uint64_t now_s,
                      struct issued *ret, struct error *reterr)
{
    char jti[JTI_LEN + 1];
    random_id(jti, JTI_LEN);
    const struct auth_issue what = {.user = user,
                                    .jti = slice_str(jti),
                                    .rights = slice_str(app->rights),
                                    .now_s = now_s,
                                    .expires_s = now_s + app->token_s};
    if (!auth_jwt_issue(auth, &what, &ret->token))
        return fail(reterr, ERR_UNSUPPORTED, "no jwt-key is a secret, with which tokens could be signed");
    enum auth_refusal why = auth_jwt_check(auth, buf_slice(&ret->token), now_s, &ret->claims, reterr);
    return why == AUTH_OK ? OK : ERR_UNAUTHORIZED;
}

static void let_in(struct wxlogin *w, const struct wechat_identity *who)
{
    struct gateway *g = w->gw;
    struct buf user = BUF_INIT;
    struct issued issued = {.token = BUF_INIT};
    struct error error = {0};
    struct wxlogin_result r = {.err = OK, .claims = &issued.claims};
    if (!name_user(w->app, who, &user)) {
        r = (struct wxlogin_result){.err = ERR_FORBIDDEN, .why = "WeChat gives this user no unionid"};
    } else if (g->auth == NULL ||
               issue(g->auth, w->app, buf_slice(&user), loop_wall_ms(g->loop) / 1000, &issued, &error) != OK) {
        LOG(ERROR, "no token for a WeChat login", "appid=%s why=%s", w->app->appid, log_q(slice_str(error.text)));
        r = (struct wxlogin_result){.err = ERR_INTERNAL, .why = "no token could be made"};
    } else {
        metrics->wechat_entered++;
        r.token = buf_slice(&issued.token);
    }
    end(w, &r);
    issued_fini(&issued); /* the claims are taken, if somebody waited */
    buf_fini(&user);
}

static void on_exchanged(void *arg, const struct wechat_identity *who)
{
    struct wxlogin *w = arg;
    char why[160];
    if (w->done != NULL && who->verdict == WECHAT_KNOWN) {
        let_in(w, who);
        return;
    }
    struct wxlogin_result r = {.err = who->verdict == WECHAT_BAD_CODE ? ERR_UNAUTHORIZED : ERR_UNAVAILABLE, .why = why};
    (void)snprintf(why, sizeof why, "%s", who->why != NULL ? who->why : "nobody waits");
    if (who->errcode != 0)
        (void)snprintf(why, sizeof why, "%s (errcode %lld)", who->why, (long long)who->errcode);
    if (who->verdict == WECHAT_REFUSED)
        LOG(WARN, "WeChat refuses to exchange a code", "appid=%s errcode=%lld", w->app->appid, (long long)who->errcode);
    end(w, &r);
}

static const struct wechat_app *find_app(const struct gateway *g, const struct wxlogin_ask *ask)
{
    const struct wechat_app *app = NULL;
    if (ask->appid.n == 0)
        app = wechat_apps_find(g->wechat_apps, appid_of(ask->referer));
    return app != NULL ? app : wechat_apps_find(g->wechat_apps, ask->appid);
}

static enum err check(struct gateway *g, const struct wxlogin_ask *ask, const struct wechat_app *app,
                      struct error *reterr)
{
    char direct[WECHAT_APPID_MAX + 8];
    if (!g->cfg->wechat_login || g->wechat == NULL)
        return fail(reterr, ERR_UNSUPPORTED, "login codes are not taken here; this needs wechat-login");
    if (app == NULL)
        return fail(reterr, ERR_BAD_REQUEST,
                    ask->appid.n != 0 ? "no such app is known here" : "which app? say \"appid\"");
    if (ask->code.n > WECHAT_CODE_MAX || !utf8_name_valid(ask->code, WECHAT_CODE_MAX))
        return fail(reterr, ERR_BAD_REQUEST, "a code has 1 to %u bytes without control characters", WECHAT_CODE_MAX);
    /* Apart from the session service's: strangers must not take what business servers need. */
    (void)snprintf(direct, sizeof direct, "%s:direct", app->appid);
    if (!limits_take(g->limits, LIMIT_LOGIN, slice_str(ask->ip), app->address_rate,
                     app->address_rate * ADDRESS_BURST) ||
        !limits_take(g->limits, LIMIT_WECHAT, slice_str(direct), app->rate, 0))
        return fail(reterr, ERR_RATE_LIMITED, "too many logins; try again");
    return OK;
}

enum err wxlogin_begin(struct gateway *g, const struct wxlogin_ask *ask, wxlogin_done *done, void *arg,
                       struct wxlogin **ret, struct error *reterr)
{
    const struct wechat_app *app = find_app(g, ask);
    if (check(g, ask, app, reterr) != OK)
        return reterr->code;
    struct wxlogin *w = xcalloc(1, sizeof *w);
    *w = (struct wxlogin){.gw = g, .apps = wechat_apps_ref(g->wechat_apps), .app = app, .done = done, .arg = arg};
    (void)snprintf(w->ip, sizeof w->ip, "%s", ask->ip);
    *ret = w;
    wechat_exchange(g->wechat, app, ask->code, on_exchanged, w);
    return OK;
}

void wxlogin_cancel(struct wxlogin *w)
{
    if (w != NULL)
        w->done = NULL;
}

enum err wxlogin_check(const struct auth_jwt *auth, const struct wechat_apps *apps, uint64_t now_s,
                       struct error *reterr)
{
    enum err err = OK;
    if (!auth_jwt_can_issue(auth))
        return fail(reterr, ERR_BAD_REQUEST,
                    "wechat-login: no jwt-key is a secret, with which tokens could be signed (openssl rand -hex 32)");
    for (size_t i = 0; i < wechat_apps_count(apps) && err == OK; i++) {
        const struct wechat_app *app = wechat_apps_at(apps, i);
        struct issued issued = {.token = BUF_INIT};
        struct error why = {0};
        if (issue(auth, app, SLICE("user"), now_s, &issued, &why) != OK)
            err = fail(reterr, ERR_BAD_REQUEST, "app %s: %.150s", app->appid, why.text);
        issued_fini(&issued);
    }
    return err;
}
