/* base/tls_client.h: the client's side of TLS over a non-blocking socket: whom we trust, who we are, records. Certificates are always verified, their names included. */
#ifndef XD_BASE_TLS_CLIENT_H
#define XD_BASE_TLS_CLIENT_H

#include <stddef.h>

#include "base/error.h"

struct tls_client;      /* what connections share: authorities, our certificate */
struct tls_client_conn; /* one connection */

enum tls_client_io { TLS_CLIENT_DONE, TLS_CLIENT_WANT_READ, TLS_CLIENT_WANT_WRITE, TLS_CLIENT_END, TLS_CLIENT_FAILED };

/* Borrowed until tls_client_create returns, the hints for the client's life. */
struct tls_client_config {
    const char *ca;                /* PEM file with all the authorities to trust; NULL: the system's */
    const char *cert, *key;        /* PEM files of ours; NULL: we have none */
    const char *name;              /* what all servers' certificates must be for; NULL: what tls_client_connect says */
    const char *ca_name, *ca_hint; /* for errors: what `ca` is called, and how it is said: "ca", "ca=FILE" */
    const char
        *cert_hint; /* for errors, should a server want a certificate: "cert and key"; NULL: we cannot have one */
};

/* NULL with *reterr, which names the file. */
struct tls_client *tls_client_create(const struct tls_client_config *cfg, struct error *reterr);
/* NULL-safe, clears the pointer. */
void tls_client_destroy(struct tls_client **t);

/* fd is connected and stays the caller's. The server's certificate must be for `name`, a host name or an address, unless the configuration has one. */
struct tls_client_conn *tls_client_connect(const struct tls_client *t, int fd, const char *name);
void tls_client_conn_destroy(struct tls_client_conn **c);

/* Of whatever uses OpenSSL: the oldest error that it has queued, which is the cause; the queue is empty afterwards. */
const char *tls_reason(void);

/* To be repeated while it wants to read or write. */
enum tls_client_io tls_client_handshake(struct tls_client_conn *c);
/* TLS_CLIENT_DONE: *ret bytes, more than 0. A write that wanted something must be repeated with the same bytes, which may have moved and been added to.
 * A read into at least 16 KB leaves nothing behind that the socket would not announce. */
enum tls_client_io tls_client_read(struct tls_client_conn *c, char *p, size_t n, size_t *ret);
enum tls_client_io tls_client_write(struct tls_client_conn *c, const char *p, size_t n, size_t *ret);
/* Why something failed, or ended. Borrowed. */
const char *tls_client_error(const struct tls_client_conn *c);

#endif
