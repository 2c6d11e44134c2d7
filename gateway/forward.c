/* gateway/forward.c: requests of the long-polling transport between nodes: asking, and doing it for others. */
#include "gateway/forward.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "gateway/peer.h"
#include "gateway/polling_take.h"

#define TRIES 8u /* one that has just begun may not be known yet, one that has moved is looked for */
#define DEAF                                                                                                           \
    3u /* so often nobody has heard it at a node: then the node is gone; one that has just begun to listen is not */
#define RETRY_MS  50u
#define MARGIN_MS 5000u /* for the way, and for a POST that has to wait */
#define ID_MAX    24

static const struct slice verb_get = SLICE("poll-get"), verb_post = SLICE("poll-post"), verb_gone = SLICE("poll-gone"),
                          verb_now = SLICE("poll-now");
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
    struct slice sid, verb, data;
    struct timer timer; /* until it is asked again, or has taken too long */
    struct peer_wait there;
    unsigned tries, unheard;
    bool asking, sent, waiting; /* asking: the store; sent: there will be a control_end; waiting: in the hash */
    bool unknown;               /* its node knows nothing of it: that was faster than the store */
    char node[NODE_ID_MAX];     /* whose it is thought to be; empty: that is to be found out */
    char gone[NODE_ID_MAX];     /* this one is not there */
    char id[ID_MAX];
    char bytes[]; /* sid, data */
};

static struct forward *create(struct gateway *g, struct slice sid, struct slice node, struct slice verb, char flag,
                              struct slice data);
static void send(struct forward *f);
static void look(struct forward *f);
static void unknown_there(struct forward *f);

/* No answer is waited for any more. */
static void unsend(struct forward *f)
{
    peer_wait_end(&f->there);
    if (f->sent && f->gw->broker != NULL)
        f->gw->broker->ops->control_end(f->gw->broker, f->sid);
    f->sent = false;
}

