/* tests/unit/test_control.c: a session is disconnected, put into rooms and taken out of them by others than its client. */
#include "gateway/control.h"

#include <stdio.h>

#include "gateway/session.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"

#define ARGS(...) ((const char *const[]){"--message-rate", "0", __VA_ARGS__, NULL})

struct outcome {
    int times;
    enum err err;
    char why[200];
};

static void on_done(void *arg, enum err err, const char *why)
{
    struct outcome *o = arg;
    o->times++;
    o->err = err;
    (void)snprintf(o->why, sizeof o->why, "%s", why != NULL ? why : "");
}

static struct outcome send(struct core *c, struct control what)
{
    struct outcome o = {0};
    control_send(c->gw, &what, on_done, &o);
    assert_int_equal(o.times, 0);
    for (int i = 0; i < 200 && o.times == 0; i++) {
        loop_fake_run(&c->loop);
        if (o.times == 0)
            loop_fake_advance(&c->loop, 100);
    }
    assert_int_equal(o.times, 1);
    assert_null(c->gw->controls);
    return o;
}

static void expect(struct outcome o, enum err err)
{
    if (o.err != err)
        fail_msg("%s: %s", err_name(o.err), o.why);
}

static void session_is_disconnected_for_good(void **state)
{
    struct core c;
    struct client cl[2];
    lobby_open_pair(&c, cl, ARGS("--resume-window", "60s"));
    expect(send(&c, (struct control){.verb = CONTROL_DISCONNECT,
                                     .sid = slice_str(cl[0].sid),
                                     .reason = SLICE("banned"),
                                     .close_code = 4100,
                                     .reconnect_after_ms = 9000}),
           OK);
    client_expect(&cl[0], "{\"type\":\"goodbye\",\"reason\":\"banned\",\"reconnect_after\":9000}");
    client_expect(&cl[1], "\"type\":\"exit\"", "\"user\":\"alice\"", "\"reason\":\"kicked\"", "\"total\":1");
    assert_int_equal(gateway_session_count(c.gw), 1); /* although the client has not hung up */
    client_send(&cl[0], "{\"type\":\"publish\",\"room\":\"lobby\",\"data\":1}");
    client_expect_nothing(&cl[1]);
    client_vanish(&cl[0]);
    expect(send(&c, (struct control){.verb = CONTROL_DISCONNECT, .sid = slice_str(cl[0].sid)}), ERR_NOT_FOUND);
    client_vanish(&cl[1]);
    loop_fake_run(&c.loop);
    expect(send(&c, (struct control){.verb = CONTROL_DISCONNECT, .sid = slice_str(cl[1].sid)}), OK);
    expect(send(&c, (struct control){.verb = CONTROL_DISCONNECT, .sid = slice_str(cl[1].sid)}), ERR_NOT_FOUND);
    core_fini(&c);
    (void)state;
}

static void session_is_put_into_a_room_and_out(void **state)
{
    struct core c;
    struct client cl[2];
    lobby_open_pair(&c, cl, ARGS("--policy", "staff join=nobody max-members=1"));
    const struct control join = {.verb = CONTROL_JOIN, .sid = slice_str(cl[0].sid), .room = SLICE("staff")};
    client_send(&cl[0], "{\"type\":\"join\",\"room\":\"staff\"}");
    client_expect(&cl[0], "\"forbidden\"");
    expect(send(&c, join), OK);
    client_expect(&cl[0], "{\"type\":\"joined\",\"room\":\"staff\"", "\"total\":1");
    expect(send(&c, join), OK);
    client_expect_nothing(&cl[0]);
    struct control other = join;
    other.sid = slice_str(cl[1].sid);
    expect(send(&c, other), ERR_LIMIT_EXCEEDED);
    client_expect_nothing(&cl[1]);
    client_expect(&cl[0], "\"enter\"", "\"bob\"");
    client_expect(&cl[0], "\"exit\"", "\"bob\"");
    client_send(&cl[0], "{\"type\":\"publish\",\"room\":\"staff\",\"data\":1}");
    client_expect(&cl[0], "\"message\"", "\"staff\"");

    struct control leave = {
        .verb = CONTROL_LEAVE, .sid = slice_str(cl[0].sid), .room = SLICE("staff"), .reason = SLICE("muted")};
    expect(send(&c, leave), OK);
    client_expect(&cl[0], "{\"type\":\"left\",\"room\":\"staff\",\"reason\":\"muted\"}");
    expect(send(&c, leave), ERR_NOT_MEMBER);
    leave.room = SLICE("lobby");
    leave.reason = SLICE_NONE;
    expect(send(&c, leave), OK);
    client_expect(&cl[0], "{\"type\":\"left\",\"room\":\"lobby\",\"reason\":\"kicked\"}");
    client_expect(&cl[1], "\"exit\"", "\"alice\"", "\"kicked\"");
    client_vanish(&cl[0]);
    client_vanish(&cl[1]);
    core_fini(&c);
    (void)state;
}

