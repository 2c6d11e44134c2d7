/* tests/unit/test_net_tickets.c: TLS sessions that are resumed: with which keys, in which versions, and what follows when it is not possible. */
#include <stdio.h>
#include <stdlib.h>

#include <openssl/ssl.h>

#include "base/mem.h"
#include "gateway/keyring.h"
#include "gateway/net/net.h"
#include "tests/support/check.h"
#include "tests/support/net_client.h"
#include "tests/support/net_server.h"

enum { HOUR = 3600 };

struct fixture {
    struct server server;
    SSL_SESSION *session; /* the last one that the server gave us */
};

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    server_init(&f->server, true);
    f->server.cfg.tls_tickets = TICKETS_1_3;
    f->server.cfg.ticket_rotation_s = HOUR;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    SSL_SESSION_free(f->session);
    server_stop(&f->server);
    free(f);
    return 0;
}

/* --- keys --- */

struct keys {
    struct server *server;
    struct secret_record records[SECRETS_MAX];
    size_t n;
};

static void set_keys(void *arg)
{
    const struct keys *k = arg;
    net_ticket_keys(k->server->net, k->records, k->n);
}

/* The secret of that letter, in use for so long. */
static struct secret_record secret(char letter, int64_t age_ms)
{
    static char texts[26][2 * TICKET_SECRET_BYTES];
    size_t i = (size_t)(letter - 'a');
    memset(texts[i], letter, sizeof texts[i]);
    return (struct secret_record){.text = {texts[i], sizeof texts[i]}, .age_ms = age_ms};
}

#define KEYS(f, ...)                                                                                                   \
    do {                                                                                                               \
        const struct secret_record these[] = {__VA_ARGS__};                                                            \
        struct keys k = {.server = &(f)->server, .n = ARRAY_LEN(these)};                                               \
        memcpy(k.records, these, sizeof these);                                                                        \
        server_run(&(f)->server, set_keys, &k);                                                                        \
    } while (0)

/* --- clients --- */

