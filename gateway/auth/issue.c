/* gateway/auth/issue.c: tokens that gateways make themselves, for those whom they have come to know in another way. */
#include <openssl/err.h>
#include <openssl/hmac.h>

#include "base/base64.h"
#include "base/mem.h"
#include "gateway/auth/private.h"
#include "proto/json.h"

/* The first secret there is. Public keys sign nothing. */
static const struct auth_key *signer(const struct auth_jwt *a)
{
    const struct auth_keys *keys = auth_jwt_keys(a);
    for (size_t i = 0; i < keys->count; i++)
        if (keys->list[i].secret != NULL)
            return &keys->list[i];
    return NULL;
}

bool auth_jwt_can_issue(const struct auth_jwt *a)
{
    return signer(a) != NULL;
}

static void append_text(struct buf *b, const char *label, struct slice text)
{
    if (text.n == 0)
        return;
    buf_append_str(b, label);
    json_quote(b, text);
}

static void append_header(struct buf *b, const struct auth_key *k)
{
    struct buf json = BUF_INIT;
    buf_printf(&json, "{\"typ\":\"JWT\",\"alg\":\"%s\"", auth_algorithm_name(k->algorithm));
    append_text(&json, ",\"kid\":", slice_str(k->kid));
    buf_append_char(&json, '}');
    base64url_append(b, buf_slice(&json));
    buf_fini(&json);
}

static void append_claims(struct buf *b, const struct auth_expected *expected, const struct auth_issue *what)
{
    struct buf json = BUF_INIT;
    buf_append_str(&json, "{\"iat\":");
    buf_append_u64(&json, what->now_s);
    buf_append_str(&json, ",\"exp\":");
    buf_append_u64(&json, what->expires_s);
    append_text(&json, ",\"sub\":", what->user);
    append_text(&json, ",\"jti\":", what->jti);
    append_text(&json, ",\"aud\":", slice_str(expected->audience));
    append_text(&json, ",\"iss\":", slice_str(expected->issuer));
    if (what->rights.n != 0) {
        buf_append_str(&json, ",\"xindao\":");
        buf_append(&json, what->rights);
    }
    buf_append_char(&json, '}');
    base64url_append(b, buf_slice(&json));
    buf_fini(&json);
}

static const EVP_MD *digest(enum auth_algorithm a)
{
    return a == AUTH_HS512 ? EVP_sha512() : a == AUTH_HS384 ? EVP_sha384() : EVP_sha256();
}

bool auth_jwt_issue(const struct auth_jwt *a, const struct auth_issue *what, struct buf *ret)
{
    const struct auth_key *k = signer(a);
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (k == NULL)
        return false;
    size_t from = ret->n;
    append_header(ret, k);
    buf_append_char(ret, '.');
    append_claims(ret, auth_jwt_expected(a), what);
    if (HMAC(digest(k->algorithm), k->secret, (int)k->secret_n, (const unsigned char *)ret->p + from, ret->n - from,
             mac, &n) == NULL)
        abort(); /* memory only */
    ERR_clear_error();
    buf_append_char(ret, '.');
    base64url_append(ret, (struct slice){(const char *)mac, n});
    return true;
}
