/* gateway/net/record.c: sealing and opening TLS 1.3 records. */
#include "gateway/net/record.h"

#include <assert.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/hmac.h>

#include "base/mem.h"

#define TAG_SIZE     16
#define NONCE_SIZE   12
#define QUIET_MAX    32u /* alerts, key updates and empty records in a row: an honest peer sends one or two */
#define KEY_UPDATE   24
#define CONTENT_DATA 23 /* what every protected record calls itself */

struct record_suite {
    unsigned number;
    const char *cipher;
    size_t key_n, hash_n;
    const EVP_MD *(*hash)(void);
};

static const struct record_suite suites[] = {
    {0x1301, "AES-128-GCM", 16, 32, EVP_sha256},
    {0x1302, "AES-256-GCM", 32, 48, EVP_sha384},
    {0x1303, "ChaCha20-Poly1305", 32, 32, EVP_sha256},
};

/* Looked up once: it costs more than sealing a record. They live until OpenSSL cleans up. */
static EVP_CIPHER *ciphers[ARRAY_LEN(suites)];

static void forget_ciphers(void)
{
    for (size_t i = 0; i < ARRAY_LEN(suites); i++) {
        EVP_CIPHER_free(ciphers[i]);
        ciphers[i] = NULL;
    }
}

static const EVP_CIPHER *suite_cipher(const struct record_suite *suite)
{
    static bool registered;
    EVP_CIPHER **c = &ciphers[suite - suites];
    if (!registered)
        registered = OPENSSL_atexit(forget_ciphers) == 1;
    if (*c == NULL)
        *c = EVP_CIPHER_fetch(NULL, suite->cipher, NULL);
    return *c;
}

/* --- keys --- */

/* HKDF-Expand-Label with an empty context (RFC 8446 §7.1); n is at most one block of the hash, so one HMAC is all of HKDF-Expand. */
static void expand_label(const struct record_suite *suite, const unsigned char *secret, const char *label,
                         unsigned char *ret, size_t n)
{
    unsigned char info[40] = {0, (unsigned char)n}, block[EVP_MAX_MD_SIZE];
    size_t label_n = strlen(label), at = 2;
    assert(n <= suite->hash_n && label_n <= 12);
    info[at++] = (unsigned char)(6 + label_n);
    memcpy(info + at, "tls13 ", 6);
    memcpy(info + at + 6, label, label_n);
    at += 6 + label_n;
    info[at++] = 0; /* no context */
    info[at++] = 1; /* HKDF's first block */
    if (HMAC(suite->hash(), secret, (int)suite->hash_n, info, at, block, NULL) == NULL)
        abort(); /* out of memory, as xmalloc */
    memcpy(ret, block, n);
    OPENSSL_cleanse(block, sizeof block);
}

static void half_key(struct record_half *h, const struct record_suite *suite, bool encrypt)
{
    unsigned char key[32];
    expand_label(suite, h->secret, "key", key, suite->key_n);
    expand_label(suite, h->secret, "iv", h->iv, sizeof h->iv);
    if (EVP_CipherInit_ex(h->ctx, suite_cipher(suite), NULL, key, NULL, encrypt) != 1)
        abort();
    OPENSSL_cleanse(key, sizeof key);
    h->seq = 0;
}

static void half_init(struct record_half *h, const struct record_suite *suite, const unsigned char *secret,
                      bool encrypt)
{
    memcpy(h->secret, secret, suite->hash_n);
    h->ctx = EVP_CIPHER_CTX_new();
    if (h->ctx == NULL)
        abort();
    half_key(h, suite, encrypt);
}

/* The next generation of keys (RFC 8446 §7.2). */
static void half_update(struct record_half *h, const struct record_suite *suite, bool encrypt)
{
    expand_label(suite, h->secret, "traffic upd", h->secret, suite->hash_n);
    half_key(h, suite, encrypt);
}

static void half_nonce(const struct record_half *h, unsigned char ret[NONCE_SIZE])
{
    memcpy(ret, h->iv, NONCE_SIZE);
    for (int i = 0; i < 8; i++)
        ret[NONCE_SIZE - 1 - i] ^= (unsigned char)(h->seq >> (8 * i));
}

