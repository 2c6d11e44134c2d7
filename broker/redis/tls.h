/* broker/redis/tls.h: TLS to Redis: whom we trust, who we are, and records over a non-blocking socket. The only place of the broker with OpenSSL. */
#ifndef XD_BROKER_REDIS_TLS_H
#define XD_BROKER_REDIS_TLS_H

#include "broker/redis/url.h"

struct redis_tls;      /* what all connections share: authorities, our certificate */
struct redis_tls_conn; /* one connection */

enum redis_tls_result { REDIS_TLS_DONE, REDIS_TLS_WANT_READ, REDIS_TLS_WANT_WRITE, REDIS_TLS_FAILED };

/* Reads the files of the url, which must be `tls`. NULL with *reterr, which names the file. */
struct redis_tls *redis_tls_create(const struct redis_url *url, struct error *reterr);
/* NULL-safe, clears the pointer. */
void redis_tls_destroy(struct redis_tls **t);

/* fd is connected and stays the caller's. The server's certificate must be for `name` (a host name or an address), unless the url has a server_name. */
struct redis_tls_conn *redis_tls_connect(const struct redis_tls *t, int fd, const char *name);
void redis_tls_conn_destroy(struct redis_tls_conn **c);

/* To be repeated while it wants to read or write. */
enum redis_tls_result redis_tls_handshake(struct redis_tls_conn *c);
/* REDIS_TLS_DONE: *ret bytes, more than 0. A write that wanted something must be repeated with the same bytes, which may have moved and been added to.
 * A read into at least 16 KB leaves nothing behind that the socket would not announce. */
enum redis_tls_result redis_tls_read(struct redis_tls_conn *c, char *p, size_t n, size_t *ret);
enum redis_tls_result redis_tls_write(struct redis_tls_conn *c, const char *p, size_t n, size_t *ret);
/* Why something failed. Borrowed. */
const char *redis_tls_error(const struct redis_tls_conn *c);

#endif
