/* tests/unit/test_socketio.c: Engine.IO and Socket.IO packets, against the rules of the official parsers and docs/socketio.md. */
#include "base/mem.h"
#include "gateway/protocol/socketio.h"
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

/* --- packets in --- */

static void engine_packets(void **state)
{
    static const char *const bad[] = {"", "7", "x", "/", " 4"};
    struct eio_packet p;
    struct error error;
    (void)state;
    assert_int_equal(eio_revision(SLICE("4")), EIO_4);
    assert_int_equal(eio_revision(SLICE("3")), EIO_3);
    assert_int_equal(eio_revision(SLICE("abc")), EIO_3);
    assert_int_equal(eio_revision(SLICE_NONE), EIO_3);
    assert_int_equal(eio_parse(EIO_4, SLICE("42[\"a\"]"), false, &p, &error), OK);
    assert_int_equal(p.type, EIO_MESSAGE);
    assert_slice(p.data, "2[\"a\"]");
    assert_int_equal(eio_parse(EIO_3, SLICE("2probe"), false, &p, &error), OK);
    assert_int_equal(p.type, EIO_PING);
    assert_slice(p.data, "probe");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(eio_parse(EIO_4, slice_str(bad[i]), false, &p, &error), ERR_BAD_REQUEST);
    assert_int_equal(eio_parse(EIO_4, SLICE("\4xy"), true, &p, &error), OK);
    assert_slice(p.data, "\4xy");
    assert_int_equal(eio_parse(EIO_3, SLICE("\4xy"), true, &p, &error), OK);
    assert_slice(p.data, "xy");
    assert_int_equal(eio_parse(EIO_3, SLICE("xy"), true, &p, &error), ERR_BAD_REQUEST);
    assert_int_equal(eio_parse(EIO_3, SLICE_NONE, true, &p, &error), ERR_BAD_REQUEST);
}

static struct sio_packet parsed(const char *text)
{
    struct sio_packet p = {0};
    struct error error;
    if (sio_parse(slice_str(text), &p, &error) != OK)
        fail_msg("%s: %s", text, error.text);
    return p;
}

static void packets_are_taken_apart(void **state)
{
    (void)state;
    struct sio_packet p = parsed("0");
    assert_int_equal(p.type, SIO_CONNECT);
    assert_slice(p.nsp, "/");
    p = parsed("0/admin");
    assert_slice(p.nsp, "/admin");
    p = parsed("0/admin?token=1&x=2,");
    assert_slice(p.nsp, "/admin");
    assert_slice(p.query, "token=1&x=2");
    p = parsed("0/admin,{\"token\":\"t\"}");
    assert_slice(p.payload, "{\"token\":\"t\"}");
    p = parsed("1/admin,");
    assert_int_equal(p.type, SIO_DISCONNECT);
    p = parsed("2[\"a\",1]");
    assert_int_equal(p.type, SIO_EVENT);
    assert_slice(p.id, "");
    assert_slice(p.event.raw, "\"a\"");
    p = parsed("2/n,12[3]");
    assert_slice(p.nsp, "/n");
    assert_slice(p.id, "12");
    assert_slice(p.payload, "[3]");
    assert_int_equal(p.event.kind, JSON_KIND_NUMBER);
    p = parsed("2007[\"a\"]");
    assert_slice(p.id, "7");
    p = parsed("200[\"a\"]");
    assert_slice(p.id, "0");
    p = parsed("30[]");
    assert_int_equal(p.type, SIO_ACK);
    p = parsed("52-/n,7[\"b\",{\"_placeholder\":true,\"num\":1}]");
    assert_int_equal(p.attachment_count, 2);
    assert_slice(p.id, "7");
}

