/* gateway/net/net.h: sockets, TLS and HTTP: the only place with libev, OpenSSL and http_parser. */
#ifndef XD_NET_H
#define XD_NET_H

#include "base/error.h"
#include "base/loop.h"
#include "broker/broker.h"
#include "gateway/config.h"

struct gateway;
struct net;

/* --- the loop (loop_ev.c) --- */

/* The real loop of this process. One per process; create it after fork. */
struct loop *loop_ev_create(void);
void loop_ev_destroy(struct loop **l);
/* Runs until loop_ev_stop(). */
void loop_ev_run(struct loop *l);
void loop_ev_stop(struct loop *l);
/* Calls run(arg) from the loop whenever the signal arrives. At most 8 signals. */
void loop_ev_signal(struct loop *l, int signo, void (*run)(void *arg), void *arg);
/* Calls run(arg, lag_us) with how long each turn of the loop kept others waiting. */
void loop_ev_on_lag(struct loop *l, void (*run)(void *arg, uint64_t us), void *arg);

/* --- listening --- */

/* Checks and opens the listeners of cfg (SO_REUSEPORT when cfg->workers > 1), loads certificate and key. Nothing is accepted before net_start().
 * cfg is borrowed for net's whole life; reloadable options are read from it when used. NULL with *reterr naming the address or file. */
struct net *net_create(struct loop *loop, const struct config *cfg, struct error *reterr);
void net_start(struct net *n, struct gateway *g);

/* New connections get the certificate now in cfg's files; open ones keep theirs. On failure nothing changes. */
enum err net_reload_tls(struct net *n, struct error *reterr);

/* The keys of TLS session tickets, as the store tells them. */
void net_ticket_keys(struct net *n, const struct secret_record *secrets, size_t count);

/* Loads certificate and key of cfg and forgets them: for --check-config. */
enum err net_check_tls(const struct config *cfg, struct error *reterr);

/* How long the last turn of the loop took: after a long one accepting rests (cfg->overload_lag_ms). */
void net_lag(struct net *n, uint64_t us);

/* Closes the listeners and idle HTTP connections; requests under way are answered with Connection: close. */
void net_stop_accepting(struct net *n);
/* Sockets open now, upgraded or not. */
size_t net_open_count(const struct net *n);
/* Closes whatever is left at once (conn_gone is called for each) and frees everything. NULL-safe. */
void net_destroy(struct net **n);

#endif
