/* gateway/webhook/client.c: a small HTTP/1.1 client on the gateway's loop: connecting, TLS, one request at a time on each connection. */
#include "gateway/webhook/client.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/list.h"
#include "base/mem.h"
#include "base/resolve.h"
#include "base/tls_client.h"
#include "gateway/webhook/response.h"

#define IDLE_MS   4000u /* common servers close after 5 s; better that we do it first */
#define READ_SIZE 16384

struct exchange {
    struct link link; /* client->waiting, or client->sent while a connection has it */
    struct http_client *client;
    struct line *line; /* NULL while it waits */
    struct buf request;
    struct timer patience;
    bool repeated, unwanted; /* unwanted: too many wait */
    http_done *done;
    void *arg;
};

/* LOOKING: for the host's address. */
enum line_state { LINE_LOOKING, LINE_CONNECTING, LINE_HANDSHAKING, LINE_WRITING, LINE_READING, LINE_IDLE };

/* One connection. */
struct line {
    struct link link;
    struct http_client *client;
    enum line_state state;
    struct io io; /* fd -1: none yet */
    struct tls_client_conn *tls;
    struct exchange *exchange; /* NULL while idle */
    size_t written;
    bool kept; /* its exchange is not the first one */
    struct response response;
    struct timer idle;
};

struct http_client {
    struct loop *loop;
    struct http_client_config cfg;
    struct resolver *resolver; /* NULL: the host is an address */
    struct link waiting, sent, lines;
    uint32_t line_count, waiting_count;
    struct task task;
    bool closing;
};

static void line_work(struct line *l);

/* --- exchanges --- */

static void exchange_end(struct exchange *x, const struct http_result *r)
{
    http_done *done = x->done;
    void *arg = x->arg;
    timer_stop(&x->patience);
    list_del(&x->link);
    buf_fini(&x->request);
    free(x);
    done(arg, r);
}

static void exchange_fail(struct exchange *x, const char *why, bool late)
{
    exchange_end(x, &(struct http_result){.why = why, .late = late});
}

static void stop_waiting(struct exchange *x)
{
    list_del(&x->link);
    x->client->waiting_count--;
}

/* --- connections --- */

static void line_free(struct line *l)
{
    io_set(&l->io, 0);
    tls_client_conn_destroy(&l->tls);
    if (l->io.fd >= 0)
        (void)close(l->io.fd);
    timer_stop(&l->idle);
    response_fini(&l->response);
    list_del(&l->link);
    l->client->line_count--;
    free(l);
}

/* The connection is of no use any more. why is borrowed from it, perhaps. */
static void line_fail(struct line *l, const char *why)
{
    struct exchange *x = TAKE(l->exchange);
    struct http_client *c = l->client;
    char text[256];
    (void)snprintf(text, sizeof text, "%s", why);
    bool again = x != NULL && l->kept && !x->repeated && l->response.head == 0 && !c->closing;
    line_free(l);
    if (x == NULL)
        return;
    if (!again) {
        exchange_fail(x, text, false);
        return;
    }
    x->repeated = true;
    x->line = NULL;
    list_del(&x->link);
    list_prepend(&c->waiting, &x->link);
    c->waiting_count++;
    loop_idle(c->loop, &c->task, 0);
}

static void on_idle(struct timer *t)
{
    line_free(container_of(t, struct line, idle));
}

static void line_begin(struct line *l, struct exchange *x)
{
    stop_waiting(x);
    list_append(&l->client->sent, &x->link);
    timer_stop(&l->idle);
    l->exchange = x;
    x->line = l;
    l->written = 0;
    response_init(&l->response);
}

static void line_done(struct line *l)
{
    struct exchange *x = TAKE(l->exchange);
    struct http_client *c = l->client;
    struct response response = l->response; /* its memory, too: what is told may do anything */
    const struct http_result result = {
        .status = response.status, .body = buf_slice(&response.body), .retry_after_s = response.retry_after_s};
    l->response = (struct response){0};
    l->kept = true;
    if (response.keep && !c->closing) {
        l->state = LINE_IDLE;
        io_set(&l->io, IO_READ);
        timer_start(&l->idle, IDLE_MS);
        loop_idle(c->loop, &c->task, 0);
    } else {
        line_free(l);
        loop_idle(c->loop, &c->task, 0);
    }
    exchange_end(x, &result);
    response_fini(&response);
}

/* --- reading and writing --- */

static enum tls_client_io plain_io(ssize_t n, int wants, size_t *ret)
{
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return wants == IO_READ ? TLS_CLIENT_WANT_READ : TLS_CLIENT_WANT_WRITE;
    if (n < 0)
        return TLS_CLIENT_FAILED;
    if (n == 0)
        return TLS_CLIENT_END;
    *ret = (size_t)n;
    return TLS_CLIENT_DONE;
}

