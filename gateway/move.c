/* gateway/move.c: connections by long-polling that come from another node, to the WebSocket that is here. */
#include "gateway/move.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/utf8.h"
#include "gateway/conn.h"
#include "gateway/engine.h"
#include "gateway/gateway.h"
#include "gateway/leaving.h"
#include "gateway/metrics.h"
#include "gateway/polling.h"
#include "gateway/polling_record.h"
#include "gateway/polling_take.h"
#include "gateway/probe.h"
#include "gateway/resume.h"
#include "gateway/room.h"

#define ID_MAX     24
#define LOOK_MS    10u    /* between two looks whether what is waited for has come */
#define HELD_ARENA 65536u /* to unpack a private message, which is not copied */
#define ROOMS_MAX  10000u /* whose messages are kept for one connection */

/* NAMED: nobody is asked yet. ASKED: whether it may come. EXPECTED: it may; the client tries the WebSocket. DECIDED: so the other node shall give it. COMING: its engine is here, sessions follow. */
enum move_state { MOVE_NAMED, MOVE_ASKED, MOVE_EXPECTED, MOVE_DECIDED, MOVE_COMING };

/* A session that comes. */
struct part {
    struct link link;
    char sid[SID_LEN + 1];
    bool ours;       /* the store has given it to this node */
    bool told;       /* how far its client is, and that is: */
    struct buf data; /* a record and frames */
    struct buf held; /* private messages that were faster than the store's word, each with its length before it */
};

struct move {
    UT_hash_handle hh; /* gateway->moves, by id; until it is over */
    struct gateway *gw;
    struct conn *conn; /* the WebSocket */
    enum eio_revision revision;
    enum move_state state;
    char id[ID_MAX], sid[SID_LEN + 1], node[NODE_ID_MAX];
    bool sought; /* the store has been asked where it is */
    bool over;
    uint32_t calls;    /* of the broker, that are not done */
    uint32_t listened; /* those that want a control_end */
    struct room **rooms;
    size_t room_count;
    struct link parts;
    struct timer timer;
};

bool move_is(const struct envelope *e)
{
    return slice_starts(e->event, SLICE(MOVE_VERBS));
}

/* --- the end --- */

static void settle(struct move *m)
{
    const struct gateway *g = m->gw;
    if (!m->over || m->calls != 0)
        return;
    for (; m->listened != 0; m->listened--)
        if (g->broker != NULL)
            g->broker->ops->control_end(g->broker, slice_str(m->sid));
    free(m);
}

static void part_free(struct part *p)
{
    list_del(&p->link);
    buf_fini(&p->data);
    buf_fini(&p->held);
    free(p);
}

/* The session has lost its connection before it was told how far it is: it goes the way of all that have. */
static void go_on_without(const struct move *m, const struct part *p)
{
    struct session *s;
    HASH_FIND(hh, m->gw->sessions, p->sid, SID_LEN, s);
    if (m->gw->broker != NULL && p->ours && !p->told && s != NULL && s->resume != NULL)
        session_join_implicit(s);
}

static void forget_rooms(struct room **rooms, size_t count)
{
    for (size_t i = 0; i < count; i++)
        room_expect_no_more(rooms[i]);
    free(rooms);
}

static void ask(struct move *m, struct slice verb);

void move_end(struct move **pointer)
{
    struct move *m = TAKE(*pointer);
    if (m == NULL)
        return;
    if (m->state == MOVE_ASKED || m->state == MOVE_EXPECTED)
        ask(m, SLICE(MOVE_VERBS "over"));
    m->over = true;
    HASH_DELETE(hh, m->gw->moves, m);
    timer_stop(&m->timer);
    list_for_each_safe (it, &m->parts) {
        struct part *p = list_entry(it, struct part, link);
        go_on_without(m, p);
        part_free(p);
    }
    forget_rooms(m->rooms, m->room_count);
    settle(m);
}

static void fail_to_come(struct move *m)
{
    if (m->conn->state > CONN_OPEN)
        return;
    metrics->moves_refused++;
    LOG(DEBUG, "connection stays where it is", "engine=%.6s node=%s", m->sid, m->node);
    conn_close(m->conn, 1000, SLICE_NONE);
}

/* --- asking --- */

static void seek(struct move *m);

static void on_asked(void *arg, const struct broker_result *r)
{
    struct move *m = arg;
    bool asked = r->err == OK && !r->away;
    m->calls--;
    m->listened += asked;
    if (m->over)
        settle(m);
    else if (!asked && m->state == MOVE_ASKED && !m->sought)
        seek(m);
    else if (!asked && m->state != MOVE_COMING)
        fail_to_come(m);
}

