/* broker/memory_sessions.c: sessions and users of the embedded broker: who is there, who is parked, who has come back. */
#include "base/mem.h"
#include "broker/memory.h"

struct session *memory_session_find(struct memory *m, struct slice sid)
{
    struct session *s;
    HASH_FIND(hh, m->sessions, sid.p, sid.n, s);
    return s;
}

/* The session belongs to another user from now on, or to none. */
static void set_user(struct memory *m, struct session *s, struct user *to)
{
    struct user *from = s->user;
    bool away = !list_empty(&s->parked);
    s->user = to;
    if (from == to)
        return;
    if (to != NULL) {
        to->sessions++;
        to->suspended += away;
        memory_user_changed(m, to);
    }
    if (from != NULL) {
        from->sessions--;
        from->suspended -= away;
        memory_user_changed(m, from);
    }
}

static void set_parked(struct memory *m, struct session *s, bool parked)
{
    bool was = !list_empty(&s->parked);
    list_del(&s->parked);
    if (parked)
        list_append(&m->parked, &s->parked);
    if (s->user == NULL || was == parked)
        return;
    s->user->suspended = parked ? s->user->suspended + 1 : s->user->suspended - 1;
    memory_user_changed(m, s->user);
}

static void session_free(struct memory *m, struct session *s)
{
    list_for_each_safe (it, &s->members)
        list_del(it);
    set_user(m, s, NULL);
    list_del(&s->parked);
    for (size_t i = 0; i < TOLD_COUNT; i++)
        free(s->told[i]);
    HASH_DELETE(hh, m->sessions, s);
    free(s->watches);
    free(s);
}

/* Up to the zero byte, which is taken too. */
static struct slice take_text(struct slice *from)
{
    const char *border = memchr(from->p, '\0', from->n);
    struct slice text = {from->p, (size_t)(border - from->p)};
    *from = slice_from(*from, text.n + 1);
    return text;
}

static void keep_told(struct session *s, const struct op *op)
{
    struct slice rest = op->p.data, hash = take_text(&rest), protocol = take_text(&rest), tunnel = take_text(&rest),
                 nsp = take_text(&rest);
    size_t fits = hash.n < sizeof s->token_hash ? hash.n : sizeof s->token_hash - 1;
    memcpy(s->token_hash, hash.p, fits);
    s->token_hash[fits] = '\0';
    const struct slice told[] = {
        [TOLD_PROTOCOL] = protocol, [TOLD_IP] = op->p.room,   [TOLD_AGENT] = op->p.except, [TOLD_ORIGIN] = op->p.key,
        [TOLD_NAMESPACE] = nsp,     [TOLD_ATTRIBUTES] = rest, [TOLD_TUNNEL] = tunnel};
    for (size_t i = 0; i < ARRAY_LEN(told); i++) {
        free(s->told[i]);
        s->told[i] = told[i].n != 0 ? xstrndup(told[i].p, told[i].n) : NULL;
    }
}

static void run_session_put(struct memory *m, struct op *op)
{
    struct session *s = memory_session_find(m, op->p.from);
    if (s == NULL) {
        s = xcalloc(1, sizeof *s + op->p.from.n);
        s->n = op->p.from.n;
        memcpy(s->sid, op->p.from.p, s->n);
        list_init(&s->members);
        list_init(&s->parked);
        s->seq = ++m->next_seq;
        HASH_ADD_KEYPTR(hh, m->sessions, s->sid, s->n, s);
    }
    set_parked(m, s, false);
    set_user(m, s, op->p.user.n != 0 ? memory_user(m, op->p.user) : NULL);
    if (op->p.event.p != NULL) {
        free(s->watches);
        s->watches = xstrndup(op->p.event.p, op->p.event.n);
    }
    keep_told(s, op);
    s->connected_ms = op->time_ms;
    broker_complete(op->done, op->arg, &(struct broker_result){.err = OK});
}

void memory_session_put(struct broker *b, const struct session_record *s, broker_done *done, void *arg)
{
    struct buf data = BUF_INIT; /* texts that have no zero byte in them */
    buf_append(&data, s->token_hash);
    buf_append_char(&data, '\0');
    buf_append(&data, s->protocol);
    buf_append_char(&data, '\0');
    buf_append(&data, s->tunnel);
    buf_append_char(&data, '\0');
    buf_append(&data, s->nsp);
    buf_append_char(&data, '\0');
    buf_append(&data, s->attributes);
    const struct publish p = {.from = s->sid,
                              .user = s->user,
                              .event = s->watches,
                              .data = buf_slice(&data),
                              .room = s->ip,
                              .except = s->agent,
                              .key = s->origin};
    struct op *op = memory_request(b, run_session_put, &p, done, arg);
    if (s->watches.p == NULL)
        op->p.event = SLICE_NONE;
    op->time_ms = s->connected_ms;
    buf_fini(&data);
}

