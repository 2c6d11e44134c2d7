/* tests/support/cluster_fixture.h: a real Redis Cluster of the test's own: three primaries with a third of the slots each, and on demand a
 * replica for each of them. */
#ifndef XD_TESTS_CLUSTER_FIXTURE_H
#define XD_TESTS_CLUSTER_FIXTURE_H

#include "tests/support/redis_fixture.h"

enum { CLUSTER_PRIMARIES = 3, CLUSTER_NODES_MAX = 6 };

struct cluster_fixture {
    struct redis_fixture nodes[CLUSTER_NODES_MAX]; /* replica i + 3 of primary i */
    char ids[CLUSTER_NODES_MAX][48];
    int count;
    char url[128];
};

/* Returns when every node says that the cluster is well. Fails the test when it does not come about. */
void cluster_fixture_start(struct cluster_fixture *f, bool replicas);
void cluster_fixture_stop(struct cluster_fixture *f);
/* Empties it; every slot is where it was at the start, if no replica was promoted. */
void cluster_fixture_flush(struct cluster_fixture *f);

/* The slot of a key; the primary that has it at the start. */
int cluster_fixture_slot(struct cluster_fixture *f, const char *key);
int cluster_fixture_home(struct cluster_fixture *f, const char *key);

/* A slot on its way from one primary to another: begun, its keys moved one by one, and closed. */
void cluster_fixture_open_slot(struct cluster_fixture *f, int slot, int from, int to);
/* Moves up to n keys of the slot; returns how many there were. */
int cluster_fixture_move_keys(struct cluster_fixture *f, int slot, int from, int to, int n);
void cluster_fixture_close_slot(struct cluster_fixture *f, int slot, int from, int to);

#endif
