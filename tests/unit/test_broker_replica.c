/* tests/unit/test_broker_replica.c: history read from a real replica, which lags, stops, dies, is replaced, or is none. */
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
#include "tests/support/fake_sentinel.h"
#include "tests/support/redis_fixture.h"

#define TIMEOUT_MS 2000
#define MESSAGES   5

struct fixture {
    struct loop_fake loop;
    struct world w;
    struct fake_sentinel sentinel; /* where one names the replicas */
};

static struct redis_fixture primary, replica;

static void command(struct redis_fixture *f, const char *text)
{
    redisReply *r = redis_fixture_command(f, text);
    if (r->type == REDIS_REPLY_ERROR)
        fail_msg("%s: %s", text, r->str);
    freeReplyObject(r);
}

static void follow(void)
{
    freeReplyObject(redis_fixture_command(&replica, "REPLICAOF 127.0.0.1 %d", primary.port));
    for (int i = 0; i < 2000; i++) {
        command(&primary, "PUBLISH nowhere 1");
        if (redis_fixture_number(&primary, "WAIT 1 100") == 1)
            return;
    }
    fail_msg("the replica does not follow");
}

static long long calls(struct redis_fixture *f, const char *name)
{
    char text[16384], pattern[64];
    (void)snprintf(pattern, sizeof pattern, "cmdstat_%s:calls=", name);
    redis_fixture_text(f, text, sizeof text, "INFO commandstats");
    const char *at = strstr(text, pattern);
    return at != NULL ? strtoll(at + strlen(pattern), NULL, 10) : 0;
}

/* --- asking --- */

static struct answer *read_page(struct world *w, uint64_t at_least, bool may_lag)
{
    return await_ok(
        w, do_read(w, &(struct log_page){.room = SLICE("r"), .limit = 100, .may_lag = may_lag, .at_least = at_least}));
}

static void assert_complete(const struct answer *a)
{
    assert_int_equal(a->count, MESSAGES);
    assert_false(a->more);
    assert_int_equal(a->position.offset, MESSAGES);
    for (size_t i = 0; i < a->count; i++)
        assert_int_equal(a->entries[i].position.offset, i + 1);
}

/* Moves the clock on until a page comes from the replica, or until none does. */
static void await_source(struct world *w, bool from_replica)
{
    for (int i = 0; i < 400; i++) {
        uint64_t before = w->broker->stats.replica_reads;
        (void)read_page(w, 0, true);
        if ((w->broker->stats.replica_reads > before) == from_replica)
            return;
        loop_fake_advance(w->loop, 100);
        loop_fake_linger(w->loop, 5);
    }
    fail_msg("%s", from_replica ? "the replica is not asked" : "the replica is still asked");
}

static void begin(struct fixture *f, const char *url)
{
    struct broker_config cfg = world_config(url, "gw1-aaaaaa");
    cfg.timeout_ms = TIMEOUT_MS;
    cfg.lease_ms = 60000;
    cfg.read_replicas = true;
    world_init(&f->w, &f->loop, &cfg);
    world_ready(&f->w);
    for (int i = 0; i < MESSAGES; i++) {
        struct publish p = {.room = SLICE("r"), .event = SLICE("e"), .data = SLICE("1"), .retain_count = 100};
        struct answer *a = answer_new();
        f->w.broker->ops->publish(f->w.broker, &p, answered, a);
        (void)await_ok(&f->w, a);
    }
}

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    char url[160];
    if (replica.pid == 0)
        redis_fixture_restart(&replica);
    follow();
    command(&primary, "FLUSHALL");
    (void)snprintf(url, sizeof url, "%s?replica=127.0.0.1:%d", primary.url, replica.port);
    loop_fake_init(&f->loop);
    begin(f, url);
    follow();
    await_source(&f->w, true);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    world_fini(&f->w);
    loop_fake_fini(&f->loop);
    free(f);
    return 0;
}

static struct world *world_of(void **state)
{
    struct fixture *f = *state;
    return &f->w;
}

