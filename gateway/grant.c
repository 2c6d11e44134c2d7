/* gateway/grant.c: the rights of a session, as its token has them. */
#include "gateway/grant.h"

#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "gateway/actions.h"
#include "gateway/admit.h"
#include "gateway/conn.h"
#include "gateway/door.h"
#include "gateway/engine.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "gateway/request.h"
#include "gateway/room.h"
#include "gateway/session.h"
#include "gateway/watch.h"

#define LEAST_MS 2000u
#define PAUSE_MS                                                                                                       \
    5u /* what comes together with the answer to its CONNECT a client that waits for just that does not hear */
#define LOOK_AGAIN_MS 60000u /* at the latest: the wall clock may be set, the configuration reloaded */

/* --- until when --- */

/* Seconds until the token is over, leeway included; 0 when it is. */
static uint64_t seconds_left(const struct grant *g)
{
    const struct gateway *gw = g->session->gw;
    uint64_t leeway_s = gw->auth != NULL ? auth_jwt_leeway_s(gw->auth) : 0;
    uint64_t now_s = loop_wall_ms(gw->loop) / 1000, end_s = g->claims.expires_s + leeway_s;
    if (g->claims.expires_s == 0) /* the backend has let it in for ever */
        return UINT32_MAX;
    return end_s > now_s ? end_s - now_s : 0;
}

/* The same by the token's own word. */
static uint64_t ms_valid(const struct grant *g)
{
    uint64_t now_ms = loop_wall_ms(g->session->gw->loop), end_ms = g->claims.expires_s * 1000;
    return end_ms > now_ms ? end_ms - now_ms : 0;
}

/* A token that does not live long is not always about to expire: its last quarter is, or its last seconds, since the wheel turns once a second. A backend is not
 * asked for another one on an open connection. */
static uint64_t notice_of(const struct grant *g)
{
    const struct config *cfg = g->session->gw->cfg;
    uint64_t valid_ms = ms_valid(g), notice_ms = cfg->jwt_notice_s * (uint64_t)1000;
    uint64_t last_ms = valid_ms / 4 > LEAST_MS ? valid_ms / 4 : LEAST_MS < valid_ms / 2 ? LEAST_MS : valid_ms / 2;
    if (cfg->auth != AUTH_JWT)
        return 0;
    return last_ms < notice_ms ? last_ms : notice_ms;
}

static void watch(struct grant *g)
{
    uint64_t ms = seconds_left(g) * 1000, valid_ms = ms_valid(g);
    if (g->notice_ms != 0)
        ms = valid_ms > g->notice_ms ? valid_ms - g->notice_ms : 1;
    wheel_set(&g->session->gw->wheel, &g->expiry, ms == 0 || ms > LOOK_AGAIN_MS ? LOOK_AGAIN_MS : ms);
}

/* Once, in time for another token on this connection. Who is not there will need one to come back. */
static void give_notice(struct grant *g)
{
    const struct session *s = g->session;
    uint64_t valid_ms = ms_valid(g);
    if (g->notice_ms == 0 || valid_ms > g->notice_ms)
        return;
    g->notice_ms = 0;
    if (s->gw->cfg->jwt_expiry == EXPIRY_IGNORE || s->state != SESSION_ACTIVE || s->conn == NULL ||
        s->conn->state > CONN_OPEN)
        return;
    metrics->auth_expiring++;
    conn_event(
        s->conn,
        &(struct event){.kind = EVENT_EXPIRING, .expires_s = g->claims.expires_s, .total = (valid_ms + 999) / 1000});
}

/* The session is parked like one whose connection broke: whoever comes back with a fresh token takes it up again, and nobody can without one, since
 * nothing may be asked for on a connection without a good token. */
static void on_expiry(struct wheel_entry *e)
{
    struct grant *g = container_of(e, struct grant, expiry);
    struct session *s = g->session;
    give_notice(g);
    if (seconds_left(g) != 0 || s->gw->cfg->jwt_expiry == EXPIRY_IGNORE) {
        watch(g);
        return;
    }
    if (s->conn == NULL || s->conn->state > CONN_OPEN)
        return; /* it is going anyway */
    metrics->auth_expired++;
    metrics->errors[ERR_UNAUTHORIZED]++;
    LOG(INFO, "token expired", "session=%s user=%s peer=%s", s->sid, log_q(s->user), s->conn->ip);
    conn_event(s->conn, &(struct event){.kind = EVENT_ERROR, .err = ERR_UNAUTHORIZED, .text = SLICE("token expired")});
    conn_close(s->conn, err_close_code(ERR_UNAUTHORIZED), slice_str(err_name(ERR_UNAUTHORIZED)));
    conn_keep(s->conn);
}

