/* tests/unit/test_keyring.c: when the keys of session tickets are asked for. */
#include <stdio.h>

#include "gateway/keyring.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"

#define ARGS ((const char *const[]){"--ticket-rotation", "1h", NULL})

struct news {
    unsigned times;
    size_t n;
    char newest[2 * TICKET_SECRET_BYTES + 1];
    int64_t age_ms;
};

static void told(void *owner, const struct secret_record *secrets, size_t n)
{
    struct news *news = owner;
    news->times++;
    news->n = n;
    assert_int_equal(secrets[n - 1].text.n, sizeof news->newest - 1);
    memcpy(news->newest, secrets[n - 1].text.p, sizeof news->newest - 1);
    news->age_ms = secrets[n - 1].age_ms;
}

static void keys_are_asked_for_again_and_again(void **state)
{
    struct core c;
    struct keyring k;
    struct news news = {0};
    char first[sizeof news.newest];
    core_init(&c, ARGS);
    keyring_start(&k, c.gw->broker, &c.cfg, told, &news);
    loop_fake_run(&c.loop);
    assert_int_equal(news.times, 1);
    assert_int_equal(news.n, 1);
    assert_int_equal(news.age_ms, 0);
    memcpy(first, news.newest, sizeof first);
    loop_fake_advance(&c.loop, 3600000 - 4 * 60000);
    assert_in_range(news.times, 56, 58); /* every minute */
    assert_string_equal(news.newest, first);
    loop_fake_advance(&c.loop, 60000); /* three minutes before it is used */
    assert_int_equal(news.n, 2);
    assert_string_not_equal(news.newest, first);
    assert_int_equal(news.age_ms, -180000);
    keyring_stop(&k);
    keyring_stop(&k);
    core_fini(&c);
    (void)state;
}

static void nothing_is_asked_for_without_tickets(void **state)
{
    struct core c;
    struct keyring k;
    struct news news = {0};
    core_init(&c, ARGS);
    c.cfg.tls_tickets = TICKETS_OFF;
    keyring_start(&k, c.gw->broker, &c.cfg, told, &news);
    loop_fake_advance(&c.loop, 3600000);
    assert_int_equal(news.times, 0);
    c.cfg.tls_tickets = TICKETS_1_3; /* reloaded */
    loop_fake_advance(&c.loop, 60000);
    assert_int_equal(news.times, 1);
    keyring_stop(&k);
    core_fini(&c);
    (void)state;
}

static unsigned failures;

static void no_secrets(struct broker *b, struct slice fresh, uint64_t period_ms, uint64_t lead_ms, broker_done *done,
                       void *arg)
{
    (void)b;
    (void)fresh;
    (void)period_ms;
    (void)lead_ms;
    failures++;
    done(arg, &(struct broker_result){.err = ERR_UNAVAILABLE, .why = "the store is down"});
}

static void a_failure_is_followed_by_another_try_soon(void **state)
{
    struct core c;
    struct keyring k;
    struct news news = {0};
    core_init(&c, ARGS);
    const struct broker_ops *ops = c.gw->broker->ops;
    struct broker_ops down = *ops;
    down.secrets = no_secrets;
    c.gw->broker->ops = &down;
    keyring_start(&k, c.gw->broker, &c.cfg, told, &news);
    loop_fake_advance(&c.loop, 5000);
    assert_int_equal(failures, 6);
    assert_int_equal(news.times, 0);
    c.gw->broker->ops = ops;
    loop_fake_advance(&c.loop, 1000);
    assert_int_equal(news.times, 1);
    keyring_stop(&k);
    core_fini(&c);
    (void)state;
}

static void stopping_before_the_answer_is_fine(void **state)
{
    struct core c;
    struct keyring k;
    struct news news = {0};
    core_init(&c, ARGS);
    keyring_start(&k, c.gw->broker, &c.cfg, told, &news);
    keyring_stop(&k);
    core_fini(&c);
    assert_int_equal(news.times, 0);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_asked_for_again_and_again),
        cmocka_unit_test(nothing_is_asked_for_without_tickets),
        cmocka_unit_test(a_failure_is_followed_by_another_try_soon),
        cmocka_unit_test(stopping_before_the_answer_is_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
