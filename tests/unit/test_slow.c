/* tests/unit/test_slow.c: slow=resume: members that do not keep up read on from the room's log, each at its own pace. */
#include <stdio.h>
#include <stdlib.h>

#include "gateway/metrics.h"
#include "gateway/room.h"
#include "gateway/session.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"

#define ARGS(...)  ((const char *const[]){__VA_ARGS__, NULL})
#define QUEUE      ((size_t)16384)
#define QUEUE_TEXT "16384"
#define SMALL                                                                                                          \
    "--max-message-size", "4096", "--max-queue-bytes", QUEUE_TEXT, "--message-rate", "0", "--heartbeat", "3600"
#define RESUME(...) ARGS(SMALL, "--resume-window", "60", "--policy", __VA_ARGS__)

/* Alice says from..to, a kilobyte each, and hears them; nobody else needs to. */
static void say(struct client *cl, int from, int to)
{
    for (int i = from; i <= to; i++) {
        char frame[1200];
        (void)snprintf(frame, sizeof frame, "{\"type\":\"publish\",\"room\":\"lobby\",\"data\":\"%d-%01000d\"}", i, 0);
        client_send(cl, frame);
        client_expect(cl, "\"message\"");
    }
}

/* What Bob gets when he reads: messages from..to, one after the other, and in front of or between them so many frames that tell of a recovery. */
static void expect_all(struct client *cl, int from, int to, int recovered)
{
    struct slice payload;
    int found = 0;
    while (client_next(cl, &payload) == WS_TEXT) {
        if (strstr(payload.p, "\"recovered\"") != NULL) {
            assert_non_null(strstr(payload.p, "\"recovered\":true"));
            found++;
            continue;
        }
        char data[32], offset[32];
        (void)snprintf(data, sizeof data, "\"data\":\"%d-", from);
        (void)snprintf(offset, sizeof offset, "\"position\":\"%d.", from);
        if (strstr(payload.p, data) == NULL || strstr(payload.p, offset) == NULL)
            fail_msg("%d: %.160s", from, payload.p);
        from++;
    }
    assert_int_equal(from, to + 1);
    assert_int_equal(found, recovered);
}

/* Bob, in the lobby with Alice, takes only the beginning of what comes. */
static void open_slow(struct core *c, struct client *cl, const char *const *args)
{
    lobby_open_pair(c, cl, args);
    *metrics = (struct metrics){.sessions = 2};
    client_take(&cl[1], 100);
}

static const struct member *bobs(const struct client *cl)
{
    return session_member(cl[1].conn->session, SLICE("lobby"));
}

static void hang_up(struct core *c, struct client *cl, int n)
{
    for (int i = 0; i < n; i++)
        client_vanish(&cl[i]);
    loop_fake_run(&c->loop);
    loop_fake_advance(&c->loop, 70000);
    assert_int_equal(gateway_session_count(c->gw), 0);
    assert_int_equal(metrics->queue_bytes, 0);
    core_fini(c);
}

static void who_is_behind_reads_on_from_the_log(void **state)
{
    struct core c;
    struct client cl[2];
    open_slow(&c, cl, RESUME("* retain-count=300 slow=resume"));
    say(&cl[0], 1, 150);
    assert_false(cl[1].close_asked);
    assert_true(cl[1].conn->out.bytes <= 2 * QUEUE);
    assert_int_equal(metrics->set_aside, 1);
    assert_int_equal(metrics->drops[DROP_SLOW_CONSUMER] + metrics->drops[DROP_OLDEST], 0);
    client_take(&cl[1], SIZE_MAX);
    loop_fake_run(&c.loop);
    expect_all(&cl[1], 1, 150, 1);
    assert_int_equal(bobs(cl)->phase, MEMBER_JOINED);
    say(&cl[0], 151, 160); /* live again */
    expect_all(&cl[1], 151, 160, 0);
    client_take(&cl[1], 100);
    say(&cl[0], 161, 200); /* and again */
    assert_int_equal(metrics->set_aside, 2);
    client_take(&cl[1], SIZE_MAX);
    loop_fake_run(&c.loop);
    expect_all(&cl[1], 161, 200, 1);
    assert_int_equal(metrics->unrecovered, 0);
    hang_up(&c, cl, 2);
    (void)state;
}

/* Whatever the client's speed, it sees everything once and in order, and never more than its queue waits for it. */
static void at_any_pace(void **state)
{
    static const size_t windows[] = {700, 3000, 9000, 40000};
    for (size_t w = 0; w < ARRAY_LEN(windows); w++) {
        struct core c;
        struct client cl[2];
        open_slow(&c, cl, RESUME("* retain-count=1000 slow=resume"));
        for (int i = 1; i <= 200; i++) {
            say(&cl[0], i, i);
            if (i % 3 == 0)
                client_take(&cl[1], windows[w]);
            assert_false(cl[1].close_asked);
            assert_true(cl[1].conn->out.bytes <= 2 * QUEUE);
        }
        client_take(&cl[1], SIZE_MAX);
        loop_fake_run(&c.loop);
        expect_all(&cl[1], 1, 200, (int)metrics->set_aside);
        assert_true(windows[w] > 5000 || metrics->set_aside > 0);
        hang_up(&c, cl, 2);
    }
    (void)state;
}

