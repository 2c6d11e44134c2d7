/* tests/support/fork_fixture.h: a lobby whose store loses the newest messages. */
#ifndef XD_TESTS_FORK_FIXTURE_H
#define XD_TESTS_FORK_FIXTURE_H

#include "tests/support/core_fixture.h"

#define ALL_KEPT ((const char *const[]){"--policy", "* retain-count=1000 notices=off", "--message-rate", "0", NULL})
#define FEW_KEPT                                                                                                       \
    ((const char *const[]){"--policy", "* retain-count=1000 notices=off", "--message-rate", "0", "--tail-bytes",       \
                           "800", NULL})
#define NONE_KEPT                                                                                                      \
    ((const char *const[]){"--policy", "* retain-count=1000 notices=off", "--message-rate", "0", "--tail-bytes", "0",  \
                           NULL})

#define LOBBY SLICE("lobby")

/* Alice and Bob, who have heard 1 to n. */
void fork_open(struct core *c, struct client *cl, const char *const *args, int n);
void fork_close(struct core *c, struct client *cl, int n);
void outage_begins(struct core *c);
void outage_ends(struct core *c);
/* What another node publishes. */
void elsewhere(struct core *c, const struct publish *p);
void elsewhere_say(struct core *c, const char *data);
struct position last_of(const struct core *c);
void expect_fork(struct client *cl, int at);
void expect_mark(struct client *cl, int at);
void expect_message(struct client *cl, int data, int at);
void join_at(struct client *cl, const struct position *at);
void come_back(struct client *cl, struct core *c, const struct position *at);
/* 1 to 10 were delivered; the store has 1 to 7, then 100 and 101 from elsewhere. */
void lose_three(struct core *c);

#endif
