/* tests/unit/test_net_tls.c: certificates, their reload, and what TLS is spoken. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>

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
    server_init(&f->server, true);
    server_start(&f->server);
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

static void both_versions_are_spoken_and_no_older(void **state)
{
    struct fixture *f = *state;
    client_connect(&f->client, f->server.port);
    assert_true(client_tls(&f->client, TLS1_2_VERSION));
    assert_string_equal(SSL_get_version(f->client.ssl), "TLSv1.2");
    assert_int_equal(client_upgrade(&f->client, "/ws"), 101);
    client_send_str(&f->client, "hello");
    char got[5];
    client_recv_all(&f->client, got, sizeof got);
    client_connect(&f->other, f->server.port);
    assert_true(client_tls(&f->other, 0));
    assert_string_equal(SSL_get_version(f->other.ssl), "TLSv1.3");
    assert_string_equal(SSL_get_cipher(f->other.ssl), "TLS_AES_128_GCM_SHA256");
    const unsigned char *alpn;
    unsigned n;
    SSL_get0_alpn_selected(f->other.ssl, &alpn, &n);
    assert_slice(((struct slice){(const char *)alpn, n}), "http/1.1");
    assert_int_equal(client_upgrade(&f->other, "/ws"), 101); /* its end of the handshake is counted by now */
    client_close(&f->other);
    client_connect(&f->other, f->server.port);
    assert_false(client_tls(&f->other, TLS1_1_VERSION));
    assert_int_equal(metrics->tls_handshakes, 2);
}

static void no_session_is_kept(void **state)
{
    struct fixture *f = *state;
    client_connect(&f->client, f->server.port);
    assert_true(client_tls(&f->client, TLS1_2_VERSION));
    SSL_SESSION *session = SSL_get0_session(f->client.ssl);
    assert_false(SSL_SESSION_has_ticket(session));
    unsigned n;
    (void)SSL_SESSION_get_id(session, &n);
    assert_int_equal(n, 0);
}

static void renegotiation_is_refused(void **state)
{
    struct fixture *f = *state;
    client_connect(&f->client, f->server.port);
    assert_true(client_tls(&f->client, TLS1_2_VERSION));
    assert_int_equal(client_upgrade(&f->client, "/ws"), 101);
    char byte;
    if (SSL_renegotiate(f->client.ssl) == 1 && SSL_do_handshake(f->client.ssl) == 1)
        assert_true(SSL_read(f->client.ssl, &byte, 1) <= 0);
}

static void key_update_is_answered(void **state)
{
    struct fixture *f = *state;
    client_open(&f->client, f->server.port, true);
    assert_int_equal(client_upgrade(&f->client, "/ws"), 101);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(SSL_key_update(f->client.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        client_send_str(&f->client, "hello");
        char got[5];
        client_recv_all(&f->client, got, sizeof got);
        assert_memory_equal(got, "hello", 5);
    }
}

static void count_key_updates(int sent, int version, int type, const void *p, size_t n, SSL *ssl, void *arg)
{
    unsigned *count = arg;
    (void)version;
    (void)ssl;
    *count += !sent && type == SSL3_RT_HANDSHAKE && n != 0 && *(const unsigned char *)p == SSL3_MT_KEY_UPDATE;
}

/* However many are asked for while nothing is to be said. */
static void one_key_update_answers_many(void **state)
{
    struct fixture *f = *state;
    unsigned count = 0;
    char got[5];
    client_open(&f->client, f->server.port, true);
    assert_int_equal(client_upgrade(&f->client, "/ws"), 101);
    SSL_set_msg_callback(f->client.ssl, count_key_updates);
    SSL_set_msg_callback_arg(f->client.ssl, &count);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(SSL_key_update(f->client.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(f->client.ssl), 1);
    }
    for (int i = 0; i < 2; i++) {
        client_send_str(&f->client, "hello");
        client_recv_all(&f->client, got, sizeof got);
        assert_memory_equal(got, "hello", 5);
    }
    assert_int_equal(count, 1);
}

/* A TLS 1.3 connection with one suite, and records padded to a multiple of `padding`. */
static void open_suite(struct client *c, int port, const char *suite, size_t padding)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    assert_int_equal(SSL_CTX_set_ciphersuites(ctx, suite), 1);
    assert_int_equal(SSL_CTX_set_block_padding(ctx, padding), 1);
    client_connect(c, port);
    c->ssl = SSL_new(ctx);
    SSL_CTX_free(ctx);
    SSL_set_fd(c->ssl, c->fd);
    assert_int_equal(SSL_connect(c->ssl), 1);
}

