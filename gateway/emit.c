/* gateway/emit.c: who is meant by an emission, and sending it to them. */
#include "gateway/emit.h"

#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/acks.h"
#include "gateway/audience.h"
#include "gateway/conn.h"
#include "gateway/engine.h"
#include "gateway/fork.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "gateway/room.h"
#include "gateway/session.h"
#include "gateway/trail.h"

/* --- names --- */

bool emit_room_name(struct slice nsp, struct slice room, char bytes[NAME_MAX_ROOM], struct slice *ret)
{
    size_t before = slice_eq(nsp, SLICE("/")) ? 0 : nsp.n + 1;
    if (room.n == 0 || room.p[0] == '$' || before + room.n > NAME_MAX_ROOM)
        return false;
    if (before != 0) {
        memcpy(bytes, nsp.p, nsp.n);
        bytes[nsp.n] = ',';
    }
    memcpy(bytes + before, room.p, room.n);
    *ret = (struct slice){bytes, before + room.n};
    return utf8_name_valid(*ret, NAME_MAX_ROOM);
}

static struct room *room_of_namespace(struct gateway *g, struct slice nsp)
{
    char name[sizeof NAMESPACE_ROOM + SIO_NAMESPACE_MAX];
    if (nsp.n > SIO_NAMESPACE_MAX)
        return NULL;
    memcpy(name, NAMESPACE_ROOM, sizeof NAMESPACE_ROOM - 1);
    memcpy(name + sizeof NAMESPACE_ROOM - 1, nsp.p, nsp.n);
    return room_find(g, (struct slice){name, sizeof NAMESPACE_ROOM - 1 + nsp.n});
}

bool emit_has(struct gateway *g, struct slice nsp)
{
    return room_of_namespace(g, nsp) != NULL;
}

static struct room *room_of(struct gateway *g, struct slice nsp, struct slice room)
{
    char bytes[NAME_MAX_ROOM];
    struct slice name;
    return emit_room_name(nsp, room, bytes, &name) ? room_find(g, name) : NULL;
}

/* --- who is meant --- */

typedef void session_fn(void *arg, struct session *s);

/* A walk over some of a namespace's sessions: each of them once, because it is marked. */
struct walk {
    struct gateway *g;
    struct slice nsp;
    session_fn *fn; /* NULL: only marks */
    void *arg;
    const struct room *log;    /* the room whose log it is in; NULL: in none */
    const struct sight *sight; /* it may have been told before; NULL: it was not */
};

static bool in_namespace(const struct protocol_ops *ops, struct slice nsp)
{
    const struct sio_protocol *p = sio_protocol_of(ops);
    return p != NULL && slice_eq(p->nsp, nsp);
}

/* Whoever is still being told what it missed gets it from the log. */
static bool hears(const struct walk *w, const struct session *s)
{
    if (w->log == NULL || (w->sight == NULL && s->returning == 0 && s->state == SESSION_ACTIVE))
        return true;
    const struct member *m = session_member(s, w->log->name);
    return m != NULL && m->phase == MEMBER_JOINED && (w->sight == NULL || !fork_seen_by(m, w->sight));
}

static void visit(const struct walk *w, struct session *s)
{
    if (s->emission == w->g->last_emission || s->conn == NULL)
        return;
    s->emission = w->g->last_emission;
    if (w->fn != NULL && hears(w, s))
        w->fn(w->arg, s);
}

/* Those who are on their way back to the room, too: if they are level with the log of the namespace, nothing else would tell them. */
static void visit_waiting(const struct walk *w, const struct room *r)
{
    list_for_each (it, &r->waiting) {
        const struct member *m = list_entry(it, struct member, in_room);
        const struct conn *c = m->session->conn;
        if (c != NULL && member_may_publish(m) && in_namespace(c->protocol, w->nsp))
            visit(w, m->session);
    }
}

static void visit_room(const struct walk *w, struct room *r)
{
    if (r == NULL)
        return;
    if (w->fn != NULL)
        room_flush(r); /* what was said before this goes first */
    list_for_each (it, &r->audiences) {
        const struct audience *a = list_entry(it, struct audience, in_room);
        if (!in_namespace(a->protocol, w->nsp))
            continue;
        for (uint32_t i = 0; i < a->count; i++)
            visit(w, a->seats[i].session);
    }
    if (w->log != NULL)
        visit_waiting(w, r);
}

/* The id of a socket is a room that nobody else is in. */
static void visit_names(const struct walk *w, const struct slice *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct session *s;
        HASH_FIND(hh, w->g->sessions, names[i].p, names[i].n, s);
        if (s != NULL && s->conn != NULL && in_namespace(s->conn->protocol, w->nsp))
            visit(w, s);
        visit_room(w, room_of(w->g, w->nsp, names[i]));
    }
}

static void walk(const struct walk *with, const struct emission_target *to)
{
    struct walk without = *with;
    without.fn = NULL;
    with->g->last_emission++;
    visit_names(&without, to->except, to->except_count);
    if (to->room_count == 0)
        visit_room(with, room_of_namespace(with->g, to->nsp));
    else
        visit_names(with, to->rooms, to->room_count);
}

