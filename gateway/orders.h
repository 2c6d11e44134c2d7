/* gateway/orders.h: commands that backends have written to the store, xd:{commands} (docs/backend.md): one node at a time reads them and carries them out. Those that
 * name the same room, session or user keep their order; others do not wait for each other. Whoever takes over begins where the record says that everything is over. */
#ifndef XD_ORDERS_H
#define XD_ORDERS_H

#include <stdint.h>

#define ORDER_BYTES_MAX 262144u /* of one command, as JSON */

struct gateway;
struct orders;

/* The gateway's broker has commands. */
struct orders *orders_create(struct gateway *g, uint32_t lease_ms);
/* Asks the broker for nothing more: it is about to be destroyed. NULL-safe. */
void orders_abandon(struct orders *w);
/* When the broker was destroyed, and act_fini() called: nothing is under way any more. NULL-safe, clears the pointer. */
void orders_destroy(struct orders **pointer);

/* Takes no more, lets what is under way end, and gives the stream back. Then calls stopped(arg), from the loop. */
void orders_stop(struct orders *w, void (*stopped)(void *arg), void *arg);

#endif
