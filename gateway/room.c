/* gateway/room.c: rooms on this node: who is in, and what arrives for them. */
#include "gateway/room.h"

#include <assert.h>

#include "base/log.h"
#include "base/mem.h"
#include "gateway/audience.h"
#include "gateway/catchup.h"
#include "gateway/common.h"
#include "gateway/conn.h"
#include "gateway/emit.h"
#include "gateway/gateway.h"
#include "gateway/inbox.h"
#include "gateway/message.h"
#include "gateway/metrics.h"
#include "gateway/report.h"
#include "gateway/request.h"
#include "gateway/session.h"
#include "gateway/trail.h"

/* --- rooms --- */

static void member_start(struct member *m);

static void on_subscribed(void *arg, const struct broker_result *result)
{
    struct room *r = arg;
    if (r->subscription == ROOM_SUBSCRIBED) {
        /* asked twice: the link was lost in between */
    } else if (result->err == OK) {
        r->subscription = ROOM_SUBSCRIBED;
        list_for_each_safe (it, &r->waiting) {
            member_start(list_entry(it, struct member, in_room));
        }
    } else {
        LOG_PEER(WARN, "subscribe failed", "room=%s code=%s why=%s", log_q(r->name), err_name(result->err),
                 log_q(slice_str(result->why)));
        list_for_each_safe (it, &r->waiting) {
            struct member *m = list_entry(it, struct member, in_room);
            if (m->implicit || (m->returning && m->request == NULL))
                continue; /* wanted for as long as the session lives, or is in the room: asked for again by member_retry */
            (void)request_failed(&m->request, result);
            member_free(m);
        }
        r->subscription = ROOM_UNSUBSCRIBED;
        if (!list_empty(&r->waiting))
            gateway_retry_later(r->gw);
    }
    room_unref(r);
}

static void room_subscribe(struct room *r)
{
    r->refs++;
    r->subscription = ROOM_SUBSCRIBING;
    r->gw->broker->ops->subscribe(r->gw->broker, r->name, on_subscribed, r);
}

struct room *room_find(const struct gateway *g, struct slice name)
{
    struct room *r;
    HASH_FIND(hh, g->rooms, name.p, name.n, r);
    return r;
}

uint64_t room_delivered(const struct gateway *g, struct slice name)
{
    const struct room *r = room_find(g, name);
    return r != NULL ? r->stream.last.offset : 0;
}

struct room *room_get(struct gateway *g, struct slice name)
{
    struct room *r = room_find(g, name);
    if (r != NULL) {
        r->refs++;
        return r;
    }
    r = xcalloc(1, sizeof *r + name.n);
    char *copy = (char *)(r + 1);
    memcpy(copy, name.p, name.n);
    r->gw = g;
    r->name = (struct slice){copy, name.n};
    r->policy = policies_find(g->policies, name);
    r->refs = 1;
    stream_init(&r->stream);
    list_init(&r->waiting);
    audiences_init(r);
    HASH_ADD_KEYPTR(hh, g->rooms, r->name.p, r->name.n, r);
    metrics->rooms += r->name.p[0] != '$';
    room_subscribe(r);
    return r;
}

void room_ref(struct room *r)
{
    r->refs++;
}

void room_unref(struct room *r)
{
    assert(r->refs != 0);
    if (--r->refs != 0)
        return;
    assert(list_empty(&r->audiences) && list_empty(&r->waiting));
    task_cancel(&r->flush);
    if (r->gw->broker != NULL)
        r->gw->broker->ops->unsubscribe(r->gw->broker, r->name);
    HASH_DELETE(hh, r->gw->rooms, r);
    metrics->rooms -= r->name.p[0] != '$';
    stream_fini(&r->stream);
    free(r);
}

struct room *room_expect(struct gateway *g, struct slice name)
{
    struct room *r = room_get(g, name);
    r->expecting++;
    return r;
}

void room_expect_no_more(struct room *r)
{
    r->expecting--;
    room_unref(r);
}

void room_reload(struct room *r)
{
    r->policy = policies_find(r->gw->policies, r->name);
}

void room_each_session(const struct room *r, void (*fn)(struct session *s))
{
    list_for_each (it, &r->waiting)
        fn(list_entry(it, struct member, in_room)->session);
    list_for_each (it, &r->audiences) {
        const struct audience *a = list_entry(it, struct audience, in_room);
        for (uint32_t i = 0; i < a->count; i++)
            fn(a->seats[i].session);
    }
}

/* --- members: in --- */

