/* tests/support/token.c: keys and tokens for tests. */
#include "tests/support/token.h"

#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "base/mem.h"
#include "tests/support/check.h"

static char dir[64];
static EVP_PKEY *pairs[TOKEN_KEYS];
static const char *const names[TOKEN_KEYS] = {
    "secret.secret", "other.secret", "rsa.pem", "ec.pem", "ed.pem", "other-rsa.pem",
};
static const char *const secrets[] = {
    "a secret of sixty-four bytes, which is enough for each of the HMACs",
    "another secret of more than sixty-four bytes, for each of the HMACs",
};

const char *token_file(const char *name)
{
    static char paths[8][200];
    static unsigned next;
    char *path = paths[next++ % ARRAY_LEN(paths)];
    (void)snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

const char *token_file_with(const char *name, struct slice bytes)
{
    const char *path = token_file(name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes.p, 1, bytes.n, f), bytes.n);
    assert_int_equal(fclose(f), 0);
    return path;
}

char *token_file_read(const char *name, size_t *ret_n)
{
    char *bytes = xcalloc(1, 16384);
    FILE *f = fopen(token_file(name), "r");
    assert_non_null(f);
    *ret_n = fread(bytes, 1, 16383, f);
    assert_int_equal(fclose(f), 0);
    return bytes;
}

const char *token_key_file(enum token_key k)
{
    return token_file(names[k]);
}

static void write_pair(enum token_key k, EVP_PKEY *pair)
{
    assert_non_null(pair);
    pairs[k] = pair;
    FILE *f = fopen(token_key_file(k), "w");
    assert_non_null(f);
    assert_int_equal(PEM_write_PUBKEY(f, pair), 1);
    assert_int_equal(fclose(f), 0);
}

int token_files_make(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/xd-token-XXXXXX");
    assert_non_null(mkdtemp(dir));
    for (enum token_key k = TOKEN_SECRET; k <= TOKEN_OTHER_SECRET; k++)
        (void)token_file_with(names[k], slice_str(secrets[k]));
    write_pair(TOKEN_RSA, EVP_RSA_gen(2048));
    write_pair(TOKEN_OTHER_RSA, EVP_RSA_gen(2048));
    write_pair(TOKEN_EC, EVP_EC_gen("P-256"));
    write_pair(TOKEN_ED, EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"));
    return 0;
}

int token_files_remove(void **state)
{
    (void)state;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) // NOLINT(concurrency-mt-unsafe)
        if (e->d_name[0] != '.')
            (void)unlink(token_file(e->d_name));
    (void)closedir(d);
    assert_int_equal(rmdir(dir), 0);
    for (int k = 0; k < TOKEN_KEYS; k++) {
        EVP_PKEY_free(pairs[k]);
        pairs[k] = NULL;
    }
    return 0;
}

void token_base64url(struct buf *ret, struct slice bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned bits = 0, held = 0;
    for (size_t i = 0; i < bytes.n; i++) {
        bits = (bits << 8 | (unsigned char)bytes.p[i]) & 0xffff;
        for (held += 8; held >= 6; held -= 6)
            buf_append_char(ret, digits[bits >> (held - 6) & 63]);
    }
    if (held != 0)
        buf_append_char(ret, digits[bits << (6 - held) & 63]);
}

/* --- signing --- */

static size_t sign_hmac(struct slice secret, const char *alg, struct slice text, unsigned char *ret)
{
    unsigned n = 0;
    const EVP_MD *md = strcmp(alg, "HS256") == 0   ? EVP_sha256()
                       : strcmp(alg, "HS384") == 0 ? EVP_sha384()
                                                   : EVP_sha512();
    assert_non_null(HMAC(md, secret.p, (int)secret.n, (const unsigned char *)text.p, text.n, ret, &n));
    return n;
}

