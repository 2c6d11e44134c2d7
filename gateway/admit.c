/* gateway/admit.c: who is banned, and whose token is revoked, is not let in. */
#include "gateway/admit.h"

#include <time.h>

#include "base/log.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/grant.h"
#include "gateway/metrics.h"
#include "gateway/room.h"
#include "gateway/session.h"

#define TIME_TEXT 32
#define BATCH     50u  /* sessions asked for again … */
#define PAUSE_MS  100u /* … so often */
#define RETRY_MS  1000u

struct admission admit_question(struct slice user, const struct auth_claims *claims)
{
    struct admission a = {.user = user, .by_token = claims != NULL};
    if (claims != NULL && claims->jti != NULL)
        a.jti = slice_str(claims->jti);
    if (claims != NULL)
        a.issued_s = claims->issued_s;
    return a;
}

/* As in "2026-05-01T12:00:00Z"; what no calendar has is in seconds. */
static void format_time(uint64_t ms, char ret[TIME_TEXT])
{
    time_t t = (time_t)(ms / 1000);
    struct tm tm;
    if (gmtime_r(&t, &tm) == NULL || strftime(ret, TIME_TEXT, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        (void)snprintf(ret, TIME_TEXT, "%llu s", (unsigned long long)(ms / 1000));
}

static enum err banned(const struct ban_record *ban, struct slice user, const char *ip, struct error *reterr)
{
    char until[TIME_TEXT] = "";
    metrics->drops[DROP_BANNED]++;
    if (ban->until_ms != 0)
        format_time(ban->until_ms, until);
    LOG_PEER(INFO, "banned user refused", "user=%s peer=%s until=%s reason=%s", log_q(user), ip,
             until[0] != '\0' ? until : "never", log_q(ban->reason));
    return fail(reterr, ERR_BANNED, "banned%s%s%s%.*s", until[0] != '\0' ? " until " : "", until,
                ban->reason.n != 0 ? ": " : "", SLICE_FMT(ban->reason));
}

enum err admit_verdict(const struct broker_result *r, struct slice user, const char *ip, struct error *reterr)
{
    if (r->err == OK)
        return OK;
    if (r->err == ERR_BANNED)
        return banned(&r->bans[0], user, ip, reterr);
    if (r->err == ERR_UNAUTHORIZED) {
        metrics->auth_refused[AUTH_REVOKED]++;
        LOG_PEER(INFO, "token refused", "peer=%s reason=%s user=%s", ip, auth_refusal_word(AUTH_REVOKED), log_q(user));
    }
    return fail(reterr, r->err, "%s", r->why != NULL ? r->why : err_name(r->err));
}

static void end(struct session *s, const struct event *e)
{
    s->refused = true;
    metrics->errors[e->err]++;
    start_end(&s->gw->starts, &s->start);
    if (s->conn == NULL)
        return;
    conn_event(s->conn, e);
    conn_close(s->conn, err_close_code(e->err), slice_str(err_name(e->err)));
}

void admit_ban(struct session *s, const struct broker_result *r, struct slice id, const struct error *error)
{
    const struct event e = {.kind = EVENT_ERROR,
                            .id = id,
                            .err = ERR_BANNED,
                            .text = slice_str(error->text),
                            .reason = r->bans[0].reason,
                            .until_ms = r->bans[0].until_ms};
    if (s->state == SESSION_ACTIVE && s->conn != NULL) {
        metrics->errors[ERR_BANNED]++;
        conn_event(s->conn, &e);
        session_expel(s, err_close_code(ERR_BANNED), slice_str(err_name(ERR_BANNED)), 0, NULL);
    } else {
        end(s, &e);
    }
}

/* --- sessions that begin --- */

static void refuse(struct session *s, const struct broker_result *r, const struct error *error)
{
    struct slice id = resume_id(s->resume);
    if (error->code == ERR_BANNED) {
        admit_ban(s, r, id, error);
    } else if (error->code == ERR_UNAUTHORIZED) {
        metrics->drops[DROP_UNAUTHORIZED]++;
        end(s, &(struct event){.kind = EVENT_ERROR, .id = id, .err = ERR_UNAUTHORIZED, .text = slice_str(error->text)});
    } else if (s->conn != NULL) {
        start_end(&s->gw->starts, &s->start);
        session_turn_away(s, error->code, error->text);
    }
}

static void on_answer(void *arg, const struct broker_result *r)
{
    struct session *s = arg;
    struct error error = {0};
    if (s->state == SESSION_OPENING && !s->taken) {
        s->admitted = r->err == OK;
        if (admit_verdict(r, s->user, s->conn != NULL ? s->conn->ip : "-", &error) != OK)
            refuse(s, r, &error);
        session_opened_part(s);
    }
    session_unref(s);
}

void admit_session(struct session *s)
{
    const struct admission question = admit_question(s->user, s->grant != NULL ? &s->grant->claims : NULL);
    s->verdicts = s->gw->verdicts;
    s->opening++;
    session_ref(s);
    s->gw->broker->ops->admit(s->gw->broker, &question, on_answer, s);
}

/* --- sessions that are here --- */

/* As when its token expires: with a fresh one it can be taken up again. */
static void close_revoked(struct session *s, const struct error *error)
{
    metrics->errors[ERR_UNAUTHORIZED]++;
    metrics->drops[DROP_UNAUTHORIZED]++;
    conn_event(s->conn, &(struct event){.kind = EVENT_ERROR, .err = ERR_UNAUTHORIZED, .text = slice_str(error->text)});
    conn_close(s->conn, err_close_code(ERR_UNAUTHORIZED), slice_str(err_name(ERR_UNAUTHORIZED)));
    conn_keep(s->conn);
}

static void on_answer_again(void *arg, const struct broker_result *r)
{
    struct session *s = arg;
    struct gateway *g = s->gw;
    struct error error = {0};
    s->rechecking--;
    if (s->state <= SESSION_ACTIVE && !s->taken && s->conn != NULL && s->conn->state <= CONN_OPEN) {
        enum err err = admit_verdict(r, s->user, s->conn->ip, &error);
        if (err == ERR_UNAUTHORIZED && s->state == SESSION_ACTIVE) {
            close_revoked(s, &error);
        } else if (err == ERR_BANNED || err == ERR_UNAUTHORIZED) {
            refuse(s, r, &error);
        } else if (err != OK && g->broker != NULL && list_empty(&s->recheck)) {
            list_append(&g->rechecks, &s->recheck);
            timer_start(&g->recheck, RETRY_MS);
        }
    }
    session_unref(s);
}

/* One that begins has asked before the verdict, perhaps: its welcome waits for another answer. */
static void ask_again(struct session *s)
{
    if (s->state > SESSION_ACTIVE || s->user.n == 0 || s->taken)
        return;
    metrics->rechecks++;
    if (s->state == SESSION_OPENING && s->opening != 0) {
        admit_session(s);
        return;
    }
    const struct admission question = admit_question(s->user, s->grant != NULL ? &s->grant->claims : NULL);
    s->verdicts = s->gw->verdicts;
    s->rechecking++;
    session_ref(s);
    s->gw->broker->ops->admit(s->gw->broker, &question, on_answer_again, s);
}

void admit_on_timer(struct timer *t)
{
    struct gateway *g = container_of(t, struct gateway, recheck);
    for (unsigned i = 0; i < BATCH && !list_empty(&g->rechecks); i++) {
        struct session *s = list_first(&g->rechecks, struct session, recheck);
        list_del(&s->recheck);
        ask_again(s);
    }
    if (!list_empty(&g->rechecks))
        timer_start(t, PAUSE_MS);
}

void admit_all_again(struct gateway *g)
{
    struct session *s, *next;
    g->verdicts++;
    HASH_ITER (hh, g->sessions, s, next) {
        if (list_empty(&s->recheck) && s->user.n != 0)
            list_append(&g->rechecks, &s->recheck);
    }
    if (!list_empty(&g->rechecks))
        timer_start(&g->recheck, PAUSE_MS);
}

static bool has_token(const struct session *s, struct slice jti)
{
    return s->grant != NULL && s->grant->claims.jti != NULL && slice_eq(slice_str(s->grant->claims.jti), jti);
}

/* Before those that are asked for in passing. */
static void concerns(struct session *s)
{
    list_del(&s->recheck);
    list_prepend(&s->gw->rechecks, &s->recheck);
}

void admit_again(struct session *s)
{
    concerns(s);
    timer_start(&s->gw->recheck, 0);
}

bool admit_is_certain(const struct session *s)
{
    return s->rechecking == 0 && list_empty(&s->recheck);
}

static void concerns_user(struct gateway *g, struct slice user)
{
    buf_clear(&g->scratch);
    buf_append(&g->scratch, SLICE("$user:"));
    buf_append(&g->scratch, user);
    const struct room *r = room_find(g, buf_slice(&g->scratch));
    if (r != NULL)
        room_each_session(r, concerns);
}

static void concerns_token(struct gateway *g, struct slice jti)
{
    struct session *s, *next;
    HASH_ITER (hh, g->sessions, s, next) {
        if (has_token(s, jti))
            concerns(s);
    }
}

void admit_verdict_came(struct gateway *g, const struct envelope *e)
{
    LOG(INFO, "verdict heard", "about=%s name=%s from=%s", log_q(e->event), log_q(e->user), log_q(e->node));
    g->verdicts++;
    if (slice_eq(e->event, SLICE("token")))
        concerns_token(g, e->user);
    else
        concerns_user(g, e->user);
    if (!list_empty(&g->rechecks))
        timer_start(&g->recheck, 0);
}
