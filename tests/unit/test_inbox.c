/* tests/unit/test_inbox.c: what waits for a user who is away, and how far he has read. */
#include <stdio.h>

#include "gateway/room.h"
#include "gateway/session.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"

static const char *const kept[] = {
    "--resume-window",          "60",       "--heartbeat",        "3600", "--message-rate", "0", "--policy",
    "$user:bob retain-count=5", "--policy", "* retain-count=100", NULL};

static const char *const plain[] = {"--heartbeat", "3600", "--message-rate", "0", NULL};

static void send_to_bob(struct client *cl, int i, const char *expected)
{
    char frame[128];
    (void)snprintf(frame, sizeof frame, "{\"type\":\"send\",\"id\":%d,\"to\":{\"user\":\"bob\"},\"data\":%d}", i, i);
    client_send(cl, frame);
    client_expect(cl, "\"ack\"", expected);
}

/* These numbers come next, in Bob's inbox, each at the offset of the same number. */
static void expect_numbers(struct client *cl, int from, int to)
{
    for (int i = from; i <= to; i++) {
        char data[24], position[40];
        (void)snprintf(data, sizeof data, "\"data\":%d}", i);
        (void)snprintf(position, sizeof position, "\"room\":\"$user:bob\",\"position\":\"%d.", i);
        client_expect(cl, "\"message\"", position, data);
    }
}

static struct position inbox_at(const struct core *c)
{
    return room_find(c->gw, SLICE("$user:bob"))->stream.last;
}

static void read_up_to(struct client *cl, const struct position *p, const char *expected)
{
    char frame[128], text[POSITION_MAX + 1];
    (void)snprintf(frame, sizeof frame, "{\"type\":\"read\",\"id\":7,\"position\":\"%s\"}", position_text(p, text));
    client_send(cl, frame);
    client_expect(cl, "\"ack\"", "\"id\":7", "\"room\":\"$user:bob\"", expected);
}

static void it_waits_for_who_is_away(void **state)
{
    struct core c;
    struct client alice, phone, laptop;
    (void)state;
    core_init(&c, kept);
    client_open(&alice, &c, "/ws/alice");
    send_to_bob(&alice, 1, "\"stored\":true");
    send_to_bob(&alice, 2, "\"stored\":true");
    client_open(&phone, &c, "/ws/bob");
    client_expect(&phone, "\"recovered\":true", "\"position\":\"0\"");
    expect_numbers(&phone, 1, 2);
    client_open(&laptop, &c, "/ws/bob");
    client_expect(&laptop, "\"recovered\":true");
    expect_numbers(&laptop, 1, 2);
    client_send(&alice, "{\"type\":\"send\",\"id\":9,\"to\":{\"user\":\"bob\"},\"data\":3}");
    client_expect(&alice, "\"ack\",\"id\":9,\"position\":\"3.");
    expect_numbers(&phone, 3, 3);
    expect_numbers(&laptop, 3, 3);
    client_vanish(&phone);
    client_vanish(&laptop);
    loop_fake_run(&c.loop);
    send_to_bob(&alice, 4, "\"stored\":true"); /* his sessions are away, and may come back */
    client_vanish(&alice);
    core_fini(&c);
}

static void what_is_read_is_not_told_again(void **state)
{
    struct core c;
    struct client alice, phone, laptop, late;
    (void)state;
    core_init(&c, kept);
    client_open(&alice, &c, "/ws/alice");
    client_open(&phone, &c, "/ws/bob");
    client_expect(&phone, "\"recovered\":true", "\"position\":\"0\"");
    client_open(&laptop, &c, "/ws/bob");
    client_expect(&laptop, "\"recovered\":true", "\"position\":\"0\"");
    for (int i = 1; i <= 2; i++)
        send_to_bob(&alice, i, "\"position\"");
    struct position second = inbox_at(&c);
    send_to_bob(&alice, 3, "\"position\"");
    struct position third = inbox_at(&c);
    expect_numbers(&phone, 1, 3);
    expect_numbers(&laptop, 1, 3);
    read_up_to(&phone, &second, "\"position\":\"2.");
    client_expect_nothing(&phone);
    client_expect(&laptop, "{\"type\":\"read\",\"room\":\"$user:bob\",\"position\":\"2.");
    client_open(&late, &c, "/ws/bob");
    client_expect(&late, "\"recovered\":true", "\"position\":\"2.");
    expect_numbers(&late, 3, 3);
    read_up_to(&late, &third, "\"position\":\"3.");
    client_expect(&phone, "\"read\"", "\"3.");
    client_expect(&laptop, "\"read\"", "\"3.");
    read_up_to(&laptop, &second, "\"position\":\"3."); /* he has read on meanwhile */
    client_expect_nothing(&phone);
    client_vanish(&late);
    client_open(&late, &c, "/ws/bob");
    client_expect(&late, "\"recovered\":true", "\"position\":\"3.");
    client_expect_nothing(&late);
    for (int i = 0; i < 4; i++)
        client_vanish((struct client *[]){&alice, &phone, &laptop, &late}[i]);
    core_fini(&c);
}

