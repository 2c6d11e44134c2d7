/* tests/unit/test_broker_bans.c: banned users and revoked tokens: asked of every backend. */
#include "tests/unit/broker_suite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/time.h>

#include <cmocka.h>

enum { HOUR = 3600000 };

/* The clock that ends bans: the store's. */
static uint64_t in(struct world *w, uint64_t ms)
{
    struct timeval tv;
    if (strcmp(suite_url, "memory") == 0)
        return loop_wall_ms(&w->loop->loop) + ms;
    gettimeofday(&tv, NULL);
    return (uint64_t)tv.tv_sec * 1000 + (uint64_t)tv.tv_usec / 1000 + ms;
}

/* An hour goes by, as far as this key is concerned: a test must not hurry. */
static void pass(struct world *w, const char *key)
{
    if (strcmp(suite_url, "memory") == 0)
        loop_fake_advance(w->loop, HOUR);
    else
        freeReplyObject(redis_fixture_command(suite_redis(key), "PEXPIRE %s 0", key));
}

static struct answer *ban(struct world *w, const char *user, uint64_t until_ms, const char *reason)
{
    struct answer *a = answer_new();
    const struct ban_record record = {
        .user = slice_str(user), .reason = slice_str(reason), .by = SLICE("moderator"), .until_ms = until_ms};
    w->broker->ops->ban(w->broker, &record, answered, a);
    assert_int_equal(a->times, 0);
    return await_ok(w, a);
}

static enum err unban(struct world *w, const char *user)
{
    struct answer *a = answer_new();
    w->broker->ops->unban(w->broker, slice_str(user), answered, a);
    return await(w, a)->err;
}

static struct answer *list(struct world *w, const char *cursor, uint32_t limit)
{
    struct answer *a = answer_new();
    w->broker->ops->bans(w->broker, slice_str(cursor), limit, answered, a);
    return await(w, a);
}

static struct answer *ask(struct world *w, struct admission who)
{
    struct answer *a = answer_new();
    w->broker->ops->admit(w->broker, &who, answered, a);
    assert_int_equal(a->times, 0);
    return await(w, a);
}

static enum err admit(struct world *w, const char *user)
{
    return ask(w, (struct admission){.user = slice_str(user)})->err;
}

static enum err admit_token(struct world *w, const char *user, const char *jti, uint64_t issued_s)
{
    return ask(w,
               (struct admission){
                   .user = slice_str(user), .by_token = true, .jti = slice_str(jti), .issued_s = issued_s})
        ->err;
}

static void revoke(struct world *w, const char *jti, const char *user, uint64_t before_s, uint64_t until_ms)
{
    struct answer *a = answer_new();
    const struct revocation what = {.jti = slice_str(jti),
                                    .user = slice_str(user),
                                    .by = SLICE("moderator"),
                                    .before_s = before_s,
                                    .until_ms = until_ms};
    w->broker->ops->revoke(w->broker, &what, answered, a);
    await_ok(w, a);
}

static const char *names(const struct answer *a)
{
    static char text[4000];
    text[0] = '\0';
    for (size_t i = 0; i < a->count; i++)
        (void)snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i != 0 ? " " : "", a->entries[i].name);
    return text;
}

/* --- bans --- */

static void a_banned_user_is_not_admitted(void **state)
{
    struct world *w = world_of(state);
    uint64_t until = in(w, HOUR);
    assert_int_equal(admit(w, "mallory"), OK);
    ban(w, "mallory", until, "sells \"things\" 卖");
    struct answer *a = ask(w, (struct admission){.user = SLICE("mallory")});
    assert_int_equal(a->err, ERR_BANNED);
    assert_int_equal(a->count, 1);
    assert_string_equal(a->entries[0].name, "mallory");
    assert_string_equal(a->entries[0].data, "sells \"things\" 卖");
    assert_string_equal(a->entries[0].user, "moderator");
    assert_int_equal(a->entries[0].time_ms, until);
    assert_in_range(a->entries[0].since_ms, until - HOUR - 60000, until - HOUR + 60000);
    assert_int_equal(admit(w, "alice"), OK);
    assert_int_equal(admit(w, ""), OK);
    assert_int_equal(admit_token(w, "mallory", "t1", 1), ERR_BANNED);
    assert_int_equal(unban(w, "mallory"), OK);
    assert_int_equal(admit(w, "mallory"), OK);
    assert_int_equal(unban(w, "mallory"), ERR_NOT_FOUND);
    assert_int_equal(list(w, "", 10)->count, 0);
}

