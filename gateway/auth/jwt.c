/* gateway/auth/jwt.c: checks a token: its form, its key, its signature, then its claims. Nothing of the claims is looked at before the signature is right. */
#include "base/arena.h"
#include "base/base64.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/auth/private.h"
#include "proto/json.h"

#define SIGNATURE_MAX 1024u /* of an RSA key of 8192 bits */
#define HEADER_MAX    2048u

struct auth_jwt {
    struct auth_keys keys;
    struct auth_expected expected;
};

/* A token taken apart; slices of it. */
struct parts {
    struct slice header, payload, signature, text; /* text: what is signed */
};

struct header {
    struct slice kid;
    bool has_kid;
    enum auth_algorithm algorithm;
};

const char *auth_refusal_word(enum auth_refusal r)
{
    static const char *const words[AUTH_REFUSALS] = {
        [AUTH_OK] = "ok",
#define X(code, word) [code] = (word),
        AUTH_REFUSAL_MAP(X)
#undef X
    };
    return words[r];
}

static enum auth_refusal refuse(struct error *reterr, enum auth_refusal why, const char *text)
{
    (void)fail(reterr, ERR_UNAUTHORIZED, "%s", text);
    return why;
}

/* --- life --- */

struct auth_jwt *auth_jwt_create(const struct auth_jwt_config *cfg, struct error *reterr)
{
    struct auth_jwt *a = xcalloc(1, sizeof *a);
    a->expected.leeway_s = cfg->leeway_s;
    a->expected.audience = cfg->audience != NULL ? xstrdup(cfg->audience) : NULL;
    a->expected.issuer = cfg->issuer != NULL ? xstrdup(cfg->issuer) : NULL;
    enum err err = cfg->key_count != 0 ? OK : fail(reterr, ERR_BAD_REQUEST, "auth jwt needs at least one --jwt-key");
    for (size_t i = 0; i < cfg->key_count && err == OK; i++)
        err = auth_keys_load(&a->keys, cfg->keys[i], reterr);
    if (err != OK)
        auth_jwt_destroy(&a);
    return a;
}

void auth_jwt_destroy(struct auth_jwt **ap)
{
    struct auth_jwt *a = TAKE(*ap);
    if (a == NULL)
        return;
    auth_keys_fini(&a->keys);
    free(a->expected.audience);
    free(a->expected.issuer);
    free(a);
}

uint32_t auth_jwt_leeway_s(const struct auth_jwt *a)
{
    return a->expected.leeway_s;
}

size_t auth_jwt_key_count(const struct auth_jwt *a)
{
    return a->keys.count;
}

size_t auth_jwt_ignored_count(const struct auth_jwt *a)
{
    return a->keys.ignored;
}

const struct auth_keys *auth_jwt_keys(const struct auth_jwt *a)
{
    return &a->keys;
}

const struct auth_expected *auth_jwt_expected(const struct auth_jwt *a)
{
    return &a->expected;
}

/* --- form --- */

static bool split(struct slice token, struct parts *ret)
{
    const char *first = token.n != 0 ? memchr(token.p, '.', token.n) : NULL;
    if (first == NULL)
        return false;
    struct slice rest = slice_from(token, (size_t)(first - token.p) + 1);
    const char *second = rest.n != 0 ? memchr(rest.p, '.', rest.n) : NULL;
    if (second == NULL)
        return false;
    ret->header = (struct slice){token.p, (size_t)(first - token.p)};
    ret->payload = (struct slice){rest.p, (size_t)(second - rest.p)};
    ret->signature = slice_from(rest, ret->payload.n + 1);
    ret->text = (struct slice){token.p, (size_t)(second - token.p)};
    return ret->header.n != 0 && ret->payload.n != 0; /* a third dot is no letter of base64url */
}

static bool decode(struct slice text, struct arena *a, size_t max, struct slice *ret)
{
    size_t n;
    unsigned char *bytes = text.n <= max / 3 * 4 + 3 ? arena_alloc(a, text.n * 3 / 4 + 1) : NULL;
    if (bytes == NULL || !base64_take(BASE64URL, text, bytes, &n))
        return false;
    *ret = (struct slice){(const char *)bytes, n};
    return true;
}

