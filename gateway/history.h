/* gateway/history.h: the command `history`. */
#ifndef XD_HISTORY_H
#define XD_HISTORY_H

#include "base/error.h"
#include "gateway/protocol/protocol.h"

struct session;

/* Answers with the messages, each carrying the command's id, then an ack: position of the last one, and whether there are more. */
enum err history_run(struct session *s, const struct command *c, struct error *reterr);

#endif