/* Sixty kilobytes arrive at once, before any task has a turn. */
static void a_burst_is_not_queued_whole(void **state)
{
    struct core c;
    struct client cl[2];
    open_slow(&c, cl, RESUME("* retain-count=300 slow=resume"));
    for (int i = 1; i <= 60; i++) {
        char frame[1200];
        (void)snprintf(frame, sizeof frame,
                       "{\"type\":\"publish\",\"room\":\"lobby\",\"data\":\"%d-%01000d\",\"echo\":false}", i, 0);
        client_send(&cl[0], frame);
    }
    loop_fake_run(&c.loop);
    assert_false(cl[1].close_asked);
    assert_int_equal(cl[1].conn->state, CONN_OPEN);
    assert_true(cl[1].conn->out.bytes <= 2 * QUEUE);
    client_take(&cl[1], SIZE_MAX);
    loop_fake_run(&c.loop);
    expect_all(&cl[1], 1, 60, 1);
    hang_up(&c, cl, 2);
    (void)state;
}

static void further_behind_than_the_log_is_told(void **state)
{
    struct core c;
    struct client cl[2];
    struct slice payload;
    open_slow(&c, cl, RESUME("* retain-count=5 slow=resume"));
    say(&cl[0], 1, 60);
    client_take(&cl[1], SIZE_MAX);
    loop_fake_run(&c.loop);
    int last = 0, expired = 0;
    while (client_next(&cl[1], &payload) == WS_TEXT) {
        const char *data = strstr(payload.p, "\"data\":\"");
        if (data != NULL) {
            int i = (int)strtol(data + 8, NULL, 10);
            assert_int_equal(i, last + 1);
            last = i;
            continue;
        }
        assert_non_null(strstr(payload.p, "\"recovered\":false,\"reason\":\"expired\""));
        assert_non_null(strstr(payload.p, "\"position\":\"60."));
        expired++;
    }
    assert_true(last >= 10 && last < 40);
    assert_int_equal(expired, 1);
    say(&cl[0], 61, 62);
    expect_all(&cl[1], 61, 62, 0);
    hang_up(&c, cl, 2);
    (void)state;
}

static void nothing_missed_needs_no_log(void **state)
{
    struct core c;
    struct client cl[2];
    int said = 0;
    open_slow(&c, cl, RESUME("* retain-count=1 slow=resume"));
    while (metrics->set_aside == 0) {
        said++;
        say(&cl[0], said, said);
    }
    uint64_t commands = c.gw->broker->stats.commands;
    client_take(&cl[1], SIZE_MAX);
    loop_fake_run(&c.loop);
    expect_all(&cl[1], 1, said, 1);
    assert_int_equal(c.gw->broker->stats.commands, commands);
    hang_up(&c, cl, 2);
    (void)state;
}

static void who_is_behind_is_still_a_member(void **state)
{
    struct core c;
    struct client cl[2];
    open_slow(&c, cl, RESUME("* retain-count=300 slow=resume"));
    say(&cl[0], 1, 40);
    assert_non_null(bobs(cl)->catchup);
    client_send(&cl[1], "{\"type\":\"publish\",\"room\":\"lobby\",\"data\":\"41-\"}");
    client_expect(&cl[0], "\"data\":\"41-\"", cl[1].sid);
    client_send(&cl[0], "{\"type\":\"presence\",\"id\":1,\"room\":\"lobby\"}");
    client_expect(&cl[0], "\"total\":2", cl[1].sid, "\"state\":\"active\"");
    client_take(&cl[1], SIZE_MAX);
    loop_fake_run(&c.loop);
    expect_all(&cl[1], 1, 41, 1);
    client_take(&cl[1], 100);
    say(&cl[0], 42, 80);
    client_send(&cl[1], "{\"type\":\"leave\",\"id\":9,\"room\":\"lobby\"}");
    client_expect(&cl[0], "\"exit\"", "\"reason\":\"leave\"", "\"total\":1");
    assert_null(bobs(cl));
    hang_up(&c, cl, 2);
    (void)state;
}

static void who_is_behind_is_suspended_when_it_goes(void **state)
{
    struct core c;
    struct client cl[2];
    open_slow(&c, cl, RESUME("* retain-count=300 slow=resume"));
    say(&cl[0], 1, 40);
    char sid[SID_LEN + 1];
    memcpy(sid, cl[1].sid, sizeof sid);
    client_vanish(&cl[1]);
    client_expect(&cl[0], "\"suspend\"", sid, "\"total\":2");
    hang_up(&c, cl, 1);
    (void)state;
}