struct records *records_create(unsigned suite, const struct record_secrets *secrets)
{
    for (size_t i = 0; i < ARRAY_LEN(suites); i++) {
        const struct record_suite *s = &suites[i];
        if (s->number != suite || secrets->client_n != s->hash_n || secrets->server_n != s->hash_n ||
            suite_cipher(s) == NULL)
            continue;
        struct records *r = xcalloc(1, sizeof *r);
        r->suite = s;
        half_init(&r->in, s, secrets->client, false);
        half_init(&r->out, s, secrets->server, true);
        r->out.seq = secrets->written;
        return r;
    }
    return NULL;
}

void records_destroy(struct records **records)
{
    struct records *r = *records;
    if (r == NULL)
        return;
    EVP_CIPHER_CTX_free(r->in.ctx); /* clears the keys */
    EVP_CIPHER_CTX_free(r->out.ctx);
    buf_fini(&r->part);
    OPENSSL_cleanse(r, sizeof *r);
    free(r);
    *records = NULL;
}

/* --- sealing --- */

static void put_header(unsigned char *p, size_t n)
{
    p[0] = CONTENT_DATA;
    p[1] = 3; /* all versions since 1.2 say 1.2 */
    p[2] = 3;
    p[3] = (unsigned char)(n >> 8);
    p[4] = (unsigned char)n;
}

size_t records_seal(struct records *r, enum record_type type, const char *p, size_t n, char *ret)
{
    struct record_half *h = &r->out;
    unsigned char nonce[NONCE_SIZE], inner = (unsigned char)type, *to = (unsigned char *)ret;
    int done = 0;
    assert(n <= RECORD_PLAIN_MAX);
    put_header(to, n + 1 + TAG_SIZE);
    half_nonce(h, nonce);
    h->seq++;
    bool ok = EVP_EncryptInit_ex(h->ctx, NULL, NULL, NULL, nonce) == 1 &&
              EVP_EncryptUpdate(h->ctx, NULL, &done, to, RECORD_HEADER) == 1 &&
              EVP_EncryptUpdate(h->ctx, to + RECORD_HEADER, &done, (const unsigned char *)p, (int)n) == 1 &&
              EVP_EncryptUpdate(h->ctx, to + RECORD_HEADER + n, &done, &inner, 1) == 1 &&
              EVP_EncryptFinal_ex(h->ctx, to + RECORD_HEADER + n + 1, &done) == 1 &&
              EVP_CIPHER_CTX_ctrl(h->ctx, EVP_CTRL_AEAD_GET_TAG, TAG_SIZE, to + RECORD_HEADER + n + 1) == 1;
    if (!ok)
        abort(); /* only a programming error gets here, and to go on would send something unprotected */
    return n + RECORD_OVERHEAD;
}

/* --- opening --- */

static enum record_result bad(struct records *r, enum tls_alert alert)
{
    r->alert = alert;
    return RECORD_BAD;
}

static size_t sealed_length(const unsigned char *header)
{
    return (size_t)header[3] << 8 | header[4];
}

static bool header_ok(struct records *r, const unsigned char *header)
{
    if (header[0] != CONTENT_DATA)
        r->alert = ALERT_UNEXPECTED_MESSAGE; /* also change_cipher_spec, which belongs into the handshake */
    else if (sealed_length(header) > RECORD_SEALED_MAX)
        r->alert = ALERT_RECORD_OVERFLOW;
    else if (sealed_length(header) <= TAG_SIZE)
        r->alert = ALERT_BAD_RECORD_MAC;
    else
        return true;
    return false;
}

