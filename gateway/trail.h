/* gateway/trail.h: what a Socket.IO client has to be told with every message so that it can come back from anywhere: how far it has been told of all its rooms.
 *
 * Of the message's own room that is the same for all its members here, and part of the bytes they share. The rest is a client's trail, for which the bytes are copied with it inserted:
 * once for all who are in no other rooms than everybody is (gateway/common.h), and for each of the others. Nothing of this is stored: the client brings it, so it is right after
 * the death of a node, too. */
#ifndef XD_TRAIL_H
#define XD_TRAIL_H

#include "base/buf.h"
#include "broker/broker.h"
#include "gateway/policy.h"
#include "gateway/protocol/protocol.h"

struct member;
struct msg;
struct room;
struct session;

/* A batch of a room, and where in it messages begin; starts NULL: nobody needs a trail. */
struct trailed {
    struct msg *msg;         /* borrowed */
    const struct room *room; /* NULL: of none */
    const uint32_t *starts;
    uint32_t count;
    struct msg *shared; /* with the trail that most have, once somebody needs it */
};

/* How far the member's session has been told of its room; NULL: of nothing yet, or there is nothing to be told again. */
const struct position *trail_told(const struct member *m);
/* The same of any room. */
const struct position *trail_told_ever(const struct member *m);

/* As conn_send(). What is told in between must not change how far most have been told of other rooms. */
bool trailed_send(struct trailed *t, const struct session *s, enum policy_slow slow);

void trailed_fini(struct trailed *t);

/* Does its client have to be told? s may be NULL. */
bool trail_needed(const struct session *s);

/* For an event that goes to s alone: fills in its trail, if it needs one. Valid until the next call of any of these. s may be NULL. */
void trail_set(const struct session *s, struct event *e);

/* Appends how far s has been told of its rooms, as an offset (protocol/socketio_offset.h), but for one (may be NULL). */
void trail_append(const struct session *s, const struct room *except, struct buf *ret);

/* Where a client began that is about to be welcomed, empty if it need not know. What it is told since then may be queued, and lost with the connection. Valid until the next call of any of these. */
struct slice trail_begin(const struct session *s);

/* What the offset calls that which is said to s alone. */
struct trail_name {
    char text[sizeof "$session:" + SID_LEN];
};
struct slice trail_session(const struct session *s, struct trail_name *name);

/* The member hears its room from now on: its client is told from where on, before anything else that it may take for having joined. */
void trail_entered(const struct member *m);
/* It hears its room no more: so does its offset, which would speak of a room that the session is not in when it comes back. */
void trail_left(const struct member *m);

#endif
