/* tests/unit/test_engine.c: Socket.IO clients in the core, frame by frame: opening, heartbeats, namespaces, what closes what, and readers that are slow. */
#include <stdio.h>

#include "base/mem.h"
#include "gateway/engine.h"
#include "gateway/metrics.h"
#include "gateway/socketio_rules.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"

#define V4 "/socket.io/?EIO=4&transport=websocket"
#define V3 "/socket.io?EIO=3&transport=websocket"

static struct core core;

static void open_core(const char *const *args)
{
    memset(metrics, 0, sizeof *metrics);
    core_init(&core, args);
}

static void close_core(struct client *cl, size_t n)
{
    for (size_t i = 0; i < n; i++)
        client_vanish(&cl[i]);
    loop_fake_run(&core.loop);
    assert_int_equal(metrics->engines, 0);
    assert_int_equal(metrics->sessions, 0);
    assert_int_equal(metrics->queue_bytes, 0);
    assert_null(core.gw->namespaces);
    core_fini(&core);
}

/* Takes the sid out of {"sid":"…"}. */
static void take_sid(struct client *cl)
{
    struct slice payload;
    loop_fake_run(&core.loop);
    assert_int_equal(client_next(cl, &payload), WS_TEXT);
    const char *at = strstr(payload.p, "\"sid\":\"");
    assert_non_null(at);
    memcpy(cl->sid, at + 7, SID_LEN);
}

static void open_v4(struct client *cl)
{
    client_connect(cl, &core, V4);
    client_expect(cl, "0{\"sid\":\"",
                  "\"upgrades\":[],\"pingInterval\":", "000,\"pingTimeout\":20000,\"maxPayload\":65536}");
    client_send(cl, "40");
    take_sid(cl);
}

static void open_v3(struct client *cl)
{
    client_connect(cl, &core, V3);
    take_sid(cl);
    client_expect(cl, "40");
}

static void expect_exactly(struct client *cl, const char *want)
{
    struct slice payload;
    loop_fake_run(&core.loop);
    assert_int_equal(client_next(cl, &payload), WS_TEXT);
    assert_slice(payload, want);
}

static void expect_close(struct client *cl, int code)
{
    struct slice payload;
    loop_fake_run(&core.loop);
    assert_int_equal(client_next(cl, &payload), WS_CLOSE);
    assert_int_equal((unsigned char)payload.p[0] << 8 | (unsigned char)payload.p[1], code);
    assert_true(cl->close_asked);
}

/* --- opening --- */

static void what_is_no_socketio_handshake(void **state)
{
    static const char *const queries[] = {"EIO=4", "EIO=4&transport=polling", "EIO=4&transport=tesla",
                                          "EIO=4&transport=websocket&sid=abc", ""};
    (void)state;
    open_core(NULL);
    for (size_t i = 0; i < ARRAY_LEN(queries); i++) {
        struct client cl;
        struct error error;
        struct slice subprotocol;
        assert_int_equal(client_ask(&cl, &core,
                                    (struct http_request){.path = SLICE("/socket.io/"), .query = slice_str(queries[i])},
                                    &subprotocol, &error),
                         ERR_BAD_REQUEST);
    }
    close_core(NULL, 0);
}

static void paths_and_the_switch(void **state)
{
    static const char *const paths[] = {"--socketio-path", "/a/", "--socketio-path", "/b/ws", NULL};
    static const char *const off[] = {"--socketio", "off", NULL};
    struct client cl[3];
    struct error error;
    struct slice subprotocol;
    (void)state;
    open_core(paths);
    client_connect(&cl[0], &core, "/a?EIO=4&transport=websocket");
    client_connect(&cl[1], &core, "/a/?EIO=4&transport=websocket");
    client_connect(&cl[2], &core, "/b/ws/?EIO=4&transport=websocket");
    for (size_t i = 0; i < 3; i++)
        client_expect(&cl[i], "0{");
    struct http_request r = {.path = SLICE("/socket.io/"), .query = SLICE("EIO=4&transport=websocket")};
    struct client refused;
    assert_int_equal(client_ask(&refused, &core, r, &subprotocol, &error), ERR_NOT_FOUND);
    close_core(cl, 3);
    open_core(off);
    assert_int_equal(client_ask(&refused, &core, r, &subprotocol, &error), ERR_NOT_FOUND);
    close_core(NULL, 0);
}

