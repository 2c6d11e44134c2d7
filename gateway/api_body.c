/* gateway/api_body.c: bodies of the server API. */
#include "gateway/api_body.h"

#include "base/base64.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/protocol/protocol.h"
#include "proto/json.h"

enum member { ROOM, TO, EVENT, DATA, DATA_BASE64, KEY, EXCEPT, MEMBERS };

static const char *const names[MEMBERS] = {
    [ROOM] = "room", [TO] = "to",         [EVENT] = "event", [DATA] = "data", [DATA_BASE64] = "data_base64",
    [KEY] = "key",   [EXCEPT] = "except",
};

/* --- members --- */

enum err api_read_text(struct json_value v, const char *name, size_t max, struct arena *a, struct slice *ret,
                       struct error *reterr)
{
    if (v.kind == JSON_KIND_NONE)
        return fail(reterr, ERR_BAD_REQUEST, "%s must be a string", name);
    return json_name(v, name, max, a, ret, reterr);
}

enum err api_read_word(struct json_value v, const char *name, struct arena *a, struct slice *ret, struct error *reterr)
{
    enum err err = api_read_text(v, name, NAME_MAX_KEY, a, ret, reterr);
    for (size_t i = 0; err == OK && i < ret->n; i++) {
        char c = ret->p[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '.' ||
              c == ':' || c == '-'))
            err = fail(reterr, ERR_INVALID_NAME, "%s: byte %zu is none of A-Z a-z 0-9 _ . : -", name, i);
    }
    return err;
}

static enum err read_base64(struct json_value v, struct arena *a, struct api_message *ret, struct error *reterr)
{
    struct slice text;
    if (v.kind != JSON_KIND_STRING)
        return fail(reterr, ERR_BAD_REQUEST, "data_base64 must be a string");
    enum err err = json_unquote(v, a, &text, reterr);
    if (err != OK)
        return err;
    char *bytes = arena_alloc(a, base64_bytes(text.n));
    if (bytes == NULL)
        return fail(reterr, ERR_TOO_LARGE, "the body is too large");
    if (!base64_take(BASE64, text, bytes, &ret->data.n))
        return fail(reterr, ERR_BAD_REQUEST, "data_base64 is not padded base64");
    ret->data.p = bytes;
    ret->data_type = DATA_BINARY;
    return OK;
}

static enum err read_data(const struct json_value *v, struct arena *a, struct api_message *ret, struct error *reterr)
{
    bool json = v[DATA].kind != JSON_KIND_NONE, base64 = v[DATA_BASE64].kind != JSON_KIND_NONE;
    if (json == base64)
        return fail(reterr, ERR_BAD_REQUEST, "a message has either data or data_base64");
    if (base64)
        return read_base64(v[DATA_BASE64], a, ret, reterr);
    ret->data = v[DATA].raw;
    ret->data_type = DATA_JSON;
    return OK;
}

/* What all messages have. */
static enum err read_common(const struct json_value *v, struct arena *a, struct api_message *ret, struct error *reterr)
{
    enum err err = read_data(v, a, ret, reterr);
    if (err == OK && v[EVENT].kind != JSON_KIND_NONE)
        err = api_read_text(v[EVENT], "event", NAME_MAX_EVENT, a, &ret->event, reterr);
    if (err == OK && v[KEY].kind != JSON_KIND_NONE)
        err = api_read_word(v[KEY], "key", a, &ret->key, reterr);
    if (err == OK && v[EXCEPT].kind != JSON_KIND_NONE)
        err = api_read_word(v[EXCEPT], "except", a, &ret->except, reterr);
    return err;
}

static enum err find_members(struct slice body, struct json_value *v, struct error *reterr)
{
    if (!utf8_valid(body))
        return fail(reterr, ERR_BAD_UTF8, "the body is not UTF-8");
    return json_members(body, names, MEMBERS, v, reterr);
}

/* --- bodies --- */

