/* gateway/net/tls.c: OpenSSL: certificates, and TLS records to plain bytes and back.
 *
 * All connections share one BIO of ours. Reading: one recv() of the socket fills net->in, and OpenSSL takes its records from there, so that a
 * message costs one system call instead of two per record. Writing: the BIO sends at once and keeps what the kernel does not take in
 * socket->out. To OpenSSL a write therefore never blocks: it has no half-written record, no buffer of its own to keep, and no rule about
 * what the next write must look like. */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "base/log.h"
#include "base/mem.h"
#include "gateway/net/net_private.h"

/* Mozilla "intermediate", without the finite-field Diffie-Hellman suites: no client of ours needs them, and they cost the server the most. */
#define CIPHERS_1_2                                                                                                    \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"                         \
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define CIPHERS_1_3 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

/* --- certificates --- */

static const char *openssl_reason(void)
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
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ctx, 0);
    SSL_CTX_set_read_ahead(ctx, 0);
    SSL_CTX_set_alpn_select_cb(ctx, choose_http_1_1, NULL);
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
        return fail(reterr, ERR_BAD_REQUEST, "tls-cert %.100s: %s", cfg->tls_cert, openssl_reason());
    if (SSL_CTX_use_PrivateKey_file(ctx, cfg->tls_key, SSL_FILETYPE_PEM) != 1) {
        bool mismatch = ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH;
        const char *why = openssl_reason();
        if (asked)
            why = "the key has a passphrase; store it without";
        else if (mismatch)
            why = "the key does not belong to the certificate";
        return fail(reterr, ERR_BAD_REQUEST, "tls-key %.100s: %s", cfg->tls_key, why);
    }
    SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL);
    if (SSL_CTX_check_private_key(ctx) != 1)
        return fail(reterr, ERR_BAD_REQUEST, "tls-key %.100s: %s", cfg->tls_key, openssl_reason());
    return OK;
}

enum err tls_context_create(const struct config *cfg, SSL_CTX **ret, struct error *reterr)
{
    if (cfg->tls_cert == NULL || cfg->tls_key == NULL)
        return fail(reterr, ERR_BAD_REQUEST, "tls-cert and tls-key are needed (or insecure, for plain ws://)");
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (ctx == NULL)
        return fail(reterr, ERR_INTERNAL, "OpenSSL: %s", openssl_reason());
    context_options(ctx);
    enum err err = load_files(ctx, cfg, reterr);
    if (err != OK) {
        SSL_CTX_free(ctx);
        return err;
    }
    warn_when_expired(ctx, cfg->tls_cert);
    *ret = ctx;
    return OK;
}

/* --- the BIO --- */

static int bio_read(BIO *bio, char *p, int n)
{
    struct net *net = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    size_t take = net->tls_in.n < (size_t)n ? net->tls_in.n : (size_t)n;
    if (take == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(p, net->tls_in.p, take);
    net->tls_in = slice_from(net->tls_in, take);
    return (int)take;
}

/* Keeps what the kernel did not take; false when that grows beyond what an honest peer can cause. */
static bool keep_out(struct socket *s, const char *p, size_t n)
{
    if (s->out_n + n > OUT_MAX)
        return false;
    size_t end = s->out_at + s->out_n;
    s->out = xrealloc(s->out, end + n);
    memcpy(s->out + end, p, n);
    s->out_n += (uint32_t)n;
    return true;
}

static int bio_write(BIO *bio, const char *p, int n)
{
    struct socket *s = ((struct net *)BIO_get_data(bio))->tls_socket;
    BIO_clear_retry_flags(bio);
    ssize_t sent = 0;
    if (s->out_n == 0) {
        int more = ((struct net *)BIO_get_data(bio))->tls_more ? MSG_MORE : 0;
        sent = send(s->io.fd, p, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT | more);
        if (sent == n)
            return n;
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return -1;
        if (sent < 0)
            sent = 0;
    }
    return keep_out(s, p + sent, (size_t)(n - sent)) ? n : -1;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void)bio;
    (void)num;
    (void)ptr;
    return cmd == BIO_CTRL_FLUSH; /* nothing is buffered here; all else is not for us */
}

