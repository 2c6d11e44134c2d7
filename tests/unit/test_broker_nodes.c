/* tests/unit/test_broker_nodes.c: several nodes on one Redis: one order, death and its cleaning up, and what lies readable in Redis. */
#include "tests/unit/broker_world.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/table.h"
#include "tests/support/redis_fixture.h"

#define PATIENCE_MS 15000
#define LEASE_MS    400

/* Two nodes, each with a loop of its own: one can stand still while the other runs. */
struct fixture {
    struct loop_fake loop[2];
    struct world w[2];
};

static struct redis_fixture redis;

static void node_start(struct fixture *f, int i, const char *name, bool real_clock)
{
    struct broker_config cfg = world_config(redis.url, name);
    if (real_clock) {
        cfg.lease_ms = LEASE_MS;
        loop_fake_init_real(&f->loop[i]);
    } else {
        loop_fake_init(&f->loop[i]);
    }
    world_init(&f->w[i], &f->loop[i], &cfg);
    world_ready(&f->w[i]);
}

static int setup_with(void **state, bool real_clock)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    freeReplyObject(redis_fixture_command(&redis, "FLUSHALL"));
    node_start(f, 0, "gw1-aaaaaa", real_clock);
    node_start(f, 1, "gw2-bbbbbb", real_clock);
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

static void node_stop(struct fixture *f, int i)
{
    if (f->w[i].broker == NULL)
        return;
    world_fini(&f->w[i]);
    loop_fake_fini(&f->loop[i]);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    node_stop(f, 0);
    node_stop(f, 1);
    free(f);
    return 0;
}

/* Runs the living nodes until cond. */
static bool until(struct fixture *f, bool (*cond)(void *arg), void *arg)
{
    for (int i = 0; i < PATIENCE_MS / 2; i++) {
        if (cond(arg))
            return true;
        for (int k = 0; k < 2; k++) {
            if (f->w[k].broker != NULL)
                loop_fake_linger(&f->loop[k], 1);
        }
    }
    return cond(arg);
}

static bool counts_differ(void *arg)
{
    const struct fixture *f = arg;
    return f->w[0].count >= 400 && f->w[1].count >= 400;
}

static void both_nodes_see_one_order(void **state)
{
    struct fixture *f = *state;
    do_subscribe(&f->w[0], "lobby");
    do_subscribe(&f->w[1], "lobby");
    for (int i = 0; i < 400; i++) {
        struct world *w = &f->w[i % 2];
        char data[24], sid[24];
        (void)snprintf(data, sizeof data, "%d", i);
        (void)snprintf(sid, sizeof sid, "s%d", i / 20);
        if (i % 10 == 4)
            w->broker->ops->join(w->broker, SLICE("lobby"), slice_str(sid), SLICE_NONE, NULL, NULL);
        else if (i % 10 == 8)
            w->broker->ops->publish(
                w->broker, &(struct publish){.room = SLICE("lobby"), .data = SLICE("\"x\""), .retain_count = 10}, NULL,
                NULL);
        else
            w->broker->ops->publish(w->broker, &(struct publish){.room = SLICE("lobby"), .data = slice_str(data)}, NULL,
                                    NULL);
        if (i % 7 == 0)
            loop_fake_linger(w->loop, 1);
    }
    assert_true(until(f, counts_differ, f));
    const char *prev = "";
    uint64_t offset = 0;
    for (size_t i = 0; i < 400; i++) {
        const struct seen *a = &f->w[0].seen[i], *b = &f->w[1].seen[i];
        assert_int_equal(a->kind, b->kind);
        assert_string_equal(a->position.tag, b->position.tag);
        assert_int_equal(a->position.offset, b->position.offset);
        assert_string_equal(a->data, b->data);
        assert_string_equal(a->from, b->from);
        if (a->kind == ENVELOPE_MESSAGE) {
            assert_int_equal(a->position.offset, ++offset);
            assert_string_equal(a->prev, prev);
            prev = a->position.tag;
        } else { /* entering has its place, after what was published before */
            assert_int_equal(a->position.offset, offset);
            assert_string_equal(a->position.tag, prev);
        }
    }
    assert_int_equal(offset, 360);
}

static bool second_saw(void *arg)
{
    const struct fixture *f = arg;
    return f->w[1].count >= 1;
}

static bool inbox_is_deserted(void *arg)
{
    (void)arg;
    redisReply *r = redis_fixture_command(&redis, "PUBSUB NUMSUB xd:node:{gw2-bbbbbb}");
    bool deserted = r->element[1]->integer == 0;
    freeReplyObject(r);
    return deserted;
}

