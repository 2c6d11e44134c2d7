/* gateway/api_verdict.h: who is banned and which tokens are revoked, as requests to the server API say it: JSON bodies to plain structs. Pure: no I/O, no clock. */
#ifndef XD_API_VERDICT_H
#define XD_API_VERDICT_H

#include "base/arena.h"
#include "base/error.h"
#include "broker/broker.h"

/* {reason?, until? | for?}; an empty body is {}. until: Unix milliseconds, later than now; for: seconds. user and by are the caller's to fill in. Slices point into the
 * body or the arena. */
enum err api_read_ban(struct slice body, struct arena *a, uint64_t now_ms, struct ban_record *ret,
                      struct error *reterr);

/* {jti} or {user, before?}, each with expires?. before: Unix seconds, by default everything issued until now; expires: Unix seconds, by default now + keep_s. */
enum err api_read_revocation(struct slice body, struct arena *a, uint64_t now_ms, uint32_t keep_s,
                             struct revocation *ret, struct error *reterr);

#endif
