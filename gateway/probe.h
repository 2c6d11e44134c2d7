/* gateway/probe.h: a WebSocket that wants to take over a connection by long-polling: it is tried first, and the client decides when. */
#ifndef XD_PROBE_H
#define XD_PROBE_H

#include "base/slice.h"

struct conn;
struct engine;
struct probe;

/* c becomes one for e; e NULL: there is nothing to take over, and it is closed as soon as it is open. */
void probe_begin(struct conn *c, struct engine *e);

/* --- for conn.c and engine.c --- */

void probe_message(struct probe *p, struct slice payload, bool binary);
/* The WebSocket is gone. NULL-safe. */
void probe_end(struct probe **pointer);
/* What it was to take over is gone: closes it. NULL-safe. */
void probe_forsake(struct probe *p);

#endif