static void whispers_find_the_session_at_its_node(void **state)
{
    struct fixture *f = *state;
    do_put(&f->w[1], "s2", "bob");
    struct answer *a = await_ok(&f->w[0], do_say(&f->w[0], "$session:s2", "1"));
    assert_int_equal(a->position.offset, 1);
    assert_true(until(f, second_saw, f));
    assert_string_equal(f->w[1].seen[0].room, "$session:s2");
    assert_string_equal(f->w[1].seen[0].node, "gw1-aaaaaa");
    assert_int_equal(f->w[0].count, 0);
    do_say(&f->w[0], "$all", "2");
    world_expect(&f->w[0], 1);
    world_expect(&f->w[1], 2);
    assert_int_equal(do_say(&f->w[0], "$user:bob", "3")->total, 1);
    /* Dead, but not cleaned up yet: nothing is acknowledged that nobody gets, and no position is used up. */
    node_stop(f, 1);
    assert_true(until(f, inbox_is_deserted, NULL));
    a = do_say(&f->w[0], "$session:s2", "4");
    assert_int_equal(a->err, ERR_UNAVAILABLE);
    char text[32];
    redis_fixture_text(&redis, text, sizeof text, "HGET xd:session:{s2} offset");
    assert_string_equal(text, "1");
}

static bool node_two_is_gone(void *arg)
{
    const struct fixture *f = arg;
    return f->w[0].broker->stats.reaped_nodes >= 1;
}

static size_t keys_of(const char *pattern)
{
    redisReply *r = redis_fixture_command(&redis, "KEYS %s", pattern);
    size_t n = r->elements;
    freeReplyObject(r);
    return n;
}

static void populate(struct fixture *f, int sessions)
{
    struct world *w = &f->w[1];
    for (int i = 0; i < sessions; i++) {
        char sid[24], room[24];
        (void)snprintf(sid, sizeof sid, "dead-%d", i);
        (void)snprintf(room, sizeof room, "room-%d", i % 5);
        do_put(w, sid, i % 2 == 0 ? "bob" : "");
        await_ok(w, do_join(w, "lobby", sid, i % 2 == 0 ? "bob" : ""));
        await_ok(w, do_join(w, room, sid, i % 2 == 0 ? "bob" : ""));
        if (f->w[0].broker != NULL)
            loop_fake_linger(&f->loop[0], 1); /* it must not miss its heartbeat meanwhile */
    }
}

static void assert_cleaned_up(const struct fixture *f)
{
    assert_int_equal(redis_fixture_number(&redis, "HLEN xd:{lobby}:members"), 1);
    assert_int_equal(keys_of("xd:session:*"), 1);
    assert_int_equal(keys_of("xd:user:{bob}"), 0);
    assert_int_equal(keys_of("xd:node:{gw2*"), 0);
    assert_int_equal(keys_of("xd:*room-*:members"), 0);
    assert_int_equal(redis_fixture_number(&redis, "ZCARD xd:nodes"), 1);
    assert_int_equal(redis_fixture_number(&redis, "ZCARD xd:rooms"), 1);
    assert_null(f->w[0].broker->ops->not_ready(f->w[0].broker));
}

enum { DEAD_SESSIONS = 150 };

static void survivor_cleans_up_after_a_dead_node(void **state)
{
    struct fixture *f = *state;
    do_subscribe(&f->w[0], "lobby");
    do_put(&f->w[0], "alive", "alice");
    await_ok(&f->w[0], do_join(&f->w[0], "lobby", "alive", "alice"));
    populate(f, DEAD_SESSIONS);
    node_stop(f, 1); /* without a word, as kill -9 */
    world_settle(&f->w[0]);
    world_clear(&f->w[0]);
    assert_true(until(f, node_two_is_gone, f));
    world_settle(&f->w[0]);
    assert_int_equal(f->w[0].count, DEAD_SESSIONS);
    unsigned seen[DEAD_SESSIONS] = {0};
    for (size_t i = 0; i < f->w[0].count; i++) {
        const struct seen *s = &f->w[0].seen[i];
        assert_int_equal(s->kind, ENVELOPE_EXIT);
        assert_int_equal(s->reason, EXIT_NODE_LOST);
        assert_int_equal(s->total, DEAD_SESSIONS - i);
        unsigned n;
        assert_int_equal(sscanf(s->from, "dead-%u", &n), 1);
        seen[n]++;
        assert_string_equal(s->user, n % 2 == 0 ? "bob" : "");
    }
    for (size_t i = 0; i < DEAD_SESSIONS; i++)
        assert_int_equal(seen[i], 1); /* once */
    assert_int_equal(f->w[0].broker->stats.reaped_sessions, DEAD_SESSIONS);
    assert_int_equal(f->w[0].expelled, 0);
    assert_cleaned_up(f);
    assert_int_equal(do_say(&f->w[0], "$user:bob", "1")->err, ERR_NOT_FOUND);
}

