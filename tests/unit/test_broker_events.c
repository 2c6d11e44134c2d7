/* tests/unit/test_broker_events.c: what happens to sessions, for a backend: asked of every broker. */
#include "tests/unit/broker_suite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"

#define FIELD(name, value)                                                                                             \
    {                                                                                                                  \
        slice_str(name), slice_str(value)                                                                              \
    }

enum { SHARDS = 2, LEASE = 15000, KEPT = 50 /* as in broker_suite.c */ };

static struct answer *tell(struct world *w, const char *session, const char *id)
{
    const struct event_field fields[] = {{SLICE("id"), slice_str(id)},
                                         {SLICE("type"), SLICE("test")},
                                         {SLICE("room"), SLICE_NONE},
                                         {SLICE("data"), SLICE("{\"a\": 1}")}};
    const struct event_record e = {.session = slice_str(session), .fields = fields, .count = ARRAY_LEN(fields)};
    struct answer *a = answer_new();
    w->broker->ops->event(w->broker, &e, answered, a);
    assert_int_equal(a->times, 0);
    return await(w, a);
}

static struct answer *ask_for(struct world *w, uint32_t shard, const char *settled, const char *after, uint32_t lease)
{
    struct answer *a = answer_new();
    const struct events_ask ask = {
        .shard = shard, .limit = 20, .lease_ms = lease, .settled = slice_str(settled), .after = slice_str(after)};
    w->broker->ops->events(w->broker, &ask, answered, a);
    assert_int_equal(a->times, 0);
    return await(w, a);
}

static struct answer *ask(struct world *w, const char *session, const char *settled, const char *after)
{
    struct answer *a = ask_for(w, event_shard(slice_str(session), SHARDS), settled, after, LEASE);
    assert_int_equal(a->err, OK);
    return a;
}

/* Time goes by for Redis too. */
static void pass(struct world *w, uint64_t ms)
{
    if (suite_url[0] == 'm')
        loop_fake_advance(w->loop, ms);
    else
        loop_fake_linger(w->loop, (int)ms);
}

static void they_keep_their_order_and_their_fields(void **state)
{
    struct world *w = world_of(state);
    char id[16];
    for (int i = 0; i < 5; i++) {
        (void)snprintf(id, sizeof id, "id-%d", i);
        assert_int_equal(tell(w, "s1", id)->err, OK);
    }
    struct answer *a = ask(w, "s1", "", "");
    assert_true(a->mine && a->anew);
    assert_int_equal(a->count, 5);
    assert_int_equal(a->total, 5);
    for (int i = 0; i < 5; i++) {
        char expected[64];
        (void)snprintf(expected, sizeof expected, "id=id-%d type=test data={\"a\": 1} ", i);
        assert_string_equal(a->entries[i].data, expected);
    }
}

static void what_is_settled_does_not_come_again(void **state)
{
    struct world *w = world_of(state);
    char third[300], last[300];
    for (int i = 0; i < 5; i++)
        (void)tell(w, "s1", "x");
    struct answer *a = ask(w, "s1", "", "");
    (void)snprintf(third, sizeof third, "%s", a->entries[2].name);
    (void)snprintf(last, sizeof last, "%s", a->entries[4].name);
    (void)tell(w, "s1", "new");
    a = ask(w, "s1", third, last);
    assert_true(a->mine && !a->anew);
    assert_int_equal(a->count, 1);
    assert_string_equal(a->cursor, third);
    assert_non_null(strstr(a->entries[0].data, "id=new"));
    /* Given back and taken again: from the cursor on, whatever one had read. */
    a = ask_for(w, event_shard(SLICE("s1"), SHARDS), "", "", 0);
    assert_false(a->mine);
    a = ask(w, "s1", "", last);
    assert_true(a->mine && a->anew);
    assert_int_equal(a->count, 3);
    assert_string_equal(a->cursor, third);
}

static void a_page_has_a_limit(void **state)
{
    struct world *w = world_of(state);
    for (int i = 0; i < 30; i++)
        (void)tell(w, "s1", "x");
    struct answer *a = ask(w, "s1", "", "");
    assert_int_equal(a->count, 20);
    char last[300];
    (void)snprintf(last, sizeof last, "%s", a->entries[19].name);
    assert_int_equal(ask(w, "s1", "", last)->count, 10);
}

static void too_many_drop_the_oldest_and_count(void **state)
{
    struct world *w = world_of(state);
    (void)tell(w, "s1", "first");
    struct answer *a = ask(w, "s1", "", "");
    char first[300];
    (void)snprintf(first, sizeof first, "%s", a->entries[0].name);
    (void)ask(w, "s1", first, first);
    for (int i = 0; i < KEPT + 3; i++)
        (void)tell(w, "s1", "x");
    a = ask(w, "s1", "", first);
    assert_int_equal(a->total, KEPT);
    assert_int_equal(a->dropped, 3); /* not the first, which was delivered */
}

