/* broker/redis/sessions.c: the session store: hashes that any node and any operator can read, kept alive while the session lives. */
#include "base/list.h"
#include "base/mem.h"
#include "broker/redis/redis.h"

#define REFRESH_PART 3 /* every session is renewed about so often within its time to live */
#define PAY_BATCH    64

struct local_session {
    UT_hash_handle hh;
    struct link all;
    struct link returning; /* rooms it was in when it was resumed here, and has not joined again yet */
    size_t sid_n;
    uint16_t slot;
    uint64_t
        taken; /* the turn with which this node got it: who got it earlier does not have it, whatever Redis says after a failover */
    uint64_t serial; /* another one each time it comes here */
    struct slice user;
    char *tunnel; /* NULL: it is none */
    char bytes[];
};

struct returning {
    struct link link;
    size_t n;
    char room[];
};

/* What could not be done when it should have been: a leave, or (without a room) the end of a session, or parking it. */
struct owed {
    UT_hash_handle hh; /* by session, NUL, room */
    struct link link;
    size_t sid_n, room_n, user_n;
    enum exit_reason reason;
    bool park;
    bool quiet;   /* no event is to tell of it */
    char bytes[]; /* sid, NUL, room, user */
};

struct local_session *local_find(const struct redis *r, struct slice sid)
{
    struct local_session *s;
    HASH_FIND(hh, r->sessions.table, sid.p, sid.n, s);
    return s;
}

static void returning_free(struct returning *ret)
{
    list_del(&ret->link);
    free(ret);
}

void local_free(struct redis *r, struct local_session *s)
{
    list_for_each_safe (it, &s->returning) {
        returning_free(list_entry(it, struct returning, link));
    }
    inbox_release(r, s->slot);
    HASH_DELETE(hh, r->sessions.table, s);
    list_del(&s->all);
    free(s->tunnel);
    free(s);
}

uint64_t local_taken(const struct local_session *s)
{
    return s != NULL ? s->taken : 0;
}

uint64_t local_serial(const struct redis *r, struct slice sid)
{
    const struct local_session *s = local_find(r, sid);
    return s != NULL ? s->serial : 0;
}

void local_took(struct local_session *s, uint64_t turn)
{
    if (s != NULL && turn > s->taken)
        s->taken = turn;
}

void local_add(struct redis *r, struct slice sid, struct slice user)
{
    struct local_session *s = local_find(r, sid);
    if (s != NULL && slice_eq(s->user, user))
        return;
    uint64_t taken = local_taken(s);
    if (s != NULL)
        local_free(r, s);
    s = xcalloc(1, sizeof *s + sid.n + user.n);
    s->taken = taken;
    s->serial = ++r->sessions.last_serial;
    memcpy(s->bytes, sid.p, sid.n);
    if (user.n != 0)
        memcpy(s->bytes + sid.n, user.p, user.n);
    s->sid_n = sid.n;
    s->user = (struct slice){s->bytes + sid.n, user.n};
    list_init(&s->returning);
    s->slot = session_slot(r, sid);
    inbox_hold(r, s->slot);
    list_append(&r->sessions.all, &s->all);
    HASH_ADD_KEYPTR(hh, r->sessions.table, s->bytes, s->sid_n, s);
}

static struct returning *returning_find(const struct redis *r, struct slice sid, struct slice room)
{
    const struct local_session *s = local_find(r, sid);
    if (s == NULL)
        return NULL;
    list_for_each (it, &s->returning) {
        struct returning *back = list_entry(it, struct returning, link);
        if (slice_eq((struct slice){back->room, back->n}, room))
            return back;
    }
    return NULL;
}

void local_returning(struct local_session *s, struct slice room)
{
    struct returning *back = xcalloc(1, sizeof *back + room.n);
    back->n = room.n;
    memcpy(back->room, room.p, room.n);
    list_append(&s->returning, &back->link);
}

void local_is_tunnel(struct local_session *s, struct slice tunnel)
{
    free(s->tunnel);
    s->tunnel = tunnel.n != 0 ? xstrndup(tunnel.p, tunnel.n) : NULL;
}

struct slice local_user(const struct local_session *s)
{
    return s->user;
}

void local_suspend_returning(struct redis *r, struct local_session *s)
{
    list_for_each (it, &s->returning) {
        const struct returning *back = list_entry(it, struct returning, link);
        const struct member_id id = {
            .room = {back->room, back->n}, .sid = {s->bytes, s->sid_n}, .user = s->user, .node = slice_str(r->node)};
        redis_suspend_as(r, &id, NULL, NULL);
    }
}

