/* gateway/protocol/native_decode.c: what clients say in xindao.v1.json, driven by two tables: members and commands. */
#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/protocol/native.h"
#include "proto/json.h"

#define LIMIT_DEFAULT 100
#define LIMIT_MAX     1000
#define CURSOR_MAX    255
#define POSITIONS_MAX 1024
#define USERS_MOST    100
#define PING_PREFIX   16 /* letters or digits that may stand before `ping` in a heartbeat */

enum member {
    TYPE,
    ID,
    ROOM,
    EVENT,
    DATA,
    KEY,
    ECHO,
    TO,
    CURSOR,
    LIMIT,
    AFTER,
    BEFORE,
    POSITION,
    START,
    SESSION,
    TOKEN,
    POSITIONS,
    USERS,
    DEVICES,
    BACK,
    CODE,
    APPID,
    MEMBERS
};

static const char *const names[MEMBERS] = {
    [TYPE] = "type",           [ID] = "id",       [ROOM] = "room",       [EVENT] = "event",
    [DATA] = "data",           [KEY] = "key",     [ECHO] = "echo",       [TO] = "to",
    [CURSOR] = "cursor",       [LIMIT] = "limit", [AFTER] = "after",     [BEFORE] = "before",
    [POSITION] = "position",   [START] = "start", [SESSION] = "session", [TOKEN] = "token",
    [POSITIONS] = "positions", [USERS] = "users", [DEVICES] = "devices", [BACK] = "back",
    [CODE] = "code",           [APPID] = "appid",
};

/* One frame being decoded. */
struct decoding {
    struct json_value values[MEMBERS];
    struct arena *arena;
    struct command *command;
    struct error *reterr;
};

static bool letter_or_digit(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool native_heartbeat(struct slice frame, bool binary, struct slice *ret_answer)
{
    const struct slice ping = SLICE("ping");
    if (binary || (frame.n != ping.n && frame.n != PING_PREFIX + ping.n))
        return false;
    for (size_t i = 0; i < frame.n - ping.n; i++)
        if (!letter_or_digit(frame.p[i]))
            return false;
    if (!slice_eq(slice_from(frame, frame.n - ping.n), ping))
        return false;
    *ret_answer = SLICE("pong");
    return true;
}

#define X(code, name) [code] = (name),
static const char *const command_names[COMMANDS] = {COMMAND_MAP(X)};
#undef X

const char *command_name(enum command_kind kind)
{
    return command_names[kind];
}

bool command_find(struct slice name, enum command_kind *ret)
{
    for (enum command_kind kind = 0; kind < COMMANDS; kind++) {
        if (!slice_eq(name, slice_str(command_names[kind])))
            continue;
        *ret = kind;
        return true;
    }
    return false;
}

/* The characters of v, at most max bytes of them. */
static enum err read_string(struct decoding *d, struct json_value v, const char *name, size_t max, struct slice *ret)
{
    if (v.kind != JSON_KIND_STRING)
        return fail(d->reterr, ERR_BAD_REQUEST, "member \"%s\" must be a string", name);
    struct slice s;
    enum err err = json_unquote(v, d->arena, &s, d->reterr);
    if (err != OK)
        return err;
    if (s.n > max)
        return fail(d->reterr, ERR_INVALID_NAME, "\"%s\" has %zu bytes, at most %zu allowed", name, s.n, max);
    *ret = s;
    return OK;
}

/* A name people see. */
static enum err read_name(struct decoding *d, struct json_value v, const char *name, size_t max, struct slice *ret)
{
    struct slice s;
    enum err err = read_string(d, v, name, max, &s);
    if (err != OK)
        return err;
    if (s.n == 0)
        return fail(d->reterr, ERR_INVALID_NAME, "\"%s\" is empty", name);
    if (!utf8_name_valid(s, max))
        return fail(d->reterr, ERR_INVALID_NAME, "\"%s\" contains a control character", name);
    *ret = s;
    return OK;
}

/* A name programs make: keys, session ids. */
static enum err read_word(struct decoding *d, struct json_value v, const char *name, struct slice *ret)
{
    struct slice s;
    enum err err = read_string(d, v, name, NAME_MAX_KEY, &s);
    if (err != OK)
        return err;
    if (s.n == 0)
        return fail(d->reterr, ERR_INVALID_NAME, "\"%s\" is empty", name);
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!letter_or_digit(c) && c != '_' && c != '.' && c != ':' && c != '-')
            return fail(d->reterr, ERR_INVALID_NAME, "\"%s\": byte %zu is none of A-Z a-z 0-9 _ . : -", name, i);
    }
    *ret = s;
    return OK;
}

