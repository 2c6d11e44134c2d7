/* tests/unit/test_tail.c: the newest messages are kept within bounds, and for as long as they matter. */
#include "gateway/tail.h"

#include "gateway/metrics.h"
#include "tests/support/check.h"

static struct envelope entry(uint64_t offset, size_t n)
{
    static char data[1000];
    return (struct envelope){.kind = ENVELOPE_MESSAGE, .data = {data, n}, .position = {.offset = offset, .tag = "a"}};
}

static void tails_are_bounded(void **state)
{
    struct tails all;
    struct tail one, two;
    tails_init(&all);
    tail_init(&one);
    tail_init(&two);
    const size_t size = sizeof(struct tail_entry) + 100;
    const struct tail_limits limits = {3 * size, 4 * size};
    for (uint64_t i = 1; i <= 5; i++) {
        struct envelope e = entry(i, 100);
        tail_keep(&all, &one, &e, limits, 1000);
    }
    assert_int_equal(one.bytes, 3 * size);
    assert_null(tail_find(&one, 2));
    assert_non_null(tail_find(&one, 3));
    for (uint64_t i = 1; i <= 2; i++) { /* the oldest of the node goes, whosever it is */
        struct envelope e = entry(i, 100);
        tail_keep(&all, &two, &e, limits, 1000);
    }
    assert_int_equal(all.bytes, 4 * size);
    assert_int_equal(metrics->tail_bytes, 4 * size);
    assert_null(tail_find(&one, 3));
    struct envelope large = entry(6, 1000);
    tail_keep(&all, &one, &large, (struct tail_limits){1000, 4 * size}, 1000);
    assert_null(tail_find(&one, 6));
    struct tail_entry *taken = tail_find(&one, 4);
    tail_take(&one, taken);
    tail_fini(&one);
    assert_int_equal(all.bytes, 3 * size);
    tail_entry_free(taken);
    tail_fini(&two);
    assert_int_equal(all.bytes, 0);
    (void)state;
}

static void nothing_gets_old_while_the_store_is_away(void **state)
{
    struct tails all;
    struct tail one;
    struct envelope e = entry(1, 10);
    tails_init(&all);
    tail_init(&one);
    tail_keep(&all, &one, &e, (struct tail_limits){1000, 1000}, 1000);
    tails_link(&all, false, 10000);
    tails_link(&all, false, 20000);
    tails_expire(&all, 500000);
    assert_non_null(tail_find(&one, 1));
    tails_link(&all, true, 600000);
    tails_link(&all, true, 600001);
    tails_expire(&all, 620900); /* 9 s before, 20.9 s after */
    assert_non_null(tail_find(&one, 1));
    tails_expire(&all, 621001);
    assert_null(tail_find(&one, 1));
    assert_int_equal(all.bytes, 0);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tails_are_bounded),
        cmocka_unit_test(nothing_gets_old_while_the_store_is_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
