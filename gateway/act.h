/* gateway/act.h: what backends want done, carried out: the same for the server API, for actions in answers and for commands in the store. */
#ifndef XD_ACT_H
#define XD_ACT_H

#include "broker/broker.h"
#include "gateway/api_body.h"

struct gateway;

/* One message to one room, or to $user:…, $session:…, $all. A backend may publish anywhere: policies say what clients may. What they say of sizes, retention and
 * durability holds: ERR_TOO_LARGE, and done is not called. */
enum err act_publish(struct gateway *g, const struct api_message *m, struct slice room, broker_done *done, void *arg,
                     struct error *reterr);

#endif
