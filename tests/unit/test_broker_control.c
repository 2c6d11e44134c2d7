/* tests/unit/test_broker_control.c: what others than its node want of a session: handed over, answered, or done while it is away; on every backend. */
#include "tests/unit/broker_suite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"

enum { WINDOW = 60000 };

static struct answer *do_control(struct world *w, const char *sid, const char *id)
{
    struct answer *a = answer_new();
    w->broker->ops->control(
        w->broker,
        &(struct control_message){
            .sid = slice_str(sid), .id = slice_str(id), .verb = SLICE("join"), .data = SLICE("{\"room\":\"a\"}")},
        answered, a);
    assert_int_equal(a->times, 0);
    return await(w, a);
}

static struct answer *do_end(struct world *w, const char *sid)
{
    struct answer *a = answer_new();
    w->broker->ops->session_end(w->broker, slice_str(sid), EXIT_KICKED, answered, a);
    assert_int_equal(a->times, 0);
    return await(w, a);
}

static struct answer *do_away_join(struct world *w, const char *sid, const char *room, uint32_t most)
{
    struct answer *a = answer_new();
    w->broker->ops->away_join(w->broker, slice_str(sid), slice_str(room), most, answered, a);
    assert_int_equal(a->times, 0);
    return await(w, a);
}

static struct answer *do_away_leave(struct world *w, const char *sid, const char *room)
{
    struct answer *a = answer_new();
    w->broker->ops->away_leave(w->broker, slice_str(sid), slice_str(room), answered, a);
    assert_int_equal(a->times, 0);
    return await(w, a);
}

/* Bob's session is in the lobby, and away. */
static void park_bob(struct world *w)
{
    do_subscribe(w, "lobby");
    await_ok(w, do_put_for(w, "s1", "bob", WINDOW));
    await_ok(w, do_join(w, "lobby", "s1", "bob"));
    await_ok(w, do_suspend(w, "lobby", "s1", "bob"));
    await_ok(w, do_park(w, "s1", WINDOW));
    world_settle(w);
    world_clear(w);
}

static void command_arrives_and_is_answered(void **state)
{
    struct world *w = world_of(state);
    await_ok(w, do_put(w, "s1", "bob"));
    struct answer *a = do_control(w, "s1", "7f");
    assert_int_equal(a->err, OK);
    assert_false(a->away);
    world_expect(w, 1);
    const struct seen *s = &w->seen[0];
    assert_int_equal(s->kind, ENVELOPE_CONTROL);
    assert_string_equal(s->from, "s1");
    assert_string_equal(s->id, "7f");
    assert_string_equal(s->event, "join");
    assert_string_equal(s->node, "gw1-aaaaaa");
    assert_string_equal(s->data, "{\"room\":\"a\"}");
    w->broker->ops->control_answer(w->broker, &(struct control_message){.sid = SLICE("s1"),
                                                                        .id = SLICE("7f"),
                                                                        .verb = SLICE("done"),
                                                                        .node = SLICE("gw1-aaaaaa"),
                                                                        .data = SLICE("{}")});
    world_expect(w, 2);
    s = &w->seen[1];
    assert_int_equal(s->kind, ENVELOPE_CONTROLLED);
    assert_string_equal(s->from, "s1");
    assert_string_equal(s->id, "7f");
    assert_string_equal(s->event, "done");
    assert_string_equal(s->data, "{}");
    w->broker->ops->control_end(w->broker, SLICE("s1"));
    /* A name that cannot be a node's goes nowhere. */
    w->broker->ops->control_answer(
        w->broker, &(struct control_message){.sid = SLICE("s1"), .verb = SLICE("done"), .node = SLICE("a}{b")});
    world_settle(w);
    assert_int_equal(do_control(w, "s2", "80")->err, ERR_NOT_FOUND);
}

