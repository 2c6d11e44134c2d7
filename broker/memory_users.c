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
