/* gateway/resume.h: a session that is to be taken up again: what its client presented, then what the store answered. For resume.c and recover.c. */
#ifndef XD_RESUME_H
#define XD_RESUME_H

#include "gateway/session.h"

struct resume {
    struct gateway *gw;
    struct start start;
    struct request *request; /* of the session that asked; NULL with `recovers` once that is over */
    char sid[SID_LEN + 1], token[TOKEN_LEN + 1];
    size_t position_count, room_count;
    struct command_position *positions; /* rooms are owned */
    struct slice *rooms;                /* owned */
    struct slice watches;               /* owned */
    /* A Socket.IO client that has not been welcomed yet (recover.c): */
    bool recovers, lost; /* lost: something has been missed that cannot be told any more; */
    bool unknown;        /* or the store did not say */
    bool
        moved; /* its client has not been away: its connection was at another node, which told how far it was (polling_take.c) */
    struct position alone;     /* moved: the last message that was for it alone */
    struct slice offset, user; /* what it presented; who it is now; owned */
    struct slice began;        /* where it had begun, by its pid: its offset until it has another; owned */
    uint32_t checks;           /* rooms that the store is being asked about */
};

struct resume *resume_create(struct gateway *g, struct slice sid, struct slice token);
/* Asks the store for the session. r->request is that of whoever wants it. */
void resume_ask(struct resume *r);
/* Instead of those that it has. Rooms are copied. */
void resume_set_positions(struct resume *r, const struct command_position *positions, size_t count);
struct slice resume_own(struct slice s);
/* What it says that it has been told of the room, or NULL. */
const struct seen *resume_seen(const struct resume *r, struct slice room);

#endif
