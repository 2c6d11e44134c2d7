/* loadgen_run.c: workloads in rooms: open loop, closed loop, idle. */
#include "loadgen_run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TURN_NS       50000000u    /* longest sleep when nothing is due */
#define STUCK_NS      20000000000u /* set-up without any progress */
#define QUIET_NS      300000000u   /* silence after which a phase counts as over */
#define DRAIN_NS      10000000000u /* for the last messages to arrive */
#define MEMORY_PRIMER 200          /* idle: connections opened before the first memory reading */

struct room {
    uint64_t sent, received;
    uint32_t next_sender;
};

struct run {
    const struct options *o;
    struct conn_env env;
    struct poller poller;
    struct conn *conns;
    struct room *rooms;
    uint32_t n_conns, started, opened, failures;
    bool sending, measuring;
    uint64_t now;                            /* of the event being handled; 0: not asked yet */
    uint64_t first_ns, due_ns, next_message; /* RATE: message k is due at first_ns + k / rate */
    uint64_t worst_lag_ns;                   /* RATE: how late the generator itself was */
    uint64_t deliveries, published;          /* while measuring */
    struct hist latency;
};

static void run_publish(struct run *r, uint32_t room_id, uint64_t stamp_ns)
{
    struct room *room = &r->rooms[room_id];
    struct conn *c = &r->conns[(uint64_t)room_id * r->o->members + room->next_sender];
    room->next_sender = (room->next_sender + 1) % r->o->members;
    if (c->state != CONN_OPEN)
        return; /* its failure has been reported and fails the run */
    if (conn_publish(&r->env, c, stamp_ns, (uint32_t)room->sent)) {
        room->sent++;
        r->published += r->measuring;
    }
}

static void run_send_due(struct run *r)
{
    uint64_t now = now_ns();
    while (r->due_ns <= now) {
        if (now - r->due_ns > r->worst_lag_ns && r->measuring)
            r->worst_lag_ns = now - r->due_ns;
        run_publish(r, (uint32_t)(r->next_message % r->o->rooms), r->due_ns);
        r->next_message++;
        r->due_ns = r->first_ns + r->next_message * 1000000000u / r->o->rate;
    }
}

static void run_before_each(void *owner)
{
    struct run *r = owner;
    r->now = 0;
    if (r->sending && r->o->mode == MODE_RATE)
        run_send_due(r);
}

static void run_refill(struct run *r, uint32_t room_id)
{
    const struct room *room = &r->rooms[room_id];
    uint64_t members = r->o->members;
    while (r->sending && r->failures == 0 && room->sent * members - room->received <= (r->o->window - 1) * members)
        run_publish(r, room_id, now_ns());
}

static void run_on_message(void *owner, struct conn *c, uint64_t sent_ns)
{
    struct run *r = owner;
    r->rooms[c->room].received++;
    if (r->measuring) {
        if (r->now == 0)
            r->now = now_ns();
        r->deliveries++;
        hist_add(&r->latency, r->now > sent_ns ? r->now - sent_ns : 0);
    }
    if (r->sending && r->o->mode == MODE_CLOSED)
        run_refill(r, c->room);
}

static void run_on_opened(void *owner, struct conn *c)
{
    struct run *r = owner;
    (void)c;
    r->opened++;
}

static void run_on_failed(void *owner, struct conn *c, const char *reason)
{
    struct run *r = owner;
    if (r->failures++ < 5)
        fprintf(stderr, "xindao-loadgen: connection %" PRIu32 ": %s\n", c->index, reason);
}

/* Opens connections until there are `wanted`. */
static bool run_connect(struct run *r, uint32_t wanted)
{
    uint64_t progress_ns = now_ns();
    uint32_t before = r->opened;
    while (r->opened < wanted && r->failures == 0) {
        while (r->started < wanted && r->started - r->opened < r->o->concurrency) {
            conn_open(&r->env, &r->conns[r->started], r->started, r->started / r->o->members);
            r->started++;
        }
        if (!poller_turn(&r->poller, TURN_NS))
            return false;
        if (r->opened != before) {
            before = r->opened;
            progress_ns = now_ns();
        } else if (now_ns() - progress_ns > STUCK_NS) {
            fprintf(stderr, "xindao-loadgen: stuck with %" PRIu32 " of %" PRIu32 " connections open\n", r->opened,
                    wanted);
            return false;
        }
    }
    return r->failures == 0;
}

/* Runs the loop for a time; sends when r->sending. */
static bool run_for(struct run *r, double seconds)
{
    uint64_t end = now_ns() + seconds_ns(seconds);
    for (uint64_t now = now_ns(); now < end && r->failures == 0; now = now_ns()) {
        uint64_t until = end;
        if (r->sending && r->o->mode == MODE_RATE) {
            run_send_due(r);
            until = r->due_ns < end ? r->due_ns : end;
            now = now_ns();
        }
        if (!poller_turn(&r->poller, until > now ? until - now : 0))
            return false;
    }
    return r->failures == 0;
}

/* Runs the loop until nothing has arrived for QUIET_NS, so that set-up traffic is not measured. */
static bool run_until_quiet(struct run *r)
{
    uint64_t bytes, start = now_ns();
    do {
        bytes = r->env.bytes_in;
        if (!run_for(r, QUIET_NS / 1e9))
            return false;
    } while (bytes != r->env.bytes_in && now_ns() - start < DRAIN_NS);
    return true;
}

static bool run_all_arrived(const struct run *r)
{
    for (uint32_t i = 0; i < r->o->rooms; i++)
        if (r->rooms[i].received < r->rooms[i].sent * r->o->members)
            return false;
    return true;
}

