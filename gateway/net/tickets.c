/* gateway/net/tickets.c: the keys of session tickets, and OpenSSL's questions about them. */
#include "gateway/net/tickets.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "base/mem.h"
#include "base/random.h"
#include "base/text.h"
#include "gateway/metrics.h"

#define NAME_SIZE 16 /* OpenSSL's */
#define HALF_SIZE 32

struct key {
    unsigned char name[NAME_SIZE], cipher[HALF_SIZE], mac[HALF_SIZE];
    uint64_t from_ms; /* by the loop's clock; 0: always */
};
_Static_assert(NAME_SIZE + 2 * HALF_SIZE == TICKET_SECRET_BYTES, "");

struct tickets {
    struct loop *loop;
    EVP_CIPHER *cipher; /* what an implicit fetch would look up for every handshake */
    bool old_too;       /* TLS 1.2 */
    struct key own;     /* before the store has told any */
    struct key keys[SECRETS_MAX];
    size_t count;
};

struct tickets *tickets_create(struct loop *loop)
{
    struct tickets *t = xcalloc(1, sizeof *t);
    t->loop = loop;
    t->cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    if (t->cipher == NULL)
        abort(); /* an OpenSSL without it speaks no TLS either */
    random_bytes(t->own.name, sizeof t->own.name);
    random_bytes(t->own.cipher, sizeof t->own.cipher);
    random_bytes(t->own.mac, sizeof t->own.mac);
    return t;
}

void tickets_destroy(struct tickets **tt)
{
    struct tickets *t = TAKE(*tt);
    if (t == NULL)
        return;
    EVP_CIPHER_free(t->cipher);
    OPENSSL_cleanse(t, sizeof *t);
    free(t);
}

/* --- keys --- */

static bool parse(struct slice text, struct key *ret)
{
    unsigned char bytes[TICKET_SECRET_BYTES];
    if (text.n != 2 * sizeof bytes)
        return false;
    for (size_t i = 0; i < sizeof bytes; i++) {
        int high = text_hex(text.p[2 * i]), low = text_hex(text.p[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        bytes[i] = (unsigned char)(high << 4 | low);
    }
    memcpy(ret->name, bytes, NAME_SIZE);
    memcpy(ret->cipher, bytes + NAME_SIZE, HALF_SIZE);
    memcpy(ret->mac, bytes + NAME_SIZE + HALF_SIZE, HALF_SIZE);
    OPENSSL_cleanse(bytes, sizeof bytes);
    return true;
}

void tickets_set(struct tickets *t, const struct secret_record *secrets, size_t n)
{
    struct key keys[SECRETS_MAX] = {0};
    size_t count = 0;
    uint64_t now = loop_now_ms(t->loop);
    for (size_t i = 0; i < n && count < SECRETS_MAX; i++) {
        if (!parse(secrets[i].text, &keys[count]))
            continue;
        if (secrets[i].age_ms >= 0)
            keys[count++].from_ms = (uint64_t)secrets[i].age_ms < now ? now - (uint64_t)secrets[i].age_ms : 0;
        else
            keys[count++].from_ms = now + (uint64_t) - (secrets[i].age_ms + 1) + 1;
    }
    if (count != 0) {
        memcpy(t->keys, keys, sizeof keys);
        t->count = count;
    }
    OPENSSL_cleanse(keys, sizeof keys);
}

/* The newest that is in use already; they are in order. */
static const struct key *current(const struct tickets *t)
{
    uint64_t now = loop_now_ms(t->loop);
    for (size_t i = t->count; i > 0; i--)
        if (t->keys[i - 1].from_ms <= now)
            return &t->keys[i - 1];
    return t->count != 0 ? &t->keys[0] : &t->own;
}

static const struct key *find(const struct tickets *t, const unsigned char *name)
{
    for (size_t i = 0; i < t->count; i++)
        if (memcmp(t->keys[i].name, name, NAME_SIZE) == 0)
            return &t->keys[i];
    return memcmp(t->own.name, name, NAME_SIZE) == 0 ? &t->own : NULL;
}

/* --- OpenSSL's questions --- */

static bool init_mac(EVP_MAC_CTX *mac, const struct key *k)
{
    char digest[] = "SHA256";
    unsigned char key[HALF_SIZE]; /* OpenSSL's parameters are not const */
    memcpy(key, k->mac, sizeof key);
    OSSL_PARAM params[] = {OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key, sizeof key),
                           OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                           OSSL_PARAM_construct_end()};
    bool ok = EVP_MAC_CTX_set_params(mac, params) == 1;
    OPENSSL_cleanse(key, sizeof key);
    return ok;
}

static int seal(const struct tickets *t, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *ctx, EVP_MAC_CTX *mac)
{
    const struct key *k = current(t);
    memcpy(name, k->name, NAME_SIZE);
    bool ok = RAND_bytes(iv, EVP_CIPHER_get_iv_length(t->cipher)) == 1 &&
              EVP_EncryptInit_ex(ctx, t->cipher, NULL, k->cipher, iv) == 1 && init_mac(mac, k);
    return ok ? 1 : -1;
}

static int unseal(const struct tickets *t, bool single_use, const unsigned char *name, const unsigned char *iv,
                  EVP_CIPHER_CTX *ctx, EVP_MAC_CTX *mac)
{
    const struct key *k = find(t, name);
    if (k == NULL) {
        metrics->tls_tickets_unknown++;
        return 0; /* a full handshake */
    }
    if (EVP_DecryptInit_ex(ctx, t->cipher, NULL, k->cipher, iv) != 1 || !init_mac(mac, k))
        return -1;
    return single_use || k != current(t) ? 2 : 1; /* 2: and a new ticket */
}

/* NOLINTNEXTLINE(readability-non-const-parameter): OpenSSL says what it takes */
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *ctx, EVP_MAC_CTX *mac, int make)
{
    const struct tickets *t = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    bool tls_1_3 = SSL_version(ssl) >= TLS1_3_VERSION;
    if (!tls_1_3 && !t->old_too)
        return 0; /* none */
    return make != 0 ? seal(t, name, iv, ctx, mac) : unseal(t, tls_1_3, name, iv, ctx, mac);
}

void tickets_use(struct tickets *t, SSL_CTX *ctx, const struct config *cfg)
{
    static const unsigned char context[] = "xindao"; /* sessions of something else that knows the keys are not ours */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    if (cfg->tls_tickets == TICKETS_OFF) {
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(ctx, 0);
        return;
    }
    t->old_too = cfg->tls_tickets == TICKETS_ALL;
    SSL_CTX_set_app_data(ctx, t);
    SSL_CTX_set_num_tickets(ctx, 1);
    SSL_CTX_set_timeout(ctx, (long)cfg->ticket_rotation_s);
    (void)SSL_CTX_set_session_id_context(ctx, context, sizeof context - 1);
    (void)SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
}
