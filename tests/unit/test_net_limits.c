/* tests/unit/test_net_limits.c: what strangers may cost: connections, time, rate, descriptors; and who they say they are. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "gateway/net/net.h"
#include "tests/support/check.h"
#include "tests/support/net_client.h"
#include "tests/support/net_server.h"

struct fixture {
    struct server server;
    struct client client, other;
};

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    f->client.fd = f->other.fd = -1;
    server_init(&f->server, *state != NULL);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    client_close(&f->client);
    client_close(&f->other);
    server_stop(&f->server);
    free(f);
    return 0;
}

static uint64_t now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void total_of_connections_is_limited(void **state)
{
    struct fixture *f = *state;
    f->server.cfg.max_connections = 1;
    server_start(&f->server);
    client_open(&f->client, f->server.port, false);
    assert_int_equal(client_upgrade(&f->client, "/ws"), 101);
    client_connect(&f->other, f->server.port);
    assert_true(client_ended(&f->other));
    server_wait_count(&f->server, &metrics->drops[DROP_MAX_CONNECTIONS], 1);
    client_close(&f->other);
    client_close(&f->client);
    server_wait_open(&f->server, 0);
    client_open(&f->client, f->server.port, false);
    assert_int_equal(client_upgrade(&f->client, "/ws"), 101);
}

static void connections_per_address_are_limited(void **state)
{
    struct fixture *f = *state;
    f->server.cfg.max_connections_per_ip = 1;
    server_start(&f->server);
    client_open(&f->client, f->server.port, false);
    assert_int_equal(client_upgrade(&f->client, "/ws"), 101);
    client_connect(&f->other, f->server.port);
    assert_true(client_ended(&f->other));
    assert_int_equal(metrics->drops[DROP_PER_IP], 1);
    client_close(&f->client);
    client_close(&f->other);
    server_wait_open(&f->server, 0);
    client_open(&f->client, f->server.port, false);
    assert_int_equal(client_upgrade(&f->client, "/ws"), 101);
}

static void proxy_header_names_the_client(void **state)
{
    struct fixture *f = *state;
    f->server.cfg.proxy_protocol = PROXY_ON;
    f->server.cfg.max_connections_per_ip = 1;
    server_start(&f->server);
    client_connect(&f->client, f->server.port);
    client_send_str(&f->client, "PROXY TCP4 203.0.113.7 10.0.0.1 51234 443\r\n");
    assert_true(client_tls(&f->client, 0));
    assert_int_equal(client_upgrade(&f->client, "/ws"), 101);
    assert_string_equal(f->server.last_ip, "203.0.113.7");
    /* The limit is for the client's address, not the proxy's. Header and ClientHello may come in one segment, or in pieces. */
    client_connect(&f->other, f->server.port);
    static const char v2[] = "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x08\x0a\0\0\1\xc8\x22\x01\xbb";
    for (size_t i = 0; i < sizeof v2 - 1; i += 7) {
        client_send(&f->other, v2 + i, sizeof v2 - 1 - i < 7 ? sizeof v2 - 1 - i : 7);
        usleep(2000);
    }
    assert_true(client_tls(&f->other, 0));
    assert_int_equal(client_upgrade(&f->other, "/ws"), 101);
    assert_string_equal(f->server.last_ip, "203.0.113.8");
    client_close(&f->other);
    client_connect(&f->other, f->server.port);
    client_send_str(&f->other, "PROXY TCP4 203.0.113.7 10.0.0.1 51235 443\r\n");
    assert_true(client_ended(&f->other));
    assert_int_equal(metrics->drops[DROP_PER_IP], 1);
}

static void missing_or_bad_proxy_header_is_refused(void **state)
{
    struct fixture *f = *state;
    f->server.cfg.proxy_protocol = PROXY_ON;
    server_start(&f->server);
    client_connect(&f->client, f->server.port);
    assert_false(client_tls(&f->client, 0));
    server_wait_count(&f->server, &metrics->drops[DROP_PROXY], 1);
    client_connect(&f->other, f->server.port);
    client_send_str(&f->other, "PROXY TCP4 nobody 10.0.0.1 51235 443\r\n");
    assert_true(client_ended(&f->other));
    assert_int_equal(metrics->drops[DROP_PROXY], 2);
}

static void proxy_header_may_be_optional(void **state)
{
    struct fixture *f = *state;
    f->server.cfg.proxy_protocol = PROXY_OPTIONAL;
    server_start(&f->server);
    client_open(&f->client, f->server.port, true);
    assert_int_equal(client_upgrade(&f->client, "/ws"), 101);
    assert_string_equal(f->server.last_ip, "127.0.0.1");
    client_connect(&f->other, f->server.port);
    client_send_str(&f->other, "PROXY TCP6 2001:db8::5 2001:db8::1 51234 443\r\n");
    assert_true(client_tls(&f->other, 0));
    assert_int_equal(client_upgrade(&f->other, "/ws"), 101);
    assert_string_equal(f->server.last_ip, "2001:db8::5");
}

