/* base/tls_client.c: TLS connections to others, with OpenSSL. */
#include "base/tls_client.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/mem.h"
#include "base/resolve.h"

struct tls_client {
    SSL_CTX *ctx;
    char *name; /* NULL: said by each connection */
    const char *ca_hint, *cert_hint;
};

struct tls_client_conn {
    SSL *ssl;
    const struct tls_client *client;
    char *name;
    bool asked; /* for a certificate that we do not have */
    bool heard; /* any of what the handshake was for */
    char why[240];
};

const char *tls_reason(void)
{
    unsigned long e = ERR_peek_error();
    const char *why = NULL;
    if (ERR_GET_LIB(e) == ERR_LIB_SYS)
        why = strerror(ERR_GET_REASON(e)); /* NOLINT(concurrency-mt-unsafe): one thread */
    else if (e != 0)
        why = ERR_reason_error_string(e);
    ERR_clear_error();
    return why != NULL ? why : "unknown error";
}

/* A key with a passphrase cannot be used by a server that starts on its own. */
static int no_passphrase(char *ret, int size, int writing, void *arg) /* NOLINT(readability-non-const-parameter) */
{
    (void)ret;
    (void)size;
    (void)writing;
    (void)arg;
    return 0;
}

/* Called when the server wants a certificate and none is configured. It may well do without. */
static int no_certificate(SSL *ssl, X509 **ret_cert, EVP_PKEY **ret_key) /* NOLINT(readability-non-const-parameter) */
{
    struct tls_client_conn *c = SSL_get_app_data(ssl);
    (void)ret_cert;
    (void)ret_key;
    c->asked = true;
    return 0;
}

static enum err load_certificate(SSL_CTX *ctx, const struct tls_client_config *cfg, struct error *reterr)
{
    if (SSL_CTX_use_certificate_chain_file(ctx, cfg->cert) != 1)
        return fail(reterr, ERR_BAD_REQUEST, "cert %.100s: %s", cfg->cert, tls_reason());
    if (SSL_CTX_use_PrivateKey_file(ctx, cfg->key, SSL_FILETYPE_PEM) == 1)
        return OK;
    bool mismatch = ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH;
    const char *why = tls_reason();
    return fail(reterr, ERR_BAD_REQUEST, "key %.100s: %s", cfg->key,
                mismatch ? "it does not belong to the certificate" : why);
}

static enum err load_files(SSL_CTX *ctx, const struct tls_client_config *cfg, struct error *reterr)
{
    ERR_clear_error();
    if (cfg->ca != NULL && SSL_CTX_load_verify_file(ctx, cfg->ca) != 1)
        return fail(reterr, ERR_BAD_REQUEST, "%s %.100s: %s", cfg->ca_name, cfg->ca, tls_reason());
    if (cfg->ca == NULL && SSL_CTX_set_default_verify_paths(ctx) != 1)
        return fail(reterr, ERR_BAD_REQUEST, "%s: the system's certificate authorities: %s", cfg->ca_name,
                    tls_reason());
    ERR_clear_error();
    return cfg->cert != NULL ? load_certificate(ctx, cfg, reterr) : OK;
}

struct tls_client *tls_client_create(const struct tls_client_config *cfg, struct error *reterr)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (ctx == NULL) {
        fail(reterr, ERR_INTERNAL, "OpenSSL: %s", tls_reason());
        return NULL;
    }
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
    SSL_CTX_set_client_cert_cb(ctx, no_certificate);
    if (load_files(ctx, cfg, reterr) != OK) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    struct tls_client *t = xcalloc(1, sizeof *t);
    t->ctx = ctx;
    t->name = cfg->name != NULL ? xstrdup(cfg->name) : NULL;
    t->ca_hint = cfg->ca_hint;
    t->cert_hint = cfg->cert_hint;
    return t;
}

void tls_client_destroy(struct tls_client **tls)
{
    struct tls_client *t = TAKE(*tls);
    if (t == NULL)
        return;
    SSL_CTX_free(t->ctx);
    free(t->name);
    free(t);
}

/* RFC 6066 §3: an address is no server name, so it is verified but not asked for. */
static bool set_name(SSL *ssl, char *name)
{
    if (address_is_numeric(name))
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(ssl, name) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1;
}

struct tls_client_conn *tls_client_connect(const struct tls_client *t, int fd, const char *name)
{
    struct tls_client_conn *c = xcalloc(1, sizeof *c);
    c->client = t;
    c->name = xstrdup(t->name != NULL ? t->name : name);
    c->ssl = SSL_new(t->ctx);
    if (c->ssl == NULL || SSL_set_fd(c->ssl, fd) != 1 || !set_name(c->ssl, c->name))
        abort(); /* memory only */
    SSL_set_app_data(c->ssl, c);
    SSL_set_connect_state(c->ssl);
    return c;
}

