/* base/file.c: small files, read whole. */
#include "base/file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define STEP 4096

static const char *reason(int error)
{
    return strerror(error); /* NOLINT(concurrency-mt-unsafe): one thread */
}

const char *file_read(const char *path, size_t max, struct buf *ret)
{
    static char too_large[64];
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return reason(errno);
    size_t before = ret->n, n;
    errno = 0;
    while (ret->n - before <= max && (n = fread(buf_reserve(ret, STEP), 1, STEP, f)) != 0)
        ret->n += n;
    int error = ferror(f) ? errno : 0;
    (void)fclose(f);
    if (error != 0)
        return reason(error);
    if (ret->n - before <= max)
        return NULL;
    (void)snprintf(too_large, sizeof too_large, "larger than %zu KiB", max / 1024);
    return too_large;
}
