/* gateway/action.c: actions of backends, from JSON and from fields. */
#include "gateway/action.h"

#include "base/mem.h"
#include "base/text.h"
#include "base/utf8.h"
#include "gateway/api_verdict.h"
#include "gateway/protocol/emission.h"
#include "gateway/protocol/protocol.h"

#define WORD_MAX      40
#define RECONNECT_MAX ((uint64_t)24 * 3600 * 1000)

enum member { DO, SESSION, USER, ROOM, REASON, CODE, RECONNECT_AFTER, ATTRIBUTES, MEMBERS };

static const char *const names[MEMBERS] = {
    [DO] = "do",
    [SESSION] = "session",
    [USER] = "user",
    [ROOM] = "room",
    [REASON] = "reason",
    [CODE] = "code",
    [ATTRIBUTES] = "attributes",
    [RECONNECT_AFTER] = "reconnect_after",
};

static const char *const words[ACTIONS] = {
#define X(code, word) [code] = (word),
    ACTION_MAP(X)
#undef X
};

const char *action_word(enum action_kind k)
{
    return words[k];
}

/* --- members --- */

static bool absent(struct json_value v)
{
    return v.kind == JSON_KIND_NONE;
}

static enum err read_number(struct json_value v, const char *name, uint64_t least, uint64_t most, uint32_t *ret,
                            struct error *reterr)
{
    uint64_t n = 0;
    if (!absent(v) && (v.kind != JSON_KIND_NUMBER || !json_uint(v, most, &n) || n < least))
        return fail(reterr, ERR_BAD_REQUEST, "%s must be a whole number from %llu to %llu", name,
                    (unsigned long long)least, (unsigned long long)most);
    *ret = (uint32_t)n;
    return OK;
}

static enum err read_session(struct json_value v, struct slice session, struct arena *a, struct slice *ret,
                             struct error *reterr)
{
    if (!absent(v))
        return api_read_word(v, "session", a, ret, reterr);
    if (session.n == 0)
        return fail(reterr, ERR_BAD_REQUEST, "session is missing");
    *ret = session;
    return OK;
}

static enum err read_user(struct json_value v, struct arena *a, struct slice *ret, struct error *reterr)
{
    return absent(v) ? fail(reterr, ERR_BAD_REQUEST, "user is missing")
                     : api_read_text(v, "user", NAME_MAX_USER, a, ret, reterr);
}

static enum err read_room(struct json_value v, struct arena *a, struct slice *ret, struct error *reterr)
{
    if (absent(v))
        return fail(reterr, ERR_BAD_REQUEST, "room is missing");
    enum err err = api_read_text(v, "room", NAME_MAX_ROOM, a, ret, reterr);
    if (err == OK && ret->p[0] == '$')
        err = fail(reterr, ERR_INVALID_NAME, "rooms that begin with $ are the server's own");
    return err;
}

static enum err read_kind(struct json_value v, struct arena *a, enum action_kind *ret, struct error *reterr)
{
    struct slice word;
    if (absent(v))
        return fail(reterr, ERR_BAD_REQUEST, "do is missing");
    enum err err = api_read_text(v, "do", WORD_MAX, a, &word, reterr);
    if (err != OK)
        return err;
    for (enum action_kind k = 0; k < ACTIONS; k++) {
        *ret = k;
        if (slice_eq(word, slice_str(words[k])))
            return OK;
    }
    return fail(reterr, ERR_UNKNOWN_TYPE, "do: there is no %.*s", SLICE_FMT(word));
}

/* --- kinds --- */

static enum err read_move(const struct json_value *v, struct slice session, struct arena *a, struct action *ret,
                          struct error *reterr)
{
    struct control *c = &ret->control;
    c->verb = ret->kind == ACTION_JOIN ? CONTROL_JOIN : CONTROL_LEAVE;
    enum err err = read_session(v[SESSION], session, a, &c->sid, reterr);
    if (err == OK)
        err = read_room(v[ROOM], a, &c->room, reterr);
    if (err == OK && ret->kind == ACTION_LEAVE && !absent(v[REASON]))
        err = api_read_text(v[REASON], "reason", CONTROL_REASON_MAX, a, &c->reason, reterr);
    return err;
}

static enum err read_disconnect(const struct json_value *v, struct slice session, struct arena *a, struct action *ret,
                                struct error *reterr)
{
    struct control *c = &ret->control;
    c->verb = CONTROL_DISCONNECT;
    if (!absent(v[USER]) && !absent(v[SESSION]))
        return fail(reterr, ERR_BAD_REQUEST, "either a session or a user is disconnected");
    enum err err = !absent(v[USER]) ? read_user(v[USER], a, &ret->user, reterr)
                                    : read_session(v[SESSION], session, a, &c->sid, reterr);
    if (err == OK && !absent(v[REASON]))
        err = api_read_text(v[REASON], "reason", CONTROL_REASON_MAX, a, &c->reason, reterr);
    if (err == OK)
        err = read_number(v[CODE], "code", 4000, 4999, &c->close_code, reterr);
    if (err == OK)
        err = read_number(v[RECONNECT_AFTER], "reconnect_after", 0, RECONNECT_MAX, &c->reconnect_after_ms, reterr);
    return err;
}

