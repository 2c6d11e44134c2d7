/* broker/redis/durable.c: batches of publishes, each followed by one WAIT. */
#include "broker/redis/durable.h"

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"

#define GATHER_US      100   /* as long as a link waits before it writes */
#define SHORT_SHARE    8     /* a short WAIT is this part of a whole one */
#define WHOLE_EVERY_MS 10000 /* while replicas are missing: slow ones need a whole WAIT to be found again */

struct durable {
    const struct durables *all;
    struct loop *loop;
    struct broker_stats *stats;
    struct redis_link_config cfg;
    struct redis_link *link;
    uint32_t replicas;
    struct link waiting, batch; /* jobs */
    size_t waiting_bytes, waiting_count;
    size_t unanswered; /* of the batch */
    bool wait_sent, closing;
    uint64_t connection; /* how many were lost */
    uint64_t sent_us;    /* the WAIT */
    uint32_t wait_ms;    /* its time */
    bool missing;        /* the last one came back without enough replicas … */
    uint64_t whole_ms;   /* … and until then short ones are tried */
    struct task task;
};

static void wait_add(struct durable *d, const struct durable_job *j)
{
    d->waiting_bytes += j->n;
    d->waiting_count++;
    d->stats->queued_bytes += j->n;
    d->stats->queued_commands++;
}

static void wait_sub(struct durable *d, const struct durable_job *j)
{
    d->waiting_bytes -= j->n;
    d->waiting_count--;
    d->stats->queued_bytes -= j->n;
    d->stats->queued_commands--;
}

/* The rest of the time is for the way to Redis and back, and the publishes themselves. */
static uint32_t whole_wait_ms(const struct durable *d)
{
    return d->cfg.timeout_ms / 4 * 3;
}

static bool may_repeat(const struct durable *d, const struct durable_job *j)
{
    return j->repeatable && !d->closing && j->due_ms > loop_now_ms(d->loop);
}

/* j is off its list. False: it is gone. */
static bool tell_published(struct durable_job *j, const redisReply *r, enum err err, const char *why)
{
    char *bytes = j->bytes;
    bool waits = j->published(j, r, err, why);
    if (!waits)
        redisFreeCommand(bytes);
    return waits;
}

/* j is off its list, and gone afterwards. */
static void tell_confirmed(struct durable_job *j, bool enough, uint32_t replicas, const char *why)
{
    struct broker_stats *stats = j->durable->stats;
    if (enough)
        stats->replicated++;
    else
        stats->quorum_missed++;
    redisFreeCommand(j->bytes);
    j->confirmed(j, enough, replicas, why);
}

/* --- the WAIT of a batch --- */

static void batch_step(struct durable *d);

static void measure(struct durable *d)
{
    uint64_t us = loop_now_us(d->loop) - d->sent_us;
    size_t bucket = 0;
    while (bucket < ARRAY_LEN(broker_rtt_bounds_us) && us > broker_rtt_bounds_us[bucket])
        bucket++;
    d->stats->wait_bucket[bucket]++;
    d->stats->wait_us_sum += us;
}

static void remember(struct durable *d, bool enough)
{
    if (enough == d->missing) {
        if (enough)
            LOG(INFO, "enough replicas again", "wanted=%u", d->replicas);
        else
            LOG(WARN, "too few replicas", "wanted=%u waited_ms=%u", d->replicas, d->wait_ms);
    }
    d->missing = !enough;
    if (!enough && d->wait_ms == whole_wait_ms(d))
        d->whole_ms = loop_now_ms(d->loop) + WHOLE_EVERY_MS;
}

/* r: how many replicas have what this connection wrote, or an error; NULL: the connection was lost. */
static void on_waited(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct durable *d = arg;
    bool counted = r != NULL && r->type == REDIS_REPLY_INTEGER && r->integer >= 0 && r->integer <= UINT32_MAX;
    uint32_t replicas = counted ? (uint32_t)r->integer : 0;
    bool enough = counted && replicas >= d->replicas;
    if (err == OK && !counted)
        why = "Redis gave a strange answer to WAIT";
    d->wait_sent = false;
    if (counted) {
        measure(d);
        remember(d, enough);
    }
    list_for_each_safe (it, &d->batch) {
        struct durable_job *j = list_entry(it, struct durable_job, link);
        bool same = r != NULL && j->connection == d->connection;
        if (j->state != JOB_PUBLISHED)
            continue;
        if (!same && may_repeat(d, j)) {
            j->state = JOB_AGAIN;
            continue;
        }
        list_del(it);
        if (same)
            tell_confirmed(j, enough, replicas, counted ? NULL : why);
        else
            tell_confirmed(j, false, 0, d->closing ? why : "the link to Redis was lost");
    }
    batch_step(d);
}

static void send_wait(struct durable *d)
{
    bool brief = d->missing && loop_now_ms(d->loop) < d->whole_ms;
    d->wait_ms = brief ? whole_wait_ms(d) / SHORT_SHARE : whole_wait_ms(d);
    d->wait_sent = true;
    d->sent_us = loop_now_us(d->loop);
    struct args a;
    args_init(&a);
    arg_str(&a, "WAIT");
    arg_u64(&a, d->replicas);
    arg_u64(&a, d->wait_ms);
    redis_link_send(d->link, &a, REQUEST_UNBOUNDED, on_waited, d);
}

/* --- its publishes --- */

static void on_published(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct durable_job *j = arg;
    struct durable *d = j->durable;
    d->unanswered--;
    if (r == NULL && err == ERR_UNAVAILABLE && may_repeat(d, j)) {
        j->state = JOB_AGAIN;
    } else {
        struct link *before = j->link.prev;
        list_del(&j->link);
        j->state = JOB_PUBLISHED;
        j->connection = d->connection;
        if (tell_published(j, r, err, why))
            list_prepend(before, &j->link);
    }
    batch_step(d);
}

