/* gateway/net/proxy.h: the PROXY protocol, versions 1 and 2: a load balancer's word on who the client is. Pure. */
#ifndef XD_PROXY_H
#define XD_PROXY_H

#include <stddef.h>

#include "gateway/net/peers.h"

#define PROXY_MAX 2048 /* a longer header (type-length-values of version 2) is refused */

enum proxy_result {
    PROXY_DONE, /* a complete header */
    PROXY_MORE, /* so far it looks like one */
    PROXY_NONE, /* these bytes are something else */
    PROXY_BAD,
};

struct proxy_header {
    size_t length; /* of the header; what follows is the client's */
    bool local;    /* the proxy speaks for itself (health check), or does not know: keep the socket's address */
    struct peer_address address;
    uint16_t port;
};

/* Looks at the first bytes of a connection. *ret is filled with DONE, *ret_why (constant) with BAD. */
enum proxy_result proxy_parse(const char *p, size_t n, struct proxy_header *ret, const char **ret_why);

#endif
