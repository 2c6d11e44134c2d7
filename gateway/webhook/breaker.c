/* gateway/webhook/breaker.c: when a server that does not work is asked again. */
#include "gateway/webhook/breaker.h"

#include "base/log.h"
#include "base/random.h"

#define FAILURES_MAX 5u
#define MAX_MS       5000u /* so that what has waited comes soon after the server is back */

static void tell_change(const struct breaker *b)
{
    if (b->changed != NULL)
        b->changed(b->arg);
}

static void on_half(struct timer *t)
{
    tell_change(container_of(t, struct breaker, half));
}

void breaker_init(struct breaker *b, struct loop *loop, const char *whom)
{
    *b = (struct breaker){.loop = loop, .whom = whom};
    timer_init(&b->half, loop, on_half);
}

void breaker_fini(struct breaker *b)
{
    b->changed = NULL;
    timer_stop(&b->half);
}

uint32_t breaker_wait_ms(const struct breaker *b)
{
    if (b->open_ms == 0)
        return 0;
    uint64_t now = loop_now_ms(b->loop);
    if (now >= b->open_until_ms)
        return b->probing ? BREAKER_MIN_MS : 0;
    return (uint32_t)(b->open_until_ms - now) + 1;
}

bool breaker_begin(struct breaker *b)
{
    bool probe = b->open_ms != 0;
    b->probing = b->probing || probe;
    return probe;
}

static void open_it(struct breaker *b, const char *why)
{
    bool first = b->open_ms == 0;
    b->open_ms = first ? BREAKER_MIN_MS : b->open_ms * 2 < MAX_MS ? b->open_ms * 2 : MAX_MS;
    uint32_t wait = b->open_ms / 2 + random_below(b->open_ms / 2 + 1);
    b->open_until_ms = loop_now_ms(b->loop) + wait;
    timer_start(&b->half, wait);
    if (first) {
        b->opened++;
        LOG(WARN, "a server does not work; asking it less often", "server=%s failures=%u why=%s",
            log_q(slice_str(b->whom)), b->failures, log_q(slice_str(why)));
    }
    tell_change(b);
}

void breaker_failed(struct breaker *b, bool probe, const char *why)
{
    b->probing = b->probing && !probe;
    b->failures++;
    b->failed++;
    if (probe || (b->open_ms == 0 && b->failures >= FAILURES_MAX))
        open_it(b, why);
}

void breaker_worked(struct breaker *b, bool probe)
{
    bool was_open = b->open_ms != 0;
    b->probing = b->probing && !probe;
    b->failures = 0;
    b->open_ms = 0;
    if (!was_open)
        return;
    timer_stop(&b->half);
    LOG(INFO, "a server works again", "server=%s", log_q(slice_str(b->whom)));
    tell_change(b);
}
