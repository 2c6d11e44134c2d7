/* gateway/auth/jwks.c: JSON Web Keys (RFC 7517, RFC 7518 §6, RFC 8037). */
#include <jansson.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/param_build.h>

#include "base/base64.h"
#include "base/mem.h"
#include "gateway/auth/private.h"

#define MEMBER_MAX  2048 /* bytes of a number or secret, decoded */
#define P256_BYTES  32
#define ED25519_KEY 32
#define KID_MAX     256u

struct member {
    unsigned char bytes[MEMBER_MAX];
    size_t n;
};

static struct slice text_of(const json_t *jwk, const char *name)
{
    const json_t *v = json_object_get(jwk, name);
    return json_is_string(v) ? (struct slice){json_string_value(v), json_string_length(v)} : SLICE_NONE;
}

static bool member(const json_t *jwk, const char *name, struct member *ret)
{
    struct slice text = text_of(jwk, name);
    return text.n != 0 && text.n <= (size_t)MEMBER_MAX / 3 * 4 && base64_take(BASE64URL, text, ret->bytes, &ret->n);
}

/* --- public keys --- */

static EVP_PKEY *build(const char *type, OSSL_PARAM_BLD *b)
{
    EVP_PKEY *pkey = NULL;
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(b);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (params == NULL || ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
        pkey = NULL;
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    return pkey;
}

static EVP_PKEY *rsa_key(const json_t *jwk)
{
    struct member n, e;
    if (!member(jwk, "n", &n) || !member(jwk, "e", &e))
        return NULL;
    EVP_PKEY *pkey = NULL;
    BIGNUM *modulus = BN_bin2bn(n.bytes, (int)n.n, NULL), *exponent = BN_bin2bn(e.bytes, (int)e.n, NULL);
    OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
    if (b != NULL && modulus != NULL && exponent != NULL &&
        OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_N, modulus) == 1 &&
        OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_E, exponent) == 1)
        pkey = build("RSA", b);
    OSSL_PARAM_BLD_free(b);
    BN_free(modulus);
    BN_free(exponent);
    return pkey;
}

static EVP_PKEY *ec_key(const json_t *jwk)
{
    struct member x, y;
    if (!member(jwk, "x", &x) || !member(jwk, "y", &y) || x.n != P256_BYTES || y.n != P256_BYTES)
        return NULL;
    unsigned char point[1 + 2 * P256_BYTES] = {POINT_CONVERSION_UNCOMPRESSED};
    memcpy(point + 1, x.bytes, P256_BYTES);
    memcpy(point + 1 + P256_BYTES, y.bytes, P256_BYTES);
    EVP_PKEY *pkey = NULL;
    OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
    if (b != NULL && OSSL_PARAM_BLD_push_utf8_string(b, OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(b, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point) == 1)
        pkey = build("EC", b);
    OSSL_PARAM_BLD_free(b);
    return pkey;
}

static EVP_PKEY *ed25519_key(const json_t *jwk)
{
    struct member x;
    if (!member(jwk, "x", &x) || x.n != ED25519_KEY)
        return NULL;
    return EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, x.bytes, x.n);
}

/* What we can use: a key type, its curve if it has one, and what it is pinned to when it does not say `alg`. */
static const struct kind {
    const char *kty, *crv;
    enum auth_algorithm algorithm;
    EVP_PKEY *(*make)(const json_t *jwk);
    const char *needs;
} kinds[] = {
    {"RSA", NULL, AUTH_RS256, rsa_key, "\"n\" and \"e\" in base64url"},
    {"EC", "P-256", AUTH_ES256, ec_key, "\"x\" and \"y\": 32 bytes each in base64url, a point of the curve"},
    {"OKP", "Ed25519", AUTH_EDDSA, ed25519_key, "\"x\": 32 bytes in base64url"},
};

static const struct kind *kind_of(const json_t *jwk)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (slice_eq(text_of(jwk, "kty"), slice_str(kinds[i].kty)) &&
            (kinds[i].crv == NULL || slice_eq(text_of(jwk, "crv"), slice_str(kinds[i].crv))))
            return &kinds[i];
    return NULL;
}

/* --- one key --- */

static bool for_something_else(const json_t *jwk)
{
    struct slice use = text_of(jwk, "use"), alg = text_of(jwk, "alg");
    enum auth_algorithm a;
    if (use.n != 0 && !slice_eq(use, SLICE("sig")))
        return true;
    if (alg.n != 0 && !auth_algorithm_find(alg, &a))
        return true;
    return !slice_eq(text_of(jwk, "kty"), SLICE("oct")) && kind_of(jwk) == NULL;
}

