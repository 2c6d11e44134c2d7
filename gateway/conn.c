/* gateway/conn.c: one WebSocket connection. */
#include "gateway/conn.h"

#include <assert.h>
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "gateway/engine.h"
#include "gateway/gateway.h"
#include "gateway/greeting.h"
#include "gateway/metrics.h"
#include "gateway/probe.h"
#include "gateway/report.h"
#include "gateway/session.h"
#include "gateway/trail.h"
#include "gateway/tunnel.h"

#define CLOSE_LINGER_MS 5000

static void on_timer(struct wheel_entry *e);

struct conn *conn_create(struct gateway *g, struct transport *t, const struct protocol_ops *protocol, struct slice ip)
{
    struct conn *c = xcalloc(1, sizeof *c);
    c->gw = g;
    c->transport = t;
    c->protocol = protocol;
    c->state = CONN_OPENING;
    c->keep = true;
    c->last_input_ms = loop_now_ms(g->loop);
    (void)snprintf(c->ip, sizeof c->ip, "%.*s", SLICE_FMT(ip));
    ws_parser_init(&c->parser, g->cfg->max_message_size);
    wheel_entry_init(&c->timer, on_timer);
    wheel_set(&g->wheel, &c->timer, g->cfg->heartbeat_s * (uint64_t)1000);
    return c;
}

void conn_carry(struct conn *c, struct engine *e)
{
    c->engine = e;
    c->state = CONN_OPEN;
    c->keep = false;
    wheel_unset(&c->timer);
}

void conn_probe(struct conn *c, struct probe *p)
{
    c->probe = p;
    c->state = CONN_OPEN;
    c->keep = false;
    wheel_unset(&c->timer);
}

void conn_inherit(struct conn *c, struct conn *from)
{
    outq_move(&c->out, &from->out);
    c->parser.max_message = from->parser.max_message;
    c->pinged = from->pinged;
    conn_pause(c, from->paused);
}

void conn_be_channel(struct conn *c, struct channel *ch)
{
    c->channel = ch;
    c->keep = ch->keeps;
    wheel_unset(&c->timer);
}

/* --- sending --- */

static void queue_gauge(size_t before, size_t after)
{
    metrics->queue_bytes += after - before; /* wraps around to the right sum */
}

static void drain(struct conn *c)
{
    if (c->engine != NULL && !engine_finish(c->engine))
        return;
    size_t before = c->out.bytes;
    while (c->out.count != 0 && (c->state != CONN_OPENING || c->out.pinned)) {
        struct slice s = outq_front(&c->out);
        ssize_t n = c->transport->ops->write(c->transport, s.p, s.n);
        if (n < 0)
            break; /* conn_gone follows */
        metrics->bytes_out += (uint64_t)n;
        outq_taken(&c->out, (size_t)n);
        if ((size_t)n < s.n)
            break;
    }
    queue_gauge(before, c->out.bytes);
    if (c->out.count != 0)
        return;
    if (c->state == CONN_CLOSING)
        c->transport->ops->close(c->transport);
    else if (c->state == CONN_OPEN && c->session != NULL)
        session_drained(c->session);
    else if (c->state == CONN_OPEN && c->engine != NULL)
        engine_writable(c->engine);
}

static void drop_unsent(struct conn *c)
{
    size_t before = c->out.bytes;
    while (outq_drop_oldest(&c->out) != 0)
        ;
    queue_gauge(before, c->out.bytes);
}