void local_rejoined(struct redis *r, struct slice sid, struct slice room)
{
    struct returning *back = returning_find(r, sid, room);
    if (back != NULL)
        returning_free(back);
}

size_t sessions_count(const struct redis *r)
{
    return HASH_COUNT(r->sessions.table);
}

/* It is put: what the hash says is ours to say, unless the session is somebody else's by now. */

struct put_call {
    struct redis *r;
    struct gather *g;
    size_t sid_n, user_n;
    char sid[]; /* and user */
};

static void on_put(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct put_call *c = arg;
    struct redis *r = c->r;
    struct attendance there = {.sid = {c->sid, c->sid_n}, .user = {c->sid + c->sid_n, c->user_n}, .state = "active"};
    uint64_t state = 0;
    struct broker_result result = {.err = err, .why = why};
    if (err == OK && !reply_u64(reply_at(reply, 0), &state)) {
        result.err = ERR_INTERNAL;
        result.why = "the put script gave a strange answer";
    } else if (state == 3) {
        result.err = ERR_UNAVAILABLE;
        result.why = "the session is being ended";
    }
    if (state == 1 && !r->closing) {
        struct args a;
        args_init(&a);
        arg_str(&a, "ZREM");
        arg_str(&a, r->parked_key);
        arg_slice(&a, there.sid);
        store_send(r->store, &a, REQUEST_REPEATABLE | REQUEST_UNBOUNDED, NULL, NULL);
    }
    if (reply_u64(reply_at(reply, 1), &there.turn) && state <= 1)
        local_took(local_find(r, there.sid), there.turn);
    if (there.user.n != 0 && !r->closing && there.turn != 0) {
        gather_hold(c->g);
        user_attend(r, &there, gather_release, c->g);
    }
    if (state == 2)
        session_moved(r, there.sid);
    gather_release(c->g, &result);
    free(c);
}

static void put_args(struct args *a, const struct redis *r, const struct session_record *s)
{
    const struct {
        const char *name;
        struct slice value;
    } fields[] = {{"user", s->user},   {"protocol", s->protocol}, {"ip", s->ip},
                  {"agent", s->agent}, {"origin", s->origin},     {"token_hash", s->token_hash}};
    script_args(a, r, SCRIPT_PUT, 1);
    (void)arg_key(a, r->session_prefix, s->sid, "");
    arg_str(a, r->node);
    arg_u64(a, r->session_ttl_ms);
    arg_u64(a, local_taken(local_find(r, s->sid)));
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        arg_str(a, fields[i].name);
        arg_slice(a, fields[i].value);
    }
    if (s->nsp.n != 0) {
        arg_str(a, "namespace");
        arg_slice(a, s->nsp);
    }
    if (s->attributes.n != 0) {
        arg_str(a, "attributes");
        arg_slice(a, s->attributes);
    }
    if (s->tunnel.n != 0) {
        arg_str(a, "tunnel");
        arg_slice(a, s->tunnel);
    }
    if (s->watches.p != NULL) {
        arg_str(a, "watch");
        arg_slice(a, s->watches);
    }
    arg_str(a, "connected_at");
    arg_u64(a, s->connected_ms);
    arg_str(a, "resume_window");
    arg_u64(a, s->resume_window_ms);
    arg_str(a, "last_seen");
    arg_u64(a, loop_wall_ms(r->b.loop));
}

/* The node's set first: from then on somebody will clean up, however little of the rest comes about. */
void redis_session_put(struct broker *b, const struct session_record *s, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct args a;
    local_add(r, s->sid, s->user);
    local_is_tunnel(local_find(r, s->sid), s->tunnel);
    strangers_begun(r, s->sid);
    sessions_owe_no_more(r, s->sid, SLICE_NONE);
    if (s->resume_window_ms > r->sessions.window_ms)
        r->sessions.window_ms = s->resume_window_ms;
    struct gather *g = gather_new(r, done, arg);
    set_args(&a, "SADD", r->node_prefix, slice_str(r->node), ":sessions", s->sid);
    gather_send(g, &a);
    struct put_call *c = xcalloc(1, sizeof *c + s->sid.n + s->user.n);
    c->r = r;
    c->g = g;
    c->sid_n = s->sid.n;
    c->user_n = s->user.n;
    memcpy(c->sid, s->sid.p, s->sid.n);
    if (s->user.n != 0)
        memcpy(c->sid + s->sid.n, s->user.p, s->user.n);
    put_args(&a, r, s);
    inbox_wait(r, session_slot(r, s->sid), g);
    gather_hold(g);
    store_send(r->store, &a, REQUEST_REPEATABLE, on_put, c);
    gather_close(g);
}

/* The end of a session. What fails for want of Redis is owed. */

