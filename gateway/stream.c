/* gateway/stream.c: gap detection and repair. */
#include "gateway/stream.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/msg.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "gateway/room.h"

#define PAGE       200u
#define HELD_MAX   1000u  /* notices kept while a room is being repaired */
#define HELD_ARENA 65536u /* to unpack one of them */

struct held {
    struct link link;
    struct msg *packed;
};

static void read_page(struct room *r);

void stream_init(struct stream *s)
{
    *s = (struct stream){0};
    list_init(&s->held);
}

static void held_free(struct stream *s, struct held *h)
{
    list_del(&h->link);
    s->held_count--;
    msg_unref(&h->packed);
    free(h);
}

void stream_fini(struct stream *s)
{
    list_for_each_safe (it, &s->held) {
        held_free(s, list_entry(it, struct held, link));
    }
}

static void hold(struct room *r, const struct envelope *e)
{
    struct stream *s = &r->stream;
    if (s->held_count == HELD_MAX) {
        metrics->drops[DROP_NOTICES]++;
        held_free(s, list_first(&s->held, struct held, link));
    }
    struct buf bytes = BUF_INIT;
    struct held *h = xcalloc(1, sizeof *h);
    envelope_pack(e, &bytes);
    h->packed = msg_new(buf_slice(&bytes));
    buf_fini(&bytes);
    list_append(&s->held, &h->link);
    s->held_count++;
}

static void release_held(struct room *r)
{
    struct stream *s = &r->stream;
    while (!list_empty(&s->held) && s->state == STREAM_LIVE) {
        struct held *h = list_first(&s->held, struct held, link);
        struct arena arena;
        struct envelope e;
        struct error error;
        arena_init(&arena, HELD_ARENA);
        if (envelope_unpack(msg_slice(h->packed), &arena, &e, &error) == OK)
            room_deliver(r, &e);
        arena_reset(&arena);
        held_free(s, h);
    }
}

/* --- where we are --- */

static void advance(struct stream *s, const struct position *to)
{
    s->last = *to;
    memcpy(s->recent[to->offset % STREAM_RECENT], to->tag, sizeof to->tag);
}

static bool is_duplicate(const struct stream *s, const struct position *p)
{
    if (p->offset > s->last.offset)
        return false;
    if (p->offset + STREAM_RECENT > s->last.offset)
        return strcmp(s->recent[p->offset % STREAM_RECENT], p->tag) == 0;
    return p->offset <= s->ahead;
}

static bool follows(const struct stream *s, const struct envelope *e)
{
    return e->position.offset == s->last.offset + 1 && strcmp(e->prev, s->last.tag) == 0;
}

/* --- repair --- */

/* There is no log to repair from, or it does not reach back: go on from here, visibly. */
static void give_up(struct room *r, const struct position *from, uint64_t missing)
{
    metrics->unrepaired += missing;
    LOG_PEER(WARN, "messages lost to this node", "room=%s after=%llu missing=%llu", log_q(r->name),
             (unsigned long long)from->offset, (unsigned long long)missing);
}

static void begin_repair(struct room *r, uint64_t seen)
{
    struct stream *s = &r->stream;
    s->state = STREAM_REPAIRING;
    s->seen = seen;
    metrics->gaps++;
    LOG_PEER(INFO, "gap", "room=%s after=%llu seen=%llu", log_q(r->name), (unsigned long long)s->last.offset,
             (unsigned long long)seen);
    read_page(r);
}

static void end_repair(struct room *r)
{
    struct stream *s = &r->stream;
    s->state = STREAM_LIVE;
    s->ahead = s->last.offset;
    release_held(r);
    room_step_catchups(r);
    if (s->last.offset < s->seen) { /* heard of, but not in the log: another node's policy does not retain this room */
        give_up(r, &s->last, s->seen - s->last.offset);
        s->state = STREAM_UNKNOWN;
    }
}

/* The log no longer holds what this node has delivered: another branch of history has won (a failover lost its end). */
static void forked(struct room *r, const struct position *now)
{
    metrics->forks++;
    LOG_PEER(WARN, "fork: the store has another history than this node delivered", "room=%s at=%llu ours=%s theirs=%s",
             log_q(r->name), (unsigned long long)now->offset, r->stream.last.tag, now->tag);
}

