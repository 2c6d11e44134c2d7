/* tests/support/rollback.h: makes the embedded broker forget the end of a room's log, as a replica does that lacked it when it was promoted. */
#ifndef XD_TESTS_ROLLBACK_H
#define XD_TESTS_ROLLBACK_H

#include "broker/broker.h"

/* What is behind `offset` is gone: messages, head, idempotency keys. 0: all that was ever said. */
void rollback(struct broker *b, struct slice room, uint64_t offset);
/* The other way round: the last message of the log is the one that was at this position before. */
void roll_forward(struct broker *b, struct slice room, const struct position *position);

#endif
