/* tests/unit/test_broker_moves.c: sessions that go from node to node: resumed elsewhere, parked by a survivor, ended by whoever is left. */
#include "tests/unit/broker_pair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"
#include "broker/redis/scripts.h"

enum { WINDOW = 60000 };

static void assert_text(const char *expected, const char *command)
{
    char text[200];
    redis_fixture_text(&redis, text, sizeof text, command);
    assert_string_equal(text, expected);
}

static long long number(const char *command)
{
    return redis_fixture_number(&redis, command);
}

static void command(const char *text)
{
    freeReplyObject(redis_fixture_command(&redis, text));
}

/* Both nodes listen in the lobby; bob's session is in it through one of them. */
static void populate(struct pair *f, int node)
{
    struct world *w = &f->w[node];
    do_subscribe(&f->w[0], "lobby");
    do_subscribe(&f->w[1], "lobby");
    await_ok(w, do_put_for(w, "s1", "bob", WINDOW));
    await_ok(w, do_join(w, "lobby", "s1", "bob"));
}

static void clear(struct pair *f)
{
    for (int i = 0; i < 2; i++) {
        if (f->w[i].broker == NULL)
            continue;
        world_settle(&f->w[i]);
        pair_linger(f, 5);
    }
    for (int i = 0; i < 2; i++)
        world_clear(&f->w[i]);
}

static unsigned heard(const struct world *w, enum envelope_kind kind, const char *sid)
{
    unsigned n = 0;
    for (size_t i = 0; i < w->count; i++)
        n += w->seen[i].kind == kind && strcmp(w->seen[i].from, sid) == 0;
    return n;
}

static void assert_at_first(void)
{
    assert_text("gw1-aaaaaa", "HGET xd:session:{s1} node");
    assert_text("active", "HGET xd:session:{s1} state");
    assert_int_equal(number("HEXISTS xd:session:{s1} parked_until"), 0);
    assert_int_equal(number("SISMEMBER xd:node:{gw1-aaaaaa}:sessions s1"), 1);
    assert_int_equal(number("SISMEMBER xd:node:{gw2-bbbbbb}:sessions s1"), 0);
    assert_int_equal(number("SISMEMBER xd:user:{bob} s1"), 1);
    assert_int_equal(number("EXISTS xd:parked"), 0);
}

static void parked_session_is_readable_and_comes_back_elsewhere(void **state)
{
    struct pair *f = *state;
    struct world *w = &f->w[1];
    populate(f, 1);
    await_ok(w, do_suspend(w, "lobby", "s1", "bob"));
    await_ok(w, do_park(w, "s1", WINDOW));
    assert_text("parked", "HGET xd:session:{s1} state");
    assert_text("gw2-bbbbbb", "HGET xd:session:{s1} node");
    char until[32];
    redis_fixture_text(&redis, until, sizeof until, "HGET xd:session:{s1} parked_until");
    assert_text(until, "ZSCORE xd:parked s1");
    assert_true(number("PTTL xd:session:{s1}") > WINDOW + 3600000);
    assert_true(number("PTTL xd:user:{bob}") > WINDOW + 3500000);
    assert_int_equal(number("SCARD xd:node:{gw2-bbbbbb}:sessions"), 1); /* the mark */
    clear(f);
    /* Parked once more, it comes back no later; what is noted of it does not keep it. */
    await_ok(w, do_park(w, "s1", 10 * WINDOW));
    assert_text(until, "ZSCORE xd:parked s1");
    await_ok(w, do_join(w, "other", "s1", "bob"));
    assert_int_equal(number("HEXISTS xd:session:{s1} room:other"), 1);
    assert_true(number("PTTL xd:session:{s1}") > WINDOW + 3600000);
    await_ok(w, do_leave(w, "other", "s1", "bob", EXIT_LEAVE));
    clear(f);

    w = &f->w[0];
    struct answer *a = await_ok(w, do_resume(w, "s1", "hash-s1"));
    assert_string_equal(a->owner, "bob");
    assert_int_equal(a->count, 1);
    assert_string_equal(a->entries[0].name, "lobby");
    await_ok(w, do_join(w, "lobby", "s1", "bob"));
    clear(f);
    assert_at_first();
    assert_true(number("PTTL xd:session:{s1}") <= 3600000);
    a = await_ok(w, do_presence(w, "lobby", SLICE_NONE, 10));
    assert_string_equal(a->entries[0].node, "gw1-aaaaaa");
    assert_int_equal(a->entries[0].state, MEMBER_ACTIVE);
    assert_int_equal(f->w[1].taken, 0); /* it had let go of it */
}

