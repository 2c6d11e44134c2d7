/* broker/memory_polling.c: the embedded broker's connections by long-polling: all of them this node's. */
#include "base/mem.h"
#include "broker/memory.h"

struct polling {
    UT_hash_handle hh;
    struct link by_age;
    uint64_t until_ms;
    char *state, *before, *answered; /* texts, all of them */
    size_t n;
    char sid[];
};

static char *copy(struct slice text)
{
    return xstrndup(text.n != 0 ? text.p : "", text.n);
}

static void polling_empty(struct polling *p)
{
    free(p->state);
    free(p->before);
    free(p->answered);
    list_del(&p->by_age);
}

static void polling_free(struct memory *m, struct polling *p)
{
    HASH_DELETE(hh, m->pollings, p);
    polling_empty(p);
    free(p);
}

/* NULL when there is none, or not any more. */
static struct polling *polling_find(struct memory *m, struct slice sid)
{
    struct polling *p;
    HASH_FIND(hh, m->pollings, sid.p, sid.n, p);
    if (p == NULL || p->until_ms > loop_now_ms(m->b.loop))
        return p;
    polling_free(m, p);
    return NULL;
}

static void complete(struct memory *m, struct op *op, const struct polling *p, const struct polling_record *record)
{
    const struct slice node = slice_str(m->node);
    if (p == NULL)
        broker_fail(op->done, op->arg, ERR_NOT_FOUND, "no such connection by long-polling");
    else
        broker_complete(op->done, op->arg, &(struct broker_result){.where = &node, .count = 1, .polling = record});
}

static void run_put(struct memory *m, struct op *op)
{
    struct polling *p = polling_find(m, op->p.key);
    if (p == NULL) {
        p = xcalloc(1, sizeof *p + op->p.key.n + 1);
        memcpy(p->sid, op->p.key.p, op->p.key.n);
        p->n = op->p.key.n;
        HASH_ADD_KEYPTR(hh, m->pollings, p->sid, p->n, p);
    } else {
        polling_empty(p);
    }
    p->state = copy(op->p.data);
    p->before = copy(op->p.except);
    p->answered = copy(op->p.from);
    p->until_ms = loop_now_ms(m->b.loop) + op->limit;
    list_append(&m->pollings_by_age, &p->by_age);
    complete(m, op, p, NULL);
}

void memory_polling_put(struct broker *b, const struct polling_record *r, broker_done *done, void *arg)
{
    const struct publish p = {.key = r->sid, .data = r->state, .except = r->before, .from = r->answered};
    struct op *op = memory_request(b, run_put, &p, done, arg);
    op->limit = r->ttl_ms;
}

static void run_take(struct memory *m, struct op *op)
{
    const struct polling *p = polling_find(m, op->p.key);
    struct polling_record record = {0};
    if (p != NULL)
        record = (struct polling_record){
            .state = slice_str(p->state), .before = slice_str(p->before), .answered = slice_str(p->answered)};
    complete(m, op, p, &record);
}

/* Nobody else can have it, so whose it was does not matter. */
void memory_polling_take(struct broker *b, struct slice sid, struct slice from, broker_done *done, void *arg)
{
    (void)from;
    (void)memory_request(b, run_take, &(struct publish){.key = sid}, done, arg);
}

static void run_find(struct memory *m, struct op *op)
{
    complete(m, op, polling_find(m, op->p.key), NULL);
}

void memory_polling_find(struct broker *b, struct slice sid, broker_done *done, void *arg)
{
    (void)memory_request(b, run_find, &(struct publish){.key = sid}, done, arg);
}

void memory_run_polling_drop(struct memory *m, struct op *op)
{
    struct polling *p = polling_find(m, op->p.key);
    if (p != NULL)
        polling_free(m, p);
}

void memory_polling_drop(struct broker *b, struct slice sid)
{
    (void)memory_request(b, memory_run_polling_drop, &(struct publish){.key = sid}, NULL, NULL);
}

/* They may have different times; what is over later than its turn costs a few bytes. */
void memory_polling_sweep(struct memory *m)
{
    while (!list_empty(&m->pollings_by_age)) {
        struct polling *p = list_first(&m->pollings_by_age, struct polling, by_age);
        if (p->until_ms > loop_now_ms(m->b.loop))
            return;
        polling_free(m, p);
    }
}

void memory_polling_clear(struct memory *m)
{
    while (!list_empty(&m->pollings_by_age))
        polling_free(m, list_first(&m->pollings_by_age, struct polling, by_age));
}