static enum err read_publish(const struct json_value *v, struct arena *a, struct api_message *ret, struct error *reterr)
{
    *ret = (struct api_message){.to = API_TO_ROOM};
    if (v[ROOM].kind == JSON_KIND_NONE)
        return fail(reterr, ERR_BAD_REQUEST, "room is missing");
    enum err err = api_read_text(v[ROOM], "room", NAME_MAX_ROOM, a, &ret->room, reterr);
    if (err == OK && ret->room.p[0] == '$')
        err = fail(reterr, ERR_INVALID_NAME, "rooms that begin with $ are the server's own: use send or broadcast");
    return err != OK ? err : read_common(v, a, ret, reterr);
}

enum err api_read_publish(struct slice body, struct arena *a, struct api_message *ret, struct error *reterr)
{
    struct json_value v[MEMBERS];
    enum err err = find_members(body, v, reterr);
    return err != OK ? err : read_publish(v, a, ret, reterr);
}

enum err api_read_broadcast(struct slice body, struct arena *a, struct api_message *ret, struct error *reterr)
{
    struct json_value v[MEMBERS];
    enum err err = find_members(body, v, reterr);
    *ret = (struct api_message){.to = API_TO_ALL, .room = SLICE("$all")};
    return err != OK ? err : read_common(v, a, ret, reterr);
}

static enum err join_names(struct slice before, struct slice name, struct arena *a, struct slice *ret,
                           struct error *reterr)
{
    char *p = arena_alloc(a, before.n + name.n);
    if (p == NULL)
        return fail(reterr, ERR_TOO_LARGE, "the body is too large");
    memcpy(p, before.p, before.n);
    memcpy(p + before.n, name.p, name.n);
    *ret = (struct slice){p, before.n + name.n};
    return OK;
}

static enum err read_target(struct json_value v, bool user, struct arena *a, struct slice *ret, struct error *reterr)
{
    struct slice name;
    enum err err = user ? api_read_text(v, "user", NAME_MAX_USER, a, &name, reterr)
                        : api_read_word(v, "session", a, &name, reterr);
    return err != OK ? err : join_names(user ? SLICE("$user:") : SLICE("$session:"), name, a, ret, reterr);
}

static enum err read_targets(struct json_value v, bool user, struct arena *a, struct api_message *ret,
                             struct error *reterr)
{
    struct json_value element;
    size_t n = 0, at = 0;
    if (v.kind != JSON_KIND_ARRAY)
        return fail(reterr, ERR_BAD_REQUEST, "%s must be an array", user ? "users" : "sessions");
    while (json_next(v, &at, &element))
        n++;
    if (n == 0 || n > API_TARGETS_MAX)
        return fail(reterr, n == 0 ? ERR_BAD_REQUEST : ERR_TOO_LARGE, "%zu targets, 1 to %d allowed", n,
                    API_TARGETS_MAX);
    ret->targets = arena_alloc(a, n * sizeof *ret->targets);
    if (ret->targets == NULL)
        return fail(reterr, ERR_TOO_LARGE, "the body is too large");
    at = 0;
    while (json_next(v, &at, &element)) {
        enum err err = read_target(element, user, a, &ret->targets[ret->target_count++], reterr);
        if (err != OK)
            return err;
    }
    return OK;
}

static enum err read_to(struct json_value to, struct arena *a, struct api_message *ret, struct error *reterr)
{
    static const char *const kinds[] = {"user", "users", "session", "sessions"};
    static const enum api_to tos[] = {API_TO_USER, API_TO_USERS, API_TO_SESSION, API_TO_SESSIONS};
    struct json_value v[ARRAY_LEN(kinds)];
    size_t which = ARRAY_LEN(kinds), count = 0;
    if (to.kind != JSON_KIND_OBJECT)
        return fail(reterr, ERR_BAD_REQUEST, "to must be an object");
    enum err err = json_members(to.raw, kinds, ARRAY_LEN(kinds), v, reterr);
    if (err != OK)
        return err;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (v[i].kind == JSON_KIND_NONE)
            continue;
        which = i;
        count++;
    }
    if (count != 1)
        return fail(reterr, ERR_BAD_REQUEST, "to must have one of user, users, session and sessions");
    ret->to = tos[which];
    if (ret->to == API_TO_USER || ret->to == API_TO_SESSION)
        return read_target(v[which], ret->to == API_TO_USER, a, &ret->room, reterr);
    return read_targets(v[which], ret->to == API_TO_USERS, a, ret, reterr);
}

