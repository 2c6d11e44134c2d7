/* loadgen_conn.c: a minimal WebSocket client for very many connections. */
#include "loadgen_conn.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define RX_BYTES ((size_t)256 * 1024) /* also the longest frame a server may send */
#define TX_BYTES (MAX_PAYLOAD + 1024)

enum ws_opcode { WS_CONTINUATION = 0, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

static void *grow(void *p, size_t n)
{
    void *q = realloc(p, n);
    if (q == NULL) {
        fputs("xindao-loadgen: out of memory\n", stderr);
        abort();
    }
    return q;
}

bool conn_env_init(struct conn_env *env, const struct options *o, const struct conn_events *events, void *owner)
{
    *env = (struct conn_env){.options = o, .events = events, .owner = owner, .epoll = -1, .stamp_from_end = SIZE_MAX};
    if (RAND_bytes((uint8_t *)&env->mask, sizeof env->mask) != 1)
        return false;
    if (o->tls && (env->tls = tls_client_context(o->ciphersuites)) == NULL)
        return false;
    if (o->tls_resume && env->tls != NULL)
        tls_resume_sessions(env->tls);
    env->rx = grow(NULL, RX_BYTES);
    env->tx = grow(NULL, TX_BYTES);
    env->epoll = epoll_create1(EPOLL_CLOEXEC);
    return env->epoll >= 0;
}

void conn_env_fini(struct conn_env *env)
{
    if (env->epoll >= 0)
        close(env->epoll);
    free(env->rx);
    free(env->tx);
    SSL_CTX_free(env->tls);
    *env = (struct conn_env){.epoll = -1};
}

void conn_close(struct conn *c)
{
    if (c->state == CONN_CLOSED)
        return;
    c->state = CONN_CLOSED;
    stream_fini(&c->stream); /* closing the descriptor takes it out of the epoll set */
    c->part_len = c->unsent_len = 0;
}

void conn_fini(struct conn *c)
{
    conn_close(c);
    free(c->part);
    free(c->unsent);
    c->part = c->unsent = NULL;
}

static void conn_fail(struct conn_env *env, struct conn *c, const char *what, const char *detail)
{
    static const char *const doing[] = {
        [CONN_CLOSED] = "closed",
        [CONN_CONNECTING] = "connecting",
        [CONN_TLS] = "in TLS handshake",
        [CONN_UPGRADING] = "waiting for 101",
        [CONN_ENTERING] = "entering the room",
        [CONN_OPEN] = "open",
    };
    if (c->state == CONN_CLOSED)
        return;
    snprintf(env->reason, sizeof env->reason, "%s: %s%s", doing[c->state], what, detail);
    conn_close(c);
    env->events->failed(env->owner, c, env->reason);
}

static bool conn_watch(struct conn_env *env, struct conn *c, bool wants_write)
{
    struct epoll_event ev = {.events = EPOLLIN | (wants_write ? EPOLLOUT : 0u), .data.ptr = c};
    if (c->wants_write == wants_write)
        return true;
    c->wants_write = wants_write;
    if (epoll_ctl(env->epoll, EPOLL_CTL_MOD, c->stream.fd, &ev) == 0)
        return true;
    conn_fail(env, c, "epoll_ctl: ", strerrordesc_np(errno));
    return false;
}

static void conn_keep_unsent(struct conn *c, const uint8_t *p, size_t n)
{
    if (c->unsent_len + n > c->unsent_cap) {
        c->unsent_cap = (c->unsent_len + n) * 2;
        c->unsent = grow(c->unsent, c->unsent_cap);
    }
    memcpy(c->unsent + c->unsent_len, p, n);
    c->unsent_len += n;
}

static bool conn_send(struct conn_env *env, struct conn *c, const uint8_t *p, size_t n)
{
    ssize_t put = 0;
    if (c->unsent_len == 0)
        put = stream_write(&c->stream, p, n);
    if (put < 0) {
        conn_fail(env, c, "write: ", stream_error());
        return false;
    }
    if ((size_t)put == n)
        return true;
    conn_keep_unsent(c, p + put, n - (size_t)put);
    return conn_watch(env, c, true);
}

static bool conn_flush(struct conn_env *env, struct conn *c)
{
    while (c->unsent_len > 0) {
        ssize_t put = stream_write(&c->stream, c->unsent, c->unsent_len);
        if (put < 0) {
            conn_fail(env, c, "write: ", stream_error());
            return false;
        }
        if (put == 0)
            return true;
        c->unsent_len -= (size_t)put;
        memmove(c->unsent, c->unsent + put, c->unsent_len);
    }
    return conn_watch(env, c, false);
}

/* Sends body (n <= MAX_PAYLOAD + 512) as one masked frame. */
static bool conn_send_frame(struct conn_env *env, struct conn *c, enum ws_opcode opcode, const void *body, size_t n)
{
    uint8_t *p = env->tx, mask[4];
    size_t head = 2;
    env->mask = env->mask * 1664525u + 1013904223u;
    memcpy(mask, &env->mask, sizeof mask);
    p[0] = (uint8_t)(0x80 | opcode);
    if (n < 126) {
        p[1] = (uint8_t)(0x80 | n);
    } else {
        p[1] = 0x80 | 126;
        p[2] = (uint8_t)(n >> 8);
        p[3] = (uint8_t)n;
        head = 4;
    }
    memcpy(p + head, mask, sizeof mask);
    head += sizeof mask;
    const uint8_t *from = body;
    for (size_t i = 0; i < n; i++)
        p[head + i] = from[i] ^ mask[i & 3];
    return conn_send(env, c, p, head + n);
}

static bool conn_send_upgrade(struct conn_env *env, struct conn *c)
{
    const struct dialect *d = env->options->dialect;
    char request[512], path[128];
    (void)d->path(path, sizeof path, c->index, c->room);
    int n = snprintf(request, sizeof request,
                     "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                     "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n",
                     path, d->headers);
    c->state = CONN_UPGRADING;
    return conn_send(env, c, (const uint8_t *)request, (size_t)n);
}

bool conn_publish(struct conn_env *env, struct conn *c, uint64_t stamp_ns, uint32_t sequence)
{
    static char body[MAX_PAYLOAD + 512];
    const struct dialect *d = env->options->dialect;
    size_t size = env->options->size, n = d->publish_head(body, sizeof body, c->room);
    snprintf(body + n, STAMP_SIZE + 1, STAMP_MARK "%016" PRIx64 "%08" PRIx32, stamp_ns, sequence);
    memset(body + n + STAMP_SIZE, 'x', size - STAMP_SIZE);
    n += size;
    n += (size_t)snprintf(body + n, sizeof body - n, "%s", d->publish_tail);
    return conn_send_frame(env, c, WS_TEXT, body, n);
}

static uint64_t parse_hex16(const uint8_t *p)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < 16; i++)
        v = v << 4 | (unsigned)((p[i] & 15) + (p[i] >> 6) * 9);
    return v;
}

