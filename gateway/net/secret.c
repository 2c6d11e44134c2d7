/* gateway/net/secret.c: hashes of secrets, by OpenSSL. */
#include "gateway/secret.h"

#include <openssl/evp.h>
#include <stdlib.h>

void secret_hash(struct slice secret, char ret[SECRET_HASH_LEN + 1])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    /* Not an assertion: without one a hash that failed would be that of every secret. */
    if (EVP_Digest(secret.p, secret.n, hash, &n, EVP_sha256(), NULL) != 1 || n * 2 != SECRET_HASH_LEN)
        abort();
    for (size_t i = 0; i < n; i++) {
        ret[(size_t)2 * i] = digits[hash[i] >> 4];
        ret[(size_t)2 * i + 1] = digits[hash[i] & 15];
    }
    ret[SECRET_HASH_LEN] = '\0';
}
