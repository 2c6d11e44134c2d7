/* gateway/config_check.c: do the values make sense, and do they fit together? */
#include <arpa/inet.h>
#include <ctype.h>

#include "base/mem.h"
#include "broker/broker.h"
#include "gateway/addresses.h"
#include "gateway/config_table.h"
#include "gateway/config_value.h"
#include "gateway/policy.h"
#include "gateway/socketio_rules.h"
#include "gateway/webhook/url.h"

static bool made_of(const char *s, const char *extra, size_t max)
{
    size_t n = strlen(s);
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)s[i]) && strchr(extra, s[i]) == NULL)
            return false;
    return n >= 1 && n <= max;
}

/* --- listen --- */

static bool host_valid(struct slice host, int family)
{
    char text[256];
    unsigned char address[sizeof(struct in6_addr)];
    if (host.n == 0 || host.n >= sizeof text)
        return false;
    memcpy(text, host.p, host.n);
    text[host.n] = '\0';
    if (family == AF_INET6) {
        text[strcspn(text, "%")] = '\0'; /* fe80::1%eth0 */
        return inet_pton(AF_INET6, text, address) == 1;
    }
    if (text[strspn(text, "0123456789.")] == '\0')
        return inet_pton(AF_INET, text, address) == 1;
    return made_of(text, "-._", sizeof text);
}

bool config_split_listen(struct slice text, struct slice *ret_host, uint16_t *ret_port)
{
    size_t colon = text.n;
    while (colon != 0 && text.p[colon - 1] != ':')
        colon--;
    uint32_t port;
    if (colon == 0 || !value_count(slice_from(text, colon), &port) || port > UINT16_MAX)
        return false;
    struct slice host = {text.p, colon - 1};
    bool bracketed = host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']';
    if (bracketed)
        host = (struct slice){host.p + 1, host.n - 2};
    if (bracketed ? !host_valid(host, AF_INET6) : host.n != 0 && !host_valid(host, AF_INET))
        return false;
    *ret_host = host;
    *ret_port = (uint16_t)port;
    return true;
}

static enum err check_addresses(const struct config *c, const char *key, const struct strings *all,
                                struct error *reterr)
{
    for (size_t i = 0; i < all->count; i++) {
        struct slice host;
        uint16_t port;
        if (!config_split_listen(slice_str(all->items[i]), &host, &port))
            return fail(reterr, ERR_BAD_REQUEST,
                        "%s: \"%.60s\" is not HOST:PORT, such as 0.0.0.0:8443, [::]:8443 or :8443", key, all->items[i]);
        if (port == 0 && c->workers > 1)
            return fail(reterr, ERR_BAD_REQUEST, "%s: \"%.60s\": port 0 would give each of %u workers another port",
                        key, all->items[i], c->workers);
    }
    return OK;
}

static enum err check_listen(const struct config *c, struct error *reterr)
{
    if (c->listen.count == 0)
        return fail(reterr, ERR_BAD_REQUEST, "listen: at least one address is needed");
    if (c->api_listen.count != 0 && c->api_keys == NULL && c->wechat_apps == NULL)
        return fail(reterr, ERR_BAD_REQUEST,
                    "api-listen without api-keys or wechat-apps: nobody could use anything there");
    if (c->api_insecure && c->api_listen.count == 0)
        return fail(reterr, ERR_BAD_REQUEST, "api-insecure without api-listen: there is no such port");
    enum err err = check_addresses(c, "listen", &c->listen, reterr);
    return err != OK ? err : check_addresses(c, "api-listen", &c->api_listen, reterr);
}

static enum err check_tls(const struct config *c, struct error *reterr)
{
    if (c->insecure && (c->tls_cert != NULL || c->tls_key != NULL))
        return fail(reterr, ERR_BAD_REQUEST,
                    "insecure and tls-cert exclude each other: the port speaks TLS or it does not");
    if (c->insecure)
        return OK;
    if (c->tls_cert == NULL && c->tls_key == NULL)
        return fail(
            reterr, ERR_BAD_REQUEST,
            "no certificate: give --tls-cert and --tls-key, or --insecure when a proxy in front terminates TLS");
    if (c->tls_cert == NULL || c->tls_key == NULL)
        return fail(reterr, ERR_BAD_REQUEST, "%s without %s: both are needed",
                    c->tls_cert != NULL ? "tls-cert" : "tls-key", c->tls_cert != NULL ? "tls-key" : "tls-cert");
    return OK;
}