/* As a reaper leaves things that died in the middle: the sessions taken, some of them half cleaned, its lock still there. */
static void dying_reaper_is_taken_over_from(void **state)
{
    struct fixture *f = *state;
    do_put(&f->w[0], "alive", "alice");
    await_ok(&f->w[0], do_join(&f->w[0], "lobby", "alive", "alice"));
    populate(f, 20);
    node_stop(f, 1);
    freeReplyObject(redis_fixture_command(&redis, "DEL xd:node:{gw2-bbbbbb}"));
    freeReplyObject(redis_fixture_command(&redis, "RENAME xd:node:{gw2-bbbbbb}:sessions xd:node:{gw2-bbbbbb}:lost"));
    freeReplyObject(redis_fixture_command(&redis, "SET xd:node:{gw2-bbbbbb}:reaper gw9-dddddd PX 700"));
    freeReplyObject(redis_fixture_command(&redis, "HDEL xd:{lobby}:members dead-3"));
    freeReplyObject(redis_fixture_command(&redis, "HDEL xd:{lobby}:members dead-4"));
    assert_true(until(f, node_two_is_gone, f));
    assert_cleaned_up(f);
}

/* Everything was down for so long that the sessions' hashes expired: nothing tells which rooms they were in but the rooms. */
static void sessions_without_hashes_are_found_in_their_rooms(void **state)
{
    struct fixture *f = *state;
    do_subscribe(&f->w[0], "lobby");
    do_put(&f->w[0], "alive", "alice");
    await_ok(&f->w[0], do_join(&f->w[0], "lobby", "alive", "alice"));
    populate(f, 20);
    node_stop(f, 1);
    for (int i = 0; i < 20; i += 3)
        freeReplyObject(redis_fixture_command(&redis, "DEL xd:session:{dead-%d}", i));
    world_settle(&f->w[0]);
    world_clear(&f->w[0]);
    assert_true(until(f, node_two_is_gone, f));
    freeReplyObject(redis_fixture_command(&redis, "DEL xd:user:{bob}")); /* it expires by itself */
    assert_cleaned_up(f);
    world_settle(&f->w[0]);
    assert_int_equal(f->w[0].count, 20);
    for (size_t i = 0; i < f->w[0].count; i++)
        assert_int_equal(f->w[0].seen[i].reason, EXIT_NODE_LOST);
}

static void *expelled_twice(struct fixture *f, int i)
{
    return f->w[i].expelled >= 1 && f->w[i].broker->ops->not_ready(f->w[i].broker) == NULL ? f : NULL;
}

static bool second_was_expelled(void *arg)
{
    return expelled_twice(arg, 1) != NULL;
}

static bool first_was_expelled(void *arg)
{
    return expelled_twice(arg, 0) != NULL;
}

static bool lobby_is_empty(void *arg)
{
    (void)arg;
    return redis_fixture_number(&redis, "EXISTS xd:{lobby}:members") == 0;
}

/* A node that stood still for longer than its lease comes back: it learns that its sessions are gone, and puts them again. */
static void sleeper_learns_that_it_was_given_up(void **state)
{
    struct fixture *f = *state;
    struct world *sleeper = &f->w[1];
    populate(f, 3);
    struct broker *hidden = TAKE(sleeper->broker); /* until() runs the other one only */
    assert_true(until(f, node_two_is_gone, f));
    assert_true(lobby_is_empty(NULL));
    sleeper->broker = hidden;
    assert_int_equal(sleeper->expelled, 0);
    assert_true(until(f, second_was_expelled, f));
    assert_int_equal(sleeper->expelled, 1);
    assert_int_equal(redis_fixture_number(&redis, "EXISTS xd:node:{gw2-bbbbbb}"), 1);
    populate(f, 3);
    assert_int_equal(redis_fixture_number(&redis, "HLEN xd:{lobby}:members"), 3);
    assert_int_equal(redis_fixture_number(&redis, "SCARD xd:node:{gw2-bbbbbb}:sessions"), 4); /* and the mark */
    for (int i = 0; i < 400; i++) {
        loop_fake_linger(&f->loop[0], 1);
        loop_fake_linger(&f->loop[1], 1);
    }
    assert_int_equal(sleeper->expelled, 1);
    assert_int_equal(f->w[0].expelled, 0);
    assert_int_equal(redis_fixture_number(&redis, "HLEN xd:{lobby}:members"), 3);
}

