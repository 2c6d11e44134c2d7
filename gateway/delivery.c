/* gateway/delivery.c: shards, their windows, the sessions in them. */
#include "gateway/delivery.h"

#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/table.h"
#include "base/text.h"
#include "broker/broker.h"
#include "gateway/actions.h"
#include "gateway/event_json.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "gateway/outlet.h"
#include "gateway/reader.h"

#define WINDOW      256u  /* undelivered events of one shard in memory */
#define WINDOW_ALL  4096u /* with those that were delivered before an older one */
#define LOOK_MS     100u  /* how often an idle shard is looked at */
#define RETRY_MIN   200u
#define RETRY_MAX   5000u
#define ATTEMPTS    16u /* of an event that the backend fails on while it works for others */
#define SESSION_MAX 64u
#define IDLE_MS     60000u     /* then connections to a business server are forgotten */
#define BYTES_MAX   (1u << 20) /* of undelivered events of one shard in memory; one page more may come */

/* The events of one session, in order; the first one is under way or to be tried. */
struct chain {
    UT_hash_handle hh;
    struct delivery *delivery;
    struct outlet *outlet; /* of all its events */
    struct link ready;     /* in outlet->ready: its first event may be posted */
    struct link items;
    struct timer retry;
    bool busy, waiting; /* waiting: for retry */
    size_t n;
    char session[SESSION_MAX];
};

struct item {
    struct link in_shard; /* unlinked: the shard is another node's by now */
    struct link in_chain; /* unlinked when delivered */
    struct shard *shard;
    struct chain *chain;
    struct buf body, id;
    unsigned attempts;
    uint64_t works; /* what the outlet had taken when it was first tried */
    uint64_t time_ms;
    char place[EVENT_PLACE_MAX + 1];
};

struct shard {
    struct reader reader;
    struct delivery *delivery;
    uint32_t index;
    struct link items; /* in the stream's order */
    uint32_t count, undelivered;
    size_t bytes;
};

struct delivery {
    struct gateway *gw;
    struct loop *loop;
    struct broker *broker;
    struct delivery_config cfg;
    struct chain *chains;
    struct outlet *outlets; /* by whose they are */
    struct task pump;
    struct timer sweep; /* of outlets that nothing is for */
    uint32_t under_way;
    bool stopping, released;
    uint32_t unreleased; /* shards that have still to be given back */
    void (*stopped)(void *arg);
    void *stopped_arg;
    struct shard shards[];
};

static void release_all(struct delivery *d);

static bool full(const struct shard *s)
{
    return s->undelivered >= WINDOW || s->count >= WINDOW_ALL || s->bytes >= BYTES_MAX;
}

/* --- chains --- */

static void on_chain_retry(struct timer *t);

static void on_backend_change(void *arg)
{
    struct delivery *d = arg;
    loop_idle(d->loop, &d->pump, 0);
}

/* NULL: nobody is told of the event. */
static struct chain *chain_get(struct delivery *d, const struct event_entry *e)
{
    struct chain *c;
    struct slice session = event_field(e, "session"), whose;
    struct outlet *o = outlet_route(d->gw, e, &whose) ? outlet_get(&d->outlets, d->gw, whose) : NULL;
    if (o == NULL)
        return NULL;
    if (session.n == 0)
        session = SLICE("-");
    size_t n = session.n < SESSION_MAX ? session.n : SESSION_MAX;
    HASH_FIND(hh, d->chains, session.p, n, c);
    if (c != NULL)
        return c->outlet == o ? c : NULL;
    c = xcalloc(1, sizeof *c);
    c->delivery = d;
    c->outlet = o;
    backend_on_change(o->backend, on_backend_change, d);
    o->chains++;
    list_init(&c->ready);
    list_init(&c->items);
    timer_init(&c->retry, d->loop, on_chain_retry);
    c->n = n;
    memcpy(c->session, session.p, n);
    HASH_ADD_KEYPTR(hh, d->chains, c->session, c->n, c);
    return c;
}

static void chain_free(struct chain *c)
{
    timer_stop(&c->retry);
    list_del(&c->ready);
    if (--c->outlet->chains == 0)
        c->outlet->idle_ms = loop_now_ms(c->delivery->loop);
    HASH_DELETE(hh, c->delivery->chains, c);
    free(c);
}

