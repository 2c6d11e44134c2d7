/* gateway/engine.c: Engine.IO connections: opening, heartbeats, packets, and whose turn it is to write. */
#include "gateway/engine.h"

#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "gateway/auth/auth.h"
#include "gateway/conn.h"
#include "gateway/door.h"
#include "gateway/gateway.h"
#include "gateway/leaving.h"
#include "gateway/limits.h"
#include "gateway/metrics.h"
#include "gateway/move.h"
#include "gateway/polling.h"
#include "gateway/probe.h"
#include "gateway/protocol/engineio_payload.h"
#include "gateway/uri.h"

#define STRANGERS_MESSAGE (AUTH_TOKEN_MAX + 1024u) /* with --auth jwt, until a namespace is connected */
#define OPENING_MS        5u                       /* from the handshake of a WebSocket to the open packet */
#define LATE_MS           10u                      /* a ping may be; then its answer has as much less time */
#define HELD_MESSAGES     4u                       /* times max-message-size: what may come before reading rests */

/* --- paths --- */

/* With or without the last slash. */
static bool same_path(struct slice configured, struct slice path)
{
    if (slice_ends(configured, SLICE("/")))
        configured.n--;
    if (slice_ends(path, SLICE("/")))
        path.n--;
    return slice_eq(configured, path);
}

static bool echo_path(const struct config *cfg, struct slice path)
{
    return cfg->engineio_echo != NULL && same_path(slice_str(cfg->engineio_echo), path);
}

bool engine_path(const struct gateway *g, struct slice path)
{
    const struct config *cfg = g->cfg;
    if (echo_path(cfg, path))
        return true;
    for (size_t i = 0; cfg->socketio && i < cfg->socketio_paths.count; i++)
        if (same_path(slice_str(cfg->socketio_paths.items[i]), path))
            return true;
    return false;
}

/* --- ending --- */

static void drop(struct engine *e, const char *why)
{
    if (e->polling != NULL)
        polling_drop(e->polling, why);
}

void engine_refuse(struct engine *e, const struct error *error)
{
    metrics->drops[DROP_SOCKETIO]++;
    LOG_PEER(INFO, "bad socket.io input", "engine=%.6s peer=%s why=%s", e->sid, e->conn->ip,
             log_q(slice_str(error->text)));
    conn_close(e->conn, err_close_code(error->code), slice_str(err_name(error->code)));
    drop(e, "closed");
}

void engine_end(struct engine **ep, const char *why)
{
    struct engine *e = TAKE(*ep);
    if (e == NULL)
        return;
    list_for_each_safe (it, &e->channels) {
        channel_destroy(list_entry(it, struct channel, link), why);
    }
    move_end(&e->move);
    leaving_end(&e->leaving);
    entrance_end(e);
    list_del(&e->link);
    engine_unlist(e);
    probe_forsake(e->probe);
    timer_stop(&e->heartbeat);
    timer_stop(&e->patience);
    task_cancel(&e->work);
    sio_assembly_fini(&e->assembly);
    buf_fini(&e->held);
    free(e->agent);
    free(e->origin);
    free(e->token);
    free(e->user);
    free(e->referer);
    free(e->code);
    free(e->appid);
    free(e);
    metrics->engines--;
}

void engines_drain(struct gateway *g)
{
    list_for_each_safe (it, &g->engines) {
        const struct engine *e = list_entry(it, struct engine, link);
        if (e->channel_count == 0)
            conn_close(e->conn, err_close_code(ERR_DRAINING), SLICE("draining"));
    }
}

/* --- heartbeat --- */

static void say(struct engine *e, struct slice packet)
{
    conn_frame(e->conn, WS_TEXT, packet);
}

static void went_silent(struct engine *e)
{
    metrics->drops[DROP_IDLE]++;
    conn_close(e->conn, 1001, SLICE("idle"));
    drop(e, "timeout");
}

