/* broker/redis/park.c: sessions without a connection: parked, resumed on any node, or ended when their time is over.
 *
 * The hash tells who has a session; the index xd:parked only tells when to look at it. At any moment the session is named by the index or by
 * the set of some node, so that somebody comes to it: it enters the one before it leaves the other. */
#include "base/log.h"
#include "base/mem.h"
#include "broker/redis/redis.h"

/* How much longer than its window the hash lives, in case that no node runs then. */
#define OUTLIVE_MS (7ull * 24 * 3600 * 1000)
#define TICK_MS    1000
#define PAGE       64

/* Parking. */

struct park_call {
    struct call call;
    struct parking what;       /* slices point into names */
    uint64_t until_ms, serial; /* serial: of the one here when it began */
    uint32_t store_changes;    /* when it was last found parked */
    char names[];
};

static struct park_call *park_call_new(struct redis *r, const struct parking *what, broker_done *done, void *arg)
{
    struct park_call *c = xcalloc(1, sizeof *c + what->sid.n + what->user.n + what->node.n);
    char *at = c->names;
    c->call = (struct call){.r = r, .done = done, .arg = arg};
    c->what = *what;
    c->what.sid = slice_put(&at, what->sid);
    c->what.user = slice_put(&at, what->user);
    c->what.node = slice_put(&at, what->node);
    c->serial = local_serial(r, what->sid);
    c->store_changes = r->store_changes;
    return c;
}

/* Its client has come back to this very node while it was being parked. */
static bool is_back(const struct park_call *c)
{
    const struct redis *r = c->call.r;
    uint64_t serial = local_serial(r, c->what.sid);
    return serial != 0 && serial != c->serial && slice_eq(c->what.node, slice_str(r->node));
}

static void park_end(struct park_call *c, enum err err, const char *why)
{
    struct redis *r = c->call.r;
    struct local_session *s = local_find(r, c->what.sid);
    if (err == OK && s != NULL && !is_back(c) && slice_eq(c->what.node, slice_str(r->node)))
        local_free(r, s);
    broker_complete(c->call.done, c->call.arg, &(struct broker_result){.err = err, .why = why});
    free(c);
}

/* The set names it still, and somebody comes to it: a round of this node, or the reaper's next page. */
static void leave_listed(struct park_call *c)
{
    strangers_look(c->call.r);
    park_end(c, OK, NULL);
}

static void on_unlisted(void *arg, const redisReply *reply, enum err err, const char *why)
{
    (void)reply;
    if (err == ERR_UNAVAILABLE || err == ERR_TIMEOUT)
        leave_listed(arg);
    else
        park_end(arg, err, why);
}

/* Not after the store has changed, and not twice: a primary that does not know that the session is parked must not be told that it is not this node's. */
static void unlist(struct park_call *c)
{
    struct redis *r = c->call.r;
    struct args a;
    if (c->what.set == NULL || is_back(c)) {
        park_end(c, OK, NULL);
    } else if (c->store_changes != r->store_changes) {
        leave_listed(c);
    } else {
        set_args(&a, "SREM", r->node_prefix, c->what.node, c->what.set, c->what.sid);
        store_send(r->store, &a, REQUEST_UNBOUNDED, on_unlisted, c);
    }
}

static void on_indexed(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct park_call *c = arg;
    (void)reply;
    if (err != OK)
        park_end(c, err, why);
    else
        unlist(c);
}

static void on_attended(void *arg, const struct broker_result *result)
{
    struct park_call *c = arg;
    struct args a;
    if (result->err != OK) {
        park_end(c, result->err, result->why);
        return;
    }
    args_init(&a);
    arg_str(&a, "ZADD");
    arg_str(&a, c->call.r->parked_key);
    arg_u64(&a, c->until_ms);
    arg_slice(&a, c->what.sid);
    store_send(c->call.r->store, &a, REQUEST_REPEATABLE | REQUEST_UNBOUNDED, on_indexed, c);
}

/* The user's directory first: while that has not been told, the session stays where somebody comes to it. */
static void index_session(struct park_call *c, struct slice user)
{
    const struct attendance away = {.sid = c->what.sid, .user = user, .state = "parked", .turn = c->what.turn};
    if (user.n != 0)
        user_attend(c->call.r, &away, on_attended, c);
    else
        on_attended(c, &(struct broker_result){.err = OK});
}

void session_index(struct redis *r, const struct parking *what, uint64_t until_ms, broker_done *done, void *arg)
{
    struct park_call *c = park_call_new(r, what, done, arg);
    c->until_ms = until_ms;
    index_session(c, c->what.user);
}

