/* tests/unit/test_broker.c: what every broker promises, asked of every backend: the embedded one and a real Redis. */
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

struct fixture {
    struct loop_fake loop;
    struct world w;
};

static bool use_redis;
static struct redis_fixture redis;

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    if (use_redis)
        freeReplyObject(redis_fixture_command(&redis, "FLUSHALL"));
    loop_fake_init(&f->loop);
    struct broker_config cfg = world_config(use_redis ? redis.url : "memory", "gw1-aaaaaa");
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

static struct world *world_of(void **state)
{
    struct fixture *f = *state;
    return &f->w;
}

static bool is_tag(const char *tag)
{
    return strlen(tag) == TAG_LEN && strspn(tag, "0123456789abcdef") == TAG_LEN;
}

static void link_comes_up_once(void **state)
{
    struct world *w = world_of(state);
    assert_int_equal(w->ups, 1);
    assert_int_equal(w->downs, 0);
    assert_null(w->broker->ops->not_ready(w->broker));
}

static void message_arrives_as_published(void **state)
{
    struct world *w = world_of(state);
    do_subscribe(w, "lobby");
    struct publish p = {.room = SLICE("lobby"),
                        .event = SLICE("chat"),
                        .from = SLICE("session-1"),
                        .user = SLICE("alice"),
                        .except = SLICE("session-2"),
                        .key = SLICE("k1"),
                        .data = SLICE("{\"text\":\"h\xc3\xa4\"}")};
    struct answer *a = do_publish(w, &p);
    assert_int_equal(a->err, OK);
    assert_false(a->repeated);
    world_expect(w, 1);
    const struct seen *s = &w->seen[0];
    assert_int_equal(s->kind, ENVELOPE_MESSAGE);
    assert_string_equal(s->room, "lobby");
    assert_string_equal(s->event, "chat");
    assert_string_equal(s->from, "session-1");
    assert_string_equal(s->user, "alice");
    assert_string_equal(s->except, "session-2");
    assert_string_equal(s->id, "k1");
    assert_string_equal(s->node, "gw1-aaaaaa");
    assert_string_equal(s->data, "{\"text\":\"h\xc3\xa4\"}");
    assert_int_equal(s->data_type, DATA_JSON);
    assert_int_equal(s->position.offset, 1);
    assert_true(is_tag(s->position.tag));
    assert_string_equal(s->prev, "");
    assert_true(s->time_ms > 1600000000000);
    assert_int_equal(a->position.offset, 1);
    assert_string_equal(a->position.tag, s->position.tag);
}

static void positions_count_without_holes(void **state)
{
    struct world *w = world_of(state);
    do_subscribe(w, "lobby");
    struct answer *answers[8];
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        char data[16];
        (void)snprintf(data, sizeof data, "%zu", i);
        answers[i] = answer_new();
        struct publish p = {.room = SLICE("lobby"), .data = slice_str(data)};
        w->broker->ops->publish(w->broker, &p, answered, answers[i]);
        assert_int_equal(answers[i]->times, 0);
    }
    world_expect(w, ARRAY_LEN(answers));
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        char data[16];
        (void)snprintf(data, sizeof data, "%zu", i);
        await_ok(w, answers[i]);
        assert_int_equal(answers[i]->position.offset, i + 1);
        assert_int_equal(w->seen[i].position.offset, i + 1);
        assert_string_equal(w->seen[i].data, data);
        assert_string_equal(w->seen[i].position.tag, answers[i]->position.tag);
        assert_string_equal(w->seen[i].prev, i == 0 ? "" : w->seen[i - 1].position.tag);
    }
}

static void only_subscribed_rooms_are_heard(void **state)
{
    struct world *w = world_of(state);
    do_subscribe(w, "here");
    do_subscribe(w, "here");
    assert_int_equal(do_say(w, "there", "1")->err, OK);
    assert_int_equal(do_say(w, "here", "2")->err, OK);
    world_settle(w);
    world_expect(w, 1);
    w->broker->ops->unsubscribe(w->broker, SLICE("here"));
    w->broker->ops->unsubscribe(w->broker, SLICE("never subscribed"));
    world_settle(w);
    assert_int_equal(do_say(w, "here", "3")->position.offset, 2);
    world_settle(w);
    world_expect(w, 1);
    /* Back again, it continues where the room is. */
    do_subscribe(w, "here");
    assert_int_equal(do_say(w, "here", "4")->position.offset, 3);
    world_expect(w, 2);
    assert_int_equal(w->seen[1].position.offset, 3);
}

