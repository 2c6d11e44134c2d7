/* loadgen_window.c: what all workloads share: the poll turn, CPU accounting and printing. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/epoll.h>

#include "loadgen_run.h"

#define EVENTS_PER_TURN 256

bool poller_turn(const struct poller *p, uint64_t timeout_ns)
{
    struct epoll_event events[EVENTS_PER_TURN];
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000u),
                               .tv_nsec = (long)(timeout_ns % 1000000000u)};
    int n = epoll_pwait2(p->env->epoll, events, EVENTS_PER_TURN, &timeout, NULL);
    if (n < 0 && errno != EINTR) {
        perror("xindao-loadgen: epoll_pwait2");
        return false;
    }
    for (int i = 0; i < n; i++) {
        if (p->before_each != NULL)
            p->before_each(p->env->owner);
        conn_ready(p->env, events[i].data.ptr, events[i].events);
    }
    return true;
}

static uint64_t own_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool cpu_read(struct cpu_window *w, const struct options *o)
{
    w->own_ns = own_cpu_ns();
    if (!proc_core_idle_ns(proc_core(o->servers.pids[0]), &w->server_idle_ns) ||
        !proc_core_idle_ns(proc_core(0), &w->own_idle_ns))
        w->server_idle_ns = w->own_idle_ns = UINT64_MAX; /* not pinned: others' share cannot be told */
    if (proc_set_cpu_ns(&o->servers, &w->server_ns) && proc_set_cpu_ns(&o->helpers, &w->helper_ns))
        return true;
    fputs("xindao-loadgen: a process given by --pid or --helper-pid has gone\n", stderr);
    return false;
}

bool cpu_window_start(struct cpu_window *w, const struct options *o)
{
    w->start_ns = now_ns();
    return cpu_read(w, o);
}

bool cpu_window_stop(struct cpu_window *w, const struct options *o)
{
    struct cpu_window end = {.start_ns = now_ns()};
    if (!cpu_read(&end, o))
        return false;
    w->wall_ns = w->work_ns = end.start_ns - w->start_ns;
    w->server_ns = end.server_ns - w->server_ns;
    w->helper_ns = end.helper_ns - w->helper_ns;
    w->own_ns = end.own_ns - w->own_ns;
    if (end.own_idle_ns != UINT64_MAX) {
        end.server_idle_ns -= w->server_idle_ns;
        end.own_idle_ns -= w->own_idle_ns;
    }
    w->server_idle_ns = end.server_idle_ns;
    w->own_idle_ns = end.own_idle_ns;
    return true;
}

void cpu_window_print(const struct cpu_window *w, const struct options *o, const char *per, uint64_t count)
{
    double wall = (double)w->wall_ns, work = (double)w->work_ns, n = count > 0 ? (double)count : 1;
    printf("seconds=%.3f\ncount=%" PRIu64 "\nper_s=%.1f\n", work / 1e9, count, n * 1e9 / work);
    printf("cpu_us_per_%s=%.4f\n", per, (double)w->server_ns / 1e3 / n);
    printf("server_cpu_percent=%.1f\nloadgen_cpu_percent=%.1f\n", (double)w->server_ns * 100 / work,
           (double)w->own_ns * 100 / work);
    if (w->own_idle_ns != UINT64_MAX)
        printf("server_core_others_percent=%.1f\nloadgen_core_others_percent=%.1f\n",
               100 - (double)(w->server_idle_ns + w->server_ns) * 100 / wall,
               100 - (double)(w->own_idle_ns + w->own_ns + w->helper_ns) * 100 / wall);
    if (o->helpers.n > 0)
        printf("helper_cpu_us_per_%s=%.4f\n", per, (double)w->helper_ns / 1e3 / n);
}

void latency_print(const char *what, const struct hist *h)
{
    static const struct {
        const char *name;
        double quantile;
    } shown[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}};
    for (unsigned i = 0; i < sizeof shown / sizeof shown[0]; i++)
        printf("%s_us_%s=%.1f\n", what, shown[i].name, (double)hist_quantile(h, shown[i].quantile) / 1e3);
    printf("%s_us_max=%.1f\n", what, (double)h->max / 1e3);
}
