/* tests/support/net_server.c: gateway/net in a thread, with a core that echoes. */
#include "tests/support/net_server.h"

#include <assert.h>
#include <dirent.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/table.h"
#include "gateway/net/net.h"
#include "gateway/net/net_private.h"
#include "tests/support/check.h"

struct server_private {
    struct loop *loop;
    pthread_t thread;
    int pipe[2]; /* struct call *, to the loop's thread */
    struct io io;
    struct http_exchange *later;
    struct http_exchange *together[64]; /* not answered yet, in the order of asking */
    size_t together_n;
    struct conn *paused;
    char *listen;
    int fds_before;
};

struct call {
    void (*fn)(void *arg);
    void *arg;
    sem_t done;
};

struct conn {
    struct server *server;
    struct transport *transport;
    enum { ECHO, STREAM, PAUSE, LAST } kind;
    struct buf out;
    size_t out_at, stream_at, stream_n;
    bool quit, paused;
    uint64_t random;
};

struct gateway { /* the core's; here it is only a way back to the server */
    struct server *server;
};

static struct metrics counters;
struct metrics *metrics = &counters;

const char *drop_reason_word(enum drop_reason r)
{
    static const char *const words[] = {
#define X(code, word) word,
        DROP_MAP(X)
#undef X
    };
    return words[r];
}

unsigned char pattern_byte(size_t at)
{
    return (unsigned char)(at * 2654435761u >> 13);
}

/* --- the core --- */

static char *pattern(size_t from, size_t n)
{
    char *p = xmalloc(n != 0 ? n : 1);
    for (size_t i = 0; i < n; i++)
        p[i] = (char)pattern_byte(from + i);
    return p;
}

static size_t number_after(struct slice path, struct slice prefix)
{
    char digits[16] = "";
    size_t n = path.n - prefix.n < sizeof digits - 1 ? path.n - prefix.n : sizeof digits - 1;
    memcpy(digits, path.p + prefix.n, n);
    return strtoul(digits, NULL, 10);
}

size_t gateway_http_body_max(const struct gateway *g, const struct http_request *r)
{
    (void)g;
    return slice_eq(r->path, SLICE("/large")) ? 100000 : 0;
}

bool gateway_http_overlaps(const struct http_request *r)
{
    return slice_starts(r->path, SLICE("/together"));
}

void gateway_http(struct gateway *g, const struct http_request *r, struct http_exchange *x)
{
    if (slice_eq(r->path, SLICE("/later"))) {
        assert(g->server->p->later == NULL);
        g->server->p->later = x;
        return;
    }
    if (gateway_http_overlaps(r)) {
        struct server_private *p = g->server->p;
        assert(p->together_n < sizeof p->together / sizeof p->together[0]);
        p->together[p->together_n++] = x;
        return;
    }
    if (slice_starts(r->path, SLICE("/big/"))) {
        size_t n = number_after(r->path, SLICE("/big/"));
        AUTO_FREE char *p = pattern(0, n);
        x->respond(x,
                   &(struct http_response){.status = 200, .content_type = "application/octet-stream", .body = {p, n}});
        return;
    }
    struct buf b = BUF_INIT;
    if (gateway_http_body_max(g, r) != 0)
        buf_printf(&b, "%zu bytes", r->body.n);
    else
        buf_printf(&b, "%.*s %.*s %.*s %.*s %.*s %.*s", SLICE_FMT(r->method), SLICE_FMT(r->path), SLICE_FMT(r->query),
                   SLICE_FMT(r->host), SLICE_FMT(r->ip), SLICE_FMT(r->body));
    x->respond(x, &(struct http_response){
                      .status = 200, .content_type = "text/plain", .headers = "X-Test: 1\r\n", .body = buf_slice(&b)});
    buf_fini(&b);
}

