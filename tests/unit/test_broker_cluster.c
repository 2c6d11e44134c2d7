/* tests/unit/test_broker_cluster.c: the redis broker while slots of its cluster are moved, and while primaries die. */
#include "tests/unit/broker_world.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/table.h"
#include "tests/support/cluster_fixture.h"

#define PATIENCE_MS 20000

struct fixture {
    struct loop_fake loop;
    struct world w;
};

static struct cluster_fixture cluster;

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    cluster_fixture_flush(&cluster);
    loop_fake_init_real(&f->loop);
    struct broker_config cfg = world_config(cluster.url, "gw1-aaaaaa");
    cfg.read_replicas = true;
    world_init(&f->w, &f->loop, &cfg);
    world_ready(&f->w);
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

static struct answer *ask(struct world *w, const struct publish *p)
{
    static struct answer a; /* those of answer_new() are soon used again */
    memset(&a, 0, sizeof a);
    w->broker->ops->publish(w->broker, p, answered, &a);
    return &a;
}

/* Numbered messages in one room: every second one has a key. What was answered, and what was heard. */
enum { MESSAGES = 400 };

struct outcome {
    struct writer *writer;
    int number;
    uint64_t offset; /* 0: refused */
};

struct writer {
    struct world *w;
    const char *room;
    int asked, answered, refused;
    struct outcome outcomes[MESSAGES];
};

static void on_outcome(void *arg, const struct broker_result *r)
{
    struct outcome *o = arg;
    o->writer->answered++;
    o->offset = r->err == OK ? r->position.offset : 0;
    if (r->err == OK)
        return;
    o->writer->refused++;
    assert_true(err_retry(r->err));
}

static void write_some(struct writer *writer, int n)
{
    for (int i = 0; i < n && writer->asked < MESSAGES; i++) {
        struct outcome *o = &writer->outcomes[writer->asked];
        char data[16], key[16];
        *o = (struct outcome){.writer = writer, .number = writer->asked};
        (void)snprintf(data, sizeof data, "%d", writer->asked);
        (void)snprintf(key, sizeof key, "k%d", writer->asked);
        struct publish p = {.room = slice_str(writer->room),
                            .data = slice_str(data),
                            .key = writer->asked % 2 == 0 ? slice_str(key) : SLICE_NONE,
                            .retain_count = 10000};
        writer->asked++;
        writer->w->broker->ops->publish(writer->w->broker, &p, on_outcome, o);
    }
}

static bool all_answered(void *arg)
{
    const struct writer *writer = arg;
    return writer->answered == writer->asked;
}

/* What was acknowledged is in the log, once, in the order in which it was asked for. */
static void check_log(struct writer *writer)
{
    struct world *w = writer->w;
    int last = -1, at = 0;
    uint64_t after = 0;
    bool more = true;
    bool logged[MESSAGES] = {false};
    while (more) {
        struct answer *a = await_ok(w, do_history(w, writer->room, after, 500));
        more = a->more;
        for (size_t i = 0; i < a->count; i++) {
            int number = (int)strtol(a->entries[i].data, NULL, 10);
            assert_int_equal(a->entries[i].position.offset, after + i + 1);
            assert_true(number > last);
            last = number;
            logged[number] = true;
            const struct outcome *o = &writer->outcomes[number];
            assert_true(o->offset == 0 || o->offset == a->entries[i].position.offset);
            at++;
        }
        after += a->count;
    }
    for (int i = 0; i < writer->asked; i++) {
        if (writer->outcomes[i].offset != 0 && !logged[i])
            fail_msg("message %d was acknowledged, but is not in the log of %d", i, at);
    }
}

static void linger(struct world *w, int ms)
{
    loop_fake_linger(w->loop, ms);
}

