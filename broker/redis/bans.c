/* broker/redis/bans.c: users whom nobody lets in, and tokens that count no longer.
 *
 * The hash of a ban is the truth and goes when the ban is over. The list xd:bans lies apart, so it is only nearly exact: a ban enters it first, who is refused
 * enters it again, and listing takes out what has no hash. */
#include <stdio.h>

#include "base/mem.h"
#include "broker/redis/redis.h"

/* Bans that are over leave the list with the next ban, by the clock of a node, which may be fast. */
#define CLOCK_SLACK_MS (24ull * 3600 * 1000)
#define END_PAGE       32

/* --- banning --- */

static void listed_args(struct args *a, const struct redis *r, uint64_t until_ms, struct slice user)
{
    args_init(a);
    arg_str(a, "ZADD");
    arg_str(a, r->bans_key);
    if (until_ms == 0)
        arg_str(a, "+inf");
    else
        arg_u64(a, until_ms);
    arg_slice(a, user);
}

static void unlisted_args(struct args *a, const struct redis *r, struct slice user)
{
    args_init(a);
    arg_str(a, "ZREM");
    arg_str(a, r->bans_key);
    arg_slice(a, user);
}

static void forget_what_is_over(struct redis *r)
{
    struct args a;
    uint64_t now = loop_wall_ms(r->b.loop);
    if (now <= CLOCK_SLACK_MS)
        return;
    args_init(&a);
    arg_str(&a, "ZREMRANGEBYSCORE");
    arg_str(&a, r->bans_key);
    arg_str(&a, "-inf");
    arg_u64(&a, now - CLOCK_SLACK_MS);
    store_send(r->store, &a, REQUEST_REPEATABLE, NULL, NULL);
}

/* What follows on a ban, or on revoking: all nodes are told, and of a banned user the parked sessions end, some at a time. */
struct verdict_call {
    struct call call;
    bool ban, token;
    struct buf sids; /* that are left to be ended, each with its NUL */
    size_t at, name_n;
    char name[];
};

static void verdict_end(struct verdict_call *c, enum err err, const char *why)
{
    broker_complete(c->call.done, c->call.arg, &(struct broker_result){.err = err, .why = why});
    buf_fini(&c->sids);
    free(c);
}

/* What cannot be ended now will not come back either: whoever asks for it is refused. */
static void on_page_ended(void *arg, const struct broker_result *result)
{
    struct verdict_call *c = arg;
    struct redis *r = c->call.r;
    (void)result;
    if (c->at == c->sids.n || r->closing) {
        verdict_end(c, OK, NULL);
        return;
    }
    struct gather *g = gather_new(r, on_page_ended, c);
    for (int i = 0; i < END_PAGE && c->at < c->sids.n; i++) {
        struct slice sid = slice_str(c->sids.p + c->at);
        c->at += sid.n + 1;
        gather_hold(g);
        redis_session_end(&r->b, sid, EXIT_KICKED, gather_release, g);
    }
    gather_close(g);
}

static void on_sids(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct verdict_call *c = arg;
    (void)why;
    for (size_t i = 0; err == OK && reply->type == REDIS_REPLY_ARRAY && i < reply->elements; i++) {
        struct slice sid = reply_slice(reply->element[i]);
        if (sid.n == 0 || memchr(sid.p, '\0', sid.n) != NULL)
            continue;
        buf_append(&c->sids, sid);
        buf_append_char(&c->sids, '\0');
    }
    on_page_ended(c, NULL);
}

static void on_told(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct verdict_call *c = arg;
    struct redis *r = c->call.r;
    (void)reply;
    if (err != OK || !c->ban || r->closing) {
        verdict_end(c, err, why);
        return;
    }
    struct args a;
    args_init(&a);
    arg_str(&a, "SMEMBERS");
    (void)arg_key(&a, r->user_prefix, (struct slice){c->name, c->name_n}, "");
    store_send(r->store, &a, REQUEST_REPEATABLE, on_sids, c);
}

static void on_stored(void *arg, const struct broker_result *result)
{
    struct verdict_call *c = arg;
    struct redis *r = c->call.r;
    if (result->err != OK || r->closing) {
        verdict_end(c, result->err, result->why);
        return;
    }
    const struct envelope e = {.kind = ENVELOPE_VERDICT,
                               .room = SLICE("$all"),
                               .event = c->token ? SLICE("token") : SLICE("user"),
                               .user = {c->name, c->name_n},
                               .node = slice_str(r->node)};
    struct buf body = BUF_INIT;
    struct args a;
    envelope_pack(&e, &body);
    args_init(&a);
    arg_str(&a, r->cluster != NULL ? "SPUBLISH" : "PUBLISH");
    (void)arg_key(&a, r->channel_prefix, e.room, "");
    arg_slice(&a, buf_slice(&body));
    store_send(r->store, &a, REQUEST_REPEATABLE, on_told, c);
    buf_fini(&body);
}