enum err gateway_upgrade(struct gateway *g, const struct http_request *r, struct transport *t, struct conn **ret,
                         struct slice *ret_subprotocol, struct error *reterr)
{
    struct server *s = g->server;
    bool shut = slice_eq(r->path, SLICE("/shut")), stream = slice_starts(r->path, SLICE("/stream/"));
    bool pause = slice_eq(r->path, SLICE("/pause")), last = slice_eq(r->path, SLICE("/last"));
    if (!shut && !stream && !pause && !last && !slice_eq(r->path, SLICE("/ws")))
        return (fail)(reterr, ERR_NOT_FOUND, "no \"such\" path"); /* not the macro of cmocka */
    struct conn *c = xcalloc(1, sizeof *c);
    c->server = s;
    c->transport = t;
    c->kind = stream ? STREAM : pause ? PAUSE : last ? LAST : ECHO;
    c->random = 88172645463325252u;
    if (stream)
        c->stream_n = number_after(r->path, SLICE("/stream/"));
    s->opened++;
    (void)snprintf(s->last_ip, sizeof s->last_ip, "%.*s", SLICE_FMT(r->ip));
    (void)snprintf(s->last_subprotocols, sizeof s->last_subprotocols, "%.*s", SLICE_FMT(r->subprotocols));
    if (strstr(s->last_subprotocols, "echo.v1") != NULL)
        *ret_subprotocol = SLICE("echo.v1");
    if (shut)
        t->ops->close(t);
    *ret = c;
    return OK;
}

static void push_out(struct conn *c)
{
    while (c->out_at < c->out.n) {
        ssize_t n = c->transport->ops->write(c->transport, c->out.p + c->out_at, c->out.n - c->out_at);
        if (n < 0)
            return;
        c->out_at += (size_t)n;
        if (c->out_at < c->out.n)
            return;
    }
    c->out.n = c->out_at = 0;
    if (c->quit)
        c->transport->ops->close(c->transport);
}

/* Every attempt has another length, so a retry is often shorter or longer than what was refused before. */
static void push_stream(struct conn *c)
{
    while (c->stream_at < c->stream_n) {
        size_t n = 1 + check_random(&c->random) % (check_random(&c->random) % 4 != 0 ? 300 : 40000);
        if (n > c->stream_n - c->stream_at)
            n = c->stream_n - c->stream_at;
        AUTO_FREE char *p = pattern(c->stream_at, n);
        ssize_t taken = c->transport->ops->write(c->transport, p, n);
        if (taken < 0)
            return;
        c->stream_at += (size_t)taken;
        if ((size_t)taken < n)
            return;
    }
    c->transport->ops->close(c->transport);
}

static void last_words(struct conn *c)
{
    enum { PIECE = 10000 };
    ssize_t n;
    do {
        AUTO_FREE char *p = pattern(c->stream_at, PIECE);
        n = c->transport->ops->write(c->transport, p, PIECE);
        c->stream_at += n > 0 ? (size_t)n : 0;
    } while (n == PIECE);
    if (n >= 0)
        c->server->last_taken = c->stream_at;
    c->transport->ops->close(c->transport);
}

void conn_input(struct conn *c, char *p, size_t n)
{
    struct server *s = c->server;
    if (c->kind == LAST) {
        last_words(c);
        return;
    }
    s->accepts_at_input = metrics->accepts;
    if (c->paused)
        s->inputs_after_pause++;
    if (c->kind == PAUSE && n >= 4 && memmem(p, n, "stop", 4) != NULL) {
        c->paused = true;
        s->p->paused = c;
        c->transport->ops->pause(c->transport, true);
    }
    const char *quit = n >= 4 ? memmem(p, n, "quit", 4) : NULL;
    c->quit = quit != NULL;
    buf_append(&c->out, (struct slice){p, quit != NULL ? (size_t)(quit + 4 - p) : n});
    push_out(c);
}

void conn_writable(struct conn *c)
{
    if (c->kind == STREAM)
        push_stream(c);
    else
        push_out(c);
}

void conn_gone(struct conn *c, const char *why)
{
    struct server *s = c->server;
    s->gone++;
    (void)snprintf(s->last_why, sizeof s->last_why, "%s", why);
    if (s->p->paused == c)
        s->p->paused = NULL;
    buf_fini(&c->out);
    free(c);
}

void conn_send_bytes(struct conn *c, struct slice bytes)
{
    assert(c->out.n == 0);
    buf_append(&c->out, bytes);
    push_out(c);
    if (c->kind == STREAM)
        push_stream(c);
}

/* --- the thread --- */

