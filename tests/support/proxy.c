/* tests/support/proxy.c: forwarding, and not forwarding. */
#include "tests/support/proxy.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"

struct connection {
    struct link link;
    struct proxy *proxy;
    struct io client, server;
    bool subscriber;
};

static void connection_close(struct connection *c)
{
    list_del(&c->link);
    io_set(&c->client, 0);
    io_set(&c->server, 0);
    close(c->client.fd);
    close(c->server.fd);
    free(c);
}

/* The peers are on this machine and read what they are sent: blocking writes are good enough here. */
static bool write_all(int fd, const char *p, size_t n)
{
    while (n != 0) {
        ssize_t put = send(fd, p, n, MSG_NOSIGNAL);
        if (put <= 0)
            return false;
        p += put;
        n -= (size_t)put;
    }
    return true;
}

static void on_client(struct io *io, int events)
{
    struct connection *c = container_of(io, struct connection, client);
    char data[65536];
    ssize_t n = recv(io->fd, data, sizeof data, 0);
    (void)events;
    if (n > 0 && memmem(data, (size_t)n, "SUBSCRIBE", 9) != NULL)
        c->subscriber = true;
    if (n <= 0 || !write_all(c->server.fd, data, (size_t)n))
        connection_close(c);
}

static void on_server(struct io *io, int events)
{
    struct connection *c = container_of(io, struct connection, server);
    const struct proxy *p = c->proxy;
    char data[65536];
    ssize_t n = recv(io->fd, data, p->one_byte ? 1 : sizeof data, 0);
    (void)events;
    if (n <= 0) {
        connection_close(c);
        return;
    }
    if (c->subscriber ? p->lose_pushes : p->lose_replies)
        return;
    if (!write_all(c->client.fd, data, (size_t)n))
        connection_close(c);
}

static int connect_to(int port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static void on_accept(struct io *io, int events)
{
    struct proxy *p = container_of(io, struct proxy, listener);
    (void)events;
    int client = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC);
    if (client < 0)
        return;
    int server = connect_to(p->target_port);
    if (server < 0) {
        close(client);
        return;
    }
    int on = 1;
    (void)setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct connection *c = xcalloc(1, sizeof *c);
    c->proxy = p;
    io_init(&c->client, p->loop, client, on_client);
    io_init(&c->server, p->loop, server, on_server);
    io_set(&c->client, IO_READ);
    io_set(&c->server, IO_READ);
    list_append(&p->connections, &c->link);
    p->accepted++;
}

void proxy_start(struct proxy *p, struct loop *loop, int target_port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    *p = (struct proxy){.loop = loop, .target_port = target_port};
    list_init(&p->connections);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, n) != 0 || listen(fd, 64) != 0 ||
        getsockname(fd, (struct sockaddr *)&a, &n) != 0) {
        perror("proxy");
        exit(2);
    }
    p->port = ntohs(a.sin_port);
    (void)snprintf(p->url, sizeof p->url, "redis://127.0.0.1:%d", p->port);
    io_init(&p->listener, loop, fd, on_accept);
    io_set(&p->listener, IO_READ);
}

void proxy_cut(struct proxy *p)
{
    while (!list_empty(&p->connections))
        connection_close(list_first(&p->connections, struct connection, link));
}

void proxy_inject(struct proxy *p, bool to_subscribers, const char *bytes)
{
    list_for_each (l, &p->connections) {
        struct connection *c = list_entry(l, struct connection, link);
        if (c->subscriber == to_subscribers)
            (void)write_all(c->client.fd, bytes, strlen(bytes));
    }
}

void proxy_stop(struct proxy *p)
{
    proxy_cut(p);
    io_set(&p->listener, 0);
    close(p->listener.fd);
}
