/* gateway/net/tickets.h: TLS session tickets that every node of the cluster takes, so that clients which come back need no full handshake.
 *
 * A ticket is the session, encrypted with a key that all nodes know (RFC 5077 §4, RFC 8446 §4.6.1); nothing is kept here. The keys come from the store
 * (gateway/keyring.h); until they are there a key of this process is used. In TLS 1.3 a resumed handshake makes fresh keys all the same
 * (psk_dhe_ke), and there is no early data. In TLS 1.2 who has the key can read what was recorded: therefore only on request. */
#ifndef XD_NET_TICKETS_H
#define XD_NET_TICKETS_H

#include <openssl/ssl.h>

#include "base/loop.h"
#include "broker/broker.h"
#include "gateway/config.h"
#include "gateway/keyring.h"

struct tickets;

struct tickets *tickets_create(struct loop *loop);
/* NULL-safe, clears the pointer and the keys. No SSL_CTX may use it any more. */
void tickets_destroy(struct tickets **t);

/* The keys that count from now on; what is no key is ignored. None: those that are known stay. */
void tickets_set(struct tickets *t, const struct secret_record *secrets, size_t n);

/* Makes ctx issue and take tickets as cfg says. t must outlive it. */
void tickets_use(struct tickets *t, SSL_CTX *ctx, const struct config *cfg);

#endif
