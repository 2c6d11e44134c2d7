/* broker/redis/sessions.c: the session store: hashes that any node and any operator can read, kept alive while the session lives. */
#include "base/list.h"
#include "base/mem.h"
#include "broker/redis/redis.h"

#define REFRESH_PART 3 /* every session is renewed about so often within its time to live */
#define PAY_BATCH    64

struct local_session {
    UT_hash_handle hh;
    struct link all;
    size_t sid_n;
    struct slice user;
    char bytes[];
};

/* What could not be done when it should have been: a leave, or (without a room) the end of a session. */
struct owed {
    UT_hash_handle hh; /* by session, NUL, room */
    struct link link;
    size_t sid_n, room_n, user_n;
    enum exit_reason reason;
    char bytes[]; /* sid, NUL, room, user */
};

static struct local_session *local_find(const struct redis *r, struct slice sid)
{
    struct local_session *s;
    HASH_FIND(hh, r->sessions.table, sid.p, sid.n, s);
    return s;
}

static void local_free(struct redis *r, struct local_session *s)
{
    HASH_DELETE(hh, r->sessions.table, s);
    list_del(&s->all);
    free(s);
}

static void local_add(struct redis *r, struct slice sid, struct slice user)
{
    struct local_session *s = local_find(r, sid);
    if (s != NULL)
        local_free(r, s);
    s = xcalloc(1, sizeof *s + sid.n + user.n);
    memcpy(s->bytes, sid.p, sid.n);
    if (user.n != 0)
        memcpy(s->bytes + sid.n, user.p, user.n);
    s->sid_n = sid.n;
    s->user = (struct slice){s->bytes + sid.n, user.n};
    list_append(&r->sessions.all, &s->all);
    HASH_ADD_KEYPTR(hh, r->sessions.table, s->bytes, s->sid_n, s);
}

size_t sessions_count(const struct redis *r)
{
    return HASH_COUNT(r->sessions.table);
}

static void set_member(struct gather *g, const char *command, const char *before, struct slice name, const char *after,
                       struct slice sid)
{
    struct args a;
    args_init(&a);
    arg_str(&a, command);
    (void)arg_key(&a, before, name, after);
    arg_slice(&a, sid);
    gather_send(g, &a);
}

static void arg_expire(struct args *a, const char *before, struct slice name, uint64_t ttl_ms)
{
    args_init(a);
    arg_str(a, "PEXPIRE");
    (void)arg_key(a, before, name, "");
    arg_u64(a, ttl_ms);
}

static void session_args(struct args *a, const struct redis *r, const struct session_record *s)
{
    const struct {
        const char *name;
        struct slice value;
    } fields[] = {
        {"user", s->user}, {"node", slice_str(r->node)}, {"state", SLICE("active")}, {"protocol", s->protocol},
        {"ip", s->ip},     {"agent", s->agent},          {"origin", s->origin},      {"token_hash", s->token_hash}};
    args_init(a);
    arg_str(a, "HSET");
    (void)arg_key(a, r->session_prefix, s->sid, "");
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        arg_str(a, fields[i].name);
        arg_slice(a, fields[i].value);
    }
    arg_str(a, "connected_at");
    arg_u64(a, s->connected_ms);
    arg_str(a, "last_seen");
    arg_u64(a, loop_wall_ms(r->b.loop));
}

/* The node's set first: from then on somebody will clean up, however little of the rest comes about. */
void redis_session_put(struct broker *b, const struct session_record *s, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct args a;
    local_add(r, s->sid, s->user);
    sessions_owe_no_more(r, s->sid, SLICE_NONE);
    struct gather *g = gather_new(r, done, arg);
    set_member(g, "SADD", r->node_prefix, slice_str(r->node), ":sessions", s->sid);
    if (s->user.n != 0) {
        set_member(g, "SADD", r->user_prefix, s->user, "", s->sid);
        arg_expire(&a, r->user_prefix, s->user, r->session_ttl_ms);
        gather_send(g, &a);
    }
    session_args(&a, r, s);
    gather_send(g, &a);
    arg_expire(&a, r->session_prefix, s->sid, r->session_ttl_ms);
    gather_send(g, &a);
    gather_close(g);
}

/* Clearing: read what the hash says, act on it, remove the name that would bring a reaper. */

struct clear_call {
    struct call call;
    enum exit_reason reason;
    const char *set;
    bool *missing;
    struct slice node, sid, user;
    char names[];
};

static void clear_end(void *arg, const struct broker_result *result)
{
    struct clear_call *c = arg;
    broker_complete(c->call.done, c->call.arg, result);
    free(c);
}

static struct slice field_of(const redisReply *hash, struct slice name)
{
    for (size_t i = 0; i + 1 < hash->elements; i += 2) {
        if (slice_eq(reply_slice(hash->element[i]), name))
            return reply_slice(hash->element[i + 1]);
    }
    return SLICE_NONE;
}

static void leave_rooms(struct gather *g, const struct clear_call *c, const redisReply *hash, struct slice user)
{
    for (size_t i = 0; i + 1 < hash->elements; i += 2) {
        struct slice name = reply_slice(hash->element[i]);
        if (!slice_starts(name, SLICE("room:")) || name.n == sizeof "room:" - 1)
            continue;
        struct member_id id = {
            .room = slice_from(name, sizeof "room:" - 1), .sid = c->sid, .user = user, .node = c->node};
        gather_hold(g);
        redis_leave_as(c->call.r, &id, c->reason, gather_release, g);
    }
}

