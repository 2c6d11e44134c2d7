/* tests/unit/test_wafer.c: what tunnels say, how their business servers sign, and the file that says whose they are. */
#include "base/mem.h"
#include "gateway/protocol/wafer.h"
#include "gateway/protocol/websocket.h"
#include "gateway/tenants.h"
#include "gateway/webhook/signature.h"
#include "tests/support/check.h"

/* --- packets --- */

static void check_packet(const char *text, enum wafer_type type, const char *content)
{
    struct wafer_packet p;
    wafer_read(slice_str(text), &p);
    assert_int_equal(p.type, type);
    assert_slice(p.content, content);
}

static void reads_packets(void **state)
{
    (void)state;
    check_packet("message:{\"type\":\"speak\",\"content\":\"a:b\"}", WAFER_MESSAGE,
                 "{\"type\":\"speak\",\"content\":\"a:b\"}");
    check_packet("message:just words", WAFER_MESSAGE, "just words");
    check_packet("message", WAFER_MESSAGE, "");
    check_packet("message:", WAFER_MESSAGE, "");
    check_packet("close", WAFER_CLOSE, "");
    check_packet("close:now", WAFER_CLOSE, "");
    check_packet("ping", WAFER_PING, "");
    check_packet("pong", WAFER_PONG, "");
    check_packet("", WAFER_UNKNOWN, "");
    check_packet(":", WAFER_UNKNOWN, "");
    check_packet("messages:{}", WAFER_UNKNOWN, "");
    struct slice answer = SLICE_NONE;
    assert_true(protocol_wafer.heartbeat(SLICE("ping"), false, &answer));
    assert_slice(answer, "pong");
    assert_false(protocol_wafer.heartbeat(SLICE("ping"), true, &answer));
    assert_false(protocol_wafer.heartbeat(SLICE("pings"), false, &answer));
}

static void check_encoded(const struct event *e, const char *want)
{
    struct buf b = BUF_INIT;
    protocol_wafer.encode(&protocol_wafer, e, &b);
    if (want == NULL) {
        assert_int_equal(b.n, 0);
    } else {
        assert_true(b.n > 2 && (uint8_t)b.p[0] == 0x81);
        assert_slice(slice_from(buf_slice(&b), (uint8_t)b.p[1] < 126 ? 2 : 4), want);
    }
    buf_fini(&b);
}

static void tells_clients(void **state)
{
    (void)state;
    check_encoded(&(struct event){.kind = EVENT_WELCOME, .heartbeat_s = 25}, "timeout:25");
    check_encoded(&(struct event){.kind = EVENT_MESSAGE, .name = SLICE("sp\"eak"), .data = SLICE("{\"a\":1}")},
                  "message:{\"type\":\"sp\\\"eak\",\"content\":{\"a\":1}}");
    check_encoded(&(struct event){.kind = EVENT_MESSAGE, .data = SLICE("1")},
                  "message:{\"type\":\"message\",\"content\":1}");
    check_encoded(&(struct event){.kind = EVENT_MESSAGE, .data = SLICE("\0\377"), .data_type = DATA_BINARY},
                  "message:{\"type\":\"message\",\"content\":\"AP8=\",\"binary\":true}");
    check_encoded(&(struct event){.kind = EVENT_MESSAGE, .data_type = DATA_BINARY},
                  "message:{\"type\":\"message\",\"content\":\"\",\"binary\":true}");
    check_encoded(&(struct event){.kind = EVENT_GOODBYE, .text = SLICE("kicked")}, "close");
    check_encoded(&(struct event){.kind = EVENT_GOODBYE, .text = SLICE("kicked"), .reconnect_after_ms = 1}, NULL);
    check_encoded(&(struct event){.kind = EVENT_GOODBYE, .text = SLICE("draining")}, NULL);
    check_encoded(&(struct event){.kind = EVENT_GOODBYE, .text = SLICE("idle")}, NULL);
    for (int kind = EVENT_ENTER; kind < EVENTS; kind++)
        if (kind != EVENT_GOODBYE)
            check_encoded(&(struct event){.kind = (enum event_kind)kind, .text = SLICE("x")}, NULL);
}

