/* gateway/auth/keys.c: key files: what is in them, what it is good for, and what is wrong with it. */
#include <stdio.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "base/file.h"
#include "base/mem.h"
#include "gateway/auth/private.h"

#define FILE_MAX     ((size_t)256 * 1024)
#define KID_MAX      128u /* of an option; a key set may say more */
#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 8192 /* verifying with a larger one is work that anybody could make us do */
#define SECRET_MAX   4096u

static const struct {
    const char *name;
    size_t least; /* bytes of a secret: as many as the hash, RFC 7518 §3.2 */
} algorithms[AUTH_ALGORITHMS] = {
#define X(code, name, least) [code] = {name, least},
    AUTH_ALGORITHM_MAP(X)
#undef X
};

const char *auth_algorithm_name(enum auth_algorithm a)
{
    return algorithms[a].name;
}

bool auth_algorithm_find(struct slice name, enum auth_algorithm *ret)
{
    for (enum auth_algorithm a = 0; a < AUTH_ALGORITHMS; a++) {
        if (slice_eq(name, slice_str(algorithms[a].name))) {
            *ret = a;
            return true;
        }
    }
    return false;
}

bool auth_algorithm_of(const EVP_PKEY *pkey, enum auth_algorithm *ret)
{
    char group[32] = "";
    switch (EVP_PKEY_get_base_id(pkey)) {
    case EVP_PKEY_RSA: *ret = AUTH_RS256; return true;
    case EVP_PKEY_ED25519: *ret = AUTH_EDDSA; return true;
    case EVP_PKEY_EC:
        *ret = AUTH_ES256;
        return EVP_PKEY_get_group_name(pkey, group, sizeof group, NULL) == 1 && strcmp(group, "prime256v1") == 0;
    default: return false;
    }
}

const char *auth_source_name(const struct auth_source *from)
{
    static char name[160];
    if (from->index != 0)
        (void)snprintf(name, sizeof name, "jwt-key %.100s, key %zu", from->file, from->index);
    else
        (void)snprintf(name, sizeof name, "jwt-key %.120s", from->file);
    return name;
}

/* --- the list --- */

static void key_fini(struct auth_key *k)
{
    free(k->kid);
    OPENSSL_cleanse(k->secret, k->secret_n);
    free(k->secret);
    EVP_PKEY_free(k->pkey);
    *k = (struct auth_key){0};
}

void auth_keys_fini(struct auth_keys *keys)
{
    for (size_t i = 0; i < keys->count; i++)
        key_fini(&keys->list[i]);
    free(keys->list);
    *keys = (struct auth_keys){0};
}

static enum err check_rsa(const EVP_PKEY *pkey, const char *name, struct error *reterr)
{
    int bits = EVP_PKEY_get_bits(pkey);
    BIGNUM *e = NULL;
    bool good_exponent = EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_E, &e) == 1 && BN_is_odd(e) &&
                         BN_num_bits(e) >= 2 && BN_num_bits(e) <= 64;
    BN_free(e);
    if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX)
        return fail(reterr, ERR_BAD_REQUEST, "%s: an RSA key of %d bits; %d to %d are accepted", name, bits,
                    RSA_BITS_MIN, RSA_BITS_MAX);
    if (!good_exponent)
        return fail(reterr, ERR_BAD_REQUEST, "%s: the RSA key has an exponent that is not odd and 3 to 64 bits", name);
    return OK;
}

static enum err check_key(const struct auth_key *k, const char *name, struct error *reterr)
{
    if (k->pkey == NULL) {
        size_t least = algorithms[k->algorithm].least;
        if (k->secret_n < least)
            return fail(reterr, ERR_BAD_REQUEST, "%s: a secret of %zu bytes; %s needs at least %zu", name, k->secret_n,
                        auth_algorithm_name(k->algorithm), least);
        if (k->secret_n > SECRET_MAX)
            return fail(reterr, ERR_BAD_REQUEST, "%s: %zu bytes are no secret; at most %u", name, k->secret_n,
                        SECRET_MAX);
        return OK;
    }
    if (k->algorithm == AUTH_RS256)
        return check_rsa(k->pkey, name, reterr);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, k->pkey, NULL);
    bool good = ctx != NULL && EVP_PKEY_public_check(ctx) == 1;
    EVP_PKEY_CTX_free(ctx);
    return good ? OK : fail(reterr, ERR_BAD_REQUEST, "%s: not a point of its curve", name);
}

