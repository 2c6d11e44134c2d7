/* gateway/protocol/emission_json.c: emissions of the API, and requests of Redis emitters: JSON. */
#include "base/base64.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/protocol/emission.h"
#include "gateway/protocol/protocol.h"
#include "gateway/protocol/socketio.h"

static enum err read_names(struct json_value list, struct arena *a, struct slice *ret, size_t *ret_count,
                           struct error *reterr)
{
    struct json_value v;
    size_t at = 0;
    if (list.kind == JSON_KIND_NONE)
        return OK;
    if (list.kind != JSON_KIND_ARRAY)
        return fail(reterr, ERR_BAD_REQUEST, "rooms and except are lists");
    while (json_next(list, &at, &v)) {
        if (*ret_count == EMISSION_ROOMS_MAX)
            return fail(reterr, ERR_TOO_LARGE, "more than %d rooms", EMISSION_ROOMS_MAX);
        if (v.kind != JSON_KIND_STRING || json_unquote(v, a, &ret[(*ret_count)++], reterr) != OK)
            return fail(reterr, ERR_BAD_REQUEST, "a room whose name is no string");
    }
    return OK;
}

/* --- emitters --- */

enum err emitter_read_request(struct slice body, struct arena *a, struct emitter_request *ret, struct error *reterr)
{
    static const char *const fields[] = {"type", "opts", "rooms", "close"}, *const lists[] = {"rooms", "except"};
    struct json_value v[ARRAY_LEN(fields)], o[ARRAY_LEN(lists)];
    uint64_t type = 0;
    *ret = (struct emitter_request){0};
    if (!utf8_valid(body))
        return fail(reterr, ERR_BAD_UTF8, "the request is not UTF-8");
    enum err err = json_members(body, fields, ARRAY_LEN(fields), v, reterr);
    if (err != OK)
        return err;
    if (!json_uint(v[0], UINT32_MAX, &type) || type < EMITTER_JOIN || type > EMITTER_DISCONNECT)
        return fail(reterr, ERR_UNSUPPORTED, "a request of type %llu", (unsigned long long)type);
    if (v[1].kind != JSON_KIND_OBJECT)
        return fail(reterr, ERR_UNSUPPORTED, "a request for one socket, of a server older than 4");
    ret->verb = (enum emitter_verb)type;
    ret->close = v[3].kind == JSON_KIND_TRUE;
    err = json_members(v[1].raw, lists, ARRAY_LEN(lists), o, reterr);
    if (err == OK)
        err = read_names(o[0], a, ret->to.rooms, &ret->to.room_count, reterr);
    if (err == OK)
        err = read_names(o[1], a, ret->to.except, &ret->to.except_count, reterr);
    return err == OK ? read_names(v[2], a, ret->rooms, &ret->room_count, reterr) : err;
}

/* --- the API --- */

enum member { NAMESPACE, ROOMS, EXCEPT, EVENT, DATA, DATA_BASE64, VOLATILE, ACK, TIMEOUT, MEMBERS };

static const char *const names[MEMBERS] = {
    [NAMESPACE] = "namespace",     [ROOMS] = "rooms",       [EXCEPT] = "except", [EVENT] = "event",     [DATA] = "data",
    [DATA_BASE64] = "data_base64", [VOLATILE] = "volatile", [ACK] = "ack",       [TIMEOUT] = "timeout",
};

static enum err check_rooms(const struct slice *rooms, size_t count, struct error *reterr)
{
    for (size_t i = 0; i < count; i++)
        if (!utf8_name_valid(rooms[i], NAME_MAX_ROOM) || rooms[i].p[0] == '$')
            return fail(reterr, ERR_INVALID_NAME,
                        "a room, or the id of a socket, has 1 to %d bytes without control characters and no $ first",
                        NAME_MAX_ROOM);
    return OK;
}

