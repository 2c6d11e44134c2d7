/* broker/redis/audit.c: what the store has of a session that is open here: its hash, and its entry in each room that the hash names. */
#include "base/mem.h"
#include "broker/redis/redis.h"

struct audit_call;

struct audited_room {
    struct audit_call *audit;
    size_t at; /* in rooms */
};

struct audit_call {
    struct call call;
    struct broker_result result;
    size_t left; /* answers that have not come yet, and one of its own */
    struct room_record *rooms;
    struct audited_room *audited;
    struct buf names;
    size_t sid_n;
    char sid[];
};

static void release(struct audit_call *c)
{
    if (--c->left != 0)
        return;
    c->result.rooms = c->rooms;
    if (c->result.err != OK)
        c->result.count = 0;
    broker_complete(c->call.done, c->call.arg, &c->result);
    buf_fini(&c->names);
    free(c->rooms);
    free(c->audited);
    free(c);
}

static void failed(struct audit_call *c, enum err err, const char *why)
{
    if (c->result.err != OK)
        return;
    c->result.err = err;
    c->result.why = err == ERR_NOT_FOUND  ? "the store has no such session of this node"
                    : err == ERR_CONFLICT ? "it is another node's session"
                    : err == ERR_TIMEOUT  ? "Redis did not answer in time"
                    : why == NULL         ? "a session's hash is not readable"
                                          : "Redis could not be asked";
}

static void on_member(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct audited_room *room = arg;
    struct audit_call *c = room->audit;
    struct member_record m;
    if (err != OK)
        failed(c, err, why);
    else if (member_parse((struct slice){c->sid, c->sid_n}, reply_slice(reply), &m))
        c->rooms[room->at].total = slice_eq(m.node, slice_str(c->call.r->node)) && m.state == MEMBER_ACTIVE;
    release(c);
}

static void ask_rooms(struct audit_call *c, const redisReply *reply)
{
    struct redis *r = c->call.r;
    size_t bytes = 1;
    c->rooms = xcalloc(reply->elements, sizeof *c->rooms);
    c->audited = xcalloc(reply->elements, sizeof *c->audited);
    for (size_t i = 1; i < reply->elements; i++)
        bytes += reply_slice(reply->element[i]).n;
    char *at = buf_reserve(&c->names, bytes);
    for (size_t i = 1; i < reply->elements; i++) {
        struct slice room = slice_from(reply_slice(reply->element[i]), sizeof "room:" - 1);
        struct args a;
        if (room.n == 0)
            continue;
        size_t n = c->result.count++;
        c->rooms[n].room = slice_put(&at, room);
        c->audited[n] = (struct audited_room){.audit = c, .at = n};
        set_args(&a, "HGET", r->prefix, c->rooms[n].room, ":members", (struct slice){c->sid, c->sid_n});
        c->left++;
        store_send(r->store, &a, REQUEST_REPEATABLE, on_member, &c->audited[n]);
    }
}

static void on_audit(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct audit_call *c = arg;
    uint64_t state = 0;
    if (err == OK && !reply_u64(reply_at(reply, 0), &state)) {
        err = ERR_INTERNAL;
        why = NULL;
    }
    if (err != OK)
        failed(c, err, why);
    else if (state == 1)
        ask_rooms(c, reply);
    else
        failed(c, state == 0 ? ERR_NOT_FOUND : ERR_CONFLICT, NULL);
    if (state == 2)
        session_moved(c->call.r, (struct slice){c->sid, c->sid_n});
    release(c);
}

static void audit_args(struct args *a, const struct redis *r, struct slice sid)
{
    script_args(a, r, SCRIPT_AUDIT, 1);
    (void)arg_key(a, r->session_prefix, sid, "");
    arg_str(a, r->node);
    arg_u64(a, local_taken(local_find(r, sid)));
}

/* In a cluster the set that names a session may have been lost alone. */
static void enlist(struct redis *r, struct slice sid)
{
    struct args a;
    if (r->cluster == NULL || local_find(r, sid) == NULL)
        return;
    set_args(&a, "SADD", r->node_prefix, slice_str(r->node), ":sessions", sid);
    store_send(r->store, &a, REQUEST_REPEATABLE, NULL, NULL);
}

static void on_attendance(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct audit_call *c = arg;
    struct slice text = err == OK ? reply_slice(reply) : SLICE_NONE, word = SLICE(" active");
    if (err != OK)
        failed(c, err, why);
    else if (text.n < word.n || !slice_eq(slice_from(text, text.n - word.n), word))
        failed(c, ERR_NOT_FOUND, NULL);
    release(c);
}

/* His directory must know of it too. */
static void ask_user(struct audit_call *c)
{
    struct redis *r = c->call.r;
    struct slice sid = {c->sid, c->sid_n};
    const struct local_session *s = local_find(r, sid);
    struct args a;
    if (s == NULL || local_user(s).n == 0)
        return;
    args_init(&a);
    arg_str(&a, "HGET");
    (void)arg_key(&a, r->user_prefix, local_user(s), ":presence");
    arg_join(&a, SLICE("session:"), sid);
    c->left++;
    store_send(r->store, &a, REQUEST_REPEATABLE, on_attendance, c);
}

void redis_session_audit(struct broker *b, struct slice sid, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct audit_call *c = xcalloc(1, sizeof *c + sid.n);
    struct args a;
    c->call = (struct call){.r = r, .done = done, .arg = arg};
    c->left = 1;
    c->names = (struct buf)BUF_INIT;
    c->sid_n = sid.n;
    memcpy(c->sid, sid.p, sid.n);
    enlist(r, sid);
    audit_args(&a, r, sid);
    store_send(r->store, &a, REQUEST_REPEATABLE, on_audit, c);
    ask_user(c);
}

struct contest {
    struct redis *r;
    size_t n;
    char sid[];
};

static void on_contested(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct contest *c = arg;
    uint64_t state = 0;
    (void)why;
    if (err == OK && reply_u64(reply_at(reply, 0), &state) && state == 2)
        session_moved(c->r, (struct slice){c->sid, c->n});
    free(c);
}

void session_contest(struct redis *r, struct slice sid)
{
    struct contest *c = xcalloc(1, sizeof *c + sid.n);
    struct args a;
    c->r = r;
    c->n = sid.n;
    memcpy(c->sid, sid.p, sid.n);
    audit_args(&a, r, sid);
    store_send(r->store, &a, REQUEST_REPEATABLE, on_contested, c);
}
