/* tests/unit/test_start.c: sessions that begin or come back, a few at a time and in the right order. */
#include <stdio.h>

#include "base/mem.h"
#include "gateway/metrics.h"
#include "gateway/session.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"

#define ONE_BY_ONE ((const char *const[]){"--max-starts", "1", "--resume-window", "60s", "--redis-timeout", "3s", NULL})

struct order {
    char who[64];
    size_t n;
};

/* --- the queue itself --- */

struct job {
    struct start start;
    struct order *order;
    char name;
    bool late;
};

static struct gateway *gw;

static void job_run(struct start *s)
{
    struct job *j = container_of(s, struct job, start);
    j->order->who[j->order->n++] = j->name;
}

static void job_late(struct start *s)
{
    container_of(s, struct job, start)->late = true;
}

static void begin(struct job *j, struct order *order, char name, bool returning)
{
    *j = (struct job){.order = order, .name = name};
    start_init(&j->start, job_run, job_late);
    start_begin(&gw->starts, &j->start, returning);
}

static void end(struct core *c, struct job *j)
{
    start_end(&gw->starts, &j->start);
    loop_fake_run(&c->loop);
}

static void those_who_return_go_first(void **state)
{
    struct core c;
    struct order order = {0};
    struct job jobs[20];
    core_init(&c, ONE_BY_ONE);
    gw = c.gw;
    *metrics = (struct metrics){0};
    begin(&jobs[0], &order, 'x', false); /* turn 0 */
    for (size_t i = 1; i <= 4; i++)
        begin(&jobs[i], &order, (char)('a' + i - 1), false);
    for (size_t i = 5; i <= 14; i++)
        begin(&jobs[i], &order, (char)('A' + i - 5), true);
    assert_int_equal(metrics->starts_deferred, 14);
    assert_int_equal(metrics->starts_waiting, 14);
    assert_string_equal(order.who, "x");
    /* Ends whoever runs, until nobody is left. */
    for (size_t done = 0; done < 15; done++)
        for (size_t i = 0; i < 15; i++)
            if (jobs[i].name == order.who[done]) {
                end(&c, &jobs[i]);
                break;
            }
    assert_string_equal(order.who, "xABCDEFaGHIJbcd");
    assert_int_equal(metrics->starts_waiting, 0);
    assert_int_equal(gw->starts.running, 0);
    core_fini(&c);
    (void)state;
}

static void the_number_under_way_is_bounded(void **state)
{
    struct core c;
    struct order order = {0};
    struct job jobs[10];
    core_init(&c, ONE_BY_ONE);
    gw = c.gw;
    c.cfg.max_starts = 3;
    for (size_t i = 0; i < 10; i++)
        begin(&jobs[i], &order, (char)('a' + i), i % 2 == 0);
    assert_int_equal(order.n, 3);
    assert_int_equal(gw->starts.running, 3);
    start_end(&gw->starts, &jobs[5].start); /* gives up by itself while it waits */
    start_end(&gw->starts, &jobs[5].start);
    end(&c, &jobs[0]);
    end(&c, &jobs[0]);
    assert_int_equal(order.n, 4);
    c.cfg.max_starts = 100;
    end(&c, &jobs[1]);
    assert_string_equal(order.who, "abcegidhj"); /* turn 7 is for a new one */
    for (size_t i = 0; i < 10; i++)
        end(&c, &jobs[i]);
    assert_int_equal(gw->starts.running, 0);
    core_fini(&c);
    (void)state;
}

static void waiting_has_an_end(void **state)
{
    struct core c;
    struct order order = {0};
    struct job jobs[3];
    core_init(&c, ONE_BY_ONE);
    gw = c.gw;
    begin(&jobs[0], &order, 'a', false);
    begin(&jobs[1], &order, 'b', false);
    loop_fake_advance(&c.loop, 2000);
    begin(&jobs[2], &order, 'c', true);
    loop_fake_advance(&c.loop, 2500);
    assert_true(jobs[1].late);
    assert_false(jobs[2].late);
    loop_fake_advance(&c.loop, 2000);
    assert_true(jobs[2].late);
    end(&c, &jobs[0]);
    assert_string_equal(order.who, "a");
    assert_int_equal(gw->starts.running, 0);
    core_fini(&c);
    (void)state;
}

/* --- with clients: a job of the test has the only turn --- */

struct scene {
    struct core core;
    struct client cl[3];
    struct order order;
    struct job job;
};

static void open_scene(struct scene *f)
{
    *f = (struct scene){0};
    core_init(&f->core, ONE_BY_ONE);
    gw = f->core.gw;
    client_open(&f->cl[0], &f->core, "/ws/alice");
    begin(&f->job, &f->order, 'x', false);
    *metrics = (struct metrics){0};
}

static void close_scene(struct scene *f)
{
    end(&f->core, &f->job);
    for (size_t i = 0; i < ARRAY_LEN(f->cl); i++)
        if (f->cl[i].conn != NULL)
            client_vanish(&f->cl[i]);
    loop_fake_run(&f->core.loop);
    assert_int_equal(gw->starts.running, 0);
    core_fini(&f->core);
}

