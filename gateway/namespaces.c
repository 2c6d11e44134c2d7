/* gateway/namespaces.c: the Socket.IO namespaces of a connection: each one a session on a channel, and what its client's packets mean. */
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "gateway/acks.h"
#include "gateway/conn.h"
#include "gateway/engine.h"
#include "gateway/gateway.h"
#include "gateway/leaving.h"
#include "gateway/metrics.h"
#include "gateway/polling.h"
#include "gateway/session.h"
#include "gateway/socketio_rules.h"

#define ARENA 16384u /* for an event, besides several times its size */

/* --- namespaces of this node --- */

static struct namespace *namespace_get(struct gateway *g, enum eio_revision revision, struct slice nsp)
{
    struct namespace *n;
    char key[SIO_NAMESPACE_MAX + 1];
    key[0] = (char)revision;
    memcpy(key + 1, nsp.p, nsp.n);
    HASH_FIND(hh, g->namespaces, key, nsp.n + 1, n);
    if (n == NULL) {
        n = xcalloc(1, sizeof *n);
        n->protocol = sio_protocol_create(revision, nsp, namespace_recovers(g, revision));
        n->key_n = (uint32_t)nsp.n + 1;
        memcpy(n->key, key, n->key_n);
        HASH_ADD_KEYPTR(hh, g->namespaces, n->key, n->key_n, n);
    }
    n->refs++;
    return n;
}

static void namespace_unref(struct gateway *g, struct namespace *n)
{
    if (--n->refs != 0)
        return;
    HASH_DELETE(hh, g->namespaces, n);
    free(n->protocol);
    free(n);
}

/* --- channels --- */

static struct slice channel_nsp(const struct channel *ch)
{
    return ch->namespace->protocol->nsp;
}

static struct channel *find(const struct engine *e, struct slice nsp)
{
    list_for_each (it, &e->channels) {
        struct channel *ch = list_entry(it, struct channel, link);
        if (!ch->ended && slice_eq(channel_nsp(ch), nsp))
            return ch;
    }
    return NULL;
}

static ssize_t channel_write(struct transport *t, const char *p, size_t n)
{
    struct channel *ch = container_of(t, struct channel, transport);
    struct engine *e = ch->engine;
    struct conn *c = e->conn;
    if (c->transport == NULL)
        return -1;
    if (e->writing != ch) {
        if (c->state != CONN_OPEN)
            return -1;
        if (e->writing != NULL || c->out.count != 0)
            return 0; /* conn_writable() follows when it is this channel's turn */
    }
    ssize_t done = c->transport->ops->write(c->transport, p, n);
    e->writing = done >= 0 && (size_t)done < n ? ch : NULL;
    return done;
}

static void channel_close(struct transport *t)
{
    struct channel *ch = container_of(t, struct channel, transport);
    ch->ended = true;
    loop_idle(ch->engine->gw->loop, &ch->engine->work, 0);
}

static void channel_pause(struct transport *t, bool paused)
{
    struct channel *ch = container_of(t, struct channel, transport);
    struct engine *e = ch->engine;
    if (ch->paused == paused)
        return;
    ch->paused = paused;
    e->paused += paused ? 1u : -1u;
    if (e->conn->state == CONN_OPEN)
        conn_pause(e->conn, e->paused != 0);
    if (!paused)
        channel_go_on(ch);
}

static const struct transport_ops channel_ops = {channel_write, channel_close, channel_pause};

struct channel *channel_create(struct engine *e, struct slice nsp)
{
    struct channel *ch = xcalloc(1, sizeof *ch);
    ch->transport.ops = &channel_ops;
    ch->engine = e;
    ch->namespace = namespace_get(e->gw, e->revision, nsp);
    ch->keeps = ch->namespace->protocol->recovers;
    /* A client 2.x takes the connection's id for its own. */
    if (e->revision == EIO_3 && slice_eq(nsp, SLICE("/")) && !e->sid_used) {
        e->sid_used = true;
        memcpy(ch->sid, e->sid, sizeof ch->sid);
    } else {
        random_id(ch->sid, SID_LEN);
    }
    ch->conn = conn_create(e->gw, &ch->transport, &ch->namespace->protocol->ops, slice_str(e->conn->ip));
    conn_be_channel(ch->conn, ch);
    list_append(&e->channels, &ch->link);
    e->channel_count++;
    return ch;
}