/* While others clean up after it, a node that came back must not register; if they die in the middle it finishes their work itself. */
static void returning_node_waits_for_its_reaper(void **state)
{
    struct fixture *f = *state;
    populate(f, 3);
    node_stop(f, 0);
    struct world *w = &f->w[1];
    freeReplyObject(redis_fixture_command(&redis, "SET xd:node:{gw2-bbbbbb}:reaper gw9-dddddd PX 1500"));
    freeReplyObject(redis_fixture_command(&redis, "RENAME xd:node:{gw2-bbbbbb}:sessions xd:node:{gw2-bbbbbb}:lost"));
    freeReplyObject(redis_fixture_command(&redis, "DEL xd:node:{gw2-bbbbbb}"));
    loop_fake_linger(&f->loop[1], 700);
    assert_non_null(w->broker->ops->not_ready(w->broker));
    assert_int_equal(redis_fixture_number(&redis, "EXISTS xd:node:{gw2-bbbbbb}"), 0);
    assert_int_equal(w->expelled, 0);
    assert_true(until(f, second_was_expelled, f));
    assert_true(lobby_is_empty(NULL));
    assert_int_equal(redis_fixture_number(&redis, "EXISTS xd:node:{gw2-bbbbbb}:lost xd:node:{gw2-bbbbbb}:reaper"), 0);
}

static void late_heartbeat_alone_expels_nobody(void **state)
{
    struct fixture *f = *state;
    populate(f, 3);
    node_stop(f, 0);
    freeReplyObject(redis_fixture_command(&redis, "DEL xd:node:{gw2-bbbbbb}"));
    loop_fake_linger(&f->loop[1], LEASE_MS);
    assert_int_equal(redis_fixture_number(&redis, "EXISTS xd:node:{gw2-bbbbbb}"), 1);
    assert_int_equal(f->w[1].expelled, 0);
    assert_int_equal(redis_fixture_number(&redis, "HLEN xd:{lobby}:members"), 3);
}

static void emptied_redis_expels_everybody(void **state)
{
    struct fixture *f = *state;
    do_put(&f->w[0], "s1", "alice");
    populate(f, 3);
    freeReplyObject(redis_fixture_command(&redis, "FLUSHALL"));
    assert_true(until(f, first_was_expelled, f));
    assert_true(until(f, second_was_expelled, f));
}

static void retired_node_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w[1];
    do_put(w, "s1", "bob");
    await_ok(w, do_join(w, "lobby", "s1", "bob"));
    await_ok(w, do_leave(w, "lobby", "s1", "bob", EXIT_DISCONNECT));
    do_remove(w, "s1", "bob");
    struct answer *a = answer_new();
    w->broker->ops->retire(w->broker, answered, a);
    await_ok(w, a);
    assert_non_null(w->broker->ops->not_ready(w->broker));
    for (int i = 0; i < 150; i++) {
        loop_fake_linger(&f->loop[0], 1); /* it must not miss its heartbeat meanwhile */
        loop_fake_linger(&f->loop[1], 1);
    }
    assert_int_equal(keys_of("xd:*gw2*"), 0);
    assert_int_equal(keys_of("xd:*"), 3); /* the other node, its set of sessions, the directory of nodes */
    node_stop(f, 1);
}

static void retiring_too_early_leaves_the_rest_to_others(void **state)
{
    struct fixture *f = *state;
    do_put(&f->w[0], "alive", "alice");
    await_ok(&f->w[0], do_join(&f->w[0], "lobby", "alive", "alice"));
    populate(f, 3);
    struct world *w = &f->w[1];
    struct answer *a = answer_new();
    w->broker->ops->retire(w->broker, answered, a);
    await_ok(w, a);
    node_stop(f, 1);
    assert_true(until(f, node_two_is_gone, f));
    assert_cleaned_up(f);
}

/* redis-cli is a user interface. */

static void field(redisReply *r, const char *name, const char *value)
{
    for (size_t i = 0; i + 1 < r->elements; i += 2) {
        if (strcmp(r->element[i]->str, name) != 0)
            continue;
        if (value != NULL)
            assert_string_equal(r->element[i + 1]->str, value);
        else
            assert_true(r->element[i + 1]->len >= 10); /* a time */
        return;
    }
    fail_msg("no field %s", name);
}