static void what_must_end_the_connection(void **state)
{
    static const char *const bad[] = {
        "", "7", "abc", "2", "2[]", "2{}", "2\"a\"", "2[{}]", "2[null]", "2[true]", "2[[]]", "2[\"a\"", "2[\"a\"]]",
        /* reserved */
        "2[\"connect\"]", "2[\"connect_error\"]", "2[\"disconnect\"]", "2[\"disconnecting\"]", "2[\"newListener\"]",
        "2[\"removeListener\",1]", "2[\"\\u0063onnect\"]",
        /* ids, attachments */
        "2abc[\"a\"]", "2-1[\"a\"]", "212345678901234567[\"a\"]", "5[\"a\"]", "5-[\"a\"]", "5x-[\"a\"]", "511-[\"a\"]",
        "54294967296-[\"a\"]", "51", "6-[]",
        /* payloads */
        "0[]", "0\"x\"", "1{}", "3{}", "3", "3\"x\"", "4{}", "4", "61-{}"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct sio_packet p;
        struct error error;
        if (sio_parse(slice_str(bad[i]), &p, &error) == OK)
            fail_msg("%s is taken for a packet", bad[i]);
    }
}

static void attachments_are_collected(void **state)
{
    struct sio_assembly a = {.max_bytes = 5};
    struct sio_packet p;
    struct error error;
    bool complete;
    (void)state;
    assert_int_equal(sio_assemble(&a, SLICE("x"), true, &complete, &p, &error), ERR_BAD_REQUEST);
    const struct slice text = SLICE("52-[\"a\",{\"_placeholder\":true,\"num\":1},[{\"num\":0,\"_placeholder\":true}]]");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sio_assemble(&a, text, false, &complete, &p, &error), OK);
        assert_false(complete);
        assert_int_equal(sio_assemble(&a, SLICE("123"), true, &complete, &p, &error), OK);
        assert_false(complete);
        assert_int_equal(sio_assemble(&a, SLICE("45"), true, &complete, &p, &error), OK);
        assert_true(complete);
        assert_slice(p.attachments[0], "123");
        assert_slice(p.attachments[1], "45");
        assert_slices_eq(p.payload, slice_from(text, 3));
    }
    assert_int_equal(sio_assemble(&a, text, false, &complete, &p, &error), OK);
    assert_int_equal(sio_assemble(&a, SLICE("2[\"a\"]"), false, &complete, &p, &error), ERR_BAD_REQUEST);
    assert_int_equal(sio_assemble(&a, SLICE("123"), true, &complete, &p, &error), OK);
    assert_int_equal(sio_assemble(&a, SLICE("456"), true, &complete, &p, &error), ERR_TOO_LARGE);
    sio_assembly_fini(&a);
    assert_int_equal(
        sio_assemble(&a, SLICE("51-[\"a\",{\"_placeholder\":true,\"num\":1}]"), false, &complete, &p, &error), OK);
    assert_int_equal(sio_assemble(&a, SLICE("1"), true, &complete, &p, &error), ERR_BAD_REQUEST);
    sio_assembly_fini(&a);
    assert_int_equal(sio_assemble(&a, SLICE("50-[\"a\"]"), false, &complete, &p, &error), OK);
    assert_true(complete);
    sio_assembly_fini(&a);
}

static void placeholders_are_checked_however_deep(void **state)
{
    (void)state;
    assert_true(sio_placeholders_valid(SLICE("[\"{\\\"_placeholder\\\":true}\",{\"num\":9}]"), 0));
    assert_true(sio_placeholders_valid(SLICE("[{\"_placeholder\":false,\"num\":9}]"), 0));
    assert_true(sio_placeholders_valid(SLICE("[{\"a\":[{\"b\":{\"_placeholder\":true,\"num\":1}}]}]"), 2));
    assert_false(sio_placeholders_valid(SLICE("[{\"a\":[{\"b\":{\"_placeholder\":true,\"num\":2}}]}]"), 2));
    assert_false(sio_placeholders_valid(SLICE("[{\"\\u005fplaceholder\":true,\"num\":2}]"), 2));
    assert_false(sio_placeholders_valid(SLICE("[{\"_placeholder\":true,\"num\":-1}]"), 2));
    assert_false(sio_placeholders_valid(SLICE("[{\"_placeholder\":true,\"num\":0.5}]"), 2));
    assert_false(sio_placeholders_valid(SLICE("[{\"_placeholder\":true}]"), 2));
    assert_false(sio_placeholders_valid(SLICE("[{\"_placeholder\":false,\"_placeholder\":true,\"num\":9}]"), 2));
}

