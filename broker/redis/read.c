/* broker/redis/read.c: pages of members, rooms and logs. Nothing here writes to a room; logs may come from a replica. */
#include <stdio.h>

#include "base/mem.h"
#include "broker/redis/redis.h"

#define PAGE_MAX 1000

struct page_call {
    struct call call;
    struct broker_result result;
    char why[160];
    uint32_t limit, skip;
    struct buf cursor;
    uint64_t scan;             /* HSCAN's own cursor */
    struct room_record *rooms; /* filled in by one HLEN each */
    struct room_count {
        struct page_call *page;
        size_t at; /* in a cluster the answers come in any order */
    } * counts;
    bool uncut; /* PAGE_UNCUT */
    size_t rooms_asked, rooms_left;
    char *names;
    struct log_page page; /* of a log: what was asked */
    char *room;           /* its name, page.room points here */
    bool by_replica;
    struct replica *replica; /* only while it is being asked: it may go */
};

static struct page_call *page_new(struct redis *r, uint32_t limit, broker_done *done, void *arg)
{
    struct page_call *p = xcalloc(1, sizeof *p);
    p->call = (struct call){.r = r, .done = done, .arg = arg};
    p->limit = limit == 0 ? 1 : limit < PAGE_MAX ? limit : PAGE_MAX;
    return p;
}

/* Keeps the first error; what it quotes does not live long. */
static bool page_ok(struct page_call *p, enum err err, const char *why)
{
    if (err != OK && p->result.err == OK) {
        p->result.err = err;
        (void)snprintf(p->why, sizeof p->why, "%s", why);
    }
    return p->result.err == OK;
}

static void page_end(struct page_call *p)
{
    p->result.cursor = buf_slice(&p->cursor);
    p->result.more = p->cursor.n != 0;
    if (p->result.err != OK)
        p->result = (struct broker_result){.err = p->result.err, .why = p->why};
    broker_complete(p->call.done, p->call.arg, &p->result);
    buf_fini(&p->cursor);
    free(p->rooms);
    free(p->counts);
    free(p->names);
    free(p);
}

static void on_head(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct page_call *p = arg;
    if (page_ok(p, err, why) && !reply_position(r, 0, &p->result.position))
        page_ok(p, ERR_INTERNAL, "the room's head is not readable");
}

static void head_args(struct args *a, const struct redis *r, struct slice room)
{
    args_init(a);
    arg_str(a, "HMGET");
    (void)arg_key(a, r->prefix, room, ":head");
    arg_str(a, "offset");
    arg_str(a, "tag");
}

static void ask_head(struct redis *r, struct slice room, struct page_call *p)
{
    struct args a;
    head_args(&a, r, room);
    store_send(r->store, &a, REQUEST_REPEATABLE, on_head, p);
}

/* Members. HSCAN may give more than it is asked for (all of a small hash), so a cursor of ours is `<its cursor>:<how many of that batch
 * were told>`. */

static void on_members(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct page_call *p = arg;
    uint64_t next = 0;
    const redisReply *batch = reply_at(r, 1);
    if (page_ok(p, err, why) &&
        (!reply_u64(reply_at(r, 0), &next) || batch == NULL || batch->type != REDIS_REPLY_ARRAY))
        page_ok(p, ERR_INTERNAL, "the room's members are not readable");
    if (p->result.err != OK || batch == NULL) {
        page_end(p);
        return;
    }
    uint32_t most = p->uncut ? (uint32_t)(batch->elements / 2) : p->limit;
    AUTO_FREE struct member_record *members = xcalloc(most, sizeof *members);
    size_t at = 2 * (size_t)p->skip;
    for (; at + 1 < batch->elements && p->result.count < most; at += 2) {
        struct slice sid = reply_slice(batch->element[at]), value = reply_slice(batch->element[at + 1]);
        if (member_parse(sid, value, &members[p->result.count]))
            p->result.count++;
        else
            p->call.r->b.stats.undecodable++;
    }
    p->result.members = members;
    if (at + 1 < batch->elements)
        buf_printf(&p->cursor, "%lu:%zu", (unsigned long)p->scan, at / 2);
    else if (next != 0)
        buf_printf(&p->cursor, "%lu:0", (unsigned long)next);
    page_end(p);
}

static void on_member_count(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct page_call *p = arg;
    if (page_ok(p, err, why) && !reply_u64(r, &p->result.total))
        page_ok(p, ERR_INTERNAL, "the room's members cannot be counted");
}

