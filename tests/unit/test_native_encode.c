/* tests/unit/test_native_encode.c: encoding the native protocol, against docs/protocol.md. */
#include "base/mem.h"
#include "gateway/protocol/protocol.h"
#include "gateway/protocol/websocket.h"
#include "proto/json.h"
#include "tests/support/check.h"

/* The payload of the one frame in b. */
static struct slice payload_of(const struct buf *b, enum ws_opcode opcode)
{
    assert_true(b->n >= 2);
    assert_int_equal((uint8_t)b->p[0], 0x80 | opcode);
    size_t n = (uint8_t)b->p[1], header = 2;
    if (n == 126) {
        n = (size_t)(uint8_t)b->p[2] << 8 | (uint8_t)b->p[3];
        header = 4;
        assert_true(n > 125);
    } else if (n == 127) {
        n = 0;
        for (header = 2; header < 10; header++)
            n = n << 8 | (uint8_t)b->p[header];
        assert_true(n > 65535);
    }
    assert_int_equal(b->n, header + n);
    return (struct slice){b->p + header, n};
}

static void check_encoded(const struct event *e, const char *want)
{
    struct buf b = BUF_INIT;
    struct error error;
    protocol_native.encode(&protocol_native, e, &b);
    struct slice payload = payload_of(&b, WS_TEXT);
    assert_slice(payload, want);
    assert_int_equal(json_check(payload, &error), OK);
    buf_fini(&b);
}

static const struct position position = {42, "01234567"};

static void encodes_every_event(void **state)
{
    (void)state;
    check_encoded(&(struct event){.kind = EVENT_WELCOME,
                                  .sid = SLICE("Qn4w"),
                                  .token = SLICE("8kLd"),
                                  .user = SLICE("al\"ice"),
                                  .node = SLICE("gw1-5f3a9c"),
                                  .heartbeat_s = 25},
                  "{\"type\":\"welcome\",\"session\":\"Qn4w\",\"token\":\"8kLd\",\"user\":\"al\\\"ice\",\"node\":\"gw1-"
                  "5f3a9c\",\"heartbeat\":25,\"resume_window\":0}");
    check_encoded(&(struct event){.kind = EVENT_WELCOME,
                                  .sid = SLICE("s"),
                                  .token = SLICE("t"),
                                  .node = SLICE("n"),
                                  .heartbeat_s = 1,
                                  .resume_window_s = 60},
                  "{\"type\":\"welcome\",\"session\":\"s\",\"token\":\"t\",\"user\":null,\"node\":\"n\",\"heartbeat\":"
                  "1,\"resume_window\":60}");
    check_encoded(&(struct event){.kind = EVENT_MESSAGE,
                                  .room = SLICE("lob\nby"),
                                  .name = SLICE("chat"),
                                  .sid = SLICE("s1"),
                                  .user = SLICE("bob"),
                                  .data = SLICE("{ \"a\":1.0 }"),
                                  .position = &position,
                                  .time_ms = 1700000000123},
                  "{\"type\":\"message\",\"room\":\"lob\\nby\",\"position\":\"42.01234567\","
                  "\"event\":\"chat\",\"from\":{\"session\":\"s1\",\"user\":\"bob\"},\"time\":"
                  "1700000000123,\"data\":{ \"a\":1.0 }}");
    check_encoded(&(struct event){.kind = EVENT_MESSAGE,
                                  .room = SLICE("r"),
                                  .name = SLICE("e"),
                                  .sid = SLICE("s1"),
                                  .data = SLICE("null"),
                                  .position = &position},
                  "{\"type\":\"message\",\"room\":\"r\",\"position\":\"42.01234567\","
                  "\"event\":\"e\",\"from\":{\"session\":\"s1\"},\"time\":0,\"data\":null}");
    check_encoded(
        &(struct event){.kind = EVENT_MESSAGE, .room = SLICE("r"), .data = SLICE("{}"), .position = &position},
        "{\"type\":\"message\",\"room\":\"r\",\"position\":\"42.01234567\","
        "\"from\":null,\"time\":0,\"data\":{}}");
    check_encoded(
        &(struct event){
            .kind = EVENT_MESSAGE, .room = SLICE("r"), .name = SLICE("e"), .data = SLICE("[]"), .position = &position},
        "{\"type\":\"message\",\"room\":\"r\",\"position\":\"42.01234567\",\"event\":"
        "\"e\",\"from\":null,\"time\":0,\"data\":[]}");
    check_encoded(
        &(struct event){
            .kind = EVENT_ENTER, .room = SLICE("r"), .sid = SLICE("s"), .user = SLICE("u"), .total = 3, .time_ms = 5},
        "{\"type\":\"enter\",\"room\":\"r\",\"session\":\"s\",\"user\":\"u\",\"total\":3,\"time\":5}");
    check_encoded(&(struct event){.kind = EVENT_EXIT,
                                  .room = SLICE("r"),
                                  .sid = SLICE("s"),
                                  .total = 2,
                                  .time_ms = 6,
                                  .exit_reason = EXIT_NODE_LOST},
                  "{\"type\":\"exit\",\"room\":\"r\",\"session\":\"s\",\"user\":null,\"total\":2,\"time\":6,\"reason\":"
                  "\"node_lost\"}");
    check_encoded(
        &(struct event){
            .kind = EVENT_SUSPEND, .room = SLICE("r"), .sid = SLICE("s"), .user = SLICE("u"), .total = 2, .time_ms = 6},
        "{\"type\":\"suspend\",\"room\":\"r\",\"session\":\"s\",\"user\":\"u\",\"total\":2,\"time\":6}");
    check_encoded(&(struct event){.kind = EVENT_PONG, .id = SLICE("\"p\""), .time_ms = 99},
                  "{\"type\":\"pong\",\"id\":\"p\",\"time\":99}");
    check_encoded(&(struct event){.kind = EVENT_PONG, .time_ms = 99}, "{\"type\":\"pong\",\"time\":99}");
    check_encoded(&(struct event){.kind = EVENT_GOODBYE, .text = SLICE("draining"), .reconnect_after_ms = 1500},
                  "{\"type\":\"goodbye\",\"reason\":\"draining\",\"reconnect_after\":1500}");
    check_encoded(&(struct event){.kind = EVENT_EXPIRING, .expires_s = 1700000600, .total = 30},
                  "{\"type\":\"expiring\",\"expires\":1700000600,\"in\":30}");
}

