/* tests/unit/test_backend.c: events and questions on their way to a backend that is slow, away or gone, and shutting down meanwhile. */
#include <stdio.h>

#include "gateway/delivery.h"
#include "gateway/metrics.h"
#include "gateway/session.h"
#include "tests/support/backend_fake.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"

#define EVENTS                                                                                                         \
    ((const char *const[]){BACKEND_FAKE, "--event-shards", "1", "--backend-concurrency", "2", "--policy",              \
                           "lobby events=message,join,leave", NULL})
#define ASKS                                                                                                           \
    ((const char *const[]){BACKEND_FAKE, "--policy", "lobby publish=backend", "--max-requests-per-session", "8", NULL})
#define DOOR ((const char *const[]){BACKEND_FAKE, "--auth", "backend", NULL})

static struct backend *backend_of(const struct core *c)
{
    return c->gw->backend;
}

/* Long enough for an idle shard to be looked at. */
static void pass(struct core *c, uint64_t ms)
{
    loop_fake_advance(&c->loop, ms);
}

static void expect_post(const struct core *c, size_t at, const char *what, const char *whose)
{
    const char *body = fake_body(backend_of(c), at);
    if (strstr(body, what) == NULL || strstr(body, whose) == NULL)
        fail_msg("no %s of %s in %s", what, whose, body);
}

static void take(struct core *c, size_t at)
{
    fake_answer(backend_of(c), at, 204, "");
    loop_fake_run(&c->loop);
}

/* --- events --- */

static void a_session_waits_for_itself_only(void **state)
{
    struct core c;
    struct client a, b;
    (void)state;
    core_init(&c, EVENTS);
    client_open(&a, &c, "/ws/alice");
    lobby_join(&a);
    client_open(&b, &c, "/ws/bob");
    pass(&c, 200);
    assert_int_equal(fake_posts(backend_of(&c)), 2);
    expect_post(&c, 0, "\"connect\"", "alice");
    expect_post(&c, 1, "\"connect\"", "bob");
    take(&c, 0);
    assert_int_equal(fake_posts(backend_of(&c)), 2);
    expect_post(&c, 1, "\"join\"", "alice");
    take(&c, 0);
    take(&c, 0);
    assert_int_equal(fake_posts(backend_of(&c)), 0);
    client_vanish(&b);
    pass(&c, 200);
    expect_post(&c, 0, "\"disconnect\"", "bob");
    take(&c, 0);
    client_vanish(&a);
    core_fini(&c);
}

static void what_fails_comes_again_before_what_follows(void **state)
{
    struct core c;
    struct client a;
    (void)state;
    core_init(&c, EVENTS);
    client_open(&a, &c, "/ws/alice");
    lobby_join(&a);
    pass(&c, 200);
    for (int i = 0; i < 20; i++) { /* nobody else's are taken: it is not the event's fault, however often it fails */
        expect_post(&c, 0, "\"connect\"", "alice");
        fake_fail(backend_of(&c), 0, ERR_BACKEND_TIMEOUT, 0);
        pass(&c, 90);
        assert_int_equal(fake_posts(backend_of(&c)), 0);
        pass(&c, 5000);
        assert_int_equal(fake_posts(backend_of(&c)), 1);
    }
    fake_fail(backend_of(&c), 0, ERR_BACKEND_UNAVAILABLE, 60000); /* Retry-After */
    pass(&c, 59000);
    assert_int_equal(fake_posts(backend_of(&c)), 0);
    pass(&c, 1500);
    take(&c, 0);
    expect_post(&c, 0, "\"join\"", "alice");
    take(&c, 0);
    client_vanish(&a);
    core_fini(&c);
}

static void while_the_breaker_is_open_nothing_is_posted(void **state)
{
    struct core c;
    struct client a;
    (void)state;
    core_init(&c, EVENTS);
    fake_closed(backend_of(&c), true);
    client_open(&a, &c, "/ws/alice");
    pass(&c, 10000);
    assert_int_equal(fake_posts(backend_of(&c)), 0);
    fake_closed(backend_of(&c), false);
    loop_fake_run(&c.loop);
    expect_post(&c, 0, "\"connect\"", "alice");
    client_vanish(&a);
    core_fini(&c);
}

