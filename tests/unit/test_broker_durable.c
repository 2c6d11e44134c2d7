/* tests/unit/test_broker_durable.c: publishes that replicas confirm: a real primary and two real replicas, which stop, die and come back. */
#include "tests/unit/broker_world.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/table.h"
#include "tests/support/proxy.h"
#include "tests/support/redis_fixture.h"

#define PATIENCE_MS 15000
#define TIMEOUT_MS  8000 /* a WAIT then has 6 s */
#define HASTY_MS    800  /* 600 ms, and a short one 75 */

struct fixture {
    struct loop_fake loop;
    struct world w;
    struct proxy proxy;
};

static struct redis_fixture primary, first, second;

/* --- the replicas --- */

static void command(struct redis_fixture *f, const char *text)
{
    redisReply *r = redis_fixture_command(f, text);
    if (r->type == REDIS_REPLY_ERROR)
        fail_msg("%s: %s", text, r->str);
    freeReplyObject(r);
}

static bool says(struct redis_fixture *f, const char *question, const char *answer)
{
    char text[8192];
    redis_fixture_text(f, text, sizeof text, question);
    return strstr(text, answer) != NULL;
}

static void nap(void)
{
    struct timespec ts = {.tv_nsec = 10000000};
    (void)nanosleep(&ts, NULL);
}

/* Starts what does not run, and waits until both replicas are level with the primary. */
static void heal(void)
{
    struct redis_fixture *all[] = {&primary, &first, &second};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (all[i]->pid == 0)
            redis_fixture_restart(all[i]);
        redis_fixture_resume(all[i]);
    }
    command(&primary, "CONFIG SET repl-diskless-sync-delay 0 min-replicas-to-write 0");
    for (size_t i = 1; i < ARRAY_LEN(all); i++) {
        command(all[i], "CONFIG SET appendonly no"); /* a busy disk is not what is tested */
        if (!says(all[i], "INFO replication", "role:slave"))
            freeReplyObject(redis_fixture_command(all[i], "REPLICAOF 127.0.0.1 %d", primary.port));
    }
    for (int i = 0; i < 2000; i++) {
        command(&primary, "PUBLISH nowhere 1");
        if (redis_fixture_number(&primary, "WAIT 2 100") == 2)
            return;
        nap();
    }
    fail_msg("the replicas do not follow");
}

/* --- asking --- */

static int setup_with(void **state, uint32_t timeout_ms, uint32_t queue_commands)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    heal();
    command(&primary, "FLUSHALL");
    loop_fake_init(&f->loop);
    proxy_start(&f->proxy, &f->loop.loop, primary.port);
    struct broker_config cfg = world_config(f->proxy.url, "gw1-aaaaaa");
    cfg.timeout_ms = timeout_ms;
    cfg.lease_ms = 60000;
    cfg.queue_commands = queue_commands;
    world_init(&f->w, &f->loop, &cfg);
    world_ready(&f->w);
    *state = f;
    return 0;
}

static int setup(void **state)
{
    return setup_with(state, TIMEOUT_MS, 10000);
}

static int setup_hasty(void **state)
{
    return setup_with(state, HASTY_MS, 10000);
}

static int setup_calm(void **state)
{
    return setup_with(state, 3 * HASTY_MS, 10000);
}

static int setup_small(void **state)
{
    return setup_with(state, TIMEOUT_MS, 5);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    world_fini(&f->w);
    proxy_stop(&f->proxy);
    loop_fake_fini(&f->loop);
    free(f);
    return 0;
}

static struct answer *ask(struct world *w, const char *room, uint32_t replicas, const char *key)
{
    struct answer *a = answer_new();
    struct publish p = {.room = slice_str(room),
                        .event = SLICE("message"),
                        .data = SLICE("1"),
                        .key = slice_str(key),
                        .retain_count = 100,
                        .replicas = replicas};
    w->broker->ops->publish(w->broker, &p, answered, a);
    assert_int_equal(a->times, 0);
    return a;
}

