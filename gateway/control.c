/* gateway/control.c: asking for something to be done with a session, wherever it is; and doing it for others. */
#include "gateway/control.h"

#include <stdio.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/conn.h"
#include "gateway/forward.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "gateway/move.h"
#include "gateway/peer.h"
#include "gateway/push.h"
#include "gateway/session.h"
#include "gateway/trace.h"
#include "proto/json.h"

#define PATIENCE_MS  5000u  /* for everything: a node that does not answer is dead, or knows no such envelopes */
#define RETRY_MS     50u    /* at first; then twice as long each time, … */
#define RETRY_MAX_MS 800u   /* … up to this */
#define CALLS_MAX    20000u /* under way on this node */
#define ARENA_BYTES  4096u

static const struct slice again = SLICE("again"), done_word = SLICE("done"), failed_word = SLICE("error");

static const char *const verb_names[CONTROL_VERBS] = {
#define X(code, name) [code] = (name),
    CONTROL_MAP(X)
#undef X
};

/* --- asking --- */

/* ASKING: the store has been asked where the session is, or to do it itself. WAITING: for the answer of its node. RESTING: before it is tried again. */
enum call_state { CALL_ASKING, CALL_WAITING, CALL_RESTING };

struct control_call {
    UT_hash_handle hh; /* in gateway->controls by id */
    struct gateway *gw;
    enum call_state state;
    enum err err;         /* why it is to be tried again, told when there is no time left */
    bool answered, again; /* the answer has come, perhaps before the store's: it is on another connection */
    enum err answer;
    char why[sizeof(((struct error *)0)->text)];
    uint64_t id, end_ms;
    uint32_t rest_ms;
    struct timer timer;
    control_done *done;
    void *arg;
    struct control what; /* slices point into names */
    char names[];
};

static void stop_waiting(struct control_call *c)
{
    timer_stop(&c->timer);
    if (c->state == CALL_WAITING && c->gw->broker != NULL)
        c->gw->broker->ops->control_end(c->gw->broker, c->what.sid);
}

static void call_end(struct control_call *c, enum err err, const char *why)
{
    stop_waiting(c);
    HASH_DELETE(hh, c->gw->controls, c);
    LOG(DEBUG, "control", "session=%s verb=%s code=%s", log_q(c->what.sid), verb_names[c->what.verb],
        err == OK ? "ok" : err_name(err));
    c->done(c->arg, err, why);
    free(c);
}

static void rest(struct control_call *c, enum err err)
{
    stop_waiting(c);
    c->state = CALL_RESTING;
    c->answered = false;
    c->err = err;
    timer_start(&c->timer, c->rest_ms);
    c->rest_ms = c->rest_ms * 2 < RETRY_MAX_MS ? c->rest_ms * 2 : RETRY_MAX_MS;
}

static void on_away_done(void *arg, const struct broker_result *r)
{
    struct control_call *c = arg;
    if (r->err == ERR_CONFLICT && c->gw->broker != NULL)
        rest(c, ERR_UNAVAILABLE); /* somebody has come back to it */
    else
        call_end(c, r->err, r->why);
}

/* Nobody has it: what is to be done is done in the store. */
static void act_away(struct control_call *c)
{
    struct broker *b = c->gw->broker;
    if (c->what.verb == CONTROL_JOIN)
        b->ops->away_join(b, c->what.sid, c->what.room, c->gw->cfg->max_rooms_per_session, on_away_done, c);
    else if (c->what.verb == CONTROL_LEAVE)
        b->ops->away_leave(b, c->what.sid, c->what.room, on_away_done, c);
    else if (c->what.verb == CONTROL_TRACE)
        call_end(c, OK, "parked");
    else
        b->ops->session_end(b, c->what.sid, EXIT_KICKED, on_away_done, c);
}

static void take_answer(struct control_call *c)
{
    if (c->again)
        rest(c, ERR_UNAVAILABLE);
    else
        call_end(c, c->answer, c->why[0] != '\0' ? c->why : NULL);
}

