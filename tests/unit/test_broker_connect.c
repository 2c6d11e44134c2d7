/* tests/unit/test_broker_connect.c: reaching Redis: urls, names, passwords, databases, and what Redis refuses. */
#include "tests/unit/broker_suite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"
#include "tests/support/log_catch.h"

static struct answer *ask_publish(struct world *w, const char *room, const char *data)
{
    struct answer *a = answer_new();
    struct publish p = {.room = slice_str(room), .data = slice_str(data)};
    w->broker->ops->publish(w->broker, &p, answered, a);
    return a;
}

static void password_and_database(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    world_fini(w);
    freeReplyObject(redis_fixture_command(&redis, "ACL SETUSER gate on >p@ss:w/rd allkeys allchannels allcommands"));
    freeReplyObject(redis_fixture_command(&redis, "CONFIG SET requirepass secret"));
    char url[128];
    struct broker_config cfg = world_config(url, "gw1-bbbbbb");
    (void)snprintf(url, sizeof url, "redis://127.0.0.1:%d/3", redis.port);
    world_init(w, &f->loop, &cfg);
    loop_fake_linger(w->loop, 50);
    assert_non_null(w->broker->ops->not_ready(w->broker)); /* no password */
    world_fini(w);
    (void)snprintf(url, sizeof url, "redis://gate:p%%40ss%%3aw%%2Frd@127.0.0.1:%d/3", redis.port);
    world_init(w, &f->loop, &cfg);
    world_ready(w);
    assert_int_equal(do_say(w, "lobby", "1")->err, OK);
    world_fini(w);
    (void)snprintf(url, sizeof url, "redis://:secret@127.0.0.1:%d/3", redis.port);
    world_init(w, &f->loop, &cfg);
    world_ready(w);
    assert_int_equal(do_say(w, "lobby", "1")->position.offset, 2);
    freeReplyObject(redis_fixture_command(&redis, "CONFIG SET requirepass %s", ""));
    assert_int_equal(redis_fixture_number(&redis, "EXISTS xd:{lobby}:head"), 0);
}

static void hosts_may_be_names(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    world_fini(w);
    char url[256];
    struct broker_config cfg = world_config(url, "gw1-bbbbbb");
    (void)snprintf(url, sizeof url, "redis://localhost:%d", redis.port);
    world_init(w, &f->loop, &cfg);
    world_recover(w); /* it may try ::1 first, where nobody listens */
    assert_int_equal(do_say(w, "lobby", "1")->err, OK);
    world_fini(w);
    /* Too long for a name, so nobody has to be asked. */
    (void)snprintf(url, sizeof url, "redis://%0100d.example:%d", 7, redis.port);
    world_init(w, &f->loop, &cfg);
    loop_fake_linger(w->loop, 100);
    assert_false(w->up);
    assert_non_null(w->broker->ops->not_ready(w->broker));
    /* Destroyed while it is asked. */
    world_fini(w);
    (void)snprintf(url, sizeof url, "redis://localhost:%d", redis.port);
    world_init(w, &f->loop, &cfg);
    loop_fake_run(w->loop);
}

static void commands_that_are_refused_say_why(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    freeReplyObject(redis_fixture_command(&redis, "CONFIG SET maxmemory 1"));
    struct answer *a = do_say(w, "lobby", "1");
    freeReplyObject(redis_fixture_command(&redis, "CONFIG SET maxmemory 0"));
    assert_int_equal(a->err, ERR_UNAVAILABLE);
    assert_non_null(strstr(a->why, "OOM"));
    assert_int_equal(do_say(w, "lobby", "1")->position.offset, 1);
    freeReplyObject(redis_fixture_command(&redis, "REPLICAOF 127.0.0.1 1"));
    a = do_say(w, "lobby", "2");
    freeReplyObject(redis_fixture_command(&redis, "REPLICAOF NO ONE"));
    assert_int_equal(a->err, ERR_UNAVAILABLE);
    assert_int_equal(do_say(w, "lobby", "2")->position.offset, 2);
    assert_true(w->broker->stats.command_errors >= 2);
}

/* What is logged when a gateway connects with this url. */
static void logs(struct fixture *f, const char *url, const char *line)
{
    struct world *w = &f->w;
    struct broker_config cfg = world_config(url, "gw1-bbbbbb");
    world_fini(w);
    log_catch_start();
    world_init(w, &f->loop, &cfg);
    for (int i = 0; i < 200 && !log_caught(line); i++) {
        loop_fake_advance(w->loop, 20);
        loop_fake_linger(w->loop, 5);
    }
    bool told = log_caught(line);
    bool secret = log_caught("wrong-secret");
    log_catch_stop(!told || secret);
    assert_true(told);
    assert_false(secret);
}

