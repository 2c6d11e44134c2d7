/* tests/unit/test_record.c: TLS 1.3 records by themselves: both ends are ours here; test_net_tls has OpenSSL at the other end. */
#include <string.h>

#include "base/mem.h"
#include "gateway/net/record.h"
#include "tests/support/check.h"

static const unsigned suites[] = {0x1301, 0x1302, 0x1303};

struct pair {
    struct records *server, *client; /* what one seals the other opens */
};

static struct record_secrets secrets_for(unsigned suite)
{
    struct record_secrets s = {.client_n = suite == 0x1302 ? 48 : 32, .server_n = suite == 0x1302 ? 48 : 32};
    memset(s.client, 'c', sizeof s.client);
    memset(s.server, 's', sizeof s.server);
    return s;
}

static struct pair pair_create(unsigned suite)
{
    struct record_secrets s = secrets_for(suite), mirrored = s;
    memcpy(mirrored.client, s.server, sizeof s.server);
    memcpy(mirrored.server, s.client, sizeof s.client);
    struct pair p = {records_create(suite, &s), records_create(suite, &mirrored)};
    assert_non_null(p.server);
    assert_non_null(p.client);
    return p;
}

static void pair_destroy(struct pair *p)
{
    records_destroy(&p->server);
    records_destroy(&p->client);
}

static void check_take(struct records *r, char *bytes, size_t n, struct slice want)
{
    struct record got;
    assert_int_equal(records_take(r, &bytes, &n, &got), RECORD_READY);
    assert_int_equal(n, 0);
    assert_int_equal(got.type, RECORD_DATA);
    assert_int_equal(got.n, want.n);
    assert_memory_equal(got.p, want.p, want.n);
}

static void check_bad(struct records *r, char *bytes, size_t n, enum tls_alert alert)
{
    struct record got;
    assert_int_equal(records_take(r, &bytes, &n, &got), RECORD_BAD);
    assert_int_equal(r->alert, alert);
}

static void every_suite_opens_what_it_sealed(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 15, 16, 17, 1000, RECORD_PLAIN_MAX};
    AUTO_FREE char *plain = xmalloc(RECORD_PLAIN_MAX), *record = xmalloc(RECORD_PLAIN_MAX + RECORD_OVERHEAD);
    for (size_t i = 0; i < RECORD_PLAIN_MAX; i++)
        plain[i] = (char)(i * 7);
    for (size_t i = 0; i < ARRAY_LEN(suites); i++) {
        struct pair p = pair_create(suites[i]);
        for (size_t j = 0; j < ARRAY_LEN(sizes); j++) {
            struct slice want = {plain, sizes[j]};
            size_t n = records_seal(p.server, RECORD_DATA, want.p, want.n, record);
            assert_int_equal(n, want.n + RECORD_OVERHEAD);
            check_take(p.client, record, n, want);
        }
        pair_destroy(&p);
    }
}

static void unknown_suites_and_short_secrets_are_left_to_openssl(void **state)
{
    (void)state;
    struct record_secrets s = secrets_for(0x1301);
    assert_null(records_create(0xc02f, &s));
    assert_null(records_create(0x1302, &s));
    s.server_n = 0;
    assert_null(records_create(0x1301, &s));
}

/* RFC 8448 §3, "Simple 1-RTT Handshake": the server's secret, and its record of 50 bytes. */
static void the_example_of_rfc_8448_comes_out(void **state)
{
    (void)state;
    static const unsigned char secret[32] = "\xa1\x1a\xf9\xf0\x55\x31\xf8\x56\xad\x47\x11\x6b\x45\xa9\x50\x32"
                                            "\x82\x04\xb4\xf4\x4b\xfb\x6b\x3a\x4b\x4f\x1f\x3f\xcb\x63\x16\x43";
    static const unsigned char want[] = "\x17\x03\x03\x00\x43\x2e\x93\x7e\x11\xef\x4a\xc7\x40\xe5\x38\xad\x36\x00\x5f"
                                        "\xc4\xa4\x69\x32\xfc\x32\x25\xd0\x5f\x82\xaa\x1b\x36\xe3\x0e\xfa\xf9\x7d\x90"
                                        "\xe6\xdf\xfc\x60\x2d\xcb\x50\x1a\x59\xa8\xfc\xc4\x9c\x4b\xf2\xe5\xf0\xa2\x1c"
                                        "\x00\x47\xc2\xab\xf3\x32\x54\x0d\xd0\x32\xe1\x67\xc2\x95\x5d";
    struct record_secrets s = secrets_for(0x1301);
    memcpy(s.server, secret, sizeof secret);
    s.written = 1; /* a ticket went before */
    struct records *r = records_create(0x1301, &s);
    char plain[50], record[50 + RECORD_OVERHEAD];
    for (size_t i = 0; i < sizeof plain; i++)
        plain[i] = (char)i;
    assert_int_equal(records_seal(r, RECORD_DATA, plain, sizeof plain, record), sizeof record);
    assert_memory_equal(record, want, sizeof record);
    records_destroy(&r);
}

