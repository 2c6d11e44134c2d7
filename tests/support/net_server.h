/* tests/support/net_server.h: gateway/net on a real loop in a thread of its own, under an echo instead of the core. */
#ifndef XD_NET_SERVER_H
#define XD_NET_SERVER_H

#include "gateway/config.h"
#include "gateway/metrics.h"
#include "gateway/transport.h"

struct net;

/* What the core of the test does is in the path of the request:
 *   /later          answered by server_answer_later()
 *   /together…      may overlap; answered by server_answer_together()
 *   /large          the body may be 100000 bytes; 200, text: "N bytes"
 *   /big/N          N bytes of a pattern (pattern_byte)
 *   any other       200, text: "METHOD path query host ip body"
 * and for WebSocket handshakes (everything after the handshake is raw bytes here, no frames):
 *   /ws             echoes; what it cannot write it queues; closes after the bytes "quit", and does not hear what comes with them
 *   /stream/N       sends N bytes of the pattern in pieces of odd sizes, as fast as it can
 *   /pause          echoes; pauses reading at "stop" until server_resume()
 *   /last           at the first input writes as much of the pattern as is taken (last_taken), then closes
 *   /shut           closes inside gateway_upgrade()
 *   any other       refused: not_found */
struct server {
    struct config cfg; /* set before server_start(); the tls files are made when tls is asked for */
    bool tls;
    int port;
    struct net *net;
    /* counted by the core; read with server_sync() */
    int opened, gone, inputs_after_pause;
    uint64_t accepts_at_input; /* how many had been let in when input came last */
    size_t last_taken;
    char last_why[16], last_ip[64], last_subprotocols[128];
    /* private */
    struct server_private *p;
};

/* Defaults of a fresh server: TLS, handshake timeout 5 s, no limits. */
void server_init(struct server *s, bool tls);
void server_start(struct server *s);
/* Stops, frees everything, checks that every connection that was opened is gone and no descriptor is left. */
void server_stop(struct server *s);

/* Runs fn(arg) on the loop's thread and waits for it. */
void server_run(struct server *s, void (*fn)(void *arg), void *arg);
/* Waits up to twenty seconds until this many sockets are open. */
void server_wait_open(struct server *s, size_t n);
/* Waits up to twenty seconds until *counter (of the loop's thread) is at least n. */
void server_wait_count(struct server *s, const uint64_t *counter, uint64_t n);
void server_wait_gone(struct server *s, int n);
/* True when a request to /later arrived and was answered with 200 "later". */
void server_answer_later(struct server *s);
/* Waits until n requests to /together… are under way, no fewer and no more; answers them, the last one first, with 200 "together I" (I: 0 is the one that was asked first). */
void server_answer_together(struct server *s, size_t n);
void server_resume(struct server *s);

unsigned char pattern_byte(size_t at);

/* Writes a new self-signed P-256 certificate for cn and its key; days may be negative. */
void make_certificate(const char *cn, int days, const char *cert_file, const char *key_file);

/* Names in a directory made for this process, removed at exit. Static buffer per name. */
const char *test_file(const char *name);

int count_fds(void);

#endif
