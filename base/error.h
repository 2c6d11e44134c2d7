/* base/error.h: the closed list of error codes, the same in every protocol, API and log (docs/protocol.md),
 * and an error: a code for the program plus a sentence for the human, built where the facts are. */
#ifndef XD_BASE_ERROR_H
#define XD_BASE_ERROR_H

#include <stdbool.h>

/* X(enumerator, name on the wire, retry: the same request may succeed later, HTTP status, WebSocket close code) */
// clang-format off
#define ERR_MAP(X)                                        \
    X(ERR_BAD_REQUEST,    "bad_request",    false, 400, 1008) \
    X(ERR_BAD_UTF8,       "bad_utf8",       false, 400, 1007) \
    X(ERR_UNKNOWN_TYPE,   "unknown_type",   false, 400, 1008) \
    X(ERR_UNSUPPORTED,    "unsupported",    false, 501, 1003) \
    X(ERR_INVALID_NAME,   "invalid_name",   false, 400, 1008) \
    X(ERR_TOO_LARGE,      "too_large",      false, 413, 1009) \
    X(ERR_RATE_LIMITED,   "rate_limited",   true,  429, 1008) \
    X(ERR_LIMIT_EXCEEDED, "limit_exceeded", false, 429, 1013) \
    X(ERR_UNAUTHORIZED,   "unauthorized",   false, 401, 4001) \
    X(ERR_FORBIDDEN,      "forbidden",      false, 403, 4003) \
    X(ERR_BANNED,         "banned",         false, 403, 4004) \
    X(ERR_NOT_MEMBER,     "not_member",     false, 403, 1008) \
    X(ERR_NOT_FOUND,      "not_found",      false, 404, 1008) \
    X(ERR_CONFLICT,       "conflict",       false, 409, 1008) \
    X(ERR_TIMEOUT,        "timeout",        true,  504, 1013) \
    X(ERR_UNAVAILABLE,    "unavailable",    true,  503, 1013) \
    X(ERR_NOT_REPLICATED, "not_replicated", true,  503, 1013) \
    X(ERR_REFUSED,        "refused",        false, 403, 4003) \
    X(ERR_BACKEND_UNAVAILABLE, "backend_unavailable", true, 503, 1013) \
    X(ERR_BACKEND_TIMEOUT, "backend_timeout", true, 504, 1013) \
    X(ERR_DRAINING,       "draining",       true,  503, 1001) \
    X(ERR_SLOW_CONSUMER,  "slow_consumer",  false, 503, 4000) \
    X(ERR_INTERNAL,       "internal",       false, 500, 1011)
// clang-format on

#define X(code, name, retry, http, close) code,
enum err { OK = 0, ERR_MAP(X) ERR_COUNT };
#undef X

struct error {
    enum err code;
    char text[192]; /* what, which and how much; never a secret or a payload */
};

/* "ok" for OK. All four accept any value of the enum. */
const char *err_name(enum err code);
bool err_retry(enum err code);
int err_http_status(enum err code);
int err_close_code(enum err code);

/* Fills *reterr and returns its code, so that `return fail(...)` works. */
enum err fail(struct error *reterr, enum err code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The static analyzer looks at one file at a time and must be told that what fail() returns is the code, never OK. */
#if defined(__clang_analyzer__) && !defined(fail)
#define fail(reterr, code, ...) ((void)fail(reterr, code, __VA_ARGS__), (code))
#endif

#endif
