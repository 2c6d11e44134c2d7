/* base/text.c: the small change of parsing. */
#include "base/text.h"

struct slice text_trim(struct slice s)
{
    while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
        s = slice_from(s, 1);
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

bool text_u64(struct slice s, uint64_t max, uint64_t *ret)
{
    uint64_t v = 0;
    if (s.n == 0 || s.n > 19) /* 19 digits always fit */
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        v = v * 10 + (uint64_t)(s.p[i] - '0');
    }
    if (v > max)
        return false;
    *ret = v;
    return true;
}

int text_hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool text_percent_decode(struct slice s, char *out, size_t size, struct slice *ret)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '%') {
            int high = s.n - i > 2 ? text_hex(s.p[i + 1]) : -1;
            int low = s.n - i > 2 ? text_hex(s.p[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (n == size)
            return false;
        out[n++] = c;
    }
    *ret = (struct slice){out, n};
    return true;
}
