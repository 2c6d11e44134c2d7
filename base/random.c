/* base/random.c: random values. Small draws come from a pool, so that an id does not cost a system call. */
#include "base/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static unsigned char pool[1024];
static size_t pool_left;

static void from_kernel(void *p, size_t n)
{
    char *at = p;
    while (n != 0) {
        ssize_t got = getrandom(at, n, 0);
        if (got < 0) {
            perror("getrandom");
            abort();
        }
        at += got;
        n -= (size_t)got;
    }
}

void random_bytes(void *p, size_t n)
{
    if (n > sizeof pool / 4) {
        from_kernel(p, n);
        return;
    }
    if (pool_left < n) {
        from_kernel(pool, sizeof pool);
        pool_left = sizeof pool;
    }
    pool_left -= n;
    memcpy(p, pool + pool_left, n);
    memset(pool + pool_left, 0, n);
}

static void random_letters(char *ret, size_t n, const char *alphabet, unsigned mask)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c;
        random_bytes(&c, 1);
        ret[i] = alphabet[c & mask];
    }
    ret[n] = '\0';
}

void random_id(char *ret, size_t n)
{
    random_letters(ret, n, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", 63);
}

void random_hex(char *ret, size_t n)
{
    random_letters(ret, n, "0123456789abcdef", 15);
}

uint32_t random_below(uint32_t below)
{
    uint32_t v;
    random_bytes(&v, sizeof v);
    return v % below;
}
