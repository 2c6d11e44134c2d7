/* gateway/probe.c: from long-polling to a WebSocket: "2probe", "3probe", and "5" from the client, who by then has stopped asking. */
#include "gateway/probe.h"

#include "base/loop.h"
#include "base/mem.h"
#include "gateway/conn.h"
#include "gateway/engine.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "gateway/polling.h"

#define PATIENCE_MS 10000u /* from the handshake to the "5" */
#define MESSAGE_MAX 125u   /* until then */

struct probe {
    struct conn *conn;     /* owns it */
    struct engine *engine; /* NULL: none (any more) */
    struct timer timer;
    bool answered; /* the probe */
};

static void on_timer(struct timer *t)
{
    const struct probe *p = container_of(t, struct probe, timer);
    if (p->engine != NULL)
        metrics->drops[DROP_HANDSHAKE_TIMEOUT]++;
    conn_close(p->conn, p->engine != NULL ? 1008 : 1000, SLICE_NONE);
}

void probe_begin(struct conn *c, struct engine *e)
{
    struct probe *p = xcalloc(1, sizeof *p);
    p->conn = c;
    p->engine = e;
    timer_init(&p->timer, c->gw->loop, on_timer);
    timer_start(&p->timer, e != NULL ? PATIENCE_MS : 0); /* the response to the handshake goes first */
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
    timer_stop(&p->timer);
    free(p);
}

void probe_forsake(struct probe *p)
{
    if (p == NULL)
        return;
    p->engine = NULL;
    conn_close(p->conn, 1000, SLICE_NONE);
}

void probe_message(struct probe *p, struct slice payload, bool binary)
{
    struct engine *e = p->engine;
    struct conn *c = p->conn;
    if (!binary && e != NULL && slice_eq(payload, SLICE("2probe"))) {
        p->answered = true;
        conn_frame(c, WS_TEXT, SLICE("3probe"));
        polling_hurry(e->polling, true);
    } else if (!binary && e != NULL && p->answered && payload.n != 0 && payload.p[0] == '5' && e->listed &&
               e->conn->state == CONN_OPEN) { /* what is on its way out stays so */
        probe_end(&c->probe);
        engine_move(e, c);
    } else {
        metrics->drops[DROP_SOCKETIO]++;
        conn_close(c, 1002, SLICE_NONE);
    }
}
