/* gateway/audience.c: the batches of a room's audiences, and what becomes of those who do not keep up. */
#include "gateway/audience.h"

#include "base/mem.h"
#include "gateway/catchup.h"
#include "gateway/conn.h"
#include "gateway/emitter.h"
#include "gateway/fork.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "gateway/protocol/socketio.h"
#include "gateway/session.h"
#include "gateway/trail.h"

#define BATCH_BYTES    65536u /* four TLS records, sent as one */
#define BATCH_DELAY_US 2000u
#define BATCH_KEEP     4096u /* a batch buffer larger than this is given back when flushed */

/* --- batches --- */

/* Delivering to the members of a large room is a walk from cache miss to cache miss: seat, session, connection, transport. Each step of those who are
 * next is asked for while others are being served. */
static void fetch_ahead(const struct audience *a, uint32_t i)
{
    if (i + 8 < a->count)
        __builtin_prefetch(&a->seats[i + 8].session->conn);
    if (i + 6 < a->count)
        conn_prefetch(a->seats[i + 6].session->conn);
    if (i + 4 < a->count)
        conn_prefetch_transport(a->seats[i + 4].session->conn);
    if (i + 2 < a->count)
        conn_prefetch_write(a->seats[i + 2].session->conn);
}

/* What happens to those who do not read fast enough. Only a log can be read on from, and members of $… rooms do not wait beside them. */
static enum policy_slow slow_rule(const struct room *r)
{
    enum policy_slow slow = r->policy->slow;
    if (slow == POLICY_SLOW_DEFAULT && r->gw->cfg->slow_consumer == SLOW_RESUME)
        slow = POLICY_SLOW_RESUME;
    if (slow == POLICY_SLOW_RESUME && (r->policy->retain_count == 0 || r->name.p[0] == '$'))
        return POLICY_SLOW_DISCONNECT;
    return slow;
}

/* The walk over its audience is not over yet: set aside when the room is through with what it delivers. */
static void note_behind(struct room *r, struct member *m)
{
    if (!list_empty(&m->in_room))
        return;
    list_append(&r->behind, &m->in_room);
    loop_idle(r->gw->loop, &r->flush, BATCH_DELAY_US);
}

static void audience_flush(struct room *r, struct audience *a)
{
    if (a->batch.n == 0)
        return;
    struct msg *m = msg_new(buf_slice(&a->batch));
    struct trailed t = {m, r, a->recovers ? a->starts : NULL, a->start_count, NULL};
    buf_clear(&a->batch);
    if (a->batch.cap > BATCH_KEEP)
        buf_fini(&a->batch);
    if (a->start_count != 0)
        a->told = a->batch_end;
    a->start_count = 0;
    metrics->deliveries += (uint64_t)a->count * a->batched;
    a->batched = 0;
    enum policy_slow slow = slow_rule(r);
    for (uint32_t i = 0; i < a->count; i++) {
        fetch_ahead(a, i);
        const struct session *s = a->seats[i].session;
        if (s->conn != NULL && !trailed_send(&t, s, slow)) /* NULL: this flush is part of its leaving */
            note_behind(r, a->seats[i].member);
    }
    trailed_fini(&t);
    msg_unref(&m);
}

void room_flush(struct room *r)
{
    task_cancel(&r->flush);
    list_for_each (it, &r->audiences) {
        audience_flush(r, list_entry(it, struct audience, in_room));
    }
}

static void on_flush(struct task *t)
{
    struct room *r = container_of(t, struct room, flush);
    room_flush(r);
    room_set_aside(r);
}

/* A batch must not fill a client's queue by itself. */
static size_t batch_bytes(const struct room *r)
{
    size_t quarter = r->gw->cfg->max_queue_bytes / 4;
    return quarter < BATCH_BYTES ? quarter : BATCH_BYTES;
}

static void note_start(struct audience *a, const struct event *e)
{
    if (a->start_count == a->start_cap) {
        a->start_cap = a->start_cap != 0 ? 2 * a->start_cap : 4;
        a->starts = xrealloc(a->starts, a->start_cap * sizeof *a->starts);
    }
    a->starts[a->start_count++] = (uint32_t)a->batch.n;
    if (e->position != NULL)
        a->batch_end = *e->position;
}

static void audience_add(struct room *r, struct audience *a, const struct event *e)
{
    if (a->tracked && e->kind == EVENT_MESSAGE)
        note_start(a, e);
    a->protocol->encode(a->protocol, e, &a->batch);
    a->batched++;
    metrics->encodes++;
    if (a->batch.n >= batch_bytes(r))
        audience_flush(r, a);
    else
        loop_idle(r->gw->loop, &r->flush, BATCH_DELAY_US);
}

static const uint32_t at_once = 0; /* where a message begins that is not in a batch */

static void note_told(struct audience *a, const struct event *e)
{
    if (e->kind == EVENT_MESSAGE && e->position != NULL)
        a->told = *e->position;
}

static struct msg *audience_encode(const struct audience *a, const struct event *e)
{
    struct buf bytes = BUF_INIT;
    a->protocol->encode(a->protocol, e, &bytes);
    metrics->encodes++;
    struct msg *m = msg_new(buf_slice(&bytes));
    buf_fini(&bytes);
    return m;
}

