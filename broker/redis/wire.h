/* broker/redis/wire.h: one non-blocking connection to a Redis or a sentinel, plain or TLS, with hiredis' parser behind it.
 *
 * We open the socket ourselves and feed the parser: so TLS works with every version of hiredis, and one read fetches more than its 16 KB.
 * OpenSSL writes without MSG_NOSIGNAL: the process must ignore SIGPIPE. */
#ifndef XD_BROKER_REDIS_WIRE_H
#define XD_BROKER_REDIS_WIRE_H

#include <hiredis/hiredis.h>
#include <stdbool.h>

#include "base/tls_client.h"

struct wire;
enum wire_progress { WIRE_AGAIN, WIRE_READY, WIRE_FAILED };

/* Starts connecting. address is numeric. With a tls the certificate must be for `name`. Never NULL: wire_connect tells what went wrong. */
struct wire *wire_create(const char *address, int port, const struct tls_client *tls, const char *name);
/* NULL-safe, clears the pointer. Stop watching its socket before. */
void wire_destroy(struct wire **w);

int wire_fd(const struct wire *w); /* -1: there never was one */
/* What to wait for: a set of IO_READ and IO_WRITE. */
int wire_events(const struct wire *w);
/* Goes on connecting, when the socket is ready for what was waited for. WIRE_READY: bytes may flow. */
enum wire_progress wire_connect(struct wire *w);
/* What it means when connecting takes too long. */
const char *wire_late(const struct wire *w);

/* Queues a copy. */
void wire_put(struct wire *w, const char *bytes, size_t n);
/* Writes what the socket takes; *ret_all: nothing is left. False: the connection is broken. */
bool wire_write(struct wire *w, bool *ret_all);
/* Reads what there is, up to a bound: for the parser. False: the connection is broken. */
bool wire_read(struct wire *w);
/* The next reply, to be freed with freeReplyObject; NULL: there is none yet. False: what was read is not Redis' protocol. */
bool wire_reply(struct wire *w, redisReply **ret);
/* Why something above failed. Borrowed. */
const char *wire_error(const struct wire *w);

#endif
