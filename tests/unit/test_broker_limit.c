/* tests/unit/test_broker_limit.c: limits that nodes share, as Redis and a Redis Cluster count them. */
#include "tests/unit/broker_suite.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct answer *tell(struct world *w, const char *subject, uint32_t rate, uint64_t taken, uint64_t wanted)
{
    struct answer *a = answer_new();
    const struct limit_report report = {
        .subject = slice_str(subject), .rate = rate, .burst = rate, .taken = taken, .wanted = wanted};
    w->broker->ops->limit(w->broker, &report, answered, a);
    assert_int_equal(a->times, 0);
    return await_ok(w, a);
}

static bool none(void)
{
    return strcmp(suite_url, "memory") == 0;
}

static void what_nodes_tell_adds_up(void **state)
{
    struct world *w = world_of(state);
    if (none())
        return;
    (void)tell(w, "user:alice", 1, 10, 20); /* one in a second is hardly refilled while this runs */
    struct answer *a = tell(w, "user:alice", 1, 5, 5);
    assert_in_range(a->limit_used, 11000, 11000);  /* ten seconds to be paid, and the burst, at most */
    assert_in_range(a->limit_wanted, 5001, 25000); /* half as much for every second that the machine takes */
    a = tell(w, "user:b}b {%", 100, 50, 50);
    assert_in_range(a->limit_used, 40000, 50000);
    assert_in_range(a->limit_wanted, 50000, 50000);
    assert_in_range(tell(w, "user:b}b {%", 100, 0, 0)->limit_used, 0, 50000);
}

static void it_is_refilled_and_forgotten(void **state)
{
    struct world *w = world_of(state);
    if (none())
        return;
    (void)tell(w, "room:lobby", 1000, 500, 500);
    struct redis_fixture *home = suite_redis("xd:limit:{room:lobby}");
    assert_in_range(redis_fixture_number(home, "PTTL xd:limit:{room:lobby}"), 9000, 10500);
    loop_fake_linger(w->loop, 300);
    struct answer *a = tell(w, "room:lobby", 1000, 0, 0);
    assert_in_range(a->limit_used, 0, 200000);
    assert_in_range(a->limit_wanted, 0, 440000);
    /* Taken while it was being refilled: what one second gives is there already, not what a long pause gave. */
    freeReplyObject(redis_fixture_command(home, "HSET xd:limit:{room:lobby} used 0 wanted 0 at 1700000000000"));
    assert_in_range(tell(w, "room:lobby", 1000, 1500, 1500)->limit_used, 490000, 500000);
}

static void what_others_wrote_there_does_no_harm(void **state)
{
    struct world *w = world_of(state);
    if (none())
        return;
    struct redis_fixture *home = suite_redis("xd:limit:{ip:192.0.2.1}");
    freeReplyObject(redis_fixture_command(home, "HSET xd:limit:{ip:192.0.2.1} used x wanted -5e300 at nan"));
    struct answer *a = answer_new();
    const struct limit_report report = {.subject = SLICE("ip:192.0.2.1"), .rate = 10, .burst = 10, .taken = 1};
    w->broker->ops->limit(w->broker, &report, answered, a);
    (void)await(w, a);
    freeReplyObject(redis_fixture_command(home, "DEL xd:limit:{ip:192.0.2.1}"));
    freeReplyObject(redis_fixture_command(home, "SET xd:limit:{ip:192.0.2.1} nonsense"));
    a = answer_new();
    w->broker->ops->limit(w->broker, &report, answered, a);
    assert_int_equal(await(w, a)->err, ERR_INTERNAL);
}

static int run(const char *name)
{
    const struct CMUnitTest tests[] = {
        T(what_nodes_tell_adds_up),
        T(it_is_refilled_and_forgotten),
        T(what_others_wrote_there_does_no_harm),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return suite_main(run, false);
}
