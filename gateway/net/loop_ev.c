/* gateway/net/loop_ev.c: base/loop.h on libev: one epoll loop per process. */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include <ev.h>

#include "base/mem.h"
#include "gateway/net/net.h"

#define SIGNALS_MAX 8

struct ev_owned_io {
    ev_io watcher;
    struct io *owner;
    struct link ready; /* loop_ev->ready, when it is */
    int events;
};

struct ev_owned_timer {
    ev_timer watcher;
    struct timer *owner;
};

struct ev_owned_signal {
    ev_signal watcher;
    void (*run)(void *arg);
    void *arg;
};

struct loop_ev {
    struct loop base;
    struct ev_loop *ev;
    ev_prepare before_poll;
    ev_check after_poll;
    ev_idle idle;      /* runs while tasks wait, so only when a poll found nothing */
    struct link ready; /* sockets of this turn whose owners have not been told */
    struct link tasks;
    uint64_t next_due_us; /* of the tasks; may be too early, never too late */
    uint64_t now_us;
    uint64_t turn_us; /* when the present turn began; 0 before the first */
    void (*lag)(void *arg, uint64_t us);
    void *lag_arg;
    struct ev_owned_signal signals[SIGNALS_MAX];
    size_t n_signals;
};

static struct loop_ev *self(struct loop *l)
{
    return container_of(l, struct loop_ev, base);
}