static void a_client_must_connect_a_namespace_in_time(void **state)
{
    static const char *const args[] = {"--socketio-connect-timeout", "1s", "--socketio-ping-interval", "10s", NULL};
    struct client cl[3];
    (void)state;
    open_core(args);
    client_connect(&cl[0], &core, V4);
    client_connect(&cl[1], &core, V4);
    client_expect(&cl[0], "0{");
    client_expect(&cl[1], "0{");
    open_v3(&cl[2]);
    client_send(&cl[1], "40");
    client_expect(&cl[1], "40{\"sid\":");
    loop_fake_advance(&core.loop, 999);
    client_expect_nothing(&cl[0]);
    loop_fake_advance(&core.loop, 1);
    expect_close(&cl[0], 1008);
    client_expect_nothing(&cl[1]);
    client_expect_nothing(&cl[2]);
    close_core(cl, 3);
}

/* --- heartbeats --- */

static void revision_4_is_pinged(void **state)
{
    static const char *const args[] = {"--socketio-ping-interval", "300ms", "--socketio-ping-timeout", "200ms", NULL};
    struct client cl;
    (void)state;
    open_core(args);
    client_connect(&cl, &core, V4);
    client_expect(&cl, "\"pingInterval\":300,\"pingTimeout\":200");
    for (int i = 0; i < 3; i++) {
        loop_fake_advance(&core.loop, 300);
        expect_exactly(&cl, "2");
        client_send(&cl, "3");
    }
    loop_fake_advance(&core.loop, 300);
    expect_exactly(&cl, "2");
    loop_fake_advance(&core.loop, 199);
    client_expect_nothing(&cl);
    loop_fake_advance(&core.loop, 1);
    expect_close(&cl, 1001);
    assert_int_equal(metrics->drops[DROP_IDLE], 1);
    close_core(&cl, 1);
}

static void revision_3_pings(void **state)
{
    static const char *const args[] = {"--socketio-ping-interval", "300ms", "--socketio-ping-timeout", "200ms", NULL};
    struct client cl;
    (void)state;
    open_core(args);
    open_v3(&cl);
    for (int i = 0; i < 3; i++) {
        loop_fake_advance(&core.loop, 400);
        client_send(&cl, i == 1 ? "2probe" : "2");
        expect_exactly(&cl, i == 1 ? "3probe" : "3");
    }
    loop_fake_advance(&core.loop, 499);
    client_expect_nothing(&cl);
    loop_fake_advance(&core.loop, 1);
    expect_close(&cl, 1001);
    close_core(&cl, 1);
}

static void what_ends_the_connection(void **state)
{
    static const struct {
        bool v3;
        const char *text;
    } cases[] = {
        {false, "2"},
        {false, "x"},
        {false, "47"},
        {false, "42[\"connect\"]"},
        {false, "42/x,[\"a\"]"},
        {false, "41/x,"},
        {false, "40"},
        {false, "452-[\"a\"]"},
        {false, "4abc"},
        {false, "44{}"},
        {true, "3"},
        {true, "42/x,[\"a\"]"},
        {true, "9"},
        {true, "42{}"},
    };
    (void)state;
    open_core(NULL);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct client cl;
        (cases[i].v3 ? open_v3 : open_v4)(&cl);
        client_send(&cl, cases[i].text);
        if (strncmp(cases[i].text, "45", 2) == 0)
            client_send(&cl, "42[\"a\"]"); /* while attachments are missing */
        expect_close(&cl, 1008);
        assert_int_equal(metrics->drops[DROP_SOCKETIO], i + 1);
        client_vanish(&cl);
    }
    close_core(NULL, 0);
}

static void a_client_may_close_by_a_packet(void **state)
{
    struct client cl;
    (void)state;
    open_core(NULL);
    open_v3(&cl);
    client_send(&cl, "5");
    client_send(&cl, "6");
    client_expect_nothing(&cl);
    client_send(&cl, "1");
    expect_close(&cl, 1000);
    close_core(&cl, 1);
}

/* --- namespaces --- */

