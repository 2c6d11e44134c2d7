/* tests/unit/test_position.c: positions as they are written. */
#include "proto/position.h"
#include "tests/support/check.h"

static void they_are_written_and_read(void **state)
{
    static const struct {
        struct position position;
        const char *text;
    } cases[] = {
        {{0, ""}, "0"},
        {{1, "Qn4wXk2_"}, "1.Qn4wXk2_"},
        {{OFFSET_MAX, "-_-_-_-_"}, "9007199254740991.-_-_-_-_"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf b = BUF_INIT;
        struct position back = {7, "leftover"};
        position_append(&b, &cases[i].position);
        assert_int_equal(b.n, strlen(cases[i].text));
        assert_memory_equal(b.p, cases[i].text, b.n);
        assert_true(b.n <= POSITION_MAX);
        assert_true(position_parse(buf_slice(&b), &back));
        assert_int_equal(back.offset, cases[i].position.offset);
        assert_string_equal(back.tag, cases[i].position.tag);
        buf_fini(&b);
    }
}

static void others_are_refused(void **state)
{
    static const char *const bad[] = {"",           "1",
                                      "00",         "0.Qn4wXk2_",
                                      "1.",         ".Qn4wXk2_",
                                      "1.Qn4wXk2",  "1.Qn4wXk2_4",
                                      "1 Qn4wXk2_", "-1.Qn4wXk2_",
                                      "1.Qn4w+k2_", "1.Qn4wXk2_\n",
                                      "1..Qn4wXk2", "9007199254740992.Qn4wXk2_"};
    struct position untouched = {7, "leftover"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (position_parse(slice_str(bad[i]), &untouched))
            fail_msg("`%s` was taken", bad[i]);
    assert_int_equal(untouched.offset, 7);
    assert_string_equal(untouched.tag, "leftover");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_are_written_and_read),
        cmocka_unit_test(others_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
