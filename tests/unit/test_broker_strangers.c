/* tests/unit/test_broker_strangers.c: a failover to a replica that has not heard of the last things a node did: what comes back is found and let go of again. */
#include "tests/unit/broker_world.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/table.h"
#include "tests/support/fake_sentinel.h"
#include "tests/support/redis_fixture.h"

#define WINDOW_MS 600000
#define MANY      600

static struct redis_fixture first, second;

/* Two nodes with one clock; the second one listens in the lobby. */
struct fixture {
    struct loop_fake loop;
    struct world w[2];
    struct fake_sentinel sentinel;
};

static void command(struct redis_fixture *f, const char *text)
{
    redisReply *r = redis_fixture_command(f, text);
    if (r->type == REDIS_REPLY_ERROR)
        fail_msg("%s: %s", text, r->str);
    freeReplyObject(r);
}

static void await_replica(void)
{
    for (int i = 0; i < 2000; i++) {
        command(&first, "PUBLISH nowhere 1");
        if (redis_fixture_number(&first, "WAIT 1 100") == 1)
            return;
    }
    fail_msg("the replica does not follow");
}

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    command(&first, "REPLICAOF NO ONE");
    command(&first, "FLUSHALL");
    freeReplyObject(redis_fixture_command(&second, "REPLICAOF 127.0.0.1 %d", first.port));
    await_replica();
    loop_fake_init(&f->loop);
    fake_sentinel_start(&f->sentinel, &f->loop.loop, "main", first.port, 1);
    char url[128];
    (void)snprintf(url, sizeof url, "redis+sentinel://xindao:SECRET@127.0.0.1:%d/main", f->sentinel.port);
    for (size_t i = 0; i < ARRAY_LEN(f->w); i++) {
        struct broker_config cfg = world_config(url, i == 0 ? "gw1-aaaaaa" : "gw2-bbbbbb");
        cfg.timeout_ms = 1000;
        cfg.lease_ms = 60000;
        world_init(&f->w[i], &f->loop, &cfg);
        world_ready(&f->w[i]);
        do_subscribe(&f->w[i], "lobby");
    }
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < ARRAY_LEN(f->w); i++)
        world_fini(&f->w[i]);
    fake_sentinel_stop(&f->sentinel);
    loop_fake_fini(&f->loop);
    free(f);
    return 0;
}

static void pass(struct fixture *f, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i += 100) {
        loop_fake_advance(&f->loop, 100);
        loop_fake_linger(&f->loop, 2);
    }
}

/* What happens from now on the replica never hears of. */
static void cut_off(void)
{
    await_replica();
    command(&second, "REPLICAOF NO ONE");
}

static bool both_down(void *arg)
{
    const struct fixture *f = arg;
    return !f->w[0].up && !f->w[1].up;
}

static void fail_over(struct fixture *f)
{
    fake_sentinel_switch(&f->sentinel, second.port, 2);
    assert_true(loop_fake_until(&f->loop, both_down, f, 20000));
    for (size_t i = 0; i < ARRAY_LEN(f->w); i++) {
        world_recover(&f->w[i]);
        world_clear(&f->w[i]);
    }
}

static void enter(struct world *w, const char *sid, uint32_t window_ms)
{
    await_ok(w, do_put_for(w, sid, "bob", window_ms));
    await_ok(w, do_join(w, "lobby", sid, "bob"));
}

/* As a gateway does it: out of the rooms, then out of the store. */
static void end(struct world *w, const char *sid)
{
    await_ok(w, do_leave(w, "lobby", sid, "bob", EXIT_DISCONNECT));
    await_ok(w, do_remove(w, sid, "bob"));
}

static void park(struct world *w, const char *sid)
{
    await_ok(w, do_suspend(w, "lobby", sid, "bob"));
    await_ok(w, do_park(w, sid, WINDOW_MS));
}

static size_t heard(const struct world *w, enum envelope_kind kind)
{
    size_t n = 0;
    for (size_t i = 0; i < w->count; i++)
        n += w->seen[i].kind == kind ? 1 : 0;
    return n;
}

static void assert_nothing_left(void)
{
    assert_int_equal(redis_fixture_number(&second, "EXISTS xd:session:{s1} xd:{lobby}:members xd:user:{bob}"), 0);
    assert_int_equal(redis_fixture_number(&second, "SCARD xd:node:{gw1-aaaaaa}:sessions"), 1); /* its mark */
    assert_int_equal(redis_fixture_number(&second, "ZCARD xd:parked"), 0);
}

