/* gateway/emit.h: emitting to Socket.IO clients of this node as their servers do: to a namespace, to rooms, not to others, past the rooms' logs. Where
 * clients may come back, what is neither volatile nor asks for acks is in the log of the namespace (gateway/common.h), and whoever it was meant for is told then; else nobody but
 * the clients who are in at this moment will ever hear of it. */
#ifndef XD_EMIT_H
#define XD_EMIT_H

#include "gateway/protocol/emission.h"
#include "gateway/protocol/protocol.h"

/* Room for reading one of n bytes: base64 with escapes is its letters, its bytes, and those as JSON. */
#define EMISSION_ARENA(n) (65536u + 3 * (n))

struct acks;
struct gateway;
struct member;
struct message_record;
struct room;
struct session;
struct sight;

/* Calls fn for each session of this node that is meant, once; fn may change no membership and end no session. */
void emit_each(struct gateway *g, const struct emission_target *to, void (*fn)(void *arg, struct session *s),
               void *arg);

/* Encodes it once for each revision, and sends it to those who are meant. acks: it asks them for acks with this id; NULL: it does not. */
void emit_here(struct gateway *g, const struct emission *e, struct acks *acks, uint64_t id);

/* One that stands in a namespace's log, a message of that room, has come. sight: it was lost and is back (gateway/fork.h); NULL: it was not. */
void emit_logged(struct room *r, const struct envelope *envelope, const struct sight *sight);
/* One is read from there for a member that missed it, and is told if it is meant by the rooms that it is in now. */
void emit_missed(const struct member *m, const struct message_record *r);

/* Whether this node may have sessions in the namespace. */
bool emit_has(struct gateway *g, struct slice nsp);

/* The name that a room of a namespace has for everybody else (docs/socketio.md), in bytes; false: there is no such room. */
bool emit_room_name(struct slice nsp, struct slice room, char bytes[NAME_MAX_ROOM], struct slice *ret);

#endif