static void chain_ready(struct chain *c)
{
    struct delivery *d = c->delivery;
    if (c->busy || c->waiting || !list_empty(&c->ready) || list_empty(&c->items))
        return;
    list_append(&c->outlet->ready, &c->ready);
    loop_idle(d->loop, &d->pump, 0);
}

static void on_chain_retry(struct timer *t)
{
    struct chain *c = container_of(t, struct chain, retry);
    c->waiting = false;
    chain_ready(c);
}

/* --- items --- */

static void item_free(struct item *i)
{
    list_del(&i->in_shard);
    list_del(&i->in_chain);
    buf_fini(&i->body);
    buf_fini(&i->id);
    free(i);
}

static void leave_chain(struct item *i)
{
    struct chain *c = TAKE(i->chain);
    list_del(&i->in_chain);
    if (list_empty(&c->items) && !c->busy)
        chain_free(c);
}

/* What is delivered goes from the front, and the cursor with it. */
static void advance(struct shard *s)
{
    while (!list_empty(&s->items)) {
        struct item *i = list_first(&s->items, struct item, in_shard);
        if (i->chain != NULL)
            return;
        reader_settled(&s->reader, i->place);
        s->count--;
        item_free(i);
    }
}

static void item_settled(struct item *i)
{
    struct shard *s = i->shard;
    bool was_full = full(s);
    leave_chain(i);
    if (list_empty(&i->in_shard)) { /* another node's business since */
        item_free(i);
        return;
    }
    s->bytes -= i->body.n;
    buf_fini(&i->body);
    i->body = BUF_INIT;
    s->undelivered--;
    metrics->events_waiting--;
    advance(s);
    if (was_full && !full(s))
        reader_kick(&s->reader);
}

/* --- posting --- */

static uint32_t delay_of(unsigned attempts)
{
    uint32_t delay = attempts < 6 ? RETRY_MIN << attempts : RETRY_MAX;
    delay = delay < RETRY_MAX ? delay : RETRY_MAX;
    return delay / 2 + random_below(delay / 2 + 1);
}

static bool give_up(const struct item *i, const struct backend_result *r, bool refused)
{
    const struct outlet *o = i->chain->outlet;
    if (refused) {
        metrics->events_refused++;
        LOG_PEER(WARN, "the backend refuses an event", "event=%.*s status=%d", SLICE_FMT(buf_slice(&i->id)), r->status);
        return true;
    }
    if (i->attempts >= ATTEMPTS && o->taken > i->works) {
        metrics->events_refused++;
        LOG(ERROR, "the backend fails on an event again and again, and works for others: giving it up",
            "event=%.*s attempts=%u", SLICE_FMT(buf_slice(&i->id)), i->attempts);
        return true;
    }
    return false;
}

/* Its chain goes on, if there is more in it. */
static void settle_first(struct item *i)
{
    struct chain *c = i->chain;
    bool more = c->items.next->next != &c->items;
    item_settled(i);
    if (more)
        chain_ready(c);
}

/* Its post is over, and what the answer wanted done. */
static void over(struct item *i, bool taken, bool refused, const struct backend_result *r)
{
    struct chain *c = i->chain;
    struct outlet *o = c->outlet;
    struct delivery *d = c->delivery;
    c->busy = false;
    d->under_way--;
    o->under_way--;
    loop_idle(d->loop, &d->pump, 0);
    if (!taken && d->stopping && !list_empty(&i->in_shard))
        return;
    if (!taken) {
        i->attempts += !d->stopping && o->backend != NULL && backend_closed_for_ms(o->backend) == 0;
        metrics->events_retried++;
        if (r->err == OK && !refused)
            LOG_PEER(WARN, "the backend does not take an event yet", "event=%.*s status=%d",
                     SLICE_FMT(buf_slice(&i->id)), r->status);
    }
    if (list_empty(&i->in_shard) || taken || give_up(i, r, refused)) {
        o->taken += taken;
        metrics->callbacks_given_up += o->own && !taken;
        metrics->events_delivered += taken;
        settle_first(i);
        return;
    }
    uint32_t delay = delay_of(i->attempts);
    c->waiting = true;
    timer_start(&c->retry, r->retry_ms > delay ? r->retry_ms : delay);
}

static void on_acted(void *arg)
{
    static const struct backend_result stopped = {.err = ERR_UNAVAILABLE}, done = {.err = OK};
    struct item *i = arg;
    bool stopping = i->chain->delivery->gw->broker == NULL; /* whoever is next posts it again */
    over(i, !stopping, false, stopping ? &stopped : &done);
}

