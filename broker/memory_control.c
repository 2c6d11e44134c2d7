/* broker/memory_control.c: sessions of the embedded broker as others than their clients see and change them. */
#include "base/mem.h"
#include "broker/memory.h"

static void deliver(struct memory *m, const struct op *op, enum envelope_kind kind)
{
    struct buf room = BUF_INIT;
    buf_append(&room, SLICE("$session:"));
    buf_append(&room, op->p.from);
    const struct envelope e = {.kind = kind,
                               .room = buf_slice(&room),
                               .from = op->p.from,
                               .id = op->p.key,
                               .event = op->p.event,
                               .node = slice_str(m->node),
                               .data = op->p.data};
    m->b.events->envelope(m->b.owner, &e);
    buf_fini(&room);
}

static void run_control(struct memory *m, struct op *op)
{
    const struct session *s = memory_session_find(m, op->p.from);
    if (s == NULL) {
        broker_fail(op->done, op->arg, ERR_NOT_FOUND, "no such session");
        return;
    }
    bool away = !list_empty(&s->parked);
    if (!away)
        deliver(m, op, ENVELOPE_CONTROL);
    broker_complete(op->done, op->arg, &(struct broker_result){.away = away});
}

static struct publish message(const struct control_message *m)
{
    return (struct publish){.from = m->sid, .key = m->id, .event = m->verb, .data = m->data};
}

void memory_control(struct broker *b, const struct control_message *m, broker_done *done, void *arg)
{
    const struct publish p = message(m);
    (void)memory_request(b, run_control, &p, done, arg);
}

static void run_control_to(struct memory *m, struct op *op)
{
    if (!slice_eq(op->p.user, slice_str(m->node))) {
        broker_fail(op->done, op->arg, ERR_UNAVAILABLE, "there is no other node");
        return;
    }
    deliver(m, op, ENVELOPE_CONTROL);
    broker_complete(op->done, op->arg, &(struct broker_result){.err = OK});
}

void memory_control_to(struct broker *b, const struct control_message *m, broker_done *done, void *arg)
{
    struct publish p = message(m);
    p.user = m->node;
    (void)memory_request(b, run_control_to, &p, done, arg);
}

static void run_answer(struct memory *m, struct op *op)
{
    deliver(m, op, ENVELOPE_CONTROLLED);
}

void memory_control_answer(struct broker *b, const struct control_message *m)
{
    const struct publish p = message(m);
    (void)memory_request(b, run_answer, &p, NULL, NULL);
}

static void run_emit(struct memory *m, struct op *op)
{
    const struct room *room = memory_room_find(m, op->p.room);
    bool heard = room != NULL && room->subscribed;
    const struct envelope e = {.kind = ENVELOPE_EMIT,
                               .room = op->p.room,
                               .from = op->p.from,
                               .again = op->tell,
                               .node = slice_str(m->node),
                               .data = op->p.data};
    if (heard)
        m->b.events->envelope(m->b.owner, &e);
    broker_complete(op->done, op->arg, &(struct broker_result){.total = heard});
}

void memory_emit(struct broker *b, const struct emit_message *m, broker_done *done, void *arg)
{
    const struct publish p = {.room = m->room, .from = m->sid, .data = m->data};
    memory_request(b, run_emit, &p, done, arg)->tell = m->answered;
}

void memory_control_listen(struct broker *b, struct slice sid)
{
    (void)b;
    (void)sid;
}

void memory_control_end(struct broker *b, struct slice sid)
{
    (void)b;
    (void)sid;
}

/* NULL when it is there, but not away, or not at all: the request has failed then. */
static struct session *find_away(struct memory *m, const struct op *op)
{
    struct session *s = memory_session_find(m, op->p.from);
    if (s != NULL && !list_empty(&s->parked))
        return s;
    if (s == NULL)
        broker_fail(op->done, op->arg, ERR_NOT_FOUND, "no such session");
    else
        broker_fail(op->done, op->arg, ERR_CONFLICT, "the session is connected");
    return NULL;
}

static void run_session_end(struct memory *m, struct op *op)
{
    struct session *s = find_away(m, op);
    if (s == NULL)
        return;
    memory_session_end(m, s, op->reason);
    broker_complete(op->done, op->arg, &(struct broker_result){.err = OK});
}

void memory_session_end_away(struct broker *b, struct slice sid, enum exit_reason reason, broker_done *done, void *arg)
{
    struct op *op = memory_request(b, run_session_end, &(struct publish){.from = sid}, done, arg);
    op->reason = reason;
}

static struct member *find_member(const struct session *s, const struct room *room, size_t *ret_count)
{
    struct member *found = NULL;
    *ret_count = 0;
    list_for_each (it, &s->members) {
        struct member *member = list_entry(it, struct member, in_session);
        ++*ret_count;
        if (member->room == room)
            found = member;
    }
    return found;
}

static void complete_with_room(const struct op *op, const struct room *room)
{
    broker_complete(op->done, op->arg,
                    &(struct broker_result){.position = room->head, .total = HASH_COUNT(room->members)});
}

static void run_away_join(struct memory *m, struct op *op)
{
    const struct session *s = find_away(m, op);
    if (s == NULL)
        return;
    struct room *room = memory_room(m, op->p.room);
    struct slice user = s->user != NULL ? (struct slice){s->user->id, s->user->n} : SLICE_NONE;
    size_t count;
    if (find_member(s, room, &count) == NULL) {
        if (count >= op->limit) {
            memory_room_touch(m, room);
            broker_fail(op->done, op->arg, ERR_LIMIT_EXCEEDED,
                        "the session is in enough rooms already (max-rooms-per-session)");
            return;
        }
        (void)memory_member_add(m, room, op->p.from, user);
        memory_announce(m, room, &(struct envelope){.kind = ENVELOPE_ENTER, .from = op->p.from, .user = user});
        (void)memory_member_suspend(room, op->p.from);
        memory_announce(m, room, &(struct envelope){.kind = ENVELOPE_SUSPEND, .from = op->p.from, .user = user});
        memory_room_touch(m, room);
    }
    complete_with_room(op, room);
}

/* NOLINTNEXTLINE(readability-function-size): the interface wants so many */
void memory_away_join(struct broker *b, struct slice sid, struct slice room, uint32_t rooms_max, broker_done *done,
                      void *arg)
{
    struct op *op = memory_request(b, run_away_join, &(struct publish){.from = sid, .room = room}, done, arg);
    op->limit = rooms_max;
}

static void run_away_leave(struct memory *m, struct op *op)
{
    const struct session *s = find_away(m, op);
    if (s == NULL)
        return;
    struct room *room = memory_room_find(m, op->p.room);
    struct slice user = s->user != NULL ? (struct slice){s->user->id, s->user->n} : SLICE_NONE;
    if (room == NULL || !memory_member_remove(m, room, op->p.from)) {
        broker_fail(op->done, op->arg, ERR_NOT_MEMBER, "the session is not in this room");
        return;
    }
    memory_announce(m, room,
                    &(struct envelope){.kind = ENVELOPE_EXIT, .from = op->p.from, .user = user, .reason = EXIT_KICKED});
    complete_with_room(op, room);
    memory_room_touch(m, room);
}

void memory_away_leave(struct broker *b, struct slice sid, struct slice room, broker_done *done, void *arg)
{
    (void)memory_request(b, run_away_leave, &(struct publish){.from = sid, .room = room}, done, arg);
}
