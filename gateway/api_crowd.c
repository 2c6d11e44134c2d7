/* gateway/api_crowd.c: many sessions at once: into rooms, out of rooms, out of here; a page of them with each request. */
#include "base/mem.h"
#include "gateway/api_routes.h"
#include "gateway/control.h"
#include "gateway/crowd.h"
#include "gateway/engine.h"
#include "gateway/gateway.h"
#include "proto/json.h"

#define ARENA_BYTES 131072u
#define FAILED_MAX  100u /* that are named in the answer */

/* A request under way. */
struct crowding {
    struct api_call *call;
    enum control_verb verb;
    struct arena arena;
    struct buf body; /* that `request` points into */
    struct crowd_request request;
    size_t left;
    uint64_t sessions, done, failures;
    struct buf failed, next;
};

/* One of its sessions. */
struct one {
    struct crowding *of;
    size_t left; /* commands */
    bool failed;
    size_t sid_n;
    char sid[];
};

static void crowding_free(struct crowding *c)
{
    arena_reset(&c->arena);
    buf_fini(&c->body);
    buf_fini(&c->failed);
    buf_fini(&c->next);
    free(c);
}

static void answer(struct crowding *c)
{
    struct buf body = BUF_INIT;
    buf_printf(&body, "{\"sessions\":%llu,\"done\":%llu,\"failures\":%llu,\"failed\":[",
               (unsigned long long)c->sessions, (unsigned long long)c->done, (unsigned long long)c->failures);
    buf_append(&body, buf_slice(&c->failed));
    api_put(&body, "],\"next\":", buf_slice(&c->next));
    buf_append_char(&body, '}');
    api_answer(c->call, buf_slice(&body));
    buf_fini(&body);
    crowding_free(c);
}

static void count_down(struct crowding *c)
{
    if (--c->left == 0)
        answer(c);
}

static void note_failure(struct one *o, enum err err, const char *why)
{
    struct crowding *c = o->of;
    o->failed = true;
    if (c->failures++ >= FAILED_MAX)
        return;
    api_put(&c->failed, c->failed.n != 0 ? ",{\"session\":" : "{\"session\":", (struct slice){o->sid, o->sid_n});
    buf_printf(&c->failed, ",\"code\":\"%s\",\"message\":", err_name(err));
    json_quote(&c->failed, err == ERR_INTERNAL || why == NULL ? SLICE("the store could not do it") : slice_str(why));
    buf_append_char(&c->failed, '}');
}

static void on_done(void *arg, enum err err, const char *why)
{
    struct one *o = arg;
    struct crowding *c = o->of;
    bool gone = err == ERR_NOT_FOUND, was_out = err == ERR_NOT_MEMBER && c->verb == CONTROL_LEAVE;
    if (err != OK && !gone && !was_out)
        note_failure(o, err, why);
    o->failed = o->failed || gone;
    if (--o->left != 0)
        return;
    c->done += !o->failed;
    free(o);
    count_down(c);
}

static void order(struct crowding *c, struct slice sid)
{
    const struct crowd_request *q = &c->request;
    struct one *o = xcalloc(1, sizeof *o + sid.n);
    o->of = c;
    o->left = c->verb == CONTROL_DISCONNECT ? 1 : q->room_count;
    o->sid_n = sid.n;
    memcpy(o->sid, sid.p, sid.n);
    c->left++;
    c->sessions++;
    for (size_t i = 0, n = o->left; i < n; i++) {
        const struct control what = {.verb = c->verb,
                                     .sid = sid,
                                     .room = c->verb == CONTROL_DISCONNECT ? SLICE_NONE : q->rooms[i],
                                     .reason = q->reason,
                                     .close_code = q->code,
                                     .reconnect_after_ms = q->reconnect_after_ms};
        control_send(c->call->gw, &what, on_done, o);
    }
}

static bool excepted(const struct crowd_request *q, struct slice sid)
{
    for (size_t i = 0; i < q->except_count; i++)
        if (slice_eq(q->except[i], sid))
            return true;
    return false;
}

static void on_page(void *arg, const struct broker_result *r)
{
    struct crowding *c = arg;
    if (r->err != OK || c->call->gw->broker == NULL) {
        api_refuse_result(c->call, r->err != OK ? r->err : ERR_UNAVAILABLE,
                          r->err != OK ? r->why : "this node is stopping");
        crowding_free(c);
        return;
    }
    if (r->more)
        buf_append(&c->next, r->cursor);
    c->left = 1; /* for this loop */
    for (size_t i = 0; i < r->count; i++)
        if (!excepted(&c->request, r->members[i].sid))
            order(c, r->members[i].sid);
    count_down(c);
}

/* May the key do it to these sessions, and with these rooms? */
static enum err may(const struct api_call *call, const struct crowding *c, struct error *reterr)
{
    const struct crowd_request *q = &c->request;
    enum err err = OK;
    if ((q->room_count == 0) != (c->verb == CONTROL_DISCONNECT))
        return fail(reterr, ERR_BAD_REQUEST,
                    c->verb == CONTROL_DISCONNECT ? "rooms are for join and leave" : "rooms has 1 to 10 rooms");
    if (q->crowd.by == CROWD_ROOM)
        err = api_may_room(call, q->crowd.name, reterr);
    for (size_t i = 0; err == OK && i < q->room_count; i++) {
        if (q->rooms[i].p[0] == '$')
            err = fail(reterr, ERR_INVALID_NAME, "rooms that begin with $ are the server's own");
        else
            err = api_may_room(call, q->rooms[i], reterr);
    }
    return err;
}

static void begin(struct api_call *call, const struct http_request *r, enum control_verb verb)
{
    struct error error = {0};
    struct crowding *c = xcalloc(1, sizeof *c);
    c->call = call;
    c->verb = verb;
    arena_init(&c->arena, ARENA_BYTES);
    buf_append(&c->body, r->body);
    enum err err = crowd_read(buf_slice(&c->body), &c->arena, &c->request, &error);
    if (err == OK)
        err = may(call, c, &error);
    if (err != OK) {
        crowding_free(c);
        api_refuse(call, &error);
        return;
    }
    crowd_page(call->gw, &c->request.crowd, c->request.cursor, c->request.limit | PAGE_UNCUT, on_page, c);
}

void api_join_sessions(struct api_call *c, const struct http_request *r)
{
    begin(c, r, CONTROL_JOIN);
}

void api_leave_sessions(struct api_call *c, const struct http_request *r)
{
    begin(c, r, CONTROL_LEAVE);
}

void api_disconnect_sessions(struct api_call *c, const struct http_request *r)
{
    begin(c, r, CONTROL_DISCONNECT);
}
