/* tests/unit/test_stream.c: a node that misses messages reads them from the log; one that cannot says so. */
#include <stdio.h>

#include "gateway/metrics.h"
#include "gateway/room.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"

#define RETAINED  ((const char *const[]){"--policy", "* retain-count=1000 notices=on", "--message-rate", "0", NULL})
#define SHORT     ((const char *const[]){"--policy", "* retain-count=2", "--message-rate", "0", NULL})
#define FORGOTTEN ((const char *const[]){"--policy", "* retain-count=0", "--message-rate", "0", NULL})

static void expect_just(struct client *cl, int from, int to)
{
    lobby_expect(cl, from, to);
    client_expect_nothing(cl);
}

static void open_pair(struct core *c, struct client *cl, const char *const *args)
{
    lobby_open_pair(c, cl, args);
    *metrics = (struct metrics){0};
    lobby_say(&cl[0], 1);
    lobby_expect(&cl[0], 1, 1);
    lobby_expect(&cl[1], 1, 1);
}

static void hang_up(struct core *c, struct client *cl)
{
    client_vanish(&cl[0]);
    client_vanish(&cl[1]);
    loop_fake_run(&c->loop);
    core_fini(c);
}

static void a_gap_is_read_from_the_log(void **state)
{
    struct core c;
    struct client cl[2];
    open_pair(&c, cl, RETAINED);
    c.deaf = true;
    for (int i = 2; i <= 450; i++) /* several pages */
        lobby_say(&cl[0], i);
    client_expect_nothing(&cl[1]);
    c.deaf = false;
    lobby_say(&cl[0], 451);
    expect_just(&cl[0], 2, 451);
    expect_just(&cl[1], 2, 451);
    assert_int_equal(metrics->gaps, 1);
    assert_int_equal(metrics->repaired, 450);
    assert_int_equal(metrics->unrepaired, 0);
    lobby_say(&cl[0], 452);
    expect_just(&cl[1], 452, 452);
    hang_up(&c, cl);
    (void)state;
}

static void a_notice_shows_the_gap_too(void **state)
{
    struct core c;
    struct client cl[2];
    open_pair(&c, cl, RETAINED);
    c.deaf = true;
    lobby_say(&cl[0], 2);
    c.deaf = false;
    client_vanish(&cl[0]);
    client_expect(&cl[1], "\"message\"", "\"data\":2");
    client_expect(&cl[1], "\"exit\"");
    hang_up(&c, cl);
    (void)state;
}

static void the_link_coming_back_shows_it_without_traffic(void **state)
{
    struct core c;
    struct client cl[2];
    open_pair(&c, cl, RETAINED);
    c.deaf = true;
    lobby_say(&cl[0], 2);
    c.deaf = false;
    c.gw->broker->events->link(c.gw, true);
    expect_just(&cl[1], 2, 2);
    c.gw->broker->events->link(c.gw, true);
    client_expect_nothing(&cl[1]);
    hang_up(&c, cl);
    (void)state;
}

static void a_join_during_a_repair_begins_after_it(void **state)
{
    struct core c;
    struct client cl[3];
    open_pair(&c, cl, RETAINED);
    client_open(&cl[2], &c, "/ws/carol");
    c.deaf = true;
    lobby_say(&cl[0], 2);
    c.deaf = false;
    client_send(&cl[2], "{\"type\":\"join\",\"id\":1,\"room\":\"lobby\"}");
    client_expect(&cl[2], "\"ack\"", "\"position\":\"2.");
    client_expect(&cl[1], "\"data\":2");
    client_expect(&cl[1], "\"enter\"");
    lobby_say(&cl[0], 3);
    expect_just(&cl[2], 3, 3);
    client_vanish(&cl[2]);
    hang_up(&c, cl);
    (void)state;
}

static void what_the_log_no_longer_has_is_counted(void **state)
{
    struct core c;
    struct client cl[2];
    open_pair(&c, cl, SHORT);
    c.deaf = true;
    for (int i = 2; i <= 5; i++)
        lobby_say(&cl[0], i);
    c.deaf = false;
    lobby_say(&cl[0], 6);
    expect_just(&cl[1], 5, 6);
    assert_int_equal(metrics->unrepaired, 3);
    hang_up(&c, cl);
    (void)state;
}

