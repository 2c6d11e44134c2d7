/* tests/unit/test_broker_park.c: sessions that are parked, come back, or do not: asked of every backend. */
#include "tests/unit/broker_suite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"

enum { WINDOW = 60000, SHORT = 40 };

/* Time goes by, by the brokers' clock and by Redis'. */
static void pass(struct world *w)
{
    for (int i = 0; i < 3; i++) {
        loop_fake_advance(w->loop, 1000);
        loop_fake_linger(w->loop, SHORT);
    }
    world_settle(w);
}

/* s1 of alice in the lobby and in a second room, s2 in the lobby. */
static void populate(struct world *w)
{
    do_subscribe(w, "lobby");
    do_subscribe(w, "other");
    await_ok(w, do_put_for(w, "s1", "alice", WINDOW));
    await_ok(w, do_put_for(w, "s2", "", WINDOW));
    await_ok(w, do_join(w, "lobby", "s1", "alice"));
    await_ok(w, do_join(w, "other", "s1", "alice"));
    await_ok(w, do_join(w, "lobby", "s2", ""));
    world_settle(w);
    world_clear(w);
}

static void go_away(struct world *w, uint32_t window_ms)
{
    await_ok(w, do_suspend(w, "lobby", "s1", "alice"));
    await_ok(w, do_suspend(w, "other", "s1", "alice"));
    await_ok(w, do_park(w, "s1", window_ms));
}

static void assert_member(struct world *w, const char *room, const char *sid, enum member_state state)
{
    struct answer *a = await_ok(w, do_presence(w, room, SLICE_NONE, 100));
    for (size_t i = 0; i < a->count; i++) {
        if (strcmp(a->entries[i].name, sid) != 0)
            continue;
        assert_int_equal(a->entries[i].state, state);
        return;
    }
    fail_msg("%s is not in %s", sid, room);
}

static uint64_t member_since(struct world *w)
{
    struct answer *a = await_ok(w, do_presence(w, "other", SLICE_NONE, 100));
    assert_int_equal(a->count, 1);
    return a->entries[0].since_ms;
}

static void suspending_is_told_once(void **state)
{
    struct world *w = world_of(state);
    populate(w);
    do_say(w, "lobby", "1");
    await_ok(w, do_suspend(w, "lobby", "s1", "alice"));
    await_ok(w, do_suspend(w, "lobby", "s1", "alice"));
    await_ok(w, do_suspend(w, "lobby", "a stranger", ""));
    await_ok(w, do_suspend(w, "a room nobody ever used", "s1", "alice"));
    world_settle(w);
    world_expect(w, 2);
    const struct seen *s = &w->seen[1];
    assert_int_equal(s->kind, ENVELOPE_SUSPEND);
    assert_string_equal(s->room, "lobby");
    assert_string_equal(s->from, "s1");
    assert_string_equal(s->user, "alice");
    assert_int_equal(s->total, 2);
    assert_int_equal(s->position.offset, 1);
    assert_string_equal(s->position.tag, w->seen[0].position.tag);
    assert_member(w, "lobby", "s1", MEMBER_SUSPENDED);
    assert_member(w, "lobby", "s2", MEMBER_ACTIVE);
    assert_member(w, "other", "s1", MEMBER_ACTIVE);
}

static void entering_again_is_marked(void **state)
{
    struct world *w = world_of(state);
    populate(w);
    uint64_t since = member_since(w);
    await_ok(w, do_join(w, "other", "s1", "alice"));
    await_ok(w, do_suspend(w, "other", "s1", "alice"));
    await_ok(w, do_join(w, "other", "s1", "alice"));
    await_ok(w, do_join(w, "other", "s1", "alice"));
    world_settle(w);
    world_expect(w, 4);
    static const bool again[] = {true, false, false, true};
    for (size_t i = 0; i < ARRAY_LEN(again); i++) {
        assert_int_equal(w->seen[i].kind, i == 1 ? ENVELOPE_SUSPEND : ENVELOPE_ENTER);
        assert_int_equal(w->seen[i].again, again[i]);
        assert_int_equal(w->seen[i].total, 1);
    }
    assert_int_equal(member_since(w), since);
    await_ok(w, do_leave(w, "other", "s1", "alice", EXIT_LEAVE));
    await_ok(w, do_join(w, "other", "s1", "alice"));
    world_settle(w);
    assert_false(w->seen[5].again);
}

