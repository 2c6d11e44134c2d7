/* gateway/doctor/target.c: the URL under examination. */
#include "gateway/doctor/target.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/text.h"

#define HTTPS_PORT 443

struct scheme {
    struct slice prefix;
    bool secure;
};

static bool printable(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] > '~')
            return false;
    return true;
}

static bool is_address(const char *host)
{
    unsigned char address[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

/* HOST, HOST:PORT, [ADDRESS] or [ADDRESS]:PORT. */
static enum err parse_authority(struct slice s, struct target *t, struct error *reterr)
{
    bool bracketed = s.n != 0 && s.p[0] == '[';
    const char *end = memchr(s.n != 0 ? s.p : "", bracketed ? ']' : ':', s.n);
    if (bracketed && end == NULL)
        return fail(reterr, ERR_BAD_REQUEST, "doctor: a [ without its ] in the URL");
    struct slice host = bracketed ? (struct slice){s.p + 1, (size_t)(end - s.p) - 1}
                                  : (struct slice){s.p, end != NULL ? (size_t)(end - s.p) : s.n};
    struct slice rest = slice_from(s, host.n + (bracketed ? 2 : 0));
    uint64_t port = HTTPS_PORT;
    if (host.n == 0 || host.n > HOST_MAX)
        return fail(reterr, ERR_BAD_REQUEST, "doctor: the URL has no host of 1 to %d characters", HOST_MAX);
    if (rest.n != 0 && (rest.p[0] != ':' || !text_u64(slice_from(rest, 1), UINT16_MAX, &port) || port == 0))
        return fail(reterr, ERR_BAD_REQUEST, "doctor: \"%.*s\" behind the host is not :PORT",
                    rest.n < 40 ? (int)rest.n : 40, rest.p);
    for (size_t i = 0; i < host.n; i++) {
        t->host[i] = (char)tolower((unsigned char)host.p[i]);
        if (!isalnum((unsigned char)host.p[i]) && strchr(bracketed ? ":." : "-._", host.p[i]) == NULL)
            return fail(reterr, ERR_BAD_REQUEST,
                        "doctor: the host has a '%c'; names in other scripts are written as xn--…", host.p[i]);
    }
    t->host[host.n] = '\0';
    t->port = (uint16_t)port;
    t->literal = is_address(t->host);
    if (bracketed && !t->literal)
        return fail(reterr, ERR_BAD_REQUEST, "doctor: [%.60s] is not an IPv6 address", t->host);
    const char *open = bracketed ? "[" : "", *close = bracketed ? "]" : "";
    if (port == HTTPS_PORT)
        (void)snprintf(t->authority, sizeof t->authority, "%s%s%s", open, t->host, close);
    else
        (void)snprintf(t->authority, sizeof t->authority, "%s%s%s:%u", open, t->host, close, (unsigned)t->port);
    return OK;
}

enum err target_parse(const char *url, struct target *ret, struct error *reterr)
{
    static const struct scheme schemes[] = {
        {{"https://", 8}, true}, {{"wss://", 6}, true}, {{"http://", 7}, false}, {{"ws://", 5}, false}};
    struct slice s = slice_str(url);
    const struct scheme *scheme = NULL;
    struct target t = {0};
    for (size_t i = 0; i < ARRAY_LEN(schemes) && scheme == NULL; i++)
        if (slice_starts(s, schemes[i].prefix))
            scheme = &schemes[i];
    if (scheme == NULL)
        return fail(reterr, ERR_BAD_REQUEST,
                    "doctor: the URL must begin with https:// or wss://, such as https://im.example.com/ws");
    if (s.n > URL_MAX || !printable(s))
        return fail(reterr, ERR_BAD_REQUEST,
                    "doctor: the URL must be at most %d printable ASCII characters; names in other scripts are written "
                    "as xn--…",
                    URL_MAX);
    s = slice_from(s, scheme->prefix.n);
    size_t n = strcspn(s.p, "/?#");
    struct slice authority = {s.p, n};
    if (memchr(s.p, '@', n) != NULL)
        return fail(reterr, ERR_BAD_REQUEST, "doctor: no user and password in the URL; a token is ?token=…");
    enum err e = parse_authority(authority, &t, reterr);
    if (e != OK)
        return e;
    s = slice_from(s, n);
    s.n = strcspn(s.p, "#");
    if (s.n != 0 && s.p[0] == '?')
        return fail(reterr, ERR_BAD_REQUEST, "doctor: a query needs a path before it: https://%.80s/ws?…", t.authority);
    t.path = s.n > 1 ? s : SLICE("/ws");
    t.secure = scheme->secure;
    *ret = t;
    return OK;
}

/* --- judgement --- */

/* Labels of letters, digits and inner hyphens, at least two of them (RFC 1123 §2.1). */
static const char *bad_name(const char *host)
{
    if (strchr(host, '_') != NULL)
        return "no certificate is issued for a name with an underscore, and Android refuses it";
    if (strcmp(host, "localhost") == 0 || strchr(host, '.') == NULL)
        return "is no public domain name";
    for (const char *label = host;;) {
        size_t n = strcspn(label, ".");
        if (n == 0 || n > 63 || label[0] == '-' || label[n - 1] == '-')
            return "has an empty label, one of more than 63 characters, or one with a hyphen at its end";
        if (label[n] == '\0')
            return NULL;
        label += n + 1;
    }
}

void target_check(const struct target *t, struct report *r)
{
    static const char what[] = "url";
    const char *bad = t->literal ? NULL : bad_name(t->host);
    if (!t->secure)
        report_line(r, VERDICT_FAIL, what,
                    "use https:// and wss://; --insecure is for gateways behind a proxy that ends TLS",
                    "mini-programs and pages on https refuse plain http and ws");
    else if (t->literal)
        report_line(r, VERDICT_FAIL, what, "use a domain name", "%s is an address; mini-programs take names only",
                    t->host);
    else if (strcmp(t->host, "api.weixin.qq.com") == 0)
        report_line(r, VERDICT_FAIL, what, "use a domain of your own",
                    "WeChat's own API is a domain no mini-program may call");
    else if (bad != NULL)
        report_line(r, VERDICT_FAIL, what, "use a domain name such as im.example.com", "%s: %s", t->host, bad);
    else if (t->port != HTTPS_PORT)
        report_line(r, VERDICT_WARN, what,
                    "for https the console must name this port; 443 needs no thought, and passes every firewall",
                    "port %u: wss is let through on every port of a listed domain, https only on the listed one",
                    (unsigned)t->port);
    else
        report_line(r, VERDICT_OK, what, NULL, "a domain name, TLS, port 443");
}
