/* tests/unit/test_report.c: what the backend is told of sessions, in which order, and that nothing of it is lost while the store is away. */
#include <stdio.h>

#include "base/mem.h"
#include "gateway/metrics.h"
#include "gateway/session.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"

#define ON                                                                                                             \
    "--events", "on", "--event-shards", "1", "--policy", "$user:* events=message", "--policy",                         \
        "lobby events=join,leave,message", "--policy", "quiet events=none"
#define EVENTS    ((const char *const[]){ON, NULL})
#define RESUMABLE ((const char *const[]){ON, "--resume-window", "60s", NULL})

/* All events since the beginning, a line each: `type field=value …`. */
struct told {
    char text[8192];
    size_t count;
    bool done;
};

static void on_told(void *arg, const struct broker_result *r)
{
    struct told *t = arg;
    size_t n = 0;
    t->done = true;
    t->count = r->count;
    t->text[0] = '\0';
    for (size_t i = 0; i < r->count; i++) {
        for (size_t f = 0; f < r->events[i].count; f++) {
            const struct event_field *field = &r->events[i].fields[f];
            if (!slice_eq(field->name, SLICE("time")) && !slice_eq(field->name, SLICE("node")))
                n += (size_t)snprintf(t->text + n, sizeof t->text - n, "%.*s=%.*s ", SLICE_FMT(field->name),
                                      SLICE_FMT(field->value));
        }
        n += (size_t)snprintf(t->text + n, sizeof t->text - n, "\n");
        assert_true(n < sizeof t->text);
    }
}

static void look(struct core *c, struct told *ret)
{
    struct broker *b = c->gw->broker;
    *ret = (struct told){.done = false};
    loop_fake_run(&c->loop);
    b->ops->events(b, &(struct events_ask){.shard = 0, .limit = 100, .lease_ms = 1000}, on_told, ret);
    loop_fake_run(&c->loop);
    assert_true(ret->done);
}

/* The types in order, with the first letter of the user: `connect/a`. */
static void expect_told(struct core *c, const char *expected)
{
    struct told t;
    char order[1024] = "";
    size_t n = 0;
    look(c, &t);
    for (const char *at = t.text; (at = strstr(at, "type=")) != NULL; at++) {
        const char *user = strstr(at, "user="), *end = strchr(at, '\n');
        n += (size_t)snprintf(order + n, sizeof order - n, "%s%.*s/%c", n != 0 ? " " : "", (int)strcspn(at + 5, " "),
                              at + 5, user != NULL && user < end ? user[5] : '-');
    }
    if (strcmp(order, expected) != 0)
        fail_msg("told `%s`, not `%s`\n%s", order, expected, t.text);
}

static void expect_field(struct core *c, const char *text)
{
    struct told t;
    look(c, &t);
    if (strstr(t.text, text) == NULL)
        fail_msg("no `%s` in\n%s", text, t.text);
}

static void a_life_is_told_in_order(void **state)
{
    (void)state;
    struct core c;
    struct client cl;
    core_init(&c, EVENTS);
    client_open(&cl, &c, "/ws/alice");
    lobby_join(&cl);
    client_send(&cl, "{\"type\":\"publish\",\"echo\":false,\"id\":2,\"room\":\"lobby\",\"event\":\"say\",\"data\":{"
                     "\"n\":1},\"key\":\"k1\"}");
    client_expect(&cl, "\"ack\"", "\"id\":2", "\"position\":\"1.");
    client_send(&cl, "{\"type\":\"leave\",\"id\":3,\"room\":\"lobby\"}");
    client_expect(&cl, "\"ack\"", "\"id\":3");
    client_vanish(&cl);
    expect_told(&c, "connect/a join/a message/a leave/a disconnect/a");
    expect_field(&c, "protocol=native ip=192.0.2.1 agent=test ");
    expect_field(&c, "room=lobby event=say key=k1 data={\"n\":1} position=1.");
    expect_field(&c, "room=lobby reason=leave ");
    expect_field(&c, "reason=closed ");
    core_fini(&c);
}

static void policy_decides_what_is_told_of_rooms(void **state)
{
    (void)state;
    struct core c;
    struct client cl;
    core_init(&c, EVENTS);
    client_open(&cl, &c, "/ws/alice");
    client_send(&cl, "{\"type\":\"join\",\"id\":1,\"room\":\"quiet\"}");
    client_expect(&cl, "\"ack\"");
    client_send(&cl, "{\"type\":\"publish\",\"echo\":false,\"id\":2,\"room\":\"quiet\",\"data\":1}");
    client_expect(&cl, "\"ack\"");
    client_send(&cl, "{\"type\":\"send\",\"echo\":false,\"id\":3,\"to\":{\"user\":\"alice\"},\"data\":1}");
    client_expect(&cl, "\"message\"");
    client_expect(&cl, "\"ack\"");
    expect_told(&c, "connect/a message/a");
    expect_field(&c, "room=$user:alice ");
    client_vanish(&cl);
    expect_told(&c, "connect/a message/a disconnect/a");
    core_fini(&c);
}

static void the_same_publish_is_the_same_event(void **state)
{
    (void)state;
    struct core c;
    struct client cl;
    struct told t;
    core_init(&c, EVENTS);
    client_open(&cl, &c, "/ws/alice");
    lobby_join(&cl);
    for (int i = 0; i < 2; i++) {
        client_send(&cl, "{\"type\":\"publish\",\"echo\":false,\"id\":2,\"room\":\"lobby\",\"data\":1,\"key\":\"k1\"}");
        client_expect(&cl, "\"ack\"", "\"position\":\"1.");
    }
    expect_told(&c, "connect/a join/a message/a message/a");
    look(&c, &t);
    char *first = strstr(t.text, ".message."), *second = strstr(first + 1, ".message.");
    assert_memory_equal(first, second, strcspn(first, " "));
    client_vanish(&cl);
    core_fini(&c);
}

