/* gateway/outq.c: a ring of message references. */
#include "gateway/outq.h"

#include <assert.h>

#include "base/mem.h"

static struct msg **at(const struct outq *q, uint32_t i)
{
    return &q->ring[(q->head + i) & (q->cap - 1)];
}

static void grow(struct outq *q)
{
    uint32_t cap = q->cap != 0 ? q->cap * 2 : 4;
    struct msg **ring = xmalloc(cap * sizeof(struct msg *));
    for (uint32_t i = 0; i < q->count; i++)
        ring[i] = *at(q, i);
    free(q->ring);
    q->ring = ring;
    q->cap = cap;
    q->head = 0;
}

static void pop(struct outq *q)
{
    msg_unref(at(q, 0));
    q->head++;
    q->count--;
    q->sent = 0;
    q->pinned = false;
    if (q->count == 0)
        outq_fini(q); /* an idle connection holds no ring */
}

void outq_fini(struct outq *q)
{
    for (uint32_t i = 0; i < q->count; i++)
        msg_unref(at(q, i));
    free(q->ring);
    *q = (struct outq){0};
}

void outq_push(struct outq *q, struct msg *m)
{
    if (q->count == q->cap)
        grow(q);
    q->count++;
    q->bytes += m->len;
    *at(q, q->count - 1) = m;
}

void outq_push_front(struct outq *q, struct msg *m)
{
    outq_push(q, m);
    uint32_t first = q->pinned ? 1 : 0;
    for (uint32_t i = q->count - 1; i > first; i--)
        *at(q, i) = *at(q, i - 1);
    *at(q, first) = m;
}

void outq_move(struct outq *q, struct outq *from)
{
    for (uint32_t i = 0; i < from->count; i++)
        outq_push(q, *at(from, i));
    from->count = 0;
    outq_fini(from);
}

struct slice outq_front(const struct outq *q)
{
    if (q->count == 0)
        return SLICE_NONE;
    return slice_from(msg_slice(*at(q, 0)), q->sent);
}

void outq_taken(struct outq *q, size_t n)
{
    assert(q->count != 0);
    q->sent += (uint32_t)n;
    q->bytes -= n;
    q->pinned = true;
    if (q->sent == (*at(q, 0))->len)
        pop(q);
}

size_t outq_drop_oldest(struct outq *q)
{
    uint32_t victim = q->pinned ? 1 : 0;
    if (q->count <= victim)
        return 0;
    size_t n = (*at(q, victim))->len;
    msg_unref(at(q, victim));
    if (victim == 1)
        *at(q, 1) = *at(q, 0); /* the pinned entry moves up into the hole */
    q->head++;
    q->count--;
    q->bytes -= n;
    return n;
}
