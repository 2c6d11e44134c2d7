/* gateway/tunnel.c: tunnels from their URL to their end. */
#include "gateway/tunnel.h"

#include "base/log.h"
#include "base/mem.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/limits.h"
#include "gateway/metrics.h"
#include "gateway/protocol/wafer.h"
#include "gateway/push.h"
#include "gateway/report.h"
#include "gateway/tenants.h"

#define REPORTS_PAUSE 32u /* of one client that wait for the store: then its input waits, too */
#define REPORTS_MOST                                                                                                   \
    240u /* what was read by then is still parsed: more would be lost, and the end of the tunnel with it */
#define CLOSE_URL 4002 /* the URL is no good: for people who look; the client asks for another one */

struct use {
    UT_hash_handle hh;
    uint32_t count;
    char id[TENANT_ID_MAX + 1];
};

struct tunnels {
    struct tenants *tenants;
    struct use *uses; /* tunnels of each tenant on this node */
};

/* A connection whose URL the store is asked about. */
struct arrival {
    struct gateway *gw;
    struct conn *conn; /* NULL: gone */
    char *agent, *origin;
};

bool tunnel_whose(struct slice whose, struct slice *ret_tenant, struct slice *ret_url)
{
    const char *blank = whose.n != 0 ? memchr(whose.p, ' ', whose.n) : NULL;
    if (blank == NULL || blank == whose.p || (size_t)(blank - whose.p) > TENANT_ID_MAX || whose.n >= WHOSE_MAX)
        return false;
    *ret_tenant = (struct slice){whose.p, (size_t)(blank - whose.p)};
    *ret_url = slice_from(whose, ret_tenant->n + 1);
    return ret_url->n != 0;
}

/* --- the service --- */

enum err tunnels_open(struct gateway *g, struct error *reterr)
{
    if (g->cfg->wafer_tenants == NULL)
        return OK;
    struct tenants *list = tenants_load(g->cfg->wafer_tenants, reterr);
    if (list == NULL)
        return reterr->code;
    g->tunnels = xcalloc(1, sizeof *g->tunnels);
    g->tunnels->tenants = list;
    g->pushes = pushes_create(g);
    LOG(INFO, "tenants of tunnels loaded", "tenants=%zu", tenants_count(list));
    return OK;
}

void tunnels_close(struct gateway *g)
{
    struct tunnels *t = TAKE(g->tunnels);
    struct use *u, *next;
    pushes_destroy(&g->pushes);
    if (t == NULL)
        return;
    HASH_ITER (hh, t->uses, u, next) {
        HASH_DELETE(hh, t->uses, u);
        free(u);
    }
    tenants_destroy(&t->tenants);
    free(t);
}

enum err tunnels_reload(struct gateway *g, struct error *reterr)
{
    if (g->tunnels == NULL)
        return OK;
    struct tenants *fresh = tenants_load(g->cfg->wafer_tenants, reterr);
    if (fresh == NULL)
        return reterr->code;
    tenants_destroy(&g->tunnels->tenants);
    g->tunnels->tenants = fresh;
    LOG(INFO, "tenants of tunnels loaded", "tenants=%zu", tenants_count(fresh));
    return OK;
}

enum err tunnels_check(const struct config *cfg, struct error *reterr)
{
    struct tenants *list = cfg->wafer_tenants != NULL ? tenants_load(cfg->wafer_tenants, reterr) : NULL;
    if (cfg->wafer_tenants != NULL && list == NULL)
        return reterr->code;
    tenants_destroy(&list);
    return OK;
}

const struct tenants *tunnels_tenants(const struct gateway *g)
{
    return g->tunnels != NULL ? g->tunnels->tenants : NULL;
}

static struct use *use_of(struct tunnels *t, struct slice id)
{
    struct use *u;
    HASH_FIND(hh, t->uses, id.p, id.n, u);
    return u;
}

/* False when its tenant has as many as it may. */
static bool use_begin(struct tunnels *t, const struct tenant *of)
{
    struct slice id = slice_str(of->id);
    struct use *u = use_of(t, id);
    if (u == NULL) {
        u = xcalloc(1, sizeof *u);
        memcpy(u->id, id.p, id.n);
        HASH_ADD_KEYPTR(hh, t->uses, u->id, id.n, u);
    }
    if (of->max_tunnels != 0 && u->count >= of->max_tunnels)
        return false;
    u->count++;
    metrics->tunnels++;
    return true;
}

void tunnel_free(struct tunnel **tunnel)
{
    struct tunnel *t = TAKE(*tunnel);
    if (t == NULL)
        return;
    struct use *u = use_of(t->gw->tunnels, tunnel_tenant(t));
    metrics->tunnels--;
    if (--u->count == 0) {
        HASH_DELETE(hh, t->gw->tunnels->uses, u);
        free(u);
    }
    free(t);
}

/* --- arriving --- */

bool tunnel_path(const struct gateway *g, struct slice path)
{
    return g->tunnels != NULL && slice_starts(path, SLICE(TUNNEL_PATH));
}

static void arrival_free(struct arrival *a)
{
    free(a->agent);
    free(a->origin);
    free(a);
}

void arrival_cancel(struct arrival *a)
{
    if (a != NULL)
        a->conn = NULL;
}

/* Without a `close`: the client's SDK asks for another URL. */
static void turn_away(struct conn *c, enum drop_reason drop, int code, struct slice reason, const char *why)
{
    metrics->drops[drop]++;
    LOG_PEER(INFO, "tunnel refused", "peer=%s reason=%s why=%s", c->ip, log_q(reason), log_q(slice_str(why)));
    conn_pause(c, false); /* a closing connection reads to its end */
    conn_close(c, code, reason);
}

