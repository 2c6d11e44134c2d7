/* tests/unit/test_fork.c: a store that lost the newest messages of a room, and what a node does about it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/metrics.h"
#include "gateway/room.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"
#include "tests/support/rollback.h"

#define ALL_KEPT ((const char *const[]){"--policy", "* retain-count=1000 notices=off", "--message-rate", "0", NULL})
#define FEW_KEPT                                                                                                       \
    ((const char *const[]){"--policy", "* retain-count=1000 notices=off", "--message-rate", "0", "--tail-bytes",       \
                           "800", NULL})
#define NONE_KEPT                                                                                                      \
    ((const char *const[]){"--policy", "* retain-count=1000 notices=off", "--message-rate", "0", "--tail-bytes", "0",  \
                           NULL})

#define LOBBY SLICE("lobby")

/* Alice and Bob, who have heard 1 to n. */
static void open_pair(struct core *c, struct client *cl, const char *const *args, int n)
{
    core_init(c, args);
    *metrics = (struct metrics){0};
    client_open(&cl[0], c, "/ws/alice");
    client_open(&cl[1], c, "/ws/bob");
    lobby_join(&cl[0]);
    lobby_join(&cl[1]);
    for (int i = 1; i <= n; i++)
        lobby_say(&cl[0], i);
    lobby_expect(&cl[0], 1, n);
    lobby_expect(&cl[1], 1, n);
}

static void hang_up(struct core *c, struct client *cl, int n)
{
    for (int i = 0; i < n; i++)
        client_vanish(&cl[i]);
    loop_fake_run(&c->loop);
    core_fini(c);
    assert_int_equal(metrics->tail_bytes, 0);
}

static void outage_begins(struct core *c)
{
    c->gw->broker->events->link(c->gw, false);
    c->deaf = true;
}

static void outage_ends(struct core *c)
{
    c->deaf = false;
    c->gw->broker->events->link(c->gw, true);
    loop_fake_run(&c->loop);
}

/* What another node publishes. */
static void elsewhere(struct core *c, const struct publish *p)
{
    struct publish q = *p;
    q.room = LOBBY;
    q.event = SLICE("message");
    q.retain_count = 1000;
    c->gw->broker->ops->publish(c->gw->broker, &q, NULL, NULL);
    loop_fake_run(&c->loop);
}

static void elsewhere_say(struct core *c, const char *data)
{
    elsewhere(c, &(struct publish){.data = slice_str(data)});
}

static struct position last_of(const struct core *c)
{
    return room_find(c->gw, LOBBY)->stream.last;
}

static void expect_fork(struct client *cl, int at)
{
    char offset[32];
    (void)snprintf(offset, sizeof offset, "\"offset\":%d,", at);
    client_expect(cl, "\"recovered\":false", "\"reason\":\"fork\"", offset);
}

static void expect_mark(struct client *cl, int at)
{
    char offset[32];
    (void)snprintf(offset, sizeof offset, "\"offset\":%d,", at);
    client_expect(cl, "\"recovered\":true", offset);
}

static void expect_message(struct client *cl, int data, int at)
{
    char text[32], offset[32];
    (void)snprintf(text, sizeof text, "\"data\":%d}", data);
    (void)snprintf(offset, sizeof offset, "\"offset\":%d,", at);
    client_expect(cl, "\"message\"", text, offset);
}

/* Joins with a position. */
static void come_back(struct client *cl, struct core *c, const struct position *at)
{
    char frame[160];
    client_open(cl, c, "/ws/carol");
    (void)snprintf(frame, sizeof frame,
                   "{\"type\":\"join\",\"id\":1,\"room\":\"lobby\",\"position\":{\"offset\":%llu,\"tag\":\"%s\"}}",
                   (unsigned long long)at->offset, at->tag);
    client_send(cl, frame);
    client_expect(cl, "\"type\":\"ack\"");
}

