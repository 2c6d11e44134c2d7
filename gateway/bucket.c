/* gateway/bucket.c: token buckets in exact integer arithmetic: rate tokens per second are rate millionths per microsecond. */
#include "gateway/bucket.h"

#define TOKEN 1000000u

static uint64_t capacity(uint32_t rate, uint32_t burst)
{
    return (uint64_t)(burst != 0 ? burst : rate) * TOKEN;
}

static uint64_t used_at(const struct bucket *b, uint32_t rate, uint64_t now_us)
{
    if (now_us <= b->at_us)
        return b->used;
    uint64_t elapsed = now_us - b->at_us;
    if (elapsed > b->used / rate) /* also keeps the product below from overflowing */
        return 0;
    return b->used - elapsed * rate;
}

bool bucket_take(struct bucket *b, uint32_t rate, uint32_t burst, uint64_t now_us)
{
    if (rate == 0)
        return true;
    uint64_t used = used_at(b, rate, now_us);
    if (used + TOKEN > capacity(rate, burst))
        return false;
    b->used = used + TOKEN;
    if (now_us > b->at_us)
        b->at_us = now_us;
    return true;
}

uint64_t bucket_wait_us(const struct bucket *b, uint32_t rate, uint32_t burst, uint64_t now_us)
{
    if (rate == 0)
        return 0;
    uint64_t used = used_at(b, rate, now_us), room = capacity(rate, burst) - TOKEN;
    return used <= room ? 0 : (used - room + rate - 1) / rate;
}