static void parked_session_comes_back(void **state)
{
    struct world *w = world_of(state);
    populate(w);
    go_away(w, WINDOW);
    pass(w);
    world_expect(w, 2); /* both suspended, and nothing else */
    assert_int_equal(do_resume(w, "s1", "hash-s2")->err, ERR_UNAUTHORIZED);
    assert_int_equal(do_resume(w, "s1", "")->err, ERR_UNAUTHORIZED);
    assert_int_equal(do_resume(w, "s9", "hash-s9")->err, ERR_NOT_FOUND);
    struct answer *a = await_ok(w, do_resume(w, "s1", "hash-s1"));
    assert_string_equal(a->owner, "alice");
    assert_int_equal(a->connected_ms, 1700000000000);
    assert_int_equal(a->count, 2);
    bool lobby_first = strcmp(a->entries[0].name, "lobby") == 0;
    assert_string_equal(a->entries[lobby_first ? 0 : 1].name, "lobby");
    assert_string_equal(a->entries[lobby_first ? 1 : 0].name, "other");
    await_ok(w, do_put_for(w, "s1", "alice", WINDOW));
    await_ok(w, do_join(w, "lobby", "s1", "alice"));
    world_settle(w);
    world_expect(w, 3);
    assert_int_equal(w->seen[2].kind, ENVELOPE_ENTER);
    assert_false(w->seen[2].again);
    assert_int_equal(w->seen[2].total, 2);
    assert_member(w, "lobby", "s1", MEMBER_ACTIVE);
    assert_member(w, "other", "s1", MEMBER_SUSPENDED);
    assert_int_equal(w->taken, 0);
}

/* One that never said it was parked: its client was quicker than we to notice that the connection is dead. */
static void active_session_is_resumed_too(void **state)
{
    struct world *w = world_of(state);
    populate(w);
    assert_int_equal(do_resume(w, "s1", "wrong")->err, ERR_UNAUTHORIZED);
    assert_int_equal(await_ok(w, do_resume(w, "s1", "hash-s1"))->count, 2);
    await_ok(w, do_join(w, "lobby", "s1", "alice"));
    assert_int_equal(await_ok(w, do_say(w, "$session:s1", "1"))->position.offset, 1);
    do_put(w, "s3", "");
    assert_int_equal(w->taken, 0);
    /* Without a token nobody resumes anything. */
    struct session_record s = {.sid = SLICE("s4")};
    struct answer *a = answer_new();
    w->broker->ops->session_put(w->broker, &s, answered, a);
    await_ok(w, a);
    assert_int_equal(do_resume(w, "s4", "")->err, ERR_UNAUTHORIZED);
}

static void nobody_comes_back_and_it_ends_once(void **state)
{
    struct world *w = world_of(state);
    populate(w);
    go_away(w, SHORT);
    pass(w);
    world_expect(w, 4);
    bool told[2] = {false, false};
    for (size_t i = 2; i < 4; i++) {
        const struct seen *s = &w->seen[i];
        bool lobby = strcmp(s->room, "lobby") == 0;
        assert_int_equal(s->kind, ENVELOPE_EXIT);
        assert_int_equal(s->reason, EXIT_DISCONNECT);
        assert_string_equal(s->from, "s1");
        assert_string_equal(s->user, "alice");
        assert_int_equal(s->total, lobby ? 1 : 0);
        assert_false(told[lobby]);
        told[lobby] = true;
    }
    assert_int_equal(do_resume(w, "s1", "hash-s1")->err, ERR_NOT_FOUND);
    assert_int_equal(do_say(w, "$session:s1", "1")->err, ERR_NOT_FOUND);
    assert_int_equal(do_say(w, "$user:alice", "1")->err, ERR_NOT_FOUND);
    assert_int_equal(await_ok(w, do_presence(w, "other", SLICE_NONE, 10))->count, 0);
    pass(w);
    world_expect(w, 4);
    /* The other session was not concerned. */
    assert_int_equal(await_ok(w, do_say(w, "$session:s2", "1"))->position.offset, 1);
    if (suite_url != redis.url)
        return;
    assert_int_equal(redis_fixture_number(&redis, "EXISTS xd:parked xd:session:{s1} xd:user:{alice}"), 0);
    assert_int_equal(redis_fixture_number(&redis, "SCARD xd:node:{gw1-aaaaaa}:sessions"), 2); /* s2, and the mark */
}

