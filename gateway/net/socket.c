/* gateway/net/socket.c: one connection, from accept to close. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "gateway/net/net_private.h"
#include "gateway/net/proxy.h"

static const struct {
    const char *word;
    unsigned next;
} states[] = {
#define X(state, word, next) [state] = {word, next},
    SOCKET_STATE_MAP(X)
#undef X
};

void socket_set_state(struct socket *s, enum socket_state to)
{
    assert((states[s->state].next & BIT(to)) != 0);
    if (LOG_DEBUG <= log_threshold)
        LOG(DEBUG, "socket", "peer=%s from=%s to=%s", socket_name(s), states[s->state].word, states[to].word);
    s->state = to;
}

const char *socket_name(const struct socket *s)
{
    return peer_name(&s->address, s->port);
}

/* --- what we listen to --- */

static bool reading(const struct socket *s)
{
    return s->state == SOCKET_CLOSING ? s->fin : s->state < SOCKET_CLOSING && !s->paused;
}

/* A pause takes effect when something arrives during it (on_io): most end before that, and cost no epoll_ctl. */
void socket_watch(struct socket *s)
{
    int events = reading(s) ? IO_READ : 0;
    if (s->paused && s->state < SOCKET_CLOSING)
        events |= s->io.events & IO_READ;
    if (s->out_n > 0 || s->owes_write)
        events |= IO_WRITE;
    io_set(&s->io, s->state == SOCKET_DEAD ? 0 : events);
}

void socket_deadline(struct socket *s, uint64_t ms)
{
    wheel_set(&s->net->wheel, &s->deadline, ms);
}

void socket_pause(struct socket *s, bool paused)
{
    s->paused = paused;
    if (!paused && s->held_n > 0)
        net_todo(s->net, s);
    socket_watch(s);
}

void socket_hold(struct socket *s, const char *p, size_t n)
{
    assert(s->held_n + n <= 2 * (size_t)READ_SIZE);
    s->held = xrealloc(s->held, s->held_n + n);
    memcpy(s->held + s->held_n, p, n);
    s->held_n += (uint32_t)n;
}

/* --- the end --- */

void socket_close(struct socket *s, const char *why)
{
    if (s->state >= SOCKET_CLOSING)
        return;
    s->why = why;
    socket_set_state(s, SOCKET_CLOSING);
    socket_deadline(s, LINGER_MS);
    net_todo(s->net, s);
}

void socket_kill(struct socket *s, const char *why)
{
    if (s->state == SOCKET_DEAD)
        return;
    if (s->why == NULL)
        s->why = why;
    socket_set_state(s, SOCKET_DEAD);
    socket_watch(s);
    net_todo(s->net, s);
}

/* What only a connection in use needs. */
static void release_upper(struct socket *s)
{
    http_destroy(&s->http);
    if (s->conn != NULL)
        conn_gone(TAKE(s->conn), s->why);
    tls_free(s);
}

/* CLOSING: first everything goes out, then our goodbye, then we wait a little for the peer's, because closing a socket with unread input makes the
 * kernel send a reset that may overtake what we have just sent. */
static void closing_step(struct socket *s)
{
    if (s->out_n == 0 && !s->fin)
        tls_goodbye(s);
    if (s->out_n == 0 && !s->fin) {
        s->fin = true;
        s->owes_write = false;
        (void)shutdown(s->io.fd, SHUT_WR);
        release_upper(s);
        if (s->eof)
            socket_kill(s, NULL);
    }
    socket_watch(s);
}

void socket_free(struct socket *s)
{
    struct net *n = s->net;
    s->state = SOCKET_DEAD; /* net_destroy() comes from any state */
    release_upper(s);
    wheel_unset(&s->deadline);
    io_set(&s->io, 0);
    (void)close(s->io.fd);
    list_del(&s->todo);
    list_del(&s->link);
    peer_leave(&n->peers, &s->peer);
    free(s->out);
    free(s->held);
    free(s);
    net_closed(n);
}

static void on_deadline(struct wheel_entry *e)
{
    struct socket *s = container_of(e, struct socket, deadline);
    switch (s->state) {
    case SOCKET_PROXY:
    case SOCKET_TLS:
        net_refused(&s->address, s->port, DROP_HANDSHAKE_TIMEOUT, states[s->state].word);
        socket_kill(s, "timeout");
        break;
    case SOCKET_HTTP: http_timeout(s); break;
    case SOCKET_CLOSING: socket_kill(s, "timeout"); break;
    case SOCKET_OPEN:
    case SOCKET_DEAD: break;
    }
}