static struct owed *owed_find(const struct redis *r, struct slice sid, struct slice room);

struct remove_call {
    struct call call;
    bool quiet;
    size_t sid_n, user_n;
    char names[]; /* sid, user */
};

static void on_removed(void *arg, const struct broker_result *result)
{
    struct remove_call *c = arg;
    struct redis *r = c->call.r;
    struct slice sid = {c->names, c->sid_n};
    if ((result->err == ERR_UNAVAILABLE || result->err == ERR_TIMEOUT) && !r->closing) {
        sessions_owe(r, sid, SLICE_NONE, (struct slice){c->names + c->sid_n, c->user_n}, EXIT_DISCONNECT);
        owed_find(r, sid, SLICE_NONE)->quiet = c->quiet;
    }
    broker_complete(c->call.done, c->call.arg, result);
    free(c);
}

static void remove_session(struct redis *r, const struct ended *s, broker_done *done, void *arg)
{
    struct slice sid = s->sid, user = s->user;
    struct remove_call *c = xcalloc(1, sizeof *c + sid.n + user.n);
    c->call = (struct call){.r = r, .done = done, .arg = arg};
    c->quiet = s->reason.n == 0;
    c->sid_n = sid.n;
    c->user_n = user.n;
    memcpy(c->names, sid.p, sid.n);
    if (user.n != 0)
        memcpy(c->names + sid.n, user.p, user.n);
    struct clearing what = {.node = slice_str(r->node),
                            .sid = sid,
                            .user = user,
                            .set = ":sessions",
                            .tunnel = s->tunnel,
                            .reason = EXIT_DISCONNECT,
                            .event = s->reason};
    session_clear(r, &what, on_removed, c);
}

void redis_session_remove(struct broker *b, struct slice sid, struct slice user, struct slice reason, broker_done *done,
                          void *arg)
{
    struct redis *r = redis_of(b);
    struct local_session *s = local_find(r, sid);
    AUTO_FREE char *tunnel = s != NULL ? TAKE(s->tunnel) : NULL;
    if (s != NULL)
        local_free(r, s);
    strangers_ended(r, sid, reason);
    remove_session(r, &(struct ended){.sid = sid, .user = user, .tunnel = slice_str(tunnel), .reason = reason}, done,
                   arg);
}

/* Debts. */

static struct owed *owed_find(const struct redis *r, struct slice sid, struct slice room)
{
    struct buf key = BUF_INIT;
    buf_append(&key, sid);
    buf_append_char(&key, '\0');
    buf_append(&key, room);
    struct owed *o;
    HASH_FIND(hh, r->sessions.owed, key.p, key.n, o);
    buf_fini(&key);
    return o;
}

static void owed_free(struct redis *r, struct owed *o)
{
    HASH_DELETE(hh, r->sessions.owed, o);
    list_del(&o->link);
    free(o);
}

void sessions_owe(struct redis *r, struct slice sid, struct slice room, struct slice user, enum exit_reason reason)
{
    if (owed_find(r, sid, room) != NULL)
        return;
    struct owed *o = xcalloc(1, sizeof *o + sid.n + 1 + room.n + user.n);
    o->sid_n = sid.n;
    o->room_n = room.n;
    o->user_n = user.n;
    o->reason = reason;
    memcpy(o->bytes, sid.p, sid.n);
    if (room.n != 0)
        memcpy(o->bytes + sid.n + 1, room.p, room.n);
    if (user.n != 0)
        memcpy(o->bytes + sid.n + 1 + room.n, user.p, user.n);
    list_append(&r->sessions.owed_list, &o->link);
    HASH_ADD_KEYPTR(hh, r->sessions.owed, o->bytes, sid.n + 1 + room.n, o);
}

void sessions_owe_park(struct redis *r, struct slice sid)
{
    sessions_owe(r, sid, SLICE_NONE, SLICE_NONE, EXIT_DISCONNECT);
    owed_find(r, sid, SLICE_NONE)->park = true;
}

void sessions_owe_no_more(struct redis *r, struct slice sid, struct slice room)
{
    struct owed *o = r->sessions.owed != NULL ? owed_find(r, sid, room) : NULL;
    if (o != NULL)
        owed_free(r, o);
}

bool sessions_owes(const struct redis *r, struct slice sid)
{
    return r->sessions.owed != NULL && owed_find(r, sid, SLICE_NONE) != NULL;
}

static void on_owed_park(void *arg, const struct broker_result *result)
{
    struct remove_call *c = arg;
    struct redis *r = c->call.r;
    struct slice sid = {c->names, c->sid_n};
    if ((result->err == ERR_UNAVAILABLE || result->err == ERR_TIMEOUT) && !r->closing && local_find(r, sid) == NULL)
        sessions_owe_park(r, sid);
    free(c);
}