static void what_a_user_lacks_is_told(void **state)
{
    struct fixture *f = *state;
    char url[128];
    static const struct {
        const char *rule, *line;
    } cases[] = {
        {"-evalsha", "command=EVALSHA error=\"NOPERM"},
        {"-script", "command=SCRIPT error=\"NOPERM"},
        {"-subscribe", "redis refused a subscription link=gw1-bbbbbb error=\"NOPERM"},
        {"resetchannels", "redis refused a subscription link=gw1-bbbbbb error=\"NOPERM"},
        {"-hset", "hint=\"its ACL must allow what docs/operations.md lists\""},
        {"resetkeys", "hint=\"its ACL must allow what docs/operations.md lists\""},
    };
    (void)snprintf(url, sizeof url, "redis://some:x@127.0.0.1:%d", redis.port);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        freeReplyObject(redis_fixture_command(&redis, "ACL SETUSER some reset on nopass allkeys allchannels +@all %s",
                                              cases[i].rule));
        logs(f, url, cases[i].line);
        assert_non_null(f->w.broker->ops->not_ready(f->w.broker));
    }
    /* Allowed after all, it goes on by itself. */
    freeReplyObject(redis_fixture_command(&redis, "ACL SETUSER some allkeys"));
    world_recover(&f->w);
    freeReplyObject(redis_fixture_command(&redis, "ACL SETUSER some reset on >right"));
    (void)snprintf(url, sizeof url, "redis://some:wrong-secret@127.0.0.1:%d", redis.port);
    logs(f, url, "command=AUTH error=\"WRONGPASS");
    freeReplyObject(redis_fixture_command(&redis, "CONFIG SET requirepass secret"));
    (void)snprintf(url, sizeof url, "redis://127.0.0.1:%d", redis.port);
    logs(f, url, "hint=\"the url has no user and password\"");
    freeReplyObject(redis_fixture_command(&redis, "CONFIG SET requirepass %s", ""));
    freeReplyObject(redis_fixture_command(&redis, "ACL DELUSER some"));
}

static void bad_urls_are_named(void **state)
{
    (void)state;
    static const char *const bad[] = {"redis://",
                                      "redis://:6379",
                                      "redis://host:0",
                                      "redis://host:65536",
                                      "redis://host:abc",
                                      "redis://host/x",
                                      "redis://host/99999",
                                      "redis://[::1",
                                      "redis://[::1]x",
                                      "redis://pass@host",
                                      "redis://u:%zz@host",
                                      "redis://u:%00@host",
                                      "redis://u:p%4",
                                      "redis:/host",
                                      "rediss://host:0",
                                      "http://host",
                                      "",
                                      "redis://u:%4@host:1/2",
                                      "redis://h:1:2x"};
    struct loop_fake loop;
    loop_fake_init(&loop);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct broker_config cfg = world_config(bad[i], "gw1-aaaaaa");
        struct error error = {.code = OK};
        assert_null(broker_create(&loop.loop, &cfg, NULL, NULL, &error));
        assert_int_not_equal(error.code, OK);
        assert_true(error.text[0] != '\0');
    }
    struct broker_config cfg = world_config("redis://h", "gw{1}");
    struct error error;
    assert_null(broker_create(&loop.loop, &cfg, NULL, NULL, &error));
    assert_int_equal(error.code, ERR_INVALID_NAME);
    static const char *const good[] = {"redis://h", "redis://127.0.0.1:1/", "redis://[::1]:7/15", "redis://u:p@h:1/2",
                                       "redis://:p@h"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        cfg = world_config(good[i], "gw1-aaaaaa");
        struct broker *b = broker_create(&loop.loop, &cfg, NULL, NULL, &error);
        assert_non_null(b);
        broker_destroy(&b);
    }
    loop_fake_fini(&loop);
}

static void forgotten_scripts_are_loaded_again(void **state)
{
    struct fixture *f = *state;
    struct world *w = &f->w;
    do_subscribe(w, "lobby");
    freeReplyObject(redis_fixture_command(&redis, "SCRIPT FLUSH"));
    struct answer *a[10];
    for (size_t i = 0; i < ARRAY_LEN(a); i++)
        a[i] = ask_publish(w, "lobby", "1");
    for (size_t i = 0; i < ARRAY_LEN(a); i++) {
        await_ok(w, a[i]);
        assert_int_equal(a[i]->position.offset, i + 1);
    }
    world_expect(w, ARRAY_LEN(a));
}

static int run(const char *name)
{
    const struct CMUnitTest tests[] = {
        T(password_and_database),
        T(hosts_may_be_names),
        T(commands_that_are_refused_say_why),
        T(what_a_user_lacks_is_told),
        cmocka_unit_test(bad_urls_are_named),
        T(forgotten_scripts_are_loaded_again),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return suite_main(run, true);
}
