/* gateway/protocol/native.h: the two halves of the native protocol (docs/protocol.md), for protocols.c. */
#ifndef XD_NATIVE_H
#define XD_NATIVE_H

#include "gateway/protocol/protocol.h"

bool native_heartbeat(struct slice frame, bool binary, struct slice *ret_answer);
enum err native_decode(struct slice frame, bool binary, struct arena *a, struct command *ret, struct error *reterr);
void native_encode(const struct event *e, struct buf *ret);

#endif
