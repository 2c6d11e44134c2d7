/* loadgen_hist.c: reading a log-linear histogram. */
#include "loadgen_hist.h"

#include <string.h>

void hist_reset(struct hist *h)
{
    memset(h, 0, sizeof *h);
}

static uint64_t hist_bucket_edge(unsigned power, unsigned sub)
{
    if (power == 0)
        return sub;
    return ((uint64_t)(HIST_SUB + sub + 1) << (power - 1)) - 1;
}

uint64_t hist_quantile(const struct hist *h, double quantile)
{
    if (h->count == 0)
        return 0;
    uint64_t wanted = (uint64_t)((double)h->count * quantile + 0.5), seen = 0;
    if (wanted == 0)
        wanted = 1;
    for (unsigned power = 0; power < HIST_POWERS; power++)
        for (unsigned sub = 0; sub < HIST_SUB; sub++) {
            seen += h->buckets[power][sub];
            if (seen >= wanted) {
                uint64_t edge = hist_bucket_edge(power, sub);
                return edge < h->max ? edge : h->max;
            }
        }
    return h->max;
}