void emit_each(struct gateway *g, const struct emission_target *to, void (*fn)(void *arg, struct session *s), void *arg)
{
    walk(&(struct walk){.g = g, .nsp = to->nsp, .fn = fn, .arg = arg}, to);
}

/* --- sending --- */

struct sending {
    const struct emission *e;
    struct event event;
    struct acks *acks;
    struct trailed encoded[2]; /* for each revision, once somebody needs it */
};

static struct trailed *encode(struct sending *s, const struct protocol_ops *ops)
{
    static const uint32_t begins = 0;
    const struct sio_protocol *p = sio_protocol_of(ops);
    struct trailed *t = &s->encoded[p->revision == EIO_4];
    if (t->msg != NULL)
        return t;
    struct buf bytes = BUF_INIT;
    ops->encode(ops, &s->event, &bytes);
    metrics->encodes++;
    /* The library does not look for an offset in an event that asks for an ack. */
    *t = (struct trailed){
        .msg = msg_new(buf_slice(&bytes)), .starts = s->acks == NULL && p->recovers ? &begins : NULL, .count = 1};
    buf_fini(&bytes);
    return t;
}

static void send_to(void *arg, struct session *s)
{
    struct sending *sending = arg;
    struct conn *c = s->conn;
    if (sending->e->is_volatile && (c->state != CONN_OPEN || c->out.count != 0 || channel_waits(c->channel))) {
        metrics->drops[DROP_VOLATILE]++;
        return;
    }
    metrics->deliveries++;
    (void)trailed_send(encode(sending, c->protocol), s, POLICY_SLOW_DEFAULT);
    if (sending->acks != NULL)
        acks_expect(sending->acks, s);
}

static struct event event_of(const struct emission *e)
{
    return (struct event){.kind = EVENT_MESSAGE, .name = e->event, .data = e->data, .data_type = DATA_JSON};
}

static void send_all(struct sending *s, struct walk *w)
{
    w->nsp = s->e->to.nsp;
    w->fn = send_to;
    w->arg = s;
    walk(w, &s->e->to);
    for (size_t i = 0; i < ARRAY_LEN(s->encoded); i++) {
        struct trailed *t = &s->encoded[i];
        trailed_fini(t);
        if (t->msg != NULL)
            msg_unref(&t->msg);
    }
}

void emit_here(struct gateway *g, const struct emission *e, struct acks *acks, uint64_t id)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)id);
    struct sending s = {.e = e, .acks = acks, .event = event_of(e)};
    if (acks != NULL) {
        s.event.id = slice_str(text);
        s.event.asks = true;
    }
    send_all(&s, &(struct walk){.g = g});
}

/* --- those in a log --- */

/* It says itself for which namespace it is; another one's log is not where it belongs. */
static bool read_logged(const struct room *r, struct slice data, struct arena *a, struct emission *ret)
{
    struct error error;
    if (emission_read_json(data, a, ret, &error) == OK && room_of_namespace(r->gw, ret->to.nsp) == r)
        return true;
    LOG_PEER(WARN, "no emission of this namespace", "room=%s", log_q(r->name));
    return false;
}

/* What waits in the rooms that it is for was said before it, and must not go out saying that this has been told. */
static void flush_rooms(struct gateway *g, const struct emission_target *to)
{
    for (size_t i = 0; i < to->room_count; i++) {
        struct room *room = room_of(g, to->nsp, to->rooms[i]);
        if (room != NULL)
            room_flush(room);
    }
}

void emit_logged(struct room *r, const struct envelope *envelope, const struct sight *sight)
{
    struct emission e;
    struct arena arena;
    arena_init(&arena, EMISSION_ARENA(envelope->data.n));
    bool readable = read_logged(r, envelope->data, &arena, &e);
    if (readable)
        flush_rooms(r->gw, &e.to);
    room_pass(r, &envelope->position);
    if (readable) {
        struct sending s = {.e = &e, .event = event_of(&e)};
        send_all(&s, &(struct walk){.g = r->gw, .log = r, .sight = sight});
    }
    arena_reset(&arena);
}

static bool is_among(const struct session *s, struct slice nsp, const struct slice *names, size_t count)
{
    char bytes[NAME_MAX_ROOM];
    struct slice name;
    for (size_t i = 0; i < count; i++) {
        if (slice_eq(names[i], slice_str(s->sid)))
            return true;
        const struct member *m = emit_room_name(nsp, names[i], bytes, &name) ? session_member(s, name) : NULL;
        if (m != NULL && member_may_publish(m))
            return true;
    }
    return false;
}

static bool is_meant(const struct session *s, const struct emission_target *to)
{
    return (to->room_count == 0 || is_among(s, to->nsp, to->rooms, to->room_count)) &&
           !is_among(s, to->nsp, to->except, to->except_count);
}

void emit_missed(const struct member *m, const struct message_record *r)
{
    struct emission e;
    struct arena arena;
    arena_init(&arena, EMISSION_ARENA(r->data.n));
    if (read_logged(m->room, r->data, &arena, &e) && is_meant(m->session, &e.to)) {
        struct event event = event_of(&e);
        event.room = m->room->name;
        event.position = &r->position;
        metrics->replayed++;
        conn_event(m->session->conn, &event);
    }
    arena_reset(&arena);
}
