/* gateway/doctor/target.h: the URL under examination, and what mini-programs think of it. Pure. */
#ifndef XD_DOCTOR_TARGET_H
#define XD_DOCTOR_TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"
#include "gateway/doctor/report.h"

#define HOST_MAX 253 /* RFC 1035 §3.1 */
#define URL_MAX  4500

struct target {
    char host[HOST_MAX + 1];       /* lower case; an IPv6 address without brackets */
    char authority[HOST_MAX + 10]; /* for Host: with brackets, and with the port unless it is 443 */
    uint16_t port;
    bool secure;  /* https or wss */
    bool literal; /* an address instead of a name */
    struct slice
        path; /* and query, of the WebSocket; borrowed from the URL. The query may hold a token: not to be shown */
};

/* An error is a URL that makes no sense to anybody. */
enum err target_parse(const char *url, struct target *ret, struct error *reterr);

/* One line: would a mini-program or a browser take such a URL at all? */
void target_check(const struct target *t, struct report *r);

#endif