static bool decrypt(struct record_half *h, unsigned char *record, size_t n)
{
    unsigned char nonce[NONCE_SIZE], *body = record + RECORD_HEADER;
    int done = 0;
    half_nonce(h, nonce);
    h->seq++;
    return EVP_DecryptInit_ex(h->ctx, NULL, NULL, NULL, nonce) == 1 &&
           EVP_DecryptUpdate(h->ctx, NULL, &done, record, RECORD_HEADER) == 1 &&
           EVP_DecryptUpdate(h->ctx, body, &done, body, (int)n) == 1 &&
           EVP_CIPHER_CTX_ctrl(h->ctx, EVP_CTRL_AEAD_SET_TAG, TAG_SIZE, body + n) == 1 &&
           EVP_DecryptFinal_ex(h->ctx, body + n, &done) == 1;
}

/* A whole record: what is in it. RFC 8446 §5.2 to §5.4. */
static enum record_result open_record(struct records *r, char *record, struct record *ret)
{
    unsigned char *p = (unsigned char *)record;
    size_t n = sealed_length(p) - TAG_SIZE;
    if (!decrypt(&r->in, p, n))
        return bad(r, ALERT_BAD_RECORD_MAC);
    p += RECORD_HEADER;
    while (n > 0 && p[n - 1] == 0)
        n--; /* padding */
    if (n == 0)
        return bad(r, ALERT_UNEXPECTED_MESSAGE);
    *ret = (struct record){.type = p[n - 1], .p = (char *)p, .n = n - 1};
    if (ret->n > RECORD_PLAIN_MAX)
        return bad(r, ALERT_RECORD_OVERFLOW);
    bool known = ret->type == RECORD_DATA || ret->type == RECORD_ALERT || ret->type == RECORD_HANDSHAKE;
    if (!known || (ret->n == 0 && ret->type != RECORD_DATA))
        return bad(r, ALERT_UNEXPECTED_MESSAGE);
    r->quiet = ret->type == RECORD_DATA && ret->n != 0 ? 0 : r->quiet + 1;
    return r->quiet > QUIET_MAX ? bad(r, ALERT_UNEXPECTED_MESSAGE) : RECORD_READY;
}

/* Moves bytes to r->part until it has want of them; false when there are not enough. */
static bool collect(struct records *r, char **p, size_t *n, size_t want)
{
    size_t missing = want - r->part.n, take = missing < *n ? missing : *n;
    buf_append(&r->part, (struct slice){*p, take});
    *p += take;
    *n -= take;
    return take == missing;
}

enum record_result records_take(struct records *r, char **p, size_t *n, struct record *ret)
{
    if (r->part_done) {
        buf_fini(&r->part);
        r->part_done = false;
    }
    if (r->part.n == 0 && *n >= RECORD_HEADER) {
        const unsigned char *header = (const unsigned char *)*p;
        if (!header_ok(r, header))
            return RECORD_BAD;
        size_t whole = RECORD_HEADER + sealed_length(header);
        if (*n >= whole) { /* the usual case: nothing is copied */
            char *record = *p;
            *p += whole;
            *n -= whole;
            return open_record(r, record, ret);
        }
    }
    if (r->part.n < RECORD_HEADER && !collect(r, p, n, RECORD_HEADER))
        return RECORD_MORE;
    const unsigned char *header = (const unsigned char *)r->part.p;
    if (!header_ok(r, header))
        return RECORD_BAD;
    if (!collect(r, p, n, RECORD_HEADER + sealed_length(header)))
        return RECORD_MORE;
    r->part_done = true;
    return open_record(r, r->part.p, ret);
}

/* --- key updates --- */

bool records_key_update(struct records *r, struct slice message, bool *retasked)
{
    const unsigned char head[] = {KEY_UPDATE, 0, 0, 1};
    if (message.n != sizeof head + 1 || memcmp(message.p, head, sizeof head) != 0)
        return false;
    unsigned char asked = (unsigned char)message.p[sizeof head];
    if (asked > 1)
        return false;
    half_update(&r->in, r->suite, false);
    *retasked = asked == 1;
    return true;
}

size_t records_update_own(struct records *r, char *ret)
{
    static const char update[] = {KEY_UPDATE, 0, 0, 1, 0}; /* not asking for one in return */
    size_t n = records_seal(r, RECORD_HANDSHAKE, update, sizeof update, ret);
    half_update(&r->out, r->suite, true);
    return n;
}
