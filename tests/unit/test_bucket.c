/* tests/unit/test_bucket.c: token buckets. */
#include "base/mem.h"
#include "gateway/bucket.h"
#include "tests/support/check.h"

#define SECOND UINT64_C(1000000)

static void zeroed_bucket_is_full(void **state)
{
    struct bucket b = {0};
    (void)state;
    for (int i = 0; i < 5; i++)
        assert_true(bucket_take(&b, 1, 5, 0));
    assert_false(bucket_take(&b, 1, 5, 0));
}

static void refills_exactly_at_rate(void **state)
{
    struct bucket b = {0};
    uint64_t now = 7 * SECOND;
    (void)state;
    assert_true(bucket_take(&b, 3, 1, now)); /* a third of a second is not a whole number of microseconds */
    assert_false(bucket_take(&b, 3, 1, now + 333333));
    assert_int_equal(bucket_wait_us(&b, 3, 1, now + 333333), 1);
    assert_true(bucket_take(&b, 3, 1, now + 333334));
}

static void never_gives_more_than_rate_and_burst(void **state)
{
    struct bucket b = {0};
    uint64_t random = 42, now = 0, taken = 0;
    (void)state;
    for (int i = 0; i < 200000; i++) {
        now += check_random(&random) % 2000;
        taken += bucket_take(&b, 100, 20, now);
        assert_true(taken <= 20 + now * 100 / SECOND);
    }
    assert_in_range(taken, 19 + now * 100 / SECOND, 20 + now * 100 / SECOND); /* and none is lost */
}

static void pause_refills_to_burst_and_not_beyond(void **state)
{
    struct bucket b = {0};
    (void)state;
    while (bucket_take(&b, 10, 20, SECOND))
        ;
    for (int i = 0; i < 20; i++)
        assert_true(bucket_take(&b, 10, 20, 1000000 * SECOND));
    assert_false(bucket_take(&b, 10, 20, 1000000 * SECOND));
}

static void zero_rate_is_no_limit(void **state)
{
    struct bucket b = {0};
    (void)state;
    for (int i = 0; i < 1000; i++)
        assert_true(bucket_take(&b, 0, 1, 0));
    assert_int_equal(bucket_wait_us(&b, 0, 1, 0), 0);
    assert_int_equal(b.used, 0);
}

static void zero_burst_is_the_rate(void **state)
{
    struct bucket b = {0};
    int taken = 0;
    (void)state;
    while (bucket_take(&b, 7, 0, SECOND))
        taken++;
    assert_int_equal(taken, 7);
}

static void clock_that_steps_back_gives_nothing(void **state)
{
    struct bucket b = {0};
    (void)state;
    assert_true(bucket_take(&b, 1, 1, 10 * SECOND));
    assert_false(bucket_take(&b, 1, 1, 0));
    assert_false(bucket_take(&b, 1, 1, 10 * SECOND + SECOND - 1));
    assert_true(bucket_take(&b, 1, 1, 11 * SECOND));
}

static void refusal_costs_nothing(void **state)
{
    struct bucket b = {0};
    (void)state;
    assert_true(bucket_take(&b, 1, 1, 0));
    for (uint64_t now = 1; now < SECOND; now += 1000)
        assert_false(bucket_take(&b, 1, 1, now));
    assert_true(bucket_take(&b, 1, 1, SECOND));
}

static void lowered_burst_applies_at_once(void **state)
{
    struct bucket b = {0};
    (void)state;
    for (int i = 0; i < 90; i++)
        assert_true(bucket_take(&b, 10, 100, 0));
    assert_false(bucket_take(&b, 10, 5, 0));
    assert_int_equal(bucket_wait_us(&b, 10, 5, 0), (90 - 4) * SECOND / 10);
    assert_true(bucket_take(&b, 10, 5, (90 - 4) * SECOND / 10));
}

static void extreme_numbers_do_not_overflow(void **state)
{
    struct bucket b = {0};
    (void)state;
    assert_true(bucket_take(&b, UINT32_MAX, UINT32_MAX, 0));
    assert_true(bucket_take(&b, UINT32_MAX, UINT32_MAX, UINT64_MAX));
    assert_true(bucket_take(&b, 1, UINT32_MAX, UINT64_MAX));
    assert_int_equal(bucket_wait_us(&b, 1, UINT32_MAX, UINT64_MAX), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zeroed_bucket_is_full),
        cmocka_unit_test(refills_exactly_at_rate),
        cmocka_unit_test(never_gives_more_than_rate_and_burst),
        cmocka_unit_test(pause_refills_to_burst_and_not_beyond),
        cmocka_unit_test(zero_rate_is_no_limit),
        cmocka_unit_test(zero_burst_is_the_rate),
        cmocka_unit_test(clock_that_steps_back_gives_nothing),
        cmocka_unit_test(refusal_costs_nothing),
        cmocka_unit_test(lowered_burst_applies_at_once),
        cmocka_unit_test(extreme_numbers_do_not_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
