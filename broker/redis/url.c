/* broker/redis/url.c: redis://[user:password@]host[:port][/db] */
#include "base/mem.h"
#include "base/text.h"
#include "broker/redis/link.h"

#define PORT_DEFAULT 6379
#define PORT_MAX     65535
#define DB_MAX       1023

/* A copy with %XX resolved; NULL when one is broken or hides a NUL. */
static char *percent_decode(struct slice s)
{
    AUTO_FREE char *out = xmalloc(s.n + 1);
    struct slice decoded;
    if (!text_percent_decode(s, out, s.n, &decoded) || (decoded.n != 0 && memchr(out, '\0', decoded.n) != NULL))
        return NULL;
    out[decoded.n] = '\0';
    return TAKE(out);
}

static bool number(struct slice s, uint32_t max, uint32_t *ret)
{
    uint64_t v;
    if (!text_u64(s, max, &v))
        return false;
    *ret = (uint32_t)v;
    return true;
}

/* Cuts s at the last (or first) c; *ret_after is what follows it. False when there is no c. */
static bool cut(struct slice *s, char c, bool last, struct slice *ret_after)
{
    const char *p = s->n == 0 ? NULL : last ? memrchr(s->p, c, s->n) : memchr(s->p, c, s->n);
    if (p == NULL)
        return false;
    size_t at = (size_t)(p - s->p);
    *ret_after = slice_from(*s, at + 1);
    s->n = at;
    return true;
}

static bool parse_login(struct slice login, struct redis_url *u)
{
    struct slice password;
    if (!cut(&login, ':', false, &password))
        return false;
    u->password = percent_decode(password);
    u->user = login.n != 0 ? percent_decode(login) : NULL;
    return u->password != NULL && (login.n == 0 || u->user != NULL);
}

static bool parse_address(struct slice address, struct redis_url *u)
{
    struct slice port = SLICE_NONE;
    uint32_t port_number = PORT_DEFAULT;
    if (address.n != 0 && address.p[0] == '[') { /* [IPv6] */
        struct slice rest;
        address = slice_from(address, 1);
        if (!cut(&address, ']', false, &rest) || (rest.n != 0 && rest.p[0] != ':'))
            return false;
        if (rest.n != 0)
            port = slice_from(rest, 1);
        if (rest.n != 0 && !number(port, PORT_MAX, &port_number))
            return false;
    } else if (cut(&address, ':', true, &port) && !number(port, PORT_MAX, &port_number)) {
        return false;
    }
    if (address.n == 0 || port_number == 0 || memchr(address.p, '\0', address.n) != NULL)
        return false;
    u->host = xstrndup(address.p, address.n);
    u->port = (int)port_number;
    return true;
}

void redis_url_fini(struct redis_url *url)
{
    free(url->host);
    free(url->user);
    free(url->password);
    *url = (struct redis_url){0};
}

bool redis_url_parse(const char *url, struct redis_url *ret, struct error *reterr)
{
    struct slice s = slice_str(url), db, address;
    struct redis_url u = {0};
    if (slice_starts(s, SLICE("rediss://"))) {
        fail(reterr, ERR_UNSUPPORTED, "rediss:// (TLS to Redis) is not supported by this version; use redis://");
        return false;
    }
    if (!slice_starts(s, SLICE("redis://")))
        goto bad;
    s = slice_from(s, sizeof "redis://" - 1);
    if (cut(&s, '/', true, &db) && db.n != 0 && !number(db, DB_MAX, &u.db))
        goto bad;
    address = s;
    if (cut(&s, '@', true, &address) && !parse_login(s, &u))
        goto bad;
    if (!parse_address(address, &u))
        goto bad;
    *ret = u;
    return true;
bad:
    redis_url_fini(&u);
    fail(reterr, ERR_BAD_REQUEST,
         "not a Redis url: it is redis://[user:password@]host[:port][/db], special letters as %%XX");
    return false;
}
