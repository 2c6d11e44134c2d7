/* tests/unit/test_broker_tunnels.c: URLs of tunnels, where sessions are, and what is told of a tunnel's end: asked of every backend. */
#include "tests/unit/broker_suite.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define TICKET "0123456789abcdef"
#define WHOSE  "tc1 https://app.example/tunnel"

static void offer(struct world *w, uint32_t ttl_ms)
{
    struct answer *a = answer_new();
    w->broker->ops->tunnel_offer(
        w->broker,
        &(struct tunnel_offer){.ticket = SLICE(TICKET), .sid = SLICE("s1"), .tunnel = SLICE(WHOSE), .ttl_ms = ttl_ms},
        answered, a);
    assert_int_equal(a->times, 0);
    (void)await_ok(w, a);
}

static enum err take(struct world *w, const char *ticket)
{
    struct answer *a = answer_new();
    w->broker->ops->tunnel_take(w->broker, slice_str(ticket), answered, a);
    assert_int_equal(a->times, 0);
    (void)await(w, a);
    if (a->err == OK) {
        assert_string_equal(a->owner, "s1");
        assert_string_equal(a->watches, WHOSE);
    }
    return a->err;
}

static void a_url_is_good_once(void **state)
{
    struct world *w = world_of(state);
    assert_int_equal(take(w, TICKET), ERR_NOT_FOUND);
    offer(w, 60000);
    assert_int_equal(take(w, "0123456789abcdee"), ERR_NOT_FOUND);
    assert_int_equal(take(w, TICKET), OK);
    assert_int_equal(take(w, TICKET), ERR_NOT_FOUND);
}

static void a_url_has_its_time(void **state)
{
    struct world *w = world_of(state);
    struct redis_fixture *node = suite_redis("xd:tunnel:{" TICKET "}");
    offer(w, 60000);
    if (node != NULL) {
        redisReply *r = redis_fixture_command(node, "PTTL xd:tunnel:{" TICKET "}");
        assert_true(r->integer > 50000 && r->integer <= 60000);
        freeReplyObject(r);
        freeReplyObject(redis_fixture_command(node, "PEXPIRE xd:tunnel:{" TICKET "} 0"));
    } else {
        loop_fake_advance(w->loop, 60000);
    }
    assert_int_equal(take(w, TICKET), ERR_NOT_FOUND);
}

static void put(struct world *w, const char *sid)
{
    struct answer *a = answer_new();
    const struct session_record s = {
        .sid = slice_str(sid), .token_hash = SLICE("h"), .protocol = SLICE("wafer"), .tunnel = SLICE(WHOSE)};
    w->broker->ops->session_put(w->broker, &s, answered, a);
    (void)await_ok(w, a);
}

static void sessions_are_found(void **state)
{
    struct world *w = world_of(state);
    const struct slice sids[] = {SLICE("s1"), SLICE("nobody"), SLICE("s2"), SLICE("gone")};
    put(w, "s1");
    put(w, "s2");
    put(w, "gone");
    struct answer *a = answer_new();
    w->broker->ops->session_remove(w->broker, SLICE("gone"), SLICE_NONE, SLICE_NONE, answered, a);
    (void)await_ok(w, a);
    a = answer_new();
    w->broker->ops->where(w->broker, sids, 4, answered, a);
    assert_int_equal(a->times, 0);
    (void)await_ok(w, a);
    assert_int_equal(a->count, 4);
    assert_string_equal(a->entries[0].name, "gw1-aaaaaa");
    assert_string_equal(a->entries[1].name, "");
    assert_string_equal(a->entries[2].name, "gw1-aaaaaa");
    assert_string_equal(a->entries[3].name, "");
    a = answer_new();
    w->broker->ops->where(w->broker, NULL, 0, answered, a);
    (void)await_ok(w, a);
    assert_int_equal(a->count, 0);
}

static struct answer *control_to(struct world *w, const char *node)
{
    struct answer *a = answer_new();
    const struct control_message m = {
        .sid = SLICE("s1"), .id = SLICE("7"), .verb = SLICE("push"), .data = SLICE("\0\1"), .node = slice_str(node)};
    w->broker->ops->control_to(w->broker, &m, answered, a);
    assert_int_equal(a->times, 0);
    return await(w, a);
}

static void a_node_is_told(void **state)
{
    struct world *w = world_of(state);
    put(w, "s1");
    world_clear(w);
    (void)control_to(w, "gw1-aaaaaa");
    world_expect(w, 1);
    assert_int_equal(w->seen[0].kind, ENVELOPE_CONTROL);
    assert_string_equal(w->seen[0].from, "s1");
    assert_string_equal(w->seen[0].event, "push");
    assert_string_equal(w->seen[0].node, "gw1-aaaaaa");
    assert_int_equal(w->seen[0].data_n, 2);
    w->broker->ops->control_end(w->broker, SLICE("s1"));
    assert_int_equal(control_to(w, "gw2-aaaaaa")->err, ERR_UNAVAILABLE);
}

static struct answer *events(struct world *w)
{
    struct answer *a = answer_new();
    w->broker->ops->events(w->broker, &(struct events_ask){.lease_ms = 5000, .limit = 10}, answered, a);
    return await(w, a);
}

static void its_end_says_whose_it_was(void **state)
{
    struct world *w = world_of(state);
    put(w, "s1");
    (void)events(w); /* from here on somebody reads */
    struct answer *a = answer_new();
    w->broker->ops->session_remove(w->broker, SLICE("s1"), SLICE_NONE, SLICE("closed"), answered, a);
    (void)await_ok(w, a);
    a = events(w);
    assert_int_equal(a->err, OK);
    assert_int_equal(a->count, 1);
    assert_non_null(strstr(a->entries[0].data, "type=disconnect "));
    assert_non_null(strstr(a->entries[0].data, "tunnel=" WHOSE " "));
}

static int run(const char *name)
{
    const struct CMUnitTest tests[] = {T(a_url_is_good_once), T(a_url_has_its_time), T(sessions_are_found),
                                       T(a_node_is_told), T(its_end_says_whose_it_was)};
    suite_event_shards = 1;
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return suite_main(run, false);
}
