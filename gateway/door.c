/* gateway/door.c: who may come in: path, origin, token. */
#include "gateway/door.h"

#include <stdio.h>
#include <strings.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/utf8.h"
#include "gateway/conn.h"
#include "gateway/engine.h"
#include "gateway/gateway.h"
#include "gateway/grant.h"
#include "gateway/greeting.h"
#include "gateway/knock.h"
#include "gateway/metrics.h"
#include "gateway/session.h"
#include "gateway/tunnel.h"
#include "gateway/uri.h"

/* --- tokens --- */

static void count_refusal(enum auth_refusal why, struct slice ip)
{
    metrics->auth_refused[why]++;
    LOG_PEER(INFO, "token refused", "peer=%s reason=%s", log_q(ip), auth_refusal_word(why));
}

enum err door_refuse(enum auth_refusal why, struct slice ip, struct error *reterr)
{
    count_refusal(why, ip);
    const char *text = why == AUTH_OTHER_USER  ? "the token is another user's"
                       : why == AUTH_AMBIGUOUS ? "there is more than one token; which one counts?"
                                               : "a token is needed";
    return fail(reterr, ERR_UNAUTHORIZED, "%s", text);
}

enum err door_check(struct gateway *g, struct slice token, const char *ip, struct auth_claims *ret,
                    struct error *reterr)
{
    enum auth_refusal why = auth_jwt_check(g->auth, token, loop_wall_ms(g->loop) / 1000, ret, reterr);
    if (why != AUTH_OK) {
        count_refusal(why, slice_str(ip));
        return ERR_UNAUTHORIZED;
    }
    metrics->auth_accepted++;
    return OK;
}

/* Another scheme than Bearer is somebody else's business. */
static bool bearer(struct slice authorization, struct slice *ret)
{
    const struct slice scheme = SLICE("bearer ");
    if (authorization.n < scheme.n || strncasecmp(authorization.p, scheme.p, scheme.n) != 0)
        return false;
    *ret = text_trim(slice_from(authorization, scheme.n));
    return true;
}

/* Items bearer.<token> of the list of subprotocols: the one place where a browser can put a token that is not the URL. */
static unsigned offered(struct slice list, struct slice *ret)
{
    const struct slice prefix = SLICE("bearer.");
    unsigned count = 0;
    while (list.n != 0) {
        const char *comma = memchr(list.p, ',', list.n);
        size_t n = comma != NULL ? (size_t)(comma - list.p) : list.n;
        struct slice item = text_trim((struct slice){list.p, n});
        if (slice_starts(item, prefix)) {
            *ret = slice_from(item, prefix.n);
            count++;
        }
        list = slice_from(list, comma != NULL ? n + 1 : n);
    }
    return count;
}

/* How many tokens the request has, and one of them. They are taken as written: no letter of a token needs percent-encoding. */
unsigned door_token(const struct http_request *r, struct slice *ret)
{
    bool found;
    unsigned count = uri_query_count(r->query, "token");
    if (count != 0)
        *ret = uri_query(r->query, "token", &found);
    count += bearer(r->authorization, ret);
    return count + offered(r->subprotocols, ret);
}

static enum err check_request(struct gateway *g, const struct http_request *r, bool *ret_found, struct auth_claims *ret,
                              struct error *reterr)
{
    struct slice token = SLICE_NONE;
    char ip[CONN_IP_MAX];
    unsigned count = door_token(r, &token);
    *ret_found = count != 0;
    if (count == 0)
        return OK;
    if (count > 1)
        return door_refuse(AUTH_AMBIGUOUS, r->ip, reterr);
    (void)snprintf(ip, sizeof ip, "%.*s", SLICE_FMT(r->ip));
    return door_check(g, token, ip, ret, reterr);
}

enum err door_http(struct gateway *g, const struct http_request *r, bool *ret_none, struct auth_claims *ret,
                   struct error *reterr)
{
    bool found;
    *ret_none = g->cfg->auth == AUTH_OPEN;
    if (*ret_none)
        return OK;
    if (g->cfg->auth == AUTH_BACKEND) /* it is asked when a client connects, and only then */
        return fail(reterr, ERR_FORBIDDEN, "with auth backend this takes an API key");
    enum err err = check_request(g, r, &found, ret, reterr);
    return err != OK || found ? err : door_refuse(AUTH_MISSING, r->ip, reterr);
}

