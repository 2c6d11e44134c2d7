/* tests/unit/test_native.c: decoding the native protocol, against docs/protocol.md. */
#include "base/mem.h"
#include "gateway/protocol/protocol.h"
#include "tests/support/check.h"

static struct arena arena;

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, 65536);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_reset(&arena);
    return 0;
}

static struct command decoded(struct slice frame, bool binary)
{
    struct command c;
    struct error error;
    if (protocol_native.decode(frame, binary, &arena, &c, &error) != OK)
        fail_msg("%.*s: %s", SLICE_FMT(frame), error.text);
    return c;
}

static void decodes_every_command(void **state)
{
    (void)state;
    struct command c =
        decoded(SLICE("{\"type\":\"join\",\"id\":\"1\",\"room\":\"lobby\",\"position\":\"1.Qn4wXk2_\"}"), false);
    assert_int_equal(c.kind, CMD_JOIN);
    assert_slice(c.id, "\"1\"");
    assert_slice(c.room, "lobby");

    c = decoded(SLICE("{\"type\":\"leave\",\"room\":\"lobby\",\"id\":-1.50e3}"), false);
    assert_int_equal(c.kind, CMD_LEAVE);
    assert_slice(c.id, "-1.50e3");
    assert_slice(c.room, "lobby");

    c = decoded(SLICE("{\"type\":\"publish\",\"room\":\"r\",\"data\": {\"a\" : [1] } "
                      ",\"event\":\"chat\",\"key\":\"aZ09_.:-\",\"echo\":false}"),
                false);
    assert_int_equal(c.kind, CMD_PUBLISH);
    assert_slice(c.id, "");
    assert_slice(c.data, "{\"a\" : [1] }");
    assert_int_equal(c.data_type, DATA_JSON);
    assert_slice(c.event, "chat");
    assert_slice(c.key, "aZ09_.:-");
    assert_false(c.echo);

    c = decoded(SLICE("{\"type\":\"send\",\"to\":{\"user\":\"\xe7\x8e\x8b\",\"x\":1},\"data\":null}"), false);
    assert_int_equal(c.kind, CMD_SEND);
    assert_slice(c.to_user, "\xe7\x8e\x8b");
    assert_slice(c.to_session, "");
    assert_slice(c.data, "null");
    assert_slice(c.event, "");
    c = decoded(SLICE("{\"type\":\"send\",\"to\":{\"session\":\"Qn4w-_\"},\"data\":\"x\"}"), false);
    assert_slice(c.to_session, "Qn4w-_");
    assert_slice(c.to_user, "");

    c = decoded(SLICE("{\"type\":\"call\",\"id\":1,\"event\":\"add\",\"room\":\"r\",\"data\":[1]}"), false);
    assert_int_equal(c.kind, CMD_CALL);
    assert_slice(c.event, "add");
    assert_slice(c.room, "r");
    assert_slice(c.data, "[1]");
    c = decoded(SLICE("{\"type\":\"broadcast\",\"data\":0}"), false);
    assert_int_equal(c.kind, CMD_BROADCAST);
    assert_slice(c.data, "0");

    c = decoded(SLICE("{\"type\":\"presence\",\"room\":\"r\",\"cursor\":\"17\",\"limit\":1000}"), false);
    assert_int_equal(c.kind, CMD_PRESENCE);
    assert_slice(c.cursor, "17");
    assert_int_equal(c.limit, 1000);

    c = decoded(SLICE("{\"type\":\"ping\"}"), false);
    assert_int_equal(c.kind, CMD_PING);
}

static void fills_in_defaults(void **state)
{
    (void)state;
    struct command c = decoded(SLICE("{\"data\":[],\"room\":\"r\",\"type\":\"publish\"}"), false);
    assert_slice(c.event, "");
    assert_true(c.echo);
    assert_int_equal(c.key.n + c.id.n + c.to_user.n + c.to_session.n + c.cursor.n, 0);
    c = decoded(SLICE("{\"type\":\"presence\",\"room\":\"r\"}"), false);
    assert_int_equal(c.limit, 100);
}

static void ignores_what_a_command_does_not_take(void **state)
{
    (void)state;
    /* Wrong types in members that do not concern it. */
    struct command c = decoded(
        SLICE(
            "{\"type\":\"ping\",\"room\":5,\"key\":[],\"limit\":-1,\"to\":0,\"data\":1,\"what\":{\"type\":\"join\"}}"),
        false);
    assert_int_equal(c.kind, CMD_PING);
    assert_int_equal(c.room.n + c.data.n, 0);
}

