/* tests/unit/test_fork_return.c: clients that come back while their room loses its newest messages, or afterwards. */
#include <stdlib.h>
#include <string.h>

#include "gateway/metrics.h"
#include "gateway/room.h"
#include "tests/support/check.h"
#include "tests/support/fork_fixture.h"
#include "tests/support/rollback.h"

static void a_position_on_the_lost_branch(void **state)
{
    struct core c;
    struct client cl[3];
    fork_open(&c, cl, ALL_KEPT, 9);
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
    fork_close(&c, cl, 3);
    (void)state;
}

/* Back before anybody has appended it again, to a node that has. */
static void a_position_on_the_lost_branch_while_it_is_being_mended(void **state)
{
    struct core c;
    struct client cl[3];
    fork_open(&c, cl, ALL_KEPT, 10);
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
    fork_close(&c, cl, 3);
    (void)state;
}

static void a_node_that_was_not_there_learns_from_the_log(void **state)
{
    struct core c;
    struct client cl[2];
    core_init(&c, ALL_KEPT);
    for (int i = 1; i <= 9; i++)
        elsewhere_say(&c, i < 8 ? "1" : "100");
    struct publish again = {.data = SLICE("8"), .was = {.at = {8, "000000a8"}, .since = 7}};
    elsewhere(&c, &again);
    again = (struct publish){.data = SLICE("9"), .was = {.at = {9, "000000a9"}, .since = 7}};
    elsewhere(&c, &again);
    elsewhere_say(&c, "12");
    come_back(&cl[0], &c, &(struct position){8, "000000a8"});
    expect_fork(&cl[0], 7);
    expect_message(&cl[0], 100, 8);
    expect_message(&cl[0], 100, 9);
    expect_mark(&cl[0], 10);
    expect_message(&cl[0], 9, 11);
    expect_message(&cl[0], 12, 12);
    /* It may take a while until all of it is back. */
    again = (struct publish){.data = SLICE("8"), .was = {.at = {8, "000000b8"}, .since = 7}};
    elsewhere(&c, &again);
    expect_mark(&cl[0], 13);
    /* A position that nobody knows: from now on. */
    come_back(&cl[1], &c, &(struct position){9, "000000c9"});
    expect_fork(&cl[1], 13);
    client_expect_nothing(&cl[1]);
    fork_close(&c, cl, 2);
    (void)state;
}

static void who_came_later_has_seen_less(void **state)
{
    struct core c;
    struct client cl[3];
    fork_open(&c, cl, ALL_KEPT, 8);
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
    fork_close(&c, cl, 3);
    (void)state;
}

/* The same of one who comes back: of the lost branch it has seen what came after the position that it says its view began at. */
static void who_came_later_says_so(void **state)
{
    struct core c;
    struct client cl[3];
    char at[POSITION_MAX + 1], start[POSITION_MAX + 1], frame[200];
    fork_open(&c, cl, ALL_KEPT, 8);
    struct position eight = last_of(&c);
    for (int i = 9; i <= 10; i++)
        lobby_say(&cl[0], i);
    struct position ten = last_of(&c);
    lose_three(&c);
    client_open(&cl[2], &c, "/ws/carol");
    (void)snprintf(frame, sizeof frame,
                   "{\"type\":\"join\",\"id\":1,\"room\":\"lobby\",\"position\":\"%s\",\"start\":\"%s\"}",
                   position_text(&ten, at), position_text(&eight, start));
    client_send(&cl[2], frame);
    client_expect(&cl[2], "\"type\":\"ack\"");
    expect_fork(&cl[2], 7);
    expect_message(&cl[2], 100, 8);
    expect_message(&cl[2], 101, 9);
    expect_message(&cl[2], 8, 10);
    expect_mark(&cl[2], 11);
    expect_mark(&cl[2], 12);
    client_expect_nothing(&cl[2]);
    fork_close(&c, cl, 3);
    (void)state;
}

/* A client that comes from a node which knows of a failover, to one whose store has been replaced: it has more than the log, and is right. */
static void a_log_that_ends_too_early_is_not_believed_at_once(void **state)
{
    struct core c;
    struct client cl[4];
    fork_open(&c, cl, ALL_KEPT, 7);
    struct position eight = {8, "00000008"};
    come_back(&cl[2], &c, &eight);
    loop_fake_advance(&c.loop, 1000);
    client_expect_nothing(&cl[2]);
    c.deaf = true;
    elsewhere_say(&c, "8");
    roll_forward(c.gw->broker, LOBBY, &eight);
    c.deaf = false;
    loop_fake_advance(&c.loop, 1000);
    expect_mark(&cl[2], 8);
    elsewhere_say(&c, "9");
    expect_message(&cl[2], 9, 9);
    /* But some time it is: */
    come_back(&cl[3], &c, &(struct position){11, "00000011"});
    loop_fake_advance(&c.loop, 2000);
    client_expect_nothing(&cl[3]);
    loop_fake_advance(&c.loop, 2000);
    expect_fork(&cl[3], 9);
    fork_close(&c, cl, 4);
    (void)state;
}