static struct gateway core;

static void on_call(struct io *io, int events)
{
    (void)events;
    struct call *call;
    ssize_t n = read(io->fd, (void *)&call, sizeof(void *));
    assert(n == sizeof(void *));
    (void)n;
    call->fn(call->arg);
    sem_post(&call->done);
}

static void *thread_main(void *arg)
{
    loop_ev_run(((struct server *)arg)->p->loop);
    return NULL;
}

void server_run(struct server *s, void (*fn)(void *arg), void *arg)
{
    struct call call = {.fn = fn, .arg = arg}, *p = &call;
    sem_init(&call.done, 0, 0);
    assert_int_equal(write(s->p->pipe[1], (const void *)&p, sizeof(void *)), sizeof(void *));
    sem_wait(&call.done);
    sem_destroy(&call.done);
}

void server_init(struct server *s, bool tls)
{
    *s = (struct server){.tls = tls};
    s->cfg.handshake_timeout_s = 5;
    s->cfg.workers = 1;
    s->cfg.insecure = !tls;
}

void server_start(struct server *s)
{
    table_seed();
    memset(&counters, 0, sizeof counters);
    s->p = xcalloc(1, sizeof *s->p);
    s->p->fds_before = count_fds();
    s->p->listen = xstrdup("127.0.0.1:0");
    s->cfg.listen = (struct strings){&s->p->listen, 1};
    if (s->tls && s->cfg.tls_cert == NULL) {
        s->cfg.tls_cert = xstrdup(test_file("cert.pem"));
        s->cfg.tls_key = xstrdup(test_file("key.pem"));
        make_certificate("first", 30, s->cfg.tls_cert, s->cfg.tls_key);
    }
    struct error e = {0};
    s->p->loop = loop_ev_create();
    s->net = net_create(s->p->loop, &s->cfg, &e);
    if (s->net == NULL)
        fail_msg("%s", e.text);
    core.server = s;
    net_start(s->net, &core);
    s->port = listener_port(s->net, 0);
    assert_int_equal(pipe(s->p->pipe), 0);
    io_init(&s->p->io, s->p->loop, s->p->pipe[0], on_call);
    io_set(&s->p->io, IO_READ);
    assert_int_equal(pthread_create(&s->p->thread, NULL, thread_main, s), 0);
}

/* The last one first: "together" and its place among them. */
static void answer_together(void *arg)
{
    struct server_private *p = ((struct server *)arg)->p;
    for (size_t i = p->together_n; i-- > 0;) {
        char text[32];
        int n = snprintf(text, sizeof text, "together %zu", i);
        p->together[i]->respond(p->together[i], &(struct http_response){.status = 200, .body = {text, (size_t)n}});
    }
    p->together_n = 0;
}

static void stop(void *arg)
{
    struct server *s = arg;
    loop_ev_stop(s->p->loop);
}

void server_stop(struct server *s)
{
    server_run(s, stop, s);
    pthread_join(s->p->thread, NULL);
    io_set(&s->p->io, 0);
    net_destroy(&s->net);
    loop_ev_destroy(&s->p->loop);
    if (s->p->later != NULL) /* the core answers exactly once, even when nobody waits */
        s->p->later->respond(s->p->later, &(struct http_response){.status = 503});
    answer_together(s);
    (void)close(s->p->pipe[0]);
    (void)close(s->p->pipe[1]);
    assert_int_equal(s->opened, s->gone);
    assert_int_equal(counters.connections, 0);
    assert_int_equal(count_fds(), s->p->fds_before);
    free(s->p->listen);
    free(s->p);
    free(s->cfg.tls_cert);
    free(s->cfg.tls_key);
}

/* --- waiting --- */

struct look {
    struct server *server;
    const uint64_t *counter;
    uint64_t value;
};

static void look_open(void *arg)
{
    struct look *l = arg;
    l->value = net_open_count(l->server->net);
}

static void look_counter(void *arg)
{
    struct look *l = arg;
    l->value = *l->counter;
}

static void look_gone(void *arg)
{
    struct look *l = arg;
    l->value = (uint64_t)l->server->gone;
}

