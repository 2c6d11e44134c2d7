/* gateway/net/net_private.h: what the files of gateway/net share; nobody else includes it.
 *
 * net.c ties the parts together, listener.c accepts, socket.c is one connection, tls.c and http.c are what it speaks.
 *
 * Freeing: a socket is freed by net_sweep() alone, a task of the loop. Everything else only changes its state and queues it there, so any
 * function may be called from any depth, and a socket stays valid until control is back in the loop. */
#ifndef XD_NET_PRIVATE_H
#define XD_NET_PRIVATE_H

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include "base/table.h"
#include "base/tls_client.h"
#include "base/wheel.h"
#include "gateway/metrics.h"
#include "gateway/net/net.h"
#include "gateway/net/peers.h"
#include "gateway/net/record.h"
#include "gateway/net/tickets.h"
#include "gateway/transport.h"

#define READ_SIZE   16384 /* one recv; also the largest plaintext of a TLS record */
#define READ_ROUNDS 4     /* full reads of one socket before the others get their turn */
#define OUT_MAX                                                                                                        \
    (2 * SEALED_SIZE) /* encrypted bytes the kernel would not take; more means that the peer plays with TLS */
#define SEALED_SIZE    ((size_t)4 * (RECORD_PLAIN_MAX + RECORD_OVERHEAD)) /* what a batch of the core needs as records */
#define TICK_MS        100                                                /* resolution of deadlines */
#define LINGER_MS      2000 /* for flushing and for the peer's FIN after ours */
#define LINGER_BYTES   262144
#define HTTP_IDLE_MS   30000 /* keep-alive without a request */
#define HTTP_ANSWER_MS 60000 /* for the core to answer a request */
#define HTTP_SEND_MS   30000 /* for the client to take the response */

// clang-format off
/* X(enumerator, word, states that may follow) */
#define SOCKET_STATE_MAP(X)                                                                                          \
    X(SOCKET_PROXY,   "proxy",   BIT(SOCKET_TLS) | BIT(SOCKET_HTTP) | BIT(SOCKET_CLOSING) | BIT(SOCKET_DEAD))        \
    X(SOCKET_TLS,     "tls",     BIT(SOCKET_HTTP) | BIT(SOCKET_CLOSING) | BIT(SOCKET_DEAD))                          \
    X(SOCKET_HTTP,    "http",    BIT(SOCKET_OPEN) | BIT(SOCKET_CLOSING) | BIT(SOCKET_DEAD))                          \
    X(SOCKET_OPEN,    "open",    BIT(SOCKET_CLOSING) | BIT(SOCKET_DEAD))                                             \
    X(SOCKET_CLOSING, "closing", BIT(SOCKET_DEAD))                                                                   \
    X(SOCKET_DEAD,    "dead",    0)
// clang-format on

/* PROXY: waits for a PROXY protocol header. TLS: handshake. HTTP: requests. OPEN: the core's, see transport.h. CLOSING: flushes, then says goodbye.
 * DEAD: waits for net_sweep(). */
enum socket_state {
#define X(state, word, next) state,
    SOCKET_STATE_MAP(X)
#undef X
};

struct http;
struct listener;

struct net {
    struct loop *loop;
    const struct config *cfg;
    struct gateway *gateway; /* NULL before net_start() */
    struct listener *listeners;
    size_t n_listeners;
    int reserve_fd; /* given up for a moment when descriptors run out */
    uint64_t accept_credit, accept_refill_us;
    struct timer accept_timer;
    bool rested; /* because the loop was behind, and nobody was accepted since */

    SSL_CTX *tls; /* NULL with --insecure */
    struct tickets *tickets;
    BIO *bio; /* one for all connections: it acts for tls_socket */
    struct socket *tls_socket;
    struct slice tls_in; /* encrypted bytes that wait for SSL_read of tls_socket */

    struct link sockets;
    struct link todo; /* sockets that net_sweep() looks at */
    struct task sweep;
    size_t open;
    struct peer_table peers;
    struct wheel wheel;
    struct timer tick;
    bool draining;

    char in[READ_SIZE];    /* as received */
    char plain[READ_SIZE]; /* decrypted by OpenSSL */
    char sealed[SEALED_SIZE];
};

struct socket {
    /* what every write touches, together */
    struct transport transport;
    struct io io;
    struct records *records; /* TLS 1.3, after the handshake */
    SSL *ssl;                /* TLS 1.2, and handshakes */
    struct net *net;
    enum socket_state state;
    uint32_t out_n;
    bool owes_write;  /* a short write was reported: conn_writable() or http must be called */
    bool paused;      /* do not read */
    bool tls_ready;   /* the handshake is complete */
    bool tls_silent;  /* TLS has failed or said goodbye: nothing more may be sent */
    bool owes_update; /* the peer has asked for new keys of ours (tls13.c) */
    bool asked;       /* has made a complete HTTP request */
    bool eof;         /* the peer has said FIN */
    bool fin;         /* we have */
    bool api;         /* came in through api-listen */
    bool tls;

