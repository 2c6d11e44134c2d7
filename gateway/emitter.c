/* gateway/emitter.c: the channels of Redis emitters, and what comes on them. */
#include "gateway/emitter.h"

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "gateway/conn.h"
#include "gateway/control.h"
#include "gateway/emit.h"
#include "gateway/engine.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "gateway/room.h"
#include "gateway/session.h"

#define EXTRA_BYTES 65536u /* what a message may have besides its data: names of rooms */
#define ARENA_BYTES 65536u

/* A channel that is listened to. */
struct foreign {
    UT_hash_handle hh; /* by name */
    uint32_t refs;     /* memberships that want it */
    bool requests;
    struct slice nsp; /* in name */
    size_t name_n;
    char name[];
};

struct emitter {
    struct gateway *gw;
    struct foreign *channels;
    struct buf name; /* scratch */
};

/* --- channels --- */

/* `<key>[-request]#<nsp>#[<room>#]`; *ret_at: where the namespace begins. */
static struct slice channel_name(struct emitter *e, bool requests, struct slice nsp, struct slice room, size_t *ret_at)
{
    struct buf *b = &e->name;
    buf_clear(b);
    buf_append_str(b, e->gw->cfg->socketio_emitter_key);
    buf_append_str(b, requests ? "-request#" : "#");
    *ret_at = b->n;
    buf_append(b, nsp);
    buf_append_char(b, '#');
    if (room.n != 0) {
        buf_append(b, room);
        buf_append_char(b, '#');
    }
    return buf_slice(b);
}

static struct foreign *find(const struct emitter *e, struct slice name)
{
    struct foreign *f;
    HASH_FIND(hh, e->channels, name.p, name.n, f);
    return f;
}

static void want(struct emitter *e, bool requests, struct slice nsp, struct slice room)
{
    size_t at;
    struct slice name = channel_name(e, requests, nsp, room, &at);
    struct foreign *f = find(e, name);
    if (f == NULL) {
        f = xcalloc(1, sizeof *f + name.n);
        memcpy(f->name, name.p, name.n);
        f->name_n = name.n;
        f->requests = requests;
        f->nsp = (struct slice){f->name + at, nsp.n};
        HASH_ADD_KEYPTR(hh, e->channels, f->name, f->name_n, f);
        e->gw->broker->ops->hear(e->gw->broker, name);
    }
    f->refs++;
}

static void want_not(struct emitter *e, bool requests, struct slice nsp, struct slice room)
{
    size_t at;
    struct slice name = channel_name(e, requests, nsp, room, &at);
    struct foreign *f = find(e, name);
    if (f == NULL || --f->refs != 0)
        return;
    if (e->gw->broker != NULL)
        e->gw->broker->ops->hear_no_more(e->gw->broker, name);
    HASH_DELETE(hh, e->channels, f);
    free(f);
}

/* What a membership wants: its room's channel; that of the namespace's own room stands for the namespace, and for the socket. */
static void each_channel(struct emitter *e, const struct member *m,
                         void (*fn)(struct emitter *, bool, struct slice, struct slice))
{
    const struct sio_protocol *p = sio_protocol_of(m->audience->protocol);
    struct slice room = m->room->name;
    if (p == NULL)
        return;
    if (slice_starts(room, SLICE(NAMESPACE_ROOM))) {
        fn(e, false, p->nsp, SLICE_NONE);
        fn(e, true, p->nsp, SLICE_NONE);
        fn(e, false, p->nsp, slice_str(m->session->sid));
        return;
    }
    if (room.p[0] == '$')
        return;
    if (!slice_eq(p->nsp, SLICE("/"))) { /* a room of another namespace cannot be named here */
        if (!slice_starts(room, p->nsp) || room.n < p->nsp.n + 2 || room.p[p->nsp.n] != ',')
            return;
        room = slice_from(room, p->nsp.n + 1);
    }
    fn(e, false, p->nsp, room);
}

void emitter_enter(struct emitter *e, const struct member *m)
{
    each_channel(e, m, want);
}

void emitter_leave(struct emitter *e, const struct member *m)
{
    each_channel(e, m, want_not);
}

/* --- what is asked for sockets --- */

struct order {
    const struct emitter_request *request;
    struct slice nsp;
    struct session **sessions; /* first collected: what is done to them changes the rooms */
    size_t count, cap;
    const struct emitter_wait *wait;
};

static void collect(void *arg, struct session *s)
{
    struct order *o = arg;
    if (s->state != SESSION_ACTIVE)
        return;
    if (o->count == o->cap) {
        o->cap = o->cap != 0 ? o->cap * 2 : 16;
        o->sessions = xrealloc(o->sessions, o->cap * sizeof(struct session *));
    }
    o->sessions[o->count++] = s;
}

