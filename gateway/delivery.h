/* gateway/delivery.h: bringing the store's events to the backend, and those of tunnels to their business servers (gateway/outlet.h). Of each shard one node at a time takes care (a lease in the store): it reads a bounded window, posts
 * the events of each session one after another, those of different sessions at once, and tells the store up to where everything is delivered. Whoever takes over begins
 * there: what was delivered beyond it is delivered again, with the same ids. What the backend's answer wants done is done before the session's next event is posted. */
#ifndef XD_DELIVERY_H
#define XD_DELIVERY_H

#include "base/loop.h"

struct delivery;
struct gateway;

struct delivery_config {
    uint32_t shards, lease_ms;
};

/* The gateway has its broker, and its backend or tunnels. */
struct delivery *delivery_create(struct gateway *g, const struct delivery_config *cfg);
/* Asks neither broker nor backend for anything more: they are about to be destroyed. NULL-safe. */
void delivery_abandon(struct delivery *d);
/* When broker and backend were destroyed: nothing is under way any more. NULL-safe, clears the pointer. */
void delivery_destroy(struct delivery **d);

/* An event of this session was appended by this node: it need not wait for the next look. NULL-safe. */
void delivery_kick(struct delivery *d, const char *session);

/* Takes no more, lets what is under way end, and gives the shards back, so that another node goes on at once. Then calls stopped(arg), from the loop. */
void delivery_stop(struct delivery *d, void (*stopped)(void *arg), void *arg);

/* How old the oldest event is that this node has read and not delivered; 0: there is none. */
uint64_t delivery_lag_ms(const struct delivery *d);

#endif
