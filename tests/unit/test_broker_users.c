/* tests/unit/test_broker_users.c: who is there, who is away, who was seen when: asked of every backend, and told by it. */
#include "tests/unit/broker_suite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"

static void is(struct world *w, const char *user, enum user_state state, uint64_t sessions)
{
    struct answer *a = await_ok(w, do_users(w, user, NULL));
    assert_int_equal(a->count, 1);
    assert_string_equal(a->entries[0].user, user);
    assert_int_equal(a->entries[0].user_state, state);
    assert_int_equal(a->entries[0].total, sessions);
}

static void a_user_comes_and_goes(void **state)
{
    struct world *w = world_of(state);
    await_ok(w, do_watch(w, "alice"));
    is(w, "alice", USER_OFFLINE, 0);
    assert_int_equal(await_ok(w, do_users(w, "alice", NULL))->entries[0].since_ms, 0);
    await_ok(w, do_put(w, "s1", "alice"));
    world_status(w, 1, "alice", USER_ONLINE, 1);
    assert_true(w->statuses[0].since_ms > 1600000000000 && w->statuses[0].seen_ms >= w->statuses[0].since_ms);
    await_ok(w, do_put(w, "s2", "alice"));
    world_status(w, 2, "alice", USER_ONLINE, 2);
    assert_int_equal(w->statuses[1].since_ms, w->statuses[0].since_ms);
    is(w, "alice", USER_ONLINE, 2);
    await_ok(w, do_put(w, "s2", "alice")); /* nothing new */
    await_ok(w, do_put(w, "s3", "bob"));
    await_ok(w, do_remove(w, "s1", "alice"));
    world_status(w, 3, "alice", USER_ONLINE, 1);
    await_ok(w, do_remove(w, "s2", "alice"));
    world_status(w, 4, "alice", USER_OFFLINE, 0);
    await_ok(w, do_remove(w, "s2", "alice"));
    struct answer *a = await_ok(w, do_users(w, "bob", "alice"));
    assert_int_equal(a->count, 2);
    assert_int_equal(a->entries[0].user_state, USER_ONLINE);
    assert_int_equal(a->entries[1].user_state, USER_OFFLINE);
    assert_int_equal(a->entries[1].since_ms, w->statuses[3].since_ms);
    assert_int_equal(a->entries[1].seen_ms, w->statuses[3].seen_ms);
    assert_int_equal(a->entries[1].version, w->statuses[3].version);
    world_settle(w);
    assert_int_equal(w->status_count, 4);
}

static void who_is_parked_is_suspended(void **state)
{
    struct world *w = world_of(state);
    await_ok(w, do_watch(w, "alice"));
    await_ok(w, do_put_for(w, "s1", "alice", 60000));
    await_ok(w, do_put_for(w, "s2", "alice", 60000));
    world_status(w, 2, "alice", USER_ONLINE, 2);
    await_ok(w, do_park(w, "s1", 60000));
    is(w, "alice", USER_ONLINE, 2);
    await_ok(w, do_park(w, "s2", 60000));
    world_status(w, 3, "alice", USER_SUSPENDED, 2);
    await_ok(w, do_park(w, "s2", 60000));
    is(w, "alice", USER_SUSPENDED, 2);
    await_ok(w, do_resume(w, "s2", "hash-s2"));
    world_status(w, 4, "alice", USER_ONLINE, 2);
    await_ok(w, do_remove(w, "s2", "alice"));
    world_status(w, 5, "alice", USER_SUSPENDED, 1);
    await_ok(w, do_resume(w, "s1", "hash-s1"));
    world_status(w, 6, "alice", USER_ONLINE, 1);
    await_ok(w, do_put_for(w, "s1", "alice", 60000));
    await_ok(w, do_remove(w, "s1", "alice"));
    world_status(w, 7, "alice", USER_OFFLINE, 0);
    world_settle(w);
    assert_int_equal(w->status_count, 7);
}

static bool offline_now(void *arg)
{
    const struct world *w = arg;
    return w->status_count >= 3;
}