static void only_so_much_is_kept(void **state)
{
    struct core c;
    struct client alice, bob;
    (void)state;
    core_init(&c, kept);
    client_open(&alice, &c, "/ws/alice");
    for (int i = 1; i <= 8; i++)
        send_to_bob(&alice, i, "\"stored\":true");
    client_open(&bob, &c, "/ws/bob");
    client_expect(&bob, "{\"type\":\"recovered\",\"room\":\"$user:bob\",\"recovered\":true,\"total\":0}");
    expect_numbers(&bob, 4, 8);
    struct position at = inbox_at(&c);
    read_up_to(&bob, &at, "\"8.");
    client_send(&bob, "{\"type\":\"nothing\"}");
    client_expect(&bob, "\"error\"");
    bob.conn->keep = false;
    client_vanish(&bob);
    loop_fake_run(&c.loop);
    for (int i = 9; i <= 15; i++)
        send_to_bob(&alice, i, "\"stored\":true");
    client_open(&bob, &c, "/ws/bob");
    client_expect(&bob, "\"recovered\":false,\"reason\":\"expired\",\"total\":0}");
    expect_numbers(&bob, 11, 15);
    client_vanish(&alice);
    client_vanish(&bob);
    core_fini(&c);
}

static void who_resumes_goes_on(void **state)
{
    struct core c;
    struct client alice, bob;
    char frame[300], text[POSITION_MAX + 1];
    (void)state;
    core_init(&c, kept);
    client_open(&alice, &c, "/ws/alice");
    client_open(&bob, &c, "/ws/bob");
    client_expect(&bob, "\"recovered\":true");
    send_to_bob(&alice, 1, "\"position\"");
    expect_numbers(&bob, 1, 1);
    struct position at = inbox_at(&c);
    (void)snprintf(
        frame, sizeof frame,
        "{\"type\":\"resume\",\"id\":9,\"session\":\"%s\",\"token\":\"%s\",\"positions\":[{\"room\":\"$user:bob\","
        "\"position\":\"%s\"}]}",
        bob.conn->session->sid, bob.conn->session->token, position_text(&at, text));
    client_vanish(&bob);
    loop_fake_run(&c.loop);
    send_to_bob(&alice, 2, "\"stored\":true");
    send_to_bob(&alice, 3, "\"stored\":true");
    client_open(&bob, &c, "/ws?resume");
    client_send(&bob, frame);
    client_expect(&bob, "\"welcome\"", "\"resumed\":true");
    client_expect(&bob, "\"recovered\":true", "\"position\":\"1.");
    expect_numbers(&bob, 2, 3);
    send_to_bob(&alice, 4, "\"position\"");
    expect_numbers(&bob, 4, 4);
    client_expect_nothing(&bob);
    client_vanish(&alice);
    client_vanish(&bob);
    core_fini(&c);
}

static void rooms_are_read_on(void **state)
{
    struct core c;
    struct client cl[2], again;
    char frame[128], text[POSITION_MAX + 1];
    (void)state;
    lobby_open_pair(&c, cl, plain);
    lobby_say(&cl[0], 1);
    struct position first = room_find(c.gw, SLICE("lobby"))->stream.last;
    lobby_say(&cl[0], 2);
    lobby_expect(&cl[0], 1, 2);
    client_open(&again, &c, "/ws/alice");
    client_send(&again, "{\"type\":\"join\",\"id\":1,\"room\":\"lobby\",\"position\":\"read\"}");
    client_expect(&again, "\"ack\"");
    client_expect(&again, "\"recovered\":false", "\"no_position\"");
    client_send(&again, "{\"type\":\"leave\",\"id\":1,\"room\":\"lobby\"}");
    client_expect(&again, "\"ack\"");
    (void)snprintf(frame, sizeof frame, "{\"type\":\"read\",\"id\":7,\"room\":\"lobby\",\"position\":\"%s\"}",
                   position_text(&first, text));
    client_send(&again, frame);
    client_expect(&again, "\"not_member\"");
    client_send(&cl[0], frame);
    loop_fake_run(&c.loop);
    client_expect(&again, "{\"type\":\"read\",\"room\":\"lobby\",\"position\":\"1.");
    client_send(&again, "{\"type\":\"join\",\"id\":1,\"room\":\"lobby\",\"position\":\"read\"}");
    client_expect(&again, "\"ack\"");
    client_expect(&again, "\"recovered\":true", "\"position\":\"1.");
    client_expect(&again, "\"message\"", "\"data\":2");
    client_vanish(&again);
    client_vanish(&cl[0]);
    client_vanish(&cl[1]);
    core_fini(&c);
}

static void what_is_not_his_is_refused(void **state)
{
    struct core c;
    struct client bob, nobody;
    (void)state;
    core_init(&c, kept);
    client_open(&bob, &c, "/ws/bob");
    client_expect(&bob, "\"recovered\"");
    client_open(&nobody, &c, "/ws");
    client_send(&nobody, "{\"type\":\"read\",\"id\":1,\"position\":\"1.AAAAAAAA\"}");
    client_expect(&nobody, "\"forbidden\"");
    client_send(&nobody, "{\"type\":\"join\",\"id\":1,\"room\":\"lobby\",\"position\":\"read\"}");
    client_expect(&nobody, "\"forbidden\"");
    client_send(&bob, "{\"type\":\"read\",\"id\":1,\"room\":\"$user:alice\",\"position\":\"1.AAAAAAAA\"}");
    client_expect(&bob, "\"invalid_name\"");
    client_send(&bob, "{\"type\":\"read\",\"id\":1,\"position\":\"0\"}");
    client_expect(&bob, "\"bad_request\"");
    client_send(&bob, "{\"type\":\"read\",\"id\":1,\"position\":null}");
    client_expect(&bob, "\"bad_request\"");
    client_vanish(&bob);
    client_vanish(&nobody);
    core_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_waits_for_who_is_away), cmocka_unit_test(what_is_read_is_not_told_again),
        cmocka_unit_test(only_so_much_is_kept),     cmocka_unit_test(who_resumes_goes_on),
        cmocka_unit_test(rooms_are_read_on),        cmocka_unit_test(what_is_not_his_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
