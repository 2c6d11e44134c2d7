/* gateway/emitter_stream.h: what emitters of the streams adapter (npm @socket.io/redis-streams-emitter) append to their stream reaches Socket.IO clients: every node reads all of it,
 * in order, and does what is said for those of its clients who are meant. */
#ifndef XD_EMITTER_STREAM_H
#define XD_EMITTER_STREAM_H

struct config;
struct emitter_stream;
struct gateway;

/* Of the stream; NULL when the option socketio-emitter does not ask for it. */
const char *emitter_stream_name(const struct config *cfg);

/* NULL when there is no such stream. Begins to read. */
struct emitter_stream *emitter_stream_create(struct gateway *g);
/* The broker is gone already, and no request is left. NULL-safe, clears the pointer. */
void emitter_stream_destroy(struct emitter_stream **p);

#endif