/* False: send no more of this room. */
static bool apply_slow_rule(struct conn *c, enum policy_slow slow)
{
    if (slow == POLICY_SLOW_RESUME && c->out.bytes / 2 <= c->gw->cfg->max_queue_bytes)
        return false;
    bool drop_oldest = slow == POLICY_SLOW_DROP_OLDEST ||
                       (slow == POLICY_SLOW_DEFAULT && c->gw->cfg->slow_consumer == SLOW_DROP_OLDEST);
    if (drop_oldest) {
        size_t before = c->out.bytes;
        while (c->out.bytes > c->gw->cfg->max_queue_bytes && outq_drop_oldest(&c->out) != 0)
            metrics->drops[DROP_OLDEST]++;
        queue_gauge(before, c->out.bytes);
        return true;
    }
    metrics->drops[DROP_SLOW_CONSUMER]++;
    LOG_PEER(WARN, "slow consumer dropped", "session=%s peer=%s queued=%zu", session_sid(c->session), c->ip,
             c->out.bytes);
    drop_unsent(c);
    conn_close(c, err_close_code(ERR_SLOW_CONSUMER), slice_str(err_name(ERR_SLOW_CONSUMER)));
    return true;
}

/* Takes over a reference. attempted: the transport has seen the message and took `sent` bytes of it. */
static void push(struct conn *c, struct msg *m, bool attempted, size_t sent)
{
    size_t before = c->out.bytes;
    outq_push(&c->out, m);
    if (attempted)
        outq_taken(&c->out, sent);
    queue_gauge(before, c->out.bytes);
}

/* Writes what the transport takes now. Returns how much; all of it when the transport is broken: nothing is left to do. */
static size_t write_now(struct conn *c, struct slice s)
{
    ssize_t n = c->transport->ops->write(c->transport, s.p, s.n);
    if (n < 0)
        return s.n;
    metrics->bytes_out += (uint64_t)n;
    return (size_t)n;
}

bool conn_send(struct conn *c, struct msg *m, enum policy_slow slow)
{
    if (c->state > CONN_OPEN)
        return true;
    bool attempt = c->out.count == 0 && c->state == CONN_OPEN;
    size_t sent = attempt ? write_now(c, msg_slice(m)) : 0;
    if (sent == m->len)
        return true;
    push(c, msg_ref(m), attempt, sent);
    return attempt || c->out.bytes <= c->gw->cfg->max_queue_bytes || apply_slow_rule(c, slow);
}

bool conn_send_own(struct conn *c, struct slice bytes, enum policy_slow slow)
{
    if (c->state > CONN_OPEN)
        return true;
    bool attempt = c->out.count == 0 && c->state == CONN_OPEN;
    size_t sent = attempt ? write_now(c, bytes) : 0;
    if (sent == bytes.n)
        return true;
    push(c, msg_new(bytes), attempt, sent);
    return attempt || c->out.bytes <= c->gw->cfg->max_queue_bytes || apply_slow_rule(c, slow);
}

static void send_bytes(struct conn *c, struct slice bytes)
{
    if (bytes.n == 0)
        return;                                               /* an event that means nothing in this protocol */
    bool waits = c->channel != NULL && c->channel->returning; /* for what it was to be told before */
    bool attempt = c->out.count == 0 && !waits && (c->engine == NULL || !engine_busy(c->engine));
    size_t sent = attempt ? write_now(c, bytes) : 0;
    if (sent == bytes.n)
        return;
    push(c, msg_new(slice_from(bytes, sent)), attempt, 0);
    if (!attempt && c->state == CONN_OPEN && c->out.bytes > c->gw->cfg->max_queue_bytes)
        (void)apply_slow_rule(c, POLICY_SLOW_DISCONNECT);
}

void conn_unsay(struct conn *c)
{
    queue_gauge(c->out.bytes, 0);
    outq_fini(&c->out);
}

void conn_send_bytes(struct conn *c, struct slice bytes)
{
    if (c->out.count == 0) {
        send_bytes(c, bytes);
        return;
    }
    size_t before = c->out.bytes;
    outq_push_front(&c->out, msg_new(bytes));
    queue_gauge(before, c->out.bytes);
}

