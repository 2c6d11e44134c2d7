/* gateway/api_sweep.c: users and rooms as a whole: everybody out. */
#include "base/mem.h"
#include "gateway/api.h"
#include "gateway/api_routes.h"
#include "gateway/gateway.h"
#include "gateway/sweep.h"

/* A sweep under way; the name is told again in the answer. */
struct sweeping {
    struct api_call *call;
    bool user; /* or a room */
    size_t name_n;
    char name[NAME_MAX_ROOM];
};

static void on_swept(void *arg, enum err err, const char *why, uint64_t moved)
{
    struct sweeping *s = arg;
    struct buf body = BUF_INIT;
    if (err != OK) {
        api_refuse_result(s->call, err, why);
    } else {
        api_put(&body, s->user ? "{\"user\":" : "{\"room\":", (struct slice){s->name, s->name_n});
        buf_append_str(&body, s->user ? ",\"disconnected\":" : ",\"removed\":");
        buf_append_u64(&body, moved);
        buf_append_char(&body, '}');
        api_answer(s->call, buf_slice(&body));
        buf_fini(&body);
    }
    free(s);
}

static void sweep(struct api_call *c, const struct http_request *r, enum control_verb verb)
{
    struct error error = {0};
    struct slice name = SLICE_NONE, reason = SLICE_NONE;
    char bytes[CONTROL_REASON_MAX];
    struct sweeping *s = xcalloc(1, sizeof *s);
    s->call = c;
    s->user = verb == CONTROL_DISCONNECT;
    enum err err = s->user ? api_param_user(c->params[0], s->name, &name, &error)
                           : api_param_room(c->params[0], s->name, &name, &error);
    if (err == OK && !s->user)
        err = api_may_room(c, name, &error);
    if (err == OK)
        err = api_query_text(r->query, "reason", bytes, sizeof bytes, &reason, &error);
    if (err != OK) {
        free(s);
        api_refuse(c, &error);
        return;
    }
    s->name_n = name.n;
    sweep_begin(c->gw, verb, name, reason, on_swept, s);
}

void api_delete_user(struct api_call *c, const struct http_request *r)
{
    sweep(c, r, CONTROL_DISCONNECT);
}

void api_delete_room(struct api_call *c, const struct http_request *r)
{
    sweep(c, r, CONTROL_LEAVE);
}