static void names_stay_within_their_keys(void **state)
{
    struct world *w = world_of(state);
    ban(w, "a}b{c%", 0, "");
    ban(w, "two words", 0, "");
    assert_int_equal(admit(w, "a}b{c%"), ERR_BANNED);
    assert_int_equal(admit(w, "a"), OK);
    assert_int_equal(admit(w, "two"), OK);
    assert_string_equal(names(list(w, "", 10)), "a}b{c% two words");
    assert_string_equal(names(list(w, list(w, "", 1)->cursor, 10)), "two words");
}

static void a_ban_ends_by_itself(void **state)
{
    struct world *w = world_of(state);
    ban(w, "mallory", in(w, HOUR), "");
    ban(w, "eve", 0, "");
    assert_int_equal(admit(w, "mallory"), ERR_BANNED);
    pass(w, "xd:ban:{mallory}");
    assert_int_equal(admit(w, "mallory"), OK);
    assert_int_equal(admit(w, "eve"), ERR_BANNED);
    assert_string_equal(names(list(w, "", 10)), "eve");
    assert_int_equal(unban(w, "mallory"), ERR_NOT_FOUND);
}

static void a_new_ban_takes_the_place_of_the_old_one(void **state)
{
    struct world *w = world_of(state);
    uint64_t until = in(w, HOUR);
    ban(w, "mallory", 0, "for ever");
    ban(w, "mallory", until, "");
    struct answer *a = ask(w, (struct admission){.user = SLICE("mallory")});
    assert_int_equal(a->entries[0].time_ms, until);
    assert_string_equal(a->entries[0].data, "");
    ban(w, "mallory", 0, "again");
    a = list(w, "", 10);
    assert_int_equal(a->count, 1);
    assert_int_equal(a->entries[0].time_ms, 0);
    assert_string_equal(a->entries[0].data, "again");
}

static void the_list_comes_in_pages(void **state)
{
    struct world *w = world_of(state);
    uint64_t soon = in(w, HOUR);
    ban(w, "e", 0, "");
    ban(w, "d", 0, "");
    ban(w, "c", soon + HOUR, "");
    ban(w, "b", soon, "");
    ban(w, "a b", soon, "");
    ban(w, "f", 0, "why");
    assert_string_equal(names(list(w, "", 10)), "a b b c d e f");
    assert_false(list(w, "", 6)->more);
    char seen[100] = "", cursor[400] = "";
    for (int i = 0; i < 3; i++) {
        struct answer *a = list(w, cursor, 2);
        (void)snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "%s|", names(a));
        (void)snprintf(cursor, sizeof cursor, "%s", a->cursor);
        assert_int_equal(a->more, i < 2);
        if (i == 0)
            assert_int_equal(unban(w, "b"), OK); /* the last one on the page: the next begins behind its place */
    }
    assert_string_equal(seen, "a b b|c d|e f|");
    static const char *const bad[] = {"x", "x y", " y", "12", "12 ", "-1 a", "1e3 a"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(list(w, bad[i], 10)->err, ERR_BAD_REQUEST);
}

/* --- tokens --- */

static void a_token_is_revoked_by_its_name(void **state)
{
    struct world *w = world_of(state);
    revoke(w, "t1", "", 0, in(w, 2 * HOUR));
    revoke(w, "t2", "", 0, in(w, HOUR));
    assert_int_equal(admit_token(w, "alice", "t1", 5), ERR_UNAUTHORIZED);
    assert_int_equal(admit_token(w, "bob", "t1", 5), ERR_UNAUTHORIZED);
    assert_int_equal(admit_token(w, "alice", "t", 5), OK);
    assert_int_equal(admit_token(w, "alice", "", 5), OK);
    assert_int_equal(admit_token(w, "t1", "", 5), OK);
    assert_int_equal(admit_token(w, "alice", "t2", 5), ERR_UNAUTHORIZED);
    pass(w, "xd:revoked:token:{t2}");
    assert_int_equal(admit_token(w, "alice", "t2", 5), OK); /* over anyway */
    assert_int_equal(admit_token(w, "alice", "t1", 5), ERR_UNAUTHORIZED);
}

