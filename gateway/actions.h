/* gateway/actions.h: the actions of an answer of the backend, `"actions":[…]`, carried out one after another (docs/backend.md). */
#ifndef XD_ACTIONS_H
#define XD_ACTIONS_H

#include "base/slice.h"
#include "proto/json.h"

struct gateway;

#define ACTIONS_MAX 64 /* of one answer */

/* Whose answer it is: the id of the event or question makes keys of messages, and the session is meant where an action names none, and whom a `send` without `to` is for.
 * Either may be empty; they are copied. */
struct actions_of {
    struct slice id, session;
};
/* All are over, each in its way; with the gateway's broker gone: the node is stopping, and they are not. */
typedef void actions_done(void *arg);

/* The answer to an event: finds the list in its body, if there is one, and carries it out. True: done is called once, perhaps before this returns. False: there is nothing to
 * be done. What is wrong with it is counted and logged. */
bool actions_of_event(struct gateway *g, struct slice body, const struct actions_of *of, actions_done *done, void *arg);

/* The answer to a question: nobody waits, so there is a bound on how many bytes of them this node has under way; over it they are refused. list: the
 * member `actions` of an answer that is valid, perhaps none. */
void actions_of_answer(struct gateway *g, struct json_value list, const struct actions_of *of);

struct actions;
/* The same for a list that is not to be begun before the session has; NULL: there is nothing to be done. */
struct actions *actions_hold(struct gateway *g, struct json_value list, const struct actions_of *of);
/* Now, or after a pause: session is meant where an action names none; empty: there will be none. done may be NULL. NULL-safe, then done is not called. */
void actions_release(struct actions **pointer, struct slice session, uint32_t pause_ms, actions_done *done, void *arg);

/* Ends those that have not begun; the broker is gone. */
void actions_fini(struct gateway *g);

#endif