static bool was_taken(void *arg)
{
    const struct pair *f = arg;
    return f->w[1].taken != 0;
}

static bool second_forgot(void *arg)
{
    (void)arg;
    return number("SISMEMBER xd:node:{gw2-bbbbbb}:sessions s1") == 0;
}

static void open_connection_is_taken_over(void **state)
{
    struct pair *f = *state;
    struct world *to = &f->w[0], *from = &f->w[1];
    populate(f, 1);
    clear(f);
    assert_int_equal(do_resume(to, "s1", "hash-s2")->err, ERR_UNAUTHORIZED);
    clear(f);
    assert_int_equal(from->taken, 0);
    assert_int_equal(number("SISMEMBER xd:node:{gw1-aaaaaa}:sessions s1"), 0);
    await_ok(to, do_resume(to, "s1", "hash-s1"));
    await_ok(to, do_join(to, "lobby", "s1", "bob"));
    assert_true(pair_until(f, was_taken, f));
    assert_string_equal(from->taken_sid, "s1");
    assert_true(pair_until(f, second_forgot, f));
    world_settle(to);
    world_expect(to, 1);
    assert_int_equal(to->seen[0].kind, ENVELOPE_ENTER);
    assert_false(to->seen[0].again);
    /* Whatever the old node still does comes too late. */
    await_ok(from, do_suspend(from, "lobby", "s1", "bob"));
    await_ok(from, do_leave(from, "lobby", "s1", "bob", EXIT_DISCONNECT));
    await_ok(from, do_park(from, "s1", 1));
    await_ok(from, do_remove(from, "s1", "bob"));
    await_ok(from, do_put_for(from, "s1", "bob", WINDOW));
    clear(f);
    assert_at_first();
    assert_int_equal(from->taken, 2); /* putting it is answered with the news, too */
    assert_int_equal(number("HLEN xd:{lobby}:members"), 1);
    assert_int_equal(await_ok(to, do_presence(to, "lobby", SLICE_NONE, 10))->entries[0].state, MEMBER_ACTIVE);
    assert_int_equal(number("HEXISTS xd:session:{s1} room:lobby"), 1);
    assert_int_equal(await_ok(to, do_say(to, "$session:s1", "1"))->position.offset, 1);
}

/* The news may come when it is news no more. */
static void late_news_of_a_takeover(void **state)
{
    struct pair *f = *state;
    populate(f, 1);
    struct envelope e = {
        .kind = ENVELOPE_TAKEN, .room = SLICE("$session:s1"), .from = SLICE("s1"), .node = SLICE("gw1-aaaaaa")};
    struct buf body = BUF_INIT;
    envelope_pack(&e, &body);
    freeReplyObject(redis_fixture_command(&redis, "PUBLISH xd:node:{gw2-bbbbbb} %b", body.p, body.n));
    freeReplyObject(redis_fixture_command(&redis, "PUBLISH xd:{lobby} %b", body.p, body.n)); /* not its place */
    buf_fini(&body);
    clear(f);
    assert_int_equal(f->w[1].taken, 0);
    assert_int_equal(f->w[1].broker->stats.undecodable, 1);
    assert_int_equal(number("SISMEMBER xd:node:{gw2-bbbbbb}:sessions s1"), 1);
}

/* Or not at all: renewing the session finds out. */
static void lost_news_of_a_takeover(void **state)
{
    struct pair *f = *state;
    struct world *w = &f->w[1];
    pair_stop(f, 1);
    struct broker_config cfg = world_config(redis.url, "gw3-cccccc");
    cfg.session_ttl_ms = 150000;
    loop_fake_init(&f->loop[1]);
    world_init(w, &f->loop[1], &cfg);
    world_ready(w);
    populate(f, 1);
    command("HSET xd:session:{s1} node gw1-aaaaaa");
    for (int i = 0; i < 60; i++) { /* a third of the time to live, and a little */
        loop_fake_advance(w->loop, 1000);
        loop_fake_linger(w->loop, 3);
    }
    assert_int_equal(w->taken, 1);
    assert_string_equal(w->taken_sid, "s1");
    assert_int_equal(w->expelled, 0);
    assert_text("gw1-aaaaaa", "HGET xd:session:{s1} node");
}