void member_activate(struct member *m)
{
    struct room *r = m->room;
    room_flush(r); /* what is batched was said before this member's time */
    list_del(&m->in_room);
    m->phase = MEMBER_JOINED;
    audience_enter(audience_get(r, m->session->conn->protocol), m);
    m->audience->told = r->stream.last;
    if (m->branch == BRANCH_NONE || m->branch_end != r->stream.forks.count) { /* else it was set aside, and is back */
        m->branch = r->stream.forks.count;
        m->entered = m->whole ? m->seen.start : r->stream.last.offset;
    }
    m->branch_end = BRANCH_NONE;
    if (m->implicit || m->returning)
        trail_entered(m);
    if (m->implicit && !m->counted) {
        m->counted = true;
        session_opened_part(m->session);
    }
}

static void on_joined(void *arg, const struct broker_result *result)
{
    struct request *request = arg;
    struct member *m = session_member(request->session, request->room);
    /* On success the ENTER in the room's stream is what counts; it may have come already, or the client may be gone. */
    if (result->err != OK && m != NULL && m->phase == MEMBER_JOINING) {
        struct gateway *g = m->room->gw;
        if (m->returning && m->request == NULL) {
            m->stale = true; /* nobody asked for this join: it is a membership that must not be lost */
            gateway_retry_later(g);
        } else {
            (void)request_failed(&m->request, result);
            if (g->broker != NULL)
                member_leave(m, EXIT_LEAVE, NULL); /* the store may or may not have it: make sure that it has not */
        }
    }
    request_event(&request, &(struct event){0});
}

static void member_ask_join(struct member *m)
{
    /* A request without id: nothing is answered by itself, but it holds the session until the store has answered. */
    struct request *hold = request_create(m->session, &(struct command){.kind = CMD_JOIN, .room = m->room->name});
    m->room->gw->broker->ops->join(m->room->gw->broker, m->room->name, slice_str(m->session->sid), m->session->user,
                                   on_joined, hold);
}

static void member_start(struct member *m)
{
    struct session *s = m->session;
    if (!m->implicit) {
        member_ask_join(m);
    } else if (s->conn != NULL) {
        if (m->inbox || inbox_keeps(m->room))
            inbox_start(m);
        else if (common_keeps(m->room))
            common_start(m);
        else
            catchup_kept(m);
    } else { /* resumed, and gone before it could be told */
        bool counted = m->counted;
        member_free(m);
        if (!counted)
            session_opened_part(s);
    }
}

void room_begun(struct room *r)
{
    list_for_each_safe (it, &r->waiting) {
        struct member *m = list_entry(it, struct member, in_room);
        if (m->implicit && m->catchup == NULL)
            member_start(m);
    }
}

static struct member *member_create(struct room *r, struct session *s)
{
    struct member *m = xcalloc(1, sizeof *m);
    m->session = s;
    m->room = r;
    m->phase = MEMBER_JOINING;
    m->branch = BRANCH_NONE;
    r->refs++;
    list_append(&r->waiting, &m->in_room);
    list_append(&s->members, &m->in_session);
    return m;
}

static struct member *member_begin(struct member *m)
{
    if (!m->implicit) {
        m->session->member_count++;
        metrics->memberships++;
    }
    if (m->room->subscription == ROOM_SUBSCRIBED)
        member_start(m);
    else if (m->room->subscription == ROOM_UNSUBSCRIBED)
        room_subscribe(m->room); /* a room that is kept for other reasons, whose subscription has failed */
    return m;
}

struct member *room_join(struct room *r, struct session *s, struct request *request)
{
    struct member *m = member_create(r, s);
    m->request = request;
    return member_begin(m);
}

struct member *room_join_implicit(struct room *r, struct session *s, const struct seen *seen)
{
    struct member *m = member_create(r, s);
    m->implicit = true;
    m->has_seen = seen != NULL;
    if (seen != NULL)
        m->seen = *seen;
    return member_begin(m);
}

struct member *room_return(struct room *r, struct session *s, const struct seen *seen, struct request *request)
{
    struct member *m = member_create(r, s);
    m->request = request;
    m->returning = true;
    m->presented = request == NULL;
    m->has_seen = seen != NULL;
    if (seen != NULL)
        m->seen = *seen;
    return member_begin(m);
}

struct member *room_read_on(struct room *r, struct session *s, struct request *request)
{
    struct member *m = member_create(r, s);
    m->request = request;
    m->returning = m->from_read = true;
    return member_begin(m);
}

/* --- members: out --- */

