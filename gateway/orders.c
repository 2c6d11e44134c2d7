/* gateway/orders.c: a window of commands, and what became of each. */
#include "gateway/orders.h"

#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "gateway/act.h"
#include "gateway/event_json.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "gateway/reader.h"

#define LOOK_MS     20u               /* how often the stream is looked at when nothing is new */
#define WINDOW      512u              /* commands in memory */
#define BYTES_MAX   ((size_t)4 << 20) /* the same; one page more may come */
#define CONCURRENCY 64u
#define WORD_MAX    40 /* of `do`, in a result */

/* OVER: its result is being told; DONE: it has been, or could not be. */
enum order_state { ORDER_WAITING, ORDER_UNDER_WAY, ORDER_OVER, ORDER_DONE };

struct order {
    struct link in_window; /* unlinked: another node's business by now */
    struct orders *orders;
    enum order_state state;
    uint64_t touches; /* a bit for each name it is about; two that share one are not done at once */
    struct buf json;
    struct arena arena;
    struct action action;
    struct error error; /* why it is not readable, or it failed; code OK: neither */
    struct position position;
    char word[WORD_MAX + 1];
    char place[EVENT_PLACE_MAX + 1], key[EVENT_PLACE_MAX + 2];
};

struct orders {
    struct reader reader;
    struct gateway *gw;
    struct broker *broker;
    struct link window; /* in the stream's order */
    size_t bytes;
    uint32_t count, under_way; /* under_way: also those that are another node's by now */
    uint32_t strays;           /* those: until they are over nothing is begun, it may be the same again */
    struct task pump;
    bool stopping, released;
    void (*stopped)(void *arg);
    void *stopped_arg;
};

static struct orders *orders_of(struct reader *r)
{
    return container_of(r, struct orders, reader);
}

/* --- what a command is about --- */

static uint64_t bit_of(struct slice before, struct slice name)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a: a collision costs a little time */
    for (size_t i = 0; i < before.n; i++)
        h = (h ^ (unsigned char)before.p[i]) * 0x100000001b3u;
    for (size_t i = 0; i < name.n; i++)
        h = (h ^ (unsigned char)name.p[i]) * 0x100000001b3u;
    return (uint64_t)1 << (h >> 58);
}

static uint64_t touches(const struct action *a)
{
    const struct api_message *m = &a->message;
    uint64_t bits = 0;
    if (a->kind == ACTION_EMIT)
        return UINT64_MAX; /* to any rooms */
    if (m->room.n != 0)
        bits |= bit_of(SLICE_NONE, m->room);
    for (size_t i = 0; i < m->target_count; i++)
        bits |= bit_of(SLICE_NONE, m->targets[i]);
    if (a->control.sid.n != 0)
        bits |= bit_of(SLICE("$session:"), a->control.sid);
    if (a->control.room.n != 0)
        bits |= bit_of(SLICE_NONE, a->control.room);
    if (a->user.n != 0)
        bits |= bit_of(SLICE("$user:"), a->user);
    return bits;
}

/* --- the window --- */

static void order_free(struct order *o)
{
    list_del(&o->in_window);
    arena_reset(&o->arena);
    buf_fini(&o->json);
    free(o);
}

/* Those at the front whose result is told are settled. */
static void advance(struct orders *w)
{
    bool settled = false;
    while (!list_empty(&w->window)) {
        struct order *o = list_first(&w->window, struct order, in_window);
        if (o->state != ORDER_DONE)
            break;
        reader_settled(&w->reader, o->place);
        w->bytes -= o->json.n;
        w->count--;
        metrics->commands_waiting--;
        order_free(o);
        settled = true;
    }
    if (settled)
        reader_kick(&w->reader);
}

static void order_done(struct order *o)
{
    struct orders *w = o->orders;
    bool ours = !list_empty(&o->in_window);
    o->state = ORDER_DONE;
    w->under_way--;
    if (ours) {
        advance(w);
    } else {
        w->strays--;
        order_free(o);
    }
    loop_idle(w->gw->loop, &w->pump, 0);
}

