/* gateway/peer.h: nodes that something here waits for: are they still there? Whatever waits, each node is asked once in a while; it is lost when nobody hears the question, or has answered
 * none for the time of a lease. A node that is only slow is not: it answers. */
#ifndef XD_PEER_H
#define XD_PEER_H

#include "base/list.h"
#include "base/slice.h"

struct envelope;
struct gateway;
struct peer;

/* Embedded in whatever waits. */
struct peer_wait {
    struct link link;  /* peer->waits */
    struct peer *peer; /* NULL: it does not wait */
    struct slice sid;  /* under which it has been asked, borrowed */
    /* The node is gone. It does not wait any more. */
    void (*lost)(struct peer_wait *w);
};

/* lost is set. */
void peer_wait_begin(struct gateway *g, struct peer_wait *w, struct slice node, struct slice sid);
/* Harmless when it does not wait. */
void peer_wait_end(struct peer_wait *w);

/* A node is asking, or has answered. False: this is about something else. */
bool peer_envelope(struct gateway *g, const struct envelope *e);

#endif
