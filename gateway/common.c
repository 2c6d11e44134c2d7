/* gateway/common.c: rooms that whoever connects is in. */
#include "gateway/common.h"

#include "gateway/audience.h"
#include "gateway/catchup.h"
#include "gateway/conn.h"
#include "gateway/engine.h"
#include "gateway/gateway.h"
#include "gateway/protocol/socketio_offset.h"
#include "gateway/resume.h"
#include "gateway/room.h"
#include "gateway/session.h"
#include "gateway/trail.h"

#define ALL "$all"

bool common_keeps(const struct room *r)
{
    return r->gw->cfg->socketio_recovery &&
           (slice_eq(r->name, SLICE(ALL)) || slice_starts(r->name, SLICE(NAMESPACE_ROOM)));
}

static bool waits(const struct member *m)
{
    return m->implicit && !m->inbox && m->phase == MEMBER_JOINING && m->catchup == NULL;
}

void common_start(struct member *m)
{
    struct session *s = m->session;
    if (!trail_needed(s)) {
        catchup_kept(m);
        return;
    }
    m->kept = true;
    if (!stream_begin(m->room))
        return; /* room_begun() follows */
    if (s->resume == NULL && !m->returning) {
        m->has_seen = true;
        m->seen.at = m->room->stream.last;
        member_activate(m);
    } else if (!m->counted) { /* until it is welcome back */
        m->counted = true;
        session_opened_part(s);
    }
}

void common_welcome(struct session *s, const struct resume *r)
{
    list_for_each_safe (it, &s->members) {
        struct member *m = list_entry(it, struct member, in_session);
        if (!m->kept || !waits(m))
            continue;
        const struct seen *seen = resume_seen(r, m->room->name);
        m->returning = m->presented = true;
        m->has_seen = seen != NULL;
        if (seen != NULL)
            m->seen = *seen;
        catchup_begin(m);
    }
}

struct room_name {
    char text[sizeof NAMESPACE_ROOM + SIO_NAMESPACE_MAX];
};

static struct slice namespace_name(const struct sio_protocol *p, struct room_name *name)
{
    memcpy(name->text, NAMESPACE_ROOM, sizeof NAMESPACE_ROOM - 1);
    memcpy(name->text + sizeof NAMESPACE_ROOM - 1, p->nsp.p, p->nsp.n);
    return (struct slice){name->text, sizeof NAMESPACE_ROOM - 1 + p->nsp.n};
}

void common_each_name(const struct sio_protocol *p, void (*fn)(void *arg, struct slice name), void *arg)
{
    struct room_name name;
    fn(arg, SLICE(ALL));
    fn(arg, namespace_name(p, &name));
}

static void append(const struct room *r, const struct sio_protocol *p, struct buf *ret)
{
    list_for_each (it, &r->audiences) {
        const struct audience *a = list_entry(it, struct audience, in_room);
        if (a->protocol == &p->ops)
            sio_offset_append(ret, r->name, &a->told);
    }
}

void common_append(struct gateway *g, const struct sio_protocol *p, const struct room *except, struct buf *ret)
{
    struct room_name name;
    const struct room *own = room_find(g, namespace_name(p, &name));
    if (g->all != except)
        append(g->all, p, ret);
    if (own != NULL && own != except)
        append(own, p, ret);
}