static void unescapes_names_and_leaves_data_as_it_is(void **state)
{
    (void)state;
    struct command c = decoded(SLICE("{\"t\\u0079pe\":\"p\\u0075blish\",\"id\":\"\\u0041\",\"room\":"
                                     "\"\\u4e2d\\uD83D\\uDE00\",\"data\":\"\\u0041\\n\"}"),
                               false);
    assert_int_equal(c.kind, CMD_PUBLISH);
    assert_slice(c.id, "\"\\u0041\"");
    assert_slice(c.room, "\xe4\xb8\xad\xf0\x9f\x98\x80");
    assert_slice(c.data, "\"\\u0041\\n\"");
}

static void decodes_binary_frames(void **state)
{
    (void)state;
    struct command c = decoded(SLICE("{\"type\":\"publish\",\"room\":\"r\"}\0\x01\0\xff"), true);
    assert_int_equal(c.data_type, DATA_BINARY);
    assert_slices_eq(c.data, SLICE("\x01\0\xff"));
    c = decoded(SLICE("{\"type\":\"broadcast\",\"event\":\"e\"}\0"), true);
    assert_int_equal(c.data.n, 0);
    c = decoded(SLICE("{\"type\":\"send\",\"to\":{\"user\":\"u\"}}\0{}"), true);
    assert_slice(c.data, "{}");
}

#define LONG64  "0123456789012345678901234567890123456789012345678901234567890123"
#define LONG128 LONG64 LONG64
#define LONG255 LONG128 LONG64 "012345678901234567890123456789012345678901234567890123456789012"

static void limits_are_inclusive(void **state)
{
    (void)state;
    assert_int_equal(decoded(SLICE("{\"type\":\"join\",\"room\":\"" LONG255 "\"}"), false).room.n, NAME_MAX_ROOM);
    assert_int_equal(
        decoded(SLICE("{\"type\":\"broadcast\",\"data\":1,\"event\":\"" LONG128 "\",\"key\":\"" LONG64 "\"}"), false)
            .key.n,
        NAME_MAX_KEY);
    assert_int_equal(
        decoded(SLICE("{\"type\":\"send\",\"data\":1,\"to\":{\"user\":\"" LONG128 "\"}}"), false).to_user.n,
        NAME_MAX_USER);
    assert_int_equal(decoded(SLICE("{\"type\":\"ping\",\"id\":\"" LONG64 "\"}"), false).id.n, NAME_MAX_ID);
}

static void positions_are_read(void **state)
{
    struct arena own;
    struct command c;
    struct error error;
    (void)state;
    arena_init(&own, 4096);
    assert_int_equal(protocol_native.decode(SLICE("{\"type\":\"join\",\"room\":\"r\",\"position\":\"7.Qn4wXk2_\"}"),
                                            false, &own, &c, &error),
                     OK);
    assert_true(c.has_position && c.seen.at.offset == 7);
    assert_string_equal(c.seen.at.tag, "Qn4wXk2_");
    assert_int_equal(
        protocol_native.decode(
            SLICE(
                "{\"type\":\"resume\",\"session\":\"s\",\"token\":\"t\",\"positions\":[ {\"room\":"
                "\"a\",\"position\":\"1.-bcdefg_\"} , {\"start\":\"5.abcdefgh\",\"position\":\"0\",\"room\":\"b]\"}]}"),
            false, &own, &c, &error),
        OK);
    assert_int_equal(c.position_count, 2);
    assert_slice(c.positions[0].room, "a");
    assert_slice(c.positions[1].room, "b]");
    assert_int_equal(c.positions[1].seen.at.offset, 0);
    assert_int_equal(c.positions[0].seen.start, 0);
    assert_int_equal(c.positions[1].seen.start, 5);
    arena_reset(&own);
}

