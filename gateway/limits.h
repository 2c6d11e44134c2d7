/* gateway/limits.h: how much one user, address, API key or room may send in the whole cluster: token buckets that the nodes share.
 *
 * Deciding costs a look-up and no word to the store. A subject that takes little is limited by a bucket of this node alone. One that takes more than an eighth of its
 * limit is shared: once a second each such node tells the store what was taken and wanted there, hears of the others, and takes its part of the rate in
 * proportion to what is wanted of it. What was too much meanwhile is made up for in the next seconds, so that over some seconds the limit holds. While the store is
 * away each node goes on with the part it had last, or, where it never had one, with the whole. */
#ifndef XD_LIMITS_H
#define XD_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

#define LIMIT_MAP(X)                                                                                                   \
    X(LIMIT_USER, "user")                                                                                              \
    X(LIMIT_IP, "ip")                                                                                                  \
    X(LIMIT_KEY, "key")                                                                                                \
    X(LIMIT_ROOM, "room")                                                                                              \
    X(LIMIT_WECHAT, "wechat")                                                                                          \
    X(LIMIT_LOGIN, "login")

#define X(code, word) code,
enum limit_kind { LIMIT_MAP(X) LIMIT_KINDS };
#undef X

const char *limit_word(enum limit_kind kind);

struct gateway;
struct limits;

struct limits *limits_create(struct gateway *g);
/* NULL-safe. The broker is gone already. */
void limits_destroy(struct limits **l);

/* Takes one token of the subject's; false, and counted, when there is none. rate: per second, in the cluster; 0: no limit. burst: 0: as many as rate. They may be others
 * with every call. Of an IPv6 address (of an IP, a LOGIN) the first 64 bits count. */
bool limits_take(struct limits *l, enum limit_kind kind, struct slice name, uint32_t rate, uint32_t burst);

#endif