/* --- events in --- */

static struct command verb(const char *text, enum command_kind kind)
{
    struct command c;
    struct error error;
    const struct sio_packet p = parsed(text);
    if (sio_decode_verb(&p, kind, &arena, &c, &error) != OK)
        fail_msg("%s: %s", text, error.text);
    assert_int_equal(c.kind, kind);
    return c;
}

static void room_verbs(void **state)
{
    (void)state;
    struct command c = verb("27[\"join\",{\"room\":\"lobby\",\"position\":\"1.Qn4wXk2_\",\"id\":{}}]", CMD_JOIN);
    assert_slice(c.id, "7");
    assert_slice(c.room, "lobby");
    assert_true(c.has_position);
    c = verb("2[\"enter\",\"\\u5927\\u5385\"]", CMD_JOIN);
    assert_slice(c.room, "\xe5\xa4\xa7\xe5\x8e\x85");
    c = verb("2[\"publish\",{\"room\":\"r\",\"event\":\"e\",\"data\":[1, 2],\"key\":\"k\",\"echo\":false}]",
             CMD_PUBLISH);
    assert_slice(c.data, "[1, 2]");
    assert_slice(c.key, "k");
    assert_false(c.echo);
    c = verb("2[\"publish\",\"r\",\"e\",{\"a\":1}]", CMD_PUBLISH);
    assert_slice(c.room, "r");
    assert_slice(c.event, "e");
    assert_slice(c.data, "{\"a\":1}");
    assert_true(c.echo);
    c = verb("2[\"publish\",\"r\",\"e\",1,2]", CMD_PUBLISH);
    assert_slice(c.data, "{\"$args\":[1,2]}");
    c = verb("2[\"broadcast\",\"e\"]", CMD_BROADCAST);
    assert_slice(c.event, "e");
    assert_slice(c.data, "{\"$args\":[]}");
    c = verb("2[\"history\",\"r\"]", CMD_HISTORY);
    assert_int_equal(c.limit, 100);
    (void)verb("2[\"ping\"]", CMD_PING);
    c = verb("2[\"send\",{\"to\":{\"user\":\"u\"},\"data\":1}]", CMD_SEND);
    assert_slice(c.to_user, "u");
}

static void verbs_that_are_wrong(void **state)
{
    static const struct {
        const char *text;
        enum command_kind kind;
        enum err err;
    } cases[] = {
        {"29[\"join\"]", CMD_JOIN, ERR_BAD_REQUEST},
        {"29[\"join\",7]", CMD_JOIN, ERR_BAD_REQUEST},
        {"29[\"join\",\"\"]", CMD_JOIN, ERR_INVALID_NAME},
        {"29[\"join\",\"$all\"]", CMD_JOIN, ERR_INVALID_NAME},
        {"29[\"publish\",\"r\"]", CMD_PUBLISH, ERR_BAD_REQUEST},
        {"29[\"publish\",\"r\",3]", CMD_PUBLISH, ERR_BAD_REQUEST},
        {"29[\"publish\",{\"room\":\"r\"}]", CMD_PUBLISH, ERR_BAD_REQUEST},
        {"29[\"send\",\"u\"]", CMD_SEND, ERR_BAD_REQUEST},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct sio_packet p = parsed(cases[i].text);
        struct command c;
        struct error error;
        enum err err = sio_decode_verb(&p, cases[i].kind, &arena, &c, &error);
        if (err != cases[i].err)
            fail_msg("%s: %s", cases[i].text, err_name(err));
        assert_slice(c.id, "9");
    }
}

static struct command message(const char *text, const char *one, const char *two)
{
    struct sio_packet p = parsed(text);
    struct command c;
    struct error error;
    p.attachments[0] = slice_str(one);
    p.attachments[1] = slice_str(two);
    assert_int_equal(sio_decode_message(&p, &arena, &c, &error), OK);
    return c;
}

