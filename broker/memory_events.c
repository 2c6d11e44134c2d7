/* broker/memory_events.c: the embedded broker's events: what happened to sessions, until it is delivered or there is too much of it. */
#include <stdio.h>

#include "base/mem.h"
#include "base/text.h"
#include "broker/memory.h"

struct happening {
    struct link link; /* in its shard, oldest first */
    uint64_t place, at_ms;
    size_t count;
    char time[24];
    struct event_field fields[EVENT_FIELDS_MAX]; /* their texts stand behind */
    char bytes[];
};

static void happening_free(struct memory_events *shard, struct happening *h)
{
    list_del(&h->link);
    shard->count--;
    free(h);
}

static struct happening *happening_new(struct memory *m, const struct event_record *e)
{
    size_t n = 0;
    for (size_t i = 0; i < e->count; i++)
        n += e->fields[i].name.n + e->fields[i].value.n;
    struct happening *h = xcalloc(1, sizeof *h + n);
    char *at = h->bytes;
    (void)snprintf(h->time, sizeof h->time, "%llu", (unsigned long long)loop_wall_ms(m->b.loop));
    h->fields[h->count++] = (struct event_field){SLICE("time"), slice_str(h->time)};
    for (size_t i = 0; i < e->count && h->count < EVENT_FIELDS_MAX; i++)
        if (e->fields[i].value.n != 0)
            h->fields[h->count++] =
                (struct event_field){slice_put(&at, e->fields[i].name), slice_put(&at, e->fields[i].value)};
    return h;
}

static void drop_oldest(struct memory *m, struct memory_events *shard, uint64_t keep)
{
    uint64_t now = loop_now_ms(m->b.loop);
    while (!list_empty(&shard->list)) {
        struct happening *h = list_first(&shard->list, struct happening, link);
        if (shard->count <= keep && now - h->at_ms <= m->event_age_ms)
            return;
        shard->dropped += shard->read && h->place > shard->cursor;
        happening_free(shard, h);
    }
}

static void append(struct memory *m, const struct event_record *e)
{
    struct memory_events *shard = &m->events[event_shard(e->session, m->event_shards)];
    struct happening *h = happening_new(m, e);
    drop_oldest(m, shard, m->event_count - 1);
    h->place = ++shard->last;
    h->at_ms = loop_now_ms(m->b.loop);
    list_append(&shard->list, &h->link);
    shard->count++;
    m->b.stats.events++;
}

static void run_told(struct memory *m, struct op *op)
{
    (void)m;
    broker_complete(op->done, op->arg,
                    &(struct broker_result){.err = op->limit != 0 ? OK : ERR_UNSUPPORTED,
                                            .why = op->limit != 0 ? NULL : "events are off"});
}

/* Appended at once, because a request has no room for so many fields; told when it is its turn. */
void memory_event(struct broker *b, const struct event_record *e, broker_done *done, void *arg)
{
    struct memory *m = container_of(b, struct memory, b);
    struct op *op = memory_request(b, run_told, &(struct publish){.from = e->session}, done, arg);
    op->limit = m->event_shards;
    if (m->event_shards != 0)
        append(m, e);
}

void memory_event_ended(struct memory *m, const struct session *s, struct slice reason)
{
    struct slice sid = {s->sid, s->n}, user = s->user != NULL ? (struct slice){s->user->id, s->user->n} : SLICE_NONE;
    char id[96];
    if (m->event_shards == 0 || reason.n == 0)
        return;
    (void)snprintf(id, sizeof id, "%.*s.disconnect.%llu", (int)(sid.n < 64 ? sid.n : 64), sid.p,
                   (unsigned long long)loop_wall_ms(m->b.loop));
    const struct event_field fields[] = {
        {SLICE("id"), slice_str(id)},
        {SLICE("type"), SLICE("disconnect")},
        {SLICE("session"), sid},
        {SLICE("user"), user},
        {SLICE("reason"), reason},
        {SLICE("node"), slice_str(m->node)},
        {SLICE("tunnel"), slice_str(s->told[TOLD_TUNNEL])},
    };
    append(m, &(struct event_record){.session = sid, .fields = fields, .count = ARRAY_LEN(fields)});
}