static enum err read_emission(struct slice object, struct arena *a, struct slice *ret, struct error *reterr)
{
    struct emission e;
    enum err err = emission_read_json(object, a, &e, reterr);
    if (err == OK && e.ack)
        err = fail(reterr, ERR_BAD_REQUEST, "ack: nobody would get the answers; use POST /emit");
    *ret = object;
    return err;
}

enum err action_read(struct slice object, struct slice session, uint64_t now_ms, struct arena *a, struct action *ret,
                     struct error *reterr)
{
    struct json_value v[MEMBERS] = {{0}};
    struct action what = {.kind = ACTIONS};
    if (!utf8_valid(object))
        return fail(reterr, ERR_BAD_UTF8, "an action is not UTF-8");
    if (!slice_starts(object, SLICE("{")))
        return fail(reterr, ERR_BAD_REQUEST, "an action must be an object");
    enum err err = json_members(object, names, MEMBERS, v, reterr);
    if (err == OK)
        err = read_kind(v[DO], a, &what.kind, reterr);
    if (err != OK)
        return err;
    switch (what.kind) {
    case ACTION_PUBLISH: err = api_read_publish(object, a, &what.message, reterr); break;
    case ACTION_SEND: err = api_read_send_to(object, session, a, &what.message, reterr); break;
    case ACTION_BROADCAST: err = api_read_broadcast(object, a, &what.message, reterr); break;
    case ACTION_EMIT: err = read_emission(object, a, &what.emission, reterr); break;
    case ACTION_JOIN:
    case ACTION_LEAVE: err = read_move(v, session, a, &what, reterr); break;
    case ACTION_DISCONNECT: err = read_disconnect(v, session, a, &what, reterr); break;
    case ACTION_BAN:
        err = api_read_ban(object, a, now_ms, &what.ban, reterr);
        if (err == OK)
            err = read_user(v[USER], a, &what.user, reterr);
        what.ban.user = what.user;
        break;
    case ACTION_UNBAN: err = read_user(v[USER], a, &what.user, reterr); break;
    case ACTION_ATTRIBUTES:
        err = read_session(v[SESSION], session, a, &what.control.sid, reterr);
        what.attributes = v[ATTRIBUTES].raw;
        break;
    case ACTIONS: break;
    }
    if (err == OK)
        *ret = what;
    return err;
}

/* --- fields --- */

static bool is_one_of(struct slice name, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (slice_eq(name, slice_str(list[i])))
            return true;
    return false;
}

static enum err put_value(struct slice name, struct slice value, struct buf *ret, struct error *reterr)
{
    static const char *const json[] = {"data", "to", "attributes", "volatile"}, *const lists[] = {"rooms", "except"};
    static const char *const numbers[] = {"code", "reconnect_after", "until", "for"};
    struct error why;
    bool valid = utf8_valid(value) && json_check(value, &why) == OK;
    uint64_t n;
    bool is_json = is_one_of(name, json, ARRAY_LEN(json));
    bool is_list = is_one_of(name, lists, ARRAY_LEN(lists)) && slice_starts(value, SLICE("["));
    if (is_json && !valid)
        return fail(reterr, ERR_BAD_REQUEST, "%.*s must be JSON; a text has quotes", SLICE_FMT(name));
    if (is_json || (valid && is_list) ||
        (valid && is_one_of(name, numbers, ARRAY_LEN(numbers)) && text_u64(value, UINT64_MAX, &n)))
        buf_append(ret, value);
    else
        json_quote(ret, value);
    return OK;
}

enum err action_of_fields(const struct event_field *fields, size_t count, struct buf *ret, struct error *reterr)
{
    bool send = false;
    for (size_t i = 0; i < count; i++)
        send = send || (slice_eq(fields[i].name, SLICE("do")) && slice_eq(fields[i].value, SLICE("send")));
    buf_append_char(ret, '{');
    for (size_t i = 0; i < count; i++) {
        struct slice name = fields[i].name;
        bool to = send && (slice_eq(name, SLICE("user")) || slice_eq(name, SLICE("session")));
        buf_append_str(ret, i == 0 ? "" : ",");
        buf_append_str(ret, to ? "\"to\":{" : "");
        json_quote(ret, name);
        buf_append_char(ret, ':');
        if (put_value(name, fields[i].value, ret, reterr) != OK)
            return reterr->code;
        buf_append_str(ret, to ? "}" : "");
    }
    buf_append_char(ret, '}');
    return OK;
}
