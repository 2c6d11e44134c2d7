/* gateway/webhook/backend.c: putting requests together, and telling what came of them. */
#include "gateway/webhook/backend.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/tls_client.h"
#include "gateway/webhook/breaker.h"
#include "gateway/webhook/client.h"
#include "gateway/webhook/keys.h"

struct call {
    struct link link; /* refused ones, until they are told */
    struct backend *backend;
    backend_done *done;
    void *arg;
    uint64_t since_us;
    bool probe;
};

struct backend {
    struct loop *loop;
    struct backend_config cfg;
    struct webhook_url url;
    struct tls_client *tls;
    struct webhook_keys keys;
    struct http_client *client;
    struct backend_stats stats;
    struct breaker breaker;
    bool closing;
    struct link refused;
    struct task task;
};

uint32_t backend_closed_for_ms(const struct backend *b)
{
    return breaker_wait_ms(&b->breaker);
}

/* --- requests --- */

static void on_answer(void *arg, const struct http_result *r)
{
    struct call *c = arg;
    struct backend *b = c->backend;
    struct backend_result result = {.err = OK, .status = r->status, .body = r->body};
    char why[64];
    b->stats.us_sum += loop_now_us(b->loop) - c->since_us;
    if (r->status == 0) {
        result = (struct backend_result){.err = r->late ? ERR_BACKEND_TIMEOUT : ERR_BACKEND_UNAVAILABLE, .why = r->why};
    } else if (r->status >= 500 || r->status == 429) {
        (void)snprintf(why, sizeof why, "it answered %d", r->status);
        result = (struct backend_result){
            .err = ERR_BACKEND_UNAVAILABLE, .why = why, .retry_ms = r->retry_after_s * (uint32_t)1000};
    }
    if (result.err == OK)
        breaker_worked(&b->breaker, c->probe);
    else if (!b->closing)
        breaker_failed(&b->breaker, c->probe, result.why);
    if (result.err != OK && result.retry_ms == 0)
        result.retry_ms = backend_closed_for_ms(b) != 0 ? backend_closed_for_ms(b) : BREAKER_MIN_MS;
    c->done(c->arg, &result);
    free(c);
}

static void refuse(struct backend *b, struct call *c)
{
    list_del(&c->link);
    c->done(c->arg, &(struct backend_result){.err = ERR_BACKEND_UNAVAILABLE,
                                             .why = b->closing ? "this node is stopping" : "it has failed just now",
                                             .retry_ms = backend_closed_for_ms(b)});
    free(c);
}

static void on_task(struct task *t)
{
    struct backend *b = container_of(t, struct backend, task);
    struct link turn;
    list_init(&turn);
    list_splice(&turn, &b->refused);
    while (!list_empty(&turn))
        refuse(b, list_first(&turn, struct call, link));
}

static void put_request(const struct backend *b, struct slice id, struct slice body, struct buf *ret)
{
    uint64_t time_s = loop_wall_ms(b->loop) / 1000;
    buf_printf(ret,
               "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: xindao/%s\r\nContent-Type: application/json\r\n"
               "Content-Length: %zu\r\nXindao-Id: %.*s\r\n",
               b->url.target, b->url.authority, b->cfg.version, body.n, SLICE_FMT(id));
    if (b->keys.count != 0) {
        buf_printf(ret, "Xindao-Timestamp: %" PRIu64 "\r\nXindao-Signature: ", time_s);
        webhook_sign(&b->keys, time_s, body, ret);
        buf_append_str(ret, "\r\n");
    }
    buf_append_str(ret, "\r\n");
    buf_append(ret, body);
}

/* What others wrote into the store must not become a header of ours. */
static bool plain(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] == 127)
            return false;
    return true;
}

void backend_post(struct backend *b, struct slice id, struct slice body, backend_done *done, void *arg)
{
    struct call *c = xcalloc(1, sizeof *c);
    *c = (struct call){.backend = b, .done = done, .arg = arg, .since_us = loop_now_us(b->loop)};
    list_init(&c->link);
    if (b->closing || backend_closed_for_ms(b) != 0) {
        list_append(&b->refused, &c->link);
        loop_idle(b->loop, &b->task, 0);
        return;
    }
    c->probe = breaker_begin(&b->breaker);
    b->stats.requests++;
    struct buf request = BUF_INIT;
    put_request(b, plain(id) ? id : SLICE_NONE, body, &request);
    http_client_post(b->client, &request, b->cfg.timeout_ms, on_answer, c);
}

void backend_on_change(struct backend *b, void (*changed)(void *arg), void *arg)
{
    b->breaker.changed = changed;
    b->breaker.arg = arg;
}

const struct backend_stats *backend_stats(struct backend *b)
{
    b->stats.connections = http_client_connections(b->client);
    b->stats.failures = b->breaker.failed;
    b->stats.opened = b->breaker.opened;
    b->stats.open = b->breaker.open_ms != 0;
    return &b->stats;
}

/* --- life --- */

struct backend *backend_create(struct loop *loop, const struct backend_config *cfg, struct error *reterr)
{
    struct backend *b = xcalloc(1, sizeof *b);
    struct error why;
    b->loop = loop;
    b->cfg = *cfg;
    list_init(&b->refused);
    task_init(&b->task, on_task);
    bool ok = webhook_url_parse(cfg->url, &b->url, &why) == OK;
    if (!ok)
        fail(reterr, why.code, "backend-url: %.150s", why.text);
    ok = ok && (cfg->secret_file == NULL || webhook_keys_read(cfg->secret_file, &b->keys, reterr) == OK);
    if (ok && b->url.tls)
        ok = (b->tls = tls_client_create(
                  &(struct tls_client_config){.ca = cfg->ca, .ca_name = "backend-ca", .ca_hint = "backend-ca"},
                  reterr)) != NULL;
    if (!ok) {
        webhook_url_fini(&b->url);
        free(b);
        return NULL;
    }
    breaker_init(&b->breaker, loop, b->url.authority);
    const struct http_client_config client = {
        .url = &b->url, .tls = b->tls, .connections = cfg->connections, .waiting = cfg->waiting};
    b->client = http_client_create(loop, &client);
    return b;
}

void backend_destroy(struct backend **bp)
{
    struct backend *b = TAKE(*bp);
    if (b == NULL)
        return;
    b->closing = true;
    breaker_fini(&b->breaker);
    http_client_destroy(&b->client);
    task_cancel(&b->task);
    while (!list_empty(&b->refused))
        refuse(b, list_first(&b->refused, struct call, link));
    tls_client_destroy(&b->tls);
    webhook_url_fini(&b->url);
    explicit_bzero(&b->keys, sizeof b->keys);
    free(b);
}

enum err backend_reload(struct backend *b, struct error *reterr)
{
    return b->cfg.secret_file != NULL ? webhook_keys_read(b->cfg.secret_file, &b->keys, reterr) : OK;
}
