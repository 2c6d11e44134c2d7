/* tests/unit/test_net_proxy.c: PROXY protocol headers, and counting clients by address. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/table.h"
#include "gateway/net/peers.h"
#include "gateway/net/proxy.h"
#include "tests/support/check.h"

static const char *const names[] = {
    [PROXY_DONE] = "done", [PROXY_MORE] = "more", [PROXY_NONE] = "none", [PROXY_BAD] = "bad"};

static void v1_headers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum proxy_result result;
        const char *ip; /* NULL: local */
        uint16_t port;
    } cases[] = {
        {"PROXY TCP4 203.0.113.7 10.0.0.1 51234 443\r\nGET /", PROXY_DONE, "203.0.113.7", 51234},
        {"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", PROXY_DONE, "2001:db8::1", 1},
        {"PROXY UNKNOWN\r\n", PROXY_DONE, NULL, 0},
        {"PROXY UNKNOWN ffff::1 whatever 1 2\r\n", PROXY_DONE, NULL, 0},
        {"PROXY TCP4 203.0.113.7 10.0.0.1 51234 443\r", PROXY_MORE, NULL, 0},
        {"PRO", PROXY_MORE, NULL, 0},
        {"GET / HTTP/1.1\r\n", PROXY_NONE, NULL, 0},
        {"PUT / HTTP/1.1\r\n", PROXY_NONE, NULL, 0},
        {"\x16\x03\x01", PROXY_NONE, NULL, 0},
        {"PROXY TCP4 203.0.113.7 10.0.0.1 51234 443\n", PROXY_BAD, NULL, 0},
        {"PROXY TCP5 203.0.113.7 10.0.0.1 51234 443\r\n", PROXY_BAD, NULL, 0},
        {"PROXY TCP4 2001:db8::1 10.0.0.1 51234 443\r\n", PROXY_BAD, NULL, 0},
        {"PROXY TCP4 203.0.113.7 10.0.0.1 70000 443\r\n", PROXY_BAD, NULL, 0},
        {"PROXY TCP4 203.0.113.7 10.0.0.1 051 443\r\n", PROXY_BAD, NULL, 0},
        {"PROXY TCP4 203.0.113.7 10.0.0.1 51234\r\n", PROXY_BAD, NULL, 0},
        {"PROXY TCP4 203.0.113.7  10.0.0.1 51234 443\r\n", PROXY_BAD, NULL, 0},
        {"PROXY TCP4 203.0.113.7 10.0.0.1 51234 443 9\r\n", PROXY_BAD, NULL, 0},
        {"PROXY \r\n", PROXY_BAD, NULL, 0},
        {"PROXY TCP4 "
         "111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111",
         PROXY_BAD, NULL, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct proxy_header h;
        const char *why = "";
        enum proxy_result r = proxy_parse(cases[i].text, strlen(cases[i].text), &h, &why);
        if (r != cases[i].result)
            fail_msg("%s: %s (%s)", cases[i].text, names[r], why);
        if (r != PROXY_DONE)
            continue;
        assert_int_equal(h.length, strstr(cases[i].text, "\r\n") + 2 - cases[i].text);
        assert_int_equal(h.local, cases[i].ip == NULL);
        if (h.local)
            continue;
        char text[PEER_TEXT];
        peer_address_text(&h.address, text);
        assert_string_equal(text, cases[i].ip);
        assert_int_equal(h.port, cases[i].port);
    }
}

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

static enum proxy_result parse_v2(const char *tail, size_t n, struct proxy_header *ret)
{
    char header[PROXY_MAX + 64] = SIGNATURE;
    const char *why;
    memcpy(header + 12, tail, n);
    /* The answer must not depend on how the bytes arrive: every shorter piece asks for more, or knows already. */
    enum proxy_result whole = proxy_parse(header, 12 + n, ret, &why);
    for (size_t i = 1; i < 12 + n; i++) {
        struct proxy_header ignored;
        enum proxy_result r = proxy_parse(header, i, &ignored, &why);
        assert_true(r == PROXY_MORE || r == whole);
    }
    return whole;
}

