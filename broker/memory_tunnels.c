/* broker/memory_tunnels.c: URLs of tunnels that the embedded broker has given out, and where sessions are: here or nowhere. */
#include "base/mem.h"
#include "broker/memory.h"

struct offer {
    UT_hash_handle hh;
    struct link by_age;
    uint64_t until_ms;
    struct slice ticket, sid, tunnel;
    char bytes[];
};

static void offer_free(struct memory *m, struct offer *o)
{
    HASH_DELETE(hh, m->offers, o);
    list_del(&o->by_age);
    free(o);
}

static struct offer *offer_find(struct memory *m, struct slice ticket)
{
    struct offer *o;
    HASH_FIND(hh, m->offers, ticket.p, ticket.n, o);
    return o;
}

static void run_offer(struct memory *m, struct op *op)
{
    struct offer *o = offer_find(m, op->p.key);
    if (o != NULL)
        offer_free(m, o);
    o = xcalloc(1, sizeof *o + op->p.key.n + op->p.from.n + op->p.data.n);
    char *at = o->bytes;
    o->ticket = slice_put(&at, op->p.key);
    o->sid = slice_put(&at, op->p.from);
    o->tunnel = slice_put(&at, op->p.data);
    o->until_ms = loop_now_ms(m->b.loop) + op->limit;
    list_append(&m->offers_by_age, &o->by_age);
    HASH_ADD_KEYPTR(hh, m->offers, o->ticket.p, o->ticket.n, o);
    broker_complete(op->done, op->arg, &(struct broker_result){.err = OK});
}

void memory_tunnel_offer(struct broker *b, const struct tunnel_offer *o, broker_done *done, void *arg)
{
    const struct publish p = {.key = o->ticket, .from = o->sid, .data = o->tunnel};
    struct op *op = memory_request(b, run_offer, &p, done, arg);
    op->limit = o->ttl_ms;
}

static void run_take(struct memory *m, struct op *op)
{
    struct offer *o = offer_find(m, op->p.key);
    if (o == NULL || o->until_ms <= loop_now_ms(m->b.loop)) {
        broker_fail(op->done, op->arg, ERR_NOT_FOUND, "no such URL, or it was used, or its time is over");
        return;
    }
    const struct tunnel_offer told = {.sid = o->sid, .tunnel = o->tunnel};
    HASH_DELETE(hh, m->offers, o);
    list_del(&o->by_age);
    broker_complete(op->done, op->arg, &(struct broker_result){.offer = &told});
    free(o);
}

void memory_tunnel_take(struct broker *b, struct slice ticket, broker_done *done, void *arg)
{
    (void)memory_request(b, run_take, &(struct publish){.key = ticket}, done, arg);
}

/* They may have different times; what is over later than its turn costs a few bytes. */
void memory_tunnels_sweep(struct memory *m)
{
    while (!list_empty(&m->offers_by_age)) {
        struct offer *o = list_first(&m->offers_by_age, struct offer, by_age);
        if (o->until_ms > loop_now_ms(m->b.loop))
            return;
        offer_free(m, o);
    }
}

void memory_tunnels_clear(struct memory *m)
{
    while (!list_empty(&m->offers_by_age))
        offer_free(m, list_first(&m->offers_by_age, struct offer, by_age));
}

/* --- where sessions are --- */

static void run_where(struct memory *m, struct op *op)
{
    struct slice rest = op->p.data;
    AUTO_FREE struct slice *nodes = xcalloc(op->limit + 1u, sizeof *nodes);
    for (uint32_t i = 0; i < op->limit; i++) {
        size_t n;
        memcpy(&n, rest.p, sizeof n);
        const struct session *s = memory_session_find(m, (struct slice){rest.p + sizeof n, n});
        if (s != NULL && list_empty(&s->parked))
            nodes[i] = slice_str(m->node);
        rest = slice_from(rest, sizeof n + n);
    }
    broker_complete(op->done, op->arg, &(struct broker_result){.where = nodes, .count = op->limit});
}

/* In data, each with its length before it. */
void memory_where(struct broker *b, const struct slice *sids, size_t count, broker_done *done, void *arg)
{
    struct buf names = BUF_INIT;
    for (size_t i = 0; i < count; i++) {
        buf_append(&names, (struct slice){(const char *)&sids[i].n, sizeof sids[i].n});
        buf_append(&names, sids[i]);
    }
    struct op *op = memory_request(b, run_where, &(struct publish){.data = buf_slice(&names)}, done, arg);
    op->limit = (uint32_t)count;
    buf_fini(&names);
}