static void silent_connection_is_closed(void **state)
{
    struct fixture *f = *state;
    f->server.cfg.handshake_timeout_s = 1;
    server_start(&f->server);
    uint64_t start = now_ms();
    client_connect(&f->client, f->server.port);
    assert_true(client_ended(&f->client));
    assert_true(now_ms() - start >= 900);
    assert_int_equal(metrics->drops[DROP_HANDSHAKE_TIMEOUT], 1);
}

/* A byte now and then does not buy more time: the answer comes sooner after the last one than the time is long. */
static void slow_header_is_answered_and_closed(void **state)
{
    struct fixture *f = *state;
    f->server.cfg.handshake_timeout_s = 2;
    server_start(&f->server);
    uint64_t start = now_ms(), last = start;
    client_open(&f->client, f->server.port, true);
    client_send_str(&f->client, "GET / HTTP/1.1\r\nHost: t\r\nX-Slow: ");
    for (usleep(100000); now_ms() - start < 1500; usleep(100000)) {
        client_send_str(&f->client, "x");
        last = now_ms();
    }
    assert_true(last > start);
    assert_int_equal(client_response(&f->client, false), 408);
    assert_non_null(strstr(f->client.text, "\"code\":\"timeout\""));
    assert_true(now_ms() - start >= 1900);
    assert_true(now_ms() - last < 2000);
    assert_true(client_ended(&f->client));
    assert_int_equal(metrics->drops[DROP_HANDSHAKE_TIMEOUT], 1);
}

static void half_a_tls_handshake_is_closed(void **state)
{
    struct fixture *f = *state;
    f->server.cfg.handshake_timeout_s = 1;
    server_start(&f->server);
    client_connect(&f->client, f->server.port);
    client_send(&f->client, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 9);
    assert_true(client_ended(&f->client));
    assert_int_equal(metrics->drops[DROP_HANDSHAKE_TIMEOUT], 1);
    assert_int_equal(metrics->tls_handshakes, 0);
}

static void idle_websocket_is_left_alone(void **state)
{
    struct fixture *f = *state;
    f->server.cfg.handshake_timeout_s = 1;
    server_start(&f->server);
    client_open(&f->client, f->server.port, true);
    assert_int_equal(client_upgrade(&f->client, "/ws"), 101);
    usleep(1500000);
    client_send_str(&f->client, "hello");
    char got[5];
    client_recv_all(&f->client, got, sizeof got);
}

/* The wheel of deadlines stands still without connections; it must not run ahead when one comes. */
static void deadlines_are_right_after_a_quiet_time(void **state)
{
    struct fixture *f = *state;
    f->server.cfg.handshake_timeout_s = 1;
    server_start(&f->server);
    client_open(&f->client, f->server.port, false);
    client_close(&f->client);
    server_wait_open(&f->server, 0);
    usleep(1500000);
    client_open(&f->client, f->server.port, false);
    usleep(600000);
    assert_int_equal(client_upgrade(&f->client, "/ws"), 101);
}

enum { CROWD = 20 };
static struct client crowd[CROWD];

static void come_at_once(void *arg)
{
    const struct fixture *f = arg;
    for (int i = 0; i < CROWD; i++)
        client_open(&crowd[i], f->server.port, false);
}

static void accepts_are_paced(void **state)
{
    struct fixture *f = *state;
    f->server.cfg.max_accepts_per_second = 40;
    server_start(&f->server);
    uint64_t start = now_ms();
    server_run(&f->server, come_at_once, f); /* nobody is accepted meanwhile */
    for (int i = 0; i < CROWD; i++) {
        client_send_str(&crowd[i], "GET / HTTP/1.1\r\nHost: t\r\n\r\n");
        assert_int_equal(client_response(&crowd[i], false), 200); /* nobody is dropped */
        client_close(&crowd[i]);
    }
    assert_in_range(now_ms() - start, 350, 10000); /* 20 at 40/s, less a burst of 4 */
    assert_true(metrics->drops[DROP_ACCEPT_RATE] > 0);
    assert_int_equal(metrics->accepts, CROWD);
}

static void be_late(void *arg)
{
    const struct fixture *f = arg;
    net_lag(f->server.net, 199999); /* not yet */
    net_lag(f->server.net, 1000000);
    net_lag(f->server.net, 800000); /* rests already */
}

