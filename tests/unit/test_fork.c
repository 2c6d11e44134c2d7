/* tests/unit/test_fork.c: a store that lost the newest messages of a room, and what a node does about it. */
#include <stdlib.h>
#include <string.h>

#include "gateway/metrics.h"
#include "gateway/room.h"
#include "tests/support/check.h"
#include "tests/support/fork_fixture.h"
#include "tests/support/rollback.h"

static void what_was_lost_comes_back_once(void **state)
{
    struct core c;
    struct client cl[3];
    fork_open(&c, cl, ALL_KEPT, 6);
    lobby_say(&cl[0], 7);
    lobby_expect(&cl[0], 7, 7);
    lobby_expect(&cl[1], 7, 7);
    struct position before = last_of(&c);
    for (int i = 8; i <= 10; i++)
        lobby_say(&cl[0], i);
    lobby_expect(&cl[0], 8, 10);
    lobby_expect(&cl[1], 8, 10);
    lose_three(&c);
    for (int i = 0; i < 2; i++) {
        expect_fork(&cl[i], 7);
        expect_message(&cl[i], 100, 8);
        expect_message(&cl[i], 101, 9);
        for (int at = 10; at <= 12; at++)
            expect_mark(&cl[i], at);
        client_expect_nothing(&cl[i]);
    }
    assert_int_equal(metrics->forks, 1);
    assert_int_equal(metrics->fork_appended, 3);
    /* Somebody who had seen what both branches have. */
    come_back(&cl[2], &c, &before);
    client_expect(&cl[2], "\"recovered\":true", "\"position\":\"7.");
    expect_message(&cl[2], 100, 8);
    expect_message(&cl[2], 101, 9);
    for (int i = 8; i <= 10; i++)
        expect_message(&cl[2], i, i + 2);
    for (int i = 0; i < 3; i++)
        client_expect_nothing(&cl[i]);
    lobby_say(&cl[0], 13);
    for (int i = 0; i < 3; i++)
        expect_message(&cl[i], 13, 13);
    outage_begins(&c);
    outage_ends(&c);
    loop_fake_advance(&c.loop, 11000);
    assert_int_equal(metrics->forks, 1);
    assert_int_equal(metrics->fork_lost, 0);
    fork_close(&c, cl, 3);
    (void)state;
}

/* A store that is only just taking over has, for an instant, less than it will: no history is lost by that, and nobody is told so. */
static void a_store_that_lags_for_an_instant(void **state)
{
    struct core c;
    struct client cl[2];
    fork_open(&c, cl, ALL_KEPT, 8);
    outage_begins(&c);
    elsewhere_say(&c, "100");
    c.lagging_head = (struct position){.offset = 5, .tag = "lagging_"};
    outage_ends(&c);
    for (int i = 0; i < 2; i++) {
        expect_message(&cl[i], 100, 9);
        client_expect_nothing(&cl[i]);
    }
    assert_int_equal(c.lagging_head.offset, 0);
    assert_int_equal(metrics->forks, 0);
    fork_close(&c, cl, 2);
    (void)state;
}

static void another_node_was_first(void **state)
{
    struct core c;
    struct client cl[2];
    fork_open(&c, cl, ALL_KEPT, 8);
    struct publish again = {.data = SLICE("8"), .was = {.at = last_of(&c), .since = 7}};
    for (int i = 9; i <= 10; i++)
        lobby_say(&cl[0], i);
    lobby_expect(&cl[1], 9, 10);
    outage_begins(&c);
    rollback(c.gw->broker, LOBBY, 7);
    elsewhere(&c, &again);
    outage_ends(&c);
    expect_fork(&cl[1], 7);
    for (int at = 8; at <= 10; at++)
        expect_mark(&cl[1], at);
    assert_int_equal(metrics->fork_appended, 2);
    /* And one that is late. */
    elsewhere(&c, &again);
    client_expect_nothing(&cl[1]);
    loop_fake_advance(&c.loop, 11000);
    assert_int_equal(metrics->fork_lost, 0);
    fork_close(&c, cl, 2);
    (void)state;
}

static void its_publisher_was_first(void **state)
{
    struct core c;
    struct client cl[2];
    fork_open(&c, cl, ALL_KEPT, 7);
    client_send(&cl[0], "{\"type\":\"publish\",\"room\":\"lobby\",\"data\":8,\"key\":\"k8\"}");
    client_send(&cl[0], "{\"type\":\"publish\",\"room\":\"lobby\",\"data\":9,\"key\":\"k9\"}");
    lobby_expect(&cl[1], 8, 9);
    outage_begins(&c);
    rollback(c.gw->broker, LOBBY, 7);
    elsewhere(&c, &(struct publish){.data = SLICE("9"), .key = SLICE("k9")});
    outage_ends(&c);
    expect_fork(&cl[1], 7);
    expect_mark(&cl[1], 8);
    expect_mark(&cl[1], 9);
    client_expect_nothing(&cl[1]);
    assert_int_equal(metrics->fork_appended, 1);
    /* The other one is repeated only now. */
    elsewhere(&c, &(struct publish){.data = SLICE("8"), .key = SLICE("k8")});
    client_expect_nothing(&cl[1]);
    loop_fake_advance(&c.loop, 11000);
    assert_int_equal(metrics->fork_lost, 0);
    fork_close(&c, cl, 2);
    (void)state;
}