static void namespaces_are_sessions(void **state)
{
    static const char *const args[] = {"--socketio-namespace", "/game-*", NULL};
    struct client cl[2];
    (void)state;
    open_core(args);
    open_v4(&cl[0]);
    assert_int_equal(metrics->sessions, 1);
    client_send(&cl[0], "40/random,");
    expect_exactly(&cl[0], "44/random,{\"message\":\"Invalid namespace\"}");
    client_send(&cl[0], "40/game-1,{\"user\":\"ann\"}");
    client_expect(&cl[0], "40/game-1,{\"sid\":\"");
    assert_int_equal(metrics->sessions, 2);
    client_send(&cl[0], "42/game-1,0[\"join\",\"hall\"]");
    client_expect(&cl[0], "43/game-1,0[{\"type\":\"ack\",\"room\":\"/game-1,hall\",", "\"total\":1}]");
    client_open(&cl[1], &core, "/ws/ben");
    client_send(&cl[1], "{\"type\":\"join\",\"room\":\"/game-1,hall\",\"id\":1}");
    client_expect(&cl[1], "ack");
    client_expect(&cl[0], "42/game-1,[\"$enter\",{\"type\":\"enter\",\"room\":\"/game-1,hall\"", "\"user\":\"ben\"");
    client_send(&cl[1], "{\"type\":\"publish\",\"room\":\"/game-1,hall\",\"event\":\"e\",\"data\":[1]}");
    expect_exactly(&cl[0], "42/game-1,[\"e\",[1]]");
    client_expect(&cl[1], "\"data\":[1]");
    client_send(&cl[1], "{\"type\":\"send\",\"to\":{\"user\":\"ann\"},\"data\":2}");
    expect_exactly(&cl[0], "42/game-1,[\"message\",2]");
    /* leaving one leaves the other alone */
    client_send(&cl[0], "41/game-1,");
    client_expect(&cl[1], "\"exit\"", "\"user\":\"ann\"", "\"reason\":\"disconnect\"");
    client_expect_nothing(&cl[0]);
    assert_int_equal(metrics->sessions, 2);
    client_send(&cl[0], "42[\"ping\"]");
    client_send(&cl[0], "421[\"ping\"]");
    client_expect(&cl[0], "431[{\"type\":\"pong\",\"time\":");
    /* and it may be connected again */
    client_send(&cl[0], "40/game-1,");
    client_expect(&cl[0], "40/game-1,{\"sid\":\"");
    client_send(&cl[0], "41");
    client_expect_nothing(&cl[0]);
    assert_false(cl[0].close_asked);
    client_send(&cl[0], "40");
    client_expect(&cl[0], "40{\"sid\":\"");
    close_core(cl, 2);
}

static void revision_3_is_in_its_namespace_at_once(void **state)
{
    static const char *const args[] = {"--socketio-namespace", "/n", NULL};
    struct client cl;
    (void)state;
    open_core(args);
    client_connect(&cl, &core, V3 "&user=a%20b");
    /* clients written by hand do not wait */
    client_send(&cl, "40");
    client_send(&cl, "420[\"join\",\"hall\"]");
    take_sid(&cl);
    expect_exactly(&cl, "40");
    client_expect(&cl, "430[{\"type\":\"ack\",\"room\":\"hall\"");
    client_send(&cl, "421[\"presence\",\"hall\"]");
    client_expect(&cl, "431[", cl.sid, "\"user\":\"a b\"");
    client_send(&cl, "40/random");
    expect_exactly(&cl, "44/random,\"Invalid namespace\"");
    client_send(&cl, "40/n?user=c,");
    expect_exactly(&cl, "40/n,");
    client_send(&cl, "41");
    client_expect_nothing(&cl);
    client_send(&cl, "40");
    expect_exactly(&cl, "40");
    close_core(&cl, 1);
}

static void a_connection_has_so_many_namespaces(void **state)
{
    static const char *const args[] = {"--socketio-namespace", "/*", NULL};
    struct client cl;
    char text[16];
    (void)state;
    open_core(args);
    open_v4(&cl);
    for (int i = 1; i < 16; i++) {
        (void)snprintf(text, sizeof text, "40/%d,", i);
        client_send(&cl, text);
        client_expect(&cl, text, "{\"sid\":");
    }
    client_send(&cl, "40/16,");
    client_expect(&cl, "44/16,{\"message\":\"16 namespaces",
                  "\"data\":{\"type\":\"error\",\"code\":\"limit_exceeded\"");
    close_core(&cl, 1);
}

static void a_store_that_is_away_closes_the_connection(void **state)
{
    struct client cl[2];
    (void)state;
    open_core(NULL);
    core.store_down = true;
    client_connect(&cl[0], &core, V4);
    client_expect(&cl[0], "0{");
    client_send(&cl[0], "40");
    expect_close(&cl[0], 1013);
    client_connect(&cl[1], &core, V3);
    client_expect(&cl[1], "0{");
    expect_close(&cl[1], 1013);
    client_vanish(&cl[0]);
    client_vanish(&cl[1]);
    loop_fake_run(&core.loop);
    core.store_down = false;
    loop_fake_advance(&core.loop, 2000);
    close_core(NULL, 0);
}

