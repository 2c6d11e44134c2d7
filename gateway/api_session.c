/* gateway/api_session.c: sessions, as backends see and change them, on whichever node they are. */
#include <jansson.h>

#include "base/mem.h"
#include "base/text.h"
#include "gateway/api.h"
#include "gateway/api_routes.h"
#include "gateway/control.h"
#include "gateway/gateway.h"
#include "gateway/uri.h"
#include "proto/json.h"

#define GIVEN_MAX 4096u /* bytes of the attributes that backends give a session */
#define TRIES_MAX 5     /* when others change them at the same time */

/* --- commands --- */

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
        api_put(&body, "{\"session\":", (struct slice){o->sid, o->sid_n});
        if (o->room_n != 0)
            api_put(&body, ",\"room\":", (struct slice){o->room, o->room_n});
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

/* --- lists --- */

void api_put_sessions(struct buf *b, const struct broker_result *r)
{
    buf_append_str(b, "\"sessions\":[");
    for (size_t i = 0; i < r->count; i++) {
        const struct member_record *m = &r->members[i];
        api_put(b, i == 0 ? "{\"session\":" : ",{\"session\":", m->sid);
        api_put(b, ",\"user\":", m->user);
        api_put(b, ",\"node\":", m->node);
        buf_append_str(b, m->state == MEMBER_ACTIVE ? ",\"state\":\"active\",\"since\":"
                                                    : ",\"state\":\"suspended\",\"since\":");
        buf_append_u64(b, m->since_ms);
        buf_append_char(b, '}');
    }
    api_put(b, "],\"next\":", r->more ? r->cursor : SLICE_NONE);
}

static void on_list(void *arg, const struct broker_result *r)
{
    struct api_call *c = arg;
    struct buf body = BUF_INIT;
    if (r->err != OK) {
        api_refuse_result(c, r->err, r->why);
        return;
    }
    buf_append_char(&body, '{');
    api_put_sessions(&body, r);
    buf_append_char(&body, '}');
    api_answer(c, buf_slice(&body));
    buf_fini(&body);
}

/* The room, user or node in whose sessions the request is interested. */
static enum err read_filter(const struct api_call *c, struct slice query, char bytes[NAME_MAX_ROOM],
                            struct session_query *ret, bool *ret_by_room, struct error *reterr)
{
    bool room, user, node;
    struct slice raw = uri_query(query, "room", &room);
    (void)uri_query(query, "user", &user);
    (void)uri_query(query, "node", &node);
    if (room + user + node != 1)
        return fail(reterr, ERR_BAD_REQUEST, "one of room, user and node says whose sessions");
    *ret_by_room = room;
    ret->by = user ? SESSIONS_BY_USER : SESSIONS_BY_NODE;
    if (!room)
        return api_query_text(query, user ? "user" : "node", bytes, NAME_MAX_USER, &ret->name, reterr);
    if (api_param_room(raw, bytes, &ret->name, reterr) != OK)
        return reterr->code;
    return api_may_room(c, ret->name, reterr);
}

void api_get_sessions(struct api_call *c, const struct http_request *r)
{
    char name[NAME_MAX_ROOM];
    struct session_query q = {0};
    struct api_page page;
    struct error error = {0};
    struct broker *b = c->gw->broker;
    bool by_room = false;
    if (read_filter(c, r->query, name, &q, &by_room, &error) != OK || api_read_page(r, &page, &error) != OK) {
        api_refuse(c, &error);
        return;
    }
    q.cursor = page.cursor;
    q.limit = page.limit;
    if (by_room)
        b->ops->presence(b, q.name, q.cursor, q.limit, on_list, c);
    else
        b->ops->sessions(b, &q, on_list, c);
}

/* --- one session --- */

static json_t *load_object(struct slice text)
{
    json_t *o = text.n != 0 ? json_loadb(text.p, text.n, JSON_ALLOW_NUL, NULL) : NULL;
    if (json_is_object(o))
        return o;
    json_decref(o);
    return json_object();
}

