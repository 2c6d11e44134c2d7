/* tests/unit/test_net_loop.c: base/loop.h on libev. */
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "gateway/net/net.h"
#include "tests/support/check.h"

struct fixture {
    struct loop *loop;
    struct timer timer, second, limit;
    struct task task, other;
    struct io io;
    int fds[2];
    int timers, tasks, others, reads, reads_before, writes, signals, lags;
    uint64_t at_us, task_us, lag_us;
    char order[16];
    size_t order_n;
};

static void note(struct fixture *f, char what)
{
    if (f->order_n < sizeof f->order - 1)
        f->order[f->order_n++] = what;
}

static uint64_t clock_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void spin(uint64_t us)
{
    for (uint64_t until = clock_us() + us; clock_us() < until;) {
    }
}

static void on_limit(struct timer *t)
{
    note(container_of(t, struct fixture, limit), '|');
    loop_ev_stop(t->loop);
}

/* Runs the loop for so long. */
static void run_for(struct fixture *f, uint64_t ms)
{
    timer_start(&f->limit, ms);
    loop_ev_run(f->loop);
}

/* Runs the loop until *counter is n, however slow the machine is; and a little longer: it must not become more. */
static void run_until(struct fixture *f, const int *counter, int n)
{
    for (int i = 0; i < 4000 && *counter < n; i++)
        run_for(f, 5);
    run_for(f, 20);
    assert_int_equal(*counter, n);
}

static void on_timer(struct timer *t)
{
    struct fixture *f = container_of(t, struct fixture, timer);
    f->timers++;
    f->at_us = clock_us();
    note(f, 't');
}

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    f->loop = loop_ev_create();
    timer_init(&f->timer, f->loop, on_timer);
    timer_init(&f->limit, f->loop, on_limit);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, f->fds), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    timer_stop(&f->timer);
    timer_stop(&f->limit);
    io_set(&f->io, 0);
    (void)close(f->fds[0]);
    (void)close(f->fds[1]);
    loop_ev_destroy(&f->loop);
    assert_null(f->loop);
    free(f);
    return 0;
}

static void timer_fires_once_and_on_time(void **state)
{
    struct fixture *f = *state;
    uint64_t start = clock_us();
    timer_start(&f->timer, 30);
    run_for(f, 100);
    run_for(f, 20);
    assert_int_equal(f->timers, 1);
    assert_true(f->at_us - start >= 29000);
    assert_int_equal(f->order[0], 't'); /* before the one that stops the loop */
    assert_null(f->timer.impl);         /* nothing is left to stop */
}

static void timer_can_be_moved_and_stopped(void **state)
{
    struct fixture *f = *state;
    timer_start(&f->timer, 10);
    timer_start(&f->timer, 60000);
    run_for(f, 50);
    assert_int_equal(f->timers, 0);
    timer_start(&f->timer, 10);
    timer_stop(&f->timer);
    timer_stop(&f->timer);
    run_for(f, 50);
    assert_int_equal(f->timers, 0);
}

/* Start-up work between creating the loop and running it must not make timers fire early. */
static void timer_armed_before_the_loop_runs(void **state)
{
    struct fixture *f = *state;
    spin(60000);
    uint64_t start = clock_us();
    timer_start(&f->timer, 50);
    run_until(f, &f->timers, 1);
    assert_true(f->at_us - start >= 49000);
}

static void on_io(struct io *io, int events)
{
    struct fixture *f = container_of(io, struct fixture, io);
    char buf[8];
    if ((events & IO_READ) != 0) {
        f->reads++;
        note(f, 'r');
        if (read(io->fd, buf, 1) == 1 && buf[0] == 's')
            spin(30000);
    }
    if ((events & IO_WRITE) != 0) {
        f->writes++;
        io_set(io, io->events & ~IO_WRITE);
    }
}

static void sockets_tell_what_is_watched(void **state)
{
    struct fixture *f = *state;
    io_init(&f->io, f->loop, f->fds[0], on_io);
    assert_int_equal(write(f->fds[1], "xyz", 3), 3);
    run_for(f, 20);
    assert_int_equal(f->reads, 0);
    io_set(&f->io, IO_READ);
    run_until(f, &f->reads, 3); /* level-triggered: one byte at a time */
    assert_int_equal(f->writes, 0);
    io_set(&f->io, IO_READ | IO_WRITE);
    run_until(f, &f->writes, 1); /* the callback has taken its interest back */
    io_set(&f->io, 0);
    assert_null(f->io.impl);
    assert_int_equal(write(f->fds[1], "x", 1), 1);
    run_for(f, 20);
    assert_int_equal(f->reads, 3);
}

static void on_task(struct task *t)
{
    struct fixture *f = container_of(t, struct fixture, task);
    f->tasks++;
    f->task_us = loop_now_us(f->loop);
    f->reads_before = f->reads;
    note(f, 'k');
    if (f->tasks == 1 && f->others < 0)
        loop_idle(f->loop, t, 1000000); /* again, from within */
}

static void task_waits_until_input_is_exhausted(void **state)
{
    struct fixture *f = *state;
    io_init(&f->io, f->loop, f->fds[0], on_io);
    io_set(&f->io, IO_READ);
    task_init(&f->task, on_task);
    assert_int_equal(write(f->fds[1], "xyz", 3), 3);
    loop_idle(f->loop, &f->task, 1000000);
    loop_idle(f->loop, &f->task, 1000000);
    run_until(f, &f->tasks, 1);
    char order[sizeof f->order] = "";
    for (const char *p = f->order; *p != '\0'; p++)
        if (*p != '|')
            order[strlen(order)] = *p;
    assert_string_equal(order, "rrrk");
}

