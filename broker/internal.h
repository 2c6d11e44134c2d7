/* broker/internal.h: what the backends share; not for users of a broker. */
#ifndef XD_BROKER_INTERNAL_H
#define XD_BROKER_INTERNAL_H

#include "broker/broker.h"

/* A fresh tag: 64 random bits in hex, and a NUL. */
void broker_tag(char ret[TAG_LEN + 1]);

/* What makes p idempotent, or none. A message that is appended again has its own key if it ever had one, so that it and its publisher's repetition are one;
 * else its first tag, marked by a letter that clients cannot use. */
#define ONCE_SCRATCH (TAG_LEN + 2)
struct slice broker_once_key(const struct publish *p, char scratch[ONCE_SCRATCH]);

/* Calls done, which may be NULL. */
static inline void broker_complete(broker_done *done, void *arg, const struct broker_result *r)
{
    if (done != NULL)
        done(arg, r);
}

static inline void broker_fail(broker_done *done, void *arg, enum err err, const char *why)
{
    struct broker_result r = {.err = err, .why = why};
    broker_complete(done, arg, &r);
}

#endif
