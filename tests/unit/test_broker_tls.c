/* tests/unit/test_broker_tls.c: TLS to a real Redis: certificates that are good, and every way in which they are not. */
#include "tests/unit/broker_suite.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/table.h"
#include "tests/support/certificates.h"
#include "tests/support/log_catch.h"
#include "tests/support/proxy.h"

static char dir[] = "/tmp/xindao-tls-XXXXXX";
static struct authority ours, strange;

static void use_certificate(const char *name)
{
    freeReplyObject(redis_fixture_command(&redis, "CONFIG SET tls-cert-file %s/%s.pem tls-key-file %s/%s.key", dir,
                                          name, dir, name));
}

static void want_clients(const char *how)
{
    freeReplyObject(redis_fixture_command(&redis, "CONFIG SET tls-auth-clients %s", how));
}

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    freeReplyObject(redis_fixture_command(&redis, "FLUSHALL"));
    freeReplyObject(redis_fixture_command(&redis, "CONFIG SET tls-protocols %s", ""));
    use_certificate("good");
    want_clients("optional");
    loop_fake_init(&f->loop);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    log_catch_stop(true);
    world_fini(&f->w);
    loop_fake_fini(&f->loop);
    free(f);
    return 0;
}

static struct world *connect_with(void **state, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static struct world *connect_with(void **state, const char *fmt, ...)
{
    struct fixture *f = *state;
    char url[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(url, sizeof url, fmt, ap);
    va_end(ap);
    struct broker_config cfg = world_config(url, "gw1-tttttt");
    world_init(&f->w, &f->loop, &cfg);
    return &f->w;
}

/* Connecting to host:port with these parameters fails, and the log says `why`. */
static void refused(void **state, const char *host, int port, const char *parameters, const char *why)
{
    struct fixture *f = *state;
    log_catch_start();
    struct world *w = connect_with(state, "rediss://%s:%d?%s", host, port, parameters);
    for (int i = 0; i < 200 && !log_caught(why); i++) {
        loop_fake_linger(&f->loop, 10);
        loop_fake_advance(&f->loop, 20);
    }
    bool told = log_caught(why);
    log_catch_stop(!told);
    assert_true(told);
    assert_false(w->up);
    assert_non_null(w->broker->ops->not_ready(w->broker));
    world_fini(w);
}

static void commands_and_messages_go_through_tls(void **state)
{
    struct world *w = connect_with(state, "rediss://127.0.0.1:%d/2?ca=%s", redis.tls_port, ours.file);
    world_ready(w);
    do_subscribe(w, "lobby");
    for (int i = 0; i < 100; i++)
        assert_int_equal(do_say(w, "lobby", "hello")->err, OK);
    world_expect(w, 100);
    assert_string_equal(w->seen[99].data, "hello");
    /* Both connections, and only they, came by TLS: nobody else is there but the fixture. */
    assert_int_equal(w->broker->stats.reconnects, 0);
}

static struct answer *ask_publish(struct world *w, struct slice data)
{
    struct answer *a = answer_new();
    struct publish p = {.room = SLICE("big"), .data = data, .data_type = DATA_BINARY};
    w->broker->ops->publish(w->broker, &p, answered, a);
    return a;
}

static bool all_answered(void *arg)
{
    struct answer **a = arg;
    for (size_t i = 0; i < 12; i++)
        if (a[i]->times == 0)
            return false;
    return true;
}

/* More than any socket buffer holds, to a Redis that stands still: records are written in part and gone on with. */
static void large_messages_survive_full_buffers(void **state)
{
    enum { SIZE = 1 << 20 };
    struct world *w = connect_with(state, "rediss://127.0.0.1:%d?ca=%s", redis.tls_port, ours.file);
    world_ready(w);
    do_subscribe(w, "big");
    AUTO_FREE char *data = xmalloc(SIZE);
    struct answer *a[12];
    for (size_t i = 0; i < SIZE; i++)
        data[i] = (char)(i * 7 + i / 251);
    redis_fixture_pause(&redis);
    for (size_t i = 0; i < ARRAY_LEN(a); i++)
        a[i] = ask_publish(w, (struct slice){data, SIZE - i});
    loop_fake_linger(w->loop, 100);
    assert_int_equal(w->count, 0);
    redis_fixture_resume(&redis);
    assert_true(loop_fake_until(w->loop, all_answered, a, 20000));
    world_expect(w, ARRAY_LEN(a));
    for (size_t i = 0; i < ARRAY_LEN(a); i++) {
        assert_int_equal(a[i]->err, OK);
        assert_int_equal(w->seen[i].data_n, SIZE - i);
        assert_memory_equal(w->seen[i].data, data, SIZE - i);
    }
    assert_int_equal(w->broker->stats.reconnects, 0);
}

static void records_may_arrive_byte_by_byte(void **state)
{
    struct fixture *f = *state;
    struct proxy proxy;
    proxy_start(&proxy, &f->loop.loop, redis.tls_port);
    proxy.one_byte = true;
    struct world *w = connect_with(state, "rediss://127.0.0.1:%d?ca=%s", proxy.port, ours.file);
    world_ready(w);
    do_subscribe(w, "lobby");
    assert_int_equal(do_say(w, "lobby", "1")->err, OK);
    world_expect(w, 1);
    proxy_cut(&proxy);
    loop_fake_linger(w->loop, 50);
    assert_false(w->up);
    world_recover(w);
    assert_int_equal(do_say(w, "lobby", "2")->err, OK);
    world_expect(w, 2);
    world_fini(w);
    proxy_stop(&proxy);
}

static void tls_1_2_will_do(void **state)
{
    freeReplyObject(redis_fixture_command(&redis, "CONFIG SET tls-protocols TLSv1.2"));
    struct world *w = connect_with(state, "rediss://127.0.0.1:%d?ca=%s", redis.tls_port, ours.file);
    world_ready(w);
    assert_int_equal(do_say(w, "lobby", "1")->err, OK);
}

static void the_name_must_be_right(void **state)
{
    char parameters[256];
    (void)snprintf(parameters, sizeof parameters, "ca=%s", ours.file);
    use_certificate("named");
    refused(state, "127.0.0.1", redis.tls_port, parameters, "IP address mismatch (it must be for 127.0.0.1)");
    refused(state, "localhost", redis.tls_port, parameters, "mismatch (it must be for localhost)");
    struct world *w =
        connect_with(state, "rediss://127.0.0.1:%d?ca=%s&server_name=redis.test", redis.tls_port, ours.file);
    world_ready(w);
    world_fini(w);
    w = connect_with(state, "rediss://127.0.0.1:%d?ca=%s&server_name=a.many.test", redis.tls_port, ours.file);
    world_ready(w);
    world_fini(w);
    (void)snprintf(parameters, sizeof parameters, "ca=%s&server_name=many.test", ours.file);
    refused(state, "127.0.0.1", redis.tls_port, parameters, "mismatch (it must be for many.test)");
    use_certificate("good");
    w = connect_with(state, "rediss://localhost:%d?ca=%s", redis.tls_port, ours.file);
    world_recover(w);
}

static void the_authority_must_be_known(void **state)
{
    char parameters[256];
    (void)snprintf(parameters, sizeof parameters, "ca=%s", strange.file);
    refused(state, "127.0.0.1", redis.tls_port, parameters,
            "self-signed certificate in certificate chain (whom to trust is said by ca=FILE)");
    refused(state, "127.0.0.1", redis.tls_port, "server_name=127.0.0.1",
            "self-signed certificate in certificate chain (whom to trust is said by ca=FILE)");
    (void)snprintf(parameters, sizeof parameters, "ca=%s", ours.file);
    use_certificate("old");
    refused(state, "127.0.0.1", redis.tls_port, parameters, "certificate has expired");
    /* A certificate that becomes good is enough: the next attempt sees it. */
    struct world *w = connect_with(state, "rediss://127.0.0.1:%d?ca=%s", redis.tls_port, ours.file);
    loop_fake_linger(w->loop, 100);
    assert_false(w->up);
    use_certificate("good");
    world_recover(w);
}

static void clients_may_need_a_certificate(void **state)
{
    char parameters[256];
    (void)snprintf(parameters, sizeof parameters, "ca=%s", ours.file);
    want_clients("yes");
    refused(state, "127.0.0.1", redis.tls_port, parameters, "does it want a client certificate");
    struct world *w = connect_with(state, "rediss://127.0.0.1:%d?ca=%s&cert=%s/client.pem&key=%s/client.key",
                                   redis.tls_port, ours.file, dir, dir);
    world_ready(w);
}

static void ports_may_be_mixed_up(void **state)
{
    struct fixture *f = *state;
    char parameters[256];
    (void)snprintf(parameters, sizeof parameters, "ca=%s", ours.file);
    refused(state, "127.0.0.1", redis.port, parameters, "is it a port for TLS?");
    log_catch_start();
    struct world *w = connect_with(state, "redis://127.0.0.1:%d", redis.tls_port);
    loop_fake_linger(&f->loop, 100);
    bool told =
        log_caught("is it a port for TLS?") || log_caught("closed the connection") || log_caught("reset by peer");
    log_catch_stop(!told);
    assert_true(told);
    assert_false(w->up);
}

static void files_are_read_at_the_start(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *ca, *cert, *key, *error;
    } cases[] = {{"no.pem", "client.pem", "client.key", "/no.pem: No such file"},
                 {"good.key", "client.pem", "client.key", "ca /tmp/"},
                 {"ours.pem", "no.pem", "client.key", "/no.pem: No such file"},
                 {"ours.pem", "client.pem", "no.key", "/no.key: No such file"},
                 {"ours.pem", "client.pem", "good.key", "it does not belong to the certificate"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char url[400];
        struct error error;
        (void)snprintf(url, sizeof url, "rediss://h?ca=%s/%s&cert=%s/%s&key=%s/%s", dir, cases[i].ca, dir,
                       cases[i].cert, dir, cases[i].key);
        struct broker_config cfg = world_config(url, "gw1-tttttt");
        assert_null(broker_create(&f->loop.loop, &cfg, NULL, NULL, &error));
        assert_int_equal(error.code, ERR_BAD_REQUEST);
        if (strstr(error.text, cases[i].error) == NULL)
            fail_msg("case %zu: %s", i, error.text);
    }
    (void)connect_with(state, "rediss://127.0.0.1:%d?ca=%s", redis.tls_port,
                       ours.file); /* destroyed while it connects */
    loop_fake_run(&f->loop);
}

#undef T
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(commands_and_messages_go_through_tls),
        T(large_messages_survive_full_buffers),
        T(records_may_arrive_byte_by_byte),
        T(tls_1_2_will_do),
        T(the_name_must_be_right),
        T(the_authority_must_be_known),
        T(clients_may_need_a_certificate),
        T(ports_may_be_mixed_up),
        T(files_are_read_at_the_start),
    };
    (void)signal(SIGPIPE, SIG_IGN);
    table_seed();
    log_setup(getenv("VERBOSE") != NULL ? LOG_DEBUG : LOG_ERROR, LOG_TEXT, NULL);
    assert_non_null(mkdtemp(dir));
    authority_init(&ours, dir, "ours");
    authority_init(&strange, dir, "strange");
    authority_sign(&ours, dir, "good", "DNS:localhost,IP:127.0.0.1", 10);
    authority_sign(&ours, dir, "old", "DNS:localhost,IP:127.0.0.1", -1);
    authority_sign(&ours, dir, "named", "DNS:redis.test,DNS:*.many.test", 10);
    authority_sign(&ours, dir, "client", "DNS:gateway", 10);
    redis_fixture_start_tls(&redis, ours.file, dir, "good");
    int failed = cmocka_run_group_tests_name("broker: TLS", tests, NULL, NULL);
    redis_fixture_stop(&redis);
    authority_fini(&ours);
    authority_fini(&strange);
    char command[64];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command) == 0 ? failed : 2; // NOLINT(cert-env33-c,concurrency-mt-unsafe): our own directory
}