static void on_handed_over(void *arg, const struct broker_result *r)
{
    struct control_call *c = arg;
    uint64_t now = loop_now_ms(c->gw->loop);
    if (c->gw->broker == NULL) {
        call_end(c, ERR_UNAVAILABLE, "this node is stopping");
    } else if (c->answered) {
        c->state = r->err == OK ? CALL_WAITING : CALL_ASKING;
        take_answer(c);
    } else if (r->err == ERR_UNAVAILABLE) {
        rest(c, ERR_UNAVAILABLE);
    } else if (r->err != OK) {
        call_end(c, r->err, r->why);
    } else if (r->away) {
        act_away(c);
    } else {
        c->state = CALL_WAITING;
        timer_start(&c->timer, c->end_ms > now ? c->end_ms - now : 0);
    }
}

static void put_string(struct buf *b, const char *label, struct slice s)
{
    if (s.n == 0)
        return;
    buf_append_str(b, label);
    json_quote(b, s);
}

/* Members that a node does not know are ignored by it; verbs it does not know are answered `unsupported`. */
static void pack(const struct control *c, struct buf *ret)
{
    buf_printf(ret, "{\"close_code\":%u,\"reconnect_after\":%u,\"offset\":%llu", c->close_code, c->reconnect_after_ms,
               (unsigned long long)c->offset);
    put_string(ret, ",\"room\":", c->room);
    put_string(ret, ",\"reason\":", c->reason);
    buf_append_char(ret, '}');
}

static void ask(struct control_call *c)
{
    struct gateway *g = c->gw;
    struct buf data = BUF_INIT;
    char id[24];
    (void)snprintf(id, sizeof id, "%llx", (unsigned long long)c->id);
    pack(&c->what, &data);
    c->state = CALL_ASKING;
    metrics->controls_asked++;
    g->broker->ops->control(g->broker,
                            &(struct control_message){.sid = c->what.sid,
                                                      .id = slice_str(id),
                                                      .verb = slice_str(verb_names[c->what.verb]),
                                                      .data = buf_slice(&data)},
                            on_handed_over, c);
    buf_fini(&data);
}

static void on_timer(struct timer *t)
{
    struct control_call *c = container_of(t, struct control_call, timer);
    bool late = loop_now_ms(c->gw->loop) >= c->end_ms;
    if (c->state == CALL_WAITING)
        call_end(c, ERR_TIMEOUT, "the node of this session did not answer");
    else if (late && c->err == ERR_RATE_LIMITED)
        call_end(c, c->err, "too many commands for sessions are under way");
    else if (late)
        call_end(c, c->err, "the session cannot be reached at the moment");
    else
        ask(c);
}

void control_send(struct gateway *g, const struct control *what, control_done *done, void *arg)
{
    struct control_call *c = xcalloc(1, sizeof *c + what->sid.n + what->room.n + what->reason.n);
    char *at = c->names;
    c->gw = g;
    c->id = ++g->last_control;
    c->rest_ms = RETRY_MS;
    c->done = done;
    c->arg = arg;
    c->what = *what;
    c->what.sid = slice_put(&at, what->sid);
    c->what.room = slice_put(&at, what->room);
    c->what.reason = slice_put(&at, what->reason);
    timer_init(&c->timer, g->loop, on_timer);
    HASH_ADD(hh, g->controls, id, sizeof c->id, c);
    c->end_ms = loop_now_ms(g->loop) + PATIENCE_MS;
    if (HASH_COUNT(g->controls) <= CALLS_MAX && g->broker != NULL) {
        ask(c);
        return;
    }
    c->state = CALL_RESTING;
    c->err = ERR_RATE_LIMITED;
    c->end_ms = 0;
    timer_start(&c->timer, 0);
}

void control_fini(struct gateway *g)
{
    while (g->controls != NULL)
        call_end(g->controls, ERR_UNAVAILABLE, "this node is stopping");
}

/* --- the answer --- */

static enum err err_of(struct slice name)
{
    for (int i = OK + 1; i < ERR_COUNT; i++)
        if (slice_eq(name, slice_str(err_name((enum err)i))))
            return (enum err)i;
    return ERR_INTERNAL;
}

