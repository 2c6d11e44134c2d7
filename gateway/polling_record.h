/* gateway/polling_record.h: a connection by long-polling as the store keeps it, so that any node can go on with it: what it is, its sessions, and how far its client has been told
 * of each of their rooms. JSON. */
#ifndef XD_POLLING_RECORD_H
#define XD_POLLING_RECORD_H

#include "base/arena.h"
#include "gateway/auth/auth.h"
#include "gateway/engine.h"
#include "gateway/protocol/protocol.h"

#define RECORD_MAX (1u << 20) /* bytes of one that is written or read */

struct record_session {
    struct slice nsp, sid, token, user;
    struct position alone; /* the last message that was for it alone */
    bool granted;
    struct auth_claims claims; /* granted; owned, and may be taken */
    struct command_position *positions;
    size_t position_count;
};

/* Slices are borrowed from the text, or point into the arena. */
struct record {
    bool settled; /* else its namespaces have changed since: nobody can tell how */
    enum eio_revision revision;
    bool base64, echo;
    struct slice ip, agent, origin, token, user, referer, code, appid;
    struct record_session sessions[CHANNELS_MAX];
    size_t session_count;
    struct arena arena;
};

/* All that is queued for e's client must be in the answer for which this is written. */
void record_append(const struct engine *e, bool base64, struct buf *ret);
/* Of a connection that goes to another node now: this namespace alone, and how far its client has been told of rooms that are in no log, too. */
void record_append_one(const struct channel *ch, struct buf *ret);
/* Makes a record that record_append() has written one that is not settled. */
void record_unsettle(struct slice record, struct buf *ret);

/* ERR_BAD_REQUEST with *reterr: nothing of *ret has to be freed. */
enum err record_read(struct slice text, struct record *ret, struct error *reterr);
void record_fini(struct record *r);
/* The session of that namespace, or NULL. */
struct record_session *record_find(struct record *r, struct slice nsp);

#endif
