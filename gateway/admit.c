/* gateway/admit.c: who is banned, and whose token is revoked, is not let in. */
#include "gateway/admit.h"

#include <time.h>

#include "base/log.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/grant.h"
#include "gateway/metrics.h"
#include "gateway/session.h"

#define TIME_TEXT 32

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
    end(s, &(struct event){.kind = EVENT_ERROR,
                           .id = id,
                           .err = ERR_BANNED,
                           .text = slice_str(error->text),
                           .reason = r->bans[0].reason,
                           .until_ms = r->bans[0].until_ms});
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
    session_ref(s);
    s->gw->broker->ops->admit(s->gw->broker, &question, on_answer, s);
}
