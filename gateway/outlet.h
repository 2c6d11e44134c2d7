/* gateway/outlet.h: where events are posted to: the backend (docs/backend.md), or a business server of Wafer tunnels (docs/wafer.md), each with connections and a circuit breaker of
 * its own, so that one which is away keeps nobody else's waiting. */
#ifndef XD_OUTLET_H
#define XD_OUTLET_H

#include "base/list.h"
#include "base/loop.h"
#include "base/table.h"
#include "gateway/webhook/backend.h"

struct event_entry;
struct gateway;

struct outlet {
    UT_hash_handle hh; /* in the delivery, by whose */
    struct gateway *gw;
    struct backend *backend;
    bool own;          /* backend is this outlet's; else the gateway's */
    struct link ready; /* chains whose first event may be posted */
    uint32_t under_way, limit, chains;
    uint64_t taken;   /* events that it took, ever */
    uint64_t idle_ms; /* since when no chain has an event for it */
    size_t n;
    char whose[]; /* `<tcId> <receiveUrl>`; empty: the backend */
};

/* For which outlet is it? Empty: the backend's. False: nobody is told of it. */
bool outlet_route(const struct gateway *g, const struct event_entry *e, struct slice *ret_whose);

/* The one of this name, which is made if need be. NULL when nobody may be told there. */
struct outlet *outlet_get(struct outlet **all, struct gateway *g, struct slice whose);
/* Forgets business servers that nothing was for in so long. */
void outlets_sweep(struct outlet **all, uint64_t idle_ms);
/* Completes what is under way to business servers. */
void outlets_stop(struct outlet *all);
void outlets_fini(struct outlet **all);

/* What is kept of an event until it is delivered. */
void outlet_body(const struct outlet *o, const struct event_entry *e, struct buf *ret);
/* As backend_post. */
void outlet_post(struct outlet *o, struct slice id, struct slice body, backend_done *done, void *arg);
/* Nothing more is to be tried with an event of that time: it is too old, or its tenant may not have it any more. */
bool outlet_gives_up(const struct outlet *o, uint64_t time_ms);
/* Has it taken the event? *ret_refused: it has looked at it, and never will. */
bool outlet_took(const struct outlet *o, const struct backend_result *r, bool *ret_refused);

#endif