static void encodes_acks(void **state)
{
    static const struct position head = {0, ""};
    const struct event_member members[] = {{SLICE("s1"), SLICE("u1"), 1000, false},
                                           {SLICE("s2"), SLICE_NONE, 2000, true}};
    (void)state;
    check_encoded(&(struct event){.kind = EVENT_ACK, .id = SLICE("7")}, "{\"type\":\"ack\",\"id\":7}");
    check_encoded(&(struct event){.kind = EVENT_ACK, .id = SLICE("7"), .data = SLICE("[1, 2]")},
                  "{\"type\":\"ack\",\"id\":7,\"data\":[1, 2]}");
    check_encoded(&(struct event){.kind = EVENT_ERROR,
                                  .id = SLICE("7"),
                                  .err = ERR_BACKEND_UNAVAILABLE,
                                  .text = SLICE("why"),
                                  .reconnect_after_ms = 750},
                  "{\"type\":\"error\",\"id\":7,\"code\":\"backend_unavailable\",\"message\":\"why\",\"retry\":true,"
                  "\"retry_after\":750}");
    check_encoded(
        &(struct event){
            .kind = EVENT_ACK, .id = SLICE("7"), .room = SLICE("r"), .position = &head, .total = 1, .has_total = true},
        "{\"type\":\"ack\",\"id\":7,\"room\":\"r\",\"position\":\"0\",\"total\":1}");
    check_encoded(&(struct event){.kind = EVENT_ACK, .id = SLICE("7"), .room = SLICE("r"), .position = &position},
                  "{\"type\":\"ack\",\"id\":7,\"room\":\"r\",\"position\":\"42.01234567\"}");
    check_encoded(
        &(struct event){.kind = EVENT_ACK, .id = SLICE("7"), .room = SLICE("r"), .position = &position, .replicas = 2},
        "{\"type\":\"ack\",\"id\":7,\"room\":\"r\",\"position\":\"42.01234567\","
        "\"replicas\":2}");
    check_encoded(&(struct event){.kind = EVENT_ACK,
                                  .id = SLICE("7"),
                                  .room = SLICE("r"),
                                  .total = 2,
                                  .has_total = true,
                                  .members = members,
                                  .member_count = 2,
                                  .next = SLICE("c9")},
                  "{\"type\":\"ack\",\"id\":7,\"room\":\"r\",\"total\":2,\"members\":[{\"session\":\"s1\",\"user\":"
                  "\"u1\",\"since\":1000,\"state\":\"active\"},"
                  "{\"session\":\"s2\",\"user\":null,\"since\":2000,\"state\":\"suspended\"}],\"next\":\"c9\"}");
    check_encoded(
        &(struct event){
            .kind = EVENT_ACK, .room = SLICE("r"), .has_total = true, .members = members, .member_count = 0},
        "{\"type\":\"ack\",\"room\":\"r\",\"total\":0,\"members\":[]}");
}

