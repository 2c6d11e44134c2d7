/* gateway/room.h: a room on this node: its local members, grouped by protocol, and the batch each group is about to be sent.
 *
 * A message is encoded once per group and appended to the group's batch; the batch goes to every member as one shared, refcounted run of bytes when
 * no more input is ready, 2 ms have passed, or 64 KB are full. Whenever membership changes the batches are flushed first, so that every member sees
 * exactly what belongs to its time in the room.
 *
 * A member's view begins at its own ENTER, which arrives in the room's order like any message (broker/broker.h). */
#ifndef XD_ROOM_H
#define XD_ROOM_H

#include "base/list.h"
#include "base/loop.h"
#include "base/table.h"
#include "gateway/bucket.h"
#include "gateway/policy.h"
#include "gateway/protocol/protocol.h"
#include "gateway/stream.h"

struct gateway;
struct session;

/* JOINING: waits for the subscription, then for its ENTER. LEAVING: gets nothing more; the store has not confirmed yet. */
enum member_phase { MEMBER_JOINING, MEMBER_JOINED, MEMBER_LEAVING };

struct member {
    struct link in_room;    /* on room->waiting (JOINING) or room->behind (JOINED), else unlinked */
    struct link in_session; /* session->members */
    struct session *session;
    struct room *room;
    struct audience *audience; /* JOINED only; there at audience->seats[seat] */
    uint32_t seat;
    enum member_phase phase;
    bool busy;               /* a leave is under way in the store */
    bool stale;              /* JOINED, but the store has forgotten it */
    bool suspend;            /* LEAVING: only this node's view ends, the membership stays as suspended */
    bool implicit;           /* $all and $user: rooms: not in the room's member list of the store */
    enum exit_reason reason; /* LEAVING: what to tell the others */
    struct request *request; /* the join to be answered; NULL when none */
    struct catchup *catchup; /* JOINING, ENTER heard: being told what it missed, or has not read yet */
    bool returning;          /* has been here before: catch up from `seen` */
    /* Implicit: */
    bool inbox; /* of a room that keeps what it cannot deliver (gateway/inbox.h): waits until its session is welcome */
    bool kept;  /* its client goes on from where it was: an inbox, or a common room (gateway/common.h) */
    bool counted;   /* its session does not wait for it any more */
    bool from_read; /* catch up from where its user has read to */
    bool presented; /* its session was resumed: its client knows how far it has been told */
    bool
        quiet; /* its session was at another node until now: its client has never been away, and is told only of what is missing */
    bool reported; /* has become a member: the backend hears of it when it is one no more */
    bool has_seen;
    struct seen seen;
    /* What it has seen of branches that were lost since (gateway/fork.h): everything after `entered` on `branch`, everything on later ones before
     * `branch_end`; */
    uint32_t branch, branch_end;
    uint64_t entered;
    uint64_t lost_since, lost_to; /* and what it said it had seen when it came back; lost_to 0: nothing */
    bool whole;                   /* it has missed nothing before it was activated */
};

/* One member, and what a delivery to it begins with. */
struct seat {
    struct member *member;
    struct session *session;
};

/* Members that share encoded bytes, in no order. An array, because a large room is many cache misses: they can be asked for ahead. */
struct audience {
    struct link in_room;
    const struct protocol_ops *protocol;
    struct seat *seats;
    uint32_t count, cap;
    struct buf batch;
    uint32_t batched; /* room messages in the batch */
    /* Of Socket.IO clients, who may come back with what they have been told (gateway/trail.h): */
    bool tracked,
        recovers; /* recovers: they are told with every message how far they have been told of their other rooms, too */
    uint32_t *starts; /* where the messages in the batch begin */
    uint32_t start_count, start_cap;
    struct position told, batch_end; /* the last message that they have been sent, and the last one in the batch */
};

enum room_subscription { ROOM_UNSUBSCRIBED, ROOM_SUBSCRIBING, ROOM_SUBSCRIBED };

