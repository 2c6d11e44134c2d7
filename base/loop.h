/* base/loop.h: the event loop as the rest of the code sees it: a clock, timers, sockets, and work for when input runs out.
 *
 * One loop, one thread. The real one is gateway/net/loop_ev.c (libev); tests/support/loop_fake.c has a clock that only
 * tests move. All callbacks run from the loop, never from inside the call that armed them. */
#ifndef XD_BASE_LOOP_H
#define XD_BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

struct loop;

/* One-shot timer. Embedded in its owner, who stops it before going away. */
struct timer {
    void (*run)(struct timer *t);
    struct loop *loop;
    void *impl; /* the loop's own; NULL while not armed for the first time */
};

enum { IO_READ = 1, IO_WRITE = 2 };

/* A watched socket. Level-triggered; events is a set of IO_READ and IO_WRITE. */
struct io {
    void (*run)(struct io *io, int events);
    struct loop *loop;
    void *impl;
    int fd, events;
};

/* Work that waits until no more input is ready, but not longer than max_delay_us: where batches are flushed. */
struct task {
    struct link link; /* linked while queued */
    void (*run)(struct task *t);
    uint64_t due_us;
};

struct loop_ops {
    uint64_t (*now_us)(struct loop *l); /* monotonic; cached per turn of the loop */
    uint64_t (*wall_ms)(struct loop *l);
    void (*timer_start)(struct timer *t, uint64_t delay_ms); /* re-arms an armed timer */
    void (*timer_stop)(struct timer *t);                     /* frees the loop's part; harmless when not armed */
    void (*io_set)(struct io *io, int events);               /* 0 stops watching and frees the loop's part */
    void (*task_queue)(struct loop *l, struct task *t, uint64_t max_delay_us); /* no-op while queued */
};

struct loop {
    const struct loop_ops *ops;
};

static inline uint64_t loop_now_us(struct loop *l)
{
    return l->ops->now_us(l);
}

static inline uint64_t loop_now_ms(struct loop *l)
{
    return l->ops->now_us(l) / 1000;
}

/* Unix time in milliseconds: for showing, never for measuring. */
static inline uint64_t loop_wall_ms(struct loop *l)
{
    return l->ops->wall_ms(l);
}

static inline void timer_init(struct timer *t, struct loop *l, void (*run)(struct timer *))
{
    *t = (struct timer){.run = run, .loop = l};
}

static inline void timer_start(struct timer *t, uint64_t delay_ms)
{
    t->loop->ops->timer_start(t, delay_ms);
}

static inline void timer_stop(struct timer *t)
{
    if (t->impl != NULL)
        t->loop->ops->timer_stop(t);
}

static inline void io_init(struct io *io, struct loop *l, int fd, void (*run)(struct io *, int))
{
    *io = (struct io){.run = run, .loop = l, .fd = fd};
}

static inline void io_set(struct io *io, int events)
{
    if (io->events != events)
        io->loop->ops->io_set(io, events);
}

static inline void task_init(struct task *t, void (*run)(struct task *))
{
    *t = (struct task){.run = run};
    list_init(&t->link);
}

static inline void loop_idle(struct loop *l, struct task *t, uint64_t max_delay_us)
{
    if (list_empty(&t->link))
        l->ops->task_queue(l, t, max_delay_us);
}

static inline void task_cancel(struct task *t)
{
    list_del(&t->link);
}

#endif
