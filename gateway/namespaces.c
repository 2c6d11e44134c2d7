/* gateway/namespaces.c: the Socket.IO namespaces of a connection: each one a session on a channel, and what its client's packets mean. */
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/text.h"
#include "base/utf8.h"
#include "gateway/acks.h"
#include "gateway/auth/auth.h"
#include "gateway/conn.h"
#include "gateway/door.h"
#include "gateway/engine.h"
#include "gateway/gateway.h"
#include "gateway/grant.h"
#include "gateway/metrics.h"
#include "gateway/policy.h"
#include "gateway/recover.h"
#include "gateway/session.h"
#include "gateway/socketio_rules.h"
#include "gateway/uri.h"
#include "gateway/wxlogin.h"

#define CHANNELS_MAX 16u    /* namespaces of one connection */
#define ARENA        16384u /* for an event, besides several times its size */

/* --- namespaces of this node --- */

/* Clients of revision 3 know no way to come back. */
static bool recovers(const struct gateway *g, enum eio_revision revision)
{
    return revision == EIO_4 && g->cfg->socketio_recovery && gateway_resume_window_s(g) != 0;
}

static struct namespace *namespace_get(struct gateway *g, enum eio_revision revision, struct slice nsp)
{
    struct namespace *n;
    char key[SIO_NAMESPACE_MAX + 1];
    key[0] = (char)revision;
    memcpy(key + 1, nsp.p, nsp.n);
    HASH_FIND(hh, g->namespaces, key, nsp.n + 1, n);
    if (n == NULL) {
        n = xcalloc(1, sizeof *n);
        n->protocol = sio_protocol_create(revision, nsp, recovers(g, revision));
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

/* "/" is there always. */
static bool namespace_exists(const struct config *cfg, struct slice nsp)
{
    if (slice_eq(nsp, SLICE("/")))
        return true;
    for (size_t i = 0; i < cfg->socketio_namespaces.count; i++)
        if (policy_match(cfg->socketio_namespaces.items[i], nsp))
            return utf8_name_valid(nsp, SIO_NAMESPACE_MAX);
    return false;
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
        loop_idle(e->gw->loop, &e->work, 0); /* to what is held */
}

static const struct transport_ops channel_ops = {channel_write, channel_close, channel_pause};

static struct channel *channel_create(struct engine *e, struct slice nsp)
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
        if (ch->ended && e->writing != ch)
            channel_destroy(ch, ch->left ? "left" : "closed");
    }
}

