/* gateway/knock.h: with --auth backend a client that comes in waits at the door until the backend has said who it is. Nothing else is done for it meanwhile, not even
 * its frames are read. */
#ifndef XD_KNOCK_H
#define XD_KNOCK_H

#include "base/slice.h"
#include "gateway/transport.h"

struct conn;
struct knock;

/* After greeting_begin(). name: what the URL says after /ws/; token: what was found where tokens are, or empty. */
void knock_begin(struct conn *c, const struct http_request *r, struct slice name, struct slice token);
/* The connection is gone; the answer will be ignored. NULL-safe. */
void knock_cancel(struct knock *k);

#endif
