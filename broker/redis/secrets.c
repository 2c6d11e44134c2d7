/* broker/redis/secrets.c: the secrets that all nodes share, in one sorted set. */
#include "base/mem.h"
#include "broker/redis/redis.h"

static void on_secrets(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct call *c = arg;
    struct secret_record secrets[SECRETS_MAX];
    struct broker_result result = {.err = err, .why = why, .secrets = secrets};
    size_t n = err == OK && r->type == REDIS_REPLY_ARRAY ? r->elements / 2 : 0;
    if (err == OK && n == 0) {
        result.err = ERR_INTERNAL;
        result.why = "the secrets script gave a strange answer";
    }
    /* Should there be more, somebody has been playing with the clock: the newest count. */
    for (size_t i = n > SECRETS_MAX ? n - SECRETS_MAX : 0; i < n; i++) {
        const redisReply *age = reply_at(r, 2 * i + 1);
        if (age == NULL || age->type != REDIS_REPLY_INTEGER)
            continue;
        secrets[result.count++] =
            (struct secret_record){.text = reply_slice(reply_at(r, 2 * i)), .age_ms = age->integer};
    }
    broker_complete(c->done, c->arg, &result);
    free(c);
}

void redis_secrets(struct broker *b, struct slice fresh, uint64_t period_ms, uint64_t lead_ms, broker_done *done,
                   void *arg)
{
    struct redis *r = redis_of(b);
    struct call *c = xcalloc(1, sizeof *c);
    struct args a;
    *c = (struct call){.r = r, .done = done, .arg = arg};
    script_args(&a, r, SCRIPT_SECRETS, 1);
    arg_join(&a, slice_str(r->prefix), SLICE("tickets"));
    arg_slice(&a, fresh);
    arg_u64(&a, period_ms);
    arg_u64(&a, lead_ms);
    store_send(r->store, &a, REQUEST_REPEATABLE, on_secrets, c);
}