bool namespaces_opening(const struct engine *e)
{
    if (e->entrance != NULL)
        return true;
    list_for_each (it, &e->channels) {
        if (list_entry(it, struct channel, link)->conn->state == CONN_OPENING)
            return true;
    }
    return false;
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
    if (passing(code))
        conn_close(ch->engine->conn, code, reason);
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

/* --- CONNECT --- */

static void refuse(struct engine *e, struct slice nsp, const struct error *error)
{
    struct buf b = BUF_INIT;
    metrics->errors[error->code]++;
    sio_refusal_append(&b, e->revision, nsp,
                       &(struct event){.kind = EVENT_ERROR, .err = error->code, .text = slice_str(error->text)});
    conn_append(e->conn, buf_slice(&b));
    buf_fini(&b);
}

static void refuse_namespace(struct engine *e, struct slice nsp)
{
    struct buf b = BUF_INIT;
    metrics->errors[ERR_NOT_FOUND]++;
    sio_unknown_namespace_append(&b, e->revision, nsp);
    conn_append(e->conn, buf_slice(&b));
    buf_fini(&b);
}

/* Who the client says it is: in the payload, in the namespace's query, or when it connected. */
struct claim {
    struct arena arena;
    struct slice token, user, code, appid;
    struct slice pid, offset; /* of the session it comes back to */
};

static enum err read_payload(struct claim *c, struct slice auth, struct error *reterr)
{
    enum { OWN_NAMES = 4 }; /* the others may be an application's own */
    static const char *const names[] = {"token", "user", "code", "appid", "pid", "offset"};
    struct slice *const values[] = {&c->token, &c->user, &c->code, &c->appid, &c->pid, &c->offset};
    struct json_value v[ARRAY_LEN(names)];
    if (auth.n == 0)
        return OK;
    enum err err = json_members(auth, names, ARRAY_LEN(names), v, reterr);
    for (size_t i = 0; err == OK && i < ARRAY_LEN(names); i++) {
        if (v[i].kind == JSON_KIND_STRING)
            err = json_unquote(v[i], &c->arena, values[i], reterr);
        else if (i < OWN_NAMES && v[i].kind != JSON_KIND_NONE && v[i].kind != JSON_KIND_NULL)
            err = fail(reterr, ERR_BAD_REQUEST, "auth.%s must be a string", names[i]);
    }
    return err;
}

/* A text of a query; of the namespace's, or of the connection's. */
static enum err read_query(struct claim *c, struct slice query, const char *name, const char *first, struct slice *ret,
                           struct error *reterr)
{
    bool found;
    struct slice text = uri_query(query, name, &found);
    if (ret->n != 0)
        return OK;
    if (text.n == 0)
        text = slice_str(first);
    char *decoded = arena_alloc(&c->arena, text.n + 1);
    if (decoded == NULL || !text_percent_decode(text, decoded, text.n + 1, ret))
        return fail(reterr, ERR_INVALID_NAME, "the %s in the query is not percent-encoded", name);
    return OK;
}

static enum err read_claim(struct claim *c, const struct engine *e, struct slice auth, struct slice query,
                           struct error *reterr)
{
    bool found;
    enum err err = read_payload(c, auth, reterr);
    if (err != OK)
        return err;
    if (c->token.n == 0)
        c->token = uri_query(query, "token", &found);
    if (c->token.n == 0)
        c->token = slice_str(e->token);
    err = read_query(c, query, "user", e->user, &c->user, reterr);
    if (err == OK && e->gw->cfg->wechat_login)
        err = read_query(c, query, "code", e->code, &c->code, reterr);
    if (err == OK && e->gw->cfg->wechat_login)
        err = read_query(c, query, "appid", e->appid, &c->appid, reterr);
    return err;
}

static enum err let_in(struct engine *e, const struct claim *c, struct auth_claims *ret, struct error *reterr)
{
    if (e->gw->cfg->auth != AUTH_JWT) {
        if (c->user.n != 0 && !utf8_name_valid(c->user, NAME_MAX_USER))
            return fail(reterr, ERR_INVALID_NAME, "a user has 1 to %d bytes of UTF-8 without control characters",
                        NAME_MAX_USER);
        return OK;
    }
    if (c->token.n == 0)
        return door_refuse(AUTH_MISSING, slice_str(e->conn->ip), reterr);
    return door_check(e->gw, c->token, e->conn->ip, ret, reterr);
}

/* The session it says it comes back to, or NULL. */
static struct resume *wish(const struct engine *e, const struct claim *c)
{
    return recovers(e->gw, e->revision) ? recover_wish(e->gw, c->pid, c->offset) : NULL;
}

/* grant: NULL with --auth open. Takes both. */
static void begin(struct engine *e, struct slice nsp, struct slice user, struct grant *grant, struct resume *wished)
{
    const struct http_request r = {.user_agent = slice_str(e->agent), .origin = slice_str(e->origin)};
    struct channel *ch = channel_create(e, nsp);
    ch->wish = wished;
    e->conn->parser.max_message = e->gw->cfg->max_message_size;
    timer_stop(&e->patience);
    session_open(ch->conn, &r, user, grant);
}

/* --- by a login code --- */

struct entrance {
    struct engine *engine;
    struct wxlogin *wxlogin;
    struct resume *wish; /* owned */
    size_t n;
    char nsp[];
};

static void entrance_free(struct entrance *in)
{
    resume_free(in->wish);
    free(in);
}

void entrance_end(struct engine *e)
{
    struct entrance *in = TAKE(e->entrance);
    if (in == NULL)
        return;
    wxlogin_cancel(in->wxlogin);
    entrance_free(in);
}

static void on_login(void *arg, struct wxlogin_result *r)
{
    struct entrance *in = arg;
    struct engine *e = in->engine;
    struct slice nsp = {in->nsp, in->n};
    struct error error;
    e->entrance = NULL;
    if (e->conn->state != CONN_OPEN) {
        entrance_free(in);
        return;
    }
    if (e->gw->draining) {
        conn_close(e->conn, err_close_code(ERR_DRAINING), SLICE("draining"));
    } else if (r->err != OK) {
        (void)fail(&error, r->err, "%s", r->why);
        refuse(e, nsp, &error);
    } else {
        struct grant *grant = grant_create_fresh(r->claims, r->token);
        metrics->auth_accepted++;
        free(e->token);
        e->token = xstrndup(r->token.p, r->token.n); /* for other namespaces: a code is good once */
        begin(e, nsp, slice_str(grant->claims.user), grant, TAKE(in->wish));
    }
    entrance_free(in);
    loop_idle(e->gw->loop, &e->work, 0); /* to what is held */
}

static enum err ask_wechat(struct engine *e, struct slice nsp, const struct claim *c, struct error *reterr)
{
    const struct wxlogin_ask ask = {
        .code = c->code, .appid = c->appid, .referer = slice_str(e->referer), .ip = e->conn->ip};
    struct entrance *in = xcalloc(1, sizeof *in + nsp.n);
    in->engine = e;
    in->wish = wish(e, c);
    in->n = nsp.n;
    memcpy(in->nsp, nsp.p, nsp.n);
    enum err err = wxlogin_begin(e->gw, &ask, on_login, in, &in->wxlogin, reterr);
    if (err == OK)
        e->entrance = in;
    else
        entrance_free(in);
    return err;
}

/* --- connecting --- */

static enum err enter(struct engine *e, struct slice nsp, const struct claim *c, struct error *reterr)
{
    struct auth_claims claims = {0};
    if (e->gw->cfg->auth == AUTH_JWT && c->token.n == 0 && c->code.n != 0)
        return ask_wechat(e, nsp, c, reterr);
    enum err err = let_in(e, c, &claims, reterr);
    if (err != OK)
        return err;
    struct grant *grant = e->gw->cfg->auth == AUTH_JWT ? grant_create(&claims) : NULL;
    begin(e, nsp, grant != NULL ? slice_str(grant->claims.user) : c->user, grant, wish(e, c));
    return OK;
}

void namespace_connect(struct engine *e, struct slice nsp, struct slice auth, struct slice query)
{
    struct claim claim = {0};
    struct error error = {0};
    if (e->gw->draining) {
        conn_close(e->conn, err_close_code(ERR_DRAINING), SLICE("draining"));
        return;
    }
    if (!namespace_exists(e->gw->cfg, nsp)) {
        refuse_namespace(e, nsp);
        return;
    }
    arena_init(&claim.arena, ARENA + auth.n);
    enum err err = OK;
    if (e->channel_count >= CHANNELS_MAX)
        err = fail(&error, ERR_LIMIT_EXCEEDED, "%u namespaces on this connection already", e->channel_count);
    if (err == OK)
        err = read_claim(&claim, e, auth, query, &error);
    if (err == OK)
        err = enter(e, nsp, &claim, &error);
    if (err != OK)
        refuse(e, nsp, &error);
    arena_reset(&claim.arena);
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

/* What is not an event is not charged to any session. */
static bool charge(struct engine *e)
{
    const struct config *cfg = e->gw->cfg;
    return bucket_take(&e->rate, cfg->message_rate, cfg->message_burst, loop_now_us(e->gw->loop));
}

bool namespace_packet(struct engine *e, const struct sio_packet *p, struct error *reterr)
{
    struct channel *ch = find(e, p->nsp);
    bool event = p->type == SIO_EVENT || p->type == SIO_BINARY_EVENT;
    bool ack = p->type == SIO_ACK || p->type == SIO_BINARY_ACK;
    if (ack && ch != NULL && ch->conn->session != NULL && acks_take(ch->conn->session, p))
        return true; /* asked for: nothing that the client is to pay for */
    if (!event && !charge(e))
        return fail(reterr, ERR_RATE_LIMITED, "more than %u packets per second", e->gw->cfg->message_rate) == OK;
    if (p->type == SIO_CONNECT) {
        if (ch == NULL)
            namespace_connect(e, p->nsp, p->payload, p->query);
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
