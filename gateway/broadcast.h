/* gateway/broadcast.h: an emission to Socket.IO clients of the whole cluster, through any node: told to all nodes that have clients in the namespace, and what those
 * answer, put together. */
#ifndef XD_BROADCAST_H
#define XD_BROADCAST_H

#include "broker/broker.h"
#include "gateway/protocol/emission.h"

#define BROADCAST_ANSWER "emitted" /* what an answer is called among other CONTROLLED */

struct gateway;

/* All borrowed. acks and missing: elements of JSON arrays with commas between them. */
struct broadcast_result {
    enum err err;    /* OK also when not every node has answered */
    const char *why; /* a sentence, else */
    uint64_t nodes, answered;
    uint64_t uncounted; /* clients who were asked for an ack and not waited for */
    struct slice acks, missing;
    bool dropped; /* more was answered than is told here */
};

typedef void broadcast_done(void *arg, const struct broadcast_result *r);

/* body: the JSON that e was read from. Completes exactly once, from the loop: when all nodes have been told; or, if acks are asked for, have answered, at the latest a second after
 * e's timeout. ERR_RATE_LIMITED: too many such wait on this node. */
void broadcast_emit(struct gateway *g, const struct emission *e, struct slice body, broadcast_done *done, void *arg);

/* A CONTROLLED has come: true if it was for one of these. */
bool broadcast_answer(struct gateway *g, const struct envelope *e);

/* The broker is gone: what still waits completes. */
void broadcasts_fini(struct gateway *g);

#endif
