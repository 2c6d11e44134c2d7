/* loadgen_run.h: the workloads. Each connects, warms up, measures, prints name=value lines on stdout. */
#ifndef XD_BENCH_RUN_H
#define XD_BENCH_RUN_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "loadgen_conn.h"
#include "loadgen_hist.h"

/* False after a message on stderr: a connection failed, or messages were lost, repeated or reordered. */
bool run_rooms(const struct options *o);
bool run_handshakes(const struct options *o);

/* Server, helper and own CPU time over a window. */
struct cpu_window {
    uint64_t start_ns, wall_ns;
    uint64_t work_ns; /* the part of wall_ns in which the counted things happened; rates are over it */
    uint64_t server_ns, helper_ns, own_ns;
    uint64_t server_idle_ns, own_idle_ns; /* of the cores they are pinned to */
};

bool cpu_window_start(struct cpu_window *w, const struct options *o);
/* Replaces the start values by differences. */
bool cpu_window_stop(struct cpu_window *w, const struct options *o);
/* per: what was counted (deliveries, handshakes) and how often. */
void cpu_window_print(const struct cpu_window *w, const struct options *o, const char *per, uint64_t count);
void latency_print(const char *what, const struct hist *h);

/* Waits for events at most timeout_ns and dispatches them; before_each may be NULL. False when epoll fails. */
struct poller {
    struct conn_env *env;
    void (*before_each)(void *owner);
};
bool poller_turn(const struct poller *p, uint64_t timeout_ns);

static inline uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t seconds_ns(double s)
{
    return (uint64_t)(s * 1e9);
}

#endif
