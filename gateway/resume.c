/* gateway/resume.c: a client that was here before takes up its session again, on whichever node it has reached. */
#include "gateway/resume.h"

#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "gateway/common.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/grant.h"
#include "gateway/inbox.h"
#include "gateway/move.h"
#include "gateway/recover.h"
#include "gateway/request.h"
#include "gateway/room.h"
#include "gateway/secret.h"
#include "gateway/trail.h"
#include "gateway/watch.h"

struct slice resume_own(struct slice s)
{
    return (struct slice){xstrndup(s.p, s.n), s.n};
}

static void disown(struct slice s)
{
    union {
        const char *borrowed;
        char *owned;
    } p = {s.p};
    free(p.owned);
}

static void drop_positions(struct resume *r)
{
    for (size_t i = 0; i < r->position_count; i++)
        disown(r->positions[i].room);
    free(r->positions);
}

void resume_set_positions(struct resume *r, const struct command_position *positions, size_t count)
{
    drop_positions(r);
    r->position_count = count;
    r->positions = xcalloc(count, sizeof *r->positions);
    for (size_t i = 0; i < count; i++) {
        r->positions[i] = positions[i];
        r->positions[i].room = resume_own(positions[i].room);
    }
}

void resume_free(struct resume *r)
{
    if (r == NULL)
        return;
    start_end(&r->gw->starts, &r->start);
    drop_positions(r);
    for (size_t i = 0; i < r->room_count; i++)
        disown(r->rooms[i]);
    disown(r->watches);
    disown(r->user);
    disown(r->offset);
    disown(r->began);
    free(r->rooms);
    request_drop(&r->request);
    free(r);
}

struct slice resume_id(const struct resume *r)
{
    return r != NULL && r->request != NULL ? r->request->id : SLICE_NONE;
}

const struct seen *resume_seen(const struct resume *r, struct slice room)
{
    for (size_t i = 0; i < r->position_count; i++)
        if (slice_eq(r->positions[i].room, room))
            return &r->positions[i].seen;
    return NULL;
}

const struct seen *resume_told(const struct session *s, struct slice room)
{
    return s->resume != NULL && s->resume->moved ? resume_seen(s->resume, room) : NULL;
}

static const struct seen *inbox_seen(const struct session *s, const struct resume *r)
{
    list_for_each (it, &s->members) {
        const struct member *m = list_entry(it, struct member, in_session);
        if (m->inbox)
            return resume_seen(r, m->room->name);
    }
    return NULL;
}

/* Else the policy has changed meanwhile, or the token. join=nobody: somebody else has put the session there, and may take it out. */
static bool may_return(const struct session *s, const struct room *room)
{
    struct error ignored;
    return room->policy->join == WHO_NOBODY || grant_join(s, room->name, room->policy, &ignored) == OK;
}

static void return_to(struct session *s, struct slice name, const struct seen *seen)
{
    struct room *room = room_get(s->gw, name);
    if (may_return(s, room))
        room_return(room, s, seen, NULL);
    room_unref(room);
}

/* When it is in all others: its client is told how far it is in those. */
static void quit_forbidden(struct session *s, struct slice name)
{
    struct room *room = room_get(s->gw, name);
    if (!may_return(s, room)) {
        conn_event(s->conn, &(struct event){.kind = EVENT_RECOVERED, .room = name, .text = SLICE("forbidden")});
        room_quit(room, s, EXIT_KICKED);
    }
    room_unref(room);
}

static void hush(struct session *s)
{
    list_for_each (it, &s->members) {
        list_entry(it, struct member, in_session)->quiet = true;
    }
}

void resume_ready(struct session *s)
{
    struct resume *r = TAKE(s->resume);
    if (s->conn != NULL && s->refused) {
        ; /* it is being closed: that ends it */
    } else if (s->conn == NULL) {
        session_lost(s); /* came, asked, and was gone before it could be told */
    } else {
        session_welcome_back(s, resume_id(r), r->began);
        for (size_t i = 0; i < r->room_count; i++)
            return_to(s, r->rooms[i], resume_seen(r, r->rooms[i]));
        if (r->moved)
            hush(s);
        const struct seen *seen = inbox_seen(s, r);
        inbox_welcome(s, seen != NULL || !r->recovers, seen);
        common_welcome(s, r);
        for (size_t i = 0; i < r->room_count; i++)
            quit_forbidden(s, r->rooms[i]);
        watch_restore(s, r->watches);
    }
    resume_free(r);
}

/* There is nothing to resume. */
static void stays_new(struct session *asking)
{
    asking->resuming = false;
    command_join_granted(asking);
}