/* --- results --- */

static void on_told(void *arg, const struct broker_result *r)
{
    (void)r; /* what failed is in the log, too */
    order_done(arg);
}

static void tell(struct order *o)
{
    struct orders *w = o->orders;
    struct buf position = BUF_INIT;
    bool ok = o->error.code == OK;
    if (o->position.offset != 0)
        position_append(&position, &o->position);
    const struct event_field fields[] = {
        {SLICE("command"), slice_str(o->place)},
        {SLICE("do"), slice_str(o->word)},
        {SLICE("result"), ok ? SLICE("ok") : slice_str(err_name(o->error.code))},
        {SLICE("message"), ok ? SLICE_NONE : slice_str(o->error.text)},
        {SLICE("position"), buf_slice(&position)},
        {SLICE("node"), slice_str(w->gw->node)},
    };
    o->state = ORDER_OVER;
    w->broker->ops->command_result(w->broker, fields, ARRAY_LEN(fields), on_told, o);
    buf_fini(&position);
}

static void order_over(struct order *o)
{
    if (o->error.code == OK) {
        metrics->commands_done++;
    } else {
        metrics->commands_failed++;
        LOG_PEER(WARN, "a command in the store failed", "command=%s do=%s code=%s why=%s", o->place,
                 log_q(slice_str(o->word)), err_name(o->error.code), log_q(slice_str(o->error.text)));
    }
    tell(o);
}

static void on_acted(void *arg, const struct act_result *r)
{
    struct order *o = arg;
    if (o->orders->gw->broker == NULL) { /* whoever is next does it again */
        o->orders->under_way--;
        o->state = ORDER_WAITING;
        if (list_empty(&o->in_window))
            order_free(o);
        return;
    }
    o->position = r->position;
    if (r->err != OK)
        (void)fail(&o->error, r->err, "%s", r->why);
    order_over(o);
}

static void begin(struct order *o)
{
    struct orders *w = o->orders;
    w->under_way++;
    o->state = ORDER_UNDER_WAY;
    if (o->error.code != OK)
        order_over(o);
    else
        act(w->gw, &o->action, slice_str(o->key), SLICE("command"), on_acted, o);
}

static void release(struct orders *w);

static void on_pump(struct task *t)
{
    struct orders *w = container_of(t, struct orders, pump);
    uint64_t busy = 0;
    list_for_each (it, &w->window) {
        struct order *o = list_entry(it, struct order, in_window);
        if (w->stopping || w->strays != 0 || w->under_way >= CONCURRENCY)
            break;
        if (o->state == ORDER_WAITING && (busy & o->touches) == 0)
            begin(o);
        if (o->state == ORDER_WAITING || o->state == ORDER_UNDER_WAY)
            busy |= o->touches;
    }
    if (w->stopping && w->under_way == 0)
        release(w);
}

/* --- reading --- */

static void on_send(struct reader *r, struct events_ask *what, broker_done *done, void *arg)
{
    struct broker *b = orders_of(r)->broker;
    b->ops->commands(b, what, done, arg);
}

static bool is_full(struct reader *r)
{
    const struct orders *w = orders_of(r);
    return w->count >= WINDOW || w->bytes >= BYTES_MAX;
}

/* `do` as it was written, for people who look for it. */
static void keep_word(struct order *o, const struct event_entry *e)
{
    struct slice word = event_field(e, "do");
    bool plain = word.n != 0 && word.n <= WORD_MAX;
    for (size_t i = 0; plain && i < word.n; i++)
        plain = word.p[i] > ' ' && word.p[i] < 0x7f;
    (void)snprintf(o->word, sizeof o->word, "%.*s", SLICE_FMT(plain ? word : SLICE("-")));
}

