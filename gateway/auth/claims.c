/* gateway/auth/claims.c: what a token says, once it is known who says it. */
#include "base/arena.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/utf8.h"
#include "gateway/auth/private.h"
#include "proto/json.h"

#define USER_MAX    128 /* bytes, as NAME_MAX_USER and NAME_MAX_ROOM of gateway/protocol */
#define ROOM_MAX    255
#define STRINGS_MAX ((size_t)2 * AUTH_TOKEN_MAX) /* of all unescaped strings together */
#define SECONDS_MAX 99999999999u                 /* the year 5138; sums with a leeway cannot overflow */

enum claim { SUB, EXP, NBF, IAT, JTI, AUD, ISS, XINDAO, CLAIMS };
static const char *const claim_names[CLAIMS] = {"sub", "exp", "nbf", "iat", "jti", "aud", "iss", "xindao"};

enum right { JOIN, PUBLISH, WATCH, ROOMS, ATTRIBUTES, RIGHTS };
static const char *const right_names[RIGHTS] = {"join", "publish", "watch", "rooms", "attributes"};

struct reading {
    const struct auth_expected *expected;
    uint64_t now_s;
    struct arena arena;
    struct json_value claims[CLAIMS];
    struct auth_claims *ret;
    struct error *reterr;
};

static enum auth_refusal refuse(struct reading *r, enum auth_refusal why, const char *text)
{
    (void)fail(r->reterr, ERR_UNAUTHORIZED, "%s", text);
    return why;
}

void auth_claims_fini(struct auth_claims *c)
{
    free(c->user);
    free(c->jti);
    buf_fini(&c->join);
    buf_fini(&c->publish);
    buf_fini(&c->watch);
    buf_fini(&c->room);
    buf_fini(&c->attributes);
    *c = (struct auth_claims){0};
}

const char *auth_name_next(const struct buf *names, const char *at)
{
    const char *next = at == NULL ? names->p : at + strlen(at) + 1;
    return names->n != 0 && next < names->p + names->n ? next : NULL;
}

static bool unquote(struct reading *r, struct json_value v, struct slice *ret)
{
    struct error ignored;
    return v.kind == JSON_KIND_STRING && json_unquote(v, &r->arena, ret, &ignored) == OK;
}

static bool string_is(struct reading *r, struct json_value v, const char *want)
{
    struct slice s;
    return unquote(r, v, &s) && slice_eq(s, slice_str(want));
}

/* --- time --- */

/* A NumericDate (RFC 7519 §2): a fraction is allowed, an exponent is nobody's. */
static bool read_seconds(struct json_value v, uint64_t *ret)
{
    const char *point = v.kind == JSON_KIND_NUMBER ? memchr(v.raw.p, '.', v.raw.n) : NULL;
    if (v.kind != JSON_KIND_NUMBER || memchr(v.raw.p, 'e', v.raw.n) != NULL || memchr(v.raw.p, 'E', v.raw.n) != NULL)
        return false;
    if (point != NULL)
        v.raw.n = (size_t)(point - v.raw.p);
    return json_uint(v, SECONDS_MAX, ret);
}

static enum auth_refusal check_time(struct reading *r)
{
    uint64_t begins;
    uint32_t leeway = r->expected->leeway_s;
    if (!read_seconds(r->claims[EXP], &r->ret->expires_s))
        return refuse(r, AUTH_CLAIMS, "the token has no \"exp\" in seconds");
    if (r->now_s >= r->ret->expires_s + leeway)
        return refuse(r, AUTH_EXPIRED, "the token has expired");
    if (r->claims[IAT].kind != JSON_KIND_NONE && !read_seconds(r->claims[IAT], &r->ret->issued_s))
        return refuse(r, AUTH_CLAIMS, "\"iat\" of the token is not a time in seconds");
    if (r->claims[NBF].kind == JSON_KIND_NONE)
        return AUTH_OK;
    if (!read_seconds(r->claims[NBF], &begins))
        return refuse(r, AUTH_CLAIMS, "\"nbf\" of the token is not a time in seconds");
    if (r->now_s + leeway < begins)
        return refuse(r, AUTH_NOT_YET, "the token is not valid yet");
    return AUTH_OK;
}

