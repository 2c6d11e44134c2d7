/* gateway/commands.c: what each command does; the only place where a client's wish meets policy. */
#include <stdio.h>

#include "base/mem.h"
#include "gateway/ask.h"
#include "gateway/conn.h"
#include "gateway/control.h"
#include "gateway/engine.h"
#include "gateway/gateway.h"
#include "gateway/grant.h"
#include "gateway/history.h"
#include "gateway/inbox.h"
#include "gateway/limits.h"
#include "gateway/metrics.h"
#include "gateway/report.h"
#include "gateway/request.h"
#include "gateway/room.h"
#include "gateway/session.h"
#include "gateway/watch.h"

#define PRESENCE_LIMIT_DEFAULT 100u

typedef enum err command_fn(struct session *s, const struct command *c, struct error *reterr);

/* --- rooms --- */

static enum err join(struct session *s, const struct command *c, struct control_job *job, struct error *reterr)
{
    const struct gateway *g = s->gw;
    const struct member *m = session_member(s, c->room);
    if (m != NULL)
        return fail(reterr, ERR_CONFLICT, "%s this room is under way",
                    m->phase == MEMBER_JOINING ? "joining" : "leaving");
    if (c->from_read && s->user.n == 0)
        return fail(reterr, ERR_FORBIDDEN, "this session belongs to no user, who could have read anything");
    if (s->member_count >= g->cfg->max_rooms_per_session)
        return fail(reterr, ERR_LIMIT_EXCEEDED, "in %u rooms already (max-rooms-per-session)", s->member_count);
    struct room *room = room_get(s->gw, c->room);
    struct request *r = request_create(s, c);
    r->job = job;
    if (c->from_read)
        room_read_on(room, s, r);
    else if (c->has_position)
        room_return(room, s, &c->seen, r);
    else
        room_join(room, s, r);
    room_unref(room);
    return OK;
}

static enum err on_join(struct session *s, const struct command *c, struct error *reterr)
{
    enum err err = grant_join(s, c->room, policies_find(s->gw->policies, c->room), reterr);
    if (err != OK)
        return err;
    const struct member *m = session_member(s, c->room);
    if (m == NULL || m->phase != MEMBER_JOINED)
        return join(s, c, NULL, reterr);
    struct request *r = request_create(s, c);
    request_ack(&r, &m->room->stream.last, &m->room->total);
    return OK;
}

enum err command_join_for(struct session *s, struct slice room, struct control_job *job, struct error *reterr)
{
    const struct policy *policy = policies_find(s->gw->policies, room);
    const struct member *m = session_member(s, room);
    if (policy->join == WHO_TOKEN && grant_join(s, room, policy, reterr) != OK)
        return reterr->code; /* a token that does not name the room would throw it out when it is looked at next */
    if (m != NULL && m->phase == MEMBER_JOINED) {
        control_job_done(&job, OK, NULL);
        return OK;
    }
    return join(s, &(struct command){.kind = CMD_JOIN, .room = room, .granted = true}, job, reterr);
}

static enum err on_leave(struct session *s, const struct command *c, struct error *reterr)
{
    struct member *m = session_member(s, c->room);
    if (m == NULL)
        return fail(reterr, ERR_NOT_MEMBER, "not in this room");
    member_leave(m, EXIT_LEAVE, request_create(s, c));
    return OK;
}

enum err command_leave_for(struct session *s, struct slice room, struct slice reason, struct control_job *job,
                           struct error *reterr)
{
    struct member *m = session_member(s, room);
    if (m == NULL || m->phase == MEMBER_LEAVING)
        return fail(reterr, ERR_NOT_MEMBER, "the session is not in this room");
    struct request *r = request_create(s, &(struct command){.kind = CMD_LEAVE, .room = room});
    r->job = job;
    conn_event(s->conn, &(struct event){.kind = EVENT_LEFT, .room = room, .text = reason});
    member_leave(m, EXIT_KICKED, r);
    return OK;
}

static void on_presence_done(void *arg, const struct broker_result *r)
{
    struct request *request = arg;
    if (request_failed(&request, r))
        return;
    AUTO_FREE struct event_member *members = xcalloc(r->count, sizeof *members);
    for (size_t i = 0; i < r->count; i++)
        members[i] = (struct event_member){.sid = r->members[i].sid,
                                           .user = r->members[i].user,
                                           .since_ms = r->members[i].since_ms,
                                           .suspended = r->members[i].state == MEMBER_SUSPENDED};
    request_event(&request, &(struct event){.kind = EVENT_ACK,
                                            .room = request->room,
                                            .has_total = true,
                                            .total = r->total,
                                            .members = members,
                                            .member_count = r->count,
                                            .next = r->more ? r->cursor : SLICE_NONE});
}

