/* loadgen_tls.c: non-blocking OpenSSL client streams. */
#include "loadgen_tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Several records per recv(): reading is the generator's main expense. */
#define READ_AHEAD_BYTES 65536

static char last_error[160];

struct ssl_ctx_st *tls_client_context(const char *ciphersuites)
{
    char groups[] = "X25519:P-256"; /* writable, because the macro below casts const away */
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (ctx == NULL || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(ctx, ciphersuites) != 1 || SSL_CTX_set1_groups_list(ctx, groups) != 1) {
        fprintf(stderr, "xindao-loadgen: TLS set-up failed (suites %s): %s\n", ciphersuites,
                ERR_reason_error_string(ERR_peek_error()));
        SSL_CTX_free(ctx);
        return NULL;
    }
    SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_default_read_buffer_len(ctx, READ_AHEAD_BYTES);
    return ctx;
}

/* The latest; it may be used again and again, because the server keeps nothing. Freed at exit by nobody. */
static SSL_SESSION *session;
static bool resuming;
static unsigned resumed;

static int on_session(SSL *ssl, SSL_SESSION *fresh)
{
    (void)ssl;
    SSL_SESSION_free(session);
    session = fresh;
    return 1; /* it is ours now */
}

void tls_resume_sessions(SSL_CTX *ctx)
{
    resuming = true;
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, on_session);
}

unsigned tls_resumed(void)
{
    return resumed;
}

bool stream_init(struct stream *s, int fd, struct ssl_ctx_st *ctx)
{
    *s = (struct stream){.fd = fd};
    if (ctx == NULL)
        return true;
    s->ssl = SSL_new(ctx);
    if (s->ssl == NULL || SSL_set_fd(s->ssl, fd) != 1) {
        SSL_free(s->ssl);
        s->ssl = NULL;
        return false;
    }
    SSL_set_connect_state(s->ssl);
    return session == NULL || SSL_set_session(s->ssl, session) == 1;
}

void stream_fini(struct stream *s)
{
    struct linger abort_now = {.l_onoff = 1};
    if (s->ssl != NULL)
        SSL_set_shutdown(s->ssl,
                         SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* or OpenSSL takes its session for broken */
    SSL_free(s->ssl);
    s->ssl = NULL;
    if (s->fd >= 0) {
        (void)setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &abort_now,
                         sizeof abort_now); /* a hint; nothing to do without */
        close(s->fd);
    }
    s->fd = -1;
}

static void stream_set_error(const char *text)
{
    snprintf(last_error, sizeof last_error, "%s", text);
}

/* 0 to wait, -1 with last_error set. */
static int stream_result(const struct stream *s, int result)
{
    int why = SSL_get_error(s->ssl, result);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
        return 0;
    unsigned long code = ERR_peek_error();
    if (why == SSL_ERROR_ZERO_RETURN)
        stream_set_error("closed by the server (close_notify)");
    else if (code != 0)
        stream_set_error(ERR_reason_error_string(code));
    else
        stream_set_error(errno != 0 ? strerrordesc_np(errno) : "closed by the server (no close_notify)");
    ERR_clear_error();
    return -1;
}

/* The same for a plain socket call that returned result. */
static ssize_t stream_plain_result(ssize_t result)
{
    if (result > 0)
        return result;
    if (result < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    stream_set_error(result == 0 ? "closed by the server" : strerrordesc_np(errno));
    return -1;
}

int stream_handshake(struct stream *s)
{
    if (s->ssl == NULL)
        return 1;
    errno = 0;
    int r = SSL_do_handshake(s->ssl);
    resumed += r == 1 && resuming && SSL_session_reused(s->ssl) != 0;
    return r == 1 ? 1 : stream_result(s, r);
}

ssize_t stream_read(struct stream *s, void *buf, size_t n)
{
    size_t got = 0;
    if (s->ssl == NULL)
        return stream_plain_result(recv(s->fd, buf, n, 0));
    errno = 0;
    int r = SSL_read_ex(s->ssl, buf, n, &got);
    return r == 1 ? (ssize_t)got : stream_result(s, r);
}

ssize_t stream_write(struct stream *s, const void *buf, size_t n)
{
    size_t put = 0;
    if (s->ssl == NULL)
        return stream_plain_result(send(s->fd, buf, n, MSG_NOSIGNAL));
    errno = 0;
    int r = SSL_write_ex(s->ssl, buf, n, &put);
    return r == 1 ? (ssize_t)put : stream_result(s, r);
}

bool stream_has_pending(const struct stream *s)
{
    return s->ssl != NULL && SSL_has_pending(s->ssl);
}

const char *stream_error(void)
{
    return last_error;
}
