/* tests/unit/broker_pair.h: two nodes on one Redis, each with a loop of its own: one can stand still while the other runs. */
#ifndef XD_TESTS_BROKER_PAIR_H
#define XD_TESTS_BROKER_PAIR_H

#include "tests/support/redis_fixture.h"
#include "tests/unit/broker_world.h"

#define PAIR_LEASE_MS 1000 /* with a real clock; much longer than a busy machine makes a process wait */

struct pair {
    struct loop_fake loop[2];
    struct world w[2]; /* gw1-aaaaaa and gw2-bbbbbb */
};

extern struct redis_fixture redis;

/* Once per program; pair_end returns what main returns. */
void pair_begin(void);
int pair_end(int failed);

int pair_setup(void **state);
int pair_setup_real(void **state);
int pair_teardown(void **state);
/* Without a word, as kill -9. */
void pair_stop(struct pair *f, int i);
/* Runs the living nodes until cond. */
bool pair_until(struct pair *f, bool (*cond)(void *arg), void *arg);
/* Lets both run for so long. */
void pair_linger(struct pair *f, int ms);

/* How many keys match. */
size_t keys_of(const char *pattern);

#define P(name)      cmocka_unit_test_setup_teardown(name, pair_setup, pair_teardown)
#define P_REAL(name) cmocka_unit_test_setup_teardown(name, pair_setup_real, pair_teardown)

#endif
