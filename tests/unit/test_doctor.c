/* tests/unit/test_doctor.c: the doctor's pure parts: URLs, answers, frames, and the lines of its report. What it finds in real servers is
 * tests/integration/doctor.test.mjs. */
#include <stdio.h>

#include "base/mem.h"
#include "gateway/doctor/answer.h"
#include "gateway/doctor/target.h"
#include "tests/support/check.h"

/* --- URLs --- */

static void urls_are_taken_apart(void **state)
{
    static const struct {
        const char *url, *host, *authority, *path;
        uint16_t port;
        bool secure, literal;
    } cases[] = {
        {"https://im.example.com", "im.example.com", "im.example.com", "/ws", 443, true, false},
        {"wss://IM.Example.com/", "im.example.com", "im.example.com", "/ws", 443, true, false},
        {"https://a.example:8443/ws/bob?token=x#top", "a.example", "a.example:8443", "/ws/bob?token=x", 8443, true,
         false},
        {"http://a.example:443/x", "a.example", "a.example", "/x", 443, false, false},
        {"ws://10.0.0.1:1", "10.0.0.1", "10.0.0.1:1", "/ws", 1, false, true},
        {"https://[2001:DB8::1]:65535/ws", "2001:db8::1", "[2001:db8::1]:65535", "/ws", 65535, true, true},
        {"https://[::1]", "::1", "[::1]", "/ws", 443, true, true},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct target t;
        struct error err;
        assert_int_equal(target_parse(cases[i].url, &t, &err), OK);
        assert_string_equal(t.host, cases[i].host);
        assert_string_equal(t.authority, cases[i].authority);
        assert_slice(t.path, cases[i].path);
        assert_int_equal(t.port, cases[i].port);
        assert_int_equal(t.secure, cases[i].secure);
        assert_int_equal(t.literal, cases[i].literal);
    }
}

static void bad_urls_are_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "im.example.com",
                                      "ftp://a.example",
                                      "https://",
                                      "https:///ws",
                                      "https://:443",
                                      "https://a.example:",
                                      "https://a.example:0",
                                      "https://a.example:65536",
                                      "https://a.example:4x",
                                      "https://[::1",
                                      "https://[]",
                                      "https://[im.example.com]",
                                      "https://[::1]443",
                                      "https://u@a.example",
                                      "https://a.example/a b",
                                      "https://a.example/\x01",
                                      "https://\xc3\xa9.example",
                                      "https://a\"b",
                                      "https://a.example?token=x"};
    char big[URL_MAX + 32];
    struct target t = {.port = 7};
    struct error err;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        err = (struct error){0};
        if (target_parse(bad[i], &t, &err) != ERR_BAD_REQUEST || err.text[0] == '\0')
            fail_msg("\"%s\" was taken", bad[i]);
    }
    assert_int_equal(t.port, 7);
    (void)snprintf(big, sizeof big, "https://a.example/%0*d", URL_MAX - 18, 0);
    assert_int_equal(target_parse(big, &t, &err), OK);
    (void)snprintf(big, sizeof big, "https://a.example/%0*d", URL_MAX - 17, 0);
    assert_int_equal(target_parse(big, &t, &err), ERR_BAD_REQUEST);
    (void)snprintf(big, sizeof big, "https://%0*d", HOST_MAX + 1, 0);
    assert_int_equal(target_parse(big, &t, &err), ERR_BAD_REQUEST);
}

/* The line about a URL; the caller frees it. */
static char *judged(const char *url)
{
    char *text = NULL;
    size_t size = 0;
    struct target t;
    struct error err;
    struct report r = {.out = open_memstream(&text, &size)};
    assert_int_equal(target_parse(url, &t, &err), OK);
    target_check(&t, &r);
    assert_int_equal(fclose(r.out), 0);
    return text;
}

