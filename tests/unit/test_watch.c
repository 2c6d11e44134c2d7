/* tests/unit/test_watch.c: clients that watch users: what they are told, and what not. */
#include <stdio.h>

#include "gateway/metrics.h"
#include "gateway/session.h"
#include "gateway/watch.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"

static const char *const parking[] = {"--resume-window",           "60", "--heartbeat", "3600",
                                      "--max-watches-per-session", "3",  NULL};
static const char *const shy[] = {"--policy", "$user:bob watch=nobody", NULL};

static void changes_of_state_are_told(void **state)
{
    struct core c;
    struct client w, one, two;
    (void)state;
    core_init(&c, parking);
    client_open(&w, &c, "/ws/alice");
    client_send(&w, "{\"type\":\"watch\",\"id\":1,\"users\":[\"bob\",\"alice\"]}");
    client_expect(&w, "\"ack\"", "{\"user\":\"bob\",\"state\":\"offline\",\"sessions\":0}",
                  "{\"user\":\"alice\",\"state\":\"online\",\"sessions\":1,\"since\":");
    client_open(&one, &c, "/ws/bob");
    client_expect(&w, "{\"type\":\"status\",\"user\":\"bob\",\"state\":\"online\",\"sessions\":1,\"since\":");
    client_open(&two, &c, "/ws/bob");
    client_expect_nothing(&w);
    client_vanish(&one);
    client_expect_nothing(&w);
    client_vanish(&two);
    client_expect(&w, "\"status\"", "\"suspended\",\"sessions\":2");
    client_send(&w, "{\"type\":\"watch\",\"id\":2,\"users\":[\"bob\"],\"devices\":true}");
    client_expect(&w, "\"id\":2,\"users\":[{\"user\":\"bob\",\"state\":\"suspended\",\"sessions\":2");
    client_open(&one, &c, "/ws/bob");
    client_expect(&w, "\"online\",\"sessions\":3");
    client_send(&w, "{\"type\":\"unwatch\",\"id\":3,\"users\":[\"bob\",\"nobody\"]}");
    client_expect(&w, "\"ack\"", "\"id\":3", "\"total\":1");
    client_vanish(&one);
    client_expect_nothing(&w);
    client_vanish(&w);
    loop_fake_run(&c.loop);
    assert_int_equal(metrics->watches, 0);
    assert_int_equal(metrics->watched_users, 0);
    core_fini(&c);
}

static void limits_and_policies_hold(void **state)
{
    struct core c;
    struct client w;
    (void)state;
    core_init(&c, parking);
    client_open(&w, &c, "/ws");
    client_send(&w, "{\"type\":\"watch\",\"id\":1,\"users\":[\"a\",\"b\",\"c\"]}");
    client_expect(&w, "\"ack\"");
    client_send(&w, "{\"type\":\"watch\",\"id\":2,\"users\":[\"a\",\"b\",\"c\"]}");
    client_expect(&w, "\"ack\"");
    client_send(&w, "{\"type\":\"watch\",\"id\":3,\"users\":[\"a\",\"d\"]}");
    client_expect(&w, "\"limit_exceeded\"", "max-watches-per-session");
    client_send(&w, "{\"type\":\"watch\",\"id\":4,\"users\":[]}");
    client_expect(&w, "\"ack\"", "\"users\":[]");
    client_vanish(&w);
    core_fini(&c);
    core_init(&c, shy);
    client_open(&w, &c, "/ws");
    client_send(&w, "{\"type\":\"watch\",\"id\":1,\"users\":[\"a\",\"bob\"]}");
    client_expect(&w, "\"forbidden\"", "$user:bob");
    assert_int_equal(metrics->watches, 0);
    client_vanish(&w);
    core_fini(&c);
}

/* The client is gone, or loses interest, before it is known how somebody is. */
static void who_leaves_before_the_answer(void **state)
{
    struct core c;
    struct client w;
    (void)state;
    core_init(&c, parking);
    client_open(&w, &c, "/ws");
    client_send(&w, "{\"type\":\"watch\",\"id\":1,\"users\":[\"a\",\"b\"]}");
    client_send(&w, "{\"type\":\"unwatch\",\"id\":2}");
    client_send(&w, "{\"type\":\"watch\",\"id\":3,\"users\":[\"a\"]}");
    client_vanish(&w);
    loop_fake_run(&c.loop);
    assert_int_equal(metrics->watched_users, 0);
    core_fini(&c);
}

