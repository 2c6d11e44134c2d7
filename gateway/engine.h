/* gateway/engine.h: one Engine.IO connection: a WebSocket, or what stands for one (polling.h), that carries the namespaces of a Socket.IO client.
 *
 * Each namespace that is connected is a session like any other, with a struct conn of its own whose transport is the channel: rooms, queues and commands know no
 * difference. What channels write goes to the WebSocket as it is, whole messages at a time; what does not fit waits in the queue of the channel's own conn. */
#ifndef XD_ENGINE_H
#define XD_ENGINE_H

#include "base/list.h"
#include "base/loop.h"
#include "base/table.h"
#include "broker/broker.h"
#include "gateway/bucket.h"
#include "gateway/protocol/socketio.h"
#include "gateway/transport.h"

struct conn;
struct gateway;
struct grant;
struct leaving;
struct move;
struct polling;
struct probe;
struct resume;
struct session;

/* Clients of one revision in one namespace: they share encoded bytes. Lives as long as it has channels. */
struct namespace
{
    UT_hash_handle hh;
    struct sio_protocol *protocol;
    uint32_t refs;
    uint32_t key_n;
    char key[SIO_NAMESPACE_MAX + 1]; /* revision, name */
};

#define CHANNELS_MAX 16u /* namespaces of one connection */

/* All sessions of a namespace are in the room of this name and the namespace's. */
#define NAMESPACE_ROOM "$namespace:"

/* One namespace on one connection. */
struct channel {
    struct transport transport; /* of conn */
    struct link link;           /* engine->channels */
    struct engine *engine;
    struct namespace *namespace;
    struct conn *conn; /* ends in conn_gone(), from the loop */
    char sid[SID_LEN + 1];
    struct resume *wish; /* on its way to the session */
    bool keeps;          /* its session may be resumed when the connection breaks */
    bool paused;
    bool left;      /* its client has disconnected it */
    bool returning; /* its session is on its way back: its client has been welcomed long ago */
    bool ended;     /* to be reaped */
};

struct engine {
    struct link link; /* gateway->engines */
    struct gateway *gw;
    struct conn *conn;       /* the WebSocket, or what is written to by long-polling; owns it */
    UT_hash_handle hh;       /* gateway->engines_by_sid */
    struct polling *polling; /* NULL: it is a WebSocket */
    struct probe *probe;     /* a WebSocket that may take it over; NULL: none */
    struct leaving *leaving; /* owned: one of another node; NULL: none */
    struct move *move;       /* owned: it comes from another node, to this WebSocket; NULL: it does not */
    enum eio_revision revision;
    char sid[SID_LEN + 1];
    struct timer heartbeat, patience; /* patience: for the first CONNECT */
    struct task work; /* what must not be done from inside a call: opening, reaping, taking what was held */
    struct link channels;
    uint32_t channel_count, paused;
    struct channel *writing; /* has written a part of a message: nobody else may write */
    struct sio_assembly assembly;
    struct buf held; /* messages that came while a namespace was being connected */
    struct bucket rate;
    uint64_t pinged_ms;
    bool opened, pinging, sid_used, listed;
    bool echo;      /* for diagnosis: no namespaces, its messages are sent back */
    bool unsettled; /* its client has connected or left a namespace, which no answer has told it yet */
    uint32_t
        returning; /* sessions that are on their way back from another node, and 1 before: it is told nothing until then, and what it brings is held */
    char *agent, *origin, *token, *user; /* of the request; NULL: none */
    char *referer, *code, *appid;        /* the same */
    struct entrance *entrance; /* a namespace waits for WeChat, or the backend, to say who its client is; NULL: none */
};

/* Is this one of the configured paths, the echo's included? */
bool engine_path(const struct gateway *g, struct slice path);
/* A WebSocket handshake for one of them, from an allowed origin. Like gateway_upgrade(). */
enum err engine_upgrade(struct gateway *g, const struct http_request *r, struct transport *t, struct conn **ret,
                        struct error *reterr);
/* Any other request for one of them (polling_http.c). */
void engine_http(struct gateway *g, const struct http_request *r, struct http_exchange *x);
/* This node is going away: so are connections without a session. Those with sessions go when it is the session's turn. */
void engines_drain(struct gateway *g);

/* --- for polling.c and probe.c --- */

/* Is the revision that it asks for one that may be spoken? */
bool engine_speaks(const struct gateway *g, const struct http_request *r);
/* A new connection, whose conn is what t carries. */
enum err engine_open(struct gateway *g, const struct http_request *r, struct transport *t, struct engine **ret,
                     struct error *reterr);