static void urls_are_judged(void **state)
{
    static const struct {
        const char *url, *verdict, *says;
    } cases[] = {
        {"https://im.example.com", "ok ", "port 443"},
        {"wss://xn--fiqs8s.example/ws", "ok ", "port 443"},
        {"https://im.example.com:8443", "warn", "8443"},
        {"http://im.example.com", "FAIL", "plain"},
        {"https://10.1.2.3", "FAIL", "address"},
        {"https://[::1]", "FAIL", "address"},
        {"https://localhost", "FAIL", "no public"},
        {"https://intranet", "FAIL", "no public"},
        {"https://my_app.example.com", "FAIL", "underscore"},
        {"https://a..example", "FAIL", "empty label"},
        {"https://-a.example", "FAIL", "hyphen"},
        {"https://a-.example", "FAIL", "hyphen"},
        {"https://a.example.", "FAIL", "empty label"},
        {"https://api.weixin.qq.com", "FAIL", "WeChat"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_FREE char *line = judged(cases[i].url);
        if (strncmp(line, cases[i].verdict, strlen(cases[i].verdict)) != 0 || strstr(line, cases[i].says) == NULL)
            fail_msg("%s: %s", cases[i].url, line);
        assert_int_equal(strstr(line, "; mend: ") != NULL, cases[i].verdict[0] != 'o');
    }
}

/* --- the report --- */

static void report_is_one_clean_line(void **state)
{
    AUTO_FREE char *text = NULL;
    char big[2000];
    size_t size = 0;
    struct report r = {.out = open_memstream(&text, &size)};
    (void)state;
    report_line(&r, VERDICT_FAIL, "x", "do", "a\nb\x1b[2J\xc3\xa9\x7f");
    r.where = "::1";
    report_line(&r, VERDICT_OK, "y", NULL, "%s", "fine");
    memset(big, 'z', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    report_line(&r, VERDICT_SKIP, "z", NULL, "%s", big);
    report_line(&r, VERDICT_WARN, "w", "m", "n");
    report_summary(&r, "host");
    assert_int_equal(fclose(r.out), 0);
    assert_non_null(strstr(text, "FAIL  x               — a?b?[2J???; mend: do\n"));
    assert_non_null(strstr(text, "ok    y               [::1] — fine\n"));
    assert_non_null(strstr(text, "\n\nhost: 1 ok, 1 warnings, 1 failed, 1 skipped\n"));
    assert_int_equal(strspn(strstr(text, "zzz"), "z"), 400);
}

/* --- answers --- */

static struct answer answer_of(const char *text)
{
    struct answer a;
    struct error err;
    bool more;
    assert_int_equal(answer_parse(slice_str(text), &a, &more, &err), OK);
    assert_false(more);
    return a;
}

static void answers_are_read(void **state)
{
    static const char head[] = "HTTP/1.1 101 Switching\r\nUpgrade: WebSocket\r\nCONNECTION:keep-alive ,  "
                               "Upgrade\r\nX-Upgrade: no\r\nA:\r\nA: b\r\n\r\nrest";
    (void)state;
    struct answer a = answer_of(head);
    size_t count;
    assert_int_equal(a.status, 101);
    assert_int_equal(a.head, sizeof head - 1 - 4);
    assert_slice(answer_header(&a, "upgrade", &count), "WebSocket");
    assert_int_equal(count, 1);
    assert_true(answer_list_has(answer_header(&a, "connection", NULL), "upgrade"));
    assert_true(answer_list_has(answer_header(&a, "connection", NULL), "keep-alive"));
    assert_false(answer_list_has(answer_header(&a, "connection", NULL), "keep"));
    assert_slice(answer_header(&a, "a", &count), "");
    assert_int_equal(count, 2);
    assert_null(answer_header(&a, "grade", &count).p);
    assert_int_equal(count, 0);
    a = answer_of("HTTP/1.0 404\r\n\r\n");
    assert_int_equal(a.status, 404);
    assert_int_equal(a.headers.n, 0);
}

static void unfinished_answers_want_more(void **state)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nA: b\r\n\r\n";
    struct answer a;
    struct error err;
    bool more;
    (void)state;
    for (size_t n = 0; n < sizeof head - 1; n++) {
        AUTO_FREE char *copy = xstrndup(head, n); /* its end is guarded by the sanitizer */
        assert_int_equal(answer_parse((struct slice){copy, n}, &a, &more, &err), OK);
        assert_true(more);
    }
}

static void nonsense_is_no_answer(void **state)
{
    static const char *const bad[] = {"S",
                                      "SSH-2.0\r\n\r\n",
                                      "HTTP/2 200\r\n\r\n",
                                      "HTTP/1.1 \r\n\r\n",
                                      "HTTP/1.1 20\r\n\r\n",
                                      "HTTP/1.1 2000\r\n\r\n",
                                      "HTTP/1.1 099 x\r\n\r\n",
                                      "HTTP/1.1 2x0 x\r\n\r\n"};
    struct answer a;
    struct error err;
    bool more;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (answer_parse(slice_str(bad[i]), &a, &more, &err) != ERR_BAD_REQUEST)
            fail_msg("\"%s\" was taken", bad[i]);
}

static void dates_are_read(void **state)
{
    static const char *const bad[] = {"",
                                      "now",
                                      "Sun, 06 Nov 1994 08:49:37 UTC",
                                      "Sunday, 06-Nov-94 08:49:37 GM",
                                      "Sun, 06 Nov 1994 08:49:37 GMT+",
                                      "Sun, 36 Nov 1994 08:49:37 GMT"};
    time_t t = 0;
    (void)state;
    assert_true(answer_date(SLICE("Sun, 06 Nov 1994 08:49:37 GMT"), &t));
    assert_int_equal(t, 784111777);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(answer_date(slice_str(bad[i]), &t));
}

/* --- frames --- */

static void frames_are_read(void **state)
{
    struct frame f;
    struct error err;
    bool more;
    (void)state;
    assert_int_equal(frame_parse(SLICE("\x81\x02hi!"), &f, &more, &err), OK);
    assert_false(more);
    assert_int_equal(f.opcode, FRAME_TEXT);
    assert_true(f.fin);
    assert_slice(f.payload, "hi");
    assert_int_equal(f.size, 4);
    char longer[4 + 126] = "\x02\x7e\x00\x7e";
    for (size_t n = 0; n < sizeof longer; n++) {
        assert_int_equal(frame_parse((struct slice){longer, n}, &f, &more, &err), OK);
        assert_true(more);
    }
    assert_int_equal(frame_parse((struct slice){longer, sizeof longer}, &f, &more, &err), OK);
    assert_false(more);
    assert_false(f.fin);
    assert_int_equal(f.payload.n, 126);
}

static void bad_frames_are_refused(void **state)
{
    static const struct slice bad[] = {{"\xc1\x00", 2},
                                       {"\x83\x00", 2},
                                       {"\x8b\x00", 2},
                                       {"\x81\x80", 2},
                                       {"\x09\x00", 2},
                                       {"\x89\x7e\x00\x7e", 4},
                                       {"\x81\x7e\x00\x7d", 4},
                                       {"\x81\x7f\0\0\0\0\0\0\xff\xff", 10},
                                       {"\x81\x7f\0\0\0\0\0\1\0\1", 10},
                                       {"\x81\x7f\xff\0\0\0\0\0\0\0", 10}};
    struct frame f;
    struct error err;
    bool more;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (frame_parse(bad[i], &f, &more, &err) == OK)
            fail_msg("frame %zu was taken", i);
    assert_int_equal(frame_parse((struct slice){"\x81\x7f\0\0\0\0\0\1\0\0", 10}, &f, &more, &err), OK);
    assert_true(more);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_are_taken_apart),  cmocka_unit_test(bad_urls_are_refused),
        cmocka_unit_test(urls_are_judged),       cmocka_unit_test(report_is_one_clean_line),
        cmocka_unit_test(answers_are_read),      cmocka_unit_test(unfinished_answers_want_more),
        cmocka_unit_test(nonsense_is_no_answer), cmocka_unit_test(dates_are_read),
        cmocka_unit_test(frames_are_read),       cmocka_unit_test(bad_frames_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
