/* gateway/secret.h: secrets are stored as hashes only. Implemented by gateway/net/secret.c, where OpenSSL is. */
#ifndef XD_SECRET_H
#define XD_SECRET_H

#include "base/slice.h"

#define SECRET_HASH_LEN 64

/* SHA-256 in lower-case hex with a NUL. */
void secret_hash(struct slice secret, char ret[SECRET_HASH_LEN + 1]);

#endif
