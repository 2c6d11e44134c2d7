/* gateway/emit.c: who is meant by an emission, and sending it to them. */
#include "gateway/emit.h"

#include <stdio.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/acks.h"
#include "gateway/audience.h"
#include "gateway/conn.h"
#include "gateway/engine.h"
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
};

static bool in_namespace(const struct protocol_ops *ops, struct slice nsp)
{
    const struct sio_protocol *p = sio_protocol_of(ops);
    return p != NULL && slice_eq(p->nsp, nsp);
}

static void visit(const struct walk *w, struct session *s)
{
    if (s->emission == w->g->last_emission || s->conn == NULL)
        return;
    s->emission = w->g->last_emission;
    if (w->fn != NULL)
        w->fn(w->arg, s);
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

void emit_each(struct gateway *g, const struct emission_target *to, void (*fn)(void *arg, struct session *s), void *arg)
{
    const struct walk without = {.g = g, .nsp = to->nsp}, with = {.g = g, .nsp = to->nsp, .fn = fn, .arg = arg};
    g->last_emission++;
    visit_names(&without, to->except, to->except_count);
    if (to->room_count == 0)
        visit_room(&with, room_of_namespace(g, to->nsp));
    else
        visit_names(&with, to->rooms, to->room_count);
}

/* --- sending --- */

struct sending {
    const struct emission *e;
    struct event event;
    struct acks *acks;
    struct msg *encoded[2]; /* for each revision, once somebody needs it */
};

static struct msg **place(struct sending *s, const struct protocol_ops *ops)
{
    return &s->encoded[sio_protocol_of(ops)->revision == EIO_4];
}

static struct msg *encode(struct sending *s, const struct protocol_ops *ops)
{
    struct msg **m = place(s, ops);
    if (*m != NULL)
        return *m;
    struct buf bytes = BUF_INIT;
    ops->encode(ops, &s->event, &bytes);
    metrics->encodes++;
    *m = msg_new(buf_slice(&bytes));
    buf_fini(&bytes);
    return *m;
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
    /* The library does not look for an offset in an event that asks for an ack. */
    static const uint32_t begins = 0;
    bool offset = sending->acks == NULL && sio_protocol_of(c->protocol)->recovers;
    const struct trailed t = {encode(sending, c->protocol), NULL, offset ? &begins : NULL, 1};
    (void)trailed_send(&t, s, POLICY_SLOW_DEFAULT);
    if (sending->acks != NULL)
        acks_expect(sending->acks, s);
}

void emit_here(struct gateway *g, const struct emission *e, struct acks *acks, uint64_t id)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)id);
    struct sending s = {.e = e,
                        .acks = acks,
                        .event = {.kind = EVENT_MESSAGE, .name = e->event, .data = e->data, .data_type = DATA_JSON}};
    if (acks != NULL) {
        s.event.id = slice_str(text);
        s.event.asks = true;
    }
    emit_each(g, &e->to, send_to, &s);
    for (size_t i = 0; i < ARRAY_LEN(s.encoded); i++)
        if (s.encoded[i] != NULL)
            msg_unref(&s.encoded[i]);
}
