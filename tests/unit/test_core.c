/* tests/unit/test_core.c: sessions, rooms and commands, on the embedded broker with a fake clock and without sockets. */

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "gateway/metrics.h"
#include "gateway/session.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void hang_up(struct core *c, struct client *clients, size_t n)
{
    for (size_t i = 0; i < n; i++)
        client_vanish(&clients[i]);
    loop_fake_run(&c->loop);
    assert_int_equal(gateway_session_count(c->gw), 0);
    core_fini(c);
}

static void welcome_names_session_user_and_node(void **state)
{
    struct core c;
    struct client cl[2];
    core_init(&c, NULL);
    client_connect(&cl[0], &c, "/ws/al%C3%AFce");
    client_expect(&cl[0], "\"type\":\"welcome\"", cl[0].sid,
                  "\"user\":\"al\xc3\xaf"
                  "ce\"",
                  "\"node\":\"test-node\"", "\"heartbeat\":25");
    client_connect(&cl[1], &c, "/ws");
    client_expect(&cl[1], "\"user\":null");
    hang_up(&c, cl, 2);
    (void)state;
}

static void refused(struct core *c, const char *path, const char *origin, enum err want)
{
    struct conn *conn;
    struct slice subprotocol;
    struct error error = {0};
    struct transport t = {0};
    struct http_request r = {.path = slice_str(path), .origin = slice_str(origin), .ip = SLICE("192.0.2.1")};
    assert_int_equal(gateway_upgrade(c->gw, &r, &t, &conn, &subprotocol, &error), want);
}

static void bad_paths_and_origins_are_refused(void **state)
{
    struct core c;
    core_init(&c, ARGS("--origin", "https://*.example.com"));
    refused(&c, "/nope", NULL, ERR_NOT_FOUND);
    refused(&c, "/ws/%zz", NULL, ERR_INVALID_NAME);
    refused(&c, "/ws/a%00b", NULL, ERR_INVALID_NAME);
    refused(&c, "/ws/%ff", NULL, ERR_INVALID_NAME);
    refused(&c, "/ws", "https://evil.test", ERR_FORBIDDEN);
    core_fini(&c);
    (void)state;
}

static void members_hear_each_other_in_one_order(void **state)
{
    struct core c;
    struct client cl[2];
    core_init(&c, NULL);
    client_open(&cl[0], &c, "/ws/alice");
    client_open(&cl[1], &c, "/ws/bob");
    lobby_join(&cl[0]);
    lobby_join(&cl[1]);
    client_expect(&cl[0], "\"type\":\"enter\"", cl[1].sid, "\"total\":2");
    client_send(&cl[0], "{\"type\":\"publish\",\"id\":\"p\",\"room\":\"lobby\",\"data\":{ \"a\" : [1.50e3] }}");
    client_send(&cl[1], "{\"type\":\"publish\",\"room\":\"lobby\",\"event\":\"x\",\"data\":2}");
    loop_fake_run(&c.loop);
    for (int i = 0; i < 2; i++) {
        if (i == 0)
            client_expect(&cl[i], "\"ack\"", "\"id\":\"p\"", "\"position\":\"1.");
        client_expect(&cl[i], "\"message\"", "\"position\":\"1.", "\"data\":{ \"a\" : [1.50e3] }", "\"alice\"");
        client_expect(&cl[i], "\"message\"", "\"position\":\"2.", "\"data\":2", "\"event\":\"x\"");
        client_expect_nothing(&cl[i]);
    }
    hang_up(&c, cl, 2);
    (void)state;
}

static void echo_false_spares_the_sender(void **state)
{
    struct core c;
    struct client cl[2];
    core_init(&c, NULL);
    client_open(&cl[0], &c, "/ws");
    client_open(&cl[1], &c, "/ws");
    lobby_join(&cl[0]);
    lobby_join(&cl[1]);
    client_expect(&cl[0], "\"enter\"");
    client_send(&cl[0], "{\"type\":\"publish\",\"room\":\"lobby\",\"data\":1,\"echo\":false}");
    client_expect(&cl[1], "\"data\":1");
    client_expect_nothing(&cl[0]);
    hang_up(&c, cl, 2);
    (void)state;
}

