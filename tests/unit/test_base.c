/* tests/unit/test_base.c: the small modules of base/: arena, buf, error, list, mem, msg, random, slice. */
#include <ctype.h>

#include "base/arena.h"
#include "base/base64.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/msg.h"
#include "base/random.h"
#include "tests/support/check.h"

static void base64_is_strict(void **state)
{
    static const struct {
        const char *bytes, *text, *url;
    } same[] = {
        {"", "", ""},
        {"f", "Zg==", "Zg"},
        {"fo", "Zm8=", "Zm8"},
        {"foo", "Zm9v", "Zm9v"},
        {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
        {"\xfb\xff\xbf", "+/+/", "-_-_"},
    };
    static const struct {
        enum base64 alphabet;
        const char *text;
    } bad[] = {{BASE64, "Zg"},       {BASE64, "Zg="},   {BASE64, "Zh=="},    {BASE64, "Zm9="},     {BASE64, "Zm9v\n"},
               {BASE64, "Zg==Zg=="}, {BASE64, "-_-_"},  {BASE64, "===="},    {BASE64, "Zm8=Zm8="}, {BASE64URL, "Zg=="},
               {BASE64URL, "Z"},     {BASE64URL, "Zh"}, {BASE64URL, "+/+/"}, {BASE64URL, "Zm9 "}};
    char to[32];
    size_t n;
    (void)state;
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        struct slice bytes = slice_str(same[i].bytes), text = slice_str(same[i].text), url = slice_str(same[i].url);
        assert_int_equal(base64_put(bytes, to) - to, text.n);
        assert_int_equal(base64_letters(bytes.n), text.n);
        assert_memory_equal(to, text.p, text.n);
        assert_true(base64_take(BASE64, text, to, &n) && n == bytes.n && n <= base64_bytes(text.n));
        assert_memory_equal(to, bytes.p, n);
        assert_true(base64_take(BASE64URL, url, to, &n) && n == bytes.n);
        assert_memory_equal(to, bytes.p, n);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (base64_take(bad[i].alphabet, slice_str(bad[i].text), to, &n))
            fail_msg("`%s` was taken", bad[i].text);
}

static void arenas_have_a_cap(void **state)
{
    struct arena a;
    (void)state;
    arena_init(&a, 10000);
    size_t got = 0;
    for (;;) {
        char *p = arena_alloc(&a, 100);
        if (p == NULL)
            break;
        assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
        memset(p, 'x', 100);
        got += 100;
    }
    assert_in_range(got, 7000, 10000);
    assert_null(arena_alloc(&a, 9000));
    arena_reset(&a);
    assert_int_equal(a.used, 0);

    char *whole = arena_alloc(&a, 9000); /* more than a block */
    assert_non_null(whole);
    memset(whole, 'x', 9000);
    assert_null(arena_alloc(&a, 9000));
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_alloc(&a, SIZE_MAX - 8));
    arena_reset(&a);
    arena_reset(&a);
}

static void bufs_grow(void **state)
{
    struct buf b = BUF_INIT;
    (void)state;
    buf_append(&b, SLICE_NONE);
    assert_null(b.p);
    for (int i = 0; i < 10000; i++)
        buf_append_char(&b, (char)('a' + i % 26));
    buf_append(&b, SLICE("tail"));
    assert_int_equal(b.n, 10004);
    assert_true(b.cap >= b.n);
    for (size_t i = 0; i < 10000; i++)
        assert_int_equal(b.p[i], 'a' + i % 26);
    buf_consume(&b, 10000);
    assert_slice(buf_slice(&b), "tail");
    buf_consume(&b, 0);
    buf_consume(&b, 4);
    assert_int_equal(b.n, 0);
    memset(buf_reserve(&b, 100000), 'z', 100000);
    b.n += 100000;
    assert_int_equal(b.p[99999], 'z');
    buf_clear(&b);
    assert_int_equal(b.n, 0);
    buf_fini(&b);
    assert_null(b.p);
    buf_fini(&b);
}

