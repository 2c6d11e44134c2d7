/* gateway/uri.c: request targets. */
#include "gateway/uri.h"

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
