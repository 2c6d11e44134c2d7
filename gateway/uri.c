/* gateway/uri.c: request targets. */
#include "gateway/uri.h"

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool uri_decode(struct slice s, char *out, size_t size, struct slice *ret)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '%') {
            int high = s.n - i > 2 ? hex(s.p[i + 1]) : -1;
            int low = s.n - i > 2 ? hex(s.p[i + 2]) : -1;
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

struct slice uri_query(struct slice query, const char *name, bool *ret_found)
{
    struct slice key = slice_str(name);
    *ret_found = false;
    while (query.n != 0) {
        const char *amp = memchr(query.p, '&', query.n);
        struct slice pair = {query.p, amp != NULL ? (size_t)(amp - query.p) : query.n};
        query = amp != NULL ? slice_from(query, pair.n + 1) : SLICE_NONE;
        if (!slice_starts(pair, key) || (pair.n > key.n && pair.p[key.n] != '='))
            continue;
        *ret_found = true;
        return pair.n > key.n ? slice_from(pair, key.n + 1) : SLICE_NONE;
    }
    return SLICE_NONE;
}

bool uri_uint(struct slice s, uint64_t max, uint64_t *ret)
{
    uint64_t v = 0;
    if (s.n == 0 || s.n > 19)
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