void channel_destroy(struct channel *ch, const char *why)
{
    struct engine *e = ch->engine;
    if (e->writing == ch)
        e->writing = NULL; /* only when the WebSocket itself is gone: it ends after it has drained otherwise */
    channel_pause(&ch->transport, false);
    conn_gone(ch->conn, why);
    namespace_unref(e->gw, ch->namespace);
    list_del(&ch->link);
    e->channel_count--;
    free(ch);
}

void namespaces_reap(struct engine *e)
{
    list_for_each_safe (it, &e->channels) {
        struct channel *ch = list_entry(it, struct channel, link);
        if (!ch->ended)
            continue;
        if (e->writing != ch)
            channel_destroy(ch, ch->left ? "left" : "closed");
        else /* it lingered, and its client did not read the rest of a message, without which there can be no other */
            conn_close(e->conn, err_close_code(ERR_SLOW_CONSUMER), slice_str(err_name(ERR_SLOW_CONSUMER)));
    }
}

void namespaces_moved(const struct engine *e)
{
    list_for_each (it, &e->channels) {
        const struct channel *ch = list_entry(it, struct channel, link);
        struct session *s = ch->conn->session;
        if (!channel_outlives(ch) && s != NULL && s->state == SESSION_ACTIVE && !ch->ended)
            session_put(s);
    }
}

bool namespaces_opening(const struct engine *e)
{
    if (e->entrance != NULL || e->returning != 0)
        return true;
    list_for_each (it, &e->channels) {
        const struct conn *c = list_entry(it, struct channel, link)->conn;
        if (c->state == CONN_OPENING || (c->session != NULL && c->session->acting))
            return true;
    }
    return false;
}

void channel_go_on(const struct channel *ch)
{
    loop_idle(ch->engine->gw->loop, &ch->engine->work, 0);
}

/* Shall the client come back? */
static bool passing(int code)
{
    return code == err_close_code(ERR_UNAVAILABLE) || code == err_close_code(ERR_DRAINING) ||
           code == err_close_code(ERR_SLOW_CONSUMER);
}

void channel_farewell(const struct channel *ch, int code, struct buf *ret)
{
    if (!ch->left && !passing(code) && ch->conn->state == CONN_OPEN)
        sio_disconnect_append(ret, channel_nsp(ch));
}

void channel_closing(const struct channel *ch, int code, struct slice reason)
{
    if (passing(code) || ch->returning)
        conn_close(ch->engine->conn, code, reason);
}

void channel_returned(struct channel *ch)
{
    if (!ch->returning)
        return;
    ch->returning = false;
    engine_returned(ch->engine);
}

void channel_taken(const struct channel *ch)
{
    if (ch->engine->polling != NULL && !leaving_goes(ch->engine->leaving))
        polling_taken(ch->engine->polling);
}

bool channel_outlives(const struct channel *ch)
{
    return ch->keeps || ch->engine->polling != NULL;
}

bool channel_waits(const struct channel *ch)
{
    return ch->engine->writing != NULL || ch->engine->conn->out.count != 0;
}

void channel_close_connection(const struct channel *ch)
{
    conn_close(ch->engine->conn, 1000, SLICE_NONE);
}

void channel_room_append(const struct channel *ch, struct buf *ret)
{
    buf_append(ret, SLICE(NAMESPACE_ROOM));
    buf_append(ret, channel_nsp(ch));
}

struct slice namespace_of(const struct session *s)
{
    const struct sio_protocol *p = s->conn != NULL ? sio_protocol_of(s->conn->protocol) : NULL;
    return p != NULL ? p->nsp : SLICE_NONE;
}

/* --- EVENT --- */

struct emission {
    const struct channel *channel;
    const struct sio_packet *packet;
    struct arena arena;
    const struct sio_rule *rule; /* what it means; NULL while that is not known */
    struct command command;
};

/* A room of a namespace other than "/" has the name of the namespace and a comma in front. */
static enum err qualify(struct emission *m, struct error *reterr)
{
    struct slice nsp = channel_nsp(m->channel), room = m->command.room;
    if (room.n == 0 || slice_eq(nsp, SLICE("/")))
        return OK;
    size_t n = nsp.n + 1 + room.n;
    char *name = n <= NAME_MAX_ROOM ? arena_alloc(&m->arena, n) : NULL;
    if (name == NULL)
        return fail(reterr, ERR_INVALID_NAME, "\"room\" has %zu bytes with its namespace, at most %d allowed", n,
                    NAME_MAX_ROOM);
    memcpy(name, nsp.p, nsp.n);
    name[nsp.n] = ',';
    memcpy(name + nsp.n + 1, room.p, room.n);
    m->command.room = (struct slice){name, n};
    return OK;
}