static enum err read_target(const struct json_value *v, struct arena *a, struct emission_target *ret,
                            struct error *reterr)
{
    ret->nsp = SLICE("/");
    enum err err = json_name(v[NAMESPACE], "namespace", SIO_NAMESPACE_MAX, a, &ret->nsp, reterr);
    if (err == OK && ret->nsp.p[0] != '/')
        err = fail(reterr, ERR_INVALID_NAME, "a namespace begins with /");
    if (err == OK)
        err = read_names(v[ROOMS], a, ret->rooms, &ret->room_count, reterr);
    if (err == OK)
        err = read_names(v[EXCEPT], a, ret->except, &ret->except_count, reterr);
    if (err == OK)
        err = check_rooms(ret->rooms, ret->room_count, reterr);
    return err == OK ? check_rooms(ret->except, ret->except_count, reterr) : err;
}

static enum err read_flag(struct json_value v, const char *what, bool *ret, struct error *reterr)
{
    if (v.kind != JSON_KIND_NONE && v.kind != JSON_KIND_TRUE && v.kind != JSON_KIND_FALSE)
        return fail(reterr, ERR_BAD_REQUEST, "%s must be true or false", what);
    *ret = v.kind == JSON_KIND_TRUE;
    return OK;
}

/* Bytes are an attachment, which is written in base64 anyway. */
static enum err read_base64(struct json_value v, struct arena *a, struct slice *ret, struct error *reterr)
{
    static const char before[] = "{\"$args\":[{\"_placeholder\":true,\"num\":0}],\"$attachments\":[\"",
                      after[] = "\"]}";
    struct slice text;
    size_t n;
    if (v.kind != JSON_KIND_STRING)
        return fail(reterr, ERR_BAD_REQUEST, "data_base64 must be a string");
    enum err err = json_unquote(v, a, &text, reterr);
    if (err != OK)
        return err;
    char *bytes = arena_alloc(a, base64_bytes(text.n)), *json = arena_alloc(a, sizeof before + text.n + sizeof after);
    if (bytes == NULL || json == NULL)
        return fail(reterr, ERR_TOO_LARGE, "data_base64 of %zu letters", text.n);
    if (!base64_take(BASE64, text, bytes, &n))
        return fail(reterr, ERR_BAD_REQUEST, "data_base64 is not padded base64");
    memcpy(json, before, sizeof before - 1);
    if (text.n != 0)
        memcpy(json + sizeof before - 1, text.p, text.n);
    memcpy(json + sizeof before - 1 + text.n, after, sizeof after - 1);
    *ret = (struct slice){json, sizeof before + sizeof after - 2 + text.n};
    return OK;
}

enum err emission_read_json(struct slice body, struct arena *a, struct emission *ret, struct error *reterr)
{
    struct json_value v[MEMBERS];
    uint64_t timeout = EMISSION_TIMEOUT_MS;
    *ret = (struct emission){0};
    if (!utf8_valid(body))
        return fail(reterr, ERR_BAD_UTF8, "the body is not UTF-8");
    enum err err = json_members(body, names, MEMBERS, v, reterr);
    if (err == OK)
        err = read_target(v, a, &ret->to, reterr);
    if (err == OK)
        err = json_name(v[EVENT], "event", NAME_MAX_EVENT, a, &ret->event, reterr);
    if (err == OK)
        err = read_flag(v[VOLATILE], "volatile", &ret->is_volatile, reterr);
    if (err == OK)
        err = read_flag(v[ACK], "ack", &ret->ack, reterr);
    if (err == OK && v[TIMEOUT].kind != JSON_KIND_NONE &&
        (!json_uint(v[TIMEOUT], EMISSION_TIMEOUT_MAX_MS, &timeout) || timeout == 0))
        err = fail(reterr, ERR_BAD_REQUEST, "timeout must be 1 to %u milliseconds", EMISSION_TIMEOUT_MAX_MS);
    if (err != OK)
        return err;
    ret->timeout_ms = (uint32_t)timeout;
    if ((v[DATA].kind == JSON_KIND_NONE) == (v[DATA_BASE64].kind == JSON_KIND_NONE))
        return fail(reterr, ERR_BAD_REQUEST, "an emission has either data or data_base64");
    ret->data = v[DATA].raw;
    return v[DATA].kind == JSON_KIND_NONE ? read_base64(v[DATA_BASE64], a, &ret->data, reterr) : OK;
}
