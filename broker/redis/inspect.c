/* broker/redis/inspect.c: what backends and operators ask: whose sessions there are, what is known of one, which nodes live. Reads hashes and sets as they are;
 * what others spoilt there is left out. */
#include <stdio.h>

#include "base/mem.h"
#include "broker/redis/redis.h"

#define SESSIONS_MAX 1000
#define NODES_MAX    1000

/* One of many questions: in a cluster the answers come in any order. */
struct look {
    struct inspection *of;
    size_t at;
};

/* Asks one thing of many keys; completes when all have answered. */
struct inspection {
    struct call call;
    struct broker_result result;
    char why[160];
    size_t left, asked;
    struct look *looks;
    struct buf nsp;           /* sessions: those of others are left out; empty: none are */
    struct buf names, cursor; /* names: never moves once replies point into it */
    struct member_record *members;
    struct node_view *nodes;
    uint32_t skip, limit;
    bool uncut; /* PAGE_UNCUT */
    uint64_t scan;
};

static struct inspection *inspection_new(struct redis *r, broker_done *done, void *arg)
{
    struct inspection *i = xcalloc(1, sizeof *i);
    i->call = (struct call){.r = r, .done = done, .arg = arg};
    return i;
}

static void inspection_end(struct inspection *i)
{
    i->result.cursor = buf_slice(&i->cursor);
    i->result.more = i->cursor.n != 0;
    if (i->result.err != OK)
        i->result = (struct broker_result){.err = i->result.err, .why = i->why};
    broker_complete(i->call.done, i->call.arg, &i->result);
    buf_fini(&i->names);
    buf_fini(&i->nsp);
    buf_fini(&i->cursor);
    free(i->members);
    free(i->nodes);
    free(i->looks);
    free(i);
}

/* Keeps the first error. */
static bool good(struct inspection *i, enum err err, const char *why)
{
    if (err != OK && i->result.err == OK) {
        i->result.err = err;
        (void)snprintf(i->why, sizeof i->why, "%s", why);
    }
    return i->result.err == OK;
}

static uint64_t number(const redisReply *r, size_t at)
{
    uint64_t n = 0;
    (void)reply_u64(reply_at(r, at), &n);
    return n;
}

/* --- sessions of a user, or at a node --- */

/* Replies live until their callback returns; what they say is needed until the last one has come. */
static struct slice keep(struct slice s)
{
    return s.n != 0 ? (struct slice){xstrndup(s.p, s.n), s.n} : SLICE_NONE;
}

static void drop(struct slice s)
{
    union {
        const char *borrowed;
        char *owned;
    } p = {s.p};
    free(p.owned);
}

static void sessions_end(struct inspection *i, size_t count)
{
    size_t kept = 0;
    for (size_t k = 0; k < count; k++)
        if (i->members[k].node.n != 0)
            i->members[kept++] = i->members[k];
        else
            drop(i->members[k].user);
    i->result.members = i->members;
    i->result.count = kept;
    struct member_record *members = i->members;
    i->members = NULL;
    inspection_end(i);
    for (size_t k = 0; k < kept; k++) {
        drop(members[k].user);
        drop(members[k].node);
    }
    free(members);
}

static void on_session_seen(void *arg, const redisReply *r, enum err err, const char *why)
{
    const struct look *l = arg;
    struct inspection *i = l->of;
    struct member_record *m = &i->members[l->at];
    /* A hash that cannot be read is left out like one that is gone. */
    bool wanted = err == OK && (i->nsp.n == 0 || slice_eq(reply_slice(reply_at(r, 4)), buf_slice(&i->nsp)));
    if ((err == ERR_INTERNAL || good(i, err, why)) && wanted) {
        m->user = keep(reply_slice(reply_at(r, 0)));
        m->node = keep(reply_slice(reply_at(r, 1)));
        m->state = slice_eq(reply_slice(reply_at(r, 2)), SLICE("active")) ? MEMBER_ACTIVE : MEMBER_SUSPENDED;
        m->since_ms = number(r, 3);
        m->seen_ms = number(r, 5);
    }
    if (--i->left == 0)
        sessions_end(i, i->asked);
}

