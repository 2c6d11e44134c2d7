/* gateway/net/peers.h: addresses of clients and how many connections each of them has. */
#ifndef XD_PEERS_H
#define XD_PEERS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* IPv4 as ::ffff:a.b.c.d */
struct peer_address {
    uint8_t bytes[16];
};

struct peer;

struct peer_table {
    struct peer *peers;
};

/* Address and port of a socket address; false for other families. */
bool peer_address_of(const struct sockaddr_storage *sa, struct peer_address *ret, uint16_t *ret_port);

#define PEER_TEXT 46
/* The usual text form; ret holds PEER_TEXT bytes. */
void peer_address_text(const struct peer_address *a, char *ret);
/* "192.0.2.1:4711", "[2001:db8::1]:4711"; static buffer. */
const char *peer_name(const struct peer_address *a, uint16_t port);

/* One more connection from this address (IPv6: from its /64, which is what one customer has). NULL when there are `max` already; max 0 is no limit. */
struct peer *peer_enter(struct peer_table *t, const struct peer_address *a, uint32_t max);
/* One less; clears the pointer. NULL-safe. */
void peer_leave(struct peer_table *t, struct peer **p);

#endif