static void bufs_print(void **state)
{
    struct buf b = BUF_INIT;
    (void)state;
    buf_append_u64(&b, 0);
    buf_append_char(&b, ' ');
    buf_append_u64(&b, 1234567890);
    buf_append_char(&b, ' ');
    buf_append_u64(&b, UINT64_MAX);
    buf_append_str(&b, "|");
    buf_append_str(&b, NULL);
    buf_printf(&b, "%s-%d", "x", -5);
    buf_printf(&b, "%s", "");
    assert_slice(buf_slice(&b), "0 1234567890 18446744073709551615|x--5");
    buf_clear(&b);
    buf_printf(&b, "%1000d", 7);
    assert_int_equal(b.n, 1000);
    buf_fini(&b);
}

static void slices(void **state)
{
    (void)state;
    assert_true(slice_eq(SLICE_NONE, SLICE("")));
    assert_true(slice_eq(SLICE("a\0b"), SLICE("a\0b")));
    assert_false(slice_eq(SLICE("a\0b"), SLICE("a\0c")));
    assert_false(slice_eq(SLICE("a"), SLICE("ab")));
    assert_true(slice_starts(SLICE("$user:x"), SLICE("$user:")));
    assert_true(slice_starts(SLICE_NONE, SLICE_NONE));
    assert_true(slice_starts(SLICE("x"), SLICE_NONE));
    assert_false(slice_starts(SLICE("$use"), SLICE("$user:")));
    assert_slice(slice_from(SLICE("abc"), 1), "bc");
    assert_int_equal(slice_from(SLICE("abc"), 3).n, 0);
    assert_int_equal(slice_str(NULL).n, 0);
}

static void errors_are_documented(void **state)
{
    (void)state;
    assert_string_equal(err_name(OK), "ok");
    for (enum err code = OK + 1; code < ERR_COUNT; code++) {
        const char *name = err_name(code);
        assert_non_null(name);
        for (const char *c = name; *c != '\0'; c++)
            assert_true(islower((unsigned char)*c) || *c == '_' || isdigit((unsigned char)*c));
        for (enum err other = OK; other < code; other++)
            assert_string_not_equal(name, err_name(other));
        assert_in_range(err_http_status(code), 400, 599);
        assert_true((err_close_code(code) >= 1001 && err_close_code(code) <= 1014) ||
                    (err_close_code(code) >= 4000 && err_close_code(code) <= 4999));
        assert_int_not_equal(err_close_code(code), 1005);
        assert_int_not_equal(err_close_code(code), 1006);
    }
    assert_true(err_retry(ERR_UNAVAILABLE));
    assert_false(err_retry(ERR_BAD_REQUEST));
}

static void fail_fills_in_an_error(void **state)
{
    struct error e;
    (void)state;
    /* In parentheses: cmocka has a macro of that name. */
    assert_int_equal((fail)(&e, ERR_TOO_LARGE, "%zu bytes", (size_t)7), ERR_TOO_LARGE);
    assert_int_equal(e.code, ERR_TOO_LARGE);
    assert_string_equal(e.text, "7 bytes");
    (void)(fail)(&e, ERR_INTERNAL, "%500d", 1);
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
}

struct element {
    int number;
    struct link link;
};

static void check_list(struct link *head, const char *want)
{
    char got[16] = "";
    size_t n = 0;
    list_for_each (it, head)
        got[n++] = (char)('0' + list_entry(it, struct element, link)->number);
    assert_string_equal(got, want);
    /* Backwards too. */
    for (struct link *it = head->prev; it != head; it = it->prev)
        assert_int_equal(list_entry(it, struct element, link)->number, got[--n] - '0');
    assert_int_equal(n, 0);
}

