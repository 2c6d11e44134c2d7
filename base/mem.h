/* base/mem.h: allocation that succeeds or ends the process, and automatic cleanup.
 *
 * Fixed-size allocations abort on failure; whatever a peer can size or multiply meets a limit before it gets here. */
#ifndef XD_BASE_MEM_H
#define XD_BASE_MEM_H

#include <stddef.h>
#include <stdlib.h>

void *xmalloc(size_t n) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t n, size_t size) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *p, size_t n) __attribute__((returns_nonnull));
/* A NUL-terminated copy of n bytes; the caller frees it. */
char *xstrndup(const char *p, size_t n) __attribute__((malloc, returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));

static inline void freep(void *pp)
{
    free(*(void **)pp);
}

/* Freed when it goes out of scope, unless taken. */
#define AUTO_FREE __attribute__((cleanup(freep)))
#define TAKE(p)                                                                                                        \
    ({                                                                                                                 \
        __typeof__(p) taken_ = (p);                                                                                    \
        (p) = NULL;                                                                                                    \
        taken_;                                                                                                        \
    })

#define ARRAY_LEN(a)                    (sizeof(a) / sizeof((a)[0]))
#define BIT(n)                          (1u << (unsigned)(n))
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif
