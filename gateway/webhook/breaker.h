/* gateway/webhook/breaker.h: a circuit breaker keeps those away from a server who would only wait. After some failures in a row nobody asks for a while; then one request
 * at a time tries, and each that fails too makes the while twice as long. */
#ifndef XD_WEBHOOK_BREAKER_H
#define XD_WEBHOOK_BREAKER_H

#include "base/loop.h"

#define BREAKER_MIN_MS 500u /* the first while, and what a request that tries may take to tell */

struct breaker {
    struct loop *loop;
    const char *whom;  /* for logs: host and port */
    uint32_t failures; /* in a row */
    uint32_t open_ms;  /* 0: closed; else open until open_until_ms, and after that half open */
    uint64_t open_until_ms;
    uint64_t failed, opened; /* since ever */
    bool probing;
    struct timer half;
    void (*changed)(void *arg); /* NULL: nobody wants to know */
    void *arg;
};

/* whom is borrowed for its life. */
void breaker_init(struct breaker *b, struct loop *loop, const char *whom);
/* Calls nobody any more. */
void breaker_fini(struct breaker *b);

/* How long until somebody may ask; 0: now. */
uint32_t breaker_wait_ms(const struct breaker *b);

/* Somebody asks. What it returns is to be said at the end, of which there is one: it has worked, or failed, for this reason. */
bool breaker_begin(struct breaker *b);
void breaker_worked(struct breaker *b, bool probe);
void breaker_failed(struct breaker *b, bool probe, const char *why);

#endif