static void lose_an_end(struct fixture *f, uint32_t window_ms)
{
    enter(&f->w[0], "s1", window_ms);
    cut_off();
    end(&f->w[0], "s1");
    fail_over(f);
    assert_int_equal(redis_fixture_number(&second, "EXISTS xd:session:{s1} xd:{lobby}:members xd:user:{bob}"), 3);
    pass(f, 2000);
    assert_int_equal(heard(&f->w[1], ENVELOPE_EXIT), 0); /* not at the first look */
    pass(f, 8000);
    assert_nothing_left();
    for (size_t i = 0; i < ARRAY_LEN(f->w); i++) {
        assert_int_equal(heard(&f->w[i], ENVELOPE_EXIT), 1);
        assert_int_equal(f->w[i].count, 1);
        assert_string_equal(f->w[i].seen[0].from, "s1");
        assert_int_equal(f->w[i].seen[0].reason, EXIT_DISCONNECT);
        assert_int_equal(f->w[i].broker->stats.reconciled_sessions, i == 0 ? 1 : 0);
    }
    pass(f, 10000);
    assert_int_equal(f->w[1].count, 1);
}

static void an_end_that_was_lost_is_told_again(void **state)
{
    lose_an_end(*state, 0);
}

/* It was not parked: the node remembers that it has ended it. */
static void an_end_that_was_lost_needs_no_window(void **state)
{
    lose_an_end(*state, WINDOW_MS);
}

static void what_was_parked_is_parked_again(void **state)
{
    struct fixture *f = *state;
    char text[64];
    enter(&f->w[0], "s1", WINDOW_MS);
    cut_off();
    park(&f->w[0], "s1");
    fail_over(f);
    redis_fixture_text(&second, text, sizeof text, "HGET xd:session:{s1} state");
    assert_string_equal(text, "active");
    pass(f, 10000);
    redis_fixture_text(&second, text, sizeof text, "HGET xd:session:{s1} state");
    assert_string_equal(text, "parked");
    assert_int_equal(redis_fixture_number(&second, "SISMEMBER xd:node:{gw1-aaaaaa}:sessions s1"), 0);
    assert_int_equal(redis_fixture_number(&second, "ZCARD xd:parked"), 1);
    assert_int_equal(heard(&f->w[1], ENVELOPE_SUSPEND), 1);
    assert_int_equal(heard(&f->w[1], ENVELOPE_EXIT), 0);
    assert_int_equal(f->w[0].broker->stats.reconciled_sessions, 1);
    struct answer *a = await_ok(&f->w[1], do_resume(&f->w[1], "s1", "hash-s1"));
    assert_string_equal(a->entries[0].name, "lobby");
}

static void what_was_resumed_elsewhere_meanwhile_is_left_alone(void **state)
{
    struct fixture *f = *state;
    enter(&f->w[0], "s1", WINDOW_MS);
    cut_off();
    park(&f->w[0], "s1");
    fail_over(f);
    await_ok(&f->w[1], do_resume(&f->w[1], "s1", "hash-s1"));
    await_ok(&f->w[1], do_join(&f->w[1], "lobby", "s1", "bob"));
    pass(f, 10000);
    char text[64];
    redis_fixture_text(&second, text, sizeof text, "HGET xd:session:{s1} node");
    assert_string_equal(text, "gw2-bbbbbb");
    redis_fixture_text(&second, text, sizeof text, "HGET xd:session:{s1} state");
    assert_string_equal(text, "active");
    assert_int_equal(heard(&f->w[1], ENVELOPE_EXIT) + heard(&f->w[1], ENVELOPE_SUSPEND), 0);
    assert_int_equal(redis_fixture_number(&second, "SISMEMBER xd:node:{gw1-aaaaaa}:sessions s1"), 0);
    assert_int_equal(f->w[0].broker->stats.reconciled_sessions, 0);
}

static void what_comes_back_here_is_left_alone(void **state)
{
    struct fixture *f = *state;
    enter(&f->w[0], "s1", WINDOW_MS);
    enter(&f->w[0], "s2", WINDOW_MS);
    cut_off();
    end(&f->w[0], "s1");
    end(&f->w[0], "s2");
    fail_over(f);
    pass(f, 4000); /* they have been seen by now */
    await_ok(&f->w[0], do_resume(&f->w[0], "s1", "hash-s1"));
    await_ok(&f->w[0], do_put_for(&f->w[0], "s2", "bob", WINDOW_MS));
    pass(f, 10000);
    assert_int_equal(redis_fixture_number(&second, "EXISTS xd:session:{s1} xd:session:{s2}"), 2);
    assert_int_equal(heard(&f->w[1], ENVELOPE_EXIT), 0);
    assert_int_equal(f->w[0].broker->stats.reconciled_sessions, 0);
}

