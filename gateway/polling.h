/* gateway/polling.h: an Engine.IO connection without a WebSocket: the client asks for packets with GET, one at a time, and brings its own with POST.
 *
 * To everything above it is a transport like any other: it takes the frames of a WebSocket while a GET waits, and answers that with them at the end of the
 * loop's turn; between two GETs it takes nothing, and what is said waits in the queues of the connection, with their limits. */
#ifndef XD_POLLING_H
#define XD_POLLING_H

#include "gateway/protocol/engineio.h"
#include "gateway/transport.h"

struct conn;
struct engine;
struct gateway;
struct polling;

struct poll_answer {
    int status;              /* 200; 400; 413 */
    enum eio_refusal reason; /* 400 */
    bool bytes;              /* 200: octet-stream */
    struct slice body;       /* 200: borrowed */
};

/* A request that waits: embedded in whoever brought it. */
struct poll {
    /* Exactly once, from any depth; or polling_vanished() before. Calls nothing of the core. */
    void (*answer)(struct poll *p, const struct poll_answer *a);
    /* Of those that are forwarded: this one of our own is about to answer instead. */
    void (*found)(struct poll *p, struct polling *po);
    uint8_t revision;  /* of Engine.IO, that it says; 0: it was not passed on */
    struct slice node; /* that has brought it; empty: this one */
};

/* Begins a session, of which `first` gets the open packet. base64: its client wants no octet-stream. Not OK: nothing has begun, and first is not touched. */
enum err polling_open(struct gateway *g, const struct http_request *r, struct poll *first, bool base64,
                      struct polling **ret, struct error *reterr);
/* What its client has called the request that opened it (see polling_get). */
void polling_named(struct polling *po, struct slice name);
/* What the client calls it: of revision 4 with the name of this node behind a dot, so that others find it; one of revision 3 is a session of that name, which the store knows. */
void polling_name_append(const struct polling *po, struct buf *ret);
/* Takes that apart: the sid, and the node that has opened it; empty: it does not say. False: nothing is called so. */
bool polling_name_read(struct slice name, struct slice *ret_sid, struct slice *ret_node);
/* NULL: there is none of that name on this node, or it has gone over to a WebSocket. */
struct polling *polling_find(const struct gateway *g, struct slice sid);

/* The client asks for packets. base64: this answer must be text, whatever has been agreed on. name: by which the same request is known when another node is asked, be it by the one it
 * came to or by a load balancer that tries another server: what the client has written into it (`t`), or else the name that the node it came to has given it; empty: it has none. */
void polling_get(struct polling *po, struct poll *poll, bool base64, struct slice name);
/* It brings some. */
void polling_post(struct polling *po, struct poll *poll, bool bytes, struct slice body);
/* Whoever waits for this answer is gone: it must not be given any more. That ends the session, as with the official server. */
void polling_vanished(struct polling *po, const struct poll *poll);
/* The node that waits for this answer is about to go: it is given as soon as it can be, with nothing if there is nothing. */
void polling_answer_now(struct polling *po, const struct poll *poll);
/* A request of another node: has it come before? (repeats.h) */
bool polling_repeated(struct polling *po, bool post, struct slice node, uint64_t number);

/* --- for engine.c and probe.c --- */

/* The connection has been closed for a reason that its client need not be told, or cannot: the session is over now, not when the client asks next. */
void polling_drop(struct polling *po, const char *why);
/* The client has said itself that it goes. */
void polling_left(struct polling *po);
/* Another node has it: who waits here is told nothing, and neither is the store. Its sessions are parked, unless they are taken as well. */
void polling_taken(struct polling *po);
/* What waits may be said now. */
void polling_wake(struct polling *po);
/* A WebSocket is ready to take over: GETs are answered at once, so that the client can stop asking. Or it is not any more. */
void polling_hurry(struct polling *po, bool hurry);
/* Nobody waits for an answer. */
bool polling_is_still(const struct polling *po);
/* It has: answers who still waits and frees it, together with `old`, the connection that was its. */
void polling_release(struct polling **pointer, struct conn *old);
/* Without a loop any more: ends all. */
void pollings_abandon(struct gateway *g);

#endif