struct room {
    UT_hash_handle hh;
    struct gateway *gw;
    struct slice name; /* points behind the struct */
    const struct policy *policy;
    struct link audiences, waiting;
    struct link behind; /* members whose queue is full, and who are to read on from the log */
    uint32_t refs;      /* members of any phase, and requests under way */
    uint32_t expecting; /* sessions on their way here that are in it: what is said is kept, log or not */
    enum room_subscription subscription;
    struct bucket rate;
    struct task flush;
    struct stream stream;
    uint64_t total; /* members in the cluster, as last heard */
};

/* It counts as a member for all others, although it may not hear the room live at the moment. */
static inline bool member_is_in(const struct member *m)
{
    return m->phase == MEMBER_JOINED || m->catchup != NULL;
}

/* Nobody else doubts that it is a member: one of a session that was resumed is, while it is on its way back. */
static inline bool member_may_publish(const struct member *m)
{
    return member_is_in(m) || (m->phase == MEMBER_JOINING && m->returning && m->request == NULL);
}

/* The room of that name; created and being subscribed when there is none. Returns a reference. */
struct room *room_get(struct gateway *g, struct slice name);
/* Borrowed, or NULL. */
struct room *room_find(const struct gateway *g, struct slice name);
/* The offset of the last message that this node has delivered of that room; 0: none. */
uint64_t room_delivered(const struct gateway *g, struct slice name);
void room_ref(struct room *r);
/* The last reference unsubscribes and frees. */
void room_unref(struct room *r);

/* A session of another node is about to come here: until room_expect_no_more(), and then some seconds, what is said in the room is at hand. Returns a reference, which that takes back. */
struct room *room_expect(struct gateway *g, struct slice name);
void room_expect_no_more(struct room *r);

/* For every member of this node; fn may change no membership. */
void room_each_session(const struct room *r, void (*fn)(struct session *s));

/* Begins membership. It is JOINED when its ENTER arrives. */
struct member *room_join(struct room *r, struct session *s, struct request *request);
/* An implicit one: JOINED as soon as the room is subscribed. seen: not NULL for a session that was at another node, where it has been told everything up to there. */
struct member *room_join_implicit(struct room *r, struct session *s, const struct seen *seen);

/* The member hears the room from here on. */
void member_activate(struct member *m);

/* The same for a session that was a member before: it is told what it missed after what it has seen (NULL: it does not know) before it hears the room live. */
struct member *room_return(struct room *r, struct session *s, const struct seen *seen, struct request *request);
/* The same from where the session's user has read to. */
struct member *room_read_on(struct room *r, struct session *s, struct request *request);

/* Ends the member's view now; the store is told, and told again until it confirms; then the member is freed. request (or NULL) is answered when the store
 * answered for the first time. A member already LEAVING is tried again. */
void member_leave(struct member *m, enum exit_reason reason, struct request *request);

/* The session is being parked: ends the member's view; the store is told that it is suspended, or, if it was not in yet, that it is not. */
void member_suspend(struct member *m);

/* A session that was a member in the store leaves, without having been one here. */
void room_quit(struct room *r, struct session *s, enum exit_reason reason);

/* Forgets a member without telling the store (implicit ones, and after a failed join). */
void member_free(struct member *m);

/* What arrived from the broker for this room. */
void room_envelope(struct room *r, const struct envelope *e);
/* Where its stream begins here is known (stream_begin()). */
void room_begun(struct room *r);
/* The stream has moved on: members that are being caught up may be level with it. */
void room_step_catchups(struct room *r);
/* The stream goes on after `since` on another branch of history: everybody here is told. */
void room_forked(struct room *r, const struct position *since);
/* What stream.c has put in order. */
void room_deliver(struct room *r, const struct envelope *e);

/* After the link to the store came back: joins that never heard their ENTER are asked again. */
void room_link_up(struct room *r);
/* Tells the store again what it may not know: a leave it has not confirmed, a membership it has forgotten. */
void member_retry(struct member *m);
/* Policies were replaced. */
void room_reload(struct room *r);

#endif