static struct gather *verdict_begin(struct redis *r, struct slice name, struct verdict_call what, broker_done *done,
                                    void *arg)
{
    struct verdict_call *c = xcalloc(1, sizeof *c + name.n);
    *c = what;
    c->call = (struct call){.r = r, .done = done, .arg = arg};
    c->name_n = name.n;
    memcpy(c->name, name.p, name.n);
    return gather_new(r, on_stored, c);
}

void redis_ban(struct broker *b, const struct ban_record *ban, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct gather *g = verdict_begin(r, ban->user, (struct verdict_call){.ban = true}, done, arg);
    struct args a;
    forget_what_is_over(r);
    listed_args(&a, r, ban->until_ms, ban->user);
    gather_send(g, &a);
    script_args(&a, r, SCRIPT_BAN, 1);
    (void)arg_key(&a, r->ban_prefix, ban->user, "");
    arg_u64(&a, ban->until_ms);
    arg_str(&a, "user");
    arg_slice(&a, ban->user);
    arg_str(&a, "reason");
    arg_slice(&a, ban->reason);
    arg_str(&a, "by");
    arg_slice(&a, ban->by);
    gather_send(g, &a);
    gather_close(g);
}

static void on_unbanned(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct call *c = arg;
    uint64_t removed;
    struct broker_result result = {.err = err, .why = why};
    if (err == OK && (!reply_u64(reply, &removed) || removed == 0)) {
        result.err = ERR_NOT_FOUND;
        result.why = "this user is not banned";
    }
    broker_complete(c->done, c->arg, &result);
    free(c);
}

void redis_unban(struct broker *b, struct slice user, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct call *c = xcalloc(1, sizeof *c);
    struct args a;
    *c = (struct call){.r = r, .done = done, .arg = arg};
    unlisted_args(&a, r, user);
    store_send(r->store, &a, REQUEST_REPEATABLE, NULL, NULL);
    args_init(&a);
    arg_str(&a, "DEL");
    (void)arg_key(&a, r->ban_prefix, user, "");
    store_send(r->store, &a, REQUEST_REPEATABLE, on_unbanned, c);
}

/* --- one ban --- */

/* until, since, reason, by of a hash; false: there is none. The user is left out. */
static bool ban_parse(const redisReply *reply, struct ban_record *ret)
{
    struct ban_record ban = {.reason = reply_slice(reply_at(reply, 2)), .by = reply_slice(reply_at(reply, 3))};
    if (!reply_u64(reply_at(reply, 1), &ban.since_ms))
        return false;
    (void)reply_u64(reply_at(reply, 0), &ban.until_ms);
    *ret = ban;
    return true;
}

/* Copies what the reply lends. */
static void keep(struct ban_record *ban, struct buf *text)
{
    size_t n = ban->reason.n;
    buf_append(text, ban->reason);
    buf_append(text, ban->by);
    ban->reason = (struct slice){text->p, n};
    ban->by = slice_from(buf_slice(text), n);
}

static void send_look(struct redis *r, struct slice user, redis_done *done, void *arg)
{
    struct args a;
    args_init(&a);
    arg_str(&a, "HMGET");
    (void)arg_key(&a, r->ban_prefix, user, "");
    arg_str(&a, "until");
    arg_str(&a, "since");
    arg_str(&a, "reason");
    arg_str(&a, "by");
    store_send(r->store, &a, REQUEST_REPEATABLE, done, arg);
}

/* --- the list --- */

struct list_call {
    struct call call;
    size_t left, count, limit;
    bool more;
    enum err err;
    char why[120];
    struct buf names, cursor; /* names: each user, NUL */
    struct listed {
        struct list_call *list;
        struct slice user;
        struct ban_record ban;
        struct buf text; /* reason, by */
        bool found;
    } * entries;
};