/* Between resuming and joining again the memberships are still the old node's; they are this node's to end or to suspend. */
static void gone_again_before_joining(void **state)
{
    struct pair *f = *state;
    struct world *to = &f->w[0];
    populate(f, 1);
    await_ok(&f->w[1], do_join(&f->w[1], "other", "s1", "bob"));
    await_ok(to, do_resume(to, "s1", "hash-s1"));
    await_ok(to, do_leave(to, "other", "s1", "bob", EXIT_KICKED));
    assert_int_equal(number("EXISTS xd:{other}:members"), 0);
    clear(f);
    assert_int_equal(number("HEXISTS xd:session:{s1} room:other"), 0);
    await_ok(to, do_park(to, "s1", WINDOW));
    clear(f);
    struct answer *a = await_ok(to, do_presence(to, "lobby", SLICE_NONE, 10));
    assert_int_equal(a->count, 1);
    assert_int_equal(a->entries[0].state, MEMBER_SUSPENDED);
    assert_text("parked", "HGET xd:session:{s1} state");
    a = await_ok(to, do_resume(to, "s1", "hash-s1"));
    assert_int_equal(a->count, 1);
    await_ok(to, do_leave(to, "lobby", "s1", "bob", EXIT_DISCONNECT));
    await_ok(to, do_remove(to, "s1", "bob"));
    clear(f);
    assert_int_equal(keys_of("xd:*members"), 0);
    assert_int_equal(keys_of("xd:session:*"), 0);
    assert_int_equal(keys_of("xd:user:*"), 1); /* when he was seen */
}

/* Parking and resuming at the same moment, in every order that the wires may bring about. */
static void parking_and_resuming_cross(void **state)
{
    struct pair *f = *state;
    populate(f, 1);
    for (int i = 0; i < 40; i++) {
        struct world *from = &f->w[(i + 1) % 2], *to = &f->w[i % 2];
        const struct broker_ops *ops = from->broker->ops;
        struct answer *suspended = answer_new(), *parked = answer_new(), *resumed = answer_new(),
                      *joined = answer_new();
        ops->suspend(from->broker, SLICE("lobby"), SLICE("s1"), SLICE("bob"), answered, suspended);
        if (i % 4 < 2)
            loop_fake_run(from->loop);
        ops->session_park(from->broker, SLICE("s1"), 20, answered, parked);
        for (int k = 0; k < i % 5; k++)
            loop_fake_run(from->loop);
        to->broker->ops->session_resume(to->broker, SLICE("s1"), SLICE("hash-s1"), answered, resumed);
        await_ok(to, resumed);
        to->broker->ops->join(to->broker, SLICE("lobby"), SLICE("s1"), SLICE("bob"), answered, joined);
        await_ok(from, parked);
        await_ok(from, suspended);
        await_ok(to, joined);
        if (i % 10 == 0)
            pair_linger(f, 20);
    }
    for (int i = 0; i < 3; i++) { /* what is due is looked at, if anything is */
        pair_linger(f, 20);
        loop_fake_advance(&f->loop[0], 1000);
        loop_fake_advance(&f->loop[1], 1000);
    }
    clear(f);
    assert_text("gw2-bbbbbb", "HGET xd:session:{s1} node"); /* the last of them */
    assert_text("active", "HGET xd:session:{s1} state");
    assert_int_equal(number("SISMEMBER xd:node:{gw1-aaaaaa}:sessions s1"), 0);
    assert_int_equal(number("SISMEMBER xd:node:{gw2-bbbbbb}:sessions s1"), 1);
    assert_int_equal(number("EXISTS xd:parked"), 0);
    struct answer *a = await_ok(&f->w[0], do_presence(&f->w[0], "lobby", SLICE_NONE, 10));
    assert_int_equal(a->count, 1);
    assert_string_equal(a->entries[0].node, "gw2-bbbbbb");
    assert_int_equal(a->entries[0].state, MEMBER_ACTIVE);
}