static void limit_of_rooms_holds_for_others_too(void **state)
{
    struct core c;
    struct client cl;
    core_init(&c, ARGS("--max-rooms-per-session", "2", "--resume-window", "60s"));
    client_open(&cl, &c, "/ws/alice");
    struct control join = {.verb = CONTROL_JOIN, .sid = slice_str(cl.sid), .room = SLICE("a")};
    expect(send(&c, join), OK);
    join.room = SLICE("b");
    expect(send(&c, join), OK);
    join.room = SLICE("c");
    expect(send(&c, join), ERR_LIMIT_EXCEEDED);
    client_vanish(&cl);
    loop_fake_run(&c.loop);
    expect(send(&c, join), ERR_LIMIT_EXCEEDED);
    expect(send(&c, (struct control){.verb = CONTROL_LEAVE, .sid = slice_str(cl.sid), .room = SLICE("a")}), OK);
    expect(send(&c, join), OK);
    core_fini(&c);
    (void)state;
}

static void tell(struct core *c, const char *sid, const char *verb, const char *data)
{
    char room[64];
    (void)snprintf(room, sizeof room, "$session:%s", sid);
    control_envelope(c->gw, &(struct envelope){.kind = ENVELOPE_CONTROL,
                                               .room = slice_str(room),
                                               .from = slice_str(sid),
                                               .id = SLICE("1"),
                                               .node = SLICE("other"),
                                               .event = slice_str(verb),
                                               .data = slice_str(data)});
    loop_fake_run(&c->loop);
}

static void nonsense_from_the_store_does_no_harm(void **state)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{\"room\":7}",
        "{\"room\":\"\"}",
        "{\"room\":\"$all\"}",
        "{\"room\":\"a\\u0000b\"}",
        "{\"room\":\"a\",\"close_code\":1000}",
        "{\"room\":\"a\",\"close_code\":-4000}",
        "{\"room\":\"a\",\"reason\":\"\\n\"}",
        "{\"room\":\"a\",\"reason\":\"01234567890123456789012345678901234567890123456789012345678901234\"}",
    };
    struct core c;
    struct client cl;
    core_init(&c, NULL);
    client_open(&cl, &c, "/ws/alice");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tell(&c, cl.sid, "join", bad[i]);
        client_expect_nothing(&cl);
    }
    tell(&c, cl.sid, "explode", "{}");
    tell(&c, "nobody", "join", "{\"room\":\"a\"}");
    client_expect_nothing(&cl);
    control_envelope(c.gw, &(struct envelope){.kind = ENVELOPE_CONTROLLED, .from = SLICE("x"), .id = SLICE("\xff/zz")});
    tell(&c, cl.sid, "join", "{\"room\":\"a\",\"of the future\":[1]}");
    client_expect(&cl, "\"joined\"");
    client_vanish(&cl);
    core_fini(&c);
    (void)state;
}

static void what_waits_completes_when_the_gateway_goes(void **state)
{
    struct core c;
    struct outcome o = {0}, late = {0};
    core_init(&c, NULL);
    control_send(c.gw, &(struct control){.verb = CONTROL_LEAVE, .sid = SLICE("s"), .room = SLICE("a")}, on_done, &o);
    core_fini(&c);
    assert_int_equal(o.times, 1);
    assert_int_equal(o.err, ERR_UNAVAILABLE);
    assert_int_equal(late.times, 0);
    (void)state;
}

/* Another connection brings it. */
static void answer_may_come_before_the_stores(void **state)
{
    static const char *const answers[][2] = {
        {"done", ""}, {"error", "{\"code\":\"not_member\",\"message\":\"no\"}"}, {"error", "{\"code\":7}"}};
    static const enum err errs[] = {OK, ERR_NOT_MEMBER, ERR_INTERNAL};
    struct core c;
    struct client cl;
    core_init(&c, NULL);
    client_open(&cl, &c, "/ws/alice");
    c.deaf = true;
    for (size_t i = 0; i < 3; i++) {
        struct outcome o = {0};
        char id[2] = {(char)('1' + i), '\0'};
        control_send(c.gw, &(struct control){.verb = CONTROL_LEAVE, .sid = slice_str(cl.sid), .room = SLICE("a")},
                     on_done, &o);
        const struct envelope e = {.kind = ENVELOPE_CONTROLLED,
                                   .from = slice_str(cl.sid),
                                   .id = slice_str(id),
                                   .event = slice_str(answers[i][0]),
                                   .data = slice_str(answers[i][1])};
        control_envelope(c.gw, &e);
        control_envelope(c.gw, &e);
        assert_int_equal(o.times, 0);
        loop_fake_run(&c.loop);
        assert_int_equal(o.times, 1);
        assert_int_equal(o.err, errs[i]);
    }
    c.deaf = false;
    client_vanish(&cl);
    core_fini(&c);
    (void)state;
}

/* A node that knows no such envelopes, or has just died, does not answer. */
static void silence_is_a_timeout(void **state)
{
    struct core c;
    struct client cl;
    core_init(&c, NULL);
    client_open(&cl, &c, "/ws/alice");
    c.deaf = true;
    expect(send(&c, (struct control){.verb = CONTROL_JOIN, .sid = slice_str(cl.sid), .room = SLICE("a")}), ERR_TIMEOUT);
    c.deaf = false;
    client_vanish(&cl);
    core_fini(&c);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(session_is_disconnected_for_good),
        cmocka_unit_test(session_is_put_into_a_room_and_out),
        cmocka_unit_test(limit_of_rooms_holds_for_others_too),
        cmocka_unit_test(nonsense_from_the_store_does_no_harm),
        cmocka_unit_test(what_waits_completes_when_the_gateway_goes),
        cmocka_unit_test(answer_may_come_before_the_stores),
        cmocka_unit_test(silence_is_a_timeout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
