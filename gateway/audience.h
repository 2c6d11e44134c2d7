/* gateway/audience.h: telling a room's members on this node: those of one protocol share the encoded bytes, in batches (gateway/room.h).
 *
 * A member that does not keep up may be left to read on from the room's log (slow=resume). It is given all that this node has delivered so far, which fills its queue, then leaves its
 * audience and becomes somebody who is being caught up (gateway/catchup.h). */
#ifndef XD_AUDIENCE_H
#define XD_AUDIENCE_H

#include "gateway/room.h"

struct sight;

void audiences_init(struct room *r);

/* Hands out what is batched. */
void room_flush(struct room *r);
/* For every member, but for one. */
void room_tell(struct room *r, const struct event *e, const struct session *except);
/* The same for a message that was lost and is back. */
void room_tell_returned(struct room *r, const struct event *e, const struct session *except, const struct sight *sight);
/* What stands there is told otherwise, or not meant for them: they have been told of the room up to it. */
void room_pass(struct room *r, const struct position *at);
/* Takes those out of their audiences whose queue turned out to be full. Not while something is being told. */
void room_set_aside(struct room *r);

/* The audience of that protocol, made when there is none. */
struct audience *audience_get(struct room *r, const struct protocol_ops *protocol);
void audience_enter(struct audience *a, struct member *m);
/* Frees an audience that is empty then. */
void audience_leave(struct member *m);

#endif
