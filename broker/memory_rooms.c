/* broker/memory_rooms.c: rooms of the embedded broker: heads, members, logs, idempotency keys, and forgetting them in time. */
#include <stdio.h>

#include "base/mem.h"
#include "broker/memory.h"

/* Peers invent names; what nobody is in any more is remembered for a day, and only so many. */
#define VACANT_KEEP_MS (24ull * 3600 * 1000)
#define VACANT_MAX     65536
#define ONCE_MAX       65536
#define SWEEP_ROOMS    256
#define PAGE_MAX       1000

struct room *memory_room_find(struct memory *m, struct slice name)
{
    struct room *r;
    HASH_FIND(hh, m->rooms, name.p, name.n, r);
    return r;
}

struct room *memory_room(struct memory *m, struct slice name)
{
    struct room *r = memory_room_find(m, name);
    if (r != NULL)
        return r;
    r = xcalloc(1, sizeof *r + name.n);
    memcpy(r->bytes, name.p, name.n);
    r->name = (struct slice){r->bytes, name.n};
    r->keep_ms = VACANT_KEEP_MS;
    r->born = ++m->next_born;
    list_init(&r->occupied);
    list_init(&r->vacant);
    list_init(&r->log);
    list_append(&m->rooms_all, &r->all);
    HASH_ADD_KEYPTR(hh, m->rooms, r->name.p, r->name.n, r);
    return r;
}

static void log_drop_first(struct room *r)
{
    struct op *op = list_first(&r->log, struct op, link);
    list_del(&op->link);
    free(op);
    r->log_count--;
}

void memory_log_clear(struct room *r)
{
    while (r->log_count != 0)
        log_drop_first(r);
}

static void log_trim(struct memory *m, struct room *r)
{
    uint64_t now = loop_wall_ms(m->b.loop);
    while (r->log_age_ms != 0 && r->log_count != 0) {
        const struct op *first = list_first(&r->log, struct op, link);
        if (first->time_ms + r->log_age_ms > now)
            return;
        log_drop_first(r);
    }
}

static void member_free(struct room *r, struct member *member)
{
    HASH_DELETE(hh, r->members, member);
    list_del(&member->in_session);
    free(member);
}

void memory_room_free(struct memory *m, struct room *r)
{
    while (r->members != NULL)
        member_free(r, r->members);
    while (r->log_count != 0)
        log_drop_first(r);
    if (!list_empty(&r->vacant))
        m->vacant_count--;
    list_del(&r->vacant);
    list_del(&r->occupied);
    list_del(&r->all);
    HASH_DELETE(hh, m->rooms, r);
    free(r);
}

void memory_room_touch(struct memory *m, struct room *r)
{
    bool vacant = r->members == NULL && !r->subscribed;
    if (!list_empty(&r->vacant)) {
        list_del(&r->vacant);
        m->vacant_count--;
    }
    if (!vacant)
        return;
    r->vacant_ms = loop_now_ms(m->b.loop);
    list_append(&m->vacant, &r->vacant);
    if (++m->vacant_count > VACANT_MAX)
        memory_room_free(m, list_first(&m->vacant, struct room, vacant));
}

static void once_drop_first(struct memory *m)
{
    struct once *o = list_first(&m->once_list, struct once, link);
    list_del(&o->link);
    HASH_DELETE(hh, m->once, o);
    free(o);
}

static void once_expire(struct memory *m)
{
    uint64_t now = loop_now_ms(m->b.loop);
    while (!list_empty(&m->once_list) && list_first(&m->once_list, struct once, link)->expires_ms <= now)
        once_drop_first(m);
}

void memory_sweep(struct memory *m)
{
    once_expire(m);
    uint64_t now = loop_now_ms(m->b.loop);
    for (int i = 0; i < SWEEP_ROOMS && !list_empty(&m->rooms_all); i++) {
        struct room *r = list_first(&m->rooms_all, struct room, all);
        list_del(&r->all);
        list_append(&m->rooms_all, &r->all);
        log_trim(m, r);
        if (!list_empty(&r->vacant) && r->vacant_ms + r->keep_ms <= now)
            memory_room_free(m, r);
    }
}

