/* tests/unit/test_resume.c: clients that come back: parked, resumed, caught up, or told what is missing. */
#include <stdio.h>
#include <stdlib.h>

#include "gateway/metrics.h"
#include "gateway/room.h"
#include "gateway/session.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"

#define PARKING                                                                                                        \
    ((const char *const[]){"--resume-window", "60", "--heartbeat", "3600", "--policy", "* retain-count=300",           \
                           "--message-rate", "0", NULL})
#define SHORT                                                                                                          \
    ((const char *const[]){"--resume-window", "60", "--heartbeat", "3600", "--policy", "* retain-count=3",             \
                           "--message-rate", "0", NULL})
#define FORGETFUL                                                                                                      \
    ((const char *const[]){"--resume-window", "60", "--heartbeat", "3600", "--policy", "* retain-count=0",             \
                           "--message-rate", "0", NULL})

/* What a client keeps to come back with. */
struct ticket {
    char sid[SID_LEN + 1], token[TOKEN_LEN + 1];
    struct position at;
};

static struct ticket ticket_of(const struct client *cl, const char *room)
{
    struct ticket t;
    memcpy(t.sid, cl->conn->session->sid, sizeof t.sid);
    memcpy(t.token, cl->conn->session->token, sizeof t.token);
    t.at = room_find(cl->core->gw, slice_str(room))->stream.last;
    return t;
}

/* Says a number and hears it. */
static void say(struct client *cl, int i)
{
    lobby_say(cl, i);
    client_expect(cl, "\"message\"");
}

/* Alice and Bob in the lobby, message 1 said. */
static void open_pair(struct core *c, struct client *cl, const char *const *args)
{
    lobby_open_pair(c, cl, args);
    *metrics = (struct metrics){0};
    say(&cl[0], 1);
    lobby_expect(&cl[1], 1, 1);
}

static void ask(struct client *cl, const struct ticket *t)
{
    char frame[300], position[POSITION_MAX + 1];
    (void)snprintf(
        frame, sizeof frame,
        "{\"type\":\"resume\",\"id\":9,\"session\":\"%s\",\"token\":\"%s\",\"positions\":[{\"room\":\"lobby\","
        "\"position\":\"%s\"}]}",
        t->sid, t->token, position_text(&t->at, position));
    client_send(cl, frame);
}

static const struct broker_ops *real_ops;
static broker_done *subscribed;
static void *subscribed_arg;

static void subscribe_held(struct broker *b, struct slice room, broker_done *done, void *arg)
{
    if (!slice_eq(room, SLICE("lobby"))) {
        real_ops->subscribe(b, room, done, arg);
        return;
    }
    subscribed = done;
    subscribed_arg = arg;
}

static void hang_up(struct core *c, struct client *cl, int n)
{
    for (int i = 0; i < n; i++)
        client_vanish(&cl[i]);
    loop_fake_run(&c->loop);
    assert_int_equal(gateway_session_count(c->gw), 0);
    core_fini(c);
}

/* Its membership came with the session: nothing that fails may end it unsaid. */
static void the_room_cannot_be_subscribed_yet(void **state)
{
    (void)state;
    struct core c;
    struct client cl[3];
    open_pair(&c, cl, PARKING);
    struct ticket t = ticket_of(&cl[1], "lobby");
    client_vanish(&cl[1]);
    client_vanish(&cl[0]);
    loop_fake_advance(&c.loop, 30000); /* long enough for the room to be let go of */
    assert_null(room_find(c.gw, SLICE("lobby")));
    struct broker_ops held = *(real_ops = c.gw->broker->ops);
    held.subscribe = subscribe_held;
    c.gw->broker->ops = &held;
    client_open(&cl[2], &c, "/ws");
    ask(&cl[2], &t);
    client_expect(&cl[2], "\"type\":\"welcome\"", "\"id\":9", t.sid, "\"resumed\":true");
    c.gw->broker->ops = real_ops;
    assert_non_null(subscribed);
    subscribed(subscribed_arg, &(struct broker_result){.err = ERR_UNAVAILABLE, .why = "no primary"});
    assert_int_equal(cl[2].conn->session->member_count, 1);
    loop_fake_advance(&c.loop, 2000);
    client_expect(&cl[2], "\"type\":\"recovered\"", "\"recovered\":true", "\"position\":\"1.");
    hang_up(&c, &cl[2], 1);
}

