/* gateway/webhook/keys.c: the keys of the signature, and the signature. */
#include "gateway/webhook/keys.h"

#include <inttypes.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"

#define FILE_MAX 4096u

enum err webhook_keys_parse(struct slice text, const char *file, struct webhook_keys *ret, struct error *reterr)
{
    struct webhook_keys k = {.count = 0};
    while (text.n != 0) {
        const char *end = memchr(text.p, '\n', text.n);
        size_t n = end != NULL ? (size_t)(end - text.p) : text.n;
        struct slice line = {text.p, n};
        text = slice_from(text, end != NULL ? n + 1 : n);
        if (line.n != 0 && line.p[line.n - 1] == '\r')
            line.n--;
        line = text_trim(line);
        if (line.n == 0)
            continue;
        if (k.count == BACKEND_KEYS_MAX)
            return fail(reterr, ERR_BAD_REQUEST, "backend-secret-file %.100s: more than %u lines with keys", file,
                        BACKEND_KEYS_MAX);
        if (line.n < BACKEND_KEY_MIN || line.n > BACKEND_KEY_MAX)
            return fail(reterr, ERR_BAD_REQUEST,
                        "backend-secret-file %.100s: key %zu has %zu bytes; from %u to %u are needed (openssl rand "
                        "-hex 32)",
                        file, k.count + 1, line.n, BACKEND_KEY_MIN, BACKEND_KEY_MAX);
        memcpy(k.text[k.count], line.p, line.n);
        k.n[k.count++] = line.n;
    }
    if (k.count == 0)
        return fail(reterr, ERR_BAD_REQUEST, "backend-secret-file %.100s: there is no key in it", file);
    *ret = k;
    return OK;
}

enum err webhook_keys_read(const char *file, struct webhook_keys *ret, struct error *reterr)
{
    struct buf text = BUF_INIT;
    const char *why = file_read(file, FILE_MAX, &text);
    enum err err = why != NULL ? fail(reterr, ERR_BAD_REQUEST, "backend-secret-file %.100s: %s", file, why)
                               : webhook_keys_parse(buf_slice(&text), file, ret, reterr);
    if (text.p != NULL)
        explicit_bzero(text.p, text.n);
    buf_fini(&text);
    return err;
}

void webhook_sign(const struct webhook_keys *keys, uint64_t time_s, struct slice body, struct buf *ret)
{
    struct buf text = BUF_INIT;
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    buf_append_u64(&text, time_s);
    buf_append_char(&text, '.');
    buf_append(&text, body);
    for (size_t i = 0; i < keys->count; i++) {
        if (HMAC(EVP_sha256(), keys->text[i], (int)keys->n[i], (const unsigned char *)text.p, text.n, mac, &n) == NULL)
            abort(); /* memory only */
        buf_append_str(ret, i == 0 ? "v1=" : ",v1=");
        for (unsigned j = 0; j < n; j++)
            buf_printf(ret, "%02x", mac[j]);
    }
    buf_fini(&text);
}