static void disconnect(const struct order *o, struct session *s)
{
    struct channel *ch = s->conn->channel;
    session_expel(s, err_close_code(ERR_FORBIDDEN), SLICE("kicked"), 0, NULL);
    if (o->request->close && ch != NULL)
        channel_close_connection(ch);
}

static void move(const struct order *o, struct session *s, struct slice room)
{
    char bytes[NAME_MAX_ROOM];
    struct slice name;
    struct error error = {0};
    if (!emit_room_name(o->nsp, room, bytes, &name)) {
        (void)fail(&error, ERR_INVALID_NAME, "a room whose name is none here");
    } else {
        struct control_job *job = o->wait != NULL ? o->wait->job(o->wait->arg) : NULL;
        enum err err = o->request->verb == EMITTER_JOIN ? command_join_for(s, name, job, &error)
                                                        : command_leave_for(s, name, SLICE("kicked"), job, &error);
        if (err != OK)
            control_job_done(&job, err, error.text);
    }
    if (error.code != OK && error.code != ERR_NOT_MEMBER)
        LOG_PEER(INFO, "an emitter's request was not carried out", "session=%s room=%s code=%s why=%s", s->sid,
                 log_q(room), err_name(error.code), error.text);
}

void emitter_carry_out(struct gateway *g, const struct emitter_request *request, const struct emitter_wait *wait)
{
    struct order o = {.request = request, .nsp = request->to.nsp, .wait = wait};
    emit_each(g, &request->to, collect, &o);
    for (size_t i = 0; i < o.count; i++) {
        struct session *s = o.sessions[i];
        metrics->controls_done++;
        if (request->verb == EMITTER_DISCONNECT)
            disconnect(&o, s);
        for (size_t k = 0; k < request->room_count && s->conn != NULL; k++)
            move(&o, s, request->rooms[k]);
    }
    free(o.sessions);
}

static enum err take_request(struct emitter *e, const struct foreign *f, struct slice body, struct error *reterr)
{
    struct emitter_request request;
    struct arena arena;
    arena_init(&arena, ARENA_BYTES);
    enum err err = emitter_read_request(body, &arena, &request, reterr);
    if (err == OK) {
        request.to.nsp = f->nsp;
        emitter_carry_out(e->gw, &request, NULL);
    }
    arena_reset(&arena);
    return err;
}

/* --- messages --- */

static enum err take_emission(struct emitter *e, const struct foreign *f, struct slice body, struct error *reterr)
{
    struct emission emission;
    enum err err = emission_read_msgpack(body, e->gw->cfg->max_message_size, &emission, reterr);
    if (err != OK)
        return err;
    if (slice_eq(emission.to.nsp, f->nsp))
        emit_here(e->gw, &emission, NULL, 0);
    else
        err = fail(reterr, ERR_BAD_REQUEST, "a packet for another namespace than that of its channel");
    emission_fini(&emission);
    return err;
}

void emitter_heard(struct emitter *e, struct slice channel, struct slice body)
{
    const struct foreign *f = find(e, channel);
    struct error error = {0};
    if (f == NULL)
        return; /* the last one who wanted it has just gone */
    metrics->emitter_messages++;
    size_t most = (size_t)e->gw->cfg->max_message_size + EXTRA_BYTES;
    enum err err = body.n > most ? fail(&error, ERR_TOO_LARGE, "%zu bytes, at most %zu allowed", body.n, most)
                   : f->requests ? take_request(e, f, body, &error)
                                 : take_emission(e, f, body, &error);
    if (err == OK)
        return;
    metrics->drops[DROP_EMITTER]++;
    LOG_PEER(WARN, "a message of a Redis emitter was dropped", "channel=%s bytes=%zu code=%s why=%s", log_q(channel),
             body.n, err_name(err), error.text);
}

/* --- life --- */

struct emitter *emitter_create(struct gateway *g)
{
    if (g->cfg->socketio_emitter != EMITTER_CLASSIC && g->cfg->socketio_emitter != EMITTER_BOTH)
        return NULL;
    struct emitter *e = xcalloc(1, sizeof *e);
    e->gw = g;
    want(e, false, SLICE("/"),
         SLICE_NONE); /* always: an ACL that forbids it shows at the start, not with the first client */
    return e;
}

void emitter_destroy(struct emitter **ep)
{
    struct emitter *e = TAKE(*ep);
    if (e == NULL)
        return;
    struct foreign *f, *next;
    HASH_ITER (hh, e->channels, f, next) {
        HASH_DELETE(hh, e->channels, f);
        free(f);
    }
    buf_fini(&e->name);
    free(e);
}
