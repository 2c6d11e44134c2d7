/* gateway/net/http.c: a request on a socket: read, hand to the core, answer, next; or upgrade to a WebSocket. */
#include <assert.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "gateway/net/net_private.h"
#include "gateway/net/request.h"
#include "gateway/net/response.h"
#include "gateway/net/upgrade.h"

#define UNDER_WAY_MAX 32 /* requests of one connection that the core has at once */
#define NEVER         UINT64_MAX
#define BACKLOG_MAX   65536 /* bytes of answers; before they are sent nothing more is read */

/* A request that the core was asked; lives until the core answers, the client's connection or not. */
struct exchange {
    struct http_exchange base;
    struct http *http; /* NULL: nobody waits any more */
    struct link link;  /* in http->waiting */
    uint64_t end_ms;
    bool overlaps, keep_alive, http_1_0, head, gzip;
    bool answered; /* in `response`, because an older request is not */
    struct buf response;
};

/* Requests are answered in the order in which they came. Those that may overlap (gateway_http_overlaps) are asked as they come, and what they are answered in one turn of
 * the loop is one write; any other waits until all before it are answered, and is alone until it is itself. */
struct http {
    struct socket *socket;
    struct link waiting; /* exchanges, oldest first; the first one is not answered */
    unsigned under_way;  /* how many */
    bool used;           /* a request has been answered */
    bool ready;          /* the request is complete, and waits for those before it */
    bool owes_continue;  /* so does the "100 Continue" for it */
    bool close_after;    /* nothing more is read; the connection ends with the last answer */
    bool sending;        /* the client does not take what it is sent */
    struct buf out;      /* responses, in order */
    size_t out_at;
    struct buf held; /* bytes after the request */
    struct request request;
};

static void view(const struct http *h, struct http_request *ret, char *ip)
{
    request_view(&h->request, ret);
    peer_address_text(&h->socket->address, ip);
    ret->ip = slice_str(ip);
    ret->by_api_listener = h->socket->api;
}

/* See request_body_rule. */
static size_t body_max(void *owner, const struct request *r)
{
    const struct http *h = owner;
    struct http_request q;
    char ip[PEER_TEXT];
    assert(r == &h->request);
    view(h, &q, ip);
    size_t more = gateway_http_body_max(h->socket->net->gateway, &q);
    return more > HTTP_BODY_MAX ? more : HTTP_BODY_MAX;
}

struct http *http_create(struct socket *s)
{
    struct http *h = xcalloc(1, sizeof *h);
    h->socket = s;
    list_init(&h->waiting);
    request_init(&h->request, body_max, h);
    if (s->asked)
        socket_deadline(s, (uint64_t)s->net->cfg->handshake_timeout_s * 1000);
    return h;
}

static void leave(struct exchange *e)
{
    list_del(&e->link);
    e->http->under_way--;
    buf_fini(&e->response);
    free(e);
}

