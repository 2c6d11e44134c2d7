/* tests/fuzz/fuzz_proxy.c: PROXY headers: the verdict must not depend on how many bytes are there already, once there are enough. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "gateway/net/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static enum proxy_result parse(const uint8_t *p, size_t n, struct proxy_header *ret)
{
    AUTO_FREE char *copy = xmalloc(n != 0 ? n : 1); /* exactly as long, so that reading on is noticed */
    memcpy(copy, p, n);
    const char *why = NULL;
    enum proxy_result r = proxy_parse(copy, n, ret, &why);
    assert(r != PROXY_BAD || why != NULL);
    assert(r != PROXY_DONE || (ret->length <= n && ret->length <= PROXY_MAX));
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct proxy_header whole = {0}, part = {0};
    if (n > PROXY_MAX + 16)
        n = PROXY_MAX + 16;
    enum proxy_result verdict = parse(p, n, &whole);
    assert(verdict != PROXY_MORE || n < PROXY_MAX);
    for (size_t i = 1; i < n; i++) {
        enum proxy_result r = parse(p, i, &part);
        assert(r == PROXY_MORE || r == verdict);
        assert(r != PROXY_DONE || (i >= whole.length && part.length == whole.length && part.local == whole.local));
    }
    if (verdict == PROXY_DONE && !whole.local) {
        char text[PEER_TEXT];
        peer_address_text(&whole.address, text);
        assert(text[0] != '\0');
    }
    return 0;
}