/* A request is under way for one who is known and one who is not: its end lets go of both. */
static void the_gateway_closes_meanwhile(void **state)
{
    struct core c;
    struct client w, other;
    (void)state;
    core_init(&c, parking);
    client_open(&other, &c, "/ws");
    client_send(&other, "{\"type\":\"watch\",\"id\":1,\"users\":[\"a\",\"b\"]}");
    client_expect(&other, "\"ack\"");
    client_open(&w, &c, "/ws");
    watch_again(c.gw, SLICE("a"));
    client_send(&w, "{\"type\":\"watch\",\"id\":1,\"users\":[\"a\",\"b\"]}");
    client_vanish(&w);
    client_vanish(&other);
    core_fini(&c);
    assert_int_equal(metrics->watched_users, 0);
}

static struct broker_ops held_ops;
static const struct broker_ops *below;
static struct {
    broker_done *done;
    void *arg;
} held[2];

static void hold_b_and_c(struct broker *b, struct slice user, broker_done *done, void *arg)
{
    if (slice_eq(user, SLICE("a"))) {
        below->watch(b, user, done, arg);
        return;
    }
    held[slice_eq(user, SLICE("c"))].done = done;
    held[slice_eq(user, SLICE("c"))].arg = arg;
}

/* Two requests name the same user; the one that fails takes him from the other as little as the other gives him to it. */
static void a_request_that_fails_ends_only_its_own(void **state)
{
    struct core c;
    struct client w, one;
    (void)state;
    core_init(&c, parking);
    below = c.gw->broker->ops;
    held_ops = *below;
    held_ops.watch = hold_b_and_c;
    c.gw->broker->ops = &held_ops;
    client_open(&w, &c, "/ws");
    client_send(&w, "{\"type\":\"watch\",\"id\":1,\"users\":[\"a\",\"b\"]}");
    client_send(&w, "{\"type\":\"watch\",\"id\":2,\"users\":[\"a\",\"c\"]}");
    client_expect_nothing(&w);
    held[0].done(held[0].arg, &(struct broker_result){.err = ERR_UNAVAILABLE, .why = "no room"});
    client_expect(&w, "\"error\"", "\"id\":1", "no room");
    below->watch(c.gw->broker, SLICE("c"), held[1].done, held[1].arg);
    client_expect(&w, "\"ack\"", "\"id\":2");
    client_open(&one, &c, "/ws/a");
    client_expect(&w, "\"status\"", "\"user\":\"a\"", "\"online\"");
    assert_int_equal(w.conn->session->watch_count, 2);
    client_vanish(&one);
    client_vanish(&w);
    loop_fake_run(&c.loop);
    assert_int_equal(metrics->watches, 0);
    core_fini(&c);
}

static void who_resumes_watches_on(void **state)
{
    struct core c;
    struct client w, bob;
    char frame[200];
    (void)state;
    core_init(&c, parking);
    client_open(&w, &c, "/ws/alice");
    (void)snprintf(frame, sizeof frame, "{\"type\":\"resume\",\"id\":9,\"session\":\"%s\",\"token\":\"%s\"}",
                   w.conn->session->sid, w.conn->session->token);
    client_send(&w, "{\"type\":\"watch\",\"id\":1,\"users\":[\"bob\"]}");
    client_expect(&w, "\"ack\"");
    client_vanish(&w);
    loop_fake_run(&c.loop);
    assert_int_equal(metrics->watches, 0);
    client_open(&bob, &c, "/ws/bob");
    client_open(&w, &c, "/ws/alice");
    client_send(&w, frame);
    client_expect(&w, "\"welcome\"", "\"resumed\":true");
    client_expect(&w, "{\"type\":\"watching\",\"users\":[{\"user\":\"bob\",\"state\":\"online\",\"sessions\":1");
    client_vanish(&bob);
    client_expect(&w, "\"status\"", "\"suspended\"");
    client_vanish(&w);
    core_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_of_state_are_told),
        cmocka_unit_test(limits_and_policies_hold),
        cmocka_unit_test(who_leaves_before_the_answer),
        cmocka_unit_test(the_gateway_closes_meanwhile),
        cmocka_unit_test(a_request_that_fails_ends_only_its_own),
        cmocka_unit_test(who_resumes_watches_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
