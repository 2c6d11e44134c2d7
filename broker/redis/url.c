/* broker/redis/url.c: the urls of Redis, with or without TLS, Sentinel and Cluster, to a struct redis_url. */
#include "broker/redis/url.h"

#include <arpa/inet.h>

#include "base/mem.h"
#include "base/text.h"

#define URL_MAX       4096
#define HOSTS_MAX     32
#define HOST_LEN_MAX  255
#define NAME_LEN_MAX  128
#define PORT_REDIS    6379
#define PORT_SENTINEL 26379
#define PORT_MAX      65535
#define DB_MAX        1023

static const struct scheme {
    const char *begin;
    enum redis_topology topology;
    bool tls;
    int port;
} schemes[] = {
    {"redis://", REDIS_STANDALONE, false, PORT_REDIS},
    {"rediss://", REDIS_STANDALONE, true, PORT_REDIS},
    {"redis+sentinel://", REDIS_SENTINEL, false, PORT_SENTINEL},
    {"rediss+sentinel://", REDIS_SENTINEL, true, PORT_SENTINEL},
    {"redis+cluster://", REDIS_CLUSTER, false, PORT_REDIS},
    {"rediss+cluster://", REDIS_CLUSTER, true, PORT_REDIS},
};

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

static bool letters(struct slice s, const char *extra)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              (c != '\0' && strchr(extra, c) != NULL)))
            return false;
    }
    return true;
}

static enum err parse_login(struct slice login, struct redis_url *u, struct error *reterr)
{
    struct slice password;
    if (!cut(&login, ':', false, &password))
        return fail(reterr, ERR_BAD_REQUEST, "what stands before the @ must be user:password@ or :password@");
    u->password = percent_decode(password);
    u->user = login.n != 0 ? percent_decode(login) : NULL;
    if (u->password == NULL || (login.n != 0 && u->user == NULL))
        return fail(reterr, ERR_BAD_REQUEST, "the %s has a %% that is not followed by two hex digits (other than 00)",
                    u->password == NULL ? "password" : "user name");
    return OK;
}

/* An address of numbers must be one, anything else may be a name. */
static bool host_valid(const char *host, bool bracketed)
{
    unsigned char address[sizeof(struct in6_addr)];
    struct slice s = slice_str(host);
    if (bracketed)
        return inet_pton(AF_INET6, host, address) == 1;
    if (host[strspn(host, "0123456789.")] == '\0')
        return inet_pton(AF_INET, host, address) == 1;
    return letters(s, "-._");
}

/* host, host:port, [IPv6] or [IPv6]:port, the number-th of the url. */
static enum err parse_host(struct slice s, size_t number, struct redis_host *ret, struct error *reterr)
{
    struct slice port = SLICE_NONE, rest;
    bool bracketed = s.n != 0 && s.p[0] == '[', has_port;
    uint64_t value = 0;
    if (bracketed) {
        s = slice_from(s, 1);
        if (!cut(&s, ']', false, &rest) || (rest.n != 0 && rest.p[0] != ':'))
            return fail(reterr, ERR_BAD_REQUEST, "host %zu is not [IPv6] or [IPv6]:port", number);
        has_port = rest.n != 0;
        port = has_port ? slice_from(rest, 1) : rest;
    } else {
        has_port = cut(&s, ':', true, &port);
    }
    if (has_port && (!text_u64(port, PORT_MAX, &value) || value == 0))
        return fail(reterr, ERR_BAD_REQUEST, "the port of host %zu is not a number from 1 to %d", number, PORT_MAX);
    if (s.n == 0)
        return fail(reterr, ERR_BAD_REQUEST, "host %zu has no name", number);
    if (s.n > HOST_LEN_MAX)
        return fail(reterr, ERR_BAD_REQUEST, "host %zu has %zu letters, at most %d", number, s.n, HOST_LEN_MAX);
    if (has_port)
        ret->port = (int)value;
    ret->host = xstrndup(s.p, s.n);
    if (strlen(ret->host) != s.n || !host_valid(ret->host, bracketed))
        return fail(reterr, ERR_BAD_REQUEST, "host %zu is not a name, an IPv4 address or [an IPv6 address]", number);
    return OK;
}