void memory_log_append(struct memory *m, struct room *r, struct op *op)
{
    list_append(&r->log, &op->link);
    r->log_count++;
    while (r->log_count > op->p.retain_count)
        log_drop_first(r);
    r->log_age_ms = op->p.retain_age_s * 1000ull;
    r->keep_ms = r->log_age_ms > VACANT_KEEP_MS ? r->log_age_ms : VACANT_KEEP_MS;
    if (r->name.p[0] == '$' && r->keep_ms < m->user_keep_ms)
        r->keep_ms = m->user_keep_ms;
    log_trim(m, r);
}

bool memory_member_add(struct memory *m, struct room *r, struct slice sid, struct slice user)
{
    struct member *member;
    HASH_FIND(hh, r->members, sid.p, sid.n, member);
    if (member != NULL) {
        bool suspended = member->suspended;
        member->suspended = false;
        return suspended;
    }
    member = xcalloc(1, sizeof *member + sid.n + user.n);
    member->room = r;
    list_init(&member->in_session);
    struct session *s = memory_session_find(m, sid);
    if (s != NULL)
        list_append(&s->members, &member->in_session);
    member->seq = ++m->next_seq;
    member->since_ms = loop_wall_ms(m->b.loop);
    memcpy(member->bytes, sid.p, sid.n);
    if (user.n != 0)
        memcpy(member->bytes + sid.n, user.p, user.n);
    member->sid = (struct slice){member->bytes, sid.n};
    member->user = (struct slice){member->bytes + sid.n, user.n};
    if (r->members == NULL) {
        r->seq = ++m->next_seq;
        list_append(&m->occupied, &r->occupied);
    }
    HASH_ADD_KEYPTR(hh, r->members, member->sid.p, member->sid.n, member);
    return true;
}

bool memory_member_remove(struct memory *m, struct room *r, struct slice sid)
{
    (void)m;
    struct member *member;
    HASH_FIND(hh, r->members, sid.p, sid.n, member);
    if (member == NULL)
        return false;
    member_free(r, member);
    if (r->members == NULL)
        list_del(&r->occupied);
    return true;
}

bool memory_member_suspend(struct room *r, struct slice sid)
{
    struct member *member;
    HASH_FIND(hh, r->members, sid.p, sid.n, member);
    if (member == NULL || member->suspended)
        return false;
    member->suspended = true;
    return true;
}

/* A cursor is `<seq>:<name>` of the last entry told: the name finds the place at once, seq finds it when that entry has gone. */
struct place {
    uint64_t seq;
    struct slice name;
};

static struct place cursor_parse(struct slice cursor)
{
    struct place at = {0};
    size_t i = 0;
    for (; i < cursor.n && cursor.p[i] >= '0' && cursor.p[i] <= '9'; i++)
        at.seq = at.seq * 10 + (uint64_t)(cursor.p[i] - '0');
    if (i < cursor.n)
        at.name = slice_from(cursor, i + 1);
    return at;
}

static void cursor_print(struct buf *b, uint64_t seq, struct slice name)
{
    buf_append_u64(b, seq);
    buf_append_char(b, ':');
    buf_append(b, name);
}

static uint32_t page_limit(const struct op *op)
{
    if (op->limit == 0)
        return 1;
    return op->limit < PAGE_MAX ? op->limit : PAGE_MAX;
}

static const struct member *first_member_after(const struct room *r, struct slice cursor)
{
    const struct member *member = NULL;
    if (cursor.n == 0)
        return r->members;
    struct place at = cursor_parse(cursor);
    HASH_FIND(hh, r->members, at.name.p, at.name.n, member);
    if (member != NULL && member->seq == at.seq)
        return member->hh.next;
    for (member = r->members; member != NULL && member->seq <= at.seq; member = member->hh.next)
        ;
    return member;
}

void memory_run_presence(struct memory *m, struct op *op)
{
    struct broker_result result = {.err = OK};
    const struct room *r = memory_room_find(m, op->p.room);
    if (r == NULL) {
        broker_complete(op->done, op->arg, &result);
        return;
    }
    uint32_t limit = page_limit(op);
    AUTO_FREE struct member_record *page = xcalloc(limit, sizeof *page);
    struct buf cursor = BUF_INIT;
    const struct member *member = first_member_after(r, op->p.data);
    for (; member != NULL && result.count < limit; member = member->hh.next) {
        page[result.count++] = (struct member_record){.sid = member->sid,
                                                      .user = member->user,
                                                      .node = slice_str(m->node),
                                                      .since_ms = member->since_ms,
                                                      .state = member->suspended ? MEMBER_SUSPENDED : MEMBER_ACTIVE};
        if (result.count == limit && member->hh.next != NULL)
            cursor_print(&cursor, member->seq, member->sid);
    }
    result.members = page;
    result.total = HASH_COUNT(r->members);
    result.position = r->head;
    result.cursor = buf_slice(&cursor);
    result.more = cursor.n != 0;
    broker_complete(op->done, op->arg, &result);
    buf_fini(&cursor);
}