/* --- from whom, for whom --- */

static bool audience_has(struct reading *r, const char *want)
{
    struct json_value v = r->claims[AUD], element;
    size_t at = 0;
    if (v.kind != JSON_KIND_ARRAY)
        return string_is(r, v, want);
    while (json_next(v, &at, &element))
        if (string_is(r, element, want))
            return true;
    return false;
}

static enum auth_refusal check_parties(struct reading *r)
{
    const struct auth_expected *x = r->expected;
    if (x->issuer != NULL && !string_is(r, r->claims[ISS], x->issuer))
        return refuse(r, AUTH_ISSUER, "the token is not from the issuer expected here");
    /* Who does not find himself in a token's audience must refuse it (RFC 7519 §4.1.3): also who has no name. */
    if (x->audience != NULL ? !audience_has(r, x->audience) : r->claims[AUD].kind != JSON_KIND_NONE)
        return refuse(r, AUTH_AUDIENCE, "the token is for another audience");
    return AUTH_OK;
}

/* --- who --- */

static enum auth_refusal read_user(struct reading *r)
{
    struct slice user;
    if (!unquote(r, r->claims[SUB], &user) || !utf8_name_valid(user, USER_MAX))
        return refuse(r, AUTH_CLAIMS,
                      "\"sub\" of the token must be 1 to 128 bytes of UTF-8 without control characters");
    r->ret->user = xstrndup(user.p, user.n);
    return AUTH_OK;
}

/* By this name it may be revoked: one that nobody could write down would make that impossible. */
static enum auth_refusal read_name(struct reading *r)
{
    struct slice jti;
    if (r->claims[JTI].kind == JSON_KIND_NONE)
        return AUTH_OK;
    if (!unquote(r, r->claims[JTI], &jti) || !utf8_name_valid(jti, AUTH_JTI_MAX))
        return refuse(r, AUTH_CLAIMS, "\"jti\" of the token is not 1 to 128 bytes of UTF-8 without control characters");
    r->ret->jti = xstrndup(jti.p, jti.n);
    return AUTH_OK;
}

/* --- may do what --- */

/* Names and patterns. A room that is joined at once cannot be one of the server's. */
static bool read_names(struct reading *r, struct json_value v, bool server_too, struct buf *ret)
{
    struct json_value element;
    struct slice name;
    size_t at = 0;
    unsigned n = 0;
    if (v.kind == JSON_KIND_NONE)
        return true;
    if (v.kind != JSON_KIND_ARRAY)
        return false;
    while (json_next(v, &at, &element)) {
        if (n++ == AUTH_NAMES_MAX || !unquote(r, element, &name) || !utf8_name_valid(name, ROOM_MAX) ||
            (!server_too && name.p[0] == '$'))
            return false;
        buf_append(ret, name);
        buf_append_char(ret, '\0');
    }
    return true;
}

