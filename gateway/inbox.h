/* gateway/inbox.h: what is sent to a user and kept until he has it: $user:<id> where the policy retains it; and how far users have read.
 *
 * The inbox is a room whose log a new session is told from where its user has read to, or from its beginning; whoever resumes a session goes on from his
 * position, as in any room. Where that is in the room's order shows an envelope READ, as the ENTER does elsewhere (broker/broker.h). */
#ifndef XD_INBOX_H
#define XD_INBOX_H

#include "broker/broker.h"
#include "gateway/protocol/protocol.h"

struct member;
struct room;
struct session;

/* Is what is sent to this user kept? */
bool inbox_keeps(const struct room *r);

/* Its room is subscribed: an implicit member that waits. Called again when that may have been lost. */
void inbox_start(struct member *m);
/* The session is welcome: it is told what is in its inbox. seen: what a session that was resumed has seen of it, NULL: it does not say. */
void inbox_welcome(struct session *s, bool resumed, const struct seen *seen);
/* Asks again for what the store could not tell. */
void inbox_retry(struct member *m);

/* An envelope READ, in its place in the room's order. */
void inbox_read(struct room *r, const struct envelope *e);

/* commands.c */
enum err inbox_run_read(struct session *s, const struct command *c, struct error *reterr);

#endif