/* Shakes hands, with the last session if there is one; talks; keeps the new session. Returns whether the old one was resumed. */
static bool visit(struct fixture *f, int version)
{
    struct client c;
    char got[5];
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(ctx, version);
    client_connect(&c, f->server.port);
    c.ssl = SSL_new(ctx);
    SSL_CTX_free(ctx);
    SSL_set_fd(c.ssl, c.fd);
    if (f->session != NULL)
        assert_int_equal(SSL_set_session(c.ssl, f->session), 1);
    assert_int_equal(SSL_connect(c.ssl), 1);
    bool resumed = SSL_session_reused(c.ssl) == 1;
    assert_int_equal(client_upgrade(&c, "/ws"), 101);
    for (int i = 0; i < 3; i++) {
        client_send_str(&c, "hello");
        client_recv_all(&c, got, sizeof got);
        assert_memory_equal(got, "hello", 5);
    }
    SSL_SESSION_free(f->session);
    f->session = SSL_get1_session(c.ssl);
    SSL_set_shutdown(c.ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* or OpenSSL would spoil the session */
    client_close(&c);
    return resumed;
}

/* The first bytes of a ticket name its key. */
static char letter_of(const SSL_SESSION *s)
{
    const unsigned char *ticket;
    size_t n;
    SSL_SESSION_get0_ticket(s, &ticket, &n);
    assert_true(n > 16);
    return "abcdef"[(ticket[0] & 15) - 10];
}

static void a_session_is_resumed_again_and_again(void **state)
{
    struct fixture *f = *state;
    server_start(&f->server);
    assert_false(visit(f, TLS1_3_VERSION)); /* before any key is shared: the process has its own */
    assert_true(SSL_SESSION_has_ticket(f->session));
    assert_int_equal(SSL_SESSION_get_ticket_lifetime_hint(f->session), HOUR);
    assert_int_equal(SSL_SESSION_get_max_early_data(f->session), 0);
    for (int i = 0; i < 3; i++)
        assert_true(visit(f, TLS1_3_VERSION));
    KEYS(f, secret('a', 0));
    assert_true(visit(f, TLS1_3_VERSION)); /* what was given out before still counts */
    assert_int_equal(letter_of(f->session), 'a');
    assert_int_equal(metrics->tls_handshakes, 5);
    assert_int_equal(metrics->tls_resumed, 4);
    assert_int_equal(metrics->tls_tickets_unknown, 0);
}

static void keys_follow_each_other(void **state)
{
    struct fixture *f = *state;
    server_start(&f->server);
    KEYS(f, secret('a', 1000), secret('b', -60000));
    assert_false(visit(f, TLS1_3_VERSION));
    assert_int_equal(letter_of(f->session), 'a'); /* b is not in use yet */
    KEYS(f, secret('a', 70000), secret('b', 10000));
    assert_true(visit(f, TLS1_3_VERSION));
    assert_int_equal(letter_of(f->session), 'b');
    KEYS(f, secret('b', 7199999), secret('c', 3600000));
    assert_true(visit(f, TLS1_3_VERSION));
    assert_int_equal(letter_of(f->session), 'c');
}

static void a_key_comes_into_use_by_itself(void **state)
{
    struct fixture *f = *state;
    server_start(&f->server);
    KEYS(f, secret('a', 1000), secret('b', -300));
    assert_false(visit(f, TLS1_3_VERSION));
    struct timespec wait = {.tv_nsec = 400000000};
    (void)nanosleep(&wait, NULL);
    assert_true(visit(f, TLS1_3_VERSION));
    assert_int_equal(letter_of(f->session), 'b');
}

static void an_unknown_key_means_a_full_handshake(void **state)
{
    struct fixture *f = *state;
    server_start(&f->server);
    KEYS(f, secret('a', 0));
    assert_false(visit(f, TLS1_3_VERSION));
    KEYS(f, secret('b', 0));
    assert_false(visit(f, TLS1_3_VERSION));
    assert_int_equal(metrics->tls_tickets_unknown, 1);
    assert_true(visit(f, TLS1_3_VERSION));
    assert_int_equal(metrics->drops[DROP_TLS], 0);
}

static void a_forged_ticket_means_a_full_handshake(void **state)
{
    struct fixture *f = *state;
    server_start(&f->server);
    KEYS(f, secret('a', 0));
    assert_false(visit(f, TLS1_3_VERSION));
    unsigned char bytes[4096], *to = bytes;
    const unsigned char *from = bytes, *ticket;
    size_t n;
    SSL_SESSION_get0_ticket(f->session, &ticket, &n);
    int length = i2d_SSL_SESSION(f->session, &to);
    assert_in_range(length, 1, sizeof bytes);
    unsigned char *in = memmem(bytes, (size_t)length, ticket, n);
    assert_non_null(in);
    in[40] ^= 1; /* its name stays */
    SSL_SESSION_free(f->session);
    f->session = d2i_SSL_SESSION(NULL, &from, length);
    assert_non_null(f->session);
    assert_false(visit(f, TLS1_3_VERSION));
    assert_true(visit(f, TLS1_3_VERSION));
    assert_int_equal(metrics->drops[DROP_TLS], 0);
}

static void what_is_no_key_is_ignored(void **state)
{
    struct fixture *f = *state;
    server_start(&f->server);
    KEYS(f, secret('a', 0));
    assert_false(visit(f, TLS1_3_VERSION));
    const struct secret_record not_hex = secret('x', 0);
    KEYS(f, not_hex, (struct secret_record){.text = SLICE("short")}, (struct secret_record){.text = SLICE_NONE});
    assert_true(visit(f, TLS1_3_VERSION)); /* nothing has changed */
    KEYS(f, not_hex, secret('c', INT64_MAX / 2), secret('d', INT64_MIN / 2));
    assert_false(visit(f, TLS1_3_VERSION));
    assert_int_equal(letter_of(f->session), 'c');
}

static void tls_1_2_only_when_asked_for(void **state)
{
    struct fixture *f = *state;
    server_start(&f->server);
    KEYS(f, secret('a', 0));
    assert_false(visit(f, TLS1_2_VERSION));
    assert_false(SSL_SESSION_has_ticket(f->session));
    assert_false(visit(f, TLS1_2_VERSION));
}

static void tls_1_2_is_resumed_too(void **state)
{
    struct fixture *f = *state;
    f->server.cfg.tls_tickets = TICKETS_ALL;
    server_start(&f->server);
    KEYS(f, secret('a', 0));
    assert_false(visit(f, TLS1_2_VERSION));
    assert_int_equal(letter_of(f->session), 'a');
    assert_true(visit(f, TLS1_2_VERSION));
    KEYS(f, secret('a', 100), secret('b', 0));
    assert_true(visit(f, TLS1_2_VERSION));
    assert_int_equal(letter_of(f->session), 'b'); /* renewed */
    assert_int_equal(metrics->tls_resumed, 2);
}

static void reload(void *arg)
{
    struct fixture *f = arg;
    struct error error;
    assert_int_equal(net_reload_tls(f->server.net, &error), OK);
}

static void tickets_outlive_a_new_certificate(void **state)
{
    struct fixture *f = *state;
    server_start(&f->server);
    KEYS(f, secret('a', 0));
    assert_false(visit(f, TLS1_3_VERSION));
    make_certificate("second", 30, f->server.cfg.tls_cert, f->server.cfg.tls_key);
    server_run(&f->server, reload, f);
    assert_true(visit(f, TLS1_3_VERSION));
    f->server.cfg.tls_tickets = TICKETS_OFF;
    server_run(&f->server, reload, f);
    assert_false(visit(f, TLS1_3_VERSION));
    assert_false(SSL_SESSION_has_ticket(f->session));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_session_is_resumed_again_and_again),
        TEST(keys_follow_each_other),
        TEST(a_key_comes_into_use_by_itself),
        TEST(an_unknown_key_means_a_full_handshake),
        TEST(a_forged_ticket_means_a_full_handshake),
        TEST(what_is_no_key_is_ignored),
        TEST(tls_1_2_only_when_asked_for),
        TEST(tls_1_2_is_resumed_too),
        TEST(tickets_outlive_a_new_certificate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