static void a_client_comes_back_and_missed_nothing(void **state)
{
    struct core c;
    struct client cl[3];
    open_pair(&c, cl, PARKING);
    struct ticket t = ticket_of(&cl[1], "lobby");
    client_vanish(&cl[1]);
    client_expect(&cl[0], "\"suspend\"", t.sid, "\"total\":2");
    assert_int_equal(gateway_session_count(c.gw), 1);
    client_send(&cl[0], "{\"type\":\"presence\",\"id\":1,\"room\":\"lobby\"}");
    client_expect(&cl[0], "\"total\":2", "\"state\":\"suspended\"");
    for (int i = 2; i <= 250; i++) /* several pages */
        say(&cl[0], i);

    client_open(&cl[2], &c, "/ws");
    ask(&cl[2], &t);
    client_expect(&cl[2], "\"type\":\"welcome\"", "\"id\":9", t.sid, t.token, "\"user\":\"bob\"", "\"resumed\":true");
    client_expect(&cl[2], "\"type\":\"recovered\"", "\"recovered\":true", "\"position\":\"1.", "\"total\":2");
    lobby_expect(&cl[2], 2, 250);
    client_expect(&cl[0], "\"enter\"", t.sid);
    say(&cl[0], 251);
    lobby_expect(&cl[2], 251, 251);
    client_expect_nothing(&cl[2]);
    client_send(&cl[0], "{\"type\":\"send\",\"id\":2,\"to\":{\"user\":\"bob\"},\"data\":1}");
    client_expect(&cl[0], "\"ack\"");
    client_expect(&cl[2], "\"$user:bob\"");
    assert_int_equal(gateway_session_count(c.gw), 2);
    assert_int_equal(metrics->resumed, 1);
    client_vanish(&cl[0]);
    client_expect(&cl[2], "\"suspend\"");
    client_vanish(&cl[2]);
    hang_up(&c, cl, 0);
    (void)state;
}

/* A mini-program in the background: the system lets its socket die and wakes it up much later. */
static void who_is_on_the_way_back_may_publish(void **state)
{
    struct core c;
    struct client cl[4];
    open_pair(&c, cl, PARKING);
    struct ticket t = ticket_of(&cl[1], "lobby");
    client_vanish(&cl[1]);
    client_expect(&cl[0], "\"suspend\"");
    client_open(&cl[2], &c, "/ws");
    c.no_joins = true;
    ask(&cl[2], &t);
    client_expect(&cl[2], "\"type\":\"welcome\"", "\"resumed\":true");
    client_send(&cl[2], "{\"type\":\"publish\",\"id\":1,\"room\":\"lobby\",\"data\":2}");
    client_expect(&cl[2], "\"ack\"", "\"id\":1");
    client_open(&cl[3], &c, "/ws"); /* others are not */
    client_send(&cl[3], "{\"type\":\"join\",\"id\":1,\"room\":\"lobby\"}");
    client_expect(&cl[3], "\"unavailable\"");
    client_send(&cl[3], "{\"type\":\"publish\",\"id\":2,\"room\":\"lobby\",\"data\":3}");
    client_expect(&cl[3], "\"not_member\"", "\"id\":2");
    c.no_joins = false;
    loop_fake_advance(&c.loop, 5000);
    client_expect(&cl[2], "\"type\":\"recovered\"", "\"recovered\":true");
    lobby_expect(&cl[2], 2, 2);
    client_vanish(&cl[0]);
    client_vanish(&cl[2]);
    client_vanish(&cl[3]);
    loop_fake_advance(&c.loop, 70000);
    hang_up(&c, cl, 0);
    (void)state;
}

static void half_an_hour_in_the_background(void **state)
{
    static const char *const patient[] = {
        "--resume-window", "3600", "--heartbeat", "3600", "--policy", "* retain-count=300 retain-age=1h", NULL};
    struct core c;
    struct client cl[3];
    open_pair(&c, cl, patient);
    struct ticket t = ticket_of(&cl[1], "lobby");
    client_vanish(&cl[1]);
    client_expect(&cl[0], "\"suspend\"");
    for (int minute = 1; minute <= 30; minute++) {
        loop_fake_advance(&c.loop, 60 * 1000);
        say(&cl[0], 1 + minute);
    }
    client_expect_nothing(&cl[0]); /* no exit in all that time */

    client_open(&cl[2], &c, "/ws");
    ask(&cl[2], &t);
    client_expect(&cl[2], "\"resumed\":true");
    client_expect(&cl[2], "\"recovered\":true", "\"total\":2");
    lobby_expect(&cl[2], 2, 31);
    client_expect(&cl[0], "\"enter\"", t.sid);
    hang_up(&c, (struct client[]){cl[0], cl[2]}, 2);
    (void)state;
}