static void the_end_of_parking_is_told(void **state)
{
    struct world *w = world_of(state);
    await_ok(w, do_watch(w, "alice"));
    await_ok(w, do_put_for(w, "s1", "alice", 1));
    await_ok(w, do_park(w, "s1", 1));
    world_status(w, 2, "alice", USER_SUSPENDED, 1);
    for (int i = 0; i < 200 && !offline_now(w); i++) {
        loop_fake_linger(w->loop, 5);
        loop_fake_advance(w->loop, 500);
    }
    world_status(w, 3, "alice", USER_OFFLINE, 0);
    assert_true(w->statuses[2].seen_ms <= w->statuses[2].since_ms);
    is(w, "alice", USER_OFFLINE, 0);
}

static void who_watches_no_more_is_not_told(void **state)
{
    struct world *w = world_of(state);
    await_ok(w, do_watch(w, "alice"));
    await_ok(w, do_watch(w, "{bob}"));
    w->broker->ops->unwatch(w->broker, SLICE("alice"));
    await_ok(w, do_put(w, "s1", "alice"));
    await_ok(w, do_put(w, "s2", "{bob}"));
    world_status(w, 1, "{bob}", USER_ONLINE, 1);
    await_ok(w, do_watch(w, "alice"));
    is(w, "alice", USER_ONLINE, 1);
    await_ok(w, do_remove(w, "s1", "alice"));
    world_status(w, 2, "alice", USER_OFFLINE, 0);
}

static void a_session_that_changes_hands_counts_once(void **state)
{
    struct world *w = world_of(state);
    await_ok(w, do_watch(w, "alice"));
    await_ok(w, do_put_for(w, "s1", "alice", 60000));
    await_ok(w, do_resume(w, "s1", "hash-s1"));
    await_ok(w, do_resume(w, "s1", "hash-s1"));
    is(w, "alice", USER_ONLINE, 1);
    world_status(w, 1, "alice", USER_ONLINE, 1);
}

static void whom_it_watches_is_known_to_who_resumes_it(void **state)
{
    struct world *w = world_of(state);
    struct session_record s = {
        .sid = SLICE("s1"), .user = SLICE("alice"), .token_hash = SLICE("h"), .watches = SLICE("bob\ncarol\tdevices")};
    struct answer *a = answer_new();
    w->broker->ops->session_put(w->broker, &s, answered, a);
    await_ok(w, a);
    assert_string_equal(await_ok(w, do_resume(w, "s1", "h"))->watches, "bob\ncarol\tdevices");
    s.watches = SLICE_NONE;
    w->broker->ops->session_put(w->broker, &s, answered, a = answer_new());
    await_ok(w, a);
    assert_string_equal(await_ok(w, do_resume(w, "s1", "h"))->watches, "bob\ncarol\tdevices");
    s.watches = SLICE("");
    w->broker->ops->session_put(w->broker, &s, answered, a = answer_new());
    await_ok(w, a);
    assert_string_equal(await_ok(w, do_resume(w, "s1", "h"))->watches, "");
}

/* --- what is kept, and how far it is read --- */

static struct answer *send_kept(struct world *w, const char *data)
{
    return await_ok(
        w, do_publish(w, &(struct publish){.room = SLICE("$user:alice"), .data = slice_str(data), .retain_count = 10}));
}

static struct answer *ask_read(struct world *w, const char *room, struct position at, bool back)
{
    return await(
        w, do_read_mark(
               w, &(struct read_mark){
                      .user = SLICE("alice"), .sid = SLICE("s1"), .room = slice_str(room), .at = at, .back = back}));
}

static void it_says_what_is_only_kept(void **state)
{
    struct world *w = world_of(state);
    assert_true(send_kept(w, "1")->stored);
    do_put_for(w, "s1", "alice", 60000);
    assert_false(send_kept(w, "2")->stored);
    do_put_for(w, "s2", "alice", 60000);
    await_ok(w, do_park(w, "s1", 60000));
    assert_false(send_kept(w, "3")->stored);
    await_ok(w, do_park(w, "s2", 60000));
    struct answer *a = send_kept(w, "4");
    assert_true(a->stored);
    assert_int_equal(a->total, 2);
    assert_int_equal(await_ok(w, do_history(w, "$user:alice", 0, 10))->count, 4);
}

