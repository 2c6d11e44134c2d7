/* gateway/probe.c: from long-polling to a WebSocket: "2probe", "3probe", and "5" from the client, who by then has stopped asking. */
#include "gateway/probe.h"

#include "base/loop.h"
#include "base/mem.h"
#include "gateway/conn.h"
#include "gateway/engine.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "gateway/move.h"
#include "gateway/polling.h"

#define MESSAGE_MAX 125u /* until the "5" */

struct probe {
    struct conn *conn;     /* owns it */
    struct engine *engine; /* NULL: none (any more), or it is another node's: */
    struct move *move;     /* owned */
    struct timer timer;
    bool asked, answered; /* the probe */
    bool decided;         /* the other node has been told so: */
    struct buf held;      /* messages that came since */
};

static void on_timer(struct timer *t)
{
    const struct probe *p = container_of(t, struct probe, timer);
    bool wanted = p->engine != NULL || p->move != NULL;
    if (wanted)
        metrics->drops[DROP_HANDSHAKE_TIMEOUT]++;
    conn_close(p->conn, wanted ? 1008 : 1000, SLICE_NONE);
}

void probe_begin(struct conn *c, struct engine *e, struct move *m)
{
    struct probe *p = xcalloc(1, sizeof *p);
    p->conn = c;
    p->engine = e;
    p->move = m;
    timer_init(&p->timer, c->gw->loop, on_timer);
    timer_start(&p->timer,
                e != NULL || m != NULL ? PROBE_PATIENCE_MS : 0); /* the response to the handshake goes first */
    conn_probe(c, p);
    c->parser.max_message = MESSAGE_MAX;
    if (e != NULL)
        e->probe = p;
}

void probe_end(struct probe **pointer)
{
    struct probe *p = TAKE(*pointer);
    if (p == NULL)
        return;
    if (p->engine != NULL)
        engine_unprobed(p->engine);
    move_end(&p->move);
    timer_stop(&p->timer);
    buf_fini(&p->held);
    free(p);
}

void probe_done(struct probe **pointer, struct move **ret_move, struct buf *ret_held)
{
    struct probe *p = *pointer;
    *ret_move = TAKE(p->move);
    *ret_held = p->held;
    p->held = BUF_INIT;
    probe_end(pointer);
}

void probe_forsake(struct probe *p)
{
    if (p == NULL)
        return;
    p->engine = NULL;
    conn_close(p->conn, 1000, SLICE_NONE);
}

void probe_ready(struct probe *p)
{
    p->answered = true;
    conn_frame(p->conn, WS_TEXT, SLICE("3probe"));
}

static void try_it(struct probe *p)
{
    if (p->move != NULL && !p->asked) {
        move_probe(p->move);
    } else if (p->move != NULL && p->answered) { /* once more */
        probe_ready(p);
    } else if (p->engine != NULL && p->engine->returning != 0) {
        conn_close(
            p->conn, 1000,
            SLICE_NONE); /* it has just come from another node: only a request for messages tells how far its client is */
    } else if (p->engine != NULL) {
        probe_ready(p);
        polling_hurry(p->engine->polling, true);
    }
    p->asked = true;
}

/* What follows waits in the socket, but for what has been read already. */
static void decide(struct probe *p)
{
    struct conn *c = p->conn;
    p->decided = true;
    c->parser.max_message = c->gw->cfg->max_message_size;
    conn_pause(c, true);
    timer_start(&p->timer, PROBE_PATIENCE_MS);
    move_take(p->move);
}

void probe_message(struct probe *p, struct slice payload, bool binary)
{
    struct engine *e = p->engine;
    struct conn *c = p->conn;
    bool go = !binary && p->answered && payload.n != 0 && payload.p[0] == '5';
    if (p->decided) {
        engine_hold_append(&p->held, payload, binary);
    } else if (!binary && (e != NULL || p->move != NULL) && slice_eq(payload, SLICE("2probe"))) {
        try_it(p);
    } else if (go && p->move != NULL) {
        decide(p);
    } else if (go && e != NULL && e->listed && e->conn->state == CONN_OPEN) { /* what is on its way out stays so */
        probe_end(&c->probe);
        engine_move(e, c);
    } else {
        metrics->drops[DROP_SOCKETIO]++;
        conn_close(c, 1002, SLICE_NONE);
    }
}