static enum err check_kid(const struct auth_keys *keys, const char *kid, const char *name, struct error *reterr)
{
    for (size_t i = 0; i < keys->count; i++)
        if (keys->list[i].kid != NULL && strcmp(keys->list[i].kid, kid) == 0)
            return fail(reterr, ERR_BAD_REQUEST, "%s: another key has the kid \"%.40s\" too", name, kid);
    return OK;
}

static enum err check_nameless(const struct auth_keys *keys, const char *name, struct error *reterr)
{
    size_t n = 0;
    for (size_t i = 0; i < keys->count; i++)
        n += keys->list[i].kid == NULL;
    if (n == AUTH_NAMELESS_MAX)
        return fail(reterr, ERR_BAD_REQUEST, "%s: more than %u keys without a kid; give them names", name,
                    AUTH_NAMELESS_MAX);
    return OK;
}

enum err auth_keys_add(struct auth_keys *keys, struct auth_key *k, const struct auth_source *from, struct error *reterr)
{
    const char *name = auth_source_name(from);
    enum err err = check_key(k, name, reterr);
    ERR_clear_error();
    if (err == OK && keys->count == AUTH_KEYS_MAX)
        err = fail(reterr, ERR_BAD_REQUEST, "%s: more than %u keys", name, AUTH_KEYS_MAX);
    if (err == OK)
        err = k->kid != NULL ? check_kid(keys, k->kid, name, reterr) : check_nameless(keys, name, reterr);
    if (err != OK) {
        key_fini(k);
        return err;
    }
    keys->list = xrealloc(keys->list, (keys->count + 1) * sizeof *keys->list);
    keys->list[keys->count++] = *k;
    *k = (struct auth_key){0};
    return OK;
}

/* --- one file --- */

static const char *find(struct slice text, const char *what)
{
    return text.n != 0 ? memmem(text.p, text.n, what, strlen(what)) : NULL;
}

static enum err load_pem(struct auth_keys *keys, struct slice text, const char *file, const char *kid,
                         struct error *reterr)
{
    struct auth_source from = {.file = file};
    struct auth_key k = {.kid = kid != NULL ? xstrdup(kid) : NULL};
    const char *name = auth_source_name(&from);
    const char *first = find(text, "-----BEGIN ");
    size_t rest = text.n - (size_t)(first + 1 - text.p);
    if (find(text, "PRIVATE KEY-----") != NULL)
        (void)fail(reterr, ERR_BAD_REQUEST, "%s: a private key; give the public one (openssl pkey -pubout)", name);
    else if (find(text, "BEGIN CERTIFICATE-----") != NULL)
        (void)fail(reterr, ERR_BAD_REQUEST, "%s: a certificate; give its key (openssl x509 -pubkey -noout)", name);
    else if (find((struct slice){first + 1, rest}, "-----BEGIN ") != NULL)
        (void)fail(reterr, ERR_BAD_REQUEST, "%s: more than one key; one PEM file holds one", name);
    else {
        static char no_password[] = ""; /* or an encrypted file would make OpenSSL ask on the terminal */
        BIO *bio = BIO_new_mem_buf(text.p, (int)text.n);
        k.pkey = bio != NULL ? PEM_read_bio_PUBKEY(bio, NULL, NULL, no_password) : NULL;
        BIO_free(bio);
        ERR_clear_error();
        if (k.pkey == NULL)
            (void)fail(reterr, ERR_BAD_REQUEST, "%s: not a PEM file with -----BEGIN PUBLIC KEY-----", name);
        else if (!auth_algorithm_of(k.pkey, &k.algorithm))
            (void)fail(reterr, ERR_BAD_REQUEST, "%s: none of RSA, EC on P-256 and Ed25519", name);
        else
            return auth_keys_add(keys, &k, &from, reterr);
    }
    key_fini(&k);
    return reterr->code;
}