/* Ends what the member sees; the member itself remains. */
static void member_end_view(struct member *m)
{
    if (m->phase == MEMBER_JOINED) {
        room_flush(m->room);
        list_del(&m->in_room);
        audience_leave(m);
    } else {
        if (m->catchup != NULL)
            catchup_cancel(m->catchup);
        list_del(&m->in_room);
        request_fail(&m->request, ERR_CONFLICT, "left before the join was done");
    }
    m->phase = MEMBER_LEAVING;
}

void member_free(struct member *m)
{
    if (m->phase != MEMBER_LEAVING)
        member_end_view(m);
    list_del(&m->in_session);
    if (!m->implicit) {
        m->session->member_count--;
        metrics->memberships--;
    }
    struct room *r = m->room;
    free(m);
    room_unref(r);
}

void member_suspend(struct member *m)
{
    /* One that is coming back was a member before, whether its join is done or not. */
    m->suspend = m->phase == MEMBER_JOINED || m->returning;
    member_leave(m, EXIT_DISCONNECT, NULL);
}

void member_retry(struct member *m)
{
    if (m->phase == MEMBER_LEAVING)
        member_leave(m, m->reason, NULL);
    else if (m->room->subscription == ROOM_UNSUBSCRIBED && m->catchup == NULL)
        room_subscribe(m->room);
    else if (m->stale)
        member_ask_join(m);
    else if (m->inbox)
        inbox_retry(m);
    if (m->catchup != NULL)
        catchup_step(m->catchup);
}

static void on_left(void *arg, const struct broker_result *result)
{
    struct request *request = arg;
    struct session *s = request->session;
    struct member *m = session_member(s, request->room);
    session_ref(s);
    if (m != NULL && m->phase == MEMBER_LEAVING) {
        m->busy = false;
        if (result->err == OK && m->reported && !m->suspend)
            report_leave(m);
        if (result->err == OK)
            member_free(m);
        else
            gateway_retry_later(s->gw);
    }
    if (!request_failed(&request, result))
        request_ack(&request, NULL, &result->total);
    if (s->conn == NULL && result->err == OK)
        session_retry(s); /* the last membership gone, the session can go */
    session_unref(s);
}

void member_leave(struct member *m, enum exit_reason reason, struct request *request)
{
    if (m->phase != MEMBER_LEAVING) {
        member_end_view(m);
        m->reason = reason;
        trail_left(m);
    }
    if (m->busy) {
        request_fail(&request, ERR_CONFLICT, "a leave of this room is under way");
        return;
    }
    m->busy = true;
    if (request == NULL)
        request = request_create(m->session, &(struct command){.kind = CMD_LEAVE, .room = m->room->name});
    if (m->suspend) {
        m->room->gw->broker->ops->suspend(m->room->gw->broker, m->room->name, slice_str(m->session->sid),
                                          m->session->user, on_left, request);
        return;
    }
    m->room->gw->broker->ops->leave(m->room->gw->broker, m->room->name, slice_str(m->session->sid), m->session->user,
                                    m->reason, on_left, request);
}

void room_quit(struct room *r, struct session *s, enum exit_reason reason)
{
    struct member *m = member_create(r, s);
    s->member_count++;
    metrics->memberships++;
    member_leave(m, reason, NULL);
}

/* --- what the broker says --- */

static struct session *local_session(const struct room *r, struct slice sid)
{
    struct session *s;
    HASH_FIND(hh, r->gw->sessions, sid.p, sid.n, s);
    return s;
}

static void on_message(struct room *r, const struct envelope *e)
{
    const struct session *except = e->except.n != 0 ? local_session(r, e->except) : NULL;
    const struct event event = message_live(e);
    struct sight sight;
    bool returned = fork_return(r, e, &sight);
    if (e->data_type == DATA_EMISSION)
        emit_logged(r, e, returned ? &sight : NULL);
    else if (returned)
        room_tell_returned(r, &event, except, &sight);
    else
        room_tell(r, &event, except);
    struct gateway *g = r->gw;
    if (r->policy->retain_count != 0 || r->expecting != 0)
        tail_keep(&g->tails, &r->stream.tail, e, (struct tail_limits){g->cfg->tail_bytes, g->cfg->tail_total_bytes},
                  loop_now_ms(g->loop));
}

/* Something was done about one of ours that we did not ask for: the session has moved and we are about to hear of it, or the node where it was before
 * did so too late. Whose it is shows when it is put again. */
