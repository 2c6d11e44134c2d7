/* gateway/auth/private.h: what the files of gateway/auth share; nobody else includes it. */
#ifndef XD_AUTH_PRIVATE_H
#define XD_AUTH_PRIVATE_H

#include <openssl/evp.h>

#include "gateway/auth/auth.h"

#define X(code, name, least) code,
enum auth_algorithm { AUTH_ALGORITHM_MAP(X) AUTH_ALGORITHMS };
#undef X

/* Either a secret or a public key, never both: what `algorithm` says. */
struct auth_key {
    char *kid; /* NULL: none */
    enum auth_algorithm algorithm;
    unsigned char *secret; /* HS…: owned */
    size_t secret_n;
    EVP_PKEY *pkey; /* the others */
};

struct auth_keys {
    struct auth_key *list;
    size_t count, ignored;
};

/* A name in errors about keys: which file, and which key in it. */
struct auth_source {
    const char *file;
    size_t index; /* in a key set, from 1; 0: the file is the key */
};

/* --- keys.c --- */

/* Adds the key or keys of one --jwt-key. */
enum err auth_keys_load(struct auth_keys *keys, const char *option, struct error *reterr);
void auth_keys_fini(struct auth_keys *keys);
/* Adds k, whose contents are taken in any case; checks its strength, and that its kid is new. */
enum err auth_keys_add(struct auth_keys *keys, struct auth_key *k, const struct auth_source *from,
                       struct error *reterr);
/* "FILE" or "FILE, key 2": the beginning of an error. Static buffer. */
const char *auth_source_name(const struct auth_source *from);
/* The algorithm a public key of this type is pinned to; false when there is none for it. */
bool auth_algorithm_of(const EVP_PKEY *pkey, enum auth_algorithm *ret);
const char *auth_algorithm_name(enum auth_algorithm a);
/* False for names not in AUTH_ALGORITHM_MAP, such as none. */
bool auth_algorithm_find(struct slice name, enum auth_algorithm *ret);

/* --- jwks.c --- */

/* The text is a JSON Web Key, or a set of them. */
enum err auth_jwks_load(struct auth_keys *keys, struct slice text, const char *file, struct error *reterr);

/* --- jwt.c --- */

struct auth_expected;

const struct auth_keys *auth_jwt_keys(const struct auth_jwt *a);
const struct auth_expected *auth_jwt_expected(const struct auth_jwt *a);

/* --- verify.c --- */

/* Is it k's signature of the text? Leaves nothing in OpenSSL's error queue, which TLS looks at. */
bool auth_verify(const struct auth_key *k, struct slice text, const unsigned char *signature, size_t n);

/* --- claims.c --- */

struct auth_expected {
    char *audience, *issuer; /* NULL as in struct auth_jwt_config */
    uint32_t leeway_s;
};

/* The payload of a token whose signature is right. */
enum auth_refusal auth_claims_read(struct slice payload, const struct auth_expected *expected, uint64_t now_s,
                                   struct auth_claims *ret, struct error *reterr);

#endif