static enum err parse_hosts(struct slice s, const struct scheme *scheme, struct redis_url *u, struct error *reterr)
{
    struct slice next = s;
    bool more = true;
    u->hosts = xcalloc(HOSTS_MAX, sizeof *u->hosts);
    while (more) {
        s = next;
        more = cut(&s, ',', false, &next);
        if (u->host_count == HOSTS_MAX)
            return fail(reterr, ERR_BAD_REQUEST, "more than %d hosts", HOSTS_MAX);
        struct redis_host *host = &u->hosts[u->host_count++];
        host->port = scheme->port;
        enum err e = parse_host(s, u->host_count, host, reterr);
        if (e != OK)
            return e;
    }
    if (u->topology == REDIS_STANDALONE && u->host_count > 1)
        return fail(reterr, ERR_BAD_REQUEST,
                    "%zu hosts: %s takes one; several are sentinels (redis+sentinel://) or nodes of a Redis Cluster "
                    "(redis+cluster://)",
                    u->host_count, scheme->begin);
    return OK;
}

static enum err parse_db(struct slice s, struct redis_url *u, struct error *reterr)
{
    uint64_t db;
    if (s.n == 0)
        return OK;
    if (!text_u64(s, DB_MAX, &db))
        return fail(reterr, ERR_BAD_REQUEST, "the database after the last / is not a number from 0 to %d", DB_MAX);
    u->db = (uint32_t)db;
    return OK;
}

static enum err parse_service(struct slice path, struct redis_url *u, struct error *reterr)
{
    struct slice db = SLICE_NONE;
    (void)cut(&path, '/', false, &db);
    if (path.n == 0)
        return fail(reterr, ERR_BAD_REQUEST,
                    "no name of the primary: redis+sentinel://host,host/NAME, NAME as in \"sentinel monitor NAME …\"");
    /* The letters that Sentinel itself allows. */
    if (path.n > NAME_LEN_MAX || !letters(path, ".-_"))
        return fail(reterr, ERR_BAD_REQUEST, "the name of the primary is not 1 to %d of A-Z a-z 0-9 . - _",
                    NAME_LEN_MAX);
    u->service = xstrndup(path.p, path.n);
    return parse_db(db, u, reterr);
}

static enum err parse_path(struct slice path, struct redis_url *u, struct error *reterr)
{
    switch (u->topology) {
    case REDIS_STANDALONE: return parse_db(path, u, reterr);
    case REDIS_SENTINEL: return parse_service(path, u, reterr);
    case REDIS_CLUSTER:
        if (path.n != 0)
            return fail(reterr, ERR_BAD_REQUEST, "a Redis Cluster has no databases: nothing may follow the hosts");
    }
    return OK;
}

enum { FOR_TLS = 1, FOR_SENTINEL = 2, FOR_ONE = 3 };

static const struct parameter {
    const char *name;
    size_t offset; /* of a char * in struct redis_url */
    unsigned needs;
} parameters[] = {
    {"ca", offsetof(struct redis_url, ca), FOR_TLS},
    {"cert", offsetof(struct redis_url, cert), FOR_TLS},
    {"key", offsetof(struct redis_url, key), FOR_TLS},
    {"server_name", offsetof(struct redis_url, server_name), FOR_TLS},
    {"sentinel_user", offsetof(struct redis_url, sentinel_user), FOR_SENTINEL},
    {"sentinel_password", offsetof(struct redis_url, sentinel_password), FOR_SENTINEL},
    {"replica", offsetof(struct redis_url, replica_text), FOR_ONE},
};

static enum err unknown_parameter(struct slice name, struct error *reterr)
{
    /* What does not look like a name may be part of a password. */
    if (name.n == 0 || name.n > 32 || !letters(name, "-_"))
        return fail(reterr, ERR_BAD_REQUEST, "what follows the ? must be name=value, several with & between them");
    return fail(reterr, ERR_BAD_REQUEST,
                "unknown parameter \"%.*s\"; there are ca, cert, key, server_name, sentinel_user, sentinel_password, "
                "replica",
                SLICE_FMT(name));
}

