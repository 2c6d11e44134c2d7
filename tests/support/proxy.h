/* tests/support/proxy.h: a TCP proxy inside the test's own loop, between a broker and its Redis, that can lose, hold and spoil bytes. */
#ifndef XD_TESTS_PROXY_H
#define XD_TESTS_PROXY_H

#include "base/loop.h"

struct proxy {
    struct loop *loop;
    struct io listener;
    struct link connections;
    int port, target_port;
    char url[64];
    size_t accepted;
    /* What Redis says is lost from now on, on connections that are (not) subscribers. */
    bool lose_pushes, lose_replies;
    bool one_byte; /* every byte of an answer arrives alone */
};

void proxy_start(struct proxy *p, struct loop *loop, int target_port);
void proxy_stop(struct proxy *p);
/* Closes every connection. */
void proxy_cut(struct proxy *p);
/* Lets Redis "say" this to all its subscribers, or to all others. */
void proxy_inject(struct proxy *p, bool to_subscribers, const char *bytes);

#endif
