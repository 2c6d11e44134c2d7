/* broker/redis/tunnels.c: URLs of tunnels that are given out, and where many sessions are. */
#include "base/mem.h"
#include "broker/redis/redis.h"

/* --- URLs --- */

static void on_offered(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct call *c = arg;
    (void)reply;
    broker_complete(c->done, c->arg, &(struct broker_result){.err = err, .why = why});
    free(c);
}

void redis_tunnel_offer(struct broker *b, const struct tunnel_offer *o, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct args a;
    script_args(&a, r, SCRIPT_TUNNEL_OFFER, 1);
    (void)arg_key(&a, r->tunnel_prefix, o->ticket, "");
    arg_slice(&a, o->sid);
    arg_slice(&a, o->tunnel);
    arg_u64(&a, o->ttl_ms);
    store_send(r->store, &a, REQUEST_REPEATABLE, on_offered, call_new(r, done, arg));
}

static void on_taken(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct call *c = arg;
    const struct tunnel_offer o = {.sid = reply_slice(reply_at(reply, 0)), .tunnel = reply_slice(reply_at(reply, 1))};
    struct broker_result result = {.err = err, .why = why, .offer = &o};
    if (err == OK && (o.sid.n == 0 || o.tunnel.n == 0)) {
        result.err = ERR_NOT_FOUND;
        result.why = "no such URL, or it was used, or its time is over";
    }
    broker_complete(c->done, c->arg, &result);
    free(c);
}

/* Not repeated when the link is lost: it may have been taken, and its client gets another one as easily. */
void redis_tunnel_take(struct broker *b, struct slice ticket, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct args a;
    script_args(&a, r, SCRIPT_TUNNEL_TAKE, 1);
    (void)arg_key(&a, r->tunnel_prefix, ticket, "");
    store_send(r->store, &a, 0, on_taken, call_new(r, done, arg));
}

/* --- where sessions are --- */

struct where_call {
    struct call call;
    struct gather *g;
    size_t count;
    char **nodes; /* NULL: none */
};

struct where_one {
    struct where_call *all;
    size_t at;
};

static void on_all_found(void *arg, const struct broker_result *result)
{
    struct where_call *c = arg;
    struct broker_result told = *result;
    AUTO_FREE struct slice *where = xcalloc(c->count + 1, sizeof *where);
    for (size_t i = 0; i < c->count; i++)
        where[i] = slice_str(c->nodes[i]);
    if (told.err == OK) {
        told.where = where;
        told.count = c->count;
    }
    broker_complete(c->call.done, c->call.arg, &told);
    for (size_t i = 0; i < c->count; i++)
        free(c->nodes[i]);
    free(c->nodes);
    free(c);
}

static void on_found(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct where_one *one = arg;
    struct slice node = reply_slice(reply_at(reply, 0)), state = reply_slice(reply_at(reply, 1));
    if (err == OK && node.n != 0 && slice_eq(state, SLICE("active")))
        one->all->nodes[one->at] = xstrndup(node.p, node.n);
    gather_release(one->all->g, &(struct broker_result){.err = err, .why = why});
    free(one);
}

void redis_where(struct broker *b, const struct slice *sids, size_t count, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct where_call *c = xcalloc(1, sizeof *c);
    *c = (struct where_call){.call = {.r = r, .done = done, .arg = arg}, .count = count};
    c->nodes = xcalloc(count + 1, sizeof *c->nodes);
    c->g = gather_new(r, on_all_found, c);
    for (size_t i = 0; i < count; i++) {
        struct where_one *one = xcalloc(1, sizeof *one);
        struct args a;
        *one = (struct where_one){.all = c, .at = i};
        args_init(&a);
        arg_str(&a, "HMGET");
        (void)arg_key(&a, r->session_prefix, sids[i], "");
        arg_str(&a, "node");
        arg_str(&a, "state");
        gather_hold(c->g);
        store_send(r->store, &a, REQUEST_REPEATABLE, on_found, one);
    }
    gather_close(c->g);
}