/* 1 to 10 were delivered; the store has 1 to 7, then 100 and 101 from elsewhere. */
static void lose_three(struct core *c)
{
    outage_begins(c);
    rollback(c->gw->broker, LOBBY, 7);
    elsewhere_say(c, "100");
    elsewhere_say(c, "101");
    outage_ends(c);
}

static void what_was_lost_comes_back_once(void **state)
{
    struct core c;
    struct client cl[3];
    open_pair(&c, cl, ALL_KEPT, 6);
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
    client_expect(&cl[2], "\"recovered\":true", "\"offset\":7,");
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
    hang_up(&c, cl, 3);
    (void)state;
}

static void a_position_on_the_lost_branch(void **state)
{
    struct core c;
    struct client cl[3];
    open_pair(&c, cl, ALL_KEPT, 9);
    struct position nine = last_of(&c);
    lobby_say(&cl[0], 10);
    lose_three(&c);
    come_back(&cl[2], &c, &nine);
    expect_fork(&cl[2], 7);
    expect_message(&cl[2], 100, 8);
    expect_message(&cl[2], 101, 9);
    expect_mark(&cl[2], 10);
    expect_mark(&cl[2], 11);
    expect_message(&cl[2], 10, 12);
    client_expect_nothing(&cl[2]);
    hang_up(&c, cl, 3);
    (void)state;
}

/* Back before anybody has appended it again, to a node that has. */
static void a_position_on_the_lost_branch_while_it_is_being_mended(void **state)
{
    struct core c;
    struct client cl[3];
    open_pair(&c, cl, ALL_KEPT, 10);
    struct position ten = last_of(&c);
    c.no_publish = true;
    lose_three(&c);
    come_back(&cl[2], &c, &ten);
    expect_fork(&cl[2], 7);
    expect_message(&cl[2], 100, 8);
    expect_message(&cl[2], 101, 9);
    client_expect_nothing(&cl[2]);
    loop_fake_advance(&c.loop, 5000);
    assert_int_equal(metrics->fork_appended, 0);
    c.no_publish = false;
    loop_fake_advance(&c.loop, 1000);
    for (int at = 10; at <= 12; at++)
        expect_mark(&cl[2], at);
    client_expect_nothing(&cl[2]);
    assert_int_equal(metrics->fork_appended, 3);
    hang_up(&c, cl, 3);
    (void)state;
}

static void a_node_that_was_not_there_learns_from_the_log(void **state)
{
    struct core c;
    struct client cl[2];
    core_init(&c, ALL_KEPT);
    for (int i = 1; i <= 9; i++)
        elsewhere_say(&c, i < 8 ? "1" : "100");
    struct publish again = {.data = SLICE("8"), .was = {.at = {8, "00000000000000a8"}, .since = 7}};
    elsewhere(&c, &again);
    again = (struct publish){.data = SLICE("9"), .was = {.at = {9, "00000000000000a9"}, .since = 7}};
    elsewhere(&c, &again);
    elsewhere_say(&c, "12");
    come_back(&cl[0], &c, &(struct position){8, "00000000000000a8"});
    expect_fork(&cl[0], 7);
    expect_message(&cl[0], 100, 8);
    expect_message(&cl[0], 100, 9);
    expect_mark(&cl[0], 10);
    expect_message(&cl[0], 9, 11);
    expect_message(&cl[0], 12, 12);
    /* It may take a while until all of it is back. */
    again = (struct publish){.data = SLICE("8"), .was = {.at = {8, "00000000000000b8"}, .since = 7}};
    elsewhere(&c, &again);
    expect_mark(&cl[0], 13);
    /* A position that nobody knows: from now on. */
    come_back(&cl[1], &c, &(struct position){9, "00000000000000c9"});
    expect_fork(&cl[1], 13);
    client_expect_nothing(&cl[1]);
    hang_up(&c, cl, 2);
    (void)state;
}