static void leaving_ends_the_view_and_tells_the_others(void **state)
{
    struct core c;
    struct client cl[2];
    lobby_open_pair(&c, cl, NULL);
    client_send(&cl[1], "{\"type\":\"leave\",\"id\":9,\"room\":\"lobby\"}");
    client_send(&cl[0], "{\"type\":\"publish\",\"room\":\"lobby\",\"data\":1}");
    client_expect(&cl[1], "\"ack\"", "\"id\":9", "\"total\":1");
    client_expect_nothing(&cl[1]);
    client_expect(&cl[0], "\"exit\"", "\"reason\":\"leave\"", cl[1].sid, "\"total\":1");
    client_expect(&cl[0], "\"data\":1");
    client_send(&cl[1], "{\"type\":\"publish\",\"id\":2,\"room\":\"lobby\",\"data\":1}");
    client_expect(&cl[1], "\"error\"", "\"not_member\"", "\"id\":2");
    client_send(&cl[1], "{\"type\":\"leave\",\"id\":3,\"room\":\"lobby\"}");
    client_expect(&cl[1], "\"not_member\"");
    hang_up(&c, cl, 2);
    (void)state;
}

static void a_vanished_client_exits(void **state)
{
    struct core c;
    struct client cl[2];
    lobby_open_pair(&c, cl, NULL);
    client_vanish(&cl[1]);
    client_expect(&cl[0], "\"exit\"", "\"reason\":\"disconnect\"", "\"total\":1");
    client_send(&cl[0], "{\"type\":\"presence\",\"id\":1,\"room\":\"lobby\"}");
    client_expect(&cl[0], "\"total\":1", cl[0].sid, "\"state\":\"active\"");
    client_send(&cl[0], "{\"type\":\"send\",\"id\":2,\"to\":{\"user\":\"bob\"},\"data\":1}");
    client_expect(&cl[0], "\"not_found\"", "\"id\":2");
    hang_up(&c, cl, 1);
    (void)state;
}

static void private_messages_find_user_and_session(void **state)
{
    struct core c;
    struct client cl[3];
    char frame[160];
    core_init(&c, NULL);
    client_open(&cl[0], &c, "/ws/alice");
    client_open(&cl[1], &c, "/ws/bob");
    client_open(&cl[2], &c, "/ws/bob");
    client_send(&cl[0], "{\"type\":\"send\",\"id\":1,\"to\":{\"user\":\"bob\"},\"data\":\"hi\"}");
    client_expect(&cl[0], "\"ack\"", "\"id\":1");
    client_expect(&cl[1], "\"room\":\"$user:bob\"", "\"data\":\"hi\"", "\"alice\"");
    client_expect(&cl[2], "\"room\":\"$user:bob\"");
    (void)snprintf(frame, sizeof frame, "{\"type\":\"send\",\"id\":2,\"to\":{\"session\":\"%s\"},\"data\":3}",
                   cl[2].sid);
    client_send(&cl[0], frame);
    client_expect(&cl[0], "\"ack\"", "\"id\":2");
    client_expect(&cl[2], "\"room\":\"$session:", "\"data\":3");
    client_expect_nothing(&cl[1]);
    client_send(&cl[0], "{\"type\":\"send\",\"id\":3,\"to\":{\"session\":\"AAAAAAAAAAAAAAAAAAAAAA\"},\"data\":3}");
    client_expect(&cl[0], "\"not_found\"", "\"id\":3");
    client_send(&cl[0], "{\"type\":\"broadcast\",\"data\":4}");
    for (int i = 0; i < 3; i++)
        client_expect(&cl[i], "\"room\":\"$all\"", "\"data\":4");
    hang_up(&c, cl, 3);
    (void)state;
}

