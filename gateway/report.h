/* gateway/report.h: telling the backend what happens to sessions: through the store's events (docs/backend.md), in the session's order.
 *
 * One report of a session is under way at a time; what the store could not be told is told again, and until it knows, the session leaves the store neither
 * for its end nor for another node. A session that was never reported (it was given up for another one, or events are off) has no reports. */
#ifndef XD_REPORT_H
#define XD_REPORT_H

#include "base/list.h"
#include "broker/broker.h"
#include "gateway/protocol/protocol.h"

struct gateway;
struct member;
struct session;

#define REPORT_REASON_MAX 24

/* What a session has still to report. */
struct reports {
    struct link in_gateway; /* gateway->reporting while there is something */
    struct link queue;
    struct session *session;
    uint32_t count;
    unsigned failures; /* of the first one, that were not the store's absence */
    bool busy;
    char reason[REPORT_REASON_MAX]; /* of the end */
};

/* From here on the session's end is reported, and what policies want. */
void report_begin(struct session *s);
/* report_begin, and `connect`; once. To be called before the store learns of the session, if it is known by then that it will be used. */
void report_connect(struct session *s);
/* The store had given it up, and has it again. */
void report_connect_again(struct session *s);
/* Its policy wants it, or nothing happens: a client has become a member, has ceased to be one. */
void report_join(struct member *m);
void report_leave(const struct member *m);

/* What the client of a tunnel has said to its business server. */
void report_tunnel_message(struct session *s, struct slice content);

/* A message that was not published yet; NULL when policy does not want it. Borrows nothing. */
struct report *report_message_new(struct session *s, struct slice room, const struct command *c);
/* It is published: completes when the store has the report, or could not take it for now; then it is told again all the same. */
void report_message(struct report *r, const struct position *position, broker_done *done, void *arg);
void report_free(struct report *r);

/* Why it ends, a word; the first one counts. */
void report_reason(struct session *s, struct slice reason);
/* For broker's session_remove; empty when nobody knows of the session. */
struct slice report_end(const struct session *s);
bool report_pending(const struct session *s);

/* Tries again what could not be told. */
void reports_retry(struct gateway *g);
/* The store is gone for good. */
void reports_abandon(struct gateway *g);
void reports_free(struct reports *q);

#endif