static void quick_changes_of_mind_end_subscribed(void **state)
{
    struct world *w = world_of(state);
    struct answer *a = NULL;
    for (int i = 0; i < 20; i++) {
        a = answer_new();
        w->broker->ops->subscribe(w->broker, SLICE("lobby"), answered, a);
        if (i % 3 == 0)
            loop_fake_run(w->loop);
        if (i < 19)
            w->broker->ops->unsubscribe(w->broker, SLICE("lobby"));
        if (i % 4 == 0)
            loop_fake_run(w->loop);
    }
    await_ok(w, a);
    do_say(w, "lobby", "1");
    world_expect(w, 1);
}

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

static void history_keeps_what_was_retained(void **state)
{
    struct world *w = world_of(state);
    assert_int_equal(await_ok(w, do_history(w, "log", 0, 10))->count, 0);
    do_say(w, "log", "\"not retained\"");
    assert_int_equal(await_ok(w, do_history(w, "log", 0, 10))->count, 0);
    struct publish p = {.room = SLICE("log"),
                        .event = SLICE("e"),
                        .from = SLICE("s"),
                        .user = SLICE("u"),
                        .except = SLICE("x"),
                        .retain_count = 5,
                        .retain_age_s = 3600};
    for (int i = 2; i <= 9; i++) {
        char data[16], key[16];
        (void)snprintf(data, sizeof data, "%d", i);
        (void)snprintf(key, sizeof key, "k%d", i);
        p.data = slice_str(data);
        p.key = slice_str(key);
        assert_int_equal(do_publish(w, &p)->position.offset, i);
    }
    struct answer *a = await_ok(w, do_history(w, "log", 0, 100));
    assert_int_equal(a->count, 5);
    assert_false(a->more);
    assert_int_equal(a->position.offset, 9);
    assert_int_equal(a->entries[0].position.offset, 5);
    a = await_ok(w, do_history(w, "log", 6, 2));
    assert_int_equal(a->count, 2);
    assert_true(a->more);
    assert_int_equal(a->entries[0].position.offset, 7);
    assert_true(is_tag(a->entries[0].position.tag));
    assert_string_equal(a->entries[0].data, "7");
    assert_string_equal(a->entries[0].event, "e");
    assert_string_equal(a->entries[0].name, "s");
    assert_string_equal(a->entries[0].user, "u");
    assert_string_equal(a->entries[0].id, "k7");
    assert_string_equal(a->entries[0].except, "x");
    assert_true(a->entries[0].time_ms > 1600000000000);
    assert_int_equal(await_ok(w, do_history(w, "log", 9, 2))->count, 0);
}

static void binary_data_passes_unchanged(void **state)
{
    struct world *w = world_of(state);
    static const char bytes[] = "\x00\r\n$5\r\n\xff\xfe\x00{}%s\x00";
    do_subscribe(w, "bin");
    struct publish p = {
        .room = SLICE("bin"), .data = {bytes, sizeof bytes}, .data_type = DATA_BINARY, .retain_count = 3};
    assert_int_equal(do_publish(w, &p)->err, OK);
    p.data = SLICE_NONE;
    assert_int_equal(do_publish(w, &p)->err, OK);
    world_expect(w, 2);
    assert_int_equal(w->seen[0].data_type, DATA_BINARY);
    assert_int_equal(w->seen[0].data_n, sizeof bytes);
    assert_memory_equal(w->seen[0].data, bytes, sizeof bytes);
    assert_int_equal(w->seen[1].data_n, 0);
    struct answer *a = await_ok(w, do_history(w, "bin", 0, 10));
    assert_int_equal(a->count, 2);
    assert_int_equal(a->entries[0].data_type, DATA_BINARY);
    assert_int_equal(a->entries[0].data_n, sizeof bytes);
    assert_memory_equal(a->entries[0].data, bytes, sizeof bytes);
}

static void large_data_passes_unchanged(void **state)
{
    struct world *w = world_of(state);
    size_t n = 3 << 20;
    AUTO_FREE char *data = xmalloc(n);
    for (size_t i = 0; i < n; i++)
        data[i] = (char)('a' + i % 23);
    data[0] = data[n - 1] = '"';
    do_subscribe(w, "big");
    assert_int_equal(do_publish(w, &(struct publish){.room = SLICE("big"), .data = {data, n}})->err, OK);
    world_expect(w, 1);
    assert_int_equal(w->seen[0].data_n, n);
    assert_memory_equal(w->seen[0].data, data, n);
}

