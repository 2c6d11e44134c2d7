/* tests/unit/test_limits.c: limits that nodes share: several of them with one store, which counts as limit.lua does, and a clock that only the test moves. */
#include "gateway/limits.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "tests/support/check.h"
#include "tests/support/loop_fake.h"

enum { NODES = 3 };

/* The store, of one subject. */
static struct {
    int64_t used, wanted; /* thousandths */
    uint64_t at_ms;
    unsigned asked;
    bool away;
} store;

static struct loop_fake loop;
static struct gateway nodes[NODES];
static struct broker broker;

struct answer {
    struct timer timer;
    broker_done *done;
    void *arg;
    struct broker_result result;
};

static void on_answer(struct timer *t)
{
    struct answer *a = container_of(t, struct answer, timer);
    timer_stop(t);
    a->done(a->arg, &a->result);
    free(a);
}

static void fake_limit(struct broker *b, const struct limit_report *report, broker_done *done, void *arg)
{
    uint64_t now = loop_now_ms(&loop.loop), gone = now - store.at_ms;
    struct answer *a = xcalloc(1, sizeof *a);
    (void)b;
    *a = (struct answer){.done = done, .arg = arg};
    store.asked++;
    if (store.away) {
        a->result = (struct broker_result){.err = ERR_UNAVAILABLE, .why = "away"};
    } else {
        const int64_t spare = -1000 * (int64_t)report->rate;
        store.used -= (int64_t)gone * report->rate;
        store.used = (store.used > spare ? store.used : spare) + (int64_t)report->taken * 1000;
        if (store.used < 0)
            store.used = 0;
        if (store.used > (int64_t)report->burst * 1000 + 10000 * (int64_t)report->rate)
            store.used = (int64_t)report->burst * 1000 + 10000 * (int64_t)report->rate;
        for (uint64_t i = 0; i < gone / 1000 && i < 60; i++)
            store.wanted /= 2;
        store.wanted -= store.wanted * (int64_t)(gone % 1000) / 2000;
        store.wanted += (int64_t)report->wanted * 1000;
        store.at_ms = now;
        a->result.limit_used = (uint64_t)store.used;
        a->result.limit_wanted = (uint64_t)store.wanted;
    }
    timer_init(&a->timer, &loop.loop, on_answer);
    timer_start(&a->timer, 2);
}

static const struct broker_ops shared_ops = {.name = "fake", .limit = fake_limit}, own_ops = {.name = "alone"};

static int begin(void **state)
{
    (void)state;
    loop_fake_init(&loop);
    memset(&store, 0, sizeof store);
    *metrics = (struct metrics){0};
    broker = (struct broker){.ops = &shared_ops, .loop = &loop.loop};
    for (int i = 0; i < NODES; i++) {
        nodes[i] = (struct gateway){.loop = &loop.loop, .broker = &broker};
        nodes[i].limits = limits_create(&nodes[i]);
    }
    return 0;
}

static int end(void **state)
{
    (void)state;
    loop_fake_advance(&loop, 10);
    for (int i = 0; i < NODES; i++)
        limits_destroy(&nodes[i].limits);
    assert_int_equal(metrics->limit_subjects, 0);
    loop_fake_fini(&loop);
    return 0;
}

/* For so many milliseconds each node i is asked per_second[i] times a second. Returns how often it was granted. */
static unsigned ask(const unsigned per_second[NODES], unsigned ms, uint32_t rate, uint32_t burst)
{
    unsigned granted = 0, debt[NODES] = {0};
    for (unsigned t = 0; t < ms; t += 5) {
        for (int i = 0; i < NODES; i++) {
            for (debt[i] += per_second[i] * 5; debt[i] >= 1000; debt[i] -= 1000)
                granted += limits_take(nodes[i].limits, LIMIT_USER, SLICE("alice"), rate, burst);
        }
        loop_fake_advance(&loop, 5);
    }
    return granted;
}

static void expect_about(unsigned got, unsigned want, unsigned percent)
{
    if (got * 100 < want * (100 - percent) || got * 100 > want * (100 + percent))
        fail_msg("%u granted, not %u to %u %%", got, want, percent);
}

/* --- */

static void alone_it_is_exact(void **state)
{
    (void)state;
    broker.ops = &own_ops;
    assert_int_equal(ask((const unsigned[NODES]){200, 0, 0}, 5000, 20, 40), 40 + 5 * 20 - 1);
    assert_int_equal(metrics->limited[LIMIT_USER], 1000 - 139);
    assert_int_equal(metrics->limited[LIMIT_IP], 0);
    assert_true(limits_take(nodes[0].limits, LIMIT_IP, SLICE("alice"), 20, 0)); /* another alice */
    assert_true(limits_take(nodes[0].limits, LIMIT_USER, SLICE("alice"), 0, 0));
    assert_true(limits_take(nodes[0].limits, LIMIT_USER, SLICE_NONE, 1, 0));
}

static void several_nodes_share_it(void **state)
{
    static const unsigned loads[][NODES] = {{200, 200, 0}, {200, 200, 200}, {1000, 100, 10},
                                            {60, 60, 0},   {30, 30, 30},    {500, 0, 0}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(loads); i++) {
        begin(NULL);
        unsigned first = ask(loads[i], 5000, 50, 0), then = ask(loads[i], 10000, 50, 0);
        expect_about(first, 50 + 5 * 50, 15);
        expect_about(then, 10 * 50, 10);
        end(NULL);
    }
    begin(NULL);
}

