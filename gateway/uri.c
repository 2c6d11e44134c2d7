/* gateway/uri.c: request targets. */
#include "gateway/uri.h"

/* Moves *query behind the next parameter of that name; false when there is none. */
static bool next(struct slice *query, struct slice key, struct slice *ret_value)
{
    while (query->n != 0) {
        const char *amp = memchr(query->p, '&', query->n);
        struct slice pair = {query->p, amp != NULL ? (size_t)(amp - query->p) : query->n};
        *query = amp != NULL ? slice_from(*query, pair.n + 1) : SLICE_NONE;
        if (!slice_starts(pair, key) || (pair.n > key.n && pair.p[key.n] != '='))
            continue;
        *ret_value = pair.n > key.n ? slice_from(pair, key.n + 1) : SLICE_NONE;
        return true;
    }
    return false;
}

struct slice uri_query(struct slice query, const char *name, bool *ret_found)
{
    struct slice value = SLICE_NONE;
    *ret_found = next(&query, slice_str(name), &value);
    return value;
}

unsigned uri_query_count(struct slice query, const char *name)
{
    struct slice ignored;
    unsigned n = 0;
    while (next(&query, slice_str(name), &ignored))
        n++;
    return n;
}

struct slice uri_origin(struct slice url)
{
    const char *after = url.n != 0 ? memmem(url.p, url.n, "://", 3) : NULL;
    if (after == NULL || after == url.p)
        return SLICE_NONE;
    struct slice host = slice_from(url, (size_t)(after - url.p) + 3);
    size_t n = 0;
    while (n < host.n && host.p[n] != '/' && host.p[n] != '?' && host.p[n] != '#')
        n++;
    return n != 0 ? (struct slice){url.p, (size_t)(host.p - url.p) + n} : SLICE_NONE;
}