void http_destroy(struct http **hh)
{
    struct http *h = TAKE(*hh);
    if (h == NULL)
        return;
    while (!list_empty(&h->waiting)) {
        struct exchange *e = list_first(&h->waiting, struct exchange, link);
        bool waits = e->base.gone != NULL && !e->answered;
        if (waits)
            e->base.gone(&e->base);
        if (waits || e->answered) {
            leave(e);
            continue;
        }
        list_del(&e->link);
        e->http = NULL;
    }
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

static size_t backlog(const struct http *h)
{
    return h->out.n - h->out_at;
}

/* Sends what there is; false when the client does not take all, or is gone. */
static bool flush(struct http *h)
{
    while (backlog(h) > 0) {
        ssize_t n = socket_write(h->socket, h->out.p + h->out_at, backlog(h));
        if (n <= 0)
            return false;
        h->out_at += (size_t)n;
    }
    buf_clear(&h->out);
    h->out_at = 0;
    return true;
}

/* The answer takes its place in the row; e is gone when it is the first. */
static void settle(struct exchange *e, const struct http_response *r)
{
    struct http *h = e->http;
    struct socket *s = h->socket;
    bool first = h->waiting.next == &e->link, last = h->waiting.prev == &e->link;
    const struct response_context c = {
        .keep_alive = e->keep_alive && !(last && s->net->draining),
        .http_1_0 = e->http_1_0,
        .head = e->head,
        .gzip = e->gzip,
        .wall_ms = loop_wall_ms(s->net->loop),
    };
    h->used = true;
    h->close_after |= !c.keep_alive;
    response_append(first ? &h->out : &e->response, r, &c);
    e->answered = true;
    while (first && !list_empty(&h->waiting)) {
        e = list_first(&h->waiting, struct exchange, link);
        if (!e->answered)
            break;
        buf_append(&h->out, buf_slice(&e->response));
        leave(e);
    }
    net_todo(s->net, s); /* what else is answered in this turn goes out with it */
}

static void respond(struct http_exchange *x, const struct http_response *r)
{
    struct exchange *e = container_of(x, struct exchange, base);
    if (e->http == NULL)
        free(e);
    else if (e->http->socket->state != SOCKET_HTTP)
        leave(e);
    else
        settle(e, r);
}

/* The request that has just been read gets its place in the row. */
static struct exchange *enter(struct http *h, bool overlaps)
{
    const struct request *q = &h->request;
    struct exchange *e = xmalloc(sizeof *e);
    *e = (struct exchange){.base.respond = respond,
                           .http = h,
                           .end_ms = loop_now_ms(h->socket->net->loop) + HTTP_ANSWER_MS,
                           .overlaps = overlaps,
                           .keep_alive = q->keep_alive && q->complete && !h->close_after,
                           .http_1_0 = q->parser.http_major == 1 && q->parser.http_minor == 0,
                           .head = q->parser.method == HTTP_HEAD,
                           .gzip = request_list_has(request_header(q, HEADER_ACCEPT_ENCODING), "gzip")};
    list_init(&e->link);
    list_append(&h->waiting, &e->link);
    h->under_way++;
    h->close_after |= !e->keep_alive;
    return e;
}

static void settle_error(struct exchange *e, int status, const struct error *error, const char *headers)
{
    struct buf body = BUF_INIT;
    response_error_body(&body, error);
    settle(e, &(struct http_response){.status = status, .headers = headers, .body = buf_slice(&body)});
    buf_fini(&body);
}

/* Nothing more will be read from this client: where the next request would begin is anyone's guess. */
static void refuse(struct http *h, enum drop_reason reason, int status, const struct error *e)
{
    struct socket *s = h->socket;
    net_refused(&s->address, s->port, reason, e->text);
    h->close_after = true;
    socket_pause(s, true);
    settle_error(enter(h, false), status, e, NULL);
}

/* --- asking the core --- */

/* Does the core keep the newest request waiting for as long as it likes? */
static bool patient(const struct http *h)
{
    return !list_empty(&h->waiting) && list_entry(h->waiting.prev, struct exchange, link)->base.gone != NULL;
}

/* Must the next request wait? */
static bool must_wait(const struct http *h)
{
    if (patient(h) && !h->ready)
        return false; /* or we would not hear of it when the client goes */
    if (h->close_after || h->ready || h->sending || h->under_way >= UNDER_WAY_MAX || backlog(h) >= BACKLOG_MAX)
        return true;
    return !list_empty(&h->waiting) && !list_entry(h->waiting.prev, struct exchange, link)->overlaps;
}

static void ask(struct http *h, const struct http_request *q, bool overlaps)
{
    struct socket *s = h->socket;
    struct exchange *e = enter(h, overlaps);
    if (h->under_way == 1)
        socket_deadline(s, HTTP_ANSWER_MS);
    gateway_http(s->net->gateway, q, &e->base);
    if (h->waiting.prev == &e->link && e->base.gone != NULL && !e->answered) {
        e->end_ms = NEVER;
        if (h->under_way == 1)
            wheel_unset(&s->deadline);
    }
    request_reset(&h->request);
    socket_pause(s, must_wait(h));
}

/* Whatever went wrong is the client's to read; the connection stays. */
static void upgrade_failed(struct http *h, int status, const struct error *e)
{
    struct socket *s = h->socket;
    net_refused(&s->address, s->port, DROP_HTTP, e->text);
    settle_error(enter(h, false), status, e,
                 status == 426 ? "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" : NULL);
    request_reset(&h->request);
}

/* Afterwards s->http may be gone. */
static void upgrade(struct http *h, const struct http_request *q)
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
    struct slice subprotocol = SLICE_NONE;
    struct conn *conn = NULL;
    enum err err = gateway_upgrade(s->net->gateway, q, &s->transport, &conn, &subprotocol, &e);
    if (err != OK) { /* who wanted a WebSocket asks for nothing else on this connection */
        h->close_after = true;
        settle_error(enter(h, false), err_http_status(err), &e,
                     err == ERR_UNAUTHORIZED ? "WWW-Authenticate: Bearer\r\n" : NULL);
        request_reset(&h->request);
        socket_pause(s, true);
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

/* The request is complete. Afterwards s->http may be gone. */
static void begin(struct http *h)
{
    struct socket *s = h->socket;
    struct http_request q;
    char ip[PEER_TEXT];
    view(h, &q, ip);
    bool wants_socket = upgrade_wanted(&h->request), first = list_empty(&h->waiting);
    bool overlaps = !wants_socket && gateway_http_overlaps(&q);
    h->ready = wants_socket ? !first || backlog(h) > 0 : !first && !overlaps;
    if (h->ready)
        socket_pause(s, true); /* http_continue() comes back to it */
    else if (wants_socket)
        upgrade(h, &q);
    else
        ask(h, &q, overlaps);
}

static void go_on(struct http *h)
{
    h->owes_continue = false;
    buf_append(&h->out, SLICE("HTTP/1.1 100 Continue\r\n\r\n"));
    net_todo(h->socket->net, h->socket);
}

size_t http_input(struct http *h, const char *p, size_t n)
{
    struct request *r = &h->request;
    size_t used = request_feed(r, p, n);
    if (r->status != 0) {
        refuse(h, DROP_HTTP, r->status, &r->error);
        return n;
    }
    h->owes_continue = r->wants_continue && r->head_complete;
    if (r->complete) {
        begin(h);
    } else if (h->owes_continue) {
        r->wants_continue = false;
        if (list_empty(&h->waiting))
            go_on(h);
    }
    return used;
}

/* --- from the loop --- */

/* Between requests: nothing is kept of the last one. */
static bool idle(const struct http *h)
{
    return h->used && list_empty(&h->waiting) && backlog(h) == 0 && !h->request.begun;
}

static void set_deadline(struct http *h)
{
    struct socket *s = h->socket;
    uint64_t now = loop_now_ms(s->net->loop);
    if (h->sending || !h->used)
        return; /* it runs already */
    if (list_empty(&h->waiting)) {
        socket_deadline(s, (uint64_t)s->net->cfg->handshake_timeout_s * 1000);
        return;
    }
    const struct exchange *e = list_first(&h->waiting, struct exchange, link);
    if (e->end_ms == NEVER)
        wheel_unset(&s->deadline);
    else
        socket_deadline(s, e->end_ms > now ? e->end_ms - now : 0);
}

/* False when the connection has been upgraded: what followed the request is the core's. */
static bool begin_ready(struct http *h)
{
    struct socket *s = h->socket;
    struct buf held = h->held;
    h->held = BUF_INIT;
    socket_pause(s, false); /* should this become a WebSocket, it is the core that reads on; else read_on() says */
    begin(h);
    if (s->http != NULL) {
        h->held = held;
        return true;
    }
    if (held.n > 0)
        socket_plain(s, held.p, held.n);
    buf_fini(&held);
    return false;
}

/* Reads on, if it may, and begins with what is here already. */
static void read_on(struct http *h)
{
    struct socket *s = h->socket;
    struct buf held = h->held;
    socket_pause(s, must_wait(h));
    if (held.n > 0 && !s->paused) {
        h->held = BUF_INIT;
        socket_plain(s, held.p, held.n);
        buf_fini(&held);
    }
    if (s->http == NULL || s->state != SOCKET_HTTP)
        return;
    if (!idle(h)) {
        set_deadline(h);
        return;
    }
    http_destroy(&s->http);
    s->asked = true;
    socket_deadline(s, HTTP_IDLE_MS);
}

void http_continue(struct http *h)
{
    struct socket *s = h->socket;
    bool flushed = flush(h);
    if (s->state != SOCKET_HTTP)
        return;
    if (!flushed && !h->sending)
        socket_deadline(s, HTTP_SEND_MS);
    h->sending = !flushed;
    if (flushed && list_empty(&h->waiting)) {
        if (h->close_after || (s->net->draining && h->used)) {
            socket_close(s, "closed");
            return;
        }
        if (h->owes_continue)
            go_on(h);
        if (h->ready && !begin_ready(h))
            return;
    }
    read_on(h);
}

bool http_no_more(struct http *h)
{
    if (list_empty(&h->waiting) && backlog(h) == 0)
        return false;
    if (!list_empty(&h->waiting) && list_first(&h->waiting, struct exchange, link)->end_ms == NEVER)
        return false; /* the core wants to know that nobody waits */
    h->close_after = true;
    socket_pause(h->socket, true);
    return true;
}

/* The client is told, and what the core says later is for nobody. */
static void give_up(struct http *h)
{
    struct exchange *e = list_first(&h->waiting, struct exchange, link);
    struct exchange *stand_in = xmalloc(sizeof *stand_in);
    struct error error = {0};
    *stand_in = *e;
    list_append(&e->link, &stand_in->link); /* before it */
    list_del(&e->link);
    e->http = NULL;
    (void)fail(&error, ERR_TIMEOUT, "no answer in time");
    settle_error(stand_in, 504, &error, NULL);
}

void http_timeout(struct socket *s)
{
    struct http *h = s->http;
    struct error e = {0};
    if (h == NULL) {
        if (!s->asked)
            net_refused(&s->address, s->port, DROP_HANDSHAKE_TIMEOUT, "no request");
        socket_close(s, "timeout");
    } else if (h->sending) {
        socket_kill(s, "timeout");
    } else if (!list_empty(&h->waiting)) {
        give_up(h);
    } else if (!h->close_after) {
        (void)fail(&e, ERR_TIMEOUT, "the request took too long");
        refuse(h, DROP_HANDSHAKE_TIMEOUT, 408, &e);
    }
}
