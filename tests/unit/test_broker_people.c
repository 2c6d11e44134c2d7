/* tests/unit/test_broker_people.c: members, rooms, sessions and users, asked of every backend. */
#include "tests/unit/broker_suite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"

static void members_enter_and_exit_in_order(void **state)
{
    struct world *w = world_of(state);
    do_subscribe(w, "lobby");
    do_put(w, "s1", "alice");
    do_put(w, "s2", "");
    struct answer *a = await_ok(w, do_join(w, "lobby", "s1", "alice"));
    assert_int_equal(a->total, 1);
    assert_int_equal(a->position.offset, 0);
    assert_string_equal(a->position.tag, "");
    do_say(w, "lobby", "1");
    a = await_ok(w, do_join(w, "lobby", "s2", ""));
    assert_int_equal(a->total, 2);
    assert_int_equal(a->position.offset, 1);
    a = await_ok(w, do_leave(w, "lobby", "s1", "alice", EXIT_DISCONNECT));
    assert_int_equal(a->total, 1);
    assert_int_equal(a->position.offset, 1);
    world_expect(w, 4);
    const struct seen *s = w->seen;
    assert_int_equal(s[0].kind, ENVELOPE_ENTER);
    assert_string_equal(s[0].from, "s1");
    assert_string_equal(s[0].user, "alice");
    assert_int_equal(s[0].total, 1);
    assert_int_equal(s[0].position.offset, 0);
    assert_int_equal(s[1].kind, ENVELOPE_MESSAGE);
    assert_int_equal(s[2].kind, ENVELOPE_ENTER);
    assert_string_equal(s[2].from, "s2");
    assert_string_equal(s[2].user, "");
    assert_int_equal(s[2].total, 2);
    assert_int_equal(s[2].position.offset, 1);
    assert_string_equal(s[2].position.tag, s[1].position.tag);
    assert_int_equal(s[3].kind, ENVELOPE_EXIT);
    assert_string_equal(s[3].from, "s1");
    assert_int_equal(s[3].reason, EXIT_DISCONNECT);
    assert_int_equal(s[3].total, 1);
    assert_true(s[3].time_ms > 1600000000000);
}

static void joining_twice_is_one_membership(void **state)
{
    struct world *w = world_of(state);
    do_subscribe(w, "lobby");
    do_put(w, "s1", "alice");
    do_join(w, "lobby", "s1", "alice");
    struct answer *a = await_ok(w, do_join(w, "lobby", "s1", "alice"));
    assert_int_equal(a->total, 1);
    world_expect(w, 2);
    assert_int_equal(w->seen[1].kind, ENVELOPE_ENTER);
    await_ok(w, do_leave(w, "lobby", "s1", "alice", EXIT_LEAVE));
    a = await_ok(w, do_leave(w, "lobby", "s1", "alice", EXIT_LEAVE));
    assert_int_equal(a->total, 0);
    await_ok(w, do_leave(w, "a room nobody ever used", "s1", "alice", EXIT_LEAVE));
    world_settle(w);
    world_expect(w, 3);
    assert_int_equal(w->seen[2].kind, ENVELOPE_EXIT);
}

/* Counts how often each name is among the entries of all pages. */
static size_t pages(struct world *w, const char *room, uint32_t limit, unsigned seen[], size_t names)
{
    char cursor[400];
    struct slice at = SLICE_NONE;
    size_t rounds = 0;
    for (bool more = true; more; rounds++) {
        assert_true(rounds < 2 * names + 2);
        struct answer *a = room != NULL ? do_presence(w, room, at, limit) : do_rooms(w, at, limit);
        await_ok(w, a);
        assert_true(a->count <= limit);
        if (room != NULL)
            assert_int_equal(a->total, names);
        for (size_t i = 0; i < a->count; i++) {
            unsigned n;
            assert_int_equal(sscanf(a->entries[i].name, "n%u", &n), 1);
            assert_true(n < names);
            seen[n]++;
        }
        more = a->more;
        memcpy(cursor, a->cursor, sizeof cursor);
        at = (struct slice){cursor, a->cursor_n};
        assert_int_equal(more, a->cursor_n != 0);
    }
    return rounds;
}

