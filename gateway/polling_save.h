/* gateway/polling_save.h: what the store is told of a connection by long-polling before its client is answered.
 *
 * Whoever asks again has received every answer before. So a record that was written before the answer is right for whoever serves the next request; only a request that waits at
 * another node may have been answered without being told: for it the record before that is kept, too. While the store is away clients are answered all the same. */
#ifndef XD_POLLING_SAVE_H
#define XD_POLLING_SAVE_H

#include "base/buf.h"

struct engine;
struct polling;
struct polling_put;

/* Zero-initialised: nothing is written yet. */
struct polling_save {
    struct polling_put *put; /* under way; NULL: none */
    struct buf said;         /* the record as of the last answer */
    bool stored;             /* it is what the store has, */
    bool unsettled;          /* but for this */
    bool spoilt;             /* it cannot be written at all */
    uint64_t stored_ms;
};

/* A GET is about to be answered with all that is queued. name: which request of another node that is; empty: it is one of our own. True: polling_saved() follows, before which it must
 * not be answered. Not while there is a put under way. */
bool save_answer(struct polling_save *s, const struct engine *e, bool base64, struct slice name);
/* The same before a POST is answered, which says nothing but that it has been taken. */
bool save_taken(struct polling_save *s, const struct engine *e);
/* Another node had it: that is what it has written last. Takes the bytes. */
void save_begin(struct polling_save *s, struct buf *said, bool stored);
/* The connection is over, or goes on elsewhere. */
void save_fini(struct polling_save *s);

/* polling.c. taken: another node has the connection. */
void polling_saved(struct polling *po, bool taken);

#endif