/* The stamp of a payload, or NULL. Looks first where it was the last time. */
static const uint8_t *conn_find_stamp(struct conn_env *env, const uint8_t *p, size_t n)
{
    if (env->stamp_from_end <= n && memcmp(p + n - env->stamp_from_end, STAMP_MARK, 4) == 0)
        return p + n - env->stamp_from_end;
    const uint8_t *at = memmem(p, n, STAMP_MARK, 4);
    if (at == NULL || (size_t)(p + n - at) < STAMP_SIZE)
        return NULL;
    env->stamp_from_end = (size_t)(p + n - at);
    return at;
}

static void conn_opened(struct conn_env *env, struct conn *c)
{
    c->state = CONN_OPEN;
    env->events->opened(env->owner, c);
}

static void conn_on_other(struct conn_env *env, struct conn *c, const uint8_t *p, size_t n)
{
    const struct dialect *d = env->options->dialect;
    char text[256];
    switch (d->read != NULL ? d->read((struct frame_text){p, n}, c->room, text, sizeof text) : MEANS_NOTHING) {
    case MEANS_NOTHING: break;
    case MEANS_REPLY: (void)conn_send_frame(env, c, WS_TEXT, text, strlen(text)); break; /* a failure closes c */
    case MEANS_ENTERED:
        if (c->state == CONN_ENTERING)
            conn_opened(env, c);
        break;
    case MEANS_ERROR:
        snprintf(text, sizeof text, "%.*s", (int)(n < sizeof text ? n : sizeof text - 1), (const char *)p);
        conn_fail(env, c, "server says ", text);
        break;
    }
}

