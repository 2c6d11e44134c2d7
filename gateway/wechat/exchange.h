/* gateway/wechat/exchange.h: asking WeChat whose login code that is (GET <url>/sns/jscode2session). A circuit breaker keeps those away who would only wait. */
#ifndef XD_WECHAT_EXCHANGE_H
#define XD_WECHAT_EXCHANGE_H

#include "base/loop.h"
#include "gateway/wechat/apps.h"

#define WECHAT_CODE_MAX   256u /* bytes */
#define WECHAT_OPENID_MAX 64u

struct wechat;

/* All borrowed while it lives. */
struct wechat_config {
    const char *url, *ca, *version; /* ca may be NULL; version: for User-Agent */
    uint32_t connections, timeout_ms;
};

struct wechat_stats {
    uint64_t requests, failures, opened; /* sent; without a usable answer; times the breaker opened */
    uint64_t us_sum;                     /* from asking to the answer */
};

enum wechat_verdict {
    WECHAT_KNOWN,
    WECHAT_BAD_CODE, /* not one, over, or used before */
    WECHAT_AWAY,     /* cannot be reached, or is busy: to be tried again, with a fresh code */
    WECHAT_REFUSED,  /* says no for another reason: errcode */
    WECHAT_NONSENSE  /* what it says cannot be understood */
};

/* Slices are borrowed, and secret (session_key): never to be logged. */
struct wechat_identity {
    enum wechat_verdict verdict;
    const char *why;                           /* when it is not known; a sentence without secrets */
    int64_t errcode;                           /* of WECHAT_BAD_CODE, WECHAT_REFUSED, perhaps of WECHAT_AWAY */
    struct slice openid, unionid, session_key; /* unionid may be empty */
};

typedef void wechat_done(void *arg, const struct wechat_identity *who);

/* NULL with *reterr, which names the option that is wrong. loop NULL: only to see whether it could be. */
struct wechat *wechat_create(struct loop *loop, const struct wechat_config *cfg, struct error *reterr);
/* Completes what is under way with WECHAT_AWAY. NULL-safe, clears the pointer. */
void wechat_destroy(struct wechat **w);

/* Completes once, from the loop, within the timeout. */
void wechat_exchange(struct wechat *w, const struct wechat_app *app, struct slice code, wechat_done *done, void *arg);

const struct wechat_stats *wechat_stats(struct wechat *w);

/* What WeChat has answered: for exchange.c, tests and fuzzing. Unquoted text lives in arena. */
struct arena;
void wechat_answer_read(int status, struct slice body, struct arena *arena, struct wechat_identity *ret);

#endif