/* A client that comes while the loop is behind waits in the backlog; those who are there already do not notice. */
static void accepting_rests_while_the_loop_is_behind(void **state)
{
    struct fixture *f = *state;
    f->server.cfg.overload_lag_ms = 200;
    server_start(&f->server);
    client_open(&f->other, f->server.port, false);
    assert_int_equal(client_upgrade(&f->other, "/ws"), 101);
    server_run(&f->server, be_late, f);
    uint64_t start = now_ms();
    client_open(&f->client, f->server.port, false);
    client_send_str(&f->other, "alive");
    char got[5];
    client_recv_all(&f->other, got, sizeof got);
    assert_int_equal(f->server.accepts_at_input, 1);
    client_send_str(&f->client, "GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_int_equal(client_response(&f->client, false), 200);
    assert_in_range(now_ms() - start, 950, 10000);
    assert_int_equal(metrics->accept_rests, 1);
    server_run(&f->server, be_late, f); /* somebody was let in meanwhile */
    assert_int_equal(metrics->accept_rests, 2);
    f->server.cfg.overload_lag_ms = 0;
    client_close(&f->client);
    client_open(&f->client, f->server.port, false);
    client_send_str(&f->client, "GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_int_equal(client_response(&f->client, false), 200);
    server_run(&f->server, be_late, f);
    assert_int_equal(metrics->accept_rests, 2);
}

static void set_limit(void *arg)
{
    struct rlimit l;
    (void)getrlimit(RLIMIT_NOFILE, &l);
    l.rlim_cur = *(rlim_t *)arg;
    (void)setrlimit(RLIMIT_NOFILE, &l);
}

/* Client and server share the descriptors of this process: the client's socket is made before the limit falls. */
static void descriptors_run_out(void **state)
{
    struct fixture *f = *state;
    server_start(&f->server);
    client_open(&f->other, f->server.port, false);
    assert_int_equal(client_upgrade(&f->other, "/ws"), 101);
    struct rlimit before;
    (void)getrlimit(RLIMIT_NOFILE, &before);
    int next = dup(0); /* the lowest free descriptor, taken by the coming client */
    (void)close(next);
    rlim_t low = (rlim_t)next + 1, high = before.rlim_cur;
    server_run(&f->server, set_limit, &low);
    client_connect(&f->client, f->server.port);
    assert_int_equal(f->client.fd, next);
    bool refused = client_ended(&f->client);
    server_run(&f->server, set_limit, &high);
    assert_true(refused);
    assert_int_equal(metrics->drops[DROP_FD_LIMIT], 1);
    client_close(&f->client);
    client_send_str(&f->other, "alive");
    char got[5];
    client_recv_all(&f->other, got, sizeof got);
    client_open(&f->client, f->server.port, false);
    assert_int_equal(client_upgrade(&f->client, "/ws"), 101);
}

static void listen_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *listen;
        const char *error; /* NULL: can be listened to */
    } cases[] = {
        {"127.0.0.1:0", NULL},
        {"localhost:0", NULL},
        {":0", NULL},
        {"127.0.0.1", "not ADDRESS:PORT"},
        {"127.0.0.1:", "not ADDRESS:PORT"},
        {"127.0.0.1:http", "not ADDRESS:PORT"},
        {"::1:80", "brackets"},
        {"192.0.2.1:0", "192.0.2.1:0"}, /* not ours */
    };
    int fds = count_fds();
    struct loop *loop = loop_ev_create();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *item = xstrdup(cases[i].listen);
        struct config cfg = {.listen = {&item, 1}, .insecure = true, .workers = 1};
        struct error e = {0};
        struct net *n = net_create(loop, &cfg, &e);
        bool as_told = cases[i].error == NULL ? n != NULL : n == NULL && strstr(e.text, cases[i].error) != NULL;
        if (!as_told)
            fail_msg("%s: %s", cases[i].listen, e.text);
        net_destroy(&n);
        free(item);
    }
    loop_ev_destroy(&loop);
    assert_int_equal(count_fds(), fds);
}

#define TLS(test)                                                                                                      \
    {                                                                                                                  \
#test, test, setup, teardown, (void *)1                                                                        \
    }
#define PLAIN(test)                                                                                                    \
    {                                                                                                                  \
#test, test, setup, teardown, NULL                                                                             \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAIN(total_of_connections_is_limited),
        PLAIN(connections_per_address_are_limited),
        TLS(proxy_header_names_the_client),
        TLS(missing_or_bad_proxy_header_is_refused),
        TLS(proxy_header_may_be_optional),
        TLS(silent_connection_is_closed),
        TLS(slow_header_is_answered_and_closed),
        TLS(half_a_tls_handshake_is_closed),
        TLS(idle_websocket_is_left_alone),
        PLAIN(deadlines_are_right_after_a_quiet_time),
        PLAIN(accepts_are_paced),
        PLAIN(accepting_rests_while_the_loop_is_behind),
        PLAIN(descriptors_run_out),
        cmocka_unit_test(listen_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
