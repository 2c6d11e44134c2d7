/* tests/unit/test_webhook.c: URLs, keys, signatures, answers, and events as JSON. */
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "gateway/event_json.h"
#include "gateway/webhook/breaker.h"
#include "gateway/webhook/keys.h"
#include "gateway/webhook/response.h"
#include "gateway/webhook/url.h"
#include "tests/support/check.h"
#include "tests/support/loop_fake.h"

/* --- URLs --- */

static void expect_url(const char *text, const char *host, unsigned port, const char *authority, const char *target)
{
    struct webhook_url u;
    struct error error;
    if (webhook_url_parse(text, &u, &error) != OK)
        fail_msg("%s: %s", text, error.text);
    assert_string_equal(u.host, host);
    assert_int_equal(u.port, port);
    assert_string_equal(u.authority, authority);
    assert_string_equal(u.target, target);
    assert_int_equal(u.tls, text[4] == 's');
    webhook_url_fini(&u);
}

static void urls_are_taken_apart(void **state)
{
    (void)state;
    expect_url("https://app.example.com", "app.example.com", 443, "app.example.com", "/");
    expect_url("http://127.0.0.1:8080/hook", "127.0.0.1", 8080, "127.0.0.1:8080", "/hook");
    expect_url("https://[::1]:9/a?b=c", "::1", 9, "[::1]:9", "/a?b=c");
    expect_url("http://app?x", "app", 80, "app", "/?x");
}

static void bad_urls_are_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "app.example.com",
                                      "ftp://app",
                                      "https://",
                                      "https:///x",
                                      "https://user:pass@app/",
                                      "https://app:0/",
                                      "https://app:65536/",
                                      "https://app:/",
                                      "https://app:8x/",
                                      "https://a b/",
                                      "https://app/a b",
                                      "https://app/\r\nX: y",
                                      "https://app/#top",
                                      "https://[::1/",
                                      "https://[]/",
                                      "https://[::1]x/",
                                      "https://app/\xc3\xa4"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct webhook_url u;
        struct error error;
        if (webhook_url_parse(bad[i], &u, &error) == OK)
            fail_msg("taken: %s", bad[i]);
    }
}

/* --- keys --- */

#define KEY1 "0123456789abcdef0123456789abcdef"
#define KEY2 "fedcba9876543210fedcba9876543210"

static enum err parse_keys(const char *text, struct webhook_keys *ret, struct error *reterr)
{
    return webhook_keys_parse(slice_str(text), "keys", ret, reterr);
}

static void a_file_has_one_key_or_two(void **state)
{
    struct webhook_keys k;
    struct error error;
    (void)state;
    assert_int_equal(parse_keys(KEY1 "\n", &k, &error), OK);
    assert_int_equal(k.count, 1);
    assert_int_equal(parse_keys("\n " KEY2 " \r\n\n" KEY1, &k, &error), OK);
    assert_int_equal(k.count, 2);
    assert_memory_equal(k.text[0], KEY2, 32);
    assert_int_equal(k.n[0], 32);
    assert_int_not_equal(parse_keys("", &k, &error), OK);
    assert_int_not_equal(parse_keys("short\n", &k, &error), OK);
    assert_null(strstr(error.text, "short")); /* never quoted */
    assert_int_not_equal(parse_keys(KEY1 "\n" KEY2 "\n" KEY1 "\n", &k, &error), OK);
    assert_int_equal(k.count, 2); /* untouched */
}

/* printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac KEY */
static void signatures_are_what_openssl_says(void **state)
{
    struct webhook_keys k;
    struct error error;
    struct buf b = BUF_INIT;
    (void)state;
    assert_int_equal(parse_keys(KEY1 "\n" KEY2, &k, &error), OK);
    webhook_sign(&k, 1700000000, SLICE("{\"a\":1}"), &b);
    buf_append_char(&b, '\0');
    assert_string_equal(b.p, "v1=f05f2539e3ae1c49aec5f8cfdad75ef6b06480b133973ffbb7ec9e18827af177,v1="
                             "986c55563a3593317977ea9e822a11c288f6b65b222f60f84fe6fe2b4733e655");
    buf_fini(&b);
}

