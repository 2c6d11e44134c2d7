/* tests/unit/test_engine_echo.c: Engine.IO connections that are sent back what they say, by WebSocket and by long-polling; and who is spoken to at all. */
#include <stdio.h>

#include "base/mem.h"
#include "gateway/engine.h"
#include "gateway/metrics.h"
#include "gateway/polling.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"

#define V4 "/echo/?EIO=4&transport=websocket"
#define V3 "/echo?EIO=3&transport=websocket"

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
    assert_int_equal(metrics->queue_bytes, 0);
    core_fini(&core);
}

/* --- by WebSocket --- */

static void send_bytes(struct client *cl, const char *bytes, size_t n)
{
    char frame[64] = {(char)0x82, (char)(0x80 | n)}; /* masked with zeros */
    assert_true(n + 6 <= sizeof frame);
    memcpy(frame + 6, bytes, n);
    conn_input(cl->conn, frame, n + 6);
}

static void expect_exactly(struct client *cl, int opcode, struct slice want)
{
    struct slice payload;
    loop_fake_run(&core.loop);
    assert_int_equal(client_next(cl, &payload), opcode);
    assert_int_equal(payload.n, want.n);
    assert_memory_equal(payload.p, want.p, want.n);
}

static void expect_close(struct client *cl, int code)
{
    struct slice payload;
    loop_fake_run(&core.loop);
    assert_int_equal(client_next(cl, &payload), WS_CLOSE);
    assert_int_equal((unsigned char)payload.p[0] << 8 | (unsigned char)payload.p[1], code);
}

static void messages_come_back_as_they_went(void **state)
{
    static const char *const args[] = {"--engineio-echo", "/echo/", "--socketio-connect-timeout", "1s", NULL};
    struct client cl[2];
    (void)state;
    open_core(args);
    client_connect(&cl[0], &core, V4);
    client_connect(&cl[1], &core, V3);
    for (int i = 0; i < 2; i++) {
        client_expect(&cl[i], "0{\"sid\":\"", "\"upgrades\":[]");
        client_expect_nothing(&cl[i]); /* there is no namespace */
        client_send(&cl[i], "4hello");
        expect_exactly(&cl[i], WS_TEXT, SLICE("4hello"));
        client_send(&cl[i], "4");
        expect_exactly(&cl[i], WS_TEXT, SLICE("4"));
        client_send(&cl[i], "42[\"join\",\"hall\"]"); /* a text like any other */
        expect_exactly(&cl[i], WS_TEXT, SLICE("42[\"join\",\"hall\"]"));
        send_bytes(&cl[i], "\x04\x00\xff", 3);
        expect_exactly(&cl[i], WS_BINARY, (struct slice){"\x04\x00\xff", 3});
    }
    send_bytes(&cl[0], "\x05", 1); /* bytes of revision 4 have no type */
    expect_exactly(&cl[0], WS_BINARY, SLICE("\x05"));
    assert_int_equal(metrics->messages_out, 9);
    assert_int_equal(metrics->sessions, 0);
    loop_fake_advance(&core.loop, 1500); /* nothing has to be connected */
    client_send(&cl[0], "4x");
    expect_exactly(&cl[0], WS_TEXT, SLICE("4x"));
    send_bytes(&cl[1], "\x05", 1);
    expect_close(&cl[1], 1008);
    client_send(&cl[0], "abc");
    expect_close(&cl[0], 1008);
    close_core(cl, 2);
}

static void it_has_the_limits_of_others(void **state)
{
    static const char *const args[] = {
        "--engineio-echo", "/echo/", "--message-rate", "3", "--message-burst", "3", "--ip-rate", "5", NULL};
    struct client cl[2];
    (void)state;
    open_core(args);
    for (int i = 0; i < 2; i++) {
        client_connect(&cl[i], &core, V4);
        client_expect(&cl[i], "0{");
    }
    for (int i = 0; i < 3; i++) {
        client_send(&cl[0], "4x");
        expect_exactly(&cl[0], WS_TEXT, SLICE("4x"));
    }
    client_send(&cl[0], "4x");
    expect_close(&cl[0], 1008);
    /* two are left of what the address has, and none of them was taken by the one before, which was refused already */
    for (int i = 0; i < 2; i++) {
        client_send(&cl[1], "4x");
        expect_exactly(&cl[1], WS_TEXT, SLICE("4x"));
    }
    client_send(&cl[1], "4x");
    expect_close(&cl[1], 1008);
    assert_int_equal(metrics->drops[DROP_SOCKETIO], 2);
    close_core(cl, 2);
}

static void who_does_not_read_is_closed(void **state)
{
    static const char *const args[] = {"--engineio-echo",
                                       "/echo/",
                                       "--max-queue-bytes",
                                       "16k",
                                       "--max-message-size",
                                       "4k",
                                       "--message-rate",
                                       "0",
                                       NULL};
    struct client cl;
    char text[4000];
    (void)state;
    open_core(args);
    client_connect(&cl, &core, V4);
    client_expect(&cl, "0{");
    cl.window = 10;
    (void)snprintf(text, sizeof text, "4%03990d", 1);
    for (int i = 0; i < 6 && !cl.close_asked && metrics->drops[DROP_SLOW_CONSUMER] == 0; i++)
        client_send(&cl, text);
    assert_int_equal(metrics->drops[DROP_SLOW_CONSUMER], 1);
    client_take(&cl, SIZE_MAX);
    loop_fake_run(&core.loop);
    assert_true(cl.close_asked);
    close_core(&cl, 1);
}