static void nobody_comes_back_in_time(void **state)
{
    struct core c;
    struct client cl[3];
    open_pair(&c, cl, PARKING);
    struct ticket t = ticket_of(&cl[1], "lobby");
    client_vanish(&cl[1]);
    client_expect(&cl[0], "\"suspend\"");
    loop_fake_advance(&c.loop, 59000);
    client_expect_nothing(&cl[0]);
    loop_fake_advance(&c.loop, 3000);
    client_expect(&cl[0], "\"exit\"", t.sid, "\"reason\":\"disconnect\"", "\"total\":1");
    client_open(&cl[2], &c, "/ws");
    ask(&cl[2], &t);
    client_expect(&cl[2], "\"error\"", "\"not_found\"", "\"id\":9");
    hang_up(&c, (struct client[]){cl[0], cl[2]}, 2);
    (void)state;
}

static void an_outage_while_coming_back_costs_no_membership(void **state)
{
    struct core c;
    struct client cl[3];
    open_pair(&c, cl, PARKING);
    struct ticket t = ticket_of(&cl[1], "lobby");
    client_vanish(&cl[1]);
    client_expect(&cl[0], "\"suspend\"");
    say(&cl[0], 2);
    client_open(&cl[2], &c, "/ws");
    c.store_down = true;
    ask(&cl[2], &t);
    client_expect(&cl[2], "\"welcome\"", t.sid);
    loop_fake_advance(&c.loop, 3000);
    client_expect_nothing(&cl[2]);
    c.store_down = false;
    loop_fake_advance(&c.loop, 1000);
    client_expect(&cl[2], "\"recovered\":true");
    lobby_expect(&cl[2], 2, 2);
    client_expect(&cl[0], "\"enter\"", t.sid);
    hang_up(&c, (struct client[]){cl[0], cl[2]}, 2);
    (void)state;
}

static void stopping_while_somebody_comes_back(void **state)
{
    struct core c;
    struct client cl[3];
    open_pair(&c, cl, PARKING);
    struct ticket t = ticket_of(&cl[1], "lobby");
    client_vanish(&cl[1]);
    client_expect(&cl[0], "\"suspend\"");
    client_open(&cl[2], &c, "/ws");
    c.no_subscriptions = true; /* the session is adopted, but its own room is not joined */
    ask(&cl[2], &t);
    client_expect_nothing(&cl[2]);
    client_vanish(&cl[0]);
    client_vanish(&cl[2]);
    core_fini(&c);
    (void)state;
}

/* The session that asked has ended, but its request still holds it, when all sessions are gone through. */
static void a_retry_while_somebody_comes_back(void **state)
{
    struct core c;
    struct client cl[3];
    open_pair(&c, cl, PARKING);
    struct ticket t = ticket_of(&cl[1], "lobby");
    client_vanish(&cl[1]);
    client_expect(&cl[0], "\"suspend\"");
    client_open(&cl[2], &c, "/ws");
    c.no_subscriptions = true;
    ask(&cl[2], &t);
    loop_fake_advance(&c.loop, 5000);
    client_expect_nothing(&cl[2]);
    c.no_subscriptions = false;
    loop_fake_advance(&c.loop, 5000);
    client_expect(&cl[2], "\"welcome\"", t.sid);
    client_expect(&cl[2], "\"recovered\":true");
    hang_up(&c, (struct client[]){cl[0], cl[2]}, 2);
    (void)state;
}

/* The session is adopted, its own room is not joined yet, and the client is gone again. */
static void gone_before_its_own_room_is_joined(void **state)
{
    struct core c;
    struct client cl[4];
    open_pair(&c, cl, PARKING);
    struct ticket t = ticket_of(&cl[1], "lobby");
    client_vanish(&cl[1]);
    client_expect(&cl[0], "\"suspend\"");
    client_open(&cl[2], &c, "/ws");
    c.no_subscriptions = true;
    ask(&cl[2], &t);
    client_expect_nothing(&cl[2]);
    client_vanish(&cl[2]);
    loop_fake_advance(&c.loop, 1000);
    c.no_subscriptions = false;
    loop_fake_advance(&c.loop, 1000);
    client_open(&cl[3], &c, "/ws");
    ask(&cl[3], &t);
    client_expect(&cl[3], "\"welcome\"", t.sid);
    client_expect(&cl[3], "\"recovered\":true");
    client_expect(&cl[0], "\"enter\"", t.sid);
    hang_up(&c, (struct client[]){cl[0], cl[3]}, 2);
    (void)state;
}

