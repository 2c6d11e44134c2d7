/* gateway/push.c: sorting tunnels by node, telling the nodes, gathering what they say. */
#include "gateway/push.h"

#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "gateway/protocol/wafer.h"
#include "gateway/session.h"
#include "gateway/tenants.h"
#include "gateway/tunnel.h"

#define PATIENCE_MS 3000u
#define PLACES_MAX  200000u /* tunnels of other nodes whose place is remembered */

static const struct slice verb = SLICE("push"), done_word = SLICE("done");

/* Another node. */
struct peer {
    UT_hash_handle hh;
    uint32_t places;
    struct link grouping; /* in push->groups while one sorts */
    struct buf ids;       /* of the push that sorts */
    size_t n;
    char name[];
};

/* Where a tunnel is. */
struct place {
    UT_hash_handle hh;
    struct link by_age;
    struct peer *peer;
    char sid[SID_LEN];
};

/* What one node has been told, until it answers. */
struct leg {
    UT_hash_handle hh; /* in pushes->legs by id */
    struct push *push;
    uint64_t id;
    bool handed_over, answered, missing_known;
    struct timer patience;
    struct buf ids, gone;
};

struct push {
    struct pushes *all;
    struct buf tenant, content;
    enum wafer_push_type type;
    struct msg *frame; /* NULL until somebody here gets it */
    uint32_t left;
    struct link groups;
    struct buf gone, asked; /* asked: the store, for these */
    struct push_result result;
    push_done *done;
    void *arg;
};

struct pushes {
    struct gateway *gw;
    struct peer *peers;
    struct place *places;
    struct link by_age;
    struct leg *legs;
    uint64_t last_leg;
};

bool push_name_valid(struct slice tunnel)
{
    return wafer_name_valid(tunnel, SID_LEN);
}

/* --- places --- */

/* It goes with the last tunnel that is known to be there. */
static void peer_look(struct pushes *p, struct peer *peer)
{
    if (peer->places != 0 || !list_empty(&peer->grouping))
        return;
    HASH_DELETE(hh, p->peers, peer);
    buf_fini(&peer->ids);
    free(peer);
}

static void place_free(struct pushes *p, struct place *at)
{
    HASH_DELETE(hh, p->places, at);
    list_del(&at->by_age);
    at->peer->places--;
    peer_look(p, at->peer);
    free(at);
}

static struct place *place_find(const struct pushes *p, const char *sid)
{
    struct place *at;
    HASH_FIND(hh, p->places, sid, SID_LEN, at);
    return at;
}

static struct peer *peer_get(struct pushes *p, struct slice name)
{
    struct peer *peer;
    HASH_FIND(hh, p->peers, name.p, name.n, peer);
    if (peer != NULL)
        return peer;
    peer = xcalloc(1, sizeof *peer + name.n);
    list_init(&peer->grouping);
    peer->n = name.n;
    memcpy(peer->name, name.p, name.n);
    HASH_ADD_KEYPTR(hh, p->peers, peer->name, peer->n, peer);
    return peer;
}

static struct place *place_note(struct pushes *p, const char *sid, struct slice node)
{
    struct place *at = place_find(p, sid);
    if (at != NULL)
        place_free(p, at);
    if (HASH_COUNT(p->places) >= PLACES_MAX)
        place_free(p, list_first(&p->by_age, struct place, by_age));
    at = xcalloc(1, sizeof *at);
    memcpy(at->sid, sid, SID_LEN);
    at->peer = peer_get(p, node);
    at->peer->places++;
    list_append(&p->by_age, &at->by_age);
    HASH_ADD(hh, p->places, sid, SID_LEN, at);
    return at;
}

static void places_forget(struct pushes *p, struct slice ids)
{
    for (size_t i = 0; i + SID_LEN <= ids.n; i += SID_LEN) {
        struct place *at = place_find(p, ids.p + i);
        if (at != NULL)
            place_free(p, at);
    }
}

/* --- the tunnels of this node --- */

/* NULL: there is none, or it is somebody else's. */
static struct session *tunnel_here(struct gateway *g, struct slice tenant, const char *sid, bool *ret_other)
{
    struct session *s;
    HASH_FIND(hh, g->sessions, sid, SID_LEN, s);
    *ret_other = s != NULL;
    return s != NULL && s->conn != NULL && s->tunnel != NULL && slice_eq(tunnel_tenant(s->tunnel), tenant) ? s : NULL;
}

static void give(struct session *s, enum wafer_push_type type, struct slice content, struct msg **frame)
{
    if (type == WAFER_PUSH_CLOSE) {
        conn_goodbye(s->conn, 1000, SLICE("closed"), 0);
        return;
    }
    if (*frame == NULL) {
        struct buf bytes = BUF_INIT;
        wafer_message(content, &bytes);
        *frame = msg_new(buf_slice(&bytes));
        buf_fini(&bytes);
        metrics->encodes++;
    }
    metrics->deliveries++;
    (void)conn_send(s->conn, *frame, POLICY_SLOW_DEFAULT);
}