/* --- reading --- */

void socket_plain(struct socket *s, char *p, size_t n)
{
    while (n > 0 && s->state == SOCKET_HTTP && !s->paused) {
        if (s->http == NULL)
            s->http = http_create(s);
        size_t used = http_input(s->http, p, n);
        metrics->bytes_in += used;
        p += used;
        n -= used;
    }
    if (n == 0)
        return;
    if (s->state == SOCKET_OPEN)
        conn_input(s->conn, p, n);
    else if (s->state == SOCKET_HTTP)
        http_hold(s->http, p, n);
}

/* Past accept and PROXY header: counts the client and lets it speak. */
static void begin(struct socket *s)
{
    s->peer = peer_enter(&s->net->peers, &s->address, s->net->cfg->max_connections_per_ip);
    if (s->peer == NULL) {
        net_refused(&s->address, s->port, DROP_PER_IP, "");
        socket_kill(s, "closed");
        return;
    }
    if (!s->tls) {
        socket_set_state(s, SOCKET_HTTP);
        return;
    }
    socket_set_state(s, SOCKET_TLS);
    tls_start(s);
}

static void receive(struct socket *s, char *p, size_t n);

/* All that came so far is in s->held. */
static void proxy_input(struct socket *s)
{
    struct proxy_header h;
    const char *why = "the header is missing";
    enum proxy_result r = proxy_parse(s->held, s->held_n, &h, &why);
    if (r == PROXY_MORE)
        return;
    if (r == PROXY_BAD || (r == PROXY_NONE && s->net->cfg->proxy_protocol != PROXY_OPTIONAL)) {
        net_refused(&s->address, s->port, DROP_PROXY, why);
        socket_kill(s, "closed");
        return;
    }
    if (r == PROXY_DONE && !h.local) {
        s->address = h.address;
        s->port = h.port;
    }
    size_t skip = r == PROXY_DONE ? h.length : 0;
    begin(s);
    AUTO_FREE char *held = TAKE(s->held);
    size_t n = s->held_n;
    s->held_n = 0;
    if (n > skip && s->state != SOCKET_DEAD)
        receive(s, held + skip, n - skip);
}

static void receive(struct socket *s, char *p, size_t n)
{
    if (s->state == SOCKET_PROXY) {
        socket_hold(s, p, n);
        proxy_input(s);
    } else if (s->tls) {
        tls_input(s, p, n);
    } else {
        socket_plain(s, p, n);
    }
}

static void feed_held(struct socket *s)
{
    AUTO_FREE char *held = TAKE(s->held);
    size_t n = s->held_n;
    s->held_n = 0;
    receive(s, held, n);
}

bool socket_no_more(struct socket *s)
{
    return s->state == SOCKET_HTTP && s->http != NULL && http_no_more(s->http);
}

/* CLOSING, after our FIN: throws away what still comes. */
static void drain(struct socket *s, ssize_t n)
{
    s->drained += n > 0 ? (uint32_t)n : 0;
    if (s->drained > LINGER_BYTES)
        socket_kill(s, NULL);
}

static void on_readable(struct socket *s)
{
    struct net *net = s->net;
    if (s->held_n > 0 && s->state != SOCKET_PROXY)
        feed_held(s);
    for (int round = 0; round < READ_ROUNDS && reading(s); round++) {
        ssize_t n = recv(s->io.fd, net->in, sizeof net->in, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            s->eof = true;
            if (n == 0 && socket_no_more(s))
                return;
            socket_kill(s, n == 0 ? "peer" : "reset");
            return;
        }
        if (s->state == SOCKET_CLOSING)
            drain(s, n);
        else
            receive(s, net->in, (size_t)n);
        if (n < (ssize_t)sizeof net->in)
            return;
    }
}

/* --- writing --- */

/* Keeps what the kernel did not take; false when that grows beyond what an honest peer can cause. */
static bool keep_out(struct socket *s, const char *p, size_t n)
{
    if (s->out_n + n > OUT_MAX)
        return false;
    size_t end = s->out_at + s->out_n;
    s->out = xrealloc(s->out, end + n);
    memcpy(s->out + end, p, n);
    s->out_n += (uint32_t)n;
    return true;
}