/* The beginning of that: for whoever knows already what its client has been told. c owns it. */
struct engine *engine_create(struct conn *c, enum eio_revision revision);
/* Its client has been here, at another node: heartbeats begin. */
void engine_go_on(struct engine *e);
/* Its sessions are parked when it ends, whatever for. */
void engine_keep(struct engine *e);
/* One of its sessions is back. */
void engine_returned(struct engine *e);
/* By sid: while there may be requests for it. */
struct engine *engine_find(const struct gateway *g, struct slice sid);
void engine_list(struct engine *e);
void engine_unlist(struct engine *e); /* harmless when it is not */
/* A message as e->held has them, to be read when its sessions are there. */
void engine_hold_append(struct buf *ret, struct slice payload, bool binary);
/* May its client send another packet, that no session is charged with? ERR_RATE_LIMITED. */
enum err engine_charge(struct engine *e, struct error *reterr);
/* Its client has broken a rule: closes it. */
void engine_refuse(struct engine *e, const struct error *error);
/* c, a WebSocket, carries it from now on; nothing that waits is lost. */
void engine_move(struct engine *e, struct conn *c);
/* No WebSocket wants to take it over any more. */
void engine_unprobed(struct engine *e);

/* --- for conn.c --- */

/* One complete message. */
void engine_message(struct engine *e, struct slice payload, bool binary);
/* Writing has been begun by a channel: the WebSocket's own messages wait. */
static inline bool engine_busy(const struct engine *e)
{
    return e->writing != NULL;
}
/* Lets the channel that has begun finish its message; false when it could not. */
bool engine_finish(struct engine *e);
/* The WebSocket takes more: the channels go on. */
void engine_writable(struct engine *e);
/* The WebSocket is gone, and all its channels are. NULL-safe. */
void engine_end(struct engine **ep, const char *why);

/* What a channel's client is told last, if anything: DISCONNECT. */
void channel_farewell(const struct channel *ch, int code, struct buf *ret);
/* After that. A reason for which the client should come back closes the whole connection: a client that is told DISCONNECT stays away. */
void channel_closing(const struct channel *ch, int code, struct slice reason);
/* Its session is ready for what the client has said meanwhile. */
void channel_go_on(const struct channel *ch);
/* Something waits to be written to its connection, before what is sent now. */
bool channel_waits(const struct channel *ch);
/* Closes the connection that carries it, in order. */
void channel_close_connection(const struct channel *ch);
/* The name of the room that all sessions of the namespace are in. */
void channel_room_append(const struct channel *ch, struct buf *ret);

/* Where a Socket.IO client has that session; empty: it is no such client's, or its connection is gone. */
struct slice namespace_of(const struct session *s);

/* --- namespaces.c and entrance.c, for engine.c and each other --- */

/* A session's channel, still without a session. */
struct channel *channel_create(struct engine *e, struct slice nsp);
/* Opens its session there. grant: NULL with --auth open; wished: may be NULL. Takes both. */
struct channel *channel_begin(struct engine *e, struct slice nsp, struct slice user, struct grant *grant,
                              struct resume *wished);
/* Its session is there again. */
void channel_returned(struct channel *ch);
/* Another node has its session: goes on with the whole connection, if it can. */
void channel_taken(const struct channel *ch);
/* May its session be taken up again when this node dies? */
bool channel_outlives(const struct channel *ch);
/* Do sessions there outlive their connection? */
bool namespace_recovers(const struct gateway *g, enum eio_revision revision);
/* Connects a namespace, or tells the client why not. auth: the payload of the CONNECT, or empty; query: clients 2.x. */
void namespace_connect(struct engine *e, struct slice nsp, struct slice auth, struct slice query);
/* A complete packet of the client. False: it must end the connection, *reterr says why. */
bool namespace_packet(struct engine *e, const struct sio_packet *p, struct error *reterr);
/* Reaps channels that have ended. */
void namespaces_reap(struct engine *e);
/* The connection is gone: nobody waits for WeChat. */
void entrance_end(struct engine *e);
/* It is a WebSocket now: what the store knows of their sessions changes with that. */
void namespaces_moved(const struct engine *e);
/* Is one being connected, or what the backend wants done with it? */
bool namespaces_opening(const struct engine *e);
/* Ends a channel now: from the loop only. */
void channel_destroy(struct channel *ch, const char *why);

#endif