static void what_nobody_holds_is_counted(void **state)
{
    struct core c;
    struct client cl[2];
    fork_open(&c, cl, FEW_KEPT, 8);
    struct publish again = {.data = SLICE("8"), .was = {.at = last_of(&c), .since = 7}};
    for (int i = 9; i <= 12; i++)
        lobby_say(&cl[0], i);
    lobby_expect(&cl[1], 9, 12);
    outage_begins(&c);
    rollback(c.gw->broker, LOBBY, 7);
    outage_ends(&c);
    expect_fork(&cl[1], 7);
    uint64_t held = metrics->fork_appended;
    assert_in_range(held, 1, 3);
    for (uint64_t i = 1; i <= held; i++)
        expect_mark(&cl[1], (int)(7 + i));
    /* Another node had one of them. */
    elsewhere(&c, &again);
    expect_mark(&cl[1], (int)(8 + held));
    assert_int_equal(metrics->fork_lost, 0);
    loop_fake_advance(&c.loop, 11000);
    assert_int_equal(metrics->fork_lost, 5 - held - 1);
    fork_close(&c, cl, 2);
    (void)state;
}

static void without_a_tail_forks_are_told_all_the_same(void **state)
{
    struct core c;
    struct client cl[2];
    fork_open(&c, cl, NONE_KEPT, 10);
    assert_int_equal(metrics->tail_bytes, 0);
    lose_three(&c);
    expect_fork(&cl[1], 7);
    expect_message(&cl[1], 100, 8);
    expect_message(&cl[1], 101, 9);
    client_expect_nothing(&cl[1]);
    assert_int_equal(metrics->fork_appended, 0);
    loop_fake_advance(&c.loop, 11000);
    assert_int_equal(metrics->fork_lost, 3);
    assert_int_equal(metrics->unrepaired, 0);
    fork_close(&c, cl, 2);
    (void)state;
}

static void an_emptied_store_stays_empty(void **state)
{
    struct core c;
    struct client cl[2];
    fork_open(&c, cl, ALL_KEPT, 10);
    rollback(c.gw->broker, LOBBY, 0); /* while the link is up: FLUSHALL */
    elsewhere_say(&c, "100");
    expect_fork(&cl[1], 0);
    expect_message(&cl[1], 100, 1);
    client_expect_nothing(&cl[1]);
    assert_int_equal(metrics->fork_appended, 0);
    loop_fake_advance(&c.loop, 11000);
    assert_int_equal(metrics->fork_lost, 0); /* removed, not lost */
    fork_close(&c, cl, 2);
    (void)state;
}

static void another_history_altogether(void **state)
{
    struct core c;
    struct client cl[2];
    fork_open(&c, cl, NONE_KEPT, 40); /* 16 of them are known */
    outage_begins(&c);
    rollback(c.gw->broker, LOBBY, 10);
    elsewhere_say(&c, "100");
    outage_ends(&c);
    expect_fork(&cl[1], 11);
    client_expect_nothing(&cl[1]);
    elsewhere_say(&c, "101");
    expect_message(&cl[1], 101, 12);
    assert_int_equal(metrics->fork_appended, 0);
    fork_close(&c, cl, 2);
    (void)state;
}

static void a_young_room_may_lose_everything(void **state)
{
    struct core c;
    struct client cl[2];
    fork_open(&c, cl, ALL_KEPT, 3);
    outage_begins(&c);
    rollback(c.gw->broker, LOBBY, 0);
    elsewhere_say(&c, "100");
    outage_ends(&c);
    expect_fork(&cl[1], 0);
    expect_message(&cl[1], 100, 1);
    for (int at = 2; at <= 4; at++)
        expect_mark(&cl[1], at);
    assert_int_equal(metrics->fork_appended, 3);
    fork_close(&c, cl, 2);
    (void)state;
}

static void it_can_happen_again(void **state)
{
    struct core c;
    struct client cl[3];
    fork_open(&c, cl, ALL_KEPT, 9);
    struct position nine = last_of(&c);
    lobby_say(&cl[0], 10);
    lobby_expect(&cl[1], 10, 10);
    outage_begins(&c);
    rollback(c.gw->broker, LOBBY, 7);
    outage_ends(&c);
    expect_fork(&cl[1], 7);
    for (int at = 8; at <= 10; at++)
        expect_mark(&cl[1], at);
    outage_begins(&c);
    rollback(c.gw->broker, LOBBY, 8); /* 9 and 10 are lost once more */
    elsewhere_say(&c, "100");
    outage_ends(&c);
    expect_fork(&cl[1], 8);
    expect_message(&cl[1], 100, 9);
    expect_mark(&cl[1], 10);
    expect_mark(&cl[1], 11);
    client_expect_nothing(&cl[1]);
    /* The position on the first branch still means something. */
    come_back(&cl[2], &c, &nine);
    expect_fork(&cl[2], 7);
    expect_mark(&cl[2], 8);
    expect_message(&cl[2], 100, 9);
    loop_fake_advance(&c.loop, 11000);
    assert_int_equal(metrics->fork_lost, 0);
    fork_close(&c, cl, 3);
    (void)state;
}

