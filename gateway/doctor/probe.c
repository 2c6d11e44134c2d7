/* gateway/doctor/probe.c: names, addresses, and one connection with a deadline. */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/x509.h>

#include "gateway/doctor/private.h"

#define READ_SIZE 4096

uint64_t now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* --- addresses --- */

static void take(const struct addrinfo *ai, struct address *ret)
{
    *ret = (struct address){.n = ai->ai_addrlen};
    assert(ai->ai_addrlen <= sizeof ret->sa);
    memcpy(&ret->sa, ai->ai_addr, ai->ai_addrlen);
    if (getnameinfo(ai->ai_addr, ai->ai_addrlen, ret->text, sizeof ret->text, NULL, 0, NI_NUMERICHOST) != 0)
        (void)snprintf(ret->text, sizeof ret->text, "?");
}

static const struct addrinfo stream = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};

enum err address_parse(const char *text, uint16_t port, struct address *ret)
{
    struct addrinfo hints = stream, *found = NULL;
    char service[8];
    (void)snprintf(service, sizeof service, "%u", (unsigned)port);
    hints.ai_flags |= AI_NUMERICHOST;
    if (getaddrinfo(text, service, &hints, &found) != 0)
        return ERR_BAD_REQUEST;
    take(found, ret);
    freeaddrinfo(found);
    return OK;
}

/* The thread of a lookup that took too long may still write here, so it is never given back; there is one lookup in the life of the command. */
static struct gaicb lookup;
static char lookup_host[HOST_MAX + 1], lookup_service[8];

enum err address_lookup(const char *host, uint16_t port, struct address ret[ADDRESSES_MAX], size_t *ret_all,
                        struct error *reterr)
{
    struct gaicb *list[] = {&lookup};
    uint64_t end = now_ms() + DOCTOR_STEP_MS;
    (void)snprintf(lookup_host, sizeof lookup_host, "%s", host);
    (void)snprintf(lookup_service, sizeof lookup_service, "%u", (unsigned)port);
    lookup = (struct gaicb){.ar_name = lookup_host, .ar_service = lookup_service, .ar_request = &stream};
    int e = getaddrinfo_a(GAI_NOWAIT, list, 1, NULL);
    for (uint64_t now; e == 0 && (e = gai_error(&lookup)) == EAI_INPROGRESS && (now = now_ms()) < end; e = 0) {
        const struct gaicb *waiting[] = {&lookup};
        struct timespec left = {(time_t)((end - now) / 1000), (long)((end - now) % 1000) * 1000000};
        (void)gai_suspend(waiting, 1, &left);
    }
    if (e == EAI_INPROGRESS)
        return fail(reterr, ERR_TIMEOUT, "no answer in %d s", DOCTOR_STEP_MS / 1000);
    if (e != 0)
        return fail(reterr, e == EAI_AGAIN ? ERR_TIMEOUT : ERR_NOT_FOUND, "%.120s", gai_strerror(e));
    size_t n = 0;
    for (const struct addrinfo *ai = lookup.ar_result; ai != NULL; ai = ai->ai_next, n++)
        if (n < ADDRESSES_MAX)
            take(ai, &ret[n]);
    freeaddrinfo(lookup.ar_result);
    *ret_all = n;
    return OK;
}

/* --- one connection --- */

void probe_step(struct probe *probe, uint64_t ms)
{
    probe->deadline = now_ms() + ms;
}

static enum err await(const struct probe *probe, short events, struct error *reterr)
{
    for (;;) {
        uint64_t now = now_ms();
        struct pollfd p = {.fd = probe->fd, .events = events};
        if (now >= probe->deadline)
            return fail(reterr, ERR_TIMEOUT, "no answer in time");
        int n = poll(&p, 1, (int)(probe->deadline - now));
        if (n > 0)
            return OK;
        if (n < 0 && errno != EINTR)
            return fail(reterr, ERR_INTERNAL, "poll: %s", strerror(errno));
    }
}

/* at_once: nothing has been sent, it was this machine's own routes that said so. */
static enum err connect_failed(int why, bool at_once, struct error *reterr)
{
    bool ours = at_once && (why == ENETUNREACH || why == EHOSTUNREACH || why == EADDRNOTAVAIL || why == EAFNOSUPPORT);
    return fail(reterr, ours ? ERR_UNSUPPORTED : ERR_UNAVAILABLE, "%s", strerror(why));
}

static enum err connected(struct probe *probe, struct error *reterr)
{
    int why = 0;
    socklen_t n = sizeof why;
    enum err e = await(probe, POLLOUT, reterr);
    if (e == OK && (getsockopt(probe->fd, SOL_SOCKET, SO_ERROR, &why, &n) != 0 || why != 0))
        e = connect_failed(why != 0 ? why : errno, false, reterr);
    return e;
}

