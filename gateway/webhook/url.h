/* gateway/webhook/url.h: where the backend is: http(s)://HOST[:PORT][/PATH][?QUERY]. */
#ifndef XD_WEBHOOK_URL_H
#define XD_WEBHOOK_URL_H

#include <stdint.h>

#include "base/error.h"

#define WEBHOOK_URL_MAX 2048u

struct webhook_url {
    bool tls;
    uint16_t port;
    char *host;      /* without the brackets of an IPv6 address */
    char *authority; /* as the Host header says it */
    char *target;    /* path and query, begins with a slash */
};

/* *reterr says what is wrong; nothing is to be freed then. */
enum err webhook_url_parse(const char *text, struct webhook_url *ret, struct error *reterr);
void webhook_url_fini(struct webhook_url *u);

#endif
