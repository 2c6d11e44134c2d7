/* gateway/session.c: the life of a session. */
#include "gateway/session.h"

#include <assert.h>
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "gateway/admit.h"
#include "gateway/catchup.h"
#include "gateway/conn.h"
#include "gateway/control.h"
#include "gateway/engine.h"
#include "gateway/gateway.h"
#include "gateway/grant.h"
#include "gateway/inbox.h"
#include "gateway/limits.h"
#include "gateway/metrics.h"
#include "gateway/recover.h"
#include "gateway/report.h"
#include "gateway/request.h"
#include "gateway/room.h"
#include "gateway/secret.h"
#include "gateway/trail.h"
#include "gateway/tunnel.h"
#include "gateway/uri.h"
#include "gateway/watch.h"

#define FRAME_ARENA 16384u
#define TOLD_MAX    128u /* bytes kept of what a client says of itself */
#define ERROR_RATE  10   /* errors a client may cause per second … */
#define ERROR_BURST 100  /* … and at once, before it is closed */

#define CLOSE_TAKEN 4002

static void leave_store(struct session *s);

static const char *const state_names[] = {
#define X(name) [SESSION_##name] = #name,
    SESSION_STATE_MAP(X)
#undef X
};

static void set_state(struct session *s, enum session_state to)
{
    assert(to > s->state || (to == SESSION_OPENING && s->state == SESSION_OPENING));
    LOG(DEBUG, "session state", "session=%s from=%s to=%s", s->sid, state_names[s->state], state_names[to]);
    s->state = to;
}

const char *session_sid(const struct session *s)
{
    return s != NULL ? s->sid : "-";
}

void session_ref(struct session *s)
{
    s->refs++;
}

void session_unref(struct session *s)
{
    assert(s->refs != 0);
    if (--s->refs != 0)
        return;
    assert(s->conn == NULL && list_empty(&s->members) && s->watches == NULL);
    if (!s->taken)
        HASH_DELETE(hh, s->gw->sessions, s);
    list_del(&s->farewell);
    list_del(&s->recheck);
    list_del(&s->audit);
    start_end(&s->gw->starts, &s->start);
    metrics->sessions--;
    struct gateway *g = s->gw;
    control_job_done(&s->job, OK, NULL);
    resume_free(s->resume);
    resume_free(s->wish);
    grant_destroy(&s->grant);
    reports_free(s->reports);
    tunnel_free(&s->tunnel);
    free(s->agent);
    free(s->origin);
    free(s);
    gateway_session_left(g);
}

/* Gives back the session's own reference. Requests may keep it a while longer, and it may be come by again meanwhile. */
static void session_release(struct session *s)
{
    if (s->gone)
        return;
    s->gone = true;
    session_unref(s);
}

/* --- opening --- */

static void join_implicit(struct session *s, struct slice name)
{
    struct room *r = room_get(s->gw, name);
    room_join_implicit(r, s, resume_told(s, name));
    room_unref(r);
}

void session_join_implicit(struct session *s)
{
    bool in_namespace = s->conn != NULL && s->conn->channel != NULL;
    s->opening += in_namespace;
    if (s->user.n != 0 && (!s->admitted || s->verdicts != s->gw->verdicts))
        admit_session(s);
    room_join_implicit(s->gw->all, s, resume_told(s, s->gw->all->name));
    struct buf *name = &s->gw->scratch;
    if (in_namespace) {
        buf_clear(name);
        channel_room_append(s->conn->channel, name);
        join_implicit(s, buf_slice(name));
    }
    if (s->user.n == 0)
        return;
    buf_clear(name);
    buf_append(name, SLICE("$user:"));
    buf_append(name, s->user);
    join_implicit(s, buf_slice(name));
}

static struct event welcome_event(const struct session *s)
{
    return (struct event){.kind = EVENT_WELCOME,
                          .sid = slice_str(s->sid),
                          .token = slice_str(s->token),
                          .user = s->user,
                          .node = slice_str(s->gw->node),
                          .expires_s = s->grant != NULL ? s->grant->claims.expires_s : 0,
                          .heartbeat_s = s->gw->cfg->heartbeat_s,
                          .resume_window_s = gateway_resume_window_s(s->gw)};
}