/* For the rare event that one member must not get: sent at once, one by one. */
static void audience_send_except(struct room *r, struct audience *a, const struct event *e,
                                 const struct session *except)
{
    audience_flush(r, a);
    struct msg *m = audience_encode(a, e);
    struct trailed t = {m, r, a->recovers && e->kind == EVENT_MESSAGE ? &at_once : NULL, 1, NULL};
    enum policy_slow slow = slow_rule(r);
    note_told(a, e);
    for (uint32_t i = 0; i < a->count; i++) {
        const struct session *s = a->seats[i].session;
        if (s == except)
            continue;
        metrics->deliveries++;
        if (!trailed_send(&t, s, slow))
            note_behind(r, a->seats[i].member);
    }
    trailed_fini(&t);
    msg_unref(&m);
}

/* A message that was lost and is back: who has seen it is told its new position only. */
static void audience_return(struct room *r, struct audience *a, const struct event *e, const struct session *except,
                            const struct sight *sight)
{
    audience_flush(r, a);
    struct msg *m = audience_encode(a, e);
    struct msg *mark = audience_encode(
        a,
        &(struct event){
            .kind = EVENT_RECOVERED, .room = r->name, .recovered = true, .position = e->position, .total = r->total});
    struct trailed t = {m, r, a->recovers ? &at_once : NULL, 1, NULL};
    enum policy_slow slow = slow_rule(r);
    note_told(a, e);
    for (uint32_t i = 0; i < a->count; i++) {
        const struct seat *seat = &a->seats[i];
        if (seat->session == except)
            continue;
        bool seen = fork_seen_by(seat->member, sight);
        metrics->deliveries += !seen;
        if (!(seen ? conn_send(seat->session->conn, mark, slow) : trailed_send(&t, seat->session, slow)))
            note_behind(r, seat->member);
    }
    trailed_fini(&t);
    msg_unref(&m);
    msg_unref(&mark);
}

void room_tell(struct room *r, const struct event *e, const struct session *except)
{
    list_for_each (it, &r->audiences) {
        struct audience *a = list_entry(it, struct audience, in_room);
        if (except != NULL && except->conn != NULL && except->conn->protocol == a->protocol)
            audience_send_except(r, a, e, except);
        else
            audience_add(r, a, e);
    }
}

void room_tell_returned(struct room *r, const struct event *e, const struct session *except, const struct sight *sight)
{
    list_for_each (it, &r->audiences) {
        audience_return(r, list_entry(it, struct audience, in_room), e, except, sight);
    }
}

void room_pass(struct room *r, const struct position *at)
{
    room_flush(r);
    list_for_each (it, &r->audiences) {
        list_entry(it, struct audience, in_room)->told = *at;
    }
}

/* --- audiences --- */

struct audience *audience_get(struct room *r, const struct protocol_ops *protocol)
{
    list_for_each (it, &r->audiences) {
        struct audience *a = list_entry(it, struct audience, in_room);
        if (a->protocol == protocol)
            return a;
    }
    struct audience *a = xcalloc(1, sizeof *a);
    a->protocol = protocol;
    a->tracked = sio_protocol_of(protocol) != NULL;
    a->recovers = a->tracked && sio_protocol_of(protocol)->recovers;
    list_append(&r->audiences, &a->in_room);
    return a;
}

void audience_enter(struct audience *a, struct member *m)
{
    if (a->count == a->cap) {
        a->cap = a->cap != 0 ? a->cap * 2 : 4;
        a->seats = xrealloc(a->seats, a->cap * sizeof *a->seats);
    }
    m->audience = a;
    m->seat = a->count++;
    a->seats[m->seat] = (struct seat){m, m->session};
    if (m->room->gw->emitter != NULL)
        emitter_enter(m->room->gw->emitter, m);
}

/* The last one takes the seat. */
void audience_leave(struct member *m)
{
    if (m->room->gw->emitter != NULL)
        emitter_leave(m->room->gw->emitter, m);
    struct audience *a = TAKE(m->audience);
    const struct seat last = a->seats[--a->count];
    a->seats[m->seat] = last;
    last.member->seat = m->seat;
    if (a->count != 0)
        return;
    list_del(&a->in_room);
    buf_fini(&a->batch);
    free(a->seats);
    free(a->starts);
    free(a);
}

void room_set_aside(struct room *r)
{
    if (list_empty(&r->behind))
        return;
    room_flush(r);
    while (!list_empty(&r->behind)) {
        struct member *m = list_first(&r->behind, struct member, in_room);
        list_del(&m->in_room);
        if (m->session->conn == NULL || m->session->conn->state != CONN_OPEN)
            continue; /* it is leaving */
        audience_leave(m);
        m->phase = MEMBER_JOINING;
        m->returning = true;
        list_append(&r->waiting, &m->in_room);
        metrics->set_aside++;
        catchup_behind(m);
    }
}

void audiences_init(struct room *r)
{
    list_init(&r->audiences);
    list_init(&r->behind);
    task_init(&r->flush, on_flush);
}
