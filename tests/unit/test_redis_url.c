/* tests/unit/test_redis_url.c: what the urls of Redis mean, and what is said of those that mean nothing. */
#include "broker/redis/url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"

static struct redis_url parsed(const char *text)
{
    struct redis_url u;
    struct error err = {OK, ""};
    if (!redis_url_parse(text, &u, &err))
        fail_msg("%s: %s", text, err.text);
    return u;
}

static void assert_host(const struct redis_url *u, size_t at, const char *host, int port)
{
    assert_true(at < u->host_count);
    assert_string_equal(u->hosts[at].host, host);
    assert_int_equal(u->hosts[at].port, port);
}

static void one_server(void **state)
{
    (void)state;
    struct redis_url u = parsed("redis://h");
    assert_int_equal(u.topology, REDIS_STANDALONE);
    assert_int_equal(u.host_count, 1);
    assert_host(&u, 0, "h", 6379);
    assert_false(u.tls);
    assert_int_equal(u.db, 0);
    assert_null(u.user);
    assert_null(u.password);
    assert_null(u.service);
    redis_url_fini(&u);
    assert_null(u.hosts);
    u = parsed("redis://h:1/2?replica=r");
    assert_string_equal(u.replica.host, "r");
    assert_int_equal(u.replica.port, 6379);
    redis_url_fini(&u);
    assert_null(u.replica.host);
    u = parsed("rediss://h?server_name=x&replica=%5B::1%5d:7");
    assert_string_equal(u.replica.host, "::1");
    assert_int_equal(u.replica.port, 7);
    redis_url_fini(&u);
    u = parsed("rediss://us%65r:p%40s%2Fs%3a@[::1]:7/15");
    assert_host(&u, 0, "::1", 7);
    assert_true(u.tls);
    assert_int_equal(u.db, 15);
    assert_string_equal(u.user, "user");
    assert_string_equal(u.password, "p@s/s:");
    redis_url_fini(&u);
    u = parsed("redis://:p/w?d@x@127.0.0.1:65535/");
    assert_null(u.user);
    assert_string_equal(u.password, "p/w?d@x");
    assert_host(&u, 0, "127.0.0.1", 65535);
    redis_url_fini(&u);
}

static void sentinels(void **state)
{
    (void)state;
    struct redis_url u =
        parsed("redis+sentinel://u:p@a,b:1,[fe80::2]/my-primary.1/3?sentinel_user=s&sentinel_password=%26%3d");
    assert_int_equal(u.topology, REDIS_SENTINEL);
    assert_int_equal(u.host_count, 3);
    assert_host(&u, 0, "a", 26379);
    assert_host(&u, 1, "b", 1);
    assert_host(&u, 2, "fe80::2", 26379);
    assert_string_equal(u.service, "my-primary.1");
    assert_int_equal(u.db, 3);
    assert_string_equal(u.user, "u");
    assert_string_equal(u.password, "p");
    assert_string_equal(u.sentinel_user, "s");
    assert_string_equal(u.sentinel_password, "&=");
    redis_url_fini(&u);
    u = parsed("rediss+sentinel://a/m/");
    assert_true(u.tls);
    assert_string_equal(u.service, "m");
    assert_null(u.sentinel_password);
    redis_url_fini(&u);
}

static void clusters(void **state)
{
    (void)state;
    struct redis_url u = parsed("redis+cluster://:p@a,b:7000/");
    assert_int_equal(u.topology, REDIS_CLUSTER);
    assert_host(&u, 0, "a", 6379);
    assert_host(&u, 1, "b", 7000);
    assert_string_equal(u.password, "p");
    redis_url_fini(&u);
    u = parsed("rediss+cluster://a?server_name=redis.example");
    assert_int_equal(u.topology, REDIS_CLUSTER);
    assert_true(u.tls);
    assert_string_equal(u.server_name, "redis.example");
    redis_url_fini(&u);
}

static void certificates(void **state)
{
    (void)state;
    struct redis_url u = parsed("rediss://h?ca=%2Fetc%2Fca.pem&cert=/etc/c.pem&key=/etc/k.pem");
    assert_string_equal(u.ca, "/etc/ca.pem");
    assert_string_equal(u.cert, "/etc/c.pem");
    assert_string_equal(u.key, "/etc/k.pem");
    assert_null(u.server_name);
    redis_url_fini(&u);
}