/* --- broker --- */

static enum err check_broker(const struct config *c, struct error *reterr)
{
    struct error why;
    if (strcmp(c->broker, "memory") == 0 && c->workers > 1)
        return fail(reterr, ERR_BAD_REQUEST,
                    "workers %u with broker memory: processes share nothing without Redis; use --broker redis://…",
                    c->workers);
    if (strcmp(c->broker, "memory") == 0 && c->commands)
        return fail(reterr, ERR_BAD_REQUEST,
                    "commands with broker memory: nobody could write any; use --broker redis://…");
    if (broker_check_url(c->broker, &why) != OK)
        return fail(reterr, why.code, "broker: %s", why.text);
    return OK;
}

static enum err check_names(const struct config *c, struct error *reterr)
{
    if (!made_of(c->node, "._-", 64))
        return fail(reterr, ERR_BAD_REQUEST, "node: \"%.70s\" is not 1 to 64 of A-Z a-z 0-9 . _ -", c->node);
    if (!made_of(c->key_prefix, "._:-", 32))
        return fail(reterr, ERR_BAD_REQUEST, "key-prefix: \"%.40s\" is not 1 to 32 of A-Z a-z 0-9 . _ : -",
                    c->key_prefix);
    return OK;
}

/* --- origins --- */

static bool origin_valid(const char *origin)
{
    const char *scheme = strstr(origin, "://");
    if (strcmp(origin, "null") == 0 || strcmp(origin, "*") == 0)
        return true;
    return scheme != NULL && scheme != origin && scheme[3] != '\0' && strpbrk(scheme + 3, "/?# ") == NULL;
}

static enum err check_origins(const struct config *c, struct error *reterr)
{
    for (size_t i = 0; i < c->origins.count; i++)
        if (!origin_valid(c->origins.items[i]))
            return fail(reterr, ERR_BAD_REQUEST,
                        "origin: \"%.60s\" is not SCHEME://HOST[:PORT] without a path, such as https://example.com",
                        c->origins.items[i]);
    return OK;
}

static enum err check_policies(const struct config *c, struct error *reterr)
{
    struct policies *p = policies_create(c->policies.items, c->policies.count, c->socketio_recovery, reterr);
    if (p == NULL)
        return reterr->code;
    enum err e = OK;
    const struct policy *replicated = policies_replicated(p);
    if (replicated != NULL && slice_eq(slice_str(c->broker), SLICE("memory")))
        e = fail(reterr, ERR_BAD_REQUEST,
                 "policy %.60s: durability=replicated:%u with broker memory: only Redis has replicas; use --broker "
                 "redis://…",
                 replicated->pattern, replicated->replicas);
    const struct policy *with_events = !c->events && c->backend_url == NULL ? policies_with_events(p) : NULL;
    if (e == OK && with_events != NULL)
        e = fail(reterr, ERR_BAD_REQUEST,
                 "policy %.60s: events=… without --events on or --backend-url: nobody would hear of them",
                 with_events->pattern);
    const struct policy *by_backend = c->backend_url == NULL ? policies_by_backend(p) : NULL;
    if (e == OK && by_backend != NULL)
        e = fail(reterr, ERR_BAD_REQUEST, "policy %.60s: publish=backend without --backend-url", by_backend->pattern);
    const struct policy *by_token = c->auth == AUTH_OPEN ? policies_by_token(p) : NULL;
    if (e == OK && by_token != NULL)
        e = fail(reterr, ERR_BAD_REQUEST, "policy %.60s: join=token or publish=token needs --auth jwt or backend",
                 by_token->pattern);
    policies_destroy(&p);
    return e;
}

static enum err check_path(const char *key, const char *path, struct error *reterr)
{
    if (path[0] != '/' || path[1] == '\0' || path[strcspn(path, "?# ")] != '\0')
        return fail(reterr, ERR_BAD_REQUEST, "%s: \"%.60s\" is not a path such as /socket.io/", key, path);
    return OK;
}

