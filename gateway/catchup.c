/* gateway/catchup.c: from a position to the present. */
#include "gateway/catchup.h"

#include <assert.h>

#include "base/mem.h"
#include "gateway/conn.h"
#include "gateway/emit.h"
#include "gateway/gateway.h"
#include "gateway/message.h"
#include "gateway/metrics.h"
#include "gateway/room.h"
#include "gateway/session.h"

#define READS_MAX  64u /* under way at once on this node */
#define PAGE       100u
#define FRAME_ROOM 1024u /* what stands around the data, at most */
/* How far around a lost position the log is searched for what became of it. */
#define SEEK_BACK  512u
#define SEEK_AHEAD 1024u
/* How long a log that ends before the client's position may be that of a store which is about to be replaced. */
#define PATIENCE_MS 3000u

static bool same(const struct position *a, const struct position *b)
{
    return a->offset == b->offset && strcmp(a->tag, b->tag) == 0;
}

/* reason: NULL when recovered. position: where the client's stream goes on from. */
static void tell(struct member *m, const struct position *position, const char *reason)
{
    m->whole = reason == NULL;
    if (m->whole && (m->quiet || (m->kept && !m->inbox)))
        return; /* or of a room that its client knows nothing of */
    conn_event(m->session->conn, &(struct event){.kind = EVENT_RECOVERED,
                                                 .room = m->room->name,
                                                 .recovered = reason == NULL,
                                                 .text = slice_str(reason),
                                                 .position = position,
                                                 .total = m->room->total});
    if (reason == NULL)
        metrics->recovered++;
    else
        metrics->unrecovered++;
}

static void finish(struct catchup *c)
{
    struct member *m = c->member;
    list_del(&c->turn);
    m->catchup = NULL;
    m->session->returning--;
    free(c);
    member_activate(m);
}

/* What was missed cannot be told: from now on. */
static void give_up(struct catchup *c, const char *reason)
{
    tell(c->member, &c->member->room->stream.last, reason);
    finish(c);
}

/* Nothing is missing between what the client has and what this node has delivered. */
static bool level(const struct catchup *c)
{
    const struct stream *s = &c->member->room->stream;
    return c->checked && s->state == STREAM_LIVE && same(&c->at, &s->last);
}

/* The log is ahead of what this node has heard live; that is on its way. */
static bool early(const struct catchup *c)
{
    const struct stream *s = &c->member->room->stream;
    return c->checked && (c->at.offset > s->last.offset || (s->state != STREAM_LIVE && same(&c->at, &s->last)));
}

/* What the client has been told stands on another branch than what this node has delivered. */
static bool strays(const struct catchup *c)
{
    const struct stream *s = &c->member->room->stream;
    return c->checked && c->at.offset == s->last.offset && !same(&c->at, &s->last);
}

/* --- reading --- */

static void send_record(struct catchup *c, const struct message_record *r)
{
    const struct session *s = c->member->session;
    c->at = r->position;
    if (slice_eq(r->except, slice_str(s->sid)))
        return;
    struct sight sight;
    if (fork_sight(c->member->room, &r->was, r->id, r->time_ms, &sight) && fork_seen_by(c->member, &sight)) {
        if (c->member->kept && !c->member->inbox)
            return;
        conn_event(s->conn, &(struct event){.kind = EVENT_RECOVERED,
                                            .room = c->member->room->name,
                                            .recovered = true,
                                            .position = &r->position,
                                            .total = c->member->room->total});
        return;
    }
    if (r->data_type == DATA_EMISSION) {
        emit_missed(c->member, r);
        return;
    }
    metrics->replayed++;
    const struct event event = message_logged(c->member->room->name, r);
    conn_event(s->conn, &event);
}

/* A client that reads slowly is given no more than half of its queue; the rest of the page is read again later. */
static bool takes(const struct catchup *c, const struct message_record *r)
{
    const struct conn *conn = c->member->session->conn;
    return conn->out.bytes == 0 || conn->out.bytes + r->data.n + FRAME_ROOM <= c->gw->cfg->max_queue_bytes / 2;
}

