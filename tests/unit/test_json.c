/* tests/unit/test_json.c: the strict JSON scanner. */
#include <jansson.h>
#include <stdio.h>

#include "base/mem.h"
#include "proto/json.h"
#include "tests/support/check.h"

static void accepts_valid_json(void **state)
{
    static const char *const valid[] = {
        "{}",
        "[]",
        "null",
        "true",
        "false",
        "0",
        "-0",
        "10",
        "-1.5",
        "1e5",
        "1E+5",
        "1e-05",
        "0.0",
        "0e0",
        "123456789012345678901234567890",
        "\"\"",
        "\"a\"",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
        "\"\\u0000\"",
        "\"\\uD834\\uDD1E\"",
        "\"\x7f\"",
        "\"\xe4\xb8\xad\"",
        " \t\r\n[ \t\r\n1 \t\r\n, \t\r\n2 \t\r\n] \t\r\n",
        "{\"\":0}",
        "{\"a\":1,\"a\":2}",
        "[[],{},[{}]]",
        "{\"a\":[{\"b\":[]}]}",
        "[1,\"two\",3.0,true,false,null,{\"four\":[5]}]",
        "[[[1],2],3]",
        "{\"a\":{\"b\":{\"c\":{}}},\"d\":0}",
    };
    struct error error;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(valid); i++)
        if (json_check(slice_str(valid[i]), &error) != OK)
            fail_msg("%s: %s", valid[i], error.text);
}

static void refuses_the_rest_and_says_where(void **state)
{
    static const struct {
        const char *text, *problem;
        size_t at;
    } invalid[] = {
        {"", "value expected", 0},
        {"  ", "value expected", 2},
        {"nul", "value expected", 0},
        {"True", "value expected", 0},
        {"nulll", "bytes after the value", 4},
        {"1 2", "bytes after the value", 2},
        {"01", "bytes after the value", 1},
        {"-", "digit expected", 1},
        {"-a", "digit expected", 1},
        {"+1", "value expected", 0},
        {".5", "value expected", 0},
        {"1.", "digit expected", 2},
        {"1.e5", "digit expected", 2},
        {"1e", "digit expected", 2},
        {"1e+", "digit expected", 3},
        {"0x10", "bytes after the value", 1},
        {"NaN", "value expected", 0},
        {"Infinity", "value expected", 0},
        {"'a'", "value expected", 0},
        {"\"a", "string without its closing quote", 2},
        {"\"\\", "unknown escape", 2},
        {"\"\\\"", "string without its closing quote", 3},
        {"\"\n\"", "control character in a string", 1},
        {"\"12345678\x1f\"", "control character in a string", 9},
        {"\"\\x\"", "unknown escape", 2},
        {"\"\\'\"", "unknown escape", 2},
        {"\"\\u12\"", "four hex digits expected", 3},
        {"\"\\u123g\"", "four hex digits expected", 3},
        {"\"\\u", "four hex digits expected", 3},
        {"\"\\uDC00\"", "a low surrogate without a high one", 3},
        {"\"\\uD800\"", "a high surrogate without a low one", 7},
        {"\"\\uD800x\"", "a high surrogate without a low one", 7},
        {"\"\\uD800\\n\"", "a high surrogate without a low one", 7},
        {"\"\\uD800\\uD800\"", "a high surrogate without a low one", 7},
        {"\"\\uD800\\u0041\"", "a high surrogate without a low one", 7},
        {"[", "value expected", 1},
        {"[1", "',' or ']' expected", 2},
        {"[1,", "value expected", 3},
        {"[1,]", "value expected", 3},
        {"[,1]", "value expected", 1},
        {"[1 2]", "',' or ']' expected", 3},
        {"[1}", "',' or ']' expected", 2},
        {"]", "value expected", 0},
        {"[]]", "bytes after the value", 2},
        {"{", "member name expected", 1},
        {"{]", "member name expected", 1},
        {"{1:2}", "member name expected", 1},
        {"{a:2}", "member name expected", 1},
        {"{\"a\"}", "':' expected", 4},
        {"{\"a\":}", "value expected", 5},
        {"{\"a\":1", "',' or '}' expected", 6},
        {"{\"a\":1,}", "member name expected", 7},
        {"{\"a\":1]", "',' or '}' expected", 6},
        {"{\"a\":[1}", "',' or ']' expected", 7},
        {"{,}", "member name expected", 1},
        {"[1] // comment", "bytes after the value", 4},
        {"/**/1", "value expected", 0},
        {"\xef\xbb\xbf{}", "value expected", 0},
        {"\f1", "value expected", 0},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(invalid); i++) {
        struct error error;
        char want[192];
        assert_int_equal(json_check(slice_str(invalid[i].text), &error), ERR_BAD_REQUEST);
        assert_int_equal(error.code, ERR_BAD_REQUEST);
        (void)snprintf(want, sizeof want, "not valid JSON: %s at byte %zu", invalid[i].problem, invalid[i].at);
        if (strcmp(error.text, want) != 0)
            fail_msg("%s\ngot  %s\nwant %s", invalid[i].text, error.text, want);
    }
    struct error error;
    assert_int_equal(json_check(SLICE_NONE, &error), ERR_BAD_REQUEST);
    assert_int_equal(json_check(SLICE("{}\0"), &error), ERR_BAD_REQUEST);
    assert_int_equal(json_check(SLICE("\0{}"), &error), ERR_BAD_REQUEST);
    assert_int_equal(json_check(SLICE("[1\0]"), &error), ERR_BAD_REQUEST);
    assert_int_equal(json_check(SLICE("\"\0\""), &error), ERR_BAD_REQUEST);
}

