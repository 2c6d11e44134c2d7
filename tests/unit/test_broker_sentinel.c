/* tests/unit/test_broker_sentinel.c: whom the broker believes to be the primary: real servers, sentinels that say what the test wants. */
#include "tests/unit/broker_suite.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/table.h"
#include "tests/support/fake_sentinel.h"
#include "tests/support/log_catch.h"

#define SENTINELS 3

static struct redis_fixture first, second;

struct state {
    struct loop_fake loop;
    struct world w;
    struct fake_sentinel s[SENTINELS];
};

static void command(struct redis_fixture *f, const char *text)
{
    redisReply *r = redis_fixture_command(f, text);
    if (r->type == REDIS_REPLY_ERROR)
        fail_msg("%s: %s", text, r->str);
    freeReplyObject(r);
}

static int setup(void **state)
{
    struct state *t = xcalloc(1, sizeof *t);
    command(&first, "REPLICAOF NO ONE");
    command(&second, "REPLICAOF NO ONE");
    command(&first, "FLUSHALL");
    command(&second, "FLUSHALL");
    loop_fake_init(&t->loop);
    for (size_t i = 0; i < SENTINELS; i++)
        fake_sentinel_start(&t->s[i], &t->loop.loop, "main", first.port, 1);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct state *t = *state;
    log_catch_stop(true);
    world_fini(&t->w);
    for (size_t i = 0; i < SENTINELS; i++)
        fake_sentinel_stop(&t->s[i]);
    loop_fake_fini(&t->loop);
    free(t);
    return 0;
}

static void connect_by(struct state *t, const char *credentials, size_t sentinels, const char *name)
{
    char url[256];
    int n = snprintf(url, sizeof url, "redis+sentinel://%s", credentials);
    for (size_t i = 0; i < sentinels; i++)
        n += snprintf(url + n, sizeof url - (size_t)n, "%s127.0.0.1:%d", i != 0 ? "," : "", t->s[i].port);
    (void)snprintf(url + n, sizeof url - (size_t)n, "/%s", name);
    struct broker_config cfg = world_config(url, "gw1-ssssss");
    world_init(&t->w, &t->loop, &cfg);
}

static struct state *connected(void **state)
{
    struct state *t = *state;
    connect_by(t, "", SENTINELS, "main");
    world_ready(&t->w);
    return t;
}

/* A moment of both clocks. */
static void pass(struct state *t, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i += 50) {
        loop_fake_advance(&t->loop, 50);
        loop_fake_linger(&t->loop, 2);
    }
}

static bool is_down(void *arg)
{
    struct world *w = arg;
    return !w->up;
}

/* With the clock standing still: something was noticed, not polled for. */
static void await_down(struct state *t)
{
    assert_true(loop_fake_until(&t->loop, is_down, &t->w, 20000));
}

/* Does what is published land there, and nowhere else? */
static void assert_primary(struct state *t, struct redis_fixture *f)
{
    struct redis_fixture *other = f == &first ? &second : &first;
    assert_int_equal(do_say(&t->w, "proof", "1")->err, OK);
    assert_int_equal(redis_fixture_number(f, "DEL xd:{proof}:head"), 1);
    assert_int_equal(redis_fixture_number(other, "EXISTS xd:{proof}:head"), 0);
}

static void both_links_go_to_the_primary(void **state)
{
    struct state *t = connected(state);
    do_subscribe(&t->w, "lobby");
    assert_int_equal(do_say(&t->w, "lobby", "1")->err, OK);
    world_expect(&t->w, 1);
    assert_primary(t, &first);
    assert_int_equal(t->w.broker->stats.failovers, 0);
    /* What sentinels are asked is not counted as work for Redis. */
    uint64_t commands = t->w.broker->stats.commands;
    size_t asked = t->s[0].asked;
    loop_fake_linger(&t->loop, 10);
    assert_true(asked >= 1);
    assert_int_equal(t->w.broker->stats.commands, commands);
}

static void a_failover_is_noticed_at_once(void **state)
{
    struct state *t = connected(state);
    do_subscribe(&t->w, "lobby");
    assert_int_equal(do_say(&t->w, "lobby", "1")->err, OK);
    world_expect(&t->w, 1);
    log_catch_start();
    char line[128];
    (void)snprintf(line, sizeof line, "service=main old=127.0.0.1:%d new=127.0.0.1:%d epoch=2", first.port,
                   second.port);
    for (size_t i = 0; i < SENTINELS; i++)
        fake_sentinel_switch(&t->s[i], second.port, 2);
    /* The clock stands still: no poll can have done it. */
    await_down(t);
    assert_true(log_caught(line));
    world_recover(&t->w);
    log_catch_stop(false);
    assert_int_equal(t->w.broker->stats.failovers, 1);
    assert_primary(t, &second);
    assert_int_equal(do_say(&t->w, "lobby", "2")->err, OK);
    world_expect(&t->w, 2);
    assert_int_equal(redis_fixture_number(&second, "EXISTS xd:{lobby}:head"), 1);
}

