/* tests/support/token.h: keys and tokens for tests, good ones and any bad one: header and claims are written as they are given. Signed with OpenSSL. */
#ifndef XD_TESTS_TOKEN_H
#define XD_TESTS_TOKEN_H

#include "base/buf.h"

/* The keys there are, made once per program. A name is the file's without ending. */
enum token_key { TOKEN_SECRET, TOKEN_OTHER_SECRET, TOKEN_RSA, TOKEN_EC, TOKEN_ED, TOKEN_OTHER_RSA, TOKEN_KEYS };

/* A directory with NAME.pem (public) for key pairs, NAME.secret for secrets. token_files_remove() takes it away with everything in it. For a group of
 * tests of cmocka. */
int token_files_make(void **state);
int token_files_remove(void **state);

/* The path of a file in that directory; static buffers, eight of them in turn. */
const char *token_file(const char *name);
/* Writes a file there and returns its path. */
const char *token_file_with(const char *name, struct slice bytes);
/* The contents of a file there; the caller frees it. */
char *token_file_read(const char *name, size_t *ret_n);
/* The file with that key in the form --jwt-key takes. */
const char *token_key_file(enum token_key k);
/* Its JSON Web Key; kid NULL: without. The caller frees it. */
char *token_jwk(enum token_key k, const char *kid);

/* "header.claims.signature": base64url of the texts and of k's signature over them, as alg says: HS256, HS384, HS512, RS256, ES256, EdDSA, and such as
 * nobody accepts: RS512, PS256, and DER (ES256 as OpenSSL makes it); NULL: an empty signature. The caller frees it. */
char *token_sign(enum token_key k, const char *alg, const char *header, const char *claims);
/* The same with any bytes as an HMAC secret. */
char *token_sign_secret(struct slice secret, const char *alg, const char *header, const char *claims);
/* Appends base64url: its own, not the one that is tested. */
void token_base64url(struct buf *ret, struct slice bytes);

#endif
