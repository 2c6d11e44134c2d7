/* gateway/emitter.h: what Redis emitters (npm @socket.io/redis-emitter) say reaches Socket.IO clients: this node listens on the classic adapter's channels of the
 * namespaces, rooms and sockets that it has, and does what comes for those of its clients who are meant, unlogged, as a Socket.IO server would. */
#ifndef XD_EMITTER_H
#define XD_EMITTER_H

#include "base/slice.h"

struct control_job;
struct emitter;
struct emitter_request;
struct gateway;
struct member;

/* NULL when the option socketio-emitter does not say so. */
struct emitter *emitter_create(struct gateway *g);
/* NULL-safe, clears the pointer. */
void emitter_destroy(struct emitter **e);

/* A member has begun to hear its room, or hears it no more. */
void emitter_enter(struct emitter *e, const struct member *m);
void emitter_leave(struct emitter *e, const struct member *m);

/* Something was said on one of the channels. */
void emitter_heard(struct emitter *e, struct slice channel, struct slice body);

/* For whoever wants to know when sessions have joined, or left: job() makes one for each, and it is done when the session has. */
struct emitter_wait {
    struct control_job *(*job)(void *arg);
    void *arg;
};
/* Does what is asked for sockets of this node. wait may be NULL. */
void emitter_carry_out(struct gateway *g, const struct emitter_request *request, const struct emitter_wait *wait);

#endif