static void lists(void **state)
{
    struct element e[5];
    struct link head, other;
    (void)state;
    list_init(&head);
    list_init(&other);
    assert_true(list_empty(&head));
    for (int i = 0; i < 5; i++) {
        e[i].number = i;
        list_init(&e[i].link);
    }
    list_append(&head, &e[1].link);
    list_append(&head, &e[2].link);
    list_prepend(&head, &e[0].link);
    check_list(&head, "012");
    assert_ptr_equal(list_first(&head, struct element, link), &e[0]);
    list_del(&e[1].link);
    list_del(&e[1].link); /* harmless */
    assert_true(list_empty(&e[1].link));
    check_list(&head, "02");
    list_splice(&head, &other);
    check_list(&head, "02");
    list_append(&other, &e[3].link);
    list_append(&other, &e[4].link);
    list_splice(&head, &other);
    check_list(&head, "0234");
    assert_true(list_empty(&other));
    list_splice(&other, &head);
    check_list(&other, "0234");
    list_for_each_safe (it, &other) {
        if (list_entry(it, struct element, link)->number % 2 == 0)
            list_del(it);
    }
    check_list(&other, "3");
}

static void memory(void **state)
{
    (void)state;
    AUTO_FREE char *copy = xstrndup("abcdef", 3);
    assert_string_equal(copy, "abc");
    AUTO_FREE char *empty = xstrndup(NULL, 0);
    assert_string_equal(empty, "");
    AUTO_FREE char *whole = xstrdup("whole");
    assert_string_equal(whole, "whole");
    AUTO_FREE unsigned char *zeros = xcalloc(10, 10);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(zeros[i], 0);
    AUTO_FREE void *nothing = xmalloc(0);
    assert_non_null(nothing);
    AUTO_FREE void *grown = xrealloc(NULL, 0);
    assert_non_null(grown);
    AUTO_FREE char *given = xstrdup("given");
    AUTO_FREE char *taken = TAKE(given);
    assert_null(given);
    assert_string_equal(taken, "given");
}

static void messages_are_counted(void **state)
{
    (void)state;
    char body[] = "body";
    struct msg *m = msg_new((struct slice){body, 4}), *again = msg_ref(m);
    body[0] = 'x'; /* it was copied */
    assert_ptr_equal(m, again);
    msg_unref(&m);
    assert_null(m);
    assert_slice(msg_slice(again), "body");
    msg_unref(&again);
    assert_null(again);
    msg_unref(&again);
    struct msg *empty = msg_new(SLICE_NONE);
    assert_int_equal(msg_slice(empty).n, 0);
    msg_unref(&empty);
}

static void random_values_differ_and_fit(void **state)
{
    static const char base64url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned seen[256] = {0};
    char a[23], b[23], hex[17];
    (void)state;
    for (int i = 0; i < 2000; i++) {
        random_id(a, 22);
        random_id(b, 22);
        assert_int_equal(strlen(a), 22);
        assert_string_not_equal(a, b);
        assert_int_equal(strspn(a, base64url), 22);
        for (size_t k = 0; k < 22; k++)
            seen[(unsigned char)a[k]]++;
        random_hex(hex, 16);
        assert_int_equal(strlen(hex), 16);
        assert_int_equal(strspn(hex, "0123456789abcdef"), 16);
    }
    /* 44000 letters over 64: 687 each, give or take 26. */
    for (size_t i = 0; i < 64; i++)
        assert_in_range(seen[(unsigned char)base64url[i]], 687 - 8 * 26, 687 + 8 * 26);

    unsigned dice[6] = {0};
    for (int i = 0; i < 60000; i++) {
        uint32_t v = random_below(6);
        assert_true(v < 6);
        dice[v]++;
    }
    for (size_t i = 0; i < 6; i++)
        assert_in_range(dice[i], 10000 - 800, 10000 + 800);
    assert_int_equal(random_below(1), 0);

    unsigned char large[5000] = {0}, zero[5000] = {0};
    random_bytes(large, sizeof large); /* past the pool */
    assert_memory_not_equal(large, zero, sizeof zero);
    assert_memory_not_equal(large + 4900, zero, 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64_is_strict),
        cmocka_unit_test(arenas_have_a_cap),
        cmocka_unit_test(bufs_grow),
        cmocka_unit_test(bufs_print),
        cmocka_unit_test(slices),
        cmocka_unit_test(errors_are_documented),
        cmocka_unit_test(fail_fills_in_an_error),
        cmocka_unit_test(lists),
        cmocka_unit_test(memory),
        cmocka_unit_test(messages_are_counted),
        cmocka_unit_test(random_values_differ_and_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
