/* broker/memory_users.c: users of the embedded broker: who is there, who is away, who was seen when. */
#include "base/mem.h"
#include "broker/memory.h"

#define GONE_MAX 65536 /* peers invent users too */

struct user *memory_user_find(struct memory *m, struct slice id)
{
    struct user *u;
    HASH_FIND(hh, m->users, id.p, id.n, u);
    return u;
}

static void user_free(struct memory *m, struct user *u)
{
    if (!list_empty(&u->gone))
        m->gone_count--;
    list_del(&u->gone);
    struct read *read, *next;
    HASH_ITER (hh, u->reads, read, next) {
        HASH_DELETE(hh, u->reads, read);
        free(read);
    }
    HASH_DELETE(hh, m->users, u);
    free(u);
}

struct user *memory_user(struct memory *m, struct slice id)
{
    struct user *u = memory_user_find(m, id);
    if (u != NULL)
        return u;
    u = xcalloc(1, sizeof *u + id.n);
    u->n = id.n;
    memcpy(u->id, id.p, id.n);
    list_init(&u->gone);
    HASH_ADD_KEYPTR(hh, m->users, u->id, id.n, u);
    return u;
}

static void set_gone(struct memory *m, struct user *u)
{
    bool gone = u->sessions == 0 && !u->watched;
    if (gone == !list_empty(&u->gone))
        return;
    if (!gone) {
        list_del(&u->gone);
        m->gone_count--;
        return;
    }
    u->gone_ms = loop_now_ms(m->b.loop);
    list_append(&m->gone, &u->gone);
    if (++m->gone_count > GONE_MAX)
        user_free(m, list_first(&m->gone, struct user, gone));
}

static struct user_record record(const struct memory *m, const struct user *u)
{
    return (struct user_record){.user = {u->id, u->n},
                                .state = u->state,
                                .sessions = u->sessions,
                                .since_ms = u->since_ms,
                                .seen_ms = u->state == USER_ONLINE ? loop_wall_ms(m->b.loop) : u->seen_ms,
                                .version = u->version};
}

void memory_user_changed(struct memory *m, struct user *u)
{
    enum user_state before = u->state;
    uint64_t now = loop_wall_ms(m->b.loop);
    u->state = u->sessions == 0 ? USER_OFFLINE : u->sessions > u->suspended ? USER_ONLINE : USER_SUSPENDED;
    if (before == USER_ONLINE || u->state == USER_ONLINE)
        u->seen_ms = now;
    if (before != u->state)
        u->since_ms = now;
    bool news = before != u->state || u->told != u->sessions;
    u->told = u->sessions;
    u->version += news;
    const struct user_record told = record(m, u);
    if (news && u->watched && !m->closing && m->b.events->user_changed != NULL)
        m->b.events->user_changed(m->b.owner, &told);
    set_gone(m, u);
}

void memory_run_users(struct memory *m, struct op *op)
{
    AUTO_FREE struct user_record *users = xcalloc(op->limit, sizeof *users);
    struct slice rest = op->p.data;
    for (uint32_t i = 0; i < op->limit; i++) {
        size_t n;
        memcpy(&n, rest.p, sizeof n);
        struct slice name = {rest.p + sizeof n, n};
        const struct user *u = memory_user_find(m, name);
        users[i] = u != NULL ? record(m, u) : (struct user_record){0};
        users[i].user = name;
        rest = slice_from(rest, sizeof n + n);
    }
    broker_complete(op->done, op->arg, &(struct broker_result){.users = users, .count = op->limit});
}

void memory_run_watch(struct memory *m, struct op *op)
{
    struct user *u = memory_user(m, op->p.user);
    if (!u->watched)
        m->b.stats.subscriptions++;
    u->watched = true;
    set_gone(m, u);
    broker_complete(op->done, op->arg, &(struct broker_result){.err = OK});
}

void memory_run_unwatch(struct memory *m, struct op *op)
{
    struct user *u = memory_user_find(m, op->p.user);
    if (u == NULL || !u->watched)
        return;
    m->b.stats.subscriptions--;
    u->watched = false;
    set_gone(m, u);
}

/* --- how far they have read --- */

static struct read *read_find(struct user *u, struct slice room)
{
    struct read *r;
    HASH_FIND(hh, u->reads, room.p, room.n, r);
    return r;
}

static struct read *read_add(struct user *u, struct slice room)
{
    struct read *r = xcalloc(1, sizeof *r + room.n);
    memcpy(r->room, room.p, room.n);
    r->n = room.n;
    HASH_ADD_KEYPTR(hh, u->reads, r->room, r->n, r);
    return r;
}

static void tell_read(struct memory *m, const struct op *op, const struct room *inbox, const struct position *at,
                      bool news)
{
    if (!inbox->subscribed || (!news && !op->tell))
        return;
    struct envelope e = {.kind = ENVELOPE_READ,
                         .room = inbox->name,
                         .from = op->p.from,
                         .user = op->p.user,
                         .node = slice_str(m->node),
                         .time_ms = loop_wall_ms(m->b.loop),
                         .position = inbox->head,
                         .again = !news,
                         .read_room = op->p.room,
                         .read = *at};
    m->b.stats.received++;
    m->b.events->envelope(m->b.owner, &e);
}

void memory_run_read(struct memory *m, struct op *op)
{
    struct buf name = BUF_INIT;
    struct user *u = memory_user(m, op->p.user);
    buf_append(&name, SLICE("$user:"));
    buf_append(&name, op->p.user);
    struct room *inbox = memory_room(m, buf_slice(&name));
    bool own = slice_eq(op->p.room, buf_slice(&name));
    buf_fini(&name);
    struct read *r = read_find(u, op->p.room);
    struct position at = {0};
    if (r != NULL && (!own || (r->born == inbox->born && r->at.offset <= inbox->head.offset)))
        at = r->at;
    bool news =
        op->position.offset > at.offset || (op->back && op->position.offset != 0 && op->position.offset != at.offset);
    if (news && r == NULL && HASH_COUNT(u->reads) >= READ_ROOMS_MAX) {
        broker_fail(op->done, op->arg, ERR_LIMIT_EXCEEDED,
                    "how far this user has read is known of enough rooms already");
    } else {
        if (news) {
            r = r != NULL ? r : read_add(u, op->p.room);
            r->at = at = op->position;
            r->born = inbox->born;
        }
        tell_read(m, op, inbox, &at, news);
        broker_complete(op->done, op->arg, &(struct broker_result){.position = at});
    }
    memory_room_touch(m, inbox);
    set_gone(m, u);
}

void memory_users_expire(struct memory *m)
{
    uint64_t now = loop_now_ms(m->b.loop);
    while (!list_empty(&m->gone)) {
        struct user *u = list_first(&m->gone, struct user, gone);
        if (u->gone_ms + m->user_keep_ms > now)
            return;
        user_free(m, u);
    }
}

void memory_users_clear(struct memory *m)
{
    struct user *u, *next;
    HASH_ITER (hh, m->users, u, next)
        user_free(m, u);
}
