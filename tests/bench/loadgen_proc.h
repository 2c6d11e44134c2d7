/* loadgen_proc.h: CPU time and memory of the process under test, with all its threads and children. */
#ifndef XD_BENCH_PROC_H
#define XD_BENCH_PROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PROC_MAX 64

struct proc_set {
    pid_t pids[PROC_MAX];
    unsigned n;
};

struct proc_memory {
    uint64_t rss_kb, pss_kb;
};

/* Adds pid and every descendant it has now. False when there is no such process, or more than PROC_MAX of them. */
bool proc_set_add(struct proc_set *set, pid_t pid);
/* Nanoseconds of CPU time (user + system) used so far. It is the precise run time of the scheduler from which
 * /proc/PID/stat derives its utime and stime, without their rounding to 10 ms. False when a process has gone. */
bool proc_set_cpu_ns(const struct proc_set *set, uint64_t *retns);
/* The core pid is pinned to, or -1 when it may run on several. pid 0: this process. */
int proc_core(pid_t pid);
/* Nanoseconds the core has been idle since boot (steps of 10 ms); false when the kernel does not say. */
bool proc_core_idle_ns(int core, uint64_t *retns);
/* Sums of /proc/PID/smaps_rollup. Slow (milliseconds per 100 MB): not inside a measuring window. */
bool proc_set_memory(const struct proc_set *set, struct proc_memory *ret);

#endif