static void what_a_user_had_before_a_time_is_revoked(void **state)
{
    struct world *w = world_of(state);
    revoke(w, "", "alice", 1000, in(w, HOUR));
    assert_int_equal(admit_token(w, "alice", "t1", 999), ERR_UNAUTHORIZED);
    assert_int_equal(admit_token(w, "alice", "t1", 1000), OK);
    assert_int_equal(admit_token(w, "alice", "t1", 0), ERR_UNAUTHORIZED); /* who knows */
    assert_int_equal(admit_token(w, "bob", "t1", 999), OK);
    assert_int_equal(admit(w, "alice"), OK); /* he came without one */
    revoke(w, "", "alice", 500, in(w, 1));   /* takes nothing back, and is remembered no shorter */
    assert_int_equal(admit_token(w, "alice", "t1", 999), ERR_UNAUTHORIZED);
    loop_fake_linger(w->loop, 5);
    assert_int_equal(admit_token(w, "alice", "t1", 999), ERR_UNAUTHORIZED);
    revoke(w, "", "alice", 2000, in(w, HOUR));
    assert_int_equal(admit_token(w, "alice", "t1", 1999), ERR_UNAUTHORIZED);
    assert_int_equal(admit_token(w, "alice", "t1", 2000), OK);
    pass(w, "xd:revoked:user:{alice}");
    assert_int_equal(admit_token(w, "alice", "t1", 1999), OK);
}

/* --- what others hear --- */

static void expect_verdict(struct world *w, const char *about, const char *name)
{
    world_settle(w);
    assert_int_equal(w->count, 1);
    assert_int_equal(w->seen[0].kind, ENVELOPE_VERDICT);
    assert_string_equal(w->seen[0].event, about);
    assert_string_equal(w->seen[0].user, name);
    world_clear(w);
}

static void all_nodes_are_told(void **state)
{
    struct world *w = world_of(state);
    ban(w, "mallory", 0, "spam");
    expect_verdict(w, "user", "mallory");
    revoke(w, "t1", "", 0, in(w, HOUR));
    expect_verdict(w, "token", "t1");
    revoke(w, "", "alice", 5, in(w, HOUR));
    expect_verdict(w, "user", "alice");
    assert_int_equal(unban(w, "mallory"), OK);
    world_settle(w);
    assert_int_equal(w->count, 0);
}

static void parked_sessions_of_a_banned_user_end(void **state)
{
    struct world *w = world_of(state);
    char sid[24];
    do_subscribe(w, "lobby");
    for (int i = 0; i < 40; i++) {
        (void)snprintf(sid, sizeof sid, "s%d", i);
        await_ok(w, do_put_for(w, sid, "mallory", HOUR));
        await_ok(w, do_join(w, "lobby", sid, "mallory"));
        if (i == 0)
            continue; /* is here */
        await_ok(w, do_suspend(w, "lobby", sid, "mallory"));
        await_ok(w, do_park(w, sid, HOUR));
    }
    await_ok(w, do_put_for(w, "a", "alice", HOUR));
    await_ok(w, do_join(w, "lobby", "a", "alice"));
    await_ok(w, do_park(w, "a", HOUR));
    ban(w, "mallory", 0, "");
    struct answer *a = await_ok(w, do_presence(w, "lobby", SLICE_NONE, 100));
    assert_int_equal(a->total, 2); /* who is here is for his node to send away */
    assert_int_equal(do_resume(w, "s1", "hash-s1")->err, ERR_NOT_FOUND);
    assert_int_equal(do_resume(w, "a", "hash-a")->err, OK);
}

/* --- what Redis shows --- */

static void expect_field(const char *key, const char *field, const char *want)
{
    redisReply *r = redis_fixture_command(suite_redis(key), "HGET %s %s", key, field);
    if (r->type != REDIS_REPLY_STRING || strcmp(r->str, want) != 0)
        fail_msg("%s %s: %s", key, field, r->type == REDIS_REPLY_STRING ? r->str : "none");
    freeReplyObject(r);
}

