/* loadgen_tls.h: a non-blocking byte stream over TCP, with TLS or without. */
#ifndef XD_BENCH_TLS_H
#define XD_BENCH_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct ssl_ctx_st;
struct ssl_st;

struct stream {
    int fd;
    struct ssl_st *ssl; /* NULL: plain TCP */
};

/* TLS 1.3 only, certificates are not verified (the bench makes its own). NULL and a message on stderr when the
 * library refuses the suites. The caller frees it with SSL_CTX_free(). */
struct ssl_ctx_st *tls_client_context(const char *ciphersuites);
/* From now on connections of ctx resume the session of the latest ticket. */
void tls_resume_sessions(struct ssl_ctx_st *ctx);
/* How many handshakes did. */
unsigned tls_resumed(void);
/* Wraps a connected socket. ctx NULL: plain. */
bool stream_init(struct stream *s, int fd, struct ssl_ctx_st *ctx);
/* Aborts the connection (RST, so that no TIME_WAIT is left behind) and frees everything. */
void stream_fini(struct stream *s);

/* 1 done, 0 not yet, -1 failed. */
int stream_handshake(struct stream *s);
/* Bytes moved, 0 when it would block, -1 when the peer is gone or broke the protocol. */
ssize_t stream_read(struct stream *s, void *buf, size_t n);
ssize_t stream_write(struct stream *s, const void *buf, size_t n);
/* True when the next read finds bytes without asking the kernel. */
bool stream_has_pending(const struct stream *s);
/* Why the last call on any stream failed; valid until the next call. */
const char *stream_error(void);

#endif