static void conn_on_text(struct conn_env *env, struct conn *c, const uint8_t *p, size_t n)
{
    const uint8_t *stamp = conn_find_stamp(env, p, n);
    uint64_t sequence;
    if (stamp == NULL) {
        conn_on_other(env, c, p, n);
        return;
    }
    memcpy(&sequence, stamp + STAMP_SIZE - sizeof sequence, sizeof sequence);
    c->order = (c->order ^ sequence) * 0x9e3779b97f4a7c15u;
    c->received++;
    env->events->message(env->owner, c, parse_hex16(stamp + strlen(STAMP_MARK)));
}

static void conn_on_frame(struct conn_env *env, struct conn *c, unsigned first, const uint8_t *p, size_t n)
{
    char text[128];
    switch (first) {
    case 0x80 | WS_TEXT:
    case 0x80 | WS_BINARY: conn_on_text(env, c, p, n); break;
    case 0x80 | WS_PING: (void)conn_send_frame(env, c, WS_PONG, p, n < 126 ? n : 0); break;
    case 0x80 | WS_PONG: break;
    case 0x80 | WS_CLOSE:
        snprintf(text, sizeof text, "%u %.*s", n >= 2 ? (unsigned)p[0] << 8 | p[1] : 1005, n > 2 ? (int)(n - 2) : 0,
                 n > 2 ? (const char *)p + 2 : "");
        conn_fail(env, c, "close frame ", text);
        break;
    default:
        snprintf(text, sizeof text, "0x%02x", first);
        conn_fail(env, c, "frame this client does not understand, first byte ", text);
    }
}

/* Handles the frame at p if all of it is there; returns its length, or 0. */
static size_t conn_take_frame(struct conn_env *env, struct conn *c, const uint8_t *p, size_t n)
{
    size_t head = 2, len;
    if (n < 2)
        return 0;
    len = p[1] & 127;
    if (len == 126) {
        head = 4;
        if (n < head)
            return 0;
        len = (size_t)p[2] << 8 | p[3];
    } else if (len == 127) {
        head = 10;
        if (n < head)
            return 0;
        len = (size_t)p[6] << 24 | (size_t)p[7] << 16 | (size_t)p[8] << 8 | p[9];
    }
    if (head + len > RX_BYTES / 2) {
        conn_fail(env, c, "frame too long", "");
        return 0;
    }
    if (n < head + len)
        return 0;
    conn_on_frame(env, c, p[0], p + head, len);
    return head + len;
}

/* Returns the length of the complete HTTP answer, or 0. */
static size_t conn_take_answer(struct conn_env *env, struct conn *c, const uint8_t *p, size_t n)
{
    const uint8_t *end = memmem(p, n, "\r\n\r\n", 4);
    if (end == NULL)
        return 0;
    if (n < 12 || memcmp(p, "HTTP/1.1 101", 12) != 0) {
        char line[96];
        int len = (int)strcspn((const char *)p, "\r");
        snprintf(line, sizeof line, "%.*s", len, (const char *)p);
        conn_fail(env, c, "refused: ", line);
        return 0;
    }
    if (env->options->dialect->read != NULL && env->options->mode != MODE_HANDSHAKE)
        c->state = CONN_ENTERING;
    else
        conn_opened(env, c);
    return (size_t)(end - p) + 4;
}