static void key_publishes_once(void **state)
{
    struct world *w = world_of(state);
    do_subscribe(w, "r1");
    do_subscribe(w, "r2");
    struct publish p = {.room = SLICE("r1"), .data = SLICE("1"), .key = SLICE("same:key.1")};
    struct answer *first = do_publish(w, &p);
    do_say(w, "r1", "2");
    struct answer *again = do_publish(w, &p);
    assert_int_equal(again->err, OK);
    assert_true(again->repeated);
    assert_int_equal(again->position.offset, 1);
    assert_string_equal(again->position.tag, first->position.tag);
    p.room = SLICE("r2");
    assert_false(do_publish(w, &p)->repeated);
    world_settle(w);
    world_expect(w, 3);
    assert_string_equal(w->seen[0].id, "same:key.1");
}

static void everybody_is_heard_without_subscribing(void **state)
{
    struct world *w = world_of(state);
    struct answer *a = do_say(w, "$all", "1");
    assert_int_equal(a->err, OK);
    assert_int_equal(a->position.offset, 1);
    world_expect(w, 1);
    assert_string_equal(w->seen[0].room, "$all");
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

static void redis_does_not_park_yet(void **state)
{
    struct world *w = world_of(state);
    if (w->broker->ops->suspend != NULL)
        return;
    struct answer *a = answer_new();
    w->broker->ops->session_park(w->broker, SLICE("s1"), 1000, answered, a);
    assert_int_equal(a->times, 0);
    assert_int_equal(await(w, a)->err, ERR_UNSUPPORTED);
    a = answer_new();
    w->broker->ops->session_resume(w->broker, SLICE("s1"), SLICE("x"), answered, a);
    assert_int_equal(await(w, a)->err, ERR_UNSUPPORTED);
}

/* A completion that asks for more, as cores do. */
struct chain {
    struct world *w;
    int left, done;
    enum err last;
};

static void chain_on(void *arg, const struct broker_result *r)
{
    struct chain *c = arg;
    c->done++;
    c->last = r->err;
    if (c->left-- > 0)
        c->w->broker->ops->publish(c->w->broker, &(struct publish){.room = SLICE("chain"), .data = SLICE("1")},
                                   chain_on, c);
}

static bool chain_over(void *arg)
{
    const struct chain *c = arg;
    return c->left < 0;
}

static void completions_may_ask_for_more(void **state)
{
    struct world *w = world_of(state);
    struct chain c = {.w = w, .left = 50};
    do_subscribe(w, "chain");
    chain_on(&c, &(struct broker_result){.err = OK});
    assert_true(loop_fake_until(w->loop, chain_over, &c, 10000));
    assert_int_equal(c.done, 51);
    assert_int_equal(c.last, OK);
    world_expect(w, 50);
}

static void destroying_completes_what_is_left(void **state)
{
    struct world *w = world_of(state);
    struct answer *a[10];
    for (size_t i = 0; i < ARRAY_LEN(a); i++)
        a[i] = answer_new();
    const struct broker_ops *ops = w->broker->ops;
    struct session_record s = {.sid = SLICE("s1")};
    struct position zero = {0};
    ops->publish(w->broker, &(struct publish){.room = SLICE("r"), .data = SLICE("1")}, answered, a[0]);
    ops->publish(w->broker, &(struct publish){.room = SLICE("$user:u"), .data = SLICE("1")}, answered, a[1]);
    ops->subscribe(w->broker, SLICE("r"), answered, a[2]);
    ops->join(w->broker, SLICE("r"), SLICE("s1"), SLICE_NONE, answered, a[3]);
    ops->leave(w->broker, SLICE("r"), SLICE("s1"), SLICE_NONE, EXIT_LEAVE, answered, a[4]);
    ops->session_put(w->broker, &s, answered, a[5]);
    ops->session_remove(w->broker, SLICE("s1"), SLICE_NONE, answered, a[6]);
    ops->presence(w->broker, SLICE("r"), SLICE_NONE, 1, answered, a[7]);
    ops->rooms(w->broker, SLICE_NONE, 1, answered, a[8]);
    ops->history(w->broker, SLICE("r"), &zero, 1, answered, a[9]);
    struct chain c = {.w = w, .left = 3};
    ops->subscribe(w->broker, SLICE("r2"), chain_on, &c);
    broker_destroy(&w->broker);
    for (size_t i = 0; i < ARRAY_LEN(a); i++) {
        assert_int_equal(a[i]->times, 1);
        assert_int_equal(a[i]->err, ERR_UNAVAILABLE);
        assert_true(a[i]->why[0] != '\0');
    }
    assert_int_equal(c.done, 4);
    broker_destroy(&w->broker);
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

static void full_queue_refuses(void **state)
{
    struct fixture *f = *state;
    world_fini(&f->w);
    struct broker_config cfg = world_config(use_redis ? redis.url : "memory", "gw1-bbbbbb");
    cfg.queue_commands = 20;
    cfg.queue_bytes = 100000;
    world_init(&f->w, &f->loop, &cfg);
    world_ready(&f->w);
    struct world *w = &f->w;
    enum { ASKED = 60 };
    static struct answer answers[ASKED];
    memset(answers, 0, sizeof answers);
    for (int i = 0; i < ASKED; i++)
        w->broker->ops->publish(w->broker, &(struct publish){.room = SLICE("r"), .data = SLICE("1")}, answered,
                                &answers[i]);
    int ok = 0;
    for (int i = 0; i < ASKED; i++) {
        await(w, &answers[i]);
        assert_true(answers[i].err == OK || answers[i].err == ERR_UNAVAILABLE);
        ok += answers[i].err == OK ? 1 : 0;
    }
    assert_true(ok >= 18 && ok <= 20); /* a probe or a heartbeat may stand in the queue too */
    assert_int_equal(w->broker->stats.refused, ASKED - ok);
    AUTO_FREE char *data = xcalloc(1, 100001);
    memset(data, '1', 100000);
    assert_int_equal(do_say(w, "r", data)->err, ERR_UNAVAILABLE);
    assert_int_equal(do_say(w, "r", "1")->position.offset, ok + 1);
    assert_int_equal(w->broker->stats.queued_commands, 0);
    assert_int_equal(w->broker->stats.queued_bytes, 0);
    /* What gives back is never refused. */
    do_put(w, "s1", "");
    await_ok(w, do_join(w, "r", "s1", ""));
    for (int i = 0; i < ASKED; i++)
        w->broker->ops->publish(w->broker, &(struct publish){.room = SLICE("r"), .data = SLICE("1")}, NULL, NULL);
    await_ok(w, do_leave(w, "r", "s1", "", EXIT_DISCONNECT));
    await_ok(w, do_remove(w, "s1", ""));
}

static void counters_count(void **state)
{
    struct world *w = world_of(state);
    const struct broker_stats *s = &w->broker->stats;
    uint64_t subscriptions = s->subscriptions;
    do_subscribe(w, "r");
    assert_int_equal(s->subscriptions, subscriptions + 1);
    do_say(w, "r", "1");
    do_say(w, "r", "2");
    world_expect(w, 2);
    assert_int_equal(s->published, 2);
    assert_int_equal(s->received, 2);
    assert_true(s->commands >= 3);
    assert_int_equal(s->queued_commands, 0);
    w->broker->ops->unsubscribe(w->broker, SLICE("r"));
    world_settle(w);
    assert_int_equal(s->subscriptions, subscriptions);
    assert_int_equal(s->undecodable, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static int run(const char *name)
{
    const struct CMUnitTest tests[] = {
        T(link_comes_up_once),
        T(message_arrives_as_published),
        T(positions_count_without_holes),
        T(only_subscribed_rooms_are_heard),
        T(quick_changes_of_mind_end_subscribed),
        T(members_enter_and_exit_in_order),
        T(joining_twice_is_one_membership),
        T(presence_comes_in_pages),
        T(rooms_come_in_pages),
        T(history_keeps_what_was_retained),
        T(binary_data_passes_unchanged),
        T(large_data_passes_unchanged),
        T(key_publishes_once),
        T(everybody_is_heard_without_subscribing),
        T(session_is_addressed_by_name),
        T(user_is_addressed_by_name),
        T(session_changes_its_user),
        T(odd_names_stay_apart),
        T(users_may_have_spaces),
        T(redis_does_not_park_yet),
        T(completions_may_ask_for_more),
        T(destroying_completes_what_is_left),
        T(retiring_is_answered),
        T(full_queue_refuses),
        T(counters_count),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    table_seed();
    log_setup(getenv("VERBOSE") != NULL ? LOG_DEBUG : LOG_ERROR, LOG_TEXT, NULL);
    int failed = run("broker: memory");
    use_redis = true;
    redis_fixture_start(&redis);
    failed += run("broker: redis");
    redis_fixture_stop(&redis);
    return failed;
}