/* The node where it was before has not heard yet that it moved, and made it join again, or suspended it, or took it out. */
static void what_the_node_before_does_too_late_is_overruled(void **state)
{
    struct core c;
    struct client cl[3];
    open_pair(&c, cl, PARKING);
    struct ticket t = ticket_of(&cl[1], "lobby");
    static const enum envelope_kind kinds[] = {ENVELOPE_ENTER, ENVELOPE_SUSPEND, ENVELOPE_EXIT};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        unsigned puts = c.puts, joins = c.joins;
        const struct envelope late = {.kind = kinds[i],
                                      .room = SLICE("lobby"),
                                      .from = slice_str(t.sid),
                                      .node = SLICE("gw9-ffffff"),
                                      .total = 2};
        c.gw->broker->events->envelope(c.gw->broker->owner, &late);
        client_expect(&cl[0], t.sid);
        loop_fake_advance(&c.loop, 1000);
        assert_int_equal(c.puts, puts + 1);
        assert_int_equal(c.joins, joins + 1);
        client_expect_nothing(&cl[0]); /* in this store it was there all the time */
    }
    hang_up(&c, cl, 2);
    (void)state;
}

static void a_wrong_token_opens_nothing(void **state)
{
    struct core c;
    struct client cl[3];
    open_pair(&c, cl, PARKING);
    struct ticket t = ticket_of(&cl[1], "lobby");
    t.token[0] = t.token[0] == 'A' ? 'B' : 'A';
    client_open(&cl[2], &c, "/ws");
    ask(&cl[2], &t);
    client_expect(&cl[2], "\"unauthorized\"");
    t.token[5] = '\0';
    ask(&cl[2], &t);
    client_expect(&cl[2], "\"unauthorized\"");
    client_expect_nothing(&cl[1]);
    hang_up(&c, cl, 3);
    (void)state;
}

static void a_second_connection_takes_the_session_over(void **state)
{
    struct core c;
    struct client cl[3];
    struct slice payload;
    open_pair(&c, cl, PARKING);
    struct ticket t = ticket_of(&cl[1], "lobby");
    client_open(&cl[2], &c, "/ws");
    ask(&cl[2], &t); /* the old connection is still thought to be alive */
    client_expect(&cl[2], "\"welcome\"", t.sid);
    client_expect(&cl[2], "\"recovered\":true");
    client_expect(&cl[1], "\"goodbye\"", "\"resumed_elsewhere\"");
    assert_int_equal(client_next(&cl[1], &payload), WS_CLOSE);
    say(&cl[0], 2);
    lobby_expect(&cl[2], 2, 2);
    client_vanish(&cl[1]);
    client_expect_nothing(&cl[0]);
    assert_int_equal(gateway_session_count(c.gw), 2);
    hang_up(&c, (struct client[]){cl[0], cl[2]}, 2);
    (void)state;
}

static void losses_are_told(void **state, const char *const *args, uint64_t offset, const char *tag, const char *reason)
{
    struct core c;
    struct client cl[3];
    open_pair(&c, cl, args);
    struct ticket t = ticket_of(&cl[1], "lobby");
    client_vanish(&cl[1]);
    client_expect(&cl[0], "\"suspend\"");
    for (int i = 2; i <= 9; i++)
        say(&cl[0], i);
    if (offset != 0)
        t.at.offset = offset;
    if (tag != NULL)
        (void)snprintf(t.at.tag, sizeof t.at.tag, "%s", tag);
    client_open(&cl[2], &c, "/ws");
    ask(&cl[2], &t);
    client_expect(&cl[2], "\"welcome\"");
    if (offset != 0)
        loop_fake_advance(&c.loop, 4000); /* the log might get that far yet */
    client_expect(&cl[2], "\"recovered\":false", reason, "\"position\":\"9.");
    client_expect(&cl[0], "\"enter\"");
    say(&cl[0], 10);
    lobby_expect(&cl[2], 10, 10);
    assert_int_equal(metrics->unrecovered, 1);
    hang_up(&c, (struct client[]){cl[0], cl[2]}, 2);
    (void)state;
}