static void move(struct world *w, struct writer *writer, int slot, int from, int to)
{
    cluster_fixture_open_slot(&cluster, slot, from, to);
    write_some(writer, 20);
    linger(w, 3);
    do {
        write_some(writer, 5);
        linger(w, 2);
    } while (cluster_fixture_move_keys(&cluster, slot, from, to, 1) != 0);
    write_some(writer, 20);
    linger(w, 3);
    cluster_fixture_close_slot(&cluster, slot, from, to);
    write_some(writer, 20);
    linger(w, 3);
}

static bool heard_all(void *arg)
{
    struct writer *writer = arg;
    const struct world *w = writer->w;
    return w->count != 0 && w->seen[w->count - 1].position.offset >= (uint64_t)(writer->asked - writer->refused);
}

static void a_slot_moves_there_and_back(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    int from = cluster_fixture_home(&cluster, "xd:{lobby}"), to = (from + 1) % CLUSTER_PRIMARIES;
    int slot = cluster_fixture_slot(&cluster, "xd:{lobby}");
    struct writer writer = {.w = w, .room = "lobby"};
    do_subscribe(w, "lobby");
    do_put(w, "s1", "alice");
    await_ok(w, do_join(w, "lobby", "s1", "alice"));
    world_settle(w);
    write_some(&writer, 20);
    move(w, &writer, slot, from, to);
    assert_true(loop_fake_until(w->loop, all_answered, &writer, PATIENCE_MS));
    linger(w, 300);
    move(w, &writer, slot, to, from);
    assert_true(loop_fake_until(w->loop, all_answered, &writer, PATIENCE_MS));
    assert_int_equal(writer.refused, 0);
    check_log(&writer);
    assert_true(w->broker->stats.redirects > 0);
    assert_int_equal(w->downs, 0);
    assert_true(w->resubscribed >= 2);
    write_some(&writer, 1);
    assert_true(loop_fake_until(w->loop, heard_all, &writer, PATIENCE_MS));
    /* What was heard was heard once, and in order. */
    uint64_t last = 0;
    for (size_t i = 0; i < w->count; i++) {
        if (w->seen[i].kind != ENVELOPE_MESSAGE)
            continue;
        assert_true(w->seen[i].position.offset > last);
        last = w->seen[i].position.offset;
    }
}

/* An operator stops in the middle: reads go on, on whichever side the key is; publishes are refused, until it goes on. */
static void a_slot_that_stays_open(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    int from = cluster_fixture_home(&cluster, "xd:{lobby}"), to = (from + 1) % CLUSTER_PRIMARIES;
    int slot = cluster_fixture_slot(&cluster, "xd:{lobby}");
    struct publish p = {.room = SLICE("lobby"), .data = SLICE("1"), .retain_count = 10};
    do_subscribe(w, "lobby");
    await_ok(w, do_publish(w, &p));
    cluster_fixture_open_slot(&cluster, slot, from, to);
    assert_int_equal(await_ok(w, do_history(w, "lobby", 0, 10))->count, 1);
    while (cluster_fixture_move_keys(&cluster, slot, from, to, 1) != 0) {
    }
    assert_int_equal(await_ok(w, do_history(w, "lobby", 0, 10))->count, 1);
    assert_int_equal(do_publish(w, &p)->err, ERR_TIMEOUT);
    struct answer *waiting = ask(w, &p);
    linger(w, 50);
    cluster_fixture_close_slot(&cluster, slot, from, to);
    assert_int_equal(await_ok(w, waiting)->position.offset, 2);
    cluster_fixture_open_slot(&cluster, slot, to, from);
    while (cluster_fixture_move_keys(&cluster, slot, to, from, 10) != 0) {
    }
    cluster_fixture_close_slot(&cluster, slot, to, from);
    assert_int_equal(await_ok(w, do_publish(w, &p))->position.offset, 3);
}

