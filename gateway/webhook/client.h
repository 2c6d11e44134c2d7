/* gateway/webhook/client.h: POSTs to one URL, over a few connections that are kept.
 *
 * One loop, one thread. A completion is called exactly once, from the loop, never from inside a call, and for each request within its time. A request that met a
 * kept connection just as the other side closed it is sent once more on another one; whoever gets it twice knows it by the id in its body.
 * OpenSSL writes without MSG_NOSIGNAL: the process must ignore SIGPIPE. */
#ifndef XD_WEBHOOK_CLIENT_H
#define XD_WEBHOOK_CLIENT_H

#include "base/buf.h"
#include "base/loop.h"
#include "gateway/webhook/url.h"

struct http_client;
struct tls_client;

struct http_client_config {
    const struct webhook_url *url; /* borrowed */
    const struct tls_client *tls;  /* borrowed; NULL for http */
    uint32_t connections;          /* at most */
    uint32_t waiting;              /* requests that may wait for one; over it they fail */
};

struct http_result {
    int status;        /* 0: there was no answer, why says why not */
    const char *why;   /* borrowed */
    struct slice body; /* borrowed */
    bool late;         /* its time was over */
    uint32_t retry_after_s;
};

typedef void http_done(void *arg, const struct http_result *r);

struct http_client *http_client_create(struct loop *loop, const struct http_client_config *cfg);
/* Completes what is under way, with status 0. NULL-safe, clears the pointer. Not from within a completion. */
void http_client_destroy(struct http_client **c);

/* Takes the bytes of request: head and body. */
void http_client_post(struct http_client *c, struct buf *request, uint32_t timeout_ms, http_done *done, void *arg);

/* Open connections. */
uint32_t http_client_connections(const struct http_client *c);

#endif