static void a_head_of_another_branch_shows_the_fork(void **state)
{
    struct core c;
    struct client cl[3];
    fork_open(&c, cl, ALL_KEPT, 8);
    rollback(c.gw->broker, LOBBY, 7);
    c.deaf = true;
    elsewhere_say(&c, "100");
    c.deaf = false;
    client_open(&cl[2], &c, "/ws/carol");
    lobby_join(&cl[2]);
    expect_fork(&cl[1], 7);
    expect_message(&cl[1], 100, 8);
    expect_mark(&cl[1], 9);
    client_expect_nothing(&cl[1]);
    fork_close(&c, cl, 3);
    (void)state;
}

/* A last word of the old primary must not be what the new history is measured by. */
static void a_message_from_a_third_history_is_not_believed(void **state)
{
    struct core c;
    struct client cl[2];
    fork_open(&c, cl, NONE_KEPT, 40);
    rollback(c.gw->broker, LOBBY, 10);
    struct envelope e = {.kind = ENVELOPE_MESSAGE,
                         .room = LOBBY,
                         .event = SLICE("message"),
                         .data = SLICE("77"),
                         .position = {9, "aaaaaaaa"},
                         .prev = "bbbbbbbb"};
    c.gw->broker->events->envelope(c.gw, &e);
    loop_fake_run(&c.loop);
    assert_int_equal(last_of(&c).offset, 10);
    assert_in_range(metrics->forks, 1, 2);
    lobby_say(&cl[0], 11);
    client_expect(&cl[1], "\"fork\"");
    fork_close(&c, cl, 2);
    (void)state;
}

static void another_failover_before_all_is_mended(void **state)
{
    struct core c;
    struct client cl[3];
    fork_open(&c, cl, ALL_KEPT, 7);
    struct position seven = last_of(&c);
    for (int i = 8; i <= 10; i++)
        lobby_say(&cl[0], i);
    lobby_expect(&cl[1], 8, 10);
    c.no_publish = true;
    lose_three(&c);
    expect_fork(&cl[1], 7);
    expect_message(&cl[1], 100, 8);
    expect_message(&cl[1], 101, 9);
    outage_begins(&c);
    rollback(c.gw->broker, LOBBY, 8);
    elsewhere_say(&c, "200");
    c.no_publish = false;
    outage_ends(&c);
    loop_fake_advance(&c.loop, 1000);
    expect_fork(&cl[1], 8);
    expect_message(&cl[1], 200, 9);
    for (int at = 10; at <= 13; at++)
        expect_mark(&cl[1], at);
    client_expect_nothing(&cl[1]);
    come_back(&cl[2], &c, &seven);
    client_expect(&cl[2], "\"recovered\":true", "\"position\":\"7.");
    static const int order[] = {100, 200, 8, 9, 10, 101};
    for (int i = 0; i < 6; i++)
        expect_message(&cl[2], order[i], 8 + i);
    loop_fake_advance(&c.loop, 11000);
    assert_int_equal(metrics->fork_appended, 4);
    assert_int_equal(metrics->fork_lost, 0);
    assert_int_equal(metrics->unrepaired, 0);
    fork_close(&c, cl, 3);
    (void)state;
}

static void a_head_that_does_not_fit_shows_the_fork(void **state)
{
    struct core c;
    struct client cl[3];
    fork_open(&c, cl, ALL_KEPT, 10);
    rollback(c.gw->broker, LOBBY, 7);
    client_open(&cl[2], &c, "/ws/carol");
    lobby_join(&cl[2]);
    expect_fork(&cl[1], 7);
    for (int at = 8; at <= 10; at++)
        expect_mark(&cl[1], at);
    assert_int_equal(metrics->forks, 1);
    fork_close(&c, cl, 3);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_lost_comes_back_once),
        cmocka_unit_test(a_store_that_lags_for_an_instant),
        cmocka_unit_test(another_node_was_first),
        cmocka_unit_test(its_publisher_was_first),
        cmocka_unit_test(what_nobody_holds_is_counted),
        cmocka_unit_test(without_a_tail_forks_are_told_all_the_same),
        cmocka_unit_test(an_emptied_store_stays_empty),
        cmocka_unit_test(another_history_altogether),
        cmocka_unit_test(a_young_room_may_lose_everything),
        cmocka_unit_test(it_can_happen_again),
        cmocka_unit_test(a_head_of_another_branch_shows_the_fork),
        cmocka_unit_test(a_message_from_a_third_history_is_not_believed),
        cmocka_unit_test(another_failover_before_all_is_mended),
        cmocka_unit_test(a_head_that_does_not_fit_shows_the_fork),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