static enum auth_refusal read_header(struct slice json, struct arena *a, struct header *ret, struct error *reterr)
{
    enum { ALG, KID, CRIT, MEMBERS };
    static const char *const names[MEMBERS] = {"alg", "kid", "crit"};
    struct json_value v[MEMBERS];
    struct error ignored;
    struct slice alg;
    if (!utf8_valid(json) || json_members(json, names, MEMBERS, v, &ignored) != OK)
        return refuse(reterr, AUTH_MALFORMED, "the header of the token is not a JSON object with each member once");
    if (v[CRIT].kind != JSON_KIND_NONE)
        return refuse(reterr, AUTH_MALFORMED, "the token has critical extensions; none is understood here");
    if (v[ALG].kind != JSON_KIND_STRING || json_unquote(v[ALG], a, &alg, &ignored) != OK)
        return refuse(reterr, AUTH_MALFORMED, "the header of the token has no \"alg\"");
    ret->has_kid = v[KID].kind != JSON_KIND_NONE;
    if (ret->has_kid && (v[KID].kind != JSON_KIND_STRING || json_unquote(v[KID], a, &ret->kid, &ignored) != OK))
        return refuse(reterr, AUTH_MALFORMED, "\"kid\" of the token is not a string");
    if (!auth_algorithm_find(alg, &ret->algorithm))
        return refuse(reterr, AUTH_ALGORITHM, "the algorithm of the token is not accepted");
    return AUTH_OK;
}

/* --- key and signature --- */

static bool named(const struct auth_key *k, const struct header *h)
{
    return h->has_kid ? k->kid != NULL && slice_eq(slice_str(k->kid), h->kid) : k->kid == NULL;
}

/* At most one key has a given kid. Of those without one several may be tried: what a token is checked with never depends on anything but a key's own
 * algorithm. */
static enum auth_refusal check_signature(const struct auth_keys *keys, const struct header *h, const struct parts *p,
                                         struct slice signature, struct error *reterr)
{
    bool found = false, fits = false;
    for (size_t i = 0; i < keys->count; i++) {
        const struct auth_key *k = &keys->list[i];
        if (!named(k, h))
            continue;
        found = true;
        if (k->algorithm != h->algorithm)
            continue;
        fits = true;
        if (auth_verify(k, p->text, (const unsigned char *)signature.p, signature.n))
            return AUTH_OK;
    }
    if (!found)
        return refuse(reterr, AUTH_UNKNOWN_KEY,
                      h->has_kid ? "no key here has the \"kid\" of the token" : "the token names no key (\"kid\")");
    if (!fits)
        return refuse(reterr, AUTH_ALGORITHM, "the algorithm of the token is not the one of its key");
    return refuse(reterr, AUTH_SIGNATURE, "the signature of the token is wrong");
}

static enum auth_refusal check(const struct auth_jwt *a, struct slice token, uint64_t now_s, struct arena *arena,
                               struct auth_claims *ret, struct error *reterr)
{
    struct parts parts;
    struct slice header_json, payload, signature;
    struct header header = {0};
    if (!split(token, &parts) || !decode(parts.header, arena, HEADER_MAX, &header_json) ||
        !decode(parts.signature, arena, SIGNATURE_MAX, &signature) ||
        !decode(parts.payload, arena, AUTH_TOKEN_MAX, &payload))
        return refuse(reterr, AUTH_MALFORMED, "not a token: three parts in base64url, joined by dots");
    enum auth_refusal why = read_header(header_json, arena, &header, reterr);
    if (why == AUTH_OK)
        why = check_signature(&a->keys, &header, &parts, signature, reterr);
    return why == AUTH_OK ? auth_claims_read(payload, &a->expected, now_s, ret, reterr) : why;
}

enum auth_refusal auth_jwt_check(const struct auth_jwt *a, struct slice token, uint64_t now_s, struct auth_claims *ret,
                                 struct error *reterr)
{
    struct arena arena;
    if (token.n > AUTH_TOKEN_MAX)
        return refuse(reterr, AUTH_TOO_LARGE, "the token is larger than 8192 bytes");
    arena_init(&arena, (size_t)2 * AUTH_TOKEN_MAX);
    enum auth_refusal why = check(a, token, now_s, &arena, ret, reterr);
    arena_reset(&arena);
    return why;
}