static void checks_contents(void **state)
{
    struct error error;
    (void)state;
    assert_int_equal(wafer_check_content(SLICE("{\"type\":\"x\"}"), &error), OK);
    assert_int_not_equal(wafer_check_content(SLICE("\"x\""), &error), OK);
    assert_int_not_equal(wafer_check_content(SLICE("{\"x\":1"), &error), OK);
    assert_int_not_equal(wafer_check_content(SLICE("{} "
                                                   "{}"),
                                             &error),
                         OK);
    assert_int_not_equal(wafer_check_content(SLICE("{\"x\":\"\377\"}"), &error), OK);
    assert_int_not_equal(wafer_check_content(SLICE_NONE, &error), OK);
}

/* --- signatures --- */

static void signs_as_sdks_do(void **state)
{
    char text[WAFER_SIGNATURE_LEN + 1], id[WAFER_ID_LEN + 1];
    (void)state;
    wafer_sign(SLICE("ab"), SLICE("c"), text);
    assert_string_equal(text, "a9993e364706816aba3e25717850c26c9cd0d89d"); /* FIPS 180-1: of "abc" */
    assert_true(wafer_signed(SLICE("a"), SLICE("bc"), slice_str(text)));
    text[39] = 'e';
    assert_false(wafer_signed(SLICE("a"), SLICE("bc"), slice_str(text)));
    assert_false(wafer_signed(SLICE("a"), SLICE("bc"), SLICE("")));
    assert_true(wafer_id(SLICE("abc"), id));
    assert_string_equal(id, "900150983cd24fb0d6963f7d28e17f72"); /* RFC 1321 */
    assert_true(wafer_key_is(SLICE("key"), SLICE("key")));
    assert_false(wafer_key_is(SLICE("kez"), SLICE("key")));
}

/* --- tenants --- */

#define GOOD                                                                                                           \
    "\"name\":\"chat\",\"server_host\":\"abc\",\"keys\":[\"12345678\",\"abcdefgh\"],\"receive_urls\":[\"https://"      \
    "a.example/tunnel\",\"http://b.example:8080/x/*\"]"

static struct tenants *parse(const char *members)
{
    struct buf text = BUF_INIT;
    struct error error = {0};
    buf_printf(&text, "{\"tenants\":[{%s}]}", members);
    struct tenants *t = tenants_parse(buf_slice(&text), &error);
    if (t == NULL)
        assert_null(strstr(error.text, "12345678")); /* no key in what is logged */
    buf_fini(&text);
    return t;
}

static void reads_tenants(void **state)
{
    (void)state;
    struct tenants *t = parse(GOOD);
    const struct tenant *chat = tenants_find(t, SLICE("900150983cd24fb0d6963f7d28e17f72"));
    assert_non_null(chat);
    assert_null(tenants_find(t, SLICE("abc")));
    assert_true(chat->signatures);
    assert_int_equal(chat->packet_bytes, 65536);
    assert_true(tenant_may_receive(chat, SLICE("https://a.example/tunnel")));
    assert_true(tenant_may_receive(chat, SLICE("http://b.example:8080/x/y?z=1")));
    static const char *const no[] = {"https://a.example/tunnel2",
                                     "http://a.example/tunnel",
                                     "https://a.example:444/tunnel",
                                     "http://b.example:8080/x/../y",
                                     "http://b.example:8080/x/%2e%2e/y",
                                     "http://b.example:8080.evil.example/x/",
                                     "http://b.example/x/",
                                     ""};
    for (size_t i = 0; i < ARRAY_LEN(no); i++)
        assert_false(tenant_may_receive(chat, slice_str(no[i])));
    tenants_destroy(&t);
}