static enum err on_presence(struct session *s, const struct command *c, struct error *reterr)
{
    const struct policy *policy = policies_find(s->gw->policies, c->room);
    if (!policy->presence)
        return fail(reterr, ERR_FORBIDDEN, "policy %s does not show who is there", policy->pattern);
    if (policy->join == WHO_TOKEN && grant_join(s, c->room, policy, reterr) != OK)
        return reterr->code;
    s->gw->broker->ops->presence(s->gw->broker, c->room, c->cursor, c->limit != 0 ? c->limit : PRESENCE_LIMIT_DEFAULT,
                                 on_presence_done, request_create(s, c));
    return OK;
}

/* --- messages --- */

static void on_reported(void *arg, const struct broker_result *r)
{
    struct request *request = arg;
    if (!request_failed(&request, r))
        request_event(&request, &(struct event){.kind = EVENT_ACK,
                                                .room = request->room,
                                                .position = request->position.offset != 0 ? &request->position : NULL,
                                                .stored = request->stored,
                                                .replicas = request->replicas});
}

static void on_published(void *arg, const struct broker_result *r)
{
    struct request *request = arg;
    if (r->err == OK && request->report != NULL) { /* acknowledged when the backend is certain to hear of it */
        request->position = r->position;
        request->replicas = r->replicas;
        request->stored = r->stored;
        report_message(TAKE(request->report), &request->position, on_reported, request);
        return;
    }
    if (request_failed(&request, r))
        return;
    request_event(&request, &(struct event){.kind = EVENT_ACK,
                                            .room = request->room,
                                            .position = r->position.offset != 0 ? &r->position : NULL,
                                            .stored = r->stored,
                                            .replicas = r->replicas});
}

/* Everything that becomes a message in some room: publish, send, broadcast. member: the sender's membership there, if any. */
static enum err publish_to(struct session *s, const struct command *c, struct slice room, const struct member *member,
                           struct error *reterr)
{
    struct gateway *g = s->gw;
    const struct policy *policy = policies_find(g->policies, room);
    if (grant_publish(s, room, policy, reterr) != OK)
        return reterr->code;
    bool members = policy->publish == WHO_MEMBERS || (policy->publish == WHO_BACKEND && room.p[0] != '$');
    if (members && (member == NULL || !member_may_publish(member)))
        return fail(reterr, ERR_NOT_MEMBER, "join the room before publishing to it");
    if (policy->size != 0 && c->data.n > policy->size)
        return fail(reterr, ERR_TOO_LARGE, "data of %zu bytes, policy %s allows %u", c->data.n, policy->pattern,
                    policy->size);
    if (member != NULL && !bucket_take(&member->room->rate, policy->rate, 0, loop_now_us(g->loop)))
        return fail(reterr, ERR_RATE_LIMITED, "more than %u messages per second in this room", policy->rate);
    if (!limits_take(g->limits, LIMIT_ROOM, room, policy->cluster_rate, 0))
        return fail(reterr, ERR_RATE_LIMITED, "more than %u messages per second in this room of the cluster",
                    policy->cluster_rate);
    if (policy->publish == WHO_BACKEND)
        return ask_publish(s, c, room, reterr);
    command_publish(request_create(s, c), c, room);
    return OK;
}

void command_publish(struct request *request, const struct command *c, struct slice room)
{
    struct session *s = request->session;
    struct gateway *g = s->gw;
    const struct policy *policy = policies_find(g->policies, room);
    request->report = report_message_new(s, room, c);
    g->broker->ops->publish(g->broker,
                            &(struct publish){.room = room,
                                              .event = c->event,
                                              .from = slice_str(s->sid),
                                              .user = s->user,
                                              .except = c->echo ? SLICE_NONE : slice_str(s->sid),
                                              .data = c->data,
                                              .key = c->key,
                                              .data_type = c->data_type,
                                              .retain_count = policy->retain_count,
                                              .retain_age_s = policy->retain_age_s,
                                              .replicas = policy->replicas},
                            on_published, request);
}

static enum err on_publish(struct session *s, const struct command *c, struct error *reterr)
{
    return publish_to(s, c, c->room, session_member(s, c->room), reterr);
}