/* Files that were meant as keys of another kind must never end up as secrets that everybody knows. */
static const char *not_a_secret(struct slice text)
{
    static const char *const marks[] = {"ssh-", "ecdsa-", "AAAA", "\x30\x81", "\x30\x82", "\x30\x59", "\x30\x2a"};
    for (size_t i = 0; i < ARRAY_LEN(marks); i++)
        if (slice_starts(text, slice_str(marks[i])))
            return i < 3 ? "looks like an OpenSSH key" : "looks like a key in DER";
    return NULL;
}

static enum err load_secret(struct auth_keys *keys, struct slice text, const char *file, const char *kid,
                            struct error *reterr)
{
    struct auth_source from = {.file = file};
    struct auth_key k = {.algorithm = AUTH_HS256};
    const char *why = not_a_secret(text);
    if (why != NULL)
        return fail(reterr, ERR_BAD_REQUEST, "%s: %s; convert it to a PEM file with -----BEGIN PUBLIC KEY-----",
                    auth_source_name(&from), why);
    /* The line break that editors add is not part of it. */
    if (text.n != 0 && text.p[text.n - 1] == '\n')
        text.n -= text.n > 1 && text.p[text.n - 2] == '\r' ? 2 : 1;
    k.secret = (unsigned char *)xstrndup(text.n != 0 ? text.p : "", text.n);
    k.secret_n = text.n;
    k.kid = kid != NULL ? xstrdup(kid) : NULL;
    return auth_keys_add(keys, &k, &from, reterr);
}

static bool kid_letter(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || strchr("._:-", c) != NULL;
}

/* KID=FILE; a file with = in its name is ./a=b. Returns the file, *ret_kid is the caller's. */
static const char *split_option(const char *option, char **ret_kid)
{
    size_t n = strcspn(option, "=");
    bool named = option[n] == '=' && n >= 1 && n <= KID_MAX;
    for (size_t i = 0; i < n && named; i++)
        named = kid_letter(option[i]);
    *ret_kid = named ? xstrndup(option, n) : NULL;
    return named ? option + n + 1 : option;
}

static struct slice skip_blanks(struct slice s)
{
    if (slice_starts(s, SLICE("\xef\xbb\xbf")))
        s = slice_from(s, 3);
    while (s.n != 0 && strchr(" \t\r\n", s.p[0]) != NULL && s.p[0] != '\0')
        s = slice_from(s, 1);
    return s;
}

enum err auth_keys_load(struct auth_keys *keys, const char *option, struct error *reterr)
{
    AUTO_FREE char *kid = NULL;
    const char *file = split_option(option, &kid);
    struct buf bytes = BUF_INIT;
    const char *why = file_read(file, FILE_MAX, &bytes);
    enum err err = why == NULL ? OK : fail(reterr, ERR_BAD_REQUEST, "jwt-key %.120s: %s", file, why);
    struct slice text = buf_slice(&bytes), begin = skip_blanks(text);
    if (err == OK && find(text, "-----BEGIN ") != NULL)
        err = load_pem(keys, text, file, kid, reterr);
    else if (err == OK && (begin.n == 0 || (begin.p[0] != '{' && begin.p[0] != '[')))
        err = load_secret(keys, text, file, kid, reterr);
    else if (err == OK && kid != NULL)
        err = fail(reterr, ERR_BAD_REQUEST, "jwt-key %.100s: a JSON key names itself; leave out the KID=", file);
    else if (err == OK)
        err = auth_jwks_load(keys, begin, file, reterr);
    ERR_clear_error();
    if (bytes.p != NULL)
        OPENSSL_cleanse(bytes.p, bytes.n);
    buf_fini(&bytes);
    return err;
}
