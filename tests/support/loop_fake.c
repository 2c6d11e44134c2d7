/* tests/support/loop_fake.c: the loop of unit tests: exact fake time, real sockets through poll(). */
#include "tests/support/loop_fake.h"

#include <assert.h>
#include <poll.h>
#include <stdio.h>
#include <time.h>

#include "base/mem.h"

#define FDS_MAX    64
#define ROUNDS_MAX 50 /* answers that lead to questions */

void (*loop_fake_others)(void);

struct fake_timer {
    struct link link;
    struct timer *timer;
    uint64_t due_us;
};

struct fake_io {
    struct link link;
    struct io *io;
};

static struct loop_fake *fake_of(struct loop *l)
{
    return container_of(l, struct loop_fake, loop);
}

static uint64_t clock_us(clockid_t id)
{
    struct timespec ts;
    (void)clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void tick(struct loop_fake *f)
{
    if (!f->real_clock)
        return;
    f->now_us = clock_us(CLOCK_MONOTONIC);
    f->wall_offset_ms = clock_us(CLOCK_REALTIME) / 1000 - f->now_us / 1000;
}

static uint64_t fake_now_us(struct loop *l)
{
    return fake_of(l)->now_us;
}

static uint64_t fake_wall_ms(struct loop *l)
{
    const struct loop_fake *f = fake_of(l);
    return f->now_us / 1000 + f->wall_offset_ms;
}

static void fake_timer_start(struct timer *t, uint64_t delay_ms)
{
    struct loop_fake *f = fake_of(t->loop);
    struct fake_timer *ft = t->impl;
    if (ft == NULL) {
        ft = xcalloc(1, sizeof *ft);
        ft->timer = t;
        list_init(&ft->link);
        t->impl = ft;
    }
    list_del(&ft->link);
    ft->due_us = f->now_us + delay_ms * 1000;
    /* After all that are due at the same time: timers of one moment run in the order they were set. */
    struct link *at = f->timers.prev;
    while (at != &f->timers && list_entry(at, struct fake_timer, link)->due_us > ft->due_us)
        at = at->prev;
    list_prepend(at, &ft->link);
}

static void fake_timer_stop(struct timer *t)
{
    struct fake_timer *ft = t->impl;
    t->impl = NULL;
    if (ft == NULL)
        return;
    list_del(&ft->link);
    free(ft);
}

static void fake_io_set(struct io *io, int events)
{
    struct loop_fake *f = fake_of(io->loop);
    struct fake_io *fi = io->impl;
    io->events = events;
    if (events == 0) {
        if (fi != NULL) {
            list_del(&fi->link);
            free(fi);
        }
        io->impl = NULL;
        return;
    }
    if (fi == NULL) {
        fi = xcalloc(1, sizeof *fi);
        fi->io = io;
        list_init(&fi->link);
        list_append(&f->ios, &fi->link);
        io->impl = fi;
    }
}

static void fake_task_queue(struct loop *l, struct task *t, uint64_t max_delay_us)
{
    t->due_us = l->ops->now_us(l) + max_delay_us;
    list_append(&fake_of(l)->tasks, &t->link);
}

static const struct loop_ops fake_ops = {
    .now_us = fake_now_us,
    .wall_ms = fake_wall_ms,
    .timer_start = fake_timer_start,
    .timer_stop = fake_timer_stop,
    .io_set = fake_io_set,
    .task_queue = fake_task_queue,
};

void loop_fake_init(struct loop_fake *f)
{
    *f = (struct loop_fake){.loop = {&fake_ops}, .now_us = 1000000000, .wall_offset_ms = 1700000000000 - 1000000};
    list_init(&f->timers);
    list_init(&f->ios);
    list_init(&f->tasks);
}

void loop_fake_init_real(struct loop_fake *f)
{
    loop_fake_init(f);
    f->real_clock = true;
    tick(f);
}

void loop_fake_fini(struct loop_fake *f)
{
    /* An armed one-shot timer is a leak, one that ran and was not stopped too: its owner holds the loop's part. */
    list_for_each (l, &f->timers)
        fprintf(stderr, "loop_fake: timer still armed, due at %lu us\n",
                (unsigned long)list_entry(l, struct fake_timer, link)->due_us);
    list_for_each (l, &f->ios)
        fprintf(stderr, "loop_fake: fd %d still watched\n", list_entry(l, struct fake_io, link)->io->fd);
    assert(list_empty(&f->timers));
    assert(list_empty(&f->ios));
    assert(list_empty(&f->tasks));
}

static bool still_watched(const struct loop_fake *f, const struct fake_io *fi)
{
    list_for_each (l, &f->ios) {
        if (list_entry(l, struct fake_io, link) == fi)
            return true;
    }
    return false;
}

static int events_of(short revents)
{
    int events = 0;
    if ((revents & (POLLIN | POLLHUP | POLLERR)) != 0)
        events |= IO_READ;
    if ((revents & (POLLOUT | POLLHUP | POLLERR)) != 0)
        events |= IO_WRITE;
    return events;
}

static bool run_sockets(struct loop_fake *f, int wait_ms)
{
    struct pollfd fds[FDS_MAX];
    struct fake_io *who[FDS_MAX];
    nfds_t n = 0;
    list_for_each (l, &f->ios) {
        assert(n < FDS_MAX);
        who[n] = list_entry(l, struct fake_io, link);
        int events = who[n]->io->events;
        fds[n] = (struct pollfd){.fd = who[n]->io->fd};
        fds[n].events = (short)(((events & IO_READ) != 0 ? POLLIN : 0) | ((events & IO_WRITE) != 0 ? POLLOUT : 0));
        n++;
    }
    if (poll(fds, n, wait_ms) <= 0)
        return false;
    tick(f);
    bool ran = false;
    for (nfds_t i = 0; i < n; i++) {
        if (fds[i].revents == 0 || !still_watched(f, who[i]) || who[i]->io->fd != fds[i].fd)
            continue;
        int events = events_of(fds[i].revents) & who[i]->io->events;
        if (events != 0) {
            who[i]->io->run(who[i]->io, events);
            ran = true;
        }
    }
    return ran;
}

static bool run_timers(struct loop_fake *f)
{
    bool ran = false;
    while (!list_empty(&f->timers)) {
        struct fake_timer *ft = list_first(&f->timers, struct fake_timer, link);
        if (ft->due_us > f->now_us)
            break;
        list_del(&ft->link);
        ft->timer->run(ft->timer);
        ran = true;
    }
    return ran;
}

/* Only what was queued before: what these queue in turn waits for the next round, as in the real loop. */
static bool run_tasks(struct loop_fake *f)
{
    struct link turn;
    list_init(&turn);
    list_splice(&turn, &f->tasks);
    bool ran = !list_empty(&turn);
    while (!list_empty(&turn)) {
        struct task *t = list_first(&turn, struct task, link);
        list_del(&t->link);
        t->run(t);
    }
    return ran;
}

/* Input first, then timers, then, when neither had anything, tasks. */
static bool turn(struct loop_fake *f, int wait_ms)
{
    tick(f);
    f->turns++;
    bool ran = run_sockets(f, list_empty(&f->tasks) ? wait_ms : 0);
    ran = run_timers(f) || ran;
    return run_tasks(f) || ran;
}

void loop_fake_run(struct loop_fake *f)
{
    while (turn(f, 0))
        ;
}

void loop_fake_advance(struct loop_fake *f, uint64_t ms)
{
    assert(!f->real_clock);
    loop_fake_run(f);
    uint64_t end = f->now_us + ms * 1000;
    while (f->now_us < end) {
        uint64_t next = end;
        if (!list_empty(&f->timers)) {
            uint64_t due = list_first(&f->timers, struct fake_timer, link)->due_us;
            next = due < end ? due : end;
        }
        f->now_us = next;
        loop_fake_run(f);
    }
}

/* A real wait must not overshoot the next timer when the clock is real. */
static int wait_for(const struct loop_fake *f, int most_ms)
{
    if (!f->real_clock || list_empty(&f->timers))
        return most_ms;
    uint64_t due = list_first(&f->timers, struct fake_timer, link)->due_us;
    uint64_t now = clock_us(CLOCK_MONOTONIC);
    if (due <= now)
        return 0;
    uint64_t ms = (due - now) / 1000 + 1;
    return ms < (uint64_t)most_ms ? (int)ms : most_ms;
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

bool loop_fake_until(struct loop_fake *f, bool (*cond)(void *arg), void *arg, int timeout_ms)
{
    uint64_t end = clock_us(CLOCK_MONOTONIC) + (uint64_t)timeout_ms * 1000;
    while (!cond(arg)) {
        if (clock_us(CLOCK_MONOTONIC) >= end)
            return false;
        (void)turn(f, wait_for(f, 5));
    }
    return true;
}

void loop_fake_linger(struct loop_fake *f, int ms)
{
    (void)loop_fake_until(f, never, NULL, ms);
    if (f->real_clock || loop_fake_others == NULL)
        return;
    uint64_t before = 0;
    for (int i = 0; i < ROUNDS_MAX && f->turns != before + 1; i++) { /* one turn alone: there was nothing to do */
        loop_fake_others();
        before = f->turns;
        loop_fake_run(f);
    }
}