static void on_posted(void *arg, const struct backend_result *r)
{
    struct item *i = arg;
    const struct chain *c = i->chain;
    const struct actions_of of = {.id = buf_slice(&i->id), .session = {c->session, c->n}};
    bool refused, taken = outlet_took(c->outlet, r, &refused);
    if (!taken || c->outlet->own || !actions_of_event(c->delivery->gw, r->body, &of, on_acted, i))
        over(i, taken, refused, r);
}

static void post(struct delivery *d, struct chain *c)
{
    struct item *i = list_first(&c->items, struct item, in_chain);
    if (i->attempts == 0)
        i->works = c->outlet->taken;
    c->busy = true;
    d->under_way++;
    c->outlet->under_way++;
    outlet_post(c->outlet, buf_slice(&i->id), buf_slice(&i->body), on_posted, i);
}

/* Looked at before it is posted, and while its outlet does not work, so that what is too old does not wait for its turn with it. */
static bool too_old(struct chain *c)
{
    struct item *i = list_first(&c->items, struct item, in_chain);
    if (!outlet_gives_up(c->outlet, i->time_ms))
        return false;
    metrics->callbacks_given_up++;
    LOG_PEER(WARN, "a callback of a tunnel is given up: its business server did not take it in time", "event=%.*s",
             SLICE_FMT(buf_slice(&i->id)));
    list_del(&c->ready);
    settle_first(i);
    return true;
}

static void pump_outlet(struct delivery *d, struct outlet *o)
{
    bool works = backend_closed_for_ms(o->backend) == 0;
    list_for_each_safe (it, &o->ready) {
        struct chain *c = list_entry(it, struct chain, ready);
        if (too_old(c))
            continue;
        if (!works && !o->own)
            return;
        if (!works || o->under_way >= o->limit)
            continue;
        list_del(&c->ready);
        post(d, c);
        works = backend_closed_for_ms(o->backend) == 0;
    }
}

static void on_pump(struct task *t)
{
    struct delivery *d = container_of(t, struct delivery, pump);
    struct outlet *o, *next;
    HASH_ITER (hh, d->outlets, o, next) {
        if (!d->stopping)
            pump_outlet(d, o);
    }
    if (d->stopping && d->under_way == 0)
        release_all(d);
}

static void on_sweep(struct timer *t)
{
    struct delivery *d = container_of(t, struct delivery, sweep);
    outlets_sweep(&d->outlets, IDLE_MS);
    timer_start(t, IDLE_MS);
}

/* --- reading --- */

/* What is under way ends by itself. */
static void forget(struct shard *s)
{
    while (!list_empty(&s->items)) {
        struct item *i = list_first(&s->items, struct item, in_shard);
        struct chain *c = i->chain;
        list_del(&i->in_shard);
        if (c == NULL) {
            item_free(i);
            continue;
        }
        metrics->events_waiting--;
        if (c->busy && list_first(&c->items, struct item, in_chain) == i)
            continue; /* on_posted frees it */
        leave_chain(i);
        item_free(i);
    }
    s->count = s->undelivered = 0;
    s->bytes = 0;
}

static uint64_t time_of(const struct event_entry *e)
{
    uint64_t time = 0;
    (void)text_u64(event_field(e, "time"), UINT64_MAX, &time);
    return time;
}

static void take(struct shard *s, const struct event_entry *e)
{
    struct delivery *d = s->delivery;
    struct item *i = xcalloc(1, sizeof *i);
    i->shard = s;
    (void)snprintf(i->place, sizeof i->place, "%.*s", SLICE_FMT(e->id));
    buf_append(&i->id, event_field(e, "id"));
    i->chain = chain_get(d, e);
    list_init(&i->in_chain);
    list_append(&s->items, &i->in_shard);
    s->count++;
    if (i->chain == NULL) { /* that is all that is to be done with it */
        advance(s);
        return;
    }
    outlet_body(i->chain->outlet, e, &i->body);
    list_append(&i->chain->items, &i->in_chain);
    s->undelivered++;
    s->bytes += i->body.n;
    i->time_ms = time_of(e);
    metrics->events_waiting++;
    chain_ready(i->chain);
}

static struct shard *shard_of(struct reader *r)
{
    return container_of(r, struct shard, reader);
}

static void on_send(struct reader *r, struct events_ask *what, broker_done *done, void *arg)
{
    struct shard *s = shard_of(r);
    what->shard = s->index;
    s->delivery->broker->ops->events(s->delivery->broker, what, done, arg);
}

