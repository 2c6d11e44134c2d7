/* gateway/api_trace.c: did this session get that message? What the log, the session's record and its node say of it now; there is no record of deliveries. */
#include <stdio.h>

#include "base/mem.h"
#include "base/text.h"
#include "gateway/api.h"
#include "gateway/api_routes.h"
#include "gateway/control.h"
#include "gateway/gateway.h"
#include "gateway/trace.h"

struct inquiry {
    struct api_call *call;
    uint64_t offset, time_ms, since_ms; /* time 0: the log does not have the message (any more) */
    bool excluded;
    struct position position;
    size_t room_n, sid_n, node_n;
    char room[NAME_MAX_ROOM], sid[NAME_MAX_KEY], node[NODE_ID_MAX];
};

static void put_number_or_null(struct buf *b, const char *label, uint64_t n)
{
    buf_append_str(b, label);
    if (n != 0)
        buf_append_u64(b, n);
    else
        buf_append_str(b, "null");
}

static void conclude(struct inquiry *q, enum trace t)
{
    struct buf body = BUF_INIT;
    api_put(&body, "{\"room\":", (struct slice){q->room, q->room_n});
    put_number_or_null(&body, ",\"offset\":", q->offset);
    api_put(&body, ",\"session\":", (struct slice){q->sid, q->sid_n});
    api_put(&body, ",\"result\":", slice_str(trace_word(t)));
    api_put(&body, ",\"message\":", slice_str(trace_sentence(t)));
    api_put(&body, ",\"node\":", (struct slice){q->node, q->node_n});
    buf_append_str(&body, ",\"position\":");
    if (q->position.offset != 0) {
        buf_append_char(&body, '"');
        position_append(&body, &q->position);
        buf_append_char(&body, '"');
    } else {
        buf_append_str(&body, "null");
    }
    put_number_or_null(&body, ",\"published\":", q->time_ms);
    put_number_or_null(&body, ",\"joined\":", q->since_ms);
    buf_append_char(&body, '}');
    api_answer(q->call, buf_slice(&body));
    buf_fini(&body);
    free(q);
}

static void give_up(struct inquiry *q, enum err err, const char *why)
{
    api_refuse_result(q->call, err, why);
    free(q);
}

static void on_traced(void *arg, enum err err, const char *word)
{
    struct inquiry *q = arg;
    enum trace t = err == OK && word != NULL ? trace_find(slice_str(word)) : TRACES;
    if (err == ERR_NOT_FOUND)
        conclude(q, TRACE_NO_SESSION);
    else if (err != OK || t == TRACES)
        give_up(q, err != OK ? err : ERR_UNSUPPORTED,
                err != OK ? word : "the node of this session is too new for this");
    else
        conclude(q, t == TRACE_PARKED && q->time_ms != 0 && q->time_ms < q->since_ms ? TRACE_LATER : t);
}

static bool find_room(struct inquiry *q, const struct broker_result *r)
{
    for (size_t i = 0; i < r->count; i++) {
        if (!slice_eq(r->rooms[i].room, (struct slice){q->room, q->room_n}))
            continue;
        q->since_ms = r->rooms[i].total;
        return true;
    }
    return false;
}

static void on_session(void *arg, const struct broker_result *r)
{
    struct inquiry *q = arg;
    struct gateway *g = q->call->gw;
    if (r->err == ERR_NOT_FOUND) {
        conclude(q, TRACE_NO_SESSION);
        return;
    }
    if (r->err != OK) {
        give_up(q, r->err, r->why);
        return;
    }
    q->node_n = r->session->node.n < sizeof q->node ? r->session->node.n : 0;
    if (q->node_n != 0)
        memcpy(q->node, r->session->node.p, q->node_n);
    if (!find_room(q, r)) {
        conclude(q, TRACE_NOT_MEMBER);
        return;
    }
    const struct control what = {
        .verb = CONTROL_TRACE, .sid = {q->sid, q->sid_n}, .room = {q->room, q->room_n}, .offset = q->offset};
    control_send(g, &what, on_traced, q);
}

static void on_message(void *arg, const struct broker_result *r)
{
    struct inquiry *q = arg;
    struct broker *b = q->call->gw->broker;
    if (r->err != OK || b == NULL) {
        give_up(q, r->err != OK ? r->err : ERR_UNAVAILABLE, r->why);
        return;
    }
    if (r->count != 0 && r->messages[0].position.offset == q->offset) {
        q->position = r->messages[0].position;
        q->time_ms = r->messages[0].time_ms;
        q->excluded = slice_eq(r->messages[0].except, (struct slice){q->sid, q->sid_n});
    }
    if (q->offset > r->position.offset)
        conclude(q, TRACE_NO_MESSAGE);
    else if (q->excluded)
        conclude(q, TRACE_EXCLUDED);
    else
        b->ops->session_get(b, (struct slice){q->sid, q->sid_n}, on_session, q);
}

void api_get_trace(struct api_call *c, const struct http_request *r)
{
    struct error error = {0};
    struct slice room = SLICE_NONE, sid = SLICE_NONE;
    struct inquiry *q = xcalloc(1, sizeof *q);
    q->call = c;
    enum err err = api_param_room(c->params[0], q->room, &room, &error);
    if (err == OK)
        err = api_may_room(c, room, &error);
    if (err == OK && (!text_u64(c->params[1], OFFSET_MAX, &q->offset) || q->offset == 0))
        err = fail(&error, ERR_BAD_REQUEST, "an offset is a number from 1 to %llu", OFFSET_MAX);
    if (err == OK)
        err = api_query_session(r->query, q->sid, &sid, &error);
    if (err != OK) {
        free(q);
        api_refuse(c, &error);
        return;
    }
    q->room_n = room.n;
    q->sid_n = sid.n;
    const struct log_page page = {.room = room, .after = q->offset - 1, .limit = 1};
    c->gw->broker->ops->history(c->gw->broker, &page, on_message, q);
}
