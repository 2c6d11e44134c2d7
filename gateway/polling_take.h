/* gateway/polling_take.h: a connection by long-polling goes on here, from what the node that had it has written down (polling_save.h).
 *
 * Its client is told nothing of that: its sessions are taken up again under their names, its rooms from where it was told of them. What cannot be taken up again closes the whole
 * connection, so that the client connects anew. */
#ifndef XD_POLLING_TAKE_H
#define XD_POLLING_TAKE_H

#include "broker/broker.h"

struct conn;
struct gateway;
struct move;
struct polling;
struct polling_back;
struct record;

/* Builds the connection of a record that is this node's by now (polling_take()). It is listed under its sid, but its sessions are not asked for yet: the first GET says from where on
 * (polling_go_on()), and what its client brings until then is held. The sid must not be known here. ERR_NOT_FOUND: it cannot go on anywhere; ERR_LIMIT_EXCEEDED; ERR_DRAINING;
 * ERR_BAD_REQUEST: the record is none. */
enum err polling_revive(struct gateway *g, struct slice sid, const struct polling_record *stored, struct polling **ret,
                        struct error *reterr);

/* Takes up its sessions, once. again: the request of this name waits, and may be the one whose answer was lost; empty: whoever asks has received every answer. */
void polling_go_on(struct polling *po, struct slice again);

/* The same on a WebSocket, for a connection that the other node gives of its own will (move.h): c carries it, and asks for its sessions at once; engine_returned() is still to be said. move:
 * what they wait for; taken. May it be done? Some of them may be over. */
bool polling_may_carry_on(const struct gateway *g, const struct record *r);
void polling_carry_on(struct conn *c, struct slice sid, struct record *r, struct move *move);

/* --- for polling.c --- */

void polling_back_free(struct polling_back *back);

#endif
