/* gateway/api_sweep.c: users and rooms as a whole: who is there, and everybody out. */
#include <stdio.h>

#include "base/mem.h"
#include "gateway/api.h"
#include "gateway/api_routes.h"
#include "gateway/control.h"
#include "gateway/gateway.h"

#define PAGE      100u
#define IDLE_MAX  3    /* pages in a row in which nobody could be moved */
#define PAGES_MAX 2000 /* who goes on coming in for so long is not to be got rid of this way */
#define CLEAR_MAX 3

/* A page of sessions is listed and each of them sent a command, until the list is empty. */
struct sweep {
    struct api_call *call;
    enum control_verb verb; /* DISCONNECT: of a user; LEAVE: of a room */
    unsigned pages, idle, clears;
    uint64_t moved;
    size_t left, moved_now;
    enum err err; /* of the last one that could not be moved */
    size_t name_n, reason_n;
    char name[NAME_MAX_ROOM], reason[CONTROL_REASON_MAX];
    char why[sizeof(((struct error *)0)->text)];
};

static struct slice name_of(const struct sweep *s)
{
    return (struct slice){s->name, s->name_n};
}

static void list_page(struct sweep *s);

static void sweep_fail(struct sweep *s, enum err err, const char *why)
{
    api_refuse_result(s->call, err, why);
    free(s);
}

static void sweep_done(struct sweep *s)
{
    struct buf body = BUF_INIT;
    bool user = s->verb == CONTROL_DISCONNECT;
    api_put(&body, user ? "{\"user\":" : "{\"room\":", name_of(s));
    buf_append_str(&body, user ? ",\"disconnected\":" : ",\"removed\":");
    buf_append_u64(&body, s->moved);
    buf_append_char(&body, '}');
    api_answer(s->call, buf_slice(&body));
    buf_fini(&body);
    free(s);
}

static void on_cleared(void *arg, const struct broker_result *r)
{
    struct sweep *s = arg;
    if (r->err == ERR_CONFLICT && ++s->clears < CLEAR_MAX && s->call->gw->broker != NULL)
        list_page(s); /* somebody has come in meanwhile */
    else if (r->err != OK)
        sweep_fail(s, r->err, r->why);
    else
        sweep_done(s);
}

static void nobody_left(struct sweep *s)
{
    struct broker *b = s->call->gw->broker;
    if (s->verb == CONTROL_LEAVE)
        b->ops->room_clear(b, name_of(s), on_cleared, s);
    else
        sweep_done(s);
}

static void page_over(struct sweep *s)
{
    s->moved += s->moved_now;
    s->idle = s->moved_now != 0 ? 0 : s->idle + 1;
    if (s->call->gw->broker == NULL)
        sweep_fail(s, ERR_UNAVAILABLE, "this node is stopping");
    else if (s->idle < IDLE_MAX && ++s->pages < PAGES_MAX)
        list_page(s);
    else
        sweep_fail(s, s->err != OK ? s->err : ERR_CONFLICT,
                   s->err != OK ? s->why : "they come back faster than they go");
}

static void on_moved(void *arg, enum err err, const char *why)
{
    struct sweep *s = arg;
    if (err == OK) {
        s->moved_now++;
    } else if (err == ERR_NOT_FOUND || err == ERR_NOT_MEMBER) {
        s->err = ERR_UNAVAILABLE; /* gone by itself; or its node has died, and will be cleaned up after */
        (void)snprintf(s->why, sizeof s->why, "a session cannot be reached at the moment");
    } else {
        s->err = err;
        (void)snprintf(s->why, sizeof s->why, "%s", why != NULL ? why : err_name(err));
    }
    if (--s->left == 0)
        page_over(s);
}

static void on_page(void *arg, const struct broker_result *r)
{
    struct sweep *s = arg;
    if (r->err != OK || s->call->gw->broker == NULL) {
        sweep_fail(s, r->err != OK ? r->err : ERR_UNAVAILABLE, r->why);
        return;
    }
    if (r->count == 0) {
        nobody_left(s);
        return;
    }
    s->left = r->count;
    s->moved_now = 0;
    for (size_t i = 0; i < r->count; i++) {
        const struct control what = {.verb = s->verb,
                                     .sid = r->members[i].sid,
                                     .room = s->verb == CONTROL_LEAVE ? name_of(s) : SLICE_NONE,
                                     .reason = {s->reason, s->reason_n}};
        control_send(s->call->gw, &what, on_moved, s);
    }
}

static void list_page(struct sweep *s)
{
    struct broker *b = s->call->gw->broker;
    if (s->verb == CONTROL_LEAVE)
        b->ops->presence(b, name_of(s), SLICE_NONE, PAGE, on_page, s);
    else
        b->ops->sessions(b, &(struct session_query){.by = SESSIONS_BY_USER, .name = name_of(s), .limit = PAGE}, on_page,
                         s);
}

static void sweep(struct api_call *c, const struct http_request *r, enum control_verb verb)
{
    struct error error = {0};
    struct slice name = SLICE_NONE, reason = SLICE_NONE;
    struct sweep *s = xcalloc(1, sizeof *s);
    s->call = c;
    s->verb = verb;
    enum err err = verb == CONTROL_LEAVE ? api_param_room(c->params[0], s->name, &name, &error)
                                         : api_param_user(c->params[0], s->name, &name, &error);
    if (err == OK && verb == CONTROL_LEAVE)
        err = api_may_room(c, name, &error);
    if (err == OK)
        err = api_query_text(r->query, "reason", s->reason, sizeof s->reason, &reason, &error);
    if (err != OK) {
        free(s);
        api_refuse(c, &error);
        return;
    }
    s->name_n = name.n;
    s->reason_n = reason.n;
    list_page(s);
}

void api_delete_user(struct api_call *c, const struct http_request *r)
{
    sweep(c, r, CONTROL_DISCONNECT);
}

void api_delete_room(struct api_call *c, const struct http_request *r)
{
    sweep(c, r, CONTROL_LEAVE);
}

/* --- a user --- */

struct user_query {
    struct api_call *call;
    size_t user_n;
    char user[NAME_MAX_USER];
};

static const char *user_state(const struct broker_result *r)
{
    for (size_t i = 0; i < r->count; i++)
        if (r->members[i].state == MEMBER_ACTIVE)
            return "online";
    return r->count != 0 ? "suspended" : "offline";
}

static void on_user(void *arg, const struct broker_result *r)
{
    struct user_query *q = arg;
    struct buf body = BUF_INIT;
    if (r->err != OK) {
        api_refuse_result(q->call, r->err, r->why);
    } else {
        api_put(&body, "{\"user\":", (struct slice){q->user, q->user_n});
        buf_printf(&body, ",\"state\":\"%s\",", user_state(r));
        api_put_sessions(&body, r);
        buf_append_char(&body, '}');
        api_answer(q->call, buf_slice(&body));
        buf_fini(&body);
    }
    free(q);
}

void api_get_user(struct api_call *c, const struct http_request *r)
{
    struct error error = {0};
    struct slice user;
    struct api_page page;
    struct user_query *q = xcalloc(1, sizeof *q);
    q->call = c;
    if (api_param_user(c->params[0], q->user, &user, &error) != OK || api_read_page(r, &page, &error) != OK) {
        free(q);
        api_refuse(c, &error);
        return;
    }
    q->user_n = user.n;
    c->gw->broker->ops->sessions(
        c->gw->broker,
        &(struct session_query){.by = SESSIONS_BY_USER, .name = user, .cursor = page.cursor, .limit = page.limit},
        on_user, q);
}