/* At the end of its window a session either ends, once, or is resumed, and then does not. */
static void resuming_and_ending_cross(void **state)
{
    struct pair *f = *state;
    struct world *w = &f->w[0];
    unsigned won = 0, lost = 0;
    do_subscribe(w, "lobby");
    for (int i = 0; i < 16; i++) {
        char sid[16], hash[24];
        (void)snprintf(sid, sizeof sid, "s-%d", i);
        (void)snprintf(hash, sizeof hash, "hash-s-%d", i);
        await_ok(w, do_put_for(w, sid, "bob", WINDOW));
        await_ok(w, do_join(w, "lobby", sid, "bob"));
        await_ok(w, do_suspend(w, "lobby", sid, "bob"));
        await_ok(w, do_park(w, sid, 1));
        pair_linger(f, 2);
        loop_fake_advance(&f->loop[0], 1000);
        loop_fake_advance(&f->loop[1], 1000);
        for (int k = 0; k < i % 4; k++)
            loop_fake_run(&f->loop[0]);
        struct answer *a = do_resume(w, sid, hash);
        clear(f);
        pair_linger(f, 3);
        bool there = redis_fixture_number(&redis, "HEXISTS xd:{lobby}:members %s", sid) != 0;
        assert_int_equal(redis_fixture_number(&redis, "EXISTS xd:session:{%s}", sid), there);
        assert_int_equal(redis_fixture_number(&redis, "SISMEMBER xd:user:{bob} %s", sid), there);
        assert_int_equal(redis_fixture_number(&redis, "SISMEMBER xd:node:{gw1-aaaaaa}:sessions %s", sid), there);
        assert_int_equal(a->err, there ? OK : ERR_NOT_FOUND);
        won += there;
        lost += !there;
        await_ok(w, do_remove(w, sid, "bob"));
    }
    assert_int_equal(won + lost, 16);
    assert_int_equal(number("EXISTS xd:parked"), 0);
    assert_int_equal(keys_of("xd:session:*"), 0);
}

/* As a node leaves things that died while it ended a session: marked, out of some rooms, still in the index for a while. */
static void ending_is_taken_over_from_the_dead(void **state)
{
    struct pair *f = *state;
    struct world *w = &f->w[0];
    populate(f, 1);
    do_subscribe(w, "other");
    await_ok(&f->w[1], do_join(&f->w[1], "other", "s1", "bob"));
    await_ok(&f->w[1], do_suspend(&f->w[1], "lobby", "s1", "bob"));
    await_ok(&f->w[1], do_suspend(&f->w[1], "other", "s1", "bob"));
    await_ok(&f->w[1], do_park(&f->w[1], "s1", WINDOW));
    command("HSET xd:session:{s1} state ending parked_until 1700000000000");
    char score[40];
    redis_fixture_text(
        &redis, score, sizeof score, "EVAL %s 0",
        "local t = redis.call('TIME') return string.format('%.0f.5', t[1] * 1000 + t[2] / 1000 + 600000)");
    freeReplyObject(redis_fixture_command(&redis, "ZADD xd:parked %s s1", score));
    await_ok(w, do_leave(&f->w[1], "lobby", "s1", "bob", EXIT_DISCONNECT));
    clear(f);
    for (int i = 0; i < 3; i++) {
        loop_fake_advance(&f->loop[0], 1000);
        pair_linger(f, 5);
    }
    assert_int_equal(w->count, 0); /* it may live yet */
    /* Nothing brings it back now, and nothing makes it anything else. */
    assert_int_equal(do_resume(w, "s1", "hash-s1")->err, ERR_NOT_FOUND);
    assert_int_equal(do_put_for(&f->w[1], "s1", "bob", WINDOW)->err, ERR_UNAVAILABLE);
    freeReplyObject(redis_fixture_command(&redis, "EVAL %s 1 xd:session:{s1} gw2-bbbbbb 1000 0 0",
                                          redis_scripts[SCRIPT_PARK].text));
    assert_text("ending", "HGET xd:session:{s1} state");
    assert_int_equal(redis_fixture_number(&redis, "EVAL %s 1 xd:parked s1 1700000000000.5 %s",
                                          redis_scripts[SCRIPT_SETTLE].text, ""),
                     0); /* somebody else has it */
    assert_int_equal(number("ZCARD xd:parked"), 1);
    command("ZADD xd:parked 1700000000001.5 s1"); /* nobody hears of it any more; both find it at once */
    for (int i = 0; i < 3; i++) {
        loop_fake_advance(&f->loop[0], 1000);
        loop_fake_advance(&f->loop[1], 1000);
        pair_linger(f, 5);
    }
    world_settle(w);
    world_expect(w, 1);
    assert_int_equal(w->seen[0].kind, ENVELOPE_EXIT);
    assert_string_equal(w->seen[0].room, "other");
    assert_int_equal(w->seen[0].reason, EXIT_DISCONNECT);
    assert_int_equal(keys_of("xd:session:*"), 0);
    assert_int_equal(number("EXISTS xd:parked xd:user:{bob} xd:{other}:members xd:{lobby}:members"), 0);
}