static void on_parked(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct park_call *c = arg;
    c->store_changes = c->call.r->store_changes;
    if (err == OK && (!reply_u64(reply_at(reply, 0), &c->until_ms) ||
                      (c->until_ms != 0 && !reply_u64(reply_at(reply, 1), &c->what.turn)))) {
        err = ERR_INTERNAL;
        why = "the park script gave a strange answer";
    }
    if (err != OK)
        park_end(c, err, why);
    else if (c->until_ms == 0) /* resumed by another node meanwhile, or gone */
        unlist(c);
    else
        index_session(c, reply_slice(reply_at(reply, 2)));
}

void session_set_aside(struct redis *r, const struct parking *what, broker_done *done, void *arg)
{
    struct park_call *c = park_call_new(r, what, done, arg);
    struct args a;
    script_args(&a, r, SCRIPT_PARK, 1);
    (void)arg_key(&a, r->session_prefix, c->what.sid, "");
    arg_slice(&a, c->what.node);
    if (what->window_ms != 0)
        arg_u64(&a, what->window_ms);
    else
        arg_str(&a, "");
    arg_u64(&a, what->from_ms);
    arg_u64(&a, OUTLIVE_MS);
    store_send(r->store, &a, REQUEST_REPEATABLE | REQUEST_UNBOUNDED, on_parked, c);
}

void redis_session_park(struct broker *b, struct slice sid, uint32_t ttl_ms, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct local_session *s = local_find(r, sid);
    if (s != NULL)
        local_suspend_returning(r, s);
    if (ttl_ms > r->sessions.window_ms)
        r->sessions.window_ms = ttl_ms;
    struct parking what = {.sid = sid,
                           .user = s != NULL ? local_user(s) : SLICE_NONE,
                           .node = slice_str(r->node),
                           .set = ":sessions",
                           .window_ms = ttl_ms != 0 ? ttl_ms : 1};
    session_set_aside(r, &what, done, arg);
}

/* Resuming. */

struct resume_call {
    struct call call;
    size_t sid_n;
    char sid[];
};

static void unlist_stranger(struct redis *r, struct slice sid)
{
    struct args a;
    if (local_find(r, sid) != NULL || r->closing)
        return;
    set_args(&a, "SREM", r->node_prefix, slice_str(r->node), ":sessions", sid);
    store_send(r->store, &a, REQUEST_REPEATABLE | REQUEST_UNBOUNDED, NULL, NULL);
}

/* Everything but the result can come later: putting the session, a reaper or the end of its window would mend it. */
static void adopt(struct redis *r, const struct attendance *there, bool parked)
{
    struct slice sid = there->sid;
    struct gather *g = gather_new(r, NULL, NULL);
    struct args a;
    g->flags |= REQUEST_UNBOUNDED;
    /* Again: a resume with a wrong token may have taken it out in between. */
    set_args(&a, "SADD", r->node_prefix, slice_str(r->node), ":sessions", sid);
    gather_send(g, &a);
    if (there->user.n != 0) {
        gather_hold(g);
        user_attend(r, there, gather_release, g);
    }
    if (parked) {
        args_init(&a);
        arg_str(&a, "ZREM");
        arg_str(&a, r->parked_key);
        arg_slice(&a, sid);
        gather_send(g, &a);
    }
    gather_close(g);
}

/* reply: 1, user, connected at, state before, turn, whom it watches, offset and tag of the last message to it, fields that name rooms. */
static void resumed(struct resume_call *c, const redisReply *reply)
{
    struct redis *r = c->call.r;
    struct slice sid = {c->sid, c->sid_n};
    struct broker_result result = {
        .err = OK, .user = reply_slice(reply_at(reply, 1)), .watches = reply_slice(reply_at(reply, 5))};
    struct attendance there = {.sid = sid, .user = result.user, .state = "active"};
    (void)reply_u64(reply_at(reply, 4), &there.turn);
    (void)reply_u64(reply_at(reply, 2), &result.connected_ms);
    (void)reply_position(reply, 6, &result.position);
    sessions_owe_no_more(r, sid, SLICE_NONE);
    struct local_session *s = local_find(r, sid);
    if (s != NULL)
        local_free(r, s);
    local_add(r, sid, result.user);
    s = local_find(r, sid);
    local_took(s, there.turn);
    AUTO_FREE struct room_record *rooms = xcalloc(reply->elements, sizeof *rooms);
    for (size_t i = 8; i < reply->elements; i++) {
        struct slice room = slice_from(reply_slice(reply->element[i]), sizeof "room:" - 1);
        if (room.n == 0)
            continue;
        rooms[result.count++].room = room;
        local_returning(s, room);
    }
    result.rooms = rooms;
    adopt(r, &there, !slice_eq(reply_slice(reply_at(reply, 3)), SLICE("active")));
    broker_complete(c->call.done, c->call.arg, &result);
}

