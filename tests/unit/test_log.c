/* tests/unit/test_log.c: log lines as operators and their tools read them. */
#include <jansson.h>
#include <stdio.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "tests/support/check.h"

static int saved_stderr = -1;
static FILE *sink;

/* From here on stderr goes to a file. */
static void capture(void)
{
    sink = tmpfile();
    assert_non_null(sink);
    saved_stderr = dup(STDERR_FILENO);
    assert_true(dup2(fileno(sink), STDERR_FILENO) >= 0);
}

/* What was written since; stderr is as before. The caller frees it. */
static char *captured(void)
{
    assert_true(dup2(saved_stderr, STDERR_FILENO) >= 0);
    (void)close(saved_stderr);
    struct buf b = BUF_INIT;
    rewind(sink);
    size_t n;
    while ((n = fread(buf_reserve(&b, 1000), 1, 1000, sink)) != 0)
        b.n += n;
    (void)fclose(sink);
    buf_append_char(&b, '\0');
    return b.p;
}

static int tear_down(void **state)
{
    (void)state;
    log_setup(LOG_INFO, LOG_TEXT, NULL);
    return 0;
}

/* Shape of a time, 9 for any digit; returns what follows it. */
static const char *after_time(const char *line)
{
    static const char shape[] = "9999-99-99T99:99:99.999Z";
    for (size_t i = 0; i < sizeof shape - 1; i++) {
        bool ok = shape[i] == '9' ? line[i] >= '0' && line[i] <= '9' : line[i] == shape[i];
        if (!ok)
            fail_msg("no time: %s", line);
    }
    return line + sizeof shape - 1;
}

static void text_lines(void **state)
{
    (void)state;
    log_setup(LOG_INFO, LOG_TEXT, NULL);
    capture();
    LOG(INFO, "ready", "");
    AUTO_FREE char *plain = captured();
    assert_string_equal(after_time(plain), " INFO ready\n");

    log_setup(LOG_INFO, LOG_TEXT, "gw1");
    capture();
    LOG(WARN, "session closed", "session=%s count=%d", "abc", 7);
    AUTO_FREE char *fields = captured();
    assert_string_equal(after_time(fields), " WARN session closed node=gw1 session=abc count=7\n");
}

static void the_level_is_a_threshold(void **state)
{
    (void)state;
    log_setup(LOG_WARN, LOG_TEXT, NULL);
    capture();
    LOG(DEBUG, "no", "");
    LOG(INFO, "no", "");
    LOG(WARN, "yes", "");
    LOG(ERROR, "yes", "");
    AUTO_FREE char *text = captured();
    assert_null(strstr(text, "no"));
    assert_non_null(strstr(text, "WARN yes\n"));
    assert_non_null(strstr(text, "ERROR yes\n"));
}

static json_t *json_line(const char *text)
{
    json_error_t why;
    size_t n = strlen(text);
    assert_true(n > 0 && text[n - 1] == '\n');
    assert_ptr_equal(strchr(text, '\n'), text + n - 1);
    json_t *line = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why);
    if (line == NULL)
        fail_msg("%s: %s", why.text, text);
    return line;
}

static void assert_member(json_t *line, const char *name, const char *want)
{
    const char *got = json_string_value(json_object_get(line, name));
    if (got == NULL || strcmp(got, want) != 0)
        fail_msg("%s: got %s, want %s", name, got != NULL ? got : "nothing", want);
}

static void json_lines(void **state)
{
    (void)state;
    log_setup(LOG_DEBUG, LOG_JSON, "n\"1");
    capture();
    LOG(DEBUG, "peer said", "peer=%s text=%s empty=%s n=%d", "10.0.0.1:5", log_q(SLICE("a \"b\" = \\ c\n\x7f")),
        log_q(SLICE_NONE), -4);
    AUTO_FREE char *text = captured();
    json_t *line = json_line(text);
    const char *time = json_string_value(json_object_get(line, "time"));
    assert_non_null(time);
    assert_string_equal(after_time(time), "");
    assert_member(line, "level", "DEBUG");
    assert_member(line, "message", "peer said");
    assert_member(line, "node", "n\"1");
    assert_member(line, "peer", "10.0.0.1:5");
    assert_member(line, "text", "a \"b\" = \\ c?0a?7f");
    assert_member(line, "empty", "");
    assert_member(line, "n", "-4");
    assert_int_equal(json_object_size(line), 8);
    json_decref(line);
}

