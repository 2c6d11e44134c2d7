/* gateway/acks.h: emissions of the cluster as this node carries them out, and the acks that its Socket.IO clients are asked for: collected until all are there or the time
 * is up, then told to the node that has asked. */
#ifndef XD_ACKS_H
#define XD_ACKS_H

#include "gateway/protocol/socketio.h"

struct acks;
struct gateway;
struct session;

/* An EMIT has come: emits it here, and answers if it is to be answered. */
void acks_envelope(struct gateway *g, const struct envelope *e);

/* For emit.c: the session has been asked. */
void acks_expect(struct acks *a, const struct session *s);

/* An ack of the session's client; false: it was not asked for it. */
bool acks_take(struct session *s, const struct sio_packet *p);

/* Nobody will be told any more. */
void acks_fini(struct gateway *g);

#endif