static enum err read_id(struct decoding *d, struct json_value v)
{
    if (v.kind != JSON_KIND_STRING && v.kind != JSON_KIND_NUMBER)
        return fail(d->reterr, ERR_BAD_REQUEST, "member \"id\" must be a string or a number");
    if (v.raw.n > NAME_MAX_ID)
        return fail(d->reterr, ERR_TOO_LARGE, "\"id\" has %zu bytes as written, at most %d allowed", v.raw.n,
                    NAME_MAX_ID);
    d->command->id = v.raw;
    return OK;
}

static enum err read_room(struct decoding *d, struct json_value v)
{
    struct slice room;
    enum err err = read_name(d, v, "room", NAME_MAX_ROOM, &room);
    if (err != OK)
        return err;
    if (room.p[0] == '$' && d->command->kind != CMD_READ)
        return fail(d->reterr, ERR_INVALID_NAME, "\"room\" begins with $: such rooms are the server's own");
    d->command->room = room;
    return OK;
}

static enum err read_event(struct decoding *d, struct json_value v)
{
    return read_name(d, v, "event", NAME_MAX_EVENT, &d->command->event);
}

static enum err read_data(struct decoding *d, struct json_value v)
{
    if (d->command->data_type == DATA_BINARY)
        return fail(d->reterr, ERR_BAD_REQUEST,
                    "a binary frame has a member \"data\": its data is what follows the zero byte");
    d->command->data = v.raw;
    return OK;
}

static enum err read_key(struct decoding *d, struct json_value v)
{
    return read_word(d, v, "key", &d->command->key);
}

static enum err read_bool(struct decoding *d, struct json_value v, const char *name, bool *ret)
{
    if (v.kind != JSON_KIND_TRUE && v.kind != JSON_KIND_FALSE)
        return fail(d->reterr, ERR_BAD_REQUEST, "member \"%s\" must be true or false", name);
    *ret = v.kind == JSON_KIND_TRUE;
    return OK;
}

static enum err read_echo(struct decoding *d, struct json_value v)
{
    return read_bool(d, v, "echo", &d->command->echo);
}

static enum err read_back(struct decoding *d, struct json_value v)
{
    return read_bool(d, v, "back", &d->command->back);
}

static enum err read_devices(struct decoding *d, struct json_value v)
{
    return read_bool(d, v, "devices", &d->command->devices);
}

static enum err read_users(struct decoding *d, struct json_value v)
{
    struct json_value element;
    size_t at = 0, n = 0;
    if (v.kind != JSON_KIND_ARRAY)
        return fail(d->reterr, ERR_BAD_REQUEST, "member \"users\" must be an array");
    while (json_next(v, &at, &element))
        n++;
    struct slice *users = n <= USERS_MOST ? arena_alloc(d->arena, (n + 1) * sizeof *users) : NULL;
    if (users == NULL)
        return fail(d->reterr, ERR_TOO_LARGE, "%zu users, at most %d allowed", n, USERS_MOST);
    at = 0;
    for (size_t i = 0; json_next(v, &at, &element); i++) {
        enum err err = read_name(d, element, "users", NAME_MAX_USER, &users[i]);
        if (err != OK)
            return err;
    }
    d->command->users = users;
    d->command->user_count = n;
    return OK;
}