/* What was said to it alone while its node was gone, no log has: its client begins anew rather than not knowing. */
static void go_on(struct session *s, struct resume *r)
{
    request_drop(&r->request);
    if (!move_came(s))
        return; /* its node is there, and tells the rest */
    if (s->conn != NULL && (s->told.offset != r->alone.offset || strcmp(s->told.tag, r->alone.tag) != 0))
        session_turn_away(s, ERR_UNAVAILABLE, "it was told something while its node was gone");
    session_join_implicit(s);
}

static void on_resumed(void *arg, const struct broker_result *result)
{
    struct resume *r = arg;
    struct session *asking = r->request->session, *old;
    if (result->err != OK && r->recovers) {
        recover_failed(r, result);
        return;
    }
    if (result->err != OK) {
        stays_new(asking);
        (void)request_failed(&r->request, result);
        resume_free(r);
        return;
    }
    HASH_FIND(hh, asking->gw->sessions, r->sid, SID_LEN, old);
    if (old != NULL)
        session_taken(old);
    r->watches = resume_own(result->watches);
    r->room_count = result->count;
    r->rooms = xcalloc(result->count, sizeof *r->rooms);
    for (size_t i = 0; i < result->count; i++)
        r->rooms[i] = resume_own(result->rooms[i].room);
    /* What was said to the session that asks is told to this one, from the logs. */
    if (r->recovers && trail_needed(asking))
        conn_unsay(asking->conn);
    struct session *s = session_adopt(asking, slice_str(r->sid), result->user, r);
    memcpy(s->token, r->token, sizeof s->token);
    s->connected_ms = result->connected_ms;
    s->told = result->position;
    if (r->moved)
        go_on(s, r);
    else if (r->recovers)
        recover_check(s);
    else
        session_join_implicit(s);
}

void resume_ask(struct resume *r)
{
    char hash[SECRET_HASH_LEN + 1];
    session_token_hash(r->request->session, slice_str(r->token), hash);
    r->gw->broker->ops->session_resume(r->gw->broker, slice_str(r->sid), slice_str(hash), on_resumed, r);
}

static void on_turn(struct start *start)
{
    struct resume *r = container_of(start, struct resume, start);
    const struct session *asking = r->request->session;
    if (asking->conn == NULL) /* gone while it waited */
        resume_free(r);
    else
        resume_ask(r);
}

static void on_late(struct start *start)
{
    struct resume *r = container_of(start, struct resume, start);
    stays_new(r->request->session);
    request_fail(&r->request, ERR_UNAVAILABLE, "too many sessions begin at once");
    resume_free(r);
}

struct resume *resume_create(struct gateway *g, struct slice sid, struct slice token)
{
    struct resume *r = xcalloc(1, sizeof *r);
    r->gw = g;
    start_init(&r->start, on_turn, on_late);
    memcpy(r->sid, sid.p, SID_LEN);
    memcpy(r->token, token.p, TOKEN_LEN);
    return r;
}

/* What its token made it join does not count: it ends with the session that the client gives up. */
static bool asked_before(const struct session *s)
{
    if (s->requests != s->granted_requests)
        return true;
    list_for_each (it, &s->members) {
        const struct member *m = list_entry(it, struct member, in_session);
        if (!m->implicit && (s->grant == NULL || !grant_joined(s->grant, m->room->name)))
            return true;
    }
    return false;
}

enum err resume_run(struct session *s, const struct command *c, struct error *reterr)
{
    if (gateway_resume_window_s(s->gw) == 0)
        return fail(reterr, ERR_UNSUPPORTED, "this node parks no sessions (resume-window is 0)");
    if (asked_before(s))
        return fail(reterr, ERR_CONFLICT, "resume must be the first thing a connection asks for");
    if (c->session.n != SID_LEN || c->token.n != TOKEN_LEN)
        return fail(reterr, ERR_UNAUTHORIZED, "not a session and its token");
    if (slice_eq(c->session, slice_str(s->sid)))
        return fail(reterr, ERR_CONFLICT, "this is the session of this very connection");
    struct resume *r = resume_create(s->gw, c->session, c->token);
    resume_set_positions(r, c->positions, c->position_count);
    r->request = request_create(s, c);
    s->resuming = true;
    start_begin(&s->gw->starts, &r->start, true);
    return OK;
}

void session_token_hash(const struct session *s, struct slice token, char ret[SECRET_HASH_LEN + 1])
{
    char text[TOKEN_LEN + 1 + NAME_MAX_USER];
    if (s->grant == NULL) {
        secret_hash(token, ret);
        return;
    }
    int n = snprintf(text, sizeof text, "%.*s %.*s", SLICE_FMT(token), SLICE_FMT(s->user));
    secret_hash((struct slice){text, (size_t)n}, ret);
}
