/* broker/redis/wechat.c: who has logged in at WeChat: a hash for each user of an app, with his logins in it. */
#include "base/mem.h"
#include "broker/redis/redis.h"

static void wechat_args(struct args *a, struct redis *r, enum script script, const struct wechat_login *l)
{
    script_args(a, r, script, 1);
    (void)arg_key(a, r->wechat_prefix, l->id, "");
    arg_slice(a, l->name);
    arg_slice(a, l->hash);
}

static void arg_times(struct args *a, const struct wechat_login *l)
{
    arg_u64(a, l->whole_ms);
    arg_u64(a, l->idle_ms);
    arg_u64(a, WECHAT_KEEP_MS);
}

static void on_put(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct call *c = arg;
    (void)reply;
    broker_complete(c->done, c->arg, &(struct broker_result){.err = err, .why = why});
    free(c);
}

void redis_wechat_put(struct broker *b, const struct wechat_login *l, broker_done *done, void *arg)
{
    const struct slice fields[][2] = {{SLICE("appid"), l->appid},
                                      {SLICE("openid"), l->openid},
                                      {SLICE("unionid"), l->unionid},
                                      {SLICE("info"), l->info}};
    struct redis *r = redis_of(b);
    struct args a;
    wechat_args(&a, r, SCRIPT_WECHAT_PUT, l);
    arg_u64(&a, WECHAT_LOGINS_MAX);
    arg_times(&a, l);
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        arg_slice(&a, fields[i][0]);
        arg_slice(&a, fields[i][1]);
    }
    store_send(r->store, &a, REQUEST_REPEATABLE, on_put, call_new(r, done, arg));
}

static void on_checked(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct call *c = arg;
    const struct wechat_login l = {.openid = reply_slice(reply_at(reply, 1)),
                                   .unionid = reply_slice(reply_at(reply, 2)),
                                   .info = reply_slice(reply_at(reply, 3))};
    struct broker_result result = {.err = err, .why = why, .wechat = &l};
    uint64_t verdict = 0;
    if (err == OK && !reply_u64(reply_at(reply, 0), &verdict))
        result = (struct broker_result){.err = ERR_INTERNAL, .why = "the script of logins gave a strange answer"};
    else if (err == OK && verdict == 0)
        result = (struct broker_result){.err = ERR_NOT_FOUND, .why = "no such login"};
    else if (err == OK && verdict != 1)
        result = (struct broker_result){.err = ERR_UNAUTHORIZED, .why = "the login is over"};
    broker_complete(c->done, c->arg, &result);
    free(c);
}

void redis_wechat_check(struct broker *b, const struct wechat_login *l, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct args a;
    wechat_args(&a, r, SCRIPT_WECHAT_CHECK, l);
    arg_slice(&a, l->appid);
    arg_times(&a, l);
    store_send(r->store, &a, REQUEST_REPEATABLE, on_checked, call_new(r, done, arg));
}