/* Nothing is left of it in the store, but the node that has it knows better than the store. */
static void moved_on_the_quiet(struct fixture *f)
{
    enter(&f->w[0], "s1", WINDOW_MS);
    cut_off();
    await_ok(&f->w[1], do_resume(&f->w[1], "s1", "hash-s1"));
    await_ok(&f->w[1], do_join(&f->w[1], "lobby", "s1", "bob"));
    pass(f, 100);
    assert_int_equal(f->w[0].taken, 1);
    fail_over(f);
    char text[64];
    redis_fixture_text(&second, text, sizeof text, "HGET xd:session:{s1} node");
    assert_string_equal(text, "gw1-aaaaaa");
}

static void assert_at_second_node(struct fixture *f)
{
    char text[64];
    assert_int_equal(do_audit(&f->w[1], "s1")->err, ERR_NOT_FOUND);
    await_ok(&f->w[1], do_put_for(&f->w[1], "s1", "bob", WINDOW_MS));
    await_ok(&f->w[1], do_join(&f->w[1], "lobby", "s1", "bob"));
    assert_int_equal(await_ok(&f->w[1], do_audit(&f->w[1], "s1"))->count, 1);
    pass(f, 10000);
    redis_fixture_text(&second, text, sizeof text, "HGET xd:session:{s1} node");
    assert_string_equal(text, "gw2-bbbbbb");
    redis_fixture_text(&second, text, sizeof text, "HGET xd:session:{s1} state");
    assert_string_equal(text, "active");
    assert_int_equal(redis_fixture_number(&second, "SISMEMBER xd:node:{gw1-aaaaaa}:sessions s1"), 0);
    assert_int_equal(redis_fixture_number(&second, "ZCARD xd:parked"), 0);
    assert_int_equal(heard(&f->w[1], ENVELOPE_EXIT), 0);
    assert_int_equal(f->w[1].taken, 0);
}

static void a_resume_that_was_lost(void **state)
{
    struct fixture *f = *state;
    moved_on_the_quiet(f);
    assert_at_second_node(f);
    assert_int_equal(heard(&f->w[1], ENVELOPE_SUSPEND), 0);
}

/* The node that had it before was the first to look. */
static void a_resume_that_was_lost_and_parked(void **state)
{
    struct fixture *f = *state;
    moved_on_the_quiet(f);
    pass(f, 10000);
    assert_int_equal(heard(&f->w[1], ENVELOPE_SUSPEND), 1);
    assert_int_equal(redis_fixture_number(&second, "ZCARD xd:parked"), 1);
    assert_at_second_node(f);
}

/* His directory has not heard of a session. */
static void a_user_that_was_lost(void **state)
{
    struct fixture *f = *state;
    enter(&f->w[0], "s1", WINDOW_MS);
    assert_int_equal(await_ok(&f->w[0], do_audit(&f->w[0], "s1"))->count, 1);
    assert_int_equal(redis_fixture_number(&first, "DEL xd:user:{bob}:presence"), 1);
    assert_int_equal(do_audit(&f->w[0], "s1")->err, ERR_NOT_FOUND);
    await_ok(&f->w[0], do_put_for(&f->w[0], "s1", "bob", WINDOW_MS));
    await_ok(&f->w[0], do_audit(&f->w[0], "s1"));
}

static void many_come_back(void **state)
{
    struct fixture *f = *state;
    char sid[16];
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(sid, sizeof sid, "s%d", i + 1);
        enter(&f->w[0], sid, 0);
    }
    cut_off();
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(sid, sizeof sid, "s%d", i + 1);
        end(&f->w[0], sid);
    }
    fail_over(f);
    /* Not all in one go. */
    for (int i = 0; i < 300 && f->w[0].broker->stats.reconciled_sessions < MANY; i++) {
        uint64_t before = f->w[0].broker->stats.reconciled_sessions;
        pass(f, 100);
        assert_true(f->w[0].broker->stats.reconciled_sessions - before <= 64);
    }
    pass(f, 2000);
    assert_int_equal(f->w[0].broker->stats.reconciled_sessions, MANY);
    assert_int_equal(heard(&f->w[1], ENVELOPE_EXIT), MANY);
    assert_nothing_left();
}