static enum tls_client_io line_read(struct line *l, char *p, size_t n, size_t *ret)
{
    return l->tls != NULL ? tls_client_read(l->tls, p, n, ret) : plain_io(recv(l->io.fd, p, n, 0), IO_READ, ret);
}

static enum tls_client_io line_write(struct line *l, const char *p, size_t n, size_t *ret)
{
    return l->tls != NULL ? tls_client_write(l->tls, p, n, ret)
                          : plain_io(send(l->io.fd, p, n, MSG_NOSIGNAL), IO_WRITE, ret);
}

static const char *line_error(const struct line *l)
{
    return l->tls != NULL ? tls_client_error(l->tls) : strerror(errno); /* NOLINT(concurrency-mt-unsafe): one thread */
}

/* What to do after a step that could not be finished. False: the connection is gone. */
static bool line_wait(struct line *l, enum tls_client_io io)
{
    switch (io) {
    case TLS_CLIENT_WANT_READ: io_set(&l->io, IO_READ); return true;
    case TLS_CLIENT_WANT_WRITE: io_set(&l->io, IO_WRITE); return true;
    case TLS_CLIENT_END: line_fail(l, "it closed the connection"); return false;
    default: line_fail(l, line_error(l)); return false;
    }
}

static void on_readable(struct line *l)
{
    char bytes[READ_SIZE];
    size_t n = 0;
    enum tls_client_io io = line_read(l, bytes, sizeof bytes, &n);
    if (io == TLS_CLIENT_END) {
        response_eof(&l->response);
    } else if (io != TLS_CLIENT_DONE) {
        (void)line_wait(l, io);
        return;
    } else if (response_feed(&l->response, bytes, n) < n) {
        l->response.keep = false; /* more than one answer to one question */
    }
    if (l->response.state == RESPONSE_BAD)
        line_fail(l, l->response.why);
    else if (l->response.state == RESPONSE_DONE)
        line_done(l);
    else
        io_set(&l->io, IO_READ);
}

/* An answer may come before all is written, a refusal for instance: but it is not read before, which is bounded by the patience. */
static void on_writable(struct line *l)
{
    const struct buf *b = &l->exchange->request;
    while (l->written < b->n) {
        size_t n = 0;
        enum tls_client_io io = line_write(l, b->p + l->written, b->n - l->written, &n);
        if (io != TLS_CLIENT_DONE) {
            (void)line_wait(l, io);
            return;
        }
        l->written += n;
    }
    l->state = LINE_READING;
    io_set(&l->io, IO_READ);
}

static void on_connected(struct line *l)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(l->io.fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) {
        line_fail(l, strerror(error)); /* NOLINT(concurrency-mt-unsafe): one thread */
        return;
    }
    if (l->client->cfg.tls != NULL) {
        l->tls = tls_client_connect(l->client->cfg.tls, l->io.fd, l->client->cfg.url->host);
        l->state = LINE_HANDSHAKING;
    } else {
        l->state = LINE_WRITING;
    }
    line_work(l);
}

static void on_handshake(struct line *l)
{
    enum tls_client_io io = tls_client_handshake(l->tls);
    if (io != TLS_CLIENT_DONE) {
        (void)line_wait(l, io);
        return;
    }
    l->state = LINE_WRITING;
    on_writable(l);
}

static void line_work(struct line *l)
{
    switch (l->state) {
    case LINE_LOOKING: return;
    case LINE_CONNECTING: on_connected(l); return;
    case LINE_HANDSHAKING: on_handshake(l); return;
    case LINE_WRITING: on_writable(l); return;
    case LINE_READING: on_readable(l); return;
    case LINE_IDLE: line_free(l); return; /* closed, or says what nobody asked */
    }
}

static void on_io(struct io *io, int events)
{
    (void)events;
    line_work(container_of(io, struct line, io));
}

/* --- connecting --- */

static socklen_t socket_address(const char *address, uint16_t port, struct sockaddr_storage *ret)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    memset(ret, 0, sizeof *ret);
    if (inet_pton(AF_INET, address, &v4.sin_addr) == 1) {
        memcpy(ret, &v4, sizeof v4);
        return sizeof v4;
    }
    if (inet_pton(AF_INET6, address, &v6.sin6_addr) != 1)
        return 0;
    memcpy(ret, &v6, sizeof v6);
    return sizeof v6;
}

