/* gateway/forward.c: requests of the long-polling transport between nodes: asking, and doing it for others. */
#include "gateway/forward.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/mem.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"

#define TRIES     3u /* a session that has just begun may not be known yet */
#define RETRY_MS  50u
#define MARGIN_MS 5000u /* for the way, and for a POST that has to wait */
#define ID_MAX    24

static const struct slice verb_get = SLICE("poll-get"), verb_post = SLICE("poll-post"), verb_gone = SLICE("poll-gone");
static const struct slice said_text = SLICE("poll-text"), said_bytes = SLICE("poll-bytes"),
                          said_refused = SLICE("poll-refused"), said_large = SLICE("poll-large");

bool forward_is(const struct envelope *e)
{
    return slice_starts(e->event, SLICE("poll-"));
}

/* --- asking --- */

struct forward {
    UT_hash_handle hh; /* gateway->forwards, by id; while it waits */
    struct gateway *gw;
    struct poll *poll; /* NULL: nobody waits (any more) */
    struct slice sid, node, verb, data;
    struct timer timer; /* until it is asked again, or has taken too long */
    unsigned tries;
    bool sending, sent, waiting; /* sent: there will be a control_end; waiting: in the hash */
    char id[ID_MAX];
    char bytes[]; /* sid, node, data */
};

static void end(struct forward *f)
{
    if (f->waiting)
        HASH_DELETE(hh, f->gw->forwards, f);
    f->waiting = false;
    f->poll = NULL;
    timer_stop(&f->timer);
    if (f->sending)
        return; /* on_sent() follows */
    if (f->sent && f->gw->broker != NULL)
        f->gw->broker->ops->control_end(f->gw->broker, f->sid);
    free(f);
}

static void answer(struct forward *f, const struct poll_answer *a)
{
    struct poll *p = TAKE(f->poll);
    if (p != NULL)
        p->answer(p, a);
    end(f);
}

static void refuse(struct forward *f)
{
    answer(f, &(struct poll_answer){.status = 400, .reason = EIO_UNKNOWN_SID});
}

static void on_sent(void *arg, const struct broker_result *r)
{
    struct forward *f = arg;
    bool unknown = r->err == ERR_NOT_FOUND || r->err == ERR_UNAVAILABLE;
    f->sending = false;
    f->sent = r->err == OK && !r->away;
    if (!f->waiting || r->away || (r->err != OK && (!unknown || f->poll == NULL || f->tries >= TRIES)))
        refuse(f);
    else if (r->err != OK)
        timer_start(&f->timer, RETRY_MS);
    else if (f->poll == NULL)
        end(f);
}

static void send(struct forward *f)
{
    const struct broker_ops *ops = f->gw->broker->ops;
    const struct config *cfg = f->gw->cfg;
    const struct control_message m = {
        .sid = f->sid, .id = slice_str(f->id), .verb = f->verb, .data = f->data, .node = f->node};
    f->tries++;
    f->sending = true;
    timer_start(&f->timer, (uint64_t)cfg->socketio_ping_interval_ms + cfg->socketio_ping_timeout_ms + MARGIN_MS);
    (f->node.n != 0 ? ops->control_to : ops->control)(f->gw->broker, &m, on_sent, f);
}

static void on_timer(struct timer *t)
{
    struct forward *f = container_of(t, struct forward, timer);
    if (!f->sending && !f->sent)
        send(f);
    else
        refuse(f);
}

static struct slice put(char **at, struct slice s)
{
    struct slice copy = {*at, s.n};
    if (s.n != 0)
        memcpy(*at, s.p, s.n);
    *at += s.n;
    return copy;
}

static struct forward *create(struct gateway *g, struct slice sid, struct slice node, struct slice verb, char flag,
                              struct slice data)
{
    struct forward *f = xcalloc(1, sizeof *f + sid.n + node.n + 1 + data.n);
    char *at = f->bytes;
    f->gw = g;
    f->verb = verb;
    f->sid = put(&at, sid);
    f->node = put(&at, node);
    f->data = (struct slice){at, data.n + 1};
    *at++ = flag;
    (void)put(&at, data);
    timer_init(&f->timer, g->loop, on_timer);
    (void)snprintf(f->id, sizeof f->id, "p%" PRIx64, ++g->last_forward);
    HASH_ADD_KEYPTR(hh, g->forwards, f->id, strlen(f->id), f);
    f->waiting = true;
    return f;
}

static struct forward *ask(struct gateway *g, struct slice name, struct slice verb, char flag, struct slice data,
                           struct poll *poll)
{
    struct slice sid = name, node = SLICE_NONE;
    if (name.n < SID_LEN || g->broker == NULL)
        return NULL;
    if (name.n > SID_LEN) {
        sid.n = SID_LEN;
        node = slice_from(name, SID_LEN + 1);
        if (name.p[SID_LEN] != '.' || node.n == 0 || node.n >= NODE_ID_MAX)
            return NULL;
    }
    if (slice_eq(node, slice_str(g->node)))
        return NULL;
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] <= ' ' || name.p[i] > '~' || strchr("{}%", name.p[i]) != NULL)
            return NULL;
    metrics->polls_forwarded++;
    struct forward *f = create(g, sid, node, verb, flag, data);
    f->poll = poll;
    send(f);
    return f;
}