static void ask(struct move *m, struct slice verb)
{
    struct broker *b = m->gw->broker;
    const struct control_message c = {.sid = slice_str(m->sid),
                                      .id = slice_str(m->id),
                                      .verb = verb,
                                      .data = m->revision == EIO_4 ? SLICE("4") : SLICE("3"),
                                      .node = slice_str(m->node)};
    if (b == NULL)
        return;
    m->calls++;
    (m->node[0] != '\0' ? b->ops->control_to : b->ops->control)(b, &c, on_asked, m);
}

static void on_found(void *arg, const struct broker_result *r)
{
    struct move *m = arg;
    bool found = r->err == OK && r->where[0].n < sizeof m->node;
    m->calls--;
    if (m->over) {
        settle(m);
    } else if (found && !slice_eq(r->where[0], slice_str(m->gw->node))) {
        (void)snprintf(m->node, sizeof m->node, "%.*s", SLICE_FMT(r->where[0]));
        ask(m, SLICE(MOVE_VERBS "probe"));
    } else if (r->err == ERR_NOT_FOUND && m->node[0] == '\0') {
        ask(m, SLICE(MOVE_VERBS "probe")); /* of clients 2.x the session in / has that name */
    } else {
        fail_to_come(m);
    }
}

static void seek(struct move *m)
{
    m->sought = true;
    m->calls++;
    m->gw->broker->ops->polling_find(m->gw->broker, slice_str(m->sid), on_found, m);
}

void move_probe(struct move *m)
{
    m->state = MOVE_ASKED;
    if (m->node[0] != '\0')
        ask(m, SLICE(MOVE_VERBS "probe"));
    else if (m->gw->broker != NULL)
        seek(m);
}

void move_take(struct move *m)
{
    m->state = MOVE_DECIDED;
    ask(m, SLICE(MOVE_VERBS "take"));
}

/* --- it may come --- */

static bool hears_all(const struct move *m)
{
    for (size_t i = 0; i < m->room_count; i++)
        if (m->rooms[i]->subscription != ROOM_SUBSCRIBED)
            return false;
    return true;
}

static void on_timer(struct timer *t)
{
    struct move *m = container_of(t, struct move, timer);
    struct engine *e = m->conn->engine; /* NULL: it has not come, or the WebSocket is being closed instead */
    if (m->state == MOVE_COMING && e != NULL && e->returning == 0)
        move_end(&e->move); /* it is here, and its rooms are */
    else if (m->state == MOVE_COMING)
        fail_to_come(m);
    else if (!hears_all(m))
        timer_start(t, LOOK_MS);
    else if (m->state == MOVE_EXPECTED)
        probe_ready(m->conn->probe);
    else if (m->state == MOVE_DECIDED)
        move_take(m);
}

static bool cut_until(char end, struct slice *rest, struct slice *ret)
{
    const char *at = rest->n != 0 ? memchr(rest->p, end, rest->n) : NULL;
    if (at == NULL)
        return false;
    *ret = (struct slice){rest->p, (size_t)(at - rest->p)};
    *rest = slice_from(*rest, ret->n + 1);
    return true;
}

static bool cut_line(struct slice *rest, struct slice *ret)
{
    return cut_until('\n', rest, ret);
}

/* Lines. If it is told again they have changed. */
static void expect(struct move *m, struct slice rooms)
{
    struct room **before = m->rooms;
    struct slice name, count = rooms;
    size_t before_count = m->room_count, n = 0;
    while (n < ROOMS_MAX && cut_line(&count, &name))
        n++;
    m->rooms = xcalloc(n, sizeof(struct room *));
    m->room_count = 0;
    while (m->room_count < n && cut_line(&rooms, &name))
        if (utf8_name_valid(name, NAME_MAX_ROOM))
            m->rooms[m->room_count++] = room_expect(m->gw, name);
    forget_rooms(before, before_count);
    timer_start(&m->timer, 0);
}

/* --- it comes --- */

struct parcel {
    struct slice record, half, frames;
};

static bool cut_piece(struct slice length, struct slice *rest, struct slice *ret)
{
    uint64_t n;
    if (!text_u64(length, rest->n, &n))
        return false;
    *ret = (struct slice){rest->p, (size_t)n};
    *rest = slice_from(*rest, (size_t)n);
    return true;
}

