/* base/mem.c: allocation that succeeds or ends the process. */
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static void *must(void *p, size_t n)
{
    if (p == NULL) {
        (void)fprintf(stderr, "out of memory allocating %zu bytes\n", n);
        abort();
    }
    return p;
}

void *xmalloc(size_t n)
{
    return must(malloc(n != 0 ? n : 1), n);
}

void *xcalloc(size_t n, size_t size)
{
    return must(calloc(n != 0 ? n : 1, size), n * size);
}

void *xrealloc(void *p, size_t n)
{
    return must(realloc(p, n != 0 ? n : 1), n);
}

char *xstrndup(const char *p, size_t n)
{
    char *copy = xmalloc(n + 1);
    if (n != 0)
        memcpy(copy, p, n);
    copy[n] = '\0';
    return copy;
}

char *xstrdup(const char *s)
{
    return xstrndup(s, strlen(s));
}
