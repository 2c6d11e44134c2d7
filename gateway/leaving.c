/* gateway/leaving.c: connections by long-polling that go over to a WebSocket at another node. */
#include "gateway/leaving.h"

#include "base/log.h"
#include "base/mem.h"
#include "gateway/audience.h"
#include "gateway/conn.h"
#include "gateway/engine.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "gateway/move.h"
#include "gateway/polling.h"
#include "gateway/polling_record.h"
#include "gateway/probe.h"
#include "gateway/room.h"
#include "gateway/session.h"

#define GUEST_MS 20000u /* twice as long as the other node waits */
#define BUSY_MS  10u    /* between two looks whether anything is still under way */
#define TAKE_MS  5000u  /* what is under way must be done by then, or there is no going */

/* PROBED: the client tries its WebSocket. DECIDED: it has done with us; what it asked for last is under way. GIVEN: the other node takes its sessions. GONE: it has them. */
enum leaving_state { LEAVING_PROBED, LEAVING_DECIDED, LEAVING_GIVEN, LEAVING_GONE };

struct leaving {
    struct engine *engine; /* owns it */
    enum leaving_state state;
    struct timer timer;
    uint64_t end_ms;
    struct buf rooms;      /* those without a log, as they were told to the other node: a line each */
    struct slice id, node; /* of whoever asks */
    char bytes[];
};

static void say(struct gateway *g, const struct control_message *to, struct slice verb, struct slice data)
{
    struct control_message m = *to;
    m.verb = verb;
    m.data = data;
    if (g->broker != NULL)
        g->broker->ops->control_answer(g->broker, &m);
}

static void tell(const struct leaving *l, struct slice verb, struct slice data)
{
    say(l->engine->gw, &(struct control_message){.sid = slice_str(l->engine->sid), .id = l->id, .node = l->node}, verb,
        data);
}

void leaving_end(struct leaving **pointer)
{
    struct leaving *l = TAKE(*pointer);
    if (l == NULL)
        return;
    if (l->state != LEAVING_GONE)
        tell(l, SLICE(MOVE_VERBS "gone"), SLICE_NONE);
    timer_stop(&l->timer);
    if (l->engine->polling != NULL)
        polling_hurry(l->engine->polling, false);
    buf_fini(&l->rooms);
    free(l);
}

/* --- what there is to be told --- */

static void take_queue(struct conn *c, struct buf *ret)
{
    while (c->out.count != 0) {
        struct slice s = outq_front(&c->out);
        buf_append(ret, s);
        metrics->queue_bytes -= s.n;
        outq_taken(&c->out, s.n);
    }
}

/* A packet whose last attachments come by the WebSocket: what is here of it, each piece with its length before it. */
static void half_append(const struct sio_assembly *a, struct buf *ret)
{
    struct slice piece;
    for (uint32_t i = 0; sio_assembly_piece(a, i, &piece); i++) {
        buf_printf(ret, "%zu\n", piece.n);
        buf_append(ret, piece);
    }
}

/* The record and, if there is any, half a packet, with their lengths before them; then what waits for the client. */
static void tell_all(const struct leaving *l, struct slice verb, const struct buf *record, struct slice half,
                     struct conn *c)
{
    struct buf data = BUF_INIT;
    buf_printf(&data, "%zu", record->n);
    if (half.n != 0)
        buf_printf(&data, " %zu", half.n);
    buf_append_char(&data, '\n');
    buf_append(&data, buf_slice(record));
    buf_append(&data, half);
    take_queue(c, &data);
    tell(l, verb, buf_slice(&data));
    buf_fini(&data);
}

static bool has_sessions(const struct engine *e)
{
    list_for_each (it, &e->channels) {
        const struct session *s = list_entry(it, struct channel, link)->conn->session;
        if (s != NULL && !s->taken)
            return true;
    }
    return false;
}

bool leaving_goes(const struct leaving *l)
{
    return l != NULL && l->state == LEAVING_GIVEN;
}

void leaving_taken(const struct session *s)
{
    struct channel *ch = s->conn != NULL ? s->conn->channel : NULL;
    struct leaving *l = ch != NULL ? ch->engine->leaving : NULL;
    struct buf record = BUF_INIT;
    if (!leaving_goes(l) || s->taken)
        return;
    list_for_each (it, &s->members) {
        room_flush(list_entry(it, struct member, in_session)->room);
    }
    record_append_one(ch, &record);
    tell_all(l, SLICE(MOVE_VERBS "rest"), &record, SLICE_NONE, s->conn);
    buf_fini(&record);
    timer_start(&l->timer, 0); /* perhaps it was the last */
}

/* What is said in a room without a log, or without a place in its order where a member comes in, must be heard at the other node before it is told no more here. */
static void rooms_append(const struct engine *e, struct buf *ret)
{
    list_for_each (it, &e->channels) {
        const struct session *s = list_entry(it, struct channel, link)->conn->session;
        if (s == NULL)
            continue;
        list_for_each (at, &s->members) {
            const struct member *m = list_entry(at, struct member, in_session);
            if (m->room->policy->retain_count != 0 && !m->implicit)
                continue;
            buf_append(ret, m->room->name);
            buf_append_char(ret, '\n');
        }
    }
}

/* --- going --- */