static void draining_closes_whole_connections(void **state)
{
    static const char *const args[] = {"--socketio-namespace", "/n", NULL};
    struct client cl[2];
    (void)state;
    open_core(args);
    open_v4(&cl[0]);
    client_send(&cl[0], "40/n,");
    client_expect(&cl[0], "40/n,");
    client_connect(&cl[1], &core, V4);
    client_expect(&cl[1], "0{");
    gateway_drain(core.gw, NULL, NULL);
    expect_close(&cl[1], 1001);
    loop_fake_advance(&core.loop, 1000);
    client_expect(&cl[0], "[\"$goodbye\",{\"type\":\"goodbye\",\"reason\":\"draining\"");
    expect_close(&cl[0], 1001);
    close_core(cl, 2);
}

/* --- events --- */

static void rules_say_what_an_event_means(void **state)
{
    static const char *const args[] = {"--socketio-namespace",
                                       "/n",
                                       "--socketio-event",
                                       "chat* do=relay echo=off",
                                       "--socketio-event",
                                       "/n,all do=relay to=namespace",
                                       "--socketio-event",
                                       "enter do=join",
                                       "--socketio-event",
                                       "secret do=refuse",
                                       NULL};
    struct client cl[2];
    (void)state;
    open_core(args);
    open_v4(&cl[0]);
    open_v3(&cl[1]);
    client_send(&cl[0], "421[\"chat\",1]");
    client_expect(&cl[0], "431[{\"type\":\"error\",\"code\":\"not_member\"");
    client_send(&cl[0], "422[\"enter\",{\"room\":\"a\"}]");
    client_expect(&cl[0], "432[{\"type\":\"ack\"");
    client_send(&cl[1], "423[\"enter\",\"a\"]");
    client_expect(&cl[1], "433[{\"type\":\"ack\"");
    client_expect(&cl[0], "42[\"$enter\"");
    client_send(&cl[0], "424[\"chat\",{\"x\":1},2]");
    client_expect(&cl[0], "434[{\"type\":\"ack\",\"room\":\"a\",\"position\":\"1.");
    expect_exactly(&cl[1], "42[\"chat\",{\"x\":1},2]");
    client_send(&cl[0], "425[\"secret\"]");
    client_expect(&cl[0], "435[{\"type\":\"error\",\"code\":\"forbidden\"");
    client_send(&cl[0], "426[\"other\"]");
    client_expect(&cl[0], "436[{\"type\":\"error\",\"code\":\"unknown_type\"");
    client_send(&cl[0], "42[\"all\"]");
    client_expect(&cl[0], "42[\"$error\",{\"type\":\"error\",\"code\":\"unknown_type\"");
    client_send(&cl[0], "40/n,");
    client_expect(&cl[0], "40/n,");
    client_send(&cl[1], "40/n,");
    client_expect(&cl[1], "40/n,");
    client_send(&cl[0], "42/n,[\"all\",3]");
    expect_exactly(&cl[0], "42/n,[\"all\",3]");
    expect_exactly(&cl[1], "42/n,[\"all\",3]");
    client_expect_nothing(&cl[0]);
    client_expect_nothing(&cl[1]);
    close_core(cl, 2);
}

static void bad_rules_are_named(void **state)
{
    static const char *const bad[] = {"",
                                      "chat",
                                      "/n, do=relay",
                                      "chat do=fly",
                                      "chat do",
                                      "chat to=all do=relay",
                                      "chat do=relay echo=maybe",
                                      "chat do=resume",
                                      "chat x=1"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char line[64];
        char *lines[1] = {line};
        struct error error = {0};
        (void)snprintf(line, sizeof line, "%s", bad[i]);
        if (sio_rules_create(lines, 1, &error) != NULL)
            fail_msg("`%s` is taken for a rule", bad[i]);
        assert_non_null(strstr(error.text, "socketio-event"));
    }
}

static void rates_hold(void **state)
{
    static const char *const args[] = {"--message-rate", "10", "--message-burst", "10", NULL};
    struct client cl;
    (void)state;
    open_core(args);
    open_v4(&cl);
    for (int i = 0; i < 10; i++) {
        client_send(&cl, "421[\"ping\"]");
        client_expect(&cl, "pong");
    }
    client_send(&cl, "421[\"ping\"]");
    client_expect(&cl, "431[{\"type\":\"error\",\"code\":\"rate_limited\"");
    for (int i = 0; i < 11; i++) /* one was for the CONNECT, and time has stood still */
        client_send(&cl, "430[]");
    expect_close(&cl, 1008);
    close_core(&cl, 1);
}

/* --- slow readers --- */

