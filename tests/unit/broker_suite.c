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
struct cluster_fixture cluster;
const char *suite_url = "memory";
uint32_t suite_event_shards;

struct redis_fixture *suite_redis(const char *key)
{
    if (suite_url == redis.url)
        return &redis;
    return suite_url == cluster.url ? &cluster.nodes[cluster_fixture_home(&cluster, key)] : NULL;
}

int suite_setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    if (suite_url == redis.url)
        freeReplyObject(redis_fixture_command(&redis, "FLUSHALL"));
    if (suite_url == cluster.url)
        cluster_fixture_flush(&cluster);
    loop_fake_init(&f->loop);
    struct broker_config cfg = world_config(suite_url, "gw1-aaaaaa");
    cfg.event_shards = suite_event_shards;
    cfg.event_count = 50;
    cfg.event_age_s = 3600;
    cfg.command_count = suite_event_shards != 0 ? cfg.event_count : 0;
    cfg.command_age_s = cfg.event_age_s;
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
    suite_url = redis.url;
    redis_fixture_start(&redis);
    failed += run("broker: redis");
    redis_fixture_stop(&redis);
    if (redis_only)
        return failed;
    suite_url = cluster.url;
    cluster_fixture_start(&cluster, false);
    failed += run("broker: redis cluster");
    cluster_fixture_stop(&cluster);
    return failed;
}
