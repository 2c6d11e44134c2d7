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
#define AHEAD_MS   60000u /* for so long what has been read from a log may arrive live */

struct held {
    struct link link;
    struct msg *packed;
};

static void read_page(struct room *r);
static void seek_page(struct room *r, const struct broker_result *page);

void stream_init(struct stream *s)
{
    *s = (struct stream){0};
    list_init(&s->held);
    tail_init(&s->tail);
    forks_init(&s->forks);
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
    forks_fini(&s->forks);
    tail_fini(&s->tail);
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
    s->recent[to->offset % STREAM_RECENT] = *to;
}

/* The tag of the message that was delivered at this offset, or NULL when that is not known any more. */
static const char *known_tag(const struct stream *s, uint64_t offset)
{
    const struct position *p = &s->recent[offset % STREAM_RECENT];
    if (offset == 0 || offset > s->last.offset)
        return NULL;
    if (p->offset == offset)
        return p->tag;
    const struct tail_entry *e = tail_find(&s->tail, offset);
    return e != NULL ? e->m.position.tag : NULL;
}

static bool is_known(const struct stream *s, const struct position *p)
{
    const char *tag = known_tag(s, p->offset);
    return tag != NULL && strcmp(tag, p->tag) == 0;
}

static uint64_t oldest_known(const struct stream *s)
{
    uint64_t oldest = s->last.offset;
    for (size_t i = 0; i < STREAM_RECENT; i++)
        if (s->recent[i].offset != 0 && s->recent[i].offset < oldest)
            oldest = s->recent[i].offset;
    if (!list_empty(&s->tail.entries)) {
        const struct tail_entry *e = list_first(&s->tail.entries, struct tail_entry, in_room);
        if (e->m.position.offset < oldest)
            oldest = e->m.position.offset;
    }
    return oldest;
}

static void set_ahead(struct room *r)
{
    r->stream.ahead = r->stream.last.offset;
    r->stream.ahead_ms = loop_now_ms(r->gw->loop);
}

