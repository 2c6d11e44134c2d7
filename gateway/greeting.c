/* gateway/greeting.c: the time between a WebSocket handshake without a token and the frame that brings one. */
#include "gateway/greeting.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "gateway/auth/auth.h"
#include "gateway/conn.h"
#include "gateway/door.h"
#include "gateway/gateway.h"
#include "gateway/grant.h"
#include "gateway/knock.h"
#include "gateway/metrics.h"
#include "gateway/session.h"
#include "gateway/uri.h"
#include "gateway/wxlogin.h"

#define ARENA       ((size_t)4 * AUTH_TOKEN_MAX)
#define FRAME_MAX   (AUTH_TOKEN_MAX + 1024u) /* unauthenticated peers get little memory */
#define REFUSED_MAX 10u
#define INPUT_MAX   ((size_t)4 * FRAME_MAX) /* in all, pings and pieces of frames included */

static char *copy(struct slice s)
{
    return s.n != 0 ? xstrndup(s.p, s.n) : NULL;
}

void greeting_begin(struct conn *c, const struct http_request *r, struct slice id)
{
    struct gateway *g = c->gw;
    struct greeting *y = xcalloc(1, sizeof *y);
    *y = (struct greeting){.conn = c,
                           .agent = copy(r->user_agent),
                           .origin = copy(r->origin),
                           .id = copy(id),
                           .referer = g->cfg->wechat_login ? copy(r->referer) : NULL};
    (void)uri_query(r->query, "resume", &y->resume);
    list_append(&g->greetings, &y->link);
    c->greeting = y;
    c->state = CONN_OPEN;
    c->keep = false;
    if (c->parser.max_message > FRAME_MAX)
        c->parser.max_message = FRAME_MAX;
    wheel_set(&g->wheel, &c->timer, g->cfg->handshake_timeout_s * (uint64_t)1000);
}

void greeting_end(struct greeting **yp)
{
    struct greeting *y = TAKE(*yp);
    if (y == NULL)
        return;
    list_del(&y->link);
    knock_cancel(y->knock);
    wxlogin_cancel(y->wxlogin);
    free(y->wxlogin_id);
    free(y->referer);
    free(y->agent);
    free(y->origin);
    free(y->id);
    free(y);
}

/* --- refusing --- */

static void say(struct conn *c, struct slice id, enum err err, struct slice why)
{
    metrics->errors[err]++;
    conn_event(c, &(struct event){.kind = EVENT_ERROR, .id = id, .err = err, .text = why});
}

static void turn_away(struct conn *c)
{
    metrics->drops[DROP_UNAUTHORIZED]++;
    conn_close(c, err_close_code(ERR_UNAUTHORIZED), slice_str(err_name(ERR_UNAUTHORIZED)));
}

void greeting_timeout(struct conn *c)
{
    struct error error = {0};
    if (c->greeting->wxlogin != NULL) {
        say(c, slice_str(c->greeting->wxlogin_id), ERR_UNAVAILABLE,
            SLICE("WeChat did not say in time who you are (handshake-timeout)"));
        conn_goodbye(c, err_close_code(ERR_UNAVAILABLE), slice_str(err_name(ERR_UNAVAILABLE)), 1000);
        return;
    }
    if (c->greeting->knock != NULL) {
        say(c, SLICE_NONE, ERR_BACKEND_TIMEOUT,
            SLICE("the backend did not say in time who you are (handshake-timeout)"));
        conn_goodbye(c, err_close_code(ERR_BACKEND_TIMEOUT), slice_str(err_name(ERR_BACKEND_TIMEOUT)), 1000);
        return;
    }
    (void)door_refuse(AUTH_MISSING, slice_str(c->ip), &error);
    (void)fail(&error, ERR_UNAUTHORIZED, "no token in %u seconds (handshake-timeout)", c->gw->cfg->handshake_timeout_s);
    say(c, SLICE_NONE, ERR_UNAUTHORIZED, slice_str(error.text));
    turn_away(c);
}

void greetings_drain(struct gateway *g)
{
    list_for_each_safe (it, &g->greetings) {
        struct conn *c = list_entry(it, struct greeting, link)->conn;
        metrics->drops[DROP_DRAINING]++;
        conn_goodbye(c, err_close_code(ERR_DRAINING), SLICE("draining"), 0);
    }
}

/* --- the token --- */

static void let_in(struct conn *c, struct grant *grant, struct slice id)
{
    struct greeting *y = TAKE(c->greeting);
    const struct http_request r = {.user_agent = slice_str(y->agent),
                                   .origin = slice_str(y->origin),
                                   .query = y->resume ? SLICE("resume") : SLICE_NONE};
    conn_event(c, &(struct event){.kind = EVENT_ACK, .id = id, .expires_s = grant->claims.expires_s});
    conn_greeted(c);
    session_open(c, &r, slice_str(grant->claims.user), grant);
    greeting_end(&y);
}