static void pay_park(struct redis *r, struct slice sid)
{
    if (local_find(r, sid) != NULL)
        return;
    struct remove_call *c = xcalloc(1, sizeof *c + sid.n);
    c->call.r = r;
    c->sid_n = sid.n;
    memcpy(c->names, sid.p, sid.n);
    struct parking what = {.sid = sid, .node = slice_str(r->node), .set = ":sessions"};
    session_set_aside(r, &what, on_owed_park, c);
}

/* Whatever fails again is owed again, by the same ways that made it a debt. */
static void pay(struct redis *r)
{
    for (int i = 0; i < PAY_BATCH && !list_empty(&r->sessions.owed_list); i++) {
        struct owed *o = list_first(&r->sessions.owed_list, struct owed, link);
        struct slice sid = {o->bytes, o->sid_n}, room = {o->bytes + o->sid_n + 1, o->room_n};
        struct slice user = {room.p + room.n, o->user_n};
        HASH_DELETE(hh, r->sessions.owed, o);
        list_del(&o->link);
        if (room.n != 0)
            redis_leave(&r->b, room, sid, user, o->reason, NULL, NULL);
        else if (o->park)
            pay_park(r, sid);
        else
            remove_session(r,
                           &(struct ended){.sid = sid, .user = user, .reason = o->quiet ? SLICE_NONE : SLICE("closed")},
                           NULL, NULL);
        free(o);
    }
}

struct touch_call {
    struct redis *r;
    size_t sid_n;
    char sid[];
};

void session_moved(struct redis *r, struct slice sid)
{
    struct local_session *s = local_find(r, sid);
    if (s == NULL || r->closing)
        return;
    struct args a;
    set_args(&a, "SREM", r->node_prefix, slice_str(r->node), ":sessions", sid);
    store_send(r->store, &a, REQUEST_REPEATABLE | REQUEST_UNBOUNDED, NULL, NULL);
    local_free(r, s);
    if (r->b.events->taken != NULL)
        r->b.events->taken(r->b.owner, sid);
}

static void on_touched(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct touch_call *c = arg;
    struct redis *r = c->r;
    struct slice sid = {c->sid, c->sid_n};
    uint64_t state;
    (void)why;
    if (err == OK && !r->closing && reply_u64(reply, &state)) {
        if (state == 0 && local_find(r, sid) != NULL)
            (void)lease_expelled(r, "a session has vanished from the store");
        else if (state == 2)
            session_contest(r, sid);
    }
    free(c);
}

void session_check(struct redis *r, struct slice sid)
{
    if (local_find(r, sid) == NULL)
        return;
    struct touch_call *c = xcalloc(1, sizeof *c + sid.n);
    c->r = r;
    c->sid_n = sid.n;
    memcpy(c->sid, sid.p, sid.n);
    struct args a;
    script_args(&a, r, SCRIPT_TOUCH, 1);
    (void)arg_key(&a, r->session_prefix, sid, "");
    arg_str(&a, r->node);
    arg_u64(&a, r->session_ttl_ms);
    arg_str(&a, "last_seen");
    arg_u64(&a, loop_wall_ms(r->b.loop));
    store_send(r->store, &a, REQUEST_REPEATABLE, on_touched, c);
}

static void refresh(struct redis *r, const struct local_session *s)
{
    session_check(r, (struct slice){s->bytes, s->sid_n});
    if (s->user.n != 0)
        user_renew(r, s->user);
}

void sessions_tick(struct redis *r, uint64_t elapsed_ms)
{
    struct sessions *all = &r->sessions;
    pay(r);
    size_t count = sessions_count(r), period_ms = r->session_ttl_ms / REFRESH_PART;
    all->refresh_credit += count * elapsed_ms;
    size_t n = all->refresh_credit / period_ms;
    all->refresh_credit %= period_ms;
    for (size_t i = 0; i < n && i < count; i++) {
        struct local_session *s = list_first(&all->all, struct local_session, all);
        list_del(&s->all);
        list_append(&all->all, &s->all);
        refresh(r, s);
    }
}

void sessions_init(struct redis *r)
{
    list_init(&r->sessions.all);
    list_init(&r->sessions.owed_list);
}

void sessions_fini(struct redis *r)
{
    struct local_session *s, *next;
    HASH_ITER (hh, r->sessions.table, s, next)
        local_free(r, s);
    while (!list_empty(&r->sessions.owed_list))
        owed_free(r, list_first(&r->sessions.owed_list, struct owed, link));
}