static void session_is_readable(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w[0];
    static const char user[] = "xd:user:{Ada %7BL%7D}";
    do_put(w, "s1", "Ada {L}");
    await_ok(w, do_join(w, "the {lobby}", "s1", "Ada {L}"));
    redisReply *r = redis_fixture_command(&redis, "HGETALL xd:session:{s1}");
    field(r, "user", "Ada {L}");
    field(r, "node", "gw1-aaaaaa");
    field(r, "state", "active");
    field(r, "protocol", "xindao.v1.json");
    field(r, "ip", "192.0.2.1");
    field(r, "agent", "test agent/1.0");
    field(r, "origin", "https://example.org");
    field(r, "token_hash", "abcdef");
    field(r, "connected_at", "1700000000000");
    field(r, "last_seen", NULL);
    field(r, "room:the {lobby}", NULL);
    assert_int_equal(r->elements, 22);
    freeReplyObject(r);
    long long ttl = redis_fixture_number(&redis, "PTTL xd:session:{s1}");
    assert_true(ttl > 3500000 && ttl <= 3600000);
    assert_true(redis_fixture_number(&redis, "PTTL %s", user) > 3500000);
    assert_int_equal(redis_fixture_number(&redis, "SISMEMBER %s s1", user), 1);
    assert_int_equal(redis_fixture_number(&redis, "SISMEMBER xd:node:{gw1-aaaaaa}:sessions s1"), 1);
    char text[128], expected[64];
    redis_fixture_text(&redis, text, sizeof text, "HGET %s s1", "xd:{the %7Blobby%7D}:members");
    assert_memory_equal(text, "gw1-aaaaaa 1", 12);
    assert_string_equal(strstr(text, " active"), " active Ada {L}");
    redis_fixture_text(&redis, text, sizeof text, "ZSCORE xd:rooms %s", "the {lobby}");
    assert_string_equal(text, "0");
    r = redis_fixture_command(&redis, "HGETALL xd:node:{gw1-aaaaaa}");
    field(r, "address", "127.0.0.1:9443");
    field(r, "version", "test");
    field(r, "connections", "7");
    field(r, "rooms", "3");
    field(r, "started_at", NULL);
    field(r, "heartbeat", NULL);
    freeReplyObject(r);
    ttl = redis_fixture_number(&redis, "PTTL xd:node:{gw1-aaaaaa}");
    assert_true(ttl > 10000 && ttl <= 15000);
    (void)snprintf(expected, sizeof expected, "room:%s", "the {lobby}");
    await_ok(w, do_leave(w, "the {lobby}", "s1", "Ada {L}", EXIT_LEAVE));
    do_say(w, "x", "1");
    assert_int_equal(redis_fixture_number(&redis, "HEXISTS xd:session:{s1} %s", expected), 0);
    do_remove(w, "s1", "Ada {L}");
    assert_int_equal(redis_fixture_number(&redis, "EXISTS xd:session:{s1} %s", user), 0);
}

static void log_is_readable_and_expires(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w[0];
    struct publish p = {.room = SLICE("news"),
                        .event = SLICE("chat"),
                        .from = SLICE("s1"),
                        .user = SLICE("ada"),
                        .data = SLICE("{\"a\":1}"),
                        .key = SLICE("k1"),
                        .retain_count = 2,
                        .retain_age_s = 200};
    struct answer *a = do_publish(w, &p);
    redisReply *r = redis_fixture_command(&redis, "XRANGE xd:{news}:log - +");
    assert_int_equal(r->elements, 1);
    assert_string_equal(r->element[0]->element[0]->str, "1-0");
    redisReply *fields = r->element[0]->element[1];
    field(fields, "time", NULL);
    field(fields, "tag", a->position.tag);
    field(fields, "id", "k1");
    field(fields, "from", "s1");
    field(fields, "user", "ada");
    field(fields, "event", "chat");
    field(fields, "type", "json");
    field(fields, "data", "{\"a\":1}");
    assert_int_equal(fields->elements, 16);
    freeReplyObject(r);
    char text[64];
    redis_fixture_text(&redis, text, sizeof text, "GET xd:{news}:once:k1");
    assert_int_equal(text[0], '1');
    assert_string_equal(text + 2, a->position.tag);
    long long ttl = redis_fixture_number(&redis, "PTTL xd:{news}:once:k1");
    assert_true(ttl > 100000 && ttl <= 120000);
    ttl = redis_fixture_number(&redis, "PTTL xd:{news}:log");
    assert_true(ttl > 190000 && ttl <= 200000);
    ttl = redis_fixture_number(&redis, "PTTL xd:{news}:head"); /* nobody is in the room */
    assert_true(ttl > 23 * 3600000 && ttl <= 24 * 3600000);
    do_put(w, "s1", "ada");
    await_ok(w, do_join(w, "news", "s1", "ada"));
    assert_int_equal(redis_fixture_number(&redis, "PTTL xd:{news}:head"), -1);
    p.key = SLICE_NONE;
    do_publish(w, &p);
    assert_int_equal(redis_fixture_number(&redis, "PTTL xd:{news}:head"), -1);
    await_ok(w, do_leave(w, "news", "s1", "ada", EXIT_LEAVE));
    assert_true(redis_fixture_number(&redis, "PTTL xd:{news}:head") > 23 * 3600000);
    assert_true(redis_fixture_number(&redis, "PTTL xd:{news}:log") > 0);
    /* Without an age the log lasts while somebody is there, then as long as the head. */
    p = (struct publish){.room = SLICE("chat"), .data = SLICE("1"), .retain_count = 2};
    await_ok(w, do_join(w, "chat", "s1", "ada"));
    do_publish(w, &p);
    assert_int_equal(redis_fixture_number(&redis, "PTTL xd:{chat}:log"), -1);
    await_ok(w, do_leave(w, "chat", "s1", "ada", EXIT_LEAVE));
    assert_true(redis_fixture_number(&redis, "PTTL xd:{chat}:log") > 23 * 3600000);
    await_ok(w, do_join(w, "chat", "s1", "ada"));
    assert_int_equal(redis_fixture_number(&redis, "PTTL xd:{chat}:log"), -1);
    /* A month of retention keeps the head for a month. */
    p = (struct publish){.room = SLICE("month"), .data = SLICE("1"), .retain_count = 2, .retain_age_s = 30 * 86400};
    do_publish(w, &p);
    assert_true(redis_fixture_number(&redis, "PTTL xd:{month}:head") > 29ll * 86400 * 1000);
}