void tls_client_conn_destroy(struct tls_client_conn **conn)
{
    struct tls_client_conn *c = TAKE(*conn);
    if (c == NULL)
        return;
    if (SSL_is_init_finished(c->ssl))
        (void)SSL_shutdown(c->ssl); /* one attempt to say goodbye */
    ERR_clear_error();
    SSL_free(c->ssl);
    free(c->name);
    free(c);
}

static void explain_certificate(struct tls_client_conn *c, long verdict)
{
    const char *text = X509_verify_cert_error_string(verdict);
    bool name = verdict == X509_V_ERR_HOSTNAME_MISMATCH || verdict == X509_V_ERR_IP_ADDRESS_MISMATCH;
    bool stranger = verdict == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
                    verdict == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT ||
                    verdict == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN;
    (void)snprintf(c->why, sizeof c->why, "its certificate is refused: %s%s%.100s%s", text,
                   name       ? " (it must be for "
                   : stranger ? " (whom to trust is said by "
                              : "",
                   name       ? c->name
                   : stranger ? c->client->ca_hint
                              : "",
                   name || stranger ? ")" : "");
}

/* In TLS 1.3 a client without the certificate that the server insists on learns it only after its own handshake, or just sees the connection end. */
static void explain(struct tls_client_conn *c, const char *why, const char *hint)
{
    if (c->asked && !c->heard && c->client->cert_hint != NULL)
        (void)snprintf(c->why, sizeof c->why, "%s; does it want a client certificate (%s)?", why, c->client->cert_hint);
    else
        (void)snprintf(c->why, sizeof c->why, "%s%s", why, hint);
}

static enum tls_client_io ended(struct tls_client_conn *c)
{
    explain(c, "it closed the connection", "");
    return TLS_CLIENT_END;
}

static enum tls_client_io failed_in_tls(struct tls_client_conn *c)
{
    long verdict = SSL_get_verify_result(c->ssl);
    int reason = ERR_GET_REASON(ERR_peek_error());
    char why[160];
    if (verdict != X509_V_OK && !SSL_is_init_finished(c->ssl)) {
        explain_certificate(c, verdict);
        ERR_clear_error();
        return TLS_CLIENT_FAILED;
    }
    if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
        ERR_clear_error();
        return ended(c);
    }
    (void)snprintf(why, sizeof why, "TLS: %s", tls_reason());
    explain(c, why, reason == SSL_R_WRONG_VERSION_NUMBER ? "; is it a port for TLS?" : "");
    return TLS_CLIENT_FAILED;
}

/* What the last call of OpenSSL, which returned n, means. */
static enum tls_client_io judge(struct tls_client_conn *c, int n)
{
    int error = errno;
    switch (SSL_get_error(c->ssl, n)) {
    case SSL_ERROR_WANT_READ: return TLS_CLIENT_WANT_READ;
    case SSL_ERROR_WANT_WRITE: return TLS_CLIENT_WANT_WRITE;
    case SSL_ERROR_SSL: return failed_in_tls(c);
    case SSL_ERROR_SYSCALL:
        if (error == 0)
            break;
        explain(c, strerror(error), ""); /* NOLINT(concurrency-mt-unsafe): one thread */
        return TLS_CLIENT_FAILED;
    }
    return ended(c);
}

/* Errors left over by others must not be taken for ours. */
static void forget_errors(void)
{
    ERR_clear_error();
    errno = 0;
}

enum tls_client_io tls_client_handshake(struct tls_client_conn *c)
{
    forget_errors();
    int n = SSL_do_handshake(c->ssl);
    return n == 1 ? TLS_CLIENT_DONE : judge(c, n);
}

enum tls_client_io tls_client_read(struct tls_client_conn *c, char *p, size_t n, size_t *ret)
{
    forget_errors();
    int got = SSL_read(c->ssl, p, n < INT_MAX ? (int)n : INT_MAX);
    if (got <= 0)
        return judge(c, got);
    c->heard = true;
    *ret = (size_t)got;
    return TLS_CLIENT_DONE;
}

enum tls_client_io tls_client_write(struct tls_client_conn *c, const char *p, size_t n, size_t *ret)
{
    forget_errors();
    int put = SSL_write(c->ssl, p, n < INT_MAX ? (int)n : INT_MAX);
    if (put <= 0)
        return judge(c, put);
    *ret = (size_t)put;
    return TLS_CLIENT_DONE;
}

const char *tls_client_error(const struct tls_client_conn *c)
{
    return c->why;
}