/* --- by long-polling --- */

struct asked {
    struct poll poll;
    int status; /* 0: not answered */
    struct buf body;
};

static void on_answer(struct poll *p, const struct poll_answer *a)
{
    struct asked *q = container_of(p, struct asked, poll);
    q->status = a->status;
    buf_append(&q->body, a->body);
}

static struct poll *ask(struct asked *q)
{
    buf_fini(&q->body);
    *q = (struct asked){.poll.answer = on_answer};
    return &q->poll;
}

static void payloads_come_back_as_they_went(void **state)
{
    static const struct {
        const char *query, *body;
    } cases[] = {
        {"EIO=4&transport=polling", "4\xc3\xa9\x1e"
                                    "bAQIDBA==\x1e"
                                    "4"},
        {"EIO=3&transport=polling&b64=1", "2:4\xc3\xa9"
                                          "10:b4AQIDBA==1:4"},
    };
    static const char *const args[] = {"--engineio-echo", "/echo/", NULL};
    (void)state;
    open_core(args);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct http_request r = {
            .path = SLICE("/echo"), .query = slice_str(cases[i].query), .ip = SLICE("192.0.2.1")};
        struct asked q = {0}, p = {0};
        struct polling *po;
        struct error error;
        assert_int_equal(polling_open(core.gw, &r, ask(&q), i == 1, &po, &error), OK);
        loop_fake_run(&core.loop);
        assert_int_equal(q.status, 200);
        /* any node can tell whose it is: of neither revision there is a session in the store */
        struct buf name = BUF_INIT;
        polling_name_append(po, &name);
        assert_true(memchr(name.p, '.', name.n) != NULL);
        assert_ptr_equal(polling_find(core.gw, buf_slice(&name)), po);
        buf_fini(&name);
        polling_post(po, ask(&p), false, slice_str(cases[i].body));
        loop_fake_run(&core.loop);
        assert_slice(buf_slice(&p.body), "ok");
        polling_get(po, ask(&q), false, SLICE_NONE);
        loop_fake_run(&core.loop);
        assert_slice(buf_slice(&q.body), cases[i].body);
        polling_vanished(po, &q.poll);
        loop_fake_run(&core.loop);
        buf_fini(&q.body);
        buf_fini(&p.body);
    }
    close_core(NULL, 0);
}

/* --- who is spoken to --- */

static enum err try(struct client *cl, const char *path, const char *query)
{
    struct error error;
    struct slice subprotocol;
    return client_ask(cl, &core, (struct http_request){.path = slice_str(path), .query = slice_str(query)},
                      &subprotocol, &error);
}

static void it_is_there_only_if_it_is_asked_for(void **state)
{
    static const char *const alone[] = {"--engineio-echo", "/echo/", "--socketio", "off", NULL};
    struct client cl;
    (void)state;
    open_core(NULL);
    assert_int_equal(try(&cl, "/echo/", "EIO=4&transport=websocket"), ERR_NOT_FOUND);
    close_core(NULL, 0);
    open_core(alone);
    assert_int_equal(try(&cl, "/socket.io/", "EIO=4&transport=websocket"), ERR_NOT_FOUND);
    client_connect(&cl, &core, V4);
    client_expect(&cl, "0{");
    gateway_drain(core.gw, NULL, NULL);
    loop_fake_run(&core.loop);
    assert_true(cl.close_asked); /* there is no session that would keep it */
    close_core(&cl, 1);
}

static void revision_3_may_be_refused(void **state)
{
    static const char *const args[] = {"--engineio-echo", "/echo/", "--socketio-eio3", "off", NULL};
    static const char *const queries[] = {"EIO=3&transport=websocket", "transport=websocket",
                                          "EIO=abc&transport=websocket"};
    struct client cl;
    (void)state;
    open_core(args);
    for (size_t i = 0; i < ARRAY_LEN(queries); i++) {
        assert_int_equal(try(&cl, "/socket.io/", queries[i]), ERR_BAD_REQUEST);
        assert_int_equal(try(&cl, "/echo/", queries[i]), ERR_BAD_REQUEST);
    }
    client_connect(&cl, &core, V4);
    client_expect(&cl, "0{");
    close_core(&cl, 1);
}

/* Clients begin to listen when they hear that the WebSocket is open. */
static void the_open_packet_does_not_come_with_the_handshake(void **state)
{
    struct client cl;
    (void)state;
    open_core(NULL);
    assert_int_equal(try(&cl, "/socket.io/", "EIO=4&transport=websocket"), OK);
    loop_fake_advance(&core.loop, 4);
    client_expect_nothing(&cl);
    loop_fake_advance(&core.loop, 1);
    client_expect(&cl, "0{");
    client_vanish(&cl);
    /* who does speak at once is answered at once */
    assert_int_equal(try(&cl, "/socket.io/", "EIO=4&transport=websocket"), OK);
    client_send(&cl, "40");
    client_expect(&cl, "0{");
    client_expect(&cl, "40{");
    loop_fake_advance(&core.loop, 10);
    client_expect_nothing(&cl);
    close_core(&cl, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_come_back_as_they_went),
        cmocka_unit_test(it_has_the_limits_of_others),
        cmocka_unit_test(who_does_not_read_is_closed),
        cmocka_unit_test(payloads_come_back_as_they_went),
        cmocka_unit_test(it_is_there_only_if_it_is_asked_for),
        cmocka_unit_test(revision_3_may_be_refused),
        cmocka_unit_test(the_open_packet_does_not_come_with_the_handshake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
