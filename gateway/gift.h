/* gateway/gift.h: attributes that backends give a session, on whichever node it is. They cover what its token brought, member by member. */
#ifndef XD_GIFT_H
#define XD_GIFT_H

#include "base/buf.h"
#include "base/error.h"

#define GIFT_MAX 4096u /* bytes of them, as JSON */

struct gateway;

/* OK: attributes is what the session has now, of its token and of backends. ERR_NOT_FOUND: no such session; ERR_TOO_LARGE: it would have more than it may;
 * ERR_CONFLICT: others change it all the time. Borrowed until it returns. */
typedef void gift_done(void *arg, enum err err, const char *why, struct slice attributes);

/* Each member of patch, a JSON value that must be an object, takes the place of the given one of its name; null takes it away. OK: done is called once, from
 * the loop; else it is not. Slices are copied. */
enum err gift_give(struct gateway *g, struct slice sid, struct slice patch, gift_done *done, void *arg,
                   struct error *reterr);

/* Appends both as one object; what is none counts as an empty one. */
void gift_merge(struct slice by_token, struct slice given, struct buf *ret);

#endif