/* Revision 4: we ping. conn->pinged is cleared by anything that arrives. */
static void ping(struct engine *e)
{
    const struct config *cfg = e->gw->cfg;
    uint32_t interval = cfg->socketio_ping_interval_ms, timeout = cfg->socketio_ping_timeout_ms;
    uint64_t now = loop_now_ms(e->gw->loop), passed = now - e->pinged_ms, late = passed - interval;
    if (e->pinging && e->conn->pinged && !e->conn->paused) {
        if (passed >= timeout)
            went_silent(e);
        else
            timer_start(&e->heartbeat, timeout - passed);
    } else if (e->pinging && passed < interval) {
        timer_start(&e->heartbeat, interval - passed);
    } else {
        e->pinged_ms = late <= LATE_MS ? now - late : now; /* a little every time would add up */
        e->pinging = e->conn->pinged = true;
        say(e, SLICE("2"));
        timer_start(&e->heartbeat, (interval < timeout ? interval : timeout) - (now - e->pinged_ms));
    }
}

/* Revision 3: the client pings. */
static void listen_for_pings(struct engine *e)
{
    const struct config *cfg = e->gw->cfg;
    uint64_t patience = (uint64_t)cfg->socketio_ping_interval_ms + cfg->socketio_ping_timeout_ms;
    uint64_t silent = loop_now_ms(e->gw->loop) - e->conn->last_input_ms;
    if (silent >= patience && !e->conn->paused)
        went_silent(e);
    else
        timer_start(&e->heartbeat, silent < patience ? patience - silent : patience);
}

static void on_heartbeat(struct timer *t)
{
    struct engine *e = container_of(t, struct engine, heartbeat);
    if (e->conn->state != CONN_OPEN)
        return;
    if (e->revision == EIO_4)
        ping(e);
    else
        listen_for_pings(e);
}

static void open_now(struct engine *e);

static void on_patience(struct timer *t)
{
    struct engine *e = container_of(t, struct engine, patience);
    if (!e->opened && e->conn->state == CONN_OPEN) {
        open_now(e);
        return;
    }
    if (e->channel_count != 0 || e->conn->state != CONN_OPEN)
        return;
    metrics->drops[DROP_HANDSHAKE_TIMEOUT]++;
    conn_close(e->conn, 1008, slice_str(err_name(ERR_TIMEOUT)));
    drop(e, "timeout");
}

/* --- receiving --- */

enum err engine_charge(struct engine *e, struct error *reterr)
{
    const struct config *cfg = e->gw->cfg;
    if (bucket_take(&e->rate, cfg->message_rate, cfg->message_burst, loop_now_us(e->gw->loop)))
        return OK;
    return fail(reterr, ERR_RATE_LIMITED, "more than %u packets per second", cfg->message_rate);
}

/* A connection for diagnosis: there is no session that would be charged. */
static void echo(struct engine *e, struct slice message, bool binary)
{
    const struct config *cfg = e->gw->cfg;
    struct error error = {0};
    enum err err = engine_charge(e, &error);
    if (err == OK && !limits_take(e->gw->limits, LIMIT_IP, slice_str(e->conn->ip), cfg->ip_rate, cfg->ip_burst))
        err = fail(&error, ERR_RATE_LIMITED, "more than %u frames per second of this address (ip-rate)", cfg->ip_rate);
    if (err != OK) {
        engine_refuse(e, &error);
        return;
    }
    metrics->messages_out++;
    conn_frame(e->conn, binary ? WS_BINARY : WS_TEXT, message);
}

static void take_message(struct engine *e, struct slice data, bool binary)
{
    struct sio_packet p;
    struct error error = {0};
    bool complete;
    e->assembly.max_bytes = e->gw->cfg->max_message_size;
    if (sio_assemble(&e->assembly, data, binary, &complete, &p, &error) != OK ||
        (complete && !namespace_packet(e, &p, &error)))
        engine_refuse(e, &error);
}

static void take_ping(struct engine *e, struct slice data)
{
    struct error error = {0};
    metrics->heartbeats++;
    if (e->revision == EIO_4) {
        (void)fail(&error, ERR_BAD_REQUEST, "a ping of a client that speaks Engine.IO 4: there the server pings");
        engine_refuse(e, &error);
        return;
    }
    say(e, slice_eq(data, SLICE("probe")) ? SLICE("3probe") : SLICE("3"));
}

static void take_pong(struct engine *e)
{
    struct error error = {0};
    metrics->heartbeats++;
    if (e->revision == EIO_4)
        return;
    (void)fail(&error, ERR_BAD_REQUEST, "a pong of a client that speaks Engine.IO 3: there the client pings");
    engine_refuse(e, &error);
}