/* A page begins with the client's own position, or there is no telling whether it is on our branch. Once that is known the log may have let go of it. */
static const char *page_problem(const struct catchup *c, const struct broker_result *r)
{
    if (r->count == 0 && r->position.offset <= c->at.offset && !same(&r->position, &c->at))
        return "fork";
    if (r->count == 0)
        return c->at.offset == 0 || c->checked ? NULL : "expired";
    const struct position *first = &r->messages[0].position;
    if (first->offset == c->at.offset)
        return strcmp(first->tag, c->at.tag) == 0 ? NULL : "fork";
    return first->offset == c->at.offset + 1 ? NULL : "expired";
}

/* Where the client's branch left the log is known: it goes on there. */
static void part(struct catchup *c, const struct position *since)
{
    struct member *m = c->member;
    m->lost_since = since->offset;
    m->lost_to = c->lost.offset;
    tell(m, since, "fork");
    m->whole = true;
    c->at = *since;
    c->checked = true;
    catchup_step(c);
}

/* The log ends before what the client has, and nothing there says otherwise. The node that it comes from may know of a failover already, and this one not yet:
 * then it is the store that is wrong, not the client. An empty one has lost everything. */
static bool may_come_yet(struct catchup *c)
{
    const struct position *head = &c->member->room->stream.last;
    uint64_t now = loop_now_ms(c->gw->loop);
    if (head->offset == 0 || head->offset >= c->at.offset)
        return false;
    if (c->patient_until_ms == 0)
        c->patient_until_ms = now + PATIENCE_MS;
    return now < c->patient_until_ms;
}

/* The client has seen what the log does not have: a failover has lost it. This node may have been there, or still be: then its stream is about to find
 * out. Else the log may tell, where a message that was appended again says where it had been. */
static void forked(struct catchup *c)
{
    const struct fork *f = fork_of(c->member->room, &c->at);
    c->lost = c->at;
    c->checked = false;
    if (f != NULL && f->mendable) {
        part(c, &f->since);
        return;
    }
    if (!c->compared) {
        c->compared = true;
        stream_check(c->member->room);
        c->waiting = c->member->room->stream.state == STREAM_REPAIRING;
        if (c->waiting)
            return;
    }
    if (may_come_yet(c)) {
        gateway_retry_later(c->gw);
        return;
    }
    c->seeking = true;
    c->at = (struct position){.offset = c->at.offset > SEEK_BACK ? c->at.offset - SEEK_BACK : 0};
    catchup_step(c);
}

static void seek(struct catchup *c, const struct broker_result *r)
{
    for (size_t i = 0; i < r->count; i++) {
        const struct message_record *m = &r->messages[i];
        c->at = m->position;
        if (!same(&m->was.at, &c->lost))
            continue;
        c->seeking = false;
        c->adopting = true;
        c->at = (struct position){.offset = m->was.since};
        catchup_step(c);
        return;
    }
    if (r->more && c->at.offset < c->lost.offset + SEEK_AHEAD)
        catchup_step(c);
    else
        give_up(c, "fork");
}

static void adopt(struct catchup *c, const struct broker_result *r)
{
    const struct position beginning = {0};
    c->adopting = false;
    if (c->at.offset == 0)
        part(c, &beginning);
    else if (r->count != 0 && r->messages[0].position.offset == c->at.offset)
        part(c, &r->messages[0].position);
    else
        give_up(c, "fork"); /* the log no longer reaches back to it */
}