static void without_a_log_the_stream_goes_on_visibly(void **state)
{
    struct core c;
    struct client cl[2];
    open_pair(&c, cl, FORGOTTEN);
    c.deaf = true;
    lobby_say(&cl[0], 2);
    c.deaf = false;
    lobby_say(&cl[0], 3);
    expect_just(&cl[1], 3, 3);
    assert_int_equal(metrics->unrepaired, 1);
    lobby_say(&cl[0], 4);
    expect_just(&cl[1], 4, 4);
    hang_up(&c, cl);
    (void)state;
}

static struct envelope message(uint64_t offset, const char *tag, const char *prev)
{
    struct envelope e = {.kind = ENVELOPE_MESSAGE,
                         .room = SLICE("lobby"),
                         .event = SLICE("message"),
                         .data = SLICE("77"),
                         .position = {.offset = offset}};
    (void)snprintf(e.position.tag, sizeof e.position.tag, "%s", tag);
    (void)snprintf(e.prev, sizeof e.prev, "%s", prev);
    return e;
}

static void duplicates_are_dropped_and_forks_followed(void **state)
{
    struct core c;
    struct client cl[2];
    open_pair(&c, cl, FORGOTTEN);
    const struct broker_events *events = c.gw->broker->events;
    struct position last = room_find(c.gw, SLICE("lobby"))->stream.last;
    struct envelope e = message(2, "aaaaaaaa", last.tag);
    events->envelope(c.gw, &e);
    client_expect(&cl[1], "\"position\":\"2.");
    events->envelope(c.gw, &e);
    client_expect_nothing(&cl[1]);
    assert_int_equal(metrics->duplicates, 1);
    /* The store came back with an older state: offset 2 again, by another message. */
    e = message(2, "bbbbbbbb", last.tag);
    events->envelope(c.gw, &e);
    client_expect(&cl[1], "\"recovered\":false", "\"reason\":\"fork\"", "\"position\":\"1.", last.tag);
    client_expect(&cl[1], "\"position\":\"2.", "bbbbbbbb");
    assert_int_equal(metrics->forks, 1);
    /* And with none at all. */
    e = message(1, "cccccccc", "");
    events->envelope(c.gw, &e);
    client_expect(&cl[1], "\"recovered\":false", "\"position\":\"0\"");
    client_expect(&cl[1], "\"position\":\"1.", "cccccccc");
    assert_int_equal(metrics->forks, 2);
    hang_up(&c, cl);
    (void)state;
}

static void what_is_said_while_the_log_is_read_is_not_lost(void **state)
{
    struct core c;
    struct client cl[2];
    open_pair(&c, cl, RETAINED);
    const struct broker_events *events = c.gw->broker->events;
    c.deaf = true;
    for (int i = 2; i <= 3; i++)
        lobby_say(&cl[0], i);
    c.deaf = false;
    struct envelope e = message(3, "aaaaaaaa", "bbbbbbbb");
    events->envelope(c.gw, &e); /* a page is asked for … */
    client_send(&cl[0], "{\"type\":\"publish\",\"room\":\"lobby\",\"data\":4}");
    e = message(4, "cccccccc", "aaaaaaaa");
    events->envelope(c.gw, &e); /* … and this overtakes its answer */
    loop_fake_run(&c.loop);
    expect_just(&cl[1], 2, 4);
    lobby_say(&cl[0], 5);
    expect_just(&cl[1], 5, 5);
    assert_int_equal(metrics->unrepaired, 0);
    hang_up(&c, cl);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gap_is_read_from_the_log),
        cmocka_unit_test(a_notice_shows_the_gap_too),
        cmocka_unit_test(the_link_coming_back_shows_it_without_traffic),
        cmocka_unit_test(a_join_during_a_repair_begins_after_it),
        cmocka_unit_test(what_the_log_no_longer_has_is_counted),
        cmocka_unit_test(without_a_log_the_stream_goes_on_visibly),
        cmocka_unit_test(duplicates_are_dropped_and_forks_followed),
        cmocka_unit_test(what_is_said_while_the_log_is_read_is_not_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