/* --- answers --- */

static struct response answer;

static void feed(const char *text, bool whole)
{
    size_t n = strlen(text);
    response_init(&answer);
    for (size_t at = 0; at < n;) {
        size_t used = response_feed(&answer, text + at, whole ? n - at : 1);
        if (used == 0)
            break;
        at += used;
    }
}

static void expect_answer(const char *text, int status, const char *body, bool keep)
{
    for (int whole = 0; whole < 2; whole++) {
        feed(text, whole != 0);
        if (answer.state == RESPONSE_TO_END)
            response_eof(&answer);
        if (answer.state != RESPONSE_DONE)
            fail_msg("%s: %s", text, answer.why != NULL ? answer.why : "not done");
        assert_int_equal(answer.status, status);
        assert_int_equal(answer.keep, keep);
        assert_int_equal(answer.body.n, strlen(body));
        if (answer.body.n != 0)
            assert_memory_equal(answer.body.p, body, answer.body.n);
        response_fini(&answer);
    }
}

static void answers_are_understood(void **state)
{
    (void)state;
    expect_answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", true);
    expect_answer("HTTP/1.1 204\r\n\r\n", 204, "", true);
    expect_answer("HTTP/1.1 200 OK\r\ncontent-length:0\r\nCONNECTION: Keep-Alive , Close\r\n\r\n", 200, "", false);
    expect_answer("HTTP/1.0 200 OK\r\n\r\neverything", 200, "everything", false);
    expect_answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, "x", true);
    expect_answer(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;e=1\r\n0123456789\r\n0\r\nT: x\r\n\r\n",
        200, "abc0123456789", true);
    feed("HTTP/1.1 503 Busy\r\nRetry-After: 12\r\nContent-Length: 0\r\n\r\n", true);
    assert_int_equal(answer.retry_after_s, 12);
    response_fini(&answer);
}