static void deliver_record(struct room *r, const struct message_record *m)
{
    struct stream *s = &r->stream;
    if (m->position.offset > s->last.offset + 1)
        give_up(r, &s->last, m->position.offset - s->last.offset - 1);
    advance(s, &m->position);
    metrics->repaired++;
    room_deliver(r, &(struct envelope){.kind = ENVELOPE_MESSAGE,
                                       .data_type = m->data_type,
                                       .time_ms = m->time_ms,
                                       .room = r->name,
                                       .event = m->event,
                                       .id = m->id,
                                       .from = m->from,
                                       .user = m->user,
                                       .except = m->except,
                                       .data = m->data,
                                       .position = m->position,
                                       .was = m->was});
}

static void on_page(void *arg, const struct broker_result *result)
{
    struct room *r = arg;
    struct stream *s = &r->stream;
    s->reading = false;
    if (result->err != OK) {
        gateway_retry_later(r->gw); /* comes back by stream_retry */
        room_unref(r);
        return;
    }
    uint64_t before = s->last.offset;
    for (size_t i = 0; i < result->count; i++) {
        const struct message_record *m = &result->messages[i];
        if (m->position.offset > s->last.offset)
            deliver_record(r, m);
        else if (m->position.offset == before && i == 0 && strcmp(m->position.tag, s->last.tag) != 0)
            forked(r, &m->position);
    }
    /* What was heard of while the page was under way may be newer than the page. */
    bool newer = s->seen > s->asked && s->seen > s->last.offset;
    if (newer || (result->more && s->last.offset != before))
        read_page(r);
    else
        end_repair(r);
    room_unref(r);
}

/* One page from the last delivered message on, that one included: its tag tells whether the log is still ours. */
static void read_page(struct room *r)
{
    struct stream *s = &r->stream;
    struct position after = {.offset = s->last.offset != 0 ? s->last.offset - 1 : 0};
    s->reading = true;
    s->asked = s->seen;
    room_ref(r);
    r->gw->broker->ops->history(r->gw->broker, r->name, &after, PAGE, on_page, r);
}

void stream_check(struct room *r)
{
    if (r->stream.state == STREAM_LIVE && r->policy->retain_count != 0)
        begin_repair(r, r->stream.last.offset);
}

void stream_retry(struct room *r)
{
    if (r->stream.state == STREAM_REPAIRING && !r->stream.reading)
        read_page(r);
}

/* --- what arrives --- */

static bool out_of_order(struct room *r, const struct envelope *e)
{
    struct stream *s = &r->stream;
    bool retained = r->policy->retain_count != 0;
    if (e->position.offset > s->last.offset && retained) {
        begin_repair(r, e->position.offset);
        if (e->kind != ENVELOPE_MESSAGE)
            hold(r, e);
        return false;
    }
    /* Gone on without us, or back to an earlier state: follow. */
    if (e->position.offset > s->last.offset + 1) {
        metrics->gaps++;
        give_up(r, &s->last, e->position.offset - s->last.offset - 1);
    } else {
        forked(r, &e->position);
    }
    s->ahead = 0;
    advance(s, &e->position);
    return true;
}

static bool take_message(struct room *r, const struct envelope *e)
{
    struct stream *s = &r->stream;
    if (s->state == STREAM_REPAIRING) {
        if (e->position.offset > s->seen)
            s->seen = e->position.offset;
        return false;
    }
    if (s->state == STREAM_UNKNOWN || follows(s, e)) {
        s->state = STREAM_LIVE;
        advance(s, &e->position);
        return true;
    }
    if (is_duplicate(s, &e->position)) {
        metrics->duplicates++;
        return false;
    }
    return out_of_order(r, e);
}

bool stream_take(struct room *r, const struct envelope *e)
{
    struct stream *s = &r->stream;
    if (e->kind == ENVELOPE_MESSAGE)
        return take_message(r, e);
    if (s->state == STREAM_REPAIRING) {
        hold(r, e);
        return false;
    }
    if (s->state == STREAM_UNKNOWN) {
        s->state = STREAM_LIVE;
        advance(s, &e->position);
        return true;
    }
    /* A notice carries the head it was made at; a newer head than ours means that messages are missing. */
    return e->position.offset <= s->last.offset || out_of_order(r, e);
}
