/* broker/redis/control.c: what one node wants done with a session: by the node that has it, told through its inbox; or, if nobody has it, in the store. */
#include "base/mem.h"
#include "broker/redis/redis.h"

static void pack(const struct redis *r, const struct control_message *m, enum envelope_kind kind, struct buf *ret)
{
    struct buf room = BUF_INIT;
    buf_append(&room, SLICE("$session:"));
    buf_append(&room, m->sid);
    const struct envelope e = {.kind = kind,
                               .room = buf_slice(&room),
                               .from = m->sid,
                               .id = m->id,
                               .event = m->verb,
                               .node = slice_str(r->node),
                               .data = m->data};
    envelope_pack(&e, ret);
    buf_fini(&room);
}

/* Asking. In a cluster the answer comes through the inbox of the session's slot, so that is opened first. */

struct control_call {
    struct call call;
    uint16_t slot;
    size_t sid_n;
    struct buf envelope;
    struct slice node; /* that it is for; empty: whoever has the session. Points behind sid */
    char sid[];
};

static void control_complete(struct control_call *c, const struct broker_result *result)
{
    if (result->err != OK || result->away)
        inbox_release(c->call.r, c->slot);
    broker_complete(c->call.done, c->call.arg, result);
    buf_fini(&c->envelope);
    free(c);
}

static void on_controlled(void *arg, const redisReply *reply, enum err err, const char *why)
{
    static const char *const sentences[] = {
        [0] = "no such session", [3] = "the node of this session does not listen at the moment"};
    uint64_t state = 0;
    struct broker_result result = {.err = err, .why = why};
    if (err == OK && (!reply_u64(reply, &state) || state > 3)) {
        result.err = ERR_INTERNAL;
        result.why = "the control script gave a strange answer";
    } else if (err == OK) {
        result.err = state == 0 ? ERR_NOT_FOUND : state == 3 ? ERR_UNAVAILABLE : OK;
        result.why = sentences[state];
        result.away = state == 2;
    }
    control_complete(arg, &result);
}

/* Nobody has heard it: it answers with 0. */
static void on_told(void *arg, const redisReply *reply, enum err err, const char *why)
{
    uint64_t listeners = 0;
    struct broker_result result = {.err = err, .why = why};
    if (err == OK && (!reply_u64(reply, &listeners) || listeners == 0)) {
        result.err = ERR_UNAVAILABLE;
        result.why = "that node does not listen at the moment";
    }
    control_complete(arg, &result);
}

static void tell_node(struct control_call *c)
{
    struct redis *r = c->call.r;
    struct args a;
    args_init(&a);
    arg_str(&a, r->cluster != NULL ? "SPUBLISH" : "PUBLISH");
    if (arg_inbox_of(&a, r, (struct slice){c->sid, c->sid_n}, c->node)) {
        arg_slice(&a, buf_slice(&c->envelope));
        store_send(r->store, &a, REQUEST_REPEATABLE | REQUEST_TELLS, on_told, c);
        return;
    }
    args_fini(&a);
    control_complete(c, &(struct broker_result){.err = ERR_UNAVAILABLE, .why = "no node is called so"});
}

static void on_inbox_open(void *arg, const struct broker_result *result)
{
    struct control_call *c = arg;
    struct redis *r = c->call.r;
    struct slice sid = {c->sid, c->sid_n};
    if (result->err != OK || r->closing) {
        control_complete(c, &(struct broker_result){.err = ERR_UNAVAILABLE, .why = "the store cannot be reached"});
        return;
    }
    struct args a;
    if (c->node.n != 0) {
        tell_node(c);
        return;
    }
    script_args(&a, r, SCRIPT_CONTROL, 1);
    (void)arg_key(&a, r->session_prefix, sid, "");
    arg_inbox(&a, r, sid);
    arg_slice(&a, buf_slice(&c->envelope));
    store_send(r->store, &a, REQUEST_REPEATABLE | REQUEST_TELLS, on_controlled, c);
}

static void control(struct redis *r, const struct control_message *m, struct slice node, broker_done *done, void *arg)
{
    if (r->closing) {
        redis_complete_later(r, done, arg, ERR_UNAVAILABLE, "the broker is closing");
        return;
    }
    struct control_call *c = xcalloc(1, sizeof *c + m->sid.n + node.n);
    char *at = c->sid;
    c->call = (struct call){.r = r, .done = done, .arg = arg};
    c->slot = session_slot(r, m->sid);
    c->sid_n = m->sid.n;
    (void)slice_put(&at, m->sid);
    c->node = slice_put(&at, node);
    pack(r, m, ENVELOPE_CONTROL, &c->envelope);
    inbox_hold(r, c->slot);
    struct gather *g = gather_new(r, on_inbox_open, c);
    inbox_wait(r, c->slot, g);
    gather_close(g);
}

