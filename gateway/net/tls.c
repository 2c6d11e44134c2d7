/* gateway/net/tls.c: OpenSSL: handshakes, and for TLS 1.2 the records too. In TLS 1.3 the records are ours (tls13.c) as soon as the handshake is done.
 *
 * All connections share one BIO of ours. Reading: one recv() of the socket fills net->in, and OpenSSL takes its records from there, so that a
 * message costs one system call instead of two per record. Writing: the BIO sends at once and keeps what the kernel does not take in
 * socket->out. To OpenSSL a write therefore never blocks: it has no half-written record, no buffer of its own to keep, and no rule about
 * what the next write must look like. */
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>

#include "base/mem.h"
#include "base/text.h"
#include "gateway/net/net_private.h"

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

static int bio_write(BIO *bio, const char *p, int n)
{
    const struct net *net = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    return socket_out(net->tls_socket, p, (size_t)n) ? n : -1;
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

/* --- what the handshake leaves for our own records --- */

static void take_secret(unsigned char ret[RECORD_SECRET_MAX], size_t *ret_n, const char *hex)
{
    size_t n = 0;
    for (; n < RECORD_SECRET_MAX && text_hex(hex[2 * n]) >= 0; n++)
        ret[n] = (unsigned char)(text_hex(hex[2 * n]) << 4 | text_hex(hex[2 * n + 1]));
    *ret_n = n;
}

/* A line of the NSS key log format: label, the client's random in hex, the secret in hex. */
static void on_key(const SSL *ssl, const char *line)
{
    static const char client[] = "CLIENT_TRAFFIC_SECRET_0 ", server[] = "SERVER_TRAFFIC_SECRET_0 ";
    struct socket *s = SSL_get_app_data(ssl);
    const char *secret = strrchr(line, ' ');
    if (s->secrets == NULL || secret == NULL)
        return;
    if (strncmp(line, client, sizeof client - 1) == 0)
        take_secret(s->secrets->client, &s->secrets->client_n, secret + 1);
    else if (strncmp(line, server, sizeof server - 1) == 0)
        take_secret(s->secrets->server, &s->secrets->server_n, secret + 1);
}

/* Session tickets go out under the traffic secret before we take over: a record each. */
/* NOLINTNEXTLINE(readability-function-size): OpenSSL says what it takes */
static void on_handshake_message(int written, int version, int type, const void *p, size_t n, SSL *ssl, void *arg)
{
    (void)arg;
    const struct socket *s = SSL_get_app_data(ssl);
    bool ticket = type == SSL3_RT_HANDSHAKE && n > 0 && *(const unsigned char *)p == SSL3_MT_NEWSESSION_TICKET;
    if (written && version == TLS1_3_VERSION && ticket && s->secrets != NULL)
        s->secrets->written++;
}

void tls_hand_over(SSL_CTX *ctx)
{
    SSL_CTX_set_keylog_callback(ctx, on_key);
    SSL_CTX_set_msg_callback(ctx, on_handshake_message);
}

static void forget_secrets(struct socket *s)
{
    if (s->secrets == NULL)
        return;
    OPENSSL_cleanse(s->secrets, sizeof *s->secrets);
    free(TAKE(s->secrets));
}

/* The handshake is done. In TLS 1.2, and should there be anything that we do not know, OpenSSL goes on. */
static void hand_over(struct socket *s)
{
    if (SSL_version(s->ssl) == TLS1_3_VERSION && !SSL_has_pending(s->ssl))
        s->records = records_create(SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(s->ssl)), s->secrets);
    forget_secrets(s);
    if (s->records == NULL)
        return;
    s->transport.writes_with = s->records;
    SSL_free(s->ssl);
    s->ssl = NULL;
}

/* --- connections --- */

void tls_start(struct socket *s)
{
    s->ssl = SSL_new(s->net->tls);
    if (s->ssl == NULL)
        abort(); /* out of memory, as xmalloc */
    s->secrets = xcalloc(1, sizeof *s->secrets);
    SSL_set_app_data(s->ssl, s);
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
        if (!socket_no_more(s))
            socket_close(s, "peer");
        return true;
    }
    s->tls_silent = true;
    net_refused(&s->address, s->port, DROP_TLS, tls_reason());
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
    metrics->tls_resumed += SSL_session_reused(s->ssl) != 0;
    hand_over(s);
    socket_set_state(s, SOCKET_HTTP);
    return true;
}

static bool reading(const struct socket *s)
{
    return s->state < SOCKET_CLOSING && !s->paused;
}

static void read_openssl(struct socket *s)
{
    struct net *net = s->net;
    while (reading(s) && (net->tls_in.n > 0 || SSL_has_pending(s->ssl))) {
        net->tls_socket = s; /* the core may have written to others */
        int r = SSL_read(s->ssl, net->plain, sizeof net->plain);
        if (r > 0)
            socket_plain(s, net->plain, (size_t)r);
        else if (tls_over(s, r) || net->tls_in.n == 0)
            break;
    }
}

void tls_input(struct socket *s, char *p, size_t n)
{
    struct net *net = s->net;
    if (s->records == NULL) {
        net->tls_in = (struct slice){p, n};
        net->tls_socket = s;
        ERR_clear_error();
        if (s->tls_ready || handshake(s)) {
            if (s->records == NULL)
                read_openssl(s);
        }
        p += n - net->tls_in.n;
        n = net->tls_in.n;
        net->tls_in = SLICE_NONE;
    }
    if (s->records != NULL && reading(s))
        tls13_input(s, &p, &n);
    if (s->state < SOCKET_CLOSING && n > 0)
        socket_hold(s, p, n);
}

static ssize_t write_openssl(struct socket *s, const char *p, size_t n)
{
    size_t done = 0;
    s->net->tls_socket = s;
    while (done < n && s->out_n == 0) {
        size_t piece = n - done < READ_SIZE ? n - done : READ_SIZE;
        int r = SSL_write(s->ssl, p + done, (int)piece);
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

ssize_t tls_write(struct socket *s, const char *p, size_t n)
{
    return s->records != NULL ? tls13_write(s, p, n) : write_openssl(s, p, n);
}

void tls_goodbye(struct socket *s)
{
    if (!s->tls_ready || s->tls_silent)
        return;
    s->tls_silent = true;
    if (s->records != NULL) {
        tls13_goodbye(s);
    } else if (s->ssl != NULL) {
        s->net->tls_socket = s;
        (void)SSL_shutdown(s->ssl);
        ERR_clear_error();
    }
}

void tls_free(struct socket *s)
{
    SSL_free(s->ssl);
    s->ssl = NULL;
    records_destroy(&s->records);
    forget_secrets(s);
}
