/* gateway/net/tls_context.c: certificates, and what TLS is spoken. */
#include <assert.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "base/log.h"
#include "gateway/net/net_private.h"

/* Mozilla "intermediate", without the finite-field Diffie-Hellman suites: no client of ours needs them, and they cost the server the most. */
#define CIPHERS_1_2                                                                                                    \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"                         \
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define CIPHERS_1_3 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

/* --- certificates --- */

/* A key with a passphrase cannot be used by a server that starts on its own. */
static int no_passphrase(char *ret, int size, int writing, void *arg) /* NOLINT(readability-non-const-parameter) */
{
    (void)ret;
    (void)size;
    (void)writing;
    *(bool *)arg = true;
    return 0;
}

static int choose_http_1_1(SSL *ssl, const unsigned char **ret, unsigned char *ret_n, const unsigned char *in,
                           unsigned n, void *arg)
{
    (void)ssl;
    (void)arg;
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, ret_n, ours, sizeof ours - 1, in, n) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL; /* RFC 7301 §3.2: not a protocol of ours */
    *ret = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static void context_options(SSL_CTX *ctx)
{
    char groups[] = "X25519:P-256"; /* OpenSSL's macro casts const away */
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                 SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(ctx, 0);
    SSL_CTX_set_alpn_select_cb(ctx, choose_http_1_1, NULL);
    tls_hand_over(ctx);
    int ok = SSL_CTX_set_cipher_list(ctx, CIPHERS_1_2) && SSL_CTX_set_ciphersuites(ctx, CIPHERS_1_3) &&
             SSL_CTX_set1_groups_list(ctx, groups);
    assert(ok);
    (void)ok;
}

static void warn_when_expired(SSL_CTX *ctx, const char *file)
{
    const X509 *cert = SSL_CTX_get0_certificate(ctx);
    if (X509_cmp_current_time(X509_get0_notAfter(cert)) < 0)
        LOG(WARN, "certificate has expired", "file=%s", log_q(slice_str(file)));
    else if (X509_cmp_current_time(X509_get0_notBefore(cert)) > 0)
        LOG(WARN, "certificate is not valid yet", "file=%s", log_q(slice_str(file)));
}

static enum err load_files(SSL_CTX *ctx, const struct config *cfg, struct error *reterr)
{
    bool asked = false;
    SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
    SSL_CTX_set_default_passwd_cb_userdata(ctx, &asked);
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(ctx, cfg->tls_cert) != 1)
        return fail(reterr, ERR_BAD_REQUEST, "tls-cert %.100s: %s", cfg->tls_cert, tls_reason());
    if (SSL_CTX_use_PrivateKey_file(ctx, cfg->tls_key, SSL_FILETYPE_PEM) != 1) {
        bool mismatch = ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH;
        const char *why = tls_reason();
        if (asked)
            why = "the key has a passphrase; store it without";
        else if (mismatch)
            why = "the key does not belong to the certificate";
        return fail(reterr, ERR_BAD_REQUEST, "tls-key %.100s: %s", cfg->tls_key, why);
    }
    SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL);
    if (SSL_CTX_check_private_key(ctx) != 1)
        return fail(reterr, ERR_BAD_REQUEST, "tls-key %.100s: %s", cfg->tls_key, tls_reason());
    return OK;
}

enum err tls_context_create(const struct config *cfg, struct tickets *tickets, SSL_CTX **ret, struct error *reterr)
{
    if (cfg->tls_cert == NULL || cfg->tls_key == NULL)
        return fail(reterr, ERR_BAD_REQUEST, "tls-cert and tls-key are needed (or insecure, for plain ws://)");
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (ctx == NULL)
        return fail(reterr, ERR_INTERNAL, "OpenSSL: %s", tls_reason());
    context_options(ctx);
    if (tickets != NULL)
        tickets_use(tickets, ctx, cfg);
    enum err err = load_files(ctx, cfg, reterr);
    if (err != OK) {
        SSL_CTX_free(ctx);
        return err;
    }
    warn_when_expired(ctx, cfg->tls_cert);
    *ret = ctx;
    return OK;
}
