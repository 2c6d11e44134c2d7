/* gateway/entrance.c: who comes into a Socket.IO namespace: what CONNECT presents, and whoever is asked about it. */
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/utf8.h"
#include "gateway/auth/auth.h"
#include "gateway/conn.h"
#include "gateway/door.h"
#include "gateway/engine.h"
#include "gateway/gateway.h"
#include "gateway/grant.h"
#include "gateway/knock.h"
#include "gateway/metrics.h"
#include "gateway/policy.h"
#include "gateway/recover.h"
#include "gateway/session.h"
#include "gateway/uri.h"
#include "gateway/wxlogin.h"
#define ARENA 16384u /* for a CONNECT, besides several times its size */

/* Clients of revision 3 know no way to come back. */
bool namespace_recovers(const struct gateway *g, enum eio_revision revision)
{
    return revision == EIO_4 && g->cfg->socketio_recovery && gateway_resume_window_s(g) != 0;
}

/* "/" is there always. */
static bool namespace_exists(const struct config *cfg, struct slice nsp)
{
    if (slice_eq(nsp, SLICE("/")))
        return true;
    for (size_t i = 0; i < cfg->socketio_namespaces.count; i++)
        if (policy_match(cfg->socketio_namespaces.items[i], nsp))
            return utf8_name_valid(nsp, SIO_NAMESPACE_MAX);
    return false;
}

static void refuse(struct engine *e, struct slice nsp, const struct error *error)
{
    struct buf b = BUF_INIT;
    metrics->errors[error->code]++;
    sio_refusal_append(&b, e->revision, nsp,
                       &(struct event){.kind = EVENT_ERROR, .err = error->code, .text = slice_str(error->text)});
    conn_append(e->conn, buf_slice(&b));
    buf_fini(&b);
}

static void refuse_namespace(struct engine *e, struct slice nsp)
{
    struct buf b = BUF_INIT;
    metrics->errors[ERR_NOT_FOUND]++;
    sio_unknown_namespace_append(&b, e->revision, nsp);
    conn_append(e->conn, buf_slice(&b));
    buf_fini(&b);
}

/* Who the client says it is: in the payload, in the namespace's query, or when it connected. */
struct claim {
    struct arena arena;
    struct slice token, user, code, appid;
    struct slice pid, offset; /* of the session it comes back to */
};

static enum err read_payload(struct claim *c, struct slice auth, struct error *reterr)
{
    enum { OWN_NAMES = 4 }; /* the others may be an application's own */
    static const char *const names[] = {"token", "user", "code", "appid", "pid", "offset"};
    struct slice *const values[] = {&c->token, &c->user, &c->code, &c->appid, &c->pid, &c->offset};
    struct json_value v[ARRAY_LEN(names)];
    if (auth.n == 0)
        return OK;
    enum err err = json_members(auth, names, ARRAY_LEN(names), v, reterr);
    for (size_t i = 0; err == OK && i < ARRAY_LEN(names); i++) {
        if (v[i].kind == JSON_KIND_STRING)
            err = json_unquote(v[i], &c->arena, values[i], reterr);
        else if (i < OWN_NAMES && v[i].kind != JSON_KIND_NONE && v[i].kind != JSON_KIND_NULL)
            err = fail(reterr, ERR_BAD_REQUEST, "auth.%s must be a string", names[i]);
    }
    return err;
}

/* A text of a query; of the namespace's, or of the connection's. */
static enum err read_query(struct claim *c, struct slice query, const char *name, const char *first, struct slice *ret,
                           struct error *reterr)
{
    bool found;
    struct slice text = uri_query(query, name, &found);
    if (ret->n != 0)
        return OK;
    if (text.n == 0)
        text = slice_str(first);
    char *decoded = arena_alloc(&c->arena, text.n + 1);
    if (decoded == NULL || !text_percent_decode(text, decoded, text.n + 1, ret))
        return fail(reterr, ERR_INVALID_NAME, "the %s in the query is not percent-encoded", name);
    return OK;
}

