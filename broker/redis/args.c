/* broker/redis/args.c: building commands. */
#include "broker/redis/args.h"

#include <assert.h>
#include <stdlib.h>

#define ARGS_BYTES (4u << 20)

void args_init(struct args *a)
{
    arena_init(&a->arena, ARGS_BYTES);
    a->n = 0;
}

void args_fini(struct args *a)
{
    arena_reset(&a->arena);
}

/* Names are bounded by their limits, so only a bug can fill the arena. */
static char *reserve(struct args *a, size_t n)
{
    char *p = arena_alloc(&a->arena, n);
    if (p == NULL)
        abort();
    return p;
}

void arg_slice(struct args *a, struct slice s)
{
    assert(a->n < ARGS_MAX);
    a->v[a->n] = s.n != 0 ? s.p : "";
    a->len[a->n++] = s.n;
}

void arg_str(struct args *a, const char *s)
{
    arg_slice(a, slice_str(s));
}

void arg_u64(struct args *a, uint64_t v)
{
    char *end = reserve(a, 20) + 20, *p = end;
    do {
        *--p = (char)('0' + v % 10);
        v /= 10;
    } while (v != 0);
    arg_slice(a, (struct slice){p, (size_t)(end - p)});
}

static char *put(char *to, struct slice s)
{
    if (s.n != 0)
        memcpy(to, s.p, s.n);
    return to + s.n;
}

void arg_join(struct args *a, struct slice first, struct slice second)
{
    char *p = reserve(a, first.n + second.n);
    (void)put(put(p, first), second);
    arg_slice(a, (struct slice){p, first.n + second.n});
}

static bool is_plain(char c)
{
    return c != '{' && c != '}' && c != '%';
}

size_t key_encoded_len(struct slice name)
{
    size_t n = name.n;
    for (size_t i = 0; i < name.n; i++)
        n += is_plain(name.p[i]) ? 0 : 2;
    return n;
}

char *key_encode(char *ret, struct slice name)
{
    for (size_t i = 0; i < name.n; i++) {
        unsigned char c = (unsigned char)name.p[i];
        if (is_plain(name.p[i])) {
            *ret++ = name.p[i];
            continue;
        }
        *ret++ = '%';
        *ret++ = "0123456789ABCDEF"[c >> 4];
        *ret++ = "0123456789ABCDEF"[c & 15];
    }
    return ret;
}

struct slice arg_key(struct args *a, const char *before, struct slice name, const char *after)
{
    size_t n = strlen(before) + 1 + key_encoded_len(name) + 1 + strlen(after);
    char *p = reserve(a, n), *at = put(p, slice_str(before));
    *at++ = '{';
    at = key_encode(at, name);
    *at++ = '}';
    (void)put(at, slice_str(after));
    struct slice key = {p, n};
    arg_slice(a, key);
    return key;
}
