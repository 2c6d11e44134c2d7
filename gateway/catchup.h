/* gateway/catchup.h: a member that comes back with a position is told what it missed, from the log, before it hears the room live.
 *
 * The member waits beside the room's audiences. Pages are read from its position on and sent to it alone; when it has what the room's stream has
 * delivered on this node, it joins its audience. So its view has no gap and nothing twice, whatever is published meanwhile. So many reads at a time per node, the
 * others wait in order, and nobody is read for faster than he takes it: a storm of returning clients becomes a queue. */
#ifndef XD_CATCHUP_H
#define XD_CATCHUP_H

#include "base/list.h"
#include "proto/envelope.h"

struct gateway;
struct member;
struct room;

struct catchup {
    struct link turn; /* on gateway->catchup_turns while it waits for others to be read for */
    struct gateway *gw;
    struct member *member; /* NULL: gone while a page was being read */
    struct position at;    /* what the client has */
    bool reading;
    bool checked;  /* the log has confirmed `at`; the client has been told so */
    bool compared; /* the room's stream has been compared with the log since that has shown another branch here; */
    bool waiting;  /* or is being so */
    /* The client's position is on a branch that was lost: */
    struct position lost; /* that position */
    bool seeking;  /* looking through the log, read up to `at`, for a message that says where the branch began; */
    bool adopting; /* found, but for the tag there */
    uint64_t patient_until_ms; /* the log ends before it: not believed until then */
    bool asking;               /* where its user has read to */
};

/* The member's ENTER has been heard; it waits on room->waiting. */
void catchup_begin(struct member *m);
/* An implicit member is activated; one that was told everything up to m->seen is told before what this node has kept since (room_expect()). */
void catchup_kept(struct member *m);
/* The member has heard the room so far, but has not read it: it goes on from there when it has. */
void catchup_behind(struct member *m);
/* The member leaves before it is done. */
void catchup_cancel(struct catchup *c);
/* The room goes on after `since` on another branch; what this member was told of may be lost. */
void catchup_forked(struct catchup *c, const struct position *since);
/* Goes on if it can: called when the client has read on, the room's stream has moved on, or after a failed read. */
void catchup_step(struct catchup *c);

#endif