static size_t conn_consume(struct conn_env *env, struct conn *c, const uint8_t *p, size_t n)
{
    size_t used = 0, step = 1;
    while (step > 0 && used < n && c->state != CONN_CLOSED) {
        if (c->state == CONN_UPGRADING)
            step = conn_take_answer(env, c, p + used, n - used);
        else
            step = conn_take_frame(env, c, p + used, n - used);
        used += step;
    }
    return used;
}

static void conn_keep_part(struct conn *c, const uint8_t *p, size_t n)
{
    if (n > c->part_cap) {
        c->part_cap = n * 2;
        c->part = grow(c->part, c->part_cap);
    }
    memcpy(c->part, p, n);
    c->part_len = n;
}

static void conn_read(struct conn_env *env, struct conn *c)
{
    while (c->state != CONN_CLOSED) {
        size_t have = c->part_len, room = RX_BYTES - have;
        if (have > 0)
            memcpy(env->rx, c->part, have);
        ssize_t got = stream_read(&c->stream, env->rx + have, room);
        if (got < 0)
            conn_fail(env, c, "read: ", stream_error());
        if (got <= 0)
            return;
        env->bytes_in += (size_t)got;
        have += (size_t)got;
        c->part_len = 0;
        size_t used = conn_consume(env, c, env->rx, have);
        if (c->state != CONN_CLOSED && used < have)
            conn_keep_part(c, env->rx + used, have - used);
        /* What OpenSSL has read ahead must be taken now, epoll does not know of it; the kernel's rest comes back. */
        if (c->state == CONN_CLOSED || !stream_has_pending(&c->stream))
            return;
    }
}

static bool conn_connected(struct conn_env *env, struct conn *c)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(c->stream.fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == 0) {
        c->state = CONN_TLS;
        return true;
    }
    conn_fail(env, c, error != 0 ? strerrordesc_np(error) : "getsockopt", "");
    return false;
}

void conn_ready(struct conn_env *env, struct conn *c, uint32_t epoll_events)
{
    if (c->state == CONN_CLOSED || (c->state == CONN_CONNECTING && !conn_connected(env, c)))
        return;
    if (c->state == CONN_TLS) {
        int done = stream_handshake(&c->stream);
        if (done < 0)
            conn_fail(env, c, "TLS: ", stream_error());
        if (done <= 0 || !conn_send_upgrade(env, c)) {
            if (c->state != CONN_CLOSED)
                (void)conn_watch(env, c, false); /* our flights fit the socket buffer: only input is missing */
            return;
        }
        if (c->unsent_len == 0 && !conn_watch(env, c, false))
            return;
    }
    if ((epoll_events & EPOLLOUT) != 0 && c->wants_write && !conn_flush(env, c))
        return;
    conn_read(env, c);
}

void conn_open(struct conn_env *env, struct conn *c, uint32_t index, uint32_t room)
{
    const struct sockaddr_in *to = &env->options->targets[index % env->options->n_targets];
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    *c = (struct conn){.stream.fd = -1,
                       .state = CONN_CONNECTING,
                       .index = index,
                       .room = room,
                       .wants_write = true,
                       .part = c->part,
                       .part_cap = c->part_cap,
                       .unsent = c->unsent,
                       .unsent_cap = c->unsent_cap};
    if (fd < 0) {
        conn_fail(env, c, "socket: ", strerrordesc_np(errno));
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* only latency suffers without */
    if (!stream_init(&c->stream, fd, env->tls)) {
        conn_fail(env, c, "TLS: no memory", "");
        return;
    }
    if ((connect(fd, (const struct sockaddr *)to, sizeof *to) != 0 && errno != EINPROGRESS) ||
        epoll_ctl(env->epoll, EPOLL_CTL_ADD, fd, &ev) != 0)
        conn_fail(env, c, strerrordesc_np(errno), "");
}
