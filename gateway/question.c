/* gateway/question.c: questions to the backend, answers of the backend. */
#include "gateway/question.h"

#include <stdio.h>

#include "base/random.h"
#include "base/utf8.h"
#include "gateway/engine.h"
#include "gateway/event_json.h"
#include "gateway/gateway.h"
#include "gateway/session.h"

#define ID_TAG       12
#define REASON_ARENA 4096u /* a longer one is not told */

static void put_name(struct question *q, const char *name)
{
    buf_append_char(&q->body, q->body.n == 0 ? '{' : ',');
    json_quote(&q->body, slice_str(name));
    buf_append_char(&q->body, ':');
}

void question_text(struct question *q, const char *name, struct slice value)
{
    if (value.n == 0 || !utf8_valid(value))
        return;
    put_name(q, name);
    json_quote(&q->body, value);
}

void question_begin(struct question *q, struct gateway *g, const char *type, const struct session *s)
{
    char tag[ID_TAG + 1];
    random_id(tag, ID_TAG);
    q->body = BUF_INIT;
    (void)snprintf(q->id, sizeof q->id, "%s%s%s.%s", s != NULL ? s->sid : "", s != NULL ? "." : "", type, tag);
    question_text(q, "id", slice_str(q->id));
    question_text(q, "type", slice_str(type));
    put_name(q, "sync");
    buf_append_str(&q->body, "true");
    put_name(q, "time");
    buf_append_u64(&q->body, loop_wall_ms(g->loop));
    question_text(q, "node", slice_str(g->node));
    if (s == NULL)
        return;
    question_text(q, "session", slice_str(s->sid));
    question_text(q, "user", s->user);
    question_text(q, "namespace", namespace_of(s));
}

void question_data(struct question *q, struct slice data, enum data_type type)
{
    if (type == DATA_BINARY) {
        question_text(q, "data_type", SLICE("binary"));
        put_name(q, "data");
        json_base64(&q->body, data);
    } else if (data.n != 0) {
        put_name(q, "data");
        buf_append(&q->body, data);
    }
}

void question_end(struct question *q)
{
    buf_append_char(&q->body, '}');
}

/* --- answers --- */

static void read_reason(const struct answer *a, char ret[QUESTION_REASON_MAX + 1])
{
    struct arena arena;
    struct slice reason = SLICE("the backend refuses");
    struct error ignored;
    arena_init(&arena, REASON_ARENA);
    if (a->members[ANSWER_REASON].kind == JSON_KIND_STRING)
        (void)json_unquote(a->members[ANSWER_REASON], &arena, &reason, &ignored);
    if (reason.n > QUESTION_REASON_MAX)
        reason.n = QUESTION_REASON_MAX;
    while (reason.n != 0 && !utf8_valid(reason)) /* in the middle of a character */
        reason.n--;
    (void)snprintf(ret, QUESTION_REASON_MAX + 1, "%.*s", SLICE_FMT(reason));
    arena_reset(&arena);
}

enum err answer_read(const struct backend_result *r, struct answer *ret, struct error *reterr)
{
    static const char *const names[ANSWER_MEMBERS] = {"allow", "reason", "data", "event", "actions"};
    struct error ignored;
    *ret = (struct answer){.reason = ""};
    if (r->err != OK)
        return fail(reterr, r->err, "the backend: %.150s", r->why);
    bool refusal = r->status == 401 || r->status == 403;
    if (r->status / 100 != 2 && !refusal)
        return fail(reterr, ERR_BACKEND_UNAVAILABLE, "the backend: it answered %d", r->status);
    bool readable = r->body.n != 0 && utf8_valid(r->body) &&
                    json_members(r->body, names, ANSWER_MEMBERS, ret->members, &ignored) == OK;
    if (!readable)
        *ret = (struct answer){.reason = ""};
    if (refusal || (readable && ret->members[ANSWER_ALLOW].kind == JSON_KIND_FALSE)) {
        read_reason(ret, ret->reason);
        return fail(reterr, ERR_REFUSED, "the backend refuses");
    }
    if (!readable && r->body.n != 0)
        return fail(reterr, ERR_BACKEND_UNAVAILABLE, "the backend: its answer is not a JSON object");
    enum json_kind allow = ret->members[ANSWER_ALLOW].kind;
    if (allow != JSON_KIND_NONE && allow != JSON_KIND_TRUE)
        return fail(reterr, ERR_BACKEND_UNAVAILABLE, "the backend: \"allow\" of its answer is not true or false");
    return OK;
}