static struct slice user_of(const struct session *s)
{
    return s->user != NULL ? (struct slice){s->user->id, s->user->n} : SLICE_NONE;
}

void memory_run_session_remove(struct memory *m, struct op *op)
{
    struct session *s = memory_session_find(m, op->p.from);
    if (s != NULL) {
        memory_event_ended(m, s, op->p.data);
        session_free(m, s);
    }
    broker_complete(op->done, op->arg, &(struct broker_result){.err = OK});
}

void memory_session_remove(struct broker *b, struct slice sid, struct slice user, struct slice reason,
                           broker_done *done, void *arg)
{
    (void)memory_request(b, memory_run_session_remove, &(struct publish){.from = sid, .user = user, .data = reason},
                         done, arg);
}

/* --- parked --- */

void memory_run_session_park(struct memory *m, struct op *op)
{
    struct session *s = memory_session_find(m, op->p.from);
    if (s != NULL) {
        s->parked_until_ms = loop_now_ms(m->b.loop) + op->limit;
        set_parked(m, s, true);
    }
    broker_complete(op->done, op->arg, &(struct broker_result){.err = OK});
}

void memory_session_park(struct broker *b, struct slice sid, uint32_t ttl_ms, broker_done *done, void *arg)
{
    struct op *op = memory_request(b, memory_run_session_park, &(struct publish){.from = sid}, done, arg);
    op->limit = ttl_ms;
}

static void run_session_audit(struct memory *m, struct op *op)
{
    const struct session *s = memory_session_find(m, op->p.from);
    if (s == NULL || !list_empty(&s->parked)) {
        broker_fail(op->done, op->arg, ERR_NOT_FOUND, "the store has no such session of this node");
        return;
    }
    size_t total = 0;
    list_for_each (it, &s->members)
        total++;
    struct broker_result result = {.err = OK};
    AUTO_FREE struct room_record *rooms = xcalloc(total, sizeof *rooms);
    list_for_each (it, &s->members) {
        const struct member *member = list_entry(it, struct member, in_session);
        rooms[result.count++] = (struct room_record){.room = member->room->name, .total = !member->suspended};
    }
    result.rooms = rooms;
    broker_complete(op->done, op->arg, &result);
}

void memory_session_audit(struct broker *b, struct slice sid, broker_done *done, void *arg)
{
    (void)memory_request(b, run_session_audit, &(struct publish){.from = sid}, done, arg);
}

static void run_session_resume(struct memory *m, struct op *op)
{
    struct session *s = memory_session_find(m, op->p.from);
    if (s == NULL) {
        broker_fail(op->done, op->arg, ERR_NOT_FOUND, "no such session any more");
        return;
    }
    if (s->token_hash[0] == '\0' || !slice_eq(op->p.data, slice_str(s->token_hash))) {
        broker_fail(op->done, op->arg, ERR_UNAUTHORIZED, "not the token of this session");
        return;
    }
    set_parked(m, s, false);
    struct broker_result result = {
        .err = OK, .connected_ms = s->connected_ms, .watches = slice_str(s->watches), .position = s->head};
    if (s->user != NULL)
        result.user = (struct slice){s->user->id, s->user->n};
    size_t total = 0;
    list_for_each (it, &s->members)
        total++;
    AUTO_FREE struct room_record *rooms = xcalloc(total, sizeof *rooms);
    list_for_each (it, &s->members)
        rooms[result.count++].room = list_entry(it, struct member, in_session)->room->name;
    result.rooms = rooms;
    broker_complete(op->done, op->arg, &result);
}

void memory_session_resume(struct broker *b, struct slice sid, struct slice token_hash, broker_done *done, void *arg)
{
    (void)memory_request(b, run_session_resume, &(struct publish){.from = sid, .data = token_hash}, done, arg);
}

void memory_session_end(struct memory *m, struct session *s, enum exit_reason reason)
{
    while (!list_empty(&s->members)) {
        struct member *member = list_first(&s->members, struct member, in_session);
        struct room *room = member->room;
        struct slice sid = {s->sid, s->n}, user = user_of(s);
        (void)memory_member_remove(m, room, sid);
        memory_announce(m, room,
                        &(struct envelope){.kind = ENVELOPE_EXIT, .from = sid, .user = user, .reason = reason});
        memory_room_touch(m, room);
    }
    memory_event_ended(m, s, reason == EXIT_KICKED ? SLICE("kicked") : SLICE("expired"));
    session_free(m, s);
}

void memory_sessions_expire(struct memory *m)
{
    uint64_t now = loop_now_ms(m->b.loop);
    list_for_each_safe (it, &m->parked) {
        struct session *s = list_entry(it, struct session, parked);
        if (s->parked_until_ms <= now)
            memory_session_end(m, s, EXIT_DISCONNECT);
    }
}

void memory_sessions_clear(struct memory *m)
{
    struct session *s, *next;
    HASH_ITER (hh, m->sessions, s, next)
        session_free(m, s);
}