enum err probe_connect(const struct address *a, struct probe *ret, struct error *reterr)
{
    struct probe probe = {.fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    if (probe.fd < 0)
        return connect_failed(errno, true, reterr);
    enum err e = OK;
    probe_step(&probe, DOCTOR_STEP_MS);
    if (connect(probe.fd, (const struct sockaddr *)&a->sa, a->n) != 0)
        e = errno == EINPROGRESS ? connected(&probe, reterr) : connect_failed(errno, true, reterr);
    if (e != OK) {
        probe_close(&probe);
        return e;
    }
    *ret = probe;
    return OK;
}

void probe_close(struct probe *probe)
{
    if (probe->ssl != NULL && SSL_is_init_finished(probe->ssl))
        (void)SSL_shutdown(probe->ssl); /* a goodbye, if it fits; nobody waits for the answer */
    SSL_free(probe->ssl);
    (void)close(probe->fd);
    ERR_clear_error();
    *probe = (struct probe){.fd = -1};
}

/* --- TLS --- */

static enum err tls_failed(int why, struct error *reterr)
{
    int no = errno;
    unsigned long e = ERR_peek_error();
    int reason = ERR_GET_REASON(e);
    ERR_clear_error();
    if (e != 0 && (reason == SSL_R_NO_PROTOCOLS_AVAILABLE || reason == SSL_R_NO_CIPHERS_AVAILABLE))
        return fail(reterr, ERR_INTERNAL, "this OpenSSL does not speak that itself");
    if (why == SSL_ERROR_ZERO_RETURN || (why == SSL_ERROR_SYSCALL && (no == 0 || no == ECONNRESET || no == EPIPE)) ||
        (e != 0 && reason == SSL_R_UNEXPECTED_EOF_WHILE_READING))
        return fail(reterr, ERR_UNAVAILABLE, "the server closed the connection");
    if (why == SSL_ERROR_SYSCALL)
        return fail(reterr, ERR_UNAVAILABLE, "%s", strerror(no));
    if (reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST ||
        reason == SSL_R_PACKET_LENGTH_TOO_LONG || reason == SSL_R_UNEXPECTED_MESSAGE)
        return fail(reterr, ERR_BAD_REQUEST, "the answer is not TLS");
    const char *text = e != 0 ? ERR_reason_error_string(e) : NULL;
    return fail(reterr, ERR_UNAVAILABLE, "%.120s", text != NULL ? text : "unknown TLS error");
}

/* After an operation that did not succeed: waits for what it wants. OK: try again. */
static enum err tls_again(const struct probe *probe, int rc, struct error *reterr)
{
    int why = SSL_get_error(probe->ssl, rc);
    if (why == SSL_ERROR_WANT_READ)
        return await(probe, POLLIN, reterr);
    if (why == SSL_ERROR_WANT_WRITE)
        return await(probe, POLLOUT, reterr);
    return tls_failed(why, reterr);
}

enum err probe_handshake(struct probe *probe, SSL *ssl, struct error *reterr)
{
    int rc;
    probe->ssl = ssl;
    probe_step(probe, DOCTOR_STEP_MS);
    if (SSL_set_fd(ssl, probe->fd) != 1)
        return fail(reterr, ERR_INTERNAL, "SSL_set_fd failed");
    for (;;) {
        ERR_clear_error();
        errno = 0;
        if ((rc = SSL_connect(ssl)) == 1)
            return OK;
        enum err e = tls_again(probe, rc, reterr);
        if (e != OK)
            return e;
    }
}

enum err probe_send(struct probe *probe, struct slice bytes, struct error *reterr)
{
    for (;;) {
        ERR_clear_error();
        errno = 0;
        int rc = SSL_write(probe->ssl, bytes.p, (int)bytes.n); /* all or nothing: no partial writes were asked for */
        if (rc > 0)
            return OK;
        enum err e = tls_again(probe, rc, reterr);
        if (e != OK)
            return e;
    }
}

enum err probe_receive(struct probe *probe, struct buf *ret, bool *ret_end, struct error *reterr)
{
    *ret_end = false;
    for (;;) {
        if (now_ms() >= probe->deadline)
            return fail(reterr, ERR_TIMEOUT, "no answer in time");
        ERR_clear_error();
        errno = 0;
        int rc = SSL_read(probe->ssl, buf_reserve(ret, READ_SIZE), READ_SIZE);
        if (rc > 0) {
            ret->n += (size_t)rc;
            return OK;
        }
        *ret_end = SSL_get_error(probe->ssl, rc) == SSL_ERROR_ZERO_RETURN;
        if (*ret_end)
            return OK;
        enum err e = tls_again(probe, rc, reterr);
        if (e != OK)
            return e;
    }
}
