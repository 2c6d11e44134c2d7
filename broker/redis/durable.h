/* broker/redis/durable.h: publishes that are confirmed when so many replicas have them.
 *
 * WAIT speaks for what its own connection has written, and nothing behind it on that connection is looked at before it is answered. So these publishes
 * have connections that nothing else uses: one for every number of replicas asked for, made when it is needed first.
 * Each takes one batch at a time: whatever came while the last batch was under way, and one WAIT for all of it.
 *
 * A WAIT that comes back without enough replicas has kept its connection busy for all of its time, so for a while after that only a short one is tried:
 * while replicas are missing publishes fail within a fraction of a second each, and live delivery in these rooms is late by no more.
 *
 * Only what was written and waited for on one and the same connection is confirmed: after a reconnect the other end may be another server. */
#ifndef XD_BROKER_REDIS_DURABLE_H
#define XD_BROKER_REDIS_DURABLE_H

#include "broker/redis/link.h"

/* SENT: not answered yet. PUBLISHED: answered, and a WAIT must follow. AGAIN: to be sent once more. */
enum job_state { JOB_SENT, JOB_PUBLISHED, JOB_AGAIN };

/* One publish; embedded in its caller's context, who fills in the first part. */
struct durable_job {
    bool repeatable; /* doing it twice is as good as once, and twice is a write */
    /* The reply to the publish, or why there is none; as redis_done. To return true when replicas shall confirm it; false: the job is over, and may be
     * freed. Comes again for a job that is repeated. */
    bool (*published)(struct durable_job *j, const redisReply *r, enum err err, const char *why);
    /* The job is over, and may be freed. why is NULL, or says why it is not known how many replicas have it; borrowed. */
    void (*confirmed)(struct durable_job *j, bool enough, uint32_t replicas, const char *why);

    struct durable *durable; /* from here on durable.c's own */
    struct link link;
    char *bytes;
    size_t n;
    enum job_state state;
    uint64_t due_ms, connection;
};

/* The connections to one server. */
struct durables {
    struct loop *loop;
    const struct redis_link_config *cfg;
    struct broker_stats *stats;
    struct durable *by_replicas[REPLICAS_MAX + 1];
    void (*refused)(void *owner, const redisReply *error); /* NULL, or told every error reply to a publish */
    void *owner;
};

/* cfg is borrowed while all lives; a quarter of its timeout is kept for the way to Redis and back. Connects to nothing yet. */
void durables_init(struct durables *all, struct loop *loop, const struct redis_link_config *cfg,
                   struct broker_stats *stats);
/* replicas: 1 to REPLICAS_MAX. Takes bytes, of args_format. Borrows j until it is over. False when too many wait already: j was not begun. */
bool durables_send(struct durables *all, uint32_t replicas, char *bytes, size_t n, struct durable_job *j);
/* As redis_link_close: ends every job with ERR_UNAVAILABLE and this reason; false when there was none. */
bool durables_close(struct durables *all, const char *why);
/* After durables_close. */
void durables_fini(struct durables *all);

#endif