static void a_url_may_say_that_its_client_returns(void **state)
{
    struct scene f;
    open_scene(&f);
    client_connect(&f.cl[1], &f.core, "/ws");
    client_connect(&f.cl[2], &f.core, "/ws?resume");
    client_expect_nothing(&f.cl[1]);
    client_expect_nothing(&f.cl[2]);
    assert_ptr_equal(list_first(&gw->starts.fresh, struct start, link), &f.cl[1].conn->session->start);
    assert_ptr_equal(list_first(&gw->starts.returning, struct start, link), &f.cl[2].conn->session->start);
    end(&f.core, &f.job);
    client_expect(&f.cl[1], "\"welcome\"");
    client_expect(&f.cl[2], "\"welcome\"");
    assert_int_equal(metrics->starts_deferred, 2);
    assert_int_equal(metrics->starts_waiting, 0);
    close_scene(&f);
    (void)state;
}

static void clients_may_leave_while_they_wait(void **state)
{
    struct scene f;
    open_scene(&f);
    client_connect(&f.cl[1], &f.core, "/ws");
    client_connect(&f.cl[2], &f.core, "/ws?resume");
    client_vanish(&f.cl[1]);
    client_vanish(&f.cl[2]);
    loop_fake_run(&f.core.loop);
    assert_int_equal(metrics->starts_waiting, 0);
    close_scene(&f);
    (void)state;
}

static void who_waits_too_long_is_sent_away(void **state)
{
    struct scene f;
    open_scene(&f);
    client_connect(&f.cl[1], &f.core, "/ws");
    loop_fake_advance(&f.core.loop, 2000);
    client_expect_nothing(&f.cl[1]);
    loop_fake_advance(&f.core.loop, 2500);
    client_expect(&f.cl[1], "\"goodbye\"", "\"unavailable\"", "\"reconnect_after\":");
    assert_true(f.cl[1].close_asked);
    assert_int_equal(metrics->drops[DROP_UNAVAILABLE], 1);
    close_scene(&f);
    (void)state;
}

static void resume(struct scene *f, const char *sid, const char *token)
{
    char frame[200];
    (void)snprintf(frame, sizeof frame, "{\"type\":\"resume\",\"id\":7,\"session\":\"%s\",\"token\":\"%s\"}", sid,
                   token);
    client_send(&f->cl[1], frame);
}

static void resumes_wait_too(void **state)
{
    struct scene f;
    char sid[SID_LEN + 1], token[TOKEN_LEN + 1];
    open_scene(&f);
    end(&f.core, &f.job);
    client_open(&f.cl[1], &f.core, "/ws/alice");
    memcpy(sid, f.cl[0].sid, sizeof sid);
    memcpy(token, f.cl[0].conn->session->token, sizeof token);
    client_vanish(&f.cl[0]);
    begin(&f.job, &f.order, 'y', false);
    resume(&f, sid, token);
    client_expect_nothing(&f.cl[1]);
    loop_fake_advance(&f.core.loop, 5000);
    client_expect(&f.cl[1], "\"error\"", "\"id\":7", "\"unavailable\"", "\"retry\":true");
    resume(&f, sid, token);
    client_expect_nothing(&f.cl[1]);
    end(&f.core, &f.job);
    client_expect(&f.cl[1], "\"welcome\"", "\"resumed\":true", sid);
    assert_int_equal(gw->starts.running, 0);
    close_scene(&f);
    (void)state;
}

static void a_resume_of_somebody_gone_costs_nothing(void **state)
{
    struct scene f;
    open_scene(&f);
    end(&f.core, &f.job);
    client_open(&f.cl[1], &f.core, "/ws/alice");
    begin(&f.job, &f.order, 'y', false);
    resume(&f, f.cl[0].sid, f.cl[0].conn->session->token);
    client_vanish(&f.cl[1]);
    end(&f.core, &f.job);
    client_send(&f.cl[0], "{\"type\":\"ping\",\"id\":1}"); /* its session is still its own */
    client_expect(&f.cl[0], "\"pong\"");
    close_scene(&f);
    (void)state;
}

static void stopping_lets_go_of_who_waits(void **state)
{
    struct scene f;
    open_scene(&f);
    end(&f.core, &f.job);
    client_open(&f.cl[1], &f.core, "/ws/alice");
    begin(&f.job, &f.order, 'y', false);
    resume(&f, f.cl[0].sid, f.cl[0].conn->session->token);
    client_vanish(&f.cl[0]);
    client_vanish(&f.cl[1]);
    gateway_destroy(&f.core.gw);
    config_fini(&f.core.cfg);
    loop_fake_fini(&f.core.loop);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(those_who_return_go_first),
        cmocka_unit_test(the_number_under_way_is_bounded),
        cmocka_unit_test(waiting_has_an_end),
        cmocka_unit_test(a_url_may_say_that_its_client_returns),
        cmocka_unit_test(clients_may_leave_while_they_wait),
        cmocka_unit_test(who_waits_too_long_is_sent_away),
        cmocka_unit_test(resumes_wait_too),
        cmocka_unit_test(a_resume_of_somebody_gone_costs_nothing),
        cmocka_unit_test(stopping_lets_go_of_who_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