static size_t sign_pair(EVP_PKEY *pair, const char *alg, struct slice text, unsigned char *ret, size_t size)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pss = NULL;
    const EVP_MD *md = strcmp(alg, "EdDSA") == 0 ? NULL : strcmp(alg, "RS512") == 0 ? EVP_sha512() : EVP_sha256();
    assert_int_equal(EVP_DigestSignInit(ctx, &pss, md, NULL, pair), 1);
    if (strcmp(alg, "PS256") == 0)
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(pss, RSA_PKCS1_PSS_PADDING), 1);
    assert_int_equal(EVP_DigestSign(ctx, ret, &size, (const unsigned char *)text.p, text.n), 1);
    EVP_MD_CTX_free(ctx);
    if (strcmp(alg, "ES256") != 0)
        return size;
    const unsigned char *der = ret;
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)size);
    assert_non_null(sig);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(sig), ret, 32), 32);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(sig), ret + 32, 32), 32);
    ECDSA_SIG_free(sig);
    return 64;
}

static char *join(struct buf *b, const unsigned char *signature, size_t n)
{
    buf_append_char(b, '.');
    token_base64url(b, (struct slice){(const char *)signature, n});
    buf_append_char(b, '\0');
    return b->p;
}

static struct buf signed_text(const char *header, const char *claims)
{
    struct buf b = BUF_INIT;
    token_base64url(&b, slice_str(header));
    buf_append_char(&b, '.');
    token_base64url(&b, slice_str(claims));
    return b;
}

char *token_sign_secret(struct slice secret, const char *alg, const char *header, const char *claims)
{
    unsigned char signature[EVP_MAX_MD_SIZE];
    struct buf b = signed_text(header, claims);
    return join(&b, signature, sign_hmac(secret, alg, buf_slice(&b), signature));
}

char *token_sign(enum token_key k, const char *alg, const char *header, const char *claims)
{
    unsigned char signature[1024];
    if (k <= TOKEN_OTHER_SECRET && alg != NULL)
        return token_sign_secret(slice_str(secrets[k]), alg, header, claims);
    struct buf b = signed_text(header, claims);
    size_t n = alg != NULL ? sign_pair(pairs[k], alg, buf_slice(&b), signature, sizeof signature) : 0;
    return join(&b, signature, n);
}

/* --- JSON Web Keys --- */

static void put(struct buf *b, const char *name, const unsigned char *bytes, size_t n)
{
    buf_printf(b, ",\"%s\":\"", name);
    token_base64url(b, (struct slice){(const char *)bytes, n});
    buf_append_char(b, '"');
}

static void put_number(struct buf *b, const char *name, const EVP_PKEY *pair, const char *param, int pad)
{
    unsigned char bytes[512];
    BIGNUM *v = NULL;
    assert_int_equal(EVP_PKEY_get_bn_param(pair, param, &v), 1);
    int n = BN_bn2binpad(v, bytes, pad != 0 ? pad : BN_num_bytes(v));
    assert_true(n > 0);
    put(b, name, bytes, (size_t)n);
    BN_free(v);
}

char *token_jwk(enum token_key k, const char *kid)
{
    struct buf b = BUF_INIT;
    unsigned char raw[32];
    size_t n = sizeof raw;
    switch (k) {
    case TOKEN_RSA:
    case TOKEN_OTHER_RSA:
        buf_append_str(&b, "{\"kty\":\"RSA\",\"use\":\"sig\"");
        put_number(&b, "n", pairs[k], OSSL_PKEY_PARAM_RSA_N, 0);
        put_number(&b, "e", pairs[k], OSSL_PKEY_PARAM_RSA_E, 0);
        break;
    case TOKEN_EC:
        buf_append_str(&b, "{\"kty\":\"EC\",\"crv\":\"P-256\",\"alg\":\"ES256\"");
        put_number(&b, "x", pairs[k], OSSL_PKEY_PARAM_EC_PUB_X, 32);
        put_number(&b, "y", pairs[k], OSSL_PKEY_PARAM_EC_PUB_Y, 32);
        break;
    case TOKEN_ED:
        assert_int_equal(EVP_PKEY_get_raw_public_key(pairs[k], raw, &n), 1);
        buf_append_str(&b, "{\"kty\":\"OKP\",\"crv\":\"Ed25519\"");
        put(&b, "x", raw, n);
        break;
    default:
        buf_append_str(&b, "{\"kty\":\"oct\",\"alg\":\"HS512\"");
        put(&b, "k", (const unsigned char *)secrets[k], strlen(secrets[k]));
        break;
    }
    if (kid != NULL)
        buf_printf(&b, ",\"kid\":\"%s\"", kid);
    buf_append_str(&b, "}");
    buf_append_char(&b, '\0');
    return b.p;
}
