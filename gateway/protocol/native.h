/* gateway/protocol/native.h: the two halves of the native protocol (docs/protocol.md), for protocols.c. */
#ifndef XD_NATIVE_H
#define XD_NATIVE_H

#include "gateway/protocol/protocol.h"

bool native_heartbeat(struct slice frame, bool binary, struct slice *ret_answer);
enum err native_decode(struct slice frame, bool binary, struct arena *a, struct command *ret, struct error *reterr);
void native_encode(const struct event *e, struct buf *ret);

/* For protocols that carry the same JSON in packets of their own. */

/* Appends what native_encode() puts into its frame; the data of a message must be JSON. */
void native_encode_json(const struct event *e, struct buf *ret);
/* Decodes the members of a command from one JSON object, as if its type was `kind` and it came in a text frame. Its `id` is ignored. */
enum err native_decode_members(enum command_kind kind, struct slice object, struct arena *a, struct command *ret,
                               struct error *reterr);

#endif