static void a_lost_link_asks_again(void **state)
{
    struct state *t = connected(state);
    /* Nobody tells; but the next poll shows it, and so does a reconnect. */
    for (size_t i = 0; i < SENTINELS; i++) {
        t->s[i].primary = second.port;
        t->s[i].epoch = 2;
    }
    command(&first, "CLIENT KILL TYPE normal SKIPME yes");
    await_down(t);
    world_recover(&t->w);
    assert_primary(t, &second);
    assert_int_equal(t->w.broker->stats.failovers, 1);
    for (size_t i = 0; i < SENTINELS; i++) {
        t->s[i].primary = first.port;
        t->s[i].epoch = 3;
    }
    pass(t, 1500);
    world_recover(&t->w);
    assert_int_equal(t->w.broker->stats.failovers, 2);
}

static void the_highest_epoch_is_believed(void **state)
{
    struct state *t = *state;
    t->s[1].primary = t->s[2].primary = second.port; /* s[0] was cut off with the old primary */
    t->s[1].epoch = t->s[2].epoch = 5;
    connect_by(t, "", SENTINELS, "main");
    world_ready(&t->w);
    assert_primary(t, &second);
    /* Alone it convinces nobody either. */
    fake_sentinel_stop(&t->s[1]);
    fake_sentinel_stop(&t->s[2]);
    pass(t, 8000);
    assert_null(t->w.broker->ops->not_ready(t->w.broker));
    assert_int_equal(t->w.broker->stats.failovers, 0);
    command(&second, "CLIENT KILL TYPE normal SKIPME yes");
    await_down(t);
    world_recover(&t->w);
    assert_int_equal(t->w.broker->stats.failovers, 0);
}

static void one_that_knows_better_is_enough(void **state)
{
    struct state *t = connected(state);
    t->s[2].primary = second.port;
    t->s[2].epoch = 2;
    pass(t, 1500);
    world_recover(&t->w);
    assert_int_equal(t->w.broker->stats.failovers, 1);
    assert_primary(t, &second);
}

static void sentinels_set_up_anew_are_believed(void **state)
{
    struct state *t = *state;
    for (size_t i = 0; i < SENTINELS; i++)
        t->s[i].epoch = 9;
    (void)connected(state);
    t->s[0].epoch = t->s[1].epoch = 0; /* two of three */
    t->s[0].primary = t->s[1].primary = second.port;
    fake_sentinel_stop(&t->s[2]);
    pass(t, 7000);
    world_recover(&t->w);
    assert_int_equal(t->w.broker->stats.failovers, 1);
    assert_primary(t, &second);
}

static bool is_told(void *arg)
{
    return log_caught(arg);
}

static void a_replica_is_not_used(void **state)
{
    struct state *t = *state;
    freeReplyObject(redis_fixture_command(&first, "REPLICAOF 127.0.0.1 %d", second.port));
    log_catch_start();
    connect_by(t, "", SENTINELS, "main");
    static char text[] = "the sentinels name it, but it is a replica";
    bool told = loop_fake_until(&t->loop, is_told, text, 20000);
    assert_false(t->w.up);
    log_catch_stop(!told);
    assert_true(told);
    for (size_t i = 0; i < SENTINELS; i++)
        fake_sentinel_switch(&t->s[i], second.port, 2);
    world_recover(&t->w);
    assert_int_equal(do_say(&t->w, "lobby", "1")->err, OK);
}

static void who_became_a_replica_is_left(void **state)
{
    struct state *t = connected(state);
    freeReplyObject(redis_fixture_command(&first, "REPLICAOF 127.0.0.1 %d", second.port));
    for (size_t i = 0; i < SENTINELS; i++) {
        t->s[i].primary = second.port;
        t->s[i].epoch = 2;
    }
    struct answer *a = do_say(&t->w, "lobby", "1");
    assert_int_equal(a->err, ERR_UNAVAILABLE);
    assert_non_null(strstr(a->why, "READONLY"));
    await_down(t);
    world_recover(&t->w);
    assert_true(do_say(&t->w, "lobby", "1")->err == OK);
    assert_primary(t, &second);
}