static uint64_t clock_us(clockid_t id)
{
    struct timespec t;
    (void)clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t ev_now_us(struct loop *l)
{
    return self(l)->now_us;
}

static uint64_t ev_wall_ms(struct loop *l)
{
    (void)l;
    return clock_us(CLOCK_REALTIME) / 1000;
}

/* --- timers --- */

static void release_timer(struct loop_ev *l, struct timer *t)
{
    struct ev_owned_timer *w = t->impl;
    ev_timer_stop(l->ev, &w->watcher);
    free(w);
    t->impl = NULL;
}

static void on_timer(struct ev_loop *ev, ev_timer *watcher, int revents)
{
    (void)revents;
    struct timer *t = container_of(watcher, struct ev_owned_timer, watcher)->owner;
    release_timer(ev_userdata(ev), t); /* first: the owner may free itself, or arm it again */
    t->run(t);
}

static void ev_timer_arm(struct timer *t, uint64_t delay_ms)
{
    struct loop_ev *l = self(t->loop);
    struct ev_owned_timer *w = t->impl;
    if (w == NULL) {
        w = xmalloc(sizeof *w);
        w->owner = t;
        ev_timer_init(&w->watcher, on_timer, 0, 0);
        t->impl = w;
    }
    ev_timer_stop(l->ev, &w->watcher);
    if (ev_depth(l->ev) == 0)
        ev_now_update(l->ev); /* before loop_ev_run() nobody keeps libev's clock */
    ev_timer_set(&w->watcher, (double)delay_ms / 1000, 0);
    ev_timer_start(l->ev, &w->watcher);
}

static void ev_timer_disarm(struct timer *t)
{
    if (t->impl != NULL)
        release_timer(self(t->loop), t);
}

/* --- sockets --- */

static int to_ev(int events)
{
    return ((events & IO_READ) != 0 ? EV_READ : 0) | ((events & IO_WRITE) != 0 ? EV_WRITE : 0);
}

/* libev tells of the sockets of a turn from the last to the first; what came first is to be done first: a client may say one thing on one connection and then
 * another, that relies on it, on another. */
static void on_io(struct ev_loop *ev, ev_io *watcher, int revents)
{
    struct loop_ev *l = ev_userdata(ev);
    struct ev_owned_io *w = container_of(watcher, struct ev_owned_io, watcher);
    w->events = ((revents & EV_READ) != 0 ? IO_READ : 0) | ((revents & EV_WRITE) != 0 ? IO_WRITE : 0);
    list_del(&w->ready);
    list_prepend(&l->ready, &w->ready);
}

static void invoke_pending(struct ev_loop *ev)
{
    struct loop_ev *l = ev_userdata(ev);
    ev_invoke_pending(ev);
    while (!list_empty(&l->ready)) {
        struct ev_owned_io *w = list_first(&l->ready, struct ev_owned_io, ready);
        list_del(&w->ready);
        /* Errors and hang-ups come as both; the owner is told only what it asked for and finds out by trying. */
        w->owner->run(w->owner, w->events & w->owner->events);
    }
}

static void ev_io_interest(struct io *io, int events)
{
    struct loop_ev *l = self(io->loop);
    struct ev_owned_io *w = io->impl;
    io->events = events;
    if (w == NULL) {
        if (events == 0)
            return;
        w = xmalloc(sizeof *w);
        w->owner = io;
        list_init(&w->ready);
        ev_io_init(&w->watcher, on_io, io->fd, to_ev(events));
        io->impl = w;
        ev_io_start(l->ev, &w->watcher);
        return;
    }
    ev_io_stop(l->ev, &w->watcher);
    list_del(&w->ready); /* as libev does with what is pending */
    if (events == 0) {
        free(w);
        io->impl = NULL;
        return;
    }
    /* Not ev_io_set(): that marks the descriptor as new and costs an epoll_ctl even when, by the next poll, nothing has changed. */
    ev_io_modify(&w->watcher, to_ev(events));
    ev_io_start(l->ev, &w->watcher);
}

/* --- tasks --- */

static void ev_task_queue(struct loop *base, struct task *t, uint64_t max_delay_us)
{
    struct loop_ev *l = self(base);
    t->due_us = l->now_us + max_delay_us;
    if (list_empty(&l->tasks) || t->due_us < l->next_due_us)
        l->next_due_us = t->due_us;
    list_append(&l->tasks, &t->link);
    if (!ev_is_active(&l->idle))
        ev_idle_start(l->ev, &l->idle);
}

/* Runs the tasks that are due by `until`; those they queue wait for the next round. */
static void run_tasks(struct loop_ev *l, uint64_t until)
{
    struct link pending;
    list_init(&pending);
    list_splice(&pending, &l->tasks);
    l->next_due_us = UINT64_MAX;
    while (!list_empty(&pending)) {
        struct task *t = list_first(&pending, struct task, link);
        list_del(&t->link);
        if (t->due_us <= until) {
            t->run(t);
            continue;
        }
        list_append(&l->tasks, &t->link);
        if (t->due_us < l->next_due_us)
            l->next_due_us = t->due_us;
    }
    if (list_empty(&l->tasks))
        ev_idle_stop(l->ev, &l->idle);
}

static void on_idle(struct ev_loop *ev, ev_idle *watcher, int revents)
{
    (void)watcher;
    (void)revents;
    run_tasks(ev_userdata(ev), UINT64_MAX);
}

/* --- turns --- */

static void on_before_poll(struct ev_loop *ev, ev_prepare *watcher, int revents)
{
    (void)watcher;
    (void)revents;
    struct loop_ev *l = ev_userdata(ev);
    l->now_us = clock_us(CLOCK_MONOTONIC);
    if (!list_empty(&l->tasks) && l->next_due_us <= l->now_us) {
        run_tasks(l, l->now_us);
        l->now_us = clock_us(CLOCK_MONOTONIC);
    }
    if (l->lag != NULL && l->turn_us != 0)
        l->lag(l->lag_arg, l->now_us - l->turn_us);
}

static void on_after_poll(struct ev_loop *ev, ev_check *watcher, int revents)
{
    (void)watcher;
    (void)revents;
    struct loop_ev *l = ev_userdata(ev);
    l->now_us = l->turn_us = clock_us(CLOCK_MONOTONIC);
}

static const struct loop_ops ops = {
    .now_us = ev_now_us,
    .wall_ms = ev_wall_ms,
    .timer_start = ev_timer_arm,
    .timer_stop = ev_timer_disarm,
    .io_set = ev_io_interest,
    .task_queue = ev_task_queue,
};

struct loop *loop_ev_create(void)
{
    struct loop_ev *l = xcalloc(1, sizeof *l);
    l->base.ops = &ops;
    l->ev = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (l->ev == NULL) {
        perror("epoll");
        abort();
    }
    ev_set_userdata(l->ev, l);
    list_init(&l->ready);
    list_init(&l->tasks);
    ev_set_invoke_pending_cb(l->ev, invoke_pending);
    ev_prepare_init(&l->before_poll, on_before_poll);
    ev_prepare_start(l->ev, &l->before_poll);
    ev_check_init(&l->after_poll, on_after_poll);
    ev_set_priority(&l->after_poll, EV_MAXPRI); /* the clock first, then the events */
    ev_check_start(l->ev, &l->after_poll);
    ev_idle_init(&l->idle, on_idle);
    l->now_us = clock_us(CLOCK_MONOTONIC);
    return &l->base;
}

void loop_ev_destroy(struct loop **l)
{
    if (*l == NULL)
        return;
    struct loop_ev *e = self(*l);
    for (size_t i = 0; i < e->n_signals; i++)
        ev_signal_stop(e->ev, &e->signals[i].watcher);
    ev_idle_stop(e->ev, &e->idle);
    ev_check_stop(e->ev, &e->after_poll);
    ev_prepare_stop(e->ev, &e->before_poll);
    ev_loop_destroy(e->ev);
    free(e);
    *l = NULL;
}

void loop_ev_run(struct loop *l)
{
    ev_run(self(l)->ev, 0);
}

void loop_ev_stop(struct loop *l)
{
    ev_break(self(l)->ev, EVBREAK_ALL);
}

static void on_signal(struct ev_loop *ev, ev_signal *watcher, int revents)
{
    (void)ev;
    (void)revents;
    struct ev_owned_signal *s = container_of(watcher, struct ev_owned_signal, watcher);
    s->run(s->arg);
}

void loop_ev_signal(struct loop *l, int signo, void (*run)(void *arg), void *arg)
{
    struct loop_ev *e = self(l);
    assert(e->n_signals < SIGNALS_MAX);
    struct ev_owned_signal *s = &e->signals[e->n_signals++];
    s->run = run;
    s->arg = arg;
    ev_signal_init(&s->watcher, on_signal, signo);
    ev_signal_start(e->ev, &s->watcher);
}

void loop_ev_on_lag(struct loop *l, void (*run)(void *arg, uint64_t us), void *arg)
{
    struct loop_ev *e = self(l);
    e->lag = run;
    e->lag_arg = arg;
}
