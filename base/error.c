/* base/error.c: names and attributes of the error codes. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

#define X(code, name, retry, http, close) [code] = {name, retry, http, close},
static const struct {
    const char *name;
    bool retry;
    int http, close;
} errors[ERR_COUNT] = {[OK] = {"ok", false, 200, 1000}, ERR_MAP(X)};
#undef X

const char *err_name(enum err code)
{
    return errors[code].name;
}

bool err_retry(enum err code)
{
    return errors[code].retry;
}

int err_http_status(enum err code)
{
    return errors[code].http;
}

int err_close_code(enum err code)
{
    return errors[code].close;
}

#undef fail
enum err fail(struct error *reterr, enum err code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(reterr->text, sizeof reterr->text, fmt, ap);
    va_end(ap);
    reterr->code = code;
    return code;
}
