/* gateway/api.c: rooms over HTTP: what a home page shows before it opens a socket. */
#include "gateway/api.h"

#include <jansson.h>

#include "base/mem.h"
#include "base/text.h"
#include "base/utf8.h"
#include "gateway/api_routes.h"
#include "gateway/door.h"
#include "gateway/gateway.h"
#include "gateway/grant.h"
#include "gateway/protocol/protocol.h"
#include "gateway/uri.h"

#define LIMIT_DEFAULT 100u
#define LIMIT_MAX     1000u

/* A request under way. */
struct query {
    struct gateway *gw;
    struct api_call *call;
    struct http_exchange *x;
    bool by_token;
    struct auth_claims claims;
    size_t room_n;
    char room[NAME_MAX_ROOM];
};

static json_t *text(struct slice s)
{
    return json_stringn(s.p != NULL ? s.p : "", s.n); /* what came from the store is UTF-8 */
}

static json_t *text_or_null(struct slice s)
{
    return s.n != 0 ? text(s) : json_null();
}

static void query_free(struct query *q)
{
    auth_claims_fini(&q->claims);
    free(q);
}

/* Takes over body. */
static void respond(struct query *q, json_t *body)
{
    AUTO_FREE char *bytes = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    if (bytes == NULL)
        api_fail(q->x, ERR_INTERNAL, "the answer could not be written as JSON");
    else
        q->x->respond(q->x, &(struct http_response){.status = 200, .body = slice_str(bytes)});
    query_free(q);
}

static bool failed(struct query *q, const struct broker_result *r)
{
    if (r->err == OK)
        return false;
    api_fail(q->x, r->err, "the store did not answer");
    query_free(q);
    return true;
}

enum err api_limit(struct slice query, uint32_t *ret, struct error *reterr)
{
    bool found;
    uint64_t limit = LIMIT_DEFAULT;
    struct slice value = uri_query(query, "limit", &found);
    if (found && (!text_u64(value, LIMIT_MAX, &limit) || limit == 0))
        return fail(reterr, ERR_BAD_REQUEST, "limit must be a number from 1 to %u", LIMIT_MAX);
    *ret = (uint32_t)limit;
    return OK;
}

enum err api_room(struct slice path, char ret_bytes[NAME_MAX_ROOM], struct slice *ret, struct error *reterr)
{
    struct slice room;
    if (!text_percent_decode(path, ret_bytes, NAME_MAX_ROOM, &room) || !utf8_name_valid(room, NAME_MAX_ROOM))
        return fail(reterr, ERR_INVALID_NAME, "a room name is 1 to %d bytes of UTF-8 without control characters",
                    NAME_MAX_ROOM);
    if (room.p[0] == '$')
        return fail(reterr, ERR_NOT_FOUND, "names that start with $ are the server's own");
    *ret = room;
    return OK;
}

enum err api_read_page(const struct http_request *r, struct api_page *ret, struct error *reterr)
{
    bool found;
    if (api_limit(r->query, &ret->limit, reterr) != OK)
        return reterr->code;
    struct slice value = uri_query(r->query, "cursor", &found);
    if (!text_percent_decode(value, ret->cursor_bytes, sizeof ret->cursor_bytes, &ret->cursor) ||
        !utf8_valid(ret->cursor))
        return fail(reterr, ERR_BAD_REQUEST, "cursor is not one that this API gave out");
    return OK;
}

/* NULL when whoever asks is not let in, and has been told so. */
static struct query *query_create(struct api_call *c, const struct http_request *r)
{
    struct query *q = xcalloc(1, sizeof *q);
    struct error error = {0};
    bool none = true;
    q->gw = c->gw;
    q->call = c;
    q->x = &c->base;
    if (c->key == NULL && door_http(c->gw, r, &none, &q->claims, &error) != OK) {
        free(q);
        api_refuse(c, &error);
        return NULL;
    }
    q->by_token = !none;
    if (q->by_token)
        api_admit(c, &q->claims, r->ip);
    return q;
}

/* Who may not join a room because of his token must not learn who is in it either. */
static bool shown(const struct query *q, struct slice room)
{
    if (q->call->key != NULL)
        return api_key_room(q->call->key, room);
    const struct policy *policy = policies_find(q->gw->policies, room);
    return policy->presence && (policy->join != WHO_TOKEN || (q->by_token && grant_names(&q->claims, room)));
}

/* --- the list of rooms --- */

static void on_rooms(void *arg, const struct broker_result *r)
{
    struct query *q = arg;
    if (failed(q, r))
        return;
    json_t *rooms = json_array();
    for (size_t i = 0; i < r->count; i++)
        if (shown(q, r->rooms[i].room))
            json_array_append_new(
                rooms, json_pack("{s:o, s:I}", "room", text(r->rooms[i].room), "total", (json_int_t)r->rooms[i].total));
    respond(q, json_pack("{s:o, s:o}", "rooms", rooms, "next", text_or_null(r->more ? r->cursor : SLICE_NONE)));
}

void api_get_rooms(struct api_call *c, const struct http_request *r)
{
    struct api_page page = {0};
    struct error error;
    struct query *q = query_create(c, r);
    if (q == NULL)
        return;
    if (api_read_page(r, &page, &error) != OK) {
        query_free(q);
        api_refuse(c, &error);
        return;
    }
    c->gw->broker->ops->rooms(c->gw->broker, page.cursor, page.limit, on_rooms, q);
}

/* --- one room --- */

static json_t *position_json(const struct position *p)
{
    if (p->offset == 0)
        return json_null();
    struct buf b = BUF_INIT;
    position_append(&b, p);
    json_t *json = text(buf_slice(&b));
    buf_fini(&b);
    return json;
}

static json_t *member_json(const struct member_record *m)
{
    return json_pack("{s:o, s:o, s:I, s:s}", "session", text(m->sid), "user", text_or_null(m->user), "since",
                     (json_int_t)m->since_ms, "state", m->state == MEMBER_SUSPENDED ? "suspended" : "active");
}

static void on_room(void *arg, const struct broker_result *r)
{
    struct query *q = arg;
    if (failed(q, r))
        return;
    json_t *members = json_array();
    for (size_t i = 0; i < r->count; i++)
        json_array_append_new(members, member_json(&r->members[i]));
    respond(q, json_pack("{s:o, s:I, s:o, s:o, s:o}", "room", text((struct slice){q->room, q->room_n}), "total",
                         (json_int_t)r->total, "position", position_json(&r->position), "members", members, "next",
                         text_or_null(r->more ? r->cursor : SLICE_NONE)));
}

void api_get_room(struct api_call *c, const struct http_request *r)
{
    struct api_page page = {0};
    struct error error;
    struct slice room;
    struct query *q = query_create(c, r);
    if (q == NULL)
        return;
    if (api_room(c->params[0], q->room, &room, &error) == OK) {
        if (!shown(q, room)) {
            (void)fail(&error, ERR_FORBIDDEN, "%s",
                       c->key != NULL ? "the key is not for this room"
                                      : "policy does not show you who is in this room");
        } else if (api_read_page(r, &page, &error) == OK) {
            q->room_n = room.n;
            c->gw->broker->ops->presence(c->gw->broker, room, page.cursor, page.limit, on_room, q);
            return;
        }
    }
    query_free(q);
    api_refuse(c, &error);
}

void api_get_members(struct api_call *c, const struct http_request *r)
{
    api_get_room(c, r);
}
