/* tests/unit/test_drain.c: a node that leaves sends its clients away one after another. */
#include <stdio.h>

#include "base/mem.h"
#include "gateway/metrics.h"
#include "gateway/session.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"

#define ARGS(...) ((const char *const[]){"--message-rate", "0", __VA_ARGS__, NULL})

struct crowd {
    struct core core;
    struct client *clients;
    size_t n;
};

static void on_drained(void *arg)
{
    ((struct core *)arg)->drained = true;
}

static void gather(struct crowd *w, size_t n, const char *const *args)
{
    *w = (struct crowd){.clients = xcalloc(n, sizeof *w->clients), .n = n};
    core_init(&w->core, args);
    for (size_t i = 0; i < n; i++)
        client_open(&w->clients[i], &w->core, "/ws");
    *metrics = (struct metrics){0};
}

static void disperse(struct crowd *w)
{
    for (size_t i = 0; i < w->n; i++)
        if (w->clients[i].conn != NULL)
            client_vanish(&w->clients[i]);
    loop_fake_run(&w->core.loop);
    core_fini(&w->core);
    free(w->clients);
}

static size_t told(const struct crowd *w)
{
    size_t n = 0;
    for (size_t i = 0; i < w->n; i++)
        n += w->clients[i].close_asked;
    return n;
}

static uint64_t reconnect_after(struct client *cl)
{
    struct slice payload;
    client_next(cl, &payload);
    const char *at = strstr(payload.p, "\"reconnect_after\":");
    assert_non_null(at);
    return strtoull(at + sizeof "\"reconnect_after\":" - 1, NULL, 10);
}

/* 1000 clients, 4 s: 500 of them every second for 2 s. */
static void goodbyes_are_paced(void **state)
{
    struct crowd w;
    gather(&w, 1000, ARGS("--drain-time", "4s", "--resume-window", "60s"));
    gateway_drain(w.core.gw, on_drained, &w.core);
    assert_int_equal(told(&w), 0);
    for (size_t step = 1; step <= 20; step++) {
        loop_fake_advance(&w.core.loop, 100);
        assert_in_range(told(&w), step * 50, step * 50 + 10);
    }
    assert_int_equal(told(&w), 1000);
    assert_int_equal(metrics->drops[DROP_DRAINING], 1000);
    uint64_t least = UINT64_MAX, most = 0;
    for (size_t i = 0; i < w.n; i++) {
        uint64_t ms = reconnect_after(&w.clients[i]);
        least = ms < least ? ms : least;
        most = ms > most ? ms : most;
    }
    assert_in_range(least, 100, 110);
    assert_in_range(most, 190, 200);
    disperse(&w);
    (void)state;
}

static void a_client_goes_on_until_its_turn(void **state)
{
    struct crowd w;
    gather(&w, 400, ARGS("--drain-time", "4s"));
    struct client *last = &w.clients[399];
    lobby_join(last);
    gateway_drain(w.core.gw, on_drained, &w.core);
    loop_fake_advance(&w.core.loop, 1900);
    lobby_say(last, 1);
    lobby_expect(last, 1, 1);
    assert_false(last->close_asked);
    loop_fake_advance(&w.core.loop, 100);
    client_expect(last, "\"goodbye\"", "\"draining\"");
    disperse(&w);
    (void)state;
}

static void a_few_do_not_wait_for_each_other(void **state)
{
    struct crowd w;
    gather(&w, 10, ARGS("--drain-time", "1h"));
    gateway_drain(w.core.gw, on_drained, &w.core);
    loop_fake_advance(&w.core.loop, 100);
    assert_int_equal(told(&w), 10);
    assert_false(w.core.drained);
    for (size_t i = 0; i < w.n; i++)
        client_vanish(&w.clients[i]);
    loop_fake_run(&w.core.loop);
    assert_true(w.core.drained);
    disperse(&w);
    (void)state;
}

static void those_who_leave_by_themselves_are_not_told(void **state)
{
    struct crowd w;
    gather(&w, 100, ARGS("--drain-time", "1h"));
    gateway_drain(w.core.gw, on_drained, &w.core);
    for (size_t i = 0; i < 60; i++)
        client_vanish(&w.clients[i]);
    loop_fake_run(&w.core.loop);
    loop_fake_advance(&w.core.loop, 200);
    for (size_t i = 60; i < 80; i++)
        assert_true(w.clients[i].close_asked);
    assert_int_equal(metrics->drops[DROP_DRAINING], 20);
    disperse(&w);
    (void)state;
}

/* The process stood still: no flood afterwards, and yet all are told well before the end. */
static void late_steps_do_not_catch_up_at_once(void **state)
{
    struct crowd w;
    gather(&w, 1000, ARGS("--drain-time", "4s"));
    gateway_drain(w.core.gw, on_drained, &w.core);
    w.core.loop.now_us += 1000000;
    loop_fake_advance(&w.core.loop, 20);
    assert_in_range(told(&w), 20, 40);
    loop_fake_advance(&w.core.loop, 1900);
    assert_in_range(told(&w), 900, 999);
    loop_fake_advance(&w.core.loop, 100);
    assert_int_equal(told(&w), 1000);
    disperse(&w);
    (void)state;
}

static void without_time_all_are_told_at_once(void **state)
{
    struct crowd w;
    gather(&w, 50, ARGS("--drain-time", "0s"));
    gateway_drain(w.core.gw, on_drained, &w.core);
    for (size_t i = 0; i < w.n; i++)
        client_expect(&w.clients[i], "\"goodbye\"");
    disperse(&w);
    (void)state;
}

/* A session that was being taken up again when the node began to leave. */
static void a_session_resumed_meanwhile_is_told_too(void **state)
{
    struct crowd w;
    char frame[200];
    gather(&w, 2, ARGS("--drain-time", "10s", "--resume-window", "60s"));
    char sid[SID_LEN + 1], token[TOKEN_LEN + 1];
    memcpy(sid, w.clients[0].sid, sizeof sid);
    memcpy(token, w.clients[0].conn->session->token, sizeof token);
    client_vanish(&w.clients[0]);
    loop_fake_run(&w.core.loop);
    (void)snprintf(frame, sizeof frame, "{\"type\":\"resume\",\"id\":1,\"session\":\"%s\",\"token\":\"%s\"}", sid,
                   token);
    client_send(&w.clients[1], frame);
    gateway_drain(w.core.gw, on_drained, &w.core);
    client_expect(&w.clients[1], "\"resumed\":true");
    loop_fake_advance(&w.core.loop, 100);
    client_expect(&w.clients[1], "\"goodbye\"", "\"draining\"");
    disperse(&w);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goodbyes_are_paced),
        cmocka_unit_test(a_client_goes_on_until_its_turn),
        cmocka_unit_test(a_few_do_not_wait_for_each_other),
        cmocka_unit_test(those_who_leave_by_themselves_are_not_told),
        cmocka_unit_test(late_steps_do_not_catch_up_at_once),
        cmocka_unit_test(without_time_all_are_told_at_once),
        cmocka_unit_test(a_session_resumed_meanwhile_is_told_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
