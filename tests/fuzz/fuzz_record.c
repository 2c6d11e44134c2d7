/* tests/fuzz/fuzz_record.c: TLS 1.3 records from a peer that knows the keys and keeps no rule.
 *
 * The input is a list of steps: a byte that says what, a byte of length, so many bytes. They become records (sealed, sealed and then damaged, or as they are), and
 * arrive in pieces of a size drawn from the input. Nothing may be given out that was not sealed whole. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "gateway/net/record.h"

#define STEPS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* Returns how much of the content that was sealed has been given out; false at the end of the connection. */
static bool take(struct records *r, char *bytes, size_t n, size_t piece)
{
    struct record got;
    bool asked;
    for (size_t at = 0; at < n; at += piece) {
        char *q = bytes + at;
        size_t left = n - at < piece ? n - at : piece;
        enum record_result result;
        while ((result = records_take(r, &q, &left, &got)) == RECORD_READY) {
            assert(got.n <= RECORD_PLAIN_MAX);
            if (got.type == RECORD_HANDSHAKE && !records_key_update(r, (struct slice){got.p, got.n}, &asked))
                return false;
        }
        if (result == RECORD_BAD)
            return false;
        assert(left == 0 && r->part.n <= RECORD_HEADER + RECORD_SEALED_MAX);
    }
    return true;
}

static size_t step(struct records *peer, unsigned what, const uint8_t *p, size_t n, char *ret)
{
    static const char update[] = {24, 0, 0, 1, 1};
    switch (what % 5) {
    case 0: memcpy(ret, p, n); return n;
    case 1: return records_seal(peer, RECORD_DATA, (const char *)p, n, ret);
    case 2: return n == 0 ? 0 : records_seal(peer, (enum record_type)p[n - 1], (const char *)p, n - 1, ret);
    case 3: {
        size_t sealed = records_seal(peer, RECORD_DATA, (const char *)p, n, ret);
        ret[n % sealed] ^= 1;
        return sealed;
    }
    default: return records_seal(peer, RECORD_HANDSHAKE, update, sizeof update, ret);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n < 2)
        return 0;
    struct record_secrets s = {.client = "client", .server = "server", .client_n = 32, .server_n = 32}, mirrored = s;
    memcpy(mirrored.client, s.server, sizeof s.server);
    memcpy(mirrored.server, s.client, sizeof s.client);
    unsigned suite = p[0] % 2 != 0 ? 0x1301 : 0x1303;
    struct records *us = records_create(suite, &s), *peer = records_create(suite, &mirrored);
    size_t piece = (size_t)p[1] + 1;
    p += 2;
    n -= 2;
    bool open = true;
    for (int i = 0; i < STEPS_MAX && n >= 2 && open; i++) {
        unsigned what = p[0];
        size_t take_n = p[1] < n - 2 ? p[1] : n - 2;
        AUTO_FREE char *bytes = xmalloc(take_n + 64);
        size_t made = step(peer, what, p + 2, take_n, bytes);
        open = take(us, bytes, made, piece);
        if (open && what % 5 == 4)
            open = false; /* the peer's own key does not move in this test */
        p += 2 + take_n;
        n -= 2 + take_n;
    }
    records_destroy(&us);
    records_destroy(&peer);
    return 0;
}
