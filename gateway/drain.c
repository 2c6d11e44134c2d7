/* gateway/drain.c: leaving in order: goodbyes at an even pace, then out of the directory. */
#include "base/log.h"
#include "base/random.h"
#include "gateway/conn.h"
#include "gateway/delivery.h"
#include "gateway/engine.h"
#include "gateway/forward.h"
#include "gateway/gateway.h"
#include "gateway/greeting.h"
#include "gateway/metrics.h"
#include "gateway/orders.h"
#include "gateway/session.h"

#define STEP_MS         20u
#define LATE_MS         40u   /* what a step that comes late counts at most */
#define LEAST_RATE      100u  /* goodbyes per second: a few clients need not wait for each other */
#define CREDIT          1000u /* of one goodbye, in milliseconds × rate */
#define RECONNECT_MS    100u  /* until the session is parked … */
#define RECONNECT_BY_MS 100u /* … and up to so much later, so that the goodbyes of one step do not come back as one */

static void on_retired(void *arg, const struct broker_result *r)
{
    struct gateway *g = arg;
    if (r->err != OK)
        LOG(WARN, "this node could not leave the directory; a survivor will remove it", "why=%s",
            log_q(slice_str(r->why)));
    if (g->drained != NULL)
        g->drained(g->drained_arg);
    g->drained = NULL;
}

static void retire(void *arg)
{
    struct gateway *g = arg;
    if (g->broker != NULL)
        g->broker->ops->retire(g->broker, on_retired, g);
}

static void stop_delivery(void *arg)
{
    struct gateway *g = arg;
    if (g->delivery != NULL)
        delivery_stop(g->delivery, retire, g);
    else
        retire(g);
}

void gateway_session_left(struct gateway *g)
{
    if (g->draining && g->broker != NULL && g->sessions == NULL && !g->retiring) {
        g->retiring = true;
        timer_stop(&g->farewell);
        if (g->orders != NULL)
            orders_stop(g->orders, stop_delivery, g);
        else
            stop_delivery(g);
    }
}

/* False when nobody is left to be told. */
static bool say_goodbye(struct gateway *g)
{
    while (!list_empty(&g->farewells)) {
        struct session *s = list_first(&g->farewells, struct session, farewell);
        list_del(&s->farewell);
        if (s->conn == NULL)
            continue;
        metrics->drops[DROP_DRAINING]++;
        conn_goodbye(s->conn, err_close_code(ERR_DRAINING), SLICE("draining"),
                     RECONNECT_MS + random_below(RECONNECT_BY_MS));
        return true;
    }
    return false;
}

/* A step that comes late does not make up for it, or those who waited would all be sent away at once; but at the end everybody has been told. */
void gateway_farewell(struct timer *t)
{
    struct gateway *g = container_of(t, struct gateway, farewell);
    uint64_t now = loop_now_ms(g->loop), passed = now - g->farewell_at;
    g->farewell_at = now;
    g->farewell_credit += (passed < LATE_MS ? passed : LATE_MS) * g->farewell_rate;
    while (g->farewell_credit >= CREDIT || now >= g->farewell_end) {
        if (!say_goodbye(g))
            break;
        g->farewell_credit -= g->farewell_credit < CREDIT ? 0 : CREDIT;
    }
    timer_start(t, STEP_MS); /* a session that was being resumed may still come */
}

void gateway_drain(struct gateway *g, void (*done)(void *arg), void *arg)
{
    uint64_t now = loop_now_ms(g->loop), spread_ms = g->cfg->drain_time_s * (uint64_t)1000 / 2, count = 0;
    g->draining = true;
    g->drained = done;
    g->drained_arg = arg;
    struct session *s, *next;
    HASH_ITER (hh, g->sessions, s, next) {
        list_append(&g->farewells, &s->farewell);
        count += s->conn != NULL;
    }
    g->farewell_at = now;
    g->farewell_end = now + spread_ms + spread_ms / 2;
    g->farewell_rate = spread_ms == 0 ? 0 : count * 1000 / spread_ms + 1;
    if (g->farewell_rate < LEAST_RATE)
        g->farewell_rate = LEAST_RATE;
    LOG(INFO, "saying goodbye", "clients=%llu per_second=%llu", (unsigned long long)count,
        (unsigned long long)g->farewell_rate);
    greetings_drain(g);
    engines_drain(g);
    forwards_drain(g);
    gateway_farewell(&g->farewell);
    gateway_session_left(g);
}