/* --- the upgrade --- */

static bool origin_allowed(const struct config *cfg, struct slice origin)
{
    if (cfg->origins.count == 0 || origin.n == 0)
        return true; /* apps and mini-programs send none */
    for (size_t i = 0; i < cfg->origins.count; i++)
        if (policy_match(cfg->origins.items[i], origin))
            return true;
    return false;
}

/* The id after /ws/, empty when there is none. */
static enum err read_path(struct slice path, char buffer[NAME_MAX_USER], struct slice *ret_id, struct error *reterr)
{
    *ret_id = SLICE_NONE;
    if (slice_starts(path, SLICE("/ws/")) && path.n > 4) {
        if (!text_percent_decode(slice_from(path, 4), buffer, NAME_MAX_USER, ret_id) ||
            !utf8_name_valid(*ret_id, NAME_MAX_USER))
            return fail(reterr, ERR_INVALID_NAME,
                        "the id after /ws/ must be 1 to %d bytes of UTF-8 without control characters", NAME_MAX_USER);
    } else if (!slice_eq(path, SLICE("/ws")) && !slice_eq(path, SLICE("/ws/"))) {
        return fail(reterr, ERR_NOT_FOUND, "no WebSocket at this path; try /ws");
    }
    return OK;
}

enum err door_origin(const struct gateway *g, const struct http_request *r, struct error *reterr)
{
    if (origin_allowed(g->cfg, r->origin))
        return OK;
    metrics->drops[DROP_ORIGIN]++;
    LOG_PEER(INFO, "origin refused", "peer=%s origin=%s", log_q(r->ip), log_q(r->origin));
    return fail(reterr, ERR_FORBIDDEN, "this origin is not on the list");
}

enum err gateway_upgrade(struct gateway *g, const struct http_request *r, struct transport *t, struct conn **ret,
                         struct slice *ret_subprotocol, struct error *reterr)
{
    char buffer[NAME_MAX_USER];
    struct slice id;
    struct auth_claims claims = {0};
    struct slice token = SLICE_NONE;
    bool found = false, by_token = g->cfg->auth == AUTH_JWT, by_backend = g->cfg->auth == AUTH_BACKEND;
    bool engine = engine_path(g, r->path), tunnel = tunnel_path(g, r->path);
    enum err err = engine || tunnel ? OK : read_path(r->path, buffer, &id, reterr);
    if (err == OK)
        err = door_origin(g, r, reterr);
    if (err == OK && g->draining)
        err = fail(reterr, ERR_DRAINING, "this node is going away; connect again");
    if (err == OK && engine)
        return engine_upgrade(g, r, t, ret, reterr);
    if (err == OK && tunnel)
        return tunnel_upgrade(g, r, t, ret, reterr);
    if (err == OK && by_token)
        err = check_request(g, r, &found, &claims, reterr);
    if (err == OK && by_backend && door_token(r, &token) > 1)
        err = door_refuse(AUTH_AMBIGUOUS, r->ip, reterr);
    /* The URL may repeat who the client is, as its framework likes it; it cannot make it somebody else. */
    if (err == OK && found && id.n != 0 && !slice_eq(id, slice_str(claims.user))) {
        auth_claims_fini(&claims);
        err = door_refuse(AUTH_OTHER_USER, r->ip, reterr);
    }
    if (err != OK)
        return err;
    struct grant *grant = found ? grant_create(&claims) : NULL;
    struct conn *c = conn_create(g, t, protocol_select(r->subprotocols, ret_subprotocol), r->ip);
    if (by_backend) {
        greeting_begin(c, r, id);
        knock_begin(c, r, id, token);
    } else if (!by_token)
        session_open(c, r, id, NULL);
    else if (grant != NULL)
        session_open(c, r, slice_str(grant->claims.user), grant);
    else
        greeting_begin(c, r, id);
    *ret = c;
    return OK;
}