static void line_connect(struct line *l, const char *address)
{
    struct sockaddr_storage to;
    int one = 1;
    socklen_t size = socket_address(address, l->client->cfg.url->port, &to);
    int fd = size != 0 ? socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) : -1;
    if (fd < 0) {
        line_fail(l, size == 0 ? "it has no usable address" : strerror(errno)); /* NOLINT(concurrency-mt-unsafe) */
        return;
    }
    io_init(&l->io, l->client->loop, fd, on_io);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    l->state = LINE_CONNECTING;
    if (connect(fd, (const struct sockaddr *)&to, size) != 0 && errno != EINPROGRESS)
        line_fail(l, strerror(errno)); /* NOLINT(concurrency-mt-unsafe): one thread */
    else
        io_set(&l->io, IO_WRITE);
}

static void on_resolved(void *owner, const char *address, const char *why)
{
    struct http_client *c = owner;
    list_for_each_safe (it, &c->lines) {
        struct line *l = list_entry(it, struct line, link);
        if (l->state != LINE_LOOKING)
            continue;
        if (address != NULL)
            line_connect(l, address);
        else
            line_fail(l, why);
    }
}

static void line_open(struct http_client *c, struct exchange *x)
{
    struct line *l = xcalloc(1, sizeof *l);
    l->client = c;
    l->io.fd = -1;
    l->io.loop = c->loop;
    timer_init(&l->idle, c->loop, on_idle);
    list_append(&c->lines, &l->link);
    c->line_count++;
    line_begin(l, x);
    l->state = LINE_LOOKING;
    if (c->resolver != NULL)
        resolver_start(c->resolver);
    else
        line_connect(l, c->cfg.url->host);
}

/* --- the queue --- */

static struct line *idle_line(struct http_client *c)
{
    list_for_each (it, &c->lines) {
        struct line *l = list_entry(it, struct line, link);
        if (l->state == LINE_IDLE)
            return l;
    }
    return NULL;
}

static struct exchange *unwanted(struct http_client *c)
{
    list_for_each (it, &c->waiting) {
        struct exchange *x = list_entry(it, struct exchange, link);
        if (x->unwanted)
            return x;
    }
    return NULL;
}

static void on_task(struct task *t)
{
    struct http_client *c = container_of(t, struct http_client, task);
    for (struct exchange *x = unwanted(c); x != NULL; x = unwanted(c)) {
        stop_waiting(x);
        exchange_fail(x, "too many requests wait", false);
    }
    while (!list_empty(&c->waiting)) {
        struct exchange *x = list_first(&c->waiting, struct exchange, link);
        struct line *l = idle_line(c);
        if (l != NULL) {
            line_begin(l, x);
            l->state = LINE_WRITING;
            on_writable(l);
        } else if (c->line_count < c->cfg.connections) {
            line_open(c, x);
        } else {
            return;
        }
    }
}

static void on_late(struct timer *t)
{
    struct exchange *x = container_of(t, struct exchange, patience);
    if (x->line != NULL) {
        x->line->exchange = NULL;
        line_free(x->line);
        loop_idle(x->client->loop, &x->client->task, 0);
    } else {
        x->client->waiting_count--;
    }
    exchange_fail(x, "it did not answer in time", true);
}

void http_client_post(struct http_client *c, struct buf *request, uint32_t timeout_ms, http_done *done, void *arg)
{
    struct exchange *x = xcalloc(1, sizeof *x);
    assert(!c->closing);
    x->client = c;
    x->request = *request;
    *request = BUF_INIT;
    x->done = done;
    x->arg = arg;
    x->unwanted = c->waiting_count >= c->cfg.waiting;
    timer_init(&x->patience, c->loop, on_late);
    timer_start(&x->patience, timeout_ms);
    list_append(&c->waiting, &x->link);
    c->waiting_count++;
    loop_idle(c->loop, &c->task, 0);
}

uint32_t http_client_connections(const struct http_client *c)
{
    return c->line_count;
}

/* --- life --- */

struct http_client *http_client_create(struct loop *loop, const struct http_client_config *cfg)
{
    struct http_client *c = xcalloc(1, sizeof *c);
    c->loop = loop;
    c->cfg = *cfg;
    list_init(&c->waiting);
    list_init(&c->sent);
    list_init(&c->lines);
    task_init(&c->task, on_task);
    if (!address_is_numeric(cfg->url->host))
        c->resolver = resolver_create(loop, cfg->url->host, on_resolved, c);
    return c;
}

void http_client_destroy(struct http_client **cp)
{
    struct http_client *c = TAKE(*cp);
    if (c == NULL)
        return;
    c->closing = true;
    task_cancel(&c->task);
    resolver_destroy(&c->resolver);
    while (!list_empty(&c->lines))
        line_fail(list_first(&c->lines, struct line, link), "this node is stopping");
    while (!list_empty(&c->waiting)) {
        struct exchange *x = list_first(&c->waiting, struct exchange, link);
        stop_waiting(x);
        exchange_fail(x, "this node is stopping", false);
    }
    free(c);
}