static void arguments_become_data(void **state)
{
    (void)state;
    struct command c = message("21[\"e\", {\"a\" : 1} ]", NULL, NULL);
    assert_slice(c.event, "e");
    assert_slice(c.id, "1");
    assert_slice(c.data, "{\"a\" : 1}");
    assert_int_equal(c.data_type, DATA_JSON);
    c = message("2[5]", NULL, NULL);
    assert_slice(c.event, "5");
    assert_slice(c.data, "{\"$args\":[]}");
    c = message("2[\"e\", {\"$args\":[1]}]", NULL, NULL);
    assert_slice(c.data, "{\"$args\":[{\"$args\":[1]}]}"); /* else it would be taken for arguments */
    c = message("51-[\"e\",{\"_placeholder\":true,\"num\":0}]", "bytes", NULL);
    assert_slice(c.data, "bytes");
    assert_int_equal(c.data_type, DATA_BINARY);
    c = message("51-[\"e\",{\"_placeholder\":true,\"num\":0},2]", "a", NULL);
    assert_slice(c.data, "{\"$args\":[{\"_placeholder\":true,\"num\":0},2],\"$attachments\":[\"YQ==\"]}");
    assert_int_equal(c.data_type, DATA_JSON);
    c = message("52-[\"e\",[{\"_placeholder\":true,\"num\":1}]]", "", "abc");
    assert_slice(c.data, "{\"$args\":[[{\"_placeholder\":true,\"num\":1}]],\"$attachments\":[\"\",\"YWJj\"]}");
}

/* --- out --- */

static struct buf out;

static const char *encoded(enum eio_revision revision, const char *nsp, const struct event *e)
{
    struct sio_protocol *p = sio_protocol_create(revision, slice_str(nsp), false);
    buf_clear(&out);
    p->ops.encode(&p->ops, e, &out);
    free(p);
    buf_append_char(&out, '\0');
    return out.p;
}

/* Short frames only: two bytes of header, then the payload. */
#define expect_text(revision, nsp, event, want)                                                                        \
    do {                                                                                                               \
        const char *got_ = encoded((revision), (nsp), (event));                                                        \
        assert_int_equal((unsigned char)got_[0], 0x81);                                                                \
        assert_int_equal(got_[1], sizeof(want) - 1);                                                                   \
        assert_slice(((struct slice){got_ + 2, sizeof(want) - 1}), want);                                              \
    } while (0)

static const struct position position = {41, "Qn4wXk2_"};

static struct event told(const char *name, const char *data)
{
    return (struct event){.kind = EVENT_MESSAGE,
                          .room = SLICE("r"),
                          .name = slice_str(name),
                          .sid = SLICE("s"),
                          .data = slice_str(data),
                          .position = &position};
}

static void messages_are_events(void **state)
{
    (void)state;
    struct event e = told("chat", "{\"a\":1}");
    expect_text(EIO_4, "/", &e, "42[\"chat\",{\"a\":1}]");
    expect_text(EIO_3, "/admin", &e, "42/admin,[\"chat\",{\"a\":1}]");
    e = told("", "1");
    expect_text(EIO_4, "/", &e, "42[\"message\",1]");
    e = told("connect", "1");
    expect_text(EIO_4, "/", &e, "42[\"$connect\",1]");
    e = told("error", "1");
    expect_text(EIO_4, "/", &e, "42[\"error\",1]");
    expect_text(EIO_3, "/", &e, "42[\"$error\",1]");
    e = told("e", "{\"$args\":[1, \"b\"]}");
    expect_text(EIO_4, "/", &e, "42[\"e\",1, \"b\"]");
    e = told("e", " {\"$args\":[]}");
    expect_text(EIO_4, "/", &e, "42[\"e\", {\"$args\":[]}]");
    e = told("e", "{ \"$args\" : [ ] }");
    expect_text(EIO_4, "/", &e, "42[\"e\"]");
    e = told("e", "{\"$args\":7}");
    expect_text(EIO_4, "/", &e, "42[\"e\",{\"$args\":7}]");
}

