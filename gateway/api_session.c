/* gateway/api_session.c: sessions, as backends change them: disconnected, put into rooms, taken out of them; on whichever node they are. */
#include "base/mem.h"
#include "base/text.h"
#include "gateway/api_routes.h"
#include "gateway/control.h"
#include "gateway/gateway.h"
#include "gateway/uri.h"
#include "proto/json.h"

/* What the path and the query name, decoded. */
struct target {
    struct control what;
    char sid[NAME_MAX_KEY], room[NAME_MAX_ROOM], reason[CONTROL_REASON_MAX];
};

/* A command under way; the names are told again in the answer. */
struct order {
    struct api_call *call;
    size_t sid_n, room_n;
    char sid[NAME_MAX_KEY], room[NAME_MAX_ROOM];
};

static void on_done(void *arg, enum err err, const char *why)
{
    struct order *o = arg;
    struct buf body = BUF_INIT;
    if (err != OK) {
        api_refuse_result(o->call, err, why);
    } else {
        buf_append_str(&body, "{\"session\":");
        json_quote(&body, (struct slice){o->sid, o->sid_n});
        if (o->room_n != 0) {
            buf_append_str(&body, ",\"room\":");
            json_quote(&body, (struct slice){o->room, o->room_n});
        }
        buf_append_char(&body, '}');
        api_answer(o->call, buf_slice(&body));
        buf_fini(&body);
    }
    free(o);
}

static enum err read_number(struct slice query, const char *name, uint32_t least, uint32_t most, uint32_t *ret,
                            struct error *reterr)
{
    bool found;
    uint64_t n = 0;
    struct slice text = uri_query(query, name, &found);
    if (found && (!text_u64(text, most, &n) || n < least))
        return fail(reterr, ERR_BAD_REQUEST, "%s must be a number from %u to %u", name, least, most);
    *ret = (uint32_t)n;
    return OK;
}

static enum err read_target(const struct api_call *c, const struct http_request *r, struct target *ret,
                            struct error *reterr)
{
    struct control *w = &ret->what;
    enum err err = api_param_session(c->params[0], ret->sid, &w->sid, reterr);
    if (err == OK && w->verb != CONTROL_DISCONNECT)
        err = api_param_room(c->params[1], ret->room, &w->room, reterr);
    if (err == OK && w->verb != CONTROL_DISCONNECT)
        err = api_may_room(c, w->room, reterr);
    if (err == OK)
        err = api_query_text(r->query, "reason", ret->reason, sizeof ret->reason, &w->reason, reterr);
    if (err == OK)
        err = read_number(r->query, "code", 4000, 4999, &w->close_code, reterr);
    if (err == OK)
        err = read_number(r->query, "reconnect_after", 0, 24 * 3600 * 1000, &w->reconnect_after_ms, reterr);
    return err;
}

static void order(struct api_call *c, const struct http_request *r, enum control_verb verb)
{
    struct target t = {.what.verb = verb};
    struct error error = {0};
    if (read_target(c, r, &t, &error) != OK) {
        api_refuse(c, &error);
        return;
    }
    struct order *o = xcalloc(1, sizeof *o);
    o->call = c;
    o->sid_n = t.what.sid.n;
    memcpy(o->sid, t.sid, sizeof o->sid);
    o->room_n = t.what.room.n;
    memcpy(o->room, t.room, sizeof o->room);
    control_send(c->gw, &t.what, on_done, o);
}

void api_delete_session(struct api_call *c, const struct http_request *r)
{
    order(c, r, CONTROL_DISCONNECT);
}

void api_put_session_room(struct api_call *c, const struct http_request *r)
{
    order(c, r, CONTROL_JOIN);
}

void api_delete_session_room(struct api_call *c, const struct http_request *r)
{
    order(c, r, CONTROL_LEAVE);
}
