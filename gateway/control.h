/* gateway/control.h: what is done with a session by somebody else than its client: the HTTP API, a ban, a backend. It works alike for a session of this node, of
 * another one (which is told through the broker and answers), and for a parked one (done in the store). The node that has the session does it the way
 * in which it does what the client asks for, and its limits hold. */
#ifndef XD_CONTROL_H
#define XD_CONTROL_H

#include "broker/broker.h"

#define CONTROL_REASON_MAX 64 /* bytes; a close frame has room for it */

struct gateway;

/* X(enumerator, word in the envelope) */
#define CONTROL_MAP(X)                                                                                                 \
    X(CONTROL_DISCONNECT, "disconnect")                                                                                \
    X(CONTROL_JOIN, "join")                                                                                            \
    X(CONTROL_LEAVE, "leave")                                                                                          \
    X(CONTROL_TRACE, "trace")

enum control_verb {
#define X(code, name) code,
    CONTROL_MAP(X)
#undef X
        CONTROL_VERBS
};

/* DISCONNECT: the session ends (EXIT `kicked`, nobody can resume it), its client is told goodbye {reason, reconnect_after} and close_code. Done when the
 * store has forgotten it.
 * JOIN: the client is told `joined`; policy is asked no more than join=token, and the room's and the session's limits hold. Done also if it was in.
 * LEAVE: others see EXIT `kicked`, the client is told `left` {reason}. ERR_NOT_MEMBER if it was not in.
 * TRACE: changes nothing; done with a word for what became of the message at `offset` (gateway/trace.h), `parked` if nobody has the session. */
struct control {
    enum control_verb verb;
    struct slice sid;
    struct slice room;           /* JOIN, LEAVE, TRACE */
    uint64_t offset;             /* TRACE */
    struct slice reason;         /* DISCONNECT, LEAVE: a word for the client; empty: "kicked" */
    uint32_t close_code;         /* DISCONNECT: 4000 to 4999; 0: 4003 */
    uint32_t reconnect_after_ms; /* DISCONNECT */
};

/* OK (of a TRACE: why is the word), or why not (a sentence, borrowed): ERR_NOT_FOUND: no such session; ERR_UNAVAILABLE: nothing was done; ERR_TIMEOUT: it may have been done; and what the
 * verb says. */
typedef void control_done(void *arg, enum err err, const char *why);

/* Completes exactly once, from the loop, within a few seconds. Slices are copied. */
void control_send(struct gateway *g, const struct control *what, control_done *done, void *arg);

/* For gateway.c. An envelope CONTROL or CONTROLLED has come. */
void control_envelope(struct gateway *g, const struct envelope *e);
/* The broker is gone: what still waits completes. */
void control_fini(struct gateway *g);

/* Something that another node has asked for and waits for: made by control.c, answered by whoever does it, by way of session.c and request.c. */
struct control_job;
/* The same for something that this node wants itself: told instead of an answer. */
struct control_job *control_job_own(struct gateway *g, void (*told)(void *arg), void *arg);
/* Answers, frees the job, clears the pointer; ignores NULL. why: a sentence, for errors; or the word of a TRACE. */
void control_job_done(struct control_job **pointer, enum err err, const char *why);

#endif
