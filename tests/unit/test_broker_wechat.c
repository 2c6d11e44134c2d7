/* tests/unit/test_broker_wechat.c: who has logged in at WeChat: asked of every backend. */
#include "tests/unit/broker_suite.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define ID  "0123456789abcdef0123456789abcdef"
#define KEY "xd:wechat:{" ID "}"

enum { WHOLE = 3600000, IDLE = 1800000, MINUTE = 60000, DAY = WECHAT_KEEP_MS };

static const struct wechat_login alice = {.id = SLICE(ID),
                                          .name = SLICE("one"),
                                          .hash = SLICE("aa11"),
                                          .appid = SLICE("wx1"),
                                          .openid = SLICE("oAlice"),
                                          .info = SLICE("{\"openId\":\"oAlice\"}"),
                                          .whole_ms = WHOLE,
                                          .idle_ms = IDLE};

static struct wechat_login named(const char *name)
{
    struct wechat_login l = alice;
    l.name = slice_str(name);
    return l;
}

static void put(struct world *w, struct wechat_login l)
{
    struct answer *a = answer_new();
    w->broker->ops->wechat_put(w->broker, &l, answered, a);
    assert_int_equal(a->times, 0);
    (void)await_ok(w, a);
}

static enum err check(struct world *w, struct wechat_login l)
{
    struct answer *a = answer_new();
    w->broker->ops->wechat_check(w->broker, &l, answered, a);
    assert_int_equal(a->times, 0);
    (void)await(w, a);
    assert_string_equal(a->owner, a->err == OK ? "oAlice" : "");
    return a->err;
}

/* Time goes by for the logins: by the embedded broker's clock, or in what Redis has of them. */
static void pass(struct world *w, int ms)
{
    struct redis_fixture *node = suite_redis(KEY);
    if (node == NULL) {
        loop_fake_advance(w->loop, (uint64_t)ms);
        return;
    }
    freeReplyObject(redis_fixture_command(
        node, "EVAL %s 1 " KEY " %d",
        "local all = redis.call('HGETALL', KEYS[1]) for i = 1, #all, 2 do local h, s, c = "
        "string.match(all[i + 1], '^(%S+) (%d+) (%d+)$') if h and string.sub(all[i], 1, 6) == 'login:' then "
        "redis.call('HSET', KEYS[1], all[i], string.format('%s %.0f %.0f', h, s - ARGV[1], c - ARGV[1])) end end",
        ms));
}

static void a_login_is_known_by_its_secret(void **state)
{
    struct world *w = world_of(state);
    struct wechat_login other = alice;
    assert_int_equal(check(w, alice), ERR_NOT_FOUND);
    put(w, alice);
    assert_int_equal(check(w, alice), OK);
    assert_int_equal(check(w, named("two")), ERR_NOT_FOUND);
    other.hash = SLICE("aa12");
    assert_int_equal(check(w, other), ERR_NOT_FOUND);
    other = alice;
    other.appid = SLICE("wx2");
    assert_int_equal(check(w, other), ERR_NOT_FOUND);
    other = alice;
    other.id = SLICE("ffffffffffffffffffffffffffffffff");
    assert_int_equal(check(w, other), ERR_NOT_FOUND);
}

static void it_ends_when_nobody_checks_it(void **state)
{
    struct world *w = world_of(state);
    put(w, alice);
    pass(w, IDLE - MINUTE);
    assert_int_equal(check(w, alice), OK);
    pass(w, IDLE - MINUTE);
    assert_int_equal(check(w, alice), OK);
    pass(w, IDLE);
    assert_int_equal(check(w, alice), ERR_UNAUTHORIZED);
}

static void it_ends_though_somebody_checks_it(void **state)
{
    struct world *w = world_of(state);
    put(w, alice);
    for (int at = 0; at < WHOLE; at += IDLE / 2) {
        assert_int_equal(check(w, alice), OK);
        pass(w, IDLE / 2);
    }
    assert_int_equal(check(w, alice), ERR_UNAUTHORIZED);
}

static void of_too_many_the_one_not_checked_for_longest_goes(void **state)
{
    struct world *w = world_of(state);
    static const char *const name[WECHAT_LOGINS_MAX + 1] = {"n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8"};
    for (int i = 0; i < WECHAT_LOGINS_MAX; i++) {
        put(w, named(name[i]));
        pass(w, MINUTE);
    }
    assert_int_equal(check(w, named(name[0])), OK);
    put(w, named(name[3])); /* again: takes nobody's place */
    assert_int_equal(check(w, named(name[1])), OK);
    pass(w, MINUTE);
    put(w, named(name[WECHAT_LOGINS_MAX]));
    assert_int_equal(check(w, named(name[2])), ERR_NOT_FOUND);
    for (int i = 0; i < WECHAT_LOGINS_MAX + 1; i++)
        assert_int_equal(check(w, named(name[i])), i == 2 ? ERR_NOT_FOUND : OK);
}

static void what_is_over_is_forgotten(void **state)
{
    struct world *w = world_of(state);
    struct redis_fixture *node = suite_redis(KEY);
    put(w, alice);
    if (node != NULL)
        assert_in_range(redis_fixture_number(node, "PTTL " KEY), IDLE + DAY - MINUTE, IDLE + DAY);
    pass(w, IDLE + DAY);
    if (node == NULL) {
        loop_fake_advance(w->loop, 2 * (uint64_t)MINUTE); /* swept */
        assert_int_equal(check(w, alice), ERR_NOT_FOUND);
        return;
    }
    put(w, named("two"));
    assert_int_equal(redis_fixture_number(node, "HEXISTS " KEY " login:one"), 0);
    assert_int_equal(check(w, named("two")), OK);
}

static void what_others_wrote_there_lets_nobody_in(void **state)
{
    struct world *w = world_of(state);
    struct redis_fixture *node = suite_redis(KEY);
    if (node == NULL)
        return;
    put(w, alice);
    freeReplyObject(redis_fixture_command(node, "HSET " KEY " login:one nonsense login:two also"));
    assert_int_equal(check(w, alice), ERR_NOT_FOUND);
    put(w, named("three"));
    assert_int_equal(redis_fixture_number(node, "HEXISTS " KEY " login:two"), 0);
    assert_int_equal(check(w, named("three")), OK);
    freeReplyObject(redis_fixture_command(node, "SET " KEY " nonsense"));
    struct answer *a = answer_new();
    w->broker->ops->wechat_check(w->broker, &alice, answered, a);
    assert_int_not_equal(await(w, a)->err, OK);
}

static int run(const char *name)
{
    const struct CMUnitTest tests[] = {
        T(a_login_is_known_by_its_secret),    T(it_ends_when_nobody_checks_it),
        T(it_ends_though_somebody_checks_it), T(of_too_many_the_one_not_checked_for_longest_goes),
        T(what_is_over_is_forgotten),         T(what_others_wrote_there_lets_nobody_in),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return suite_main(run, false);
}
