/* gateway/tail.c: copies of the newest messages, within bounds. */
#include "gateway/tail.h"

#include "base/mem.h"
#include "gateway/metrics.h"

#define AGE_MS 30000u

void tails_init(struct tails *t)
{
    *t = (struct tails){0};
    list_init(&t->all);
}

void tails_link(struct tails *t, bool up, uint64_t now_ms)
{
    if (up && t->down_ms != 0)
        t->away_ms += now_ms - t->down_ms;
    if (up)
        t->down_ms = 0;
    else if (t->down_ms == 0)
        t->down_ms = now_ms;
}

static uint64_t clock_ms(const struct tails *t, uint64_t now_ms)
{
    return (t->down_ms != 0 ? t->down_ms : now_ms) - t->away_ms;
}

void tail_init(struct tail *t)
{
    t->bytes = 0;
    list_init(&t->entries);
}

void tail_entry_free(struct tail_entry *e)
{
    e->tails->bytes -= e->size;
    metrics->tail_bytes -= e->size;
    free(e);
}

static void drop(struct tail_entry *e)
{
    *e->room_bytes -= e->size;
    list_del(&e->in_room);
    list_del(&e->overall);
    tail_entry_free(e);
}

void tail_fini(struct tail *t)
{
    while (!list_empty(&t->entries))
        drop(list_first(&t->entries, struct tail_entry, in_room));
}

void tail_take(struct tail *t, struct tail_entry *e)
{
    t->bytes -= e->size;
    list_del(&e->in_room);
    list_del(&e->overall);
}

void tails_expire(struct tails *t, uint64_t now_ms)
{
    uint64_t now = clock_ms(t, now_ms);
    while (!list_empty(&t->all)) {
        struct tail_entry *e = list_first(&t->all, struct tail_entry, overall);
        if (e->kept_ms + AGE_MS > now)
            return;
        drop(e);
    }
}

struct tail_entry *tail_find(const struct tail *t, uint64_t offset)
{
    for (struct link *it = t->entries.prev; it != &t->entries; it = it->prev) {
        struct tail_entry *e = list_entry(it, struct tail_entry, in_room);
        if (e->m.position.offset == offset)
            return e;
    }
    return NULL;
}

void tail_keep(struct tails *tails, struct tail *t, const struct envelope *e, struct tail_limits limits,
               uint64_t now_ms)
{
    size_t n = e->event.n + e->from.n + e->user.n + e->id.n + e->except.n + e->data.n;
    size_t size = sizeof(struct tail_entry) + n;
    if (size > limits.room || size > limits.node)
        return;
    while (t->bytes + size > limits.room)
        drop(list_first(&t->entries, struct tail_entry, in_room));
    while (tails->bytes + size > limits.node && !list_empty(&tails->all))
        drop(list_first(&tails->all, struct tail_entry, overall));
    if (tails->bytes + size > limits.node)
        return; /* what forks still hold fills it */
    struct tail_entry *k = xcalloc(1, size);
    char *at = k->bytes;
    *k = (struct tail_entry){.tails = tails, .room_bytes = &t->bytes, .size = size, .kept_ms = clock_ms(tails, now_ms)};
    k->m.position = e->position;
    k->m.time_ms = e->time_ms;
    k->m.data_type = e->data_type;
    k->m.was = e->was;
    k->m.event = slice_put(&at, e->event);
    k->m.from = slice_put(&at, e->from);
    k->m.user = slice_put(&at, e->user);
    k->m.id = slice_put(&at, e->id);
    k->m.except = slice_put(&at, e->except);
    k->m.data = slice_put(&at, e->data);
    list_append(&t->entries, &k->in_room);
    list_append(&tails->all, &k->overall);
    t->bytes += size;
    tails->bytes += size;
    metrics->tail_bytes += size;
}