static void window_is_over_only_when_it_is(void **state)
{
    struct world *w = world_of(state);
    populate(w);
    for (int i = 0; i < 3; i++) {
        go_away(w, SHORT);
        await_ok(w, do_resume(w, "s1", "hash-s1"));
        if (i % 2 == 0)
            await_ok(w, do_put_for(w, "s1", "alice", WINDOW));
        await_ok(w, do_join(w, "lobby", "s1", "alice"));
        await_ok(w, do_join(w, "other", "s1", "alice"));
    }
    pass(w);
    go_away(w, WINDOW);
    pass(w);
    for (size_t i = 0; i < w->count; i++)
        assert_int_not_equal(w->seen[i].kind, ENVELOPE_EXIT);
    await_ok(w, do_resume(w, "s1", "hash-s1"));
}

static void parking_what_is_not_there_does_nothing(void **state)
{
    struct world *w = world_of(state);
    populate(w);
    await_ok(w, do_park(w, "nobody", SHORT));
    await_ok(w, do_leave(w, "lobby", "s2", "", EXIT_LEAVE));
    await_ok(w, do_remove(w, "s2", ""));
    world_settle(w);
    world_clear(w);
    await_ok(w, do_park(w, "s2", SHORT));
    pass(w);
    assert_int_equal(do_resume(w, "s2", "hash-s2")->err, ERR_NOT_FOUND);
    assert_int_equal(w->count, 0);
    if (suite_url == redis.url)
        assert_int_equal(redis_fixture_number(&redis, "EXISTS xd:parked xd:session:{nobody} xd:session:{s2}"), 0);
}

/* Nobody is there to hear it, so nothing is acknowledged and no position is used up. */
static void whispers_to_the_absent_are_refused(void **state)
{
    struct world *w = world_of(state);
    populate(w);
    await_ok(w, do_say(w, "$session:s1", "1"));
    go_away(w, WINDOW);
    struct answer *a = do_say(w, "$session:s1", "2");
    assert_int_equal(a->err, ERR_UNAVAILABLE);
    assert_true(a->why[0] != '\0');
    assert_int_equal(await_ok(w, do_resume(w, "s1", "hash-s1"))->position.offset,
                     1); /* so that it shows what it has missed */
    assert_int_equal(await_ok(w, do_say(w, "$session:s1", "3"))->position.offset, 2);
}

/* Rooms left after resuming are left, although they were entered in an earlier life. */
static void what_was_resumed_can_be_left(void **state)
{
    struct world *w = world_of(state);
    populate(w);
    go_away(w, WINDOW);
    await_ok(w, do_resume(w, "s1", "hash-s1"));
    await_ok(w, do_leave(w, "other", "s1", "alice", EXIT_KICKED));
    await_ok(w, do_leave(w, "lobby", "s1", "alice", EXIT_DISCONNECT));
    await_ok(w, do_remove(w, "s1", "alice"));
    world_settle(w);
    world_expect(w, 4);
    assert_int_equal(w->seen[2].kind, ENVELOPE_EXIT);
    assert_int_equal(w->seen[3].kind, ENVELOPE_EXIT);
    assert_int_equal(do_resume(w, "s1", "hash-s1")->err, ERR_NOT_FOUND);
}

static uint64_t audited(const struct answer *a, const char *room)
{
    for (size_t i = 0; i < a->count; i++) {
        if (strcmp(a->entries[i].name, room) == 0)
            return a->entries[i].total;
    }
    fail_msg("%s is not named", room);
    return 0;
}

static void what_the_store_has_of_a_session(void **state)
{
    struct world *w = world_of(state);
    populate(w);
    struct answer *a = await_ok(w, do_audit(w, "s1"));
    assert_int_equal(a->count, 2);
    assert_int_equal(audited(a, "lobby"), 1);
    assert_int_equal(audited(a, "other"), 1);
    await_ok(w, do_leave(w, "other", "s1", "alice", EXIT_LEAVE));
    await_ok(w, do_suspend(w, "lobby", "s1", "alice"));
    a = await_ok(w, do_audit(w, "s1"));
    assert_int_equal(a->count, 1);
    assert_int_equal(audited(a, "lobby"), 0);
    await_ok(w, do_park(w, "s1", WINDOW));
    assert_int_equal(do_audit(w, "s1")->err, ERR_NOT_FOUND);
    assert_int_equal(do_audit(w, "never-put")->err, ERR_NOT_FOUND);
    await_ok(w, do_resume(w, "s1", "hash-s1"));
    assert_int_equal(await_ok(w, do_audit(w, "s1"))->count, 1);
    await_ok(w, do_remove(w, "s2", ""));
    assert_int_equal(do_audit(w, "s2")->err, ERR_NOT_FOUND);
}