static void welcome(struct session *s)
{
    struct event e = welcome_event(s);
    set_state(s, SESSION_ACTIVE);
    LOG(INFO, "session opened", "session=%s user=%s peer=%s protocol=%s", s->sid, log_q(s->user), s->conn->ip,
        s->conn->protocol->name);
    start_end(&s->gw->starts, &s->start);
    conn_pause(s->conn, false);
    e.trail = trail_begin(s);
    conn_welcome(s->conn, &e);
    grant_tell(s);
    inbox_welcome(s, false, NULL);
    command_join_granted(s);
}

void session_welcome_back(struct session *s, struct slice id, struct slice began)
{
    struct event e = welcome_event(s);
    e.trail = began;
    e.resumed = true;
    e.id = id;
    set_state(s, SESSION_ACTIVE);
    metrics->resumed++;
    LOG(INFO, "session resumed", "session=%s user=%s peer=%s protocol=%s", s->sid, log_q(s->user), s->conn->ip,
        s->conn->protocol->name);
    if (s->conn->channel != NULL && s->conn->state == CONN_OPENING) {
        conn_pause(s->conn, false);
        conn_welcome(s->conn, &e);
    } else {
        conn_event(s->conn, &e);
    }
    grant_act(s);
    session_put(s); /* the record still shows where the client was before */
}

void session_turn_away(struct session *s, enum err err, const char *why)
{
    metrics->drops[DROP_UNAVAILABLE]++;
    LOG_PEER(WARN, "session refused", "session=%s peer=%s code=%s why=%s", s->sid, s->conn->ip, err_name(err),
             log_q(slice_str(why)));
    conn_goodbye(s->conn, err_close_code(ERR_UNAVAILABLE), SLICE("unavailable"), 1000 + random_below(4000));
}

static void on_put(void *arg, const struct broker_result *r)
{
    struct session *s = arg;
    s->stale = r->err != OK;
    if (s->stale)
        gateway_retry_later(s->gw);
    if (s->conn != NULL && s->state == SESSION_OPENING) {
        if (s->refused) {
            ; /* it has been told, and is being closed */
        } else if (r->err == OK) {
            if (s->tunnel != NULL) /* whoever hears of it may push at once: it is to be found by then */
                report_connect(s);
            welcome(s);
        } else {
            start_end(&s->gw->starts, &s->start);
            session_turn_away(s, r->err, r->why);
        }
    }
    session_unref(s);
}

static struct slice attributes(const struct session *s)
{
    if (s->grant == NULL)
        return SLICE_NONE;
    return s->grant->claims.attributes.n != 0 ? buf_slice(&s->grant->claims.attributes) : SLICE("{}");
}

void session_put(struct session *s)
{
    char hash[SECRET_HASH_LEN + 1];
    struct buf watches = BUF_INIT;
    session_token_hash(s, slice_str(s->token), hash);
    watch_text(s, &watches);
    session_ref(s);
    s->stored = true;
    s->gw->broker->ops->session_put(
        s->gw->broker,
        &(struct session_record){.sid = slice_str(s->sid),
                                 .token_hash = slice_str(hash),
                                 .user = s->user,
                                 .protocol = slice_str(s->conn->protocol->name),
                                 .ip = slice_str(s->conn->ip),
                                 .agent = slice_str(s->agent),
                                 .origin = slice_str(s->origin),
                                 .nsp = namespace_of(s),
                                 .attributes = attributes(s),
                                 .watches = watches.n != 0     ? buf_slice(&watches)
                                            : s->watches_noted ? SLICE("")
                                                               : SLICE_NONE,
                                 .tunnel = s->tunnel != NULL ? slice_str(s->tunnel->whose) : SLICE_NONE,
                                 .connected_ms = s->connected_ms,
                                 .resume_window_ms = s->tunnel == NULL && conn_outlives(s->conn)
                                                         ? gateway_resume_window_s(s->gw) * 1000u
                                                         : 0},
        on_put, s);
    buf_fini(&watches);
}

