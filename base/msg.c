/* base/msg.c: refcounted messages. */
#include "base/msg.h"

#include <assert.h>

#include "base/mem.h"

struct msg *msg_new(struct slice body)
{
    assert(body.n <= UINT32_MAX);
    struct msg *m = xmalloc(sizeof *m + body.n);
    m->refs = 1;
    m->len = (uint32_t)body.n;
    if (body.n != 0)
        memcpy(m->data, body.p, body.n);
    return m;
}

void msg_unref(struct msg **m)
{
    if (*m == NULL)
        return;
    assert((*m)->refs > 0);
    if (--(*m)->refs == 0)
        free(*m);
    *m = NULL;
}