static const char sample[] = "{\"type\":\"publish\",\"n\":[-1.5e+3,0,{\"x\\n\\u00e9\":null}],\"s\":\"\xc3\xa9 "
                             "\\uD83D\\uDE00\",\"t\":[true,false,{}]} ";

static void refuses_every_part_of_an_object(void **state)
{
    struct error error;
    (void)state;
    size_t whole = sizeof sample - 2; /* without the blank at the end */
    for (size_t n = 0; n < whole; n++) {
        /* An exact copy, so that the address sanitizer sees a read past the end. */
        char *copy = xmalloc(n != 0 ? n : 1);
        memcpy(copy, sample, n);
        assert_int_equal(json_check((struct slice){copy, n}, &error), ERR_BAD_REQUEST);
        free(copy);
    }
    assert_int_equal(json_check((struct slice){sample, whole}, &error), OK);
}

/* Every text that differs from the sample in one byte must be judged as jansson judges it. */
static void agrees_with_jansson(void **state)
{
    (void)state;
    size_t n = sizeof sample - 1, valid = 0;
    char text[sizeof sample];
    for (size_t at = 0; at < n; at++) {
        memcpy(text, sample, sizeof text);
        for (int c = 0; c < 0x80; c++) {
            text[at] = (char)c;
            if ((sample[at] & 0x80) != 0)
                continue; /* the scanner only ever gets UTF-8 */
            json_error_t why;
            struct error error;
            json_t *theirs = json_loadb(text, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
            bool overflow = theirs == NULL && json_error_code(&why) == json_error_numeric_overflow;
            bool ours = json_check((struct slice){text, n}, &error) == OK;
            if (!overflow && ours != (theirs != NULL))
                fail_msg("byte %zu = 0x%02x: we say %d (%s), jansson %d (%s)", at, (unsigned)c, ours, error.text,
                         theirs != NULL, why.text);
            valid += ours;
            json_decref(theirs);
        }
    }
    assert_in_range(valid, 1000, n * 0x80 / 2); /* both kinds were seen */
}

static enum err check_nested(size_t depth, char open, char close)
{
    char text[256];
    size_t n = 0;
    struct error error;
    for (size_t i = 0; i < depth; i++) {
        text[n++] = open;
        if (open == '{' && i + 1 < depth) {
            memcpy(text + n, "\"a\":", 4);
            n += 4;
        }
    }
    for (size_t i = 0; i < depth; i++)
        text[n++] = close;
    return json_check((struct slice){text, n}, &error);
}

static void bounds_the_depth(void **state)
{
    (void)state;
    assert_int_equal(check_nested(JSON_MAX_DEPTH, '[', ']'), OK);
    assert_int_equal(check_nested(JSON_MAX_DEPTH + 1, '[', ']'), ERR_BAD_REQUEST);
    assert_int_equal(check_nested(JSON_MAX_DEPTH, '{', '}'), OK);
    assert_int_equal(check_nested(JSON_MAX_DEPTH + 1, '{', '}'), ERR_BAD_REQUEST);

    /* The object itself counts. */
    static const char *const names[] = {"a"};
    struct json_value value;
    struct error error;
    for (size_t extra = 0; extra < 2; extra++) {
        struct buf text = BUF_INIT;
        buf_append_str(&text, "{\"a\":");
        for (size_t i = 0; i < JSON_MAX_DEPTH - 1 + extra; i++)
            buf_append_char(&text, '[');
        for (size_t i = 0; i < JSON_MAX_DEPTH - 1 + extra; i++)
            buf_append_char(&text, ']');
        buf_append_str(&text, "}");
        assert_int_equal(json_members(buf_slice(&text), names, 1, &value, &error), extra == 0 ? OK : ERR_BAD_REQUEST);
        if (extra != 0)
            assert_non_null(strstr(error.text, "nested too deep"));
        buf_fini(&text);
    }
    /* Breadth is not depth. */
    assert_int_equal(json_check(SLICE("[[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],["
                                      "],[],[],[],[],[],[],[],[]]"),
                                &error),
                     OK);
}

enum { TYPE, ID, DATA, COUNT };
static const char *const names[COUNT] = {"type", "id", "data"};

static void finds_members(void **state)
{
    struct json_value v[COUNT];
    struct error error;
    (void)state;
    assert_int_equal(json_members(SLICE(" { \"data\" : [1, {\"id\":2}] ,\"other\":{\"type\":0},\t\"type\":\"x\" } "),
                                  names, COUNT, v, &error),
                     OK);
    assert_int_equal(v[TYPE].kind, JSON_KIND_STRING);
    assert_slice(v[TYPE].raw, "\"x\"");
    assert_int_equal(v[DATA].kind, JSON_KIND_ARRAY);
    assert_slice(v[DATA].raw, "[1, {\"id\":2}]");
    assert_int_equal(v[ID].kind, JSON_KIND_NONE);

    static const struct {
        const char *text;
        enum json_kind type;
    } kinds[] = {
        {"{\"id\":null}", JSON_KIND_NULL},   {"{\"id\":true}", JSON_KIND_TRUE},   {"{\"id\":false}", JSON_KIND_FALSE},
        {"{\"id\":-1e5}", JSON_KIND_NUMBER}, {"{\"id\":\"\"}", JSON_KIND_STRING}, {"{\"id\":[]}", JSON_KIND_ARRAY},
        {"{\"id\":{}}", JSON_KIND_OBJECT},   {"{\"ID\":{}}", JSON_KIND_NONE},     {"{\"i\":{}}", JSON_KIND_NONE},
        {"{\"idd\":{}}", JSON_KIND_NONE},    {"{\"\":{}}", JSON_KIND_NONE},       {"{}", JSON_KIND_NONE}};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        assert_int_equal(json_members(slice_str(kinds[i].text), names, COUNT, v, &error), OK);
        assert_int_equal(v[ID].kind, kinds[i].type);
        assert_int_equal(v[TYPE].kind, JSON_KIND_NONE);
    }
}