static struct answer *do_emit(struct world *w, const char *room, bool answered_too)
{
    struct answer *a = answer_new();
    const struct emit_message m = {.room = slice_str(room),
                                   .sid = SLICE("some-emission"),
                                   .data = SLICE("{\"data\":1}"),
                                   .answered = answered_too};
    w->broker->ops->emit(w->broker, &m, answered, a);
    assert_int_equal(a->times, 0);
    return await_ok(w, a);
}

/* What is emitted into a room reaches whoever listens, and no log; the answer finds its way although no session has that name. */
static void emission_arrives_and_is_answered(void **state)
{
    struct world *w = world_of(state);
    await_ok(w, do_subscribe(w, "$namespace:/a"));
    assert_int_equal(do_emit(w, "$namespace:/nobody", false)->total, 0);
    assert_int_equal(do_emit(w, "$namespace:/a", true)->total, 1);
    world_expect(w, 1);
    const struct seen *s = &w->seen[0];
    assert_int_equal(s->kind, ENVELOPE_EMIT);
    assert_string_equal(s->room, "$namespace:/a");
    assert_string_equal(s->from, "some-emission");
    assert_string_equal(s->node, "gw1-aaaaaa");
    assert_string_equal(s->data, "{\"data\":1}");
    w->broker->ops->control_answer(w->broker, &(struct control_message){.sid = SLICE("some-emission"),
                                                                        .verb = SLICE("emitted"),
                                                                        .node = SLICE("gw1-aaaaaa"),
                                                                        .data = SLICE("{}")});
    world_expect(w, 2);
    s = &w->seen[1];
    assert_int_equal(s->kind, ENVELOPE_CONTROLLED);
    assert_string_equal(s->from, "some-emission");
    assert_string_equal(s->event, "emitted");
    w->broker->ops->control_end(w->broker, SLICE("some-emission"));
    assert_int_equal(do_emit(w, "$namespace:/a", false)->total, 1);
    assert_int_equal(await_ok(w, do_history(w, "$namespace:/a", 0, 10))->position.offset, 0);
}

/* The same as a message of the room, which is kept, says so wherever it is read; and the store says who was told. */
static void emission_is_kept(void **state)
{
    struct world *w = world_of(state);
    struct publish p = {.room = SLICE("$namespace:/a"),
                        .data = SLICE("{\"data\":1}"),
                        .data_type = DATA_EMISSION,
                        .retain_count = 2,
                        .retain_age_s = 60};
    assert_int_equal(await_ok(w, do_publish(w, &p))->total, 0);
    await_ok(w, do_subscribe(w, "$namespace:/a"));
    assert_int_equal(await_ok(w, do_publish(w, &p))->total, 1);
    world_expect(w, 1);
    assert_int_equal(w->seen[0].kind, ENVELOPE_MESSAGE);
    assert_int_equal(w->seen[0].data_type, DATA_EMISSION);
    struct answer *a = await_ok(w, do_history(w, "$namespace:/a", 0, 10));
    assert_int_equal(a->count, 2);
    assert_int_equal(a->entries[1].data_type, DATA_EMISSION);
    assert_string_equal(a->entries[1].data, "{\"data\":1}");
}

static void command_for_a_parked_session_is_told_so(void **state)
{
    struct world *w = world_of(state);
    park_bob(w);
    struct answer *a = do_control(w, "s1", "1");
    assert_int_equal(a->err, OK);
    assert_true(a->away);
    world_settle(w);
    for (size_t i = 0; i < w->count; i++)
        assert_int_not_equal(w->seen[i].kind, ENVELOPE_CONTROL);
}

