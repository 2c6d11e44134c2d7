/* gateway/admit.h: may this user, with this token, be here? The store knows who is banned and which tokens are revoked. Asked for every session before its
 * welcome, together with the joining of its own rooms, so that it costs no time; and for every token that replaces another. Without the store nobody is let in. */
#ifndef XD_ADMIT_H
#define XD_ADMIT_H

#include "broker/broker.h"

struct auth_claims;
struct gateway;
struct session;

/* What to ask; borrows from both. claims NULL: there is no token. */
struct admission admit_question(struct slice user, const struct auth_claims *claims);

/* What the answer means for a client: OK, ERR_BANNED or ERR_UNAUTHORIZED, counted and logged, or why it is not known; else *reterr is a sentence for it. */
enum err admit_verdict(const struct broker_result *r, struct slice user, const char *ip, struct error *reterr);

/* Tells a session's client that it is banned, in answer to the frame with this id (or none), and closes; the session ends, others see EXIT `kicked`. */
void admit_ban(struct session *s, const struct broker_result *r, struct slice id, const struct error *error);

/* Asks for a session that begins; it goes on, or ends, when the answer is there. */
void admit_session(struct session *s);
/* Asks again for one that is here, at once: what the store has said may be older than a verdict that has been heard. */
void admit_again(struct session *s);
/* Is nothing asked of s, or to be asked, that may end it? */
bool admit_is_certain(const struct session *s);

/* Somebody was banned, or tokens were revoked: the sessions of this node that it may concern are asked for again, at once. Who is banned is told so and ends; who
 * has a revoked token is closed like one whose token has expired. */
void admit_verdict_came(struct gateway *g, const struct envelope *e);
/* All sessions are, one after another: some hundred a second. For when such news may have been lost. */
void admit_all_again(struct gateway *g);
/* Of gateway->recheck. */
void admit_on_timer(struct timer *t);

#endif
