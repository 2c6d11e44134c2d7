/* gateway/auth/verify.c: signatures, by OpenSSL. The key alone says which kind. */
#include <openssl/crypto.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/hmac.h>

#include "base/mem.h"
#include "gateway/auth/private.h"

#define P256_BYTES    32
#define ED25519_BYTES 64
#define DER_MAX       80 /* an ECDSA signature of P-256 has at most 72 */

static bool verify_hmac(const struct auth_key *k, const EVP_MD *md, struct slice text, const unsigned char *signature,
                        size_t n)
{
    unsigned char want[EVP_MAX_MD_SIZE];
    unsigned want_n = 0;
    if (HMAC(md, k->secret, (int)k->secret_n, (const unsigned char *)text.p, text.n, want, &want_n) == NULL)
        return false;
    bool same = n == want_n && CRYPTO_memcmp(want, signature, n) == 0;
    OPENSSL_cleanse(want, sizeof want);
    return same;
}

static bool verify_public(const struct auth_key *k, const EVP_MD *md, struct slice text, const unsigned char *signature,
                          size_t n)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = ctx != NULL && EVP_DigestVerifyInit(ctx, NULL, md, NULL, k->pkey) == 1 &&
                EVP_DigestVerify(ctx, signature, n, (const unsigned char *)text.p, text.n) == 1;
    EVP_MD_CTX_free(ctx);
    return good;
}

/* A token has the two numbers side by side (RFC 7518 §3.4), OpenSSL wants them in DER. */
static bool verify_ecdsa(const struct auth_key *k, struct slice text, const unsigned char *signature, size_t n)
{
    if (n != (size_t)2 * P256_BYTES)
        return false;
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(signature, P256_BYTES, NULL), *s = BN_bin2bn(signature + P256_BYTES, P256_BYTES, NULL);
    bool good = false;
    if (sig != NULL && r != NULL && s != NULL && ECDSA_SIG_set0(sig, r, s) == 1) {
        unsigned char der[DER_MAX], *at = der;
        r = s = NULL; /* sig's now */
        int der_n = i2d_ECDSA_SIG(sig, NULL);
        if (der_n > 0 && der_n <= DER_MAX && i2d_ECDSA_SIG(sig, &at) == der_n)
            good = verify_public(k, EVP_sha256(), text, der, (size_t)der_n);
    }
    BN_free(r);
    BN_free(s);
    ECDSA_SIG_free(sig);
    return good;
}

static bool verify(const struct auth_key *k, struct slice text, const unsigned char *signature, size_t n)
{
    switch (k->algorithm) {
    case AUTH_HS256: return verify_hmac(k, EVP_sha256(), text, signature, n);
    case AUTH_HS384: return verify_hmac(k, EVP_sha384(), text, signature, n);
    case AUTH_HS512: return verify_hmac(k, EVP_sha512(), text, signature, n);
    case AUTH_RS256:
        return n == (size_t)EVP_PKEY_get_size(k->pkey) && verify_public(k, EVP_sha256(), text, signature, n);
    case AUTH_ES256: return verify_ecdsa(k, text, signature, n);
    case AUTH_EDDSA: return n == ED25519_BYTES && verify_public(k, NULL, text, signature, n);
    case AUTH_ALGORITHMS: break;
    }
    return false;
}

bool auth_verify(const struct auth_key *k, struct slice text, const unsigned char *signature, size_t n)
{
    bool good = verify(k, text, signature, n);
    ERR_clear_error();
    return good;
}
