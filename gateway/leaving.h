/* gateway/leaving.h: connections by long-polling that go to another node, because the WebSocket that is to carry them has come there (gateway/move.h is the other end).
 *
 * The other node asks whether it may (`move-probe`), tells when the client has decided (`move-take`), or that nothing comes of it (`move-over`). It is given what the connection is (`move-given`),
 * and takes its sessions from the store, one by one. As the store says that one is the other node's (struct broker_events, taken), it is told how far that session's client is, and what waited
 * for it (`move-rest`). So each session is one node's all the time, and whatever fails, somebody ends it. */
#ifndef XD_LEAVING_H
#define XD_LEAVING_H

#include "proto/envelope.h"

struct engine;
struct gateway;
struct leaving;
struct session;

/* An envelope CONTROL that begins with MOVE_VERBS. */
void leaving_asked(struct gateway *g, const struct envelope *asked);

/* The store has given this session to another node, if it has not been let go of yet. */
void leaving_taken(const struct session *s);
/* Is that what is waited for? */
bool leaving_goes(const struct leaving *l);

/* The connection is over. NULL-safe; clears the pointer. */
void leaving_end(struct leaving **pointer);

#endif
