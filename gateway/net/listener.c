/* gateway/net/listener.c: listening sockets, and who is let in. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "gateway/net/net_private.h"

#define BACKLOG          4096 /* the kernel cuts it to net.core.somaxconn */
#define ACCEPTS_PER_TURN 64
#define LISTENERS_MAX    64
#define CREDIT           1000000 /* of one accept, in microseconds × rate */
#define OUT_OF_MEMORY_MS 100
#define REST_MIN_MS      50
#define REST_MAX_MS      1000

struct listener {
    struct net *net;
    struct io io;
    bool api; /* only the server API is served here */
};

/* --- opening --- */

/* "host:port", "[v6]:port" or ":port" to its parts; host is empty for any address. */
static enum err split_address(const char *text, char *ret_host, size_t size, const char **ret_port,
                              struct error *reterr)
{
    const char *colon = strrchr(text, ':');
    const char *host = text;
    size_t n = colon != NULL ? (size_t)(colon - text) : 0;
    if (colon == NULL || colon[1] == '\0' || strlen(colon + 1) > 5 ||
        colon[1 + strspn(colon + 1, "0123456789")] != '\0')
        return fail(reterr, ERR_BAD_REQUEST, "listen %.100s: not ADDRESS:PORT", text);
    if (n >= 2 && host[0] == '[' && host[n - 1] == ']') {
        host++;
        n -= 2;
    } else if (memchr(host, ':', n) != NULL) {
        return fail(reterr, ERR_BAD_REQUEST, "listen %.100s: an IPv6 address is written in brackets", text);
    }
    if (n >= size)
        return fail(reterr, ERR_BAD_REQUEST, "listen %.100s: the name is too long", text);
    memcpy(ret_host, host, n);
    ret_host[n] = '\0';
    *ret_port = colon + 1;
    return OK;
}

static void set_option(int fd, int level, int option)
{
    int on = 1;
    (void)setsockopt(fd, level, option, &on, sizeof on);
}

/* A listening socket, or -1 with errno. What accepted sockets inherit on Linux is set here, once. */
static int open_socket(const struct addrinfo *a, bool shared)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    set_option(fd, SOL_SOCKET, SO_REUSEADDR);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE);
    set_option(fd, IPPROTO_TCP, TCP_NODELAY);
    if (shared)
        set_option(fd, SOL_SOCKET, SO_REUSEPORT);
    if (a->ai_family == AF_INET6)
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY); /* so that 0.0.0.0 and [::] can both be listened to */
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int why = errno;
    (void)close(fd);
    errno = why;
    return -1;
}

static void on_listener(struct io *io, int events);

static enum err open_address(struct net *n, const char *text, bool api, struct error *reterr)
{
    char host[256];
    const char *port = NULL; /* gcc 14 does not see that it is set */
    if (split_address(text, host, sizeof host, &port, reterr) != OK)
        return reterr->code;
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *all;
    int r = getaddrinfo(host[0] != '\0' && strcmp(host, "*") != 0 ? host : NULL, port, &hints, &all);
    if (r != 0)
        return fail(reterr, ERR_BAD_REQUEST, "listen %.100s: %s", text, gai_strerror(r));
    int opened = 0, why = 0;
    for (const struct addrinfo *a = all; a != NULL && n->n_listeners < LISTENERS_MAX; a = a->ai_next) {
        int fd = open_socket(a, n->cfg->workers > 1);
        if (fd < 0) {
            why = errno;
            /* A name may stand for an address family that this host does not have. */
            if (why == EAFNOSUPPORT || why == EADDRNOTAVAIL)
                continue;
            break;
        }
        struct listener *l = &n->listeners[n->n_listeners++];
        l->net = n;
        l->api = api;
        io_init(&l->io, n->loop, fd, on_listener);
        opened++;
        why = 0;
    }
    freeaddrinfo(all);
    if (n->n_listeners == LISTENERS_MAX)
        return fail(reterr, ERR_BAD_REQUEST, "listen %.100s: there are too many addresses", text);
    if (opened == 0 || (why != 0 && why != EAFNOSUPPORT && why != EADDRNOTAVAIL))
        return fail(reterr, ERR_UNAVAILABLE, "listen %.100s: %s", text,
                    strerror(why)); /* NOLINT(concurrency-mt-unsafe) */
    return OK;
}

static void on_accept_timer(struct timer *t);

enum err listeners_open(struct net *n, struct error *reterr)
{
    n->listeners = xcalloc(LISTENERS_MAX, sizeof *n->listeners);
    n->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    timer_init(&n->accept_timer, n->loop, on_accept_timer);
    if (n->cfg->listen.count == 0)
        return fail(reterr, ERR_BAD_REQUEST, "listen: no address is given");
    for (size_t i = 0; i < n->cfg->listen.count; i++)
        if (open_address(n, n->cfg->listen.items[i], false, reterr) != OK)
            return reterr->code;
    for (size_t i = 0; i < n->cfg->api_listen.count; i++)
        if (open_address(n, n->cfg->api_listen.items[i], true, reterr) != OK)
            return reterr->code;
    return OK;
}

static const char *listener_name(const struct listener *l)
{
    struct sockaddr_storage sa = {0};
    socklen_t size = sizeof sa;
    struct peer_address a;
    uint16_t port;
    if (getsockname(l->io.fd, (struct sockaddr *)&sa, &size) != 0 || !peer_address_of(&sa, &a, &port))
        return "?";
    return peer_name(&a, port);
}

int listener_port(const struct net *n, size_t i)
{
    const char *colon = strrchr(listener_name(&n->listeners[i]), ':');
    return colon != NULL ? (int)strtoul(colon + 1, NULL, 10) : 0;
}

