/* gateway/move.h: a WebSocket that is to take over a connection by long-polling which another node has (gateway/leaving.h is that end): the connection comes here, with its sessions.
 *
 * What is said meanwhile in rooms that have no log (those of namespaces, $all, …) is kept here from before the other node lets go until it has told how far the client is: nothing is missing, and
 * nothing is told twice. */
#ifndef XD_MOVE_H
#define XD_MOVE_H

#include "base/slice.h"
#include "gateway/protocol/engineio.h"
#include "proto/envelope.h"

struct conn;
struct gateway;
struct move;
struct resume;
struct session;

#define MOVE_VERBS "move-"

/* For the WebSocket c; name, revision: as in its handshake. NULL: no node can have called a connection so. */
struct move *move_create(struct conn *c, struct slice name, enum eio_revision revision);
/* The WebSocket is gone, or the connection that it has carried since is; or all of it is here. NULL-safe; clears the pointer. */
void move_end(struct move **pointer);

/* The client tries the WebSocket: probe_ready() follows, or it is closed. */
void move_probe(struct move *m);
/* It has decided: probe_moved() follows, or it is closed. */
void move_take(struct move *m);

/* --- for resume.c, gateway.c and control.c --- */

/* The store has given this node a session that was at another one. False: how far its client is has still to be told; session_join_implicit() follows. */
bool move_came(struct session *s);
/* A private message for a session that is not here; but perhaps the store has given it to this node, and the news is on its way. */
void move_hold(struct gateway *g, struct slice sid, const struct envelope *e);
/* Envelopes CONTROL and CONTROLLED about this. */
bool move_is(const struct envelope *e);
void move_envelope(struct gateway *g, const struct envelope *e);

#endif