/* `<length of the record>[ <length of half a packet>]\n<the record><half a packet><frames>` */
static bool cut_parcel(struct slice data, struct parcel *ret)
{
    struct slice record, half;
    if (!cut_line(&data, &half))
        return false;
    if (!cut_until(' ', &half, &record)) {
        record = half;
        half = SLICE("0");
    }
    bool ok = cut_piece(record, &data, &ret->record) && cut_piece(half, &data, &ret->half);
    ret->frames = data;
    return ok;
}

/* `<length>\n<the text of a packet>`, and so on for its attachments: as the messages that they came in. */
static bool hold_half(enum eio_revision revision, struct slice half, struct buf *ret)
{
    struct slice length, piece;
    struct buf message = BUF_INIT;
    bool ok = true;
    for (bool binary = false; half.n != 0; binary = true) {
        ok = cut_line(&half, &length) && cut_piece(length, &half, &piece);
        if (!ok)
            break;
        buf_clear(&message);
        if (!binary)
            buf_append_char(&message, '4');
        else if (revision == EIO_3)
            buf_append_char(&message, (char)EIO_MESSAGE);
        buf_append(&message, piece);
        engine_hold_append(ret, buf_slice(&message), binary);
    }
    buf_fini(&message);
    return ok;
}

static struct part *part_find(const struct move *m, struct slice sid)
{
    list_for_each (it, &m->parts) {
        struct part *p = list_entry(it, struct part, link);
        if (slice_eq(slice_str(p->sid), sid))
            return p;
    }
    return NULL;
}

static void part_add(struct move *m, struct slice sid)
{
    struct part *p = xcalloc(1, sizeof *p);
    memcpy(p->sid, sid.p, SID_LEN);
    list_append(&m->parts, &p->link);
}

/* half: messages as engine->held has them. */
static void carry_on(struct move *m, struct record *r, struct slice half)
{
    struct conn *c = m->conn;
    struct buf held;
    probe_done(&c->probe, &m, &held);
    for (size_t i = 0; i < r->session_count; i++)
        part_add(m, r->sessions[i].sid);
    polling_carry_on(c, slice_str(m->sid), r, m);
    buf_append(&c->engine->held, half);
    buf_append(&c->engine->held, buf_slice(&held));
    buf_fini(&held);
    timer_start(&m->timer, PROBE_PATIENCE_MS);
    engine_returned(c->engine);
    if (c->engine->channel_count == 0)
        conn_pause(c, false); /* else the sessions do that */
    metrics->engine_upgrades++;
    metrics->moves++;
}

static void come(struct move *m, struct slice data)
{
    struct parcel p;
    struct buf half = BUF_INIT;
    struct error error = {0};
    struct record r;
    if (!cut_parcel(data, &p) || !hold_half(m->revision, p.half, &half) || record_read(p.record, &r, &error) != OK) {
        fail_to_come(m);
        buf_fini(&half);
        return;
    }
    m->state = MOVE_COMING;
    conn_append(m->conn, p.frames);
    if (polling_may_carry_on(m->gw, &r))
        carry_on(m, &r, buf_slice(&half));
    else
        fail_to_come(m);
    record_fini(&r);
    buf_fini(&half);
}

static bool tell_rest(struct session *s, struct slice data)
{
    struct parcel p;
    struct error error;
    struct record r;
    if (!cut_parcel(data, &p) || record_read(p.record, &r, &error) != OK)
        return false;
    bool ours = r.session_count == 1 && slice_eq(r.sessions[0].sid, slice_str(s->sid));
    if (ours)
        resume_set_positions(s->resume, r.sessions[0].positions, r.sessions[0].position_count);
    record_fini(&r);
    if (ours && s->conn != NULL && p.frames.n != 0)
        conn_send_bytes(s->conn, p.frames); /* before what is said to it alone since it is ours */
    return ours;
}

/* Both are there: the store has given it to us, and we know how far it is. */
static void complete(struct move *m, struct part *p)
{
    struct session *s;
    HASH_FIND(hh, m->gw->sessions, p->sid, SID_LEN, s);
    p->ours = false;
    if (s == NULL || s->resume == NULL)
        return;
    if (!tell_rest(s, buf_slice(&p->data)))
        fail_to_come(m);
    buf_fini(&p->data);
    session_join_implicit(s);
}