static void what_comes_before_the_welcome_waits(void **state)
{
    struct core c;
    struct client cl[2];
    core_init(&c, NULL);
    client_open(&cl[0], &c, "/ws");
    client_connect(&cl[1], &c, "/ws/late");
    client_send(&cl[1], "{\"type\":\"ping\",\"id\":7}"); /* in the same segment as the upgrade */
    assert_true(cl[1].paused);
    client_send(&cl[0], "{\"type\":\"broadcast\",\"data\":1}");
    client_expect(&cl[1], "\"welcome\"");
    assert_false(cl[1].paused);
    loop_fake_run(&c.loop);
    struct slice payload;
    bool pong = false, broadcast = false;
    while (client_next(&cl[1], &payload) >= 0) {
        pong |= strstr(payload.p, "\"pong\"") != NULL;
        broadcast |= strstr(payload.p, "\"$all\"") != NULL;
    }
    assert_true(pong);
    assert_true(broadcast);
    hang_up(&c, cl, 2);
    (void)state;
}

/* Fills the lobby with messages that cl[1] does not read. */
static void overflow(struct core *c, struct client *cl, size_t rounds)
{
    client_open(&cl[0], c, "/ws/alice");
    client_open(&cl[1], c, "/ws/bob");
    lobby_join(&cl[0]);
    lobby_join(&cl[1]);
    client_expect(&cl[0], "\"enter\"");
    client_take(&cl[1], 100); /* part of the first message */
    for (size_t i = 0; i < rounds; i++) {
        char frame[1200];
        (void)snprintf(frame, sizeof frame, "{\"type\":\"publish\",\"room\":\"lobby\",\"data\":\"%zu-%01000d\"}", i, 0);
        client_send(&cl[0], frame);
        client_expect(&cl[0], "\"message\"");
    }
}

static void a_slow_consumer_is_closed_with_its_frames_whole(void **state)
{
    struct core c;
    struct client cl[2];
    struct slice payload;
    int opcode, messages = 0;
    core_init(&c, ARGS("--max-message-size", "4096", "--max-queue-bytes", "16384"));
    uint64_t drops = metrics->drops[DROP_SLOW_CONSUMER];
    overflow(&c, cl, 40);
    assert_int_equal(metrics->drops[DROP_SLOW_CONSUMER], drops + 1);
    assert_true(cl[1].conn->out.bytes < 16384);
    client_take(&cl[1], SIZE_MAX);
    assert_true(cl[1].close_asked);
    while ((opcode = client_next(&cl[1], &payload)) == WS_TEXT)
        messages++;
    assert_int_equal(opcode, WS_CLOSE);
    assert_int_equal((unsigned char)payload.p[0] << 8 | (unsigned char)payload.p[1], 4000);
    assert_int_equal(messages, 1); /* the one that had begun */
    assert_int_equal(cl[1].raw.n, 0);
    client_vanish(&cl[1]);
    client_expect(&cl[0], "\"exit\"");
    hang_up(&c, cl, 1);
    assert_int_equal(metrics->queue_bytes, 0);
    (void)state;
}

static void drop_oldest_keeps_the_newest(void **state)
{
    struct core c;
    struct client cl[2];
    struct slice payload;
    int messages = 0;
    char newest[32] = "";
    core_init(&c, ARGS("--max-message-size", "4096", "--max-queue-bytes", "16384", "--slow-consumer", "drop-oldest"));
    overflow(&c, cl, 40);
    client_take(&cl[1], SIZE_MAX);
    while (client_next(&cl[1], &payload) == WS_TEXT) {
        const char *data = strstr(payload.p, "\"data\":\"");
        assert_non_null(data);
        (void)snprintf(newest, sizeof newest, "%.3s", data + 8);
        messages++;
    }
    assert_in_range(messages, 10, 16);
    assert_string_equal(newest, "39-");
    assert_false(cl[1].close_asked);
    hang_up(&c, cl, 2);
    (void)state;
}