static void one_bad_event_does_not_stop_the_others(void **state)
{
    struct core c;
    struct client a, b;
    uint64_t refused = metrics->events_refused;
    (void)state;
    core_init(&c, EVENTS);
    client_open(&a, &c, "/ws/alice");
    client_open(&b, &c, "/ws/bob");
    lobby_join(&b);
    pass(&c, 200);
    fake_answer(backend_of(&c), 0, 422, "no");
    assert_int_equal(metrics->events_refused, refused + 1);
    loop_fake_run(&c.loop);
    assert_int_equal(fake_posts(backend_of(&c)), 1);
    for (int i = 0; i < 16; i++) { /* bob's fails again and again while others are taken */
        expect_post(&c, 0, "\"connect\"", "bob");
        fake_answer(backend_of(&c), 0, 404, "");
        lobby_join(&a);
        client_send(&a, "{\"type\":\"leave\",\"room\":\"lobby\"}");
        pass(&c, 6000);
        while (fake_posts(backend_of(&c)) > 1 || strstr(fake_body(backend_of(&c), 0), "bob") == NULL)
            take(&c, strstr(fake_body(backend_of(&c), 0), "\"user\":\"bob\"") != NULL ? 1 : 0);
        buf_clear(&a.raw);
        buf_clear(&b.raw);
        if (metrics->events_refused == refused + 2)
            break;
    }
    assert_int_equal(metrics->events_refused, refused + 2);
    expect_post(&c, 0, "\"join\"", "bob");
    client_vanish(&a);
    client_vanish(&b);
    core_fini(&c);
}

static void count_stop(void *arg)
{
    ++*(int *)arg;
}

static void stopping_waits_for_what_is_under_way(void **state)
{
    struct core c;
    struct client a;
    int stopped = 0;
    (void)state;
    core_init(&c, EVENTS);
    client_open(&a, &c, "/ws/alice");
    lobby_join(&a);
    pass(&c, 200);
    delivery_stop(c.gw->delivery, count_stop, &stopped);
    pass(&c, 10000);
    assert_int_equal(stopped, 0);
    take(&c, 0);
    assert_int_equal(stopped, 1);
    assert_int_equal(fake_posts(backend_of(&c)), 0); /* the join is for whoever is next */
    client_vanish(&a);
    core_fini(&c);
}

static void whatever_is_under_way_it_can_be_destroyed(void **state)
{
    struct core c;
    struct client a, b;
    (void)state;
    core_init(&c, EVENTS);
    client_open(&a, &c, "/ws/alice");
    client_open(&b, &c, "/ws/bob");
    lobby_join(&b);
    pass(&c, 200);
    fake_fail(backend_of(&c), 0, ERR_BACKEND_TIMEOUT, 0); /* one waits for its next try, the other for its answer */
    assert_int_equal(fake_posts(backend_of(&c)), 1);
    client_vanish(&a);
    client_vanish(&b);
    core_fini(&c);
}

/* Its shard is another node's by now. */
static void not_mine(struct broker *b, const struct events_ask *what, broker_done *done, void *arg)
{
    (void)b;
    (void)what;
    done(arg, &(struct broker_result){.mine = false});
}

/* What an answer wanted is still being tried when the backend is gone already. */
static void also_what_is_let_go_of(void **state)
{
    struct core c;
    struct client a;
    struct broker_ops ops;
    (void)state;
    core_init(&c, EVENTS);
    client_open(&a, &c, "/ws/alice");
    pass(&c, 200);
    c.no_messages = true;
    fake_answer(backend_of(&c), 0, 200, "{\"actions\":[{\"do\":\"publish\",\"room\":\"lobby\",\"data\":1}]}");
    ops = *c.gw->broker->ops;
    ops.events = not_mine;
    c.gw->broker->ops = &ops;
    pass(&c, 200);
    assert_int_equal(metrics->events_waiting, 0);
    client_vanish(&a);
    core_fini(&c);
}

/* --- questions --- */

static void say(struct client *cl, int id)
{
    char text[128];
    (void)snprintf(text, sizeof text, "{\"type\":\"publish\",\"id\":%d,\"room\":\"lobby\",\"data\":%d}", id, id);
    client_send(cl, text);
    loop_fake_run(&cl->core->loop);
}

static void who_is_gone_has_published_nothing(void **state)
{
    struct core c;
    struct client a, b;
    (void)state;
    core_init(&c, ASKS);
    client_open(&a, &c, "/ws/alice");
    client_open(&b, &c, "/ws/bob");
    lobby_join(&b);
    lobby_join(&a);
    client_expect(&b, "\"enter\"");
    pass(&c, 200);
    while (fake_posts(backend_of(&c)) != 0)
        take(&c, 0);
    say(&a, 1);
    say(&a, 2);
    client_send(&a, "{\"type\":\"call\",\"id\":3,\"event\":\"x\"}");
    loop_fake_run(&c.loop);
    assert_int_equal(fake_posts(backend_of(&c)), 1); /* one after another */
    expect_post(&c, 0, "\"publish\"", "alice");
    client_vanish(&a);
    client_expect(&b, "\"exit\"");
    bool called = false; /* what it did not publish it has called all the same */
    while (fake_posts(backend_of(&c)) != 0) {
        called = called || strstr(fake_body(backend_of(&c), 0), "\"type\":\"call\"") != NULL;
        take(&c, 0);
    }
    assert_true(called);
    client_expect_nothing(&b);
    client_vanish(&b);
    core_fini(&c);
}

