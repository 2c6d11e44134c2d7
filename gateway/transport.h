/* gateway/transport.h: where the core meets the network. The core never sees a socket; gateway/net never sees a room.
 *
 * gateway/net accepts sockets, does TLS and HTTP, and hands each upgraded connection to the core as a transport. Both directions
 * are plain bytes: "write these", "these arrived". */
#ifndef XD_TRANSPORT_H
#define XD_TRANSPORT_H

#include <sys/types.h>

#include "base/error.h"
#include "base/slice.h"

struct transport;
struct conn;
struct gateway;

struct transport_ops {
    /* Tries to send now. Returns how many of the n bytes were taken; fewer than n (also 0) means that conn_writable() will be called when more
     * can be sent, and that the next write must begin with the very byte this one stopped at (OpenSSL may hold them encrypted already).
     * -1: broken; conn_gone() follows from the loop. Never calls back into the core. */
    ssize_t (*write)(struct transport *t, const char *p, size_t n);

    /* Closes in an orderly way (TLS close_notify, FIN) once the kernel has what was written, within a short time limit. May be called from any
     * depth, more than once; conn_gone() follows from the loop and is the last call for this connection. */
    void (*close)(struct transport *t);

    /* Stops or resumes reading: backpressure on a client that sends faster than the store takes. */
    void (*pause)(struct transport *t, bool paused);
};

struct transport {
    const struct transport_ops *ops;
    const void *writes_with; /* what a write touches next; only a hint for the cache, may be NULL */
};

/* A request, borrowed until the call it is passed to returns. Header names are fixed; the values are as sent, trimmed. */
struct http_request {
    struct slice method, path, query; /* path: percent-decoding is the callee's; begins with '/' */
    struct slice host, origin, user_agent, referer, authorization, subprotocols, accept_encoding, content_type,
        request_id;
    struct slice body;
    struct slice ip;      /* of the client, after PROXY protocol */
    bool by_api_listener; /* it came in where only the API is served */
};

struct http_response {
    int status;
    const char *content_type; /* NULL: application/json; charset=utf-8 */
    const char *headers;      /* extra complete header lines with CRLF, or NULL */
    struct slice body;        /* copied */
    bool compress;            /* worth it, if the client takes gzip */
};

/* A request that waits for its response, which may come later than the call that delivered it. The core answers exactly once; gateway/net copes
 * with the client being gone by then. */
struct http_exchange {
    void (*respond)(struct http_exchange *x, const struct http_response *r);
    /* Set by the core, before the call that delivered the request returns, if it wants to keep it waiting for as long as it likes: called from the loop when the
     * client has gone away. x is then invalid, and not to be answered. */
    void (*gone)(struct http_exchange *x);
    void *owner; /* the core's */
};

/* --- what gateway/net calls (implemented in gateway/gateway.c and gateway/conn.c) --- */

/* A complete request that is not a WebSocket upgrade. */
void gateway_http(struct gateway *g, const struct http_request *r, struct http_exchange *x);

/* How large its body may be, which is still to come; 0: as large as that of anybody's. */
size_t gateway_http_body_max(const struct gateway *g, const struct http_request *r);

/* May the request be asked while others of its connection for which this holds are not answered? Then what they do is done in the order in which they were asked. */
bool gateway_http_overlaps(const struct http_request *r);

/* A valid RFC 6455 handshake. On OK the connection belongs to the core: *ret is fed with conn_* below, *ret_subprotocol (static) is to be echoed
 * when not empty. gateway/net must send its 101 through conn_send_bytes() before it feeds input. On failure it answers reterr as an HTTP
 * error and keeps the connection. */
enum err gateway_upgrade(struct gateway *g, const struct http_request *r, struct transport *t, struct conn **ret,
                         struct slice *ret_subprotocol, struct error *reterr);

/* Bytes arrived; they may be modified. */
void conn_input(struct conn *c, char *p, size_t n);
/* The transport can take more after a short write. */
void conn_writable(struct conn *c);
/* The transport is gone (peer closed, reset, error, or after close()). why is a constant word for logs and counters: "peer", "reset", "tls", "timeout",
 * "closed". c is invalid afterwards. */
void conn_gone(struct conn *c, const char *why);
/* Queues bytes in front of everything else the connection will send. */
void conn_send_bytes(struct conn *c, struct slice bytes);

#endif
