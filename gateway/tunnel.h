/* gateway/tunnel.h: tunnels (信道) of Wafer applications: sessions whose clients speak with a business server by way of its callbacks and pushes (docs/wafer.md).
 *
 * A business server gets a URL for each; whoever uses it first, and in time, has the tunnel. It is a session like any other, but that it is never parked: its client comes
 * back with another URL, and that is another tunnel. */
#ifndef XD_TUNNEL_H
#define XD_TUNNEL_H

#include "gateway/session.h"

#define TUNNEL_PATH "/tunnel/"
#define TICKET_LEN  32 /* letters: the last part of the URL */
#define WHOSE_MAX   2200

struct arrival;
struct config;
struct conn;
struct http_exchange;
struct http_request;
struct tenants;
struct tunnels;

/* Of a session. */
struct tunnel {
    struct gateway *gw;
    char sid[SID_LEN + 1];
    size_t id_n;           /* of the tenant's id, which `whose` begins with */
    char whose[WHOSE_MAX]; /* `<tcId> <receiveUrl>`: what the store knows of it */
};

static inline struct slice tunnel_tenant(const struct tunnel *t)
{
    return (struct slice){t->whose, t->id_n};
}

/* Takes `<tcId> <receiveUrl>` apart; false when it is no such thing. */
bool tunnel_whose(struct slice whose, struct slice *ret_tenant, struct slice *ret_url);

/* *ret stays NULL without --wafer-tenants. */
enum err tunnels_open(struct gateway *g, struct error *reterr);
/* Whatever waits for the store has completed. */
void tunnels_close(struct gateway *g);
/* Reads the file again; on failure the old one stays. */
enum err tunnels_reload(struct gateway *g, struct error *reterr);
/* Reads it and forgets it: for --check-config. */
enum err tunnels_check(const struct config *cfg, struct error *reterr);
/* NULL: there are none. */
const struct tenants *tunnels_tenants(const struct gateway *g);

/* Is it where tunnels connect? */
bool tunnel_path(const struct gateway *g, struct slice path);
/* A valid handshake there. As gateway_upgrade. */
enum err tunnel_upgrade(struct gateway *g, const struct http_request *r, struct transport *t, struct conn **ret,
                        struct error *reterr);
/* The connection is gone before the store has said what its URL stands for. NULL-safe. */
void arrival_cancel(struct arrival *a);

/* One complete message of a tunnel's client. */
void tunnel_frame(struct session *s, struct slice frame, bool binary);
/* The store has one of its reports: its input may go on. */
void tunnel_reported(struct session *s);
/* NULL-safe, clears the pointer. */
void tunnel_free(struct tunnel **tunnel);

/* tunnel_http.c: /get/wsurl and /ws/push. False: neither. */
bool tunnel_http(struct gateway *g, const struct http_request *r, struct http_exchange *x);

#endif
