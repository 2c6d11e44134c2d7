/* base/resolve.h: a host name to addresses without stopping the loop: getaddrinfo() waits in a thread of its own. */
#ifndef XD_BASE_RESOLVE_H
#define XD_BASE_RESOLVE_H

#include <stdbool.h>

#include "base/loop.h"

struct resolver;

/* Exactly one of address and why is not NULL; borrowed until return. Told from the loop. */
typedef void resolver_done(void *owner, const char *address, const char *why);

bool address_is_numeric(const char *host);

/* host is borrowed while it lives. */
struct resolver *resolver_create(struct loop *loop, const char *host, resolver_done *done, void *owner);
/* Never waits for its thread. NULL-safe, clears the pointer. */
void resolver_destroy(struct resolver **r);

/* Asks; when it is still asking, that answer will do. A name with several addresses gives the next of them each time. */
void resolver_start(struct resolver *r);

#endif
