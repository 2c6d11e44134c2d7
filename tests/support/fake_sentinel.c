/* tests/support/fake_sentinel.c: enough of a sentinel for a client: replies made from a struct. */
#include "tests/support/fake_sentinel.h"

#include <arpa/inet.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"

struct connection {
    struct link link;
    struct fake_sentinel *sentinel;
    struct io io;
    redisReader *reader;
    bool subscriber, trusted;
};

static void connection_close(struct connection *c)
{
    list_del(&c->link);
    io_set(&c->io, 0);
    close(c->io.fd);
    redisReaderFree(c->reader);
    free(c);
}

static void append_bulk(struct buf *b, const char *s)
{
    buf_printf(b, "$%zu\r\n%s\r\n", strlen(s), s);
}

static void append_number(struct buf *b, uint64_t n)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%lu", (unsigned long)n);
    append_bulk(b, text);
}

static void append_id(struct buf *b, const struct fake_sentinel *s)
{
    char id[48];
    (void)snprintf(id, sizeof id, "%040d", s->port);
    append_bulk(b, id);
}

static void append_replicas(struct buf *b, const struct fake_sentinel *s)
{
    buf_printf(b, "*%zu\r\n", s->replica_count);
    for (size_t i = 0; i < s->replica_count; i++) {
        const struct fake_replica *r = &s->replicas[i];
        buf_append_str(b, "*8\r\n$2\r\nip\r\n$9\r\n127.0.0.1\r\n$4\r\nport\r\n");
        append_number(b, (uint64_t)r->port);
        append_bulk(b, "flags");
        append_bulk(b, r->flags);
        append_bulk(b, "master-link-status");
        append_bulk(b, r->link);
    }
}

static void answer_sentinel(struct fake_sentinel *s, const char *what, const char *about, struct buf *b)
{
    bool known = s->service != NULL && about != NULL && strcmp(about, s->service) == 0;
    if (strcasecmp(what, "MYID") == 0) {
        append_id(b, s);
    } else if (strcasecmp(what, "GET-MASTER-ADDR-BY-NAME") == 0) {
        s->asked++;
        buf_append_str(b, known ? "*2\r\n" : "*-1\r\n");
        if (known) {
            append_bulk(b, s->host);
            append_number(b, (uint64_t)s->primary);
        }
    } else if (!known) {
        buf_append_str(b, "-ERR No such master with that name\r\n");
    } else if (strcasecmp(what, "MASTER") == 0) {
        buf_append_str(b, "*4\r\n$4\r\nname\r\n$1\r\nm\r\n$12\r\nconfig-epoch\r\n");
        append_number(b, s->epoch);
    } else if (strcasecmp(what, "REPLICAS") == 0) {
        append_replicas(b, s);
    } else if (s->peer == NULL) { /* SENTINELS */
        buf_append_str(b, "*0\r\n");
    } else {
        buf_append_str(b, "*1\r\n*6\r\n$2\r\nip\r\n$9\r\n127.0.0.1\r\n$4\r\nport\r\n");
        append_number(b, (uint64_t)s->peer->port);
        append_bulk(b, "runid");
        append_id(b, s->peer);
    }
}

static void answer(struct connection *c, const redisReply *r, struct buf *b)
{
    struct fake_sentinel *s = c->sentinel;
    const char *command = r->element[0]->str, *argument = r->elements > 1 ? r->element[1]->str : "";
    if (strcasecmp(command, "AUTH") == 0) {
        c->trusted = s->password != NULL && strcmp(r->element[r->elements - 1]->str, s->password) == 0;
        buf_append_str(b,
                       c->trusted ? "+OK\r\n" : "-WRONGPASS invalid username-password pair or user is disabled.\r\n");
    } else if (s->password != NULL && !c->trusted) {
        buf_append_str(b, "-NOAUTH Authentication required.\r\n");
    } else if (strcasecmp(command, "PING") == 0) {
        buf_append_str(b, "+PONG\r\n");
    } else if (strcasecmp(command, "SUBSCRIBE") == 0) {
        c->subscriber = true;
        buf_append_str(b, "*3\r\n$9\r\nsubscribe\r\n");
        append_bulk(b, argument);
        buf_append_str(b, ":1\r\n");
    } else if (strcasecmp(command, "SENTINEL") == 0) {
        answer_sentinel(s, argument, r->elements > 2 ? r->element[2]->str : NULL, b);
    } else {
        buf_append_str(b, "-ERR unknown command\r\n");
    }
}

static void send_all(struct connection *c, const struct buf *b)
{
    if (b->n != 0)
        (void)send(c->io.fd, b->p, b->n, MSG_NOSIGNAL); /* small, to this machine */
}

static void on_readable(struct io *io, int events)
{
    struct connection *c = container_of(io, struct connection, io);
    char data[16384];
    void *reply = NULL;
    struct buf b = BUF_INIT;
    (void)events;
    ssize_t n = recv(io->fd, data, sizeof data, 0);
    if (n <= 0) {
        connection_close(c);
        return;
    }
    (void)redisReaderFeed(c->reader, data, (size_t)n);
    while (redisReaderGetReply(c->reader, &reply) == REDIS_OK && reply != NULL) {
        if (!c->sentinel->mute)
            answer(c, reply, &b);
        freeReplyObject(reply);
    }
    send_all(c, &b);
    buf_fini(&b);
}

static void on_accept(struct io *io, int events)
{
    struct fake_sentinel *s = container_of(io, struct fake_sentinel, listener);
    (void)events;
    int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct connection *c = xcalloc(1, sizeof *c);
    c->sentinel = s;
    c->reader = redisReaderCreate();
    io_init(&c->io, s->loop, fd, on_readable);
    io_set(&c->io, IO_READ);
    list_append(&s->connections, &c->link);
}

void fake_sentinel_return(struct fake_sentinel *s)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)s->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, (struct sockaddr *)&a, n) != 0 || listen(fd, 64) != 0 ||
        getsockname(fd, (struct sockaddr *)&a, &n) != 0) {
        perror("fake sentinel");
        exit(2);
    }
    s->port = ntohs(a.sin_port);
    io_init(&s->listener, s->loop, fd, on_accept);
    io_set(&s->listener, IO_READ);
}

void fake_sentinel_start(struct fake_sentinel *s, struct loop *loop, const char *service, int primary, uint64_t epoch)
{
    *s = (struct fake_sentinel){
        .loop = loop, .service = service, .host = "127.0.0.1", .primary = primary, .epoch = epoch};
    list_init(&s->connections);
    fake_sentinel_return(s);
}

void fake_sentinel_stop(struct fake_sentinel *s)
{
    while (!list_empty(&s->connections))
        connection_close(list_first(&s->connections, struct connection, link));
    if (s->listener.events == 0)
        return;
    io_set(&s->listener, 0);
    close(s->listener.fd);
}

void fake_sentinel_switch(struct fake_sentinel *s, int primary, uint64_t epoch)
{
    char text[200];
    struct buf b = BUF_INIT;
    (void)snprintf(text, sizeof text, "%s 127.0.0.1 %d 127.0.0.1 %d", s->service, s->primary, primary);
    s->primary = primary;
    s->epoch = epoch;
    buf_append_str(&b, "*3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n");
    append_bulk(&b, text);
    list_for_each (it, &s->connections) {
        struct connection *c = list_entry(it, struct connection, link);
        if (c->subscriber)
            send_all(c, &b);
    }
    buf_fini(&b);
}
