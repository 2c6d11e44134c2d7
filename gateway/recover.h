/* gateway/recover.h: "connection state recovery": a Socket.IO client 4.6+ comes back with the pid of its session and the last offset it was told (docs/socketio.md).
 *
 * It has to know in its CONNECT's answer whether it has missed nothing. So the connection's own session begins as ever and is let in, or not; but before the store hears of it the
 * old one is taken up in its place, if there is one, and the log of each of its rooms is asked whether it still has what follows. If not, the old session ends and a new one begins. */
#ifndef XD_RECOVER_H
#define XD_RECOVER_H

#include "base/slice.h"

struct broker_result;
struct gateway;
struct resume;
struct session;

/* What a CONNECT presents; NULL when it is no pid of ours. resume_free() ends it. */
struct resume *recover_wish(struct gateway *g, struct slice pid, struct slice offset);

/* For the session of that CONNECT, when all that is left is to tell the store of it. Takes s->wish. */
void recover_begin(struct session *s);

/* --- for resume.c --- */

/* The store does not give the session. Takes r. */
void recover_failed(struct resume *r, const struct broker_result *result);
/* It has; s is the adopted one. session_join_implicit() follows, or a new session. */
void recover_check(struct session *s);

#endif
