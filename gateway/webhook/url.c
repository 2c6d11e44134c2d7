/* gateway/webhook/url.c: taking the backend's URL apart. No user and password in it: requests are signed. */
#include "gateway/webhook/url.h"

#include <ctype.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/slice.h"
#include "base/text.h"

static bool made_of(struct slice s, const char *extra)
{
    for (size_t i = 0; i < s.n; i++)
        if (!isalnum((unsigned char)s.p[i]) && (s.p[i] == '\0' || strchr(extra, s.p[i]) == NULL))
            return false;
    return s.n != 0;
}

static size_t find(struct slice s, const char *any)
{
    size_t i = 0;
    while (i < s.n && strchr(any, s.p[i]) == NULL)
        i++;
    return i;
}

/* Cuts the host off the front of *authority; what is left is empty or begins with a colon. */
static bool cut_host(struct slice *authority, struct slice *ret)
{
    bool bracketed = slice_starts(*authority, SLICE("["));
    size_t n = find(*authority, bracketed ? "]" : ":");
    if (bracketed && n == authority->n)
        return false;
    *ret = bracketed ? (struct slice){authority->p + 1, n - 1} : (struct slice){authority->p, n};
    *authority = slice_from(*authority, bracketed ? n + 1 : n);
    return bracketed ? made_of(*ret, ":.") : made_of(*ret, "-._");
}

static bool read_port(struct slice rest, bool tls, uint16_t *ret)
{
    uint64_t port = tls ? 443 : 80;
    if (rest.n != 0 && (rest.p[0] != ':' || !text_u64(slice_from(rest, 1), UINT16_MAX, &port) || port == 0))
        return false;
    *ret = (uint16_t)port;
    return true;
}

static bool target_valid(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] == 127 || s.p[i] == '#') /* letters beyond ASCII are negative */
            return false;
    return true;
}

enum err webhook_url_parse(const char *text, struct webhook_url *ret, struct error *reterr)
{
    struct slice rest = slice_str(text), host;
    struct webhook_url u = {.tls = slice_starts(rest, SLICE("https://"))};
    if (rest.n > WEBHOOK_URL_MAX)
        return fail(reterr, ERR_BAD_REQUEST, "longer than %u bytes", WEBHOOK_URL_MAX);
    if (!u.tls && !slice_starts(rest, SLICE("http://")))
        return fail(reterr, ERR_BAD_REQUEST, "it must begin with https:// or http://");
    rest = slice_from(rest, u.tls ? 8 : 7);
    size_t n = find(rest, "/?#");
    struct slice authority = {rest.p, n}, target = slice_from(rest, n), port = authority;
    if (memchr(rest.p, '@', n) != NULL)
        return fail(reterr, ERR_BAD_REQUEST, "no user and password: requests are signed, see backend-secret-file");
    if (!cut_host(&port, &host) || host.n > 255)
        return fail(reterr, ERR_BAD_REQUEST, "\"%.*s\" is not a host", (int)(n < 60 ? n : 60), authority.p);
    if (!read_port(port, u.tls, &u.port))
        return fail(reterr, ERR_BAD_REQUEST, "\"%.*s\" is not a port", (int)(port.n < 20 ? port.n : 20), port.p);
    if (!target_valid(target))
        return fail(reterr, ERR_BAD_REQUEST, "its path must be printable ASCII, percent-encoded, without a #");
    u.host = xstrndup(host.p, host.n);
    u.authority = xstrndup(authority.p, authority.n);
    u.target = xmalloc(target.n + 2);
    (void)snprintf(u.target, target.n + 2, "%s%.*s", slice_starts(target, SLICE("/")) ? "" : "/", SLICE_FMT(target));
    *ret = u;
    return OK;
}

void webhook_url_fini(struct webhook_url *u)
{
    free(u->host);
    free(u->authority);
    free(u->target);
    *u = (struct webhook_url){0};
}
