/* gateway/crowd.h: sessions that are named together: those in a room, of a user, at a node, in a namespace of Socket.IO. What the store has of them, page by page; no node is
 * asked. */
#ifndef XD_CROWD_H
#define XD_CROWD_H

#include "broker/broker.h"

#define CROWD_ROOMS_MAX  10
#define CROWD_EXCEPT_MAX 100
#define CROWD_LIMIT_MAX  1000
#define CROWD_CURSOR_MAX 300

struct gateway;

enum crowd_by { CROWD_ROOM, CROWD_USER, CROWD_NODE, CROWD_NAMESPACE };
struct crowd {
    enum crowd_by by;
    struct slice name;
};

/* A page of them, in `members`; it may be short, or empty, while there is more. Of a namespace: the sessions of live nodes, one node after another. */
void crowd_page(struct gateway *g, const struct crowd *c, struct slice cursor, uint32_t limit, broker_done *done,
                void *arg);

/* The body of POST /sessions/join, leave and disconnect: {room | user | namespace, rooms, except?, reason?, code?, reconnect_after?, limit?, cursor?}. */
struct crowd_request {
    struct crowd crowd;
    struct slice rooms[CROWD_ROOMS_MAX], except[CROWD_EXCEPT_MAX]; /* except: sessions */
    size_t room_count, except_count;
    struct slice reason, cursor;
    uint32_t code, reconnect_after_ms, limit;
};
/* *ret borrows from body and arena; names are valid. */
enum err crowd_read(struct slice body, struct arena *a, struct crowd_request *ret, struct error *reterr);

#endif