static void take_close(struct engine *e)
{
    if (e->polling != NULL)
        polling_left(e->polling);
    conn_close(e->conn, 1000, SLICE_NONE);
}

static void take_packet(struct engine *e, struct slice payload, bool binary)
{
    struct eio_packet p;
    struct buf decoded = BUF_INIT;
    struct error error = {0};
    bool base64 = !binary && slice_starts(payload, SLICE("b"));
    if ((base64 && eio_base64_take(e->revision, slice_from(payload, 1), &decoded, &payload, &error) != OK) ||
        eio_parse(e->revision, payload, binary || base64, &p, &error) != OK) {
        buf_fini(&decoded);
        engine_refuse(e, &error);
        return;
    }
    switch (p.type) {
    case EIO_PING: take_ping(e, p.data); break;
    case EIO_PONG: take_pong(e); break;
    case EIO_MESSAGE:
        if (e->echo)
            echo(e, payload, binary || base64);
        else
            take_message(e, p.data, p.binary);
        break;
    case EIO_CLOSE: take_close(e); break;
    case EIO_OPEN:
    case EIO_UPGRADE:
    case EIO_NOOP:
    case EIO_TYPES: break; /* means nothing here; the official server ignores them too */
    }
    buf_fini(&decoded);
}

/* What comes while a namespace is being connected may be for that namespace: clients of revision 3 need not wait. */
struct held {
    uint32_t n;
    bool binary;
};

void engine_hold_append(struct buf *ret, struct slice payload, bool binary)
{
    struct held h;
    memset(&h, 0, sizeof h);
    h.n = (uint32_t)payload.n;
    h.binary = binary;
    buf_append(ret, (struct slice){(const char *)&h, sizeof h});
    buf_append(ret, payload);
}

static void hold(struct engine *e, struct slice payload, bool binary)
{
    if (e->held.n + payload.n > (size_t)HELD_MESSAGES * e->gw->cfg->max_message_size) {
        struct error error;
        (void)fail(&error, ERR_TOO_LARGE, "%zu bytes while a namespace is being connected", e->held.n + payload.n);
        engine_refuse(e, &error);
        return;
    }
    engine_hold_append(&e->held, payload, binary);
}

static void take_held(struct engine *e)
{
    struct buf held = e->held;
    size_t at = 0;
    e->held = BUF_INIT;
    while (at < held.n && e->conn->state == CONN_OPEN && !namespaces_opening(e)) {
        struct held h;
        memcpy(&h, held.p + at, sizeof h);
        take_packet(e, (struct slice){held.p + at + sizeof h, h.n}, h.binary);
        at += sizeof h + h.n;
    }
    if (at < held.n && e->conn->state == CONN_OPEN)
        buf_append(&e->held, slice_from(buf_slice(&held), at));
    buf_fini(&held);
}

static void open_now(struct engine *e)
{
    const struct config *cfg = e->gw->cfg;
    struct buf b = BUF_INIT, name = BUF_INIT;
    e->opened = true;
    timer_stop(&e->patience);
    if (e->polling != NULL)
        polling_name_append(e->polling, &name);
    else
        buf_append_str(&name, e->sid);
    eio_open_append(
        &b, &(struct eio_open){.sid = buf_slice(&name),
                               .ping_interval_ms = cfg->socketio_ping_interval_ms,
                               .ping_timeout_ms = cfg->socketio_ping_timeout_ms,
                               .max_payload = cfg->max_message_size,
                               .upgrade = e->polling != NULL && cfg->socketio_transports == SIO_TRANSPORTS_ALL});
    conn_append(e->conn, buf_slice(&b));
    buf_fini(&b);
    buf_fini(&name);
    if (e->revision == EIO_3) {
        timer_start(&e->heartbeat, (uint64_t)cfg->socketio_ping_interval_ms + cfg->socketio_ping_timeout_ms);
        if (!e->echo)
            namespace_connect(e, SLICE("/"), SLICE_NONE, SLICE_NONE);
    } else {
        e->pinged_ms = loop_now_ms(e->gw->loop);
        timer_start(&e->heartbeat, cfg->socketio_ping_interval_ms);
        if (!e->echo)
            timer_start(&e->patience, cfg->socketio_connect_timeout_ms);
    }
}

