/* base/resolve.c: name look-ups in a thread, whose only tie to the loop is a socket that it writes its answer to. */
#include "base/resolve.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"

#define ADDRESSES_MAX 8

/* What goes through the socket, in one piece. */
struct answer {
    int error; /* as getaddrinfo() says, or 0 */
    unsigned count;
    char addresses[ADDRESSES_MAX][INET6_ADDRSTRLEN];
};

/* The thread's own: it may outlive the resolver. */
struct job {
    int fd;
    char host[];
};

struct resolver {
    struct loop *loop;
    const char *host;
    resolver_done *done;
    void *owner;
    struct io io; /* fd is -1 while nothing is asked */
    unsigned turn;
};

bool address_is_numeric(const char *host)
{
    struct in6_addr any;
    return inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1;
}

static void look_up(const char *host, struct answer *ret)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *list = NULL;
    ret->error = getaddrinfo(host, NULL, &hints, &list);
    if (ret->error != 0)
        return;
    for (const struct addrinfo *i = list; i != NULL && ret->count < ADDRESSES_MAX; i = i->ai_next) {
        if (getnameinfo(i->ai_addr, i->ai_addrlen, ret->addresses[ret->count], sizeof ret->addresses[0], NULL, 0,
                        NI_NUMERICHOST) == 0)
            ret->count++;
    }
    freeaddrinfo(list);
}

static void *thread_main(void *arg)
{
    struct job *job = arg;
    struct answer answer;
    memset(&answer, 0, sizeof answer);
    look_up(job->host, &answer);
    /* When nobody is interested any more the other end is closed, and that is fine. */
    (void)send(job->fd, &answer, sizeof answer, MSG_NOSIGNAL);
    close(job->fd);
    free(job);
    return NULL;
}

/* Signals are the main thread's business. */
static bool thread_start(struct job *job)
{
    sigset_t all, before;
    pthread_attr_t attr;
    pthread_t thread;
    if (pthread_attr_init(&attr) != 0)
        return false;
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    bool ok = pthread_create(&thread, &attr, thread_main, job) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attr);
    return ok;
}

static void stop_listening(struct resolver *r)
{
    if (r->io.fd < 0)
        return;
    io_set(&r->io, 0);
    close(r->io.fd);
    r->io.fd = -1;
}

static void on_answer(struct io *io, int events)
{
    struct resolver *r = container_of(io, struct resolver, io);
    struct answer answer;
    (void)events;
    ssize_t n = recv(io->fd, &answer, sizeof answer, 0);
    stop_listening(r);
    if (n != (ssize_t)sizeof answer)
        r->done(r->owner, NULL, "the name could not be looked up");
    else if (answer.error != 0)
        r->done(r->owner, NULL, gai_strerror(answer.error));
    else if (answer.count == 0)
        r->done(r->owner, NULL, "the name has no address");
    else
        r->done(r->owner, answer.addresses[r->turn++ % answer.count], NULL);
}

void resolver_start(struct resolver *r)
{
    int ends[2];
    if (r->io.fd >= 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return; /* without an answer the caller's patience ends by itself */
    size_t n = strlen(r->host) + 1;
    struct job *job = xmalloc(sizeof *job + n);
    job->fd = ends[1];
    memcpy(job->host, r->host, n);
    io_init(&r->io, r->loop, ends[0], on_answer);
    io_set(&r->io, IO_READ);
    if (thread_start(job))
        return;
    close(ends[1]); /* the end of file says that it failed */
    free(job);
}

struct resolver *resolver_create(struct loop *loop, const char *host, resolver_done *done, void *owner)
{
    struct resolver *r = xcalloc(1, sizeof *r);
    r->loop = loop;
    r->host = host;
    r->done = done;
    r->owner = owner;
    r->io.fd = -1;
    return r;
}

void resolver_destroy(struct resolver **resolver)
{
    struct resolver *r = TAKE(*resolver);
    if (r == NULL)
        return;
    stop_listening(r);
    free(r);
}
