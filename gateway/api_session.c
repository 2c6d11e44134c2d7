/* gateway/api_session.c: sessions, as backends see and change them, on whichever node they are. */
#include "base/mem.h"
#include "base/text.h"
#include "gateway/api.h"
#include "gateway/api_routes.h"
#include "gateway/control.h"
#include "gateway/crowd.h"
#include "gateway/gateway.h"
#include "gateway/gift.h"
#include "gateway/uri.h"
#include "proto/json.h"

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
        if (m->seen_ms != 0) {
            buf_append_str(b, ",\"last_seen\":");
            buf_append_u64(b, m->seen_ms);
        }
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

/* The room, user, node or namespace in whose sessions the request is interested. */
static enum err read_filter(const struct api_call *c, struct slice query, char bytes[NAME_MAX_ROOM], struct crowd *ret,
                            struct error *reterr)
{
    static const char *const words[] = {
        [CROWD_ROOM] = "room", [CROWD_USER] = "user", [CROWD_NODE] = "node", [CROWD_NAMESPACE] = "namespace"};
    int given = 0;
    struct slice raw = SLICE_NONE;
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        bool found;
        struct slice value = uri_query(query, words[i], &found);
        if (!found)
            continue;
        given++;
        raw = value;
        ret->by = (enum crowd_by)i;
    }
    if (given != 1)
        return fail(reterr, ERR_BAD_REQUEST, "one of room, user, node and namespace says whose sessions");
    if (ret->by != CROWD_ROOM)
        return api_query_text(query, words[ret->by], bytes, NAME_MAX_USER, &ret->name, reterr);
    if (api_param_room(raw, bytes, &ret->name, reterr) != OK)
        return reterr->code;
    return api_may_room(c, ret->name, reterr);
}

void api_get_sessions(struct api_call *c, const struct http_request *r)
{
    char name[NAME_MAX_ROOM];
    struct crowd crowd;
    struct api_page page;
    struct error error = {0};
    if (read_filter(c, r->query, name, &crowd, &error) != OK || api_read_page(r, &page, &error) != OK)
        api_refuse(c, &error);
    else
        crowd_page(c->gw, &crowd, page.cursor, page.limit, on_list, c);
}

/* --- one session --- */

/* What backends gave takes the place of what the token brought. */
static void put_attributes(struct buf *b, struct slice by_token, struct slice given)
{
    buf_append_str(b, ",\"attributes\":");
    gift_merge(by_token, given, b);
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
    api_put(&body, "{\"session\":", s->sid);
    api_put(&body, ",\"user\":", s->user);
    api_put(&body, ",\"node\":", s->node);
    api_put(&body, ",\"state\":", s->state);
    api_put(&body, ",\"protocol\":", s->protocol);
    if (s->nsp.n != 0)
        api_put(&body, ",\"namespace\":", s->nsp);
    api_put(&body, ",\"ip\":", s->ip);
    api_put(&body, ",\"agent\":", s->agent);
    api_put(&body, ",\"origin\":", s->origin);
    put_times(&body, s);
    put_attributes(&body, s->attributes, s->given);
    put_rooms(&body, r);
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

/* A gift under way; the name is told again in the answer. */
struct giving {
    struct api_call *call;
    size_t sid_n;
    char sid[NAME_MAX_KEY];
};

static void on_given(void *arg, enum err err, const char *why, struct slice attributes)
{
    struct giving *g = arg;
    struct buf body = BUF_INIT;
    if (err != OK) {
        api_refuse_result(g->call, err, why);
    } else {
        api_put(&body, "{\"session\":", (struct slice){g->sid, g->sid_n});
        buf_append_str(&body, ",\"attributes\":");
        buf_append(&body, attributes);
        buf_append_char(&body, '}');
        api_answer(g->call, buf_slice(&body));
        buf_fini(&body);
    }
    free(g);
}

static enum err read_patch(struct slice body, struct slice *ret, struct error *reterr)
{
    static const char *const names[] = {"attributes"};
    struct json_value v = {.kind = JSON_KIND_NONE};
    enum err err = api_check_utf8(body, reterr);
    if (err == OK)
        err = json_members(body, names, 1, &v, reterr);
    *ret = v.raw;
    return err;
}

void api_patch_session(struct api_call *c, const struct http_request *r)
{
    struct slice sid, patch;
    struct error error = {0};
    struct giving *g = xcalloc(1, sizeof *g);
    g->call = c;
    enum err err = api_param_session(c->params[0], g->sid, &sid, &error);
    if (err == OK)
        err = read_patch(r->body, &patch, &error);
    if (err == OK) {
        g->sid_n = sid.n;
        err = gift_give(c->gw, sid, patch, on_given, g, &error);
    }
    if (err != OK) {
        free(g);
        api_refuse(c, &error);
    }
}