static BIO_METHOD *bio_method(void)
{
    static BIO_METHOD *method; /* lives as long as the process */
    if (method == NULL) {
        method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "xindao");
        BIO_meth_set_read(method, bio_read);
        BIO_meth_set_write(method, bio_write);
        BIO_meth_set_ctrl(method, bio_ctrl);
    }
    return method;
}

BIO *tls_bio_create(struct net *n)
{
    BIO *bio = BIO_new(bio_method());
    if (bio == NULL)
        abort();
    BIO_set_data(bio, n);
    BIO_set_init(bio, 1);
    return bio;
}

/* --- connections --- */

void tls_start(struct socket *s)
{
    s->ssl = SSL_new(s->net->tls);
    if (s->ssl == NULL)
        abort(); /* out of memory, as xmalloc */
    BIO_up_ref(s->net->bio);
    SSL_set_bio(s->ssl, s->net->bio, s->net->bio);
    SSL_set_accept_state(s->ssl);
}

/* r is what an SSL_ function returned, not above 0. True when the connection is over; it is closing then. */
static bool tls_over(struct socket *s, int r)
{
    int what = SSL_get_error(s->ssl, r);
    if (what == SSL_ERROR_WANT_READ || what == SSL_ERROR_WANT_WRITE)
        return false;
    if (what == SSL_ERROR_ZERO_RETURN) {
        s->eof = true;
        socket_close(s, "peer");
        return true;
    }
    s->tls_silent = true;
    net_refused(&s->address, s->port, DROP_TLS, openssl_reason());
    socket_close(s, "tls"); /* not killed: OpenSSL has queued an alert that tells the peer why */
    return true;
}

/* False when there is no going on for now. */
static bool handshake(struct socket *s)
{
    int r = SSL_do_handshake(s->ssl);
    if (r != 1) {
        (void)tls_over(s, r);
        return false;
    }
    s->tls_ready = true;
    metrics->tls_handshakes++;
    socket_set_state(s, SOCKET_HTTP);
    return true;
}

static bool reading(const struct socket *s)
{
    return s->state < SOCKET_CLOSING && !s->paused;
}

void tls_input(struct socket *s, const char *p, size_t n)
{
    struct net *net = s->net;
    net->tls_in = (struct slice){p, n};
    ERR_clear_error();
    net->tls_socket = s;
    if (!s->tls_ready && !handshake(s))
        return;
    while (reading(s) && (net->tls_in.n > 0 || SSL_has_pending(s->ssl))) {
        net->tls_socket = s; /* the core may have written to others */
        int r = SSL_read(s->ssl, net->plain, sizeof net->plain);
        if (r > 0)
            socket_plain(s, net->plain, (size_t)r);
        else if (tls_over(s, r) || net->tls_in.n == 0)
            break;
    }
    if (s->state < SOCKET_CLOSING && net->tls_in.n > 0)
        socket_hold(s, net->tls_in.p, net->tls_in.n);
    net->tls_in = SLICE_NONE;
}

ssize_t tls_write(struct socket *s, const char *p, size_t n)
{
    size_t done = 0;
    s->net->tls_socket = s;
    while (done < n && s->out_n == 0) {
        size_t piece = n - done < READ_SIZE ? n - done : READ_SIZE;
        s->net->tls_more = done + piece < n; /* the kernel sends several records as one */
        int r = SSL_write(s->ssl, p + done, (int)piece);
        s->net->tls_more = false;
        if (r <= 0) {
            ERR_clear_error();
            s->tls_silent = true;
            socket_kill(s, "reset");
            return -1;
        }
        done += (size_t)r;
    }
    return (ssize_t)done;
}

void tls_goodbye(struct socket *s)
{
    if (s->ssl == NULL || !s->tls_ready || s->tls_silent)
        return;
    s->tls_silent = true;
    s->net->tls_socket = s;
    (void)SSL_shutdown(s->ssl);
    ERR_clear_error();
}