static void presence_comes_in_pages(void **state)
{
    struct world *w = world_of(state);
    enum { MEMBERS = 37 };
    await_ok(w, do_presence(w, "lobby", SLICE_NONE, 10));
    for (int i = 0; i < MEMBERS; i++) {
        char sid[24], user[24];
        (void)snprintf(sid, sizeof sid, "n%d", i);
        (void)snprintf(user, sizeof user, "user %d", i);
        do_put(w, sid, user);
        await_ok(w, do_join(w, "lobby", sid, user));
    }
    static const uint32_t limits[] = {1, 10, 36, 37, 1000};
    for (size_t k = 0; k < ARRAY_LEN(limits); k++) {
        unsigned seen[MEMBERS] = {0};
        size_t rounds = pages(w, "lobby", limits[k], seen, MEMBERS);
        assert_int_equal(rounds, (MEMBERS + limits[k] - 1) / limits[k]);
        for (int i = 0; i < MEMBERS; i++)
            assert_int_equal(seen[i], 1);
    }
    struct answer *a = do_presence(w, "lobby", SLICE_NONE, 1000);
    for (size_t i = 0; i < a->count; i++) {
        assert_memory_equal(a->entries[i].user, "user ", 5);
        assert_string_equal(a->entries[i].user + 5, a->entries[i].name + 1);
        assert_string_equal(a->entries[i].node, "gw1-aaaaaa");
        assert_true(a->entries[i].since_ms > 1600000000000);
        assert_int_equal(a->entries[i].state, MEMBER_ACTIVE);
    }
}

static void rooms_come_in_pages(void **state)
{
    struct world *w = world_of(state);
    enum { ROOMS = 23 };
    assert_int_equal(await_ok(w, do_rooms(w, SLICE_NONE, 10))->count, 0);
    do_put(w, "s1", "");
    for (int i = 0; i < ROOMS; i++) {
        char room[24];
        (void)snprintf(room, sizeof room, "n%d", i);
        await_ok(w, do_join(w, room, "s1", ""));
    }
    static const uint32_t limits[] = {1, 5, 23, 100};
    for (size_t k = 0; k < ARRAY_LEN(limits); k++) {
        unsigned seen[ROOMS] = {0};
        (void)pages(w, NULL, limits[k], seen, ROOMS);
        for (int i = 0; i < ROOMS; i++)
            assert_int_equal(seen[i], 1);
    }
    for (int i = 1; i < ROOMS; i++) {
        char room[24];
        (void)snprintf(room, sizeof room, "n%d", i);
        await_ok(w, do_leave(w, room, "s1", "", EXIT_LEAVE));
    }
    struct answer *a = do_rooms(w, SLICE_NONE, 100);
    assert_int_equal(a->count, 1);
    assert_string_equal(a->entries[0].name, "n0");
    assert_int_equal(a->entries[0].total, 1);
}

static void session_is_addressed_by_name(void **state)
{
    struct world *w = world_of(state);
    assert_int_equal(do_say(w, "$session:s1", "1")->err, ERR_NOT_FOUND);
    do_put(w, "s1", "alice");
    struct answer *a = await_ok(w, do_say(w, "$session:s1", "2"));
    assert_int_equal(a->position.offset, 1);
    struct publish p = {.room = SLICE("$session:s1"), .data = SLICE("3"), .key = SLICE("k")};
    await_ok(w, do_publish(w, &p));
    assert_true(do_publish(w, &p)->repeated);
    world_expect(w, 2);
    assert_string_equal(w->seen[0].room, "$session:s1");
    assert_int_equal(w->seen[1].position.offset, 2);
    assert_string_equal(w->seen[1].prev, w->seen[0].position.tag);
    do_remove(w, "s1", "alice");
    a = do_say(w, "$session:s1", "4");
    assert_int_equal(a->err, ERR_NOT_FOUND);
    assert_true(a->why[0] != '\0');
    world_settle(w);
    world_expect(w, 2);
}

