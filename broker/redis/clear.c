/* broker/redis/clear.c: the end of a session in the store, whoever brings it about: its own node, a reaper, or whoever finds its window over.
 *
 * One script decides and marks the hash as ending: from then on nobody can resume it, and every step that follows may be done twice. */
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "broker/redis/redis.h"

struct clear_call {
    struct call call;
    struct clearing what; /* slices point into names */
    struct buf user, tunnel;
    uint64_t since_ms; /* it is being ended; 0: the store has no such session */
    uint64_t turn;
    enum err err; /* what could not be done, while what can be done is */
    char why[160];
    char names[];
};

static void clear_end(void *arg, const struct broker_result *result)
{
    struct clear_call *c = arg;
    broker_complete(c->call.done, c->call.arg, result);
    buf_fini(&c->user);
    buf_fini(&c->tunnel);
    free(c);
}

static bool store_is_gone(enum err err)
{
    return err == ERR_UNAVAILABLE || err == ERR_TIMEOUT;
}

/* Its name goes last: it would bring whoever has to go on. */
static void drop_name(struct gather *g, const struct clear_call *c, uint64_t until_ms)
{
    const struct redis *r = c->call.r;
    struct args a;
    if (c->what.set != NULL) {
        set_args(&a, "SREM", r->node_prefix, c->what.node, c->what.set, c->what.sid);
        gather_send(g, &a);
    }
    if (c->what.score.n == 0)
        return;
    script_args(&a, r, SCRIPT_SETTLE, 1);
    arg_str(&a, r->parked_key);
    arg_slice(&a, c->what.sid);
    arg_slice(&a, c->what.score);
    if (until_ms != 0)
        arg_u64(&a, until_ms);
    else
        arg_str(&a, "");
    gather_send(g, &a);
}

static struct gather *gather_unbounded(struct clear_call *c, broker_done *done)
{
    struct gather *g = gather_new(c->call.r, done, c);
    g->flags |= REQUEST_UNBOUNDED;
    return g;
}

static void note_failure(struct clear_call *c, enum err err, const char *why)
{
    if (err == OK || c->err != OK)
        return;
    c->err = err;
    (void)snprintf(c->why, sizeof c->why, "%s", why);
}

static void on_user_told(void *arg, const struct broker_result *result)
{
    struct clear_call *c = arg;
    struct redis *r = c->call.r;
    struct args a;
    if (store_is_gone(result->err)) {
        clear_end(c, result);
        return;
    }
    note_failure(c, result->err, result->why);
    struct gather *g = gather_unbounded(c, clear_end);
    if (c->err != OK) {
        struct broker_result failed = {.err = c->err, .why = c->why};
        gather_hold(g);
        gather_release(g, &failed);
    }
    script_args(&a, r, SCRIPT_FORGET, 1);
    (void)arg_key(&a, r->session_prefix, c->what.sid, "");
    gather_send(g, &a);
    drop_name(g, c, 0);
    gather_close(g);
}

/* The user's directory before the hash: who does this again, because we could not finish, finds the user in it. */
static void tell_user(struct clear_call *c)
{
    const struct attendance gone = {.sid = c->what.sid, .user = buf_slice(&c->user), .state = "gone", .turn = c->turn};
    if (gone.user.n != 0)
        user_attend(c->call.r, &gone, on_user_told, c);
    else
        on_user_told(c, &(struct broker_result){.err = OK});
}

static void on_event_told(void *arg, const struct broker_result *result)
{
    struct clear_call *c = arg;
    if (store_is_gone(result->err)) {
        clear_end(c, result);
        return;
    }
    if (result->err != OK) {
        c->call.r->b.stats.events_lost++;
        LOG(ERROR, "the end of a session could not be told to the backend", "session=%.*s why=%s",
            SLICE_FMT(c->what.sid), log_q(slice_str(result->why)));
    }
    tell_user(c);
}

/* The event comes before: whoever finds the session again tells it again. What the store has lost is told by the node that had it. */
static void forget(struct clear_call *c, enum err err, const char *why)
{
    struct redis *r = c->call.r;
    note_failure(c, err, why);
    if (r->events.shards == 0 || c->what.event.n == 0 ||
        (c->since_ms == 0 && (c->what.returned || !slice_eq(c->what.node, slice_str(r->node))))) {
        tell_user(c);
        return;
    }
    struct ended what = {.sid = c->what.sid,
                         .user = buf_slice(&c->user),
                         .tunnel = buf_slice(&c->tunnel),
                         .reason = c->what.event,
                         .since_ms = c->since_ms};
    redis_event_ended(r, &what, on_event_told, c);
}

static void on_rooms_left(void *arg, const struct broker_result *result)
{
    struct clear_call *c = arg;
    if (store_is_gone(result->err))
        clear_end(c, result);
    else
        forget(c, result->err, result->why);
}

static void on_rooms_suspended(void *arg, const struct broker_result *result)
{
    struct clear_call *c = arg;
    if (store_is_gone(result->err)) {
        clear_end(c, result);
        return;
    }
    struct parking what = {.sid = c->what.sid,
                           .user = buf_slice(&c->user),
                           .node = c->what.node,
                           .set = c->what.set,
                           .from_ms = c->what.heartbeat_ms};
    session_set_aside(c->call.r, &what, clear_end, c);
}