/* --- tests --- */

static void clients_history_is_read_from_the_replica(void **state)
{
    struct world *w = world_of(state);
    uint64_t reads = w->broker->stats.replica_reads, fallbacks = w->broker->stats.replica_fallbacks;
    long long there = calls(&replica, "xrange"), here = calls(&primary, "xrange");
    for (int i = 0; i < 10; i++)
        assert_complete(read_page(w, MESSAGES, true));
    assert_int_equal(calls(&replica, "xrange") - there, 10);
    assert_int_equal(calls(&primary, "xrange") - here, 0);
    assert_int_equal(w->broker->stats.replica_reads - reads, 10);
    assert_int_equal(w->broker->stats.replica_fallbacks - fallbacks, 0);
}

static void everything_else_is_read_from_the_primary(void **state)
{
    struct world *w = world_of(state);
    long long there = calls(&replica, "xrange"), here = calls(&primary, "xrange"), heads = calls(&replica, "hmget");
    assert_complete(read_page(w, 0, false));
    (void)await_ok(w, do_presence(w, "r", SLICE_NONE, 10));
    assert_int_equal(calls(&replica, "xrange") - there, 0);
    assert_int_equal(calls(&replica, "hmget") - heads, 0);
    assert_int_equal(calls(&primary, "xrange") - here, 1);
}

/* The replica has less than is asked for: as if the last messages were still on their way. */
static void a_replica_that_lags(void **state)
{
    struct world *w = world_of(state);
    command(&replica, "CONFIG SET replica-read-only no");
    command(&replica, "HSET xd:{r}:head offset 3");
    command(&replica, "XDEL xd:{r}:log 4-0 5-0");
    uint64_t fallbacks = w->broker->stats.replica_fallbacks;
    assert_complete(read_page(w, MESSAGES, true));
    assert_int_equal(w->broker->stats.replica_fallbacks - fallbacks, 1);
    assert_int_equal(read_page(w, 3, true)->count, 3);
    assert_int_equal(w->broker->stats.replica_fallbacks - fallbacks, 1);
    command(&replica, "DEL xd:{r}:head");
    assert_complete(read_page(w, 0, true)); /* a room that it knows nothing of */
    assert_int_equal(w->broker->stats.replica_fallbacks - fallbacks, 2);
    command(&replica, "CONFIG SET replica-read-only yes");
    command(&replica, "REPLICAOF NO ONE"); /* the next test copies everything anew */
}

static void a_replica_that_does_not_answer(void **state)
{
    struct world *w = world_of(state);
    uint64_t fallbacks = w->broker->stats.replica_fallbacks, before = loop_now_ms(&w->loop->loop), after = before;
    redis_fixture_pause(&replica);
    struct answer *a = answer_new();
    struct log_page page = {.room = SLICE("r"), .limit = 100, .may_lag = true};
    w->broker->ops->history(w->broker, &page, answered, a);
    while (a->times == 0 && after - before < 2 * TIMEOUT_MS) {
        loop_fake_advance(w->loop, 50);
        loop_fake_linger(w->loop, 5);
        after = loop_now_ms(&w->loop->loop);
    }
    assert_complete(await_ok(w, a));
    assert_in_range(after - before, TIMEOUT_MS / 4 - 50, TIMEOUT_MS / 2);
    assert_complete(read_page(w, 0, true)); /* at once now: it is known not to be there */
    assert_int_equal(w->broker->stats.replica_fallbacks - fallbacks, 2);
    redis_fixture_resume(&replica);
    await_source(w, true);
    assert_int_equal(w->downs, 0);
}

static void a_replica_that_dies(void **state)
{
    struct world *w = world_of(state);
    redis_fixture_kill(&replica);
    assert_complete(read_page(w, MESSAGES, true));
    await_source(w, false);
    assert_complete(read_page(w, MESSAGES, true));
    redis_fixture_restart(&replica);
    follow();
    await_source(w, true);
    assert_complete(read_page(w, MESSAGES, true));
}

