/* gateway/repeats.h: requests of other nodes that came twice, as the store may bring them. Every node numbers its own, upwards; a connection has one GET and one POST at a time. */
#ifndef XD_REPEATS_H
#define XD_REPEATS_H

#include <stdbool.h>

#include "base/slice.h"

/* Zero-initialised: none has come. */
struct repeats {
    struct asker *askers;
    uint32_t count;
};

/* Has this one come before? One that nobody numbered, 0, has not. */
bool repeats_is(struct repeats *r, struct slice node, bool post, uint64_t number);
void repeats_fini(struct repeats *r);

#endif
