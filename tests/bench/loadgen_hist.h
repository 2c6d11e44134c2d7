/* loadgen_hist.h: a latency histogram with log-linear buckets.
 *
 * Every power of two is cut into 64 equal buckets, so a reported value is at most 1.6 % above the true one. Recording
 * costs a shift and an increment; no allocation ever. Values are nanoseconds. */
#ifndef XD_BENCH_HIST_H
#define XD_BENCH_HIST_H

#include <stdint.h>

#define HIST_SUB_BITS 6
#define HIST_SUB      (1u << HIST_SUB_BITS)
#define HIST_POWERS   36 /* up to 2^41 ns, half an hour; anything above lands in the last bucket */

struct hist {
    uint64_t count, max;
    uint64_t buckets[HIST_POWERS][HIST_SUB];
};

void hist_reset(struct hist *h);
/* Upper edge of the bucket in which the share `quantile` (0..1] of all values is reached; 0 when there are none. */
uint64_t hist_quantile(const struct hist *h, double quantile);

static inline void hist_add(struct hist *h, uint64_t value)
{
    unsigned power = 0;
    if (value >= HIST_SUB)
        power = 64u - (unsigned)__builtin_clzll(value) - HIST_SUB_BITS;
    if (power >= HIST_POWERS)
        power = HIST_POWERS - 1;
    /* power 0 holds 0..63 exactly; power p holds 64·2^(p-1) .. 128·2^(p-1) - 1 in steps of 2^(p-1). */
    unsigned shift = power == 0 ? 0 : power - 1;
    h->buckets[power][(value >> shift) & (HIST_SUB - 1)]++;
    h->count++;
    if (value > h->max)
        h->max = value;
}

#endif
