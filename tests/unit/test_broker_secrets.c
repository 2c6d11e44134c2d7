/* tests/unit/test_broker_secrets.c: secrets that nodes share, and their rotation: asked of every backend. */
#include "tests/unit/broker_suite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { PERIOD = 3600000, LEAD = 60000 };

static struct answer *ask(struct world *w, const char *fresh)
{
    struct answer *a = answer_new();
    w->broker->ops->secrets(w->broker, slice_str(fresh), PERIOD, LEAD, answered, a);
    return await_ok(w, a);
}

/* Time goes by for the secrets: by the embedded broker's clock, or in what Redis has of them. */
static void pass(struct world *w, int ms)
{
    struct redis_fixture *node = suite_redis("xd:tickets");
    if (node == NULL) {
        loop_fake_advance(w->loop, (uint64_t)ms);
        return;
    }
    freeReplyObject(redis_fixture_command(node, "EVAL %s 1 xd:tickets %d",
                                          "for _, m in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do "
                                          "redis.call('ZINCRBY', KEYS[1], -ARGV[1], m) end",
                                          ms));
}

static void assert_secret(const struct answer *a, size_t i, const char *text, int64_t age_ms)
{
    assert_true(i < a->count);
    assert_string_equal(a->entries[i].data, text);
    if (a->entries[i].age_ms < age_ms - 5 || a->entries[i].age_ms > age_ms + 5000)
        fail_msg("%s: %lld ms old, not %lld", text, (long long)a->entries[i].age_ms, (long long)age_ms);
}

static void the_first_one_counts_at_once_and_for_all(void **state)
{
    struct world *w = world_of(state);
    struct answer *a = ask(w, "one");
    assert_int_equal(a->count, 1);
    assert_secret(a, 0, "one", 0);
    a = ask(w, "two");
    assert_int_equal(a->count, 1);
    assert_secret(a, 0, "one", 0);
    pass(w, PERIOD / 2);
    a = ask(w, "three");
    assert_int_equal(a->count, 1);
    assert_secret(a, 0, "one", PERIOD / 2);
}

static void the_next_one_is_known_before_it_counts(void **state)
{
    struct world *w = world_of(state);
    (void)ask(w, "one");
    pass(w, PERIOD - LEAD - 20000);
    assert_int_equal(ask(w, "early")->count, 1);
    pass(w, 20000);
    struct answer *a = ask(w, "two");
    assert_int_equal(a->count, 2);
    assert_secret(a, 0, "one", PERIOD - LEAD);
    assert_secret(a, 1, "two", -LEAD);
    assert_int_equal(ask(w, "three")->count, 2);
    pass(w, LEAD);
    a = ask(w, "three");
    assert_int_equal(a->count, 2);
    assert_secret(a, 1, "two", 0);
}

static void what_is_two_periods_old_is_dropped(void **state)
{
    struct world *w = world_of(state);
    (void)ask(w, "one");
    pass(w, PERIOD);
    struct answer *a = ask(w, "two");
    assert_secret(a, 1, "two", -LEAD);
    pass(w, PERIOD - 20000);
    a = ask(w, "not yet");
    assert_int_equal(a->count, 2);
    pass(w, 20000);
    a = ask(w, "three");
    assert_int_equal(a->count, 2);
    assert_secret(a, 0, "two", PERIOD - LEAD);
    assert_secret(a, 1, "three", -LEAD);
}

static void after_a_long_sleep_there_is_a_fresh_one(void **state)
{
    struct world *w = world_of(state);
    (void)ask(w, "one");
    pass(w, PERIOD);
    (void)ask(w, "two");
    pass(w, 3 * PERIOD);
    struct answer *a = ask(w, "three");
    assert_int_equal(a->count, 1);
    assert_secret(a, 0, "three", 0);
}

static void asked_with_ever_shorter_periods_it_stays_bounded(void **state)
{
    struct world *w = world_of(state);
    for (uint64_t period = 1 << 20; period > 4; period /= 2) {
        char fresh[32];
        (void)snprintf(fresh, sizeof fresh, "%llu", (unsigned long long)period);
        struct answer *a = answer_new();
        w->broker->ops->secrets(w->broker, slice_str(fresh), period, period, answered, a);
        await_ok(w, a);
        assert_in_range(a->count, 1, SECRETS_MAX);
    }
}

static void what_others_wrote_there_does_no_harm(void **state)
{
    struct world *w = world_of(state);
    struct redis_fixture *node = suite_redis("xd:tickets");
    if (node == NULL)
        return;
    freeReplyObject(redis_fixture_command(node, "SET xd:tickets nonsense"));
    struct answer *a = answer_new();
    w->broker->ops->secrets(w->broker, SLICE("one"), PERIOD, LEAD, answered, a);
    assert_int_equal(await(w, a)->err, ERR_INTERNAL);
    freeReplyObject(redis_fixture_command(node, "DEL xd:tickets"));
    for (int i = 0; i < 20; i++)
        freeReplyObject(redis_fixture_command(node, "ZADD xd:tickets 99999999999999 junk%d", i));
    assert_int_equal(ask(w, "one")->count, SECRETS_MAX);
}

/* Nobody asks any more: the store forgets them. */
static void secrets_do_not_outlive_the_cluster(void **state)
{
    struct world *w = world_of(state);
    struct redis_fixture *node = suite_redis("xd:tickets");
    if (node == NULL)
        return;
    (void)ask(w, "one");
    assert_in_range(redis_fixture_number(node, "PTTL xd:tickets"), 3 * PERIOD - 60000, 3 * PERIOD);
}

static int run(const char *name)
{
    const struct CMUnitTest tests[] = {
        T(the_first_one_counts_at_once_and_for_all),
        T(the_next_one_is_known_before_it_counts),
        T(what_is_two_periods_old_is_dropped),
        T(after_a_long_sleep_there_is_a_fresh_one),
        T(asked_with_ever_shorter_periods_it_stays_bounded),
        T(what_others_wrote_there_does_no_harm),
        T(secrets_do_not_outlive_the_cluster),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return suite_main(run, false);
}