static void reading_goes_forward(void **state)
{
    struct world *w = world_of(state);
    struct position none = {0}, at[4] = {{0}};
    do_put(w, "s1", "alice");
    do_subscribe(w, "$user:alice");
    for (int i = 1; i <= 3; i++)
        at[i] = send_kept(w, "0")->position;
    world_expect(w, 3);
    world_clear(w);
    assert_int_equal(ask_read(w, "$user:alice", none, false)->position.offset, 0);
    struct answer *a = ask_read(w, "$user:alice", at[2], false);
    assert_int_equal(a->err, OK);
    assert_string_equal(a->position.tag, at[2].tag);
    assert_int_equal(ask_read(w, "$user:alice", at[1], false)->position.offset, 2);
    assert_int_equal(ask_read(w, "$user:alice", at[2], false)->position.offset, 2);
    assert_int_equal(ask_read(w, "$user:alice", at[1], true)->position.offset, 1);
    assert_int_equal(ask_read(w, "lobby", at[3], false)->position.offset, 3);
    assert_int_equal(ask_read(w, "lobby", none, false)->position.offset, 3);
    assert_int_equal(ask_read(w, "$user:alice", none, false)->position.offset, 1);
    world_expect(w, 3);
    static const struct {
        const char *room;
        unsigned offset;
    } told[] = {{"$user:alice", 2}, {"$user:alice", 1}, {"lobby", 3}};
    for (size_t i = 0; i < ARRAY_LEN(told); i++) {
        const struct seen *s = &w->seen[i];
        assert_int_equal(s->kind, ENVELOPE_READ);
        assert_string_equal(s->room, "$user:alice");
        assert_string_equal(s->read_room, told[i].room);
        assert_int_equal(s->read.offset, told[i].offset);
        assert_string_equal(s->from, "s1");
        assert_string_equal(s->node, "gw1-aaaaaa");
        assert_false(s->again);
        assert_int_equal(s->position.offset, 3); /* where that is in the order of the inbox */
        assert_string_equal(s->position.tag, at[3].tag);
    }
}

static void who_asks_is_told_in_order(void **state)
{
    struct world *w = world_of(state);
    do_put(w, "s1", "alice");
    do_subscribe(w, "$user:alice");
    struct read_mark mark = {.user = SLICE("alice"), .sid = SLICE("s1"), .room = SLICE("$user:alice"), .tell = true};
    await_ok(w, do_read_mark(w, &mark));
    struct position first = send_kept(w, "1")->position;
    mark.at = first;
    await_ok(w, do_read_mark(w, &mark));
    mark.at = (struct position){0};
    await_ok(w, do_read_mark(w, &mark));
    world_expect(w, 4);
    assert_int_equal(w->seen[0].kind, ENVELOPE_READ);
    assert_true(w->seen[0].again);
    assert_int_equal(w->seen[0].read.offset, 0);
    assert_int_equal(w->seen[0].position.offset, 0);
    assert_int_equal(w->seen[1].kind, ENVELOPE_MESSAGE);
    assert_false(w->seen[2].again);
    assert_true(w->seen[3].again);
    assert_string_equal(w->seen[3].read.tag, first.tag);
}

static void so_many_rooms_are_known(void **state)
{
    struct world *w = world_of(state);
    struct position at = send_kept(w, "1")->position;
    char room[24];
    for (int i = 0; i < READ_ROOMS_MAX; i++) {
        (void)snprintf(room, sizeof room, "room-%d", i);
        assert_int_equal(ask_read(w, room, at, false)->err, OK);
    }
    assert_int_equal(ask_read(w, "one too many", at, false)->err, ERR_LIMIT_EXCEEDED);
    at.offset = 2;
    assert_int_equal(ask_read(w, "room-7", at, false)->position.offset, 2);
}

/* --- Redis alone --- */

static void directory_is_readable(void **state)
{
    struct world *w = world_of(state);
    char text[64];
    struct redis_fixture *r = suite_redis("xd:user:{Ada}");
    if (r == NULL)
        return;
    await_ok(w, do_put_for(w, "s1", "Ada", 60000));
    await_ok(w, do_put_for(w, "s2", "Ada", 60000));
    await_ok(w, do_park(w, "s1", 60000));
    redis_fixture_text(r, text, sizeof text, "HGET xd:user:{Ada}:presence state");
    assert_string_equal(text, "online");
    assert_int_equal(redis_fixture_number(r, "HSTRLEN xd:user:{Ada}:presence last_seen"), 13);
    redis_fixture_text(r, text, sizeof text, "HGET xd:user:{Ada}:presence suspended");
    assert_string_equal(text, "1");
    redis_fixture_text(r, text, sizeof text, "HGET xd:user:{Ada}:presence session:s1");
    assert_string_equal(text + 13, " parked");
    assert_true(redis_fixture_number(r, "PTTL xd:user:{Ada}:presence") > 4100000);
    await_ok(w, do_remove(w, "s1", "Ada"));
    await_ok(w, do_remove(w, "s2", "Ada"));
    redis_fixture_text(r, text, sizeof text, "HGET xd:user:{Ada}:presence state");
    assert_string_equal(text, "offline");
    long long ttl = redis_fixture_number(r, "PTTL xd:user:{Ada}:presence");
    assert_true(ttl > 590000 && ttl <= 600000);
    assert_int_equal(redis_fixture_number(r, "EXISTS xd:user:{Ada}"), 0);
}

