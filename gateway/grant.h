/* gateway/grant.h: what a session's token lets it do, and until when. Sessions of --auth open have none. */
#ifndef XD_GRANT_H
#define XD_GRANT_H

#include "base/wheel.h"
#include "gateway/auth/auth.h"
#include "gateway/policy.h"

struct actions;
struct command;
struct session;

struct grant {
    struct auth_claims claims;
    struct wheel_entry expiry;
    struct session *session; /* NULL before grant_attach() */
    char *fresh;             /* the token itself, made here: its client has still to be told; NULL: it has it */
    struct actions *actions; /* that the backend wants done when the session has begun; NULL: none (any more); owned */
    uint64_t notice_ms;      /* so long before it expires its client is told; 0: never, or done */
};

/* Takes what claims owns. */
struct grant *grant_create(struct auth_claims *claims);
/* The same, with a token that the client does not know yet. */
struct grant *grant_create_fresh(struct auth_claims *claims, struct slice token);
/* NULL-safe. */
void grant_destroy(struct grant **g);

/* The session owns it from here on; its end is watched. A grant may move from one session to another. */
void grant_attach(struct grant *g, struct session *s);

/* Tells the client of s the token that was made for it, if one was. */
void grant_tell(struct session *s);

/* Begins what the backend wants done for s; until it is over what its Socket.IO client says waits. */
void grant_act(struct session *s);

/* May s become a member of that room, whose policy this is? ERR_FORBIDDEN with a sentence. */
enum err grant_join(const struct session *s, struct slice room, const struct policy *policy, struct error *reterr);
/* The same for publishing, as far as a token can say; whether it must be a member is not looked at. */
enum err grant_publish(const struct session *s, struct slice room, const struct policy *policy, struct error *reterr);
/* May s be told how that user is there? */
enum err grant_watch(const struct session *s, struct slice user, struct error *reterr);
/* For those without a session: do these claims (NULL: none) name the room? */
bool grant_names(const struct auth_claims *claims, struct slice room);

/* Is it one of the rooms that are joined at once? */
bool grant_joined(const struct grant *g, struct slice room);

/* A client with a session has sent another token: of the same user and not revoked it replaces the old one, and rooms it does not name any more are left. */
enum err grant_refresh(struct session *s, const struct command *c, struct error *reterr);

#endif
