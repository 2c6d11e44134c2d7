/* gateway/webhook/backend.h: the backend as the gateway sees it: signed POSTs of JSON, and a circuit breaker that keeps those away who would only wait.
 *
 * Every request has the headers Xindao-Timestamp (Unix seconds) and Xindao-Signature: `v1=<hex>`, HMAC-SHA256 over `<timestamp>.<body>`; with two keys both signatures,
 * the first key's first, with a comma between. docs/backend.md tells how to check them. */
#ifndef XD_WEBHOOK_BACKEND_H
#define XD_WEBHOOK_BACKEND_H

#include "base/buf.h"
#include "base/error.h"
#include "base/loop.h"

#define BACKEND_KEYS_MAX 2u
#define BACKEND_KEY_MIN  32u /* bytes */
#define BACKEND_KEY_MAX  512u

struct backend;

/* All borrowed while the backend lives. */
struct backend_config {
    const char *url, *secret_file, *ca; /* secret_file: NULL: requests are not signed by headers; ca may be NULL */
    const char *version;                /* for User-Agent */
    uint32_t connections, waiting, timeout_ms;
};

struct backend_stats {
    uint64_t requests, failures, opened; /* sent; without an answer or with 5xx or 429; times the breaker opened */
    uint64_t open, connections;          /* gauges */
    uint64_t us_sum;                     /* from asking to the answer */
};

struct backend_result {
    enum err err;      /* OK: it has answered, whatever; ERR_BACKEND_UNAVAILABLE, ERR_BACKEND_TIMEOUT */
    int status;        /* OK only: below 500 */
    const char *why;   /* when err is not OK; borrowed */
    struct slice body; /* OK only; borrowed */
    uint32_t retry_ms; /* when err is not OK: not before so long */
};

typedef void backend_done(void *arg, const struct backend_result *r);

/* NULL with *reterr, which names the option that is wrong. Connects when there is something to say. */
struct backend *backend_create(struct loop *loop, const struct backend_config *cfg, struct error *reterr);
/* Completes what is under way with ERR_BACKEND_UNAVAILABLE. NULL-safe, clears the pointer. */
void backend_destroy(struct backend **b);
/* Reads the keys again; on failure the old ones stay. */
enum err backend_reload(struct backend *b, struct error *reterr);

/* Completes once, from the loop, within the timeout; at once (but from the loop) while the breaker is open. body: JSON; id: of what it tells, for a header. */
void backend_post(struct backend *b, struct slice id, struct slice body, backend_done *done, void *arg);

/* How long until it may be asked again: 0: now. */
uint32_t backend_closed_for_ms(const struct backend *b);
/* Called whenever backend_closed_for_ms() may have become 0, or was and is not; for those who would wait. */
void backend_on_change(struct backend *b, void (*changed)(void *arg), void *arg);

const struct backend_stats *backend_stats(struct backend *b);

#endif