/* Private messages follow their session's slot. */
static void whispers_follow_the_slot(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    int from = cluster_fixture_home(&cluster, "xd:session:{s1}"), to = (from + 1) % CLUSTER_PRIMARIES;
    int slot = cluster_fixture_slot(&cluster, "xd:session:{s1}");
    do_put(w, "s1", "alice");
    await_ok(w, do_say(w, "$session:s1", "1"));
    for (int i = 0; i < 2; i++) {
        cluster_fixture_open_slot(&cluster, slot, i == 0 ? from : to, i == 0 ? to : from);
        while (cluster_fixture_move_keys(&cluster, slot, i == 0 ? from : to, i == 0 ? to : from, 10) != 0) {
        }
        cluster_fixture_close_slot(&cluster, slot, i == 0 ? from : to, i == 0 ? to : from);
        linger(w, 200);
        await_ok(w, do_say(w, "$session:s1", i == 0 ? "2" : "3"));
    }
    world_settle(w);
    world_expect(w, 3);
    assert_string_equal(w->seen[2].data, "3");
}

static struct answer *page(struct world *w, const char *room)
{
    struct log_page what = {.room = slice_str(room), .limit = 100, .may_lag = true};
    return await_ok(w, do_read(w, &what));
}

static long long reads(struct redis_fixture *f)
{
    char text[16384];
    redis_fixture_text(f, text, sizeof text, "INFO commandstats");
    const char *at = strstr(text, "cmdstat_xrange:calls=");
    return at != NULL ? strtoll(at + strlen("cmdstat_xrange:calls="), NULL, 10) : 0;
}

/* Each room's history from the replica of its own primary. */
static void history_is_read_from_replicas(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    for (int i = 0; i < 6; i++) {
        char room[16], key[32];
        (void)snprintf(room, sizeof room, "past%d", i);
        (void)snprintf(key, sizeof key, "xd:{%s}", room);
        int home = cluster_fixture_home(&cluster, key);
        struct publish p = {.room = slice_str(room), .data = SLICE("1"), .retain_count = 10};
        await_ok(w, do_publish(w, &p));
        struct broker_stats before = w->broker->stats;
        for (int ms = 0; ms < PATIENCE_MS && w->broker->stats.replica_reads == before.replica_reads; ms += 10) {
            assert_int_equal(page(w, room)->count, 1);
            linger(w, 10);
        }
        long long here = reads(&cluster.nodes[home]), there = reads(&cluster.nodes[home + CLUSTER_PRIMARIES]);
        before = w->broker->stats;
        assert_int_equal(page(w, room)->count, 1);
        assert_int_equal(w->broker->stats.replica_reads - before.replica_reads, 1);
        assert_int_equal(reads(&cluster.nodes[home]) - here, 0);
        assert_int_equal(reads(&cluster.nodes[home + CLUSTER_PRIMARIES]) - there, 1);
        assert_int_equal(await_ok(w, do_history(w, room, 0, 10))->count, 1);
        assert_int_equal(reads(&cluster.nodes[home]) - here, 1);
    }
}

/* They stop following: the primaries give it. */
static void replicas_that_are_gone_are_not_missed(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    struct publish p = {.room = SLICE("past0"), .data = SLICE("1"), .retain_count = 10};
    struct redis_fixture *replica = &cluster.nodes[cluster_fixture_home(&cluster, "xd:{past0}") + CLUSTER_PRIMARIES];
    await_ok(w, do_publish(w, &p));
    for (int ms = 0; ms < PATIENCE_MS && w->broker->stats.replica_reads == 0; ms += 10) {
        assert_int_equal(page(w, "past0")->count, 1);
        linger(w, 10);
    }
    assert_true(w->broker->stats.replica_reads != 0);
    redis_fixture_kill(replica);
    uint64_t fallbacks = w->broker->stats.replica_fallbacks;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(page(w, "past0")->count, 1);
        linger(w, 5);
    }
    assert_true(w->broker->stats.replica_fallbacks - fallbacks >= 19);
    redis_fixture_restart(replica);
    uint64_t before = w->broker->stats.replica_reads;
    for (int ms = 0; ms < PATIENCE_MS && w->broker->stats.replica_reads == before; ms += 10) {
        assert_int_equal(page(w, "past0")->count, 1);
        linger(w, 10);
    }
    assert_true(w->broker->stats.replica_reads != before);
}

