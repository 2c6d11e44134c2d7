/* gateway/inbox.c: inboxes of users, and how far they have read. */
#include "gateway/inbox.h"

#include <stdio.h>

#include "gateway/audience.h"
#include "gateway/catchup.h"
#include "gateway/gateway.h"
#include "gateway/request.h"
#include "gateway/room.h"
#include "gateway/session.h"

struct inbox_name {
    char text[sizeof "$user:" + NAME_MAX_USER];
};

static struct slice inbox_of(const struct session *s, struct inbox_name *name)
{
    int n = snprintf(name->text, sizeof name->text, "$user:%.*s", SLICE_FMT(s->user));
    return (struct slice){name->text, (size_t)n};
}

bool inbox_keeps(const struct room *r)
{
    return room_is_user(r->name) && r->policy->retain_count != 0;
}

/* --- what waits for a session --- */

static bool waits(const struct member *m)
{
    return m->inbox && m->phase == MEMBER_JOINING && m->catchup == NULL;
}

/* That the store has answered is no news: the envelope is. */
static void on_asked(void *arg, const struct broker_result *result)
{
    struct request *hold = arg;
    if (result->err != OK)
        gateway_retry_later(hold->session->gw);
    request_drop(&hold);
}

static void ask(const struct member *m)
{
    struct session *s = m->session;
    struct request *hold = request_create(s, &(struct command){.kind = CMD_READ, .room = m->room->name});
    s->gw->broker->ops->read(
        s->gw->broker,
        &(struct read_mark){.user = s->user, .sid = slice_str(s->sid), .room = m->room->name, .tell = true}, on_asked,
        hold);
}

void inbox_start(struct member *m)
{
    if (!m->inbox) {
        m->inbox = m->kept = m->counted = m->session->has_inbox = true;
        session_opened_part(m->session); /* which may have resumed it by now */
    } else {
        inbox_retry(m);
    }
}

void inbox_retry(struct member *m)
{
    if (waits(m) && m->session->state == SESSION_ACTIVE && m->session->conn != NULL)
        ask(m);
}

void inbox_welcome(struct session *s, bool resumed, const struct seen *seen)
{
    list_for_each (it, &s->members) {
        struct member *m = list_entry(it, struct member, in_session);
        if (!waits(m))
            continue;
        m->returning = resumed;
        m->has_seen = seen != NULL;
        if (seen != NULL)
            m->seen = *seen;
        inbox_retry(m);
        return;
    }
}

/* Where a session begins that has been told nothing yet: behind what its user has read. */
static void begin(struct member *m, const struct envelope *e)
{
    if (!m->returning) {
        m->has_seen = true;
        m->seen.at = e->read;
    }
    catchup_begin(m);
}

void inbox_read(struct room *r, const struct envelope *e)
{
    struct session *s;
    HASH_FIND(hh, r->gw->sessions, e->from.p, e->from.n, s);
    struct member *m = s != NULL && slice_eq(e->node, slice_str(r->gw->node)) ? session_member(s, r->name) : NULL;
    if (!e->again && e->read.offset != 0)
        room_tell(
            r, &(struct event){.kind = EVENT_READ, .room = e->read_room, .position = &e->read, .time_ms = e->time_ms},
            s);
    if (m != NULL && waits(m) && s->conn != NULL)
        begin(m, e);
}

/* --- reading --- */

static void on_read(void *arg, const struct broker_result *result)
{
    struct request *request = arg;
    if (!request_failed(&request, result))
        request_ack(&request, &result->position, NULL);
}

enum err inbox_run_read(struct session *s, const struct command *c, struct error *reterr)
{
    struct inbox_name name;
    if (s->user.n == 0)
        return fail(reterr, ERR_FORBIDDEN, "this session belongs to no user");
    struct slice inbox = inbox_of(s, &name), room = c->room.n != 0 ? c->room : inbox;
    const struct member *m = session_member(s, room);
    if (room.p[0] == '$' && !slice_eq(room, inbox))
        return fail(reterr, ERR_INVALID_NAME, "\"room\" begins with $ and is not this user's inbox");
    if (room.p[0] != '$' && (m == NULL || !member_is_in(m)))
        return fail(reterr, ERR_NOT_MEMBER, "join the room before saying how far it is read");
    if (c->seen.at.offset == 0)
        return fail(reterr, ERR_BAD_REQUEST, "member \"position\" must be that of a message");
    struct command named = *c;
    named.room = room;
    s->gw->broker->ops->read(
        s->gw->broker,
        &(struct read_mark){.user = s->user, .sid = slice_str(s->sid), .room = room, .at = c->seen.at, .back = c->back},
        on_read, request_create(s, &named));
    return OK;
}