static void unknown_names_are_told(void **state)
{
    struct state *t = *state;
    connect_by(t, "", SENTINELS, "other");
    pass(t, 4000);
    assert_string_equal(t->w.broker->ops->not_ready(t->w.broker), "the sentinels know no primary of that name");
    for (size_t i = 0; i < SENTINELS; i++)
        t->s[i].service = "other";
    world_recover(&t->w);
}

static void some_sentinels_may_be_gone(void **state)
{
    struct state *t = *state;
    for (size_t i = 0; i < SENTINELS; i++)
        fake_sentinel_stop(&t->s[i]);
    connect_by(t, "", SENTINELS, "main");
    pass(t, 4000);
    assert_string_equal(t->w.broker->ops->not_ready(t->w.broker), "no sentinel can be reached");
    fake_sentinel_return(&t->s[2]);
    world_recover(&t->w);
    /* None at all: the primary that was known has to do. */
    fake_sentinel_stop(&t->s[2]);
    command(&first, "CLIENT KILL TYPE normal SKIPME yes");
    await_down(t);
    world_recover(&t->w);
    assert_int_equal(do_say(&t->w, "lobby", "1")->err, OK);
}

static void a_mute_sentinel_does_not_hold_things_up(void **state)
{
    struct state *t = *state;
    t->s[0].mute = true;
    t->s[1].mute = true;
    connect_by(t, "", SENTINELS, "main");
    for (int ms = 0; ms < 500 && !t->w.up; ms += 50)
        pass(t, 50);
    world_ready(&t->w);
}

static void others_are_learned(void **state)
{
    struct state *t = *state;
    t->s[0].peer = &t->s[1];
    t->s[1].peer = &t->s[0];
    connect_by(t, "", 1, "main");
    world_ready(&t->w);
    pass(t, 3000);
    assert_true(t->s[1].asked >= 1);
    assert_int_equal(t->s[2].asked, 0);
    /* The one of the url is not needed any more. */
    fake_sentinel_stop(&t->s[0]);
    pass(t, 500);
    fake_sentinel_switch(&t->s[1], second.port, 2);
    await_down(t);
    world_recover(&t->w);
    assert_primary(t, &second);
}

static void sentinels_may_have_a_password(void **state)
{
    struct state *t = *state;
    for (size_t i = 0; i < SENTINELS; i++)
        t->s[i].password = "sesame";
    log_catch_start();
    connect_by(t, "", SENTINELS, "main");
    pass(t, 500);
    bool told = log_caught("NOAUTH");
    log_catch_stop(!told);
    assert_true(told);
    assert_false(t->w.up);
    world_fini(&t->w);
    connect_by(t, "", SENTINELS, "main?sentinel_password=wrong");
    pass(t, 500);
    assert_false(t->w.up);
    world_fini(&t->w);
    connect_by(t, "", SENTINELS, "main?sentinel_user=u&sentinel_password=sesame");
    world_ready(&t->w);
}

static void the_primary_may_have_a_name(void **state)
{
    struct state *t = *state;
    for (size_t i = 0; i < SENTINELS; i++)
        t->s[i].host = "localhost"; /* resolve-hostnames, announce-hostnames */
    connect_by(t, "", SENTINELS, "main");
    world_recover(&t->w);
    for (size_t i = 0; i < SENTINELS; i++) {
        t->s[i].host = "no good\r\nname";
        t->s[i].epoch = 2;
    }
    pass(t, 3000);
    assert_null(t->w.broker->ops->not_ready(t->w.broker)); /* nothing anybody would go to */
}

#undef T
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(both_links_go_to_the_primary),
        T(a_failover_is_noticed_at_once),
        T(a_lost_link_asks_again),
        T(the_highest_epoch_is_believed),
        T(one_that_knows_better_is_enough),
        T(sentinels_set_up_anew_are_believed),
        T(a_replica_is_not_used),
        T(who_became_a_replica_is_left),
        T(unknown_names_are_told),
        T(some_sentinels_may_be_gone),
        T(a_mute_sentinel_does_not_hold_things_up),
        T(others_are_learned),
        T(sentinels_may_have_a_password),
        T(the_primary_may_have_a_name),
    };
    (void)signal(SIGPIPE, SIG_IGN);
    table_seed();
    log_setup(getenv("VERBOSE") != NULL ? LOG_DEBUG : LOG_ERROR, LOG_TEXT, NULL);
    redis_fixture_start(&first);
    redis_fixture_start(&second);
    int failed = cmocka_run_group_tests_name("broker: Sentinel", tests, NULL, NULL);
    redis_fixture_stop(&first);
    redis_fixture_stop(&second);
    return failed;
}