static void each_room(struct clear_call *c, const redisReply *reply, bool leave, broker_done *done)
{
    struct redis *r = c->call.r;
    struct gather *g = gather_unbounded(c, done);
    struct member_id id = {.sid = c->what.sid, .user = buf_slice(&c->user), .node = c->what.node, .any = leave};
    if (id.node.n == 0)
        id.node = slice_str(r->node);
    for (size_t i = 5; i < reply->elements; i++) {
        id.room = slice_from(reply_slice(reply->element[i]), sizeof "room:" - 1);
        if (id.room.n == 0)
            continue;
        gather_hold(g);
        if (leave)
            redis_leave_as(r, &id, c->what.reason, gather_release, g);
        else
            redis_suspend_as(r, &id, gather_release, g);
    }
    gather_close(g);
}

static void leave_name(struct clear_call *c, uint64_t until_ms)
{
    struct gather *g = gather_unbounded(c, clear_end);
    drop_name(g, c, until_ms);
    gather_close(g);
}

static void on_named(void *arg, const struct broker_result *result)
{
    struct clear_call *c = arg;
    if (result->err != OK) {
        clear_end(c, result);
        return;
    }
    strangers_look(c->call.r);
    leave_name(c, 0);
}

/* The index names a session that a node has. Either it was resumed and the index not told, or its parking was lost by a failover; then nobody else names it, and
 * that node may be gone. So the node's set names it again, and the directory the node: who lives, looks; who does not, is cleaned up after. */
static void name_again(struct clear_call *c, struct slice node)
{
    const struct redis *r = c->call.r;
    struct gather *g = gather_unbounded(c, on_named);
    struct args a;
    set_args(&a, "SADD", r->node_prefix, node, ":sessions", c->what.sid);
    gather_send(g, &a);
    args_init(&a);
    arg_str(&a, "ZADD");
    arg_str(&a, r->nodes_key);
    arg_str(&a, "NX");
    arg_str(&a, "0");
    arg_slice(&a, node);
    gather_send(g, &a);
    gather_close(g);
}

static void returned(const struct clear_call *c, uint64_t verdict)
{
    if (verdict == NO_HASH || verdict == NOT_OURS)
        return;
    c->call.r->b.stats.reconciled_sessions++;
    LOG_PEER(WARN, "the store had a session of this node that this node has not", "session=%s now=%s",
             log_q(c->what.sid), verdict == END ? "ended" : "parked");
}

static void act(struct clear_call *c, uint64_t verdict, const redisReply *reply)
{
    uint64_t until_ms = 0;
    if (c->what.verdict != NULL)
        *c->what.verdict = verdict;
    if (c->what.returned)
        returned(c, verdict);
    if (verdict == NO_HASH && c->what.missing != NULL) {
        *c->what.missing = true;
        clear_end(c, &(struct broker_result){.err = OK});
    } else if (verdict == NO_HASH) {
        forget(c, OK, NULL);
    } else if (verdict == END) {
        each_room(c, reply, true, on_rooms_left);
    } else if (verdict == TO_BE_PARKED) {
        each_room(c, reply, false, on_rooms_suspended);
    } else if (verdict == PARKED && reply_u64(reply_at(reply, 3), &until_ms) && c->what.set != NULL) {
        struct parking what = {.sid = c->what.sid,
                               .user = reply_slice(reply_at(reply, 2)),
                               .node = c->what.node,
                               .set = c->what.set,
                               .turn = c->turn};
        session_index(c->call.r, &what, until_ms, clear_end, c);
    } else if (verdict == NOT_OURS && c->what.score.n != 0 && reply_slice(reply_at(reply, 2)).n != 0) {
        name_again(c, reply_slice(reply_at(reply, 2)));
    } else {
        leave_name(c, until_ms);
    }
}

static void on_verdict(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct clear_call *c = arg;
    uint64_t verdict = NOT_OURS;
    if (err == OK && !reply_u64(reply_at(reply, 0), &verdict)) {
        err = ERR_INTERNAL;
        why = "a session's hash is not readable";
    }
    if (store_is_gone(err)) {
        clear_end(c, &(struct broker_result){.err = err, .why = why});
    } else if (err != OK) {
        forget(c, err, why);
    } else {
        struct slice user = reply_slice(reply_at(reply, 2));
        (void)reply_u64(reply_at(reply, 1), &c->turn);
        if (verdict == END || verdict == TO_BE_PARKED) {
            buf_clear(&c->user);
            buf_append(&c->user, user);
            buf_clear(&c->tunnel);
            buf_append(&c->tunnel, reply_slice(reply_at(reply, 4)));
            (void)reply_u64(reply_at(reply, 3), &c->since_ms);
        }
        act(c, verdict, reply);
    }
}

void session_clear(struct redis *r, const struct clearing *what, broker_done *done, void *arg)
{
    struct clear_call *c = xcalloc(1, sizeof *c + what->node.n + what->sid.n + what->score.n + what->event.n);
    char *at = c->names;
    c->call = (struct call){.r = r, .done = done, .arg = arg};
    c->what = *what;
    c->what.sid = slice_put(&at, what->sid);
    c->what.node = slice_put(&at, what->node);
    c->what.score = slice_put(&at, what->score);
    c->what.event = slice_put(&at, what->event);
    buf_append(&c->user, what->user);
    buf_append(&c->tunnel, what->tunnel);
    c->turn = lease_redis_now(r); /* unless the store tells */
    struct args a;
    script_args(&a, r, SCRIPT_END, 1);
    (void)arg_key(&a, r->session_prefix, c->what.sid, "");
    arg_slice(&a, c->what.node);
    arg_u64(&a, what->heartbeat_ms);
    arg_str(&a, what->early ? "early" : "");
    store_send(r->store, &a, REQUEST_REPEATABLE | REQUEST_UNBOUNDED, on_verdict, c);
}