static void quoting(void **state)
{
    (void)state;
    assert_string_equal(log_q(SLICE("plain-\xe4\xb8\xad")), "plain-\xe4\xb8\xad");
    assert_string_equal(log_q(SLICE("two words")), "\"two words\"");
    assert_string_equal(log_q(SLICE("a=b")), "\"a=b\"");
    assert_string_equal(log_q(SLICE_NONE), "\"\"");
    assert_string_equal(log_q(SLICE("\"\\")), "\"\\\"\\\\\"");
    assert_string_equal(log_q(SLICE("\r\n\x1b[0m")), "\"?0d?0a?1b[0m\"");
    assert_string_equal(log_q(SLICE("x\xff\xc3")), "\"x?ff?c3\"");
}

/* Whatever the bytes and the length: one line, valid UTF-8, valid JSON. */
static void peers_cannot_break_a_line(void **state)
{
    uint64_t seed = 5;
    (void)state;
    for (int round = 0; round < 500; round++) {
        char bytes[300];
        size_t n = check_random(&seed) % sizeof bytes;
        for (size_t i = 0; i < n; i++)
            bytes[i] =
                (char)(round % 3 == 0 ? check_random(&seed) : (uint64_t) "\"\\ =\n\xc3\xa9x"[check_random(&seed) % 8]);
        const char *q = log_q((struct slice){bytes, n});
        assert_true(utf8_valid(slice_str(q)));
        log_setup(LOG_INFO, LOG_JSON, NULL);
        capture();
        LOG(INFO, "m", "q=%s after=1", q);
        AUTO_FREE char *text = captured();
        json_t *line = json_line(text);
        assert_member(line, "after", "1");
        json_decref(line);
    }
}

static void long_lines_stay_whole(void **state)
{
    struct buf fields = BUF_INIT;
    (void)state;
    /* Some lengths let the cut fall inside quotes, behind a backslash, between fields. */
    for (size_t pad = 0; pad < 130; pad++) {
        buf_clear(&fields);
        for (int i = 0; fields.n < 1900; i++)
            buf_printf(&fields, "%sf%d=%s", i == 0 ? "" : " ", i, i % 2 != 0 ? "\"a \\\" b\"" : "plain");
        buf_append_str(&fields, " pad=");
        for (size_t i = 0; i < pad; i++)
            buf_append_char(&fields, 'p');
        buf_append_str(&fields, " last=\"\\\\ \\\"quoted\\\" \\\\\" end=1");
        buf_append_char(&fields, '\0');
        log_setup(LOG_INFO, LOG_JSON, NULL);
        capture();
        LOG(INFO, "long", "%s", fields.p);
        AUTO_FREE char *text = captured();
        json_t *line = json_line(text);
        assert_member(line, "f0", "plain");
        assert_member(line, "f1", "a \" b");
        const char *last = json_string_value(json_object_get(line, "last"));
        assert_true(last == NULL || strcmp(last, "\\ \"quoted\" \\") == 0);
        json_decref(line);
    }
    buf_fini(&fields);
}

static void limits_and_says_what_it_swallowed(void **state)
{
    struct log_limit limit = {.burst = 3};
    (void)state;
    log_setup(LOG_INFO, LOG_TEXT, NULL);
    capture();
    for (int i = 0; i < 2000; i++) /* far less than a second */
        log_line(LOG_INFO, &limit, "often", "i=%d", i);
    limit.second--; /* as if a second had passed */
    log_line(LOG_INFO, &limit, "often", "");
    log_line(LOG_INFO, &limit, "often", "");
    AUTO_FREE char *text = captured();
    unsigned lines = 0, swallowed = 0;
    for (const char *at = text; *at != '\0'; at = strchr(at, '\n') + 1) {
        const char *says = strstr(after_time(at), "swallowed=");
        lines++;
        if (says != NULL && says < strchr(at, '\n'))
            swallowed += (unsigned)strtoul(says + 10, NULL, 10);
    }
    assert_int_equal(lines + swallowed, 2002);
    assert_in_range(lines, 5, 12); /* two clock seconds at most */
    assert_non_null(strstr(text, "INFO often\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(text_lines, tear_down),
        cmocka_unit_test_teardown(the_level_is_a_threshold, tear_down),
        cmocka_unit_test_teardown(json_lines, tear_down),
        cmocka_unit_test_teardown(quoting, tear_down),
        cmocka_unit_test_teardown(peers_cannot_break_a_line, tear_down),
        cmocka_unit_test_teardown(long_lines_stay_whole, tear_down),
        cmocka_unit_test_teardown(limits_and_says_what_it_swallowed, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