static void old_messages_are_trimmed_by_age(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w[0];
    struct publish p = {.room = SLICE("news"), .data = SLICE("1"), .retain_count = 100, .retain_age_s = 1};
    do_publish(w, &p);
    do_publish(w, &p);
    /* Make them a minute old: ids must grow, so they are written anew under the same ids. */
    for (int i = 1; i <= 2; i++)
        freeReplyObject(redis_fixture_command(&redis, "XDEL xd:{news}:log %d-0", i));
    freeReplyObject(redis_fixture_command(&redis, "DEL xd:{news}:log"));
    freeReplyObject(redis_fixture_command(&redis, "XADD xd:{news}:log 1-0 time 1 tag 0123456789abcdef data 1"));
    freeReplyObject(redis_fixture_command(&redis, "XADD xd:{news}:log 2-0 time 2 tag 0123456789abcdef data 2"));
    assert_int_equal(do_publish(w, &p)->position.offset, 3);
    assert_int_equal(redis_fixture_number(&redis, "XLEN xd:{news}:log"), 1);
}

static void log_goes_on_after_its_head_was_lost(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w[0];
    do_subscribe(w, "news");
    struct publish p = {.room = SLICE("news"), .data = SLICE("1"), .retain_count = 100};
    do_publish(w, &p);
    struct answer *second = do_publish(w, &p);
    freeReplyObject(redis_fixture_command(&redis, "DEL xd:{news}:head"));
    assert_int_equal(await_ok(w, do_publish(w, &p))->position.offset, 3);
    world_expect(w, 3);
    assert_string_equal(w->seen[2].prev, second->position.tag);
}

/* What others write under our names must cost an error and a counter, nothing else. */
static void garbage_is_harmless(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w[0];
    const struct broker_stats *s = &w->broker->stats;
    do_subscribe(w, "lobby");
    do_put(w, "s1", "ada");
    static const char *const channels[] = {"xd:{lobby}", "xd:{$all}", "xd:node:{gw1-aaaaaa}"};
    for (size_t i = 0; i < ARRAY_LEN(channels); i++) {
        freeReplyObject(redis_fixture_command(&redis, "PUBLISH %s %b", channels[i], "", (size_t)0));
        freeReplyObject(
            redis_fixture_command(&redis, "PUBLISH %s %b", channels[i], "\x08\x01\x10\x01junk\xff\xff", (size_t)10));
    }
    world_settle(w);
    assert_int_equal(w->count, 0);
    assert_int_equal(s->undecodable, 6);
    /* A well-formed envelope of another room, and one of a room in the inbox. */
    struct envelope e = {
        .kind = ENVELOPE_MESSAGE, .room = SLICE("hall"), .data = SLICE("1"), .position = {1, "0123456789abcdef"}};
    struct buf body = BUF_INIT;
    envelope_pack(&e, &body);
    freeReplyObject(redis_fixture_command(&redis, "PUBLISH xd:{lobby} %b", body.p, body.n));
    freeReplyObject(redis_fixture_command(&redis, "PUBLISH xd:node:{gw1-aaaaaa} %b", body.p, body.n));
    world_settle(w);
    assert_int_equal(w->count, 0);
    assert_int_equal(s->undecodable, 8);
    buf_fini(&body);
    /* Keys of the wrong type. */
    static const char *const keys[] = {"head", "log", "members", "once:k"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        uint64_t errors = s->command_errors;
        freeReplyObject(
            redis_fixture_command(&redis, "DEL xd:{lobby}:head xd:{lobby}:log xd:{lobby}:members xd:{lobby}:once:k"));
        if (i < 3)
            freeReplyObject(redis_fixture_command(&redis, "SET xd:{lobby}:%s junk", keys[i]));
        else
            freeReplyObject(redis_fixture_command(&redis, "HSET xd:{lobby}:%s junk 1", keys[i]));
        struct publish p = {.room = SLICE("lobby"), .data = SLICE("1"), .key = SLICE("k"), .retain_count = 1};
        struct answer *a = do_publish(w, &p);
        assert_true(a->err == ERR_INTERNAL || i == 2); /* members are only asked whether there are any */
        a = do_join(w, "lobby", "s1", "ada");
        assert_true(a->err == (i == 0 || i == 2 ? ERR_INTERNAL : OK));
        a = do_presence(w, "lobby", SLICE_NONE, 10);
        assert_true(a->err == (i == 0 || i == 2 ? ERR_INTERNAL : OK));
        a = do_history(w, "lobby", 0, 10);
        assert_true(a->err == (i == 0 || i == 1 ? ERR_INTERNAL : OK));
        (void)do_leave(w, "lobby", "s1", "ada", EXIT_LEAVE);
        assert_true(s->command_errors > errors);
    }
    freeReplyObject(
        redis_fixture_command(&redis, "DEL xd:{lobby}:head xd:{lobby}:log xd:{lobby}:members xd:{lobby}:once:k"));
    assert_int_equal(await_ok(w, do_say(w, "lobby", "1"))->position.offset, 1);
    assert_null(w->broker->ops->not_ready(w->broker));
}