struct forward *forward_get(struct gateway *g, struct slice sid, bool base64, struct poll *poll)
{
    return ask(g, sid, verb_get, base64 ? '1' : '0', SLICE_NONE, poll);
}

struct forward *forward_post(struct gateway *g, struct slice sid, bool bytes, struct slice body, struct poll *poll)
{
    return ask(g, sid, verb_post, bytes ? '1' : '0', body, poll);
}

void forward_cancel(struct forward *f)
{
    f->poll = NULL;
    if (f->gw->broker != NULL)
        send(create(f->gw, f->sid, f->node, verb_gone, '0', slice_str(f->id)));
    end(f);
}

static void answered(struct gateway *g, const struct envelope *e)
{
    struct forward *f;
    HASH_FIND(hh, g->forwards, e->id.p, e->id.n, f);
    if (f == NULL || f->poll == NULL || !slice_eq(f->sid, e->from))
        return;
    struct poll_answer a = {.status = 400, .reason = EIO_BAD_REQUEST};
    if (slice_eq(e->event, said_text) || slice_eq(e->event, said_bytes))
        a = (struct poll_answer){.status = 200, .bytes = slice_eq(e->event, said_bytes), .body = e->data};
    else if (slice_eq(e->event, said_large))
        a.status = 413;
    else if (slice_eq(e->data, SLICE("1")))
        a.reason = EIO_UNKNOWN_SID;
    answer(f, &a);
}

/* --- doing it for others --- */

struct guest {
    struct poll poll;
    UT_hash_handle hh; /* gateway->guests, by id and node, as they stand behind each other */
    struct gateway *gw;
    struct polling *polling;
    struct slice id, node, sid;
    char key[];
};

static void reply(struct gateway *g, const struct guest *q, struct slice verb, struct slice data)
{
    if (g->broker != NULL)
        g->broker->ops->control_answer(
            g->broker,
            &(struct control_message){.sid = q->sid, .id = q->id, .node = q->node, .verb = verb, .data = data});
}

static void guest_free(struct guest *q)
{
    HASH_DELETE(hh, q->gw->guests, q);
    free(q);
}

static void on_guest_answer(struct poll *p, const struct poll_answer *a)
{
    struct guest *q = container_of(p, struct guest, poll);
    if (a->status == 200)
        reply(q->gw, q, a->bytes ? said_bytes : said_text, a->body);
    else if (a->status == 413)
        reply(q->gw, q, said_large, SLICE_NONE);
    else
        reply(q->gw, q, said_refused, a->reason == EIO_UNKNOWN_SID ? SLICE("1") : SLICE("3"));
    guest_free(q);
}

static struct guest *guest_create(struct gateway *g, const struct envelope *e)
{
    struct guest *q = xcalloc(1, sizeof *q + e->id.n + e->node.n + e->from.n);
    char *at = q->key;
    q->gw = g;
    q->poll.answer = on_guest_answer;
    q->id = put(&at, e->id);
    q->node = put(&at, e->node);
    q->sid = put(&at, e->from);
    HASH_ADD_KEYPTR(hh, g->guests, q->key, q->id.n + q->node.n, q);
    return q;
}

/* key: the id and the node of a request. */
static struct guest *guest_find(const struct gateway *g, struct slice id, struct slice node)
{
    struct guest *q;
    struct buf key = BUF_INIT;
    buf_append(&key, id);
    buf_append(&key, node);
    HASH_FIND(hh, g->guests, key.p, key.n, q);
    buf_fini(&key);
    return q;
}

static void asked(struct gateway *g, const struct envelope *e)
{
    bool flag = e->data.n != 0 && e->data.p[0] == '1';
    struct slice rest = e->data.n != 0 ? slice_from(e->data, 1) : SLICE_NONE;
    struct guest *q = guest_find(g, slice_eq(e->event, verb_gone) ? rest : e->id, e->node);
    if (slice_eq(e->event, verb_gone)) {
        if (q != NULL && slice_eq(q->sid, e->from)) {
            polling_vanished(q->polling, &q->poll);
            guest_free(q);
        }
        return;
    }
    if (q != NULL)
        return; /* it came twice */
    metrics->polls_served++;
    q = guest_create(g, e);
    q->polling = polling_find(g, e->from);
    if (q->polling == NULL)
        on_guest_answer(&q->poll, &(struct poll_answer){.status = 400, .reason = EIO_UNKNOWN_SID});
    else if (polling_repeated(q->polling, slice_eq(e->event, verb_post), (struct slice){q->key, q->id.n + q->node.n}))
        guest_free(q); /* it has been answered already */
    else if (slice_eq(e->event, verb_get))
        polling_get(q->polling, &q->poll, flag);
    else if (slice_eq(e->event, verb_post))
        polling_post(q->polling, &q->poll, flag, rest);
    else
        on_guest_answer(&q->poll, &(struct poll_answer){.status = 400, .reason = EIO_BAD_REQUEST});
}

void forward_envelope(struct gateway *g, const struct envelope *e)
{
    if (e->kind == ENVELOPE_CONTROL)
        asked(g, e);
    else
        answered(g, e);
}

void forwards_fini(struct gateway *g)
{
    struct forward *f, *next;
    HASH_ITER (hh, g->forwards, f, next) {
        refuse(f);
    }
}