static void read_order(struct order *o, const struct event_entry *e)
{
    size_t n = 0;
    for (size_t i = 0; i < e->count; i++)
        n += e->fields[i].name.n + e->fields[i].value.n;
    if (n > ORDER_BYTES_MAX) {
        (void)fail(&o->error, ERR_TOO_LARGE, "a command of %zu bytes, %u are allowed", n, ORDER_BYTES_MAX);
        return;
    }
    uint64_t now_ms = loop_wall_ms(o->orders->gw->loop);
    enum err err = action_of_fields(e->fields, e->count, &o->json, &o->error);
    if (err == OK)
        err = action_read(buf_slice(&o->json), SLICE_NONE, now_ms, &o->arena, &o->action, &o->error);
    if (err == OK)
        o->touches = touches(&o->action);
}

static void on_entry(struct reader *r, const struct event_entry *e)
{
    struct orders *w = orders_of(r);
    struct order *o = xcalloc(1, sizeof *o);
    o->orders = w;
    arena_init(&o->arena, ACTION_ARENA);
    (void)snprintf(o->place, sizeof o->place, "%.*s", SLICE_FMT(e->id));
    (void)snprintf(o->key, sizeof o->key, "%s#", o->place); /* no client can have such a key */
    keep_word(o, e);
    read_order(o, e);
    list_append(&w->window, &o->in_window);
    w->count++;
    w->bytes += o->json.n;
    metrics->commands_waiting++;
    loop_idle(w->gw->loop, &w->pump, 0);
}

static void forget(struct orders *w)
{
    while (!list_empty(&w->window)) {
        struct order *o = list_first(&w->window, struct order, in_window);
        metrics->commands_waiting--;
        if (o->state == ORDER_WAITING || o->state == ORDER_DONE) {
            order_free(o);
        } else {
            list_del(&o->in_window); /* order_done() frees it */
            w->strays++;
        }
    }
    w->count = 0;
    w->bytes = 0;
}

static void on_forget(struct reader *r)
{
    forget(orders_of(r));
}

static void on_dropped(struct reader *r, uint64_t n)
{
    (void)r;
    metrics->commands_dropped += n;
    LOG(ERROR, "commands in the store were too many or too old, and are not carried out", "commands=%llu",
        (unsigned long long)n);
}

static void on_stopped(struct reader *r)
{
    loop_idle(orders_of(r)->gw->loop, &orders_of(r)->pump, 0);
}

/* --- life --- */

struct orders *orders_create(struct gateway *g, uint32_t lease_ms)
{
    static const struct reader_ops ops = {on_send, is_full, on_entry, on_forget, on_dropped, on_stopped};
    struct orders *w = xcalloc(1, sizeof *w);
    w->gw = g;
    w->broker = g->broker;
    list_init(&w->window);
    task_init(&w->pump, on_pump);
    reader_init(&w->reader, g->loop, &ops, lease_ms, LOOK_MS);
    return w;
}

static void on_released(void *arg, const struct broker_result *r)
{
    struct orders *w = arg;
    void (*stopped)(void *arg) = TAKE(w->stopped);
    (void)r; /* else the lease runs out */
    if (stopped != NULL)
        stopped(w->stopped_arg);
}

static void release(struct orders *w)
{
    if (w->released || w->reader.asking)
        return;
    w->released = true;
    reader_release(&w->reader, on_released, w);
}

void orders_stop(struct orders *w, void (*stopped)(void *arg), void *arg)
{
    w->stopping = true;
    w->stopped = stopped;
    w->stopped_arg = arg;
    reader_stop(&w->reader);
    loop_idle(w->gw->loop, &w->pump, 0);
}

void orders_abandon(struct orders *w)
{
    if (w == NULL)
        return;
    w->stopping = w->released = true;
    w->stopped = NULL;
    reader_stop(&w->reader);
}

void orders_destroy(struct orders **pointer)
{
    struct orders *w = TAKE(*pointer);
    if (w == NULL)
        return;
    task_cancel(&w->pump);
    forget(w);
    free(w);
}
