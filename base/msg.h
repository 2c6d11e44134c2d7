/* base/msg.h: an immutable, refcounted run of bytes, shared by every queue it stands in. One thread only. */
#ifndef XD_BASE_MSG_H
#define XD_BASE_MSG_H

#include <stdint.h>

#include "base/slice.h"

struct msg {
    uint32_t refs;
    uint32_t len;
    char data[];
};

/* Copies body; returns one reference, the caller's. */
struct msg *msg_new(struct slice body);

static inline struct msg *msg_ref(struct msg *m)
{
    m->refs++;
    return m;
}

/* Gives up one reference and clears the pointer; NULL-safe. */
void msg_unref(struct msg **m);

static inline struct slice msg_slice(const struct msg *m)
{
    return (struct slice){m->data, m->len};
}

#endif