static void garbage_values_are_harmless(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w[0];
    const struct broker_stats *s = &w->broker->stats;
    do_put(w, "s1", "ada");
    await_ok(w, do_join(w, "lobby", "s1", "ada"));
    static const char *const members[] = {"", " ", "gw1", "gw1 x active u", "gw1 1 asleep u", "gw1 1 active"};
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        freeReplyObject(redis_fixture_command(&redis, "HSET xd:{lobby}:members junk%d %s", (int)i, members[i]));
    struct answer *a = await_ok(w, do_presence(w, "lobby", SLICE_NONE, 100));
    assert_int_equal(a->count, 1);
    assert_int_equal(s->undecodable, ARRAY_LEN(members));
    struct publish p = {.room = SLICE("lobby"), .data = SLICE("1"), .key = SLICE("k"), .retain_count = 10};
    await_ok(w, do_publish(w, &p));
    freeReplyObject(redis_fixture_command(&redis, "XADD xd:{lobby}:log 5-0 some junk"));
    freeReplyObject(redis_fixture_command(&redis, "XADD xd:{lobby}:log 6-7 time never tag x data 1"));
    freeReplyObject(redis_fixture_command(&redis, "SET xd:{lobby}:once:k junk"));
    a = await_ok(w, do_history(w, "lobby", 0, 10));
    assert_int_equal(a->count, 1);
    p.retain_count = 0;
    assert_int_equal(await_ok(w, do_publish(w, &p))->position.offset, 2);
    freeReplyObject(redis_fixture_command(&redis, "HSET xd:{lobby}:head offset many tag %b", "\r\n\x00", (size_t)3));
    a = do_presence(w, "lobby", SLICE_NONE, 100);
    assert_int_equal(a->err, ERR_INTERNAL);
    /* A session's hash that is none, and one that claims another node. */
    freeReplyObject(redis_fixture_command(&redis, "SET xd:session:{s3} junk"));
    assert_int_equal(do_say(w, "$session:s3", "1")->err, ERR_INTERNAL);
    assert_int_equal(do_remove(w, "s3", "")->err, ERR_INTERNAL);
    assert_int_equal(redis_fixture_number(&redis, "EXISTS xd:session:{s3}"), 1);
    freeReplyObject(redis_fixture_command(&redis, "HSET xd:session:{s4} node gw7-cccccc user eve"));
    await_ok(w, do_remove(w, "s4", ""));
    assert_int_equal(redis_fixture_number(&redis, "EXISTS xd:session:{s4}"), 1);
    freeReplyObject(redis_fixture_command(&redis, "SET xd:user:{eve} junk"));
    assert_int_equal(do_say(w, "$user:eve", "1")->err, ERR_INTERNAL);
    /* The directories. */
    freeReplyObject(redis_fixture_command(&redis, "SET xd:rooms junk"));
    assert_int_equal(do_rooms(w, SLICE_NONE, 10)->err, ERR_INTERNAL);
    freeReplyObject(redis_fixture_command(&redis, "DEL xd:rooms"));
    freeReplyObject(redis_fixture_command(&redis, "ZADD xd:rooms 0 lobby 0 ghost 0 odd"));
    freeReplyObject(redis_fixture_command(&redis, "SET xd:{odd}:members junk"));
    a = await_ok(w, do_rooms(w, SLICE_NONE, 10));
    assert_int_equal(a->count, 1);
    do_say(w, "x", "1");
    assert_int_equal(redis_fixture_number(&redis, "ZCARD xd:rooms"), 1);
    assert_int_equal(do_presence(w, "lobby", SLICE("no cursor"), 10)->err, ERR_BAD_REQUEST);
}