/* What is at one path cannot be at the other, with or without the last slash. */
static enum err check_echo(const struct config *c, struct error *reterr)
{
    const char *echo = c->engineio_echo;
    size_t n = strlen(echo) - (echo[strlen(echo) - 1] == '/');
    enum err err = check_path("engineio-echo", echo, reterr);
    for (size_t i = 0; err == OK && c->socketio && i < c->socketio_paths.count; i++) {
        const char *path = c->socketio_paths.items[i];
        if (strncmp(path, echo, n) == 0 && (path[n] == '\0' || strcmp(path + n, "/") == 0))
            err = fail(reterr, ERR_BAD_REQUEST, "engineio-echo: \"%.60s\" is a socketio-path", echo);
    }
    return err;
}

static enum err check_socketio(const struct config *c, struct error *reterr)
{
    enum err err = c->engineio_echo != NULL ? check_echo(c, reterr) : OK;
    if (c->socketio && c->socketio_paths.count == 0)
        return fail(reterr, ERR_BAD_REQUEST,
                    "socketio without a socketio-path; to serve no such clients say socketio off");
    for (size_t i = 0; err == OK && i < c->socketio_paths.count; i++)
        err = check_path("socketio-path", c->socketio_paths.items[i], reterr);
    if (err != OK)
        return err;
    for (size_t i = 0; i < c->socketio_namespaces.count; i++)
        if (c->socketio_namespaces.items[i][0] != '/')
            return fail(reterr, ERR_BAD_REQUEST, "socketio-namespace: \"%.60s\" does not begin with /",
                        c->socketio_namespaces.items[i]);
    if (c->socketio_emitter != EMITTER_OFF && slice_eq(slice_str(c->broker), SLICE("memory")))
        return fail(reterr, ERR_BAD_REQUEST, "socketio-emitter with broker memory: emitters speak through Redis");
    if (c->socketio_emitter_stream[0] == '\0')
        return fail(reterr, ERR_BAD_REQUEST, "socketio-emitter-stream: a stream without a name");
    struct sio_rules *rules = sio_rules_create(c->socketio_events.items, c->socketio_events.count, reterr);
    err = rules != NULL ? OK : reterr->code;
    sio_rules_destroy(&rules);
    return err;
}

/* Whether the keys can be read is for who uses them: a reload must keep the old ones when not. */
static enum err check_auth(const struct config *c, struct error *reterr)
{
    if (c->auth == AUTH_JWT && c->jwt_keys.count == 0)
        return fail(reterr, ERR_BAD_REQUEST, "auth jwt without jwt-key: there is nothing to check tokens with");
    if (c->auth != AUTH_JWT && (c->jwt_keys.count != 0 || c->jwt_audience != NULL || c->jwt_issuer != NULL))
        return fail(reterr, ERR_BAD_REQUEST, "%s without auth jwt: tokens would not be looked at",
                    c->jwt_keys.count != 0    ? "jwt-key"
                    : c->jwt_audience != NULL ? "jwt-audience"
                                              : "jwt-issuer");
    return OK;
}

/* --- the backend --- */

/* Whether its files can be read is for who uses them. */
static enum err check_backend(const struct config *c, struct error *reterr)
{
    struct webhook_url url;
    struct error why;
    if (c->backend_url == NULL && (c->backend_secret_file != NULL || c->backend_ca != NULL))
        return fail(reterr, ERR_BAD_REQUEST, "%s without backend-url: there is nobody to post to",
                    c->backend_secret_file != NULL ? "backend-secret-file" : "backend-ca");
    if (c->backend_url == NULL && c->auth == AUTH_BACKEND)
        return fail(reterr, ERR_BAD_REQUEST, "auth backend without backend-url: there is nobody to ask");
    if (c->backend_url == NULL)
        return OK;
    if (webhook_url_parse(c->backend_url, &url, &why) != OK)
        return fail(reterr, why.code, "backend-url: %.150s", why.text);
    bool tls = url.tls;
    webhook_url_fini(&url);
    if (c->backend_secret_file == NULL)
        return fail(reterr, ERR_BAD_REQUEST,
                    "backend-url without backend-secret-file: the backend could not tell our "
                    "requests from anybody's");
    if (!tls && c->backend_ca != NULL)
        return fail(reterr, ERR_BAD_REQUEST,
                    "backend-ca with a backend-url that begins with http://: there is no "
                    "certificate");
    return OK;
}

/* --- WeChat --- */

