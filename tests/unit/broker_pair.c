/* tests/unit/broker_pair.c: setting up two nodes for each test, and running both. */
#include "tests/unit/broker_pair.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/table.h"

#define PATIENCE_MS 30000

struct redis_fixture redis;

void pair_begin(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    table_seed();
    log_setup(getenv("VERBOSE") != NULL ? LOG_DEBUG : LOG_ERROR, LOG_TEXT, NULL);
    redis_fixture_start(&redis);
    /* Nobody kills it here, and a busy disk must not cost a node its lease. */
    freeReplyObject(redis_fixture_command(&redis, "CONFIG SET appendonly no"));
}

int pair_end(int failed)
{
    redis_fixture_stop(&redis);
    return failed;
}

static void node_start(struct pair *f, int i, const char *name, bool real_clock)
{
    struct broker_config cfg = world_config(redis.url, name);
    if (real_clock) {
        cfg.lease_ms = PAIR_LEASE_MS;
        loop_fake_init_real(&f->loop[i]);
    } else {
        loop_fake_init(&f->loop[i]);
    }
    world_init(&f->w[i], &f->loop[i], &cfg);
    world_ready(&f->w[i]);
}

static int setup_with(void **state, bool real_clock)
{
    struct pair *f = xcalloc(1, sizeof *f);
    freeReplyObject(redis_fixture_command(&redis, "FLUSHALL"));
    node_start(f, 0, "gw1-aaaaaa", real_clock);
    node_start(f, 1, "gw2-bbbbbb", real_clock);
    *state = f;
    return 0;
}

int pair_setup(void **state)
{
    return setup_with(state, false);
}

int pair_setup_real(void **state)
{
    return setup_with(state, true);
}

void pair_stop(struct pair *f, int i)
{
    if (f->w[i].broker == NULL)
        return;
    world_fini(&f->w[i]);
    loop_fake_fini(&f->loop[i]);
}

int pair_teardown(void **state)
{
    struct pair *f = *state;
    pair_stop(f, 0);
    pair_stop(f, 1);
    free(f);
    return 0;
}

/* Runs the living nodes until cond. */
bool pair_until(struct pair *f, bool (*cond)(void *arg), void *arg)
{
    for (int i = 0; i < PATIENCE_MS / 2; i++) {
        if (cond(arg))
            return true;
        for (int k = 0; k < 2; k++) {
            if (f->w[k].broker != NULL)
                loop_fake_linger(&f->loop[k], 1);
        }
    }
    return cond(arg);
}

void pair_linger(struct pair *f, int ms)
{
    for (int i = 0; i < ms; i++) {
        for (int k = 0; k < 2; k++) {
            if (f->w[k].broker != NULL)
                loop_fake_linger(&f->loop[k], 1);
        }
    }
}

size_t keys_of(const char *pattern)
{
    redisReply *r = redis_fixture_command(&redis, "KEYS %s", pattern);
    size_t n = r->elements;
    freeReplyObject(r);
    return n;
}
