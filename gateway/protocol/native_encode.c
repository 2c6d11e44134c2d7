/* gateway/protocol/native_encode.c: what clients are told in xindao.v1.json. The message path copies bytes and digits, nothing else; what a message has
 * not (a user, the name of an event) it does not carry, because every byte of it is sealed and sent to every member. */
#include "base/utf8.h"
#include "gateway/protocol/frame.h"
#include "gateway/protocol/native.h"
#include "proto/json.h"

/* What a message needs around its data: members, a position, two ids. Only a hint to reserve once. */
#define FRAME_ROOM 512

#define APPEND(b, literal) buf_append((b), SLICE(literal))

/* label is the member with its colon and what stands before it: `,"room":`. */
static void put_string(struct buf *b, struct slice label, struct slice s)
{
    buf_append(b, label);
    json_quote(b, s);
}

static void put_string_or_null(struct buf *b, struct slice label, struct slice s)
{
    if (s.n != 0) {
        put_string(b, label, s);
        return;
    }
    buf_append(b, label);
    APPEND(b, "null");
}

static void put_number(struct buf *b, struct slice label, uint64_t v)
{
    buf_append(b, label);
    buf_append_u64(b, v);
}

static void put_position(struct buf *b, const struct position *p)
{
    if (p == NULL)
        return;
    APPEND(b, ",\"position\":\"");
    position_append(b, p);
    APPEND(b, "\"");
}

static void put_id(struct buf *b, struct slice id)
{
    if (id.n == 0)
        return;
    APPEND(b, ",\"id\":");
    buf_append(b, id);
}

static void put_room(struct buf *b, struct slice room)
{
    if (room.n != 0)
        put_string(b, SLICE(",\"room\":"), room);
}

static void put_expires(struct buf *b, uint64_t expires_s)
{
    if (expires_s != 0)
        put_number(b, SLICE(",\"expires\":"), expires_s);
}

static void encode_welcome(const struct event *e, struct buf *b)
{
    APPEND(b, "{\"type\":\"welcome\"");
    put_id(b, e->id);
    put_string(b, SLICE(",\"session\":"), e->sid);
    put_string(b, SLICE(",\"token\":"), e->token);
    put_string_or_null(b, SLICE(",\"user\":"), e->user);
    put_string(b, SLICE(",\"node\":"), e->node);
    put_number(b, SLICE(",\"heartbeat\":"), e->heartbeat_s);
    put_number(b, SLICE(",\"resume_window\":"), e->resume_window_s);
    put_expires(b, e->expires_s);
    buf_append(b, e->resumed ? SLICE(",\"resumed\":true}") : SLICE("}"));
}

static void encode_token(const struct event *e, struct buf *b)
{
    APPEND(b, "{\"type\":\"token\"");
    put_string(b, SLICE(",\"token\":"), e->token);
    put_string(b, SLICE(",\"user\":"), e->user);
    put_expires(b, e->expires_s);
    APPEND(b, "}");
}

static void encode_message(const struct event *e, struct buf *b)
{
    APPEND(b, "{\"type\":\"message\"");
    put_id(b, e->id);
    put_string(b, SLICE(",\"room\":"), e->room);
    put_position(b, e->position);
    if (e->name.n != 0)
        put_string(b, SLICE(",\"event\":"), e->name);
    if (e->sid.n != 0) {
        put_string(b, SLICE(",\"from\":{\"session\":"), e->sid);
        if (e->user.n != 0)
            put_string(b, SLICE(",\"user\":"), e->user);
        APPEND(b, "}");
    } else {
        APPEND(b, ",\"from\":null");
    }
    put_number(b, SLICE(",\"time\":"), e->time_ms);
    if (e->data_type == DATA_JSON) {
        APPEND(b, ",\"data\":");
        buf_append(b, e->data);
        APPEND(b, "}");
    } else {
        buf_append(b, (struct slice){"}\0", 2});
        buf_append(b, e->data);
    }
}

static void put_presence(const struct event *e, struct slice head, struct buf *b)
{
    put_string(b, head, e->room);
    put_string(b, SLICE(",\"session\":"), e->sid);
    put_string_or_null(b, SLICE(",\"user\":"), e->user);
    put_number(b, SLICE(",\"total\":"), e->total);
    put_number(b, SLICE(",\"time\":"), e->time_ms);
}

