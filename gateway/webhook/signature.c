/* gateway/webhook/signature.c: SHA-1 and MD5, which a protocol of 2016 wants. */
#include "gateway/webhook/signature.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>

static bool digest(const EVP_MD *md, struct slice a, struct slice b, char *ret)
{
    static const char hex[] = "0123456789abcdef";
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx != NULL && EVP_DigestInit_ex(ctx, md, NULL) == 1 && EVP_DigestUpdate(ctx, a.p, a.n) == 1 &&
              EVP_DigestUpdate(ctx, b.p, b.n) == 1 && EVP_DigestFinal_ex(ctx, bytes, &n) == 1;
    EVP_MD_CTX_free(ctx);
    for (unsigned i = 0; i < n; i++) {
        *ret++ = hex[bytes[i] >> 4];
        *ret++ = hex[bytes[i] & 15];
    }
    *ret = '\0';
    return ok;
}

void wafer_sign(struct slice data, struct slice key, char ret[WAFER_SIGNATURE_LEN + 1])
{
    if (!digest(EVP_sha1(), data, key, ret))
        abort(); /* without SHA-1 no WebSocket could be served either */
}

bool wafer_signed(struct slice data, struct slice key, struct slice signature)
{
    char ours[WAFER_SIGNATURE_LEN + 1];
    wafer_sign(data, key, ours);
    return signature.n == WAFER_SIGNATURE_LEN && CRYPTO_memcmp(ours, signature.p, WAFER_SIGNATURE_LEN) == 0;
}

bool wafer_key_is(struct slice presented, struct slice key)
{
    char a[WAFER_SIGNATURE_LEN + 1], b[WAFER_SIGNATURE_LEN + 1];
    wafer_sign(presented, SLICE_NONE, a); /* of the same length, whatever theirs is */
    wafer_sign(key, SLICE_NONE, b);
    return CRYPTO_memcmp(a, b, WAFER_SIGNATURE_LEN) == 0 && presented.n == key.n;
}

bool wafer_id(struct slice server_host, char ret[WAFER_ID_LEN + 1])
{
    return digest(EVP_md5(), server_host, SLICE_NONE, ret);
}
