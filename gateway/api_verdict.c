/* gateway/api_verdict.c: bodies about bans and revoked tokens. */
#include "gateway/api_verdict.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/protocol/protocol.h"
#include "proto/json.h"

#define SECONDS_MAX 99999999999u /* the year 5138: in milliseconds still exact in a sorted set of Redis */
#define JTI_MAX     128

static enum err read_object(struct slice body, const char *const *names, size_t n, struct json_value *ret,
                            struct error *reterr)
{
    if (!utf8_valid(body))
        return fail(reterr, ERR_BAD_UTF8, "the body is not UTF-8");
    return json_members(body, names, n, ret, reterr);
}

static enum err read_number(struct json_value v, const char *name, uint64_t least, uint64_t most, uint64_t *ret,
                            struct error *reterr)
{
    uint64_t n;
    if (v.kind == JSON_KIND_NONE)
        return OK;
    if (v.kind != JSON_KIND_NUMBER || !json_uint(v, most, &n) || n < least)
        return fail(reterr, ERR_BAD_REQUEST, "%s must be a whole number from %llu to %llu", name,
                    (unsigned long long)least, (unsigned long long)most);
    *ret = n;
    return OK;
}

enum err api_read_ban(struct slice body, struct arena *a, uint64_t now_ms, struct ban_record *ret, struct error *reterr)
{
    enum { REASON, UNTIL, FOR, MEMBERS };
    static const char *const names[MEMBERS] = {"reason", "until", "for"};
    struct json_value v[MEMBERS] = {{0}};
    struct ban_record ban = {.until_ms = 0};
    uint64_t seconds = 0;
    enum err err = body.n == 0 ? OK : read_object(body, names, MEMBERS, v, reterr);
    if (err == OK && v[REASON].kind != JSON_KIND_NULL)
        err = json_name(v[REASON], "reason", BAN_REASON_MAX, a, &ban.reason, reterr);
    if (err == OK && v[UNTIL].kind != JSON_KIND_NULL)
        err = read_number(v[UNTIL], "until (Unix milliseconds)", now_ms + 1, SECONDS_MAX * 1000ull, &ban.until_ms,
                          reterr);
    if (err == OK)
        err = read_number(v[FOR], "for (seconds)", 1, SECONDS_MAX - now_ms / 1000 - 1, &seconds, reterr);
    if (err == OK && seconds != 0 && v[UNTIL].kind != JSON_KIND_NONE)
        err = fail(reterr, ERR_BAD_REQUEST, "a ban ends either at a time (until) or after one (for)");
    if (err != OK)
        return err;
    if (seconds != 0)
        ban.until_ms = now_ms + seconds * 1000;
    *ret = ban;
    return OK;
}

enum err api_read_revocation(struct slice body, struct arena *a, uint64_t now_ms, uint32_t keep_s,
                             struct revocation *ret, struct error *reterr)
{
    enum { JTI, USER, BEFORE, EXPIRES, MEMBERS };
    static const char *const names[MEMBERS] = {"jti", "user", "before", "expires"};
    struct json_value v[MEMBERS] = {{0}};
    struct revocation what = {.before_s = now_ms / 1000 + 1};
    uint64_t expires_s = now_ms / 1000 + keep_s;
    enum err err = read_object(body, names, MEMBERS, v, reterr);
    if (err == OK && (v[JTI].kind == JSON_KIND_NONE) == (v[USER].kind == JSON_KIND_NONE))
        err = fail(reterr, ERR_BAD_REQUEST, "either one token (jti), or a user's (user) is revoked");
    if (err == OK && v[JTI].kind != JSON_KIND_NONE && v[BEFORE].kind != JSON_KIND_NONE)
        err = fail(reterr, ERR_BAD_REQUEST, "before belongs to the tokens of a user");
    if (err == OK)
        err = json_name(v[JTI], "jti", JTI_MAX, a, &what.jti, reterr);
    if (err == OK)
        err = json_name(v[USER], "user", NAME_MAX_USER, a, &what.user, reterr);
    if (err == OK)
        err = read_number(v[BEFORE], "before (Unix seconds)", 1, SECONDS_MAX, &what.before_s, reterr);
    if (err == OK)
        err = read_number(v[EXPIRES], "expires (Unix seconds)", now_ms / 1000 + 1, SECONDS_MAX, &expires_s, reterr);
    if (err != OK)
        return err;
    what.until_ms = expires_s * 1000;
    *ret = what;
    return OK;
}