static void encode_enter(const struct event *e, struct buf *b)
{
    put_presence(e, SLICE("{\"type\":\"enter\",\"room\":"), b);
    APPEND(b, "}");
}

static void encode_exit(const struct event *e, struct buf *b)
{
    put_presence(e, SLICE("{\"type\":\"exit\",\"room\":"), b);
    put_string(b, SLICE(",\"reason\":"), slice_str(exit_reason_name(e->exit_reason)));
    APPEND(b, "}");
}

static void encode_suspend(const struct event *e, struct buf *b)
{
    put_presence(e, SLICE("{\"type\":\"suspend\",\"room\":"), b);
    APPEND(b, "}");
}

static void put_member(struct buf *b, const struct event_member *m)
{
    put_string(b, SLICE("{\"session\":"), m->sid);
    put_string_or_null(b, SLICE(",\"user\":"), m->user);
    put_number(b, SLICE(",\"since\":"), m->since_ms);
    buf_append(b, m->suspended ? SLICE(",\"state\":\"suspended\"}") : SLICE(",\"state\":\"active\"}"));
}

static void put_time(struct buf *b, struct slice label, uint64_t ms)
{
    if (ms != 0)
        put_number(b, label, ms);
}

static void put_user(struct buf *b, struct slice label, const struct event_user *u)
{
    static const struct slice states[USER_STATES] = {
        [USER_OFFLINE] = {"offline", 7}, [USER_SUSPENDED] = {"suspended", 9}, [USER_ONLINE] = {"online", 6}};
    put_string(b, label, u->user);
    put_string(b, SLICE(",\"state\":"), states[u->state]);
    put_number(b, SLICE(",\"sessions\":"), u->sessions);
    put_time(b, SLICE(",\"since\":"), u->since_ms);
    put_time(b, SLICE(",\"seen\":"), u->seen_ms);
    APPEND(b, "}");
}

static void put_users(struct buf *b, const struct event *e)
{
    APPEND(b, ",\"users\":[");
    for (size_t i = 0; i < e->user_count; i++)
        put_user(b, i == 0 ? SLICE("{\"user\":") : SLICE(",{\"user\":"), &e->users[i]);
    APPEND(b, "]");
}

static void encode_status(const struct event *e, struct buf *b)
{
    put_user(b, SLICE("{\"type\":\"status\",\"user\":"), e->users);
}

static void encode_read(const struct event *e, struct buf *b)
{
    put_string(b, SLICE("{\"type\":\"read\",\"room\":"), e->room);
    put_position(b, e->position);
    put_number(b, SLICE(",\"time\":"), e->time_ms);
    APPEND(b, "}");
}

static void encode_watching(const struct event *e, struct buf *b)
{
    APPEND(b, "{\"type\":\"watching\"");
    put_users(b, e);
    APPEND(b, "}");
}

static void encode_ack(const struct event *e, struct buf *b)
{
    APPEND(b, "{\"type\":\"ack\"");
    put_id(b, e->id);
    put_room(b, e->room);
    put_position(b, e->position);
    if (e->stored)
        APPEND(b, ",\"stored\":true");
    if (e->replicas != 0)
        put_number(b, SLICE(",\"replicas\":"), e->replicas);
    if (e->has_total)
        put_number(b, SLICE(",\"total\":"), e->total);
    if (e->members != NULL) {
        APPEND(b, ",\"members\":[");
        for (size_t i = 0; i < e->member_count; i++) {
            if (i != 0)
                APPEND(b, ",");
            put_member(b, &e->members[i]);
        }
        APPEND(b, "]");
    }
    if (e->users != NULL)
        put_users(b, e);
    if (e->next.n != 0)
        put_string(b, SLICE(",\"next\":"), e->next);
    if (e->data.n != 0) {
        APPEND(b, ",\"data\":");
        buf_append(b, e->data);
    }
    put_expires(b, e->expires_s);
    if (e->has_more)
        buf_append(b, e->more ? SLICE(",\"more\":true") : SLICE(",\"more\":false"));
    APPEND(b, "}");
}

/* Sentences are built with a fixed size, so their last character may be cut; the end goes until the rest is UTF-8. */
static struct slice whole_characters(struct slice s)
{
    while (s.n > 0 && !utf8_valid(s))
        s.n--;
    return s;
}