void conn_event(struct conn *c, const struct event *e)
{
    if (c == NULL || c->state > CONN_OPEN)
        return;
    struct buf *scratch = &c->gw->scratch;
    buf_clear(scratch);
    if (c->channel != NULL && c->channel->returning && e->kind != EVENT_MESSAGE) {
        return; /* it knows nothing of having been away */
    } else if (c->channel != NULL) {
        struct event instead = *e;
        instead.before_welcome = c->state == CONN_OPENING && !c->channel->returning;
        trail_set(c->session, &instead);
        c->protocol->encode(c->protocol, &instead, scratch);
    } else {
        c->protocol->encode(c->protocol, e, scratch);
    }
    metrics->messages_out++;
    send_bytes(c, buf_slice(scratch));
}

void conn_append(struct conn *c, struct slice frames)
{
    if (c->state <= CONN_OPEN)
        send_bytes(c, frames);
}

void conn_welcome(struct conn *c, const struct event *e)
{
    struct buf *scratch = &c->gw->scratch;
    buf_clear(scratch);
    if (c->channel != NULL && c->channel->returning) {
        channel_returned(c->channel);
    } else {
        c->protocol->encode(c->protocol, e, scratch);
        metrics->messages_out++;
        conn_send_bytes(c, buf_slice(scratch));
    }
    c->state = CONN_OPEN;
    drain(c);
    struct buf early = c->early;
    c->early = BUF_INIT;
    conn_input(c, early.p, early.n);
    buf_fini(&early);
}

void conn_greeted(struct conn *c)
{
    c->state = CONN_OPENING;
    c->keep = true;
    c->parser.max_message = c->gw->cfg->max_message_size;
    wheel_set(&c->gw->wheel, &c->timer, c->gw->cfg->heartbeat_s * (uint64_t)1000);
}

void conn_frame(struct conn *c, enum ws_opcode opcode, struct slice payload)
{
    if (c->state > CONN_OPEN)
        return;
    struct buf *scratch = &c->gw->scratch;
    buf_clear(scratch);
    ws_frame_append(scratch, opcode, payload);
    send_bytes(c, buf_slice(scratch));
}

/* --- closing --- */

static bool may_keep(const struct conn *c)
{
    return c->channel == NULL || c->channel->keeps;
}

bool conn_outlives(const struct conn *c)
{
    return c->channel == NULL || channel_outlives(c->channel);
}

void conn_keep(struct conn *c)
{
    c->keep = may_keep(c);
}

void conn_close(struct conn *c, int code, struct slice reason)
{
    if (c->state > CONN_OPEN)
        return;
    struct buf *scratch = &c->gw->scratch;
    buf_clear(scratch);
    if (c->channel != NULL)
        channel_farewell(c->channel, code, scratch);
    else
        ws_close_append(scratch, code, reason);
    c->state = CONN_CLOSING; /* first: what is sent last is not refused for a full queue, which would close again */
    send_bytes(c, buf_slice(scratch));
    if (c->session != NULL)
        report_reason(c->session, reason);
    c->keep = may_keep(c) && (code == 1001 || code == 1013 || code == err_close_code(ERR_SLOW_CONSUMER));
    LOG(DEBUG, "closing", "session=%s peer=%s code=%d reason=%s", session_sid(c->session), c->ip, code, log_q(reason));
    wheel_set(&c->gw->wheel, &c->timer, CLOSE_LINGER_MS);
    if (c->channel != NULL)
        channel_closing(c->channel, code, reason);
    if (c->out.count == 0)
        c->transport->ops->close(c->transport);
}

void conn_goodbye(struct conn *c, int code, struct slice reason, uint64_t reconnect_after_ms)
{
    conn_event(c, &(struct event){.kind = EVENT_GOODBYE, .text = reason, .reconnect_after_ms = reconnect_after_ms});
    conn_close(c, code, reason);
}

void conn_gone(struct conn *c, const char *why)
{
    c->transport = NULL;
    c->state = CONN_CLOSED;
    wheel_unset(&c->timer);
    queue_gauge(c->out.bytes, 0);
    outq_fini(&c->out);
    buf_fini(&c->early);
    ws_parser_fini(&c->parser);
    greeting_end(&c->greeting);
    arrival_cancel(c->arrival);
    probe_end(&c->probe);
    engine_end(&c->engine, why);
    if (c->session != NULL)
        session_conn_gone(c->session, why);
    free(c);
}

