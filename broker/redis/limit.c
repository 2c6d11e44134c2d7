/* broker/redis/limit.c: limits that the nodes share. */
#include "base/mem.h"
#include "broker/redis/redis.h"

static void on_limit(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct call *c = arg;
    struct broker_result result = {.err = err, .why = why};
    if (err == OK &&
        (!reply_u64(reply_at(reply, 0), &result.limit_used) || !reply_u64(reply_at(reply, 1), &result.limit_wanted))) {
        result.err = ERR_INTERNAL;
        result.why = "the limit script gave a strange answer";
    }
    broker_complete(c->done, c->arg, &result);
    free(c);
}

/* Not repeated when the link is lost: it would count twice. */
void redis_limit(struct broker *b, const struct limit_report *report, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct call *c = xcalloc(1, sizeof *c);
    struct args a;
    *c = (struct call){.r = r, .done = done, .arg = arg};
    script_args(&a, r, SCRIPT_LIMIT, 1);
    (void)arg_key(&a, r->limit_prefix, report->subject, "");
    arg_u64(&a, report->rate);
    arg_u64(&a, report->burst);
    arg_u64(&a, report->taken);
    arg_u64(&a, report->wanted);
    store_send(r->store, &a, 0, on_limit, c);
}