static void silence_is_pinged_then_closed(void **state)
{
    struct core c;
    struct client cl[1];
    struct slice payload;
    core_init(&c, ARGS("--heartbeat", "10"));
    client_open(&cl[0], &c, "/ws");
    loop_fake_advance(&c.loop, 9000);
    assert_int_equal(client_next(&cl[0], &payload), -1);
    loop_fake_advance(&c.loop, 3000);
    assert_int_equal(client_next(&cl[0], &payload), WS_PING);
    client_send(&cl[0], "ping"); /* any input is a sign of life */
    client_expect(&cl[0], "pong");
    loop_fake_advance(&c.loop, 12000);
    assert_int_equal(client_next(&cl[0], &payload), WS_PING);
    loop_fake_advance(&c.loop, 12000);
    client_expect(&cl[0], "\"goodbye\"", "\"idle\"");
    assert_int_equal(client_next(&cl[0], &payload), WS_CLOSE);
    assert_true(cl[0].close_asked);
    hang_up(&c, cl, 1);
    (void)state;
}

static void limits_are_answered(void **state)
{
    struct core c;
    struct client cl[1];
    core_init(&c, ARGS("--max-rooms-per-session", "1", "--message-rate", "5", "--message-burst", "5", "--policy",
                       "closed join=nobody", "--policy", "small size=4 retain-count=0"));
    client_open(&cl[0], &c, "/ws");
    lobby_join(&cl[0]);
    client_send(&cl[0], "{\"type\":\"join\",\"id\":2,\"room\":\"closed\"}");
    client_expect(&cl[0], "\"forbidden\"", "\"id\":2", "\"room\":\"closed\"");
    client_send(&cl[0], "{\"type\":\"join\",\"id\":3,\"room\":\"other\"}");
    client_expect(&cl[0], "\"limit_exceeded\"");
    client_send(&cl[0], "{\"type\":\"history\",\"id\":4,\"room\":\"small\",\"limit\":1}");
    client_expect(&cl[0], "\"unsupported\"");
    client_send(&cl[0], "{\"type\":\"leave\",\"room\":\"lobby\"}");
    client_send(&cl[0], "{\"type\":\"ping\",\"id\":6}");
    client_expect(&cl[0], "\"rate_limited\"", "\"id\":6", "\"retry\":true");
    loop_fake_advance(&c.loop, 1000);
    client_send(&cl[0], "{\"type\":\"join\",\"id\":1,\"room\":\"small\"}");
    client_expect(&cl[0], "\"ack\"");
    client_send(&cl[0], "{\"type\":\"publish\",\"id\":2,\"room\":\"small\",\"data\":12345}");
    client_expect(&cl[0], "\"too_large\"");
    hang_up(&c, cl, 1);
    (void)state;
}

static void too_many_errors_close(void **state)
{
    struct core c;
    struct client cl[1];
    struct slice payload;
    int opcode = 0, errors = 0;
    core_init(&c, ARGS("--message-rate", "0"));
    client_open(&cl[0], &c, "/ws");
    for (int i = 0; i < 200; i++)
        client_send(&cl[0], "nonsense");
    loop_fake_run(&c.loop);
    while ((opcode = client_next(&cl[0], &payload)) == WS_TEXT)
        errors++;
    assert_int_equal(opcode, WS_CLOSE);
    assert_int_equal((unsigned char)payload.p[0] << 8 | (unsigned char)payload.p[1], 1008);
    assert_in_range(errors, 100, 103);
    hang_up(&c, cl, 1);
    (void)state;
}

static void a_full_room_says_so(void **state)
{
    struct core c;
    struct client cl[2];
    core_init(&c, ARGS("--policy", "* max-members=1"));
    client_open(&cl[0], &c, "/ws");
    client_open(&cl[1], &c, "/ws");
    lobby_join(&cl[0]);
    client_send(&cl[1], "{\"type\":\"join\",\"id\":1,\"room\":\"lobby\"}");
    client_expect(&cl[1], "\"limit_exceeded\"", "\"id\":1");
    loop_fake_run(&c.loop);
    client_send(&cl[1], "{\"type\":\"presence\",\"id\":2,\"room\":\"lobby\"}");
    client_expect(&cl[1], "\"total\":1");
    hang_up(&c, cl, 2);
    (void)state;
}

