/* gateway/trail.c: how far a session has been told of its rooms. */
#include "gateway/trail.h"

#include "base/msg.h"
#include "gateway/catchup.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/inbox.h"
#include "gateway/protocol/socketio.h"
#include "gateway/protocol/socketio_offset.h"
#include "gateway/room.h"
#include "gateway/session.h"

/* Everything up to it has been sent, or is queued. NULL: not told anything yet. */
static const struct position *told_of(const struct member *m)
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
    return !m->implicit || m->inbox;
}

const struct position *trail_told(const struct member *m)
{
    return has_positions(m) ? told_of(m) : NULL;
}

void trail_append(const struct session *s, const struct room *except, struct buf *ret)
{
    list_for_each (it, &s->members) {
        const struct member *m = list_entry(it, struct member, in_session);
        const struct position *told = m->room != except ? trail_told(m) : NULL;
        if (told != NULL)
            sio_offset_append(ret, m->room->name, told);
    }
}

static bool recovers(const struct session *s)
{
    const struct sio_protocol *p =
        s != NULL && s->conn != NULL && s->conn->channel != NULL ? sio_protocol_of(s->conn->protocol) : NULL;
    return p != NULL && p->recovers;
}

/* Most are in no other room: that is known without looking at each. */
static struct slice trail_of(const struct session *s, const struct room *own)
{
    struct buf *b = &s->gw->trail;
    uint32_t rooms = s->member_count + s->has_inbox;
    bool counted = own != NULL && (own->name.p[0] != '$' || inbox_keeps(own));
    buf_clear(b);
    if (rooms > counted)
        trail_append(s, own, b);
    return buf_slice(b);
}

bool trailed_send(const struct trailed *t, const struct session *s, enum policy_slow slow)
{
    struct slice trail = t->starts != NULL && t->count != 0 ? trail_of(s, t->room) : SLICE_NONE;
    if (trail.n == 0)
        return conn_send(s->conn, t->msg, slow);
    struct buf *b = &s->gw->trailed;
    buf_clear(b);
    sio_trail_insert(msg_slice(t->msg), t->starts, t->count, trail, b);
    return conn_send_own(s->conn, buf_slice(b), slow);
}

void trail_set(const struct session *s, struct event *e)
{
    if (e->kind == EVENT_MESSAGE && recovers(s))
        e->trail = trail_of(s, room_find(s->gw, e->room));
}

void trail_entered(const struct member *m)
{
    const struct session *s = m->session;
    if (!has_positions(m) || (m->presented && m->whole) || !recovers(s))
        return;
    struct buf *b = &s->gw->trailed;
    buf_clear(b);
    sio_offset_event_append(b, sio_protocol_of(s->conn->protocol)->nsp, trail_of(s, NULL));
    conn_append(s->conn, buf_slice(b));
}