/* What backends gave takes the place of what the token brought, member by member; null takes one away. */
static void put_attributes(struct buf *b, struct slice by_token, json_t *given)
{
    const char *name;
    json_t *value, *all = load_object(by_token);
    json_object_foreach(given, name, value)
    {
        if (json_is_null(value))
            json_object_del(all, name);
        else
            json_object_set(all, name, value);
    }
    AUTO_FREE char *text = json_dumps(all, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(all);
    buf_append_str(b, ",\"attributes\":");
    buf_append_str(b, text != NULL ? text : "{}");
}

static void put_times(struct buf *b, const struct session_view *s)
{
    buf_append_str(b, ",\"connected\":");
    buf_append_u64(b, s->connected_ms);
    buf_append_str(b, ",\"last_seen\":");
    buf_append_u64(b, s->seen_ms);
    buf_append_str(b, ",\"parked_until\":");
    if (s->parked_until_ms != 0)
        buf_append_u64(b, s->parked_until_ms);
    else
        buf_append_str(b, "null");
}

static void put_rooms(struct buf *b, const struct broker_result *r)
{
    buf_append_str(b, ",\"rooms\":[");
    for (size_t i = 0; i < r->count; i++) {
        api_put(b, i == 0 ? "{\"room\":" : ",{\"room\":", r->rooms[i].room);
        buf_append_str(b, ",\"since\":");
        buf_append_u64(b, r->rooms[i].total);
        buf_append_char(b, '}');
    }
    buf_append_str(b, "]}");
}

static void on_session(void *arg, const struct broker_result *r)
{
    struct api_call *c = arg;
    struct buf body = BUF_INIT;
    if (r->err != OK) {
        api_refuse_result(c, r->err, r->why);
        return;
    }
    const struct session_view *s = r->session;
    json_t *given = load_object(s->given);
    api_put(&body, "{\"session\":", s->sid);
    api_put(&body, ",\"user\":", s->user);
    api_put(&body, ",\"node\":", s->node);
    api_put(&body, ",\"state\":", s->state);
    api_put(&body, ",\"protocol\":", s->protocol);
    api_put(&body, ",\"ip\":", s->ip);
    api_put(&body, ",\"agent\":", s->agent);
    api_put(&body, ",\"origin\":", s->origin);
    put_times(&body, s);
    put_attributes(&body, s->attributes, given);
    put_rooms(&body, r);
    json_decref(given);
    api_answer(c, buf_slice(&body));
    buf_fini(&body);
}

void api_get_session(struct api_call *c, const struct http_request *r)
{
    char bytes[NAME_MAX_KEY];
    struct slice sid;
    struct error error = {0};
    (void)r;
    if (api_param_session(c->params[0], bytes, &sid, &error) != OK)
        api_refuse(c, &error);
    else
        c->gw->broker->ops->session_get(c->gw->broker, sid, on_session, c);
}

/* --- attributes --- */

/* Read, merged, written unless they have changed meanwhile: then again. */
struct gift {
    struct api_call *call;
    json_t *patch, *given;
    struct buf by_token;
    int tries;
    size_t sid_n;
    char sid[NAME_MAX_KEY];
};

static void gift_free(struct gift *g)
{
    json_decref(g->patch);
    json_decref(g->given);
    buf_fini(&g->by_token);
    free(g);
}

static void on_attributes(void *arg, const struct broker_result *r);

static void read_attributes(struct gift *g)
{
    struct broker *b = g->call->gw->broker;
    b->ops->session_get(b, (struct slice){g->sid, g->sid_n}, on_attributes, g);
}

static void on_given(void *arg, const struct broker_result *r)
{
    struct gift *g = arg;
    struct buf body = BUF_INIT;
    if (r->err == ERR_CONFLICT && ++g->tries < TRIES_MAX && g->call->gw->broker != NULL) {
        read_attributes(g);
        return;
    }
    if (r->err != OK) {
        api_refuse_result(g->call, r->err, r->why);
    } else {
        api_put(&body, "{\"session\":", (struct slice){g->sid, g->sid_n});
        put_attributes(&body, buf_slice(&g->by_token), g->given);
        buf_append_char(&body, '}');
        api_answer(g->call, buf_slice(&body));
        buf_fini(&body);
    }
    gift_free(g);
}

static void on_attributes(void *arg, const struct broker_result *r)
{
    struct gift *g = arg;
    struct broker *b = g->call->gw->broker;
    if (r->err != OK || b == NULL) {
        api_refuse_result(g->call, r->err != OK ? r->err : ERR_UNAVAILABLE, r->why);
        gift_free(g);
        return;
    }
    buf_clear(&g->by_token);
    buf_append(&g->by_token, r->session->attributes);
    json_decref(g->given);
    g->given = load_object(r->session->given);
    json_object_update(g->given, g->patch);
    AUTO_FREE char *text = json_dumps(g->given, JSON_COMPACT | JSON_SORT_KEYS);
    if (text == NULL || strlen(text) > GIVEN_MAX) {
        struct error error;
        (void)fail(&error, ERR_TOO_LARGE, "the attributes of a session are at most %u bytes", GIVEN_MAX);
        api_refuse(g->call, &error);
        gift_free(g);
        return;
    }
    b->ops->session_give(b, (struct slice){g->sid, g->sid_n}, r->session->given, slice_str(text), on_given, g);
}

static enum err read_patch(struct slice body, json_t **ret, struct error *reterr)
{
    static const char *const names[] = {"attributes"};
    struct json_value v;
    enum err err = api_check_utf8(body, reterr);
    if (err == OK)
        err = json_members(body, names, 1, &v, reterr);
    if (err != OK)
        return err;
    json_t *patch = v.kind == JSON_KIND_OBJECT ? json_loadb(v.raw.p, v.raw.n, JSON_REJECT_DUPLICATES, NULL) : NULL;
    if (patch == NULL)
        return fail(reterr, ERR_BAD_REQUEST, "attributes must be an object, with every member once and no \\u0000");
    *ret = patch;
    return OK;
}

void api_patch_session(struct api_call *c, const struct http_request *r)
{
    char bytes[NAME_MAX_KEY];
    struct slice sid;
    struct error error = {0};
    json_t *patch = NULL;
    if (api_param_session(c->params[0], bytes, &sid, &error) != OK || read_patch(r->body, &patch, &error) != OK) {
        api_refuse(c, &error);
        return;
    }
    struct gift *g = xcalloc(1, sizeof *g);
    g->call = c;
    g->patch = patch;
    g->sid_n = sid.n;
    memcpy(g->sid, sid.p, sid.n);
    read_attributes(g);
}
