/* gateway/forward.h: requests of the long-polling transport for sessions of other nodes: handed to the node that has the session, through the broker, and answered by it. That
 * node alone decides, so it does not matter where the requests of a session arrive. */
#ifndef XD_FORWARD_H
#define XD_FORWARD_H

#include "broker/broker.h"
#include "gateway/polling.h"

struct forward;
struct gateway;

/* poll is answered, once, by whatever the session's node says, or 400 when it cannot be reached, or does not answer in the time in which a heartbeat would have come. body: of a
 * POST; stamp: what the client calls this GET, or empty; both copied. NULL: this cannot be a session of another node. */
struct forward *forward_get(struct gateway *g, struct slice sid, bool base64, struct slice stamp, struct poll *poll);
struct forward *forward_post(struct gateway *g, struct slice sid, bool bytes, struct slice body, struct poll *poll);
/* Whoever waits is gone: poll must not be answered any more. The session's node is told. */
void forward_cancel(struct forward *f);

/* --- for control.c --- */

/* Does this envelope CONTROL or CONTROLLED concern us? */
bool forward_is(const struct envelope *e);
void forward_envelope(struct gateway *g, const struct envelope *e);
/* This node is about to go: GETs that wait here are answered now, by the nodes that have their sessions, and so are those that still come. */
void forwards_drain(struct gateway *g);
/* With the broker gone nothing is answered any more. */
void forwards_fini(struct gateway *g);

#endif