/* A node that slept wakes up and tells what it knew then. */
static void old_news_change_nothing(void **state)
{
    struct world *w = world_of(state);
    char text[64];
    struct redis_fixture *r = suite_redis("xd:user:{Ada}");
    if (r == NULL)
        return;
    await_ok(w, do_put_for(w, "s1", "Ada", 60000));
    redis_fixture_text(r, text, sizeof text, "HGET xd:user:{Ada}:presence session:s1");
    long long turn = strtoll(text, NULL, 10);
    await_ok(w, do_remove(w, "s1", "Ada"));
    redis_fixture_text(r, text, sizeof text, "HGET xd:user:{Ada}:presence session:s1");
    assert_string_equal(text + 13, " gone");
    assert_true(strtoll(text, NULL, 10) > turn);
    is(w, "Ada", USER_OFFLINE, 0);
    /* Who is gone is remembered until older news are not believed any more, then forgotten. */
    freeReplyObject(
        redis_fixture_command(r, "HSET xd:user:{Ada}:presence session:s0 %lld%s", turn - 400000, "\x20gone"));
    await_ok(w, do_put_for(w, "s2", "Ada", 60000));
    await_ok(w, do_remove(w, "s2", "Ada"));
    assert_int_equal(redis_fixture_number(r, "HEXISTS xd:user:{Ada}:presence session:s0"), 0);
    assert_int_equal(redis_fixture_number(r, "HEXISTS xd:user:{Ada}:presence session:s1"), 1);
}

static void reading_is_readable(void **state)
{
    struct world *w = world_of(state);
    static const char key[] = "xd:{$user:alice}:read";
    struct redis_fixture *r = suite_redis(key);
    if (r == NULL)
        return;
    struct position at = send_kept(w, "1")->position;
    char text[64], expected[64];
    ask_read(w, "the {lobby}", at, false);
    redis_fixture_text(r, text, sizeof text, "HGET %s %s", key, "the {lobby}");
    (void)snprintf(expected, sizeof expected, "1 %s 1", at.tag);
    assert_memory_equal(text, expected, strlen(expected));
    long long ttl = redis_fixture_number(r, "PTTL %s", key);
    assert_true(ttl > 590000 && ttl <= 600000);
    /* The inbox was forgotten and begins anew: what was read of it says nothing any more. */
    assert_int_equal(ask_read(w, "$user:alice", at, false)->position.offset, 1);
    freeReplyObject(redis_fixture_command(r, "DEL xd:{$user:alice}:head xd:{$user:alice}:log"));
    assert_int_equal(ask_read(w, "$user:alice", (struct position){0}, false)->position.offset, 0);
    loop_fake_linger(w->loop, 3);
    send_kept(w, "1");
    assert_int_equal(ask_read(w, "$user:alice", (struct position){0}, false)->position.offset, 0);
    assert_int_equal(ask_read(w, "the {lobby}", (struct position){0}, false)->position.offset, 1);
}

static int run(const char *name)
{
    const struct CMUnitTest tests[] = {
        T(a_user_comes_and_goes),
        T(who_is_parked_is_suspended),
        T(the_end_of_parking_is_told),
        T(who_watches_no_more_is_not_told),
        T(a_session_that_changes_hands_counts_once),
        T(whom_it_watches_is_known_to_who_resumes_it),
        T(directory_is_readable),
        T(old_news_change_nothing),
        T(it_says_what_is_only_kept),
        T(reading_goes_forward),
        T(who_asks_is_told_in_order),
        T(so_many_rooms_are_known),
        T(reading_is_readable),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return suite_main(run, false);
}
