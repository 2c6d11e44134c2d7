/* gateway/start.c: who may begin now. */
#include "gateway/start.h"

#include <assert.h>

#include "gateway/gateway.h"
#include "gateway/metrics.h"

#define FRESH_TURN 8u /* the turn at which a new session goes before those that return */

static struct start *pick(struct starts *s)
{
    bool fresh = list_empty(&s->returning) || (s->turns % FRESH_TURN == FRESH_TURN - 1 && !list_empty(&s->fresh));
    struct link *from = fresh ? &s->fresh : &s->returning;
    return list_empty(from) ? NULL : list_first(from, struct start, link);
}

static void leave_queue(struct start *st)
{
    list_del(&st->link);
    st->state = START_IDLE;
    metrics->starts_waiting--;
}

static void run(struct starts *s, struct start *st)
{
    st->state = START_RUNNING;
    s->running++;
    s->turns++;
    st->run(st);
}

static void on_next(struct task *t)
{
    struct starts *s = container_of(t, struct starts, next);
    struct start *st;
    while (s->running < s->gw->cfg->max_starts && (st = pick(s)) != NULL) {
        leave_queue(st);
        run(s, st);
    }
}

void starts_init(struct starts *s, struct gateway *g)
{
    *s = (struct starts){.gw = g};
    list_init(&s->returning);
    list_init(&s->fresh);
    task_init(&s->next, on_next);
}

static void give_up(struct link *queue, uint64_t older_than_ms)
{
    while (!list_empty(queue)) {
        struct start *st = list_first(queue, struct start, link);
        if (st->since_ms >= older_than_ms)
            return;
        leave_queue(st);
        st->give_up(st);
    }
}

void starts_fini(struct starts *s)
{
    give_up(&s->returning, UINT64_MAX);
    give_up(&s->fresh, UINT64_MAX);
    task_cancel(&s->next);
}

void starts_tick(struct starts *s)
{
    uint64_t now = loop_now_ms(s->gw->loop), patience = s->gw->cfg->redis_timeout_ms;
    if (now < patience)
        return; /* the machine has just started, and so has its clock */
    give_up(&s->returning, now - patience);
    give_up(&s->fresh, now - patience);
}

void start_init(struct start *s, void (*run_fn)(struct start *s), void (*give_up_fn)(struct start *s))
{
    *s = (struct start){.run = run_fn, .give_up = give_up_fn};
    list_init(&s->link);
}

void start_begin(struct starts *all, struct start *s, bool returning)
{
    assert(s->state == START_IDLE);
    if (all->running < all->gw->cfg->max_starts && pick(all) == NULL) {
        run(all, s);
        return;
    }
    s->state = START_WAITING;
    s->since_ms = loop_now_ms(all->gw->loop);
    list_append(returning ? &all->returning : &all->fresh, &s->link);
    metrics->starts_waiting++;
    metrics->starts_deferred++;
    loop_idle(all->gw->loop, &all->next, 0);
}

void start_end(struct starts *all, struct start *s)
{
    if (s->state == START_WAITING)
        leave_queue(s);
    if (s->state == START_RUNNING) {
        s->state = START_IDLE;
        all->running--;
        /* Later: whoever ends may be walking the sessions. */
        if (pick(all) != NULL)
            loop_idle(all->gw->loop, &all->next, 0);
    }
}
