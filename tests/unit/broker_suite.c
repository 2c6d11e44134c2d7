/* tests/unit/broker_suite.c: setting up a broker for each test of a suite. */
#include "tests/unit/broker_suite.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/table.h"

struct redis_fixture redis;
bool use_redis;

int suite_setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    if (use_redis)
        freeReplyObject(redis_fixture_command(&redis, "FLUSHALL"));
    loop_fake_init(&f->loop);
    struct broker_config cfg = world_config(use_redis ? redis.url : "memory", "gw1-aaaaaa");
    world_init(&f->w, &f->loop, &cfg);
    world_ready(&f->w);
    *state = f;
    return 0;
}

int suite_teardown(void **state)
{
    struct fixture *f = *state;
    world_fini(&f->w);
    loop_fake_fini(&f->loop);
    free(f);
    return 0;
}

struct world *world_of(void **state)
{
    struct fixture *f = *state;
    return &f->w;
}

int suite_main(int (*run)(const char *name), bool redis_only)
{
    (void)signal(SIGPIPE, SIG_IGN);
    table_seed();
    log_setup(getenv("VERBOSE") != NULL ? LOG_DEBUG : LOG_ERROR, LOG_TEXT, NULL);
    int failed = redis_only ? 0 : run("broker: memory");
    use_redis = true;
    redis_fixture_start(&redis);
    failed += run("broker: redis");
    redis_fixture_stop(&redis);
    return failed;
}