static void v2_headers(void **state)
{
    (void)state;
    struct proxy_header h;
    char text[PEER_TEXT];
    assert_int_equal(parse_v2("\x21\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\1\xc8\x22\x01\xbbrest", 20, &h), PROXY_DONE);
    assert_int_equal(h.length, 28);
    assert_false(h.local);
    peer_address_text(&h.address, text);
    assert_string_equal(text, "203.0.113.7");
    assert_int_equal(h.port, 0xc822);

    char v6[4 + 36 + 5] = "\x21\x21\0\x29\x20\x01\x0d\xb8"; /* 36 bytes of addresses and a type-length-value of 5 */
    v6[4 + 15] = 1;
    v6[4 + 32] = 0x12;
    v6[4 + 33] = 0x34;
    assert_int_equal(parse_v2(v6, sizeof v6, &h), PROXY_DONE);
    assert_int_equal(h.length, 16 + 41);
    peer_address_text(&h.address, text);
    assert_string_equal(text, "2001:db8::1");
    assert_int_equal(h.port, 0x1234);

    assert_int_equal(parse_v2("\x20\0\0\0", 4, &h), PROXY_DONE); /* LOCAL: a health check */
    assert_true(h.local);
    assert_int_equal(h.length, 16);
    assert_int_equal(parse_v2("\x21\x31\0\0", 4, &h), PROXY_DONE); /* a UNIX socket */
    assert_true(h.local);
    assert_int_equal(parse_v2("\x11\x11\0\x0c", 4, &h), PROXY_BAD); /* version 1 in binary */
    assert_int_equal(parse_v2("\x22\x11\0\x0c", 4, &h), PROXY_BAD);
    assert_int_equal(parse_v2("\x21\x11\0\x0b", 4, &h), PROXY_BAD); /* shorter than two addresses */
    assert_int_equal(parse_v2("\x21\x21\0\x23", 4, &h), PROXY_BAD);
    assert_int_equal(parse_v2("\x21\x11\x40\0", 4, &h), PROXY_BAD); /* 16 KB */
}

static struct peer_address address(const char *text)
{
    struct sockaddr_storage sa = {0};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct peer_address a;
    uint16_t port;
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
        memcpy(&sa, &v4, sizeof v4);
    else if (inet_pton(AF_INET6, text, &v6.sin6_addr) == 1)
        memcpy(&sa, &v6, sizeof v6);
    assert_true(peer_address_of(&sa, &a, &port));
    return a;
}

static void clients_are_counted_by_address(void **state)
{
    (void)state;
    table_seed();
    struct peer_table t = {0};
    struct peer_address one = address("192.0.2.1"), two = address("192.0.2.2");
    struct peer *a = peer_enter(&t, &one, 2), *b = peer_enter(&t, &one, 2);
    assert_non_null(a);
    assert_non_null(b);
    assert_null(peer_enter(&t, &one, 2));
    struct peer *c = peer_enter(&t, &two, 2);
    assert_non_null(c);
    peer_leave(&t, &a);
    assert_null(a);
    a = peer_enter(&t, &one, 2);
    assert_non_null(a);
    peer_leave(&t, &a);
    peer_leave(&t, &b);
    peer_leave(&t, &c);
    peer_leave(&t, &c);
    assert_null(t.peers);
}

static void an_ipv6_client_is_its_64(void **state)
{
    (void)state;
    struct peer_table t = {0};
    struct peer_address one = address("2001:db8:0:1::1"), same = address("2001:db8:0:1:ffff::2"),
                        other = address("2001:db8:0:2::1");
    struct peer *a = peer_enter(&t, &one, 1);
    assert_non_null(a);
    assert_null(peer_enter(&t, &same, 1));
    struct peer *b = peer_enter(&t, &other, 1);
    assert_non_null(b);
    assert_string_equal(peer_name(&same, 80), "[2001:db8:0:1:ffff::2]:80");
    /* The address of a dual-stack socket is the IPv4 one. */
    struct peer_address mapped = address("::ffff:192.0.2.1");
    assert_string_equal(peer_name(&mapped, 80), "192.0.2.1:80");
    peer_leave(&t, &a);
    peer_leave(&t, &b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(v1_headers),
        cmocka_unit_test(v2_headers),
        cmocka_unit_test(clients_are_counted_by_address),
        cmocka_unit_test(an_ipv6_client_is_its_64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