bool scan_cursor_parse(struct slice cursor, uint64_t *ret_scan, uint32_t *ret_skip)
{
    uint64_t numbers[2] = {0, 0};
    int which = 0;
    if (cursor.n == 0)
        return true;
    for (size_t i = 0; i < cursor.n; i++) {
        char c = cursor.p[i];
        if (c == ':' && which == 0) {
            which = 1;
            continue;
        }
        if (c < '0' || c > '9' || numbers[which] > UINT64_MAX / 16)
            return false;
        numbers[which] = numbers[which] * 10 + (uint64_t)(c - '0');
    }
    if (which == 0 || numbers[1] > UINT32_MAX / 2)
        return false;
    *ret_scan = numbers[0];
    *ret_skip = (uint32_t)numbers[1];
    return true;
}

void redis_presence(struct broker *b, struct slice room, struct slice cursor, uint32_t limit, broker_done *done,
                    void *arg)
{
    struct redis *r = redis_of(b);
    struct page_call *p = page_new(r, limit & ~PAGE_UNCUT, done, arg);
    p->uncut = (limit & PAGE_UNCUT) != 0;
    if (!scan_cursor_parse(cursor, &p->scan, &p->skip)) {
        free(p);
        redis_complete_later(r, done, arg, ERR_BAD_REQUEST, "not a cursor of this list");
        return;
    }
    ask_head(r, room, p);
    struct args a;
    args_init(&a);
    arg_str(&a, "HLEN");
    (void)arg_key(&a, r->prefix, room, ":members");
    store_send(r->store, &a, REQUEST_REPEATABLE, on_member_count, p);
    args_init(&a);
    arg_str(&a, "HSCAN");
    (void)arg_key(&a, r->prefix, room, ":members");
    arg_u64(&a, p->scan);
    arg_str(&a, "COUNT");
    arg_u64(&a, p->limit);
    store_send(r->store, &a, REQUEST_REPEATABLE, on_members, p);
}

/* Rooms. The directory is a sorted set with equal scores, so it pages by name; the cursor is the last name told. */

static void drop_empty_rooms(struct page_call *p, size_t asked)
{
    struct redis *r = p->call.r;
    size_t kept = 0;
    for (size_t i = 0; i < asked; i++) {
        if (p->rooms[i].total != 0) {
            p->rooms[kept++] = p->rooms[i];
            continue;
        }
        struct args a;
        args_init(&a);
        arg_str(&a, "ZREM");
        arg_str(&a, r->rooms_key);
        arg_slice(&a, p->rooms[i].room);
        store_send(r->store, &a, REQUEST_REPEATABLE, NULL, NULL);
    }
    p->result.count = kept;
    p->result.rooms = p->rooms;
}

static void on_room_count(void *arg, const redisReply *r, enum err err, const char *why)
{
    const struct room_count *count = arg;
    struct page_call *p = count->page;
    uint64_t total = 0;
    /* A room whose members cannot be counted is shown as empty rather than spoiling the list. */
    if (err != ERR_INTERNAL && page_ok(p, err, why))
        (void)reply_u64(r, &total);
    p->rooms[count->at].total = total;
    if (--p->rooms_left != 0)
        return;
    if (p->result.err == OK)
        drop_empty_rooms(p, p->rooms_asked);
    page_end(p);
}

static void on_room_names(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct page_call *p = arg;
    if (page_ok(p, err, why) && r->type != REDIS_REPLY_ARRAY)
        page_ok(p, ERR_INTERNAL, "the directory of rooms is not readable");
    if (p->result.err != OK || r->elements == 0) {
        page_end(p);
        return;
    }
    struct redis *redis = p->call.r;
    size_t count = r->elements < p->limit ? r->elements : p->limit, bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += reply_slice(r->element[i]).n;
    p->rooms = xcalloc(count, sizeof *p->rooms);
    p->counts = xcalloc(count, sizeof *p->counts);
    p->rooms_asked = p->rooms_left = count;
    p->names = xmalloc(bytes + 1);
    char *at = p->names;
    p->result.count = count;
    for (size_t i = 0; i < count; i++) {
        p->rooms[i].room = slice_put(&at, reply_slice(r->element[i]));
        p->counts[i] = (struct room_count){p, i};
        struct args a;
        args_init(&a);
        arg_str(&a, "HLEN");
        (void)arg_key(&a, redis->prefix, p->rooms[i].room, ":members");
        store_send(redis->store, &a, REQUEST_REPEATABLE | REQUEST_UNBOUNDED, on_room_count, &p->counts[i]);
    }
    if (r->elements > p->limit)
        buf_append(&p->cursor, p->rooms[count - 1].room);
}