static void compares_names_after_unescaping(void **state)
{
    struct json_value v[COUNT];
    struct error error;
    (void)state;
    assert_int_equal(json_members(SLICE("{\"\\u0069d\":1,\"t\\u0079pe\":2,\"dat\\u0061\\u0000\":3,\"\\u0000\":4}"),
                                  names, COUNT, v, &error),
                     OK);
    assert_slice(v[ID].raw, "1");
    assert_slice(v[TYPE].raw, "2");
    assert_int_equal(v[DATA].kind, JSON_KIND_NONE);

    static const char *const odd[] = {"a/\"\xf0\x9f\x98\x80\n"};
    assert_int_equal(json_members(SLICE("{\"a\\/\\\"\\uD83d\\uDe00\\n\":1}"), odd, 1, v, &error), OK);
    assert_slice(v[0].raw, "1");
}

static void refuses_members_given_twice(void **state)
{
    struct json_value v[COUNT];
    struct error error;
    (void)state;
    assert_int_equal(json_members(SLICE("{\"x\":1,\"x\":2,\"id\":3}"), names, COUNT, v, &error), OK);
    assert_int_equal(json_members(SLICE("{\"id\":1,\"type\":2,\"id\":1}"), names, COUNT, v, &error), ERR_BAD_REQUEST);
    assert_string_equal(error.text, "not valid JSON: member given twice at byte 17");
    assert_slice(v[ID].raw, "1");
    assert_slice(v[TYPE].raw, "2");
    assert_int_equal(json_members(SLICE("{\"id\":1,\"\\u0069d\":1}"), names, COUNT, v, &error), ERR_BAD_REQUEST);
}

