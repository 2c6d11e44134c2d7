/* gateway/policy.h: what is allowed and promised in rooms whose name matches a pattern; the first match wins.
 *
 * One policy is one line: `PATTERN key=value …`, for example
 *   `game.* join=anyone publish=members rate=20 size=4096 presence=on notices=on`
 * PATTERN: `*` matches any run of bytes, `?` one character; a pattern matches the whole name. Rooms of the server ($all, $user:…, $session:…) are
 * matched only by patterns that begin with `$` themselves. docs/configuration.md describes the keys. */
#ifndef XD_POLICY_H
#define XD_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"

/* TOKEN: whose token names the room. BACKEND (publish only): members whose message the backend agrees to. */
enum policy_who { WHO_ANYONE, WHO_MEMBERS, WHO_TOKEN, WHO_NOBODY, WHO_BACKEND };
/* What happens to members that do not read fast enough; DEFAULT is --slow-consumer. RESUME: they read on from the room's log, where it has one. */
enum policy_slow { POLICY_SLOW_DEFAULT, POLICY_SLOW_DISCONNECT, POLICY_SLOW_DROP_OLDEST, POLICY_SLOW_RESUME };
/* May anybody read the log over the HTTP API, which knows no users? DEFAULT: where anybody may connect as anybody, and join. */
enum policy_history { HISTORY_DEFAULT, HISTORY_ON, HISTORY_OFF };

/* What the backend hears of: bits of events. */
enum policy_event { POLICY_EVENT_MESSAGE, POLICY_EVENT_JOIN, POLICY_EVENT_LEAVE };

struct policy {
    char *pattern;
    enum policy_who join, publish; /* join: not members. Default anyone, members */
    enum policy_who watch; /* of $user:<id>: who may be told how that user is there; not members. Default anyone */
    bool presence;         /* may members and outsiders list who is there? default on */
    bool notices;          /* enter and exit are told to members; default on */
    enum policy_slow slow;
    enum policy_history public_history;
    unsigned events;       /* a set of BIT(enum policy_event); default none */
    uint32_t cluster_rate; /* messages per second into one room on all nodes together; 0: no limit (default) */
    uint32_t rate;         /* messages per second into one room on one node; 0: no limit (default) */
    uint32_t size;         /* bytes of data in one message; 0: only --max-message-size (default) */
    uint32_t max_members;  /* 0: no limit (default) */
    uint32_t retain_count; /* messages kept in the log; default 100, 0 for names with $ (but see policies_create) */
    uint32_t retain_age_s; /* default 120; 0: by count alone */
    uint32_t
        replicas; /* durability=replicated:N: a publish is acknowledged when N replicas have it; 0: fast (default) */
};

struct policies; /* in order */

/* The first line that has the backend asked, or NULL. */
const struct policy *policies_by_backend(const struct policies *p);
/* The first line that wants events, or NULL. */
const struct policy *policies_with_events(const struct policies *p);

/* Parses the lines; a bad one is named in *reterr. The last, implicit policy is `*` with the defaults, for rooms of the server `$*` with the defaults
 * but join=nobody publish=anyone, since they have no members; lines for `$…` begin with these too. recovery: Socket.IO clients may come back, so `$all` and
 * `$namespace:*` are retained, unless a line says otherwise. Returns NULL on failure. */
struct policies *policies_create(char *const *lines, size_t count, bool recovery, struct error *reterr);
void policies_destroy(struct policies **p);

/* The first line that asks for replicas, or NULL. */
const struct policy *policies_replicated(const struct policies *p);

/* Never NULL; valid until policies_destroy. */
const struct policy *policies_find(const struct policies *p, struct slice room);

/* The first policy that asks for a token, or NULL. */
const struct policy *policies_by_token(const struct policies *p);

/* Glob as above, but `$` is a letter like others. At most |pattern| x |name| steps. */
bool policy_match(const char *pattern, struct slice name);

#endif
