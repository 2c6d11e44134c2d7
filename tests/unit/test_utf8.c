/* tests/unit/test_utf8.c: UTF-8 validation against a second, slower definition. */
#include "base/mem.h"
#include "base/utf8.h"
#include "tests/support/check.h"

/* Decodes by the lead byte alone, then asks whether that was the shortest form of something allowed (RFC 3629 §3). Length, or 0. */
static size_t reference(const unsigned char *p, size_t n)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (p[0] < 0x80)
        return 1;
    size_t len = p[0] >> 5 == 6 ? 2 : p[0] >> 4 == 14 ? 3 : p[0] >> 3 == 30 ? 4 : 0;
    if (len == 0 || len > n)
        return 0;
    uint32_t c = p[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if (p[i] >> 6 != 2)
            return 0;
        c = c << 6 | (p[i] & 0x3fu);
    }
    return c >= smallest[len] && c <= 0x10ffff && !(c >= 0xd800 && c <= 0xdfff) ? len : 0;
}

static bool reference_valid(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t len = reference(p + i, n - i);
        if (len == 0)
            return false;
        i += len;
    }
    return true;
}

static void compare(const unsigned char *p, size_t n)
{
    if (utf8_valid((struct slice){(const char *)p, n}) != reference_valid(p, n))
        fail_msg("%02x %02x %02x %02x (%zu bytes)", (unsigned)p[0], (unsigned)p[1], (unsigned)p[2], (unsigned)p[3], n);
}

static void every_sequence_of_up_to_three_bytes(void **state)
{
    (void)state;
    for (uint32_t v = 0; v < 1u << 24; v++) {
        const unsigned char bytes[4] = {(unsigned char)(v >> 16), (unsigned char)(v >> 8), (unsigned char)v, 0};
        if (bytes[0] < 0x80 && bytes[1] < 0x80 && (v & 0xff) > 0)
            continue; /* ASCII in front adds nothing */
        if (bytes[2] == 0) {
            compare(bytes, 2);
            if (bytes[1] == 0)
                compare(bytes, 1);
        }
        compare(bytes, 3);
    }
}

static void sequences_of_four_bytes(void **state)
{
    static const unsigned char ends[] = {0x00, 0x7f, 0x80, 0x9f, 0xbf, 0xc0, 0xff};
    (void)state;
    for (unsigned lead = 0xe0; lead <= 0xff; lead++)
        for (unsigned second = 0; second <= 0xff; second++)
            for (size_t i = 0; i < ARRAY_LEN(ends) * ARRAY_LEN(ends); i++) {
                const unsigned char bytes[4] = {(unsigned char)lead, (unsigned char)second, ends[i / ARRAY_LEN(ends)],
                                                ends[i % ARRAY_LEN(ends)]};
                compare(bytes, 4);
            }
}

static void every_character(void **state)
{
    (void)state;
    for (uint32_t c = 0x10000; c <= 0x10ffff; c++) {
        const char bytes[4] = {(char)(0xf0 | c >> 18), (char)(0x80 | (c >> 12 & 0x3f)), (char)(0x80 | (c >> 6 & 0x3f)),
                               (char)(0x80 | (c & 0x3f))};
        if (!utf8_valid((struct slice){bytes, sizeof bytes}))
            fail_msg("U+%X", c);
    }
}

/* Eight bytes are looked at together: a bad one must be seen at every place, and nothing past the end be looked at. */
static void at_every_place(void **state)
{
    (void)state;
    for (size_t n = 0; n < 40; n++) {
        char *text = xmalloc(n != 0 ? n : 1);
        memset(text, 'a', n);
        assert_true(utf8_valid((struct slice){text, n}));
        for (size_t at = 0; at < n; at++) {
            text[at] = (char)0x80;
            assert_false(utf8_valid((struct slice){text, n}));
            text[at] = (char)0xc3; /* a lead without its continuation, or cut by the end */
            assert_false(utf8_valid((struct slice){text, n}));
            text[at] = 'a';
            if (at + 3 > n)
                continue;
            memcpy(text + at, "\xe4\xb8\xad", 3);
            assert_true(utf8_valid((struct slice){text, n}));
            memset(text + at, 'a', 3);
        }
        free(text);
    }
    assert_true(utf8_valid(SLICE_NONE));
    assert_true(utf8_valid(SLICE("a\0b")));
}

static void names(void **state)
{
    (void)state;
    assert_true(utf8_name_valid(SLICE("room \xe4\xb8\xad\xf0\x9f\x98\x80"), 255));
    assert_true(utf8_name_valid(SLICE("\xc2\xa0"), 2)); /* U+00A0, the first that is no control character */
    assert_true(utf8_name_valid(SLICE("abc"), 3));
    assert_false(utf8_name_valid(SLICE("abcd"), 3));
    assert_false(utf8_name_valid(SLICE(""), 3));
    assert_false(utf8_name_valid(SLICE_NONE, 3));
    assert_false(utf8_name_valid(SLICE("a\xff"), 255));
    assert_false(utf8_name_valid(SLICE("a\xc2"), 255));
    for (int c = 0; c < 0xa0; c++) {
        const char ascii[1] = {(char)c}, two[2] = {(char)0xc2, (char)c};
        if (c < 0x80)
            assert_int_equal(utf8_name_valid((struct slice){ascii, 1}, 255), c >= 0x20 && c != 0x7f);
        else
            assert_false(utf8_name_valid((struct slice){two, 2}, 255));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_sequence_of_up_to_three_bytes),
        cmocka_unit_test(sequences_of_four_bytes),
        cmocka_unit_test(every_character),
        cmocka_unit_test(at_every_place),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