static void an_expired_position_is_told(void **state)
{
    losses_are_told(state, SHORT, 0, NULL, "\"reason\":\"expired\"");
}

static void a_fork_is_told(void **state)
{
    losses_are_told(state, PARKING, 0, "00000000", "\"reason\":\"fork\"");
    losses_are_told(state, PARKING, 40, NULL, "\"reason\":\"fork\"");
}

static void a_room_without_log_is_told(void **state)
{
    losses_are_told(state, FORGETFUL, 0, NULL, "\"reason\":\"not_retained\"");
}

static void joining_with_a_position_replays_too(void **state)
{
    struct core c;
    struct client cl[3];
    char frame[160], position[POSITION_MAX + 1];
    open_pair(&c, cl, PARKING);
    struct position at = room_find(c.gw, SLICE("lobby"))->stream.last;
    say(&cl[0], 2);
    say(&cl[0], 3);
    client_open(&cl[2], &c, "/ws/carol");
    (void)snprintf(frame, sizeof frame, "{\"type\":\"join\",\"id\":1,\"room\":\"lobby\",\"position\":\"%s\"}",
                   position_text(&at, position));
    client_send(&cl[2], frame);
    client_expect(&cl[2], "\"ack\"", "\"position\":\"3.");
    client_expect(&cl[2], "\"recovered\":true");
    lobby_expect(&cl[2], 2, 3);
    client_expect_nothing(&cl[2]);
    client_send(&cl[2], "{\"type\":\"leave\",\"room\":\"lobby\"}");
    loop_fake_run(&c.loop);
    (void)snprintf(frame, sizeof frame, "{\"type\":\"join\",\"room\":\"lobby\",\"position\":\"0\"}");
    client_send(&cl[2], frame);
    client_expect(&cl[2], "\"recovered\":true");
    lobby_expect(&cl[2], 1, 3);
    hang_up(&c, cl, 3);
    (void)state;
}

static void a_slow_reader_is_not_read_ahead_for(void **state)
{
    struct core c;
    struct client cl[3];
    core_init(&c, ((const char *const[]){"--resume-window", "60", "--heartbeat", "3600", "--policy",
                                         "* retain-count=300", "--message-rate", "0", "--max-message-size", "4096",
                                         "--max-queue-bytes", "16384", NULL}));
    client_open(&cl[0], &c, "/ws/alice");
    lobby_join(&cl[0]);
    for (int i = 1; i <= 300; i++)
        say(&cl[0], i);
    client_open(&cl[1], &c, "/ws/bob");
    client_take(&cl[1], 300);
    client_send(&cl[1], "{\"type\":\"join\",\"room\":\"lobby\",\"position\":\"0\"}");
    client_expect(&cl[0], "\"enter\"");
    loop_fake_advance(&c.loop, 5000);
    assert_false(cl[1].close_asked);
    say(&cl[0], 301); /* said while the other is still being told the past */
    for (int i = 0; i < 200; i++) {
        client_take(&cl[1], 2000);
        loop_fake_advance(&c.loop, 1000);
    }
    client_take(&cl[1], SIZE_MAX);
    loop_fake_advance(&c.loop, 3000);
    struct slice payload;
    int next = 2; /* message 301 may have pushed message 1 out of the log of 300 */
    for (int opcode; (opcode = client_next(&cl[1], &payload)) >= 0;) {
        const char *data = strstr(payload.p, "\"data\":");
        if (opcode != WS_TEXT || data == NULL)
            continue;
        int said = (int)strtoul(data + 7, NULL, 10);
        if (said == 1)
            continue;
        assert_int_equal(said, next);
        next++;
    }
    assert_int_equal(next, 302);
    assert_false(cl[1].close_asked);
    hang_up(&c, cl, 2);
    (void)state;
}