static void put_ban(const struct event *e, struct buf *b)
{
    put_string_or_null(b, SLICE(",\"reason\":"), e->reason);
    if (e->until_ms != 0)
        put_number(b, SLICE(",\"until\":"), e->until_ms);
    else
        APPEND(b, ",\"until\":null");
}

static void encode_error(const struct event *e, struct buf *b)
{
    APPEND(b, "{\"type\":\"error\"");
    put_id(b, e->id);
    put_string(b, SLICE(",\"code\":"), slice_str(err_name(e->err)));
    put_string(b, SLICE(",\"message\":"), whole_characters(e->text));
    if (err_retry(e->err))
        APPEND(b, ",\"retry\":true");
    if (e->reconnect_after_ms != 0)
        put_number(b, SLICE(",\"retry_after\":"), e->reconnect_after_ms);
    if (e->err == ERR_BANNED)
        put_ban(e, b);
    put_room(b, e->room);
    APPEND(b, "}");
}

static void encode_pong(const struct event *e, struct buf *b)
{
    APPEND(b, "{\"type\":\"pong\"");
    put_id(b, e->id);
    put_number(b, SLICE(",\"time\":"), e->time_ms);
    APPEND(b, "}");
}

static void encode_goodbye(const struct event *e, struct buf *b)
{
    put_string(b, SLICE("{\"type\":\"goodbye\",\"reason\":"), e->text);
    put_number(b, SLICE(",\"reconnect_after\":"), e->reconnect_after_ms);
    APPEND(b, "}");
}

static void encode_recovered(const struct event *e, struct buf *b)
{
    put_string(b, SLICE("{\"type\":\"recovered\",\"room\":"), e->room);
    buf_append(b, e->recovered ? SLICE(",\"recovered\":true") : SLICE(",\"recovered\":false"));
    if (!e->recovered)
        put_string(b, SLICE(",\"reason\":"), e->text);
    put_position(b, e->position);
    put_number(b, SLICE(",\"total\":"), e->total);
    APPEND(b, "}");
}

static void encode_joined(const struct event *e, struct buf *b)
{
    put_string(b, SLICE("{\"type\":\"joined\",\"room\":"), e->room);
    put_position(b, e->position);
    put_number(b, SLICE(",\"total\":"), e->total);
    APPEND(b, "}");
}

static void encode_left(const struct event *e, struct buf *b)
{
    put_string(b, SLICE("{\"type\":\"left\",\"room\":"), e->room);
    put_string(b, SLICE(",\"reason\":"), e->text);
    APPEND(b, "}");
}

static void encode_expiring(const struct event *e, struct buf *b)
{
    APPEND(b, "{\"type\":\"expiring\"");
    put_expires(b, e->expires_s);
    put_number(b, SLICE(",\"in\":"), e->total);
    APPEND(b, "}");
}

static void (*const encoders[EVENTS])(const struct event *e, struct buf *b) = {
    [EVENT_TOKEN] = encode_token,     [EVENT_WELCOME] = encode_welcome,     [EVENT_MESSAGE] = encode_message,
    [EVENT_ENTER] = encode_enter,     [EVENT_EXIT] = encode_exit,           [EVENT_SUSPEND] = encode_suspend,
    [EVENT_ACK] = encode_ack,         [EVENT_ERROR] = encode_error,         [EVENT_PONG] = encode_pong,
    [EVENT_GOODBYE] = encode_goodbye, [EVENT_RECOVERED] = encode_recovered, [EVENT_JOINED] = encode_joined,
    [EVENT_LEFT] = encode_left,       [EVENT_STATUS] = encode_status,       [EVENT_WATCHING] = encode_watching,
    [EVENT_READ] = encode_read,       [EVENT_EXPIRING] = encode_expiring,
};

void native_encode(const struct event *e, struct buf *ret)
{
    bool binary = e->kind == EVENT_MESSAGE && e->data_type == DATA_BINARY;
    struct frame f = frame_begin(ret, FRAME_ROOM + e->data.n);
    encoders[e->kind](e, ret);
    frame_end(ret, f, binary ? WS_BINARY : WS_TEXT);
}

void native_encode_json(const struct event *e, struct buf *ret)
{
    encoders[e->kind](e, ret);
}