static void bytes_are_attachments(void **state)
{
    struct event e = told("e", "\1\2");
    (void)state;
    e.data_type = DATA_BINARY;
    expect_text(EIO_4, "/n", &e, "451-/n,[\"e\",{\"_placeholder\":true,\"num\":0}]");
    assert_slices_eq(slice_from(buf_slice(&out), out.n - 5), SLICE("\x82\2\1\2\0"));
    expect_text(EIO_3, "/", &e, "451-[\"e\",{\"_placeholder\":true,\"num\":0}]");
    assert_slices_eq(slice_from(buf_slice(&out), out.n - 6), SLICE("\x82\3\4\1\2\0"));
    e = told("e", "{\"$args\":[{\"_placeholder\":true,\"num\":0},2],\"$attachments\":[\"YWI=\"]}");
    expect_text(EIO_4, "/", &e, "451-[\"e\",{\"_placeholder\":true,\"num\":0},2]");
    assert_slices_eq(slice_from(buf_slice(&out), out.n - 5), SLICE("\x82\2ab\0"));
}

/* One bad message must not end the connections of a whole room. */
static void wrong_attachments_are_plain_data(void **state)
{
    static const char *const wrong[] = {
        "{\"$args\":[{\"_placeholder\":true,\"num\":1}],\"$attachments\":[\"YWI=\"]}",
        "{\"$args\":[0],\"$attachments\":[\"YWI\"]}",
        "{\"$args\":[0],\"$attachments\":[\"YW_=\"]}",
        "{\"$args\":[0],\"$attachments\":[\"YWJ=\"]}",
        "{\"$args\":[0],\"$attachments\":7}",
        "{\"$args\":[0],\"$attachments\":[7]}",
        "{\"$args\":[0],\"$attachments\":[\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\"]}",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct event e = told("e", wrong[i]);
        const char *got = encoded(EIO_4, "/", &e);
        assert_memory_equal(got + 2, "42[\"e\",{\"$args\"", 15);
        assert_int_equal(out.n, 2 + strlen("42[\"e\",]") + strlen(wrong[i]) + 1);
    }
}

static void life_of_a_namespace(void **state)
{
    (void)state;
    struct event e = {.kind = EVENT_WELCOME, .sid = SLICE("abc"), .token = SLICE("secret")};
    expect_text(EIO_4, "/", &e, "40{\"sid\":\"abc\"}");
    expect_text(EIO_4, "/n", &e, "40/n,{\"sid\":\"abc\"}");
    expect_text(EIO_3, "/", &e, "40");
    expect_text(EIO_3, "/n", &e, "40/n,");
    e = (struct event){.kind = EVENT_ERROR, .err = ERR_FORBIDDEN, .text = SLICE("no"), .before_welcome = true};
    expect_text(EIO_4, "/n", &e,
                "44/n,{\"message\":\"no\",\"data\":{\"type\":\"error\",\"code\":\"forbidden\",\"message\":\"no\"}}");
    expect_text(EIO_3, "/n", &e, "44/n,\"no\"");
    e.before_welcome = false;
    expect_text(EIO_4, "/", &e, "42[\"$error\",{\"type\":\"error\",\"code\":\"forbidden\",\"message\":\"no\"}]");
    e.id = SLICE("3");
    expect_text(EIO_4, "/n", &e, "43/n,3[{\"type\":\"error\",\"code\":\"forbidden\",\"message\":\"no\"}]");
    e = (struct event){.kind = EVENT_GOODBYE, .text = SLICE("draining"), .before_welcome = true};
    (void)encoded(EIO_4, "/", &e);
    assert_int_equal(out.n, 1);
    e = (struct event){.kind = EVENT_ACK, .id = SLICE("0"), .room = SLICE("r"), .position = &position};
    expect_text(EIO_4, "/", &e, "430[{\"type\":\"ack\",\"room\":\"r\",\"position\":\"41.Qn4wXk2_\"}]");
    e.id = SLICE_NONE;
    (void)encoded(EIO_4, "/", &e);
    assert_int_equal(out.n, 1);
    /* what a backend answers */
    e = (struct event){.kind = EVENT_ACK, .id = SLICE("7"), .data = SLICE("{\"a\":1}")};
    expect_text(EIO_4, "/n", &e, "43/n,7[{\"a\":1}]");
    e.data = SLICE("{\"$args\":[null,{\"_placeholder\":true,\"num\":0}],\"$attachments\":[\"YWI=\"]}");
    expect_text(EIO_4, "/", &e, "461-7[null,{\"_placeholder\":true,\"num\":0}]");
    assert_slices_eq(slice_from(buf_slice(&out), out.n - 5), SLICE("\x82\2ab\0"));
    e = (struct event){.kind = EVENT_LEFT, .room = SLICE("r"), .text = SLICE("kicked")};
    expect_text(EIO_3, "/", &e, "42[\"$left\",{\"type\":\"left\",\"room\":\"r\",\"reason\":\"kicked\"}]");
    buf_clear(&out);
    sio_unknown_namespace_append(&out, EIO_4, SLICE("/random"));
    assert_slices_eq(slice_from(buf_slice(&out), 2), SLICE("44/random,{\"message\":\"Invalid namespace\"}"));
    buf_clear(&out);
    sio_disconnect_append(&out, SLICE("/"));
    assert_slices_eq(slice_from(buf_slice(&out), 2), SLICE("41"));
}