static void input_pauses_while_the_store_is_behind(void **state)
{
    struct core c;
    struct client cl[1];
    core_init(&c, ARGS("--max-requests-per-session", "4"));
    client_open(&cl[0], &c, "/ws");
    lobby_join(&cl[0]);
    for (int i = 0; i < 4; i++)
        client_send(&cl[0], "{\"type\":\"publish\",\"id\":1,\"room\":\"lobby\",\"data\":1}");
    assert_true(cl[0].paused);
    loop_fake_run(&c.loop);
    assert_false(cl[0].paused);
    hang_up(&c, cl, 1);
    (void)state;
}

static void a_session_the_store_refuses_is_sent_away(void **state)
{
    struct core c;
    struct client cl[1];
    struct slice payload;
    core_init(&c, NULL);
    c.store_down = true;
    client_connect(&cl[0], &c, "/ws");
    client_expect(&cl[0], "\"goodbye\"", "\"unavailable\"", "\"reconnect_after\":");
    assert_int_equal(client_next(&cl[0], &payload), WS_CLOSE);
    c.store_down = false;
    client_vanish(&cl[0]);
    loop_fake_advance(&c.loop, 1000);
    hang_up(&c, cl, 0);
    (void)state;
}

static void what_the_store_missed_is_told_again(void **state)
{
    struct core c;
    struct client cl[2];
    lobby_open_pair(&c, cl, NULL);
    c.store_down = true;
    client_vanish(&cl[1]);
    loop_fake_advance(&c.loop, 5000);
    client_expect_nothing(&cl[0]);
    assert_in_range(c.leaves, 2, 20); /* tried again, but not in a spin */
    c.store_down = false;
    loop_fake_advance(&c.loop, 1000);
    client_expect(&cl[0], "\"exit\"", cl[1].sid);
    assert_int_equal(gateway_session_count(c.gw), 1);
    hang_up(&c, cl, 1);
    (void)state;
}

static void a_node_declared_dead_puts_everything_back(void **state)
{
    struct core c;
    struct client cl[1];
    core_init(&c, NULL);
    client_open(&cl[0], &c, "/ws/alice");
    lobby_join(&cl[0]);
    unsigned puts = c.puts;
    c.store_down = true;
    c.gw->broker->events->expelled(c.gw);
    loop_fake_advance(&c.loop, 2000);
    c.store_down = false;
    loop_fake_advance(&c.loop, 2000);
    assert_true(c.puts >= puts + 2);
    client_expect_nothing(&cl[0]);
    client_send(&cl[0], "{\"type\":\"presence\",\"id\":2,\"room\":\"lobby\"}");
    client_expect(&cl[0], "\"total\":1");
    puts = c.puts;
    loop_fake_advance(&c.loop, 5000);
    assert_int_equal(c.puts, puts);
    hang_up(&c, cl, 1);
    (void)state;
}

static void on_drained(void *arg)
{
    ((struct core *)arg)->drained = true;
}

static void draining_says_goodbye_and_leaves_the_store(void **state)
{
    struct core c;
    struct client cl[1];
    struct slice payload;
    core_init(&c, NULL);
    client_open(&cl[0], &c, "/ws/alice");
    lobby_join(&cl[0]);
    assert_null(gateway_not_ready(c.gw));
    gateway_drain(c.gw, on_drained, &c);
    assert_string_equal(gateway_not_ready(c.gw), "draining");
    loop_fake_advance(&c.loop, 20);
    client_expect(&cl[0], "\"goodbye\"", "\"draining\"", "\"reconnect_after\":");
    assert_int_equal(client_next(&cl[0], &payload), WS_CLOSE);
    assert_true(cl[0].close_asked);
    assert_false(c.drained);
    refused(&c, "/ws", NULL, ERR_DRAINING);
    client_vanish(&cl[0]);
    loop_fake_run(&c.loop);
    assert_true(c.drained);
    hang_up(&c, cl, 0);
    (void)state;
}