static void on_resumed(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct resume_call *c = arg;
    struct redis *r = c->call.r;
    struct slice sid = {c->sid, c->sid_n};
    const redisReply *state = reply_at(reply, 0);
    if (err == OK && (state == NULL || state->type != REDIS_REPLY_INTEGER)) {
        err = ERR_INTERNAL;
        why = "the resume script gave a strange answer";
    } else if (err == OK && state->integer == 0) {
        err = ERR_NOT_FOUND;
        why = "no such session any more";
    } else if (err == OK && state->integer < 0) {
        err = ERR_UNAUTHORIZED;
        why = "not the token of this session";
    }
    if (err == OK && !r->closing) {
        resumed(c, reply);
    } else {
        if (err == OK) {
            err = ERR_UNAVAILABLE;
            why = "the broker is closing";
        } else if (err != ERR_UNAVAILABLE && err != ERR_TIMEOUT) {
            unlist_stranger(r, sid);
        } else if (!r->closing) {
            sessions_owe_park(r, sid); /* it may be ours, and nobody wants it */
        }
        broker_fail(c->call.done, c->call.arg, err, why);
    }
    inbox_release(r, session_slot(r, sid));
    free(c);
}

static void arg_taken(struct args *a, const struct redis *r, struct slice sid)
{
    struct buf room = BUF_INIT, body = BUF_INIT;
    buf_append(&room, SLICE("$session:"));
    buf_append(&room, sid);
    struct envelope e = {.kind = ENVELOPE_TAKEN, .room = buf_slice(&room), .from = sid, .node = slice_str(r->node)};
    envelope_pack(&e, &body);
    arg_join(a, buf_slice(&body), SLICE_NONE);
    buf_fini(&room);
    buf_fini(&body);
}

/* The node's set first, as for a new session. */
void redis_session_resume(struct broker *b, struct slice sid, struct slice token_hash, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct resume_call *c = xcalloc(1, sizeof *c + sid.n);
    c->call = (struct call){.r = r, .done = done, .arg = arg};
    c->sid_n = sid.n;
    memcpy(c->sid, sid.p, sid.n);
    strangers_begun(r, sid);
    inbox_hold(r, session_slot(r, sid)); /* early, so that it is open by then; until on_resumed */
    struct args set, resume;
    set_args(&set, "SADD", r->node_prefix, slice_str(r->node), ":sessions", sid);
    script_args(&resume, r, SCRIPT_RESUME, 1);
    (void)arg_key(&resume, r->session_prefix, sid, "");
    arg_str(&resume, r->node);
    arg_slice(&resume, token_hash);
    arg_u64(&resume, r->session_ttl_ms);
    arg_inbox(&resume, r, sid);
    arg_taken(&resume, r, sid);
    turn_take(r, sid, &(struct turn_step){.args = &set, .flags = REQUEST_REPEATABLE},
              &(struct turn_step){
                  .args = &resume, .flags = REQUEST_REPEATABLE | REQUEST_TELLS, .done = on_resumed, .arg = c});
}

/* Ending what nobody came back to. */

static void take_due(struct redis *r);

static void on_page_ended(void *arg, const struct broker_result *result)
{
    struct redis *r = arg;
    r->expiry.busy = false;
    if (result->err == OK && r->expiry.page == PAGE && !r->closing)
        take_due(r);
}

static void on_due(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct redis *r = arg;
    (void)why;
    r->expiry.page = 0;
    if (r->closing || err != OK || reply->type != REDIS_REPLY_ARRAY || reply->elements < 2) {
        r->expiry.busy = false;
        return;
    }
    struct gather *g = gather_new(r, on_page_ended, r);
    for (size_t i = 1; i < reply->elements; i++) {
        struct clearing what = {.sid = reply_slice(reply->element[i]),
                                .reason = EXIT_DISCONNECT,
                                .event = SLICE("expired"),
                                .score = reply_slice(reply->element[0])};
        r->expiry.page++;
        gather_hold(g);
        session_clear(r, &what, gather_release, g);
    }
    LOG(DEBUG, "parked sessions looked at", "sessions=%zu", r->expiry.page);
    gather_close(g);
}

static void take_due(struct redis *r)
{
    struct args a;
    r->expiry.busy = true;
    script_args(&a, r, SCRIPT_DUE, 1);
    arg_str(&a, r->parked_key);
    arg_u64(&a, r->lease_ms + 2ull * r->link_cfg.timeout_ms);
    arg_u64(&a, PAGE);
    store_send(r->store, &a, 0, on_due, r);
}

void park_tick(struct redis *r)
{
    uint64_t now = loop_now_ms(r->b.loop);
    if (r->expiry.busy || now < r->expiry.due_ms)
        return;
    r->expiry.due_ms = now + TICK_MS;
    take_due(r);
}