/* --- answering --- */

static void push_free(struct push *x)
{
    msg_unref(&x->frame);
    buf_fini(&x->tenant);
    buf_fini(&x->content);
    buf_fini(&x->gone);
    buf_fini(&x->asked);
    free(x);
}

static void count_down(struct push *x)
{
    if (--x->left != 0)
        return;
    x->result.gone = buf_slice(&x->gone);
    metrics->pushes_unreached += x->result.unreached;
    x->done(x->arg, &x->result);
    push_free(x);
}

static void add_gone(struct push *x, struct slice ids)
{
    buf_append(&x->gone, ids);
}

/* --- legs --- */

static void leg_end(struct leg *l)
{
    struct push *x = l->push;
    struct pushes *p = x->all;
    timer_stop(&l->patience);
    HASH_DELETE(hh, p->legs, l);
    if (l->handed_over && p->gw->broker != NULL)
        p->gw->broker->ops->control_end(p->gw->broker, (struct slice){l->ids.p, SID_LEN});
    if (l->missing_known)
        add_gone(x, buf_slice(&l->gone));
    else
        x->result.unreached += (uint32_t)(l->ids.n / SID_LEN);
    places_forget(p, l->missing_known ? buf_slice(&l->gone) : buf_slice(&l->ids));
    buf_fini(&l->ids);
    buf_fini(&l->gone);
    free(l);
    count_down(x);
}

static void on_patience(struct timer *t)
{
    struct leg *l = container_of(t, struct leg, patience);
    leg_end(l);
}

static void on_handed_over(void *arg, const struct broker_result *r)
{
    struct leg *l = arg;
    l->handed_over = r->err == OK;
    if (r->err != OK || l->answered || l->push->all->gw->broker == NULL)
        leg_end(l);
    else
        timer_start(&l->patience, PATIENCE_MS);
}

static void tell(struct push *x, const struct peer *peer)
{
    struct pushes *p = x->all;
    struct leg *l = xcalloc(1, sizeof *l);
    struct buf data = BUF_INIT;
    char id[24];
    l->push = x;
    l->id = ++p->last_leg;
    timer_init(&l->patience, p->gw->loop, on_patience);
    buf_append(&l->ids, buf_slice(&peer->ids));
    HASH_ADD(hh, p->legs, id, sizeof l->id, l);
    (void)snprintf(id, sizeof id, "p%llx", (unsigned long long)l->id);
    wafer_put_told(&(struct wafer_told){x->type, buf_slice(&x->tenant), buf_slice(&x->content), buf_slice(&peer->ids)},
                   &data);
    const struct control_message m = {.sid = {l->ids.p, SID_LEN},
                                      .id = slice_str(id),
                                      .verb = verb,
                                      .data = buf_slice(&data),
                                      .node = {peer->name, peer->n}};
    x->left++;
    metrics->pushes_told++;
    p->gw->broker->ops->control_to(p->gw->broker, &m, on_handed_over, l);
    buf_fini(&data);
}

static void group(struct push *x, struct peer *peer, const char *sid)
{
    if (list_empty(&peer->grouping))
        list_append(&x->groups, &peer->grouping);
    buf_append(&peer->ids, (struct slice){sid, SID_LEN});
}

static void tell_groups(struct push *x)
{
    while (!list_empty(&x->groups)) {
        struct peer *peer = list_first(&x->groups, struct peer, grouping);
        list_del(&peer->grouping);
        tell(x, peer);
        buf_clear(&peer->ids);
        peer_look(x->all, peer);
    }
}

/* --- sorting --- */

static void on_where(void *arg, const struct broker_result *r)
{
    struct push *x = arg;
    struct pushes *p = x->all;
    for (size_t i = 0; r->err == OK && i < r->count; i++) {
        const char *sid = x->asked.p + i * SID_LEN;
        if (r->where[i].n == 0 || slice_eq(r->where[i], slice_str(p->gw->node)))
            add_gone(x, (struct slice){sid, SID_LEN}); /* nowhere, or it was here just now */
        else
            group(x, place_note(p, sid, r->where[i])->peer, sid);
    }
    if (r->err != OK) {
        x->result.err = r->err == ERR_TIMEOUT ? ERR_TIMEOUT : ERR_UNAVAILABLE;
        x->result.unreached += (uint32_t)(x->asked.n / SID_LEN);
    } else if (p->gw->broker != NULL) {
        tell_groups(x);
    }
    count_down(x);
}

static void ask(struct push *x)
{
    struct broker *b = x->all->gw->broker;
    size_t n = x->asked.n / SID_LEN;
    AUTO_FREE struct slice *sids = xcalloc(n + 1, sizeof *sids);
    for (size_t i = 0; i < n; i++)
        sids[i] = (struct slice){x->asked.p + i * SID_LEN, SID_LEN};
    x->left++;
    b->ops->where(b, sids, n, on_where, x);
}