static void expect_bad(const char *text)
{
    feed(text, true);
    response_eof(&answer);
    if (answer.state != RESPONSE_BAD)
        fail_msg("taken: %s", text);
    assert_non_null(answer.why);
    response_fini(&answer);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    expect_bad("");
    expect_bad("SSH-2.0-OpenSSH\r\n");
    expect_bad("HTTP/2.0 200 OK\r\n\r\n");
    expect_bad("HTTP/1.1 20x OK\r\n\r\n");
    expect_bad("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab");
    expect_bad("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n");
    expect_bad("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab");
    expect_bad("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    expect_bad("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n");
    expect_bad("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n");
    expect_bad("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n");
    expect_bad("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n");
    expect_bad("HTTP/1.1 200 OK\r\nContent-Length: 262145\r\n\r\n");
    expect_bad("HTTP/1.1 200 OK\r\n folded: x\r\n\r\n");
    expect_bad("HTTP/1.1 200 OK\r\nName : x\r\n\r\n");
    expect_bad("HTTP/1.1 101 Switching\r\n\r\n");
}

static void an_endless_answer_has_an_end(void **state)
{
    char line[1000];
    (void)state;
    memset(line, 'x', sizeof line);
    response_init(&answer);
    for (int i = 0; i < 100; i++)
        (void)response_feed(&answer, line, sizeof line);
    assert_int_equal(answer.state, RESPONSE_BAD);
    response_init(&answer);
    (void)response_feed(&answer, "HTTP/1.1 200 OK\r\n\r\n", 19);
    for (int i = 0; i < 300; i++)
        (void)response_feed(&answer, line, sizeof line);
    assert_int_equal(answer.state, RESPONSE_BAD);
    assert_true(answer.body.n <= RESPONSE_BODY_MAX);
    response_fini(&answer);
}

/* --- events --- */

static void expect_json(const struct event_field *fields, size_t count, const char *expected)
{
    struct buf b = BUF_INIT;
    event_json(&(struct event_entry){.fields = fields, .count = count}, &b);
    buf_append_char(&b, '\0');
    assert_string_equal(b.p, expected);
    buf_fini(&b);
}

static void events_become_json(void **state)
{
    const struct event_field good[] = {{SLICE("id"), SLICE("a\"b")},
                                       {SLICE("time"), SLICE("1700000000000")},
                                       {SLICE("data"), SLICE("{\"x\": [1]}")},
                                       {SLICE("attributes"), SLICE("{}")}};
    const struct event_field bytes[] = {{SLICE("data_type"), SLICE("binary")},
                                        {SLICE("data"), SLICE("\x00\xff\x01\x02")}};
    const struct event_field junk[] = {{SLICE("time"), SLICE("soon")},
                                       {SLICE("data"), SLICE("{\"x\"")},
                                       {SLICE("user"), SLICE("\xff")},
                                       {SLICE("\xff"), SLICE("x")},
                                       {SLICE("room"), SLICE("r")}};
    (void)state;
    expect_json(good, ARRAY_LEN(good),
                "{\"id\":\"a\\\"b\",\"time\":1700000000000,\"data\":{\"x\": [1]},\"attributes\":{}}");
    expect_json(bytes, ARRAY_LEN(bytes), "{\"data_type\":\"binary\",\"data\":\"AP8BAg==\"}");
    expect_json(junk, ARRAY_LEN(junk), "{\"room\":\"r\"}");
    expect_json(NULL, 0, "{}");
}

/* --- the breaker --- */

static void count(void *arg)
{
    ++*(unsigned *)arg;
}

/* Waits until somebody may ask, and asks. */
static void expect_probe(struct breaker *b, struct loop_fake *loop, uint32_t least, uint32_t most)
{
    uint32_t wait = breaker_wait_ms(b);
    assert_in_range(wait, least, most + 1);
    loop_fake_advance(loop, wait - 2);
    assert_int_not_equal(breaker_wait_ms(b), 0);
    loop_fake_advance(loop, 2);
    assert_int_equal(breaker_wait_ms(b), 0);
    assert_true(breaker_begin(b));
    assert_int_not_equal(breaker_wait_ms(b), 0); /* one at a time */
}

static void who_does_not_work_is_asked_less_often(void **state)
{
    struct loop_fake loop;
    struct breaker b;
    unsigned changes = 0;
    (void)state;
    log_setup(LOG_ERROR, LOG_TEXT, NULL);
    loop_fake_init(&loop);
    breaker_init(&b, &loop.loop, "app.example.com");
    b.changed = count;
    b.arg = &changes;
    for (int i = 0; i < 9; i++) { /* a good one between them begins the count anew */
        assert_int_equal(breaker_wait_ms(&b), 0);
        assert_false(breaker_begin(&b));
        if (i == 4)
            breaker_worked(&b, false);
        else
            breaker_failed(&b, false, "away");
    }
    assert_int_equal(changes, 0);
    assert_false(breaker_begin(&b));
    breaker_failed(&b, false, "away");
    assert_int_equal(changes, 1);
    breaker_failed(&b, false, "away"); /* asked before, and late */
    for (uint32_t most = 500; most <= 8000; most *= 2) {
        expect_probe(&b, &loop, most / 2 < 2500 ? most / 2 : 2500, most < 5000 ? most : 5000);
        breaker_failed(&b, true, "away");
    }
    assert_int_equal(b.opened, 1);
    assert_int_equal(b.failed, 15);
    expect_probe(&b, &loop, 2500, 5000);
    changes = 0;
    breaker_worked(&b, true);
    assert_int_equal(changes, 1);
    assert_int_equal(breaker_wait_ms(&b), 0);
    assert_false(breaker_begin(&b));
    breaker_fini(&b);
    loop_fake_fini(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_are_taken_apart),
        cmocka_unit_test(bad_urls_are_refused),
        cmocka_unit_test(a_file_has_one_key_or_two),
        cmocka_unit_test(signatures_are_what_openssl_says),
        cmocka_unit_test(answers_are_understood),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(an_endless_answer_has_an_end),
        cmocka_unit_test(events_become_json),
        cmocka_unit_test(who_does_not_work_is_asked_less_often),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
