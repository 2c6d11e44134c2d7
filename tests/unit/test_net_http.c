/* tests/unit/test_net_http.c: HTTP on the socket: keep-alive, pipelining, late answers, limits and garbage. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "gateway/net/net.h"
#include "gateway/net/request.h"
#include "tests/support/check.h"
#include "tests/support/net_client.h"
#include "tests/support/net_server.h"

struct fixture {
    struct server server;
    struct client client;
};

static int start(void **state, bool tls)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    f->client.fd = -1;
    server_init(&f->server, tls);
    server_start(&f->server);
    *state = f;
    return 0;
}

static int setup(void **state)
{
    return start(state, false);
}

static int setup_tls(void **state)
{
    return start(state, true);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    client_close(&f->client);
    server_stop(&f->server);
    free(f);
    return 0;
}

/* A new connection, one text, one response. */
static int ask(struct fixture *f, const char *request)
{
    client_close(&f->client);
    client_open(&f->client, f->server.port, false);
    client_send_str(&f->client, request);
    return client_response(&f->client, false);
}

static bool has(const struct fixture *f, const char *text)
{
    return strstr(f->client.text, text) != NULL;
}

static void request_reaches_the_core(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(ask(f, "GET /a/%20b?c=d HTTP/1.1\r\nHost: \t example.org \r\n\r\n"), 200);
    assert_true(has(f, "\r\n\r\nGET /a/%20b c=d example.org 127.0.0.1 "));
    assert_true(has(f, "\r\nX-Test: 1\r\n"));
    assert_true(has(f, "\r\nX-Content-Type-Options: nosniff\r\n"));
    assert_true(has(f, "\r\nCache-Control: no-store\r\n"));
    assert_true(has(f, "\r\nDate: "));
    assert_true(has(f, " GMT\r\n"));
    assert_false(has(f, "Connection:"));
    assert_int_equal(ask(f, "POST http://example.org:80/x?y#z HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nbody"),
                     200);
    assert_true(has(f, "\r\n\r\nPOST /x y t 127.0.0.1 body"));
    assert_int_equal(ask(f, "GET http://example.org HTTP/1.1\r\nHost: t\r\n\r\n"), 200);
    assert_true(has(f, "\r\n\r\nGET /  t 127.0.0.1 "));
    assert_int_equal(ask(f, "GET /a HTTP/1.1\r\nHost: t\r\nAccept-Encoding: gzip\r\n\r\n"), 200);
    assert_true(has(f, "\r\n\r\nGET /a  t 127.0.0.1 ")); /* compressed is what the core says is worth it */
}

