/* gateway/emitter_stream.c: entries of the stream, one after the other: what joins or leaves is waited for before the next one is done. */
#include "gateway/emitter_stream.h"

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "gateway/control.h"
#include "gateway/emit.h"
#include "gateway/emitter.h"
#include "gateway/event_json.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"

#define EXTRA_BYTES 65536u /* what an entry may have besides its data: names of rooms */
#define ARENA_BYTES 65536u
#define PATIENCE_MS 10000u /* for sessions that join or leave: longer than the store takes to say that it cannot */

/* One that waits. */
struct held {
    struct link link;
    struct slice id, type, nsp, data; /* behind the struct */
};

struct emitter_stream {
    struct gateway *gw;
    struct link held;
    unsigned moving; /* sessions that are joining or leaving a room */
    bool tired;      /* of waiting for them */
    bool asking;     /* for the next entries */
    struct timer patience;
    struct task next;
};

/* --- one entry --- */

static void on_moved(void *arg)
{
    struct emitter_stream *es = arg;
    if (--es->moving != 0)
        return;
    es->tired = false;
    timer_stop(&es->patience);
    if (es->gw->broker != NULL)
        loop_idle(es->gw->loop, &es->next, 0);
}

static bool waits(const struct emitter_stream *es)
{
    return es->moving != 0 && !es->tired;
}

static void on_patience(struct timer *t)
{
    struct emitter_stream *es = container_of(t, struct emitter_stream, patience);
    LOG(WARN, "sessions that a Redis emitter moves take too long: what follows is not held back any more",
        "sessions=%u", es->moving);
    es->tired = true;
    loop_idle(es->gw->loop, &es->next, 0);
}

static struct control_job *move_job(void *arg)
{
    struct emitter_stream *es = arg;
    if (es->moving++ == 0)
        timer_start(&es->patience, PATIENCE_MS);
    return control_job_own(es->gw, on_moved, es);
}

static enum err carry_out(struct emitter_stream *es, enum streamed_type type, const struct held *h, struct arena *a,
                          struct error *reterr)
{
    struct emitter_request request;
    enum err err = emitter_read_streamed(type, h->nsp, h->data, a, &request, reterr);
    if (err == OK)
        emitter_carry_out(es->gw, &request, &(struct emitter_wait){.job = move_job, .arg = es});
    return err;
}

static enum err broadcast(struct emitter_stream *es, const struct held *h, struct arena *a, struct error *reterr)
{
    struct emission emission;
    size_t max = es->gw->cfg->max_message_size;
    enum err err = emission_read_streamed(h->nsp, h->data, max, a, &emission, reterr);
    if (err != OK)
        return err;
    emit_here(es->gw, &emission, NULL, 0);
    emission_fini(&emission);
    return OK;
}

static void take(struct emitter_stream *es, const struct held *h)
{
    uint64_t type;
    struct error error = {0};
    struct arena arena;
    if (!text_u64(h->type, UINT32_MAX, &type) || type < STREAMED_BROADCAST || type > STREAMED_DISCONNECT ||
        !emit_has(es->gw, h->nsp))
        return; /* of servers among themselves, or for others */
    metrics->emitter_messages++;
    size_t n = slice_starts(h->data, SLICE("{")) ? h->data.n : h->data.n / 4 * 3,
           most = (size_t)es->gw->cfg->max_message_size + EXTRA_BYTES;
    arena_init(&arena, ARENA_BYTES);
    enum err err = n > most                     ? fail(&error, ERR_TOO_LARGE, "%zu bytes, at most %zu allowed", n, most)
                   : type == STREAMED_BROADCAST ? broadcast(es, h, &arena, &error)
                                                : carry_out(es, (enum streamed_type)type, h, &arena, &error);
    arena_reset(&arena);
    if (err == OK)
        return;
    metrics->drops[DROP_EMITTER]++;
    LOG_PEER(WARN, "an entry of the stream of Redis emitters was dropped",
             "entry=%s namespace=%s bytes=%zu code=%s why=%s", log_q(h->id), log_q(h->nsp), h->data.n, err_name(err),
             error.text);
}

/* --- one after the other --- */

static void hold(struct emitter_stream *es, const struct held *h)
{
    struct held *c = xcalloc(1, sizeof *c + h->id.n + h->type.n + h->nsp.n + h->data.n);
    char *at = (char *)(c + 1);
    c->id = slice_put(&at, h->id);
    c->type = slice_put(&at, h->type);
    c->nsp = slice_put(&at, h->nsp);
    c->data = slice_put(&at, h->data);
    list_append(&es->held, &c->link);
}

static void on_page(void *arg, const struct broker_result *r);

static void go_on(struct emitter_stream *es)
{
    if (!es->asking && !waits(es) && list_empty(&es->held)) {
        es->asking = true;
        es->gw->broker->ops->follow(es->gw->broker, on_page, es);
    }
}

static void on_next(struct task *t)
{
    struct emitter_stream *es = container_of(t, struct emitter_stream, next);
    if (es->gw->broker == NULL)
        return;
    while (!waits(es) && !list_empty(&es->held)) {
        struct held *h = list_first(&es->held, struct held, link);
        list_del(&h->link);
        take(es, h);
        free(h);
    }
    go_on(es);
}

static void on_page(void *arg, const struct broker_result *r)
{
    struct emitter_stream *es = arg;
    es->asking = false;
    if (r->err != OK || es->gw->broker == NULL)
        return; /* we are stopping */
    if (r->anew) {
        metrics->emitter_gaps++;
        LOG(WARN, "the stream of Redis emitters was cut before this node had read it; how much is missing is unknown",
            "stream=%s from=%s", log_q(slice_str(emitter_stream_name(es->gw->cfg))), log_q(r->events[0].id));
    }
    for (size_t i = 0; i < r->count; i++) {
        const struct event_entry *e = &r->events[i];
        const struct held h = {
            .id = e->id, .type = event_field(e, "type"), .nsp = event_field(e, "nsp"), .data = event_field(e, "data")};
        if (waits(es) || !list_empty(&es->held))
            hold(es, &h);
        else
            take(es, &h);
    }
    go_on(es);
}

/* --- life --- */

const char *emitter_stream_name(const struct config *cfg)
{
    bool on = cfg->socketio_emitter == EMITTER_STREAMS || cfg->socketio_emitter == EMITTER_BOTH;
    return on ? cfg->socketio_emitter_stream : NULL;
}

struct emitter_stream *emitter_stream_create(struct gateway *g)
{
    if (emitter_stream_name(g->cfg) == NULL)
        return NULL;
    struct emitter_stream *es = xcalloc(1, sizeof *es);
    es->gw = g;
    list_init(&es->held);
    task_init(&es->next, on_next);
    timer_init(&es->patience, g->loop, on_patience);
    go_on(es);
    return es;
}

void emitter_stream_destroy(struct emitter_stream **p)
{
    struct emitter_stream *es = TAKE(*p);
    if (es == NULL)
        return;
    task_cancel(&es->next);
    timer_stop(&es->patience);
    while (!list_empty(&es->held)) {
        struct held *h = list_first(&es->held, struct held, link);
        list_del(&h->link);
        free(h);
    }
    free(es);
}