/* Of revision 3 a heartbeat that was under way is answered; of revision 4 the last one may be long ago. */
void engine_go_on(struct engine *e)
{
    const struct config *cfg = e->gw->cfg;
    e->opened = e->sid_used = true;
    if (e->revision == EIO_3) {
        say(e, SLICE("3"));
        timer_start(&e->heartbeat, (uint64_t)cfg->socketio_ping_interval_ms + cfg->socketio_ping_timeout_ms);
    } else {
        ping(e);
    }
}

void engine_keep(struct engine *e)
{
    list_for_each (it, &e->channels) {
        list_entry(it, struct channel, link)->conn->keep = true;
    }
}

void engine_returned(struct engine *e)
{
    if (--e->returning != 0)
        return;
    loop_idle(e->gw->loop, &e->work, 0); /* to what is held */
    if (e->channel_count == 0 && !e->echo)
        timer_start(&e->patience, e->gw->cfg->socketio_connect_timeout_ms);
    if (e->polling != NULL)
        polling_wake(e->polling);
}

void engine_message(struct engine *e, struct slice payload, bool binary)
{
    if (!e->opened)
        open_now(e);
    if (e->held.n != 0 || namespaces_opening(e))
        hold(e, payload, binary);
    else
        take_packet(e, payload, binary);
}

static void on_work(struct task *t)
{
    struct engine *e = container_of(t, struct engine, work);
    if (e->conn->state != CONN_OPEN)
        return; /* everything else ends with the connection */
    if (!e->opened)
        open_now(e);
    namespaces_reap(e);
    if (e->held.n != 0 && !namespaces_opening(e))
        take_held(e);
}

/* --- writing --- */

bool engine_finish(struct engine *e)
{
    if (e->writing != NULL)
        conn_writable(e->writing->conn);
    return e->writing == NULL;
}

void engine_writable(struct engine *e)
{
    list_for_each (it, &e->channels) {
        const struct channel *ch = list_entry(it, struct channel, link);
        if (!ch->ended)
            conn_writable(ch->conn);
        if (e->writing != NULL)
            return;
    }
}

/* --- opening --- */

bool engine_speaks(const struct gateway *g, const struct http_request *r)
{
    bool found;
    return g->cfg->socketio_eio3 || eio_revision(uri_query(r->query, "EIO", &found)) != EIO_3;
}

static char *copy(struct slice s)
{
    return s.n != 0 ? xstrndup(s.p, s.n) : NULL;
}

static enum err check_request(struct gateway *g, const struct http_request *r, struct slice *ret_token,
                              struct error *reterr)
{
    *ret_token = SLICE_NONE;
    if (g->cfg->auth != AUTH_OPEN && door_token(r, ret_token) > 1)
        return door_refuse(AUTH_AMBIGUOUS, r->ip, reterr);
    if (ret_token->n > AUTH_TOKEN_MAX)
        return fail(reterr, ERR_TOO_LARGE, "a token of %zu bytes, at most %d allowed", ret_token->n,
                    (int)AUTH_TOKEN_MAX);
    return OK;
}

struct engine *engine_create(struct conn *c, enum eio_revision revision)
{
    struct gateway *g = c->gw;
    struct engine *e = xcalloc(1, sizeof *e);
    e->gw = g;
    e->revision = revision;
    list_init(&e->channels);
    timer_init(&e->heartbeat, g->loop, on_heartbeat);
    timer_init(&e->patience, g->loop, on_patience);
    task_init(&e->work, on_work);
    list_append(&g->engines, &e->link);
    e->conn = c;
    conn_carry(c, e);
    metrics->engines++;
    return e;
}

enum err engine_open(struct gateway *g, const struct http_request *r, struct transport *t, struct engine **ret,
                     struct error *reterr)
{
    struct slice token;
    bool found;
    enum err err = check_request(g, r, &token, reterr);
    if (err != OK)
        return err;
    struct engine *e = engine_create(conn_create(g, t, NULL, r->ip), eio_revision(uri_query(r->query, "EIO", &found)));
    e->echo = echo_path(g->cfg, r->path);
    e->agent = copy(r->user_agent);
    e->origin = copy(r->origin);
    e->token = copy(token);
    e->user = copy(uri_query(r->query, "user", &found));
    if (g->cfg->wechat_login) {
        e->referer = copy(r->referer);
        e->code = copy(uri_query(r->query, "code", &found));
        e->appid = copy(uri_query(r->query, "appid", &found));
    }
    random_id(e->sid, SID_LEN);
    if (g->cfg->auth != AUTH_OPEN && !e->echo && e->conn->parser.max_message > STRANGERS_MESSAGE)
        e->conn->parser.max_message = STRANGERS_MESSAGE;
    loop_idle(g->loop, &e->work, 0); /* the response to the handshake goes first */
    *ret = e;
    return OK;
}