static void records_may_arrive_in_pieces_and_many_at_once(void **state)
{
    (void)state;
    struct pair p = pair_create(0x1301);
    char bytes[3 * (3 + RECORD_OVERHEAD)], copy[sizeof bytes];
    for (int round = 0; round < 4; round++) {
        size_t n = 0, step = round == 0 ? 1 : round == 1 ? 7 : sizeof bytes, found = 0;
        for (int i = 0; i < 3; i++)
            n += records_seal(p.server, RECORD_DATA, "abc", 3, bytes + n);
        assert_int_equal(n, sizeof bytes);
        memcpy(copy, bytes, n);
        for (size_t at = 0; at < n; at += step) {
            char *q = copy + at;
            size_t left = n - at < step ? n - at : step;
            struct record got;
            while (records_take(p.client, &q, &left, &got) == RECORD_READY) {
                assert_slice(((struct slice){got.p, got.n}), "abc");
                found++;
            }
            assert_int_equal(left, 0);
        }
        assert_int_equal(found, 3);
    }
    pair_destroy(&p);
}

static void what_was_changed_repeated_or_left_out_is_refused(void **state)
{
    (void)state;
    char one[3 + RECORD_OVERHEAD], two[sizeof one], copy[sizeof one];
    for (size_t at = 0; at < sizeof one; at++) {
        struct pair p = pair_create(0x1301);
        (void)records_seal(p.server, RECORD_DATA, "abc", 3, one);
        one[at] ^= 1;
        struct record got;
        char *q = one;
        size_t n = sizeof one;
        enum record_result r = records_take(p.client, &q, &n, &got);
        if (at == 1 || at == 2) /* the version is authenticated too */
            assert_int_equal(r, RECORD_BAD);
        else
            assert_int_not_equal(r, RECORD_READY); /* a longer length: waits for more */
        pair_destroy(&p);
    }
    struct pair p = pair_create(0x1301);
    (void)records_seal(p.server, RECORD_DATA, "abc", 3, one);
    (void)records_seal(p.server, RECORD_DATA, "def", 3, two);
    memcpy(copy, one, sizeof one);
    check_take(p.client, one, sizeof one, SLICE("abc"));
    check_bad(p.client, copy, sizeof copy, ALERT_BAD_RECORD_MAC); /* again */
    pair_destroy(&p);
    p = pair_create(0x1301);
    (void)records_seal(p.server, RECORD_DATA, "abc", 3, one);
    (void)records_seal(p.server, RECORD_DATA, "def", 3, two);
    check_bad(p.client, two, sizeof two, ALERT_BAD_RECORD_MAC); /* before its turn */
    pair_destroy(&p);
}

/* A record of n bytes whose content ends as given: what is behind the last byte that is not 0 is padding. */
static void seal_inner(struct records *r, const char *inner, size_t n, char *ret)
{
    (void)records_seal(r, (enum record_type)(unsigned char)inner[n - 1], inner, n - 1, ret);
}

static void padding_is_taken_off(void **state)
{
    (void)state;
    struct pair p = pair_create(0x1301);
    char record[64];
    seal_inner(p.server, "abc\x17\0\0\0", 7, record);
    check_take(p.client, record, 7 + 21, SLICE("abc"));
    seal_inner(p.server, "\x17\0", 2, record);
    check_take(p.client, record, 2 + 21, SLICE(""));
    seal_inner(p.server, "\0\0\0\0", 4, record); /* nothing but padding: RFC 8446 §5.4 */
    check_bad(p.client, record, 4 + 21, ALERT_UNEXPECTED_MESSAGE);
    pair_destroy(&p);
}

static void headers_that_cannot_be_are_refused_before_the_record_is_there(void **state)
{
    (void)state;
    static const struct {
        char header[6];
        enum tls_alert alert;
    } cases[] = {
        {"\x16\x03\x03\x00\x20", ALERT_UNEXPECTED_MESSAGE}, /* in the clear */
        {"\x14\x03\x03\x00\x01", ALERT_UNEXPECTED_MESSAGE}, /* change_cipher_spec */
        {"\x15\x03\x03\x00\x02", ALERT_UNEXPECTED_MESSAGE},
        {"GET /", ALERT_UNEXPECTED_MESSAGE},
        {"\x17\x03\x03\x41\x01", ALERT_RECORD_OVERFLOW},
        {"\x17\x03\x03\x00\x10", ALERT_BAD_RECORD_MAC}, /* not even a content type */
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (size_t step = 1; step <= 5; step += 4) {
            struct pair p = pair_create(0x1301);
            char bytes[5];
            memcpy(bytes, cases[i].header, 5);
            struct record got;
            enum record_result r = RECORD_MORE;
            for (size_t at = 0; at < 5 && r == RECORD_MORE; at += step) {
                char *q = bytes + at;
                size_t n = step;
                r = records_take(p.client, &q, &n, &got);
            }
            assert_int_equal(r, RECORD_BAD);
            assert_int_equal(p.client->alert, cases[i].alert);
            pair_destroy(&p);
        }
    }
}

