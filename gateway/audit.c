/* gateway/audit.c: comparing what the store has of this node's sessions with what they are. */
#include "gateway/audit.h"

#include "base/log.h"
#include "base/random.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "gateway/room.h"
#include "gateway/session.h"

#define FIRST_MS 2000 /* what was under way when the link was lost is told first */
#define PAUSE_MS 100
#define BATCH    32
#define EVERY_MS 1800000u /* without any reason */

static bool is_settled(const struct session *s)
{
    return s->state == SESSION_ACTIVE && !s->taken && !s->stale && s->conn != NULL;
}

static const struct room_record *named(const struct broker_result *r, struct slice room)
{
    for (size_t i = 0; i < r->count; i++) {
        if (slice_eq(r->rooms[i].room, room))
            return &r->rooms[i];
    }
    return NULL;
}

static void tell_again(struct session *s, const char *what, struct slice room)
{
    metrics->restored++;
    LOG_PEER(WARN, "the store is told again what it has lost", "session=%s what=%s room=%s", s->sid, what, log_q(room));
}

/* Joined here, but in the store no member, or one that its hash does not name. What is being joined or left is told to the store anyway. */
static void check_members(struct session *s, const struct broker_result *r)
{
    list_for_each (it, &s->members) {
        struct member *m = list_entry(it, struct member, in_session);
        const struct room_record *stored = named(r, m->room->name);
        if (m->implicit || m->stale || !member_is_in(m) || (stored != NULL && stored->total != 0))
            continue;
        m->stale = true;
        gateway_retry_later(s->gw);
        tell_again(s, "membership", m->room->name);
    }
}

/* Left here, but the store has not heard of it. */
static void check_rooms(struct session *s, const struct broker_result *r)
{
    struct broker *b = s->gw->broker;
    for (size_t i = 0; i < r->count; i++) {
        if (session_member(s, r->rooms[i].room) != NULL)
            continue;
        tell_again(s, "leave", r->rooms[i].room);
        b->ops->leave(b, r->rooms[i].room, slice_str(s->sid), s->user, EXIT_LEAVE, NULL, NULL);
    }
}

static void on_audited(void *arg, const struct broker_result *r)
{
    struct session *s = arg;
    if (s->gw->broker != NULL && is_settled(s)) {
        if (r->err == ERR_NOT_FOUND) {
            tell_again(s, "session", SLICE_NONE);
            session_restore(s);
        } else if (r->err == OK) {
            check_members(s, r);
            check_rooms(s, r);
        } /* else it is another node's, or the link is lost: then all are compared again */
    }
    session_unref(s);
}

static void audit(struct session *s)
{
    if (!is_settled(s))
        return;
    session_ref(s);
    s->gw->broker->ops->session_audit(s->gw->broker, slice_str(s->sid), on_audited, s);
}

static void list_all(struct gateway *g)
{
    struct session *s, *next;
    HASH_ITER (hh, g->sessions, s, next) {
        if (list_empty(&s->audit))
            list_append(&g->audits, &s->audit);
    }
}

void audit_all(struct gateway *g)
{
    if (g->audit_wanted) /* rooms come back by the thousand */
        return;
    g->audit_wanted = true;
    timer_start(&g->audit, FIRST_MS);
}

void audit_on_timer(struct timer *t)
{
    struct gateway *g = container_of(t, struct gateway, audit);
    if (g->audit_wanted || list_empty(&g->audits))
        list_all(g);
    g->audit_wanted = false;
    for (unsigned i = 0; i < BATCH && !list_empty(&g->audits); i++) {
        struct session *s = list_first(&g->audits, struct session, audit);
        list_del(&s->audit);
        audit(s);
    }
    timer_start(t, list_empty(&g->audits) ? EVERY_MS / 2 + random_below(EVERY_MS) : PAUSE_MS);
}