static void nobody_else_has_it_meanwhile(void **state)
{
    struct world *w = world_of(state), other;
    struct loop_fake loop;
    if (suite_redis("xd:{events:0}") == NULL)
        return;
    loop_fake_init(&loop);
    struct broker_config cfg = world_config(suite_url, "gw2-bbbbbb");
    cfg.event_shards = SHARDS;
    cfg.event_count = KEPT;
    cfg.event_age_s = 3600;
    world_init(&other, &loop, &cfg);
    world_ready(&other);
    (void)tell(w, "s1", "x");
    struct answer *a = ask_for(w, event_shard(SLICE("s1"), SHARDS), "", "", 200);
    assert_true(a->mine);
    assert_int_equal(a->count, 1);
    char place[300];
    (void)snprintf(place, sizeof place, "%s", a->entries[0].name);
    a = ask(&other, "s1", "99999999999999-0", "");
    assert_false(a->mine);
    assert_int_equal(a->count, 0);
    pass(&other, 250); /* nobody keeps it */
    a = ask(&other, "s1", "99999999999999-0", "99999999999999-0");
    assert_true(a->mine && a->anew);
    assert_int_equal(a->count, 1); /* what the other one thinks is settled does not count */
    a = ask(w, "s1", place, place);
    assert_false(a->mine);
    world_fini(&other);
    loop_fake_fini(&loop);
}

static size_t count_of(struct world *w, const char *session, const char *text)
{
    size_t n = 0;
    struct answer *a = ask(w, session, "", "");
    for (size_t i = 0; i < a->count; i++)
        n += strstr(a->entries[i].data, text) != NULL;
    return n;
}

static void the_end_of_a_session_is_told(void **state)
{
    struct world *w = world_of(state);
    (void)do_put(w, "s1", "alice");
    (void)tell(w, "s1", "before");
    assert_int_equal(do_remove(w, "s1", "alice")->err, OK);
    struct answer *a = ask(w, "s1", "", "");
    assert_int_equal(a->count, 2);
    assert_non_null(strstr(a->entries[1].data, "type=disconnect session=s1 user=alice reason=closed"));
    assert_ptr_equal(strstr(a->entries[1].data, "id=s1.disconnect."), a->entries[1].data);
}

static void a_session_nobody_was_told_of_ends_quietly(void **state)
{
    struct world *w = world_of(state);
    (void)do_put(w, "s1", "alice");
    struct answer *a = answer_new();
    w->broker->ops->session_remove(w->broker, SLICE("s1"), SLICE("alice"), SLICE_NONE, answered, a);
    await_ok(w, a);
    assert_int_equal(ask(w, "s1", "", "")->count, 0);
}

static void who_does_not_come_back_has_disconnected(void **state)
{
    struct world *w = world_of(state);
    (void)do_put_for(w, "s1", "alice", 1000);
    (void)do_park(w, "s1", 100);
    assert_int_equal(ask(w, "s1", "", "")->count, 0);
    for (int i = 0; i < 100 && count_of(w, "s1", "type=disconnect") == 0; i++) {
        loop_fake_advance(w->loop, 100);
        loop_fake_linger(w->loop, 10);
    }
    assert_int_equal(count_of(w, "s1", "type=disconnect session=s1 user=alice reason=expired"), 1);
}

static void junk_in_the_store_does_no_harm(void **state)
{
    struct world *w = world_of(state);
    struct redis_fixture *node = suite_redis("xd:{events:0}");
    char sid[8] = "a0";
    while (event_shard(slice_str(sid), SHARDS) != 0)
        sid[1]++;
    if (node == NULL)
        return;
    freeReplyObject(redis_fixture_command(node, "SET xd:{events:0} nonsense"));
    assert_int_equal(tell(w, sid, "x")->err, ERR_INTERNAL);
    assert_int_equal(ask_for(w, 0, "", "", LEASE)->err, ERR_INTERNAL);
    (void)do_put(w, sid, "alice");
    assert_int_equal(do_remove(w, sid, "alice")->err, OK); /* ends all the same, and is counted */
    assert_int_equal(w->broker->stats.events_lost, 1);
    freeReplyObject(redis_fixture_command(node, "DEL xd:{events:0}"));
    freeReplyObject(redis_fixture_command(node, "XADD xd:{events:0} 1-1 what ever"));
    freeReplyObject(redis_fixture_command(node, "HSET xd:{events:0}:state cursor nonsense dropped many"));
    assert_int_equal(tell(w, sid, "x")->err, OK);
    assert_int_equal(ask_for(w, 0, "", "", LEASE)->err, ERR_INTERNAL);
    freeReplyObject(redis_fixture_command(node, "HSET xd:{events:0}:state cursor 0-0"));
    struct answer *a = ask_for(w, 0, "", "", LEASE);
    assert_int_equal(a->err, OK);
    assert_int_equal(a->count, 1); /* the one of 1970 is too old */
}