static void look_at(struct look *l)
{
    const struct member_record *m = &l->of->members[l->at];
    const struct redis *r = l->of->call.r;
    struct args a;
    args_init(&a);
    arg_str(&a, "HMGET");
    (void)arg_key(&a, r->session_prefix, m->sid, "");
    arg_str(&a, "user");
    arg_str(&a, "node");
    arg_str(&a, "state");
    arg_str(&a, "connected_at");
    arg_str(&a, "namespace");
    arg_str(&a, "last_seen");
    store_send(r->store, &a, REQUEST_REPEATABLE | REQUEST_UNBOUNDED, on_session_seen, l);
}

static void on_names(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct inspection *i = arg;
    uint64_t next = 0;
    const redisReply *batch = reply_at(r, 1);
    if (good(i, err, why) && (!reply_u64(reply_at(r, 0), &next) || batch == NULL || batch->type != REDIS_REPLY_ARRAY))
        good(i, ERR_INTERNAL, "the set of sessions is not readable");
    if (i->result.err != OK || batch == NULL) {
        inspection_end(i);
        return;
    }
    size_t bytes = 0, at = i->skip;
    for (size_t k = at; k < batch->elements; k++)
        bytes += reply_slice(batch->element[k]).n;
    (void)buf_reserve(&i->names, bytes + 1);
    size_t most = i->uncut ? batch->elements : i->limit;
    i->members = xcalloc(most, sizeof *i->members);
    for (; at < batch->elements && i->left < most; at++) {
        struct slice sid = reply_slice(batch->element[at]);
        if (sid.n == 0 || slice_eq(sid, SLICE("-")))
            continue; /* the mark in a node's set */
        buf_append(&i->names, sid);
        i->members[i->left++].sid = (struct slice){i->names.p + i->names.n - sid.n, sid.n};
    }
    if (at < batch->elements)
        buf_printf(&i->cursor, "%lu:%zu", (unsigned long)i->scan, at);
    else if (next != 0)
        buf_printf(&i->cursor, "%lu:0", (unsigned long)next);
    if (i->left == 0) {
        sessions_end(i, 0);
        return;
    }
    i->asked = i->left;
    i->looks = xcalloc(i->asked, sizeof *i->looks);
    for (size_t k = 0, n = i->asked; k < n; k++) {
        i->looks[k] = (struct look){i, k};
        look_at(&i->looks[k]);
    }
}

void redis_sessions(struct broker *b, const struct session_query *q, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct inspection *i = inspection_new(r, done, arg);
    uint32_t limit = q->limit & ~PAGE_UNCUT;
    i->uncut = (q->limit & PAGE_UNCUT) != 0;
    i->limit = limit == 0 ? 1 : limit < SESSIONS_MAX ? limit : SESSIONS_MAX;
    if (!scan_cursor_parse(q->cursor, &i->scan, &i->skip)) {
        free(i);
        redis_complete_later(r, done, arg, ERR_BAD_REQUEST, "not a cursor of this list");
        return;
    }
    buf_append(&i->nsp, q->nsp);
    struct args a;
    args_init(&a);
    arg_str(&a, "SSCAN");
    if (q->by == SESSIONS_BY_USER)
        (void)arg_key(&a, r->user_prefix, q->name, "");
    else
        (void)arg_key(&a, r->node_prefix, q->name, ":sessions");
    arg_u64(&a, i->scan);
    arg_str(&a, "COUNT");
    arg_u64(&a, i->limit);
    store_send(r->store, &a, REQUEST_REPEATABLE, on_names, i);
}

/* --- one session --- */

