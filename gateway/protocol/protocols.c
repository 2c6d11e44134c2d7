/* gateway/protocol/protocols.c: the client protocols there are, and how one is chosen. */
#include "base/mem.h"
#include "base/text.h"
#include "gateway/protocol/native.h"

static void encode_native(const struct protocol_ops *self, const struct event *e, struct buf *ret)
{
    (void)self;
    native_encode(e, ret);
}

const struct protocol_ops protocol_native = {
    .name = "native",
    .subprotocol = "xindao.v1.json",
    .heartbeat = native_heartbeat,
    .decode = native_decode,
    .encode = encode_native,
};

static const struct protocol_ops *const protocols[] = {&protocol_native};

static const struct protocol_ops *find(struct slice subprotocol)
{
    for (size_t i = 0; i < ARRAY_LEN(protocols); i++)
        if (slice_eq(subprotocol, slice_str(protocols[i]->subprotocol)))
            return protocols[i];
    return NULL;
}

const struct protocol_ops *protocol_select(struct slice offered, struct slice *ret_selected)
{
    /* The client's order is its preference. */
    while (offered.n != 0) {
        const char *comma = memchr(offered.p, ',', offered.n);
        size_t n = comma != NULL ? (size_t)(comma - offered.p) : offered.n;
        const struct protocol_ops *found = find(text_trim((struct slice){offered.p, n}));
        if (found != NULL) {
            *ret_selected = slice_str(found->subprotocol);
            return found;
        }
        offered = slice_from(offered, comma != NULL ? n + 1 : n);
    }
    *ret_selected = SLICE_NONE;
    return &protocol_native;
}