static void parked_session_is_ended_at_once(void **state)
{
    struct world *w = world_of(state);
    park_bob(w);
    await_ok(w, do_end(w, "s1"));
    world_expect(w, 1);
    assert_int_equal(w->seen[0].kind, ENVELOPE_EXIT);
    assert_int_equal(w->seen[0].reason, EXIT_KICKED);
    assert_int_equal(w->seen[0].total, 0);
    assert_int_equal(await(w, do_resume(w, "s1", "hash-s1"))->err, ERR_NOT_FOUND);
    assert_int_equal(await_ok(w, do_presence(w, "lobby", SLICE_NONE, 10))->total, 0);
    assert_int_equal(do_end(w, "s1")->err, ERR_NOT_FOUND);
    struct redis_fixture *server = suite_redis("xd:parked");
    if (server != NULL)
        assert_int_equal(redis_fixture_number(server, "EXISTS xd:parked"), 0);
    server = suite_redis("xd:session:{s1}");
    if (server != NULL)
        assert_int_equal(redis_fixture_number(server, "EXISTS xd:session:{s1}"), 0);
    server = suite_redis("xd:user:{bob}");
    if (server != NULL)
        assert_int_equal(redis_fixture_number(server, "EXISTS xd:user:{bob}"), 0);
}

static void connected_session_is_nobody_elses_business(void **state)
{
    struct world *w = world_of(state);
    do_subscribe(w, "lobby");
    await_ok(w, do_put_for(w, "s1", "bob", WINDOW));
    await_ok(w, do_join(w, "lobby", "s1", "bob"));
    assert_int_equal(do_end(w, "s1")->err, ERR_CONFLICT);
    assert_int_equal(do_away_join(w, "s1", "other", 5)->err, ERR_CONFLICT);
    assert_int_equal(do_away_leave(w, "s1", "lobby")->err, ERR_CONFLICT);
    struct answer *a = await_ok(w, do_presence(w, "lobby", SLICE_NONE, 10));
    assert_int_equal(a->total, 1);
    assert_int_equal(a->entries[0].state, MEMBER_ACTIVE);
    assert_int_equal(do_away_join(w, "s9", "other", 5)->err, ERR_NOT_FOUND);
    assert_int_equal(do_away_leave(w, "s9", "other")->err, ERR_NOT_FOUND);
}

static void parked_session_is_put_into_a_room_and_out(void **state)
{
    struct world *w = world_of(state);
    do_subscribe(w, "other");
    park_bob(w);
    struct answer *a = do_away_join(w, "s1", "other", 2);
    assert_int_equal(a->err, OK);
    assert_int_equal(a->total, 1);
    world_expect(w, 2);
    assert_int_equal(w->seen[0].kind, ENVELOPE_ENTER);
    assert_string_equal(w->seen[0].user, "bob");
    assert_int_equal(w->seen[1].kind, ENVELOPE_SUSPEND);
    a = await_ok(w, do_presence(w, "other", SLICE_NONE, 10));
    assert_int_equal(a->count, 1);
    assert_string_equal(a->entries[0].name, "s1");
    assert_string_equal(a->entries[0].user, "bob");
    assert_int_equal(a->entries[0].state, MEMBER_SUSPENDED);
    assert_int_equal(do_away_join(w, "s1", "other", 2)->err, OK); /* it is there */
    assert_int_equal(do_away_join(w, "s1", "third", 2)->err, ERR_LIMIT_EXCEEDED);
    assert_int_equal(await_ok(w, do_presence(w, "third", SLICE_NONE, 10))->total, 0);
    world_settle(w);
    world_clear(w);
    await_ok(w, do_away_leave(w, "s1", "lobby"));
    world_expect(w, 1);
    assert_int_equal(w->seen[0].kind, ENVELOPE_EXIT);
    assert_int_equal(w->seen[0].reason, EXIT_KICKED);
    assert_int_equal(do_away_leave(w, "s1", "lobby")->err, ERR_NOT_MEMBER);
    a = await_ok(w, do_resume(w, "s1", "hash-s1"));
    assert_int_equal(a->count, 1);
    assert_string_equal(a->entries[0].name, "other");
}

static int run(const char *name)
{
    const struct CMUnitTest tests[] = {
        T(command_arrives_and_is_answered),
        T(emission_arrives_and_is_answered),
        T(emission_is_kept),
        T(command_for_a_parked_session_is_told_so),
        T(parked_session_is_ended_at_once),
        T(connected_session_is_nobody_elses_business),
        T(parked_session_is_put_into_a_room_and_out),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return suite_main(run, false);
}
