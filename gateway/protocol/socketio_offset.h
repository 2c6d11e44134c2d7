/* gateway/protocol/socketio_offset.h: offsets, the strings by which Socket.IO clients say what they have been told when they come back (docs/socketio.md). Pure bytes.
 *
 * A client keeps the last string that stood behind the arguments of an event, and nothing else; so each has to say how far the client has been told of every one of its
 * rooms. An offset is any number of elements: a dot, 4 letters of the room's name (hashed), 4 of the position's tag, and the number of the position with 6 bits a letter.
 * The element of a message's own room is the same for everybody in it and is encoded once; those of other rooms a member is in, its *trail*, stand behind it. */
#ifndef XD_SOCKETIO_OFFSET_H
#define XD_SOCKETIO_OFFSET_H

#include "base/buf.h"
#include "proto/position.h"

#define SIO_OFFSET_MAX 16384 /* bytes of one that is looked at */

void sio_offset_append(struct buf *ret, struct slice room, const struct position *at);

/* What an offset says of a room: nothing, its position with only as much of the tag as there is, or nothing that can be told from what it says of another. */
enum sio_offset_says { SIO_OFFSET_NOTHING, SIO_OFFSET_POSITION, SIO_OFFSET_AMBIGUOUS };
enum sio_offset_says sio_offset_find(struct slice offset, struct slice room, struct position *ret);

/* Of how many rooms an offset says something. */
size_t sio_offset_count(struct slice offset);

/* Is `said`, of an offset, that position? */
bool sio_offset_is(const struct position *said, const struct position *at);

/* Appends frames to ret with the trail in every offset: starts are where the texts of those messages begin, in order. The offset is what such a text ends with,
 * but for a quote and a bracket. */
void sio_trail_insert(struct slice frames, const uint32_t *starts, size_t count, struct slice trail, struct buf *ret);

#endif