static void end(struct forward *f)
{
    if (f->waiting)
        HASH_DELETE(hh, f->gw->forwards, f);
    f->waiting = false;
    f->poll = NULL;
    timer_stop(&f->timer);
    if (f->asking)
        return; /* the store's answer follows */
    unsend(f);
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

/* The store has answered. False: nobody waits for that any more. */
static bool go_on(struct forward *f)
{
    f->asking = false;
    if (f->waiting)
        return true;
    end(f);
    return false;
}

/* May another node have taken it over, or this one? */
static bool may_move(const struct forward *f)
{
    return f->poll != NULL && gateway_resume_window_s(f->gw) != 0;
}

/* What others know of it may be a moment old. */
static void rest(struct forward *f)
{
    uint32_t deaf_ms = f->unheard != 0 && f->gw->broker != NULL ? f->gw->broker->deaf_ms / DEAF : 0;
    if (f->tries >= TRIES)
        refuse(f);
    else
        timer_start(&f->timer, deaf_ms > RETRY_MS ? deaf_ms : RETRY_MS);
}

static void ask(struct forward *f)
{
    f->tries++;
    if (f->node[0] == '\0' && may_move(f))
        look(f);
    else
        send(f);
}

/* What stands in front of the data: whether bytes (POST), or base64 (GET), and twice which revision of Engine.IO the request says. */
static char letter(const struct poll *p, bool flag)
{
    return (char)('0' + (flag ? 1 : 0) + 2 * p->revision);
}

static bool flag_of(struct slice data)
{
    return data.n != 0 && ((data.p[0] - '0') & 1) != 0;
}

/* --- where it is --- */

static void serve(struct forward *f, struct polling *po)
{
    struct poll *p = TAKE(f->poll);
    bool flag = flag_of(f->data);
    p->found(p, po);
    if (slice_eq(f->verb, verb_get)) {
        struct slice stamp = slice_from(f->data, 1);
        struct buf name = BUF_INIT;
        buf_append_str(&name, f->id);
        buf_append_str(&name, f->gw->node);
        polling_get(po, p, flag, stamp.n != 0 ? stamp : buf_slice(&name));
        buf_fini(&name);
    } else {
        polling_post(po, p, flag, slice_from(f->data, 1));
    }
    end(f);
}

static void turn_to(struct forward *f, struct slice node)
{
    f->unheard = 0;
    if (node.n >= sizeof f->node)
        node.n = 0;
    memcpy(f->node, node.p, node.n);
    f->node[node.n] = '\0';
    struct polling *po = polling_find(f->gw, f->sid);
    if (po != NULL)
        serve(f, po);
    else if (slice_eq(node, slice_str(f->gw->node)) || node.n == 0 || f->tries >= TRIES)
        rest(f); /* being taken over by another request, or just over */
    else
        f->tries++, send(f);
}

static void on_taken(void *arg, const struct broker_result *r)
{
    struct forward *f = arg;
    struct error error = {0};
    struct polling *po = polling_find(f->gw, f->sid);
    enum err err = r->err;
    if (err == OK && f->gw->broker != NULL && po == NULL) {
        err = f->waiting ? polling_revive(f->gw, f->sid, r->polling, &po, &error) : ERR_NOT_FOUND;
        if (err != OK) {
            LOG(INFO, "connection by long-polling cannot go on", "engine=%.6s why=%s", f->sid.p, error.text);
            f->gw->broker->ops->polling_drop(f->gw->broker, f->sid);
        }
    }
    if (!go_on(f))
        return;
    if (po != NULL)
        serve(f, po);
    else if (err == ERR_CONFLICT)
        turn_to(f, r->where[0]);
    else
        refuse(f);
}

/* Only from a node that is not there. */
static void on_found(void *arg, const struct broker_result *r)
{
    struct forward *f = arg;
    struct broker *b = f->gw->broker;
    if (!go_on(f))
        return;
    if (r->err != OK || b == NULL) {
        refuse(f);
    } else if (f->gone[0] == '\0' || !slice_eq(r->where[0], slice_str(f->gone)) || f->gw->draining) {
        turn_to(f, r->where[0]);
    } else if (f->unheard < DEAF) {
        rest(f);
    } else {
        f->asking = true;
        b->ops->polling_take(b, f->sid, slice_str(f->gone), on_taken, f);
    }
}

static void look(struct forward *f)
{
    f->asking = true;
    timer_stop(&f->timer);
    f->gw->broker->ops->polling_find(f->gw->broker, f->sid, on_found, f);
}

/* --- the node that has it --- */

static void missing(struct forward *f)
{
    if (!may_move(f)) {
        rest(f);
        return;
    }
    f->unheard++;
    memcpy(f->gone, f->node, sizeof f->gone);
    look(f);
}

/* A POST that has reached it may have been done. */
static void on_lost(struct peer_wait *w)
{
    struct forward *f = container_of(w, struct forward, there);
    unsend(f);
    f->unheard = DEAF;
    if (slice_eq(f->verb, verb_get))
        missing(f);
    else
        refuse(f);
}

/* This node goes, the session does not: its client is to have its answer and ask elsewhere. */
static void ask_now(struct forward *f)
{
    if (f->poll != NULL && slice_eq(f->verb, verb_get) && f->gw->broker != NULL)
        ask(create(f->gw, f->sid, slice_str(f->node), verb_now, '0', slice_str(f->id)));
}

static void wait_there(struct forward *f)
{
    if (f->gw->draining)
        ask_now(f);
    if (f->node[0] != '\0')
        peer_wait_begin(f->gw, &f->there, slice_str(f->node), f->sid);
}

static void on_sent(void *arg, const struct broker_result *r)
{
    struct forward *f = arg;
    bool unknown = r->err == ERR_NOT_FOUND || r->err == ERR_UNAVAILABLE;
    f->sent = r->err == OK && !r->away;
    if (!go_on(f))
        return;
    if (f->poll == NULL)
        end(f);
    else if (unknown && f->gw->broker != NULL && f->gw->broker->ops->not_ready(f->gw->broker) == NULL)
        missing(f);
    else if (!f->sent)
        refuse(f);
    else if (f->unknown)
        unknown_there(f);
    else
        wait_there(f);
}

static void send(struct forward *f)
{
    const struct broker_ops *ops = f->gw->broker->ops;
    const struct config *cfg = f->gw->cfg;
    const struct control_message m = {
        .sid = f->sid, .id = slice_str(f->id), .verb = f->verb, .data = f->data, .node = slice_str(f->node)};
    f->asking = true;
    timer_start(&f->timer, (uint64_t)cfg->socketio_ping_interval_ms + cfg->socketio_ping_timeout_ms + MARGIN_MS);
    (m.node.n != 0 ? ops->control_to : ops->control)(f->gw->broker, &m, on_sent, f);
}

static void on_timer(struct timer *t)
{
    struct forward *f = container_of(t, struct forward, timer);
    if (!f->asking && !f->sent)
        ask(f);
    else
        refuse(f);
}

static struct forward *create(struct gateway *g, struct slice sid, struct slice node, struct slice verb, char flag,
                              struct slice data)
{
    struct forward *f = xcalloc(1, sizeof *f + sid.n + 1 + data.n);
    char *at = f->bytes;
    f->gw = g;
    f->verb = verb;
    f->there.lost = on_lost;
    f->sid = slice_put(&at, sid);
    f->data = (struct slice){at, data.n + 1};
    *at++ = flag;
    (void)slice_put(&at, data);
    memcpy(f->node, node.p, node.n);
    timer_init(&f->timer, g->loop, on_timer);
    (void)snprintf(f->id, sizeof f->id, "p%" PRIx64, ++g->last_forward);
    HASH_ADD_KEYPTR(hh, g->forwards, f->id, strlen(f->id), f);
    f->waiting = true;
    return f;
}

static struct forward *begin(struct gateway *g, struct slice name, struct slice verb, char flag, struct slice data,
                             struct poll *poll)
{
    struct slice sid, node;
    bool ours;
    if (g->broker == NULL || !polling_name_read(name, &sid, &node))
        return NULL;
    ours = slice_eq(node, slice_str(g->node)); /* not any more, or it would have been found here */
    if (ours && gateway_resume_window_s(g) == 0)
        return NULL;
    metrics->polls_forwarded++;
    struct forward *f = create(g, sid, ours ? SLICE("") : node, verb, flag, data);
    f->poll = poll;
    ask(f);
    return f;
}

struct forward *forward_get(struct gateway *g, struct slice sid, bool base64, struct slice stamp, struct poll *poll)
{
    return begin(g, sid, verb_get, letter(poll, base64), stamp, poll);
}

struct forward *forward_post(struct gateway *g, struct slice sid, bool bytes, struct slice body, struct poll *poll)
{
    return begin(g, sid, verb_post, letter(poll, bytes), body, poll);
}

void forward_cancel(struct forward *f)
{
    f->poll = NULL;
    if (f->gw->broker != NULL && (f->sent || f->asking))
        ask(create(f->gw, f->sid, slice_str(f->node), verb_gone, '0', slice_str(f->id)));
    end(f);
}

/* A node that knows nothing of it: it is somewhere else, or nowhere. */
static void unknown_there(struct forward *f)
{
    f->unknown = f->asking;
    if (f->asking)
        return; /* on_sent() follows */
    unsend(f);
    if (!may_move(f) || f->tries >= TRIES) {
        refuse(f);
        return;
    }
    f->node[0] = f->gone[0] = '\0';
    timer_start(&f->timer, f->tries > 1 ? RETRY_MS : 0);
}

static void answered(struct gateway *g, const struct envelope *e)
{
    struct forward *f;
    HASH_FIND(hh, g->forwards, e->id.p, e->id.n, f);
    if (f == NULL || f->poll == NULL || !slice_eq(f->sid, e->from) ||
        (f->node[0] != '\0' && !slice_eq(e->node, slice_str(f->node))))
        return; /* too late */
    if (slice_eq(e->event, said_refused) && slice_eq(e->data, SLICE("1"))) {
        unknown_there(f);
        return;
    }
    struct poll_answer a = {.status = 400, .reason = EIO_BAD_REQUEST};
    if (slice_eq(e->event, said_text) || slice_eq(e->event, said_bytes))
        a = (struct poll_answer){.status = 200, .bytes = slice_eq(e->event, said_bytes), .body = e->data};
    else if (slice_eq(e->event, said_large))
        a.status = 413;
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
    q->id = slice_put(&at, e->id);
    q->node = q->poll.node = slice_put(&at, e->node);
    q->sid = slice_put(&at, e->from);
    HASH_ADD_KEYPTR(hh, g->guests, q->key, q->id.n + q->node.n, q);
    return q;
}

static void guest_gone(struct guest *q)
{
    polling_vanished(q->polling, &q->poll);
    guest_free(q);
}

static void guest_now(struct guest *q)
{
    polling_answer_now(q->polling, &q->poll);
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

/* 0: it is none of ours. */
static uint64_t number_of(struct slice id)
{
    uint64_t n = 0;
    for (size_t i = 1; i < id.n && id.p[0] == 'p'; i++) {
        char c = id.p[i];
        if (i > 16 || !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return 0;
        n = n << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return n;
}

static void asked(struct gateway *g, const struct envelope *e)
{
    bool flag = flag_of(e->data), gone = slice_eq(e->event, verb_gone), now = slice_eq(e->event, verb_now);
    struct slice data = e->data.n != 0 ? slice_from(e->data, 1) : SLICE_NONE;
    struct guest *q = guest_find(g, gone || now ? data : e->id, e->node);
    if (gone || now) {
        if (q != NULL && slice_eq(q->sid, e->from))
            (gone ? guest_gone : guest_now)(q);
        return;
    }
    if (q != NULL)
        return; /* it came twice */
    metrics->polls_served++;
    q = guest_create(g, e);
    q->poll.revision = e->data.n != 0 ? (uint8_t)((e->data.p[0] - '0') / 2) : 0;
    q->polling = polling_find(g, e->from);
    if (q->polling == NULL)
        on_guest_answer(&q->poll, &(struct poll_answer){.status = 400, .reason = EIO_UNKNOWN_SID});
    else if (polling_repeated(q->polling, slice_eq(e->event, verb_post), e->node, number_of(e->id)))
        guest_free(q); /* it has been answered already */
    else if (slice_eq(e->event, verb_get))
        polling_get(q->polling, &q->poll, flag, data.n != 0 ? data : (struct slice){q->key, q->id.n + q->node.n});
    else if (slice_eq(e->event, verb_post))
        polling_post(q->polling, &q->poll, flag, data);
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

void forwards_drain(struct gateway *g)
{
    struct forward *f, *next;
    HASH_ITER (hh, g->forwards, f, next) {
        if (f->sent)
            ask_now(f); /* those that follow are put behind */
    }
}

void forwards_fini(struct gateway *g)
{
    struct forward *f, *next;
    HASH_ITER (hh, g->forwards, f, next) {
        refuse(f);
    }
}
