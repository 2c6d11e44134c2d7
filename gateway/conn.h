/* gateway/conn.h: one WebSocket connection: its frames in, its queue out, its heartbeat, its end.
 *
 * Closing has two phases: conn_close() may be called from any depth, twice; it only marks and queues the close frame. The transport reports
 * conn_gone() later, from the loop, when no caller stands on the stack or walks a list; that ends the session. */
#ifndef XD_CONN_H
#define XD_CONN_H

#include "base/wheel.h"
#include "gateway/outq.h"
#include "gateway/policy.h"
#include "gateway/protocol/protocol.h"
#include "gateway/protocol/websocket.h"
#include "gateway/transport.h"

struct arrival;
struct channel;
struct engine;
struct greeting;
struct probe;
struct session;

/* OPENING: the client has not been welcomed; what rooms send it is held back, what it sends waits. */
enum conn_state { CONN_OPENING, CONN_OPEN, CONN_CLOSING, CONN_CLOSED };

#define CONN_IP_MAX 46

struct conn {
    /* what every delivery touches, together */
    struct transport *transport; /* gateway/net's; NULL after conn_gone */
    struct outq out;
    enum conn_state state;

    struct gateway *gw;
    const struct protocol_ops *protocol; /* NULL with an engine */
    struct session *session;             /* owned by the gateway; outlives the conn. NULL while there is a greeting */
    struct greeting *greeting;           /* owned; NULL: it has said who it is */
    struct arrival *arrival;             /* the store is asked about a tunnel's URL; NULL: it is not */
    struct ws_parser parser;
    struct buf early; /* input that came before the welcome */
    struct wheel_entry timer;
    uint64_t last_input_ms;
    bool paused, pinged;
    bool keep; /* the session may be resumed after this connection; see conn_keep() */
    char ip[CONN_IP_MAX];
    struct engine *
        engine; /* owned: it carries the namespaces of a Socket.IO client, and has no session itself; NULL: it does not */
    struct probe *probe;     /* owned: it may take over an engine; NULL: it does not want to */
    struct channel *channel; /* it is one of those: its transport is the channel; NULL: it is a WebSocket */
};

struct conn *conn_create(struct gateway *g, struct transport *t, const struct protocol_ops *protocol, struct slice ip);

/* Sends, or queues and takes a reference. Over the queue limit the slow-consumer rule is applied (slow: the room's, or the default). False: the rule is RESUME,
 * and the caller is to send no more of this room before the client has read on; over twice the limit it is closed all the same. */
bool conn_send(struct conn *c, struct msg *m, enum policy_slow slow);

/* The same for bytes that nobody else is sent: copied only if they cannot be written now. */
bool conn_send_own(struct conn *c, struct slice bytes, enum policy_slow slow);

/* Asks for the memory that conn_send will touch, one step further each: the connection, its transport, what the transport needs to write. */
static inline void conn_prefetch(const struct conn *c)
{
    __builtin_prefetch(c);
}

static inline void conn_prefetch_transport(const struct conn *c)
{
    if (c != NULL)
        __builtin_prefetch(c->transport);
}

static inline void conn_prefetch_write(const struct conn *c)
{
    if (c != NULL && c->transport != NULL)
        __builtin_prefetch(c->transport->writes_with);
}

/* Sends the welcome in front of what was held back, then that, then takes the input that waited. A channel that comes back from another node has been welcomed long ago. */
void conn_welcome(struct conn *c, const struct event *e);

/* Encodes and sends one event to this client alone; NULL and closing connections are ignored. */
void conn_event(struct conn *c, const struct event *e);

/* Sends complete frames, or one frame, to this client alone; not while it is closing. */
void conn_append(struct conn *c, struct slice frames);
void conn_frame(struct conn *c, enum ws_opcode opcode, struct slice payload);
/* Forgets what waits to be sent, nothing of which has been: before the welcome. */
void conn_unsay(struct conn *c);

/* Right after conn_create(): its messages are e's, its heartbeat too. */
void conn_carry(struct conn *c, struct engine *e);
/* Right after conn_create(): it is to take over an engine. */
void conn_probe(struct conn *c, struct probe *p);
/* It does: has to say what waits in `from`, and goes on as that was. */
void conn_inherit(struct conn *c, struct conn *from);
/* Right after conn_create(): what becomes of it is ch's. */
void conn_be_channel(struct conn *c, struct channel *ch);

/* Its greeting is over: waits for the welcome of the session it is about to get. */
void conn_greeted(struct conn *c);
/* What conn_input() does with what may be parsed now. */
void conn_parse(struct conn *c, char *p, size_t n);

/* Queues a close frame and closes when it is sent, or after a few seconds. reason: a word from docs/protocol.md. */
void conn_close(struct conn *c, int code, struct slice reason);

/* Its session may be resumed after all, although it was closed for another reason than those for which clients come back. */
void conn_keep(struct conn *c);

/* May somebody go on with its session when this node dies? Most Socket.IO clients know no way to come back. */
bool conn_outlives(const struct conn *c);

/* goodbye, then close. */
void conn_goodbye(struct conn *c, int code, struct slice reason, uint64_t reconnect_after_ms);

/* Backpressure: no more input until resumed. */
void conn_pause(struct conn *c, bool paused);

#endif
