/* tests/support/net_client.h: a blocking client of 127.0.0.1, plain or TLS; every wait ends after five seconds. */
#ifndef XD_NET_CLIENT_H
#define XD_NET_CLIENT_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

struct client {
    int fd;
    SSL *ssl;
    char text[8192]; /* of client_head() and client_all() */
    size_t text_n;
};

/* Connects; does not shake hands. */
void client_connect(struct client *c, int port);
/* TLS handshake; false when the server refuses. max_version 0: as the library likes. */
bool client_tls(struct client *c, int max_version);
/* Both of the above, which must succeed. */
void client_open(struct client *c, int port, bool tls);
void client_send(struct client *c, const void *p, size_t n);
void client_send_str(struct client *c, const char *s);
/* Up to n bytes; 0 at the end of the stream, -1 on an error or after the timeout. */
long client_recv(struct client *c, void *p, size_t n);
/* Exactly n bytes, or the test fails. */
void client_recv_all(struct client *c, void *p, size_t n);
/* One response into c->text: its header, and its body as Content-Length says (none after a HEAD or a 1xx). Returns the status. */
int client_response(struct client *c, bool head_only);
/* True when the server ends the connection without sending anything more. */
bool client_ended(struct client *c);
/* Opens a WebSocket on path; returns the status. */
int client_upgrade(struct client *c, const char *path);
/* close() without a goodbye */
void client_close(struct client *c);
/* The common name of the server's certificate. */
void client_peer_name(struct client *c, char *ret, size_t size);

#endif