struct grant *grant_create(struct auth_claims *claims)
{
    struct grant *g = xcalloc(1, sizeof *g);
    g->claims = *claims;
    *claims = (struct auth_claims){0};
    wheel_entry_init(&g->expiry, on_expiry);
    return g;
}

struct grant *grant_create_fresh(struct auth_claims *claims, struct slice token)
{
    struct grant *g = grant_create(claims);
    g->fresh = xstrndup(token.p, token.n);
    return g;
}

static void forget_fresh(struct grant *g)
{
    if (g->fresh != NULL)
        explicit_bzero(g->fresh, strlen(g->fresh));
    free(TAKE(g->fresh));
}

void grant_tell(struct session *s)
{
    struct grant *g = s->grant;
    if (g == NULL || g->fresh == NULL || s->conn == NULL)
        return;
    conn_event(s->conn, &(struct event){.kind = EVENT_TOKEN,
                                        .token = slice_str(g->fresh),
                                        .user = slice_str(g->claims.user),
                                        .expires_s = g->claims.expires_s});
    forget_fresh(g);
}

static void on_acted(void *arg)
{
    struct session *s = arg;
    s->acting = false;
    if (s->conn != NULL && s->conn->channel != NULL) {
        conn_pause(s->conn, s->requests >= s->gw->cfg->max_requests_per_session);
        channel_go_on(s->conn->channel);
    }
    session_unref(s);
}

void grant_act(struct session *s)
{
    if (s->grant == NULL || s->grant->actions == NULL)
        return;
    bool in_namespace = s->conn != NULL && s->conn->channel != NULL;
    s->acting = in_namespace; /* nobody else waits for it */
    if (in_namespace)
        conn_pause(s->conn, true); /* what is said meanwhile stays in the socket */
    session_ref(s);
    actions_release(&s->grant->actions, slice_str(s->sid), in_namespace ? PAUSE_MS : 0, on_acted, s);
}

void grant_destroy(struct grant **gp)
{
    struct grant *g = TAKE(*gp);
    if (g == NULL)
        return;
    wheel_unset(&g->expiry);
    actions_release(&g->actions, SLICE_NONE, 0, NULL, NULL); /* it never began */
    forget_fresh(g);
    auth_claims_fini(&g->claims);
    free(g);
}

void grant_attach(struct grant *g, struct session *s)
{
    if (g == NULL)
        return;
    s->grant = g;
    g->session = s;
    g->notice_ms = notice_of(g);
    watch(g);
}

/* --- what --- */

/* As with policies: only a pattern that begins with $ means rooms of the server. */
static bool any_matches(const struct buf *patterns, struct slice room)
{
    bool reserved = slice_starts(room, SLICE("$"));
    for (const char *p = auth_name_next(patterns, NULL); p != NULL; p = auth_name_next(patterns, p))
        if (reserved == (p[0] == '$') && policy_match(p, room))
            return true;
    return false;
}

static bool at_once(const struct auth_claims *claims, struct slice room)
{
    for (const char *p = auth_name_next(&claims->room, NULL); p != NULL; p = auth_name_next(&claims->room, p))
        if (slice_eq(slice_str(p), room))
            return true;
    return false;
}

bool grant_joined(const struct grant *g, struct slice room)
{
    return at_once(&g->claims, room);
}

bool grant_names(const struct auth_claims *claims, struct slice room)
{
    return claims != NULL && (at_once(claims, room) || any_matches(&claims->join, room));
}

enum err grant_join(const struct session *s, struct slice room, const struct policy *policy, struct error *reterr)
{
    if (policy->join == WHO_NOBODY)
        return fail(reterr, ERR_FORBIDDEN, "policy %s lets nobody join", policy->pattern);
    if (policy->join == WHO_TOKEN && !grant_names(s->grant != NULL ? &s->grant->claims : NULL, room))
        return fail(reterr, ERR_FORBIDDEN, "policy %s: the token does not let you join this room", policy->pattern);
    return OK;
}