/* Nothing that its client has asked for is to be answered still. */
static bool is_settled(const struct engine *e)
{
    if (!polling_is_still(e->polling) || namespaces_opening(e) || e->held.n != 0)
        return false;
    list_for_each (it, &e->channels) {
        const struct channel *ch = list_entry(it, struct channel, link);
        const struct session *s = ch->conn->session;
        if (ch->ended || s == NULL || s->state != SESSION_ACTIVE || ch->conn->state != CONN_OPEN || s->requests != 0 ||
            !list_empty(&s->asks))
            return false;
    }
    return true;
}

/* The other node asks again when it hears those that are new. */
static bool has_new_rooms(struct leaving *l)
{
    struct buf now = BUF_INIT;
    rooms_append(l->engine, &now);
    bool same = slice_eq(buf_slice(&now), buf_slice(&l->rooms));
    buf_fini(&l->rooms);
    l->rooms = now;
    return !same;
}

static void give(struct leaving *l)
{
    struct engine *e = l->engine;
    struct buf record = BUF_INIT, half = BUF_INIT;
    if (has_new_rooms(l)) {
        l->state = LEAVING_PROBED;
        timer_start(&l->timer, GUEST_MS);
        tell(l, SLICE(MOVE_VERBS "ready"), buf_slice(&l->rooms));
        return;
    }
    l->state = LEAVING_GIVEN;
    record_append(e, false, &record);
    half_append(&e->assembly, &half);
    tell_all(l, SLICE(MOVE_VERBS "given"), &record, buf_slice(&half), e->conn);
    buf_fini(&record);
    buf_fini(&half);
    timer_stop(&e->heartbeat);
    timer_stop(&e->patience);
    timer_start(&l->timer, has_sessions(e) ? TAKE_MS : 0);
}

/* Its client waits at the other node, and is told there that nothing comes of it. */
static void fail_to_go(struct leaving *l)
{
    struct engine *e = l->engine;
    conn_close(e->conn, 1001, SLICE_NONE);
    polling_drop(e->polling, "timeout");
    leaving_end(&e->leaving);
}

static void go(struct leaving *l)
{
    struct engine *e = l->engine;
    LOG(DEBUG, "connection moved", "engine=%.6s to=%s", e->sid, log_q(l->node));
    l->state = LEAVING_GONE;
    polling_release(&e->polling, e->conn);
}

static void on_timer(struct timer *t)
{
    struct leaving *l = container_of(t, struct leaving, timer);
    struct engine *e = l->engine;
    bool late = loop_now_ms(e->gw->loop) >= l->end_ms;
    if (l->state == LEAVING_PROBED)
        leaving_end(&e->leaving); /* the other node has forgotten it, or is no more */
    else if (l->state == LEAVING_GIVEN && !has_sessions(e))
        go(l);
    else if (l->state == LEAVING_GIVEN && !late)
        timer_start(&l->timer, TAKE_MS);
    else if (late)
        fail_to_go(l);
    else if (is_settled(e))
        give(l);
    else
        timer_start(&l->timer, BUSY_MS);
}

/* --- what is asked --- */

static struct leaving *leaving_create(struct engine *e, const struct envelope *asked)
{
    struct leaving *l = xcalloc(1, sizeof *l + asked->id.n + asked->node.n);
    char *at = l->bytes;
    l->engine = e;
    memcpy(at, asked->id.p, asked->id.n);
    l->id = (struct slice){at, asked->id.n};
    at += asked->id.n;
    memcpy(at, asked->node.p, asked->node.n);
    l->node = (struct slice){at, asked->node.n};
    timer_init(&l->timer, e->gw->loop, on_timer);
    timer_start(&l->timer, GUEST_MS);
    return l;
}

static void probed(struct engine *e, const struct envelope *asked)
{
    struct leaving *l = leaving_create(e, asked);
    e->leaving = l;
    polling_hurry(e->polling, true);
    rooms_append(e, &l->rooms);
    tell(l, SLICE(MOVE_VERBS "ready"), buf_slice(&l->rooms));
}

static void decided(struct leaving *l)
{
    if (l->state != LEAVING_PROBED)
        return; /* it came twice */
    l->state = LEAVING_DECIDED;
    l->end_ms = loop_now_ms(l->engine->gw->loop) + TAKE_MS;
    timer_start(&l->timer, 0);
}

static bool may_be_probed(const struct engine *e, struct slice revision)
{
    return slice_eq(revision, e->revision == EIO_4 ? SLICE("4") : SLICE("3")) && e->polling != NULL && e->listed &&
           e->conn->state == CONN_OPEN && e->returning == 0 && e->probe == NULL && e->leaving == NULL;
}

void leaving_asked(struct gateway *g, const struct envelope *asked)
{
    const struct control_message back = {.sid = asked->from, .id = asked->id, .node = asked->node};
    struct engine *e = engine_find(g, asked->from);
    struct leaving *l = e != NULL ? e->leaving : NULL;
    bool same = l != NULL && slice_eq(l->id, asked->id) && slice_eq(l->node, asked->node);
    if (slice_eq(asked->event, SLICE(MOVE_VERBS "probe")) && !same) {
        if (e != NULL && may_be_probed(e, asked->data))
            probed(e, asked);
        else
            say(g, &back, e == NULL ? SLICE(MOVE_VERBS "unknown") : SLICE(MOVE_VERBS "refused"), SLICE_NONE);
    } else if (slice_eq(asked->event, SLICE(MOVE_VERBS "take"))) {
        if (same)
            decided(l); /* else it has ended, which was told */
    } else if (slice_eq(asked->event, SLICE(MOVE_VERBS "over")) && same && l->state == LEAVING_PROBED) {
        leaving_end(&e->leaving);
    }
}
