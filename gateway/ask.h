/* gateway/ask.h: what clients want that the backend decides: calls, and messages in rooms with publish=backend. A session's are asked one after
 * another, each for backend-timeout at most, so that the backend hears them in the order in which they were said. */
#ifndef XD_ASK_H
#define XD_ASK_H

#include "base/error.h"
#include "base/slice.h"

struct command;
struct session;

/* The backend's answer becomes the ack. */
enum err ask_call(struct session *s, const struct command *c, struct error *reterr);

/* The message is published if the backend agrees, perhaps with other data. Everything but its consent has been checked. */
enum err ask_publish(struct session *s, const struct command *c, struct slice room, struct error *reterr);

#endif