void redis_control(struct broker *b, const struct control_message *m, broker_done *done, void *arg)
{
    control(redis_of(b), m, SLICE_NONE, done, arg);
}

void redis_control_to(struct broker *b, const struct control_message *m, broker_done *done, void *arg)
{
    control(redis_of(b), m, m->node, done, arg);
}

void redis_control_listen(struct broker *b, struct slice sid)
{
    struct redis *r = redis_of(b);
    inbox_hold(r, session_slot(r, sid));
}

void redis_control_end(struct broker *b, struct slice sid)
{
    struct redis *r = redis_of(b);
    inbox_release(r, session_slot(r, sid));
}

/* Answering. While a slot moves, or the link of whoever asked is being made again, nobody hears it: then it is said again. */

#define ANSWER_TRIES    6u
#define ANSWER_AGAIN_MS 50u /* then twice as long each time */

struct control_reply {
    struct link link; /* redis->replies */
    struct redis *r;
    struct timer timer;
    unsigned tries;
    struct buf envelope;
    size_t sid_n;
    struct slice node; /* points behind sid */
    char sid[];
};

static void reply_free(struct control_reply *c)
{
    list_del(&c->link);
    timer_stop(&c->timer);
    buf_fini(&c->envelope);
    free(c);
}

static void on_replied(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct control_reply *c = arg;
    uint64_t listeners = 0;
    bool heard = err == OK && reply_u64(reply, &listeners) && listeners != 0;
    (void)why;
    if (heard || c->r->closing || c->tries >= ANSWER_TRIES)
        reply_free(c);
    else
        timer_start(&c->timer, ANSWER_AGAIN_MS << c->tries++);
}

static void reply_send(struct control_reply *c)
{
    struct args a;
    args_init(&a);
    arg_str(&a, c->r->cluster != NULL ? "SPUBLISH" : "PUBLISH");
    if (arg_inbox_of(&a, c->r, (struct slice){c->sid, c->sid_n}, c->node)) {
        arg_slice(&a, buf_slice(&c->envelope));
        store_send(c->r->store, &a, REQUEST_REPEATABLE | REQUEST_TELLS, on_replied, c);
    } else {
        args_fini(&a);
        reply_free(c);
    }
}

static void on_reply_timer(struct timer *t)
{
    reply_send(container_of(t, struct control_reply, timer));
}

void redis_control_answer(struct broker *b, const struct control_message *m)
{
    struct redis *r = redis_of(b);
    if (r->closing)
        return;
    struct control_reply *c = xcalloc(1, sizeof *c + m->sid.n + m->node.n);
    char *at = c->sid;
    c->r = r;
    c->sid_n = m->sid.n;
    (void)slice_put(&at, m->sid);
    c->node = slice_put(&at, m->node);
    pack(r, m, ENVELOPE_CONTROLLED, &c->envelope);
    timer_init(&c->timer, r->b.loop, on_reply_timer);
    list_append(&r->replies, &c->link);
    reply_send(c);
}

void replies_fini(struct redis *r)
{
    list_for_each_safe (it, &r->replies) {
        reply_free(list_entry(it, struct control_reply, link));
    }
}

/* Parked sessions. */

struct away_call {
    struct call call;
    bool joins;
    struct broker_result result;
    uint64_t verdict;
    enum exit_reason reason;
    struct slice sid, room; /* point into names */
    struct buf user, node, score;
    char names[];
};

static struct away_call *away_new(struct redis *r, struct slice sid, struct slice room, broker_done *done, void *arg)
{
    struct away_call *c = xcalloc(1, sizeof *c + sid.n + room.n);
    char *at = c->names;
    c->call = (struct call){.r = r, .done = done, .arg = arg};
    c->sid = slice_put(&at, sid);
    c->room = slice_put(&at, room);
    return c;
}

static void away_end(struct away_call *c, const struct broker_result *result)
{
    broker_complete(c->call.done, c->call.arg, result);
    buf_fini(&c->user);
    buf_fini(&c->node);
    buf_fini(&c->score);
    free(c);
}

static void away_fail(struct away_call *c, enum err err, const char *why)
{
    away_end(c, &(struct broker_result){.err = err, .why = why});
}

static void on_ended(void *arg, const struct broker_result *result)
{
    struct away_call *c = arg;
    if (result->err == OK && c->verdict == NO_HASH)
        away_fail(c, ERR_NOT_FOUND, "no such session");
    else if (result->err == OK && c->verdict != END)
        away_fail(c, ERR_CONFLICT, "the session is connected");
    else
        away_end(c, result);
}

