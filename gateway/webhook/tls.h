/* gateway/webhook/tls.h: TLS to the backend: the client's side, the certificate always verified, its name included. */
#ifndef XD_WEBHOOK_TLS_H
#define XD_WEBHOOK_TLS_H

#include <stddef.h>

#include "base/error.h"

struct webhook_tls;      /* whom we trust */
struct webhook_tls_conn; /* one connection */

enum webhook_io { WEBHOOK_IO_DONE, WEBHOOK_IO_WANT_READ, WEBHOOK_IO_WANT_WRITE, WEBHOOK_IO_END, WEBHOOK_IO_FAILED };

/* ca: a PEM file with all the authorities to trust; NULL: the system's. option: the one that says so, for errors; static. NULL with *reterr. */
struct webhook_tls *webhook_tls_create(const char *option, const char *ca, struct error *reterr);
/* NULL-safe, clears the pointer. */
void webhook_tls_destroy(struct webhook_tls **t);

/* fd is connected and stays the caller's. name (a host name or an address) is borrowed for the connection's life. */
struct webhook_tls_conn *webhook_tls_connect(const struct webhook_tls *t, int fd, const char *name);
void webhook_tls_conn_destroy(struct webhook_tls_conn **c);

/* To be repeated while they want to read or write. The write takes its bytes whole or in part, and may be repeated with others behind them. */
enum webhook_io webhook_tls_handshake(struct webhook_tls_conn *c);
enum webhook_io webhook_tls_read(struct webhook_tls_conn *c, char *p, size_t n, size_t *ret);
enum webhook_io webhook_tls_write(struct webhook_tls_conn *c, const char *p, size_t n, size_t *ret);
/* Why something failed; borrowed. */
const char *webhook_tls_error(const struct webhook_tls_conn *c);

#endif