static void contest(struct member *m)
{
    if (m == NULL || m->phase != MEMBER_JOINED || m->implicit)
        return;
    m->stale = m->session->stale = true;
    gateway_retry_later(m->room->gw);
}

static struct member *local_member(const struct room *r, struct slice sid)
{
    const struct session *s = local_session(r, sid);
    return s != NULL ? session_member(s, r->name) : NULL;
}

static void on_enter(struct room *r, const struct envelope *e, const struct event *notice)
{
    struct member *m = local_member(r, e->from);
    if (r->policy->notices && !e->again)
        room_tell(r, notice, m != NULL && m->phase == MEMBER_JOINED ? m->session : NULL);
    if (m == NULL)
        return;
    if (!slice_eq(e->node, slice_str(r->gw->node))) {
        contest(m);
        return;
    }
    m->stale = false;
    if (m->phase != MEMBER_JOINING || m->catchup != NULL)
        return;
    /* Whoever has not asked is in the room already, and counted. */
    if (m->request != NULL && r->policy->max_members != 0 && e->total > r->policy->max_members) {
        struct error error;
        (void)fail(&error, ERR_LIMIT_EXCEEDED, "the room has its %u members", r->policy->max_members);
        request_fail(&m->request, ERR_LIMIT_EXCEEDED, error.text);
        member_leave(m, EXIT_LEAVE, NULL);
        return;
    }
    if (m->request != NULL)
        report_join(m);
    m->reported = true;
    if (!m->returning) {
        m->has_seen = true;
        m->seen.at = e->position;
        trail_entered(m);
    }
    request_ack(&m->request, &e->position, &r->total);
    if (m->returning)
        catchup_begin(m);
    else
        member_activate(m);
}

void room_envelope(struct room *r, const struct envelope *e)
{
    if (stream_take(r, e))
        room_deliver(r, e);
}

void room_step_catchups(struct room *r)
{
    list_for_each_safe (it, &r->waiting) {
        const struct member *m = list_entry(it, struct member, in_room);
        if (m->catchup != NULL)
            catchup_step(m->catchup);
    }
}

void room_forked(struct room *r, const struct position *since)
{
    const struct event e = {
        .kind = EVENT_RECOVERED, .room = r->name, .text = SLICE("fork"), .position = since, .total = r->total};
    room_tell(r, &e, NULL);
    list_for_each_safe (it, &r->waiting) {
        const struct member *m = list_entry(it, struct member, in_room);
        if (m->catchup != NULL)
            catchup_forked(m->catchup, since);
    }
}

void room_deliver(struct room *r, const struct envelope *e)
{
    static const enum event_kind kinds[ENVELOPE_KINDS] = {
        [ENVELOPE_MESSAGE] = EVENT_MESSAGE,
        [ENVELOPE_ENTER] = EVENT_ENTER,
        [ENVELOPE_EXIT] = EVENT_EXIT,
        [ENVELOPE_SUSPEND] = EVENT_SUSPEND,
    };
    if (e->kind == ENVELOPE_MESSAGE) {
        on_message(r, e);
        room_set_aside(r);
        room_step_catchups(r);
        return;
    }
    if (e->kind == ENVELOPE_READ) {
        inbox_read(r, e);
        room_set_aside(r);
        return;
    }
    r->total = e->total;
    const struct event notice = {.kind = kinds[e->kind],
                                 .room = e->room,
                                 .sid = e->from,
                                 .user = e->user,
                                 .total = e->total,
                                 .time_ms = e->time_ms,
                                 .exit_reason = e->reason};
    if (e->kind == ENVELOPE_ENTER) {
        on_enter(r, e, &notice);
    } else if (e->kind != ENVELOPE_PROBE) {
        if (r->policy->notices)
            room_tell(r, &notice, NULL);
        contest(local_member(r, e->from));
    }
    room_set_aside(r);
}

void room_link_up(struct room *r)
{
    stream_outage(r);
    if (r->subscription != ROOM_SUBSCRIBED) {
        if (!list_empty(&r->waiting))
            room_subscribe(r);
        return;
    }
    list_for_each_safe (it, &r->waiting) {
        struct member *m = list_entry(it, struct member, in_room);
        if (m->catchup == NULL)
            member_start(m);
    }
}

struct member *session_member(const struct session *s, struct slice room)
{
    const struct room *r = room_find(s->gw, room);
    if (r == NULL)
        return NULL;
    list_for_each (it, &s->members) {
        struct member *m = list_entry(it, struct member, in_session);
        if (m->room == r)
            return m;
    }
    return NULL;
}