static void send_page(struct catchup *c, const struct broker_result *r)
{
    uint64_t before = c->at.offset;
    for (size_t i = 0; i < r->count; i++) {
        if (r->messages[i].position.offset <= c->at.offset)
            continue;
        if (!takes(c, &r->messages[i]))
            return; /* goes on when the client has read */
        send_record(c, &r->messages[i]);
    }
    if (c->at.offset == before && before < r->position.offset)
        give_up(c, "expired"); /* the head is further on than the log */
    else if (c->at.offset == before && !level(c))
        stream_check(c->member->room); /* the log ends before what this node has delivered: the stream finds out why */
    else
        catchup_step(c);
}

/* Of an inbox everything is told that is still there. NULL: nobody has read any of it, so nothing is missing that anybody had a right to. */
static void begin_late(struct catchup *c, const struct broker_result *r)
{
    const char *reason = c->at.offset != 0 ? "expired" : NULL;
    if (r->count == 0) {
        tell(c->member, &c->member->room->stream.last, reason);
        finish(c);
        return;
    }
    tell(c->member, NULL, reason);
    c->at = (struct position){.offset = r->messages[0].position.offset - 1};
    c->checked = true;
    send_page(c, r);
}

static bool begins_late(const struct catchup *c, const struct broker_result *r, const char *problem)
{
    if (!c->member->inbox || c->checked)
        return false;
    return problem != NULL ? strcmp(problem, "expired") == 0 : r->count == 0 && r->position.offset > c->at.offset;
}

static void take_page(struct catchup *c, const struct broker_result *r)
{
    const char *problem = page_problem(c, r);
    if (begins_late(c, r, problem)) {
        begin_late(c, r);
        return;
    }
    if (problem != NULL && strcmp(problem, "fork") == 0) {
        forked(c);
        return;
    }
    if (problem != NULL) {
        give_up(c, problem); /* perhaps trimmed while the client was too slow for its retention */
        return;
    }
    if (!c->checked)
        tell(c->member, &c->at, NULL);
    c->checked = true;
    send_page(c, r);
}

static void next_turns(struct gateway *g)
{
    while (g->catchup_reads < READS_MAX && !list_empty(&g->catchup_turns)) {
        struct catchup *c = list_first(&g->catchup_turns, struct catchup, turn);
        list_del(&c->turn);
        catchup_step(c);
    }
}

static void on_page(void *arg, const struct broker_result *r)
{
    struct catchup *c = arg;
    struct gateway *g = c->gw;
    g->catchup_reads--;
    c->reading = false;
    if (c->member == NULL) {
        free(c);
    } else if (r->err != OK) {
        gateway_retry_later(g);
    } else if (c->seeking) {
        seek(c, r);
    } else if (c->adopting) {
        adopt(c, r);
    } else {
        take_page(c, r);
    }
    if (g->broker != NULL)
        next_turns(g);
}

static void read_page(struct catchup *c)
{
    const struct room *room = c->member->room;
    uint64_t after = c->at.offset;
    if (!c->seeking && after != 0)
        after--;
    c->reading = true;
    c->gw->catchup_reads++;
    struct log_page page = {.room = room->name, .after = after, .limit = PAGE};
    c->gw->broker->ops->history(c->gw->broker, &page, on_page, c);
}

/* The client has all that this node has delivered. */
static void nothing_missed(struct catchup *c)
{
    tell(c->member, &c->at, NULL);
    finish(c);
}

static void ask_read(struct catchup *c);

void catchup_step(struct catchup *c)
{
    const struct conn *conn = c->member->session->conn;
    const struct stream *s = &c->member->room->stream;
    if (c->reading || !list_empty(&c->turn))
        return;
    if (c->asking) {
        ask_read(c);
        return;
    }
    c->waiting = c->waiting && c->member->room->stream.state == STREAM_REPAIRING;
    if (c->waiting)
        return; /* called again when the room's stream has moved on */
    if (strays(c))
        c->checked = false; /* the log decides */
    if (level(c))
        finish(c);
    else if (early(c) || conn->out.bytes > c->gw->cfg->max_queue_bytes / 4)
        return; /* called again: by the room's next message, by the client's reading on */
    else if (!c->checked && s->state == STREAM_LIVE && same(&c->at, &s->last))
        nothing_missed(c);
    else if (c->gw->catchup_reads < READS_MAX)
        read_page(c);
    else
        list_append(&c->gw->catchup_turns, &c->turn);
}

