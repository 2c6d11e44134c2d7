/* tests/fuzz/fuzz_tunnel.c: bodies of /get/wsurl and /ws/push, and what one node tells another of a push: whatever is taken is as promised. The first byte chooses. */
#include <assert.h>
#include <stdint.h>

#include "gateway/protocol/wafer.h"
#include "gateway/tunnel_body.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

#define LETTERS 16

static void check_refusal(enum wafer_code code, const struct error *error)
{
    assert(code >= WAFER_NOT_JSON && code <= WAFER_HOST);
    assert(error->text[0] != '\0');
}

static void fuzz_request(struct slice body, struct arena *a)
{
    struct wafer_request r;
    struct error error = {0};
    struct slice url;
    enum wafer_code code = wafer_read_request(body, a, &r, &error);
    if (code != WAFER_OK) {
        check_refusal(code, &error);
        return;
    }
    assert(r.data.n != 0 && r.id.n != 0);
    code = wafer_read_wsurl(r.data, a, &url, &error);
    assert((code == WAFER_OK) == (url.n != 0));
}

static void fuzz_push(struct slice data, struct arena *a)
{
    struct wafer_push *packets = NULL;
    struct error error = {0};
    size_t count = 0, ids = 0;
    enum wafer_code code = wafer_read_push(data, a, &packets, &count, &error);
    if (code != WAFER_OK) {
        check_refusal(code, &error);
        return;
    }
    assert(count <= PUSH_PACKETS_MAX);
    for (size_t i = 0; i < count; i++) {
        ids += packets[i].id_count;
        enum err err = packets[i].type == WAFER_PUSH_MESSAGE ? wafer_check_content(packets[i].content, &error) : OK;
        assert(err == OK);
    }
    assert(ids <= PUSH_IDS_MAX);
}

static void fuzz_told(struct slice data)
{
    struct wafer_told t, again;
    struct buf b = BUF_INIT;
    if (!wafer_read_told(data, LETTERS, &t))
        return;
    assert(t.ids.n % LETTERS == 0 && t.ids.p + t.ids.n == data.p + data.n);
    wafer_put_told(&t, &b);
    bool read = wafer_read_told(buf_slice(&b), LETTERS, &again);
    assert(read && again.type == t.type && slice_eq(again.tenant, t.tenant) && slice_eq(again.content, t.content) &&
           slice_eq(again.ids, t.ids));
    buf_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct arena a;
    if (n == 0)
        return 0;
    struct slice text = {(const char *)p + 1, n - 1};
    arena_init(&a, (size_t)1 << 20);
    switch (p[0] % 3) {
    case 0: fuzz_request(text, &a); break;
    case 1: fuzz_push(text, &a); break;
    default: fuzz_told(text); break;
    }
    arena_reset(&a);
    return 0;
}