static void what_it_answers_is_what_the_client_is_told(void **state)
{
    struct core c;
    struct client a;
    (void)state;
    core_init(&c, ASKS);
    client_open(&a, &c, "/ws/alice");
    lobby_join(&a);
    pass(&c, 200);
    while (fake_posts(backend_of(&c)) != 0)
        take(&c, 0);
    say(&a, 1);
    fake_fail(backend_of(&c), 0, ERR_BACKEND_TIMEOUT, 700);
    client_expect(&a, "\"backend_timeout\"", "\"id\":1", "\"retry_after\":700");
    say(&a, 2);
    fake_answer(backend_of(&c), 0, 200, "[]");
    client_expect(&a, "\"backend_unavailable\"", "\"id\":2");
    say(&a, 3);
    fake_answer(backend_of(&c), 0, 403, "{\"reason\":\"no\"}");
    client_expect(&a, "\"refused\"", "\"id\":3", "\"no\"");
    say(&a, 4);
    client_send(&a, "{\"type\":\"leave\",\"id\":5,\"room\":\"lobby\"}");
    client_expect(&a, "\"ack\"", "\"id\":5");
    fake_answer(backend_of(&c), 0, 204, "");
    client_expect(&a, "\"not_member\"", "\"id\":4");
    client_vanish(&a);
    core_fini(&c);
}

static void what_a_client_calls_is_asked_in_its_order(void **state)
{
    struct core c;
    struct client a;
    (void)state;
    core_init(&c, ASKS);
    client_open(&a, &c, "/ws/alice");
    lobby_join(&a);
    pass(&c, 200);
    while (fake_posts(backend_of(&c)) != 0)
        take(&c, 0);
    client_send(&a, "{\"type\":\"call\",\"id\":1,\"event\":\"first\"}");
    say(&a, 2);
    client_send(&a, "{\"type\":\"call\",\"id\":3,\"event\":\"third\"}");
    loop_fake_run(&c.loop);
    assert_int_equal(fake_posts(backend_of(&c)), 1);
    expect_post(&c, 0, "\"first\"", "alice");
    fake_answer(backend_of(&c), 0, 200, "{\"data\":1}");
    client_expect(&a, "\"ack\"", "\"id\":1");
    assert_int_equal(fake_posts(backend_of(&c)), 1);
    expect_post(&c, 0, "\"publish\"", "alice");
    fake_answer(backend_of(&c), 0, 403, "{}");
    client_expect(&a, "\"refused\"", "\"id\":2");
    expect_post(&c, 0, "\"third\"", "alice");
    fake_answer(backend_of(&c), 0, 200, "{\"data\":3}");
    client_expect(&a, "\"ack\"", "\"id\":3");
    client_vanish(&a);
    core_fini(&c);
}

static void questions_end_with_the_gateway(void **state)
{
    struct core c;
    struct client a;
    (void)state;
    core_init(&c, ASKS);
    client_open(&a, &c, "/ws/alice");
    lobby_join(&a);
    say(&a, 1);
    say(&a, 2);
    client_send(&a, "{\"type\":\"call\",\"id\":3,\"event\":\"x\"}");
    loop_fake_run(&c.loop);
    client_vanish(&a);
    core_fini(&c);
}

static void who_knocks_and_goes_is_forgotten(void **state)
{
    struct core c;
    struct client a, b;
    (void)state;
    core_init(&c, DOOR);
    client_connect(&a, &c, "/ws?token=a");
    client_connect(&b, &c, "/ws?token=b");
    assert_true(a.paused);
    loop_fake_run(&c.loop);
    assert_int_equal(fake_posts(backend_of(&c)), 2);
    client_vanish(&a);
    fake_answer(backend_of(&c), 0, 200, "{\"user\":\"alice\"}");
    fake_fail(backend_of(&c), 0, ERR_BACKEND_UNAVAILABLE, 0);
    client_expect(&b, "\"backend_unavailable\"");
    client_expect(&b, "\"goodbye\"");
    client_vanish(&b);
    client_connect(&a, &c, "/ws?token=a");
    loop_fake_run(&c.loop);
    fake_answer(backend_of(&c), 0, 200, "{\"user\":\"alice\"}");
    client_expect(&a, "\"welcome\"", "\"alice\"");
    client_vanish(&a);
    client_connect(&b, &c, "/ws?token=b"); /* nobody answers any more */
    client_vanish(&b);
    core_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_waits_for_itself_only),
        cmocka_unit_test(what_fails_comes_again_before_what_follows),
        cmocka_unit_test(while_the_breaker_is_open_nothing_is_posted),
        cmocka_unit_test(one_bad_event_does_not_stop_the_others),
        cmocka_unit_test(stopping_waits_for_what_is_under_way),
        cmocka_unit_test(whatever_is_under_way_it_can_be_destroyed),
        cmocka_unit_test(also_what_is_let_go_of),
        cmocka_unit_test(who_is_gone_has_published_nothing),
        cmocka_unit_test(what_it_answers_is_what_the_client_is_told),
        cmocka_unit_test(what_a_client_calls_is_asked_in_its_order),
        cmocka_unit_test(questions_end_with_the_gateway),
        cmocka_unit_test(who_knocks_and_goes_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