void session_opened_part(struct session *s)
{
    assert(s->opening != 0);
    if (--s->opening != 0)
        return;
    if (s->resume != NULL) {
        resume_ready(s);
        return;
    }
    if (s->conn == NULL || s->refused)
        return;
    if (s->wish != NULL) {
        recover_begin(s);
        return;
    }
    if (!s->may_resume && s->tunnel == NULL)
        report_connect(s);
    session_put(s);
}

void session_begin(struct session *s)
{
    s->may_resume = false;
    report_connect(s);
    session_put(s);
}

static void on_turn(struct start *start)
{
    session_join_implicit(container_of(start, struct session, start));
}

static void on_late(struct start *start)
{
    struct session *s = container_of(start, struct session, start);
    if (s->conn != NULL)
        session_turn_away(s, ERR_UNAVAILABLE, "too many sessions begin at once");
}

static struct session *session_new(struct gateway *g, struct slice sid, struct slice user)
{
    struct session *s = xcalloc(1, sizeof *s + user.n);
    char *user_copy = (char *)(s + 1);
    if (user.n != 0)
        memcpy(user_copy, user.p, user.n);
    memcpy(s->sid, sid.p, SID_LEN);
    s->gw = g;
    s->user = (struct slice){user_copy, user.n};
    s->refs = 1;
    s->opening = user.n != 0 ? 2 : 1; /* $all; $user:… */
    s->connected_ms = loop_wall_ms(g->loop);
    s->exit = EXIT_DISCONNECT;
    list_init(&s->members);
    list_init(&s->farewell);
    list_init(&s->recheck);
    list_init(&s->audit);
    list_init(&s->asks);
    start_init(&s->start, on_turn, on_late);
    if (g->draining) /* resumed just now */
        list_append(&g->farewells, &s->farewell);
    HASH_ADD_KEYPTR(hh, g->sessions, s->sid, SID_LEN, s);
    metrics->sessions++;
    return s;
}

static char *told(struct slice s)
{
    return s.n != 0 ? xstrndup(s.p, s.n < TOLD_MAX ? s.n : TOLD_MAX) : NULL;
}

static void begin(struct session *s, struct conn *c, const struct http_request *r, struct grant *grant)
{
    random_id(s->token, TOKEN_LEN);
    grant_attach(grant, s);
    s->agent = told(r->user_agent);
    s->origin = told(r->origin);
    s->conn = c;
    c->session = s;
    conn_pause(c, true); /* what the client sends before its welcome waits in the socket */
    (void)uri_query(r->query, "resume", &s->may_resume);
    if (c->channel != NULL) {
        s->wish = TAKE(c->channel->wish);
        s->may_resume = s->wish != NULL;
    }
    start_begin(&c->gw->starts, &s->start, s->may_resume);
}

void session_open(struct conn *c, const struct http_request *r, struct slice user, struct grant *grant)
{
    char sid[SID_LEN + 1];
    random_id(sid, SID_LEN);
    begin(session_new(c->gw, c->channel != NULL ? slice_str(c->channel->sid) : slice_str(sid), user), c, r, grant);
}

void session_open_tunnel(struct conn *c, const struct http_request *r, struct tunnel *tunnel)
{
    struct session *s = session_new(c->gw, slice_str(tunnel->sid), SLICE_NONE);
    s->tunnel = tunnel;
    begin(s, c, r, NULL);
}

struct session *session_adopt(struct session *asking, struct slice sid, struct slice user, struct resume *resume)
{
    struct session *s = session_new(asking->gw, sid, user);
    s->resume = resume;
    s->stored = true;
    s->admitted = slice_eq(asking->user, user) && admit_is_certain(asking);
    s->verdicts = asking->verdicts;
    report_begin(s);
    grant_attach(TAKE(asking->grant), s);
    s->agent = TAKE(asking->agent);
    s->origin = TAKE(asking->origin);
    s->conn = asking->conn;
    if (s->conn != NULL) {
        s->conn->session = s;
        asking->conn = NULL;
        set_state(asking, SESSION_ENDING);
        report_reason(asking, SLICE("resumed"));
        leave_store(asking);
    }
    return s;
}

/* --- frames --- */

/* Is it the client that did something wrong? An outage of the store must not disconnect those who keep trying. */
static bool clients_fault(enum err err)
{
    return err != ERR_BACKEND_UNAVAILABLE && err != ERR_BACKEND_TIMEOUT && err != ERR_UNAVAILABLE &&
           err != ERR_TIMEOUT && err != ERR_DRAINING && err != ERR_INTERNAL;
}