void redis_rooms(struct broker *b, struct slice cursor, uint32_t limit, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct page_call *p = page_new(r, limit, done, arg);
    struct args a;
    args_init(&a);
    arg_str(&a, "ZRANGEBYLEX");
    arg_str(&a, r->rooms_key);
    if (cursor.n == 0)
        arg_str(&a, "-");
    else
        arg_join(&a, SLICE("("), cursor);
    arg_str(&a, "+");
    arg_str(&a, "LIMIT");
    arg_str(&a, "0");
    arg_u64(&a, (uint64_t)p->limit + 1);
    store_send(r->store, &a, REQUEST_REPEATABLE, on_room_names, p);
}

/* The log. */

static void ask_log(struct page_call *p);

/* An empty room may be one that the replica has not heard of: it is not believed. */
static bool is_behind(const struct page_call *p)
{
    uint64_t head = p->result.position.offset;
    return p->result.err != OK || head == 0 || head < p->page.at_least;
}

static void ask_primary(struct page_call *p)
{
    p->call.r->b.stats.replica_fallbacks++;
    p->by_replica = false;
    p->result = (struct broker_result){.err = OK};
    ask_log(p);
}

static void log_end(struct page_call *p)
{
    free(p->room);
    page_end(p);
}

static void on_entries(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct page_call *p = arg;
    if (page_ok(p, err, why) && r->type != REDIS_REPLY_ARRAY)
        page_ok(p, ERR_INTERNAL, "the room's log is not readable");
    if (p->by_replica && is_behind(p)) {
        ask_primary(p);
        return;
    }
    if (p->result.err != OK) {
        log_end(p);
        return;
    }
    AUTO_FREE struct message_record *messages = xcalloc(p->limit, sizeof *messages);
    for (size_t i = 0; i < r->elements && i < p->limit; i++) {
        if (message_parse(r->element[i], &messages[p->result.count]))
            p->result.count++;
        else
            p->call.r->b.stats.undecodable++;
    }
    p->call.r->b.stats.replica_reads += p->by_replica ? 1 : 0;
    p->result.messages = messages;
    p->result.more = r->elements > p->limit;
    broker_complete(p->call.done, p->call.arg, &p->result);
    free(p->room);
    free(p);
}

static void send_read(struct page_call *p, struct args *a, redis_done *done)
{
    struct redis *r = p->call.r;
    if (p->by_replica)
        replica_send(p->replica, a, done, p);
    else
        store_send(r->store, a, REQUEST_REPEATABLE, done, p);
}

static void ask_log(struct page_call *p)
{
    struct args a;
    char from[32];
    (void)snprintf(from, sizeof from, "%lu-0", (unsigned long)p->page.after + 1);
    head_args(&a, p->call.r, p->page.room);
    send_read(p, &a, on_head);
    args_init(&a);
    arg_str(&a, "XRANGE");
    (void)arg_key(&a, p->call.r->prefix, p->page.room, ":log");
    arg_str(&a, from);
    arg_str(&a, "+");
    arg_str(&a, "COUNT");
    arg_u64(&a, (uint64_t)p->limit + 1);
    send_read(p, &a, on_entries);
}

/* NULL: everything is read from the primary. */
static struct replica *replica_for(const struct redis *r, struct slice room)
{
    struct args a;
    if (r->cluster == NULL)
        return r->replica;
    args_init(&a);
    uint16_t slot = slot_of_key(arg_key(&a, r->prefix, room, ":log"));
    args_fini(&a);
    const struct shard *s = cluster_owner(r->cluster, slot);
    return s != NULL ? s->replica : NULL;
}

void redis_history(struct broker *b, const struct log_page *page, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct page_call *p = page_new(r, page->limit, done, arg);
    p->replica = replica_for(r, page->room);
    bool may_lag = page->may_lag && p->replica != NULL;
    p->page = *page;
    p->page.room.p = p->room = xstrndup(page->room.p, page->room.n);
    p->by_replica = may_lag && replica_is_ready(p->replica);
    if (may_lag && !p->by_replica)
        ask_primary(p);
    else
        ask_log(p);
}
