/* gateway/probe.h: a WebSocket that wants to take over a connection by long-polling: it is tried first, and the client decides when. */
#ifndef XD_PROBE_H
#define XD_PROBE_H

#include "base/buf.h"

struct conn;
struct engine;
struct move;
struct probe;

#define PROBE_PATIENCE_MS 10000u /* from the handshake to the "5" */

/* c becomes one for e, or for what m is to bring here (taken); both NULL: there is nothing to take over, and it is closed as soon as it is open. */
void probe_begin(struct conn *c, struct engine *e, struct move *m);

/* --- for conn.c and engine.c --- */

void probe_message(struct probe *p, struct slice payload, bool binary);
/* The WebSocket is gone. NULL-safe. */
void probe_end(struct probe **pointer);
/* What it was to take over is gone: closes it. NULL-safe. */
void probe_forsake(struct probe *p);

/* --- for move.c --- */

/* It may come: the client is told. */
void probe_ready(struct probe *p);
/* It comes: ends the probe, but not its move. What the client has said since is the caller's. */
void probe_done(struct probe **pointer, struct move **ret_move, struct buf *ret_held);

#endif