static void a_past_message_is_told_with_everything(void **state)
{
    struct event e = told("chat", "1");
    (void)state;
    e.id = SLICE("5");
    const char *got = encoded(EIO_4, "/", &e) + 2;
    assert_non_null(strstr(got, "42[\"$history\",{\"type\":\"message\",\"room\":\"r\",\"position\":\"41.Qn4wXk2_\""));
    assert_non_null(strstr(got, "\"data\":1}]"));
    e.data = SLICE("\1");
    e.data_type = DATA_BINARY;
    got = encoded(EIO_3, "/", &e) + 4;
    assert_non_null(strstr(got, "451-[\"$history\","));
    assert_slices_eq(slice_from(buf_slice(&out), out.n - 5), SLICE("\x82\2\4\1\0"));
}

static void open_packet(void **state)
{
    (void)state;
    buf_clear(&out);
    eio_open_append(&out, &(struct eio_open){SLICE("abc"), 300, 200, 1000000, false});
    assert_slices_eq(slice_from(buf_slice(&out), 2), SLICE("0{\"sid\":\"abc\",\"upgrades\":[],\"pingInterval\":300,"
                                                           "\"pingTimeout\":200,\"maxPayload\":1000000}"));
    buf_clear(&out);
    eio_refusal_append(&out, EIO_UNKNOWN_SID);
    assert_slices_eq(buf_slice(&out), SLICE("{\"code\":1,\"message\":\"Session ID unknown\"}"));
}

static int free_out(void **state)
{
    (void)state;
    buf_fini(&out);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(engine_packets),
        cmocka_unit_test(packets_are_taken_apart),
        cmocka_unit_test(what_must_end_the_connection),
        cmocka_unit_test(attachments_are_collected),
        cmocka_unit_test(placeholders_are_checked_however_deep),
        cmocka_unit_test_setup_teardown(room_verbs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(verbs_that_are_wrong, set_up, tear_down),
        cmocka_unit_test_setup_teardown(arguments_become_data, set_up, tear_down),
        cmocka_unit_test(messages_are_events),
        cmocka_unit_test(bytes_are_attachments),
        cmocka_unit_test(wrong_attachments_are_plain_data),
        cmocka_unit_test(life_of_a_namespace),
        cmocka_unit_test(a_past_message_is_told_with_everything),
        cmocka_unit_test(open_packet),
    };
    return cmocka_run_group_tests(tests, NULL, free_out);
}