void session_error(struct session *s, struct slice id, struct slice room, enum err err, struct slice why)
{
    session_error_later(s, id, room, err, why, 0);
}

/* NOLINTNEXTLINE(readability-function-size): what an error says */
void session_error_later(struct session *s, struct slice id, struct slice room, enum err err, struct slice why,
                         uint32_t retry_ms)
{
    metrics->errors[err]++;
    if (s->conn == NULL)
        return;
    LOG_PEER(DEBUG, "error answered", "session=%s code=%s why=%s", s->sid, err_name(err), log_q(why));
    conn_event(
        s->conn,
        &(struct event){
            .kind = EVENT_ERROR, .id = id, .room = room, .err = err, .text = why, .reconnect_after_ms = retry_ms});
    if (!clients_fault(err) || bucket_take(&s->errors, ERROR_RATE, ERROR_BURST, loop_now_us(s->gw->loop)))
        return;
    metrics->drops[DROP_ERRORS]++;
    LOG_PEER(WARN, "too many errors", "session=%s peer=%s last=%s", s->sid, s->conn->ip, err_name(err));
    conn_goodbye(s->conn, 1008, SLICE("too_many_errors"), 0);
}

/* The client's own limit, then those it shares with others. */
static enum err check_rates(struct session *s, struct error *reterr)
{
    const struct config *cfg = s->gw->cfg;
    struct limits *l = s->gw->limits;
    if (!bucket_take(&s->rate, cfg->message_rate, cfg->message_burst, loop_now_us(s->gw->loop)))
        return fail(reterr, ERR_RATE_LIMITED, "more than %u frames per second", cfg->message_rate);
    if (!limits_take(l, LIMIT_USER, s->user, cfg->user_rate, cfg->user_burst))
        return fail(reterr, ERR_RATE_LIMITED, "more than %u frames per second of this user (user-rate)",
                    cfg->user_rate);
    if (!limits_take(l, LIMIT_IP, slice_str(s->conn->ip), cfg->ip_rate, cfg->ip_burst))
        return fail(reterr, ERR_RATE_LIMITED, "more than %u frames per second of this address (ip-rate)", cfg->ip_rate);
    return OK;
}

/* Charged after decoding, so that the refusal carries the id of the frame it answers. */
bool session_may_run(struct session *s, const struct command *c, enum err err, struct error *reterr)
{
    if (check_rates(s, reterr) != OK)
        err = reterr->code;
    if (err != OK) {
        session_error(s, c->id, c->room, err, slice_str(reterr->text));
        return false;
    }
    metrics->commands[c->kind]++;
    return true;
}

void session_frame(struct session *s, struct slice frame, bool binary)
{
    struct arena arena;
    struct command command = {0};
    struct error error = {0};
    if (s->tunnel != NULL) {
        tunnel_frame(s, frame, binary);
        return;
    }
    bool undecided = s->may_resume;
    s->may_resume = false;
    arena_init(&arena, FRAME_ARENA);
    enum err err = s->conn->protocol->decode(frame, binary, &arena, &command, &error);
    if (session_may_run(s, &command, err, &error))
        command_run(s, &command);
    arena_reset(&arena);
    if (undecided)
        command_join_granted(s); /* unless the frame was the resume that was announced */
}

/* --- the end --- */

static void on_left_store(void *arg, const struct broker_result *r)
{
    struct session *s = arg;
    s->busy = false;
    if (r->err == OK && s->stored && !s->taken) {
        s->stored = false;
        session_release(s);
    } else if (r->err != OK) {
        gateway_retry_later(s->gw);
    }
    session_unref(s);
}

