/* gateway/wechat/userdata.c: decrypting what a client tells of its user, and whether it is meant for us. */
#include "gateway/wechat/userdata.h"

#include <openssl/err.h>
#include <openssl/evp.h>

#include "base/base64.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "proto/json.h"

#define BLOCK  16u
#define ARENA  1024u
#define OLDEST 60u /* seconds by which a client's clock may be fast */

static enum err decode(struct slice text, const char *what, size_t max, unsigned char *ret, size_t *ret_n,
                       struct error *reterr)
{
    if (text.n == 0 || text.n > base64_letters(max) || !base64_take(BASE64, text, ret, ret_n))
        return fail(reterr, ERR_BAD_REQUEST, "%s is not base64 of 1 to %zu bytes", what, max);
    return OK;
}

static bool decrypt(const unsigned char *key, const unsigned char *iv, struct slice sealed, unsigned char *ret,
                    size_t *ret_n)
{
    int n = 0, last = 0;
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    if (c == NULL)
        abort(); /* memory only */
    bool ok = EVP_DecryptInit_ex(c, EVP_aes_128_cbc(), NULL, key, iv) == 1 &&
              EVP_DecryptUpdate(c, ret, &n, (const unsigned char *)sealed.p, (int)sealed.n) == 1 &&
              EVP_DecryptFinal_ex(c, ret + n, &last) == 1;
    EVP_CIPHER_CTX_free(c);
    ERR_clear_error();
    *ret_n = (size_t)n + (size_t)last;
    return ok;
}

/* The watermark of what was told: for whom, and when. */
static enum err check_watermark(const struct wechat_app *app, struct json_value watermark, uint64_t now_s,
                                struct error *reterr)
{
    enum { APPID, TIMESTAMP, MEMBERS };
    static const char *const names[MEMBERS] = {"appid", "timestamp"};
    struct json_value v[MEMBERS];
    struct error ignored;
    struct arena arena;
    struct slice appid = SLICE_NONE;
    uint64_t time_s = 0;
    if (watermark.kind != JSON_KIND_OBJECT || json_members(watermark.raw, names, MEMBERS, v, &ignored) != OK)
        return fail(reterr, ERR_BAD_REQUEST, "the data has no watermark");
    arena_init(&arena, ARENA);
    bool ours = v[APPID].kind == JSON_KIND_STRING && json_unquote(v[APPID], &arena, &appid, &ignored) == OK &&
                slice_eq(appid, slice_str(app->appid));
    arena_reset(&arena);
    if (!ours)
        return fail(reterr, ERR_BAD_REQUEST, "the data is another app's, by its watermark");
    if (app->watermark_s == 0)
        return OK;
    if (!json_uint(v[TIMESTAMP], UINT32_MAX, &time_s) || time_s + app->watermark_s < now_s || time_s > now_s + OLDEST)
        return fail(reterr, ERR_BAD_REQUEST, "the data is older than %u seconds, by its watermark", app->watermark_s);
    return OK;
}

/* Is what stands between the braces of an object nothing but blanks? */
static bool is_empty(struct slice object)
{
    for (size_t i = 1; i + 1 < object.n; i++)
        if (strchr(" \t\r\n", object.p[i]) == NULL)
            return false;
    return true;
}

static enum err take(const struct wechat_app *app, struct slice json, struct slice openid, uint64_t now_s,
                     struct buf *ret, struct error *reterr)
{
    enum { OPENID, WATERMARK, MEMBERS };
    static const char *const names[MEMBERS] = {"openId", "watermark"};
    struct json_value v[MEMBERS];
    struct error ignored;
    struct arena arena;
    struct slice said = SLICE_NONE;
    while (json.n != 0 && strchr(" \t\r\n", json.p[0]) != NULL)
        json = slice_from(json, 1);
    if (!utf8_valid(json) || json_members(json, names, MEMBERS, v, &ignored) != OK)
        return fail(reterr, ERR_BAD_REQUEST, "the data is not a JSON object once decrypted");
    if (check_watermark(app, v[WATERMARK], now_s, reterr) != OK)
        return reterr->code;
    if (v[OPENID].kind != JSON_KIND_NONE) {
        arena_init(&arena, ARENA);
        bool same = v[OPENID].kind == JSON_KIND_STRING && json_unquote(v[OPENID], &arena, &said, &ignored) == OK &&
                    slice_eq(said, openid);
        arena_reset(&arena);
        if (!same)
            return fail(reterr, ERR_BAD_REQUEST, "the data is another user's");
        buf_append(ret, json);
        return OK;
    }
    wechat_userdata_none(openid, ret);
    ret->n--;
    if (!is_empty(json))
        buf_append_char(ret, ',');
    buf_append(ret, slice_from(json, 1));
    return OK;
}

enum err wechat_userdata_open(const struct wechat_app *app, const struct wechat_sealed *sealed, struct slice openid,
                              uint64_t now_s, struct buf *ret, struct error *reterr)
{
    unsigned char key[2 * BLOCK], iv[2 * BLOCK];
    size_t key_n, iv_n, n = 0, plain_n;
    if (decode(sealed->session_key, "session_key", BLOCK, key, &key_n, reterr) != OK ||
        decode(sealed->iv, "iv", BLOCK, iv, &iv_n, reterr) != OK)
        return reterr->code;
    if (key_n != BLOCK || iv_n != BLOCK)
        return fail(reterr, ERR_BAD_REQUEST, "session_key and iv must have %u bytes", BLOCK);
    AUTO_FREE unsigned char *bytes = xmalloc(base64_bytes(sealed->data.n));
    AUTO_FREE unsigned char *plain = xmalloc(base64_bytes(sealed->data.n) + BLOCK);
    enum err err = decode(sealed->data, "encrypt_data", WECHAT_USERDATA_MAX, bytes, &n, reterr);
    if (err == OK && n % BLOCK != 0)
        err = fail(reterr, ERR_BAD_REQUEST, "encrypt_data has %zu bytes, not a multiple of %u", n, BLOCK);
    if (err == OK && !decrypt(key, iv, (struct slice){(const char *)bytes, n}, plain, &plain_n))
        err = fail(reterr, ERR_BAD_REQUEST, "encrypt_data cannot be decrypted: another login's, or damaged");
    explicit_bzero(key, sizeof key);
    return err != OK ? err : take(app, (struct slice){(const char *)plain, plain_n}, openid, now_s, ret, reterr);
}

void wechat_userdata_none(struct slice openid, struct buf *ret)
{
    buf_append_str(ret, "{\"openId\":");
    json_quote(ret, openid);
    buf_append_char(ret, '}');
}
