/* tests/fuzz/fuzz_mina.c: what the session service reads of others: requests of business servers, answers of WeChat, user data of clients, and the file of apps.
 *
 * The first byte says which: 'W' an answer, 'U' user data that has been decrypted (it is encrypted here first), 'A' the file, anything else a request. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include <openssl/evp.h>

#include "base/base64.h"
#include "base/mem.h"
#include "gateway/mina_body.h"
#include "gateway/wechat/exchange.h"
#include "gateway/wechat/userdata.h"
#include "proto/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_request(struct slice text)
{
    struct mina_body body;
    struct arena arena;
    const char *why = NULL;
    arena_init(&arena, (size_t)2 * MINA_BODY_MAX);
    enum mina_code code = mina_body_parse(text, &arena, &body, &why);
    assert((code == MINA_OK) == (why == NULL));
    if (code == MINA_OK && body.interface == MINA_LOGIN)
        assert(body.code.n != 0 && body.code.n <= WECHAT_CODE_MAX && (body.data.n == 0) == (body.iv.n == 0));
    if (code == MINA_OK && body.interface == MINA_CHECK)
        assert(body.id.n == MINA_ID_LEN && body.name.n == MINA_NAME_LEN && body.skey.n != 0);
    arena_reset(&arena);
}

static void try_answer(struct slice text)
{
    struct wechat_identity who;
    struct arena arena;
    arena_init(&arena, 4096);
    wechat_answer_read(200, text, &arena, &who);
    assert((who.verdict == WECHAT_KNOWN) == (who.why == NULL));
    if (who.verdict == WECHAT_KNOWN)
        assert(who.openid.n != 0 && who.openid.n <= WECHAT_OPENID_MAX && who.session_key.n != 0);
    arena_reset(&arena);
}

static void try_userdata(struct slice text)
{
    static const unsigned char key[16], iv[16];
    char letters[64];
    struct wechat_app app = {.appid = (char[]){"wx1"}};
    struct buf info = BUF_INIT;
    struct error error;
    int n = 0, last = 0;
    AUTO_FREE unsigned char *sealed = xmalloc(text.n + 32);
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    assert(EVP_EncryptInit_ex(c, EVP_aes_128_cbc(), NULL, key, iv) == 1);
    assert(EVP_EncryptUpdate(c, sealed, &n, (const unsigned char *)text.p, (int)text.n) == 1);
    assert(EVP_EncryptFinal_ex(c, sealed + n, &last) == 1);
    EVP_CIPHER_CTX_free(c);
    struct slice bytes = {(const char *)sealed, (size_t)(n + last)};
    AUTO_FREE char *base64 = xmalloc(base64_letters(bytes.n));
    struct slice zeros = {letters, (size_t)(base64_put((struct slice){(const char *)key, 16}, letters) - letters)};
    const struct wechat_sealed what = {
        .session_key = zeros, .iv = zeros, .data = {base64, (size_t)(base64_put(bytes, base64) - base64)}};
    if (wechat_userdata_open(&app, &what, SLICE("oA"), 1700000000, &info, &error) == OK)
        assert(json_check(buf_slice(&info), &error) == OK && info.p[0] == '{');
    else
        assert(info.n == 0 && error.text[0] != '\0');
    buf_fini(&info);
}

static void try_apps(struct slice text)
{
    struct error error = {0};
    struct wechat_apps *apps = wechat_apps_parse(text, &error);
    assert((apps == NULL) == (error.text[0] != '\0'));
    wechat_apps_unref(&apps);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = {(const char *)data, size};
    if (size == 0)
        return 0;
    switch (data[0]) {
    case 'W': try_answer(slice_from(text, 1)); break;
    case 'U': try_userdata(slice_from(text, 1)); break;
    case 'A': try_apps(slice_from(text, 1)); break;
    default: try_request(text);
    }
    return 0;
}
