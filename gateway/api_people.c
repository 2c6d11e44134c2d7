/* gateway/api_people.c: how users are there: one with his sessions, or many at once. */
#include "base/mem.h"
#include "gateway/api.h"
#include "gateway/api_body.h"
#include "gateway/api_routes.h"
#include "gateway/gateway.h"

#define ARENA_BYTES 65536u

_Static_assert(API_PRESENCE_MAX <= USERS_MAX, "the store is asked once");

/* --- what is told of a user --- */

static const char *const state_words[] = {
    [USER_OFFLINE] = "offline", [USER_SUSPENDED] = "suspended", [USER_ONLINE] = "online"};

static void put_user(struct buf *b, const struct user_record *u)
{
    api_put(b, "{\"user\":", u->user);
    buf_printf(b, ",\"state\":\"%s\",\"total\":%llu", state_words[u->state], (unsigned long long)u->sessions);
    api_put_time(b, ",\"since\":", u->since_ms);
    api_put_time(b, ",\"last_seen\":", u->seen_ms);
}

/* --- one --- */

struct user_query {
    struct api_call *call;
    struct api_page page; /* its cursor points into it */
    struct buf body;
    size_t user_n;
    char user[NAME_MAX_USER];
};

static void query_end(struct user_query *q)
{
    buf_fini(&q->body);
    free(q);
}

static void on_sessions(void *arg, const struct broker_result *r)
{
    struct user_query *q = arg;
    if (r->err != OK) {
        api_refuse_result(q->call, r->err, r->why);
    } else {
        buf_append_char(&q->body, ',');
        api_put_sessions(&q->body, r);
        buf_append_char(&q->body, '}');
        api_answer(q->call, buf_slice(&q->body));
    }
    query_end(q);
}

static void on_user(void *arg, const struct broker_result *r)
{
    struct user_query *q = arg;
    struct broker *b = q->call->gw->broker;
    if (r->err != OK || b == NULL) {
        api_refuse_result(q->call, r->err != OK ? r->err : ERR_UNAVAILABLE, r->why);
        query_end(q);
        return;
    }
    put_user(&q->body, &r->users[0]);
    const struct session_query what = {
        .by = SESSIONS_BY_USER, .name = {q->user, q->user_n}, .cursor = q->page.cursor, .limit = q->page.limit};
    b->ops->sessions(b, &what, on_sessions, q);
}

void api_get_user(struct api_call *c, const struct http_request *r)
{
    struct error error = {0};
    struct slice user;
    struct user_query *q = xcalloc(1, sizeof *q);
    q->call = c;
    if (api_param_user(c->params[0], q->user, &user, &error) != OK || api_read_page(r, &q->page, &error) != OK) {
        query_end(q);
        api_refuse(c, &error);
        return;
    }
    q->user_n = user.n;
    c->gw->broker->ops->users(c->gw->broker, &user, 1, on_user, q);
}

/* --- many --- */

static void on_users(void *arg, const struct broker_result *r)
{
    struct api_call *c = arg;
    struct buf body = BUF_INIT;
    if (r->err != OK) {
        api_refuse_result(c, r->err, r->why);
        return;
    }
    buf_append_str(&body, "{\"users\":[");
    for (size_t i = 0; i < r->count; i++) {
        if (i != 0)
            buf_append_char(&body, ',');
        put_user(&body, &r->users[i]);
        buf_append_char(&body, '}');
    }
    buf_append_str(&body, "]}");
    api_answer(c, buf_slice(&body));
    buf_fini(&body);
}

void api_post_presence(struct api_call *c, const struct http_request *r)
{
    struct arena arena;
    struct error error = {0};
    struct slice *users;
    size_t count;
    arena_init(&arena, ARENA_BYTES + r->body.n);
    if (api_read_users(r->body, &arena, &users, &count, &error) != OK)
        api_refuse(c, &error);
    else
        c->gw->broker->ops->users(c->gw->broker, users, count, on_users, c);
    arena_reset(&arena);
}