void server_wait_open(struct server *s, size_t n)
{
    struct look l = {.server = s};
    for (int i = 0; i < 4000; i++) {
        server_run(s, look_open, &l);
        if (l.value == n)
            return;
        usleep(5000);
    }
    fail_msg("%u sockets are open, not %u", (unsigned)l.value, (unsigned)n);
}

void server_wait_count(struct server *s, const uint64_t *counter, uint64_t n)
{
    struct look l = {.server = s, .counter = counter};
    for (int i = 0; i < 4000; i++) {
        server_run(s, look_counter, &l);
        if (l.value >= n)
            return;
        usleep(5000);
    }
    fail_msg("the counter stands at %u, not %u", (unsigned)l.value, (unsigned)n);
}

void server_wait_gone(struct server *s, int n)
{
    struct look l = {.server = s};
    for (int i = 0; i < 4000; i++) {
        server_run(s, look_gone, &l);
        if (l.value >= (uint64_t)n)
            return;
        usleep(5000);
    }
    fail_msg("%u connections are gone, not %d", (unsigned)l.value, n);
}

static void answer(void *arg)
{
    struct server *s = arg;
    struct http_exchange *x = s->p->later;
    if (x == NULL)
        return;
    s->p->later = NULL;
    x->respond(x, &(struct http_response){.status = 200, .body = SLICE("later")});
}

static void look_later(void *arg)
{
    struct look *l = arg;
    l->value = l->server->p->later != NULL;
}

void server_answer_later(struct server *s)
{
    struct look l = {.server = s};
    for (int i = 0; i < 4000 && l.value == 0; i++) {
        server_run(s, look_later, &l);
        if (l.value == 0)
            usleep(5000);
    }
    assert_int_equal(l.value, 1);
    server_run(s, answer, s);
}

static void look_together(void *arg)
{
    struct look *l = arg;
    l->value = l->server->p->together_n;
}

void server_answer_together(struct server *s, size_t n)
{
    struct look l = {.server = s};
    for (int i = 0; i < 4000 && l.value < n; i++) {
        server_run(s, look_together, &l);
        if (l.value < n)
            usleep(5000);
    }
    assert_int_equal(l.value, n);
    server_run(s, answer_together, s);
}

static void resume(void *arg)
{
    struct conn *c = ((struct server *)arg)->p->paused;
    assert(c != NULL);
    c->paused = false;
    c->transport->ops->pause(c->transport, false);
}

void server_resume(struct server *s)
{
    server_run(s, resume, s);
}

/* --- files --- */

void make_certificate(const char *cn, int days, const char *cert_file, const char *key_file)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    assert_non_null(key);
    assert_non_null(x);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -86400L * 100);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400L * days);
    X509_set_pubkey(x, key);
    X509_NAME *name = X509_get_subject_name(x);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(x, name);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    FILE *f = fopen(cert_file, "w");
    assert_non_null(f);
    assert_int_equal(PEM_write_X509(f, x), 1);
    (void)fclose(f);
    f = fopen(key_file, "w");
    assert_non_null(f);
    assert_int_equal(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
    (void)fclose(f);
    X509_free(x);
    EVP_PKEY_free(key);
}

static char test_dir[] = "/tmp/xindao-net-XXXXXX";

static void remove_files(void)
{
    DIR *d = opendir(test_dir);
    if (d == NULL)
        return;
    char path[512];
    for (const struct dirent *e; (e = readdir(d)) != NULL;) { /* NOLINT(concurrency-mt-unsafe) */
        (void)snprintf(path, sizeof path, "%s/%s", test_dir, e->d_name);
        (void)unlink(path);
    }
    (void)closedir(d);
    (void)rmdir(test_dir);
}

const char *test_file(const char *name)
{
    static char paths[8][128];
    static int turn;
    static bool made;
    if (!made) {
        assert_non_null(mkdtemp(test_dir));
        (void)atexit(remove_files);
        made = true;
    }
    char *path = paths[turn++ % 8];
    (void)snprintf(path, sizeof paths[0], "%s/%s", test_dir, name);
    return path;
}

int count_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;
    assert_non_null(d);
    while (readdir(d) != NULL) /* NOLINT(concurrency-mt-unsafe) */
        n++;
    (void)closedir(d);
    return n;
}
