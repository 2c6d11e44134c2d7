/* gateway/knock.h: with --auth backend a client that comes in waits at the door until the backend has said who it is. Nothing else is done for it meanwhile, not even
 * its frames are read. */
#ifndef XD_KNOCK_H
#define XD_KNOCK_H

#include "base/error.h"
#include "base/slice.h"
#include "gateway/transport.h"

struct actions;
struct auth_claims;
struct conn;
struct gateway;
struct knock;

/* What the backend is told; empty: nothing of it. nsp, auth: of a Socket.IO client's CONNECT, the latter JSON. */
struct knock_question {
    struct slice name, token, query, nsp, auth, ip, agent, origin, protocol;
};

/* OK: claims and what the backend wants done, of which what is not taken is freed. Else why, a sentence; not ERR_REFUSED: it may be tried again in about retry_ms. */
struct knock_result {
    enum err err;
    struct slice why;
    uint32_t retry_ms;
    struct auth_claims *claims;
    struct actions **actions;
};
typedef void knock_done(void *arg, const struct knock_result *r);

/* done is called once, from the loop, unless it is cancelled. */
struct knock *knock_ask(struct gateway *g, const struct knock_question *what, knock_done *done, void *arg);

/* After greeting_begin(). name: what the URL says after /ws/; token: what was found where tokens are, or empty. */
void knock_begin(struct conn *c, const struct http_request *r, struct slice name, struct slice token);
/* Whoever waits is gone; the answer will be ignored. NULL-safe. */
void knock_cancel(struct knock *k);

#endif
