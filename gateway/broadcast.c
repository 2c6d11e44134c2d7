/* gateway/broadcast.c: emissions of the API on their way to all nodes, and the answers on their way back. */
#include "gateway/broadcast.h"

#include "base/buf.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/utf8.h"
#include "gateway/engine.h"
#include "gateway/gateway.h"
#include "gateway/policy.h"
#include "proto/json.h"

#define WAITING_MAX  1000u      /* emissions of this node that wait for acks */
#define ANSWERS_MAX  (8u << 20) /* bytes of what all nodes answer to one */
#define GRACE_MS     1000u      /* nodes wait for the timeout; their answers take a moment */
#define NAME_LETTERS SID_LEN

struct broadcast {
    UT_hash_handle hh; /* gateway->broadcasts, by name, while it waits for answers */
    struct gateway *gw;
    char name[NAME_LETTERS + 1];
    bool published; /* nodes is known */
    struct timer timer;
    uint32_t patience_ms;
    struct broadcast_result result;
    struct buf acks, missing, nodes; /* nodes: those that have answered, a line each */
    broadcast_done *done;
    void *arg;
};

static void broadcast_end(struct broadcast *b, enum err err, const char *why)
{
    b->result.err = err;
    b->result.why = why;
    b->result.acks = buf_slice(&b->acks);
    b->result.missing = buf_slice(&b->missing);
    timer_stop(&b->timer);
    if (b->hh.tbl != NULL) {
        HASH_DELETE(hh, b->gw->broadcasts, b);
        if (b->published && b->gw->broker != NULL)
            b->gw->broker->ops->control_end(b->gw->broker, slice_str(b->name));
    }
    b->done(b->arg, &b->result);
    buf_fini(&b->acks);
    buf_fini(&b->missing);
    buf_fini(&b->nodes);
    free(b);
}

static void check_complete(struct broadcast *b)
{
    if (b->published && b->result.answered >= b->result.nodes)
        broadcast_end(b, OK, NULL);
}

static void on_timer(struct timer *t)
{
    broadcast_end(container_of(t, struct broadcast, timer), OK, NULL);
}

static void on_published(void *arg, const struct broker_result *r)
{
    struct broadcast *b = arg;
    bool waits = b->hh.tbl != NULL;
    if (r->err != OK) {
        broadcast_end(b, r->err, r->why);
        return;
    }
    b->published = true;
    b->result.nodes = r->total;
    if (!waits) {
        broadcast_end(b, OK, NULL);
        return;
    }
    timer_start(&b->timer, b->patience_ms);
    check_complete(b);
}

static void on_refused(struct timer *t)
{
    broadcast_end(container_of(t, struct broadcast, timer), ERR_RATE_LIMITED,
                  "too many emissions wait for acks on this node");
}

/* Into the log of the namespace, for those who come back; where it keeps none they are to notice that they missed something. */
static void publish(struct broadcast *b, const struct policy *policy, struct slice room, struct slice body)
{
    const struct publish p = {.room = room,
                              .data = body,
                              .data_type = DATA_EMISSION,
                              .retain_count = policy->retain_count,
                              .retain_age_s = policy->retain_age_s,
                              .replicas = policy->replicas};
    b->gw->broker->ops->publish(b->gw->broker, &p, on_published, b);
}

static void tell(struct broadcast *b, const struct emission *e, struct slice room, struct slice body)
{
    const struct emit_message m = {.room = room, .sid = slice_str(b->name), .data = body, .answered = e->ack};
    b->gw->broker->ops->emit(b->gw->broker, &m, on_published, b);
}

void broadcast_emit(struct gateway *g, const struct emission *e, struct slice body, broadcast_done *done, void *arg)
{
    struct broadcast *b = xcalloc(1, sizeof *b);
    struct buf room = BUF_INIT;
    b->gw = g;
    b->done = done;
    b->arg = arg;
    b->patience_ms = e->timeout_ms + GRACE_MS;
    random_id(b->name, NAME_LETTERS);
    if (e->ack)
        HASH_ADD_KEYPTR(hh, g->broadcasts, b->name, NAME_LETTERS, b);
    if (e->ack && HASH_COUNT(g->broadcasts) > WAITING_MAX) {
        timer_init(&b->timer, g->loop, on_refused);
        timer_start(&b->timer, 0);
        return;
    }
    timer_init(&b->timer, g->loop, on_timer);
    buf_append_str(&room, NAMESPACE_ROOM);
    buf_append(&room, e->to.nsp);
    if (g->cfg->socketio_recovery && !e->ack && !e->is_volatile)
        publish(b, policies_find(g->policies, buf_slice(&room)), buf_slice(&room), body);
    else
        tell(b, e, buf_slice(&room), body);
    buf_fini(&room);
}

/* --- answers --- */

static bool answered_before(struct broadcast *b, struct slice node)
{
    struct buf line = BUF_INIT;
    buf_append_char(&line, '\n');
    buf_append(&line, node);
    buf_append_char(&line, '\n');
    bool before = b->nodes.n != 0 && memmem(b->nodes.p, b->nodes.n, line.p, line.n) != NULL;
    if (!before)
        buf_append(&b->nodes, buf_slice(&line));
    buf_fini(&line);
    return before;
}

static void take_elements(struct broadcast *b, struct buf *to, struct json_value list)
{
    if (list.kind != JSON_KIND_ARRAY || list.raw.n <= 2)
        return;
    if (b->acks.n + b->missing.n + list.raw.n > ANSWERS_MAX) {
        b->result.dropped = true;
        return;
    }
    if (to->n != 0)
        buf_append_char(to, ',');
    buf_append(to, (struct slice){list.raw.p + 1, list.raw.n - 2});
}

bool broadcast_answer(struct gateway *g, const struct envelope *e)
{
    static const char *const names[] = {"acks", "missing", "uncounted"};
    struct json_value v[ARRAY_LEN(names)] = {{0}};
    struct error error;
    struct broadcast *b;
    uint64_t uncounted = 0;
    if (!slice_eq(e->event, SLICE(BROADCAST_ANSWER)))
        return false;
    HASH_FIND(hh, g->broadcasts, e->from.p, e->from.n, b);
    if (b == NULL || answered_before(b, e->node))
        return true; /* too late, or again */
    if (utf8_valid(e->data) && json_members(e->data, names, ARRAY_LEN(names), v, &error) == OK) {
        take_elements(b, &b->acks, v[0]);
        take_elements(b, &b->missing, v[1]);
        b->result.uncounted += json_uint(v[2], UINT32_MAX, &uncounted) ? uncounted : 0;
    } else {
        b->result.dropped = true; /* the store is shared */
    }
    b->result.answered++;
    check_complete(b);
    return true;
}

void broadcasts_fini(struct gateway *g)
{
    while (g->broadcasts != NULL)
        broadcast_end(g->broadcasts, ERR_UNAVAILABLE, "this node is stopping");
}
