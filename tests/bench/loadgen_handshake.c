/* loadgen_handshake.c: connect, TLS, upgrade, close, over and over. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "loadgen_run.h"

#define STUCK_NS 20000000000u
#define QUIET_NS 500000000u /* for the server to notice the last closes */

struct slot {
    struct conn conn; /* first: events hand back a conn */
    uint64_t start_ns;
};

struct shakes {
    const struct options *o;
    struct conn_env env;
    struct slot *slots;
    uint32_t started, done, failures;
    bool measuring;
    struct hist latency;
};

static void shakes_on_opened(void *owner, struct conn *c)
{
    struct shakes *s = owner;
    const struct slot *slot = (const struct slot *)c;
    if (s->measuring)
        hist_add(&s->latency, now_ns() - slot->start_ns);
    s->done++;
    conn_close(c);
}

static void shakes_on_message(void *owner, struct conn *c, uint64_t sent_ns)
{
    (void)owner, (void)c, (void)sent_ns; /* closed before anything can arrive */
}

static void shakes_on_failed(void *owner, struct conn *c, const char *reason)
{
    struct shakes *s = owner;
    if (s->failures++ < 5)
        fprintf(stderr, "xindao-loadgen: handshake %" PRIu32 ": %s\n", c->index, reason);
}

/* Runs n handshakes, then waits until the server has digested them. */
static bool shakes_run(struct shakes *s, uint32_t n, uint64_t *ret_wall_ns)
{
    const struct poller poller = {.env = &s->env};
    uint64_t start = now_ns(), progress = start;
    s->started = s->done = 0;
    while (s->done < n && s->failures == 0) {
        uint32_t before = s->done;
        /* Slots are reused only here, outside of any event of theirs. */
        for (uint32_t i = 0; i < s->o->concurrency && s->started < n; i++)
            if (s->slots[i].conn.state == CONN_CLOSED) {
                s->slots[i].start_ns = now_ns();
                conn_open(&s->env, &s->slots[i].conn, s->started++, 0);
            }
        if (!poller_turn(&poller, 50000000))
            return false;
        if (s->done != before)
            progress = now_ns();
        else if (now_ns() - progress > STUCK_NS)
            break;
    }
    *ret_wall_ns = now_ns() - start;
    const struct timespec quiet = {.tv_nsec = QUIET_NS};
    nanosleep(&quiet, NULL);
    if (s->done < n)
        fprintf(stderr, "xindao-loadgen: %" PRIu32 " of %" PRIu32 " handshakes done, %" PRIu32 " failed\n", s->done, n,
                s->failures);
    return s->done == n;
}

static bool shakes_measure(struct shakes *s)
{
    struct cpu_window w;
    uint64_t wall;
    uint32_t primer = s->o->handshakes / 5 + 1;
    if (!shakes_run(s, primer, &wall) || !cpu_window_start(&w, s->o))
        return false;
    s->measuring = true;
    if (!shakes_run(s, s->o->handshakes, &wall) || !cpu_window_stop(&w, s->o))
        return false;
    w.work_ns = wall;
    cpu_window_print(&w, s->o, "handshake", s->o->handshakes);
    latency_print("handshake", &s->latency);
    if (s->o->tls_resume)
        printf("handshakes_resumed_percent=%.1f\n", 100.0 * tls_resumed() / (primer + s->o->handshakes));
    return true;
}

bool run_handshakes(const struct options *o)
{
    static const struct conn_events events = {shakes_on_opened, shakes_on_message, shakes_on_failed};
    static struct shakes s; /* the histogram is large */
    s = (struct shakes){.o = o};
    bool ok = conn_env_init(&s.env, o, &events, &s);
    s.slots = calloc(o->concurrency, sizeof *s.slots);
    ok = ok && s.slots != NULL && shakes_measure(&s);
    for (uint32_t i = 0; s.slots != NULL && i < o->concurrency; i++)
        conn_fini(&s.slots[i].conn);
    free(s.slots);
    conn_env_fini(&s.env);
    return ok;
}
