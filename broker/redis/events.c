/* broker/redis/events.c: what happened to sessions, in streams: xd:{events:<shard>}; what others want done: xd:{commands}. Whoever takes care of a stream is written in its
 * state. */
#include <stdio.h>

#include "base/mem.h"
#include "broker/redis/redis.h"

/* `events:<shard>`: what stands between the braces. */
#define SHARD_NAME 24

#define COMMANDS_NAME "commands"
#define RESULTS_KEPT  "1000"

static void arg_keys(struct args *a, const struct redis *r, struct slice name)
{
    (void)arg_key(a, r->prefix, name, "");
    (void)arg_key(a, r->prefix, name, ":state");
}

static struct slice shard_name(uint32_t shard, char ret[SHARD_NAME])
{
    (void)snprintf(ret, SHARD_NAME, "events:%u", shard);
    return slice_str(ret);
}

/* Telling. */

static struct call *call_create(struct redis *r, broker_done *done, void *arg)
{
    struct call *c = xcalloc(1, sizeof *c);
    *c = (struct call){.r = r, .done = done, .arg = arg};
    return c;
}

static void on_told(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct call *c = arg;
    struct broker_result result = {.err = err, .why = why};
    if (err == OK && reply_slice(reply).n == 0) {
        result.err = ERR_INTERNAL;
        result.why = "the event script gave a strange answer";
    }
    c->r->b.stats.events += result.err == OK;
    broker_complete(c->done, c->arg, &result);
    free(c);
}

static void tell(struct redis *r, const struct event_record *e, unsigned flags, struct call *c)
{
    struct args a;
    char name[SHARD_NAME];
    script_args(&a, r, SCRIPT_EVENT, 2);
    arg_keys(&a, r, shard_name(event_shard(e->session, r->events.shards), name));
    arg_u64(&a, r->events.count);
    arg_u64(&a, r->events.age_ms);
    for (size_t i = 0; i < e->count && i < EVENT_FIELDS_MAX; i++) {
        if (e->fields[i].value.n == 0)
            continue;
        arg_slice(&a, e->fields[i].name);
        arg_slice(&a, e->fields[i].value);
    }
    store_send(r->store, &a, flags, on_told, c);
}

void redis_event(struct broker *b, const struct event_record *e, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    if (r->events.shards == 0) {
        redis_complete_later(r, done, arg, ERR_UNSUPPORTED, "events are off");
        return;
    }
    tell(r, e, REQUEST_REPEATABLE | REQUEST_UNBOUNDED, call_create(r, done, arg));
}

void redis_event_ended(struct redis *r, const struct ended *what, broker_done *done, void *arg)
{
    char id[96], since[24] = "lost";
    if (what->since_ms != 0)
        (void)snprintf(since, sizeof since, "%llu", (unsigned long long)what->since_ms);
    (void)snprintf(id, sizeof id, "%.*s.disconnect.%s", (int)(what->sid.n < 64 ? what->sid.n : 64), what->sid.p, since);
    const struct event_field fields[] = {
        {SLICE("id"), slice_str(id)},    {SLICE("type"), SLICE("disconnect")}, {SLICE("session"), what->sid},
        {SLICE("user"), what->user},     {SLICE("reason"), what->reason},      {SLICE("node"), slice_str(r->node)},
        {SLICE("tunnel"), what->tunnel},
    };
    redis_event(&r->b, &(struct event_record){.session = what->sid, .fields = fields, .count = ARRAY_LEN(fields)}, done,
                arg);
}

/* Reading. */

static void entries(const redisReply *reply, struct broker_result *result, const struct call *c)
{
    size_t n = reply->elements - 5;
    AUTO_FREE struct event_entry *list = xcalloc(n + 1, sizeof *list);
    AUTO_FREE struct event_field *fields = xcalloc(n * EVENT_FIELDS_MAX + 1, sizeof *fields);
    for (size_t i = 0; i < n; i++) {
        struct event_entry *e = &list[result->count];
        entry_parse(reply->element[i + 5], &fields[i * EVENT_FIELDS_MAX], e);
        if (e->id.n != 0 && e->id.n <= EVENT_PLACE_MAX)
            result->count++;
    }
    result->events = list;
    broker_complete(c->done, c->arg, result);
}

static void on_events(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct call *c = arg;
    struct broker_result result = {.err = err, .why = why};
    uint64_t mine = 0, anew = 0;
    if (err == OK &&
        (!reply_u64(reply_at(reply, 0), &mine) || !reply_u64(reply_at(reply, 1), &anew) ||
         !reply_u64(reply_at(reply, 3), &result.dropped) || !reply_u64(reply_at(reply, 4), &result.total) ||
         reply_slice(reply_at(reply, 2)).n > EVENT_PLACE_MAX)) {
        result.err = ERR_INTERNAL;
        result.why = "the events script gave a strange answer";
    }
    if (result.err != OK) {
        broker_complete(c->done, c->arg, &result);
    } else {
        result.mine = mine == 1;
        result.anew = anew == 1;
        result.cursor = reply_slice(reply_at(reply, 2));
        entries(reply, &result, c);
    }
    free(c);
}

static void read_stream(struct redis *r, struct slice name, const struct event_limits *limits,
                        const struct events_ask *ask, struct call *c)
{
    struct args a;
    script_args(&a, r, SCRIPT_EVENTS, 2);
    arg_keys(&a, r, name);
    arg_str(&a, r->node);
    arg_u64(&a, ask->lease_ms);
    arg_u64(&a, limits->count);
    arg_u64(&a, limits->age_ms);
    arg_slice(&a, ask->settled);
    arg_slice(&a, ask->after);
    arg_u64(&a, ask->limit);
    store_send(r->store, &a, REQUEST_REPEATABLE, on_events, c);
}

void redis_events(struct broker *b, const struct events_ask *ask, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    char name[SHARD_NAME];
    if (r->events.shards == 0)
        redis_complete_later(r, done, arg, ERR_UNSUPPORTED, "events are off");
    else
        read_stream(r, shard_name(ask->shard, name), &r->events, ask, call_create(r, done, arg));
}

/* Commands. */

void redis_commands(struct broker *b, const struct events_ask *ask, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    if (r->commands.shards == 0)
        redis_complete_later(r, done, arg, ERR_UNSUPPORTED, "commands are off");
    else
        read_stream(r, SLICE(COMMANDS_NAME), &r->commands, ask, call_create(r, done, arg));
}

static void on_result(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct call *c = arg;
    (void)reply;
    broker_complete(c->done, c->arg, &(struct broker_result){.err = err, .why = why});
    free(c);
}

/* Said twice is harmless: a result names its command. */
void redis_command_result(struct broker *b, const struct event_field *fields, size_t count, broker_done *done,
                          void *arg)
{
    struct redis *r = redis_of(b);
    struct args a;
    args_init(&a);
    arg_str(&a, "XADD");
    (void)arg_key(&a, r->prefix, SLICE(COMMANDS_NAME), ":results");
    arg_str(&a, "MAXLEN");
    arg_str(&a, "~");
    arg_str(&a, RESULTS_KEPT);
    arg_str(&a, "*");
    for (size_t i = 0; i < count && i < EVENT_FIELDS_MAX; i++) {
        if (fields[i].value.n == 0)
            continue;
        arg_slice(&a, fields[i].name);
        arg_slice(&a, fields[i].value);
    }
    store_send(r->store, &a, REQUEST_REPEATABLE, on_result, call_create(r, done, arg));
}
