/* tests/support/log_catch.c: stderr into a file and back. */
#include "tests/support/log_catch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"

static int saved = -1;
static FILE *sink;
static enum log_level threshold;

void log_catch_start(void)
{
    sink = tmpfile();
    saved = dup(STDERR_FILENO);
    if (sink == NULL || saved < 0 || dup2(fileno(sink), STDERR_FILENO) < 0)
        abort();
    threshold = log_threshold;
    log_threshold = LOG_INFO;
}

static void read_all(struct buf *ret)
{
    char part[4096];
    ssize_t n;
    off_t at = 0;
    while ((n = pread(fileno(sink), part, sizeof part, at)) > 0) {
        buf_append(ret, (struct slice){part, (size_t)n});
        at += n;
    }
    buf_append_char(ret, '\0');
}

bool log_caught(const char *text)
{
    struct buf b = BUF_INIT;
    read_all(&b);
    bool found = strstr(b.p, text) != NULL;
    buf_fini(&b);
    return found;
}

void log_catch_stop(bool show)
{
    if (sink == NULL)
        return;
    struct buf b = BUF_INIT;
    read_all(&b);
    (void)dup2(saved, STDERR_FILENO);
    (void)close(saved);
    (void)fclose(sink);
    sink = NULL;
    log_threshold = threshold;
    if (show)
        fprintf(stderr, "%s", b.p);
    buf_fini(&b);
}
