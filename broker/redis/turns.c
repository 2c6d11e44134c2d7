/* broker/redis/turns.c: two commands on different keys, the second only after the first: in a cluster nothing but the answer tells that the first
 * was done. What concerns the same thing meanwhile waits its turn. */
#include "base/list.h"
#include "base/mem.h"
#include "base/table.h"
#include "broker/redis/redis.h"

/* One thing; it exists while something is under way. */
struct turns {
    UT_hash_handle hh;
    struct redis *r;
    struct link all; /* the first one is under way */
    size_t n;
    char key[];
};

struct turn {
    struct link link;
    struct turns *turns;
    struct turn_step steps[2];
    struct command commands[2];
};

static void send_step(struct redis *r, struct turn *t, int i, redis_done *done, void *arg)
{
    store_send_prepared(r->store, &t->commands[i], t->steps[i].flags, done, arg);
}

static void turn_free(struct turn *t)
{
    list_del(&t->link);
    for (int i = 0; i < 2; i++) {
        if (t->commands[i].bytes != NULL)
            redisFreeCommand(t->commands[i].bytes);
    }
    free(t);
}

static void turns_run(struct turns *all);

static void on_first(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct turn *t = arg;
    struct turns *all = t->turns;
    const struct turn_step *first = &t->steps[0], *second = &t->steps[1];
    if (first->done != NULL)
        first->done(first->arg, reply, err, why);
    if (err == OK)
        send_step(all->r, t, 1, second->done, second->arg);
    else if (second->done != NULL)
        second->done(second->arg, NULL, err, why);
    turn_free(t);
    turns_run(all);
}

/* A turn is over when its last command is on its way: the next one's go to the same places, behind it. */
static void turns_run(struct turns *all)
{
    while (!list_empty(&all->all)) {
        struct turn *t = list_first(&all->all, struct turn, link);
        if (t->commands[1].bytes != NULL) {
            send_step(all->r, t, 0, on_first, t);
            return;
        }
        send_step(all->r, t, 0, t->steps[0].done, t->steps[0].arg);
        turn_free(t);
    }
    HASH_DELETE(hh, all->r->turns, all);
    free(all);
}

static struct turns *turns_find(const struct redis *r, struct slice key)
{
    struct turns *all;
    HASH_FIND(hh, r->turns, key.p, key.n, all);
    return all;
}

static struct turns *turns_new(struct redis *r, struct slice key)
{
    struct turns *all = xcalloc(1, sizeof *all + key.n);
    all->r = r;
    all->n = key.n;
    memcpy(all->key, key.p, key.n);
    list_init(&all->all);
    HASH_ADD_KEYPTR(hh, r->turns, all->key, all->n, all);
    return all;
}

static void send_now(struct redis *r, struct turn_step *s)
{
    store_send(r->store, s->args, s->flags, s->done, s->arg);
}

void turn_take(struct redis *r, struct slice key, struct turn_step *first, struct turn_step *second)
{
    if (r->cluster == NULL || r->closing) { /* one connection does them in order */
        send_now(r, first);
        if (second != NULL)
            send_now(r, second);
        return;
    }
    struct turns *all = turns_find(r, key);
    if (all == NULL && second == NULL) {
        send_now(r, first);
        return;
    }
    struct turn *t = xcalloc(1, sizeof *t);
    t->steps[0] = *first;
    t->commands[0] = store_prepare(r->store, first->args);
    if (second != NULL) {
        t->steps[1] = *second;
        t->commands[1] = store_prepare(r->store, second->args);
    }
    bool idle = all == NULL;
    if (idle)
        all = turns_new(r, key);
    t->turns = all;
    list_append(&all->all, &t->link);
    if (idle)
        turns_run(all);
}
