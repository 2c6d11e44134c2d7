/* proto/position.h: where a message stands in its room, and how that is written everywhere: `41.Qn4wXk2_`.
 *
 * The offset counts a room's messages 1, 2, 3… without holes; the tag names the message, so that two histories which part from each other cannot be
 * mistaken for one. Before the first message a room is at `0`. */
#ifndef XD_PROTO_POSITION_H
#define XD_PROTO_POSITION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

#define TAG_LEN      8 /* letters of base64url: 48 random bits; they only have to differ between branches of one room */
#define OFFSET_MAX   ((1ull << 53) - 1) /* what JavaScript and Lua count exactly */
#define POSITION_MAX (16 + 1 + TAG_LEN) /* letters */

struct position {
    uint64_t offset;
    char tag[TAG_LEN + 1]; /* NUL-terminated; empty when offset is 0 */
};

/* Is it TAG_LEN letters of base64url? */
bool tag_valid(struct slice s);

/* Nothing but `0` or `<offset>.<tag>`. *ret is untouched otherwise. */
bool position_parse(struct slice s, struct position *ret);

void position_append(struct buf *ret, const struct position *p);

#endif
