/* gateway/knock.c: asking the backend who a client is, and letting it in as that. */
#include "gateway/knock.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "gateway/actions.h"
#include "gateway/auth/auth.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/grant.h"
#include "gateway/greeting.h"
#include "gateway/metrics.h"
#include "gateway/question.h"
#include "gateway/session.h"

struct knock {
    struct gateway *gw;
    knock_done *done; /* NULL: nobody waits any more */
    void *arg;
    char id[QUESTION_ID_MAX];
};

static void let_in(struct conn *c, const struct knock_result *r)
{
    struct greeting *y = TAKE(c->greeting);
    const struct http_request request = {.user_agent = slice_str(y->agent),
                                         .origin = slice_str(y->origin),
                                         .query = y->resume ? SLICE("resume") : SLICE_NONE};
    struct grant *grant = grant_create(r->claims);
    grant->actions = TAKE(*r->actions);
    metrics->auth_accepted++;
    conn_greeted(c);
    session_open(c, &request, slice_str(grant->claims.user), grant);
    greeting_end(&y);
}

static void turn_away(struct conn *c, enum err err, struct slice why, uint32_t retry_ms)
{
    metrics->errors[err]++;
    metrics->drops[err == ERR_REFUSED ? DROP_UNAUTHORIZED : DROP_UNAVAILABLE]++;
    metrics->backend_refusals += err == ERR_REFUSED;
    LOG_PEER(INFO, "not let in", "peer=%s code=%s why=%s", c->ip, err_name(err), log_q(why));
    conn_event(c, &(struct event){.kind = EVENT_ERROR, .err = err, .text = why});
    if (err == ERR_REFUSED)
        conn_close(c, err_close_code(err), slice_str(err_name(err)));
    else
        conn_goodbye(c, err_close_code(err), slice_str(err_name(err)), retry_ms + random_below(retry_ms + 1000));
}

static void on_answer(void *arg, const struct backend_result *result)
{
    struct knock *k = arg;
    struct answer a;
    struct error error = {0};
    struct auth_claims claims = {0};
    enum err err = answer_read(result, &a, &error);
    struct actions *actions =
        actions_hold(k->gw, a.members[ANSWER_ACTIONS], &(struct actions_of){.id = slice_str(k->id)});
    if (k->done != NULL) {
        if (err == OK)
            err = auth_answer_read(result->body, loop_wall_ms(k->gw->loop) / 1000, &claims, &error);
        if (err == OK)
            claims.issued_s = loop_wall_ms(k->gw->loop) / 1000; /* so what is revoked of a user ends at this moment */
        k->done(k->arg, &(struct knock_result){.err = err,
                                               .why = err == ERR_REFUSED ? slice_str(a.reason) : slice_str(error.text),
                                               .retry_ms = result->retry_ms != 0 ? result->retry_ms : 1000,
                                               .claims = &claims,
                                               .actions = &actions});
        auth_claims_fini(&claims);
    }
    actions_release(&actions, SLICE_NONE, 0, NULL, NULL); /* nobody has come in */
    free(k);
}

struct knock *knock_ask(struct gateway *g, const struct knock_question *what, knock_done *done, void *arg)
{
    struct knock *k = xcalloc(1, sizeof *k);
    struct question q;
    *k = (struct knock){.gw = g, .done = done, .arg = arg};
    question_begin(&q, g, "connect", NULL);
    question_text(&q, "name", what->name);
    question_text(&q, "token", what->token);
    question_text(&q, "query", what->query);
    question_text(&q, "namespace", what->nsp);
    if (what->auth.n != 0)
        question_data(&q, what->auth, DATA_JSON);
    question_text(&q, "ip", what->ip);
    question_text(&q, "agent", what->agent);
    question_text(&q, "origin", what->origin);
    question_text(&q, "protocol", what->protocol);
    question_end(&q);
    metrics->backend_calls++;
    memcpy(k->id, q.id, sizeof k->id);
    backend_post(g->backend, slice_str(k->id), buf_slice(&q.body), on_answer, k);
    buf_fini(&q.body);
    return k;
}

static void on_known(void *arg, const struct knock_result *r)
{
    struct conn *c = arg;
    c->greeting->knock = NULL;
    conn_pause(c, false); /* a session pauses it again until its welcome; a closing connection reads to its end */
    if (c->state > CONN_OPEN)
        return;
    if (r->err == OK)
        let_in(c, r);
    else
        turn_away(c, r->err, r->why, r->retry_ms);
}

void knock_begin(struct conn *c, const struct http_request *r, struct slice name, struct slice token)
{
    conn_pause(c, true);
    c->greeting->knock = knock_ask(c->gw,
                                   &(struct knock_question){.name = name,
                                                            .token = token,
                                                            .query = r->query,
                                                            .ip = slice_str(c->ip),
                                                            .agent = r->user_agent,
                                                            .origin = r->origin,
                                                            .protocol = slice_str(c->protocol->name)},
                                   on_known, c);
}

void knock_cancel(struct knock *k)
{
    if (k != NULL)
        k->done = NULL;
}