static void keeps_what_it_found_before_an_error(void **state)
{
    struct json_value v[COUNT];
    struct error error;
    (void)state;
    assert_int_equal(json_members(SLICE("{\"id\":\"7\",\"type\":tru}"), names, COUNT, v, &error), ERR_BAD_REQUEST);
    assert_slice(v[ID].raw, "\"7\"");
    assert_int_equal(v[TYPE].kind, JSON_KIND_NONE);
    assert_int_equal(json_members(SLICE("[]"), names, COUNT, v, &error), ERR_BAD_REQUEST);
    assert_string_equal(error.text, "not valid JSON: '{' expected at byte 0");
    assert_int_equal(v[ID].kind, JSON_KIND_NONE);
    assert_int_equal(json_members(SLICE("{} x"), names, COUNT, v, &error), ERR_BAD_REQUEST);
    assert_int_equal(json_members(SLICE("{\"a\":1 \"b\":2}"), names, COUNT, v, &error), ERR_BAD_REQUEST);
}

static struct slice unquoted(const char *text, struct arena *a)
{
    struct slice s = SLICE_NONE;
    struct error error;
    assert_int_equal(json_check(slice_str(text), &error), OK);
    assert_int_equal(json_unquote((struct json_value){JSON_KIND_STRING, slice_str(text)}, a, &s, &error), OK);
    return s;
}

static void unescapes_strings(void **state)
{
    struct arena a;
    (void)state;
    arena_init(&a, 4096);
    assert_slice(unquoted("\"\"", &a), "");
    const char *plain = "\"plain \xc3\xa9\"";
    struct slice s = unquoted(plain, &a);
    assert_ptr_equal(s.p, plain + 1); /* not copied */
    assert_int_equal(s.n, 8);
    assert_int_equal(a.used, 0);
    assert_slice(unquoted("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", &a), "\"\\/\b\f\n\r\t");
    assert_slice(unquoted("\"long plain text before \\u0041 and after it\"", &a),
                 "long plain text before A and after it");
    assert_slice(unquoted("\"\\u007f\\u0080\\u07ff\\u0800\\uffff\\uD800\\udc00\\uDBFF\\uDFFF\"", &a),
                 "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf");
    assert_slices_eq(unquoted("\"a\\u0000b\"", &a), SLICE("a\0b"));
    arena_reset(&a);

    struct error error;
    arena_init(&a, 32);
    assert_int_equal(
        json_unquote((struct json_value){JSON_KIND_STRING, SLICE("\"\\n23456789012345678901234567890123\"")}, &a, &s,
                     &error),
        ERR_TOO_LARGE);
    assert_int_equal(json_unquote((struct json_value){JSON_KIND_STRING, SLICE("\"\\n234567890123456789012345678901\"")},
                                  &a, &s, &error),
                     OK);
    arena_reset(&a);
}