static bool ready_again(void *arg)
{
    const struct world *w = arg;
    return w->broker->ops->not_ready(w->broker) == NULL;
}

/* One primary dies, and its replica is promoted: the other rooms notice nothing, and the rooms of that one go on. */
static void a_primary_dies(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    int home = cluster_fixture_home(&cluster, "xd:{lobby}");
    char other[16] = "";
    for (int i = 0; other[0] == '\0'; i++) {
        char key[32];
        (void)snprintf(key, sizeof key, "xd:{room%d}", i);
        if (cluster_fixture_home(&cluster, key) != home)
            (void)snprintf(other, sizeof other, "room%d", i);
    }
    do_subscribe(w, "lobby");
    do_subscribe(w, other);
    struct publish p = {.room = SLICE("lobby"), .data = SLICE("\"before\""), .key = SLICE("k1"), .retain_count = 10};
    await_ok(w, do_publish(w, &p));
    linger(w, 100); /* the replica has it */
    world_clear(w);
    redis_fixture_kill(&cluster.nodes[home]);
    p.data = SLICE("\"meanwhile\"");
    p.key = SLICE("k2");
    struct answer *meanwhile = ask(w, &p);
    for (int i = 0; i < 50; i++) {
        await_ok(w, do_say(w, other, "1"));
        linger(w, 10);
    }
    assert_int_equal(w->downs, 0);
    assert_int_equal(w->count, 50);
    await(w, meanwhile);
    for (int i = 0; meanwhile->err != OK && i < 20; i++) {
        assert_true(err_retry(meanwhile->err));
        meanwhile = do_publish(w, &p);
    }
    await_ok(w, meanwhile);
    assert_int_equal(meanwhile->position.offset, 2);
    for (int ms = 0; ms < PATIENCE_MS && w->resubscribed == 0; ms += 10)
        linger(w, 10);
    assert_true(w->resubscribed != 0);
    assert_int_equal(w->downs, 0);
    world_clear(w);
    await_ok(w, do_say(w, "lobby", "\"after\""));
    world_settle(w);
    assert_string_equal(w->seen[w->count - 1].data, "\"after\"");
    assert_int_equal(page(w, "lobby")->count, 2);
    assert_true(loop_fake_until(w->loop, ready_again, w, PATIENCE_MS));
    assert_int_equal(w->expelled, 0);
}

static void a_single_redis_is_no_cluster(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    struct redis_fixture single;
    char url[96];
    world_fini(w);
    redis_fixture_start(&single);
    (void)snprintf(url, sizeof url, "redis+cluster://127.0.0.1:%d", single.port);
    struct broker_config cfg = world_config(url, "gw1-bbbbbb");
    world_init(w, &f->loop, &cfg);
    linger(w, 300);
    assert_non_null(strstr(w->broker->ops->not_ready(w->broker), "no cluster"));
    redis_fixture_stop(&single);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    table_seed();
    log_setup(getenv("VERBOSE") != NULL ? LOG_DEBUG : LOG_ERROR, LOG_TEXT, NULL);
    cluster_fixture_start(&cluster, true);
    const struct CMUnitTest tests[] = {
        T(a_slot_moves_there_and_back),
        T(a_slot_that_stays_open),
        T(whispers_follow_the_slot),
        T(history_is_read_from_replicas),
        T(replicas_that_are_gone_are_not_missed),
        T(a_single_redis_is_no_cluster),
        T(a_primary_dies), /* last: from then on another one is primary */
    };
    int failed = cmocka_run_group_tests_name("broker: redis cluster in motion", tests, NULL, NULL);
    cluster_fixture_stop(&cluster);
    return failed;
}