static enum err decode_verb(struct emission *m, struct slice event, struct error *reterr)
{
    enum command_kind kind = m->rule->verb;
    if (m->rule->action == SIO_DO_NAMED && !sio_verb_find(event, &kind))
        return fail(reterr, ERR_UNKNOWN_TYPE, "no room verb has the name of this event (%zu bytes), nor a rule",
                    event.n);
    enum err err = sio_decode_verb(m->packet, kind, &m->arena, &m->command, reterr);
    return err == OK ? qualify(m, reterr) : err;
}

/* Decodes an event as its rule says. */
static enum err decode(struct emission *m, struct error *reterr)
{
    struct slice event;
    m->command = (struct command){.kind = CMD_PUBLISH, .id = m->packet->id};
    enum err err = sio_event_name(m->packet, &m->arena, &event, reterr);
    if (err != OK)
        return err;
    m->rule = sio_rules_find(m->channel->engine->gw->sio_rules, channel_nsp(m->channel), event);
    switch (m->rule->action) {
    case SIO_DO_NAMED:
    case SIO_DO_VERB: return decode_verb(m, event, reterr);
    case SIO_DO_RELAY:
        err = sio_decode_message(m->packet, &m->arena, &m->command, reterr);
        m->command.echo = m->rule->echo;
        return err;
    case SIO_DO_BACKEND:
        err = sio_decode_message(m->packet, &m->arena, &m->command, reterr);
        m->command.kind = CMD_CALL;
        return err;
    case SIO_DO_REFUSE: break;
    }
    return fail(reterr, ERR_FORBIDDEN, "clients may not emit this event");
}

static size_t size_of(const struct sio_packet *p)
{
    size_t n = p->payload.n;
    for (uint32_t i = 0; i < p->attachment_count; i++)
        n += p->attachments[i].n;
    return n;
}

static void take_event(const struct channel *ch, const struct sio_packet *p)
{
    struct session *s = ch->conn->session;
    struct emission m = {.channel = ch, .packet = p};
    struct error error = {0};
    if (s == NULL || ch->conn->state != CONN_OPEN)
        return; /* on its way out */
    metrics->messages_in++;
    arena_init(&m.arena, ARENA + 4 * size_of(p));
    enum err err = decode(&m, &error);
    if (session_may_run(s, &m.command, err, &error)) {
        if (m.rule != NULL && m.rule->action == SIO_DO_RELAY)
            command_relay(s, &m.command, m.rule->to_namespace);
        else
            command_run(s, &m.command);
    }
    arena_reset(&m.arena);
}

/* --- packets --- */

/* Only clients 2.x have a query there; of others it is part of the name. */
static struct slice name_of(const struct engine *e, const struct sio_packet *p)
{
    if (e->revision == EIO_3 || p->query.p == NULL)
        return p->nsp;
    return (struct slice){p->nsp.p, p->nsp.n + 1 + p->query.n};
}

bool namespace_packet(struct engine *e, const struct sio_packet *p, struct error *reterr)
{
    struct slice nsp = name_of(e, p);
    struct channel *ch = find(e, nsp);
    bool event = p->type == SIO_EVENT || p->type == SIO_BINARY_EVENT;
    bool ack = p->type == SIO_ACK || p->type == SIO_BINARY_ACK;
    if (ack && ch != NULL && ch->conn->session != NULL && acks_take(ch->conn->session, p))
        return true; /* asked for: nothing that the client is to pay for */
    if (!event && engine_charge(e, reterr) != OK)
        return false;
    e->unsettled = e->unsettled || p->type == SIO_CONNECT || p->type == SIO_DISCONNECT;
    if (p->type == SIO_CONNECT) {
        if (ch == NULL)
            namespace_connect(e, nsp, p->payload, p->query);
        else if (e->revision == EIO_4) /* clients of revision 3 may say it of "/", where they are already */
            return fail(reterr, ERR_BAD_REQUEST, "this namespace is connected already") == OK;
        return true;
    }
    if (ch == NULL)
        return fail(reterr, ERR_BAD_REQUEST, "a packet of type %d for a namespace that is not connected",
                    (int)p->type) == OK;
    if (event) {
        take_event(ch, p);
    } else if (p->type == SIO_DISCONNECT) {
        ch->left = true;
        conn_close(ch->conn, 1000, SLICE_NONE);
    }
    return true; /* an ack that comes too late, or that nobody has asked for */
}