/* A room whose head has expired begins anew below that, much later. */
static bool is_duplicate(const struct room *r, const struct position *p)
{
    const struct stream *s = &r->stream;
    if (p->offset > s->last.offset)
        return false;
    const struct position *recent = &s->recent[p->offset % STREAM_RECENT];
    if (recent->offset == p->offset)
        return strcmp(recent->tag, p->tag) == 0;
    return p->offset <= s->ahead && loop_now_ms(r->gw->loop) < s->ahead_ms + AHEAD_MS;
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

static void begin_repair(struct room *r, uint64_t seen, const struct position *before)
{
    struct stream *s = &r->stream;
    s->state = STREAM_REPAIRING;
    s->has_before = before != NULL;
    if (before != NULL)
        s->before = *before;
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
    set_ahead(r);
    s->outage = false;
    release_held(r);
    room_step_catchups(r);
    fork_mend(r);
    if (s->last.offset < s->seen) { /* heard of, but not in the log: another node's policy does not retain this room */
        give_up(r, &s->last, s->seen - s->last.offset);
        s->state = STREAM_UNKNOWN;
    }
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

static void repair_page(struct room *r, const struct broker_result *result)
{
    struct stream *s = &r->stream;
    uint64_t before = s->last.offset;
    for (size_t i = 0; i < result->count; i++)
        if (result->messages[i].position.offset > s->last.offset)
            deliver_record(r, &result->messages[i]);
    /* What was heard of while the page was under way may be newer than the page. */
    bool newer = s->seen > s->asked && s->seen > s->last.offset;
    if (newer || (result->more && s->last.offset != before))
        read_page(r);
    else
        end_repair(r);
}

/* The page begins with the last delivered message, if the log still has it. A head that is behind it is as good as another tag. */
static bool is_forked(const struct stream *s, const struct broker_result *page)
{
    const struct position *first = page->count != 0 ? &page->messages[0].position : &page->position;
    if (first->offset == s->last.offset)
        return strcmp(first->tag, s->last.tag) != 0;
    return first->offset < s->last.offset;
}

static void on_total(void *arg, const struct broker_result *result)
{
    struct room *r = arg;
    if (result->err == OK)
        r->total = result->total;
    room_unref(r);
}

static void begin_seek(struct room *r)
{
    struct stream *s = &r->stream;
    s->seeking = true;
    s->sought = oldest_known(s) - 1;
    s->common = (struct position){0};
    room_ref(r);
    r->gw->broker->ops->presence(r->gw->broker, r->name, SLICE_NONE, 1, on_total, r);
    read_page(r);
}

static void on_page(void *arg, const struct broker_result *result)
{
    struct room *r = arg;
    struct stream *s = &r->stream;
    s->reading = false;
    if (result->err != OK)
        gateway_retry_later(r->gw); /* comes back by stream_retry */
    else if (s->seeking)
        seek_page(r, result);
    else if (is_forked(s, result))
        begin_seek(r);
    else
        repair_page(r, result);
    room_unref(r);
}

/* One page from the last delivered message on, that one included: its tag tells whether the log is still ours. Seeking: where the last page ended. */
static void read_page(struct room *r)
{
    struct stream *s = &r->stream;
    struct log_page page = {.room = r->name, .after = s->last.offset != 0 ? s->last.offset - 1 : 0, .limit = PAGE};
    if (s->seeking)
        page.after = s->sought;
    s->reading = true;
    s->asked = s->seen;
    room_ref(r);
    r->gw->broker->ops->history(r->gw->broker, &page, on_page, r);
}

static void on_begun(void *arg, const struct broker_result *result)
{
    struct room *r = arg;
    struct stream *s = &r->stream;
    s->asking = false;
    if (result->err != OK) {
        gateway_retry_later(r->gw); /* comes back by stream_retry */
    } else {
        s->beginning = false;
        if (s->state == STREAM_UNKNOWN) {
            s->state = STREAM_LIVE;
            advance(s, &result->position);
            set_ahead(r); /* it may have been published before the answer, and arrive behind it */
        }
        room_begun(r);
    }
    room_unref(r);
}

/* Nobody has to be in the room for that. */
static void ask_head(struct room *r)
{
    r->stream.asking = true;
    room_ref(r);
    r->gw->broker->ops->presence(r->gw->broker, r->name, SLICE_NONE, 1, on_begun, r);
}

bool stream_begin(struct room *r)
{
    struct stream *s = &r->stream;
    if (s->state != STREAM_UNKNOWN)
        return true;
    if (!s->beginning)
        ask_head(r);
    s->beginning = true;
    return false;
}

void stream_check(struct room *r)
{
    struct stream *s = &r->stream;
    bool delivered = s->state == STREAM_LIVE || (s->state == STREAM_UNKNOWN && s->last.offset != 0);
    if (delivered && r->policy->retain_count != 0)
        begin_repair(r, s->last.offset, NULL);
}

void stream_outage(struct room *r)
{
    r->stream.outage = true;
    stream_check(r);
}

void stream_retry(struct room *r)
{
    struct stream *s = &r->stream;
    if (s->beginning && !s->asking)
        ask_head(r);
    if (s->state == STREAM_REPAIRING && !s->reading)
        read_page(r);
    fork_mend(r);
}

/* --- forks --- */

/* The stream goes on after `since`, on the branch that the log has. */
static void change_branch(struct room *r, const struct position *since, bool mendable)
{
    struct stream *s = &r->stream;
    fork_begin(r, since, mendable);
    for (size_t i = 0; i < STREAM_RECENT; i++)
        if (!mendable || s->recent[i].offset > since->offset)
            s->recent[i] = (struct position){0};
    advance(s, since);
    s->ahead = 0;
    room_forked(r, since);
}

/* The newest position that is in the log and was delivered here. What is unknown (too large to be kept) decides nothing. ret_parted: what follows is not
 * ours any more. */
static void compare(struct stream *s, const struct broker_result *page, bool *ret_parted)
{
    *ret_parted = false;
    for (size_t i = 0; i < page->count && !*ret_parted; i++) {
        const struct position *p = &page->messages[i].position;
        s->sought = p->offset;
        if (is_known(s, p))
            s->common = *p;
        else
            *ret_parted = p->offset > s->last.offset || known_tag(s, p->offset) != NULL;
    }
}

static void seek_page(struct room *r, const struct broker_result *page)
{
    struct stream *s = &r->stream;
    bool parted;
    uint64_t from = s->sought;
    compare(s, page, &parted);
    if (!parted && page->more) {
        read_page(r);
        return;
    }
    if (s->common.offset == 0 && is_known(s, &page->position))
        s->common = page->position; /* of a log that has expired there is still the head */
    /* A young room may have lost everything, in an outage. When everything is gone without one, somebody has removed it. */
    uint64_t begins = page->count != 0 ? page->messages[0].position.offset : page->position.offset + 1;
    bool young = from == 0 && begins == 1;
    bool found = s->common.offset != 0 || young;
    s->seeking = false;
    if (s->common.offset != 0 && s->common.offset == s->last.offset) {
        read_page(
            r); /* all of it is there: the page that looked otherwise came from a store that was only just taking over */
        return;
    }
    if (found)
        change_branch(r, &s->common, s->common.offset != 0 || s->outage);
    else
        change_branch(r, s->has_before ? &s->before : &page->position, false);
    s->has_before = false; /* it may have come from a store that is none any more: not to be believed twice */
    s->seen = s->last.offset;
    read_page(r);
}

/* --- what arrives --- */

static bool out_of_order(struct room *r, const struct envelope *e)
{
    struct stream *s = &r->stream;
    struct position before = e->position;
    if (e->kind == ENVELOPE_MESSAGE) {
        before.offset--;
        memcpy(before.tag, e->prev, sizeof before.tag);
    }
    if (r->policy->retain_count != 0) {
        begin_repair(r, e->position.offset, &before);
        if (e->kind != ENVELOPE_MESSAGE)
            hold(r, e);
        return false;
    }
    /* Gone on without us, or back to an earlier state: follow. */
    if (e->position.offset > s->last.offset + 1) {
        metrics->gaps++;
        give_up(r, &s->last, e->position.offset - s->last.offset - 1);
    } else {
        change_branch(r, &before, false);
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
    if (is_duplicate(r, &e->position)) {
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
    /* A notice carries the head it was made at (none if that was evicted): a newer one than ours means that messages are missing, another one a fork. */
    if (e->position.offset == s->last.offset)
        return strcmp(e->position.tag, s->last.tag) == 0 || out_of_order(r, e);
    return e->position.offset == 0 || e->position.offset <= s->ahead || out_of_order(r, e);
}