static void errors_say_what_is_wrong(void **state)
{
    static const struct {
        const char *url, *error;
    } bad[] = {
        {"", "must begin with redis://"},
        {"redis:/h", "must begin with redis://"},
        {"http://h", "must begin with redis://"},
        {"rediss+http://h", "must begin with redis://"},
        {"redis://", "host 1 has no name"},
        {"redis://:1", "host 1 has no name"},
        {"redis://secret@h", "before the @"},
        {"redis://u:secret%zz@h", "the password has a %"},
        {"redis://u:%00@h", "the password has a %"},
        {"redis://u%4:secret@h", "the user name has a %"},
        {"redis://u:secret@", "host 1 has no name"},
        {"redis://h:0", "the port of host 1"},
        {"redis://h:65536", "the port of host 1"},
        {"redis://h:secret", "the port of host 1"},
        {"redis://h:", "the port of host 1"},
        {"redis://h:1:2", "host 1 is not a name"},
        {"redis://[::1", "host 1 is not [IPv6]"},
        {"redis://[::1]x", "host 1 is not [IPv6]"},
        {"redis://[h]", "host 1 is not a name"},
        {"redis://1.2.3", "host 1 is not a name"},
        {"redis://h h", "host 1 is not a name"},
        {"redis://h/x", "the database after the last /"},
        {"redis://h/1024", "the database after the last /"},
        {"redis://h/1/2", "the database after the last /"},
        {"redis://a,b", "2 hosts: redis:// takes one"},
        {"redis+sentinel://a,,b/m", "host 2 has no name"},
        {"redis+sentinel://a,b:x/m", "the port of host 2"},
        {"redis+sentinel://a", "no name of the primary"},
        {"redis+sentinel://a/", "no name of the primary"},
        {"redis+sentinel://a//1", "no name of the primary"},
        {"redis+sentinel://a/m m", "the name of the primary is not"},
        {"redis+sentinel://a/m/x", "the database after the last /"},
        {"redis+cluster://a/0", "a Redis Cluster has no databases"},
        {"redis+cluster://a/1?ca=x", "a Redis Cluster has no databases"},
        {"redis://h?colour=red", "unknown parameter \"colour\""},
        {"redis://h?", NULL},
        {"redis://h?=x", "must be name=value"},
        {"redis://h?se/cret", "must be name=value"},
        {"redis://h?ca=x", "ca is for TLS"},
        {"rediss://h?ca", "ca has no value"},
        {"rediss://h?ca=", "ca has no value"},
        {"rediss://h?ca=a&ca=b", "ca is given twice"},
        {"rediss://h?ca=%", "ca has a %"},
        {"rediss://h?ca=a&", "must be name=value"},
        {"rediss://h?cert=a", "cert without key"},
        {"rediss://h?key=a", "key without cert"},
        {"redis://h?replica=", "replica has no value"},
        {"redis://h?replica=a:x", "replica is not host"},
        {"redis://h?replica=a b", "replica is not host"},
        {"redis://h?replica=a%00b", "replica has a %"},
        {"redis://h?replica=a&replica=b", "replica is given twice"},
        {"redis+sentinel://h/m?replica=a", "replica goes with redis://"},
        {"redis+cluster://h?replica=a", "replica goes with redis://"},
        {"rediss://h?server_name=a/b", "server_name is not a name"},
        {"rediss://h?sentinel_user=a", "sentinel_user goes with redis+sentinel://"},
        {"redis+sentinel://a/m?sentinel_user=a", "sentinel_user without sentinel_password"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct redis_url u = {.db = 77};
        struct error err = {OK, ""};
        if (bad[i].error == NULL) {
            u = parsed(bad[i].url);
            redis_url_fini(&u);
            continue;
        }
        assert_false(redis_url_parse(bad[i].url, &u, &err));
        assert_int_equal(u.db, 77);
        assert_int_equal(err.code, ERR_BAD_REQUEST);
        if (strstr(err.text, bad[i].error) == NULL || strstr(err.text, "secret") != NULL)
            fail_msg("%s: %s", bad[i].url, err.text);
    }
}

static void limits(void **state)
{
    char text[8192];
    struct redis_url u;
    struct error err;
    (void)state;
    int n = snprintf(text, sizeof text, "redis+cluster://a");
    for (int i = 1; i < 32; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, ",h%d", i);
    u = parsed(text);
    assert_int_equal(u.host_count, 32);
    redis_url_fini(&u);
    (void)snprintf(text + n, sizeof text - (size_t)n, ",b");
    assert_false(redis_url_parse(text, &u, &err));
    assert_non_null(strstr(err.text, "more than 32 hosts"));
    (void)snprintf(text, sizeof text, "redis://h/%05000d", 0);
    assert_false(redis_url_parse(text, &u, &err));
    assert_non_null(strstr(err.text, "at most 4096"));
    (void)snprintf(text, sizeof text, "redis://%0256d.x", 1);
    assert_false(redis_url_parse(text, &u, &err));
    assert_non_null(strstr(err.text, "at most 255"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_server),   cmocka_unit_test(sentinels), cmocka_unit_test(clusters),
        cmocka_unit_test(certificates), cmocka_unit_test(limits),    cmocka_unit_test(errors_say_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