    uint16_t port;
    struct peer_address address;
    struct conn *conn; /* while OPEN, and until conn_gone() */
    struct http *http; /* while HTTP and a request is under way */
    struct peer *peer; /* counted in net->peers */
    struct link link;  /* in net->sockets */
    struct link todo;  /* in net->todo while queued */
    struct wheel_entry deadline;
    const char *why;                /* for conn_gone() */
    struct record_secrets *secrets; /* during the handshake */
    char *out;                      /* what was encrypted and the kernel did not take: out_n bytes from out_at on */
    char *held;                     /* received, but reading was paused, or half a PROXY header */
    uint32_t out_at, held_n;
    uint32_t drained; /* bytes thrown away while CLOSING */
};

/* --- net.c --- */

void net_todo(struct net *n, struct socket *s);
/* A socket more, a socket less. */
void net_opened(struct net *n);
void net_closed(struct net *n);
/* Counts and logs why something of a peer was refused. detail is a few words of ours, or "". */
void net_refused(const struct peer_address *a, uint16_t port, enum drop_reason why, const char *detail);

/* --- listener.c --- */

/* Opens cfg->listen; on failure nothing is left open. */
enum err listeners_open(struct net *n, struct error *reterr);
void listeners_start(struct net *n);
void listeners_close(struct net *n);
/* The port that listener i is bound to; for tests that ask for port 0. */
int listener_port(const struct net *n, size_t i);

/* --- tls_context.c --- */

/* tickets: NULL for a context that is only tried. */
enum err tls_context_create(const struct config *cfg, struct tickets *tickets, SSL_CTX **ret, struct error *reterr);

/* --- tls.c --- */

BIO *tls_bio_create(struct net *n);
/* Makes handshakes of this context leave what our own records need. */
void tls_hand_over(SSL_CTX *ctx);
/* Starts TLS on a fresh socket. */
void tls_start(struct socket *s);
/* Encrypted bytes arrived: handshakes, decrypts, passes plain bytes to socket_plain(). They may be modified; what is left because reading was paused is
 * held. */
void tls_input(struct socket *s, char *p, size_t n);
/* As transport_ops.write; -1 also kills the socket. */
ssize_t tls_write(struct socket *s, const char *p, size_t n);
/* Sends close_notify, once, and when there is a session to close. */
void tls_goodbye(struct socket *s);
void tls_free(struct socket *s);

/* --- tls13.c: the same, once s->records is there --- */

/* Takes records off the front of *p until reading is paused or the connection is over. */
void tls13_input(struct socket *s, char **p, size_t *n);
ssize_t tls13_write(struct socket *s, const char *p, size_t n);
void tls13_goodbye(struct socket *s);

/* --- socket.c --- */

/* Takes the descriptor. */
void socket_create(struct net *n, int fd, const struct peer_address *a, uint16_t port, bool api);
void socket_free(struct socket *s);
/* The one function that changes s->state. */
void socket_set_state(struct socket *s, enum socket_state to);
/* Plain bytes arrived; they may be modified. */
void socket_plain(struct socket *s, char *p, size_t n);
/* Bytes go out by way of TLS or not; as transport_ops.write, in any state before CLOSING. */
ssize_t socket_write(struct socket *s, const char *p, size_t n);
/* Encrypted bytes go out, or are kept until the kernel takes them. False when the connection is broken, or the peer makes us keep too much. */
bool socket_out(struct socket *s, const char *p, size_t n);
void socket_pause(struct socket *s, bool paused);
/* Keeps bytes for when reading goes on. */
void socket_hold(struct socket *s, const char *p, size_t n);
/* In order: what was written still goes out. why: see conn_gone(). */
void socket_close(struct socket *s, const char *why);
/* At once. */
void socket_kill(struct socket *s, const char *why);
void socket_deadline(struct socket *s, uint64_t ms);
/* From net_sweep(): goes on with whatever the state asks for. */
void socket_continue(struct socket *s);
/* The peer has said that it will send nothing more: true when it still waits for something from us. */
bool socket_no_more(struct socket *s);
/* "192.0.2.1:4711"; static buffer. */
const char *socket_name(const struct socket *s);
/* Tells epoll what we want to hear. */
void socket_watch(struct socket *s);

/* --- http.c --- */

/* HTTP requests under way: made with the first byte of one, gone with the last of its response if none has followed by then. */
struct http *http_create(struct socket *s);
/* An answer that is still to come will be ignored. NULL-safe. */
void http_destroy(struct http **h);
/* Takes bytes of the request and returns how many. Afterwards s->http may be gone: answered, or the connection has been upgraded. */
size_t http_input(struct http *h, const char *p, size_t n);
/* Keeps the first bytes of the next request, at most READ_SIZE. */
void http_hold(struct http *h, const char *p, size_t n);
/* From the loop: the socket takes bytes again, or an answer has come. Afterwards s->http may be gone. */
void http_continue(struct http *h);
/* The client says that it will send nothing more. False when it waits for nothing either; else it is answered first, and then the connection ends. */
bool http_no_more(struct http *h);
/* A deadline of a socket in state HTTP has passed. */
void http_timeout(struct socket *s);

#endif