static void nothing_is_lost_while_the_store_takes_no_events(void **state)
{
    (void)state;
    struct core c;
    struct client cl;
    core_init(&c, EVENTS);
    client_open(&cl, &c, "/ws/alice");
    lobby_join(&cl);
    c.no_events = true;
    client_send(&cl, "{\"type\":\"publish\",\"echo\":false,\"id\":2,\"room\":\"lobby\",\"data\":1}");
    client_send(&cl, "{\"type\":\"publish\",\"echo\":false,\"id\":3,\"room\":\"lobby\",\"data\":2}");
    client_expect(&cl, "\"error\"", "\"id\":2", "unavailable"); /* nobody waits for the backend's store */
    client_expect(&cl, "\"error\"", "\"id\":3", "unavailable");
    client_send(&cl, "{\"type\":\"leave\",\"id\":4,\"room\":\"lobby\"}");
    client_expect(&cl, "\"ack\"", "\"id\":4");
    client_vanish(&cl);
    loop_fake_advance(&c.loop, 3000);
    expect_told(&c, "connect/a join/a");
    assert_int_equal(gateway_session_count(c.gw), 1); /* it may not go before it is told */
    c.no_events = false;
    loop_fake_advance(&c.loop, 1000);
    expect_told(&c, "connect/a join/a message/a message/a leave/a disconnect/a");
    assert_int_equal(gateway_session_count(c.gw), 0);
    core_fini(&c);
}

static void stopping_meanwhile_leaves_nothing_behind(void **state)
{
    (void)state;
    struct core c;
    struct client cl;
    core_init(&c, EVENTS);
    client_open(&cl, &c, "/ws/alice");
    lobby_join(&cl);
    c.no_events = true;
    for (int i = 0; i < 3; i++)
        lobby_say(&cl, i);
    client_vanish(&cl);
    core_fini(&c);
}

static void a_resumed_session_has_one_life(void **state)
{
    (void)state;
    struct core c;
    struct client cl, back;
    struct slice welcome;
    char resume[300];
    core_init(&c, RESUMABLE);
    client_connect(&cl, &c, "/ws/alice");
    loop_fake_run(&c.loop);
    assert_int_equal(client_next(&cl, &welcome), 1);
    const char *token = strstr(welcome.p, "\"token\":\"");
    assert_non_null(token);
    (void)snprintf(resume, sizeof resume, "{\"type\":\"resume\",\"id\":1,\"session\":\"%s\",\"token\":\"%.32s\"}",
                   cl.sid, token + 9);
    lobby_join(&cl);
    client_vanish(&cl);
    expect_told(&c, "connect/a join/a");
    client_open(&back, &c, "/ws/alice?resume");
    expect_told(&c, "connect/a join/a"); /* it has announced that it will be another one */
    client_send(&back, resume);
    client_expect(&back, "\"welcome\"", cl.sid);
    expect_told(&c, "connect/a join/a");
    client_send(&back, "{\"type\":\"leave\",\"id\":4,\"room\":\"lobby\"}");
    loop_fake_run(&c.loop);
    expect_told(&c, "connect/a join/a leave/a");
    client_vanish(&back);
    for (int i = 0; i < 70; i++)
        loop_fake_advance(&c.loop, 1000);
    expect_told(&c, "connect/a join/a leave/a disconnect/a");
    expect_field(&c, "reason=expired ");
    core_fini(&c);
}

static void who_asked_to_resume_and_cannot_has_connected(void **state)
{
    (void)state;
    struct core c;
    struct client cl;
    core_init(&c, RESUMABLE);
    client_open(&cl, &c, "/ws/alice?resume");
    expect_told(&c, "");
    client_send(&cl, "{\"type\":\"resume\",\"id\":1,\"session\":\"0123456789abcdef\",\"token\":"
                     "\"0123456789abcdef0123456789abcdef\"}");
    client_expect(&cl, "\"error\"", "not_found");
    expect_told(&c, "connect/a");
    client_vanish(&cl);
    core_fini(&c);
}

static void why_it_was_closed_is_told(void **state)
{
    (void)state;
    struct core c;
    struct client cl;
    core_init(&c, EVENTS);
    client_open(&cl, &c, "/ws/alice");
    conn_close(cl.conn, 1008, SLICE("too_many_errors"));
    client_vanish(&cl);
    expect_field(&c, "reason=too_many_errors ");
    core_fini(&c);
}

static void off_is_off(void **state)
{
    (void)state;
    struct core c;
    struct client cl;
    core_init(&c, NULL);
    client_open(&cl, &c, "/ws/alice");
    lobby_join(&cl);
    lobby_say(&cl, 1);
    assert_null(cl.conn->session->reports);
    client_vanish(&cl);
    core_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_life_is_told_in_order),
        cmocka_unit_test(policy_decides_what_is_told_of_rooms),
        cmocka_unit_test(the_same_publish_is_the_same_event),
        cmocka_unit_test(nothing_is_lost_while_the_store_takes_no_events),
        cmocka_unit_test(stopping_meanwhile_leaves_nothing_behind),
        cmocka_unit_test(a_resumed_session_has_one_life),
        cmocka_unit_test(who_asked_to_resume_and_cannot_has_connected),
        cmocka_unit_test(why_it_was_closed_is_told),
        cmocka_unit_test(off_is_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