static void take_field(struct session_view *v, struct slice name, const redisReply *value)
{
    const struct {
        struct slice name;
        struct slice *text;
        uint64_t *number;
    } fields[] = {{SLICE("user"), &v->user, NULL},
                  {SLICE("node"), &v->node, NULL},
                  {SLICE("state"), &v->state, NULL},
                  {SLICE("protocol"), &v->protocol, NULL},
                  {SLICE("ip"), &v->ip, NULL},
                  {SLICE("agent"), &v->agent, NULL},
                  {SLICE("origin"), &v->origin, NULL},
                  {SLICE("namespace"), &v->nsp, NULL},
                  {SLICE("attributes"), &v->attributes, NULL},
                  {SLICE("given"), &v->given, NULL},
                  {SLICE("connected_at"), NULL, &v->connected_ms},
                  {SLICE("last_seen"), NULL, &v->seen_ms},
                  {SLICE("parked_until"), NULL, &v->parked_until_ms}};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (!slice_eq(name, fields[i].name))
            continue;
        if (fields[i].text != NULL)
            *fields[i].text = reply_slice(value);
        else
            (void)reply_u64(value, fields[i].number);
        return;
    }
}

static void on_session(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct inspection *i = arg;
    if (good(i, err, why) && r->type != REDIS_REPLY_ARRAY)
        good(i, ERR_INTERNAL, "the session is not readable");
    struct session_view view = {.sid = buf_slice(&i->names)};
    size_t fields = i->result.err == OK ? r->elements : 0;
    AUTO_FREE struct room_record *rooms = xcalloc(fields / 2 + 1, sizeof *rooms);
    const struct slice room = SLICE("room:");
    for (size_t k = 0; k + 1 < fields; k += 2) {
        struct slice name = reply_slice(r->element[k]);
        if (slice_starts(name, room) && name.n > room.n) {
            rooms[i->result.count].room = slice_from(name, room.n);
            (void)reply_u64(r->element[k + 1], &rooms[i->result.count++].total);
        } else {
            take_field(&view, name, r->element[k + 1]);
        }
    }
    if (i->result.err == OK && (view.node.n == 0 || slice_eq(view.state, SLICE("ending"))))
        good(i, ERR_NOT_FOUND, "no such session");
    i->result.rooms = rooms;
    i->result.session = &view;
    inspection_end(i);
}

void redis_session_get(struct broker *b, struct slice sid, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct inspection *i = inspection_new(r, done, arg);
    struct args a;
    buf_append(&i->names, sid);
    args_init(&a);
    arg_str(&a, "HGETALL");
    (void)arg_key(&a, r->session_prefix, sid, "");
    store_send(r->store, &a, REQUEST_REPEATABLE, on_session, i);
}

static void on_given(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct inspection *i = arg;
    uint64_t state = 0;
    if (good(i, err, why) && !reply_u64(r, &state))
        good(i, ERR_INTERNAL, "the give script gave a strange answer");
    else if (err == OK && state == 0)
        good(i, ERR_NOT_FOUND, "no such session");
    else if (err == OK && state != 1)
        good(i, ERR_CONFLICT, "somebody else has changed its attributes just now");
    inspection_end(i);
}

/* NOLINTNEXTLINE(readability-function-size): the interface wants so many */
void redis_session_give(struct broker *b, struct slice sid, struct slice was, struct slice given, broker_done *done,
                        void *arg)
{
    struct redis *r = redis_of(b);
    struct args a;
    script_args(&a, r, SCRIPT_GIVE, 1);
    (void)arg_key(&a, r->session_prefix, sid, "");
    arg_slice(&a, was);
    arg_slice(&a, given);
    store_send(r->store, &a, REQUEST_TELLS, on_given, inspection_new(r, done, arg));
}

/* --- a room's log --- */

static void on_cleared(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct inspection *i = arg;
    if (good(i, err, why) && !reply_u64(r, &i->result.total))
        good(i, ERR_INTERNAL, "the clear script gave a strange answer");
    else if (err == OK && i->result.total != 0)
        good(i, ERR_CONFLICT, "somebody is in the room");
    inspection_end(i);
}

void redis_room_clear(struct broker *b, struct slice room, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct args a;
    script_args(&a, r, SCRIPT_CLEAR, r->cluster != NULL ? 3 : 2);
    (void)arg_key(&a, r->prefix, room, ":members");
    (void)arg_key(&a, r->prefix, room, ":log");
    if (r->cluster != NULL)
        (void)arg_key(&a, r->prefix, room, ":still");
    store_send(r->store, &a, REQUEST_REPEATABLE | REQUEST_TELLS, on_cleared, inspection_new(r, done, arg));
}