/* --- heartbeat --- */

static void on_timer(struct wheel_entry *e)
{
    struct conn *c = container_of(e, struct conn, timer);
    if (c->state == CONN_CLOSING) {
        c->transport->ops->close(c->transport);
        return;
    }
    if (c->greeting != NULL) {
        greeting_timeout(c);
        return;
    }
    uint64_t period_ms = c->gw->cfg->heartbeat_s * (uint64_t)1000;
    uint64_t silent_ms = loop_now_ms(c->gw->loop) - c->last_input_ms;
    if (silent_ms < period_ms) {
        wheel_set(&c->gw->wheel, e, period_ms - silent_ms);
        return;
    }
    if (c->pinged) {
        metrics->drops[DROP_IDLE]++;
        conn_goodbye(c, 1001, SLICE("idle"), 0);
        return;
    }
    c->pinged = true;
    conn_frame(c, WS_PING, SLICE_NONE);
    wheel_set(&c->gw->wheel, e, period_ms);
}

/* --- receiving --- */

static void answer_close(struct conn *c, struct slice payload)
{
    int code;
    struct slice reason;
    if (!ws_close_parse(payload, &code, &reason)) {
        metrics->drops[DROP_PROTOCOL]++;
        conn_close(c, 1002, slice_str(err_name(ERR_BAD_REQUEST)));
        return;
    }
    conn_close(c, code == 1005 ? 1000 : code, SLICE_NONE);
}

static bool on_message(void *owner, enum ws_opcode opcode, struct slice payload)
{
    struct conn *c = owner;
    struct slice answer;
    switch ((int)opcode) {
    case WS_PING: conn_frame(c, WS_PONG, payload); break;
    case WS_CLOSE: answer_close(c, payload); break;
    case WS_TEXT:
    case WS_BINARY:
        metrics->messages_in++;
        if (c->engine != NULL) {
            engine_message(c->engine, payload, opcode == WS_BINARY);
        } else if (c->probe != NULL) {
            probe_message(c->probe, payload, opcode == WS_BINARY);
        } else if (c->greeting != NULL) {
            greeting_frame(c, payload, opcode == WS_BINARY);
        } else if (!c->protocol->heartbeat(payload, opcode == WS_BINARY, &answer)) {
            session_frame(c->session, payload, opcode == WS_BINARY);
        } else {
            metrics->heartbeats++;
            if (answer.n != 0)
                conn_frame(c, WS_TEXT, answer);
        }
        break;
    }
    return c->state == CONN_OPEN;
}

void conn_parse(struct conn *c, char *p, size_t n)
{
    static const struct ws_parser_events events = {on_message};
    struct error error = {0};
    int close_code = 0;
    if (ws_parse(&c->parser, p, n, &events, c, &close_code, &error) == OK)
        return;
    metrics->drops[close_code == 1009 ? DROP_TOO_LARGE : close_code == 1007 ? DROP_UTF8 : DROP_PROTOCOL]++;
    LOG_PEER(INFO, "bad websocket input", "session=%s peer=%s code=%d why=%s", session_sid(c->session), c->ip,
             close_code, log_q(slice_str(error.text)));
    conn_close(c, close_code, slice_str(err_name(error.code)));
}

void conn_input(struct conn *c, char *p, size_t n)
{
    c->last_input_ms = loop_now_ms(c->gw->loop);
    c->pinged = false;
    metrics->bytes_in += n;
    if (c->state == CONN_OPENING)
        buf_append(&c->early, (struct slice){p, n});
    if (c->state != CONN_OPEN || n == 0)
        return;
    if (c->greeting != NULL)
        greeting_input(c, p, n);
    else
        conn_parse(c, p, n);
}

void conn_writable(struct conn *c)
{
    drain(c);
}

void conn_pause(struct conn *c, bool paused)
{
    if (c->paused == paused || c->transport == NULL)
        return;
    c->paused = paused;
    c->transport->ops->pause(c->transport, paused);
}
