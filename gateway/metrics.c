/* gateway/metrics.c: the slots of all workers and their Prometheus text. */
#include "gateway/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>

#include "base/mem.h"

#define CACHE_LINE 64

static const uint32_t lag_bounds_us[LAG_BUCKETS] = {100, 500, 1000, 5000, 10000, 50000, 100000, 1000000};

/* A slot of its own cache lines, so that workers do not slow each other down. */
union slot {
    struct metrics metrics;
    char padding[(sizeof(struct metrics) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE];
};

static union slot own;
static union slot *slots = &own;
static uint32_t slot_count = 1;
struct metrics *metrics = &own.metrics;

void metrics_share(uint32_t n)
{
    void *p = mmap(NULL, n * sizeof *slots, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        abort(); /* a few pages at start: like base/mem.h */
    slots = p;
    slot_count = n;
    metrics = &slots[0].metrics;
}

void metrics_use(uint32_t i)
{
    metrics = &slots[i].metrics;
}

void metrics_lag(uint64_t us)
{
    size_t i = 0;
    while (i < LAG_BUCKETS && us > lag_bounds_us[i])
        i++;
    metrics->lag_bucket[i]++;
    metrics->lag_us_sum += us;
    metrics->lag_count++;
}

const char *drop_reason_word(enum drop_reason r)
{
    static const char *const words[] = {
#define X(code, word) [code] = (word),
        DROP_MAP(X)
#undef X
    };
    return words[r];
}

/* --- text --- */

struct writer {
    struct buf *out;
    const char *family; /* without xindao_ */
};

static void begin(struct writer *w, const char *family, const char *type, const char *help)
{
    w->family = family;
    buf_printf(w->out, "# HELP xindao_%s %s\n# TYPE xindao_%s %s\n", family, help, family, type);
}

static void append_label(struct buf *b, const char *name, const char *value, bool first)
{
    buf_printf(b, "%s%s=\"", first ? "{" : ",", name);
    for (; *value != '\0'; value++) {
        if (*value == '\\' || *value == '"')
            buf_append_char(b, '\\');
        if (*value == '\n')
            buf_append_str(b, "\\n");
        else
            buf_append_char(b, *value);
    }
    buf_append_char(b, '"');
}

/* Everything of a sample but its number. label may be NULL, value is the label's. */
static void sample(const struct writer *w, const char *suffix, uint32_t worker, const char *label, const char *value)
{
    bool shared = slot_count > 1;
    buf_printf(w->out, "xindao_%s%s", w->family, suffix);
    if (shared) {
        char digits[16];
        (void)snprintf(digits, sizeof digits, "%" PRIu32, worker);
        append_label(w->out, "worker", digits, true);
    }
    if (label != NULL)
        append_label(w->out, label, value, !shared);
    if (shared || label != NULL)
        buf_append_char(w->out, '}');
    buf_append_char(w->out, ' ');
}

static void sample_u64(const struct writer *w, uint32_t worker, const char *label, const char *value, uint64_t v)
{
    sample(w, "", worker, label, value);
    buf_append_u64(w->out, v);
    buf_append_char(w->out, '\n');
}

/* One number of every worker; offset is in struct metrics. */
static void family_u64(struct buf *out, const char *family, const char *type, const char *help, size_t offset)
{
    struct writer w = {.out = out};
    begin(&w, family, type, help);
    for (uint32_t i = 0; i < slot_count; i++) {
        const void *field = (const char *)&slots[i].metrics + offset;
        sample_u64(&w, i, NULL, "", *(const uint64_t *)field);
    }
}

static void append_seconds(struct buf *out, uint64_t us)
{
    buf_printf(out, "%" PRIu64 ".%06u", us / 1000000, (unsigned)(us % 1000000));
    while (out->p[out->n - 1] == '0')
        out->n--;
    if (out->p[out->n - 1] == '.')
        out->n--;
}

struct histogram {
    const uint64_t *bucket; /* not cumulative; one more than bounds */
    const uint32_t *bounds_us;
    size_t bounds;
    uint64_t us_sum;
};

static void append_histogram(const struct writer *w, uint32_t worker, const struct histogram *h)
{
    struct buf bound = BUF_INIT;
    uint64_t total = 0;
    for (size_t i = 0; i <= h->bounds; i++) {
        buf_clear(&bound);
        if (i < h->bounds)
            append_seconds(&bound, h->bounds_us[i]);
        else
            buf_append_str(&bound, "+Inf");
        buf_append_char(&bound, '\0');
        total += h->bucket[i];
        sample(w, "_bucket", worker, "le", bound.p);
        buf_append_u64(w->out, total);
        buf_append_char(w->out, '\n');
    }
    buf_fini(&bound);
    sample(w, "_sum", worker, NULL, "");
    append_seconds(w->out, h->us_sum);
    buf_append_char(w->out, '\n');
    /* The +Inf bucket by definition, whatever another worker has counted meanwhile. */
    sample(w, "_count", worker, NULL, "");
    buf_append_u64(w->out, total);
    buf_append_char(w->out, '\n');
}

static void render_scalars(struct buf *out)
{
    /* sizeof tells a counter's "counter" from "gauge" without a run-time comparison */
#define X(field, type, help)                                                                                           \
    family_u64(out, sizeof(type) == sizeof "counter" ? #field "_total" : #field, type, help,                           \
               offsetof(struct metrics, field));
    METRIC_MAP(X)
#undef X
    family_u64(out, "store_up", "gauge", "1 when a message published now would be heard by this node",
               offsetof(struct metrics, store_up));
}

static void render_labelled(struct buf *out)
{
    struct writer w = {.out = out};
    begin(&w, "drops_total", "counter", "connections, messages and frames refused, dropped or closed");
    for (uint32_t i = 0; i < slot_count; i++)
        for (unsigned r = 0; r < DROP_REASONS; r++)
            sample_u64(&w, i, "reason", drop_reason_word(r), slots[i].metrics.drops[r]);
    begin(&w, "errors_total", "counter", "errors told to clients");
    for (uint32_t i = 0; i < slot_count; i++)
        for (unsigned e = OK + 1; e < ERR_COUNT; e++)
            sample_u64(&w, i, "code", err_name(e), slots[i].metrics.errors[e]);
    begin(&w, "auth_refused_total", "counter", "clients and requests refused because of their token, by why");
    for (uint32_t i = 0; i < slot_count; i++)
        for (unsigned r = AUTH_OK + 1; r < AUTH_REFUSALS; r++)
            sample_u64(&w, i, "reason", auth_refusal_word(r), slots[i].metrics.auth_refused[r]);
    begin(&w, "limited_total", "counter", "what was refused because of a limit in the whole cluster, by whose");
    for (uint32_t i = 0; i < slot_count; i++)
        for (unsigned k = 0; k < LIMIT_KINDS; k++)
            sample_u64(&w, i, "subject", limit_word(k), slots[i].metrics.limited[k]);
    begin(&w, "commands_total", "counter", "commands of clients");
    for (uint32_t i = 0; i < slot_count; i++)
        for (unsigned k = 0; k < COMMANDS; k++)
            sample_u64(&w, i, "type", command_name(k), slots[i].metrics.commands[k]);
}

static void render_lag(struct buf *out)
{
    struct writer w = {.out = out};
    begin(&w, "loop_lag_seconds", "histogram", "how long one turn of the event loop kept others waiting");
    for (uint32_t i = 0; i < slot_count; i++) {
        const struct metrics *m = &slots[i].metrics;
        append_histogram(&w, i, &(struct histogram){m->lag_bucket, lag_bounds_us, LAG_BUCKETS, m->lag_us_sum});
    }
}

// clang-format off
#define BROKER_MAP(X)                                                                         \
    X(commands,        "counter", "commands sent to the store")                               \
    X(command_errors,  "counter", "commands the store answered with an error")                \
    X(timeouts,        "counter", "commands the store did not answer in time")                \
    X(reconnects,      "counter", "connections made to the store after the first")            \
    X(refused,         "counter", "requests refused because the queue to the store was full") \
    X(published,       "counter", "messages published")                                       \
    X(replicated,      "counter", "publishes confirmed by as many replicas as policy asks for") \
    X(quorum_missed,   "counter", "messages published, but not confirmed by so many replicas") \
    X(received,        "counter", "envelopes received")                                       \
    X(undecodable,     "counter", "envelopes that could not be decoded")                      \
    X(redirects,       "counter", "requests that a cluster sent elsewhere, or put off")        \
    X(deaf,            "counter", "times the own probe was not heard")                        \
    X(reaped_nodes,    "counter", "dead nodes this node cleaned up after")                    \
    X(reaped_sessions, "counter", "sessions of dead nodes this node removed")                 \
    X(reconciled_sessions, "counter", "sessions that the store still had as this node's, which had let go of them: ended or parked") \
    X(replica_reads,   "counter", "pages of history that a replica gave")                      \
    X(replica_fallbacks, "counter", "pages of history that the primary gave because no replica could, or not in time") \
    X(failovers,       "counter", "times the sentinels named another primary")                \
    X(queued_bytes,    "gauge",   "bytes that wait for the store")                            \
    X(queued_commands, "gauge",   "commands that wait for the store or its answer")           \
    X(events,          "counter", "events of sessions appended")                              \
    X(events_lost,     "counter", "ends of sessions that the store would not append")         \
    X(subscriptions,   "gauge",   "rooms this node is subscribed to")
// clang-format on

static void render_broker_histograms(struct buf *out)
{
    const size_t bounds = ARRAY_LEN(broker_rtt_bounds_us);
    struct writer w = {.out = out};
    begin(&w, "redis_round_trip_seconds", "histogram", "round trip of the probe through the store");
    for (uint32_t i = 0; i < slot_count; i++) {
        const struct broker_stats *s = &slots[i].metrics.broker;
        append_histogram(&w, i, &(struct histogram){s->rtt_bucket, broker_rtt_bounds_us, bounds, s->rtt_us_sum});
    }
    begin(&w, "redis_wait_seconds", "histogram", "from sending publishes to the answer of how many replicas have them");
    for (uint32_t i = 0; i < slot_count; i++) {
        const struct broker_stats *s = &slots[i].metrics.broker;
        append_histogram(&w, i, &(struct histogram){s->wait_bucket, broker_rtt_bounds_us, bounds, s->wait_us_sum});
    }
}

static void render_broker(struct buf *out)
{
#define X(field, type, help)                                                                                           \
    family_u64(out, sizeof(type) == sizeof "counter" ? "redis_" #field "_total" : "redis_" #field, type, help,         \
               offsetof(struct metrics, broker.field));
    BROKER_MAP(X)
#undef X
    render_broker_histograms(out);
}

void metrics_render(struct buf *ret)
{
    render_scalars(ret);
    render_labelled(ret);
    render_lag(ret);
    render_broker(ret);
}