/* Returns the session if the tunnel is here. */
static struct session *sort(struct push *x, const char *sid)
{
    struct pushes *p = x->all;
    bool other;
    struct session *s = tunnel_here(p->gw, buf_slice(&x->tenant), sid, &other);
    const struct place *at = s == NULL && !other ? place_find(p, sid) : NULL;
    if (s != NULL)
        return s;
    if (other)
        add_gone(x, (struct slice){sid, SID_LEN});
    else if (at != NULL)
        group(x, at->peer, sid);
    else
        buf_append(&x->asked, (struct slice){sid, SID_LEN});
    return NULL;
}

/* A tunnel of this node. */
struct found {
    struct session *session;
};

/* From cache miss to cache miss, as in gateway/audience.c: what the next ones need is asked for meanwhile. */
static void give_all(struct push *x, const struct found *here, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (i + 6 < n)
            conn_prefetch(here[i + 6].session->conn);
        if (i + 4 < n)
            conn_prefetch_transport(here[i + 4].session->conn);
        if (i + 2 < n)
            conn_prefetch_write(here[i + 2].session->conn);
        give(here[i].session, x->type, buf_slice(&x->content), &x->frame);
    }
}

void push_send(struct pushes *p, struct slice id, const struct wafer_push *packet, push_done *done, void *arg)
{
    struct push *x = xcalloc(1, sizeof *x);
    x->all = p;
    x->type = packet->type;
    x->left = 1;
    x->done = done;
    x->arg = arg;
    list_init(&x->groups);
    buf_append(&x->tenant, id);
    buf_append(&x->content, packet->content);
    AUTO_FREE struct found *here = xcalloc(packet->id_count + 1, sizeof *here);
    size_t n = 0;
    for (size_t i = 0; i < packet->id_count; i++)
        if (push_name_valid(packet->ids[i]) && (here[n].session = sort(x, packet->ids[i].p)) != NULL)
            n++;
    give_all(x, here, n);
    tell_groups(x);
    if (x->asked.n != 0)
        ask(x);
    count_down(x);
}

bool pushes_busy(const struct pushes *p)
{
    return HASH_COUNT(p->legs) >= PUSHES_MAX;
}

/* --- what others ask of this node --- */

bool push_command(struct gateway *g, const struct envelope *e)
{
    struct wafer_told t;
    struct buf gone = BUF_INIT;
    struct msg *frame = NULL;
    bool other;
    if (!slice_eq(e->event, verb))
        return false;
    if (g->pushes == NULL || !wafer_read_told(e->data, SID_LEN, &t))
        return true; /* not worth an answer; who asks hears nothing in time */
    for (size_t i = 0; i < t.ids.n; i += SID_LEN) {
        struct session *s = tunnel_here(g, t.tenant, t.ids.p + i, &other);
        if (s != NULL)
            give(s, t.type, t.content, &frame);
        else
            buf_append(&gone, (struct slice){t.ids.p + i, SID_LEN});
    }
    msg_unref(&frame);
    g->broker->ops->control_answer(
        g->broker, &(struct control_message){
                       .sid = e->from, .id = e->id, .node = e->node, .verb = done_word, .data = buf_slice(&gone)});
    buf_fini(&gone);
    return true;
}

bool push_answer(struct gateway *g, const struct envelope *e)
{
    struct leg *l = NULL;
    uint64_t id = 0;
    if (g->pushes == NULL || e->id.n < 2 || e->id.n > 17 || e->id.p[0] != 'p')
        return false;
    for (size_t i = 1; i < e->id.n; i++) {
        int digit = text_hex(e->id.p[i]);
        if (digit < 0)
            return true;
        id = id << 4 | (uint64_t)digit;
    }
    HASH_FIND(hh, g->pushes->legs, &id, sizeof id, l);
    if (l == NULL || l->answered || !slice_eq((struct slice){l->ids.p, SID_LEN}, e->from))
        return true; /* too late, or none of ours */
    l->answered = true;
    l->missing_known = slice_eq(e->event, done_word) && e->data.n % SID_LEN == 0 && e->data.n <= l->ids.n;
    for (size_t i = 0; l->missing_known && i < e->data.n; i += SID_LEN)
        l->missing_known = push_name_valid((struct slice){e->data.p + i, SID_LEN});
    if (l->missing_known)
        buf_append(&l->gone, e->data);
    if (l->handed_over) /* else the store's own answer is still to come, on another connection */
        leg_end(l);
    return true;
}

/* --- life --- */

struct pushes *pushes_create(struct gateway *g)
{
    struct pushes *p = xcalloc(1, sizeof *p);
    p->gw = g;
    list_init(&p->by_age);
    return p;
}

void pushes_destroy(struct pushes **pointer)
{
    struct pushes *p = TAKE(*pointer);
    if (p == NULL)
        return;
    while (p->legs != NULL)
        leg_end(p->legs);
    while (!list_empty(&p->by_age))
        place_free(p, list_first(&p->by_age, struct place, by_age));
    free(p);
}