/* Death. */

enum { DEAD = 70 }; /* more than a page */

static bool second_is_gone(void *arg)
{
    const struct pair *f = arg;
    return f->w[0].broker->stats.reaped_nodes >= 1;
}

/* Sessions d0… through the second node; every tenth may not come back. */
static void populate_many(struct pair *f, uint32_t window_ms)
{
    struct world *w = &f->w[1];
    do_subscribe(&f->w[0], "lobby");
    for (int i = 0; i < DEAD; i++) {
        char sid[16];
        (void)snprintf(sid, sizeof sid, "d%d", i);
        await_ok(w, do_put_for(w, sid, "bob", i % 10 == 9 ? 0 : window_ms));
        await_ok(w, do_join(w, "lobby", sid, "bob"));
        loop_fake_linger(&f->loop[0], 1);
    }
    clear(f);
}

static void assert_parked_once(const struct pair *f)
{
    for (int i = 0; i < DEAD; i++) {
        char sid[16];
        (void)snprintf(sid, sizeof sid, "d%d", i);
        bool parked = i % 10 != 9;
        assert_int_equal(heard(&f->w[0], ENVELOPE_SUSPEND, sid), parked);
        assert_int_equal(heard(&f->w[0], ENVELOPE_EXIT, sid), !parked);
        assert_int_equal(redis_fixture_number(&redis, "EXISTS xd:session:{%s}", sid), parked);
    }
    assert_int_equal(number("ZCARD xd:parked"), DEAD - DEAD / 10);
    assert_int_equal(number("HLEN xd:{lobby}:members"), DEAD - DEAD / 10);
    assert_int_equal(keys_of("xd:node:{gw2*"), 0);
}

static void survivor_parks_the_sessions_of_the_dead(void **state)
{
    struct pair *f = *state;
    struct world *w = &f->w[0];
    populate_many(f, WINDOW);
    pair_stop(f, 1);
    char heartbeat[32], until[32];
    redis_fixture_text(&redis, heartbeat, sizeof heartbeat, "ZSCORE xd:nodes gw2-bbbbbb");
    assert_true(pair_until(f, second_is_gone, f));
    world_settle(w);
    assert_parked_once(f);
    for (size_t i = 0; i < w->count; i++)
        assert_true(w->seen[i].kind == ENVELOPE_SUSPEND || w->seen[i].reason == EXIT_NODE_LOST);
    redis_fixture_text(&redis, until, sizeof until, "ZSCORE xd:parked d0");
    assert_int_equal(strtoull(until, NULL, 10), strtoull(heartbeat, NULL, 10) + WINDOW);
    assert_text(until, "HGET xd:session:{d0} parked_until");
    struct answer *a = await_ok(w, do_resume(w, "d0", "hash-d0"));
    assert_string_equal(a->owner, "bob");
    assert_int_equal(a->count, 1);
    await_ok(w, do_join(w, "lobby", "d0", "bob"));
    world_settle(w);
    assert_int_equal(heard(w, ENVELOPE_ENTER, "d0"), 1);
    assert_int_equal(w->expelled, 0);
}