/* Who sends below the limit is not refused, however it is spread. */
static void within_the_limit_nothing_is_refused(void **state)
{
    (void)state;
    assert_int_equal(ask((const unsigned[NODES]){20, 20, 0}, 10000, 50, 0), 400);
    assert_int_equal(metrics->limited[LIMIT_USER], 0);
}

static void the_part_follows_the_load(void **state)
{
    (void)state;
    expect_about(ask((const unsigned[NODES]){200, 0, 0}, 5000, 50, 0), 300, 10);
    expect_about(ask((const unsigned[NODES]){0, 200, 0}, 5000, 50, 0), 250, 25);
    expect_about(ask((const unsigned[NODES]){0, 200, 0}, 5000, 50, 0), 250, 5);
}

static void who_takes_little_costs_the_store_nothing(void **state)
{
    (void)state;
    assert_int_equal(ask((const unsigned[NODES]){5, 5, 5}, 20000, 50, 0), 300);
    assert_int_equal(store.asked, 0);
}

static void a_subject_costs_one_command_per_node_and_second(void **state)
{
    (void)state;
    (void)ask((const unsigned[NODES]){500, 500, 0}, 10000, 50, 0);
    assert_in_range(store.asked, 18, 23);
    assert_int_equal(metrics->limit_settlements, store.asked);
    unsigned before = store.asked;
    (void)ask((const unsigned[NODES]){1, 1, 0}, 10000, 50, 0); /* quiet again */
    assert_in_range(store.asked - before, 0, 14);
    before = store.asked;
    (void)ask((const unsigned[NODES]){1, 1, 0}, 10000, 50, 0);
    assert_int_equal(store.asked, before);
}

static void without_the_store_each_goes_on_with_its_part(void **state)
{
    (void)state;
    (void)ask((const unsigned[NODES]){200, 200, 0}, 10000, 50, 0);
    store.away = true;
    expect_about(ask((const unsigned[NODES]){200, 200, 0}, 10000, 50, 0), 500, 35);
    store.away = false;
    expect_about(ask((const unsigned[NODES]){200, 200, 0}, 10000, 50, 0), 500, 35);
    expect_about(ask((const unsigned[NODES]){200, 200, 0}, 10000, 50, 0), 500, 10);
}

static void with_no_store_at_all_each_has_the_whole(void **state)
{
    (void)state;
    store.away = true;
    expect_about(ask((const unsigned[NODES]){200, 200, 0}, 10000, 50, 0), 2 * 550, 2);
}

static void a_new_rate_counts_at_once(void **state)
{
    (void)state;
    (void)ask((const unsigned[NODES]){200, 200, 0}, 5000, 50, 0);
    (void)ask((const unsigned[NODES]){200, 200, 0}, 5000, 100, 0);
    expect_about(ask((const unsigned[NODES]){200, 200, 0}, 5000, 100, 0), 500, 10);
    (void)ask((const unsigned[NODES]){200, 200, 0}, 11000, 10,
              0); /* what was too much by the new one is paid for, at most ten seconds */
    expect_about(ask((const unsigned[NODES]){200, 200, 0}, 10000, 10, 0), 100, 15);
}

static void memory_is_bounded(void **state)
{
    char name[24];
    (void)state;
    for (unsigned i = 0; i < 70000; i++) {
        (void)snprintf(name, sizeof name, "user%u", i);
        for (int n = 0; n < 4; n++)
            (void)limits_take(nodes[0].limits, LIMIT_USER, slice_str(name), 10, 0);
        if (i % 1000 == 0)
            loop_fake_advance(&loop, 1);
    }
    assert_int_equal(metrics->limit_subjects, 65536);
    loop_fake_advance(&loop, 1000); /* what was asked for those that are forgotten is answered */
}

/* One customer of IPv6 has 2^64 addresses. */
static void addresses(void **state)
{
    struct limits *l = nodes[0].limits;
    (void)state;
    broker.ops = &own_ops;
    assert_true(limits_take(l, LIMIT_IP, SLICE("2001:db8::1"), 1, 0));
    assert_false(limits_take(l, LIMIT_IP, SLICE("2001:db8:0:0:ffff::2"), 1, 0));
    assert_true(limits_take(l, LIMIT_IP, SLICE("2001:db8:0:1::1"), 1, 0));
    assert_true(limits_take(l, LIMIT_IP, SLICE("192.0.2.1"), 1, 0));
    assert_true(limits_take(l, LIMIT_IP, SLICE("192.0.2.2"), 1, 0));
    assert_false(limits_take(l, LIMIT_IP, SLICE("192.0.2.1"), 1, 0));
    assert_true(limits_take(l, LIMIT_IP, SLICE("::ffff:192.0.2.1"), 1, 0));
    assert_true(limits_take(l, LIMIT_IP, SLICE("::ffff:192.0.2.2"), 1, 0));
    assert_int_equal(metrics->limited[LIMIT_IP], 2);
}

#define L(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    table_seed();
    const struct CMUnitTest tests[] = {
        L(alone_it_is_exact),
        cmocka_unit_test_teardown(several_nodes_share_it, end),
        L(within_the_limit_nothing_is_refused),
        L(the_part_follows_the_load),
        L(who_takes_little_costs_the_store_nothing),
        L(a_subject_costs_one_command_per_node_and_second),
        L(without_the_store_each_goes_on_with_its_part),
        L(with_no_store_at_all_each_has_the_whole),
        L(a_new_rate_counts_at_once),
        L(memory_is_bounded),
        L(addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