enum err api_read_send_to(struct slice body, struct slice session, struct arena *a, struct api_message *ret,
                          struct error *reterr)
{
    struct json_value v[MEMBERS];
    enum err err = find_members(body, v, reterr);
    bool of_session = err == OK && v[TO].kind == JSON_KIND_NONE && session.n != 0;
    *ret = (struct api_message){.to = of_session ? API_TO_SESSION : API_TO_USER};
    if (err == OK)
        err = of_session ? join_names(SLICE("$session:"), session, a, &ret->room, reterr)
                         : read_to(v[TO], a, ret, reterr);
    return err != OK ? err : read_common(v, a, ret, reterr);
}

enum err api_read_send(struct slice body, struct arena *a, struct api_message *ret, struct error *reterr)
{
    return api_read_send_to(body, SLICE_NONE, a, ret, reterr);
}

/* The elements have been found valid with the whole. */
static enum err read_element(struct json_value element, struct arena *a, struct api_message *ret, struct error *reterr)
{
    struct json_value v[MEMBERS];
    if (element.kind != JSON_KIND_OBJECT)
        return fail(reterr, ERR_BAD_REQUEST, "a message must be an object");
    enum err err = json_members(element.raw, names, MEMBERS, v, reterr);
    return err != OK ? err : read_publish(v, a, ret, reterr);
}

enum err api_read_batch(struct slice body, struct arena *a, struct api_message **ret, struct error **ret_errors,
                        size_t *ret_count, struct error *reterr)
{
    static const char *const batch_names[] = {"messages"};
    struct json_value list, element;
    size_t n = 0, at = 0;
    if (!utf8_valid(body))
        return fail(reterr, ERR_BAD_UTF8, "the body is not UTF-8");
    enum err err = json_members(body, batch_names, 1, &list, reterr);
    if (err != OK)
        return err;
    if (list.kind != JSON_KIND_ARRAY)
        return fail(reterr, ERR_BAD_REQUEST, "messages must be an array");
    while (json_next(list, &at, &element))
        n++;
    if (n == 0 || n > API_BATCH_MAX)
        return fail(reterr, n == 0 ? ERR_BAD_REQUEST : ERR_TOO_LARGE, "%zu messages, 1 to %d allowed", n,
                    API_BATCH_MAX);
    struct api_message *messages = arena_alloc(a, n * sizeof *messages);
    struct error *errors = arena_alloc(a, n * sizeof *errors);
    if (messages == NULL || errors == NULL)
        return fail(reterr, ERR_TOO_LARGE, "the body is too large");
    at = 0;
    for (size_t i = 0; json_next(list, &at, &element); i++) {
        errors[i] = (struct error){0};
        errors[i].code = read_element(element, a, &messages[i], &errors[i]);
    }
    *ret = messages;
    *ret_errors = errors;
    *ret_count = n;
    return OK;
}

enum err api_read_users(struct slice body, struct arena *a, struct slice **ret, size_t *ret_count, struct error *reterr)
{
    static const char *const users_names[] = {"users"};
    struct json_value list, element;
    size_t n = 0, at = 0;
    if (!utf8_valid(body))
        return fail(reterr, ERR_BAD_UTF8, "the body is not UTF-8");
    enum err err = json_members(body, users_names, 1, &list, reterr);
    if (err != OK)
        return err;
    if (list.kind != JSON_KIND_ARRAY)
        return fail(reterr, ERR_BAD_REQUEST, "users must be an array");
    while (json_next(list, &at, &element))
        n++;
    if (n == 0 || n > API_PRESENCE_MAX)
        return fail(reterr, n == 0 ? ERR_BAD_REQUEST : ERR_TOO_LARGE, "%zu users, 1 to %d allowed", n,
                    API_PRESENCE_MAX);
    struct slice *users = arena_alloc(a, n * sizeof *users);
    if (users == NULL)
        return fail(reterr, ERR_TOO_LARGE, "the body is too large");
    at = 0;
    for (size_t i = 0; err == OK && json_next(list, &at, &element); i++)
        err = api_read_text(element, "user", NAME_MAX_USER, a, &users[i], reterr);
    *ret = users;
    *ret_count = n;
    return err;
}