enum { BUSY_US = 500 };

/* Input without end: the socket stays readable for ever. */
static void on_busy(struct io *io, int events)
{
    (void)events;
    container_of(io, struct fixture, io)->reads++;
    spin(BUSY_US);
}

static void task_does_not_wait_longer_than_asked(void **state)
{
    struct fixture *f = *state;
    io_init(&f->io, f->loop, f->fds[0], on_busy);
    io_set(&f->io, IO_READ);
    task_init(&f->task, on_task);
    assert_int_equal(write(f->fds[1], "x", 1), 1);
    uint64_t start = loop_now_us(f->loop);
    loop_idle(f->loop, &f->task, 10000);
    run_until(f, &f->tasks, 1);
    assert_true(f->task_us - start >= 10000);
    assert_in_range(f->reads_before, 1, 10000 / BUSY_US + 2); /* counted in turns: more do not fit into the time */
    loop_idle(f->loop, &f->task, 60000000);
    run_for(f, 20);
    assert_int_equal(f->tasks, 1); /* no end of input, no deadline near */
    task_cancel(&f->task);
}

static void task_may_queue_itself(void **state)
{
    struct fixture *f = *state;
    f->others = -1;
    task_init(&f->task, on_task);
    loop_idle(f->loop, &f->task, 1000);
    run_until(f, &f->tasks, 2);
    loop_idle(f->loop, &f->task, 1000);
    task_cancel(&f->task);
    run_for(f, 20);
    assert_int_equal(f->tasks, 2);
}

/* A loop with nothing to do must sleep: the idle watcher is off without tasks. */
static void quiet_loop_uses_no_time(void **state)
{
    struct fixture *f = *state;
    struct timespec before, after;
    task_init(&f->task, on_task);
    loop_idle(f->loop, &f->task, 1000);
    run_for(f, 10);
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    run_for(f, 200);
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    int64_t used_us = (after.tv_sec - before.tv_sec) * 1000000 + (after.tv_nsec - before.tv_nsec) / 1000;
    assert_in_range(used_us, 0, 50000);
}

static void on_signal(void *arg)
{
    ((struct fixture *)arg)->signals++;
}

static void signals_arrive_in_the_loop(void **state)
{
    struct fixture *f = *state;
    loop_ev_signal(f->loop, SIGUSR1, on_signal, f);
    (void)raise(SIGUSR1);
    run_until(f, &f->signals, 1);
    (void)raise(SIGUSR1);
    run_until(f, &f->signals, 2);
}

static void on_lag(void *arg, uint64_t us)
{
    struct fixture *f = arg;
    f->lags++;
    if (us > f->lag_us)
        f->lag_us = us;
}

struct one {
    struct fixture *f;
    struct io io;
    struct one *silences; /* when it is told it stops listening to this one */
    char name;
};

static void on_crowd(struct io *io, int events)
{
    struct one *w = container_of(io, struct one, io);
    char byte;
    assert_int_equal(events, IO_READ);
    assert_int_equal(read(io->fd, &byte, 1), 1);
    note(w->f, w->name);
    w->f->reads++;
    if (w->silences != NULL)
        io_set(&w->silences->io, 0);
}

/* Of those that are ready in one turn. */
static void what_comes_first_is_told_first(void **state)
{
    struct fixture *f = *state;
    struct one crowd[5];
    int fds[5][2];
    for (int i = 0; i < 5; i++) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds[i]), 0);
        crowd[i] = (struct one){.f = f, .name = (char)('a' + i)};
        io_init(&crowd[i].io, f->loop, fds[i][0], on_crowd);
        io_set(&crowd[i].io, IO_READ);
    }
    run_for(f, 5);
    f->order_n = 0;
    memset(f->order, 0, sizeof f->order);
    crowd[4].silences = &crowd[1]; /* c e [b] a d */
    static const int order[] = {2, 4, 1, 0, 3};
    for (size_t i = 0; i < ARRAY_LEN(order); i++)
        assert_int_equal(write(fds[order[i]][1], "x", 1), 1);
    run_until(f, &f->reads, 4);
    assert_memory_equal(f->order, "cead", 4);
    for (int i = 0; i < 5; i++) {
        io_set(&crowd[i].io, 0);
        (void)close(fds[i][0]);
        (void)close(fds[i][1]);
    }
}

static void lag_is_the_length_of_a_turn(void **state)
{
    struct fixture *f = *state;
    loop_ev_on_lag(f->loop, on_lag, f);
    io_init(&f->io, f->loop, f->fds[0], on_io);
    io_set(&f->io, IO_READ);
    timer_start(&f->timer, 5);
    run_for(f, 600);
    assert_true(f->lags > 0);
    assert_in_range(f->lag_us, 0, 500000); /* sleeping is not lag */
    f->lag_us = 0;
    assert_int_equal(write(f->fds[1], "s", 1), 1);
    run_until(f, &f->reads, 1);
    assert_true(f->lag_us >= 29000);
}

#define TEST(test)                                                                                                     \
    {                                                                                                                  \
#test, test, setup, teardown, NULL                                                                             \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(timer_fires_once_and_on_time),
        TEST(timer_can_be_moved_and_stopped),
        TEST(timer_armed_before_the_loop_runs),
        TEST(sockets_tell_what_is_watched),
        TEST(task_waits_until_input_is_exhausted),
        TEST(task_does_not_wait_longer_than_asked),
        TEST(task_may_queue_itself),
        TEST(quiet_loop_uses_no_time),
        TEST(signals_arrive_in_the_loop),
        TEST(what_comes_first_is_told_first),
        TEST(lag_is_the_length_of_a_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