static void what_follows_nobody_is_not_read(void **state)
{
    struct world *w = world_of(state);
    command(&replica, "REPLICAOF NO ONE");
    await_source(w, false);
    assert_complete(read_page(w, 0, true));
    freeReplyObject(redis_fixture_command(&replica, "REPLICAOF 127.0.0.1 %d", redis_fixture_free_port()));
    for (int i = 0; i < 30; i++) {
        loop_fake_advance(w->loop, 100);
        loop_fake_linger(w->loop, 5);
    }
    await_source(w, false);
    follow();
    await_source(w, true);
}

static void what_the_replica_refuses(void **state)
{
    struct world *w = world_of(state);
    uint64_t fallbacks = w->broker->stats.replica_fallbacks;
    command(&replica, "ACL SETUSER xindao -xrange");
    assert_complete(read_page(w, 0, true));
    assert_int_equal(w->broker->stats.replica_fallbacks - fallbacks, 1);
    command(&replica, "ACL SETUSER xindao +xrange");
    assert_complete(read_page(w, 0, true));
    assert_int_equal(w->broker->stats.replica_fallbacks - fallbacks, 1);
}

static void the_end_completes_what_waits(void **state)
{
    struct world *w = world_of(state);
    redis_fixture_pause(&replica);
    struct answer *a = answer_new();
    struct log_page page = {.room = SLICE("r"), .limit = 100, .may_lag = true};
    w->broker->ops->history(w->broker, &page, answered, a);
    loop_fake_linger(w->loop, 20);
    broker_destroy(&w->broker);
    assert_int_equal(a->times, 1);
    assert_int_equal(a->err, ERR_UNAVAILABLE);
    redis_fixture_resume(&replica);
}

/* Without a replica in the url all is as before. */
static void no_replica_is_named(void **state)
{
    struct fixture f;
    (void)state;
    command(&primary, "FLUSHALL");
    loop_fake_init(&f.loop);
    begin(&f, primary.url);
    assert_complete(read_page(&f.w, 0, true));
    assert_int_equal(f.w.broker->stats.replica_reads, 0);
    assert_int_equal(f.w.broker->stats.replica_fallbacks, 0);
    world_fini(&f.w);
    loop_fake_fini(&f.loop);
}

/* --- named by Sentinel --- */

static void list(struct fixture *f, int port, const char *flags, const char *link)
{
    assert_true(f->sentinel.replica_count < ARRAY_LEN(f->sentinel.replicas));
    f->sentinel.replicas[f->sentinel.replica_count++] =
        (struct fake_replica){.port = port, .flags = flags, .link = link};
}

static int setup_named(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    char url[160];
    if (replica.pid == 0)
        redis_fixture_restart(&replica);
    follow();
    command(&primary, "FLUSHALL");
    loop_fake_init(&f->loop);
    fake_sentinel_start(&f->sentinel, &f->loop.loop, "main", primary.port, 1);
    (void)snprintf(url, sizeof url, "redis+sentinel://xindao:SECRET@127.0.0.1:%d/main", f->sentinel.port);
    begin(f, url);
    follow();
    *state = f;
    return 0;
}

static int teardown_named(void **state)
{
    struct fixture *f = *state;
    world_fini(&f->w);
    fake_sentinel_stop(&f->sentinel);
    loop_fake_fini(&f->loop);
    free(f);
    return 0;
}

/* For so long nobody but the primary is asked. */
static void stay_away(struct world *w, int ms)
{
    uint64_t reads = w->broker->stats.replica_reads;
    for (; ms > 0; ms -= 100) {
        assert_complete(read_page(w, MESSAGES, true));
        loop_fake_advance(w->loop, 100);
        loop_fake_linger(w->loop, 2);
    }
    assert_int_equal(w->broker->stats.replica_reads, reads);
}