static enum err read_claim(struct claim *c, const struct engine *e, struct slice auth, struct slice query,
                           struct error *reterr)
{
    bool found;
    enum err err = read_payload(c, auth, reterr);
    if (err != OK)
        return err;
    if (c->token.n == 0)
        c->token = uri_query(query, "token", &found);
    if (c->token.n == 0)
        c->token = slice_str(e->token);
    err = read_query(c, query, "user", e->user, &c->user, reterr);
    if (err == OK && e->gw->cfg->wechat_login)
        err = read_query(c, query, "code", e->code, &c->code, reterr);
    if (err == OK && e->gw->cfg->wechat_login)
        err = read_query(c, query, "appid", e->appid, &c->appid, reterr);
    return err;
}

static enum err let_in(struct engine *e, const struct claim *c, struct auth_claims *ret, struct error *reterr)
{
    if (e->gw->cfg->auth != AUTH_JWT) {
        if (c->user.n != 0 && !utf8_name_valid(c->user, NAME_MAX_USER))
            return fail(reterr, ERR_INVALID_NAME, "a user has 1 to %d bytes of UTF-8 without control characters",
                        NAME_MAX_USER);
        return OK;
    }
    if (c->token.n == 0)
        return door_refuse(AUTH_MISSING, slice_str(e->conn->ip), reterr);
    return door_check(e->gw, c->token, e->conn->ip, ret, reterr);
}

/* The session it says it comes back to, or NULL. */
static struct resume *wish(const struct engine *e, const struct claim *c)
{
    return namespace_recovers(e->gw, e->revision) ? recover_wish(e->gw, c->pid, c->offset) : NULL;
}

struct channel *channel_begin(struct engine *e, struct slice nsp, struct slice user, struct grant *grant,
                              struct resume *wished)
{
    const struct http_request r = {.user_agent = slice_str(e->agent), .origin = slice_str(e->origin)};
    struct channel *ch = channel_create(e, nsp);
    ch->wish = wished;
    e->conn->parser.max_message = e->gw->cfg->max_message_size;
    timer_stop(&e->patience);
    session_open(ch->conn, &r, user, grant);
    return ch;
}

/* --- by a login code --- */

struct entrance {
    struct engine *engine;
    struct wxlogin *wxlogin; /* or */
    struct knock *knock;
    struct resume *wish; /* owned */
    size_t n;
    char nsp[];
};

static void entrance_free(struct entrance *in)
{
    resume_free(in->wish);
    free(in);
}

void entrance_end(struct engine *e)
{
    struct entrance *in = TAKE(e->entrance);
    if (in == NULL)
        return;
    wxlogin_cancel(in->wxlogin);
    knock_cancel(in->knock);
    entrance_free(in);
}

static void on_login(void *arg, struct wxlogin_result *r)
{
    struct entrance *in = arg;
    struct engine *e = in->engine;
    struct slice nsp = {in->nsp, in->n};
    struct error error;
    e->entrance = NULL;
    if (e->conn->state != CONN_OPEN) {
        entrance_free(in);
        return;
    }
    if (e->gw->draining) {
        conn_close(e->conn, err_close_code(ERR_DRAINING), SLICE("draining"));
    } else if (r->err != OK) {
        (void)fail(&error, r->err, "%s", r->why);
        refuse(e, nsp, &error);
    } else {
        struct grant *grant = grant_create_fresh(r->claims, r->token);
        metrics->auth_accepted++;
        free(e->token);
        e->token = xstrndup(r->token.p, r->token.n); /* for other namespaces: a code is good once */
        (void)channel_begin(e, nsp, slice_str(grant->claims.user), grant, TAKE(in->wish));
    }
    entrance_free(in);
    loop_idle(e->gw->loop, &e->work, 0); /* to what is held */
}

static struct entrance *entrance_create(struct engine *e, struct slice nsp, const struct claim *c)
{
    struct entrance *in = xcalloc(1, sizeof *in + nsp.n);
    in->engine = e;
    in->wish = wish(e, c);
    in->n = nsp.n;
    memcpy(in->nsp, nsp.p, nsp.n);
    return in;
}

static enum err ask_wechat(struct engine *e, struct slice nsp, const struct claim *c, struct error *reterr)
{
    const struct wxlogin_ask ask = {
        .code = c->code, .appid = c->appid, .referer = slice_str(e->referer), .ip = e->conn->ip};
    struct entrance *in = entrance_create(e, nsp, c);
    enum err err = wxlogin_begin(e->gw, &ask, on_login, in, &in->wxlogin, reterr);
    if (err == OK)
        e->entrance = in;
    else
        entrance_free(in);
    return err;
}