static enum err read_to(struct decoding *d, struct json_value v)
{
    static const char *const target_names[] = {"user", "session"};
    struct json_value targets[ARRAY_LEN(target_names)];
    if (v.kind != JSON_KIND_OBJECT)
        return fail(d->reterr, ERR_BAD_REQUEST, "member \"to\" must be an object");
    enum err err = json_members(v.raw, target_names, ARRAY_LEN(targets), targets, d->reterr);
    if (err != OK)
        return err;
    if ((targets[0].kind == JSON_KIND_NONE) == (targets[1].kind == JSON_KIND_NONE))
        return fail(d->reterr, ERR_BAD_REQUEST, "member \"to\" must have one of \"user\" and \"session\"");
    if (targets[0].kind != JSON_KIND_NONE)
        return read_name(d, targets[0], "user", NAME_MAX_USER, &d->command->to_user);
    return read_word(d, targets[1], "session", &d->command->to_session);
}

static enum err read_cursor(struct decoding *d, struct json_value v)
{
    return read_name(d, v, "cursor", CURSOR_MAX, &d->command->cursor);
}

static enum err read_limit(struct decoding *d, struct json_value v)
{
    uint64_t limit;
    if (!json_uint(v, LIMIT_MAX, &limit) || limit == 0)
        return fail(d->reterr, ERR_BAD_REQUEST, "member \"limit\" must be an integer from 1 to %d", LIMIT_MAX);
    d->command->limit = (uint32_t)limit;
    return OK;
}

static enum err read_offset(struct decoding *d, struct json_value v, const char *name, uint64_t *ret)
{
    if (!json_uint(v, OFFSET_MAX, ret))
        return fail(d->reterr, ERR_BAD_REQUEST, "member \"%s\" must be an offset", name);
    return OK;
}

static enum err read_after(struct decoding *d, struct json_value v)
{
    d->command->has_after = true;
    return read_offset(d, v, "after", &d->command->after);
}

static enum err read_before(struct decoding *d, struct json_value v)
{
    d->command->has_before = true;
    return read_offset(d, v, "before", &d->command->before);
}

static enum err read_position_of(struct decoding *d, struct json_value v, const char *name, struct position *ret)
{
    struct slice s = SLICE_NONE;
    enum err err = read_string(d, v, name, POSITION_MAX, &s);
    if (err == OK && !position_parse(s, ret))
        return fail(d->reterr, ERR_BAD_REQUEST, "\"%s\" is not a position that was given out", name);
    return err;
}

/* Of the start of a view only the offset is of use: its tag would have to be known for longer than any is. */
static enum err read_start_of(struct decoding *d, struct json_value v, uint64_t *ret)
{
    struct position start = {0};
    enum err err = v.kind == JSON_KIND_NONE || v.kind == JSON_KIND_NULL ? OK : read_position_of(d, v, "start", &start);
    *ret = start.offset;
    return err;
}

static enum err read_start(struct decoding *d, struct json_value v)
{
    return read_start_of(d, v, &d->command->seen.start);
}

static enum err read_position(struct decoding *d, struct json_value v)
{
    if (v.kind == JSON_KIND_NULL && d->command->kind != CMD_READ)
        return OK;
    if (d->command->kind == CMD_JOIN && slice_eq(v.raw, SLICE("\"read\""))) {
        d->command->from_read = true;
        return OK;
    }
    d->command->has_position = true;
    return read_position_of(d, v, "position", &d->command->seen.at);
}

/* {room, position, start?} */
static enum err read_place(struct decoding *d, struct json_value v, struct command_position *ret)
{
    static const char *const part_names[] = {"room", "position", "start"};
    struct json_value parts[ARRAY_LEN(part_names)];
    if (v.kind != JSON_KIND_OBJECT)
        return fail(d->reterr, ERR_BAD_REQUEST, "an element of \"positions\" must be an object");
    enum err err = json_members(v.raw, part_names, ARRAY_LEN(parts), parts, d->reterr);
    if (err == OK)
        err = read_name(d, parts[0], "room", NAME_MAX_ROOM, &ret->room);
    if (err == OK)
        err = read_position_of(d, parts[1], "position", &ret->seen.at);
    if (err == OK)
        err = read_start_of(d, parts[2], &ret->seen.start);
    return err;
}

static enum err read_session(struct decoding *d, struct json_value v)
{
    return read_word(d, v, "session", &d->command->session);
}