enum err grant_publish(const struct session *s, struct slice room, const struct policy *policy, struct error *reterr)
{
    if (policy->publish == WHO_NOBODY)
        return fail(reterr, ERR_FORBIDDEN, "policy %s lets nobody publish", policy->pattern);
    if (policy->publish == WHO_TOKEN && (s->grant == NULL || !any_matches(&s->grant->claims.publish, room)))
        return fail(reterr, ERR_FORBIDDEN, "policy %s: the token does not let you publish here", policy->pattern);
    return OK;
}

enum err grant_watch(const struct session *s, struct slice user, struct error *reterr)
{
    char name[sizeof "$user:" + NAME_MAX_USER];
    int n = snprintf(name, sizeof name, "$user:%.*s", SLICE_FMT(user));
    struct slice room = {name, (size_t)n};
    const struct policy *policy = policies_find(s->gw->policies, room);
    if (policy->watch == WHO_NOBODY)
        return fail(reterr, ERR_FORBIDDEN, "policy %s lets nobody watch", policy->pattern);
    if (policy->watch == WHO_TOKEN && (s->grant == NULL || !any_matches(&s->grant->claims.watch, room)))
        return fail(reterr, ERR_FORBIDDEN, "policy %s: the token does not let you watch this user", policy->pattern);
    return OK;
}

/* --- another token --- */

static void leave_what_is_over(struct session *s)
{
    struct error error = {0};
    list_for_each_safe (it, &s->members) {
        struct member *m = list_entry(it, struct member, in_session);
        if (m->implicit || m->phase == MEMBER_LEAVING || m->room->policy->join != WHO_TOKEN ||
            grant_join(s, m->room->name, m->room->policy, &error) == OK)
            continue;
        session_error(s, SLICE_NONE, m->room->name, error.code, slice_str(error.text));
        member_leave(m, EXIT_KICKED, NULL);
    }
}

/* A good token waits for the store's word. */
struct refresh {
    struct request *request;
    struct grant *grant;
    uint64_t verdicts; /* heard when the store was asked */
};

static void refresh_end(struct refresh *r)
{
    grant_destroy(&r->grant);
    request_drop(&r->request);
    free(r);
}

static void take_over(struct refresh *r)
{
    struct session *s = r->request->session;
    bool doubted = r->verdicts != s->gw->verdicts;
    uint64_t expires_s = r->grant->claims.expires_s;
    grant_destroy(&s->grant);
    grant_attach(TAKE(r->grant), s);
    metrics->auth_refreshed++;
    request_event(&r->request, &(struct event){.kind = EVENT_ACK, .expires_s = expires_s});
    leave_what_is_over(s);
    watch_review(s);
    session_put(s);
    if (doubted) /* one may have been about this token, which nobody here had */
        admit_again(s);
}

static void on_admitted(void *arg, const struct broker_result *result)
{
    struct refresh *r = arg;
    struct session *s = r->request->session;
    struct error error = {0};
    if (s->conn == NULL || s->conn->state > CONN_OPEN) {
        refresh_end(r);
        return;
    }
    enum err err = admit_verdict(result, s->user, s->conn->ip, &error);
    if (err == OK)
        take_over(r);
    else if (err == ERR_BANNED)
        admit_ban(s, result, r->request->id, &error);
    else
        request_fail(&r->request, err, error.text);
    refresh_end(r);
}

enum err grant_refresh(struct session *s, const struct command *c, struct error *reterr)
{
    struct auth_claims claims;
    if (s->gw->cfg->auth != AUTH_JWT)
        return fail(reterr, ERR_UNSUPPORTED, "tokens are not looked at here; this needs auth jwt");
    if (c->code.n != 0)
        return fail(reterr, ERR_UNSUPPORTED, "a login code lets a connection in; this one is, send a \"token\"");
    enum err err = door_check(s->gw, c->token, s->conn->ip, &claims, reterr);
    if (err != OK)
        return err;
    if (!slice_eq(slice_str(claims.user), s->user)) {
        auth_claims_fini(&claims);
        return door_refuse(AUTH_OTHER_USER, slice_str(s->conn->ip), reterr);
    }
    struct refresh *r = xcalloc(1, sizeof *r);
    *r = (struct refresh){.request = request_create(s, c), .grant = grant_create(&claims), .verdicts = s->gw->verdicts};
    const struct admission question = admit_question(s->user, &r->grant->claims);
    s->gw->broker->ops->admit(s->gw->broker, &question, on_admitted, r);
    return OK;
}