/* --- nodes --- */

static void nodes_end(struct inspection *i)
{
    struct node_view *nodes = i->nodes;
    i->nodes = NULL;
    i->result.nodes = nodes;
    size_t count = i->result.count;
    inspection_end(i);
    for (size_t k = 0; k < count; k++) {
        drop(nodes[k].address);
        drop(nodes[k].version);
    }
    free(nodes);
}

static void count_down(struct inspection *i)
{
    if (--i->left == 0)
        nodes_end(i);
}

static void on_node(void *arg, const redisReply *r, enum err err, const char *why)
{
    const struct look *l = arg;
    struct inspection *i = l->of;
    struct node_view *n = &i->nodes[l->at];
    if (good(i, err, why)) {
        n->address = keep(reply_slice(reply_at(r, 0)));
        n->version = keep(reply_slice(reply_at(r, 1)));
        n->started_ms = number(r, 2);
        n->connections = number(r, 3);
        n->rooms = number(r, 4);
        n->alive = n->started_ms != 0;
    }
    count_down(i);
}

static void on_parked_count(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct inspection *i = arg;
    if (good(i, err, why))
        (void)reply_u64(r, &i->result.parked);
    count_down(i);
}

static void on_room_count(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct inspection *i = arg;
    if (good(i, err, why))
        (void)reply_u64(r, &i->result.total);
    count_down(i);
}

static void count_key(struct inspection *i, const char *key, redis_done *done)
{
    struct args a;
    args_init(&a);
    arg_str(&a, "ZCARD");
    arg_str(&a, key);
    i->left++;
    store_send(i->call.r->store, &a, REQUEST_REPEATABLE | REQUEST_UNBOUNDED, done, i);
}

static void look_at_node(struct look *l)
{
    struct inspection *i = l->of;
    static const char *const fields[] = {"address", "version", "started_at", "connections", "rooms"};
    struct args a;
    args_init(&a);
    arg_str(&a, "HMGET");
    (void)arg_key(&a, i->call.r->node_prefix, i->nodes[l->at].node, "");
    for (size_t k = 0; k < ARRAY_LEN(fields); k++)
        arg_str(&a, fields[k]);
    i->left++;
    store_send(i->call.r->store, &a, REQUEST_REPEATABLE | REQUEST_UNBOUNDED, on_node, l);
}

static void on_node_names(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct inspection *i = arg;
    if (good(i, err, why) && r->type != REDIS_REPLY_ARRAY)
        good(i, ERR_INTERNAL, "the directory of nodes is not readable");
    if (i->result.err != OK) {
        inspection_end(i);
        return;
    }
    size_t n = r->elements / 2, bytes = 0;
    if (n > NODES_MAX)
        n = NODES_MAX;
    for (size_t k = 0; k < n; k++)
        bytes += reply_slice(r->element[2 * k]).n;
    (void)buf_reserve(&i->names, bytes + 1);
    i->nodes = xcalloc(n + 1, sizeof *i->nodes);
    i->looks = xcalloc(n + 1, sizeof *i->looks);
    i->result.count = n;
    i->left = 1;
    for (size_t k = 0; k < n; k++) {
        struct slice name = reply_slice(r->element[2 * k]);
        buf_append(&i->names, name);
        i->nodes[k].node = (struct slice){i->names.p + i->names.n - name.n, name.n};
        i->nodes[k].heartbeat_ms = number(r, 2 * k + 1);
        i->looks[k] = (struct look){i, k};
        look_at_node(&i->looks[k]);
    }
    count_key(i, i->call.r->parked_key, on_parked_count);
    count_key(i, i->call.r->rooms_key, on_room_count);
    count_down(i);
}

void redis_nodes(struct broker *b, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct args a;
    args_init(&a);
    arg_str(&a, "ZRANGE");
    arg_str(&a, r->nodes_key);
    arg_u64(&a, 0);
    arg_str(&a, "-1");
    arg_str(&a, "WITHSCORES");
    store_send(r->store, &a, REQUEST_REPEATABLE, on_node_names, inspection_new(r, done, arg));
}