static const struct {
    struct slice frame;
    bool binary;
    enum err err;
    const char *text, *id, *room;
} failures[] = {
    /* not JSON, or not an object */
    {SLICE(""), false, ERR_BAD_REQUEST, "not valid JSON: '{' expected at byte 0", "", ""},
    {SLICE("hello"), false, ERR_BAD_REQUEST, "not valid JSON: '{' expected at byte 0", "", ""},
    {SLICE("[]"), false, ERR_BAD_REQUEST, "'{' expected", "", ""},
    {SLICE("{\"id\":1,\"room\":\"r\",\"type\":\"join\""), false, ERR_BAD_REQUEST, "',' or '}' expected at byte 32", "1",
     "r"},
    {SLICE("{\"id\":1,\"type\":\"join\",\"type\":\"join\",\"room\":\"r\"}"), false, ERR_BAD_REQUEST,
     "member given twice at byte 22", "1", ""},
    {SLICE("{\"type\":\"ping\"} {}"), false, ERR_BAD_REQUEST, "bytes after the value", "", ""},
    /* type */
    {SLICE("{\"id\":\"x\",\"room\":\"r\"}"), false, ERR_BAD_REQUEST, "member \"type\" is missing", "\"x\"", "r"},
    {SLICE("{\"id\":\"x\",\"type\":7}"), false, ERR_BAD_REQUEST, "member \"type\" must be a string", "\"x\"", ""},
    {SLICE("{\"id\":\"x\",\"type\":\"\",\"room\":\"r\"}"), false, ERR_UNKNOWN_TYPE, "no such \"type\" (0 bytes)",
     "\"x\"", "r"},
    {SLICE("{\"id\":2,\"type\":\"Join\",\"room\":\"$x\"}"), false, ERR_UNKNOWN_TYPE, "no such \"type\" (4 bytes)", "2",
     ""},
    {SLICE("{\"id\":2,\"type\":\"welcome\"}"), false, ERR_UNKNOWN_TYPE, "no such \"type\"", "2", ""},
    {SLICE("{\"id\":3,\"type\":\"history\",\"room\":\"r\",\"after\":-1}"), false, ERR_BAD_REQUEST,
     "member \"after\" must be an offset", "3", "r"},
    {SLICE("{\"id\":3,\"type\":\"resume\"}"), false, ERR_BAD_REQUEST, "resume needs a member \"session\"", "3", ""},
    {SLICE("{\"id\":3,\"type\":\"resume\",\"session\":\"s\",\"token\":\"t\",\"positions\":{}}"), false, ERR_BAD_REQUEST,
     "member \"positions\" must be an array", "3", ""},
    {SLICE("{\"id\":3,\"type\":\"resume\",\"session\":\"s\",\"token\":\"t\",\"positions\":[1]}"), false,
     ERR_BAD_REQUEST, "an element of \"positions\" must be an object", "3", ""},
    {SLICE("{\"id\":3,\"type\":\"resume\",\"session\":\"s\",\"token\":\"t\",\"positions\":[{\"room\":\"r\","
           "\"position\":\"1\"}]}"),
     false, ERR_BAD_REQUEST, "\"position\" is not a position that was given out", "3", ""},
    {SLICE("{\"id\":3,\"type\":\"join\",\"room\":\"r\",\"position\":{\"offset\":1}}"), false, ERR_BAD_REQUEST,
     "member \"position\" must be a string", "3", "r"},
    {SLICE("{\"id\":3,\"type\":\"join\",\"room\":\"r\",\"position\":\"9007199254740993.abcdefgh1\"}"), false,
     ERR_INVALID_NAME, "\"position\" has 26 bytes, at most 25 allowed", "3", "r"},
    /* id */
    {SLICE("{\"type\":\"ping\",\"id\":null}"), false, ERR_BAD_REQUEST, "member \"id\" must be a string or a number", "",
     ""},
    {SLICE("{\"type\":\"ping\",\"id\":{}}"), false, ERR_BAD_REQUEST, "member \"id\" must be a string or a number", "",
     ""},
    {SLICE("{\"type\":\"join\",\"room\":\"r\",\"id\":\"" LONG64 "5\"}"), false, ERR_TOO_LARGE,
     "\"id\" has 67 bytes as written, at most 66", "", "r"},
    {SLICE("{\"type\":\"ping\",\"id\":1" LONG64 "56}"), false, ERR_TOO_LARGE,
     "\"id\" has 67 bytes as written, at most 66", "", ""},
    /* room */
    {SLICE("{\"type\":\"join\",\"id\":4}"), false, ERR_BAD_REQUEST, "join needs a member \"room\"", "4", ""},
    {SLICE("{\"type\":\"join\",\"id\":4,\"room\":null}"), false, ERR_BAD_REQUEST, "member \"room\" must be a string",
     "4", ""},
    {SLICE("{\"type\":\"join\",\"id\":4,\"room\":\"\"}"), false, ERR_INVALID_NAME, "\"room\" is empty", "4", ""},
    {SLICE("{\"type\":\"join\",\"room\":\"" LONG255 "5\"}"), false, ERR_INVALID_NAME,
     "\"room\" has 256 bytes, at most 255 allowed", "", ""},
    {SLICE("{\"type\":\"join\",\"room\":\"a\\u0000b\"}"), false, ERR_INVALID_NAME,
     "\"room\" contains a control character", "", ""},
    {SLICE("{\"type\":\"join\",\"room\":\"a\\n\"}"), false, ERR_INVALID_NAME, "\"room\" contains a control character",
     "", ""},
    {SLICE("{\"type\":\"join\",\"room\":\"a\x7f\"}"), false, ERR_INVALID_NAME, "\"room\" contains a control character",
     "", ""},
    {SLICE("{\"type\":\"join\",\"room\":\"a\\u0085\"}"), false, ERR_INVALID_NAME,
     "\"room\" contains a control character", "", ""},
    {SLICE("{\"type\":\"join\",\"room\":\"\\uD800\"}"), false, ERR_BAD_REQUEST, "a high surrogate without a low one",
     "", ""},
    {SLICE("{\"type\":\"join\",\"room\":\"$all\"}"), false, ERR_INVALID_NAME, "\"room\" begins with $", "", ""},
    {SLICE("{\"type\":\"leave\",\"room\":\"$user:bob\"}"), false, ERR_INVALID_NAME, "\"room\" begins with $", "", ""},
    {SLICE("{\"type\":\"publish\",\"room\":\"\\u0024all\",\"data\":1}"), false, ERR_INVALID_NAME,
     "\"room\" begins with $", "", ""},
    {SLICE("{\"type\":\"presence\",\"room\":\"$session:x\"}"), false, ERR_INVALID_NAME, "\"room\" begins with $", "",
     ""},
    {SLICE("{\"type\":\"leave\"}"), false, ERR_BAD_REQUEST, "leave needs a member \"room\"", "", ""},
    {SLICE("{\"type\":\"presence\"}"), false, ERR_BAD_REQUEST, "presence needs a member \"room\"", "", ""},
    {SLICE("{\"type\":\"publish\",\"data\":1}"), false, ERR_BAD_REQUEST, "publish needs a member \"room\"", "", ""},
    /* data */
    {SLICE("{\"type\":\"publish\",\"id\":5,\"room\":\"r\"}"), false, ERR_BAD_REQUEST, "publish needs a member \"data\"",
     "5", "r"},
    {SLICE("{\"type\":\"send\",\"to\":{\"user\":\"u\"}}"), false, ERR_BAD_REQUEST, "send needs a member \"data\"", "",
     ""},
    {SLICE("{\"type\":\"call\"}"), false, ERR_BAD_REQUEST, "call needs a member \"event\"", "", ""},
    {SLICE("{\"type\":\"broadcast\"}"), false, ERR_BAD_REQUEST, "broadcast needs a member \"data\"", "", ""},
    /* event, key, echo */
    {SLICE("{\"type\":\"broadcast\",\"data\":1,\"event\":1}"), false, ERR_BAD_REQUEST,
     "member \"event\" must be a string", "", ""},
    {SLICE("{\"type\":\"broadcast\",\"data\":1,\"event\":\"\"}"), false, ERR_INVALID_NAME, "\"event\" is empty", "",
     ""},
    {SLICE("{\"type\":\"broadcast\",\"data\":1,\"event\":\"\\u0007\"}"), false, ERR_INVALID_NAME,
     "\"event\" contains a control", "", ""},
    {SLICE("{\"type\":\"broadcast\",\"data\":1,\"event\":\"" LONG128 "8\"}"), false, ERR_INVALID_NAME,
     "\"event\" has 129 bytes, at most 128", "", ""},
    {SLICE("{\"type\":\"broadcast\",\"data\":1,\"key\":7}"), false, ERR_BAD_REQUEST, "member \"key\" must be a string",
     "", ""},
    {SLICE("{\"type\":\"broadcast\",\"data\":1,\"key\":\"\"}"), false, ERR_INVALID_NAME, "\"key\" is empty", "", ""},
    {SLICE("{\"type\":\"broadcast\",\"data\":1,\"key\":\"a b\"}"), false, ERR_INVALID_NAME,
     "\"key\": byte 1 is none of", "", ""},
    {SLICE("{\"type\":\"broadcast\",\"data\":1,\"key\":\"\xc3\xa9\"}"), false, ERR_INVALID_NAME,
     "\"key\": byte 0 is none of", "", ""},
    {SLICE("{\"type\":\"broadcast\",\"data\":1,\"key\":\"" LONG64 "x\"}"), false, ERR_INVALID_NAME,
     "\"key\" has 65 bytes, at most 64", "", ""},
    {SLICE("{\"type\":\"publish\",\"room\":\"r\",\"data\":1,\"echo\":1}"), false, ERR_BAD_REQUEST,
     "member \"echo\" must be true or false", "", "r"},
    /* to */
    {SLICE("{\"type\":\"send\",\"data\":1}"), false, ERR_BAD_REQUEST, "send needs a member \"to\"", "", ""},
    {SLICE("{\"type\":\"send\",\"data\":1,\"to\":\"bob\"}"), false, ERR_BAD_REQUEST, "member \"to\" must be an object",
     "", ""},
    {SLICE("{\"type\":\"send\",\"data\":1,\"to\":{}}"), false, ERR_BAD_REQUEST,
     "must have one of \"user\" and \"session\"", "", ""},
    {SLICE("{\"type\":\"send\",\"data\":1,\"to\":{\"user\":\"a\",\"session\":\"b\"}}"), false, ERR_BAD_REQUEST,
     "must have one of", "", ""},
    {SLICE("{\"type\":\"send\",\"data\":1,\"to\":{\"user\":\"a\",\"user\":\"b\"}}"), false, ERR_BAD_REQUEST,
     "member given twice", "", ""},
    {SLICE("{\"type\":\"send\",\"data\":1,\"to\":{\"user\":5}}"), false, ERR_BAD_REQUEST,
     "member \"user\" must be a string", "", ""},
    {SLICE("{\"type\":\"send\",\"data\":1,\"to\":{\"user\":\"\"}}"), false, ERR_INVALID_NAME, "\"user\" is empty", "",
     ""},
    {SLICE("{\"type\":\"send\",\"data\":1,\"to\":{\"user\":\"" LONG128 "8\"}}"), false, ERR_INVALID_NAME,
     "\"user\" has 129 bytes", "", ""},
    {SLICE("{\"type\":\"send\",\"data\":1,\"to\":{\"session\":\"a/b\"}}"), false, ERR_INVALID_NAME,
     "\"session\": byte 1 is none of", "", ""},
    /* presence */
    {SLICE("{\"type\":\"presence\",\"room\":\"r\",\"limit\":0}"), false, ERR_BAD_REQUEST,
     "\"limit\" must be an integer from 1 to 1000", "", "r"},
    {SLICE("{\"type\":\"presence\",\"room\":\"r\",\"limit\":1001}"), false, ERR_BAD_REQUEST,
     "\"limit\" must be an integer from 1", "", "r"},
    {SLICE("{\"type\":\"presence\",\"room\":\"r\",\"limit\":\"5\"}"), false, ERR_BAD_REQUEST,
     "\"limit\" must be an integer from 1", "", "r"},
    {SLICE("{\"type\":\"presence\",\"room\":\"r\",\"limit\":1.5}"), false, ERR_BAD_REQUEST,
     "\"limit\" must be an integer from 1", "", "r"},
    {SLICE("{\"type\":\"presence\",\"room\":\"r\",\"cursor\":3}"), false, ERR_BAD_REQUEST,
     "member \"cursor\" must be a string", "", "r"},
    /* binary */
    {SLICE("{\"type\":\"publish\",\"room\":\"r\"}"), true, ERR_BAD_REQUEST,
     "a binary frame of 29 bytes has no zero byte", "", ""},
    {SLICE(""), true, ERR_BAD_REQUEST, "a binary frame of 0 bytes has no zero byte", "", ""},
    {SLICE("\0data"), true, ERR_BAD_REQUEST, "'{' expected at byte 0", "", ""},
    {SLICE("{\"type\":\"publish\",\"room\":\"\xc3\"}\0data"), true, ERR_BAD_UTF8,
     "the JSON of a binary frame (29 bytes) is not UTF-8", "", ""},
    {SLICE("{\"id\":6,\"type\":\"publish\",\"room\":\"r\",\"data\":1}\0data"), true, ERR_BAD_REQUEST,
     "a binary frame has a member \"data\"", "6", "r"},
    {SLICE("{\"id\":6,\"type\":\"join\",\"room\":\"r\"}\0data"), true, ERR_BAD_REQUEST, "join cannot be a binary frame",
     "6", "r"},
    {SLICE("{\"id\":6,\"type\":\"ping\"}\0"), true, ERR_BAD_REQUEST, "ping cannot be a binary frame", "6", ""},
};