static void listen_all(struct net *n, bool on)
{
    for (size_t i = 0; i < n->n_listeners; i++)
        io_set(&n->listeners[i].io, on ? IO_READ : 0);
}

void listeners_start(struct net *n)
{
    n->accept_refill_us = loop_now_us(n->loop);
    listen_all(n, true);
    for (size_t i = 0; i < n->n_listeners; i++)
        LOG(INFO, "listening", "addr=%s tls=%s%s", listener_name(&n->listeners[i]),
            n->tls != NULL && !(n->listeners[i].api && n->cfg->api_insecure) ? "on" : "off",
            n->listeners[i].api ? " for=api" : "");
}

void listeners_close(struct net *n)
{
    listen_all(n, false);
    timer_stop(&n->accept_timer);
    for (size_t i = 0; i < n->n_listeners; i++)
        (void)close(n->listeners[i].io.fd);
    n->n_listeners = 0;
    if (n->reserve_fd >= 0)
        (void)close(n->reserve_fd);
    n->reserve_fd = -1;
}

/* --- pacing --- */

static void on_accept_timer(struct timer *t)
{
    listen_all(container_of(t, struct net, accept_timer), true);
}

static void pause_listening(struct net *n, uint64_t ms)
{
    listen_all(n, false);
    timer_start(&n->accept_timer, ms);
}

/* Those who are connected already come first: new ones wait in the backlog as long as the others had to. But between two rests some are let in: a
 * loop that is always behind must not shut its door for good. */
void net_lag(struct net *n, uint64_t us)
{
    uint64_t limit_us = n->cfg->overload_lag_ms * (uint64_t)1000, ms = us / 1000;
    if (limit_us == 0 || us < limit_us || n->n_listeners == 0 || n->gateway == NULL || n->rested)
        return;
    n->rested = true;
    metrics->accept_rests++;
    pause_listening(n, ms < REST_MIN_MS ? REST_MIN_MS : ms < REST_MAX_MS ? ms : REST_MAX_MS);
}

/* True when another accept fits into max-accepts-per-second. Otherwise the listeners rest until a tenth of a second's worth may come
 * in; who waits meanwhile waits in the backlog. */
static bool accept_allowed(struct net *n)
{
    uint64_t rate = n->cfg->max_accepts_per_second;
    if (rate == 0)
        return true;
    uint64_t now = loop_now_us(n->loop), most = rate * CREDIT / 10 > CREDIT ? rate * CREDIT / 10 : CREDIT;
    uint64_t passed = now - n->accept_refill_us < CREDIT ? now - n->accept_refill_us : CREDIT;
    n->accept_refill_us = now;
    n->accept_credit += passed * rate;
    if (n->accept_credit > most)
        n->accept_credit = most;
    if (n->accept_credit >= CREDIT) {
        n->accept_credit -= CREDIT;
        return true;
    }
    metrics->drops[DROP_ACCEPT_RATE]++;
    uint64_t missing_ms = (most - n->accept_credit) / rate / 1000 + 1;
    pause_listening(n, missing_ms);
    return false;
}

/* --- accepting --- */

/* No descriptor is left for a new connection: gives up the reserve to accept it, and closes it, which tells the client more than a connection that
 * nobody ever looks at. False when none is waiting: accept4() complains of descriptors before it looks. */
static bool shed(struct net *n, int listener_fd)
{
    if (n->reserve_fd < 0) {
        pause_listening(n, OUT_OF_MEMORY_MS);
        return false;
    }
    (void)close(n->reserve_fd);
    struct sockaddr_storage sa = {0};
    socklen_t size = sizeof sa;
    struct peer_address a = {0};
    uint16_t port = 0;
    int fd = accept4(listener_fd, (struct sockaddr *)&sa, &size, SOCK_CLOEXEC);
    if (fd >= 0) {
        (void)peer_address_of(&sa, &a, &port);
        net_refused(&a, port, DROP_FD_LIMIT, "raise the limit of open files (ulimit -n)");
        (void)close(fd);
    }
    n->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return fd >= 0;
}

static void admit(struct listener *l, int fd, const struct sockaddr_storage *sa)
{
    struct net *n = l->net;
    struct peer_address a;
    uint16_t port;
    if (!peer_address_of(sa, &a, &port)) {
        (void)close(fd);
        return;
    }
    metrics->accepts++;
    if (n->cfg->max_connections != 0 && n->open >= n->cfg->max_connections) {
        net_refused(&a, port, DROP_MAX_CONNECTIONS, "");
        (void)close(fd);
        return;
    }
    socket_create(n, fd, &a, port, l->api);
}

/* False when this listener has nothing more for now. */
static bool accept_one(struct listener *l)
{
    struct net *n = l->net;
    struct sockaddr_storage sa = {0};
    socklen_t size = sizeof sa;
    int fd = accept4(l->io.fd, (struct sockaddr *)&sa, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        admit(l, fd, &sa);
        return true;
    }
    switch (errno) {
    case EMFILE:
    case ENFILE: return shed(n, l->io.fd);
    case ENOBUFS:
    case ENOMEM: pause_listening(n, OUT_OF_MEMORY_MS); return false;
    case EAGAIN: return false;
    default: return true; /* the connection died in the backlog */
    }
}

static void on_listener(struct io *io, int events)
{
    (void)events;
    struct listener *l = container_of(io, struct listener, io);
    l->net->rested = false;
    for (int i = 0; i < ACCEPTS_PER_TURN && accept_allowed(l->net); i++)
        if (!accept_one(l))
            break;
}