/* --- reading --- */

static uint64_t place_of(struct slice s)
{
    const char *dash = s.n != 0 ? memchr(s.p, '-', s.n) : NULL;
    uint64_t place = 0;
    if (dash != NULL)
        (void)text_u64((struct slice){s.p, (size_t)(dash - s.p)}, UINT64_MAX, &place);
    return place;
}

static size_t read_page(const struct memory_events *shard, uint64_t after, size_t limit, struct event_entry *list,
                        char (*places)[EVENT_PLACE_MAX])
{
    size_t n = 0;
    list_for_each (it, &shard->list) {
        const struct happening *h = list_entry(it, struct happening, link);
        if (n == limit)
            break;
        if (h->place <= after)
            continue;
        (void)snprintf(places[n], EVENT_PLACE_MAX, "%llu-0", (unsigned long long)h->place);
        list[n] = (struct event_entry){.id = slice_str(places[n]), .fields = h->fields, .count = h->count};
        n++;
    }
    return n;
}

/* op: limit; period_ms: the lease; lead_ms: the shard; user: settled; data: after. There is one node: the shard is always its own. */
static void run_events(struct memory *m, struct op *op)
{
    if (op->lead_ms >= m->event_shards) {
        broker_fail(op->done, op->arg, ERR_UNSUPPORTED, "events are off");
        return;
    }
    struct memory_events *shard = &m->events[op->lead_ms];
    struct broker_result r = {.mine = op->period_ms != 0, .anew = op->period_ms != 0 && !shard->read};
    uint64_t settled = place_of(op->p.user), after = place_of(op->p.data);
    shard->read = r.mine;
    if (settled > shard->cursor)
        shard->cursor = settled;
    while (!list_empty(&shard->list)) {
        struct happening *h = list_first(&shard->list, struct happening, link);
        if (h->place > shard->cursor)
            break;
        happening_free(shard, h);
    }
    drop_oldest(m, shard, m->event_count);
    if (r.anew || after == 0)
        after = shard->cursor;
    char cursor[EVENT_PLACE_MAX];
    (void)snprintf(cursor, sizeof cursor, "%llu-0", (unsigned long long)shard->cursor);
    AUTO_FREE struct event_entry *list = xcalloc(op->limit + 1, sizeof *list);
    AUTO_FREE char(*places)[EVENT_PLACE_MAX] = xcalloc(op->limit + 1, sizeof *places);
    r.count = r.mine ? read_page(shard, after, op->limit, list, places) : 0;
    r.events = list;
    r.cursor = slice_str(cursor);
    r.dropped = shard->dropped;
    r.total = shard->count;
    broker_complete(op->done, op->arg, &r);
}

void memory_events(struct broker *b, const struct events_ask *ask, broker_done *done, void *arg)
{
    struct op *op =
        memory_request(b, run_events, &(struct publish){.user = ask->settled, .data = ask->after}, done, arg);
    op->limit = ask->limit;
    op->period_ms = ask->lease_ms;
    op->lead_ms = ask->shard;
}

void memory_events_init(struct memory *m, const struct broker_config *cfg)
{
    m->event_shards = cfg->event_shards < EVENT_SHARDS_MAX ? cfg->event_shards : EVENT_SHARDS_MAX;
    m->event_count = cfg->event_count != 0 ? cfg->event_count : 1;
    m->event_age_ms = cfg->event_age_s * (uint64_t)1000;
    m->events = xcalloc(m->event_shards, sizeof *m->events);
    for (uint32_t i = 0; i < m->event_shards; i++)
        list_init(&m->events[i].list);
}

void memory_events_clear(struct memory *m)
{
    for (uint32_t i = 0; i < m->event_shards; i++)
        while (!list_empty(&m->events[i].list))
            happening_free(&m->events[i], list_first(&m->events[i].list, struct happening, link));
    free(m->events);
}
