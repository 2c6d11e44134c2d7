/* base/slice.h: a borrowed run of bytes. Never owns, never NUL-terminated. */
#ifndef XD_BASE_SLICE_H
#define XD_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const char *p; /* may be NULL when n is 0 */
    size_t n;
};

#define SLICE(literal) ((struct slice){"" literal, sizeof(literal) - 1})
#define SLICE_NONE     ((struct slice){NULL, 0})
/* For printf's "%.*s". */
#define SLICE_FMT(s) (int)(s).n, ((s).p != NULL ? (s).p : "")

static inline struct slice slice_str(const char *s)
{
    return s == NULL ? SLICE_NONE : (struct slice){s, strlen(s)};
}

static inline bool slice_eq(struct slice a, struct slice b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool slice_starts(struct slice s, struct slice prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

static inline bool slice_ends(struct slice s, struct slice end)
{
    return s.n >= end.n && (end.n == 0 || memcmp(s.p + s.n - end.n, end.p, end.n) == 0);
}

/* The part of s from byte `from` on; from must not be past the end. */
static inline struct slice slice_from(struct slice s, size_t from)
{
    return (struct slice){s.p + from, s.n - from};
}

/* Copies s to *at, which has room for it, and goes on behind it: for what is allocated together with its owner. Returns the copy. */
static inline struct slice slice_put(char **at, struct slice s)
{
    struct slice placed = {*at, s.n};
    if (s.n != 0)
        memcpy(*at, s.p, s.n);
    *at += s.n;
    return placed;
}

#endif
