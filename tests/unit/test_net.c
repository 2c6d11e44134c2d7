/* tests/unit/test_net.c: connections over real sockets: TLS, upgrade, writing to slow readers, backpressure, closing. */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "gateway/net/net.h"
#include "tests/support/check.h"
#include "tests/support/net_client.h"
#include "tests/support/net_server.h"

#define TLS   ((void *)1)
#define PLAIN NULL

/* Every test of this file runs twice: over TLS and without. */
struct fixture {
    struct server server;
    struct client client;
    bool tls;
};

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    f->tls = *state == TLS;
    f->client.fd = -1;
    server_init(&f->server, f->tls);
    server_start(&f->server);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    client_close(&f->client);
    server_stop(&f->server);
    free(f);
    return 0;
}

static void open_ws(struct fixture *f, const char *path)
{
    client_open(&f->client, f->server.port, f->tls);
    assert_int_equal(client_upgrade(&f->client, path), 101);
}

static void upgrade_answers_as_rfc_6455_says(void **state)
{
    struct fixture *f = *state;
    open_ws(f, "/ws");
    assert_non_null(strstr(f->client.text, "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    assert_null(strstr(f->client.text, "Sec-WebSocket-Protocol"));
    client_send_str(&f->client, "hello");
    char got[5];
    client_recv_all(&f->client, got, sizeof got);
    assert_memory_equal(got, "hello", 5);
    assert_string_equal(f->server.last_ip, "127.0.0.1");
    assert_int_equal(metrics->upgrades, 1);
}

static void bytes_behind_the_handshake_are_input(void **state)
{
    struct fixture *f = *state;
    client_open(&f->client, f->server.port, f->tls);
    client_send_str(
        &f->client,
        "GET /ws HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: other\r\nSec-WebSocket-Protocol: echo.v1\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nearly");
    assert_int_equal(client_response(&f->client, false), 101);
    assert_non_null(strstr(f->client.text, "\r\nSec-WebSocket-Protocol: echo.v1\r\n"));
    assert_string_equal(f->server.last_subprotocols, "other, echo.v1");
    char got[5];
    client_recv_all(&f->client, got, sizeof got);
    assert_memory_equal(got, "early", 5);
}

static void handshake_that_arrives_in_single_bytes(void **state)
{
    struct fixture *f = *state;
    static const char request[] = "GET /ws HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                                  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nabc";
    client_open(&f->client, f->server.port, f->tls);
    for (size_t i = 0; i < sizeof request - 1; i++)
        client_send(&f->client, request + i, 1);
    assert_int_equal(client_response(&f->client, false), 101);
    char got[3];
    client_recv_all(&f->client, got, sizeof got);
    assert_memory_equal(got, "abc", 3);
}

/* 12 MB through a small receive buffer, with pauses: each byte must be the right one. */
static void slow_reader_gets_every_byte(void **state)
{
    struct fixture *f = *state;
    enum { TOTAL = 12000000 };
    client_connect(&f->client, f->server.port);
    int small = 65536;
    (void)setsockopt(f->client.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (f->tls)
        assert_true(client_tls(&f->client, 0));
    assert_int_equal(client_upgrade(&f->client, "/stream/12000000"), 101);
    static char buf[65536];
    size_t at = 0;
    for (int turn = 0;; turn++) {
        if (turn < 40)
            usleep(10000);
        long n = client_recv(&f->client, buf, sizeof buf);
        assert_true(n >= 0);
        if (n == 0)
            break;
        for (size_t i = 0; i < (size_t)n; i++)
            if ((unsigned char)buf[i] != pattern_byte(at + i))
                fail_msg("byte %zu is wrong", at + i);
        at += (size_t)n;
    }
    assert_int_equal(at, TOTAL);
    server_wait_gone(&f->server, 1);
    assert_string_equal(f->server.last_why, "closed");
}

static void reader_that_goes_away_while_we_write(void **state)
{
    struct fixture *f = *state;
    open_ws(f, "/stream/50000000");
    char some[1000];
    client_recv_all(&f->client, some, sizeof some);
    usleep(50000);
    client_close(&f->client); /* with unread input: a reset */
    server_wait_gone(&f->server, 1);
    assert_string_equal(f->server.last_why, "reset");
    server_wait_open(&f->server, 0);
}

static void big_messages_both_ways(void **state)
{
    struct fixture *f = *state;
    enum { SIZE = 300000 };
    open_ws(f, "/ws");
    char *sent = xmalloc(SIZE), *got = xmalloc(SIZE);
    for (size_t i = 0; i < SIZE; i++)
        sent[i] = (char)pattern_byte(i);
    sent[SIZE - 1] = '.';
    for (size_t at = 0; at < SIZE; at += 50000) {
        client_send(&f->client, sent + at, 50000);
        client_recv_all(&f->client, got + at, 50000);
    }
    assert_memory_equal(sent, got, SIZE);
    free(sent);
    free(got);
}

static void orderly_close_lets_the_last_words_through(void **state)
{
    struct fixture *f = *state;
    open_ws(f, "/ws");
    client_send_str(&f->client, "bye, quit");
    /* Input that nobody reads any more must not turn our FIN into a reset. */
    client_send_str(&f->client, "more");
    char got[9];
    client_recv_all(&f->client, got, sizeof got);
    assert_memory_equal(got, "bye, quit", 9);
    char byte;
    assert_int_equal(client_recv(&f->client, &byte, 1), 0); /* close_notify, or FIN */
    server_wait_gone(&f->server, 1);
    assert_string_equal(f->server.last_why, "closed");
    client_close(&f->client);
    server_wait_open(&f->server, 0);
}

/* Everything that was taken before the close arrives, though the client has said something that nobody reads any more. */
static void close_with_full_buffers_loses_nothing(void **state)
{
    struct fixture *f = *state;
    open_ws(f, "/last");
    client_send_str(&f->client, "go");
    usleep(100000);
    client_send_str(&f->client, "more");
    usleep(100000);
    static char buf[65536];
    size_t at = 0;
    long n;
    while ((n = client_recv(&f->client, buf, sizeof buf)) > 0) {
        for (size_t i = 0; i < (size_t)n; i++)
            if ((unsigned char)buf[i] != pattern_byte(at + i))
                fail_msg("byte %zu is wrong", at + i);
        at += (size_t)n;
    }
    assert_int_equal(n, 0);
    server_wait_gone(&f->server, 1);
    assert_int_equal(at, f->server.last_taken);
    assert_true(at > 100000);
    assert_string_equal(f->server.last_why, "closed");
}

static void closed_socket_does_not_linger_for_ever(void **state)
{
    struct fixture *f = *state;
    open_ws(f, "/ws");
    client_send_str(&f->client, "quit");
    server_wait_gone(&f->server, 1);
    /* The client keeps its end open and silent; the socket must go all the same. */
    struct timespec wait = {.tv_sec = 2, .tv_nsec = 300000000};
    nanosleep(&wait, NULL);
    server_wait_open(&f->server, 0);
}

static void client_that_leaves_is_told_once(void **state)
{
    struct fixture *f = *state;
    open_ws(f, "/ws");
    if (f->tls)
        SSL_shutdown(f->client.ssl);
    client_close(&f->client);
    server_wait_gone(&f->server, 1);
    assert_string_equal(f->server.last_why, "peer");
    server_wait_open(&f->server, 0);
    assert_int_equal(f->server.gone, 1);
}

static void close_inside_the_upgrade(void **state)
{
    struct fixture *f = *state;
    client_open(&f->client, f->server.port, f->tls);
    client_send_str(&f->client, "GET /shut HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    assert_true(client_ended(&f->client));
    server_wait_gone(&f->server, 1);
}

static void paused_connection_is_not_read(void **state)
{
    struct fixture *f = *state;
    open_ws(f, "/pause");
    client_send_str(&f->client, "stop");
    char got[4];
    client_recv_all(&f->client, got, sizeof got);
    for (int i = 0; i < 20; i++)
        client_send_str(&f->client, "0123456789");
    usleep(100000);
    assert_int_equal(f->server.inputs_after_pause, 0);
    server_resume(&f->server);
    char rest[200];
    client_recv_all(&f->client, rest, sizeof rest);
    assert_memory_equal(rest + 190, "0123456789", 10);
}

/* Several records in one segment, the first of which pauses: the others are there already and must wait as well. */
static void input_received_before_the_pause_is_kept(void **state)
{
    struct fixture *f = *state;
    open_ws(f, "/pause");
    if (!f->tls)
        return; /* without TLS one recv is one input */
    int cork = 1;
    (void)setsockopt(f->client.fd, 6 /* TCP */, 3 /* CORK */, &cork, sizeof cork);
    client_send_str(&f->client, "stop");
    client_send_str(&f->client, "one");
    client_send_str(&f->client, "two");
    cork = 0;
    (void)setsockopt(f->client.fd, 6, 3, &cork, sizeof cork);
    char got[4], rest[6];
    client_recv_all(&f->client, got, sizeof got);
    usleep(50000);
    assert_int_equal(f->server.inputs_after_pause, 0);
    server_resume(&f->server);
    client_recv_all(&f->client, rest, sizeof rest);
    assert_memory_equal(rest, "onetwo", 6);
}

static void stopping_with_connections_in_every_state(void **state)
{
    struct fixture *f = *state;
    struct client silent, idle, waiting, blocked;
    client_connect(&silent, f->server.port);
    client_open(&idle, f->server.port, f->tls);
    client_open(&waiting, f->server.port, f->tls);
    client_send_str(&waiting, "GET /later HTTP/1.1\r\nHost: t\r\n\r\n");
    client_open(&blocked, f->server.port, f->tls);
    assert_int_equal(client_upgrade(&blocked, "/stream/90000000"), 101);
    open_ws(f, "/ws");
    server_wait_open(&f->server, 5);
    usleep(50000);
    client_close(&silent); /* the rest is for net_destroy() */
    client_close(&idle);
    client_close(&waiting);
    client_close(&blocked);
}

static void many_connections_come_and_go(void **state)
{
    struct fixture *f = *state;
    for (int round = 0; round < 3; round++) {
        struct client c[40];
        for (size_t i = 0; i < ARRAY_LEN(c); i++) {
            client_open(&c[i], f->server.port, f->tls);
            assert_int_equal(client_upgrade(&c[i], "/ws"), 101);
        }
        server_wait_open(&f->server, ARRAY_LEN(c));
        for (size_t i = 0; i < ARRAY_LEN(c); i++)
            client_close(&c[i]);
        server_wait_open(&f->server, 0);
    }
    assert_int_equal(f->server.opened, 120);
}

#define BOTH(test)                                                                                                     \
    {"tls: " #test, test, setup, teardown, TLS},                                                                       \
    {                                                                                                                  \
        "plain: " #test, test, setup, teardown, PLAIN                                                                  \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(upgrade_answers_as_rfc_6455_says),
        BOTH(bytes_behind_the_handshake_are_input),
        BOTH(handshake_that_arrives_in_single_bytes),
        BOTH(slow_reader_gets_every_byte),
        BOTH(reader_that_goes_away_while_we_write),
        BOTH(big_messages_both_ways),
        BOTH(orderly_close_lets_the_last_words_through),
        BOTH(close_with_full_buffers_loses_nothing),
        BOTH(closed_socket_does_not_linger_for_ever),
        BOTH(client_that_leaves_is_told_once),
        BOTH(close_inside_the_upgrade),
        BOTH(paused_connection_is_not_read),
        BOTH(input_received_before_the_pause_is_kept),
        BOTH(stopping_with_connections_in_every_state),
        BOTH(many_connections_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