/* Whatever the reason: every five minutes somebody looks. */
static void without_a_failover_too(void **state)
{
    struct fixture *f = *state;
    enter(&f->w[0], "s1", 0);
    world_clear(&f->w[1]);
    command(&first, "HSET xd:session:{s9} node gw1-aaaaaa state active user eve room:lobby 1");
    freeReplyObject(redis_fixture_command(&first, "HSET xd:{lobby}:members s9 %s", "gw1-aaaaaa 1 active eve"));
    command(&first, "SADD xd:node:{gw1-aaaaaa}:sessions s9 s10");
    for (int i = 0; i < 320; i++) {
        loop_fake_advance(&f->loop, 1000);
        loop_fake_linger(&f->loop, 1);
    }
    loop_fake_linger(&f->loop, 20);
    assert_int_equal(redis_fixture_number(&first, "EXISTS xd:session:{s9}"), 0);
    assert_int_equal(redis_fixture_number(&first, "EXISTS xd:session:{s1}"), 1);
    assert_int_equal(redis_fixture_number(&first, "SCARD xd:node:{gw1-aaaaaa}:sessions"), 2);
    assert_int_equal(heard(&f->w[1], ENVELOPE_EXIT), 1);
    assert_int_equal(f->w[0].broker->stats.reconciled_sessions, 1);
}

static void put_active(const char *sid, const char *node)
{
    freeReplyObject(redis_fixture_command(
        &first, "HSET xd:session:{%s} node %s state active user bob resume_window 1500 room:lobby 1", sid, node));
    freeReplyObject(redis_fixture_command(&first, "HSET xd:{lobby}:members %s %s", sid, "x 1 active bob"));
    freeReplyObject(redis_fixture_command(&first, "ZADD xd:parked 1 %s", sid)); /* long due */
}

/* Its parking was half forgotten: only the index of parked sessions names it, and for the store it is active, at a node that is no more or has not got it. */
static void what_only_the_index_names(void **state)
{
    struct fixture *f = *state;
    put_active("s8", "gw9-cccccc");
    put_active("s9", "gw1-aaaaaa");
    char state8[16] = "", state9[16] = "";
    for (int i = 0; i < 200 && (strcmp(state8, "parked") != 0 || strcmp(state9, "parked") != 0); i++) {
        pass(f, 500);
        redis_fixture_text(&first, state8, sizeof state8, "HGET xd:session:{s8} state");
        redis_fixture_text(&first, state9, sizeof state9, "HGET xd:session:{s9} state");
    }
    assert_string_equal(state8, "parked");
    assert_string_equal(state9, "parked");
    pass(f, 1000);
    assert_int_equal(redis_fixture_number(&first, "ZCARD xd:parked"), 2);
    assert_int_equal(redis_fixture_number(&first, "EXISTS xd:node:{gw9-cccccc}:sessions"), 0);
    assert_int_equal(redis_fixture_number(&first, "SCARD xd:node:{gw1-aaaaaa}:sessions"), 1);
    assert_int_equal(redis_fixture_number(&first, "ZCARD xd:nodes"), 2);
}

/* The index may not have been told that it was resumed. */
static void what_the_index_names_wrongly(void **state)
{
    struct fixture *f = *state;
    enter(&f->w[0], "s1", WINDOW_MS);
    command(&first, "ZADD xd:parked 1 s1");
    pass(f, 20000);
    assert_int_equal(redis_fixture_number(&first, "ZCARD xd:parked"), 0);
    assert_int_equal(redis_fixture_number(&first, "HEXISTS xd:{lobby}:members s1"), 1);
    assert_int_equal(heard(&f->w[1], ENVELOPE_SUSPEND) + heard(&f->w[1], ENVELOPE_EXIT), 0);
    assert_int_equal(f->w[0].broker->stats.reconciled_sessions, 0);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    table_seed();
    log_setup(getenv("VERBOSE") != NULL ? LOG_DEBUG : LOG_ERROR, LOG_TEXT, NULL);
    redis_fixture_start(&first);
    redis_fixture_start(&second);
    command(&first, "CONFIG SET repl-diskless-sync-delay 0");
    command(&second, "CONFIG SET repl-diskless-sync-delay 0");
    const struct CMUnitTest tests[] = {
        T(an_end_that_was_lost_is_told_again),
        T(an_end_that_was_lost_needs_no_window),
        T(what_was_parked_is_parked_again),
        T(what_was_resumed_elsewhere_meanwhile_is_left_alone),
        T(what_comes_back_here_is_left_alone),
        T(a_resume_that_was_lost),
        T(a_resume_that_was_lost_and_parked),
        T(a_user_that_was_lost),
        T(many_come_back),
        T(without_a_failover_too),
        T(what_only_the_index_names),
        T(what_the_index_names_wrongly),
    };
    int failed = cmocka_run_group_tests_name("broker: what a failover brings back", tests, NULL, NULL);
    redis_fixture_stop(&second);
    redis_fixture_stop(&first);
    return failed;
}