static enum err read_token(struct decoding *d, struct json_value v)
{
    if (d->command->kind == CMD_AUTH) /* whoever checks it has a limit of its own */
        return read_string(d, v, "token", SIZE_MAX, &d->command->token);
    return read_word(d, v, "token", &d->command->token);
}

static enum err read_code(struct decoding *d, struct json_value v)
{
    return read_string(d, v, "code", SIZE_MAX, &d->command->code);
}

static enum err read_appid(struct decoding *d, struct json_value v)
{
    return read_string(d, v, "appid", SIZE_MAX, &d->command->appid);
}

static enum err read_positions(struct decoding *d, struct json_value v)
{
    struct json_value element;
    size_t at = 0, n = 0;
    if (v.kind != JSON_KIND_ARRAY)
        return fail(d->reterr, ERR_BAD_REQUEST, "member \"positions\" must be an array");
    while (json_next(v, &at, &element))
        n++;
    struct command_position *positions = NULL;
    if (n <= POSITIONS_MAX)
        positions = arena_alloc(d->arena, (n + 1) * sizeof *positions);
    if (positions == NULL)
        return fail(d->reterr, ERR_TOO_LARGE, "%zu positions, at most %d allowed", n, POSITIONS_MAX);
    at = 0;
    for (size_t i = 0; json_next(v, &at, &element); i++) {
        enum err err = read_place(d, element, &positions[i]);
        if (err != OK)
            return err;
    }
    d->command->positions = positions;
    d->command->position_count = n;
    return OK;
}

/* How a member reaches the command. TYPE has been read before. */
static enum err (*const readers[MEMBERS])(struct decoding *d, struct json_value v) = {
    [ID] = read_id,       [ROOM] = read_room,       [EVENT] = read_event,   [DATA] = read_data,
    [KEY] = read_key,     [ECHO] = read_echo,       [TO] = read_to,         [CURSOR] = read_cursor,
    [LIMIT] = read_limit, [AFTER] = read_after,     [BEFORE] = read_before, [POSITION] = read_position,
    [START] = read_start, [SESSION] = read_session, [TOKEN] = read_token,   [POSITIONS] = read_positions,
    [USERS] = read_users, [DEVICES] = read_devices, [BACK] = read_back,     [CODE] = read_code,
    [APPID] = read_appid,
};

/* What a command takes; other members are ignored. */
static const struct {
    unsigned required, optional;
    bool carries_data;
} commands[COMMANDS] = {
    [CMD_JOIN] = {BIT(ROOM), BIT(POSITION) | BIT(START), false},
    [CMD_LEAVE] = {BIT(ROOM), 0, false},
    [CMD_PUBLISH] = {BIT(ROOM) | BIT(DATA), BIT(EVENT) | BIT(KEY) | BIT(ECHO), true},
    [CMD_SEND] = {BIT(TO) | BIT(DATA), BIT(EVENT) | BIT(KEY), true},
    [CMD_BROADCAST] = {BIT(DATA), BIT(EVENT) | BIT(KEY), true},
    [CMD_CALL] = {BIT(EVENT), BIT(ROOM) | BIT(DATA), true},
    [CMD_PRESENCE] = {BIT(ROOM), BIT(CURSOR) | BIT(LIMIT), false},
    [CMD_HISTORY] = {BIT(ROOM), BIT(AFTER) | BIT(BEFORE) | BIT(LIMIT), false},
    [CMD_AUTH] = {0, BIT(TOKEN) | BIT(CODE) | BIT(APPID), false},
    [CMD_RESUME] = {BIT(SESSION) | BIT(TOKEN), BIT(POSITIONS), false},
    [CMD_PING] = {0, 0, false},
    [CMD_WATCH] = {BIT(USERS), BIT(DEVICES), false},
    [CMD_UNWATCH] = {0, BIT(USERS), false},
    [CMD_READ] = {BIT(POSITION), BIT(ROOM) | BIT(BACK), false},
};

static enum err read_type(struct decoding *d)
{
    struct slice type;
    if (d->values[TYPE].kind == JSON_KIND_NONE)
        return fail(d->reterr, ERR_BAD_REQUEST, "member \"type\" is missing");
    enum err err = read_string(d, d->values[TYPE], "type", SIZE_MAX, &type);
    if (err != OK)
        return err;
    if (command_find(type, &d->command->kind))
        return OK;
    return fail(d->reterr, ERR_UNKNOWN_TYPE, "no such \"type\" (%zu bytes)", type.n);
}