static enum err parse_parameter(struct slice s, struct redis_url *u, struct error *reterr)
{
    struct slice value = SLICE_NONE;
    const struct parameter *p = parameters;
    bool has_value = cut(&s, '=', false, &value);
    while (p < parameters + ARRAY_LEN(parameters) && !slice_eq(s, slice_str(p->name)))
        p++;
    if (p == parameters + ARRAY_LEN(parameters))
        return unknown_parameter(s, reterr);
    if (p->needs == FOR_TLS && !u->tls)
        return fail(reterr, ERR_BAD_REQUEST, "%s is for TLS: it goes with rediss://, with two s", p->name);
    if (p->needs == FOR_SENTINEL && u->topology != REDIS_SENTINEL)
        return fail(reterr, ERR_BAD_REQUEST, "%s goes with redis+sentinel:// only", p->name);
    if (p->needs == FOR_ONE && u->topology != REDIS_STANDALONE)
        return fail(reterr, ERR_BAD_REQUEST, "%s goes with redis:// and rediss:// only", p->name);
    char **field = (char **)(void *)((char *)u + p->offset);
    if (!has_value || value.n == 0)
        return fail(reterr, ERR_BAD_REQUEST, "%s has no value", p->name);
    if (*field != NULL)
        return fail(reterr, ERR_BAD_REQUEST, "%s is given twice", p->name);
    *field = percent_decode(value);
    if (*field == NULL)
        return fail(reterr, ERR_BAD_REQUEST, "%s has a %% that is not followed by two hex digits (other than 00)",
                    p->name);
    return OK;
}

static enum err parse_replica(struct redis_url *u, struct error *reterr)
{
    struct error ignored;
    u->replica.port = PORT_REDIS;
    if (parse_host(slice_str(u->replica_text), 1, &u->replica, &ignored) != OK)
        return fail(reterr, ERR_BAD_REQUEST, "replica is not host or host:port ([IPv6] in brackets)");
    return OK;
}

static enum err parse_query(struct slice s, struct redis_url *u, struct error *reterr)
{
    struct slice next = s;
    bool more = s.n != 0;
    while (more) {
        s = next;
        more = cut(&s, '&', false, &next);
        enum err e = parse_parameter(s, u, reterr);
        if (e != OK)
            return e;
    }
    if ((u->cert == NULL) != (u->key == NULL))
        return fail(reterr, ERR_BAD_REQUEST, "%s without %s: a client certificate needs both",
                    u->cert != NULL ? "cert" : "key", u->cert != NULL ? "key" : "cert");
    if (u->server_name != NULL && (strlen(u->server_name) > HOST_LEN_MAX ||
                                   (!host_valid(u->server_name, false) && !host_valid(u->server_name, true))))
        return fail(reterr, ERR_BAD_REQUEST, "server_name is not a name or an address");
    if (u->sentinel_user != NULL && u->sentinel_password == NULL)
        return fail(reterr, ERR_BAD_REQUEST, "sentinel_user without sentinel_password");
    return u->replica_text != NULL ? parse_replica(u, reterr) : OK;
}

static enum err parse(struct slice s, struct redis_url *u, struct error *reterr)
{
    const struct scheme *scheme = schemes;
    while (scheme < schemes + ARRAY_LEN(schemes) && !slice_starts(s, slice_str(scheme->begin)))
        scheme++;
    if (scheme == schemes + ARRAY_LEN(schemes))
        return fail(reterr, ERR_BAD_REQUEST,
                    "the url must begin with redis://, redis+sentinel:// or redis+cluster://, or with rediss instead "
                    "of redis for TLS");
    if (s.n > URL_MAX)
        return fail(reterr, ERR_BAD_REQUEST, "the url has %zu letters, at most %d", s.n, URL_MAX);
    u->topology = scheme->topology;
    u->tls = scheme->tls;
    s = slice_from(s, strlen(scheme->begin));
    /* Up to the last @ all is login, so that a password with a raw / or ? is not taken for anything else, and never shown. */
    struct slice hosts = s, path = SLICE_NONE, query = SLICE_NONE;
    enum err e = OK;
    if (cut(&s, '@', true, &hosts))
        e = parse_login(s, u, reterr);
    (void)cut(&hosts, '?', false, &query);
    (void)cut(&hosts, '/', false, &path);
    if (e == OK)
        e = parse_hosts(hosts, scheme, u, reterr);
    if (e == OK)
        e = parse_path(path, u, reterr);
    return e == OK ? parse_query(query, u, reterr) : e;
}

bool redis_url_parse(const char *url, struct redis_url *ret, struct error *reterr)
{
    struct redis_url u = {0};
    if (parse(slice_str(url), &u, reterr) != OK) {
        redis_url_fini(&u);
        return false;
    }
    *ret = u;
    return true;
}

void redis_url_fini(struct redis_url *url)
{
    for (size_t i = 0; i < url->host_count; i++)
        free(url->hosts[i].host);
    free(url->hosts);
    free(url->service);
    free(url->user);
    free(url->password);
    free(url->sentinel_user);
    free(url->sentinel_password);
    free(url->ca);
    free(url->cert);
    free(url->key);
    free(url->server_name);
    free(url->replica.host);
    free(url->replica_text);
    *url = (struct redis_url){0};
}