static enum auth_refusal read_rights(struct reading *r)
{
    struct json_value v[RIGHTS];
    struct error ignored;
    if (r->claims[XINDAO].kind == JSON_KIND_NONE)
        return AUTH_OK;
    if (r->claims[XINDAO].kind != JSON_KIND_OBJECT ||
        json_members(r->claims[XINDAO].raw, right_names, RIGHTS, v, &ignored) != OK)
        return refuse(r, AUTH_CLAIMS, "\"xindao\" of the token is not an object, or has a member twice");
    if (!read_names(r, v[JOIN], true, &r->ret->join))
        return refuse(r, AUTH_CLAIMS, "\"xindao.join\" of the token is not an array of at most 64 room patterns");
    if (!read_names(r, v[PUBLISH], true, &r->ret->publish))
        return refuse(r, AUTH_CLAIMS, "\"xindao.publish\" of the token is not an array of at most 64 room patterns");
    if (!read_names(r, v[WATCH], true, &r->ret->watch))
        return refuse(r, AUTH_CLAIMS, "\"xindao.watch\" of the token is not an array of at most 64 patterns of users");
    if (!read_names(r, v[ROOMS], false, &r->ret->room))
        return refuse(r, AUTH_CLAIMS, "\"xindao.rooms\" of the token is not an array of at most 64 rooms");
    if (v[ATTRIBUTES].kind == JSON_KIND_NONE)
        return AUTH_OK;
    if (v[ATTRIBUTES].kind != JSON_KIND_OBJECT || v[ATTRIBUTES].raw.n > AUTH_ATTRIBUTES_MAX)
        return refuse(r, AUTH_CLAIMS, "\"xindao.attributes\" of the token is not an object of at most 1024 bytes");
    buf_append(&r->ret->attributes, v[ATTRIBUTES].raw);
    return AUTH_OK;
}

enum auth_refusal auth_claims_read(struct slice payload, const struct auth_expected *expected, uint64_t now_s,
                                   struct auth_claims *ret, struct error *reterr)
{
    static enum auth_refusal (*const steps[])(struct reading *) = {check_time, check_parties, read_user, read_name,
                                                                   read_rights};
    struct auth_claims claims = {0};
    struct error ignored;
    struct reading r = {.expected = expected, .now_s = now_s, .ret = &claims, .reterr = reterr};
    arena_init(&r.arena, STRINGS_MAX);
    enum auth_refusal why = AUTH_OK;
    if (!utf8_valid(payload) || json_members(payload, claim_names, CLAIMS, r.claims, &ignored) != OK)
        why = refuse(&r, AUTH_MALFORMED, "the claims of the token are not a JSON object with each member once");
    for (size_t i = 0; i < ARRAY_LEN(steps) && why == AUTH_OK; i++)
        why = steps[i](&r);
    arena_reset(&r.arena);
    if (why == AUTH_OK)
        *ret = claims;
    else
        auth_claims_fini(&claims);
    return why;
}

/* --- of the backend --- */

static bool read_answer(struct reading *r)
{
    static const char *const names[] = {"user", "expires"};
    struct json_value v[ARRAY_LEN(names)];
    struct slice user;
    if (!utf8_valid(r->claims[XINDAO].raw) ||
        json_members(r->claims[XINDAO].raw, names, ARRAY_LEN(names), v, r->reterr) != OK)
        return false;
    if (v[0].kind == JSON_KIND_NONE || v[0].kind == JSON_KIND_NULL)
        r->ret->user = xstrdup("");
    else if (unquote(r, v[0], &user) && utf8_name_valid(user, USER_MAX))
        r->ret->user = xstrndup(user.p, user.n);
    else
        return false;
    if (v[1].kind != JSON_KIND_NONE && v[1].kind != JSON_KIND_NULL && !read_seconds(v[1], &r->ret->expires_s))
        return false;
    return read_rights(r) == AUTH_OK;
}

enum err auth_answer_read(struct slice text, uint64_t now_s, struct auth_claims *ret, struct error *reterr)
{
    struct auth_claims claims = {.issued_s = now_s};
    struct error why;
    struct reading r = {.ret = &claims, .reterr = &why};
    /* Its members stand where a token has them in "xindao". */
    r.claims[XINDAO] = (struct json_value){JSON_KIND_OBJECT, text.n != 0 ? text : SLICE("{}")};
    arena_init(&r.arena, STRINGS_MAX);
    bool ok = read_answer(&r);
    arena_reset(&r.arena);
    if (ok) {
        *ret = claims;
        return OK;
    }
    auth_claims_fini(&claims);
    return fail(
        reterr, ERR_BACKEND_UNAVAILABLE,
        "the backend: its answer must have user, expires, join, publish, watch, rooms and attributes as documented");
}