static void on_hash(void *arg, const redisReply *hash, enum err err, const char *why)
{
    struct clear_call *c = arg;
    struct redis *r = c->call.r;
    if (err == OK && hash->type != REDIS_REPLY_ARRAY) {
        err = ERR_INTERNAL;
        why = "a session's hash is not readable";
    }
    if (err == ERR_UNAVAILABLE || err == ERR_TIMEOUT) {
        struct broker_result failed = {.err = err, .why = why};
        clear_end(c, &failed);
        return;
    }
    bool missing = err == OK && hash->elements == 0 && c->missing != NULL;
    if (missing)
        *c->missing = true;
    struct gather *g = gather_new(r, clear_end, c);
    g->flags |= REQUEST_UNBOUNDED;
    struct slice user = c->user, node = c->node;
    if (err == OK && hash->elements != 0) {
        user = field_of(hash, SLICE("user"));
        node = field_of(hash, SLICE("node"));
    }
    struct args a;
    if (slice_eq(node, c->node)) {
        if (err == OK)
            leave_rooms(g, c, hash, user);
        script_args(&a, SCRIPT_FORGET, 1);
        (void)arg_key(&a, r->session_prefix, c->sid, "");
        arg_slice(&a, c->node);
        gather_send(g, &a);
        if (user.n != 0)
            set_member(g, "SREM", r->user_prefix, user, "", c->sid);
    }
    if (!missing)
        set_member(g, "SREM", r->node_prefix, c->node, c->set, c->sid);
    gather_close(g);
}

void session_clear(struct redis *r, const struct clearing *what, broker_done *done, void *arg)
{
    struct clear_call *c = xcalloc(1, sizeof *c + what->node.n + what->sid.n + what->user.n);
    c->call = (struct call){.r = r, .done = done, .arg = arg};
    c->reason = what->reason;
    c->set = what->set;
    c->missing = what->missing;
    char *at = c->names;
    c->node = (struct slice){memcpy(at, what->node.p, what->node.n), what->node.n};
    c->sid = (struct slice){memcpy(at + what->node.n, what->sid.p, what->sid.n), what->sid.n};
    at += what->node.n + what->sid.n;
    if (what->user.n != 0)
        c->user = (struct slice){memcpy(at, what->user.p, what->user.n), what->user.n};
    struct args a;
    args_init(&a);
    arg_str(&a, "HGETALL");
    (void)arg_key(&a, r->session_prefix, c->sid, "");
    redis_link_send(r->link, &a, REQUEST_REPEATABLE | REQUEST_UNBOUNDED, on_hash, c);
}

/* The end of a session. What fails for want of Redis is owed. */

struct remove_call {
    struct call call;
    size_t sid_n, user_n;
    char names[]; /* sid, user */
};

static void on_removed(void *arg, const struct broker_result *result)
{
    struct remove_call *c = arg;
    struct redis *r = c->call.r;
    if ((result->err == ERR_UNAVAILABLE || result->err == ERR_TIMEOUT) && !r->closing)
        sessions_owe(r, (struct slice){c->names, c->sid_n}, SLICE_NONE, (struct slice){c->names + c->sid_n, c->user_n},
                     EXIT_DISCONNECT);
    broker_complete(c->call.done, c->call.arg, result);
    free(c);
}

static void remove_session(struct redis *r, struct slice sid, struct slice user, broker_done *done, void *arg)
{
    struct remove_call *c = xcalloc(1, sizeof *c + sid.n + user.n);
    c->call = (struct call){.r = r, .done = done, .arg = arg};
    c->sid_n = sid.n;
    c->user_n = user.n;
    memcpy(c->names, sid.p, sid.n);
    if (user.n != 0)
        memcpy(c->names + sid.n, user.p, user.n);
    struct clearing what = {
        .node = slice_str(r->node), .sid = sid, .user = user, .set = ":sessions", .reason = EXIT_DISCONNECT};
    session_clear(r, &what, on_removed, c);
}

void redis_session_remove(struct broker *b, struct slice sid, struct slice user, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct local_session *s = local_find(r, sid);
    if (s != NULL)
        local_free(r, s);
    remove_session(r, sid, user, done, arg);
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

void sessions_owe_no_more(struct redis *r, struct slice sid, struct slice room)
{
    struct owed *o = r->sessions.owed != NULL ? owed_find(r, sid, room) : NULL;
    if (o != NULL)
        owed_free(r, o);
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
        else
            remove_session(r, sid, user, NULL, NULL);
        free(o);
    }
}

static void on_touched(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct redis *r = arg;
    uint64_t there;
    (void)why;
    if (err == OK && !r->closing && reply_u64(reply, &there) && there == 0)
        lease_expelled(r, "a session has vanished from the store");
}

static void refresh(struct redis *r, const struct local_session *s)
{
    struct args a;
    script_args(&a, SCRIPT_TOUCH, 1);
    (void)arg_key(&a, r->session_prefix, (struct slice){s->bytes, s->sid_n}, "");
    arg_u64(&a, r->session_ttl_ms);
    arg_str(&a, "last_seen");
    arg_u64(&a, loop_wall_ms(r->b.loop));
    redis_link_send(r->link, &a, REQUEST_REPEATABLE, on_touched, r);
    if (s->user.n == 0)
        return;
    arg_expire(&a, r->user_prefix, s->user, r->session_ttl_ms);
    redis_link_send(r->link, &a, REQUEST_REPEATABLE, NULL, NULL);
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