static int64_t now_ms(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void assert_missed(const struct answer *a, const char *why)
{
    assert_int_equal(a->err, ERR_NOT_REPLICATED);
    if (strstr(a->why, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", a->why, why);
}

static long long calls(const char *name)
{
    char text[16384], pattern[64];
    (void)snprintf(pattern, sizeof pattern, "cmdstat_%s:calls=", name);
    redis_fixture_text(&primary, text, sizeof text, "INFO commandstats");
    const char *at = strstr(text, pattern);
    return at != NULL ? strtoll(at + strlen(pattern), NULL, 10) : 0;
}

/* --- tests --- */

static void replicas_confirm(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    do_subscribe(w, "lobby");
    struct answer *one = await_ok(w, ask(w, "lobby", 1, NULL));
    assert_true(one->replicas == 1 || one->replicas == 2);
    struct answer *two = await_ok(w, ask(w, "lobby", 2, "k"));
    assert_int_equal(two->replicas, 2);
    assert_int_equal(two->position.offset, 2);
    assert_false(two->repeated);
    assert_int_equal(redis_fixture_number(&first, "XLEN xd:{lobby}:log"), 2);
    assert_int_equal(redis_fixture_number(&second, "XLEN xd:{lobby}:log"), 2);
    struct answer *again = await_ok(w, ask(w, "lobby", 2, "k"));
    assert_true(again->repeated);
    assert_int_equal(again->replicas, 2);
    assert_int_equal(again->position.offset, 2);
    world_expect(w, 2);
    const struct broker_stats *s = &w->broker->stats;
    assert_int_equal(s->replicated, 3);
    assert_int_equal(s->quorum_missed, 0);
    uint64_t waits = 0;
    for (size_t i = 0; i < ARRAY_LEN(s->wait_bucket); i++)
        waits += s->wait_bucket[i];
    assert_int_equal(waits, 3);
    struct answer *fast = await_ok(w, ask(w, "lobby", 0, NULL));
    assert_int_equal(fast->replicas, 0);
    assert_int_equal(s->published, 4);
}

/* WAIT would be content with what the connection wrote before, so a repetition must write, and only one that waits needs to. */
static void a_repetition_writes(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    await_ok(w, ask(w, "lobby", 1, "k"));
    long long ttl = redis_fixture_number(&primary, "PTTL xd:{lobby}:once:k");
    long long before = calls("set");
    await_ok(w, ask(w, "lobby", 0, "k"));
    assert_int_equal(calls("set"), before);
    assert_true(await_ok(w, ask(w, "lobby", 1, "k"))->repeated);
    assert_int_equal(calls("set"), before + 1);
    assert_true(redis_fixture_number(&primary, "PTTL xd:{lobby}:once:k") <= ttl);
    assert_true(redis_fixture_number(&primary, "PTTL xd:{lobby}:once:k") > 0);
}

static void one_wait_for_all_of_a_turn(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    await_ok(w, ask(w, "lobby", 1, NULL)); /* so that the connection is there */
    long long before = calls("wait");
    struct answer *a[12];
    for (size_t i = 0; i < ARRAY_LEN(a); i++)
        a[i] = ask(w, i % 2 == 0 ? "lobby" : "hall", 1, NULL);
    for (size_t i = 0; i < ARRAY_LEN(a); i++) {
        await_ok(w, a[i]);
        assert_int_equal(a[i]->position.offset, i / 2 + (i % 2 == 0 ? 2 : 1)); /* in the order of asking */
        assert_true(a[i]->replicas >= 1);
    }
    assert_int_equal(calls("wait"), before + 1);
}

static void a_missing_replica_delays_nobody_else(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    do_subscribe(w, "strict");
    redis_fixture_pause(&second);
    int64_t began = now_ms();
    struct answer *strict = ask(w, "strict", 2, "k");
    for (int i = 0; i < 5; i++) { /* answers are reused after sixteen */
        int64_t asked = now_ms();
        assert_int_equal(do_say(w, "free", "1")->err, OK);
        await_ok(w, ask(w, "mild", 1, NULL));
        assert_true(now_ms() - asked < HASTY_MS);
    }
    assert_int_equal(strict->times, 0);
    assert_int_equal(w->count, 1); /* it is published, and heard */
    await(w, strict);
    int64_t took = now_ms() - began;
    assert_missed(strict, "of 2 replicas have it; publish it again with the same key");
    assert_true(took > HASTY_MS);
    assert_int_equal(strict->position.offset, 1);
    assert_int_equal(w->broker->stats.quorum_missed, 1);
    /* The next ones do not make each other wait so long. */
    began = now_ms();
    assert_missed(await(w, ask(w, "strict", 2, NULL)), "without a key");
    assert_true(now_ms() - began < HASTY_MS);
    redis_fixture_resume(&second);
    heal();
    struct answer *again = await_ok(w, ask(w, "strict", 2, "k"));
    assert_true(again->repeated);
    assert_int_equal(again->position.offset, 1);
    assert_string_equal(again->position.tag, strict->position.tag);
    assert_int_equal(redis_fixture_number(&primary, "XLEN xd:{strict}:log"), 2);
    world_expect(w, 2);
    assert_true(w->up);
    assert_int_equal(w->downs, 0);
}

/* While replicas are missing a whole WAIT is tried now and then: slow ones must be found again. */
static void a_slow_replica_is_found_again(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    redis_fixture_pause(&second);
    assert_missed(await(w, ask(w, "lobby", 2, NULL)), "of 2 replicas have it");
    int64_t began = now_ms();
    assert_missed(await(w, ask(w, "lobby", 2, NULL)), "of 2 replicas have it");
    assert_true(now_ms() - began < HASTY_MS / 2);
    loop_fake_advance(w->loop, 10000);
    began = now_ms();
    assert_missed(await(w, ask(w, "lobby", 2, NULL)), "of 2 replicas have it");
    assert_true(now_ms() - began > HASTY_MS / 2);
}

static void a_dead_replica(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    await_ok(w, ask(w, "lobby", 2, NULL));
    redis_fixture_kill(&first);
    redis_fixture_kill(&second);
    struct answer *a = await(w, ask(w, "lobby", 1, "k"));
    assert_missed(a, "0 of 1 replicas");
    heal();
    struct answer *again = await_ok(w, ask(w, "lobby", 1, "k"));
    assert_int_equal(again->position.offset, a->position.offset);
    assert_int_equal(redis_fixture_number(&first, "XLEN xd:{lobby}:log"), 2);
}

static void a_forgotten_script_gets_its_own_wait(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    await_ok(w, ask(w, "lobby", 2, NULL));
    command(&primary, "SCRIPT FLUSH");
    struct answer *a = ask(w, "lobby", 2, NULL), *b = ask(w, "lobby", 2, "k");
    assert_int_equal(await_ok(w, a)->replicas, 2);
    assert_int_equal(await_ok(w, b)->replicas, 2);
    assert_int_equal(redis_fixture_number(&second, "XLEN xd:{lobby}:log"), 3);
}

static void users_and_sessions(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    do_put(w, "s1", "alice");
    struct answer *user = await_ok(w, ask(w, "$user:alice", 2, "k"));
    assert_int_equal(user->replicas, 2);
    assert_int_equal(user->total, 1);
    struct answer *session = await_ok(w, ask(w, "$session:s1", 2, "k"));
    assert_int_equal(session->replicas, 2);
    assert_true(await_ok(w, ask(w, "$session:s1", 2, "k"))->repeated);
    assert_int_equal(await(w, ask(w, "$session:nobody", 2, NULL))->err, ERR_NOT_FOUND);
}

/* The connection these publishes have for themselves is not one that world_recover waits for. */
static struct answer *reconnect_and_await(struct world *w, struct answer *a)
{
    for (int i = 0; i < 400 && a->times == 0; i++) {
        loop_fake_advance(w->loop, 20);
        loop_fake_linger(w->loop, 5);
    }
    return await(w, a);
}

/* Newer servers remember a connection's last write, and a new connection has none: a repetition on it must not be taken for confirmed. */
static void a_new_connection_is_not_content_with_nothing(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    redis_fixture_pause(&second);
    assert_missed(await(w, ask(w, "lobby", 2, "k")), "of 2 replicas have it");
    proxy_cut(&f->proxy);
    world_recover(w);
    struct answer *again = reconnect_and_await(w, ask(w, "lobby", 2, "k"));
    assert_missed(again, "of 2 replicas have it");
    assert_true(again->repeated);
    redis_fixture_resume(&second);
    heal();
    assert_int_equal(await_ok(w, ask(w, "lobby", 2, "k"))->position.offset, 1);
}

static bool wait_is_pending(void *arg)
{
    (void)arg;
    return says(&primary, "CLIENT LIST", "cmd=wait");
}

static bool is_published(void *arg)
{
    (void)arg;
    return redis_fixture_number(&primary, "EXISTS xd:{lobby}:log") == 1;
}

/* Published and heard, but the connection that knew is gone: whoever is at its other end now must be asked again. */
static void a_lost_connection_confirms_nothing(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    redis_fixture_pause(&second);
    struct answer *keyed = ask(w, "lobby", 2, "k"), *plain = ask(w, "lobby", 2, NULL);
    assert_true(loop_fake_until(w->loop, wait_is_pending, NULL, PATIENCE_MS));
    loop_fake_linger(w->loop, 20);
    assert_int_equal(keyed->times + plain->times, 0);
    redis_fixture_resume(&second); /* only now would WAIT be content */
    proxy_cut(&f->proxy);
    await(w, plain);
    assert_missed(plain, "published at offset 2, but not known to be on 2 replicas; without a key");
    await_ok(w, reconnect_and_await(w, keyed));
    assert_true(keyed->repeated);
    assert_int_equal(keyed->replicas, 2);
    assert_int_equal(keyed->position.offset, 1);
    assert_int_equal(redis_fixture_number(&primary, "XLEN xd:{lobby}:log"), 2);
}

/* Whether it was published is not known either. */
static void a_lost_answer(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    f->proxy.lose_replies = true;
    struct answer *keyed = ask(w, "lobby", 1, "k"), *plain = ask(w, "lobby", 1, NULL);
    loop_fake_linger(w->loop, 50); /* the new connection's first commands are not answered */
    f->proxy.lose_replies = false;
    proxy_cut(&f->proxy);
    await_ok(w, reconnect_and_await(w, keyed));
    await_ok(w, reconnect_and_await(w, plain)); /* had not been sent */
    f->proxy.lose_replies = true;
    keyed = ask(w, "hall", 1, "k");
    plain = ask(w, "hall", 1, NULL);
    assert_true(loop_fake_until(w->loop, is_published, NULL, PATIENCE_MS));
    loop_fake_linger(w->loop, 20);
    f->proxy.lose_replies = false;
    proxy_cut(&f->proxy);
    await(w, plain);
    assert_int_equal(plain->err, ERR_UNAVAILABLE);
    assert_non_null(strstr(plain->why, "unknown"));
    await_ok(w, reconnect_and_await(w, keyed));
    assert_true(keyed->repeated);
    assert_int_equal(redis_fixture_number(&primary, "XLEN xd:{hall}:log"), 2);
}

/* Killed while a WAIT is under way, and back with its file: what has a key is confirmed in the end, once. */
static void a_primary_that_dies(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    redis_fixture_pause(&second);
    struct answer *keyed = ask(w, "lobby", 2, "k"), *plain = ask(w, "lobby", 2, NULL);
    assert_true(loop_fake_until(w->loop, wait_is_pending, NULL, PATIENCE_MS));
    loop_fake_linger(w->loop, 20);
    redis_fixture_kill(&primary);
    await(w, plain);
    assert_missed(plain, "not known to be on 2 replicas");
    assert_int_equal(keyed->times, 0);
    redis_fixture_restart(&primary);
    heal();
    await_ok(w, reconnect_and_await(w, keyed));
    assert_true(keyed->repeated);
    assert_int_equal(keyed->position.offset, 1);
    assert_int_equal(keyed->replicas, 2);
    assert_int_equal(redis_fixture_number(&second, "XLEN xd:{lobby}:log"), 2);
}

static bool nothing_waits(void *arg)
{
    const struct world *w = arg;
    return w->broker->stats.queued_commands == 0;
}

static void a_primary_that_hangs(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    await_ok(w, ask(w, "lobby", 1, NULL));
    redis_fixture_pause(&primary);
    struct answer *keyed = ask(w, "lobby", 1, "k"), *plain = ask(w, "lobby", 1, NULL);
    loop_fake_run(w->loop);
    struct answer *later = ask(w, "lobby", 1, "k2");
    loop_fake_advance(w->loop, TIMEOUT_MS + 100);
    assert_int_equal(keyed->err, ERR_TIMEOUT);
    assert_int_equal(plain->err, ERR_TIMEOUT);
    assert_int_equal(later->err, ERR_TIMEOUT);
    redis_fixture_resume(&primary);
    world_recover(w);
    await_ok(w, reconnect_and_await(w, ask(w, "lobby", 1, "k")));
    assert_true(loop_fake_until(w->loop, nothing_waits, w, PATIENCE_MS));
    assert_int_equal(w->broker->stats.queued_bytes, 0);
}

static void what_redis_refuses(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    await_ok(w, ask(w, "lobby", 1, NULL));
    command(&primary, "CONFIG SET min-replicas-to-write 5");
    struct answer *a = await(w, ask(w, "lobby", 1, "k"));
    assert_int_equal(a->err, ERR_UNAVAILABLE);
    assert_non_null(strstr(a->why, "NOREPLICAS"));
    assert_int_equal(await(w, ask(w, "lobby", 0, "k"))->err, ERR_UNAVAILABLE);
    command(&primary, "CONFIG SET min-replicas-to-write 0");
    assert_false(await_ok(w, ask(w, "lobby", 1, "k"))->repeated); /* nothing had been published */
    command(&primary, "ACL SETUSER default -wait");
    a = await(w, ask(w, "lobby", 1, NULL));
    command(&primary, "ACL SETUSER default +wait");
    assert_missed(a, "NOPERM");
    assert_int_equal(await(w, ask(w, "lobby", REPLICAS_MAX + 1, NULL))->err, ERR_UNSUPPORTED);
}

static void what_waits_is_bounded(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    struct answer *a[12];
    for (size_t i = 0; i < ARRAY_LEN(a); i++)
        a[i] = ask(w, "lobby", 1, NULL);
    for (size_t i = 0; i < ARRAY_LEN(a); i++) {
        await(w, a[i]);
        assert_int_equal(a[i]->err, i < 5 ? OK : ERR_UNAVAILABLE);
    }
    assert_int_equal(w->broker->stats.refused, 7);
}

static void the_end_completes_everything(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    await_ok(w, ask(w, "lobby", 2, NULL));
    redis_fixture_pause(&second);
    struct answer *published = ask(w, "lobby", 2, "k");
    assert_true(loop_fake_until(w->loop, wait_is_pending, NULL, PATIENCE_MS));
    loop_fake_linger(w->loop, 20);
    struct answer *behind = ask(w, "lobby", 2, "k2"), *other = ask(w, "lobby", 1, "k3");
    broker_destroy(&w->broker);
    assert_int_equal(published->times + behind->times + other->times, 3);
    assert_missed(published, "the broker is closing");
    assert_int_equal(behind->err, ERR_UNAVAILABLE);
    assert_int_equal(other->err, ERR_UNAVAILABLE);
}

static void memory_has_no_replicas(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    world_fini(w);
    struct broker_config cfg = world_config("memory", "gw1-bbbbbb");
    world_init(w, &f->loop, &cfg);
    world_ready(w);
    assert_int_equal(await(w, ask(w, "lobby", 1, NULL))->err, ERR_UNSUPPORTED);
    assert_int_equal(await_ok(w, ask(w, "lobby", 0, NULL))->position.offset, 1);
}

#define T(name)  cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TH(name) cmocka_unit_test_setup_teardown(name, setup_hasty, teardown)
#define TC(name) cmocka_unit_test_setup_teardown(name, setup_calm, teardown)
#define TS(name) cmocka_unit_test_setup_teardown(name, setup_small, teardown)

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    table_seed();
    log_setup(getenv("VERBOSE") != NULL ? LOG_DEBUG : LOG_ERROR, LOG_TEXT, NULL);
    redis_fixture_start(&primary);
    redis_fixture_start(&first);
    redis_fixture_start(&second);
    const struct CMUnitTest tests[] = {
        T(replicas_confirm),
        T(a_repetition_writes),
        T(one_wait_for_all_of_a_turn),
        TC(a_missing_replica_delays_nobody_else),
        TH(a_slow_replica_is_found_again),
        TH(a_dead_replica),
        T(a_forgotten_script_gets_its_own_wait),
        T(users_and_sessions),
        TH(a_new_connection_is_not_content_with_nothing),
        T(a_lost_connection_confirms_nothing),
        T(a_lost_answer),
        T(a_primary_that_dies),
        T(a_primary_that_hangs),
        T(what_redis_refuses),
        TS(what_waits_is_bounded),
        T(the_end_completes_everything),
        T(memory_has_no_replicas),
    };
    int failed = cmocka_run_group_tests_name("broker: durability", tests, NULL, NULL);
    redis_fixture_stop(&second);
    redis_fixture_stop(&first);
    redis_fixture_stop(&primary);
    return failed;
}
