/* tests/unit/test_broker_layout.c: what lies in Redis: readable for operators, expiring, and harmless when it is not ours. */
#include "tests/unit/broker_suite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"

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
    struct world *w = world_of(state);
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
    field(r, "resume_window", "0");
    field(r, "last_seen", NULL);
    field(r, "room:the {lobby}", NULL);
    field(r, "taken", NULL);
    assert_int_equal(r->elements, 28);
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
    struct world *w = world_of(state);
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
    struct world *w = world_of(state);
    struct publish p = {.room = SLICE("news"), .data = SLICE("1"), .retain_count = 100, .retain_age_s = 1};
    do_publish(w, &p);
    do_publish(w, &p);
    /* Make them a minute old: ids must grow, so they are written anew under the same ids. */
    for (int i = 1; i <= 2; i++)
        freeReplyObject(redis_fixture_command(&redis, "XDEL xd:{news}:log %d-0", i));
    freeReplyObject(redis_fixture_command(&redis, "DEL xd:{news}:log"));
    freeReplyObject(redis_fixture_command(&redis, "XADD xd:{news}:log 1-0 time 1 tag 01234567 data 1"));
    freeReplyObject(redis_fixture_command(&redis, "XADD xd:{news}:log 2-0 time 2 tag 01234567 data 2"));
    assert_int_equal(do_publish(w, &p)->position.offset, 3);
    assert_int_equal(redis_fixture_number(&redis, "XLEN xd:{news}:log"), 1);
}

static void log_goes_on_after_its_head_was_lost(void **state)
{
    struct world *w = world_of(state);
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
    struct world *w = world_of(state);
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
        .kind = ENVELOPE_MESSAGE, .room = SLICE("hall"), .data = SLICE("1"), .position = {1, "01234567"}};
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
    struct world *w = world_of(state);
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
    static const char *const lost[] = {"", "3", "0 01234567 0", "3 01234567 3", "3 0123456 2", "3 01234567 2 1"};
    for (size_t i = 0; i < ARRAY_LEN(lost); i++)
        freeReplyObject(redis_fixture_command(&redis, "XADD xd:{lobby}:log %d-0 time 1 tag 01234567 data 1 was %s",
                                              (int)i + 7, lost[i]));
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
    struct world *w = world_of(state);
    do_subscribe(w, "lobby");
    struct envelope e = {
        .kind = ENVELOPE_MESSAGE, .room = SLICE("lobby"), .data = SLICE("1"), .position = {1, "01234567"}};
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
    struct world *w = world_of(state);
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
    struct world *w = &f->w;
    world_fini(w);
    struct broker_config cfg = world_config(redis.url, "gw1-cccccc");
    cfg.session_ttl_ms = 150000;
    world_init(w, &f->loop, &cfg);
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

static void what_is_not_there_yet_is_refused(void **state)
{
    struct world *w = world_of(state);
    struct publish p = {.room = SLICE("r"), .data = SLICE("1"), .replicas = REPLICAS_MAX + 1};
    assert_int_equal(do_publish(w, &p)->err, ERR_UNSUPPORTED);
    p = (struct publish){.room = SLICE("r"),
                         .data = SLICE("1"),
                         .key = SLICE("0123456789012345678901234567890123456789012345678901234567890123456789")};
    assert_int_equal(do_publish(w, &p)->err, ERR_INVALID_NAME);
}

static int run(const char *name)
{
    const struct CMUnitTest tests[] = {
        T(session_is_readable),
        T(log_is_readable_and_expires),
        T(old_messages_are_trimmed_by_age),
        T(log_goes_on_after_its_head_was_lost),
        T(garbage_is_harmless),
        T(garbage_values_are_harmless),
        T(newer_envelopes_are_understood),
        T(hash_tags_stay_whole),
        T(times_to_live_are_renewed),
        T(what_is_not_there_yet_is_refused),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return suite_main(run, true);
}