static void connection_is_kept_and_used_again(void **state)
{
    struct fixture *f = *state;
    client_open(&f->client, f->server.port, false);
    for (int i = 0; i < 3; i++) {
        client_send_str(&f->client, "GET / HTTP/1.1\r\nHost: t\r\n\r\n");
        assert_int_equal(client_response(&f->client, false), 200);
    }
    client_send_str(&f->client, "GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    assert_int_equal(client_response(&f->client, false), 200);
    assert_true(has(f, "\r\nConnection: close\r\n"));
    assert_true(client_ended(&f->client));
}

static void http_1_0_closes_unless_asked(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(ask(f, "GET / HTTP/1.0\r\n\r\n"), 200);
    assert_true(has(f, "\r\nConnection: close\r\n"));
    assert_true(client_ended(&f->client));
    assert_int_equal(ask(f, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), 200);
    assert_true(has(f, "\r\nConnection: keep-alive\r\n"));
    client_send_str(&f->client, "GET / HTTP/1.0\r\n\r\n");
    assert_int_equal(client_response(&f->client, false), 200);
}

static void head_is_get_without_the_body(void **state)
{
    struct fixture *f = *state;
    client_open(&f->client, f->server.port, false);
    client_send_str(&f->client, "HEAD /x HTTP/1.1\r\nHost: t\r\n\r\nGET /y HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_int_equal(client_response(&f->client, true), 200);
    assert_true(has(f, "\r\nContent-Length: 20\r\n"));
    assert_int_equal(client_response(&f->client, false), 200);
    assert_true(has(f, "GET /y"));
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    struct fixture *f = *state;
    client_open(&f->client, f->server.port, false);
    client_send_str(&f->client,
                    "GET /1 HTTP/1.1\r\nHost: t\r\n\r\nGET /later HTTP/1.1\r\nHost: t\r\n\r\n"
                    "POST /3 HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
                    "GET /4 HTTP/1.1\r\nHost: t\r\n\r\nGET /5 HTT");
    assert_int_equal(client_response(&f->client, false), 200);
    assert_true(has(f, "GET /1"));
    client_send_str(&f->client, "P/1.1\r\nHost: t\r\n\r\n");
    server_answer_later(&f->server);
    assert_int_equal(client_response(&f->client, false), 200);
    assert_true(has(f, "\r\n\r\nlater"));
    assert_int_equal(client_response(&f->client, false), 200);
    assert_true(has(f, "POST /3  t 127.0.0.1 abc"));
    assert_int_equal(client_response(&f->client, false), 200);
    assert_true(has(f, "GET /4"));
    assert_int_equal(client_response(&f->client, false), 200);
    assert_true(has(f, "GET /5"));
}

#define TOGETHER "GET /together HTTP/1.1\r\nHost: t\r\n\r\n"

static void expect_together(struct fixture *f, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char text[64];
        (void)snprintf(text, sizeof text, "\r\n\r\ntogether %zu", i);
        assert_int_equal(client_response(&f->client, false), 200);
        assert_true(has(f, text));
    }
}

/* They are asked at once and answered backwards; what came between them waits, and is waited for. */
static void requests_that_may_overlap_do(void **state)
{
    struct fixture *f = *state;
    client_open(&f->client, f->server.port, f->server.tls);
    client_send_str(&f->client, TOGETHER TOGETHER TOGETHER "GET /1 HTTP/1.1\r\nHost: t\r\n\r\n" TOGETHER
                                                           "GET /later HTTP/1.1\r\nHost: t\r\n\r\n" TOGETHER);
    server_answer_together(&f->server, 3);
    expect_together(f, 3);
    assert_int_equal(client_response(&f->client, false), 200);
    assert_true(has(f, "GET /1"));
    server_answer_together(&f->server, 1);
    expect_together(f, 1);
    server_answer_later(&f->server);
    assert_int_equal(client_response(&f->client, false), 200);
    assert_true(has(f, "\r\n\r\nlater"));
    server_answer_together(&f->server, 1);
    expect_together(f, 1);
}

static void so_many_and_no_more_are_under_way(void **state)
{
    struct fixture *f = *state;
    client_open(&f->client, f->server.port, false);
    for (int i = 0; i < 40; i++)
        client_send_str(&f->client, TOGETHER);
    usleep(50000);
    server_answer_together(&f->server, 32);
    expect_together(f, 32);
    server_answer_together(&f->server, 8);
    expect_together(f, 8);
}

/* What is wrong, or wants something at once, is answered in its turn. */
static void what_follows_requests_under_way_waits(void **state)
{
    struct fixture *f = *state;
    client_open(&f->client, f->server.port, false);
    client_send_str(&f->client,
                    TOGETHER "POST /2 HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    usleep(20000);
    server_answer_together(&f->server, 1);
    expect_together(f, 1);
    assert_int_equal(client_response(&f->client, true), 100);
    client_send_str(&f->client, "hi" TOGETHER "nonsense\r\n\r\n");
    assert_int_equal(client_response(&f->client, false), 200);
    assert_true(has(f, "POST /2  t 127.0.0.1 hi"));
    server_answer_together(&f->server, 1);
    expect_together(f, 1);
    assert_int_equal(client_response(&f->client, false), 400);
    assert_true(client_ended(&f->client));
}

static void client_that_says_the_end_gets_all_answers(void **state)
{
    struct fixture *f = *state;
    client_open(&f->client, f->server.port, f->server.tls);
    client_send_str(&f->client, TOGETHER TOGETHER);
    if (f->server.tls)
        (void)SSL_shutdown(f->client.ssl);
    (void)shutdown(f->client.fd, SHUT_WR);
    usleep(20000);
    server_answer_together(&f->server, 2);
    expect_together(f, 2);
    if (!f->server.tls)
        assert_true(client_ended(&f->client));
    server_wait_open(&f->server, 0);
}

static void last_request_of_several_closes(void **state)
{
    struct fixture *f = *state;
    client_open(&f->client, f->server.port, false);
    client_send_str(&f->client, TOGETHER "GET /together HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n" TOGETHER);
    server_answer_together(&f->server, 2);
    assert_int_equal(client_response(&f->client, false), 200);
    assert_false(has(f, "Connection: close"));
    assert_int_equal(client_response(&f->client, false), 200);
    assert_true(has(f, "\r\nConnection: close\r\n"));
    assert_true(client_ended(&f->client));
}

static void client_that_is_gone_before_several_answers(void **state)
{
    struct fixture *f = *state;
    client_open(&f->client, f->server.port, false);
    client_send_str(&f->client, TOGETHER TOGETHER TOGETHER);
    usleep(20000);
    struct linger hard = {.l_onoff = 1};
    (void)setsockopt(f->client.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    client_close(&f->client);
    server_answer_together(&f->server, 3);
    server_wait_open(&f->server, 0);
}

static void upgrade_may_follow_requests(void **state)
{
    struct fixture *f = *state;
    client_open(&f->client, f->server.port, false);
    client_send_str(
        &f->client,
        "GET /later HTTP/1.1\r\nHost: t\r\n\r\n"
        "GET /ws HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nraw");
    server_answer_later(&f->server);
    assert_int_equal(client_response(&f->client, false), 200);
    assert_int_equal(client_response(&f->client, false), 101);
    char got[3];
    client_recv_all(&f->client, got, sizeof got);
    assert_memory_equal(got, "raw", 3);
    client_send_str(&f->client, "too");
    client_recv_all(&f->client, got, sizeof got);
    assert_memory_equal(got, "too", 3);
}

static void client_that_is_gone_before_the_answer(void **state)
{
    struct fixture *f = *state;
    client_open(&f->client, f->server.port, false);
    client_send_str(&f->client, "GET /later HTTP/1.1\r\nHost: t\r\n\r\n");
    usleep(20000);
    struct linger hard = {.l_onoff = 1};
    (void)setsockopt(f->client.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    client_close(&f->client);
    server_answer_later(&f->server);
    server_wait_open(&f->server, 0);
}

static void half_closed_client_gets_its_answer(void **state)
{
    struct fixture *f = *state;
    client_open(&f->client, f->server.port, false);
    client_send_str(&f->client, "GET /later HTTP/1.1\r\nHost: t\r\n\r\n");
    (void)shutdown(f->client.fd, SHUT_WR);
    server_answer_later(&f->server);
    assert_int_equal(client_response(&f->client, false), 200);
    assert_true(client_ended(&f->client));
}

static void big_response_to_a_slow_reader(void **state)
{
    struct fixture *f = *state;
    enum { SIZE = 9000000 };
    client_open(&f->client, f->server.port, false);
    client_send_str(&f->client, "GET /big/9000000 HTTP/1.1\r\nHost: t\r\n\r\nGET /next HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_int_equal(client_response(&f->client, true), 200);
    assert_true(has(f, "\r\nContent-Length: 9000000\r\n"));
    usleep(300000);
    static char buf[SIZE];
    client_recv_all(&f->client, buf, SIZE);
    for (size_t i = 0; i < SIZE; i++)
        if ((unsigned char)buf[i] != pattern_byte(i))
            fail_msg("byte %zu is wrong", i);
    assert_int_equal(client_response(&f->client, false), 200);
    assert_true(has(f, "GET /next"));
}

/* What is refused, with which status, and that the answer names a code and the connection ends. */
static void bad_requests_are_answered_and_counted(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *request;
        int status;
        const char *says;
    } cases[] = {
        {"nonsense\r\n\r\n", 400, "bad_request"},
        {"\x16\x03\x01\x02garbage", 400, "bad_request"},
        {"GET / HTTP/2.0\r\nHost: t\r\n\r\n", 505, "bad_request"},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request"},
        {"GET / HTTP/1.1\r\n\r\n", 400, "Host"},
        {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "twice"},
        {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc", 400, "token"},
        {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "bad_request"},
        {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", 400, "bad_request"},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400, "bad_request"},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400, "bad_request"},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n", 413, "too_large"},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 400, "bad_request"},
        {"POST / HTTP/1.1\r\nHost: a\r\nExpect: a-miracle\r\nContent-Length: 1\r\n\r\n", 417, "bad_request"},
        {"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 65537\r\n\r\n", 413, "too_large"},
        {"CONNECT example.org:443 HTTP/1.1\r\nHost: a\r\n\r\n", 405, "bad_request"},
        {"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int status = ask(f, cases[i].request);
        if (status != cases[i].status || !has(f, cases[i].says) || !has(f, "{\"code\":\"") || !has(f, "\"message\":\""))
            fail_msg("%s: %s", cases[i].request, f->client.text);
        assert_true(has(f, "\r\nConnection: close\r\n"));
        assert_true(client_ended(&f->client));
        assert_int_equal(metrics->drops[DROP_HTTP], i + 1);
    }
}

static void headers_have_limits(void **state)
{
    struct fixture *f = *state;
    struct buf b = BUF_INIT;
    buf_append_str(&b, "GET / HTTP/1.1\r\nHost: t\r\n");
    for (int i = 0; i < HTTP_HEADERS_MAX; i++)
        buf_printf(&b, "X-%d: y\r\n", i);
    buf_append_str(&b, "\r\n");
    buf_append_char(&b, '\0');
    assert_int_equal(ask(f, b.p), 431);

    buf_clear(&b);
    buf_append_str(&b, "GET /");
    for (int i = 0; i < HTTP_URL_MAX - 1; i++)
        buf_append_char(&b, 'a');
    buf_append_str(&b, " HTTP/1.1\r\nHost: t\r\n\r\n");
    buf_append_char(&b, '\0');
    assert_int_equal(ask(f, b.p), 200);
    b.p[5 + HTTP_URL_MAX - 1] = 'a'; /* one more, in place of the space */
    b.p[5 + HTTP_URL_MAX] = ' ';
    assert_int_equal(ask(f, b.p), 414);

    /* A header without end costs at most HTTP_HEADER_MAX: the answer comes while the client still sends. */
    client_close(&f->client);
    client_open(&f->client, f->server.port, false);
    client_send_str(&f->client, "GET / HTTP/1.1\r\nHost: t\r\n");
    for (int i = 0; i < 300; i++)
        client_send_str(&f->client, "Cookie: 0123456789012345678901234567890123456789\r\n"); /* 15,000 bytes */
    assert_int_equal(client_response(&f->client, false), 431);
    assert_true(client_ended(&f->client));
    buf_fini(&b);
}

static void bodies_have_limits(void **state)
{
    struct fixture *f = *state;
    struct buf b = BUF_INIT;
    for (int i = 0; i < 5; i++)
        buf_append_str(&b, "0123456789");
    client_open(&f->client, f->server.port, false);
    client_send_str(&f->client, "POST /later HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < HTTP_BODY_MAX / 50 + 1; i++) {
        client_send_str(&f->client, "32\r\n");
        client_send(&f->client, b.p, 50);
        client_send_str(&f->client, "\r\n");
    }
    assert_int_equal(client_response(&f->client, false), 413);
    assert_true(client_ended(&f->client));
    buf_fini(&b);
}

static void send_body(struct fixture *f, size_t n)
{
    AUTO_FREE char *body = xcalloc(n, 1);
    client_send(&f->client, body, n);
}

static void some_bodies_may_be_larger(void **state)
{
    struct fixture *f = *state;
    client_open(&f->client, f->server.port, false);
    client_send_str(&f->client, "POST /large HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n");
    send_body(f, 100000);
    assert_int_equal(client_response(&f->client, false), 200);
    assert_true(has(f, "\r\n\r\n100000 bytes"));
    client_send_str(&f->client, "POST /large HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n15f90\r\n");
    send_body(f, 90000);
    client_send_str(&f->client, "\r\n0\r\n\r\n");
    assert_int_equal(client_response(&f->client, false), 200);
    assert_true(has(f, "\r\n\r\n90000 bytes"));
    client_send_str(&f->client, "POST /large HTTP/1.1\r\nHost: t\r\nContent-Length: 100001\r\n\r\n");
    assert_int_equal(client_response(&f->client, false), 413);
    assert_true(has(f, "the body is larger than 100000 bytes"));
    assert_int_equal(ask(f, "POST /1 HTTP/1.1\r\nHost: t\r\nContent-Length: 65537\r\n\r\n"), 413);
    assert_true(has(f, "the body is larger than 65536 bytes"));
}

static void body_is_sent_after_100_continue(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(ask(f, "POST /x HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"), 100);
    client_send_str(&f->client, "abc");
    assert_int_equal(client_response(&f->client, false), 200);
    assert_true(has(f, "POST /x  t 127.0.0.1 abc"));
    /* Who sends the body at once needs no 100. */
    assert_int_equal(ask(f, "POST /x HTTP/1.1\r\nHost: t\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\nabc"),
                     200);
}

#define WS     "Host: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
#define WS_KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define WS_13  "Sec-WebSocket-Version: 13\r\n"

static void bad_handshakes_keep_the_connection(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *request;
        int status;
    } cases[] = {
        {"GET /ws HTTP/1.1\r\n" WS WS_13 "\r\n", 400},
        {"GET /ws HTTP/1.1\r\n" WS WS_13 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n\r\n", 400},
        {"GET /ws HTTP/1.1\r\n" WS WS_13 "Sec-WebSocket-Key: !!!lIHNhbXBsZSBub25jZQ==\r\n\r\n", 400},
        {"GET /ws HTTP/1.1\r\n" WS WS_13 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQAAAA==\r\n\r\n", 400},
        {"POST /ws HTTP/1.1\r\n" WS WS_13 WS_KEY "\r\n", 400},
        {"GET /ws HTTP/1.1\r\nHost: t\r\nConnection: keep-alive\r\nUpgrade: websocket\r\n" WS_13 WS_KEY "\r\n", 400},
        {"GET /ws HTTP/1.1\r\n" WS WS_KEY "\r\n", 426},
        {"GET /ws HTTP/1.1\r\n" WS WS_KEY "Sec-WebSocket-Version: 8\r\n\r\n", 426},
        {"GET /ws HTTP/1.1\r\nHost: t\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n", 200},
        {"GET /ws HTTP/1.1\r\nHost: t\r\n\r\n", 200},
    };
    client_open(&f->client, f->server.port, false);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        client_send_str(&f->client, cases[i].request);
        int status = client_response(&f->client, false);
        if (status != cases[i].status)
            fail_msg("%s: %s", cases[i].request, f->client.text);
        if (status == 426)
            assert_true(has(f, "\r\nSec-WebSocket-Version: 13\r\n"));
    }
    assert_int_equal(f->server.opened, 0);
    client_send_str(&f->client, "GET /ws HTTP/1.1\r\n" WS WS_13 WS_KEY "\r\n");
    assert_int_equal(client_response(&f->client, false), 101);
}

static void a_handshake_that_the_core_refuses_ends_it(void **state)
{
    struct fixture *f = *state;
    client_open(&f->client, f->server.port, false);
    client_send_str(&f->client, "GET /nowhere HTTP/1.1\r\n" WS WS_13 WS_KEY "\r\nGET /ws HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_int_equal(client_response(&f->client, false), 404);
    assert_true(has(f, "{\"code\":\"not_found\",\"message\":\"no \\\"such\\\" path\"}"));
    assert_true(has(f, "\r\nConnection: close\r\n"));
    assert_true(client_ended(&f->client));
}

static void stop_accepting(void *arg)
{
    net_stop_accepting(arg);
}

static void draining_answers_and_closes(void **state)
{
    struct fixture *f = *state;
    struct client idle, ws;
    client_open(&idle, f->server.port, false);
    client_open(&ws, f->server.port, false);
    assert_int_equal(client_upgrade(&ws, "/ws"), 101);
    client_open(&f->client, f->server.port, false);
    client_send_str(&f->client, "GET /later HTTP/1.1\r\nHost: t\r\n\r\n");
    server_wait_open(&f->server, 3);
    usleep(20000);
    server_run(&f->server, stop_accepting, f->server.net);
    assert_true(client_ended(&idle));
    server_answer_later(&f->server);
    assert_int_equal(client_response(&f->client, false), 200);
    assert_true(has(f, "\r\nConnection: close\r\n"));
    assert_true(client_ended(&f->client));
    client_close(&idle);
    client_close(&f->client);
    server_wait_open(&f->server, 1);
    client_send_str(&ws, "still here");
    char got[10];
    client_recv_all(&ws, got, sizeof got);
    client_close(&ws);
}

#define TEST(test)                                                                                                     \
    {                                                                                                                  \
#test, test, setup, teardown, NULL                                                                             \
    }
#define TEST_TLS(test)                                                                                                 \
    {                                                                                                                  \
#test " over TLS", test, setup_tls, teardown, NULL                                                             \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(request_reaches_the_core),
        TEST(connection_is_kept_and_used_again),
        TEST(http_1_0_closes_unless_asked),
        TEST(head_is_get_without_the_body),
        TEST(pipelined_requests_are_answered_in_order),
        TEST(requests_that_may_overlap_do),
        TEST_TLS(requests_that_may_overlap_do),
        TEST(so_many_and_no_more_are_under_way),
        TEST(what_follows_requests_under_way_waits),
        TEST(client_that_says_the_end_gets_all_answers),
        TEST_TLS(client_that_says_the_end_gets_all_answers),
        TEST(last_request_of_several_closes),
        TEST(client_that_is_gone_before_several_answers),
        TEST(upgrade_may_follow_requests),
        TEST(client_that_is_gone_before_the_answer),
        TEST(half_closed_client_gets_its_answer),
        TEST(big_response_to_a_slow_reader),
        TEST(bad_requests_are_answered_and_counted),
        TEST(headers_have_limits),
        TEST(bodies_have_limits),
        TEST(some_bodies_may_be_larger),
        TEST(body_is_sent_after_100_continue),
        TEST(bad_handshakes_keep_the_connection),
        TEST(a_handshake_that_the_core_refuses_ends_it),
        TEST(draining_answers_and_closes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
