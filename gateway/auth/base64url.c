/* gateway/auth/base64url.c: the alphabet tokens are written in. */
#include "gateway/auth/private.h"

static int digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

bool auth_base64url(struct slice text, unsigned char *ret, size_t *ret_n)
{
    uint32_t bits = 0;
    unsigned held = 0;
    size_t n = 0;
    if (text.n % 4 == 1)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        int d = digit(text.p[i]);
        if (d < 0)
            return false;
        bits = bits << 6 | (uint32_t)d;
        held += 6;
        if (held < 8)
            continue;
        held -= 8;
        ret[n++] = (unsigned char)(bits >> held);
        bits &= (1u << held) - 1;
    }
    *ret_n = n;
    return bits == 0;
}
