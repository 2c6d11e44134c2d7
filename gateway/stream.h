/* gateway/stream.h: a room's messages as this node receives them: one after the other, without gaps and without duplicates.
 *
 * Every message names the tag of the one before, so what is missing shows with the next thing that arrives. What is missing is read from the room's log, once
 * for the whole node; live messages wait for that (they are in the log too, so they need not be kept). A room whose policy retains nothing cannot be
 * repaired: the loss is counted, logged and left visible in the offsets.
 *
 * A log that has another message where this node has delivered one, or ends before it, is another branch of history: a fork (gateway/fork.h). Then the last
 * position that both have in common is looked for, the members are told of it, and the stream goes on from there. */
#ifndef XD_STREAM_H
#define XD_STREAM_H

#include "base/list.h"
#include "gateway/fork.h"
#include "gateway/tail.h"
#include "proto/envelope.h"

struct room;

enum stream_state { STREAM_UNKNOWN, STREAM_LIVE, STREAM_REPAIRING };

#define STREAM_RECENT 16

struct stream {
    enum stream_state state;
    struct position last; /* the newest message delivered here */
    uint64_t seen;        /* REPAIRING: the newest offset heard of */
    uint64_t asked;       /* REPAIRING: seen, when the page under way was asked for: that page must have it */
    uint64_t ahead;       /* what was read from the log up to here may still arrive live */
    uint64_t ahead_ms;    /* when that was read */
    struct link held;     /* REPAIRING: ENTER and EXIT, which are in no log */
    uint32_t held_count;
    bool reading;                          /* a page has been asked for */
    bool beginning, asking;                /* somebody waits for where it is; the store is being asked */
    bool outage;                           /* the store has been away since the log was last compared with */
    bool seeking;                          /* REPAIRING: a fork; looking for where it began */
    uint64_t sought;                       /* seeking: the log has been read up to here */
    struct position common;                /* seeking: the newest position found in both; offset 0: none yet */
    struct position before;                /* REPAIRING: what stands before the message that showed the need; */
    bool has_before;                       /* false: no message did */
    struct position recent[STREAM_RECENT]; /* the newest messages, by offset */
    struct tail tail;
    struct forks forks;
};

void stream_init(struct stream *s);
void stream_fini(struct stream *s);

/* True: deliver e now. False: it is a duplicate, or waits for a repair. */
bool stream_take(struct room *r, const struct envelope *e);

/* Where the room is shows with the first thing that arrives; in rooms that nobody enters that may take a while. True: it is known; else the store is asked, and room_begun()
 * follows. The room must be subscribed. */
bool stream_begin(struct room *r);

/* Compares with the log even if nothing new arrives. */
void stream_check(struct room *r);
/* The link to the store was lost for a while, so that is due; and the store may be another one. */
void stream_outage(struct room *r);
/* Goes on with what could not be read. */
void stream_retry(struct room *r);

#endif