static void destroy_with_everything_under_way(void **state)
{
    struct core c;
    struct client cl[2];
    core_init(&c, NULL);
    client_open(&cl[0], &c, "/ws/alice");
    client_connect(&cl[1], &c, "/ws/bob");
    client_send(&cl[0], "{\"type\":\"join\",\"id\":1,\"room\":\"a\"}");
    client_send(&cl[0], "{\"type\":\"join\",\"id\":1,\"room\":\"b\"}");
    client_send(&cl[0], "{\"type\":\"leave\",\"id\":1,\"room\":\"b\"}");
    client_send(&cl[0], "{\"type\":\"send\",\"id\":1,\"to\":{\"user\":\"bob\"},\"data\":1}");
    client_vanish(&cl[0]);
    client_vanish(&cl[1]);
    core_fini(&c);
    (void)state;
}

static void history_comes_in_pages(void **state)
{
    struct core c;
    struct client cl[2];
    lobby_open_pair(&c, cl, ARGS("--policy", "* retain-count=300", "--message-rate", "0"));
    for (int i = 1; i <= 10; i++) {
        lobby_say(&cl[0], i);
        lobby_expect(&cl[0], i, i);
        lobby_expect(&cl[1], i, i);
    }
    client_send(&cl[1], "{\"type\":\"history\",\"id\":1,\"room\":\"lobby\",\"after\":3,\"limit\":2}");
    client_expect(&cl[1], "\"message\"", "\"id\":1", "\"data\":4}");
    client_expect(&cl[1], "\"message\"", "\"id\":1", "\"data\":5}");
    client_expect(&cl[1], "\"ack\"", "\"id\":1", "\"position\":\"5.", "\"more\":true");
    client_send(&cl[1], "{\"type\":\"history\",\"id\":2,\"room\":\"lobby\",\"before\":3,\"limit\":5}");
    client_expect(&cl[1], "\"data\":1}");
    client_expect(&cl[1], "\"data\":2}");
    client_expect(&cl[1], "\"ack\"", "\"id\":2", "\"more\":false");
    client_send(&cl[1], "{\"type\":\"history\",\"id\":3,\"room\":\"lobby\",\"limit\":2}");
    client_expect(&cl[1], "\"data\":9}");
    client_expect(&cl[1], "\"data\":10}");
    client_expect(&cl[1], "\"ack\"", "\"position\":\"10.");
    client_send(&cl[1], "{\"type\":\"history\",\"id\":4,\"room\":\"nobody-was-here\"}");
    client_expect(&cl[1], "\"ack\"", "\"id\":4", "\"more\":false");
    client_vanish(&cl[0]);
    client_vanish(&cl[1]);
    core_fini(&c);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(welcome_names_session_user_and_node),
        cmocka_unit_test(bad_paths_and_origins_are_refused),
        cmocka_unit_test(members_hear_each_other_in_one_order),
        cmocka_unit_test(echo_false_spares_the_sender),
        cmocka_unit_test(leaving_ends_the_view_and_tells_the_others),
        cmocka_unit_test(a_vanished_client_exits),
        cmocka_unit_test(private_messages_find_user_and_session),
        cmocka_unit_test(what_comes_before_the_welcome_waits),
        cmocka_unit_test(a_slow_consumer_is_closed_with_its_frames_whole),
        cmocka_unit_test(drop_oldest_keeps_the_newest),
        cmocka_unit_test(silence_is_pinged_then_closed),
        cmocka_unit_test(limits_are_answered),
        cmocka_unit_test(too_many_errors_close),
        cmocka_unit_test(a_full_room_says_so),
        cmocka_unit_test(input_pauses_while_the_store_is_behind),
        cmocka_unit_test(a_session_the_store_refuses_is_sent_away),
        cmocka_unit_test(what_the_store_missed_is_told_again),
        cmocka_unit_test(a_node_declared_dead_puts_everything_back),
        cmocka_unit_test(draining_says_goodbye_and_leaves_the_store),
        cmocka_unit_test(destroy_with_everything_under_way),
        cmocka_unit_test(history_comes_in_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