static void only_a_replica_in_order_is_chosen(void **state)
{
    struct fixture *f = *state;
    stay_away(&f->w, 2500); /* none is listed */
    static const struct {
        const char *flags, *link;
    } bad[] = {{"s_down,slave", "ok"},
               {"slave,disconnected", "ok"},
               {"s_down,o_down,slave,disconnected", "ok"},
               {"slave", "err"}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        f->sentinel.replica_count = 0;
        list(f, replica.port, bad[i].flags, bad[i].link);
        stay_away(&f->w, 2500);
    }
    list(f, replica.port, "slave", "ok"); /* beside one that is not */
    await_source(&f->w, true);
    long long there = calls(&replica, "xrange");
    assert_complete(read_page(&f->w, MESSAGES, true));
    assert_int_equal(calls(&replica, "xrange") - there, 1);
}

static void a_replica_listed_no_longer_is_left(void **state)
{
    struct fixture *f = *state;
    list(f, replica.port, "slave", "ok");
    await_source(&f->w, true);
    f->sentinel.replicas[0].flags = "slave,s_down";
    await_source(&f->w, false);
    stay_away(&f->w, 1000);
    f->sentinel.replicas[0].flags = "slave";
    await_source(&f->w, true);
    redis_fixture_kill(&replica);
    assert_complete(read_page(&f->w, MESSAGES, true)); /* still listed */
    stay_away(&f->w, 1000);
}

static void another_is_chosen_for_one_that_cannot_be_reached(void **state)
{
    struct fixture *f = *state;
    list(f, redis_fixture_free_port(), "slave", "ok"); /* Sentinel has not noticed yet */
    stay_away(&f->w, 2500);
    list(f, replica.port, "slave", "ok");
    await_source(&f->w, true);
}

static bool is_down(void *arg)
{
    return !((const struct world *)arg)->up;
}

/* The two change places. */
static void after_a_failover_it_is_the_new_primarys(void **state)
{
    struct fixture *f = *state;
    list(f, replica.port, "slave", "ok");
    await_source(&f->w, true);
    command(&replica, "REPLICAOF NO ONE");
    f->sentinel.replica_count = 0; /* the old one has to be turned round first */
    fake_sentinel_switch(&f->sentinel, replica.port, 2);
    assert_true(loop_fake_until(&f->loop, is_down, &f->w, 20000));
    world_recover(&f->w);
    assert_int_equal(f->w.broker->stats.failovers, 1);
    stay_away(&f->w, 1500);
    freeReplyObject(redis_fixture_command(&primary, "REPLICAOF 127.0.0.1 %d", replica.port));
    list(f, primary.port, "slave", "ok");
    await_source(&f->w, true);
    long long there = calls(&primary, "xrange");
    assert_complete(read_page(&f->w, MESSAGES, true));
    assert_int_equal(calls(&primary, "xrange") - there, 1);
    command(&primary, "REPLICAOF NO ONE");
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
#define N(test) cmocka_unit_test_setup_teardown(test, setup_named, teardown_named)

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    table_seed();
    log_setup(getenv("VERBOSE") != NULL ? LOG_DEBUG : LOG_ERROR, LOG_TEXT, NULL);
    redis_fixture_start(&primary);
    redis_fixture_start(&replica);
    command(&primary, "CONFIG SET repl-diskless-sync-delay 0");
    const struct CMUnitTest tests[] = {
        T(clients_history_is_read_from_the_replica),
        T(everything_else_is_read_from_the_primary),
        T(a_replica_that_lags),
        T(a_replica_that_does_not_answer),
        T(a_replica_that_dies),
        T(what_follows_nobody_is_not_read),
        T(what_the_replica_refuses),
        T(the_end_completes_what_waits),
        cmocka_unit_test(no_replica_is_named),
        N(only_a_replica_in_order_is_chosen),
        N(a_replica_listed_no_longer_is_left),
        N(another_is_chosen_for_one_that_cannot_be_reached),
        N(after_a_failover_it_is_the_new_primarys),
    };
    int failed = cmocka_run_group_tests_name("broker: reads from a replica", tests, NULL, NULL);
    redis_fixture_stop(&replica);
    redis_fixture_stop(&primary);
    return failed;
}