/* May the one whose name this is come in on a connection whose URL says another? */
static enum err check_name(const struct conn *c, struct auth_claims *claims, struct error *reterr)
{
    const char *id = c->greeting->id;
    if (id == NULL || strcmp(id, claims->user) == 0)
        return OK;
    auth_claims_fini(claims);
    return door_refuse(AUTH_OTHER_USER, slice_str(c->ip), reterr);
}

/* --- a login code --- */

static void on_login(void *arg, struct wxlogin_result *r)
{
    struct conn *c = arg;
    struct error error = {0};
    c->greeting->wxlogin = NULL;
    AUTO_FREE char *id = TAKE(c->greeting->wxlogin_id);
    conn_pause(c, false); /* a session pauses it again until its welcome; a closing connection reads to its end */
    if (c->state > CONN_OPEN)
        return;
    if (r->err != OK)
        (void)fail(&error, r->err, "%s", r->why);
    else if (check_name(c, r->claims, &error) == OK) {
        metrics->auth_accepted++;
        let_in(c, grant_create_fresh(r->claims, r->token), slice_str(id));
        return;
    }
    say(c, slice_str(id), error.code, slice_str(error.text));
    if (error.code == ERR_UNAVAILABLE) {
        metrics->drops[DROP_UNAVAILABLE]++;
        conn_goodbye(c, err_close_code(ERR_UNAVAILABLE), slice_str(err_name(ERR_UNAVAILABLE)),
                     1000 + random_below(4000));
    } else {
        turn_away(c);
    }
}

/* Nothing is read of it until WeChat has answered. */
static enum err begin_login(struct conn *c, const struct command *command, struct error *reterr)
{
    struct greeting *y = c->greeting;
    const struct wxlogin_ask ask = {
        .code = command->code, .appid = command->appid, .referer = slice_str(y->referer), .ip = c->ip};
    enum err err = wxlogin_begin(c->gw, &ask, on_login, c, &y->wxlogin, reterr);
    if (err != OK)
        return err;
    y->wxlogin_id = copy(command->id);
    conn_pause(c, true);
    return OK;
}

/* --- the first frame --- */

static enum err check(struct conn *c, const struct command *command, struct auth_claims *ret, struct error *reterr)
{
    enum err err = door_check(c->gw, command->token, c->ip, ret, reterr);
    return err == OK ? check_name(c, ret, reterr) : err;
}

static void on_command(struct conn *c, const struct command *command)
{
    struct error error = {0};
    struct auth_claims claims = {0};
    metrics->commands[command->kind]++;
    if (command->kind != CMD_AUTH) {
        say(c, command->id, ERR_UNAUTHORIZED, SLICE("say who you are first: {\"type\":\"auth\",\"token\":…}"));
        if (++c->greeting->refused == REFUSED_MAX)
            turn_away(c);
    } else if (command->code.n != 0 ? begin_login(c, command, &error) != OK
                                    : check(c, command, &claims, &error) != OK) {
        say(c, command->id, error.code, slice_str(error.text));
        turn_away(c);
    } else if (command->code.n == 0) {
        let_in(c, grant_create(&claims), command->id);
    }
}

void greeting_frame(struct conn *c, struct slice frame, bool binary)
{
    struct arena arena;
    struct command command = {0};
    struct error error = {0};
    arena_init(&arena, ARENA);
    if (c->protocol->decode(frame, binary, &arena, &command, &error) == OK) {
        on_command(c, &command);
    } else {
        say(c, command.id, error.code, slice_str(error.text));
        if (++c->greeting->refused == REFUSED_MAX)
            turn_away(c);
    }
    arena_reset(&arena);
}

/* Byte by byte: what follows the token in the same read belongs to the session and must wait for it, unparsed. */
void greeting_input(struct conn *c, char *p, size_t n)
{
    size_t at = 0;
    c->greeting->input += n;
    if (c->greeting->input > INPUT_MAX) {
        say(c, SLICE_NONE, ERR_TOO_LARGE, SLICE("too much was said before the token"));
        turn_away(c);
        return;
    }
    while (at < n && c->greeting != NULL && c->greeting->wxlogin == NULL && c->state == CONN_OPEN)
        conn_parse(c, p + at++, 1);
    if (at == n || c->state > CONN_OPEN)
        return;
    if (c->greeting == NULL)
        conn_input(c, p + at, n - at);
    else
        buf_append(&c->early, (struct slice){p + at, n - at}); /* for the session, too */
}
