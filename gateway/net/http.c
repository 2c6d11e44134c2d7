/* gateway/net/http.c: a request on a socket: read, hand to the core, answer, next; or upgrade to a WebSocket. */
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "gateway/net/net_private.h"
#include "gateway/net/request.h"
#include "gateway/net/response.h"
#include "gateway/net/upgrade.h"

/* DONE is left at once, for the next request or for the close. */
enum http_phase { HTTP_READING, HTTP_WAITING, HTTP_SENDING, HTTP_DONE };

/* Lives until the core answers, the client's connection or not. */
struct exchange {
    struct http_exchange base;
    struct http *http; /* NULL: nobody waits any more */
};

struct http {
    struct socket *socket;
    enum http_phase phase;
    bool dispatching; /* http_input() is on the stack and will look at the phase */
    bool close_after;
    struct exchange *exchange; /* while WAITING */
    struct buf out;            /* the response */
    size_t out_at;
    struct buf held; /* bytes after the request */
    struct request request;
};

struct http *http_create(struct socket *s)
{
    struct http *h = xcalloc(1, sizeof *h);
    h->socket = s;
    request_init(&h->request);
    if (s->asked)
        socket_deadline(s, (uint64_t)s->net->cfg->handshake_timeout_s * 1000);
    return h;
}

void http_destroy(struct http **hh)
{
    struct http *h = TAKE(*hh);
    if (h == NULL)
        return;
    if (h->exchange != NULL)
        h->exchange->http = NULL;
    request_fini(&h->request);
    buf_fini(&h->out);
    buf_fini(&h->held);
    free(h);
}

void http_hold(struct http *h, const char *p, size_t n)
{
    buf_append(&h->held, (struct slice){p, n});
}

/* --- answering --- */

/* Sends what there is of the response; the phase becomes DONE with the last byte. */
static void flush(struct http *h)
{
    while (h->out_at < h->out.n) {
        ssize_t n = socket_write(h->socket, h->out.p + h->out_at, h->out.n - h->out_at);
        if (n <= 0)
            return;
        h->out_at += (size_t)n;
    }
    h->phase = HTTP_DONE;
}

static void answer(struct http *h, const struct http_response *r)
{
    struct socket *s = h->socket;
    const struct request *q = &h->request;
    struct response_context c = {
        .keep_alive = q->keep_alive && q->complete && !h->close_after && !s->net->draining,
        .http_1_0 = q->parser.http_major == 1 && q->parser.http_minor == 0,
        .head = q->parser.method == HTTP_HEAD,
        .wall_ms = loop_wall_ms(s->net->loop),
    };
    h->close_after = !c.keep_alive;
    response_append(&h->out, r, &c);
    h->phase = HTTP_SENDING;
    socket_deadline(s, HTTP_SEND_MS);
    flush(h);
}

static void answer_error(struct http *h, int status, const struct error *e, const char *headers)
{
    struct buf body = BUF_INIT;
    response_error_body(&body, e);
    answer(h, &(struct http_response){.status = status, .headers = headers, .body = buf_slice(&body)});
    buf_fini(&body);
}

/* Nothing more will be read from this client: where the next request would begin is anyone's guess. */
static void refuse(struct http *h, enum drop_reason reason, int status, const struct error *e)
{
    struct socket *s = h->socket;
    net_refused(&s->address, s->port, reason, e->text);
    h->close_after = true;
    socket_pause(s, true);
    answer_error(h, status, e, NULL);
}

/* After DONE. Frees h, and goes on with what the client has already sent of the next request. */
static void finished(struct http *h)
{
    struct socket *s = h->socket;
    if (h->close_after || s->net->draining) {
        socket_close(s, "closed");
        return;
    }
    struct buf held = h->held;
    h->held = BUF_INIT;
    http_destroy(&s->http);
    s->asked = true;
    socket_deadline(s, HTTP_IDLE_MS);
    socket_pause(s, false);
    if (held.n > 0)
        socket_plain(s, held.p, held.n);
    buf_fini(&held);
}

static void respond(struct http_exchange *x, const struct http_response *r)
{
    struct exchange *e = container_of(x, struct exchange, base);
    struct http *h = e->http;
    free(e);
    if (h == NULL)
        return;
    h->exchange = NULL;
    if (h->socket->state != SOCKET_HTTP)
        return;
    answer(h, r);
    if (h->phase == HTTP_DONE && !h->dispatching)
        net_todo(h->socket->net, h->socket);
}

/* --- asking the core --- */

