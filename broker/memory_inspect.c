/* broker/memory_inspect.c: what backends and operators ask of the embedded broker. */
#include <stdio.h>

#include "base/mem.h"
#include "base/text.h"
#include "broker/memory.h"

#define SESSIONS_MAX 1000u

static struct member_record record_of(const struct memory *m, const struct session *s)
{
    return (struct member_record){.sid = {s->sid, s->n},
                                  .user = s->user != NULL ? (struct slice){s->user->id, s->user->n} : SLICE_NONE,
                                  .node = slice_str(m->node),
                                  .since_ms = s->connected_ms,
                                  .seen_ms = loop_wall_ms(m->b.loop),
                                  .state = list_empty(&s->parked) ? MEMBER_ACTIVE : MEMBER_SUSPENDED};
}

static bool asked_for(const struct memory *m, const struct op *op, const struct session *s)
{
    if (op->p.event.n != 0 && !slice_eq(op->p.event, slice_str(s->told[TOLD_NAMESPACE])))
        return false;
    if (op->p.user.n != 0)
        return s->user != NULL && slice_eq((struct slice){s->user->id, s->user->n}, op->p.user);
    return slice_eq(op->p.room, slice_str(m->node)) && list_empty(&s->parked);
}

/* Sessions are in the order of their numbers; the cursor is the last one told. */
static void run_sessions(struct memory *m, struct op *op)
{
    struct broker_result result = {.err = OK};
    uint32_t limit = op->limit == 0 ? 1 : op->limit < SESSIONS_MAX ? op->limit : SESSIONS_MAX;
    uint64_t after = 0, last = 0;
    char cursor[24];
    if (op->p.data.n != 0 && !text_u64(op->p.data, UINT64_MAX / 16, &after)) {
        broker_fail(op->done, op->arg, ERR_BAD_REQUEST, "not a cursor of this list");
        return;
    }
    AUTO_FREE struct member_record *page = xcalloc(limit, sizeof *page);
    for (const struct session *s = m->sessions; s != NULL && !result.more; s = s->hh.next) {
        if (s->seq <= after || !asked_for(m, op, s))
            continue;
        result.more = result.count == limit;
        if (result.more)
            break;
        page[result.count++] = record_of(m, s);
        last = s->seq;
    }
    (void)snprintf(cursor, sizeof cursor, "%llu", (unsigned long long)last);
    result.cursor = result.more ? slice_str(cursor) : SLICE_NONE;
    result.members = page;
    broker_complete(op->done, op->arg, &result);
}

void memory_sessions_list(struct broker *b, const struct session_query *q, broker_done *done, void *arg)
{
    struct publish p = {.data = q->cursor, .event = q->nsp};
    if (q->by == SESSIONS_BY_USER)
        p.user = q->name;
    else
        p.room = q->name;
    memory_request(b, run_sessions, &p, done, arg)->limit = q->limit;
}

static struct slice told(const char *s)
{
    return s != NULL ? slice_str(s) : SLICE_NONE;
}

static void run_session_get(struct memory *m, struct op *op)
{
    const struct session *s = memory_session_find(m, op->p.from);
    if (s == NULL) {
        broker_fail(op->done, op->arg, ERR_NOT_FOUND, "no such session");
        return;
    }
    bool parked = !list_empty(&s->parked);
    uint64_t now = loop_now_ms(m->b.loop), wall = loop_wall_ms(m->b.loop);
    const struct session_view view = {.sid = {s->sid, s->n},
                                      .user = s->user != NULL ? (struct slice){s->user->id, s->user->n} : SLICE_NONE,
                                      .node = slice_str(m->node),
                                      .state = parked ? SLICE("parked") : SLICE("active"),
                                      .protocol = told(s->told[TOLD_PROTOCOL]),
                                      .ip = told(s->told[TOLD_IP]),
                                      .agent = told(s->told[TOLD_AGENT]),
                                      .origin = told(s->told[TOLD_ORIGIN]),
                                      .nsp = told(s->told[TOLD_NAMESPACE]),
                                      .attributes = told(s->told[TOLD_ATTRIBUTES]),
                                      .given = told(s->told[TOLD_GIVEN]),
                                      .connected_ms = s->connected_ms,
                                      .seen_ms = wall,
                                      .parked_until_ms = parked ? wall + s->parked_until_ms - now : 0};
    struct broker_result result = {.session = &view};
    size_t total = 0;
    list_for_each (it, &s->members)
        total++;
    AUTO_FREE struct room_record *rooms = xcalloc(total, sizeof *rooms);
    list_for_each (it, &s->members) {
        const struct member *member = list_entry(it, struct member, in_session);
        rooms[result.count++] = (struct room_record){member->room->name, member->since_ms};
    }
    result.rooms = rooms;
    broker_complete(op->done, op->arg, &result);
}

void memory_session_get(struct broker *b, struct slice sid, broker_done *done, void *arg)
{
    (void)memory_request(b, run_session_get, &(struct publish){.from = sid}, done, arg);
}

static void run_session_give(struct memory *m, struct op *op)
{
    struct session *s = memory_session_find(m, op->p.from);
    if (s == NULL) {
        broker_fail(op->done, op->arg, ERR_NOT_FOUND, "no such session");
    } else if (!slice_eq(told(s->told[TOLD_GIVEN]), op->p.event)) {
        broker_fail(op->done, op->arg, ERR_CONFLICT, "somebody else has changed its attributes just now");
    } else {
        free(s->told[TOLD_GIVEN]);
        s->told[TOLD_GIVEN] = xstrndup(op->p.data.p, op->p.data.n);
        broker_complete(op->done, op->arg, &(struct broker_result){.err = OK});
    }
}

/* NOLINTNEXTLINE(readability-function-size): the interface wants so many */
void memory_session_give(struct broker *b, struct slice sid, struct slice was, struct slice given, broker_done *done,
                         void *arg)
{
    (void)memory_request(b, run_session_give, &(struct publish){.from = sid, .event = was, .data = given}, done, arg);
}

static void run_room_clear(struct memory *m, struct op *op)
{
    struct room *r = memory_room_find(m, op->p.room);
    if (r != NULL && HASH_COUNT(r->members) != 0) {
        broker_fail(op->done, op->arg, ERR_CONFLICT, "somebody is in the room");
        return;
    }
    if (r != NULL)
        memory_log_clear(r);
    broker_complete(op->done, op->arg, &(struct broker_result){.err = OK});
}

void memory_room_clear(struct broker *b, struct slice room, broker_done *done, void *arg)
{
    (void)memory_request(b, run_room_clear, &(struct publish){.room = room}, done, arg);
}

static void run_nodes(struct memory *m, struct op *op)
{
    struct node_view node = {.node = slice_str(m->node),
                             .address = told(m->address),
                             .version = told(m->version),
                             .started_ms = m->started_ms,
                             .heartbeat_ms = loop_wall_ms(m->b.loop),
                             .alive = true};
    struct broker_result result = {.count = 1, .nodes = &node};
    list_for_each (it, &m->parked)
        result.parked++;
    list_for_each (it, &m->occupied)
        result.total++;
    m->b.events->node_stats(m->b.owner, &node.connections, &node.rooms);
    broker_complete(op->done, op->arg, &result);
}

void memory_nodes(struct broker *b, broker_done *done, void *arg)
{
    (void)memory_request(b, run_nodes, &(struct publish){.from = SLICE_NONE}, done, arg);
}