static void encodes_errors(void **state)
{
    (void)state;
    check_encoded(
        &(struct event){.kind = EVENT_ERROR, .err = ERR_BAD_REQUEST, .text = SLICE("member \"room\" must be a string")},
        "{\"type\":\"error\",\"code\":\"bad_request\",\"message\":\"member \\\"room\\\" must be a string\"}");
    check_encoded(&(struct event){.kind = EVENT_ERROR,
                                  .id = SLICE("\"a\""),
                                  .err = ERR_UNAVAILABLE,
                                  .text = SLICE("no store"),
                                  .room = SLICE("r")},
                  "{\"type\":\"error\",\"id\":\"a\",\"code\":\"unavailable\",\"message\":\"no "
                  "store\",\"retry\":true,\"room\":\"r\"}");
    /* A sentence cut inside a character. */
    check_encoded(&(struct event){.kind = EVENT_ERROR, .err = ERR_INTERNAL, .text = SLICE("room \xe4\xb8")},
                  "{\"type\":\"error\",\"code\":\"internal\",\"message\":\"room \"}");
}

static void encodes_binary_messages(void **state)
{
    struct buf b = BUF_INIT;
    (void)state;
    buf_append_str(&b, "before");
    size_t at = b.n;
    protocol_native.encode(&protocol_native,
                           &(struct event){.kind = EVENT_MESSAGE,
                                           .room = SLICE("r"),
                                           .name = SLICE("e"),
                                           .data = SLICE("\0\xff\0"),
                                           .data_type = DATA_BINARY,
                                           .position = &position,
                                           .time_ms = 1},
                           &b);
    assert_memory_equal(b.p, "before", at);
    struct buf frame = {b.p + at, b.n - at, 0};
    assert_slices_eq(payload_of(&frame, WS_BINARY),
                     SLICE("{\"type\":\"message\",\"room\":\"r\",\"position\":\"42.01234567\","
                           "\"event\":\"e\",\"from\":null,\"time\":1}\0"
                           "\0\xff\0"));
    buf_fini(&b);
}

/* The length field changes size with the data; every size around the borders must come out whole. */
static void frames_of_every_size(void **state)
{
    static const size_t ranges[][2] = {{0, 700}, {64800, 65700}, {70000, 70002}, {1 << 20, (1 << 20) + 1}};
    struct buf data = BUF_INIT;
    (void)state;
    buf_append_char(&data, '"');
    while (data.n < (1 << 20) + 16)
        buf_append_char(&data, (char)('a' + data.n % 26));
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
        for (size_t n = ranges[i][0]; n <= ranges[i][1]; n++) {
            struct buf b = BUF_INIT;
            struct event e = {.kind = EVENT_MESSAGE,
                              .room = SLICE("r"),
                              .name = SLICE("e"),
                              .data = {data.p, n},
                              .position = &position};
            protocol_native.encode(&protocol_native, &e, &b);
            struct slice payload = payload_of(&b, WS_TEXT);
            assert_true(payload.n > n + 1);
            assert_memory_equal(payload.p + payload.n - n - 8, "\"data\":", 7);
            if (n != 0)
                assert_memory_equal(payload.p + payload.n - n - 1, data.p, n);
            assert_int_equal(payload.p[payload.n - 1], '}');
            buf_fini(&b);
        }
    }
    buf_fini(&data);
}

static void what_is_published_arrives_byte_for_byte(void **state)
{
    static const char *const values[] = {"0.10",           "-0",
                                         "\"\\u00e9\\/\"", "{\"b\":1,\"a\":2,\"b\":3}",
                                         "[ 1 ,\t2 ]",     "\"\xf0\x9f\x98\x80\"",
                                         "1e999",          "12345678901234567890123"};
    struct arena arena;
    (void)state;
    arena_init(&arena, 65536);
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        struct buf frame = BUF_INIT, out = BUF_INIT;
        buf_printf(&frame, "{\"type\":\"publish\",\"room\":\"r\",\"data\":  %s  }", values[i]);
        struct command c;
        struct error error;
        assert_int_equal(protocol_native.decode(buf_slice(&frame), false, &arena, &c, &error), OK);
        assert_slice(c.data, values[i]);
        protocol_native.encode(
            &protocol_native,
            &(struct event){
                .kind = EVENT_MESSAGE, .room = c.room, .name = c.event, .data = c.data, .position = &position},
            &out);
        static const char *const names[] = {"data"};
        struct json_value v;
        assert_int_equal(json_members(payload_of(&out, WS_TEXT), names, 1, &v, &error), OK);
        assert_slice(v.raw, values[i]);
        buf_fini(&frame);
        buf_fini(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodes_every_event),  cmocka_unit_test(encodes_acks),
        cmocka_unit_test(encodes_errors),       cmocka_unit_test(encodes_binary_messages),
        cmocka_unit_test(frames_of_every_size), cmocka_unit_test(what_is_published_arrives_byte_for_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
