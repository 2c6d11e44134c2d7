/* gateway/event_json.h: an event of the store as the JSON that a backend receives (docs/backend.md). */
#ifndef XD_EVENT_JSON_H
#define XD_EVENT_JSON_H

#include "base/buf.h"
#include "broker/broker.h"

/* Appends an object. `data` (unless it is binary: base64 then) and `attributes` are JSON values and stay as they are, `time` is a number, everything else a string. The
 * store is shared: what is not JSON or not UTF-8, where it must be, is left out. */
void event_json(const struct event_entry *e, struct buf *ret);

/* The value of that field, or nothing. */
struct slice event_field(const struct event_entry *e, const char *name);

/* Appends s as a JSON string of base64. */
void json_base64(struct buf *ret, struct slice s);

#endif
