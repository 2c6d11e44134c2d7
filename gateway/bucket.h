/* gateway/bucket.h: a token bucket: so many per second, and a burst after a pause. Integers only; the clock is the caller's.
 *
 * A zeroed bucket is full. Rate and burst are given with each call, so that a reload needs no walk over all sessions. */
#ifndef XD_BUCKET_H
#define XD_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

struct bucket {
    uint64_t used;  /* millionths of a token that are taken and not refilled yet */
    uint64_t at_us; /* when `used` was right */
};

/* Takes one token if there is one. rate: tokens per second, 0: no limit. burst: how many may be taken at once, 0: as many as rate. A clock that
 * steps back refills nothing. */
bool bucket_take(struct bucket *b, uint32_t rate, uint32_t burst, uint64_t now_us);

/* Microseconds from now until bucket_take would succeed; 0: it would now. */
uint64_t bucket_wait_us(const struct bucket *b, uint32_t rate, uint32_t burst, uint64_t now_us);

#endif