/* Brings what is left in the store in order, memberships first: out of it, or parked there. Called until it is done. */
static void leave_store(struct session *s)
{
    struct broker *b = s->gw->broker;
    list_for_each_safe (it, &s->members) {
        struct member *m = list_entry(it, struct member, in_session);
        if (m->implicit)
            member_free(m);
        else if (s->state == SESSION_PARKING && m->phase != MEMBER_LEAVING)
            member_suspend(m);
        else
            member_leave(m, s->exit, NULL);
    }
    if (s->busy || s->taken || !list_empty(&s->members) || report_pending(s))
        return;
    if (!s->stored) { /* gone before the store heard of it */
        session_release(s);
        return;
    }
    s->busy = true;
    session_ref(s);
    if (s->state == SESSION_PARKING)
        b->ops->session_park(b, slice_str(s->sid), gateway_resume_window_s(s->gw) * 1000u, on_left_store, s);
    else
        b->ops->session_remove(b, slice_str(s->sid), s->user, report_end(s), on_left_store, s);
}

void session_conn_gone(struct session *s, const char *why)
{
    bool park = s->conn->keep && s->tunnel == NULL && s->state == SESSION_ACTIVE && gateway_resume_window_s(s->gw) != 0;
    LOG(INFO, "session closed", "session=%s user=%s peer=%s why=%s parked=%s", s->sid, log_q(s->user), s->conn->ip, why,
        park ? "yes" : "no");
    s->conn = NULL;
    watch_end(s);
    start_end(&s->gw->starts, &s->start);
    if (s->taken) {
        session_release(s);
        return;
    }
    if (s->resume != NULL)
        return; /* adopted, but its rooms are not joined yet: resume_ready() sees that there is nobody */
    metrics->parked += park;
    set_state(s, park ? SESSION_PARKING : SESSION_ENDING);
    leave_store(s);
}

void session_expel(struct session *s, int code, struct slice reason, uint32_t reconnect_after_ms,
                   struct control_job *job)
{
    struct conn *c = s->conn;
    LOG(INFO, "session expelled", "session=%s user=%s peer=%s reason=%s", s->sid, log_q(s->user), c->ip, log_q(reason));
    conn_goodbye(c, code, reason, reconnect_after_ms);
    c->session = NULL;
    s->conn = NULL;
    watch_end(s);
    s->exit = EXIT_KICKED;
    s->job = job;
    set_state(s, SESSION_ENDING);
    leave_store(s);
}

void session_lost(struct session *s)
{
    set_state(s, s->refused ? SESSION_ENDING : SESSION_PARKING);
    leave_store(s);
}

void session_over(struct session *s)
{
    set_state(s, SESSION_ENDING);
    leave_store(s);
}

void session_taken(struct session *s)
{
    if (s->taken)
        return;
    LOG(INFO, "session taken by another connection", "session=%s", s->sid);
    s->taken = true;
    watch_end(s);
    HASH_DELETE(hh, s->gw->sessions, s);
    list_for_each_safe (it, &s->members) {
        member_free(list_entry(it, struct member, in_session));
    }
    if (s->conn != NULL && s->conn->channel != NULL)
        channel_taken(s->conn->channel);
    if (s->conn != NULL)
        conn_goodbye(s->conn, CLOSE_TAKEN, SLICE("resumed_elsewhere"), 0);
    else
        session_release(s);
}

void session_retry(struct session *s)
{
    if (s->state >= SESSION_PARKING) {
        leave_store(s);
        return;
    }
    if (s->stale && s->conn != NULL) {
        /* The hash that named its rooms may have gone since they were last told: somebody was ending the session. */
        list_for_each (it, &s->members) {
            struct member *m = list_entry(it, struct member, in_session);
            m->stale = m->stale || (member_is_in(m) && !m->implicit);
        }
        session_put(s);
    }
    list_for_each_safe (it, &s->members) {
        member_retry(list_entry(it, struct member, in_session));
    }
}

void session_drained(struct session *s)
{
    if (s->returning == 0)
        return;
    list_for_each_safe (it, &s->members) {
        const struct member *m = list_entry(it, struct member, in_session);
        if (m->catchup != NULL)
            catchup_step(m->catchup);
    }
}

void session_restore(struct session *s)
{
    if (s->state != SESSION_ACTIVE)
        return;
    s->stale = true;
    report_connect_again(s);
    session_retry(s);
}

void session_abandon(struct session *s)
{
    assert(s->conn == NULL && s->requests == 0);
    list_for_each_safe (it, &s->members) {
        member_free(list_entry(it, struct member, in_session));
    }
    session_release(s);
}