static void refuses_and_keeps_what_the_answer_needs(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(failures); i++) {
        struct command c;
        struct error error = {0};
        /* An exact copy, so that the address sanitizer sees a read past the end. */
        AUTO_FREE char *copy = xmalloc(failures[i].frame.n);
        memcpy(copy, failures[i].frame.p, failures[i].frame.n);
        enum err err =
            protocol_native.decode((struct slice){copy, failures[i].frame.n}, failures[i].binary, &arena, &c, &error);
        if (err != failures[i].err || error.code != err || strstr(error.text, failures[i].text) == NULL)
            fail_msg("%.*s\ngot  %s: %s\nwant %s: %s", SLICE_FMT(failures[i].frame), err_name(err), error.text,
                     err_name(failures[i].err), failures[i].text);
        assert_slice(c.id, failures[i].id);
        assert_slice(c.room, failures[i].room);
        arena_reset(&arena);
    }
}

static void refuses_more_escapes_than_the_arena_holds(void **state)
{
    struct arena small;
    struct command c;
    struct error error;
    (void)state;
    arena_init(&small, 64);
    assert_int_equal(protocol_native.decode(SLICE("{\"id\":8,\"type\":\"join\",\"room\":\"\\n" LONG128 "\"}"), false,
                                            &small, &c, &error),
                     ERR_TOO_LARGE);
    assert_slice(c.id, "8");
    arena_reset(&small);
}