static void list_end(struct list_call *l)
{
    struct broker_result result = {.err = l->err, .why = l->why, .more = l->more, .cursor = buf_slice(&l->cursor)};
    AUTO_FREE struct ban_record *bans = xcalloc(l->count + 1, sizeof *bans);
    for (size_t i = 0; i < l->count; i++) {
        struct listed *e = &l->entries[i];
        if (!e->found)
            continue;
        e->ban.user = e->user;
        bans[result.count++] = e->ban;
    }
    result.bans = bans;
    if (l->err != OK)
        result = (struct broker_result){.err = l->err, .why = l->why};
    broker_complete(l->call.done, l->call.arg, &result);
    for (size_t i = 0; i < l->count; i++)
        buf_fini(&l->entries[i].text);
    free(l->entries);
    buf_fini(&l->names);
    buf_fini(&l->cursor);
    free(l);
}

static void list_failed(struct list_call *l, enum err err, const char *why)
{
    if (l->err == OK) {
        l->err = err;
        (void)snprintf(l->why, sizeof l->why, "%s", why);
    }
}

static void on_listed_ban(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct listed *e = arg;
    struct list_call *l = e->list;
    struct redis *r = l->call.r;
    if (err != OK && err != ERR_INTERNAL) {
        list_failed(l, err, why);
    } else if (err == OK && ban_parse(reply, &e->ban)) {
        e->found = true;
        keep(&e->ban, &e->text);
    } else if (!r->closing) {
        struct args a;
        unlisted_args(&a, r, e->user);
        store_send(r->store, &a, REQUEST_REPEATABLE, NULL, NULL);
    }
    if (--l->left == 0)
        list_end(l);
}

/* reply: name, score, … */
static void on_list(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct list_call *l = arg;
    if (err != OK)
        list_failed(l, err, why);
    else if (reply->type != REDIS_REPLY_ARRAY)
        list_failed(l, ERR_INTERNAL, "the list of bans is not readable");
    if (l->err != OK || reply->elements < 2) {
        list_end(l);
        return;
    }
    l->count = reply->elements / 2 < l->limit ? reply->elements / 2 : l->limit;
    l->more = reply->elements / 2 > l->limit;
    l->entries = xcalloc(l->count, sizeof *l->entries);
    l->left = l->count;
    for (size_t i = 0; i < l->count; i++)
        buf_append(&l->names, reply_slice(reply->element[2 * i]));
    const char *at = l->names.p;
    for (size_t i = 0; i < l->count; i++) {
        struct slice name = reply_slice(reply->element[2 * i]);
        l->entries[i] = (struct listed){.list = l, .user = {at, name.n}};
        at += name.n;
    }
    if (l->more) {
        buf_append(&l->cursor, reply_slice(reply->element[2 * l->count - 1]));
        buf_append_char(&l->cursor, ' ');
        buf_append(&l->cursor, l->entries[l->count - 1].user);
    }
    for (size_t i = 0; i < l->count; i++)
        send_look(l->call.r, l->entries[i].user, on_listed_ban, &l->entries[i]);
}

/* `<score> <user>`; the score in Redis' words. */
static bool cursor_parse(struct slice cursor, struct slice *ret_score, struct slice *ret_user)
{
    const char *space = cursor.n != 0 ? memchr(cursor.p, ' ', cursor.n) : NULL;
    if (space == NULL)
        return false;
    *ret_score = (struct slice){cursor.p, (size_t)(space - cursor.p)};
    *ret_user = slice_from(cursor, ret_score->n + 1);
    bool number = ret_score->n != 0;
    for (size_t i = 0; i < ret_score->n; i++)
        number = number && ret_score->p[i] >= '0' && ret_score->p[i] <= '9';
    return ret_user->n != 0 && (number || slice_eq(*ret_score, SLICE("inf")));
}

void redis_bans(struct broker *b, struct slice cursor, uint32_t limit, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct slice score, user;
    if (cursor.n != 0 && !cursor_parse(cursor, &score, &user)) {
        redis_complete_later(r, done, arg, ERR_BAD_REQUEST, "not a cursor of this list");
        return;
    }
    struct list_call *l = xcalloc(1, sizeof *l);
    struct args a;
    l->call = (struct call){.r = r, .done = done, .arg = arg};
    l->limit = limit;
    script_args(&a, r, SCRIPT_BANS, 1);
    arg_str(&a, r->bans_key);
    arg_u64(&a, (uint64_t)limit + 1);
    if (cursor.n != 0) {
        arg_slice(&a, score);
        arg_slice(&a, user);
    }
    store_send(r->store, &a, REQUEST_REPEATABLE, on_list, l);
}

/* --- tokens --- */