static void user_is_addressed_by_name(void **state)
{
    struct world *w = world_of(state);
    assert_int_equal(do_say(w, "$user:alice", "1")->err, ERR_NOT_FOUND);
    do_put(w, "s1", "alice");
    do_put(w, "s1", "alice");
    do_put(w, "s2", "alice");
    do_subscribe(w, "$user:alice");
    struct answer *a = await_ok(w, do_say(w, "$user:alice", "2"));
    assert_int_equal(a->total, 2);
    world_expect(w, 1);
    do_remove(w, "s1", "alice");
    assert_int_equal(await_ok(w, do_say(w, "$user:alice", "3"))->total, 1);
    do_remove(w, "s2", "alice");
    assert_int_equal(do_say(w, "$user:alice", "4")->err, ERR_NOT_FOUND);
    struct publish p = {.room = SLICE("$user:alice"), .data = SLICE("5"), .retain_count = 10};
    a = await_ok(w, do_publish(w, &p));
    assert_int_equal(a->total, 0);
    a = await_ok(w, do_history(w, "$user:alice", 0, 10));
    assert_int_equal(a->count, 1);
    assert_string_equal(a->entries[0].data, "5");
}

static void session_changes_its_user(void **state)
{
    struct world *w = world_of(state);
    do_put(w, "s1", "alice");
    do_remove(w, "s1", "alice");
    do_remove(w, "s1", "alice");
    do_put(w, "s1", "");
    assert_int_equal(do_say(w, "$user:alice", "1")->err, ERR_NOT_FOUND);
    assert_int_equal(do_say(w, "$session:s1", "1")->err, OK);
}

static void odd_names_stay_apart(void **state)
{
    struct world *w = world_of(state);
    static const char *const rooms[] = {"a}b",        "a%7Db", "{a}b",  "a",         "{a}",        "}",
                                        "%",          "{",     "a:log", "a}:log",    "x y",        "\xe6\x88\xbf",
                                        "node:{gw1}", "a\"b",  "*",     "$user:a}b", "$user:a%7Db"};
    do_put(w, "s1", "a}b");
    do_put(w, "s2", "a%7Db");
    for (size_t i = 0; i < ARRAY_LEN(rooms); i++)
        await_ok(w, do_subscribe(w, rooms[i]));
    for (size_t i = 0; i < ARRAY_LEN(rooms); i++) {
        char data[24];
        (void)snprintf(data, sizeof data, "%zu", i);
        struct publish p = {.room = slice_str(rooms[i]), .data = slice_str(data), .key = SLICE("k"), .retain_count = 1};
        assert_int_equal(await_ok(w, do_publish(w, &p))->position.offset, 1);
        if (rooms[i][0] != '$')
            assert_int_equal(await_ok(w, do_join(w, rooms[i], "s1", "a}b"))->total, 1);
    }
    world_settle(w);
    assert_int_equal(w->count, 2 * ARRAY_LEN(rooms) - 2);
    for (size_t i = 0; i < ARRAY_LEN(rooms); i++) {
        struct answer *a = await_ok(w, do_history(w, rooms[i], 0, 10));
        assert_int_equal(a->count, 1);
        assert_int_equal(strtoul(a->entries[0].data, NULL, 10), i);
    }
    assert_int_equal(await_ok(w, do_rooms(w, SLICE_NONE, 100))->count, ARRAY_LEN(rooms) - 2);
    assert_int_equal(await_ok(w, do_say(w, "$user:a}b", "1"))->total, 1);
}

static void users_may_have_spaces(void **state)
{
    struct world *w = world_of(state);
    do_put(w, "s1", "Ada L  1 active");
    do_join(w, "lobby", "s1", "Ada L  1 active");
    struct answer *a = await_ok(w, do_presence(w, "lobby", SLICE_NONE, 10));
    assert_int_equal(a->count, 1);
    assert_string_equal(a->entries[0].user, "Ada L  1 active");
    assert_string_equal(a->entries[0].node, "gw1-aaaaaa");
}

static void retiring_is_answered(void **state)
{
    struct world *w = world_of(state);
    do_put(w, "s1", "alice");
    do_remove(w, "s1", "alice");
    struct answer *a = answer_new();
    w->broker->ops->retire(w->broker, answered, a);
    await_ok(w, a);
}

static int run(const char *name)
{
    const struct CMUnitTest tests[] = {
        T(members_enter_and_exit_in_order), T(joining_twice_is_one_membership),
        T(presence_comes_in_pages),         T(rooms_come_in_pages),
        T(session_is_addressed_by_name),    T(user_is_addressed_by_name),
        T(session_changes_its_user),        T(odd_names_stay_apart),
        T(users_may_have_spaces),           T(retiring_is_answered),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return suite_main(run, false);
}