static enum err on_send(struct session *s, const struct command *c, struct error *reterr)
{
    char name[sizeof "$session:" + NAME_MAX_USER];
    bool to_user = c->to_user.n != 0;
    int n = snprintf(name, sizeof name, "%s%.*s",
                     to_user ? "$user:" : "$session:", SLICE_FMT(to_user ? c->to_user : c->to_session));
    return publish_to(s, c, (struct slice){name, (size_t)n}, NULL, reterr);
}

static enum err on_broadcast(struct session *s, const struct command *c, struct error *reterr)
{
    return publish_to(s, c, SLICE("$all"), NULL, reterr);
}

/* Only the last publish answers: whoever emits an event expects one answer at most. */
static enum err relay_to_rooms(struct session *s, const struct command *c, struct error *reterr)
{
    struct command one = *c;
    const struct member *last = NULL;
    enum err err = OK;
    one.id = SLICE_NONE;
    list_for_each (it, &s->members) {
        const struct member *m = list_entry(it, struct member, in_session);
        if (m->implicit || !member_is_in(m))
            continue;
        if (last != NULL && err == OK)
            err = publish_to(s, &one, one.room, last, reterr);
        last = m;
        one.room = m->room->name;
    }
    if (last == NULL)
        return fail(reterr, ERR_NOT_MEMBER, "in no room that this could be relayed to");
    one.id = c->id;
    return err == OK ? publish_to(s, &one, one.room, last, reterr) : err;
}

static enum err relay_to_namespace(struct session *s, const struct command *c, struct error *reterr)
{
    char name[sizeof "$namespace:" + SIO_NAMESPACE_MAX];
    struct buf b = BUF_INIT;
    channel_room_append(s->conn->channel, &b);
    struct slice room = {name, b.n};
    memcpy(name, b.p, b.n);
    buf_fini(&b);
    return publish_to(s, c, room, NULL, reterr);
}

void command_relay(struct session *s, const struct command *c, bool to_namespace)
{
    struct error error = {0};
    if ((to_namespace ? relay_to_namespace : relay_to_rooms)(s, c, &error) != OK)
        session_error(s, c->id, SLICE_NONE, error.code, slice_str(error.text));
}

/* --- the rest --- */

static enum err on_ping(struct session *s, const struct command *c, struct error *reterr)
{
    (void)reterr;
    conn_event(s->conn, &(struct event){.kind = EVENT_PONG, .id = c->id, .time_ms = loop_wall_ms(s->gw->loop)});
    return OK;
}

static enum err on_call(struct session *s, const struct command *c, struct error *reterr)
{
    return ask_call(s, c, reterr);
}

static enum err on_auth(struct session *s, const struct command *c, struct error *reterr)
{
    return grant_refresh(s, c, reterr);
}

static command_fn *const handlers[COMMANDS] = {
    [CMD_JOIN] = on_join,        [CMD_LEAVE] = on_leave,         [CMD_PUBLISH] = on_publish,
    [CMD_SEND] = on_send,        [CMD_BROADCAST] = on_broadcast, [CMD_PRESENCE] = on_presence,
    [CMD_HISTORY] = history_run, [CMD_AUTH] = on_auth,           [CMD_RESUME] = resume_run,
    [CMD_PING] = on_ping,        [CMD_WATCH] = watch_run,        [CMD_UNWATCH] = unwatch_run,
    [CMD_CALL] = on_call,        [CMD_READ] = inbox_run_read,
};

void command_join_granted(struct session *s)
{
    struct error error = {0};
    if (s->conn == NULL || s->may_resume || s->resuming)
        return; /* it may be another session that counts */
    report_connect(s);
    if (s->grant == NULL)
        return;
    const struct buf *rooms = &s->grant->claims.room;
    for (const char *name = auth_name_next(rooms, NULL); name != NULL; name = auth_name_next(rooms, name)) {
        const struct command c = {.kind = CMD_JOIN, .room = slice_str(name), .granted = true};
        if (session_member(s, c.room) == NULL && on_join(s, &c, &error) != OK)
            session_error(s, SLICE_NONE, c.room, error.code, slice_str(error.text));
    }
    grant_act(s);
}

void command_run(struct session *s, const struct command *c)
{
    struct error error = {0};
    if (handlers[c->kind](s, c, &error) != OK)
        session_error(s, c->id, c->room, error.code, slice_str(error.text));
}
