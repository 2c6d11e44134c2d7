/* gateway/act.h: what backends want done, carried out: the same for the server API, for actions in answers and for commands in the store. */
#ifndef XD_ACT_H
#define XD_ACT_H

#include "broker/broker.h"
#include "gateway/action.h"

struct gateway;

/* One message to one room, or to $user:…, $session:…, $all. A backend may publish anywhere: policies say what clients may. What they say of sizes, retention and
 * durability holds: ERR_TOO_LARGE, and done is not called. */
enum err act_publish(struct gateway *g, const struct api_message *m, struct slice room, broker_done *done, void *arg,
                     struct error *reterr);

/* How an action went. */
struct act_result {
    enum err err;
    const char *why;          /* when err is not OK; borrowed until the completion returns */
    struct position position; /* of a message to one room: its place; offset 0: none */
};
typedef void act_done(void *arg, const struct act_result *r);

/* Carries it out. What may succeed later is tried again for half a minute; then the last error counts. Messages without a key have `key`, with which repeating
 * them is as good as saying them once (empty: none); `by` is who bans. Everything is borrowed until done, which is called once, from the loop; with the gateway's
 * broker gone the node is stopping, and what err says does not count. */
void act(struct gateway *g, const struct action *what, struct slice key, struct slice by, act_done *done, void *arg);

/* For gateway.c: the broker is gone and the controls are ended: what waits to be tried again completes. */
void act_fini(struct gateway *g);

#endif
