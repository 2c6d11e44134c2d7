/* gateway/sweep.h: everybody out: all sessions of a user end, or all members leave a room and its log goes. */
#ifndef XD_SWEEP_H
#define XD_SWEEP_H

#include "gateway/control.h"

/* OK, or ERR_CONFLICT: they come in faster than they go; or why the last one could not be moved. moved: how many were. */
typedef void sweep_done(void *arg, enum err err, const char *why, uint64_t moved);

/* DISCONNECT: the sessions of the user of this name; LEAVE: the members of the room, whose log then is cleared. Completes once, from the loop. Slices are copied:
 * a name is at most NAME_MAX_ROOM bytes, a reason CONTROL_REASON_MAX. */
void sweep_begin(struct gateway *g, enum control_verb verb, struct slice name, struct slice reason, sweep_done *done,
                 void *arg);

#endif