static void who_came_later_has_seen_less(void **state)
{
    struct core c;
    struct client cl[3];
    open_pair(&c, cl, ALL_KEPT, 8);
    client_open(&cl[2], &c, "/ws/carol");
    lobby_join(&cl[2]);
    for (int i = 9; i <= 10; i++)
        lobby_say(&cl[0], i);
    lobby_expect(&cl[2], 9, 10);
    lose_three(&c);
    expect_fork(&cl[2], 7);
    expect_message(&cl[2], 100, 8);
    expect_message(&cl[2], 101, 9);
    expect_message(&cl[2], 8, 10);
    expect_mark(&cl[2], 11);
    expect_mark(&cl[2], 12);
    client_expect_nothing(&cl[2]);
    hang_up(&c, cl, 3);
    (void)state;
}

static void another_node_was_first(void **state)
{
    struct core c;
    struct client cl[2];
    open_pair(&c, cl, ALL_KEPT, 8);
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
    hang_up(&c, cl, 2);
    (void)state;
}

static void its_publisher_was_first(void **state)
{
    struct core c;
    struct client cl[2];
    open_pair(&c, cl, ALL_KEPT, 7);
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
    hang_up(&c, cl, 2);
    (void)state;
}

static void what_nobody_holds_is_counted(void **state)
{
    struct core c;
    struct client cl[2];
    open_pair(&c, cl, FEW_KEPT, 8);
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
    hang_up(&c, cl, 2);
    (void)state;
}

static void without_a_tail_forks_are_told_all_the_same(void **state)
{
    struct core c;
    struct client cl[2];
    open_pair(&c, cl, NONE_KEPT, 10);
    assert_int_equal(metrics->tail_bytes, 0);
    lose_three(&c);
    expect_fork(&cl[1], 7);
    expect_message(&cl[1], 100, 8);
    expect_message(&cl[1], 101, 9);
    client_expect_nothing(&cl[1]);
    assert_int_equal(metrics->fork_appended, 0);
    loop_fake_advance(&c.loop, 11000);
    assert_int_equal(metrics->fork_lost, 3);
    hang_up(&c, cl, 2);
    (void)state;
}

static void an_emptied_store_stays_empty(void **state)
{
    struct core c;
    struct client cl[2];
    open_pair(&c, cl, ALL_KEPT, 10);
    rollback(c.gw->broker, LOBBY, 0); /* while the link is up: FLUSHALL */
    elsewhere_say(&c, "100");
    expect_fork(&cl[1], 0);
    expect_message(&cl[1], 100, 1);
    client_expect_nothing(&cl[1]);
    assert_int_equal(metrics->fork_appended, 0);
    loop_fake_advance(&c.loop, 11000);
    assert_int_equal(metrics->fork_lost, 0); /* removed, not lost */
    hang_up(&c, cl, 2);
    (void)state;
}

static void another_history_altogether(void **state)
{
    struct core c;
    struct client cl[2];
    open_pair(&c, cl, NONE_KEPT, 40); /* 16 of them are known */
    outage_begins(&c);
    rollback(c.gw->broker, LOBBY, 10);
    elsewhere_say(&c, "100");
    outage_ends(&c);
    expect_fork(&cl[1], 11);
    client_expect_nothing(&cl[1]);
    elsewhere_say(&c, "101");
    expect_message(&cl[1], 101, 12);
    assert_int_equal(metrics->fork_appended, 0);
    hang_up(&c, cl, 2);
    (void)state;
}

static void a_young_room_may_lose_everything(void **state)
{
    struct core c;
    struct client cl[2];
    open_pair(&c, cl, ALL_KEPT, 3);
    outage_begins(&c);
    rollback(c.gw->broker, LOBBY, 0);
    elsewhere_say(&c, "100");
    outage_ends(&c);
    expect_fork(&cl[1], 0);
    expect_message(&cl[1], 100, 1);
    for (int at = 2; at <= 4; at++)
        expect_mark(&cl[1], at);
    assert_int_equal(metrics->fork_appended, 3);
    hang_up(&c, cl, 2);
    (void)state;
}

