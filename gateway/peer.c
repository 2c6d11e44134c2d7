/* gateway/peer.c: nodes that something here waits for. */
#include "gateway/peer.h"

#include "base/log.h"
#include "base/mem.h"
#include "gateway/gateway.h"

#define OFTEN_MS 2000u

static const struct slice verb_there = SLICE("peer-there"), said_here = SLICE("peer-here");

struct peer {
    UT_hash_handle hh; /* gateway->peers, by node */
    struct gateway *gw;
    struct link waits; /* who is to be asked for next stands first */
    struct timer timer;
    uint64_t heard_ms;
    struct peer_question *question; /* under way to the store */
    char held[SID_LEN + 1];         /* the sid whose answer is listened for; empty: none */
    char node[NODE_ID_MAX];
};

struct peer_question {
    struct gateway *gw;
    struct peer *peer; /* NULL: nothing waits any more */
    char sid[SID_LEN + 1];
};

static void ask(struct peer *p);

static struct peer *peer_find(const struct gateway *g, struct slice node)
{
    struct peer *p;
    HASH_FIND(hh, g->peers, node.p, node.n, p);
    return p;
}

static void release(struct peer *p)
{
    if (p->held[0] != '\0' && p->gw->broker != NULL)
        p->gw->broker->ops->control_end(p->gw->broker, slice_str(p->held));
    p->held[0] = '\0';
}

static void peer_free(struct peer *p)
{
    release(p);
    if (p->question != NULL)
        p->question->peer = NULL;
    timer_stop(&p->timer);
    HASH_DELETE(hh, p->gw->peers, p);
    free(p);
}

void peer_wait_end(struct peer_wait *w)
{
    struct peer *p = TAKE(w->peer);
    if (p == NULL)
        return;
    list_del(&w->link);
    if (list_empty(&p->waits))
        peer_free(p);
}

static void lose(struct peer_wait *w)
{
    peer_wait_end(w);
    w->lost(w);
}

/* Whoever loses may wait for others, so the list is done when those who are in it now have been. */
static void lose_all(struct peer *p)
{
    struct gateway *g = p->gw;
    char node[NODE_ID_MAX];
    memcpy(node, p->node, sizeof node); /* it goes with the last that waits for it */
    LOG_PEER(WARN, "a node does not answer", "node=%s", node);
    while ((p = peer_find(g, slice_str(node))) != NULL)
        lose(list_first(&p->waits, struct peer_wait, link));
}

/* Where somebody who is there may not be heard for a moment, only silence for the time of a lease counts. */
static void unheard(struct peer *p)
{
    if (p->gw->broker->deaf_ms == 0)
        lose_all(p);
}

static void on_asked(void *arg, const struct broker_result *r)
{
    struct peer_question *q = arg;
    struct peer *p = q->peer;
    if (p != NULL)
        p->question = NULL;
    if (r->err == OK && !r->away && p == NULL && q->gw->broker != NULL)
        q->gw->broker->ops->control_end(q->gw->broker, slice_str(q->sid));
    else if (r->err == OK && !r->away && p != NULL)
        memcpy(p->held, q->sid, sizeof p->held);
    else if (r->err == ERR_UNAVAILABLE && p != NULL && q->gw->broker != NULL &&
             q->gw->broker->ops->not_ready(q->gw->broker) == NULL)
        unheard(p);
    else if (p != NULL)
        p->heard_ms = loop_now_ms(q->gw->loop); /* it is the store that cannot be reached: nothing is known of others */
    free(q);
}

static void ask(struct peer *p)
{
    struct peer_wait *w = list_first(&p->waits, struct peer_wait, link);
    struct peer_question *q = xcalloc(1, sizeof *q);
    list_del(&w->link);
    list_append(&p->waits, &w->link);
    release(p);
    *q = (struct peer_question){.gw = p->gw, .peer = p};
    memcpy(q->sid, w->sid.p, w->sid.n < SID_LEN ? w->sid.n : SID_LEN);
    p->question = q;
    const struct control_message m = {
        .sid = slice_str(q->sid), .id = SLICE("?"), .verb = verb_there, .node = slice_str(p->node)};
    p->gw->broker->ops->control_to(p->gw->broker, &m, on_asked, q);
}

static uint64_t often_ms(const struct gateway *g)
{
    return g->cfg->lease_ms / 3 < OFTEN_MS ? g->cfg->lease_ms / 3 : OFTEN_MS;
}

static void on_timer(struct timer *t)
{
    struct peer *p = container_of(t, struct peer, timer);
    struct gateway *g = p->gw;
    if (g->broker == NULL)
        return;
    if (loop_now_ms(g->loop) - p->heard_ms >= g->cfg->lease_ms) {
        lose_all(p);
        return;
    }
    timer_start(&p->timer, often_ms(g));
    if (p->question == NULL)
        ask(p);
}

void peer_wait_begin(struct gateway *g, struct peer_wait *w, struct slice node, struct slice sid)
{
    struct peer *p = peer_find(g, node);
    if (p == NULL) {
        p = xcalloc(1, sizeof *p);
        p->gw = g;
        p->heard_ms = loop_now_ms(g->loop);
        memcpy(p->node, node.p, node.n < sizeof p->node ? node.n : sizeof p->node - 1);
        list_init(&p->waits);
        timer_init(&p->timer, g->loop, on_timer);
        timer_start(&p->timer, often_ms(g));
        HASH_ADD_KEYPTR(hh, g->peers, p->node, strlen(p->node), p);
    }
    w->peer = p;
    w->sid = sid;
    list_append(&p->waits, &w->link);
}

bool peer_envelope(struct gateway *g, const struct envelope *e)
{
    struct peer *p = e->kind == ENVELOPE_CONTROLLED ? peer_find(g, e->node) : NULL;
    if (p != NULL)
        p->heard_ms = loop_now_ms(g->loop);
    if (e->kind == ENVELOPE_CONTROL && slice_eq(e->event, verb_there) && g->broker != NULL)
        g->broker->ops->control_answer(
            g->broker, &(struct control_message){.sid = e->from, .id = e->id, .node = e->node, .verb = said_here});
    return slice_starts(e->event, SLICE("peer-"));
}