static void read_error(struct control_call *c, struct slice data)
{
    static const char *const names[] = {"code", "message"};
    struct json_value v[ARRAY_LEN(names)] = {{0}};
    struct error error;
    struct arena arena;
    struct slice code = SLICE_NONE, text = SLICE_NONE;
    arena_init(&arena, ARENA_BYTES);
    bool ok = utf8_valid(data) && json_members(data, names, ARRAY_LEN(names), v, &error) == OK &&
              v[0].kind == JSON_KIND_STRING && v[1].kind == JSON_KIND_STRING &&
              json_unquote(v[0], &arena, &code, &error) == OK && json_unquote(v[1], &arena, &text, &error) == OK;
    (void)snprintf(c->why, sizeof c->why, "%.*s",
                   SLICE_FMT(ok ? text : SLICE("the node of this session gave a strange answer")));
    arena_reset(&arena);
    c->answer = ok ? err_of(code) : ERR_INTERNAL;
}

static void on_answer(struct gateway *g, const struct envelope *e)
{
    struct control_call *c = NULL;
    uint64_t id = 0;
    for (size_t i = 0; i < e->id.n && i < 16; i++)
        id = id << 4 | (uint64_t)(e->id.p[i] <= '9' ? e->id.p[i] - '0' : e->id.p[i] - 'a' + 10);
    HASH_FIND(hh, g->controls, &id, sizeof id, c);
    if (c == NULL || !slice_eq(c->what.sid, e->from))
        return; /* too late, or it was asked before this node went away and came back */
    if (c->state == CALL_RESTING || c->answered)
        return;
    c->answered = true;
    c->again = slice_eq(e->event, again);
    c->answer = OK;
    c->why[0] = '\0';
    if (!c->again && (e->data.n != 0 || !slice_eq(e->event, done_word)))
        read_error(c, e->data);
    if (slice_eq(e->event, done_word))
        c->answer = OK;
    if (c->state == CALL_WAITING)
        take_answer(c);
}

/* --- doing it for others --- */

struct control_job {
    struct gateway *gw;
    struct slice node, sid, id; /* copies, behind the struct */
    void (*told)(void *arg);    /* NULL: a node waits for the answer */
    void *arg;
};

static void answer(struct gateway *g, const struct control_job *job, struct slice verb, struct slice data)
{
    if (g->broker != NULL)
        g->broker->ops->control_answer(
            g->broker,
            &(struct control_message){.sid = job->sid, .id = job->id, .node = job->node, .verb = verb, .data = data});
}

void control_job_done(struct control_job **pointer, enum err err, const char *why)
{
    struct control_job *job = TAKE(*pointer);
    struct buf data = BUF_INIT;
    if (job == NULL)
        return;
    if (job->told != NULL) {
        job->told(job->arg);
    } else if (err == OK && why == NULL) {
        answer(job->gw, job, done_word, SLICE_NONE);
    } else {
        put_string(&data, "{\"code\":", slice_str(err_name(err)));
        put_string(&data, ",\"message\":", slice_str(why));
        buf_append_char(&data, '}');
        answer(job->gw, job, err == OK ? done_word : failed_word, buf_slice(&data));
        buf_fini(&data);
    }
    free(job);
}

struct control_job *control_job_own(struct gateway *g, void (*told)(void *arg), void *arg)
{
    struct control_job *job = xcalloc(1, sizeof *job);
    *job = (struct control_job){.gw = g, .told = told, .arg = arg};
    return job;
}

static struct control_job *job_create(struct gateway *g, const struct envelope *e)
{
    struct control_job *job = xcalloc(1, sizeof *job + e->node.n + e->from.n + e->id.n);
    char *at = (char *)(job + 1);
    job->gw = g;
    job->node = slice_put(&at, e->node);
    job->sid = slice_put(&at, e->from);
    job->id = slice_put(&at, e->id);
    return job;
}

static bool text_member(struct json_value v, struct arena *a, struct slice *ret)
{
    struct error error;
    return v.kind == JSON_KIND_NONE || (v.kind == JSON_KIND_STRING && json_unquote(v, a, ret, &error) == OK);
}

