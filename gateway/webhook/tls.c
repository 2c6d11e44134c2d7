/* gateway/webhook/tls.c: a TLS client with OpenSSL over a non-blocking socket. */
#include "gateway/webhook/tls.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/mem.h"
#include "base/resolve.h"

struct webhook_tls {
    SSL_CTX *ctx;
    const char *option;
};

struct webhook_tls_conn {
    SSL *ssl;
    const char *name, *option;
    char why[240];
};

/* The oldest error, which is the cause; the queue is empty afterwards. */
static const char *reason(void)
{
    const char *why = ERR_reason_error_string(ERR_peek_error());
    ERR_clear_error();
    return why != NULL ? why : "unknown error";
}

struct webhook_tls *webhook_tls_create(const char *option, const char *ca, struct error *reterr)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (ctx == NULL)
        abort(); /* memory only */
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    ERR_clear_error();
    int loaded = ca != NULL ? SSL_CTX_load_verify_file(ctx, ca) : SSL_CTX_set_default_verify_paths(ctx);
    if (loaded != 1) {
        fail(reterr, ERR_BAD_REQUEST, "%s %.100s: %s", option, ca != NULL ? ca : "(the system's)", reason());
        SSL_CTX_free(ctx);
        return NULL;
    }
    ERR_clear_error();
    struct webhook_tls *t = xcalloc(1, sizeof *t);
    t->ctx = ctx;
    t->option = option;
    return t;
}

void webhook_tls_destroy(struct webhook_tls **tp)
{
    struct webhook_tls *t = TAKE(*tp);
    if (t == NULL)
        return;
    SSL_CTX_free(t->ctx);
    free(t);
}

/* RFC 6066 §3: an address is no server name, so it is verified but not asked for. */
static bool set_name(SSL *ssl, const char *name)
{
    if (address_is_numeric(name))
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (SSL_set1_host(ssl, name) != 1)
        return false;
    AUTO_FREE char *copy = xstrdup(name); /* OpenSSL's macro wants to write, and does not */
    return SSL_set_tlsext_host_name(ssl, copy) == 1;
}

struct webhook_tls_conn *webhook_tls_connect(const struct webhook_tls *t, int fd, const char *name)
{
    struct webhook_tls_conn *c = xcalloc(1, sizeof *c);
    c->name = name;
    c->option = t->option;
    c->ssl = SSL_new(t->ctx);
    if (c->ssl == NULL || SSL_set_fd(c->ssl, fd) != 1 || !set_name(c->ssl, name))
        abort(); /* memory only */
    SSL_set_connect_state(c->ssl);
    return c;
}

void webhook_tls_conn_destroy(struct webhook_tls_conn **cp)
{
    struct webhook_tls_conn *c = TAKE(*cp);
    if (c == NULL)
        return;
    if (SSL_is_init_finished(c->ssl))
        (void)SSL_shutdown(c->ssl); /* one attempt to say goodbye */
    ERR_clear_error();
    SSL_free(c->ssl);
    free(c);
}

static enum webhook_io failed(struct webhook_tls_conn *c)
{
    long verdict = SSL_get_verify_result(c->ssl);
    if (verdict != X509_V_OK && !SSL_is_init_finished(c->ssl)) {
        bool name = verdict == X509_V_ERR_HOSTNAME_MISMATCH || verdict == X509_V_ERR_IP_ADDRESS_MISMATCH;
        (void)snprintf(
            c->why, sizeof c->why, "its certificate is refused: %s%s%.100s%s", X509_verify_cert_error_string(verdict),
            name ? " (it must be for " : "; whom to trust is said by ", name ? c->name : c->option, name ? ")" : "");
        ERR_clear_error();
        return WEBHOOK_IO_FAILED;
    }
    int why = ERR_GET_REASON(ERR_peek_error());
    if (why == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
        ERR_clear_error();
        return WEBHOOK_IO_END;
    }
    (void)snprintf(c->why, sizeof c->why, "TLS: %s%s", reason(),
                   why == SSL_R_WRONG_VERSION_NUMBER ? "; is it a port for TLS?" : "");
    return WEBHOOK_IO_FAILED;
}

/* What the last call of OpenSSL, which returned n, means. */
static enum webhook_io judge(struct webhook_tls_conn *c, int n)
{
    int error = errno;
    switch (SSL_get_error(c->ssl, n)) {
    case SSL_ERROR_WANT_READ: return WEBHOOK_IO_WANT_READ;
    case SSL_ERROR_WANT_WRITE: return WEBHOOK_IO_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN: return WEBHOOK_IO_END;
    case SSL_ERROR_SYSCALL:
        if (error == 0)
            return WEBHOOK_IO_END;
        (void)snprintf(c->why, sizeof c->why, "%s", strerror(error)); /* NOLINT(concurrency-mt-unsafe): one thread */
        return WEBHOOK_IO_FAILED;
    default: return failed(c);
    }
}

/* Errors left over by others must not be taken for ours. */
static void forget_errors(void)
{
    ERR_clear_error();
    errno = 0;
}

enum webhook_io webhook_tls_handshake(struct webhook_tls_conn *c)
{
    forget_errors();
    int n = SSL_do_handshake(c->ssl);
    return n == 1 ? WEBHOOK_IO_DONE : judge(c, n);
}

enum webhook_io webhook_tls_read(struct webhook_tls_conn *c, char *p, size_t n, size_t *ret)
{
    forget_errors();
    int got = SSL_read(c->ssl, p, n < INT_MAX ? (int)n : INT_MAX);
    if (got <= 0)
        return judge(c, got);
    *ret = (size_t)got;
    return WEBHOOK_IO_DONE;
}

enum webhook_io webhook_tls_write(struct webhook_tls_conn *c, const char *p, size_t n, size_t *ret)
{
    forget_errors();
    int put = SSL_write(c->ssl, p, n < INT_MAX ? (int)n : INT_MAX);
    if (put <= 0)
        return judge(c, put);
    *ret = (size_t)put;
    return WEBHOOK_IO_DONE;
}

const char *webhook_tls_error(const struct webhook_tls_conn *c)
{
    return c->why;
}
