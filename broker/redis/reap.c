/* broker/redis/reap.c: cleaning up after a node that died, page by page, so that it does not matter if the one who does it dies too. */
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "broker/redis/redis.h"

#define PAGE     64
#define REAP_MAX 4 /* dead nodes at once */

struct reap {
    struct link link;
    struct redis *r;
    uint64_t sessions;
    size_t page;
    size_t node_n;
    char node[];
};

static struct slice dead_node(const struct reap *p)
{
    return (struct slice){p->node, p->node_n};
}

static void reap_end(struct reap *p)
{
    list_del(&p->link);
    p->r->lease.reap_count--;
    free(p);
}

static void claim(struct reap *p);

static void finished(struct reap *p)
{
    struct redis *r = p->r;
    r->b.stats.reaped_nodes++;
    LOG(WARN, "cleaned up after a dead node", "dead=%s sessions=%lu", log_q(dead_node(p)), (unsigned long)p->sessions);
    if (!slice_eq(dead_node(p), slice_str(r->node))) {
        struct args a;
        args_init(&a);
        arg_str(&a, "ZREM");
        arg_str(&a, r->nodes_key);
        arg_slice(&a, dead_node(p));
        redis_link_send(r->link, &a, REQUEST_REPEATABLE, NULL, NULL);
    }
    reap_end(p);
}

static void on_page_done(void *arg, const struct broker_result *result)
{
    struct reap *p = arg;
    if (p->r->closing || result->err == ERR_UNAVAILABLE || result->err == ERR_TIMEOUT) {
        reap_end(p); /* the lock runs out, and the next look-out finds the node again */
        return;
    }
    p->sessions += p->page;
    p->r->b.stats.reaped_sessions += p->page;
    claim(p);
}

static void clear_page(struct reap *p, const redisReply *reply)
{
    struct gather *g = gather_new(p->r, on_page_done, p);
    p->page = 0;
    for (size_t i = 1; i < reply->elements; i++) {
        struct clearing what = {
            .node = dead_node(p), .sid = reply_slice(reply->element[i]), .set = ":lost", .reason = EXIT_NODE_LOST};
        if (what.sid.n == 0)
            continue;
        p->page++;
        gather_hold(g);
        session_clear(p->r, &what, gather_release, g);
    }
    gather_close(g);
}

static void on_claim(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct reap *p = arg;
    const redisReply *state = reply_at(reply, 0);
    (void)why;
    if (p->r->closing || err != OK || state == NULL || state->type != REDIS_REPLY_INTEGER)
        reap_end(p);
    else if (state->integer == 1)
        clear_page(p, reply);
    else if (state->integer == 2)
        finished(p);
    else
        reap_end(p); /* it lives, or somebody else is at it */
}

static void claim(struct reap *p)
{
    struct redis *r = p->r;
    struct args a;
    script_args(&a, SCRIPT_CLAIM, 4);
    (void)arg_key(&a, r->node_prefix, dead_node(p), "");
    (void)arg_key(&a, r->node_prefix, dead_node(p), ":sessions");
    (void)arg_key(&a, r->node_prefix, dead_node(p), ":lost");
    (void)arg_key(&a, r->node_prefix, dead_node(p), ":reaper");
    arg_str(&a, r->node);
    arg_u64(&a, r->lease_ms + 2ull * r->link_cfg.timeout_ms);
    arg_u64(&a, PAGE);
    redis_link_send(r->link, &a, REQUEST_REPEATABLE, on_claim, p);
}

void reap_start(struct redis *r, struct slice node)
{
    if (r->lease.reap_count >= REAP_MAX)
        return;
    list_for_each (it, &r->lease.reaps) {
        if (slice_eq(dead_node(list_entry(it, struct reap, link)), node))
            return;
    }
    struct reap *p = xcalloc(1, sizeof *p + node.n);
    p->r = r;
    p->node_n = node.n;
    memcpy(p->node, node.p, node.n);
    list_append(&r->lease.reaps, &p->link);
    r->lease.reap_count++;
    claim(p);
}