static bool number_member(struct json_value v, uint64_t max, uint32_t *ret)
{
    uint64_t n = 0;
    bool ok = v.kind == JSON_KIND_NONE || json_uint(v, max, &n);
    *ret = (uint32_t)n;
    return ok;
}

/* The store is shared: what others wrote there must do no harm. */
static bool unpack(struct slice data, struct arena *a, struct control *ret)
{
    static const char *const names[] = {"room", "reason", "close_code", "reconnect_after", "offset"};
    struct json_value v[ARRAY_LEN(names)] = {{0}};
    struct error error;
    return utf8_valid(data) && json_members(data, names, ARRAY_LEN(names), v, &error) == OK &&
           text_member(v[0], a, &ret->room) && text_member(v[1], a, &ret->reason) &&
           (v[4].kind == JSON_KIND_NONE || json_uint(v[4], OFFSET_MAX, &ret->offset)) &&
           number_member(v[2], 4999, &ret->close_code) && number_member(v[3], UINT32_MAX, &ret->reconnect_after_ms) &&
           (ret->close_code == 0 || ret->close_code >= 4000) && ret->reason.n <= CONTROL_REASON_MAX &&
           (ret->reason.n == 0 || utf8_name_valid(ret->reason, CONTROL_REASON_MAX)) &&
           (ret->verb == CONTROL_DISCONNECT || (utf8_name_valid(ret->room, NAME_MAX_ROOM) && ret->room.p[0] != '$'));
}

static void execute(struct session *s, const struct control *c, struct control_job *job)
{
    struct error error = {0};
    enum err err = OK;
    struct slice reason = c->reason.n != 0 ? c->reason : SLICE("kicked");
    metrics->controls_done++;
    LOG(INFO, "control executed", "session=%s verb=%s from=%s", s->sid, verb_names[c->verb], log_q(job->node));
    switch (c->verb) {
    case CONTROL_DISCONNECT:
        session_expel(s, c->close_code != 0 ? (int)c->close_code : err_close_code(ERR_FORBIDDEN), reason,
                      c->reconnect_after_ms, job);
        return;
    case CONTROL_JOIN: err = command_join_for(s, c->room, job, &error); break;
    case CONTROL_LEAVE: err = command_leave_for(s, c->room, reason, job, &error); break;
    case CONTROL_TRACE: control_job_done(&job, OK, trace_word(trace_member(s, c->room, c->offset))); return;
    case CONTROL_VERBS: err = fail(&error, ERR_INTERNAL, "no such verb"); break;
    }
    if (err != OK)
        control_job_done(&job, err, error.text);
}

static void on_command(struct gateway *g, const struct envelope *e)
{
    struct control c = {.sid = e->from};
    struct arena arena;
    struct session *s;
    struct control_job *job = job_create(g, e);
    arena_init(&arena, ARENA_BYTES);
    HASH_FIND(hh, g->sessions, e->from.p, e->from.n, s);
    while (c.verb < CONTROL_VERBS && !slice_eq(e->event, slice_str(verb_names[c.verb])))
        c.verb++;
    if (c.verb == CONTROL_VERBS) {
        control_job_done(&job, ERR_UNSUPPORTED, "the node of this session is too old for this");
    } else if (!unpack(e->data, &arena, &c)) {
        control_job_done(&job, ERR_BAD_REQUEST, "the command is not readable");
    } else if (s == NULL || s->conn == NULL || s->state != SESSION_ACTIVE) {
        /* It has just come, or is just going: in a moment the store knows better. */
        answer(g, job, again, SLICE_NONE);
        free(job);
    } else {
        execute(s, &c, job);
    }
    arena_reset(&arena);
}

void control_envelope(struct gateway *g, const struct envelope *e)
{
    if (peer_envelope(g, e))
        return;
    if (move_is(e)) {
        move_envelope(g, e);
        return;
    }
    if (forward_is(e))
        forward_envelope(g, e);
    else if (e->kind == ENVELOPE_CONTROL && !push_command(g, e))
        on_command(g, e);
    else if (e->kind == ENVELOPE_CONTROLLED && !push_answer(g, e))
        on_answer(g, e);
}