static void it_can_happen_again(void **state)
{
    struct core c;
    struct client cl[3];
    open_pair(&c, cl, ALL_KEPT, 9);
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
    hang_up(&c, cl, 3);
    (void)state;
}

static void a_fork_while_a_client_is_being_caught_up(void **state)
{
    struct core c;
    struct client cl[3];
    open_pair(&c, cl, ALL_KEPT, 1);
    struct position one = last_of(&c);
    for (int i = 2; i <= 300; i++)
        lobby_say(&cl[0], i);
    client_open(&cl[2], &c, "/ws/carol");
    cl[2].window = 0;
    char frame[160];
    (void)snprintf(frame, sizeof frame,
                   "{\"type\":\"join\",\"id\":1,\"room\":\"lobby\",\"position\":{\"offset\":1,\"tag\":\"%s\"}}",
                   one.tag);
    c.cfg.max_queue_bytes = 120000; /* some way into what will be lost */
    client_send(&cl[2], frame);
    loop_fake_run(&c.loop);
    const struct member *m = list_first(&room_find(c.gw, LOBBY)->waiting, struct member, in_room);
    assert_non_null(m->catchup);
    outage_begins(&c);
    rollback(c.gw->broker, LOBBY, 100);
    elsewhere_say(&c, "1000");
    outage_ends(&c);
    client_take(&cl[2], SIZE_MAX);
    client_expect(&cl[2], "\"ack\"");
    client_expect(&cl[2], "\"recovered\":true", "\"offset\":1,");
    bool seen[1001] = {false};
    unsigned forks = 0, messages = 0;
    struct slice text;
    loop_fake_run(&c.loop);
    while (client_next(&cl[2], &text) >= 0) {
        const char *data = strstr(text.p, "\"data\":");
        forks += strstr(text.p, "\"fork\"") != NULL;
        if (data == NULL)
            continue;
        unsigned long i = strtoul(data + 7, NULL, 10);
        assert_false(seen[i]);
        seen[i] = true;
        messages++;
    }
    assert_int_equal(messages, 300);
    assert_int_equal(forks, 1);
    lobby_say(&cl[0], 302);
    expect_message(&cl[2], 302, 302);
    hang_up(&c, cl, 3);
    (void)state;
}

static void a_head_that_does_not_fit_shows_the_fork(void **state)
{
    struct core c;
    struct client cl[3];
    open_pair(&c, cl, ALL_KEPT, 10);
    rollback(c.gw->broker, LOBBY, 7);
    client_open(&cl[2], &c, "/ws/carol");
    lobby_join(&cl[2]);
    expect_fork(&cl[1], 7);
    for (int at = 8; at <= 10; at++)
        expect_mark(&cl[1], at);
    assert_int_equal(metrics->forks, 1);
    hang_up(&c, cl, 3);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_lost_comes_back_once),
        cmocka_unit_test(a_position_on_the_lost_branch),
        cmocka_unit_test(a_position_on_the_lost_branch_while_it_is_being_mended),
        cmocka_unit_test(a_node_that_was_not_there_learns_from_the_log),
        cmocka_unit_test(who_came_later_has_seen_less),
        cmocka_unit_test(another_node_was_first),
        cmocka_unit_test(its_publisher_was_first),
        cmocka_unit_test(what_nobody_holds_is_counted),
        cmocka_unit_test(without_a_tail_forks_are_told_all_the_same),
        cmocka_unit_test(an_emptied_store_stays_empty),
        cmocka_unit_test(another_history_altogether),
        cmocka_unit_test(a_young_room_may_lose_everything),
        cmocka_unit_test(it_can_happen_again),
        cmocka_unit_test(a_fork_while_a_client_is_being_caught_up),
        cmocka_unit_test(a_head_that_does_not_fit_shows_the_fork),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
