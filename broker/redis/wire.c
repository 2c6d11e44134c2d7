/* broker/redis/wire.c: sockets to Redis: connecting, writing what was queued, reading for hiredis' parser. */
#include "broker/redis/wire.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/loop.h"
#include "base/mem.h"

#define READ_MAX      ((size_t)64 * 1024) /* at once: other sockets want their turn */
#define FEED_MAX      ((size_t)16 * 1024) /* hiredis moves what is left in its buffer after every few replies */
#define TLS_RECORD    ((size_t)16 * 1024)
#define KEEP_MAX      ((size_t)256 * 1024)
#define KEEPALIVE_S   15
#define KEEPALIVE_TRY 3

struct wire {
    int fd;
    bool connected, ready, broken;
    const struct tls_client *tls_context;
    struct tls_client_conn *tls; /* NULL: plain, or not yet connected */
    char *name;
    redisReader *reader;
    struct buf out;
    size_t out_at; /* written up to here */
    bool read_wants_write, write_wants_read;
    char why[256];
    size_t in_n, in_at; /* read, and handed to the parser up to in_at */
    char in[READ_MAX];
};

static void set_why(struct wire *w, const char *why)
{
    (void)snprintf(w->why, sizeof w->why, "%s", why);
}

static void set_errno(struct wire *w, int error)
{
    set_why(w, strerror(error)); /* NOLINT(concurrency-mt-unsafe): one thread */
}

static void set_options(int fd)
{
    int on = 1, idle = KEEPALIVE_S, interval = KEEPALIVE_S / KEEPALIVE_TRY, tries = KEEPALIVE_TRY;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof tries);
}

static void open_socket(struct wire *w, const char *address, int port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *to = NULL;
    char service[16];
    (void)snprintf(service, sizeof service, "%d", port);
    int error = getaddrinfo(address, service, &hints, &to); /* numeric: asks nobody */
    if (error != 0) {
        set_why(w, gai_strerror(error));
        return;
    }
    w->fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (w->fd < 0) {
        set_errno(w, errno);
    } else {
        set_options(w->fd);
        if (connect(w->fd, to->ai_addr, to->ai_addrlen) != 0 && errno != EINPROGRESS)
            set_errno(w, errno);
    }
    freeaddrinfo(to);
}

struct wire *wire_create(const char *address, int port, const struct tls_client *tls, const char *name)
{
    struct wire *w = xcalloc(1, sizeof *w);
    w->fd = -1;
    w->tls_context = tls;
    w->name = xstrdup(name);
    w->reader = redisReaderCreate();
    if (w->reader == NULL)
        abort();
    w->reader->maxbuf = KEEP_MAX; /* what hiredis keeps for the next reply */
    open_socket(w, address, port);
    return w;
}

void wire_destroy(struct wire **wire)
{
    struct wire *w = TAKE(*wire);
    if (w == NULL)
        return;
    tls_client_conn_destroy(&w->tls);
    if (w->fd >= 0)
        close(w->fd);
    redisReaderFree(w->reader);
    buf_fini(&w->out);
    free(w->name);
    free(w);
}

int wire_fd(const struct wire *w)
{
    return w->fd;
}

int wire_events(const struct wire *w)
{
    if (!w->connected)
        return IO_WRITE;
    bool write = w->read_wants_write || (w->out_at != w->out.n && !w->write_wants_read);
    return w->ready ? IO_READ | (write ? IO_WRITE : 0) : w->read_wants_write ? IO_WRITE : IO_READ;
}

static enum wire_progress handshake(struct wire *w)
{
    enum tls_client_io result = tls_client_handshake(w->tls);
    w->read_wants_write = result == TLS_CLIENT_WANT_WRITE;
    switch (result) {
    case TLS_CLIENT_DONE: w->ready = true; return WIRE_READY;
    case TLS_CLIENT_WANT_READ:
    case TLS_CLIENT_WANT_WRITE: return WIRE_AGAIN;
    case TLS_CLIENT_END:
    case TLS_CLIENT_FAILED: break;
    }
    set_why(w, tls_client_error(w->tls));
    return WIRE_FAILED;
}

enum wire_progress wire_connect(struct wire *w)
{
    int error = 0;
    socklen_t n = sizeof error;
    if (w->why[0] != '\0')
        return WIRE_FAILED;
    if (!w->connected) {
        if (getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0)
            error = errno;
        if (error != 0) {
            set_errno(w, error);
            return WIRE_FAILED;
        }
        w->connected = true;
        w->ready = w->tls_context == NULL;
        if (!w->ready)
            w->tls = tls_client_connect(w->tls_context, w->fd, w->name);
    }
    return w->ready ? WIRE_READY : handshake(w);
}

