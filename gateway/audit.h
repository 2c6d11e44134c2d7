/* gateway/audit.h: does the store still know what it was told of this node's sessions? A failover, or a Redis that lost the end of its file, may have taken some of it
 * back. Sessions and memberships that the store has forgotten it is told again, rooms that a session has left it leaves again. */
#ifndef XD_AUDIT_H
#define XD_AUDIT_H

struct gateway;
struct timer;

/* All sessions are compared, one after another: some hundred a second. For when the link to the store was lost, or part of the store was away. */
void audit_all(struct gateway *g);
/* Of gateway->audit: goes on with it; begins now and then without a reason. */
void audit_on_timer(struct timer *t);

#endif
