/* gateway/request.c: commands that wait for the store. */
#include "gateway/request.h"

#include <assert.h>

#include "base/mem.h"
#include "gateway/conn.h"
#include "gateway/control.h"
#include "gateway/gateway.h"
#include "gateway/report.h"
#include "gateway/session.h"

struct request *request_create(struct session *s, const struct command *c)
{
    struct request *r = xmalloc(sizeof *r + c->id.n + c->room.n);
    *r = (struct request){0};
    char *at = (char *)(r + 1);
    r->session = s;
    r->kind = c->kind;
    r->granted = c->granted;
    r->job = NULL;
    r->id = slice_put(&at, c->id);
    r->room = slice_put(&at, c->room);
    session_ref(s);
    s->requests++;
    s->granted_requests += c->granted;
    if (s->conn != NULL && s->requests >= s->gw->cfg->max_requests_per_session)
        conn_pause(s->conn, true);
    return r;
}

void request_drop(struct request **rp)
{
    struct request *r = *rp;
    if (r == NULL)
        return;
    struct session *s = r->session;
    *rp = NULL;
    control_job_done(&r->job, ERR_UNAVAILABLE, "the session is going");
    assert(s->requests != 0);
    s->requests--;
    s->granted_requests -= r->granted;
    if (s->conn != NULL && !s->acting && s->requests <= s->gw->cfg->max_requests_per_session / 2)
        conn_pause(s->conn, false);
    report_free(r->report);
    free(r);
    session_unref(s);
}

void request_event(struct request **r, struct event *e)
{
    if (*r == NULL)
        return;
    control_job_done(&(*r)->job, OK, NULL);
    e->id = (*r)->id;
    if (e->id.n != 0 || (*r)->granted)
        conn_event((*r)->session->conn, e);
    request_drop(r);
}

void request_ack(struct request **r, const struct position *position, const uint64_t *total)
{
    if (*r == NULL)
        return;
    struct event e = {.kind = (*r)->granted ? EVENT_JOINED : EVENT_ACK,
                      .room = (*r)->room,
                      .position = position,
                      .has_total = total != NULL};
    if (total != NULL)
        e.total = *total;
    request_event(r, &e);
}

void request_fail(struct request **r, enum err err, const char *why)
{
    if (*r == NULL)
        return;
    if ((*r)->job != NULL)
        control_job_done(&(*r)->job, err, why);
    else
        session_error((*r)->session, (*r)->id, (*r)->room, err, slice_str(why));
    request_drop(r);
}

bool request_failed(struct request **r, const struct broker_result *result)
{
    if (result->err == OK)
        return false;
    request_fail(r, result->err, result->why != NULL ? result->why : err_name(result->err));
    return true;
}
