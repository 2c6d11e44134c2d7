/* broker/redis/polling.c: connections by long-polling: a hash for each, which says whose it is and what another node needs to go on with it. */
#include "broker/redis/redis.h"

static void polling_args(struct args *a, struct redis *r, enum script script, struct slice sid)
{
    script_args(a, r, script, 1);
    (void)arg_key(a, r->polling_prefix, sid, "");
    arg_str(a, r->node);
}

/* where: whose it is, as the store says; empty: nobody's. */
static void complete(struct call *c, struct broker_result *result)
{
    result->count = result->where->n != 0;
    if (result->err == OK && result->count == 0) {
        result->err = ERR_NOT_FOUND;
        result->why = "no such connection by long-polling";
    }
    broker_complete(c->done, c->arg, result);
    free(c);
}

/* The same, where it must be ours. */
static void complete_ours(struct call *c, struct broker_result *result)
{
    if (result->err == OK && result->where->n != 0 && !slice_eq(*result->where, slice_str(c->r->node))) {
        result->err = ERR_CONFLICT;
        result->why = "the connection is another node's by now";
    }
    complete(c, result);
}

static void on_put(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct call *c = arg;
    struct slice node = reply_slice(reply);
    if (err == OK && node.n == 0)
        node = slice_str(c->r->node);
    struct broker_result result = {.err = err, .why = why, .where = &node};
    complete_ours(c, &result);
}

void redis_polling_put(struct broker *b, const struct polling_record *record, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct args a;
    polling_args(&a, r, SCRIPT_POLLING_PUT, record->sid);
    arg_slice(&a, record->state);
    arg_slice(&a, record->before);
    arg_slice(&a, record->answered);
    arg_u64(&a, record->ttl_ms);
    store_send(r->store, &a, REQUEST_REPEATABLE, on_put, call_new(r, done, arg));
}

static void on_taken(void *arg, const redisReply *reply, enum err err, const char *why)
{
    const struct polling_record record = {.state = reply_slice(reply_at(reply, 1)),
                                          .before = reply_slice(reply_at(reply, 2)),
                                          .answered = reply_slice(reply_at(reply, 3))};
    const struct slice node = reply_slice(reply_at(reply, 0));
    struct broker_result result = {.err = err, .why = why, .where = &node, .polling = &record};
    complete_ours(arg, &result);
}

void redis_polling_take(struct broker *b, struct slice sid, struct slice from, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct args a;
    polling_args(&a, r, SCRIPT_POLLING_TAKE, sid);
    arg_slice(&a, from);
    store_send(r->store, &a, REQUEST_REPEATABLE, on_taken, call_new(r, done, arg));
}

static void on_found(void *arg, const redisReply *reply, enum err err, const char *why)
{
    const struct slice node = reply_slice(reply);
    struct broker_result result = {.err = err, .why = why, .where = &node};
    complete(arg, &result);
}

void redis_polling_find(struct broker *b, struct slice sid, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct args a;
    args_init(&a);
    arg_str(&a, "HGET");
    (void)arg_key(&a, r->polling_prefix, sid, "");
    arg_str(&a, "node");
    store_send(r->store, &a, REQUEST_REPEATABLE, on_found, call_new(r, done, arg));
}

void redis_polling_drop(struct broker *b, struct slice sid)
{
    struct redis *r = redis_of(b);
    struct args a;
    polling_args(&a, r, SCRIPT_POLLING_DROP, sid);
    store_send(r->store, &a, REQUEST_REPEATABLE, NULL, NULL);
}
