/* broker/redis/url.h: what a Redis url says: which servers, who we are, how they prove who they are.
 *
 *   redis://[user:password@]host[:6379][/db]                        one server
 *   redis+sentinel://[user:password@]host[:26379],host…/NAME[/db]   the primary called NAME, as these sentinels say
 *   redis+cluster://[user:password@]host[:6379],host…               a Redis Cluster, these are some of its nodes
 *
 * With rediss instead of redis all connections are TLS. IPv6 addresses stand in brackets; special letters of user, password and of the
 * parameters' values as %XX. Parameters, ?name=value&…: ca, cert, key (PEM files), server_name (for TLS); sentinel_user, sentinel_password; replica
 * (host or host:port, of one server). */
#ifndef XD_BROKER_REDIS_URL_H
#define XD_BROKER_REDIS_URL_H

#include "base/error.h"
#include "base/slice.h"

enum redis_topology { REDIS_STANDALONE, REDIS_SENTINEL, REDIS_CLUSTER };

struct redis_host {
    char *host; /* a name or an address, IPv6 without brackets */
    int port;
};

struct redis_url {
    enum redis_topology topology;
    struct redis_host *hosts; /* the server; or sentinels; or nodes of the cluster: at least one */
    size_t host_count;
    char *service;                           /* Sentinel's name for the primary; NULL without Sentinel */
    char *user, *password;                   /* for Redis; each NULL when not given */
    char *sentinel_user, *sentinel_password; /* for the sentinels; each NULL when not given */
    struct redis_host replica;               /* of the one server, to read from; host NULL when not given */
    char *replica_text;                      /* the same as it was written */
    uint32_t db;
    bool tls;
    char *ca, *cert, *key; /* files: whom to trust, NULL: the system's authorities; our own certificate, both or none */
    char *server_name;     /* the name that certificates must be for; NULL: the host that we connect to */
};

/* Fills *ret with what redis_url_fini frees; false with *reterr, which never quotes the url: it may hold a password. */
bool redis_url_parse(const char *url, struct redis_url *ret, struct error *reterr);
void redis_url_fini(struct redis_url *url);

#endif
