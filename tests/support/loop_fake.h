/* tests/support/loop_fake.h: a loop for tests: its clock moves only when the test says so (or runs by itself when asked to).
 *
 * Timers and tasks are exact: advancing by 1000 ms runs everything due on the way, in order, with the clock standing where each was
 * due. Sockets are real: they are polled without waiting on every turn, and with waiting by loop_fake_until. */
#ifndef XD_TESTS_LOOP_FAKE_H
#define XD_TESTS_LOOP_FAKE_H

#include "base/loop.h"

struct loop_fake {
    struct loop loop; /* give &f->loop to the code under test */
    struct link timers, ios, tasks;
    uint64_t now_us, wall_offset_ms;
    bool real_clock; /* both follow the system's clocks */
    uint64_t turns;
};

/* The clock starts at 1,000,000 ms, Unix time 1,700,000,000,000 ms. */
void loop_fake_init(struct loop_fake *f);
/* The same with clocks that run by themselves. */
void loop_fake_init_real(struct loop_fake *f);
/* Fails the test when a timer, socket or task is still there: its owner forgot it. */
void loop_fake_fini(struct loop_fake *f);

/* Runs what is ready now (sockets, due timers, tasks) until nothing is; the clock does not move. */
void loop_fake_run(struct loop_fake *f);
/* Runs what is ready, then moves the clock by ms, running timers and tasks on the way. For the fake clock only. */
void loop_fake_advance(struct loop_fake *f, uint64_t ms);
/* Waits for sockets (and timers, if the clock is real) until cond(arg), or for timeout_ms of real time. Returns the last cond(arg). */
bool loop_fake_until(struct loop_fake *f, bool (*cond)(void *arg), void *arg, int timeout_ms);
/* Lets sockets (and timers, if the clock is real) run for ms of real time; with a fake clock until the others have nothing more to answer, too. */
void loop_fake_linger(struct loop_fake *f, int ms);

/* Returns when other processes have read and answered what was sent to them: fixtures that start such processes set it. A clock that only the test
 * moves must not run ahead of processes that the machine lets wait. */
extern void (*loop_fake_others)(void);

#endif
