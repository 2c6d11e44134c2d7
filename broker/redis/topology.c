/* broker/redis/topology.c: a connection to one node after the other, each for one question. */
#include "broker/redis/topology.h"

#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "broker/redis/link_private.h"

#define EVERY_MS    60000 /* without any reason */
#define DOUBT_MS    100   /* with one: not more often than that */
#define PATIENCE_MS 1000  /* with a single node */

/* One node being asked. */
struct topology {
    struct loop *loop;
    const struct redis_link_config *cfg;
    topology_found *found;
    void *owner;
    struct broker_stats *stats;
    struct slot_map map; /* the last one: whom else to ask */
    size_t turn;
    struct redis_host host; /* who is being asked */
    struct redis_link_config link_cfg;
    struct redis_link *link; /* NULL while nobody is */
    bool answered, doubt;    /* doubt: asked for while somebody was being asked */
    bool capable;            /* the nodes know SPUBLISH */
    size_t failures;         /* in a row */
    struct timer timer;      /* the end of our patience, or the next time */
    struct task task;
    char problem[160];
};

static size_t candidates(const struct topology *t)
{
    return t->cfg->url->host_count + t->map.primary_count + t->map.replica_count;
}

/* The nodes in turn: what is known of the cluster, and the hosts that the url names. */
static void candidate(const struct topology *t, size_t at, struct redis_host *ret)
{
    const struct redis_url *url = t->cfg->url;
    const struct slot_map *m = &t->map;
    const struct slot_node *node = NULL;
    if (at < m->primary_count)
        node = &m->primaries[at];
    else if (at < m->primary_count + m->replica_count)
        node = &m->replicas[at - m->primary_count];
    const struct redis_host *host = node == NULL ? &url->hosts[at - m->primary_count - m->replica_count] : NULL;
    ret->host = xstrdup(node != NULL ? node->host : host->host);
    ret->port = node != NULL ? node->port : host->port;
}

static void on_timer(struct timer *timer);

static void end_question(struct topology *t)
{
    if (t->link == NULL)
        return;
    while (redis_link_close(t->link)) {
    }
    redis_link_destroy(&t->link);
    free(TAKE(t->host.host));
}

static void problem(struct topology *t, const char *why)
{
    if (strcmp(t->problem, why) == 0)
        return;
    (void)snprintf(t->problem, sizeof t->problem, "%s", why);
    LOG(ERROR, "the Redis Cluster cannot be used", "redis=%s:%d reason=%s", t->host.host, t->host.port,
        log_q(slice_str(why)));
}

/* From the task: a link does not end within its own events. */
static void done_asking(struct topology *t, bool answered)
{
    t->answered = answered;
    loop_idle(t->loop, &t->task, 0);
}

static void on_slots(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct topology *t = arg;
    struct slot_map map;
    struct error error;
    if (r == NULL)
        return;
    if (err == OK && slot_map_parse(r, &t->host, &map, &error) != OK) {
        err = error.code;
        why = error.text;
    }
    if (err != OK) {
        problem(t, strstr(why, "cluster support disabled") != NULL
                       ? "this server is no cluster: it is redis://, not redis+cluster://"
                       : why);
    } else {
        slot_map_fini(&t->map);
        t->map = map;
        if (t->capable) {
            t->problem[0] = '\0';
            t->found(t->owner, &t->map);
        }
    }
    done_asking(t, err == OK);
}

static void on_capability(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct topology *t = arg;
    (void)why;
    if (r == NULL)
        return;
    /* Who may not ask is told by the first SPUBLISH. */
    bool missing =
        err == OK && r->type == REDIS_REPLY_ARRAY && r->elements == 1 && r->element[0]->type != REDIS_REPLY_ARRAY;
    t->capable = !missing;
    if (missing)
        problem(t, "a cluster needs Redis 7.0 or later, for SPUBLISH");
}

static void on_up(void *owner)
{
    struct topology *t = owner;
    struct args a;
    if (!t->capable) {
        args_init(&a);
        arg_str(&a, "COMMAND");
        arg_str(&a, "INFO");
        arg_str(&a, "spublish");
        redis_link_send(t->link, &a, 0, on_capability, t);
    }
    args_init(&a);
    arg_str(&a, "CLUSTER");
    arg_str(&a, "SLOTS");
    redis_link_send(t->link, &a, 0, on_slots, t);
}

static void on_down(void *owner)
{
    (void)owner;
}

static void on_failed(void *owner)
{
    done_asking(owner, false);
}

static const struct redis_link_events link_events = {.up = on_up, .down = on_down, .failed = on_failed};

static void ask(struct topology *t)
{
    candidate(t, t->turn++ % candidates(t), &t->host);
    t->doubt = false;
    t->link_cfg = *t->cfg;
    t->link_cfg.host = &t->host;
    t->link_cfg.script_count = 0;
    t->link_cfg.quiet = true;
    t->link = redis_link_create(t->loop, &t->link_cfg, &link_events, t, t->stats);
    timer_start(&t->timer, PATIENCE_MS);
}

static void rest(struct topology *t, bool answered)
{
    end_question(t);
    t->failures = answered ? 0 : t->failures + 1;
    if (t->failures == candidates(t))
        LOG(WARN, "no node of the Redis Cluster can be reached", "tried=%zu", t->failures);
    timer_start(&t->timer, t->problem[0] != '\0' ? PATIENCE_MS : answered && !t->doubt ? EVERY_MS : DOUBT_MS);
}

static void on_task(struct task *task)
{
    struct topology *t = container_of(task, struct topology, task);
    if (t->link != NULL)
        rest(t, t->answered && t->problem[0] == '\0');
}

static void on_timer(struct timer *timer)
{
    struct topology *t = container_of(timer, struct topology, timer);
    if (t->link != NULL)
        rest(t, false);
    else
        ask(t);
}

void topology_doubt(struct topology *t)
{
    if (t == NULL || t->doubt)
        return;
    t->doubt = true;
    if (t->link == NULL)
        timer_start(&t->timer, DOUBT_MS);
}

const char *topology_problem(const struct topology *t)
{
    return t->problem[0] != '\0' ? t->problem : NULL;
}

struct topology *topology_create(struct loop *loop, const struct redis_link_config *cfg, topology_found *found,
                                 void *owner, struct broker_stats *stats)
{
    struct topology *t = xcalloc(1, sizeof *t);
    t->loop = loop;
    t->cfg = cfg;
    t->found = found;
    t->owner = owner;
    t->stats = stats;
    timer_init(&t->timer, loop, on_timer);
    task_init(&t->task, on_task);
    timer_start(&t->timer, 0);
    return t;
}

void topology_destroy(struct topology **topology)
{
    struct topology *t = TAKE(*topology);
    if (t == NULL)
        return;
    timer_stop(&t->timer);
    end_question(t);
    task_cancel(&t->task);
    slot_map_fini(&t->map);
    free(t);
}