static void proves_a_key(void **state)
{
    (void)state;
    struct tenants *strict = parse(GOOD), *lax = parse(GOOD ",\"signatures\":false");
    const struct tenant *s = tenants_find(strict, SLICE("900150983cd24fb0d6963f7d28e17f72"));
    const struct tenant *l = tenants_find(lax, SLICE("900150983cd24fb0d6963f7d28e17f72"));
    char text[WAFER_SIGNATURE_LEN + 1];
    wafer_sign(SLICE("data"), SLICE("abcdefgh"), text);
    assert_string_equal(tenant_proved(s, SLICE("data"), slice_str(text), SLICE_NONE), "abcdefgh");
    assert_string_equal(tenant_proved(s, SLICE("data"), slice_str(text), SLICE("abcdefgh")), "abcdefgh");
    assert_null(tenant_proved(s, SLICE("data"), slice_str(text), SLICE("12345678")));
    assert_null(tenant_proved(s, SLICE("date"), slice_str(text), SLICE_NONE));
    assert_null(tenant_proved(s, SLICE("data"), SLICE_NONE, SLICE("abcdefgh")));
    assert_string_equal(tenant_proved(l, SLICE("data"), SLICE_NONE, SLICE("abcdefgh")), "abcdefgh");
    assert_null(tenant_proved(l, SLICE("data"), SLICE_NONE, SLICE("abcdefgi")));
    assert_null(tenant_proved(l, SLICE("data"), SLICE_NONE, SLICE_NONE));
    tenants_destroy(&strict);
    tenants_destroy(&lax);
}

static void refuses_bad_tenants(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "\"name\":\"\"",
        GOOD ",\"tc_id\":\"x\"",
        GOOD ",\"max_tunnel\":1",
        GOOD ",\"max_tunnels\":-1",
        GOOD ",\"packet_bytes\":\"1\"",
        GOOD ",\"signatures\":1",
        "\"name\":\"x\",\"server_host\":\"abc\",\"keys\":[\"1234567\"],\"receive_urls\":[\"https://a/\"]",
        "\"name\":\"x\",\"server_host\":\"abc\",\"keys\":[],\"receive_urls\":[\"https://a/\"]",
        "\"name\":\"x\",\"server_host\":\"abc\",\"keys\":[\"12345678\"],\"receive_urls\":[]",
        "\"name\":\"x\",\"server_host\":\"abc\",\"keys\":[\"12345678\"],\"receive_urls\":[\"https://a*\"]",
        "\"name\":\"x\",\"server_host\":\"abc\",\"keys\":[\"12345678\"],\"receive_urls\":[\"https://*/\"]",
        "\"name\":\"x\",\"server_host\":\"abc\",\"keys\":[\"12345678\"],\"receive_urls\":[\"https://a/*b\"]",
        "\"name\":\"x\",\"server_host\":\"abc\",\"keys\":[\"12345678\"],\"receive_urls\":[\"ftp://a/\"]",
        "\"name\":\"x\",\"tc_id\":\"a b\",\"keys\":[\"12345678\"],\"receive_urls\":[\"https://a/\"]",
        GOOD "},{" GOOD};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct tenants *t = parse(bad[i]);
        if (t != NULL)
            print_error("taken: %s\n", bad[i]);
        assert_null(t);
    }
    struct error error;
    assert_null(tenants_parse(SLICE("{\"tenants\":[]}"), &error));
    assert_null(tenants_parse(SLICE("{\"tenants\":[{\"keys\":[\"12345678\" \"x\"]}]}"), &error));
    assert_null(strstr(error.text, "12345678"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_packets),       cmocka_unit_test(tells_clients), cmocka_unit_test(checks_contents),
        cmocka_unit_test(signs_as_sdks_do),    cmocka_unit_test(reads_tenants), cmocka_unit_test(proves_a_key),
        cmocka_unit_test(refuses_bad_tenants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