/* --- by the backend --- */

/* A client that is refused stays away; one that only could not be asked about comes back by itself when its connection is closed. */
static void on_known(void *arg, const struct knock_result *r)
{
    struct entrance *in = arg;
    struct engine *e = in->engine;
    struct slice nsp = {in->nsp, in->n};
    struct error error;
    e->entrance = NULL;
    if (e->conn->state != CONN_OPEN) {
        ; /* everything ends with the connection */
    } else if (e->gw->draining) {
        conn_close(e->conn, err_close_code(ERR_DRAINING), SLICE("draining"));
    } else if (r->err == OK) {
        struct grant *grant = grant_create(r->claims);
        grant->actions = TAKE(*r->actions);
        metrics->auth_accepted++;
        (void)channel_begin(e, nsp, slice_str(grant->claims.user), grant, TAKE(in->wish));
    } else if (r->err == ERR_REFUSED) {
        metrics->backend_refusals++;
        metrics->drops[DROP_UNAUTHORIZED]++;
        (void)fail(&error, r->err, "%.*s", SLICE_FMT(r->why));
        refuse(e, nsp, &error);
    } else {
        metrics->errors[r->err]++;
        metrics->drops[DROP_UNAVAILABLE]++;
        LOG_PEER(WARN, "not let in", "peer=%s code=%s why=%s", e->conn->ip, err_name(r->err), log_q(r->why));
        conn_close(e->conn, err_close_code(r->err), slice_str(err_name(r->err)));
    }
    entrance_free(in);
    loop_idle(e->gw->loop, &e->work, 0); /* to what is held */
}

static void ask_backend(struct engine *e, struct slice nsp, const struct claim *c, struct slice auth)
{
    struct entrance *in = entrance_create(e, nsp, c);
    e->entrance = in;
    in->knock = knock_ask(
        e->gw,
        &(struct knock_question){.name = c->user,
                                 .token = c->token,
                                 .nsp = nsp,
                                 .auth = auth,
                                 .ip = slice_str(e->conn->ip),
                                 .agent = slice_str(e->agent),
                                 .origin = slice_str(e->origin),
                                 .protocol = e->revision == EIO_4 ? SLICE("socketio.v5") : SLICE("socketio.v4")},
        on_known, in);
}

/* --- connecting --- */

static enum err enter(struct engine *e, struct slice nsp, const struct claim *c, struct slice auth,
                      struct error *reterr)
{
    struct auth_claims claims = {0};
    if (e->gw->cfg->auth == AUTH_BACKEND) {
        ask_backend(e, nsp, c, auth);
        return OK;
    }
    if (e->gw->cfg->auth == AUTH_JWT && c->token.n == 0 && c->code.n != 0)
        return ask_wechat(e, nsp, c, reterr);
    enum err err = let_in(e, c, &claims, reterr);
    if (err != OK)
        return err;
    struct grant *grant = e->gw->cfg->auth == AUTH_JWT ? grant_create(&claims) : NULL;
    (void)channel_begin(e, nsp, grant != NULL ? slice_str(grant->claims.user) : c->user, grant, wish(e, c));
    return OK;
}

void namespace_connect(struct engine *e, struct slice nsp, struct slice auth, struct slice query)
{
    struct claim claim = {0};
    struct error error = {0};
    if (e->gw->draining) {
        conn_close(e->conn, err_close_code(ERR_DRAINING), SLICE("draining"));
        return;
    }
    if (!namespace_exists(e->gw->cfg, nsp)) {
        refuse_namespace(e, nsp);
        return;
    }
    arena_init(&claim.arena, ARENA + auth.n);
    enum err err = OK;
    if (e->channel_count >= CHANNELS_MAX)
        err = fail(&error, ERR_LIMIT_EXCEEDED, "%u namespaces on this connection already", e->channel_count);
    if (err == OK)
        err = read_claim(&claim, e, auth, query, &error);
    if (err == OK)
        err = enter(e, nsp, &claim, auth, &error);
    if (err != OK)
        refuse(e, nsp, &error);
    arena_reset(&claim.arena);
}