/* Of a connection by long-polling, perhaps of another node. If it has been upgraded already, or is about to be, there is nothing to take over. */
static enum err upgrade(struct gateway *g, struct slice sid, const struct http_request *r, struct transport *t,
                        struct conn **ret, struct error *reterr)
{
    bool found;
    enum eio_revision revision = eio_revision(uri_query(r->query, "EIO", &found));
    struct engine *e = engine_find(g, sid);
    if (e != NULL && e->revision != revision)
        return fail(reterr, ERR_BAD_REQUEST, "the session of this sid speaks the other revision: EIO");
    struct conn *c = conn_create(g, t, NULL, r->ip);
    struct move *m = e == NULL ? move_create(c, sid, revision) : NULL;
    if (e == NULL && m == NULL) {
        conn_gone(c, "refused");
        return fail(reterr, ERR_BAD_REQUEST, "there is no session of this sid to be upgraded");
    }
    bool free_to_go = e != NULL && e->polling != NULL && e->probe == NULL && e->leaving == NULL;
    probe_begin(c, free_to_go ? e : NULL, m);
    *ret = c;
    return OK;
}

enum err engine_upgrade(struct gateway *g, const struct http_request *r, struct transport *t, struct conn **ret,
                        struct error *reterr)
{
    bool found;
    struct engine *e;
    if (!slice_eq(uri_query(r->query, "transport", &found), SLICE("websocket")))
        return fail(reterr, ERR_BAD_REQUEST, "the query of this WebSocket must say transport=websocket");
    if (g->cfg->socketio_transports == SIO_TRANSPORTS_POLLING)
        return fail(reterr, ERR_BAD_REQUEST, "WebSockets are not offered here: --socketio-transports");
    struct slice sid = uri_query(r->query, "sid", &found);
    if (sid.n != 0)
        return upgrade(g, sid, r, t, ret, reterr);
    if (!engine_speaks(g, r))
        return fail(reterr, ERR_BAD_REQUEST, "Engine.IO 3 is not spoken here: --socketio-eio3");
    enum err err = engine_open(g, r, t, &e, reterr);
    if (err != OK)
        return err;
    /* Clients that were written by hand begin to listen when they hear that the WebSocket is open: what arrives together with the response they miss. */
    task_cancel(&e->work);
    timer_start(&e->patience, OPENING_MS);
    *ret = e->conn;
    return OK;
}

/* --- long-polling, and from there to a WebSocket --- */

/* Behind a dot stands the node that has opened it (polling.h), which need not have it any more. */
struct engine *engine_find(const struct gateway *g, struct slice sid)
{
    struct engine *e;
    if (sid.n > SID_LEN) {
        if (sid.p[SID_LEN] != '.')
            return NULL;
        sid.n = SID_LEN;
    }
    HASH_FIND(hh, g->engines_by_sid, sid.p, sid.n, e);
    return e;
}

void engine_list(struct engine *e)
{
    e->listed = true;
    HASH_ADD_KEYPTR(hh, e->gw->engines_by_sid, e->sid, SID_LEN, e);
}

void engine_unlist(struct engine *e)
{
    if (!e->listed)
        return;
    e->listed = false;
    HASH_DELETE(hh, e->gw->engines_by_sid, e);
}

void engine_unprobed(struct engine *e)
{
    e->probe = NULL;
    if (e->polling != NULL)
        polling_hurry(e->polling, false);
}

void engine_move(struct engine *e, struct conn *c)
{
    struct conn *old = e->conn;
    old->engine = NULL;
    conn_carry(c, e);
    e->conn = c;
    conn_inherit(c, old);
    polling_release(&e->polling, old);
    namespaces_moved(e);
    metrics->engine_upgrades++;
    conn_writable(c);
}