static void every_suite_carries_long_streams(void **state)
{
    struct fixture *f = *state;
    static const char *const suites[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                                         "TLS_CHACHA20_POLY1305_SHA256"};
    enum { SIZE = 12000, ROUNDS = 20 };
    AUTO_FREE char *sent = xmalloc(SIZE), *got = xmalloc(SIZE);
    for (size_t i = 0; i < ARRAY_LEN(suites); i++) {
        open_suite(&f->client, f->server.port, suites[i], i * 512);
        assert_string_equal(SSL_get_cipher(f->client.ssl), suites[i]);
        assert_int_equal(client_upgrade(&f->client, "/ws"), 101);
        for (int round = 0; round < ROUNDS; round++) {
            memset(sent, 'a' + round, SIZE);
            client_send(&f->client, sent, SIZE);
            client_recv_all(&f->client, got, SIZE);
            assert_memory_equal(got, sent, SIZE);
        }
        client_close(&f->client);
    }
}

static void the_end_is_said_both_ways(void **state)
{
    struct fixture *f = *state;
    client_open(&f->client, f->server.port, true);
    assert_int_equal(client_upgrade(&f->client, "/ws"), 101);
    assert_int_equal(SSL_shutdown(f->client.ssl), 0); /* said, not heard */
    char byte;
    assert_int_equal(client_recv(&f->client, &byte, 1), 0); /* close_notify, not just the end of the stream */
    server_wait_gone(&f->server, 1);
    assert_string_equal(f->server.last_why, "peer");
    assert_int_equal(metrics->drops[DROP_TLS], 0);
}

/* Bytes in place of a record: the server says why before it goes. */
static void check_alert(struct fixture *f, const char *bytes, size_t n, const char *want)
{
    ERR_clear_error();
    client_open(&f->client, f->server.port, true);
    assert_int_equal(client_upgrade(&f->client, "/ws"), 101);
    assert_int_equal(write(f->client.fd, bytes, n), n);
    char byte;
    assert_int_equal(client_recv(&f->client, &byte, 1), -1);
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    if (reason == NULL || strstr(reason, want) == NULL) /* what stands before it depends on the version of OpenSSL */
        fail_msg("%s, want %s", reason != NULL ? reason : "no alert", want);
    client_close(&f->client);
}

static void bad_records_are_answered_with_an_alert(void **state)
{
    struct fixture *f = *state;
    check_alert(f, "\x17\x03\x03\x00\x20garbage garbage garbage garbage!", 37, "alert bad record mac");
    check_alert(f, "\x17\x03\x03\x41\x01", 5, "alert record overflow");
    check_alert(f, "\x14\x03\x03\x00\x01\x01", 6, "alert unexpected message");
    check_alert(f, "\x16\x03\x01\x00\x05hello", 10, "alert unexpected message");
    server_wait_gone(&f->server, 4);
    assert_int_equal(metrics->drops[DROP_TLS], 4);
}