static void view(const struct http *h, struct http_request *ret, char *ip)
{
    request_view(&h->request, ret);
    peer_address_text(&h->socket->address, ip);
    ret->ip = slice_str(ip);
    ret->by_api_listener = h->socket->api;
}

static void ask(struct http *h)
{
    struct socket *s = h->socket;
    struct exchange *x = xmalloc(sizeof *x);
    *x = (struct exchange){.base.respond = respond, .http = h};
    h->exchange = x;
    h->phase = HTTP_WAITING;
    socket_pause(s, true);
    socket_deadline(s, HTTP_ANSWER_MS);
    struct http_request q;
    char ip[PEER_TEXT];
    view(h, &q, ip);
    gateway_http(s->net->gateway, &q, &x->base);
}

/* Whatever went wrong is the client's to read; the connection stays. */
static void upgrade_failed(struct http *h, int status, const struct error *e)
{
    struct socket *s = h->socket;
    net_refused(&s->address, s->port, DROP_HTTP, e->text);
    socket_pause(s, true);
    answer_error(h, status, e,
                 status == 426 ? "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" : NULL);
}

static void upgrade(struct http *h)
{
    struct socket *s = h->socket;
    struct error e = {0};
    int status;
    if (s->api) {
        (void)fail(&e, ERR_NOT_FOUND, "no WebSocket here: this is the port of the server API");
        upgrade_failed(h, 404, &e);
        return;
    }
    if (upgrade_check(&h->request, &status, &e) != OK) {
        upgrade_failed(h, status, &e);
        return;
    }
    struct http_request q;
    char ip[PEER_TEXT];
    view(h, &q, ip);
    struct slice subprotocol = SLICE_NONE;
    struct conn *conn = NULL;
    enum err err = gateway_upgrade(s->net->gateway, &q, &s->transport, &conn, &subprotocol, &e);
    if (err != OK) {
        socket_pause(s, true);
        answer_error(h, err_http_status(err), &e, err == ERR_UNAUTHORIZED ? "WWW-Authenticate: Bearer\r\n" : NULL);
        return;
    }
    struct buf accept = BUF_INIT;
    upgrade_accept(&h->request, subprotocol, &accept);
    http_destroy(&s->http);
    metrics->upgrades++;
    s->conn = conn;
    if (s->state == SOCKET_HTTP) {
        socket_set_state(s, SOCKET_OPEN);
        wheel_unset(&s->deadline);
    }
    conn_send_bytes(conn, buf_slice(&accept));
    buf_fini(&accept);
}

size_t http_input(struct http *h, const char *p, size_t n)
{
    struct request *r = &h->request;
    size_t used = request_feed(r, p, n);
    if (r->status != 0) {
        refuse(h, DROP_HTTP, r->status, &r->error);
        used = n;
    } else if (!r->complete) {
        if (r->wants_continue && r->head_complete) {
            static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
            r->wants_continue = false;
            if (socket_write(h->socket, go_on, sizeof go_on - 1) != sizeof go_on - 1)
                socket_close(h->socket, "closed"); /* it has not read what came before, so it does not wait for this */
        }
        return n;
    } else if (upgrade_wanted(r)) {
        struct socket *s = h->socket;
        h->dispatching = true;
        upgrade(h);
        if (s->http == NULL)
            return used;
    } else {
        h->dispatching = true;
        ask(h);
    }
    h->dispatching = false;
    if (h->phase == HTTP_DONE)
        finished(h);
    return used;
}

/* --- from the loop --- */

void http_continue(struct http *h)
{
    if (h->phase == HTTP_SENDING)
        flush(h);
    if (h->phase == HTTP_DONE)
        finished(h);
}

void http_timeout(struct socket *s)
{
    struct http *h = s->http;
    if (h == NULL) {
        if (!s->asked)
            net_refused(&s->address, s->port, DROP_HANDSHAKE_TIMEOUT, "no request");
        socket_close(s, "timeout");
        return;
    }
    struct error e = {0};
    switch (h->phase) {
    case HTTP_READING:
        (void)fail(&e, ERR_TIMEOUT, "the request took too long");
        refuse(h, DROP_HANDSHAKE_TIMEOUT, 408, &e);
        break;
    case HTTP_WAITING:
        h->exchange->http = NULL;
        h->exchange = NULL;
        (void)fail(&e, ERR_TIMEOUT, "no answer in time");
        answer_error(h, 504, &e, NULL);
        break;
    case HTTP_SENDING:
    case HTTP_DONE: socket_kill(s, "timeout"); return;
    }
    http_continue(h);
}
