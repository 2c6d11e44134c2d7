/* gateway/repeats.c: requests of other nodes that came twice. */
#include "gateway/repeats.h"

#include "base/mem.h"
#include "gateway/gateway.h"

#define ASKERS_MAX 16u /* of one connection; then the one that was silent for longest is forgotten */

/* Who asked last stands last. */
struct asker {
    char node[NODE_ID_MAX];
    uint64_t last[2]; /* GET and POST */
};

static bool is(const struct asker *a, struct slice node)
{
    return slice_eq(slice_str(a->node), node);
}

static struct asker *asker_of(struct repeats *r, struct slice node)
{
    struct asker found = {{0}, {0}};
    uint32_t i = 0;
    if (r->askers == NULL)
        r->askers = xcalloc(ASKERS_MAX, sizeof *r->askers);
    while (i < r->count && !is(&r->askers[i], node))
        i++;
    if (i < r->count)
        found = r->askers[i];
    else if (r->count < ASKERS_MAX)
        r->count++;
    else
        i = 0;
    memmove(&r->askers[i], &r->askers[i + 1], (r->count - 1 - i) * sizeof *r->askers);
    memcpy(found.node, node.p, node.n);
    r->askers[r->count - 1] = found;
    return &r->askers[r->count - 1];
}

bool repeats_is(struct repeats *r, struct slice node, bool post, uint64_t number)
{
    if (number == 0 || node.n == 0 || node.n >= NODE_ID_MAX)
        return false;
    struct asker *a = asker_of(r, node);
    if (number <= a->last[post])
        return true;
    a->last[post] = number;
    return false;
}

void repeats_fini(struct repeats *r)
{
    free(TAKE(r->askers));
    r->count = 0;
}