/* Every member has every message of its room once, in the same order. */
static bool run_check(struct run *r)
{
    uint64_t start = now_ns(), lost = 0, repeated = 0, reordered = 0;
    r->sending = false;
    while (!run_all_arrived(r) && now_ns() - start < DRAIN_NS)
        if (!run_for(r, 0.02))
            return false;
    if (!run_for(r, QUIET_NS / 1e9)) /* for what should not come */
        return false;
    for (uint32_t i = 0; i < r->n_conns; i++) {
        const struct conn *c = &r->conns[i];
        uint64_t sent = r->rooms[c->room].sent;
        lost += c->received < sent ? sent - c->received : 0;
        repeated += c->received > sent ? c->received - sent : 0;
        reordered += c->received == sent && c->order != r->conns[(size_t)c->room * r->o->members].order;
    }
    printf("lost=%" PRIu64 "\nrepeated=%" PRIu64 "\nreordered_members=%" PRIu64 "\n", lost, repeated, reordered);
    if (lost + repeated + reordered == 0)
        return true;
    fprintf(stderr,
            "xindao-loadgen: %s: %" PRIu64 " deliveries lost, %" PRIu64 " repeated, %" PRIu64
            " members saw another order\n",
            r->o->workload, lost, repeated, reordered);
    return false;
}

static bool run_traffic(struct run *r)
{
    struct cpu_window w;
    struct proc_memory m;
    if (!run_connect(r, r->n_conns) || !run_until_quiet(r))
        return false;
    r->sending = true;
    r->first_ns = r->due_ns = now_ns();
    for (uint32_t i = 0; r->o->mode == MODE_CLOSED && i < r->o->rooms; i++)
        run_refill(r, i);
    if (!run_for(r, r->o->warmup) || !cpu_window_start(&w, r->o))
        return false;
    uint64_t bytes = r->env.bytes_in;
    r->measuring = true;
    if (!run_for(r, r->o->duration) || !cpu_window_stop(&w, r->o))
        return false;
    r->measuring = false;
    bytes = r->env.bytes_in - bytes;
    cpu_window_print(&w, r->o, "delivery", r->deliveries);
    printf("messages=%" PRIu64 "\nbytes_per_delivery=%.1f\n", r->published,
           r->deliveries > 0 ? (double)bytes / (double)r->deliveries : 0);
    latency_print("latency", &r->latency);
    if (r->o->mode == MODE_RATE)
        printf("loadgen_lag_us_max=%.1f\n", (double)r->worst_lag_ns / 1e3);
    if (proc_set_memory(&r->o->servers, &m))
        printf("rss_kb=%" PRIu64 "\npss_kb=%" PRIu64 "\n", m.rss_kb, m.pss_kb);
    return run_check(r);
}

/* Memory is read after the first connections, so that start-up costs (code pages, compilers) stay out of it. */
static bool run_idle(struct run *r)
{
    uint32_t primer = r->n_conns > 2 * MEMORY_PRIMER ? MEMORY_PRIMER : 0;
    struct proc_memory before, after;
    struct cpu_window w;
    if (!run_connect(r, primer) || !run_until_quiet(r) || !proc_set_memory(&r->o->servers, &before) ||
        !run_connect(r, r->n_conns) || !run_until_quiet(r) || !run_for(r, r->o->warmup) ||
        !cpu_window_start(&w, r->o) || !run_for(r, r->o->duration) || !cpu_window_stop(&w, r->o) ||
        !proc_set_memory(&r->o->servers, &after))
        return false;
    double n = r->n_conns - primer;
    printf("connections=%" PRIu32 "\nseconds=%.3f\nserver_cpu_percent=%.2f\n", r->n_conns, (double)w.wall_ns / 1e9,
           (double)w.server_ns * 100 / (double)w.wall_ns);
    printf("rss_kb_before=%" PRIu64 "\nrss_kb=%" PRIu64 "\npss_kb_before=%" PRIu64 "\npss_kb=%" PRIu64 "\n",
           before.rss_kb, after.rss_kb, before.pss_kb, after.pss_kb);
    printf("rss_kb_per_connection=%.3f\npss_kb_per_connection=%.3f\n",
           ((double)after.rss_kb - (double)before.rss_kb) / n, ((double)after.pss_kb - (double)before.pss_kb) / n);
    return r->failures == 0;
}

static bool run_init(struct run *r, const struct options *o)
{
    static const struct conn_events events = {run_on_opened, run_on_message, run_on_failed};
    *r = (struct run){.o = o, .n_conns = o->rooms * o->members};
    if (!conn_env_init(&r->env, o, &events, r))
        return false;
    r->poller = (struct poller){.env = &r->env, .before_each = run_before_each};
    r->conns = calloc(r->n_conns, sizeof *r->conns);
    r->rooms = calloc(o->rooms, sizeof *r->rooms);
    return r->conns != NULL && r->rooms != NULL;
}

static void run_fini(struct run *r)
{
    for (uint32_t i = 0; r->conns != NULL && i < r->started; i++)
        conn_fini(&r->conns[i]);
    free(r->conns);
    free(r->rooms);
    conn_env_fini(&r->env);
}

bool run_rooms(const struct options *o)
{
    static struct run r; /* the histogram is large */
    bool ok = run_init(&r, o) && (o->mode == MODE_IDLE ? run_idle(&r) : run_traffic(&r));
    if (r.failures > 0)
        fprintf(stderr, "xindao-loadgen: %s: %" PRIu32 " connections failed\n", o->workload, r.failures);
    run_fini(&r);
    return ok;
}
