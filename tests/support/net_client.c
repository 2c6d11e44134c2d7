/* tests/support/net_client.c: a blocking client for tests of gateway/net. */
#include "tests/support/net_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/support/check.h"

void client_connect(struct client *c, int port)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = 20};
    *c = (struct client){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    assert_true(c->fd >= 0);
    (void)setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    (void)setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    assert_int_equal(connect(c->fd, (struct sockaddr *)&to, sizeof to), 0);
}

bool client_tls(struct client *c, int max_version)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    static const unsigned char alpn[] = "\x02h2\x08http/1.1";
    assert_non_null(ctx);
    if (max_version != 0)
        SSL_CTX_set_max_proto_version(ctx, max_version);
    SSL_CTX_set_alpn_protos(ctx, alpn, sizeof alpn - 1);
    c->ssl = SSL_new(ctx);
    SSL_CTX_free(ctx);
    SSL_set_fd(c->ssl, c->fd);
    return SSL_connect(c->ssl) == 1;
}

void client_open(struct client *c, int port, bool tls)
{
    client_connect(c, port);
    if (tls)
        assert_true(client_tls(c, 0));
}

void client_send(struct client *c, const void *p, size_t n)
{
    if (c->ssl != NULL) {
        assert_int_equal(SSL_write(c->ssl, p, (int)n), (int)n);
        return;
    }
    for (size_t done = 0; done < n;) {
        ssize_t sent = send(c->fd, (const char *)p + done, n - done, MSG_NOSIGNAL);
        assert_true(sent > 0);
        done += (size_t)sent;
    }
}

void client_send_str(struct client *c, const char *s)
{
    client_send(c, s, strlen(s));
}

long client_recv(struct client *c, void *p, size_t n)
{
    if (c->ssl == NULL)
        return recv(c->fd, p, n, 0);
    int r = SSL_read(c->ssl, p, (int)n);
    if (r > 0)
        return r;
    return SSL_get_error(c->ssl, r) == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

void client_recv_all(struct client *c, void *p, size_t n)
{
    for (size_t done = 0; done < n;) {
        long got = client_recv(c, (char *)p + done, n - done);
        assert_true(got > 0);
        done += (size_t)got;
    }
}

static size_t content_length(const char *head)
{
    const char *at = strcasestr(head, "\r\ncontent-length:");
    return at != NULL ? strtoul(at + strlen("\r\ncontent-length:"), NULL, 10) : 0;
}

int client_response(struct client *c, bool head_only)
{
    c->text_n = 0;
    do {
        assert_true(c->text_n < sizeof c->text - 1);
        client_recv_all(c, c->text + c->text_n++, 1);
        c->text[c->text_n] = '\0';
    } while (c->text_n < 4 || strcmp(c->text + c->text_n - 4, "\r\n\r\n") != 0);
    assert_true(strncmp(c->text, "HTTP/1.1 ", 9) == 0);
    int status = (int)strtol(c->text + 9, NULL, 10);
    size_t body = head_only || status < 200 ? 0 : content_length(c->text);
    assert_true(c->text_n + body < sizeof c->text);
    client_recv_all(c, c->text + c->text_n, body);
    c->text_n += body;
    c->text[c->text_n] = '\0';
    return status;
}

bool client_ended(struct client *c)
{
    char byte;
    long r = client_recv(c, &byte, 1);
    return r == 0 || (r < 0 && errno != EAGAIN && errno != EWOULDBLOCK);
}

int client_upgrade(struct client *c, const char *path)
{
    char request[512];
    (void)snprintf(request, sizeof request,
                   "GET %s HTTP/1.1\r\nHost: test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
                   "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                   path);
    client_send_str(c, request);
    return client_response(c, false);
}

void client_close(struct client *c)
{
    SSL_free(c->ssl);
    if (c->fd >= 0)
        (void)close(c->fd);
    *c = (struct client){.fd = -1};
}

void client_peer_name(struct client *c, char *ret, size_t size)
{
    X509 *cert = SSL_get1_peer_certificate(c->ssl);
    assert_non_null(cert);
    (void)X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, ret, (int)size);
    X509_free(cert);
}
