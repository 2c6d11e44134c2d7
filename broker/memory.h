/* broker/memory.h: the embedded broker's state: requests in order of arrival, rooms, sessions, users, idempotency keys. */
#ifndef XD_BROKER_MEMORY_H
#define XD_BROKER_MEMORY_H

#include "base/list.h"
#include "base/table.h"
#include "broker/internal.h"

struct memory;

/* A request waiting for its turn; a retained publish lives on as the entry of its room's log. */
struct op {
    struct link link;
    void (*run)(struct memory *m, struct op *op);
    broker_done *done;
    void *arg;
    size_t size;
    struct publish
        p; /* its slices point into bytes; other requests use room, from (a session), user and data (a cursor) */
    uint32_t limit;
    enum exit_reason reason;
    struct position position; /* of the message; for history where to read from */
    uint64_t time_ms;
    char bytes[];
};

struct member {
    UT_hash_handle hh; /* in the order of joining, which is the order of seq */
    uint64_t seq, since_ms;
    struct slice sid, user;
    char bytes[];
};

struct room {
    UT_hash_handle hh;
    struct link all;      /* m->rooms_all, rotated by the sweep */
    struct link occupied; /* m->occupied while it has members, in the order of seq */
    struct link vacant;   /* m->vacant while it has neither members nor a subscription, longest vacant first */
    uint64_t seq, vacant_ms;
    uint64_t keep_ms; /* how long it is remembered while vacant */
    uint64_t log_age_ms;
    struct position head;
    struct member *members;
    struct link log;
    size_t log_count;
    bool subscribed;
    struct slice name;
    char bytes[];
};

struct session {
    UT_hash_handle hh;
    struct user *user; /* NULL when it belongs to nobody */
    struct position head;
    size_t n;
    char sid[];
};

struct user {
    UT_hash_handle hh;
    uint64_t sessions;
    char id[];
};

struct once {
    UT_hash_handle hh; /* by room, NUL, idempotency key */
    struct link link;  /* oldest first */
    uint64_t expires_ms;
    struct position position;
    char key[];
};

struct memory {
    struct broker b;
    struct task task;
    struct timer sweep;
    struct link queue;
    bool up, dispatching;
    char *node;
    uint32_t queue_bytes, queue_commands, once_ttl_ms;
    uint64_t next_seq;
    struct room *rooms;
    struct link rooms_all, occupied, vacant;
    size_t vacant_count;
    struct session *sessions;
    struct user *users;
    struct once *once;
    struct link once_list;
};

/* Finds the room, making it when there is none. */
struct room *memory_room(struct memory *m, struct slice name);
/* NULL when nobody ever used it, or it was forgotten. */
struct room *memory_room_find(struct memory *m, struct slice name);
/* To be called after every change of members or subscription, and after every publish. */
void memory_room_touch(struct memory *m, struct room *r);
void memory_room_free(struct memory *m, struct room *r);
/* Forgets some of what is too old: a bounded piece of work. */
void memory_sweep(struct memory *m);

/* Takes op as the newest entry of the room's log, drops what is over op's retention. */
void memory_log_append(struct memory *m, struct room *r, struct op *op);

/* Both idempotent; the result tells whether the membership changed. */
bool memory_member_add(struct memory *m, struct room *r, struct slice sid, struct slice user);
bool memory_member_remove(struct memory *m, struct room *r, struct slice sid);

/* Pages, given to op's completion. */
void memory_run_presence(struct memory *m, struct op *op);
void memory_run_rooms(struct memory *m, struct op *op);
void memory_run_history(struct memory *m, struct op *op);

/* The position published first under this key, or NULL. */
const struct position *memory_once_find(struct memory *m, struct slice room, struct slice key);
void memory_once_add(struct memory *m, struct slice room, struct slice key, const struct position *position);
void memory_once_clear(struct memory *m);

#endif