/* As a reaper leaves things that died in the middle: some suspended, some marked as parked but in no index, its lock still there. */
static void parking_is_taken_over_from_a_dead_reaper(void **state)
{
    struct pair *f = *state;
    populate_many(f, WINDOW);
    do_subscribe(&f->w[1], "lobby");
    for (int i = 0; i < 30; i++) {
        char sid[16];
        (void)snprintf(sid, sizeof sid, "d%d", i);
        if (i % 10 != 9)
            await_ok(&f->w[1], do_suspend(&f->w[1], "lobby", sid, "bob"));
        loop_fake_linger(&f->loop[0], 1);
    }
    pair_stop(f, 1);
    for (int i = 0; i < 15; i++) {
        if (i % 10 != 9)
            freeReplyObject(
                redis_fixture_command(&redis, "HSET xd:session:{d%d} state parked parked_until 1999999999999", i));
    }
    command("DEL xd:node:{gw2-bbbbbb}");
    command("RENAME xd:node:{gw2-bbbbbb}:sessions xd:node:{gw2-bbbbbb}:lost");
    freeReplyObject(
        redis_fixture_command(&redis, "SET xd:node:{gw2-bbbbbb}:reaper gw9-dddddd PX %d", 2 * PAIR_LEASE_MS));
    assert_true(pair_until(f, second_is_gone, f));
    world_settle(&f->w[0]);
    assert_parked_once(f);
    assert_text("1999999999999", "ZSCORE xd:parked d3");
}

/* Nobody noticed the death until the window was over. */
static void windows_that_are_over_end_at_once(void **state)
{
    struct pair *f = *state;
    populate_many(f, 50);
    pair_stop(f, 1);
    assert_true(pair_until(f, second_is_gone, f));
    world_settle(&f->w[0]);
    assert_int_equal(f->w[0].count, DEAD);
    for (int i = 0; i < DEAD; i++) {
        char sid[16];
        (void)snprintf(sid, sizeof sid, "d%d", i);
        assert_int_equal(heard(&f->w[0], ENVELOPE_EXIT, sid), 1);
        assert_int_equal(f->w[0].seen[i].reason, EXIT_NODE_LOST);
    }
    assert_int_equal(keys_of("xd:session:*"), 0);
    assert_int_equal(number("EXISTS xd:parked xd:user:{bob} xd:{lobby}:members"), 0);
}

/* The node where a session was before joins once more, after the one where it is now. */
static void a_late_join_hides_no_membership(void **state)
{
    struct pair *f = *state;
    struct world *w = &f->w[0];
    await_ok(w, do_put_for(w, "s1", "bob", WINDOW));
    await_ok(w, do_join(w, "lobby", "s1", "bob"));
    await_ok(&f->w[1], do_join(&f->w[1], "lobby", "s1", "bob"));
    await_ok(w, do_suspend(w, "lobby", "s1", "bob"));
    char entry[64];
    redis_fixture_text(&redis, entry, sizeof entry, "HGET xd:{lobby}:members s1");
    assert_non_null(strstr(entry, " suspended "));
    await_ok(w, do_join(w, "lobby", "s1", "bob"));
    await_ok(&f->w[1], do_join(&f->w[1], "lobby", "s1", "bob"));
    struct answer *a = await_ok(w, do_leave(w, "lobby", "s1", "bob", EXIT_LEAVE));
    assert_int_equal(a->total, 0);
    assert_int_equal(number("EXISTS xd:{lobby}:members"), 0);
    assert_int_equal(number("HEXISTS xd:session:{s1} room:lobby"), 0);
    await_ok(w, do_remove(w, "s1", "bob"));
}

/* But who no longer has the session takes it out of nothing. */
static void who_lost_the_session_cannot_leave_for_it(void **state)
{
    struct pair *f = *state;
    await_ok(&f->w[1], do_put_for(&f->w[1], "s1", "bob", WINDOW));
    await_ok(&f->w[1], do_join(&f->w[1], "lobby", "s1", "bob"));
    command("HSET xd:session:{s1} node gw1-aaaaaa");
    await_ok(&f->w[0], do_join(&f->w[0], "lobby", "s1", "bob"));
    struct answer *a = await_ok(&f->w[1], do_leave(&f->w[1], "lobby", "s1", "bob", EXIT_LEAVE));
    assert_int_equal(a->total, 1);
    assert_int_equal(number("HLEN xd:{lobby}:members"), 1);
}

/* Nor park what has been resumed elsewhere before it had joined its rooms again. */
static void who_lost_the_session_cannot_suspend_it(void **state)
{
    struct pair *f = *state;
    struct world *w = &f->w[0], *loser = &f->w[1];
    await_ok(w, do_put_for(w, "s1", "bob", WINDOW));
    await_ok(w, do_join(w, "lobby", "s1", "bob"));
    await_ok(loser, do_resume(loser, "s1", "hash-s1"));
    command("HSET xd:session:{s1} node gw1-aaaaaa");
    await_ok(loser, do_park(loser, "s1", WINDOW));
    loop_fake_linger(loser->loop, 50);
    char entry[64];
    redis_fixture_text(&redis, entry, sizeof entry, "HGET xd:{lobby}:members s1");
    assert_non_null(strstr(entry, " active "));
}

