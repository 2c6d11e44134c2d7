/* tests/support/fake_sentinel.h: a sentinel inside the test's own loop, that says what the test wants. */
#ifndef XD_TESTS_FAKE_SENTINEL_H
#define XD_TESTS_FAKE_SENTINEL_H

#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"

/* What it says of a replica. */
struct fake_replica {
    int port;
    const char *flags, *link; /* "slave", "slave,s_down"; master-link-status: "ok", "err" */
};

struct fake_sentinel {
    struct loop *loop;
    struct io listener;
    struct link connections;
    int port;
    /* What it says; change it at will. */
    const char *service; /* the only name it knows; NULL: none */
    const char *host;
    int primary; /* the primary's port */
    uint64_t epoch;
    const char *password;             /* NULL: none is needed */
    const struct fake_sentinel *peer; /* whom it tells of, or NULL */
    struct fake_replica replicas[4];
    size_t replica_count;
    bool mute;    /* takes questions, answers none */
    size_t asked; /* questions for the primary */
};

/* Listens on a port of its own. */
void fake_sentinel_start(struct fake_sentinel *s, struct loop *loop, const char *service, int primary, uint64_t epoch);
/* Is gone; may be started again on the same port with fake_sentinel_return. */
void fake_sentinel_stop(struct fake_sentinel *s);
void fake_sentinel_return(struct fake_sentinel *s);
/* Another primary, told to subscribers. */
void fake_sentinel_switch(struct fake_sentinel *s, int primary, uint64_t epoch);

#endif