static enum err add_secret(struct auth_keys *keys, const json_t *jwk, struct auth_key *k,
                           const struct auth_source *from, struct error *reterr)
{
    const char *name = auth_source_name(from);
    struct member secret;
    if (!auth_algorithm_find(text_of(jwk, "alg"), &k->algorithm))
        return fail(reterr, ERR_BAD_REQUEST, "%s: a secret must say its \"alg\": HS256, HS384 or HS512", name);
    if (k->algorithm > AUTH_HS512)
        return fail(reterr, ERR_BAD_REQUEST, "%s: a secret cannot be for %s", name, auth_algorithm_name(k->algorithm));
    if (!member(jwk, "k", &secret))
        return fail(reterr, ERR_BAD_REQUEST, "%s: needs \"k\" in base64url", name);
    k->secret = (unsigned char *)xstrndup((const char *)secret.bytes, secret.n);
    k->secret_n = secret.n;
    OPENSSL_cleanse(&secret, sizeof secret);
    return auth_keys_add(keys, k, from, reterr);
}

static enum err add_public(struct auth_keys *keys, const json_t *jwk, struct auth_key *k,
                           const struct auth_source *from, struct error *reterr)
{
    const char *name = auth_source_name(from);
    const struct kind *kind = kind_of(jwk);
    struct slice alg = text_of(jwk, "alg");
    if (alg.n != 0 && !slice_eq(alg, slice_str(auth_algorithm_name(kind->algorithm))))
        return fail(reterr, ERR_BAD_REQUEST, "%s: a key of type %s cannot be for %.10s", name, kind->kty, alg.p);
    if (json_object_get(jwk, "d") != NULL)
        return fail(reterr, ERR_BAD_REQUEST, "%s: a private key (it has \"d\"); give the public one", name);
    k->algorithm = kind->algorithm;
    k->pkey = kind->make(jwk);
    ERR_clear_error();
    if (k->pkey == NULL)
        return fail(reterr, ERR_BAD_REQUEST, "%s: needs %s", name, kind->needs);
    return auth_keys_add(keys, k, from, reterr);
}

static enum err add_key(struct auth_keys *keys, const json_t *jwk, const struct auth_source *from, struct error *reterr)
{
    const char *name = auth_source_name(from);
    const json_t *kid = json_object_get(jwk, "kid");
    struct slice id = text_of(jwk, "kid");
    if (!json_is_object(jwk))
        return fail(reterr, ERR_BAD_REQUEST, "%s: not an object", name);
    if (text_of(jwk, "kty").n == 0)
        return fail(reterr, ERR_BAD_REQUEST, "%s: no \"kty\"", name);
    if (kid != NULL && (id.n == 0 || id.n > KID_MAX))
        return fail(reterr, ERR_BAD_REQUEST, "%s: \"kid\" must be a string of 1 to %u bytes", name, KID_MAX);
    if (for_something_else(jwk)) {
        keys->ignored++;
        return OK;
    }
    struct auth_key k = {.kid = kid != NULL ? xstrndup(id.p, id.n) : NULL};
    enum err err = slice_eq(text_of(jwk, "kty"), SLICE("oct")) ? add_secret(keys, jwk, &k, from, reterr)
                                                               : add_public(keys, jwk, &k, from, reterr);
    free(k.kid); /* taken, or not needed */
    return err;
}

/* --- a set --- */

static enum err load(struct auth_keys *keys, const json_t *root, const char *file, struct error *reterr)
{
    const json_t *set = json_object_get(root, "keys");
    if (json_is_object(root) && set == NULL)
        return add_key(keys, root, &(struct auth_source){.file = file}, reterr);
    if (!json_is_array(set))
        return fail(reterr, ERR_BAD_REQUEST, "jwt-key %.120s: neither a JSON Web Key nor {\"keys\":[…]}", file);
    for (size_t i = 0; i < json_array_size(set); i++) {
        enum err err =
            add_key(keys, json_array_get(set, i), &(struct auth_source){.file = file, .index = i + 1}, reterr);
        if (err != OK)
            return err;
    }
    return OK;
}

enum err auth_jwks_load(struct auth_keys *keys, struct slice text, const char *file, struct error *reterr)
{
    json_error_t why;
    size_t before = keys->count;
    json_t *root = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, &why);
    if (root == NULL)
        return fail(reterr, ERR_BAD_REQUEST, "jwt-key %.100s:%d:%d: %.60s", file, why.line, why.column, why.text);
    enum err err = load(keys, root, file, reterr);
    json_decref(root);
    if (err == OK && keys->count == before)
        err = fail(reterr, ERR_BAD_REQUEST,
                   "jwt-key %.100s: no key to check signatures with (HS256/384/512, RS256, ES256, EdDSA)", file);
    return err;
}