/* Forty rooms, each of which finds the queue full: there is an end to what is added to it. */
static void many_rooms_do_not_add_up(void **state)
{
    struct core c;
    struct client cl[2];
    core_init(&c, RESUME("* retain-count=300 slow=resume"));
    client_open(&cl[0], &c, "/ws/alice");
    client_open(&cl[1], &c, "/ws/bob");
    for (int i = 0; i < 40; i++) {
        char frame[100];
        (void)snprintf(frame, sizeof frame, "{\"type\":\"join\",\"room\":\"r%d\"}", i);
        client_send(&cl[1], frame);
        client_send(&cl[0], frame);
        loop_fake_run(&c.loop);
    }
    client_take(&cl[1], 100);
    for (int i = 0; i < 200 && !cl[1].close_asked && cl[1].conn->state == CONN_OPEN; i++) {
        char frame[3000];
        (void)snprintf(frame, sizeof frame, "{\"type\":\"publish\",\"room\":\"r%d\",\"data\":\"%02500d\"}", i % 40, 0);
        client_send(&cl[0], frame);
        loop_fake_run(&c.loop);
        assert_true(cl[1].conn->out.bytes <= 2 * QUEUE + 4096);
    }
    assert_int_equal(cl[1].conn->state, CONN_CLOSING);
    assert_int_equal(metrics->drops[DROP_SLOW_CONSUMER], 1);
    hang_up(&c, cl, 2);
    (void)state;
}

static void closed_with(const char *const *args, bool close)
{
    struct core c;
    struct client cl[2];
    struct slice payload;
    int opcode;
    open_slow(&c, cl, args);
    say(&cl[0], 1, 60);
    assert_int_equal(metrics->set_aside, close ? 0 : 1);
    client_take(&cl[1], SIZE_MAX);
    while ((opcode = client_next(&cl[1], &payload)) == WS_TEXT)
        ;
    if (close) {
        assert_int_equal(opcode, WS_CLOSE);
        assert_int_equal((unsigned char)payload.p[0] << 8 | (unsigned char)payload.p[1], 4000);
    }
    hang_up(&c, cl, 2);
}

/* A room without a log has nothing to read on from; the option is the rule of rooms that have none of their own. */
static void without_a_log_it_is_closed(void **state)
{
    (void)state;
    closed_with(RESUME("* retain-count=0 slow=resume"), true);
    closed_with(ARGS(SMALL, "--slow-consumer", "resume", "--policy", "* retain-count=0"), true);
    closed_with(ARGS(SMALL, "--slow-consumer", "resume"), false);
    closed_with(ARGS(SMALL, "--slow-consumer", "resume", "--policy", "* slow=disconnect"), true);
}

/* It may be above the limit by itself, as its first attempt is; whatever follows closes the connection, once. */
static void an_answer_above_the_limit_that_is_not_read(void **state)
{
    enum { MANY = 60, LONG = 120 };
    struct core c;
    struct client cl[2], many[MANY];
    char path[8 + 3 * LONG + 1];
    (void)state;
    core_init(&c, ARGS(SMALL, "--policy", "* notices=off"));
    for (int i = 0; i < 2; i++) {
        client_open(&cl[i], &c, "/ws/bob");
        lobby_join(&cl[i]);
    }
    for (int i = 0; i < MANY; i++) {
        int n = snprintf(path, sizeof path, "/ws/%d", 100 + i);
        for (int k = 0; k < LONG; k++)
            n += snprintf(path + n, sizeof path - (size_t)n, "%%22");
        client_open(&many[i], &c, path);
        lobby_join(&many[i]);
    }
    uint64_t drops = metrics->drops[DROP_SLOW_CONSUMER];
    client_take(&cl[1], 100);
    client_send(&cl[1], "{\"type\":\"presence\",\"id\":1,\"room\":\"lobby\",\"limit\":100}");
    loop_fake_run(&c.loop);
    assert_int_equal(cl[1].conn->state, CONN_OPEN);
    assert_true(cl[1].conn->out.bytes > QUEUE);
    client_send(&cl[1], "ping");
    loop_fake_run(&c.loop);
    assert_int_equal(metrics->drops[DROP_SLOW_CONSUMER], drops + 1);
    assert_int_equal(cl[1].conn->state, CONN_CLOSING);
    for (int i = 0; i < MANY; i++)
        client_vanish(&many[i]);
    hang_up(&c, cl, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_is_behind_reads_on_from_the_log),
        cmocka_unit_test(at_any_pace),
        cmocka_unit_test(a_burst_is_not_queued_whole),
        cmocka_unit_test(further_behind_than_the_log_is_told),
        cmocka_unit_test(nothing_missed_needs_no_log),
        cmocka_unit_test(who_is_behind_is_still_a_member),
        cmocka_unit_test(who_is_behind_is_suspended_when_it_goes),
        cmocka_unit_test(many_rooms_do_not_add_up),
        cmocka_unit_test(without_a_log_it_is_closed),
        cmocka_unit_test(an_answer_above_the_limit_that_is_not_read),
    };
    return cmocka_run_group_tests_name("slow consumers", tests, NULL, NULL);
}