static void a_fork_while_a_client_is_being_caught_up(void **state)
{
    struct core c;
    struct client cl[3];
    fork_open(&c, cl, ALL_KEPT, 1);
    struct position one = last_of(&c);
    for (int i = 2; i <= 300; i++)
        lobby_say(&cl[0], i);
    client_open(&cl[2], &c, "/ws/carol");
    cl[2].window = 0;
    char frame[160];
    (void)snprintf(frame, sizeof frame, "{\"type\":\"join\",\"id\":1,\"room\":\"lobby\",\"position\":\"1.%s\"}",
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
    client_expect(&cl[2], "\"recovered\":true", "\"position\":\"1.");
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
    fork_close(&c, cl, 3);
    (void)state;
}

/* Its next page comes from the other store already, while this node still thinks that nothing has happened. */
static void a_page_from_another_history_is_noticed(void **state)
{
    struct core c;
    struct client cl[3];
    fork_open(&c, cl, ALL_KEPT, 1);
    struct position one = last_of(&c);
    for (int i = 2; i <= 300; i++)
        lobby_say(&cl[0], i);
    client_open(&cl[2], &c, "/ws/carol");
    cl[2].window = 0;
    c.cfg.max_queue_bytes = 80000;
    join_at(&cl[2], &one);
    loop_fake_run(&c.loop);
    assert_non_null(list_first(&room_find(c.gw, LOBBY)->waiting, struct member, in_room)->catchup);
    rollback(c.gw->broker, LOBBY, 100);
    c.deaf = true;
    for (int i = 0; i < 250; i++)
        elsewhere_say(&c, "1000");
    c.deaf = false;
    client_take(&cl[2], SIZE_MAX);
    client_expect(&cl[2], "\"ack\"");
    client_expect(&cl[2], "\"recovered\":true", "\"position\":\"1.");
    unsigned new_ones = 0, old_ones = 0;
    struct slice text;
    loop_fake_run(&c.loop);
    while (client_next(&cl[2], &text) >= 0) {
        new_ones += strstr(text.p, "\"data\":1000}") != NULL;
        old_ones += strstr(text.p, "\"data\":") != NULL && strstr(text.p, "\"data\":1000}") == NULL;
    }
    assert_int_equal(new_ones, 250);
    assert_int_equal(old_ones, 299);
    fork_close(&c, cl, 3);
    (void)state;
}

static void who_was_caught_up_has_seen_it_too(void **state)
{
    struct core c;
    struct client cl[3];
    fork_open(&c, cl, ALL_KEPT, 5);
    struct position five = last_of(&c);
    for (int i = 6; i <= 10; i++)
        lobby_say(&cl[0], i);
    come_back(&cl[2], &c, &five);
    client_expect(&cl[2], "\"recovered\":true", "\"position\":\"5.");
    lobby_expect(&cl[2], 6, 10);
    lose_three(&c);
    expect_fork(&cl[2], 7);
    expect_message(&cl[2], 100, 8);
    expect_message(&cl[2], 101, 9);
    for (int at = 10; at <= 12; at++)
        expect_mark(&cl[2], at);
    client_expect_nothing(&cl[2]);
    fork_close(&c, cl, 3);
    (void)state;
}

/* A member that does not keep up has seen less of the lost branch than its room. */
static void who_was_set_aside_has_seen_less(void **state)
{
    struct core c;
    struct client cl[2];
    fork_open(&c, cl,
              (const char *const[]){"--policy", "* retain-count=1000 notices=off slow=resume", "--message-rate", "0",
                                    "--max-queue-bytes", "16384", "--max-message-size", "4096", NULL},
              3);
    client_take(&cl[1], 100);
    for (int i = 4; i <= 203; i++)
        lobby_say(&cl[0], i);
    assert_int_equal(metrics->set_aside, 1);
    outage_begins(&c);
    rollback(c.gw->broker, LOBBY, 10);
    elsewhere_say(&c, "300");
    outage_ends(&c);
    assert_int_equal(metrics->fork_appended, 193);
    client_take(&cl[1], SIZE_MAX);
    loop_fake_run(&c.loop);
    unsigned seen[301] = {0}, forks = 0;
    struct slice text;
    while (client_next(&cl[1], &text) >= 0) {
        const char *data = strstr(text.p, "\"data\":");
        forks += strstr(text.p, "\"fork\"") != NULL;
        if (data != NULL)
            seen[strtoul(data + 7, NULL, 10)]++;
    }
    for (int i = 4; i <= 203; i++)
        assert_int_equal(seen[i], 1);
    assert_int_equal(seen[300], 1);
    assert_int_equal(forks, 1);
    lobby_say(&cl[0], 400);
    expect_message(&cl[1], 400, 205);
    fork_close(&c, cl, 2);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_position_on_the_lost_branch),
        cmocka_unit_test(a_position_on_the_lost_branch_while_it_is_being_mended),
        cmocka_unit_test(a_node_that_was_not_there_learns_from_the_log),
        cmocka_unit_test(who_came_later_has_seen_less),
        cmocka_unit_test(who_came_later_says_so),
        cmocka_unit_test(a_log_that_ends_too_early_is_not_believed_at_once),
        cmocka_unit_test(a_fork_while_a_client_is_being_caught_up),
        cmocka_unit_test(a_page_from_another_history_is_noticed),
        cmocka_unit_test(who_was_caught_up_has_seen_it_too),
        cmocka_unit_test(who_was_set_aside_has_seen_less),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
