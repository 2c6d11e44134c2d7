/* tests/fuzz/fuzz_native.c: whatever decodes has valid names, and comes out of the encoder as it went in. The first byte chooses text or binary. */
#include <assert.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/protocol/protocol.h"
#include "gateway/protocol/websocket.h"
#include "proto/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* The payload of the one server frame in b. */
static struct slice payload_of(const struct buf *b, enum ws_opcode opcode)
{
    size_t length = (uint8_t)b->p[1], header = 2;
    assert((uint8_t)b->p[0] == (0x80u | opcode));
    if (length >= 126) {
        size_t bytes = length == 126 ? 2 : 8;
        length = 0;
        for (header = 2; header < 2 + bytes; header++)
            length = length << 8 | (uint8_t)b->p[header];
    }
    assert(b->n == header + length);
    return slice_from(buf_slice(b), header);
}

static bool same_string(struct json_value v, struct slice want)
{
    struct arena a;
    struct error error;
    struct slice got;
    if (v.kind == JSON_KIND_NONE)
        return want.n == 0;
    arena_init(&a, 1 << 16);
    bool same = v.kind == JSON_KIND_STRING && json_unquote(v, &a, &got, &error) == OK && slice_eq(got, want);
    arena_reset(&a);
    return same;
}

enum { TYPE, ID, ROOM, EVENT, DATA, MESSAGE, COUNT };
static const char *const names[COUNT] = {"type", "id", "room", "event", "data", "message"};

/* Encodes e, takes the JSON apart; what follows the zero byte of a binary message is *ret_data. The caller frees *ret. */
static void encode(const struct event *e, struct buf *ret, struct json_value v[COUNT], struct slice *ret_data)
{
    bool binary = e->kind == EVENT_MESSAGE && e->data_type == DATA_BINARY;
    struct error error;
    protocol_native.encode(&protocol_native, e, ret);
    struct slice json = payload_of(ret, binary ? WS_BINARY : WS_TEXT);
    if (binary) {
        const char *border = memchr(json.p, '\0', json.n);
        assert(border != NULL);
        *ret_data = slice_from(json, (size_t)(border + 1 - json.p));
        json.n = (size_t)(border - json.p);
    }
    assert(utf8_valid(json));
    enum err err = json_members(json, names, COUNT, v, &error);
    assert(err == OK);
}

static void check_names(const struct command *c)
{
    assert(c->kind < COMMANDS && command_name(c->kind) != NULL);
    assert(c->id.n <= NAME_MAX_ID);
    assert(c->room.n == 0 || (utf8_name_valid(c->room, NAME_MAX_ROOM) && c->room.p[0] != '$'));
    assert(c->event.n == 0 || utf8_name_valid(c->event, NAME_MAX_EVENT));
    assert(c->to_user.n == 0 || utf8_name_valid(c->to_user, NAME_MAX_USER));
    assert(c->key.n <= NAME_MAX_KEY && c->to_session.n <= NAME_MAX_KEY);
    for (size_t i = 0; i < c->key.n; i++)
        assert(c->key.p[i] > ' ' && c->key.p[i] < 0x7f && c->key.p[i] != '/');
    assert(c->limit >= 1 && c->limit <= 1000);
    assert(c->kind != CMD_SEND || (c->to_user.n == 0) != (c->to_session.n == 0));
    bool in_room = c->kind == CMD_JOIN || c->kind == CMD_LEAVE || c->kind == CMD_PUBLISH || c->kind == CMD_PRESENCE ||
                   c->kind == CMD_HISTORY;
    assert(c->kind == CMD_CALL || (c->room.n != 0) == in_room);
}

static void check_position(const struct position *p)
{
    struct slice tag = slice_str(p->tag);
    assert(p->offset == 0 ? tag.n == 0 : tag_valid(tag));
}

static void check_positions(const struct command *c)
{
    assert(!c->has_position || c->kind == CMD_JOIN);
    assert((!c->has_after && !c->has_before) || c->kind == CMD_HISTORY);
    assert((c->session.n != 0 && c->token.n != 0) == (c->kind == CMD_RESUME));
    assert(c->position_count == 0 || (c->kind == CMD_RESUME && c->positions != NULL));
    check_position(&c->seen.at);
    for (size_t i = 0; i < c->position_count; i++) {
        assert(utf8_name_valid(c->positions[i].room, NAME_MAX_ROOM));
        check_position(&c->positions[i].seen.at);
    }
}

static void check_message(const struct command *c)
{
    static const struct position position = {7, "01234567"};
    struct event e = {.kind = EVENT_MESSAGE,
                      .room = c->room,
                      .name = c->event,
                      .data = c->data,
                      .data_type = c->data_type,
                      .sid = c->to_session,
                      .user = c->to_user,
                      .position = &position};
    struct json_value v[COUNT];
    struct buf b = BUF_INIT;
    struct slice data = SLICE_NONE;
    struct error error;
    if (c->data_type == DATA_JSON)
        assert(json_check(c->data, &error) == OK);
    encode(&e, &b, v, &data);
    assert(same_string(v[ROOM], c->room) && same_string(v[TYPE], SLICE("message")));
    assert(c->event.n == 0 ? v[EVENT].kind == JSON_KIND_NONE : same_string(v[EVENT], c->event));
    assert(slice_eq(c->data, c->data_type == DATA_BINARY ? data : v[DATA].raw));
    assert((c->data_type == DATA_BINARY) == (v[DATA].kind == JSON_KIND_NONE));
    buf_fini(&b);
}

/* An answer must carry the id as it was written. */
static void check_answer(const struct command *c, const struct error *error)
{
    struct event e = {.kind = error != NULL ? EVENT_ERROR : EVENT_ACK, .id = c->id, .room = c->room};
    struct json_value v[COUNT];
    struct buf b = BUF_INIT;
    struct slice ignored;
    if (error != NULL) {
        assert(error->code > OK && error->code < ERR_COUNT);
        e.err = error->code;
        e.text = slice_str(error->text);
        assert(utf8_valid(e.text) && e.text.n != 0); /* no payload of the peer in it */
    }
    encode(&e, &b, v, &ignored);
    assert(slice_eq(v[ID].raw, c->id));
    assert(same_string(v[ROOM], c->room));
    if (error != NULL)
        assert(same_string(v[MESSAGE], e.text));
    buf_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct arena a;
    struct command c;
    struct error error = {0};
    struct slice answer;
    if (n == 0)
        return 0;
    struct slice frame = {(const char *)p + 1, n - 1};
    bool binary = (p[0] & 1) != 0;
    if (!binary && !utf8_valid(frame))
        return 0; /* the WebSocket parser refuses it */
    if (protocol_native.heartbeat(frame, binary, &answer))
        assert(!binary && slice_eq(answer, SLICE("pong")) && (frame.n == 4 || frame.n == 20));
    arena_init(&a, 4096);
    if (protocol_native.decode(frame, binary, &a, &c, &error) == OK) {
        check_names(&c);
        check_positions(&c);
        assert(c.data_type == (binary ? DATA_BINARY : DATA_JSON));
        if (c.kind == CMD_PUBLISH || c.kind == CMD_SEND || c.kind == CMD_BROADCAST)
            check_message(&c);
        check_answer(&c, NULL);
    } else {
        check_answer(&c, &error);
    }
    arena_reset(&a);
    return 0;
}