static void content_is_limited(void **state)
{
    (void)state;
    struct pair p = pair_create(0x1301);
    char record[64];
    AUTO_FREE char *zeros = xcalloc(1, RECORD_PLAIN_MAX), *large = xmalloc(RECORD_PLAIN_MAX + RECORD_OVERHEAD);
    seal_inner(p.server, "abc\x18", 4, record); /* a type nobody knows */
    check_bad(p.client, record, 4 + 21, ALERT_UNEXPECTED_MESSAGE);
    pair_destroy(&p);
    p = pair_create(0x1301);
    (void)records_seal(p.server, RECORD_ALERT, "", 0, record); /* RFC 8446 §5.1 */
    check_bad(p.client, record, RECORD_OVERHEAD, ALERT_UNEXPECTED_MESSAGE);
    pair_destroy(&p);
    p = pair_create(0x1301); /* padding may be as long as a record, and is no data */
    size_t n = records_seal(p.server, RECORD_DATA, zeros, RECORD_PLAIN_MAX, large);
    check_take(p.client, large, n, (struct slice){zeros, RECORD_PLAIN_MAX});
    for (int i = 0; i < 32; i++) {
        (void)records_seal(p.server, RECORD_DATA, "", 0, record);
        check_take(p.client, record, RECORD_OVERHEAD, SLICE(""));
    }
    (void)records_seal(p.server, RECORD_DATA, "", 0, record);
    check_bad(p.client, record, RECORD_OVERHEAD, ALERT_UNEXPECTED_MESSAGE);
    pair_destroy(&p);
}

static void keys_can_be_updated(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(suites); i++) {
        struct pair p = pair_create(suites[i]);
        for (int round = 0; round < 3; round++) {
            char record[64], *q = record;
            struct record got;
            bool asked = true;
            size_t n = records_update_own(p.server, record);
            assert_int_equal(p.server->out.seq, 0);
            assert_int_equal(records_take(p.client, &q, &n, &got), RECORD_READY);
            assert_int_equal(got.type, RECORD_HANDSHAKE);
            assert_true(records_key_update(p.client, (struct slice){got.p, got.n}, &asked));
            assert_false(asked);
            n = records_seal(p.server, RECORD_DATA, "abc", 3, record);
            check_take(p.client, record, n, SLICE("abc"));
        }
        pair_destroy(&p);
    }
}

static void only_a_key_update_is_one(void **state)
{
    (void)state;
    struct pair p = pair_create(0x1301);
    bool asked = false;
    const struct slice others[] = {
        SLICE(""),
        SLICE("\x18"),
        SLICE("\x18\0\0\1"),
        SLICE("\x18\0\0\1\2"),
        SLICE("\x18\0\0\2\0"),
        SLICE("\x18\0\0\1\0\x18"),
        SLICE("\x01\0\0\1\0"),
    };
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        assert_false(records_key_update(p.server, others[i], &asked));
    assert_true(records_key_update(p.server, SLICE("\x18\0\0\1\1"), &asked));
    assert_true(asked);
    pair_destroy(&p);
}

static void a_key_wears_out(void **state)
{
    (void)state;
    struct pair p = pair_create(0x1301);
    char record[64];
    p.server->out.seq = RECORDS_MAX - 1;
    assert_false(records_worn(p.server));
    (void)records_seal(p.server, RECORD_DATA, "", 0, record);
    assert_true(records_worn(p.server));
    (void)records_update_own(p.server, record);
    assert_false(records_worn(p.server));
    pair_destroy(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_suite_opens_what_it_sealed),
        cmocka_unit_test(unknown_suites_and_short_secrets_are_left_to_openssl),
        cmocka_unit_test(the_example_of_rfc_8448_comes_out),
        cmocka_unit_test(records_may_arrive_in_pieces_and_many_at_once),
        cmocka_unit_test(what_was_changed_repeated_or_left_out_is_refused),
        cmocka_unit_test(padding_is_taken_off),
        cmocka_unit_test(headers_that_cannot_be_are_refused_before_the_record_is_there),
        cmocka_unit_test(content_is_limited),
        cmocka_unit_test(keys_can_be_updated),
        cmocka_unit_test(only_a_key_update_is_one),
        cmocka_unit_test(a_key_wears_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