void redis_revoke(struct broker *b, const struct revocation *what, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct args a;
    bool token = what->jti.n != 0;
    struct slice name = token ? what->jti : what->user;
    struct gather *g = verdict_begin(r, name, (struct verdict_call){.token = token}, done, arg);
    script_args(&a, r, SCRIPT_REVOKE, 1);
    (void)arg_key(&a, token ? r->revoked_token_prefix : r->revoked_user_prefix, name, "");
    if (token)
        arg_str(&a, "");
    else
        arg_u64(&a, what->before_s);
    arg_u64(&a, what->until_ms);
    arg_str(&a, token ? "jti" : "user");
    arg_slice(&a, name);
    arg_str(&a, "by");
    arg_slice(&a, what->by);
    gather_send(g, &a);
    gather_close(g);
}

/* --- letting in --- */

struct admit_call {
    struct call call;
    unsigned left;
    bool banned, revoked;
    enum err err;
    char why[120];
    struct ban_record ban;
    struct buf text; /* reason, by */
    uint64_t issued_s;
    size_t user_n;
    char user[];
};

static void relist(struct admit_call *c)
{
    struct redis *r = c->call.r;
    struct args a;
    if (r->closing)
        return;
    listed_args(&a, r, c->ban.until_ms, c->ban.user);
    store_send(r->store, &a, REQUEST_REPEATABLE, NULL, NULL);
}

/* Once for every answer, and once when all has been asked. A known verdict counts also when something else failed. */
static void admit_count(struct admit_call *c, enum err err, const char *why)
{
    struct broker_result result = {.err = OK};
    if (err != OK && c->err == OK) {
        c->err = err;
        (void)snprintf(c->why, sizeof c->why, "%s", why);
    }
    if (--c->left != 0)
        return;
    if (c->banned) {
        relist(c);
        result = (struct broker_result){.err = ERR_BANNED, .why = "banned", .count = 1, .bans = &c->ban};
    } else if (c->revoked) {
        result = (struct broker_result){.err = ERR_UNAUTHORIZED, .why = "the token has been revoked"};
    } else if (c->err != OK) {
        result = (struct broker_result){.err = c->err, .why = c->why};
    }
    broker_complete(c->call.done, c->call.arg, &result);
    buf_fini(&c->text);
    free(c);
}

static void on_ban(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct admit_call *c = arg;
    if (err == OK && ban_parse(reply, &c->ban)) {
        c->banned = true;
        c->ban.user = (struct slice){c->user, c->user_n};
        keep(&c->ban, &c->text);
    }
    admit_count(c, err, why);
}

static void on_user_revoked(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct admit_call *c = arg;
    uint64_t before_s;
    if (err == OK && reply_u64(reply, &before_s) && c->issued_s < before_s)
        c->revoked = true;
    admit_count(c, err, why);
}

static void on_token_revoked(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct admit_call *c = arg;
    uint64_t exists;
    if (err == OK && (!reply_u64(reply, &exists) || exists != 0))
        c->revoked = true;
    admit_count(c, err, why);
}

static void ask(struct admit_call *c, struct args *a, redis_done *done)
{
    c->left++;
    store_send(c->call.r->store, a, REQUEST_REPEATABLE, done, c);
}

void redis_admit(struct broker *b, const struct admission *who, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct args a;
    if (who->user.n == 0 && (!who->by_token || who->jti.n == 0)) {
        redis_complete_later(r, done, arg, OK, NULL);
        return;
    }
    struct admit_call *c = xcalloc(1, sizeof *c + who->user.n);
    c->call = (struct call){.r = r, .done = done, .arg = arg};
    c->left = 1;
    c->issued_s = who->issued_s;
    c->user_n = who->user.n;
    if (who->user.n != 0) {
        memcpy(c->user, who->user.p, who->user.n);
        c->left++;
        send_look(r, who->user, on_ban, c);
    }
    if (who->user.n != 0 && who->by_token) {
        args_init(&a);
        arg_str(&a, "HGET");
        (void)arg_key(&a, r->revoked_user_prefix, who->user, "");
        arg_str(&a, "before");
        ask(c, &a, on_user_revoked);
    }
    if (who->by_token && who->jti.n != 0) {
        args_init(&a);
        arg_str(&a, "EXISTS");
        (void)arg_key(&a, r->revoked_token_prefix, who->jti, "");
        ask(c, &a, on_token_revoked);
    }
    admit_count(c, OK, NULL);
}
