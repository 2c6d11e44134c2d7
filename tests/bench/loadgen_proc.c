/* loadgen_proc.c: CPU clocks and smaps_rollup of other processes. */
#include "loadgen_proc.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static bool proc_children(struct proc_set *set, pid_t pid)
{
    char path[64], line[4096];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return true; /* a kernel without CONFIG_PROC_CHILDREN: the main process alone */
    bool ok = true;
    if (fgets(line, sizeof line, f) != NULL) {
        char *at = line, *end;
        for (long child = strtol(at, &end, 10); ok && end != at; at = end, child = strtol(at, &end, 10))
            ok = proc_set_add(set, (pid_t)child);
    }
    fclose(f);
    return ok;
}

bool proc_set_add(struct proc_set *set, pid_t pid)
{
    clockid_t clock;
    if (set->n == PROC_MAX || clock_getcpuclockid(pid, &clock) != 0)
        return false;
    set->pids[set->n++] = pid;
    return proc_children(set, pid);
}

bool proc_set_cpu_ns(const struct proc_set *set, uint64_t *retns)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < set->n; i++) {
        clockid_t clock;
        struct timespec t;
        if (clock_getcpuclockid(set->pids[i], &clock) != 0 || clock_gettime(clock, &t) != 0)
            return false;
        sum += (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    }
    *retns = sum;
    return true;
}

int proc_core(pid_t pid)
{
    cpu_set_t allowed;
    if (sched_getaffinity(pid, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) != 1)
        return -1;
    for (int core = 0; core < CPU_SETSIZE; core++)
        if (CPU_ISSET(core, &allowed))
            return core;
    return -1;
}

bool proc_core_idle_ns(int core, uint64_t *retns)
{
    char line[256], name[16];
    bool found = false;
    int n = snprintf(name, sizeof name, "cpu%d ", core);
    FILE *f = fopen("/proc/stat", "re");
    if (f == NULL)
        return false;
    while (!found && fgets(line, sizeof line, f) != NULL) {
        char *at = line + n;
        if (strncmp(line, name, (size_t)n) != 0)
            continue;
        uint64_t ticks = 0;
        for (unsigned column = 0; column < 5; column++) { /* user nice system idle iowait */
            uint64_t v = strtoull(at, &at, 10);
            ticks += column >= 3 ? v : 0;
        }
        *retns = ticks * (1000000000u / (uint64_t)sysconf(_SC_CLK_TCK));
        found = true;
    }
    fclose(f);
    return found;
}

bool proc_set_memory(const struct proc_set *set, struct proc_memory *ret)
{
    struct proc_memory sum = {0};
    for (unsigned i = 0; i < set->n; i++) {
        char path[64], line[256];
        snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)set->pids[i]);
        FILE *f = fopen(path, "re");
        if (f == NULL)
            return false;
        while (fgets(line, sizeof line, f) != NULL) {
            if (strncmp(line, "Rss:", 4) == 0)
                sum.rss_kb += strtoull(line + 4, NULL, 10);
            else if (strncmp(line, "Pss:", 4) == 0)
                sum.pss_kb += strtoull(line + 4, NULL, 10);
        }
        fclose(f);
    }
    *ret = sum;
    return true;
}
