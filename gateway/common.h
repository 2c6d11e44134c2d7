/* gateway/common.h: rooms that whoever connects is in: $all, and $namespace:<name> of Socket.IO. With recovery on their messages are kept, and each of their Socket.IO clients knows how
 * far it has been told of them; whoever comes back is told the rest, or that it has missed something.
 *
 * Nobody is a member of them in the store, so there is no ENTER to say where a client begins: that is where the node's stream is (stream_begin()), and for who comes back the
 * position that it brings. */
#ifndef XD_COMMON_H
#define XD_COMMON_H

#include "gateway/protocol/socketio.h"

struct gateway;
struct member;
struct resume;
struct room;
struct session;

/* Is there anything in it that who comes back wants to be told? */
bool common_keeps(const struct room *r);

/* Its room is subscribed: an implicit member that waits. Called again when that may have been lost, and when it is known where the room is. */
void common_start(struct member *m);
/* The session is welcome back: it goes on from where it was. */
void common_welcome(struct session *s, const struct resume *r);

#define COMMON_ROOMS 2
/* Calls fn with the name of each, for clients of this protocol. */
void common_each_name(const struct sio_protocol *p, void (*fn)(void *arg, struct slice name), void *arg);

/* Appends how far the clients of this protocol have been told of those rooms, but for one (may be NULL), as an offset. The same for all who are being told live. */
void common_append(struct gateway *g, const struct sio_protocol *p, const struct room *except, struct buf *ret);

#endif