const char *wire_late(const struct wire *w)
{
    if (!w->connected)
        return "connecting timed out";
    return w->ready ? "no answer to the first commands" : "no end of the TLS handshake in time; is it a port for TLS?";
}

void wire_put(struct wire *w, const char *bytes, size_t n)
{
    buf_append(&w->out, (struct slice){bytes, n});
}

/* How many bytes; 0: not now, -1: broken. */
static ssize_t write_some(struct wire *w, const char *p, size_t n)
{
    size_t put = 0;
    if (w->tls == NULL) {
        ssize_t sent = send(w->fd, p, n, MSG_NOSIGNAL);
        if (sent >= 0)
            return sent;
        if (errno == EAGAIN || errno == EINTR)
            return 0;
        set_errno(w, errno);
        return -1;
    }
    enum tls_client_io result = tls_client_write(w->tls, p, n, &put);
    w->write_wants_read = result == TLS_CLIENT_WANT_READ;
    if (result == TLS_CLIENT_FAILED || result == TLS_CLIENT_END) {
        set_why(w, tls_client_error(w->tls));
        return -1;
    }
    return (ssize_t)put;
}

bool wire_write(struct wire *w, bool *ret_all)
{
    ssize_t n = 1;
    if (w->broken)
        return false;
    while (n > 0 && w->out_at != w->out.n) {
        n = write_some(w, w->out.p + w->out_at, w->out.n - w->out_at);
        if (n < 0)
            return false;
        w->out_at += (size_t)n;
    }
    *ret_all = w->out_at == w->out.n;
    if (!*ret_all)
        return true;
    w->out_at = 0;
    buf_clear(&w->out);
    if (w->out.cap > KEEP_MAX)
        buf_fini(&w->out);
    return true;
}

/* How many bytes; 0: not now, -1: broken. */
static ssize_t read_some(struct wire *w, char *p, size_t n)
{
    size_t got = 0;
    if (w->tls == NULL) {
        ssize_t received = recv(w->fd, p, n, 0);
        if (received > 0)
            return received;
        if (received < 0 && (errno == EAGAIN || errno == EINTR))
            return 0;
        if (received == 0)
            set_why(w, "it closed the connection");
        else
            set_errno(w, errno);
        return -1;
    }
    enum tls_client_io result = tls_client_read(w->tls, p, n, &got);
    w->read_wants_write = result == TLS_CLIENT_WANT_WRITE;
    if (result == TLS_CLIENT_FAILED || result == TLS_CLIENT_END) {
        set_why(w, tls_client_error(w->tls));
        return -1;
    }
    return (ssize_t)got;
}

/* TLS gives one record at a time; as long as there is room for a whole one, none is left in OpenSSL where the loop could not see it. */
bool wire_read(struct wire *w)
{
    ssize_t got;
    w->in_n = w->in_at = 0;
    do {
        got = read_some(w, w->in + w->in_n, sizeof w->in - w->in_n);
        w->in_n += got > 0 ? (size_t)got : 0;
    } while (got > 0 && w->tls != NULL && sizeof w->in - w->in_n >= TLS_RECORD);
    w->broken = got < 0; /* what came before is worth hearing still */
    return !w->broken || w->in_n != 0;
}

/* False: there was nothing. */
static bool feed(struct wire *w)
{
    size_t n = w->in_n - w->in_at;
    if (n == 0)
        return false;
    if (n > FEED_MAX)
        n = FEED_MAX;
    if (redisReaderFeed(w->reader, w->in + w->in_at, n) != REDIS_OK)
        abort(); /* memory only: after an error nobody comes here */
    w->in_at += n;
    return true;
}

bool wire_reply(struct wire *w, redisReply **ret)
{
    void *reply = NULL;
    bool ok;
    do {
        ok = redisReaderGetReply(w->reader, &reply) == REDIS_OK;
    } while (ok && reply == NULL && feed(w));
    if (!ok) {
        bool alert = strstr(w->reader->errstr, "\\x15") != NULL; /* 21: how a TLS alert begins */
        (void)snprintf(w->why, sizeof w->why, "%s%s", w->reader->errstr, alert ? "; is it a port for TLS?" : "");
        return false;
    }
    *ret = reply;
    return true;
}

const char *wire_error(const struct wire *w)
{
    return w->why;
}