static void garbage_is_counted(void **state)
{
    struct fixture *f = *state;
    client_connect(&f->client, f->server.port);
    client_send_str(&f->client, "GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    char buf[64];
    while (client_recv(&f->client, buf, sizeof buf) > 0) { /* an alert, then the end */
    }
    assert_int_equal(metrics->drops[DROP_TLS], 1);
    /* After the handshake as well. */
    client_open(&f->other, f->server.port, true);
    assert_int_equal(client_upgrade(&f->other, "/ws"), 101);
    assert_int_equal(write(f->other.fd, "\x17\x03\x03\x00\x20garbage garbage garbage garbage!", 37), 37);
    server_wait_gone(&f->server, 1);
    assert_string_equal(f->server.last_why, "tls");
    assert_int_equal(metrics->drops[DROP_TLS], 2);
}

struct reload {
    struct server *server;
    enum err err;
    struct error error;
};

static void reload(void *arg)
{
    struct reload *r = arg;
    r->err = net_reload_tls(r->server->net, &r->error);
}

static void check_name(struct fixture *f, const char *want)
{
    struct client c;
    char name[32];
    client_open(&c, f->server.port, true);
    client_peer_name(&c, name, sizeof name);
    client_close(&c);
    assert_string_equal(name, want);
}

static void reload_serves_the_new_certificate(void **state)
{
    struct fixture *f = *state;
    struct reload r = {.server = &f->server};
    check_name(f, "first");
    client_open(&f->client, f->server.port, true);
    assert_int_equal(client_upgrade(&f->client, "/ws"), 101);
    client_connect(&f->other, f->server.port); /* accepted, no ClientHello yet */
    server_wait_open(&f->server, 2);

    make_certificate("second", 30, f->server.cfg.tls_cert, f->server.cfg.tls_key);
    check_name(f, "first"); /* files alone change nothing */
    server_run(&f->server, reload, &r);
    assert_int_equal(r.err, OK);
    check_name(f, "second");
    client_send_str(&f->client, "hello"); /* the open connection lives on */
    char got[5];
    client_recv_all(&f->client, got, sizeof got);
    assert_true(client_tls(&f->other, 0));

    /* A key that does not fit, or no certificate at all: nothing changes. */
    make_certificate("third", 30, f->server.cfg.tls_cert, test_file("unused.pem"));
    server_run(&f->server, reload, &r);
    assert_int_equal(r.err, ERR_BAD_REQUEST);
    assert_non_null(strstr(r.error.text, "key.pem: the key does not belong to the certificate"));
    assert_int_equal(unlink(f->server.cfg.tls_cert), 0);
    server_run(&f->server, reload, &r);
    assert_int_equal(r.err, ERR_BAD_REQUEST);
    assert_non_null(strstr(r.error.text, "cert.pem: No such file or directory"));
    check_name(f, "second");
}

static void write_file(const char *name, const char *text)
{
    FILE *f = fopen(name, "w");
    assert_non_null(f);
    (void)fputs(text, f);
    (void)fclose(f);
}

static void check(const char *cert, const char *key, const char *want)
{
    struct config cfg = {.tls_cert = cert != NULL ? xstrdup(cert) : NULL, .tls_key = key != NULL ? xstrdup(key) : NULL};
    struct error e = {0};
    enum err err = net_check_tls(&cfg, &e);
    if (want == NULL && err != OK)
        fail_msg("%s", e.text);
    if (want != NULL && (err == OK || strstr(e.text, want) == NULL))
        fail_msg("\"%s\" does not say \"%s\"", e.text, want);
    free(cfg.tls_cert);
    free(cfg.tls_key);
}

static void check_tells_what_is_wrong(void **state)
{
    (void)state;
    const char *cert = test_file("c.pem"), *key = test_file("k.pem"), *locked = test_file("locked.pem"),
               *text = test_file("t.pem");
    make_certificate("x", 30, cert, key);
    check(cert, key, NULL);
    check(NULL, NULL, "insecure");
    check(cert, test_file("nothing.pem"), "No such file");
    write_file(text, "not a certificate\n");
    check(text, key, "t.pem: no start line");
    check(cert, text, "t.pem: ");
    check(cert, "/", "/: ");
    FILE *f = fopen(locked, "w");
    assert_non_null(f);
    EVP_PKEY *secret = EVP_EC_gen("P-256");
    assert_int_equal(PEM_write_PrivateKey(f, secret, EVP_aes_128_cbc(), (const unsigned char *)"secret", 6, NULL, NULL),
                     1);
    EVP_PKEY_free(secret);
    (void)fclose(f);
    check(cert, locked, "locked.pem: the key has a passphrase");
    make_certificate("old", -1, cert, key);
    check(cert, key, NULL); /* a warning; refusing to start would be worse */
}

#define TEST(test)                                                                                                     \
    {                                                                                                                  \
#test, test, setup, teardown, NULL                                                                             \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(both_versions_are_spoken_and_no_older),
        TEST(no_session_is_kept),
        TEST(renegotiation_is_refused),
        TEST(key_update_is_answered),
        TEST(one_key_update_answers_many),
        TEST(every_suite_carries_long_streams),
        TEST(the_end_is_said_both_ways),
        TEST(bad_records_are_answered_with_an_alert),
        TEST(garbage_is_counted),
        TEST(reload_serves_the_new_certificate),
        cmocka_unit_test(check_tells_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
