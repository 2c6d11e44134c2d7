/* gateway/reader.h: reading one stream of the store (a shard of events, the commands), which one node at a time takes care of: it holds a lease, reads pages as long as
 * there is room, and tells the store up to where everything is done. Whoever takes over begins there. */
#ifndef XD_READER_H
#define XD_READER_H

#include "base/loop.h"
#include "broker/broker.h"

struct reader;

struct reader_ops {
    void (*send)(struct reader *r, struct events_ask *what, broker_done *done, void *arg); /* to the store */
    bool (*full)(struct reader *r); /* reads no more for now, but keeps the stream */
    void (*take)(struct reader *r, const struct event_entry *e);
    void (*forget)(
        struct reader *r); /* all that was taken: it is another node's, or is read again from the cursor on */
    void (*dropped)(struct reader *r,
                    uint64_t n);       /* so many more went before they were done; at first all that ever did */
    void (*stopped)(struct reader *r); /* after reader_stop(): nothing is under way to the store any more */
};

/* Embedded in its owner. */
struct reader {
    const struct reader_ops *ops;
    struct loop *loop;
    uint32_t lease_ms, idle_ms; /* idle_ms: how often the stream is looked at when nothing is new */
    bool mine, asking, kicked, stopping;
    struct timer look;
    uint64_t asked_ms, lease_until_ms, gone;
    char settled[EVENT_PLACE_MAX + 1]; /* everything up to it is done; empty: nothing new */
    char last[EVENT_PLACE_MAX + 1];    /* read */
};

/* Begins to read soon. */
void reader_init(struct reader *r, struct loop *loop, const struct reader_ops *ops, uint32_t lease_ms,
                 uint32_t idle_ms);
/* Everything up to this place is done. */
void reader_settled(struct reader *r, const char *place);
/* There is something new, or room, or something to be told: looks at once. */
void reader_kick(struct reader *r);
/* Asks no more. While `asking` something is still under way to the store, and stopped() follows. */
void reader_stop(struct reader *r);
/* After that: gives the stream back, so that another node goes on at once. */
void reader_release(struct reader *r, broker_done *done, void *arg);

#endif
