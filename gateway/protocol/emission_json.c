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

/* ret_volatile may be NULL. */
static enum err read_options(struct json_value options, struct arena *a, struct emission_target *ret,
                             bool *ret_volatile, struct error *reterr)
{
    static const char *const fields[] = {"rooms", "except", "flags"}, *const flags[] = {"volatile"};
    struct json_value v[ARRAY_LEN(fields)], flag;
    if (options.kind != JSON_KIND_OBJECT)
        return fail(reterr, ERR_BAD_REQUEST, "no options");
    enum err err = json_members(options.raw, fields, ARRAY_LEN(fields), v, reterr);
    if (err == OK)
        err = read_names(v[0], a, ret->rooms, &ret->room_count, reterr);
    if (err == OK)
        err = read_names(v[1], a, ret->except, &ret->except_count, reterr);
    if (err != OK || ret_volatile == NULL || v[2].kind != JSON_KIND_OBJECT)
        return err;
    err = json_members(v[2].raw, flags, 1, &flag, reterr);
    *ret_volatile = err == OK && flag.kind == JSON_KIND_TRUE;
    return err;
}

enum err emitter_read_request(struct slice body, struct arena *a, struct emitter_request *ret, struct error *reterr)
{
    static const char *const fields[] = {"type", "opts", "rooms", "close"};
    struct json_value v[ARRAY_LEN(fields)];
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
    err = read_options(v[1], a, &ret->to, NULL, reterr);
    return err == OK ? read_names(v[2], a, ret->rooms, &ret->room_count, reterr) : err;
}

enum err emitter_read_streamed(enum streamed_type type, struct slice nsp, struct slice data, struct arena *a,
                               struct emitter_request *ret, struct error *reterr)
{
    static const char *const fields[] = {"opts", "rooms", "close"};
    struct json_value v[ARRAY_LEN(fields)];
    *ret = (struct emitter_request){.to.nsp = nsp};
    ret->verb = type == STREAMED_JOIN ? EMITTER_JOIN : type == STREAMED_LEAVE ? EMITTER_LEAVE : EMITTER_DISCONNECT;
    if (!utf8_valid(data))
        return fail(reterr, ERR_BAD_UTF8, "the request is not UTF-8");
    enum err err = json_members(data, fields, ARRAY_LEN(fields), v, reterr);
    if (err == OK)
        err = read_options(v[0], a, &ret->to, NULL, reterr);
    if (err != OK)
        return err;
    ret->close = v[2].kind == JSON_KIND_TRUE;
    return read_names(v[1], a, ret->rooms, &ret->room_count, reterr);
}

/* [event, …arguments], whose arguments stay as they are written. */
static enum err read_event(struct json_value list, size_t max_data, struct arena *a, struct emission *ret,
                           struct error *reterr)
{
    struct json_value name;
    size_t at = 0;
    if (list.kind != JSON_KIND_ARRAY || !json_next(list, &at, &name))
        return fail(reterr, ERR_BAD_REQUEST, "the data of an event is one array that begins with its name");
    if (name.kind != JSON_KIND_STRING || json_unquote(name, a, &ret->event, reterr) != OK ||
        !utf8_name_valid(ret->event, NAME_MAX_EVENT))
        return fail(reterr, ERR_INVALID_NAME, "the name of an event has 1 to %d bytes and no control characters",
                    NAME_MAX_EVENT);
    const char *from = name.raw.p + name.raw.n, *end = list.raw.p + list.raw.n - 1;
    while (from < end && *from != ',')
        from++;
    if (from < end)
        from++;
    struct slice arguments = {from, (size_t)(end - from)};
    if (arguments.n > max_data)
        return fail(reterr, ERR_TOO_LARGE, "more than %zu bytes as JSON", max_data);
    buf_append_str(&ret->made, "{\"$args\":[");
    buf_append(&ret->made, arguments);
    buf_append_str(&ret->made, "]}");
    ret->data = buf_slice(&ret->made);
    return OK;
}

static enum err read_packet(struct json_value packet, size_t max_data, struct arena *a, struct emission *ret,
                            struct error *reterr)
{
    static const char *const fields[] = {"type", "nsp", "data", "id"};
    struct json_value v[ARRAY_LEN(fields)];
    uint64_t type = 0;
    if (packet.kind != JSON_KIND_OBJECT)
        return fail(reterr, ERR_BAD_REQUEST, "no packet");
    enum err err = json_members(packet.raw, fields, ARRAY_LEN(fields), v, reterr);
    if (err != OK)
        return err;
    if (!json_uint(v[0], UINT32_MAX, &type) || (type != SIO_EVENT && type != SIO_BINARY_EVENT))
        return fail(reterr, ERR_BAD_REQUEST, "a packet that is no event");
    if (v[3].kind != JSON_KIND_NONE)
        return fail(reterr, ERR_UNSUPPORTED, "an event that asks for an ack");
    if (v[1].kind == JSON_KIND_STRING)
        err = json_unquote(v[1], a, &ret->to.nsp, reterr);
    return err == OK ? read_event(v[2], max_data, a, ret, reterr) : err;
}

static enum err read_streamed_json(struct slice data, size_t max_data, struct arena *a, struct emission *ret,
                                   struct error *reterr)
{
    static const char *const fields[] = {"packet", "opts", "requestId"};
    struct json_value v[ARRAY_LEN(fields)];
    if (!utf8_valid(data))
        return fail(reterr, ERR_BAD_UTF8, "the message is not UTF-8");
    enum err err = json_members(data, fields, ARRAY_LEN(fields), v, reterr);
    if (err == OK && v[2].kind != JSON_KIND_NONE)
        err = fail(reterr, ERR_UNSUPPORTED, "an event that asks for an ack");
    if (err == OK)
        err = read_options(v[1], a, &ret->to, &ret->is_volatile, reterr);
    return err == OK ? read_packet(v[0], max_data, a, ret, reterr) : err;
}

static enum err read_streamed_base64(struct slice data, size_t max_data, struct emission *ret, struct error *reterr)
{
    if (!base64_take(BASE64, data, buf_reserve(&ret->bytes, base64_bytes(data.n)), &ret->bytes.n))
        return fail(reterr, ERR_BAD_REQUEST, "neither a JSON object nor padded base64");
    return emission_read_streamed_msgpack(ret->to.nsp, buf_slice(&ret->bytes), max_data, ret, reterr);
}

enum err emission_read_streamed(struct slice nsp, struct slice data, size_t max_data, struct arena *a,
                                struct emission *ret, struct error *reterr)
{
    *ret = (struct emission){.to.nsp = nsp};
    enum err err = slice_starts(data, SLICE("{")) ? read_streamed_json(data, max_data, a, ret, reterr)
                                                  : read_streamed_base64(data, max_data, ret, reterr);
    if (err == OK && !slice_eq(ret->to.nsp, nsp))
        err = fail(reterr, ERR_BAD_REQUEST, "a packet for another namespace than that of its entry");
    if (err != OK)
        emission_fini(ret);
    return err;
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