static bool is_full(struct reader *r)
{
    return full(shard_of(r));
}

static void on_entry(struct reader *r, const struct event_entry *e)
{
    take(shard_of(r), e);
}

static void on_forget(struct reader *r)
{
    forget(shard_of(r));
}

static void on_dropped(struct reader *r, uint64_t n)
{
    metrics->events_undelivered += n;
    LOG(ERROR, "events were dropped before the backend took them", "shard=%u events=%llu", shard_of(r)->index,
        (unsigned long long)n);
}

static void on_stopped(struct reader *r)
{
    struct delivery *d = shard_of(r)->delivery;
    loop_idle(d->loop, &d->pump, 0);
}

static const struct reader_ops reader_ops = {on_send, is_full, on_entry, on_forget, on_dropped, on_stopped};

void delivery_kick(struct delivery *d, const char *session)
{
    if (d == NULL || d->stopping)
        return;
    struct shard *s = &d->shards[event_shard(slice_str(session), d->cfg.shards)];
    if (!full(s))
        reader_kick(&s->reader);
}

/* --- life --- */

struct delivery *delivery_create(struct gateway *g, const struct delivery_config *cfg)
{
    struct delivery *d = xcalloc(1, sizeof *d + cfg->shards * sizeof d->shards[0]);
    struct loop *loop = g->loop;
    d->gw = g;
    d->loop = loop;
    d->broker = g->broker;
    d->cfg = *cfg;
    task_init(&d->pump, on_pump);
    timer_init(&d->sweep, loop, on_sweep);
    timer_start(&d->sweep, IDLE_MS);
    for (uint32_t i = 0; i < cfg->shards; i++) {
        struct shard *s = &d->shards[i];
        *s = (struct shard){.delivery = d, .index = i};
        list_init(&s->items);
        reader_init(&s->reader, loop, &reader_ops, cfg->lease_ms, LOOK_MS);
    }
    return d;
}

static void on_released(void *arg, const struct broker_result *r)
{
    struct delivery *d = arg;
    (void)r; /* else the lease runs out */
    void (*stopped)(void *arg) = d->stopped;
    if (--d->unreleased != 0 || stopped == NULL)
        return;
    d->stopped = NULL;
    stopped(d->stopped_arg);
}

/* When nothing is under way any more, neither to the backend nor to the store. */
static void release_all(struct delivery *d)
{
    for (uint32_t i = 0; i < d->cfg.shards; i++)
        if (d->shards[i].reader.asking)
            return;
    if (d->unreleased != 0 || d->released)
        return;
    d->released = true;
    d->unreleased = d->cfg.shards;
    for (uint32_t i = 0; i < d->cfg.shards; i++)
        reader_release(&d->shards[i].reader, on_released, d);
}

void delivery_stop(struct delivery *d, void (*stopped)(void *arg), void *arg)
{
    d->stopping = true;
    d->stopped = stopped;
    d->stopped_arg = arg;
    for (uint32_t i = 0; i < d->cfg.shards; i++)
        reader_stop(&d->shards[i].reader);
    loop_idle(d->loop, &d->pump, 0);
}

void delivery_abandon(struct delivery *d)
{
    if (d == NULL)
        return;
    d->stopping = d->released = true;
    d->stopped = NULL;
    for (uint32_t i = 0; i < d->cfg.shards; i++)
        reader_stop(&d->shards[i].reader);
}

uint64_t delivery_lag_ms(const struct delivery *d)
{
    uint64_t oldest = UINT64_MAX, now = loop_wall_ms(d->loop);
    for (uint32_t i = 0; i < d->cfg.shards; i++) {
        const struct link *items = &d->shards[i].items;
        if (!list_empty(items) && list_first(items, struct item, in_shard)->time_ms < oldest)
            oldest = list_first(items, struct item, in_shard)->time_ms;
    }
    return oldest < now ? now - oldest : 0;
}

void delivery_destroy(struct delivery **dp)
{
    struct delivery *d = TAKE(*dp);
    if (d == NULL)
        return;
    d->stopping = true;
    timer_stop(&d->sweep);
    outlets_stop(d->outlets);
    task_cancel(&d->pump);
    for (uint32_t i = 0; i < d->cfg.shards; i++) {
        reader_stop(&d->shards[i].reader);
        forget(&d->shards[i]);
    }
    outlets_fini(&d->outlets);
    free(d);
}