static void newer_envelopes_are_understood(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w[0];
    do_subscribe(w, "lobby");
    struct envelope e = {
        .kind = ENVELOPE_MESSAGE, .room = SLICE("lobby"), .data = SLICE("1"), .position = {1, "0123456789abcdef"}};
    struct buf body = BUF_INIT;
    envelope_pack(&e, &body);
    buf_append(&body, SLICE("\xa2\x06\x03new\xa8\x06\x2a")); /* fields 100 and 101 */
    freeReplyObject(redis_fixture_command(&redis, "PUBLISH xd:{lobby} %b", body.p, body.n));
    world_expect(w, 1);
    assert_string_equal(w->seen[0].data, "1");
    buf_append(&body, SLICE("\x08\x02")); /* v = 2: a change that must not be overlooked */
    freeReplyObject(redis_fixture_command(&redis, "PUBLISH xd:{lobby} %b", body.p, body.n));
    world_settle(w);
    assert_int_equal(w->count, 1);
    assert_int_equal(w->broker->stats.undecodable, 1);
    buf_fini(&body);
}

static void hash_tags_stay_whole(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w[0];
    struct publish p = {.room = SLICE("a}b{c%d"), .data = SLICE("1"), .key = SLICE("k"), .retain_count = 1};
    await_ok(w, do_publish(w, &p));
    assert_int_equal(
        redis_fixture_number(
            &redis, "EXISTS xd:{a%%7Db%%7Bc%%25d}:head xd:{a%%7Db%%7Bc%%25d}:log xd:{a%%7Db%%7Bc%%25d}:once:k"),
        3);
}

static void pass(struct world *w, int seconds)
{
    for (int i = 0; i < seconds; i++) {
        loop_fake_advance(w->loop, 1000);
        loop_fake_linger(w->loop, 3);
    }
}

static void times_to_live_are_renewed(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w[0];
    node_stop(f, 0);
    struct broker_config cfg = world_config(redis.url, "gw1-cccccc");
    cfg.session_ttl_ms = 150000;
    loop_fake_init(&f->loop[0]);
    world_init(w, &f->loop[0], &cfg);
    world_ready(w);
    do_put(w, "s1", "ada");
    do_put(w, "s2", "ada");
    await_ok(w, do_join(w, "lobby", "s1", "ada"));
    do_subscribe(w, "lobby");
    freeReplyObject(redis_fixture_command(&redis, "PEXPIRE xd:session:{s1} 100000"));
    freeReplyObject(redis_fixture_command(&redis, "PEXPIRE xd:session:{s2} 100000"));
    freeReplyObject(redis_fixture_command(&redis, "PEXPIRE xd:user:{ada} 100000"));
    freeReplyObject(redis_fixture_command(&redis, "DEL xd:rooms"));
    pass(w, 70); /* sessions are renewed three times within their time to live, rooms once a minute */
    assert_true(redis_fixture_number(&redis, "PTTL xd:session:{s1}") > 140000);
    assert_true(redis_fixture_number(&redis, "PTTL xd:session:{s2}") > 140000);
    assert_true(redis_fixture_number(&redis, "PTTL xd:user:{ada}") > 140000);
    assert_int_equal(redis_fixture_number(&redis, "ZCARD xd:rooms"), 1); /* only the room that somebody is in */
    assert_int_equal(w->expelled, 0);
    freeReplyObject(redis_fixture_command(&redis, "DEL xd:session:{s2}"));
    pass(w, 55);
    assert_true(w->expelled >= 1);
    assert_int_equal(redis_fixture_number(&redis, "EXISTS xd:session:{s2}"), 0); /* touching does not bring it back */
}

static void replication_is_refused_for_now(void **state)
{
    struct fixture *f = *state;
    struct publish p = {.room = SLICE("r"), .data = SLICE("1"), .replicas = 1};
    assert_int_equal(do_publish(&f->w[0], &p)->err, ERR_UNSUPPORTED);
    p = (struct publish){.room = SLICE("r"),
                         .data = SLICE("1"),
                         .key = SLICE("0123456789012345678901234567890123456789012345678901234567890123456789")};
    assert_int_equal(do_publish(&f->w[0], &p)->err, ERR_INVALID_NAME);
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
        T(both_nodes_see_one_order),
        T(whispers_find_the_session_at_its_node),
        TR(survivor_cleans_up_after_a_dead_node),
        TR(dying_reaper_is_taken_over_from),
        TR(sessions_without_hashes_are_found_in_their_rooms),
        TR(sleeper_learns_that_it_was_given_up),
        TR(returning_node_waits_for_its_reaper),
        TR(late_heartbeat_alone_expels_nobody),
        TR(emptied_redis_expels_everybody),
        TR(retired_node_leaves_nothing),
        TR(retiring_too_early_leaves_the_rest_to_others),
        T(session_is_readable),
        T(log_is_readable_and_expires),
        T(old_messages_are_trimmed_by_age),
        T(log_goes_on_after_its_head_was_lost),
        T(garbage_is_harmless),
        T(garbage_values_are_harmless),
        T(newer_envelopes_are_understood),
        T(hash_tags_stay_whole),
        T(times_to_live_are_renewed),
        T(replication_is_refused_for_now),
    };
    int failed = cmocka_run_group_tests_name("broker: several nodes", tests, NULL, NULL);
    redis_fixture_stop(&redis);
    return failed;
}