static void let_in(struct arrival *a, const struct tunnel_offer *o)
{
    struct gateway *g = a->gw;
    struct conn *c = a->conn;
    struct slice id, url;
    bool whole = o->sid.n == SID_LEN && push_name_valid(o->sid) && tunnel_whose(o->tunnel, &id, &url);
    const struct tenant *t = whole ? tenants_find(g->tunnels->tenants, id) : NULL;
    if (t == NULL || !tenant_may_receive(t, url)) {
        turn_away(c, DROP_TUNNEL_URL, CLOSE_URL, SLICE("tunnel_url"),
                  "its tenant is no longer one, or may not receive there");
    } else if (g->draining) {
        turn_away(c, DROP_DRAINING, 1001, SLICE("draining"), "this node is going away");
    } else if (!use_begin(g->tunnels, t)) {
        turn_away(c, DROP_TUNNELS, 1013, SLICE("limit_exceeded"),
                  "its tenant has as many tunnels here as it may (max_tunnels)");
    } else {
        struct tunnel *tunnel = xcalloc(1, sizeof *tunnel);
        tunnel->gw = g;
        tunnel->id_n = id.n;
        memcpy(tunnel->sid, o->sid.p, SID_LEN);
        memcpy(tunnel->whose, o->tunnel.p, o->tunnel.n);
        c->parser.max_message = t->packet_bytes;
        const struct http_request r = {.user_agent = slice_str(a->agent), .origin = slice_str(a->origin)};
        session_open_tunnel(c, &r, tunnel);
    }
}

static void on_taken(void *arg, const struct broker_result *r)
{
    struct arrival *a = arg;
    struct conn *c = a->conn;
    if (c != NULL)
        c->arrival = NULL;
    if (c == NULL || c->state > CONN_OPEN || a->gw->broker == NULL)
        ; /* nobody waits any more */
    else if (r->err == OK)
        let_in(a, r->offer);
    else if (r->err == ERR_NOT_FOUND)
        turn_away(c, DROP_TUNNEL_URL, CLOSE_URL, SLICE("tunnel_url"), r->why);
    else
        turn_away(c, DROP_UNAVAILABLE, 1013, SLICE("unavailable"), r->why);
    arrival_free(a);
}

static char *copy(struct slice s)
{
    return s.n != 0 ? xstrndup(s.p, s.n) : NULL;
}

enum err tunnel_upgrade(struct gateway *g, const struct http_request *r, struct transport *t, struct conn **ret,
                        struct error *reterr)
{
    char name[SECRET_HASH_LEN + 1];
    struct slice ticket = slice_from(r->path, sizeof TUNNEL_PATH - 1);
    if (ticket.n != TICKET_LEN)
        return fail(reterr, ERR_NOT_FOUND, "this is not the URL of a tunnel");
    struct conn *c = conn_create(g, t, &protocol_wafer, r->ip);
    struct arrival *a = xcalloc(1, sizeof *a);
    *a = (struct arrival){.gw = g, .conn = c, .agent = copy(r->user_agent), .origin = copy(r->origin)};
    c->arrival = a;
    c->keep = false;
    conn_pause(c, true); /* what the client sends before it is known waits in the socket */
    secret_hash(ticket, name);
    g->broker->ops->tunnel_take(g->broker, slice_str(name), on_taken, a);
    *ret = c;
    return OK;
}

/* --- what its client says --- */

void tunnel_reported(struct session *s)
{
    if (s->conn != NULL && s->state == SESSION_ACTIVE && s->reports->count <= REPORTS_PAUSE / 2)
        conn_pause(s->conn, false);
}

static void refuse(struct session *s, enum err err, const char *why)
{
    metrics->errors[err]++;
    LOG_PEER(INFO, "tunnel closed", "session=%s peer=%s code=%s why=%s", s->sid, s->conn->ip, err_name(err), why);
    conn_close(s->conn, err_close_code(err), slice_str(err_name(err)));
}

static bool may_say(struct session *s)
{
    const struct gateway *g = s->gw;
    const struct tenant *t = tenants_find(g->tunnels->tenants, tunnel_tenant(s->tunnel));
    char name[TENANT_ID_MAX + 16];
    if (t == NULL) {
        refuse(s, ERR_FORBIDDEN, "its tenant is no longer one");
        return false;
    }
    (void)snprintf(name, sizeof name, "tunnels:%s", t->id);
    if (bucket_take(&s->rate, g->cfg->message_rate, g->cfg->message_burst, loop_now_us(g->loop)) &&
        limits_take(g->limits, LIMIT_KEY, slice_str(name), t->messages, 0))
        return true;
    refuse(s, ERR_RATE_LIMITED, "more messages per second than one client (message-rate) or its tenant may send");
    return false;
}

static void on_message(struct session *s, struct slice content)
{
    if (s->reports != NULL && s->reports->count >= REPORTS_MOST) {
        refuse(s, ERR_RATE_LIMITED, "more messages at once than can wait for the store");
        return;
    }
    metrics->tunnel_messages++;
    report_tunnel_message(s, content);
    if (s->reports->count >= REPORTS_PAUSE)
        conn_pause(s->conn, true);
}

void tunnel_frame(struct session *s, struct slice frame, bool binary)
{
    struct wafer_packet p = {.type = WAFER_UNKNOWN};
    if (!binary)
        wafer_read(frame, &p);
    if (!may_say(s))
        return;
    switch (p.type) {
    case WAFER_MESSAGE: on_message(s, p.content); break;
    case WAFER_CLOSE: conn_close(s->conn, 1000, SLICE("closed")); break;
    case WAFER_PING:
    case WAFER_PONG: break;
    case WAFER_UNKNOWN: metrics->drops[DROP_TUNNEL_PACKET]++; break;
    }
}