static struct catchup *catchup_create(struct member *m)
{
    struct catchup *c = xcalloc(1, sizeof *c);
    c->gw = m->room->gw;
    c->member = m;
    m->catchup = c;
    m->branch_end = m->room->stream.forks
                        .count; /* of what is lost from now on it has seen what it has been sent: `lost` will tell */
    m->session->returning++;
    list_init(&c->turn);
    return c;
}

void catchup_behind(struct member *m)
{
    struct catchup *c = catchup_create(m);
    c->at = m->room->stream.last;
    catchup_step(c);
}

/* Of what is said in a room without a log there is only what this node has heard itself. */
static bool has_kept(const struct stream *s, const struct position *at)
{
    uint64_t next = at->offset + 1;
    const struct tail_entry *same_place = tail_find(&s->tail, at->offset);
    if (same_place != NULL && !same(&same_place->m.position, at))
        return false;
    list_for_each (it, &s->tail.entries) {
        next += list_entry(it, struct tail_entry, in_room)->m.position.offset == next;
    }
    return s->state == STREAM_LIVE && at->offset < s->last.offset && next == s->last.offset + 1;
}

static void send_kept(struct catchup *c)
{
    const struct stream *s = &c->member->room->stream;
    list_for_each (it, &s->tail.entries) {
        const struct message_record *r = &list_entry(it, struct tail_entry, in_room)->m;
        if (r->position.offset > c->at.offset)
            send_record(c, r);
    }
}

void catchup_kept(struct member *m)
{
    struct catchup c = {.gw = m->room->gw, .member = m, .at = m->seen.at};
    if (m->has_seen)
        send_kept(&c);
    member_activate(m);
}

static void begin(struct catchup *c)
{
    const struct member *m = c->member;
    const struct stream *s = &m->room->stream;
    const struct position *from = &m->seen.at;
    if (!m->has_seen) {
        give_up(c, "no_position");
        return;
    }
    c->at = *from;
    if (same(from, &s->last)) {
        nothing_missed(c);
    } else if (m->room->policy->retain_count == 0 && has_kept(s, from)) {
        tell(c->member, &c->at, NULL);
        send_kept(c);
        finish(c);
    } else if (m->room->policy->retain_count == 0) {
        give_up(c, "not_retained");
    } else if (from->offset > s->last.offset) {
        forked(c);
    } else {
        catchup_step(c);
    }
}

static void on_read_mark(void *arg, const struct broker_result *r)
{
    struct catchup *c = arg;
    c->reading = false;
    if (c->member == NULL) {
        free(c);
    } else if (r->err != OK) {
        gateway_retry_later(c->gw);
    } else {
        c->asking = false;
        c->member->has_seen = r->position.offset != 0;
        c->member->seen.at = r->position;
        begin(c);
    }
}

static void ask_read(struct catchup *c)
{
    const struct session *s = c->member->session;
    c->reading = true;
    c->gw->broker->ops->read(
        c->gw->broker, &(struct read_mark){.user = s->user, .sid = slice_str(s->sid), .room = c->member->room->name},
        on_read_mark, c);
}

void catchup_begin(struct member *m)
{
    struct catchup *c = catchup_create(m);
    c->asking = m->from_read && !m->has_seen;
    if (c->asking)
        ask_read(c);
    else
        begin(c);
}

void catchup_cancel(struct catchup *c)
{
    list_del(&c->turn);
    c->member->catchup = NULL;
    c->member->session->returning--;
    c->member = NULL;
    if (!c->reading)
        free(c);
}

void catchup_forked(struct catchup *c, const struct position *since)
{
    if (c->at.offset > since->offset)
        c->checked = false; /* the log decides again, and the client is told */
}