static enum err check_wechat(const struct config *c, struct error *reterr)
{
    struct webhook_url url;
    struct error why;
    for (size_t i = 0; i < c->wechat_allow.count; i++)
        if (!address_range_valid(slice_str(c->wechat_allow.items[i])))
            return fail(reterr, ERR_BAD_REQUEST, "wechat-allow: \"%.60s\" is not ADDRESS[/BITS], such as 10.0.0.0/8",
                        c->wechat_allow.items[i]);
    if (c->wechat_apps == NULL && c->wechat_allow.count != 0)
        return fail(reterr, ERR_BAD_REQUEST, "wechat-allow without wechat-apps: there is no session service");
    if (c->wechat_login && (c->wechat_apps == NULL || c->auth != AUTH_JWT))
        return fail(reterr, ERR_BAD_REQUEST, "wechat-login without %s",
                    c->wechat_apps == NULL ? "wechat-apps: no app is known" : "auth jwt: what it gives out are tokens");
    if (webhook_url_parse(c->wechat_url, &url, &why) != OK)
        return fail(reterr, why.code, "wechat-url: %.150s", why.text);
    bool tls = url.tls, query = strchr(url.target, '?') != NULL;
    webhook_url_fini(&url);
    if (query)
        return fail(reterr, ERR_BAD_REQUEST, "wechat-url: a base, without a query");
    if (!tls && c->wechat_ca != NULL)
        return fail(reterr, ERR_BAD_REQUEST,
                    "wechat-ca with a wechat-url that begins with http://: there is no certificate");
    return OK;
}

/* --- tunnels --- */

static enum err check_tunnels(const struct config *c, struct error *reterr)
{
    const char *url = c->wafer_url;
    if (c->wafer_tenants == NULL && (url != NULL || c->wafer_hosts.count != 0 || c->wafer_ca != NULL))
        return fail(reterr, ERR_BAD_REQUEST, "%s without wafer-tenants: there are no tunnels",
                    url != NULL                 ? "wafer-url"
                    : c->wafer_hosts.count != 0 ? "wafer-host"
                                                : "wafer-ca");
    if (c->wafer_tenants != NULL && url == NULL && c->wafer_hosts.count == 0)
        return fail(reterr, ERR_BAD_REQUEST,
                    "wafer-tenants without wafer-url or wafer-host: what are URLs of tunnels to begin with?");
    if (url == NULL)
        return OK;
    const char *host = strncmp(url, "wss://", 6) == 0 ? url + 6 : strncmp(url, "ws://", 5) == 0 ? url + 5 : "";
    if (*host == '\0' || url[strcspn(url, "?# \"\\")] != '\0' || url[strlen(url) - 1] == '/')
        return fail(reterr, ERR_BAD_REQUEST, "wafer-url: \"%.60s\" is not wss://HOST[:PORT][/PATH]", url);
    return OK;
}

/* --- numbers that depend on each other --- */

static enum err check_numbers(const struct config *c, struct error *reterr)
{
    if (c->lease_ms < 2 * (uint64_t)c->redis_timeout_ms)
        return fail(
            reterr, ERR_BAD_REQUEST,
            "lease %u ms with redis-timeout %u ms: one slow answer would look like a dead node; lease must be at "
            "least twice redis-timeout",
            c->lease_ms, c->redis_timeout_ms);
    if (c->max_queue_bytes < (uint64_t)c->max_message_size + 4096)
        return fail(reterr, ERR_BAD_REQUEST,
                    "max-queue-bytes %u cannot hold one message of max-message-size %u; it must be 4k more at least",
                    c->max_queue_bytes, c->max_message_size);
    if (c->broker[0] == 'r' && c->redis_queue_bytes < 2 * (uint64_t)c->max_message_size)
        return fail(reterr, ERR_BAD_REQUEST, "redis-queue-bytes %u cannot hold two messages of max-message-size %u",
                    c->redis_queue_bytes, c->max_message_size);
    return OK;
}

enum err config_check(const struct config *c, struct error *reterr)
{
    static enum err (*const checks[])(const struct config *, struct error *) = {
        check_listen, check_tls,     check_broker, check_names,   check_origins,  check_policies,
        check_auth,   check_backend, check_wechat, check_tunnels, check_socketio, check_numbers};
    for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
        enum err e = checks[i](c, reterr);
        if (e != OK)
            return e;
    }
    return OK;
}