static void tell_held(const struct move *m, struct part *p)
{
    size_t at = 0;
    while (at < p->held.n) {
        struct envelope e;
        struct error ignored;
        struct arena arena;
        uint32_t n;
        memcpy(&n, p->held.p + at, sizeof n);
        arena_init(&arena, HELD_ARENA);
        if (envelope_unpack((struct slice){p->held.p + at + sizeof n, n}, &arena, &e, &ignored) == OK)
            gateway_tell_session(m->gw, &e);
        arena_reset(&arena);
        at += sizeof n + n;
    }
    buf_fini(&p->held);
}

void move_hold(struct gateway *g, struct slice sid, const struct envelope *e)
{
    struct move *m, *next;
    HASH_ITER (hh, g->moves, m, next) {
        struct part *p = part_find(m, sid);
        struct buf packed = BUF_INIT;
        if (p == NULL || p->ours)
            continue;
        envelope_pack(e, &packed);
        const uint32_t n = (uint32_t)packed.n;
        if (p->held.n + n <= g->cfg->max_queue_bytes) {
            buf_append(&p->held, (struct slice){(const char *)&n, sizeof n});
            buf_append(&p->held, buf_slice(&packed));
        }
        buf_fini(&packed);
    }
}

bool move_came(struct session *s)
{
    struct move *m = s->conn != NULL ? s->conn->channel->engine->move : NULL;
    if (m == NULL)
        return true;
    struct part *p = part_find(m, slice_str(s->sid));
    if (p == NULL)
        return true;
    p->ours = true;
    conn_unsay(s->conn); /* of its own rooms: the other node has told it too, or it is kept */
    tell_held(m, p);
    if (p->told)
        complete(m, p);
    return false;
}

static void rest(struct move *m, struct slice data)
{
    struct parcel parcel;
    struct record r;
    struct error error;
    if (m->state != MOVE_COMING || !cut_parcel(data, &parcel) || record_read(parcel.record, &r, &error) != OK)
        return;
    struct part *p = r.session_count == 1 ? part_find(m, r.sessions[0].sid) : NULL;
    record_fini(&r);
    if (p == NULL || p->told)
        return;
    p->told = true;
    buf_append(&p->data, data);
    if (p->ours)
        complete(m, p);
}

/* --- what the other node says --- */

static void be_ready(struct move *m, struct slice rooms)
{
    if (m->state == MOVE_ASKED)
        m->state = MOVE_EXPECTED;
    expect(m, rooms);
}

static void answered(struct move *m, const struct envelope *e)
{
    if (slice_eq(e->event, SLICE(MOVE_VERBS "rest")))
        rest(m, e->data);
    else if (m->state == MOVE_COMING || m->conn->state > CONN_OPEN)
        return; /* all that is left are its sessions, and they tell themselves; or the WebSocket is on its way out */
    else if (slice_eq(e->event, SLICE(MOVE_VERBS "ready")) && (m->state == MOVE_ASKED || m->state == MOVE_DECIDED))
        be_ready(m, e->data);
    else if (slice_eq(e->event, SLICE(MOVE_VERBS "given")) && m->state == MOVE_DECIDED)
        come(m, e->data);
    else if (slice_eq(e->event, SLICE(MOVE_VERBS "unknown")) && m->state == MOVE_ASKED && !m->sought)
        seek(m);
    else
        fail_to_come(m);
}

void move_envelope(struct gateway *g, const struct envelope *e)
{
    struct move *m;
    if (e->kind == ENVELOPE_CONTROL) {
        leaving_asked(g, e);
        return;
    }
    HASH_FIND(hh, g->moves, e->id.p, e->id.n, m);
    if (m != NULL && slice_eq(slice_str(m->sid), e->from))
        answered(m, e);
}

/* --- a name --- */

struct move *move_create(struct conn *c, struct slice name, enum eio_revision revision)
{
    struct gateway *g = c->gw;
    struct slice sid, node;
    if (g->broker == NULL || !polling_name_read(name, &sid, &node))
        return NULL;
    struct move *m = xcalloc(1, sizeof *m);
    m->gw = g;
    m->conn = c;
    m->revision = revision;
    memcpy(m->sid, sid.p, sid.n);
    if (!slice_eq(node, slice_str(g->node))) /* it was ours, and is another's */
        (void)snprintf(m->node, sizeof m->node, "%.*s", SLICE_FMT(node));
    list_init(&m->parts);
    timer_init(&m->timer, g->loop, on_timer);
    (void)snprintf(m->id, sizeof m->id, "m%" PRIx64, ++g->last_forward);
    HASH_ADD_KEYPTR(hh, g->moves, m->id, strlen(m->id), m);
    return m;
}