static struct link *first_room_after(struct memory *m, struct slice cursor)
{
    if (cursor.n == 0)
        return m->occupied.next;
    struct place at = cursor_parse(cursor);
    struct room *r = memory_room_find(m, at.name);
    if (r != NULL && r->seq == at.seq && !list_empty(&r->occupied))
        return r->occupied.next;
    struct link *l = m->occupied.next;
    while (l != &m->occupied && list_entry(l, struct room, occupied)->seq <= at.seq)
        l = l->next;
    return l;
}

void memory_run_rooms(struct memory *m, struct op *op)
{
    struct broker_result result = {.err = OK};
    uint32_t limit = page_limit(op);
    AUTO_FREE struct room_record *page = xcalloc(limit, sizeof *page);
    struct buf cursor = BUF_INIT;
    struct link *l = first_room_after(m, op->p.data);
    for (; l != &m->occupied && result.count < limit; l = l->next) {
        const struct room *r = list_entry(l, struct room, occupied);
        page[result.count++] = (struct room_record){.room = r->name, .total = HASH_COUNT(r->members)};
        if (result.count == limit && l->next != &m->occupied)
            cursor_print(&cursor, r->seq, r->name);
    }
    result.rooms = page;
    result.cursor = buf_slice(&cursor);
    result.more = cursor.n != 0;
    broker_complete(op->done, op->arg, &result);
    buf_fini(&cursor);
}

void memory_run_history(struct memory *m, struct op *op)
{
    struct broker_result result = {.err = OK};
    struct room *r = memory_room_find(m, op->p.room);
    if (r == NULL) {
        broker_complete(op->done, op->arg, &result);
        return;
    }
    log_trim(m, r);
    uint32_t limit = page_limit(op);
    AUTO_FREE struct message_record *page = xcalloc(limit, sizeof *page);
    list_for_each (l, &r->log) {
        const struct op *e = list_entry(l, struct op, link);
        if (e->position.offset <= op->position.offset)
            continue;
        result.more = result.count == limit;
        if (result.more)
            break;
        page[result.count++] = (struct message_record){.position = e->position,
                                                       .time_ms = e->time_ms,
                                                       .event = e->p.event,
                                                       .from = e->p.from,
                                                       .user = e->p.user,
                                                       .id = e->p.key,
                                                       .except = e->p.except,
                                                       .data = e->p.data,
                                                       .data_type = e->p.data_type,
                                                       .was = e->p.was};
    }
    result.messages = page;
    result.position = r->head;
    broker_complete(op->done, op->arg, &result);
}

static char *once_key(struct slice room, struct slice key)
{
    char *k = xmalloc(room.n + 1 + key.n);
    memcpy(k, room.p, room.n);
    k[room.n] = '\0';
    memcpy(k + room.n + 1, key.p, key.n);
    return k;
}

const struct position *memory_once_find(struct memory *m, struct slice room, struct slice key)
{
    once_expire(m);
    AUTO_FREE char *k = once_key(room, key);
    struct once *o;
    HASH_FIND(hh, m->once, k, room.n + 1 + key.n, o);
    return o != NULL ? &o->position : NULL;
}

void memory_once_add(struct memory *m, struct slice room, struct slice key, const struct position *position)
{
    AUTO_FREE char *k = once_key(room, key);
    size_t n = room.n + 1 + key.n;
    struct once *o = xcalloc(1, sizeof *o + n);
    o->expires_ms = loop_now_ms(m->b.loop) + m->once_ttl_ms;
    o->position = *position;
    memcpy(o->key, k, n);
    if (HASH_COUNT(m->once) >= ONCE_MAX)
        once_drop_first(m);
    list_append(&m->once_list, &o->link);
    HASH_ADD_KEYPTR(hh, m->once, o->key, n, o);
}

void memory_once_clear(struct memory *m)
{
    while (!list_empty(&m->once_list))
        once_drop_first(m);
}