bool socket_out(struct socket *s, const char *p, size_t n)
{
    ssize_t sent = 0;
    if (s->out_n == 0) {
        sent = send(s->io.fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent == (ssize_t)n)
            return true;
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (sent < 0)
            sent = 0;
    }
    return keep_out(s, p + sent, n - (size_t)sent);
}

static ssize_t plain_write(struct socket *s, const char *p, size_t n)
{
    ssize_t sent = send(s->io.fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0)
        return sent;
    if (errno == EAGAIN || errno == EINTR)
        return 0;
    socket_kill(s, "reset");
    return -1;
}

ssize_t socket_write(struct socket *s, const char *p, size_t n)
{
    if (s->state >= SOCKET_CLOSING)
        return -1;
    ssize_t taken = s->tls ? tls_write(s, p, n) : plain_write(s, p, n);
    if (taken < 0)
        return -1;
    if (s->state == SOCKET_HTTP)
        metrics->bytes_out += (uint64_t)taken; /* the core counts what it writes */
    if ((size_t)taken < n)
        s->owes_write = true;
    if (s->owes_write || s->out_n > 0)
        socket_watch(s);
    return taken;
}

/* False when the kernel still does not take all. */
static bool flush_out(struct socket *s)
{
    if (s->out_n == 0)
        return true;
    ssize_t sent = send(s->io.fd, s->out + s->out_at, s->out_n, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        socket_kill(s, "reset");
        return false;
    }
    if (sent > 0) {
        s->out_at += (uint32_t)sent;
        s->out_n -= (uint32_t)sent;
    }
    if (s->out_n > 0)
        return false;
    free(TAKE(s->out));
    s->out_at = 0;
    return true;
}

static void on_writable(struct socket *s)
{
    if (!flush_out(s))
        return;
    if (s->state == SOCKET_CLOSING) {
        closing_step(s);
        return;
    }
    if (!s->owes_write)
        return;
    s->owes_write = false;
    if (s->state == SOCKET_OPEN)
        conn_writable(s->conn);
    else if (s->http != NULL)
        http_continue(s->http);
}

/* --- from the loop --- */

static void on_io(struct io *io, int events)
{
    struct socket *s = container_of(io, struct socket, io);
    if ((events & IO_WRITE) != 0)
        on_writable(s);
    if ((events & IO_READ) != 0) {
        if (reading(s))
            on_readable(s);
        else
            io_set(io, io->events & ~IO_READ);
    }
    socket_watch(s);
}

void socket_continue(struct socket *s)
{
    if (s->state == SOCKET_CLOSING) {
        closing_step(s);
        return;
    }
    if (s->http != NULL)
        http_continue(s->http);
    if (s->held_n > 0 && reading(s))
        feed_held(s);
    socket_watch(s);
}

/* --- what the core sees --- */

static struct socket *of_transport(struct transport *t)
{
    return container_of(t, struct socket, transport);
}

static ssize_t transport_write(struct transport *t, const char *p, size_t n)
{
    return socket_write(of_transport(t), p, n);
}

static void transport_close(struct transport *t)
{
    socket_close(of_transport(t), "closed");
}

static void transport_pause(struct transport *t, bool paused)
{
    struct socket *s = of_transport(t);
    if (s->state < SOCKET_CLOSING)
        socket_pause(s, paused);
}

static const struct transport_ops ops = {.write = transport_write, .close = transport_close, .pause = transport_pause};

void socket_create(struct net *n, int fd, const struct peer_address *a, uint16_t port, bool api)
{
    struct socket *s = xcalloc(1, sizeof *s);
    s->transport.ops = &ops;
    s->net = n;
    s->api = api;
    s->tls = n->tls != NULL && !(api && n->cfg->api_insecure);
    s->address = *a;
    s->port = port;
    io_init(&s->io, n->loop, fd, on_io);
    list_init(&s->todo);
    list_init(&s->link);
    list_append(&n->sockets, &s->link);
    wheel_entry_init(&s->deadline, on_deadline);
    net_opened(n);
    socket_deadline(s, (uint64_t)n->cfg->handshake_timeout_s * 1000);
    if (n->cfg->proxy_protocol == PROXY_OFF)
        begin(s);
    socket_watch(s);
}