/* Parts of it are lost, each on its own. */
static void what_the_store_has_lost_of_a_session(void **state)
{
    struct world *w = world_of(state);
    if (suite_redis("xd:session:{s1}") == NULL)
        return; /* nothing is lost there */
    populate(w);
    assert_int_equal(redis_fixture_number(suite_redis("xd:{lobby}:members"), "HDEL xd:{lobby}:members s1"), 1);
    struct answer *a = await_ok(w, do_audit(w, "s1"));
    assert_int_equal(audited(a, "lobby"), 0);
    assert_int_equal(audited(a, "other"), 1);
    assert_int_equal(redis_fixture_number(suite_redis("xd:session:{s1}"), "HDEL xd:session:{s1} room:other"), 1);
    assert_int_equal(await_ok(w, do_audit(w, "s1"))->count, 1);
    struct redis_fixture *home = suite_redis("xd:session:{s1}");
    (void)redis_fixture_number(home, "HSET xd:session:{s1} node somebody-else");
    assert_int_equal(do_audit(w, "s1")->err, ERR_CONFLICT);
    world_settle(w);
    assert_int_equal(w->taken, 1);
    assert_int_equal(redis_fixture_number(suite_redis("xd:session:{s2}"), "DEL xd:session:{s2}"), 1);
    assert_int_equal(do_audit(w, "s2")->err, ERR_NOT_FOUND);
}

static void many_end_at_once(void **state)
{
    struct world *w = world_of(state);
    enum { MANY = 200 }; /* some pages */
    do_subscribe(w, "lobby");
    for (int i = 0; i < MANY; i++) {
        char sid[16];
        (void)snprintf(sid, sizeof sid, "n%d", i);
        await_ok(w, do_put_for(w, sid, i % 3 == 0 ? "bob" : "", WINDOW));
        await_ok(w, do_join(w, "lobby", sid, ""));
        await_ok(w, do_suspend(w, "lobby", sid, ""));
        await_ok(w, do_park(w, sid, SHORT));
    }
    for (int i = 0; i < 100 && w->count < 3 * MANY; i++)
        pass(w);
    pass(w); /* and no more */
    unsigned exits[MANY] = {0};
    for (size_t i = 0; i < w->count; i++) {
        unsigned n;
        if (w->seen[i].kind != ENVELOPE_EXIT)
            continue;
        assert_int_equal(sscanf(w->seen[i].from, "n%u", &n), 1);
        exits[n]++;
    }
    for (int i = 0; i < MANY; i++)
        assert_int_equal(exits[i], 1);
    assert_int_equal(await_ok(w, do_rooms(w, SLICE_NONE, 10))->count, 0);
}

static void destroying_completes_it_all(void **state)
{
    struct world *w = world_of(state);
    populate(w);
    const struct broker_ops *ops = w->broker->ops;
    struct answer *a[3] = {answer_new(), answer_new(), answer_new()};
    ops->suspend(w->broker, SLICE("lobby"), SLICE("s1"), SLICE_NONE, answered, a[0]);
    ops->session_park(w->broker, SLICE("s1"), WINDOW, answered, a[1]);
    ops->session_resume(w->broker, SLICE("s1"), SLICE("hash-s1"), answered, a[2]);
    broker_destroy(&w->broker);
    for (size_t i = 0; i < ARRAY_LEN(a); i++) {
        assert_int_equal(a[i]->times, 1);
        assert_int_equal(a[i]->err, ERR_UNAVAILABLE);
    }
}

static int run(const char *name)
{
    const struct CMUnitTest tests[] = {
        T(suspending_is_told_once),
        T(entering_again_is_marked),
        T(parked_session_comes_back),
        T(active_session_is_resumed_too),
        T(nobody_comes_back_and_it_ends_once),
        T(window_is_over_only_when_it_is),
        T(parking_what_is_not_there_does_nothing),
        T(whispers_to_the_absent_are_refused),
        T(what_was_resumed_can_be_left),
        T(what_the_store_has_of_a_session),
        T(what_the_store_has_lost_of_a_session),
        T(many_end_at_once),
        T(destroying_completes_it_all),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return suite_main(run, false);
}
