/* tests/unit/broker_suite.h: one suite of tests, run against every backend: each test gets a fresh broker, ready, in an empty store. */
#ifndef XD_TESTS_BROKER_SUITE_H
#define XD_TESTS_BROKER_SUITE_H

#include "tests/support/cluster_fixture.h"
#include "tests/support/redis_fixture.h"
#include "tests/unit/broker_world.h"

struct fixture {
    struct loop_fake loop;
    struct world w;
};

/* The Redis of the suite, and the cluster. */
extern struct redis_fixture redis;
extern struct cluster_fixture cluster;
/* What the present run is about. */
extern const char *suite_url;
/* For the next fixture: 0 is no events. */
extern uint32_t suite_event_shards;
/* The server that has this key; NULL where there is none. */
struct redis_fixture *suite_redis(const char *key);

int suite_setup(void **state);
int suite_teardown(void **state);
struct world *world_of(void **state);
/* A main's body: run(name) is called for every backend: memory, Redis, Redis Cluster (or for one Redis alone). Returns what main returns. */
int suite_main(int (*run)(const char *name), bool redis_only);

#define T(name) cmocka_unit_test_setup_teardown(name, suite_setup, suite_teardown)

#endif