/* More than one look takes away are too old: they are taken away all the same, some with each look, and nobody is given one. */
static void what_is_too_old_is_never_given(void **state)
{
    struct world *w = world_of(state);
    struct redis_fixture *node = suite_redis("xd:{events:0}");
    char sid[8] = "a0";
    while (event_shard(slice_str(sid), SHARDS) != 0)
        sid[1]++;
    if (node == NULL)
        return;
    (void)ask(w, sid, "", "");
    freeReplyObject(
        redis_fixture_command(node, "EVAL %s 1 xd:{events:0}",
                              "for i = 1, 2500 do redis.call('XADD', KEYS[1], i .. '-0', 'what', 'ever') end"));
    assert_int_equal(tell(w, sid, "fresh")->err, OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(ask(w, sid, "", "")->count, 0);
    struct answer *a = ask(w, sid, "", "");
    assert_int_equal(a->count, 1);
    assert_int_equal(a->dropped, 2500);
    assert_non_null(strstr(a->entries[0].data, "id=fresh"));
}

static struct answer *ask_commands(struct world *w, const char *settled, const char *after, uint32_t lease)
{
    struct answer *a = answer_new();
    const struct events_ask ask = {
        .limit = 20, .lease_ms = lease, .settled = slice_str(settled), .after = slice_str(after)};
    w->broker->ops->commands(w->broker, &ask, answered, a);
    assert_int_equal(a->times, 0);
    return await(w, a);
}

static void without_shards_there_is_nothing(void **state)
{
    struct world *w = world_of(state);
    assert_int_equal(tell(w, "s1", "x")->err, ERR_UNSUPPORTED);
    assert_int_equal(ask_for(w, 0, "", "", LEASE)->err, ERR_UNSUPPORTED);
    if (w->broker->ops->commands != NULL)
        assert_int_equal(ask_commands(w, "", "", LEASE)->err, ERR_UNSUPPORTED);
    (void)do_put(w, "s1", "alice");
    assert_int_equal(do_remove(w, "s1", "alice")->err, OK);
    if (suite_redis("xd:{events:0}") != NULL)
        assert_int_equal(redis_fixture_number(suite_redis("xd:{events:0}"), "EXISTS xd:{events:0}"), 0);
}

/* What others have appended is read the same way; what became of it lies beside it. */
static void commands_of_others_are_read_in_order(void **state)
{
    struct world *w = world_of(state);
    struct redis_fixture *node = suite_redis("xd:{commands}");
    assert_int_equal(w->broker->ops->commands != NULL, node != NULL);
    if (node == NULL || w->broker->ops->commands == NULL)
        return;
    freeReplyObject(redis_fixture_command(node, "XADD xd:{commands} * do publish room r data 1"));
    freeReplyObject(redis_fixture_command(node, "XADD xd:{commands} * do join"));
    struct answer *a = ask_commands(w, "", "", LEASE);
    assert_true(a->mine && a->anew);
    assert_int_equal(a->count, 2);
    assert_string_equal(a->entries[0].data, "do=publish room=r data=1 ");
    assert_string_equal(a->entries[1].data, "do=join ");
    char first[300];
    (void)snprintf(first, sizeof first, "%s", a->entries[0].name);
    const struct event_field result[] = {FIELD("command", first), FIELD("result", "ok"), FIELD("message", "")};
    struct answer *told = answer_new();
    w->broker->ops->command_result(w->broker, result, ARRAY_LEN(result), answered, told);
    assert_int_equal(await(w, told)->err, OK);
    assert_int_equal(redis_fixture_number(node, "XLEN xd:{commands}:results"), 1);
    assert_false(ask_commands(w, first, first, 0)->mine); /* given back */
    a = ask_commands(w, "", "", LEASE);
    assert_true(a->anew);
    assert_int_equal(a->count, 1);
    assert_string_equal(a->entries[0].data, "do=join ");
    for (int i = 0; i < KEPT + 2; i++)
        freeReplyObject(redis_fixture_command(node, "XADD xd:{commands} * do join"));
    a = ask_commands(w, "", "", LEASE);
    assert_int_equal(a->total, KEPT);
    assert_int_equal(a->dropped, 3);
}

static int without(void **state)
{
    suite_event_shards = 0;
    int result = suite_setup(state);
    suite_event_shards = SHARDS;
    return result;
}

static int run(const char *name)
{
    const struct CMUnitTest tests[] = {
        T(they_keep_their_order_and_their_fields),
        T(what_is_settled_does_not_come_again),
        T(a_page_has_a_limit),
        T(too_many_drop_the_oldest_and_count),
        T(nobody_else_has_it_meanwhile),
        T(the_end_of_a_session_is_told),
        T(a_session_nobody_was_told_of_ends_quietly),
        T(who_does_not_come_back_has_disconnected),
        T(junk_in_the_store_does_no_harm),
        T(what_is_too_old_is_never_given),
        T(commands_of_others_are_read_in_order),
        cmocka_unit_test_setup_teardown(without_shards_there_is_nothing, without, suite_teardown),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    suite_event_shards = SHARDS;
    return suite_main(run, false);
}