static void on_due_early(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct away_call *c = arg;
    struct redis *r = c->call.r;
    (void)reply;
    if (err != OK || r->closing) {
        away_fail(c, err != OK ? err : ERR_UNAVAILABLE, err != OK ? why : "the broker is closing");
        return;
    }
    const struct clearing what = {.sid = c->sid,
                                  .reason = c->reason,
                                  .event = SLICE("kicked"),
                                  .score = buf_slice(&c->score),
                                  .early = true,
                                  .verdict = &c->verdict};
    session_clear(r, &what, on_ended, c);
}

/* As if its window had been over and due.lua had taken it: should this node die on the way, it is due again soon. */
void redis_session_end(struct broker *b, struct slice sid, enum exit_reason reason, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct away_call *c = away_new(r, sid, SLICE_NONE, done, arg);
    c->reason = reason;
    c->verdict = NOT_OURS;
    uint64_t now = lease_redis_now(r);
    buf_append_u64(&c->score, (now != 0 ? now : loop_wall_ms(b->loop)) + r->lease_ms + 2ull * r->link_cfg.timeout_ms);
    buf_append_str(&c->score, ".5");
    struct args a;
    args_init(&a);
    arg_str(&a, "ZADD");
    arg_str(&a, r->parked_key);
    arg_str(&a, "XX");
    arg_slice(&a, buf_slice(&c->score));
    arg_slice(&a, c->sid);
    store_send(r->store, &a, REQUEST_REPEATABLE, on_due_early, c);
}

static void on_suspended(void *arg, const struct broker_result *result)
{
    struct away_call *c = arg;
    if (result->err != OK)
        away_end(c, result);
    else
        away_end(c, &c->result);
}

static struct member_id away_id(const struct away_call *c)
{
    return (struct member_id){.room = c->room, .sid = c->sid, .user = buf_slice(&c->user), .node = buf_slice(&c->node)};
}

static void on_away_member(void *arg, const struct broker_result *result)
{
    struct away_call *c = arg;
    if (result->err != OK || !c->joins) {
        away_end(c, result);
        return;
    }
    const struct member_id id = away_id(c);
    c->result = (struct broker_result){.err = OK, .position = result->position, .total = result->total};
    redis_suspend_as(c->call.r, &id, on_suspended, c);
}

static void on_noted(void *arg, const redisReply *reply, enum err err, const char *why)
{
    static const struct {
        enum err err;
        const char *why;
    } refusals[] = {[0] = {ERR_NOT_FOUND, "no such session"},
                    [2] = {ERR_CONFLICT, "the session is connected"},
                    [3] = {ERR_LIMIT_EXCEEDED, "the session is in enough rooms already (max-rooms-per-session)"},
                    [4] = {ERR_NOT_MEMBER, "the session is not in this room"}};
    struct away_call *c = arg;
    uint64_t what = 0;
    if (err != OK) {
        away_fail(c, err, why);
    } else if (!reply_u64(reply_at(reply, 0), &what) || what >= sizeof refusals / sizeof *refusals) {
        away_fail(c, ERR_INTERNAL, "the away script gave a strange answer");
    } else if (what != 1) {
        away_fail(c, refusals[what].err, refusals[what].why);
    } else {
        buf_append(&c->node, reply_slice(reply_at(reply, 1)));
        buf_append(&c->user, reply_slice(reply_at(reply, 2)));
        struct member_id id = away_id(c);
        id.any = !c->joins;
        if (c->joins)
            redis_join_as(c->call.r, &id, NULL, on_away_member, c);
        else
            redis_leave_as(c->call.r, &id, EXIT_KICKED, on_away_member, c);
    }
}

static void away(struct away_call *c, uint32_t rooms_max)
{
    const struct redis *r = c->call.r;
    struct args a;
    script_args(&a, r, SCRIPT_AWAY, 1);
    (void)arg_key(&a, r->session_prefix, c->sid, "");
    arg_join(&a, SLICE("room:"), c->room);
    arg_u64(&a, rooms_max);
    arg_u64(&a, loop_wall_ms(r->b.loop));
    store_send(r->store, &a, REQUEST_REPEATABLE, on_noted, c);
}

/* NOLINTNEXTLINE(readability-function-size): the interface wants so many */
void redis_away_join(struct broker *b, struct slice sid, struct slice room, uint32_t rooms_max, broker_done *done,
                     void *arg)
{
    struct away_call *c = away_new(redis_of(b), sid, room, done, arg);
    c->joins = true;
    away(c, rooms_max);
}

void redis_away_leave(struct broker *b, struct slice sid, struct slice room, broker_done *done, void *arg)
{
    away(away_new(redis_of(b), sid, room, done, arg), 0);
}