static enum err read_members(struct decoding *d)
{
    enum command_kind kind = d->command->kind;
    bool binary = d->command->data_type == DATA_BINARY;
    unsigned required = commands[kind].required, taken = required | commands[kind].optional | BIT(ID);
    if (binary && !commands[kind].carries_data)
        return fail(d->reterr, ERR_BAD_REQUEST, "%s cannot be a binary frame", command_name(kind));
    for (enum member m = ID; m < MEMBERS; m++) {
        if ((taken & BIT(m)) == 0)
            continue;
        if (d->values[m].kind != JSON_KIND_NONE) {
            enum err err = readers[m](d, d->values[m]);
            if (err != OK)
                return err;
        } else if ((required & BIT(m)) != 0 && !(m == DATA && binary)) {
            return fail(d->reterr, ERR_BAD_REQUEST, "%s needs a member \"%s\"", command_name(kind), names[m]);
        }
    }
    if (kind == CMD_AUTH && (d->values[TOKEN].kind == JSON_KIND_NONE) == (d->values[CODE].kind == JSON_KIND_NONE))
        return fail(d->reterr, ERR_BAD_REQUEST, "auth needs a member \"token\" or a member \"code\", one of them");
    return OK;
}

/* After a failure: what the answer needs, as far as it is there and right. */
static void salvage(const struct json_value *values, struct arena *a, struct command *ret)
{
    struct error ignored;
    struct decoding d = {.arena = a, .command = ret, .reterr = &ignored};
    *ret = (struct command){0};
    if (values[ID].kind != JSON_KIND_NONE)
        (void)read_id(&d, values[ID]);
    if (values[ROOM].kind != JSON_KIND_NONE)
        (void)read_room(&d, values[ROOM]);
}

/* Takes the JSON off a binary frame; the rest is the data. */
static enum err split_binary(struct slice frame, struct slice *ret_header, struct slice *ret_data, struct error *reterr)
{
    const char *border = frame.n != 0 ? memchr(frame.p, '\0', frame.n) : NULL;
    if (border == NULL)
        return fail(reterr, ERR_BAD_REQUEST, "a binary frame of %zu bytes has no zero byte after its JSON", frame.n);
    struct slice header = {frame.p, (size_t)(border - frame.p)};
    if (!utf8_valid(header))
        return fail(reterr, ERR_BAD_UTF8, "the JSON of a binary frame (%zu bytes) is not UTF-8", header.n);
    *ret_header = header;
    *ret_data = slice_from(frame, header.n + 1);
    return OK;
}

enum err native_decode(struct slice frame, bool binary, struct arena *a, struct command *ret, struct error *reterr)
{
    struct decoding d = {.arena = a, .command = ret, .reterr = reterr};
    struct slice json = frame, data = SLICE_NONE;
    *ret = (struct command){0};
    if (binary) {
        enum err err = split_binary(frame, &json, &data, reterr);
        if (err != OK)
            return err;
    }
    *ret = (struct command){
        .data = data,
        .data_type = binary ? DATA_BINARY : DATA_JSON,
        .limit = LIMIT_DEFAULT,
        .echo = true,
    };
    enum err err = json_members(json, names, MEMBERS, d.values, reterr);
    if (err == OK)
        err = read_type(&d);
    if (err == OK)
        err = read_members(&d);
    if (err != OK)
        salvage(d.values, a, ret);
    return err;
}

enum err native_decode_members(enum command_kind kind, struct slice object, struct arena *a, struct command *ret,
                               struct error *reterr)
{
    struct decoding d = {.arena = a, .command = ret, .reterr = reterr};
    *ret = (struct command){.kind = kind, .limit = LIMIT_DEFAULT, .echo = true};
    enum err err = json_members(object, names, MEMBERS, d.values, reterr);
    d.values[ID] = (struct json_value){0};
    return err != OK ? err : read_members(&d);
}