static void heartbeats(void **state)
{
    static const char *const beats[] = {"ping", "0123456789abcdefping", "ABCDEFGHIJKLMNOPping", "pingpingpingpingping"};
    static const char *const others[] = {"",
                                         "pin",
                                         "Ping",
                                         "ping ",
                                         "pong",
                                         "xping",
                                         "0123456789abcdeping",
                                         "0123456789abcdef0ping",
                                         "0123456789abcde-ping",
                                         "0123456789abcdefpinG",
                                         "{\"type\":\"ping\"}"};
    struct slice answer;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(beats); i++) {
        answer = SLICE_NONE;
        assert_true(protocol_native.heartbeat(slice_str(beats[i]), false, &answer));
        assert_slice(answer, "pong");
        assert_false(protocol_native.heartbeat(slice_str(beats[i]), true, &answer));
    }
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        assert_false(protocol_native.heartbeat(slice_str(others[i]), false, &answer));
}

static void chooses_by_subprotocol(void **state)
{
    static const struct {
        const char *offered, *selected;
    } cases[] = {{"", ""},
                 {"xindao.v1.json", "xindao.v1.json"},
                 {" xindao.v1.json ", "xindao.v1.json"},
                 {"mqtt, xindao.v1.json", "xindao.v1.json"},
                 {"mqtt,\txindao.v1.json,x", "xindao.v1.json"},
                 {"mqtt", ""},
                 {",,", ""},
                 {"xindao.v1.jso", ""},
                 {"xindao.v1.json2", ""},
                 {"XINDAO.V1.JSON", ""}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct slice selected = SLICE("untouched");
        assert_ptr_equal(protocol_select(slice_str(cases[i].offered), &selected), &protocol_native);
        assert_slice(selected, cases[i].selected);
    }
    struct slice selected;
    assert_ptr_equal(protocol_select(SLICE_NONE, &selected), &protocol_native);
    assert_string_equal(command_name(CMD_PRESENCE), "presence");
}

#define test(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(decodes_every_command),
        test(fills_in_defaults),
        test(ignores_what_a_command_does_not_take),
        test(unescapes_names_and_leaves_data_as_it_is),
        test(decodes_binary_frames),
        test(limits_are_inclusive),
        test(positions_are_read),
        test(refuses_and_keeps_what_the_answer_needs),
        test(refuses_more_escapes_than_the_arena_holds),
        test(heartbeats),
        test(chooses_by_subprotocol),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
