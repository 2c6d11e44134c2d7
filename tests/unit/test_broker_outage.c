/* tests/unit/test_broker_outage.c: the redis broker when Redis dies, hangs, forgets, lies or falls silent. */
#include "tests/unit/broker_world.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/table.h"
#include "tests/support/proxy.h"
#include "tests/support/redis_fixture.h"

#define PATIENCE_MS 15000

struct fixture {
    struct loop_fake loop;
    struct world w;
    struct proxy proxy;
};

static struct redis_fixture redis;

static int setup_with(void **state, bool real_clock)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    if (redis.pid == 0)
        redis_fixture_restart(&redis);
    redis_fixture_resume(&redis); /* a failed test may have left it paused */
    freeReplyObject(redis_fixture_command(&redis, "FLUSHALL"));
    if (real_clock)
        loop_fake_init_real(&f->loop);
    else
        loop_fake_init(&f->loop);
    proxy_start(&f->proxy, &f->loop.loop, redis.port);
    struct broker_config cfg = world_config(f->proxy.url, "gw1-aaaaaa");
    world_init(&f->w, &f->loop, &cfg);
    world_ready(&f->w);
    *state = f;
    return 0;
}

static int setup(void **state)
{
    return setup_with(state, false);
}

static int setup_real(void **state)
{
    return setup_with(state, true);
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

static bool is_down(void *arg)
{
    const struct world *w = arg;
    return !w->up;
}

static void wait_down(struct world *w)
{
    assert_true(loop_fake_until(w->loop, is_down, w, PATIENCE_MS));
    assert_non_null(w->broker->ops->not_ready(w->broker));
}

static struct answer *ask_publish(struct world *w, const char *room, const char *data, const char *key)
{
    struct answer *a = answer_new();
    struct publish p = {.room = slice_str(room), .data = slice_str(data), .key = slice_str(key)};
    w->broker->ops->publish(w->broker, &p, answered, a);
    return a;
}

static void restart_is_survived(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    do_subscribe(w, "lobby");
    assert_int_equal(do_say(w, "lobby", "1")->position.offset, 1);
    redis_fixture_kill(&redis);
    wait_down(w);
    /* What is asked meanwhile waits, in order. */
    struct answer *second = ask_publish(w, "lobby", "2", NULL), *third = ask_publish(w, "lobby", "3", NULL);
    struct answer *other = answer_new();
    w->broker->ops->subscribe(w->broker, SLICE("other"), answered, other);
    loop_fake_linger(w->loop, 20);
    assert_int_equal(second->times + other->times, 0);
    redis_fixture_restart(&redis);
    await_ok(w, second);
    await_ok(w, third);
    await_ok(w, other);
    assert_int_equal(second->position.offset, 2); /* Redis had the first one on disk */
    assert_int_equal(third->position.offset, 3);
    world_ready(w);
    assert_int_equal(w->ups, 2);
    assert_int_equal(w->downs, 1);
    do_say(w, "lobby", "4");
    do_say(w, "other", "5");
    world_settle(w);
    assert_string_equal(w->seen[w->count - 2].data, "4");
    assert_string_equal(w->seen[w->count - 1].data, "5");
    assert_true(w->broker->stats.reconnects >= 2);
}

static void hanging_redis_times_out(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    do_subscribe(w, "lobby");
    redis_fixture_pause(&redis);
    struct answer *plain = ask_publish(w, "lobby", "1", NULL), *keyed = ask_publish(w, "lobby", "2", "k");
    struct answer *sub = answer_new(), *page = answer_new();
    w->broker->ops->subscribe(w->broker, SLICE("other"), answered, sub);
    w->broker->ops->presence(w->broker, SLICE("lobby"), SLICE_NONE, 10, answered, page);
    loop_fake_advance(w->loop, 2900);
    assert_int_equal(plain->times + keyed->times + sub->times + page->times, 0);
    loop_fake_advance(w->loop, 200);
    assert_int_equal(plain->err, ERR_TIMEOUT);
    assert_int_equal(keyed->err, ERR_TIMEOUT);
    assert_int_equal(page->err, ERR_TIMEOUT);
    assert_int_equal(sub->err, ERR_TIMEOUT);
    assert_int_equal(plain->times + keyed->times + sub->times + page->times, 4);
    assert_false(w->up);
    assert_true(w->broker->stats.timeouts >= 4);
    assert_int_equal(w->broker->stats.queued_commands, 0);
    redis_fixture_resume(&redis);
    world_recover(w);
    /* The subscription that was not confirmed in time is still wanted. */
    world_clear(w);
    do_say(w, "other", "3");
    world_settle(w);
    assert_string_equal(w->seen[w->count - 1].data, "3");
}

static void hanging_redis_is_not_ready_in_time(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    redis_fixture_pause(&redis);
    loop_fake_advance(w->loop, 1500);
    assert_null(w->broker->ops->not_ready(w->broker));
    loop_fake_advance(w->loop, 1400);
    assert_non_null(w->broker->ops->not_ready(w->broker));
    redis_fixture_resume(&redis);
    world_recover(w);
}

static void queue_is_bounded_while_down(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    world_fini(w);
    struct broker_config cfg = world_config(f->proxy.url, "gw1-bbbbbb");
    cfg.queue_commands = 5;
    world_init(w, &f->loop, &cfg);
    world_ready(w);
    redis_fixture_kill(&redis);
    wait_down(w);
    struct answer *a[8];
    for (size_t i = 0; i < ARRAY_LEN(a); i++)
        a[i] = ask_publish(w, "lobby", "1", NULL);
    loop_fake_run(w->loop);
    size_t refused = 0;
    for (size_t i = 0; i < ARRAY_LEN(a); i++)
        refused += a[i]->times == 1 && a[i]->err == ERR_UNAVAILABLE ? 1 : 0;
    assert_true(refused >= 3); /* a heartbeat may wait in the queue as well */
    assert_int_equal(w->broker->stats.refused, refused);
    loop_fake_advance(w->loop, 3000);
    for (size_t i = 0; i < ARRAY_LEN(a); i++)
        assert_true(a[i]->times == 1 && a[i]->err != OK);
    assert_int_equal(w->broker->stats.queued_commands, 0);
}

static void nothing_there_at_the_start(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    world_fini(w);
    redis_fixture_kill(&redis);
    struct broker_config cfg = world_config(f->proxy.url, "gw1-bbbbbb");
    world_init(w, &f->loop, &cfg);
    loop_fake_linger(w->loop, 50);
    assert_int_equal(w->ups + w->downs, 0);
    assert_non_null(w->broker->ops->not_ready(w->broker));
    struct answer *a = ask_publish(w, "lobby", "1", NULL);
    redis_fixture_restart(&redis);
    await_ok(w, a);
    world_ready(w);
}

static bool has_offset(const char *room, long long offset)
{
    char text[32];
    redis_fixture_text(&redis, text, sizeof text, "HGET xd:{%s}:head offset", room);
    return strtoll(text, NULL, 10) == offset;
}

static bool second_done(void *arg)
{
    (void)arg;
    return has_offset("lobby", 1) && has_offset("hall", 1);
}

/* Redis did it, but the answer was lost with the connection: only what may be repeated is repeated. */
static void lost_answers(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    do_subscribe(w, "lobby");
    do_subscribe(w, "hall");
    f->proxy.lose_replies = true;
    struct answer *keyed = ask_publish(w, "lobby", "1", "k"), *plain = ask_publish(w, "hall", "1", NULL);
    assert_true(loop_fake_until(w->loop, second_done, NULL, PATIENCE_MS));
    world_expect(w, 2);
    assert_int_equal(keyed->times + plain->times, 0);
    f->proxy.lose_replies = false;
    proxy_cut(&f->proxy);
    await(w, plain);
    assert_int_equal(plain->err, ERR_UNAVAILABLE);
    assert_non_null(strstr(plain->why, "unknown"));
    await_ok(w, keyed);
    assert_true(keyed->repeated);
    assert_int_equal(keyed->position.offset, 1);
    world_ready(w);
    world_settle(w);
    assert_true(has_offset("lobby", 1) && has_offset("hall", 1));
    world_expect(w, 2);
}

static bool beat_arrived(void *arg)
{
    (void)arg;
    return redis_fixture_number(&redis, "HEXISTS xd:node:{gw1-aaaaaa} anew") == 1 ||
           redis_fixture_number(&redis, "SISMEMBER xd:node:{gw1-aaaaaa}:sessions -") == 1;
}

static bool is_marked(void *arg)
{
    (void)arg;
    return redis_fixture_number(&redis, "SISMEMBER xd:node:{gw1-aaaaaa}:sessions -") == 1;
}

/* It was given up for dead, and the answer that says so is lost: the next one says so again. */
static void a_lost_expulsion_is_told_again(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    world_fini(w);
    struct broker_config cfg = world_config(f->proxy.url, "gw1-aaaaaa");
    cfg.lease_ms = 3000; /* a heartbeat every second: well before the link is given up */
    world_init(w, &f->loop, &cfg);
    world_ready(w);
    do_put(w, "s1", "alice");
    freeReplyObject(redis_fixture_command(&redis, "SREM xd:node:{gw1-aaaaaa}:sessions -"));
    f->proxy.lose_replies = true;
    for (int i = 0; i < 20 && !beat_arrived(NULL); i++) {
        loop_fake_advance(w->loop, 100);
        loop_fake_linger(w->loop, 2);
    }
    assert_true(beat_arrived(NULL));
    assert_int_equal(w->expelled, 0);
    f->proxy.lose_replies = false;
    proxy_cut(&f->proxy);
    wait_down(w);
    world_recover(w);
    assert_true(loop_fake_until(w->loop, is_marked, NULL, PATIENCE_MS));
    assert_int_equal(w->expelled, 1);
    assert_int_equal(redis_fixture_number(&redis, "HEXISTS xd:node:{gw1-aaaaaa} anew"), 0);
}

static void deafness_is_noticed_and_healed(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    loop_fake_advance(w->loop, 1000);
    world_settle(w);
    assert_int_equal(w->broker->stats.deaf, 0);
    size_t accepted = f->proxy.accepted;
    f->proxy.lose_pushes = true;
    for (int ms = 0; ms < 3000; ms += 500) {
        loop_fake_advance(w->loop, 500);
        loop_fake_linger(w->loop, 5);
    }
    assert_non_null(w->broker->ops->not_ready(w->broker)); /* although every command is answered */
    assert_true(w->up);
    assert_int_equal(do_say(w, "lobby", "1")->err, OK);
    for (int ms = 0; ms < 4000; ms += 500) {
        loop_fake_advance(w->loop, 500);
        loop_fake_linger(w->loop, 5);
    }
    assert_true(w->broker->stats.deaf >= 1);
    assert_true(f->proxy.accepted > accepted);
    f->proxy.lose_pushes = false;
    world_recover(w);
    assert_int_equal(w->downs + 1, w->ups);
}

struct goal {
    const uint64_t *counter;
    uint64_t value;
};

static bool reached(void *arg)
{
    const struct goal *g = arg;
    return *g->counter >= g->value;
}

static void round_trip_is_measured(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    const struct broker_stats *s = &w->broker->stats;
    uint64_t before = s->rtt_count, sum = 0;
    assert_true(before >= 1);
    for (int i = 0; i < 3; i++) {
        loop_fake_advance(w->loop, 1000);
        struct goal goal = {&s->rtt_count, before + (uint64_t)i + 1};
        assert_true(loop_fake_until(w->loop, reached, &goal, PATIENCE_MS));
    }
    assert_int_equal(s->rtt_count, before + 3);
    for (size_t i = 0; i < ARRAY_LEN(s->rtt_bucket); i++)
        sum += s->rtt_bucket[i];
    assert_int_equal(sum, s->rtt_count);
}

static void many_rooms_are_subscribed_again(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    enum { ROOMS = 1234 };
    char room[32];
    for (int i = 0; i < ROOMS; i++) {
        (void)snprintf(room, sizeof room, "room-%d", i);
        w->broker->ops->subscribe(w->broker, slice_str(room), NULL, NULL);
    }
    await_ok(w, do_subscribe(w, "the last one"));
    uint64_t commands = w->broker->stats.commands;
    freeReplyObject(redis_fixture_command(&redis, "CLIENT KILL TYPE pubsub"));
    wait_down(w);
    world_recover(w);
    assert_int_equal(w->ups, 2);
    assert_true(w->broker->stats.commands - commands < 20); /* in batches, not one by one */
    for (int i = 0; i < ROOMS; i += 7) {
        (void)snprintf(room, sizeof room, "room-%d", i);
        redisReply *r = redis_fixture_command(&redis, "PUBSUB NUMSUB xd:{%s}", room);
        assert_int_equal(r->element[1]->integer, 1);
        freeReplyObject(r);
    }
    do_say(w, "room-0", "1");
    do_say(w, "room-1233", "2");
    world_settle(w);
    world_expect(w, 2);
}

static void unsubscribed_while_down_stays_so(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    do_subscribe(w, "old");
    do_subscribe(w, "kept");
    freeReplyObject(redis_fixture_command(&redis, "CLIENT KILL TYPE pubsub"));
    wait_down(w);
    w->broker->ops->unsubscribe(w->broker, SLICE("old"));
    world_recover(w);
    do_say(w, "old", "1");
    do_say(w, "kept", "2");
    world_settle(w);
    world_expect(w, 1);
}

static void nonsense_from_redis_costs_the_connection(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    do_subscribe(w, "lobby");
    /* The last one: hiredis 0.14 refuses the depth, 1.x takes it and must be given an end. */
    static const char *const nonsense[] = {"!what?\r\n",
                                           "+OK\r\n",
                                           "*3\r\n$7\r\nmessage\r\n$-5\r\n",
                                           "$99999999999999999999\r\n",
                                           "*3\r\n$7\r\nmessage\r\n:1\r\n*0\r\n",
                                           "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"};
    for (size_t i = 0; i < 2 * ARRAY_LEN(nonsense); i++) {
        proxy_inject(&f->proxy, i % 2 == 0, nonsense[i / 2]);
        loop_fake_linger(w->loop, 5);
        world_recover(w);
    }
    do_say(w, "lobby", "1");
    world_settle(w);
    assert_string_equal(w->seen[w->count - 1].data, "1");
}

static void bytes_may_come_one_by_one(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    f->proxy.one_byte = true;
    do_subscribe(w, "lobby");
    do_put(w, "s1", "alice");
    await_ok(w, do_join(w, "lobby", "s1", "alice"));
    assert_int_equal(do_say(w, "lobby", "\"\r\n$1\"")->err, OK);
    world_expect(w, 2);
    assert_string_equal(w->seen[1].data, "\"\r\n$1\"");
}

static bool no_member(void *arg)
{
    (void)arg;
    return redis_fixture_number(&redis, "EXISTS xd:{lobby}:members xd:session:{s1} xd:session:{s2} xd:user:{alice}") ==
               0 &&
           redis_fixture_number(&redis, "SCARD xd:node:{gw1-aaaaaa}:sessions") == 1;
}

/* Clients leave while Redis hangs: nobody asks again, but they must not stay in the store. */
static void what_ends_during_an_outage_is_cleaned_up(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    do_put(w, "s1", "alice");
    do_put(w, "s2", "");
    await_ok(w, do_join(w, "lobby", "s1", "alice"));
    await_ok(w, do_join(w, "lobby", "s2", ""));
    redis_fixture_pause(&redis);
    struct answer *left = answer_new(), *gone = answer_new(), *gone2 = answer_new();
    w->broker->ops->leave(w->broker, SLICE("lobby"), SLICE("s1"), SLICE("alice"), EXIT_DISCONNECT, answered, left);
    w->broker->ops->session_remove(w->broker, SLICE("s1"), SLICE("alice"), SLICE_NONE, answered, gone);
    w->broker->ops->session_remove(w->broker, SLICE("s2"), SLICE_NONE, SLICE_NONE, answered, gone2);
    loop_fake_advance(w->loop, 3100);
    assert_int_equal(left->err, ERR_TIMEOUT);
    assert_int_equal(gone->err, ERR_TIMEOUT);
    assert_int_equal(gone2->err, ERR_TIMEOUT);
    redis_fixture_resume(&redis);
    world_recover(w);
    loop_fake_advance(w->loop, 1000);
    assert_true(loop_fake_until(w->loop, no_member, NULL, PATIENCE_MS));
}

/* The same, but the session came back before Redis did: its new membership is not what is owed. */
static void owed_leave_is_forgiven_by_joining(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    do_put(w, "s1", "alice");
    await_ok(w, do_join(w, "lobby", "s1", "alice"));
    redis_fixture_pause(&redis);
    struct answer *left = answer_new();
    w->broker->ops->leave(w->broker, SLICE("lobby"), SLICE("s1"), SLICE("alice"), EXIT_LEAVE, answered, left);
    loop_fake_advance(w->loop, 3100);
    assert_int_equal(left->err, ERR_TIMEOUT);
    struct answer *joined = answer_new();
    w->broker->ops->join(w->broker, SLICE("lobby"), SLICE("s1"), SLICE("alice"), answered, joined);
    redis_fixture_resume(&redis);
    loop_fake_advance(w->loop, 2000);
    await_ok(w, joined);
    world_ready(w);
    for (int i = 0; i < 5; i++) {
        loop_fake_advance(w->loop, 1000);
        loop_fake_linger(w->loop, 10);
    }
    assert_int_equal(redis_fixture_number(&redis, "HEXISTS xd:{lobby}:members s1"), 1);
}

/* Redis hangs with much of ours unread. By the time it reads again we have told our callers that nobody knows; what we send next must not
 * be overtaken by that. */
static void stale_commands_die_with_their_connection(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    world_fini(w);
    struct broker_config cfg = world_config(redis.url, "gw1-bbbbbb");
    world_init(w, &f->loop, &cfg);
    world_ready(w);
    enum { MESSAGES = 60 };
    size_t n = 16000;
    AUTO_FREE char *data = xmalloc(n);
    memset(data, '1', n);
    redis_fixture_pause(&redis);
    for (int i = 0; i < MESSAGES; i++)
        w->broker->ops->publish(w->broker, &(struct publish){.room = SLICE("lobby"), .data = {data, n}}, NULL, NULL);
    loop_fake_advance(w->loop, 3100);
    redis_fixture_resume(&redis);
    world_recover(w);
    struct answer *a = await_ok(w, do_say(w, "lobby", "1"));
    assert_true(a->position.offset < MESSAGES); /* most of them died with the connection */
    uint64_t offset = a->position.offset;
    loop_fake_linger(w->loop, 50);
    assert_true(has_offset("lobby", (long long)offset)); /* and nothing came after it */
}

#define T(name)  cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TR(name) cmocka_unit_test_setup_teardown(name, setup_real, teardown)

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    table_seed();
    log_setup(getenv("VERBOSE") != NULL ? LOG_DEBUG : LOG_ERROR, LOG_TEXT, NULL);
    redis_fixture_start(&redis);
    const struct CMUnitTest tests[] = {
        TR(restart_is_survived),
        T(hanging_redis_times_out),
        T(hanging_redis_is_not_ready_in_time),
        T(queue_is_bounded_while_down),
        TR(nothing_there_at_the_start),
        TR(lost_answers),
        T(a_lost_expulsion_is_told_again),
        T(deafness_is_noticed_and_healed),
        T(round_trip_is_measured),
        T(many_rooms_are_subscribed_again),
        T(unsubscribed_while_down_stays_so),
        T(nonsense_from_redis_costs_the_connection),
        T(bytes_may_come_one_by_one),
        T(what_ends_during_an_outage_is_cleaned_up),
        T(owed_leave_is_forgiven_by_joining),
        T(stale_commands_die_with_their_connection),
    };
    int failed = cmocka_run_group_tests_name("broker: redis in trouble", tests, NULL, NULL);
    redis_fixture_stop(&redis);
    return failed;
}
