/* gateway/trail.c: how far a session has been told of its rooms. */
#include "gateway/trail.h"

#include <stdio.h>

#include "base/msg.h"
#include "gateway/catchup.h"
#include "gateway/common.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/inbox.h"
#include "gateway/protocol/socketio.h"
#include "gateway/protocol/socketio_offset.h"
#include "gateway/resume.h"
#include "gateway/room.h"
#include "gateway/session.h"

/* Everything up to it has been sent, or is queued. NULL: not told anything yet. */
const struct position *trail_told_ever(const struct member *m)
{
    const struct catchup *c = m->catchup;
    if (m->phase == MEMBER_JOINED)
        return &m->audience->told;
    if (c != NULL && !c->asking)
        return c->seeking || c->adopting ? &c->lost : &c->at;
    return m->phase == MEMBER_JOINING && m->has_seen ? &m->seen.at : NULL;
}

/* What is said in other rooms of the server's is in no log. */
static bool has_positions(const struct member *m)
{
    return !m->implicit || m->kept;
}

struct slice trail_session(const struct session *s, struct trail_name *name)
{
    int n = snprintf(name->text, sizeof name->text, "$session:%s", s->sid);
    return (struct slice){name->text, (size_t)n};
}

/* Until a session that is taken up again is welcome, its client has been told what it says. */
static void append_said(const struct resume *r, const struct room *except, struct buf *ret)
{
    for (size_t i = 0; i < r->position_count; i++) {
        const struct command_position *p = &r->positions[i];
        if (p->room.n != 0 && (except == NULL || !slice_eq(p->room, except->name)))
            sio_offset_append(ret, p->room, &p->seen.at);
    }
}

static void append_own(const struct session *s, struct buf *ret)
{
    struct trail_name name;
    if (s->told.offset != 0)
        sio_offset_append(ret, trail_session(s, &name), &s->told);
}

const struct position *trail_told(const struct member *m)
{
    return has_positions(m) ? trail_told_ever(m) : NULL;
}

void trail_append(const struct session *s, const struct room *except, struct buf *ret)
{
    append_own(s, ret);
    if (s->resume != NULL) {
        append_said(s->resume, except, ret);
        return;
    }
    list_for_each (it, &s->members) {
        const struct member *m = list_entry(it, struct member, in_session);
        const struct position *told = m->room != except ? trail_told(m) : NULL;
        if (told != NULL)
            sio_offset_append(ret, m->room->name, told);
    }
}

bool trail_needed(const struct session *s)
{
    const struct sio_protocol *p =
        s != NULL && s->conn != NULL && s->conn->channel != NULL ? sio_protocol_of(s->conn->protocol) : NULL;
    return p != NULL && p->recovers;
}

/* Most are in no room but this one and those that all are in, and are told nothing alone: that is known without looking at each. */
static bool is_common(const struct session *s, const struct room *own)
{
    uint32_t rooms = s->member_count + s->has_inbox;
    bool counted = own != NULL && (own->name.p[0] != '$' || inbox_keeps(own));
    return rooms == counted && s->told.offset == 0 && s->returning == 0 && s->state == SESSION_ACTIVE;
}

static struct slice trail_of(const struct session *s, const struct room *own)
{
    struct buf *b = &s->gw->trail;
    buf_clear(b);
    if (is_common(s, own))
        common_append(s->gw, sio_protocol_of(s->conn->protocol), own, b);
    else
        trail_append(s, own, b);
    return buf_slice(b);
}

/* The bytes with what is the same for most. */
static struct msg *shared(struct trailed *t, const struct session *s)
{
    struct buf *b = &s->gw->trailed;
    if (t->shared != NULL)
        return t->shared;
    buf_clear(b);
    sio_trail_insert(msg_slice(t->msg), t->starts, t->count, trail_of(s, t->room), b);
    t->shared = msg_new(buf_slice(b));
    return t->shared;
}

bool trailed_send(struct trailed *t, const struct session *s, enum policy_slow slow)
{
    if (t->starts == NULL || t->count == 0)
        return conn_send(s->conn, t->msg, slow);
    if (is_common(s, t->room))
        return conn_send(s->conn, shared(t, s), slow);
    struct buf *b = &s->gw->trailed;
    buf_clear(b);
    sio_trail_insert(msg_slice(t->msg), t->starts, t->count, trail_of(s, t->room), b);
    return conn_send_own(s->conn, buf_slice(b), slow);
}

void trailed_fini(struct trailed *t)
{
    if (t->shared != NULL)
        msg_unref(&t->shared);
}

void trail_set(const struct session *s, struct event *e)
{
    if (e->kind == EVENT_MESSAGE && trail_needed(s))
        e->trail = trail_of(s, room_find(s->gw, e->room));
}

struct slice trail_begin(const struct session *s)
{
    struct buf *b = &s->gw->trail;
    buf_clear(b);
    list_for_each (it, &s->members) {
        const struct member *m = list_entry(it, struct member, in_session);
        if (m->kept && m->has_seen)
            sio_offset_append(b, m->room->name, &m->seen.at);
    }
    return buf_slice(b);
}

static void tell(const struct session *s)
{
    if (s->state != SESSION_ACTIVE || !trail_needed(s))
        return;
    struct buf *b = &s->gw->trailed;
    buf_clear(b);
    sio_offset_event_append(b, sio_protocol_of(s->conn->protocol)->nsp, trail_of(s, NULL));
    conn_append(s->conn, buf_slice(b));
}

void trail_entered(const struct member *m)
{
    if (has_positions(m) && !(m->presented && m->whole))
        tell(m->session);
}

void trail_left(const struct member *m)
{
    tell(m->session);
}