static void batch_send(struct durable *d)
{
    uint64_t now = loop_now_ms(d->loop);
    list_splice(&d->batch, &d->waiting);
    list_for_each_safe (it, &d->batch) {
        struct durable_job *j = list_entry(it, struct durable_job, link);
        bool again = j->state == JOB_AGAIN;
        wait_sub(d, j);
        if (j->due_ms <= now) {
            list_del(it);
            d->stats->timeouts++;
            (void)tell_published(j, NULL, ERR_TIMEOUT,
                                 again ? "Redis did not answer in time; whether it was done is unknown"
                                       : "Redis could not be reached in time");
            continue;
        }
        j->state = JOB_SENT;
        d->unanswered++;
        redis_link_send_bytes(d->link, j->bytes, j->n, REQUEST_UNBOUNDED | REQUEST_BORROWED, on_published, j);
    }
    if (d->unanswered != 0)
        send_wait(d);
}

/* Something was answered: is the batch through? */
static void batch_step(struct durable *d)
{
    if (d->closing || d->unanswered != 0 || d->wait_sent)
        return;
    bool late = false;
    list_for_each (it, &d->batch) {
        struct durable_job *j = list_entry(it, struct durable_job, link);
        late = late || j->state == JOB_PUBLISHED;
    }
    if (late) { /* Redis had forgotten the script, so this one was published behind the WAIT */
        send_wait(d);
        return;
    }
    list_for_each (it, &d->batch)
        wait_add(d, list_entry(it, struct durable_job, link));
    list_splice(&d->batch, &d->waiting); /* what is to be repeated comes first */
    list_splice(&d->waiting, &d->batch);
    if (!list_empty(&d->waiting))
        loop_idle(d->loop, &d->task, GATHER_US);
}

static void on_task(struct task *t)
{
    struct durable *d = container_of(t, struct durable, task);
    if (list_empty(&d->batch))
        batch_send(d);
}

/* --- life --- */

static void on_up(void *owner)
{
    (void)owner;
}

static void on_down(void *owner)
{
    struct durable *d = owner;
    d->connection++;
}

/* Told on, not taken. */
static bool on_refused(void *owner, struct request *q, const redisReply *error)
{
    const struct durable *d = owner;
    (void)q;
    if (d->all->refused != NULL)
        d->all->refused(d->all->owner, error);
    return false;
}

static const struct redis_link_events link_events = {.up = on_up, .down = on_down, .refused = on_refused};

static struct durable *durable_create(const struct durables *all, uint32_t replicas)
{
    struct durable *d = xcalloc(1, sizeof *d);
    d->loop = all->loop;
    d->stats = all->stats;
    d->all = all;
    d->cfg = *all->cfg;
    d->cfg.backlog = NULL;
    d->replicas = replicas;
    list_init(&d->waiting);
    list_init(&d->batch);
    task_init(&d->task, on_task);
    d->link = redis_link_create(d->loop, &d->cfg, &link_events, d, d->stats);
    return d;
}

static bool full(const struct durable *d, size_t more)
{
    return (d->cfg.queue_commands != 0 && d->waiting_count >= d->cfg.queue_commands) ||
           (d->cfg.queue_bytes != 0 && d->waiting_bytes + more > d->cfg.queue_bytes);
}

void durables_init(struct durables *all, struct loop *loop, const struct redis_link_config *cfg,
                   struct broker_stats *stats)
{
    *all = (struct durables){.loop = loop, .cfg = cfg, .stats = stats};
}

bool durables_send(struct durables *all, uint32_t replicas, char *bytes, size_t n, struct durable_job *j)
{
    struct durable **slot = &all->by_replicas[replicas], *d;
    if (*slot == NULL)
        *slot = durable_create(all, replicas);
    d = *slot;
    if (full(d, n)) {
        d->stats->refused++;
        redisFreeCommand(bytes);
        return false;
    }
    j->durable = d;
    j->bytes = bytes;
    j->n = n;
    j->state = JOB_SENT;
    j->due_ms = loop_now_ms(d->loop) + d->cfg.timeout_ms;
    wait_add(d, j);
    list_append(&d->waiting, &j->link);
    if (list_empty(&d->batch))
        loop_idle(d->loop, &d->task, GATHER_US);
    return true;
}

static bool durable_close(struct durable *d, const char *why)
{
    d->closing = true;
    bool any = redis_link_close(d->link);
    list_for_each_safe (it, &d->batch) {
        struct durable_job *j = list_entry(it, struct durable_job, link);
        list_del(it);
        any = true;
        if (j->state == JOB_PUBLISHED)
            tell_confirmed(j, false, 0, why);
        else
            (void)tell_published(j, NULL, ERR_UNAVAILABLE, why);
    }
    while (!list_empty(&d->waiting)) {
        struct durable_job *j = list_first(&d->waiting, struct durable_job, link);
        list_del(&j->link);
        wait_sub(d, j);
        any = true;
        (void)tell_published(j, NULL, ERR_UNAVAILABLE, why);
    }
    task_cancel(&d->task);
    return any;
}

bool durables_close(struct durables *all, const char *why)
{
    bool any = false;
    for (size_t i = 0; i < ARRAY_LEN(all->by_replicas); i++)
        any = (all->by_replicas[i] != NULL && durable_close(all->by_replicas[i], why)) || any;
    return any;
}

void durables_fini(struct durables *all)
{
    for (size_t i = 0; i < ARRAY_LEN(all->by_replicas); i++) {
        if (all->by_replicas[i] == NULL)
            continue;
        redis_link_destroy(&all->by_replicas[i]->link);
        free(TAKE(all->by_replicas[i]));
    }
}