static bool second_was_expelled(void *arg)
{
    const struct pair *f = arg;
    return f->w[1].expelled >= 1 && f->w[1].broker->ops->not_ready(f->w[1].broker) == NULL;
}

/* A node that only slept gets back those of its sessions that nobody resumed meanwhile. */
static void sleeper_gets_its_sessions_back(void **state)
{
    struct pair *f = *state;
    struct world *sleeper = &f->w[1];
    populate(f, 1);
    await_ok(sleeper, do_put_for(sleeper, "s2", "bob", WINDOW));
    await_ok(sleeper, do_join(sleeper, "lobby", "s2", "bob"));
    struct broker *hidden = TAKE(sleeper->broker); /* pair_until() runs the other one only */
    assert_true(pair_until(f, second_is_gone, f));
    assert_int_equal(number("ZCARD xd:parked"), 2);
    await_ok(&f->w[0], do_resume(&f->w[0], "s1", "hash-s1"));
    sleeper->broker = hidden;
    assert_true(pair_until(f, second_was_expelled, f));
    await_ok(sleeper, do_put_for(sleeper, "s1", "bob", WINDOW));
    await_ok(sleeper, do_put_for(sleeper, "s2", "bob", WINDOW));
    await_ok(sleeper, do_join(sleeper, "lobby", "s2", "bob"));
    pair_linger(f, 20);
    assert_int_equal(sleeper->taken, 1);
    assert_string_equal(sleeper->taken_sid, "s1");
    assert_at_first();
    assert_text("gw2-bbbbbb", "HGET xd:session:{s2} node");
    assert_text("active", "HGET xd:session:{s2} state");
    assert_int_equal(number("SISMEMBER xd:node:{gw2-bbbbbb}:sessions s2"), 1);
}

/* A resume whose answer was lost: if it was done, nobody at this node knows of it, and it must not stay for ever. */
static void unanswered_resume_is_parked_again(void **state)
{
    struct pair *f = *state;
    struct world *to = &f->w[0];
    populate(f, 1);
    await_ok(&f->w[1], do_suspend(&f->w[1], "lobby", "s1", "bob"));
    await_ok(&f->w[1], do_park(&f->w[1], "s1", WINDOW));
    redis_fixture_pause(&redis);
    struct answer *a = answer_new();
    to->broker->ops->session_resume(to->broker, SLICE("s1"), SLICE("hash-s1"), answered, a);
    loop_fake_run(to->loop);
    loop_fake_advance(to->loop, 3100);
    assert_int_equal(await(to, a)->err, ERR_TIMEOUT);
    redis_fixture_resume(&redis);
    world_ready(to);
    for (int i = 0; i < 20; i++) {
        loop_fake_advance(to->loop, 500);
        pair_linger(f, 2);
    }
    assert_text("parked", "HGET xd:session:{s1} state");
    assert_int_equal(number("ZCARD xd:parked"), 1);
    assert_int_equal(number("SISMEMBER xd:node:{gw1-aaaaaa}:sessions s1"), 0);
    await_ok(to, do_resume(to, "s1", "hash-s1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        P(parked_session_is_readable_and_comes_back_elsewhere),
        P(open_connection_is_taken_over),
        P(late_news_of_a_takeover),
        P(lost_news_of_a_takeover),
        P(gone_again_before_joining),
        P(parking_and_resuming_cross),
        P(resuming_and_ending_cross),
        P(ending_is_taken_over_from_the_dead),
        P_REAL(survivor_parks_the_sessions_of_the_dead),
        P_REAL(parking_is_taken_over_from_a_dead_reaper),
        P_REAL(windows_that_are_over_end_at_once),
        P_REAL(a_late_join_hides_no_membership),
        P_REAL(who_lost_the_session_cannot_leave_for_it),
        P_REAL(who_lost_the_session_cannot_suspend_it),
        P_REAL(sleeper_gets_its_sessions_back),
        P(unanswered_resume_is_parked_again),
    };
    pair_begin();
    return pair_end(cmocka_run_group_tests_name("broker: sessions move", tests, NULL, NULL));
}
