/* broker/redis/users.c: users, each the sum of his sessions: who is there, who is away, and telling those who watch him. */
#include "base/mem.h"
#include "broker/redis/redis.h"

static uint64_t ttl_ms(const struct redis *r)
{
    return (uint64_t)r->session_ttl_ms + r->sessions.window_ms;
}

/* --- what becomes of sessions --- */

static void on_attended(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct call *c = arg;
    uint64_t done = 0;
    if (err == OK && (!reply_u64(reply, &done) || done == 0)) {
        err = ERR_UNAVAILABLE;
        why = "the user's directory was told of a session too late";
    }
    broker_complete(c->done, c->arg, &(struct broker_result){.err = err, .why = why});
    free(c);
}

static void arg_status(struct args *a, const struct redis *r, const struct attendance *what)
{
    struct buf head = BUF_INIT;
    struct envelope e = {.kind = ENVELOPE_STATUS, .room = what->user, .from = what->sid, .node = slice_str(r->node)};
    envelope_pack_head(&e, &head);
    arg_join(a, buf_slice(&head), SLICE_NONE);
    buf_fini(&head);
}

void user_attend(struct redis *r, const struct attendance *what, broker_done *done, void *arg)
{
    struct call *c = xcalloc(1, sizeof *c);
    *c = (struct call){.r = r, .done = done, .arg = arg};
    struct args a;
    script_args(&a, r, SCRIPT_ATTEND, 2);
    (void)arg_key(&a, r->user_prefix, what->user, "");
    (void)arg_key(&a, r->user_prefix, what->user, ":presence");
    (void)arg_key(&a, r->user_channel_prefix, what->user, "");
    arg_slice(&a, what->sid);
    arg_str(&a, what->state);
    arg_u64(&a, what->turn);
    arg_u64(&a, ttl_ms(r));
    arg_u64(&a, r->user_keep_ms);
    arg_status(&a, r, what);
    store_send(r->store, &a, REQUEST_REPEATABLE | REQUEST_UNBOUNDED | REQUEST_TELLS, on_attended, c);
}

static void renew(struct redis *r, struct slice user, const char *after, uint64_t ms)
{
    struct args a;
    args_init(&a);
    arg_str(&a, "PEXPIRE");
    (void)arg_key(&a, r->user_prefix, user, after);
    arg_u64(&a, ms);
    store_send(r->store, &a, REQUEST_REPEATABLE, NULL, NULL);
}

void user_renew(struct redis *r, struct slice user)
{
    renew(r, user, "", ttl_ms(r));
    renew(r, user, ":presence", ttl_ms(r) + r->user_keep_ms);
}

/* --- asking --- */

struct users_call {
    struct gather *g;
    struct call call;
    size_t count;
    struct user_record *records;
    char *names;
};

struct user_call {
    struct users_call *all;
    struct user_record *record;
};

static void on_users(void *arg, const struct broker_result *result)
{
    struct users_call *c = arg;
    struct broker_result told = *result;
    if (told.err == OK) {
        told.users = c->records;
        told.count = c->count;
    }
    broker_complete(c->call.done, c->call.arg, &told);
    free(c->records);
    free(c->names);
    free(c);
}

static enum user_state state_of(uint64_t sessions, uint64_t suspended)
{
    if (sessions == 0)
        return USER_OFFLINE;
    return sessions > suspended ? USER_ONLINE : USER_SUSPENDED;
}

static void on_present(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct user_call *c = arg;
    struct user_record *u = c->record;
    uint64_t suspended = 0;
    if (err == OK && (!reply_u64(reply_at(reply, 0), &u->sessions) || !reply_u64(reply_at(reply, 1), &suspended) ||
                      !reply_u64(reply_at(reply, 2), &u->since_ms) || !reply_u64(reply_at(reply, 3), &u->seen_ms) ||
                      !reply_u64(reply_at(reply, 4), &u->version))) {
        err = ERR_INTERNAL;
        why = "the user directory gave a strange answer";
    }
    u->state = state_of(u->sessions, suspended);
    gather_release(c->all->g, &(struct broker_result){.err = err, .why = why});
    free(c);
}

static void ask(struct redis *r, struct users_call *all, struct user_record *u)
{
    struct user_call *c = xcalloc(1, sizeof *c);
    c->all = all;
    c->record = u;
    struct args a;
    script_args(&a, r, SCRIPT_PRESENT, 2);
    (void)arg_key(&a, r->user_prefix, u->user, "");
    (void)arg_key(&a, r->user_prefix, u->user, ":presence");
    gather_hold(all->g);
    store_send(r->store, &a, REQUEST_REPEATABLE, on_present, c);
}

void users_count_args(struct args *a, const struct redis *r, struct slice user, bool away_too)
{
    if (away_too) {
        script_args(a, r, SCRIPT_PRESENT, 2);
        (void)arg_key(a, r->user_prefix, user, "");
        (void)arg_key(a, r->user_prefix, user, ":presence");
        return;
    }
    args_init(a);
    arg_str(a, "SCARD");
    (void)arg_key(a, r->user_prefix, user, "");
}

void redis_users(struct broker *b, const struct slice *users, size_t count, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct users_call *c = xcalloc(1, sizeof *c);
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        n += users[i].n;
    c->call = (struct call){.r = r, .done = done, .arg = arg};
    c->count = count;
    c->records = xcalloc(count, sizeof *c->records);
    c->names = xmalloc(n + 1);
    c->g = gather_new(r, on_users, c);
    char *at = c->names;
    for (size_t i = 0; i < count; i++)
        c->records[i].user = slice_put(&at, users[i]);
    for (size_t i = 0; i < count; i++)
        ask(r, c, &c->records[i]);
    gather_close(c->g);
}

/* --- watching --- */

void redis_watch(struct broker *b, struct slice user, broker_done *done, void *arg)
{
    pubsub_watch(redis_of(b)->pubsub, user, done, arg);
}

void redis_unwatch(struct broker *b, struct slice user)
{
    pubsub_unwatch(redis_of(b)->pubsub, user);
}

void users_heard(struct redis *r, const struct envelope *status)
{
    const struct user_record u = {.user = status->room,
                                  .state = status->user_state,
                                  .sessions = status->total,
                                  .since_ms = status->time_ms,
                                  .seen_ms = status->seen_ms,
                                  .version = status->version};
    r->b.stats.received++;
    if (!r->closing && r->b.events->user_changed != NULL)
        r->b.events->user_changed(r->b.owner, &u);
}
