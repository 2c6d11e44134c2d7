/* gateway/trace.h: what became of one message for one member, as far as its node can say now: from where the member stands, not from a record of deliveries. */
#ifndef XD_TRACE_H
#define XD_TRACE_H

#include "base/slice.h"

struct session;

/* X(enumerator, word in the answer, sentence) */
// clang-format off
#define TRACE_MAP(X)                                                                                                              \
    X(TRACE_SENT,       "sent",       "its node has written it to the client's connection")                                      \
    X(TRACE_QUEUED,     "queued",     "it has been given to the client's connection, where bytes still wait for the client to read") \
    X(TRACE_UNCERTAIN,  "uncertain",  "it has been given to the client's connection, or dropped there: the room's slow-consumer rule may drop the oldest") \
    X(TRACE_EARLIER,    "earlier",    "the client said when it came back that it had seen it")                                   \
    X(TRACE_REPLAYING,  "replaying",  "the client is being told what it missed; this message has not been reached, or not been confirmed") \
    X(TRACE_BEHIND,     "behind",     "the client reads slowly and is to read on from the room's log")                           \
    X(TRACE_JOINING,    "joining",    "the session is about to become a member")                                                 \
    X(TRACE_LATER,      "joined_later", "it was published before the session was a member, or before what could be replayed to it") \
    X(TRACE_NOT_YET,    "not_yet",    "the session's node has not got it from the store yet")                                    \
    X(TRACE_EXCLUDED,   "excluded",   "its publisher wanted this session not to get it")                                         \
    X(TRACE_PARKED,     "parked",     "the client is not connected; it is told when it comes back, if the log still has it")     \
    X(TRACE_NOT_MEMBER, "not_member", "the session is not in this room")                                                         \
    X(TRACE_NO_SESSION, "no_session", "there is no such session any more; nothing is known of what it got")                      \
    X(TRACE_NO_MESSAGE, "no_message", "the room has had no such offset")
// clang-format on

enum trace {
#define X(code, word, sentence) code,
    TRACE_MAP(X)
#undef X
        TRACES
};

const char *trace_word(enum trace t);
const char *trace_sentence(enum trace t);
/* TRACES when there is none. */
enum trace trace_find(struct slice word);

/* For an active session of this node. */
enum trace trace_member(const struct session *s, struct slice room, uint64_t offset);

#endif
