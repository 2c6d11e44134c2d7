/* gateway/emit.h: emitting to Socket.IO clients of this node as their servers do: to a namespace, to rooms, not to others, past the rooms' logs. Nobody but the clients
 * who are in at this moment will ever hear of it. */
#ifndef XD_EMIT_H
#define XD_EMIT_H

#include "gateway/protocol/emission.h"
#include "gateway/protocol/protocol.h"

struct acks;
struct gateway;
struct session;

/* Calls fn for each session of this node that is meant, once; fn may change no membership and end no session. */
void emit_each(struct gateway *g, const struct emission_target *to, void (*fn)(void *arg, struct session *s),
               void *arg);

/* Encodes it once for each revision, and sends it to those who are meant. acks: it asks them for acks with this id; NULL: it does not. */
void emit_here(struct gateway *g, const struct emission *e, struct acks *acks, uint64_t id);

/* The name that a room of a namespace has for everybody else (docs/socketio.md), in bytes; false: there is no such room. */
bool emit_room_name(struct slice nsp, struct slice room, char bytes[NAME_MAX_ROOM], struct slice *ret);

#endif
