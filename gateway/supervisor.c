/* gateway/supervisor.c: several nodes in one service: one process each, sharing the listening port (SO_REUSEPORT) and the metrics memory. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "gateway/metrics.h"
#include "gateway/node.h"

#define RESTART_DELAY_S 1 /* a worker that dies at once must not spin */

struct supervisor {
    struct config *cfg;
    const struct invocation *how;
    pid_t *workers; /* 0: not running */
    uint32_t running;
    sigset_t signals, inherited;
    bool stopping;
    int status;
};

static void start_worker(struct supervisor *s, uint32_t i)
{
    pid_t parent = getpid(), pid = fork();
    if (pid < 0) {
        LOG(ERROR, "cannot fork", "worker=%u why=%s", i, log_q(slice_str(strerror(errno))));
        return;
    }
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent)
            _exit(1); /* the parent died before the line above */
        (void)sigprocmask(SIG_SETMASK, &s->inherited, NULL);
        metrics_use(i);
        free(s->workers);
        int status = node_run(s->cfg, i, s->how);
        config_fini(s->cfg);
        exit(status);
    }
    s->workers[i] = pid;
    s->running++;
    LOG(INFO, "worker started", "worker=%u pid=%d", i, (int)pid);
}

static void signal_workers(const struct supervisor *s, int signo)
{
    for (uint32_t i = 0; i < s->cfg->workers; i++)
        if (s->workers[i] != 0)
            (void)kill(s->workers[i], signo);
}

static void worker_ended(struct supervisor *s, uint32_t i, int wait_status)
{
    bool orderly = WIFEXITED(wait_status);
    int code = orderly ? WEXITSTATUS(wait_status) : WTERMSIG(wait_status);
    s->workers[i] = 0;
    s->running--;
    if (s->stopping) {
        if (!orderly || code != 0)
            s->status = 1;
        return;
    }
    LOG(ERROR, "worker died", "worker=%u %s=%d", i, orderly ? "status" : "signal", code);
    if (orderly && code == 2) { /* the configuration is wrong: a restart would not help */
        s->stopping = true;
        s->status = 2;
        signal_workers(s, SIGTERM);
        return;
    }
    struct timespec delay = {.tv_sec = RESTART_DELAY_S};
    (void)nanosleep(&delay, NULL);
    start_worker(s, i);
}

static void reap(struct supervisor *s)
{
    int wait_status;
    pid_t pid;
    while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0)
        for (uint32_t i = 0; i < s->cfg->workers; i++)
            if (s->workers[i] == pid)
                worker_ended(s, i, wait_status);
}

static void on_signal(struct supervisor *s, int signo)
{
    if (signo == SIGCHLD) {
        reap(s);
    } else if (signo == SIGHUP) {
        signal_workers(s, SIGHUP);
    } else { /* SIGTERM, SIGINT: the second one is passed on too, and makes the workers stop at once */
        s->stopping = true;
        signal_workers(s, SIGTERM);
    }
}

int supervisor_run(struct config *cfg, const struct invocation *how)
{
    struct supervisor s = {.cfg = cfg, .how = how};
    s.workers = xcalloc(cfg->workers, sizeof *s.workers);
    sigemptyset(&s.signals);
    sigaddset(&s.signals, SIGCHLD);
    sigaddset(&s.signals, SIGTERM);
    sigaddset(&s.signals, SIGINT);
    sigaddset(&s.signals, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &s.signals, &s.inherited);
    metrics_share(cfg->workers);
    for (uint32_t i = 0; i < cfg->workers; i++)
        start_worker(&s, i);
    while (s.running != 0) {
        int signo = sigwaitinfo(&s.signals, NULL);
        if (signo > 0)
            on_signal(&s, signo);
    }
    free(s.workers);
    return s.status;
}