/* Whatever is taken in whichever pieces, frames come out whole: of two namespaces, and the heartbeat between them. */
static void messages_stay_whole(void **state)
{
    static const char *const args[] = {
        "--socketio-namespace",      "/n", "--message-rate", "0", "--socketio-ping-interval", "1s", "--socketio-event",
        "all do=relay to=namespace", NULL};
    struct client cl[2];
    struct slice payload;
    unsigned root = 0, other = 0, pings = 0;
    uint64_t seed = 7;
    (void)state;
    open_core(args);
    for (size_t i = 0; i < 2; i++) {
        open_v4(&cl[i]);
        client_send(&cl[i], "40/n,");
        client_expect(&cl[i], "40/n,");
    }
    cl[1].window = 0;
    for (int i = 0; i < 200; i++) {
        char text[200];
        int n = (int)(check_random(&seed) % 150);
        (void)snprintf(text, sizeof text, "42%s[\"all\",\"%0*d\"]", i % 2 == 0 ? "" : "/n,", n + 1, i);
        client_send(&cl[0], text);
        loop_fake_run(&core.loop);
        while (client_next(&cl[0], &payload) >= 0)
            ;
        if (i % 20 == 0) {
            loop_fake_advance(&core.loop, 500);
            client_send(&cl[0], "3");
            client_send(&cl[1], "3");
        }
        client_take(&cl[1], check_random(&seed) % 90);
    }
    client_take(&cl[1], SIZE_MAX);
    loop_fake_run(&core.loop);
    int opcode;
    while ((opcode = client_next(&cl[1], &payload)) >= 0) {
        assert_int_equal(opcode, WS_TEXT);
        bool ping = payload.n == 1 && payload.p[0] == '2', in_n = slice_starts(payload, SLICE("42/n,[\"all\",\""));
        if (!ping)
            assert_true(slice_ends(payload, SLICE("\"]")) && (in_n || slice_starts(payload, SLICE("42[\"all\",\""))));
        pings += ping;
        other += in_n;
        root += !ping && !in_n;
    }
    assert_int_equal(root, 100);
    assert_int_equal(other, 100);
    assert_true(pings >= 3);
    close_core(cl, 2);
}

static void who_does_not_read_is_closed(void **state)
{
    static const char *const args[] = {
        "--max-queue-bytes",         "20k", "--max-message-size", "8k", "--message-rate", "0", "--socketio-event",
        "all do=relay to=namespace", NULL};
    struct client cl[2];
    struct slice payload;
    static char text[4000];
    (void)state;
    open_core(args);
    client_connect(&cl[0], &core, V4);
    client_connect(&cl[1], &core, V3);
    client_expect(&cl[0], "0{");
    client_send(&cl[0], "40");
    client_expect(&cl[0], "40{");
    client_expect(&cl[1], "0{");
    client_expect(&cl[1], "40");
    cl[1].window = 10;
    (void)snprintf(text, sizeof text, "42[\"all\",\"%03900d\"]", 1);
    for (int i = 0; i < 12; i++) {
        client_send(&cl[0], text);
        loop_fake_run(&core.loop);
        while (client_next(&cl[0], &payload) >= 0)
            ;
    }
    assert_int_equal(metrics->drops[DROP_SLOW_CONSUMER], 1);
    client_take(&cl[1], SIZE_MAX); /* what it has begun to read, then the close frame */
    int opcode, last = -1;
    while ((opcode = client_next(&cl[1], &payload)) >= 0)
        last = opcode;
    assert_int_equal(last, WS_CLOSE);
    assert_int_equal((unsigned char)payload.p[0] << 8 | (unsigned char)payload.p[1], 4000);
    assert_true(cl[1].close_asked);
    close_core(cl, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_socketio_handshake),
        cmocka_unit_test(paths_and_the_switch),
        cmocka_unit_test(a_client_must_connect_a_namespace_in_time),
        cmocka_unit_test(revision_4_is_pinged),
        cmocka_unit_test(revision_3_pings),
        cmocka_unit_test(what_ends_the_connection),
        cmocka_unit_test(a_client_may_close_by_a_packet),
        cmocka_unit_test(namespaces_are_sessions),
        cmocka_unit_test(revision_3_is_in_its_namespace_at_once),
        cmocka_unit_test(a_connection_has_so_many_namespaces),
        cmocka_unit_test(a_store_that_is_away_closes_the_connection),
        cmocka_unit_test(draining_closes_whole_connections),
        cmocka_unit_test(rules_say_what_an_event_means),
        cmocka_unit_test(bad_rules_are_named),
        cmocka_unit_test(rates_hold),
        cmocka_unit_test(messages_stay_whole),
        cmocka_unit_test(who_does_not_read_is_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
