/* base/base64.c: three bytes are four letters. */
#include "base/base64.h"

#include <stdint.h>

static int digit(enum base64 alphabet, char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (alphabet == BASE64URL)
        return c == '-' ? 62 : c == '_' ? 63 : -1;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

char *base64_put(struct slice bytes, char *to)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < bytes.n; i += 3) {
        size_t left = bytes.n - i;
        uint32_t v = (uint32_t)(unsigned char)bytes.p[i] << 16;
        v |= left > 1 ? (uint32_t)(unsigned char)bytes.p[i + 1] << 8 : 0;
        v |= left > 2 ? (uint32_t)(unsigned char)bytes.p[i + 2] : 0;
        *to++ = letters[v >> 18];
        *to++ = letters[v >> 12 & 63];
        *to++ = left > 1 ? letters[v >> 6 & 63] : '=';
        *to++ = left > 2 ? letters[v & 63] : '=';
    }
    return to;
}

void base64url_append(struct buf *ret, struct slice bytes)
{
    char *at = buf_reserve(ret, base64_letters(bytes.n)), *end = base64_put(bytes, at);
    while (end != at && end[-1] == '=')
        end--;
    for (char *c = at; c != end; c++)
        *c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
    ret->n += (size_t)(end - at);
}

bool base64_take(enum base64 alphabet, struct slice text, void *ret, size_t *ret_n)
{
    unsigned char *to = ret;
    uint32_t bits = 0;
    unsigned held = 0;
    size_t n = 0;
    if (text.n % 4 == 1 || (alphabet == BASE64 && text.n % 4 != 0))
        return false;
    if (alphabet == BASE64)
        text.n -= slice_ends(text, SLICE("==")) ? 2 : slice_ends(text, SLICE("=")) ? 1 : 0;
    for (size_t i = 0; i < text.n; i++) {
        int d = digit(alphabet, text.p[i]);
        if (d < 0)
            return false;
        bits = bits << 6 | (uint32_t)d;
        held += 6;
        if (held < 8)
            continue;
        held -= 8;
        to[n++] = (unsigned char)(bits >> held);
        bits &= (1u << held) - 1;
    }
    *ret_n = n;
    return bits == 0;
}