static void reads_unsigned_integers(void **state)
{
    static const struct {
        const char *text;
        uint64_t max, value;
        bool ok;
    } cases[] = {
        {"0", 0, 0, true},
        {"7", 10, 7, true},
        {"10", 10, 10, true},
        {"11", 10, 0, false},
        {"100", 10, 0, false},
        {"-1", 10, 0, false},
        {"-0", 10, 0, false},
        {"1.0", 10, 0, false},
        {"1e1", 10, 0, false},
        {"5", 3, 0, false},
        {"18446744073709551615", UINT64_MAX, UINT64_MAX, true},
        {"18446744073709551616", UINT64_MAX, 0, false},
        {"99999999999999999999999999", UINT64_MAX, 0, false},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t got = 0;
        struct json_value v = {JSON_KIND_NUMBER, slice_str(cases[i].text)};
        assert_int_equal(json_uint(v, cases[i].max, &got), cases[i].ok);
        assert_int_equal(got, cases[i].value);
    }
    uint64_t got;
    assert_false(json_uint((struct json_value){JSON_KIND_STRING, SLICE("\"1\"")}, 10, &got));
    assert_false(json_uint((struct json_value){JSON_KIND_NONE, SLICE_NONE}, 10, &got));
}

static void quotes(void **state)
{
    struct buf b = BUF_INIT;
    (void)state;
    json_quote(&b, SLICE_NONE);
    json_quote(&b, SLICE("a\"b\\c/\b\f\n\r\t\x01\x1f\x7f\0"
                         "\xe2\x80\xa8"));
    assert_slice(buf_slice(&b), "\"\"\"a\\\"b\\\\c/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\\u0000\xe2\x80\xa8\"");
    buf_fini(&b);
}

static void quoting_and_unescaping_are_inverse(void **state)
{
    static const char *const pieces[] = {
        "a", "\"", "\\", "\n", "\x01", "\xc3\xa9", "\xe4\xb8\xad", "\xf0\x9f\x98\x80", "0123456789", "/", "u"};
    uint64_t seed = 42;
    (void)state;
    for (int round = 0; round < 2000; round++) {
        struct buf text = BUF_INIT, quoted = BUF_INIT;
        struct arena a;
        struct error error;
        struct slice back;
        arena_init(&a, 65536);
        for (uint64_t i = check_random(&seed) % 40; i > 0; i--)
            buf_append_str(&text, pieces[check_random(&seed) % ARRAY_LEN(pieces)]);
        json_quote(&quoted, buf_slice(&text));
        assert_int_equal(json_check(buf_slice(&quoted), &error), OK);
        assert_int_equal(json_unquote((struct json_value){JSON_KIND_STRING, buf_slice(&quoted)}, &a, &back, &error),
                         OK);
        assert_slices_eq(back, buf_slice(&text));
        arena_reset(&a);
        buf_fini(&text);
        buf_fini(&quoted);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_valid_json),
        cmocka_unit_test(refuses_the_rest_and_says_where),
        cmocka_unit_test(refuses_every_part_of_an_object),
        cmocka_unit_test(agrees_with_jansson),
        cmocka_unit_test(bounds_the_depth),
        cmocka_unit_test(finds_members),
        cmocka_unit_test(compares_names_after_unescaping),
        cmocka_unit_test(refuses_members_given_twice),
        cmocka_unit_test(keeps_what_it_found_before_an_error),
        cmocka_unit_test(unescapes_strings),
        cmocka_unit_test(reads_unsigned_integers),
        cmocka_unit_test(quotes),
        cmocka_unit_test(quoting_and_unescaping_are_inverse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