static void it_can_be_read(void **state)
{
    struct world *w = world_of(state);
    if (suite_redis("xd:bans") == NULL)
        return;
    char until[32];
    uint64_t end = in(w, HOUR);
    (void)snprintf(until, sizeof until, "%llu", (unsigned long long)end);
    ban(w, "mallory", end, "spam");
    ban(w, "eve", 0, "");
    revoke(w, "t1", "", 0, end);
    revoke(w, "", "alice", 1234, end);
    expect_field("xd:ban:{mallory}", "user", "mallory");
    expect_field("xd:ban:{mallory}", "reason", "spam");
    expect_field("xd:ban:{mallory}", "by", "moderator");
    expect_field("xd:ban:{mallory}", "until", until);
    expect_field("xd:revoked:token:{t1}", "jti", "t1");
    expect_field("xd:revoked:user:{alice}", "user", "alice");
    expect_field("xd:revoked:user:{alice}", "before", "1234");
    expect_field("xd:revoked:user:{alice}", "until", until);
    static const char *const keys[] = {"xd:ban:{mallory}", "xd:revoked:token:{t1}", "xd:revoked:user:{alice}"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        assert_in_range(redis_fixture_number(suite_redis(keys[i]), "PTTL %s", keys[i]), HOUR - 60000, HOUR);
    assert_int_equal(redis_fixture_number(suite_redis("xd:ban:{eve}"), "PTTL xd:ban:{eve}"), -1);
    assert_int_equal(redis_fixture_number(suite_redis("xd:bans"), "ZCOUNT xd:bans %s %s", until, until), 1);
    assert_int_equal(redis_fixture_number(suite_redis("xd:bans"), "ZCOUNT xd:bans +inf +inf"), 1);
}

static void the_list_mends_itself(void **state)
{
    struct world *w = world_of(state);
    struct redis_fixture *list_home = suite_redis("xd:bans");
    if (list_home == NULL)
        return;
    ban(w, "mallory", 0, "");
    ban(w, "eve", 0, "");
    freeReplyObject(redis_fixture_command(list_home, "DEL xd:bans"));
    assert_int_equal(list(w, "", 10)->count, 0);
    assert_int_equal(admit(w, "mallory"), ERR_BANNED);
    world_settle(w);
    assert_string_equal(names(list(w, "", 10)), "mallory");
    freeReplyObject(redis_fixture_command(suite_redis("xd:ban:{mallory}"), "DEL xd:ban:{mallory}"));
    assert_int_equal(list(w, "", 10)->count, 0);
    world_settle(w);
    assert_int_equal(redis_fixture_number(list_home, "EXISTS xd:bans"), 0);
}

/* Nobody comes in because it cannot be read who is banned. */
static void what_others_wrote_there_lets_nobody_in(void **state)
{
    struct world *w = world_of(state);
    if (suite_redis("xd:bans") == NULL)
        return;
    freeReplyObject(redis_fixture_command(suite_redis("xd:ban:{alice}"), "SET xd:ban:{alice} nonsense"));
    freeReplyObject(redis_fixture_command(suite_redis("xd:revoked:user:{bob}"), "SET xd:revoked:user:{bob} nonsense"));
    assert_int_equal(admit(w, "alice"), ERR_INTERNAL);
    assert_int_equal(admit_token(w, "bob", "t1", 5), ERR_INTERNAL);
    ban(w, "bob", 0, "");
    assert_int_equal(admit_token(w, "bob", "t1", 5), ERR_BANNED); /* so much is known */
    freeReplyObject(redis_fixture_command(suite_redis("xd:bans"), "SET xd:bans nonsense"));
    assert_int_equal(list(w, "", 10)->err, ERR_INTERNAL);
}

static int run(const char *name)
{
    const struct CMUnitTest tests[] = {
        T(a_banned_user_is_not_admitted),
        T(names_stay_within_their_keys),
        T(a_ban_ends_by_itself),
        T(a_new_ban_takes_the_place_of_the_old_one),
        T(the_list_comes_in_pages),
        T(a_token_is_revoked_by_its_name),
        T(what_a_user_had_before_a_time_is_revoked),
        T(all_nodes_are_told),
        T(parked_sessions_of_a_banned_user_end),
        T(it_can_be_read),
        T(the_list_mends_itself),
        T(what_others_wrote_there_lets_nobody_in),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return suite_main(run, false);
}
