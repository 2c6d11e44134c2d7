/* gateway/polling_save.c: connections by long-polling are written down. */
#include "gateway/polling_save.h"

#include "base/log.h"
#include "base/mem.h"
#include "gateway/conn.h"
#include "gateway/engine.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "gateway/polling.h"
#include "gateway/polling_record.h"

#define MARGIN_MS 10000u

struct polling_put {
    struct polling_save *save; /* NULL: nobody waits any more */
    struct polling *polling;
    struct loop *loop;
    bool unsettled;
};

static void on_put(void *arg, const struct broker_result *r)
{
    struct polling_put *p = arg;
    struct polling_save *s = p->save;
    if (s != NULL) {
        s->put = NULL;
        s->stored = r->err == OK;
        s->unsettled = p->unsettled;
        s->stored_ms = loop_now_ms(p->loop);
        polling_saved(p->polling, r->err == ERR_CONFLICT);
    }
    free(p);
}

static void put(struct polling_save *s, const struct engine *e, struct polling_record *r, bool unsettled)
{
    const struct config *cfg = e->gw->cfg;
    s->put = xcalloc(1, sizeof *s->put);
    *s->put = (struct polling_put){s, e->polling, e->gw->loop, unsettled};
    r->sid = slice_str(e->sid);
    r->ttl_ms = 2 * (cfg->socketio_ping_interval_ms + cfg->socketio_ping_timeout_ms) + MARGIN_MS;
    metrics->polling_records++;
    e->gw->broker->ops->polling_put(e->gw->broker, r, on_put, s->put);
}

/* Nobody takes over from a node that parks no sessions. */
static bool wanted(const struct polling_save *s, const struct engine *e)
{
    return !s->spoilt && gateway_resume_window_s(e->gw) != 0 && e->gw->broker != NULL;
}

static bool reachable(const struct engine *e)
{
    return e->gw->broker->ops->not_ready(e->gw->broker) == NULL;
}

/* What does not fit into an answer has been counted as told, but is not. */
static bool all_told(const struct engine *e)
{
    if (e->conn->out.count != 0)
        return false;
    list_for_each (it, &e->channels) {
        if (list_entry(it, struct channel, link)->conn->out.count != 0)
            return false;
    }
    return true;
}

static bool spoil(struct polling_save *s, const struct engine *e, size_t n)
{
    LOG_PEER(WARN, "connection by long-polling cannot outlive this node", "engine=%.6s peer=%s bytes=%zu", e->sid,
             e->conn->ip, n);
    s->spoilt = true;
    buf_fini(&s->said);
    e->gw->broker->ops->polling_drop(e->gw->broker, slice_str(e->sid));
    return false;
}

bool save_answer(struct polling_save *s, const struct engine *e, bool base64, struct slice name)
{
    struct buf now = BUF_INIT;
    if (!wanted(s, e) || !all_told(e))
        return false;
    record_append(e, base64, &now);
    if (now.n > RECORD_MAX) {
        size_t n = now.n;
        buf_fini(&now);
        return spoil(s, e, n);
    }
    bool same = slice_eq(buf_slice(&now), buf_slice(&s->said));
    bool fresh = loop_now_ms(e->gw->loop) - s->stored_ms < e->gw->cfg->socketio_ping_interval_ms / 2;
    bool must = !same || !s->stored || s->unsettled || !fresh, may = must && reachable(e);
    struct buf before = s->said;
    s->said = now;
    s->stored = s->stored && !must;
    if (may) {
        bool known = !same && name.n != 0;
        struct polling_record r = {.state = buf_slice(&now),
                                   .before = known ? buf_slice(&before) : SLICE_NONE,
                                   .answered = known ? name : SLICE_NONE};
        put(s, e, &r, false);
    }
    buf_fini(&before);
    return may;
}

bool save_taken(struct polling_save *s, const struct engine *e)
{
    struct buf now = BUF_INIT;
    if (!e->unsettled || s->unsettled || s->said.n == 0 || !wanted(s, e) || !reachable(e))
        return false;
    record_unsettle(buf_slice(&s->said), &now);
    struct polling_record r = {.state = buf_slice(&now)};
    put(s, e, &r, true);
    buf_fini(&now);
    return true;
}

void save_begin(struct polling_save *s, struct buf *said, bool stored)
{
    buf_fini(&s->said);
    s->said = *said;
    *said = BUF_INIT;
    s->stored = stored;
}

void save_fini(struct polling_save *s)
{
    if (s->put != NULL)
        TAKE(s->put)->save = NULL;
    buf_fini(&s->said);
}