static void vanishing_while_being_caught_up(void **state)
{
    struct core c;
    struct client cl[3];
    open_pair(&c, cl, PARKING);
    for (int i = 2; i <= 250; i++)
        say(&cl[0], i);
    client_open(&cl[2], &c, "/ws/carol");
    client_take(&cl[2], 0);
    client_send(&cl[2], "{\"type\":\"join\",\"room\":\"lobby\",\"position\":\"0\"}");
    loop_fake_run(&c.loop);
    client_vanish(&cl[2]);
    loop_fake_run(&c.loop);
    assert_true(list_empty(&c.gw->catchup_turns));
    client_open(&cl[2], &c, "/ws/carol");
    client_send(&cl[2], "{\"type\":\"join\",\"room\":\"lobby\",\"position\":\"0\"}");
    client_vanish(&cl[2]); /* before anything was answered */
    hang_up(&c, cl, 2);
    (void)state;
}

/* Asks, takes `messages` and the ack; the page could have been a replica's that has at least so much. */
static void ask_history(struct core *c, struct client *cl, const char *what, int messages, uint64_t at_least)
{
    char frame[120];
    unsigned lagging = c->lagging, exact = c->exact;
    (void)snprintf(frame, sizeof frame, "{\"type\":\"history\",\"id\":1,\"room\":\"lobby\"%s}", what);
    client_send(cl, frame);
    while (messages-- > 0)
        client_expect(cl, "\"message\"", "\"id\":1");
    client_expect(cl, "\"ack\"", "\"id\":1");
    assert_int_equal(c->lagging, lagging + 1);
    assert_int_equal(c->exact, exact);
    assert_int_equal(c->at_least, at_least);
}

/* What a client asks for may come from a replica, if it is not behind what has been shown to anybody here. */
static void which_pages_may_lag(void **state)
{
    struct core c;
    struct client cl[3];
    open_pair(&c, cl, PARKING);
    struct ticket t = ticket_of(&cl[1], "lobby");
    client_vanish(&cl[1]);
    client_expect(&cl[0], "\"suspend\"");
    for (int i = 2; i <= 10; i++)
        say(&cl[0], i);
    unsigned exact = c.exact;
    client_open(&cl[2], &c, "/ws");
    ask(&cl[2], &t);
    client_expect(&cl[2], "\"resumed\":true");
    client_expect(&cl[2], "\"recovered\":true");
    lobby_expect(&cl[2], 2, 10);
    client_expect(&cl[0], "\"enter\"");
    assert_true(c.exact > exact);
    c.deaf = true;
    lobby_say(&cl[0], 11);
    c.deaf = false;
    exact = c.exact;
    lobby_say(&cl[0], 12);
    assert_true(c.exact > exact); /* repairing the gap */
    lobby_expect(&cl[0], 11, 12);
    lobby_expect(&cl[2], 11, 12);
    assert_int_equal(c.lagging, 0);
    ask_history(&c, &cl[2], ",\"after\":3,\"limit\":2", 2, 12);
    ask_history(&c, &cl[2], ",\"before\":3", 2, 12);
    ask_history(&c, &cl[2], ",\"limit\":1", 1, 12);
    /* It says itself what it has seen. */
    ask_history(&c, &cl[2], ",\"after\":40", 0, 40);
    ask_history(&c, &cl[2], ",\"before\":40,\"limit\":30", 3, 39);
    hang_up(&c, (struct client[]){cl[0], cl[2]}, 2);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_comes_back_and_missed_nothing),
        cmocka_unit_test(the_room_cannot_be_subscribed_yet),
        cmocka_unit_test(who_is_on_the_way_back_may_publish),
        cmocka_unit_test(half_an_hour_in_the_background),
        cmocka_unit_test(nobody_comes_back_in_time),
        cmocka_unit_test(an_outage_while_coming_back_costs_no_membership),
        cmocka_unit_test(stopping_while_somebody_comes_back),
        cmocka_unit_test(a_retry_while_somebody_comes_back),
        cmocka_unit_test(gone_before_its_own_room_is_joined),
        cmocka_unit_test(what_the_node_before_does_too_late_is_overruled),
        cmocka_unit_test(a_wrong_token_opens_nothing),
        cmocka_unit_test(a_second_connection_takes_the_session_over),
        cmocka_unit_test(an_expired_position_is_told),
        cmocka_unit_test(a_fork_is_told),
        cmocka_unit_test(a_room_without_log_is_told),
        cmocka_unit_test(joining_with_a_position_replays_too),
        cmocka_unit_test(a_slow_reader_is_not_read_ahead_for),
        cmocka_unit_test(vanishing_while_being_caught_up),
        cmocka_unit_test(which_pages_may_lag),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
