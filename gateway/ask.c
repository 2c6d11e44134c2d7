/* gateway/ask.c: a client waits, the backend decides. */
#include "gateway/ask.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/actions.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "gateway/question.h"
#include "gateway/request.h"
#include "gateway/room.h"
#include "gateway/session.h"

#define EVENT_ARENA 1024u /* an event name with escapes */

/* A publish, or a call. What a client says is asked one after another: it arrives in the order in which it was said. */
struct ask {
    struct link link; /* session->asks; the first one is being asked about */
    struct request *request;
    struct question question;
    bool call;
    struct slice room;      /* of a publish, as is what follows */
    struct command command; /* slices point into bytes */
    char bytes[];
};

/* --- telling --- */

static void tell_error(struct request **rp, enum err err, struct slice why, uint32_t retry_ms)
{
    struct request *r = *rp;
    session_error_later(r->session, r->id, r->room, err, why, retry_ms);
    request_drop(rp);
}

static void tell_failure(struct request **r, enum err err, const struct answer *a, const struct error *error,
                         const struct backend_result *result)
{
    struct slice why = err == ERR_REFUSED ? slice_str(a->reason) : slice_str(error->text);
    metrics->backend_refusals += err == ERR_REFUSED;
    tell_error(r, err, why, err == ERR_REFUSED ? 0 : result->retry_ms);
}

/* What else the backend wants done does not depend on the client: it may be gone. */
static void act_on(const struct answer *a, const struct session *s, const char *id)
{
    const struct actions_of of = {.id = slice_str(id), .session = slice_str(s->sid)};
    actions_of_answer(s->gw, a->members[ANSWER_ACTIONS], &of);
}

/* --- calls --- */

static void answer_call(struct ask *ask, const struct backend_result *result)
{
    struct request *r = TAKE(ask->request);
    struct answer a;
    struct error error;
    enum err err = answer_read(result, &a, &error);
    act_on(&a, r->session, ask->question.id);
    if (err != OK) {
        tell_failure(&r, err, &a, &error, result);
        return;
    }
    const struct event ack = {.kind = EVENT_ACK, .id = r->id, .room = r->room, .data = a.members[ANSWER_DATA].raw};
    if (r->id.n != 0)
        conn_event(r->session->conn, &ack);
    request_drop(&r);
}

/* --- publishing --- */

static void ask_free(struct ask *a)
{
    list_del(&a->link);
    buf_fini(&a->question.body);
    free(a);
}

static bool still_in(const struct session *s, struct slice room)
{
    const struct member *m = session_member(s, room);
    return room.p[0] == '$' || (m != NULL && member_may_publish(m));
}

/* What the backend put in the place of the client's words. */
static enum err replace(struct ask *ask, const struct answer *a, struct arena *arena, struct error *reterr)
{
    const struct gateway *g = ask->request->session->gw;
    const struct policy *policy = policies_find(g->policies, ask->room);
    size_t max = policy->size != 0 ? policy->size : g->cfg->max_message_size;
    const struct json_value *data = &a->members[ANSWER_DATA], *event = &a->members[ANSWER_EVENT];
    if (data->kind != JSON_KIND_NONE) {
        if (data->raw.n > max)
            return fail(reterr, ERR_BACKEND_UNAVAILABLE, "the backend: data of %zu bytes, %zu are allowed", data->raw.n,
                        max);
        ask->command.data = data->raw;
        ask->command.data_type = DATA_JSON;
    }
    if (event->kind == JSON_KIND_NONE)
        return OK;
    if (event->kind != JSON_KIND_STRING || json_unquote(*event, arena, &ask->command.event, reterr) != OK ||
        !utf8_name_valid(ask->command.event, NAME_MAX_EVENT))
        return fail(reterr, ERR_BACKEND_UNAVAILABLE, "the backend: \"event\" of its answer is not a name");
    return OK;
}

static void decide(struct ask *ask, const struct backend_result *result)
{
    struct session *s = ask->request->session;
    struct answer a;
    struct error error = {0};
    struct arena arena;
    arena_init(&arena, EVENT_ARENA);
    enum err err = answer_read(result, &a, &error);
    if (err == OK)
        err = replace(ask, &a, &arena, &error);
    if (s->conn == NULL || s->gw->broker == NULL) { /* gone: what was not acknowledged was not promised */
        request_drop(&ask->request);
    } else if (err != OK) {
        tell_failure(&ask->request, err, &a, &error, result);
    } else if (!still_in(s, ask->room)) {
        tell_error(&ask->request, ERR_NOT_MEMBER, SLICE("left the room before the backend agreed"), 0);
    } else {
        command_publish(TAKE(ask->request), &ask->command, ask->room);
    }
    act_on(&a, s, ask->question.id);
    arena_reset(&arena);
}

/* --- in turn --- */

static void ask_first(struct session *s);

static void on_answer(void *arg, const struct backend_result *result)
{
    struct ask *ask = arg;
    struct session *s = ask->request->session;
    session_ref(s);
    if (ask->call)
        answer_call(ask, result);
    else
        decide(ask, result);
    ask_free(ask);
    while (s->gw->backend == NULL && !list_empty(&s->asks)) { /* the gateway is being destroyed */
        struct ask *next = list_first(&s->asks, struct ask, link);
        request_drop(&next->request);
        ask_free(next);
    }
    if (!list_empty(&s->asks))
        ask_first(s);
    session_unref(s);
}

static void ask_first(struct session *s)
{
    struct ask *a = list_first(&s->asks, struct ask, link);
    backend_post(s->gw->backend, slice_str(a->question.id), buf_slice(&a->question.body), on_answer, a);
}

static void ask_append(struct session *s, struct ask *a)
{
    bool first = list_empty(&s->asks);
    question_end(&a->question);
    list_append(&s->asks, &a->link);
    metrics->backend_calls++;
    if (first)
        ask_first(s);
}

enum err ask_call(struct session *s, const struct command *c, struct error *reterr)
{
    struct gateway *g = s->gw;
    if (g->backend == NULL)
        return fail(reterr, ERR_UNSUPPORTED, "there is no backend here (backend-url)");
    struct ask *a = xcalloc(1, sizeof *a);
    a->call = true;
    a->request = request_create(s, c);
    question_begin(&a->question, g, "call", s);
    question_text(&a->question, "room", c->room);
    question_text(&a->question, "event", c->event);
    question_data(&a->question, c->data, c->data_type);
    ask_append(s, a);
    return OK;
}

enum err ask_publish(struct session *s, const struct command *c, struct slice room, struct error *reterr)
{
    struct gateway *g = s->gw;
    if (g->backend == NULL)
        return fail(reterr, ERR_UNSUPPORTED, "there is no backend here (backend-url)");
    struct ask *a = xcalloc(1, sizeof *a + room.n + c->event.n + c->key.n + c->data.n);
    char *at = a->bytes;
    a->request = request_create(s, c);
    a->room = slice_put(&at, room);
    a->command = (struct command){.kind = c->kind, .data_type = c->data_type, .echo = c->echo};
    a->command.event = slice_put(&at, c->event);
    a->command.key = slice_put(&at, c->key);
    a->command.data = slice_put(&at, c->data);
    question_begin(&a->question, g, "publish", s);
    question_text(&a->question, "room", room);
    question_text(&a->question, "event", c->event);
    question_data(&a->question, c->data, c->data_type);
    ask_append(s, a);
    return OK;
}
