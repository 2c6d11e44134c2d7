/* gateway/auth/auth.h: who a client is, by a signed token (JSON Web Token, RFC 7519 as profiled by RFC 8725). Pure: no clock, no sockets, no sessions.
 *
 * Every key is pinned to one algorithm when it is loaded: a secret to an HMAC, a public key to the one signature its type makes. A token only names its
 * algorithm; when that is not its key's own the token is refused. So there is no code path in which a public key is used as a secret, nor one for `none`. */
#ifndef XD_AUTH_H
#define XD_AUTH_H

#include "base/buf.h"
#include "base/error.h"
#include "base/slice.h"

#define AUTH_TOKEN_MAX      8192u /* bytes of a token */
#define AUTH_JTI_MAX        128u  /* bytes of a token's name */
#define AUTH_NAMES_MAX      64u   /* patterns or rooms in one list */
#define AUTH_ATTRIBUTES_MAX 1024u /* bytes of the attributes as JSON */
#define AUTH_KEYS_MAX       64u
#define AUTH_NAMELESS_MAX   4u /* keys without a kid: all of them may have to be tried */

// clang-format off
/* X(enumerator, name as in RFC 7518 and RFC 8037, least bytes of a secret) */
#define AUTH_ALGORITHM_MAP(X)   \
    X(AUTH_HS256, "HS256", 32)  \
    X(AUTH_HS384, "HS384", 48)  \
    X(AUTH_HS512, "HS512", 64)  \
    X(AUTH_RS256, "RS256", 0)   \
    X(AUTH_ES256, "ES256", 0)   \
    X(AUTH_EDDSA, "EdDSA", 0)

/* Why a client is not believed; a label in /metrics. X(enumerator, word) */
#define AUTH_REFUSAL_MAP(X)                     \
    X(AUTH_MISSING,     "missing")              \
    X(AUTH_AMBIGUOUS,   "ambiguous")            \
    X(AUTH_TOO_LARGE,   "too_large")            \
    X(AUTH_MALFORMED,   "malformed")            \
    X(AUTH_ALGORITHM,   "algorithm")            \
    X(AUTH_UNKNOWN_KEY, "unknown_key")          \
    X(AUTH_SIGNATURE,   "signature")            \
    X(AUTH_EXPIRED,     "expired")              \
    X(AUTH_NOT_YET,     "not_yet_valid")        \
    X(AUTH_AUDIENCE,    "audience")             \
    X(AUTH_ISSUER,      "issuer")               \
    X(AUTH_CLAIMS,      "claims")               \
    X(AUTH_OTHER_USER,  "other_user")           \
    X(AUTH_REVOKED,     "revoked")
// clang-format on

#define X(code, word) code,
enum auth_refusal { AUTH_OK = 0, AUTH_REFUSAL_MAP(X) AUTH_REFUSALS };
#undef X

const char *auth_refusal_word(enum auth_refusal r);

struct auth_jwt_config {
    char *const *keys; /* each FILE or KID=FILE: a PEM public key, a JSON Web Key (Set), or a secret as it is */
    size_t key_count;
    const char *audience, *issuer; /* NULL: tokens must name no audience; any issuer */
    uint32_t leeway_s;
};

/* What a good token says. Names are valid (docs/protocol.md), each stands with its NUL behind the other; see auth_name_next(). */
struct auth_claims {
    char *user;
    char *jti;                      /* the token's own name; NULL: it has none */
    uint64_t expires_s, issued_s;   /* Unix seconds, without leeway; issued_s 0: it does not say */
    struct buf join, publish, room; /* patterns, patterns, names */
    struct buf watch;               /* patterns of $user:<id> */
    struct buf attributes;          /* a JSON object as written; empty: none */
};

void auth_claims_fini(struct auth_claims *c);

/* The same from an answer of the backend, a JSON object: user (or null: nobody), expires (Unix seconds; none: never), join, publish, watch, rooms, attributes; an empty text
 * says nothing of any. It counts as issued now. ERR_BACKEND_UNAVAILABLE with *reterr when something of it cannot be. */
enum err auth_answer_read(struct slice text, uint64_t now_s, struct auth_claims *ret, struct error *reterr);

/* Walks a list of names: NULL begins, NULL is the end. */
const char *auth_name_next(const struct buf *names, const char *at);

struct auth_jwt;

/* Reads and checks the key files; everything of cfg is copied. NULL with *reterr naming the file, the key in it, and why it cannot be used. */
struct auth_jwt *auth_jwt_create(const struct auth_jwt_config *cfg, struct error *reterr);
/* NULL-safe. */
void auth_jwt_destroy(struct auth_jwt **a);

uint32_t auth_jwt_leeway_s(const struct auth_jwt *a);
/* Keys in use; entries of key sets that were passed over because they are for something else (another `use`, `kty` or `alg`). */
size_t auth_jwt_key_count(const struct auth_jwt *a);
size_t auth_jwt_ignored_count(const struct auth_jwt *a);

/* Checks a token at a time in Unix seconds. On AUTH_OK the caller owns *ret. Otherwise *ret is untouched and *reterr (always ERR_UNAUTHORIZED) is a sentence
 * for the client, with nothing of the token in it. */
enum auth_refusal auth_jwt_check(const struct auth_jwt *a, struct slice token, uint64_t now_s, struct auth_claims *ret,
                                 struct error *reterr);

/* A token of our own: for the configured audience, from the configured issuer, signed with the first secret among the keys. */
struct auth_issue {
    struct slice user, jti;
    struct slice rights; /* what the claim "xindao" is, an object; empty: none */
    uint64_t now_s, expires_s;
};
bool auth_jwt_can_issue(const struct auth_jwt *a);
/* Appends it; false: no key is a secret. */
bool auth_jwt_issue(const struct auth_jwt *a, const struct auth_issue *what, struct buf *ret);

#endif
