/* tests/fuzz/fuzz_http.c: HTTP requests, one after another: how the bytes are cut into pieces must not matter, and everything the core is told must lie
 * within the request's own memory and limits. */
#include <assert.h>
#include <stdint.h>

#include "base/mem.h"
#include "gateway/net/request.h"
#include "gateway/net/response.h"
#include "gateway/net/upgrade.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* Feeds pieces of `step` bytes until the request is complete or refused; returns how many bytes it took. */
static size_t feed(struct request *r, const char *p, size_t n, size_t step)
{
    size_t at = 0;
    while (at < n && !r->complete && r->status == 0) {
        size_t piece = n - at < step ? n - at : step;
        size_t used = request_feed(r, p + at, piece);
        assert(used <= piece);
        assert(r->complete || r->status != 0 || used == piece);
        at += used;
    }
    return at;
}

static void touch(struct slice s)
{
    volatile char sum = 0;
    for (size_t i = 0; i < s.n; i++)
        sum = (char)(sum ^ s.p[i]);
}

static void check_view(const struct request *r)
{
    struct http_request v;
    request_view(r, &v);
    assert(v.path.n >= 1 && v.path.p[0] == '/');
    assert(memchr(v.path.p, '?', v.path.n) == NULL);
    assert(v.path.n + v.query.n <= HTTP_URL_MAX);
    assert(v.body.n <= HTTP_BODY_MAX);
    const struct slice all[] = {v.method,          v.path,         v.query,         v.host,
                                v.origin,          v.user_agent,   v.authorization, v.subprotocols,
                                v.accept_encoding, v.content_type, v.body};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        touch(all[i]);
        /* Nothing that could start another line when it is logged or sent on; the body may hold anything. */
        assert(i + 1 == ARRAY_LEN(all) || all[i].n == 0 || memchr(all[i].p, '\n', all[i].n) == NULL);
    }
}

static void check_equal(const struct request *a, const struct request *b)
{
    assert(a->complete == b->complete);
    assert((a->status != 0) == (b->status != 0));
    if (!a->complete || a->status != 0)
        return;
    assert(a->keep_alive == b->keep_alive);
    for (enum header h = 0; h < HEADERS; h++)
        assert(slice_eq(request_header(a, h), request_header(b, h)));
    struct http_request va, vb;
    request_view(a, &va);
    request_view(b, &vb);
    assert(slice_eq(va.path, vb.path) && slice_eq(va.query, vb.query) && slice_eq(va.body, vb.body));
}

static void check_upgrade(const struct request *r)
{
    struct error e = {0};
    struct buf out = BUF_INIT;
    int status = 0;
    if (upgrade_wanted(r) && upgrade_check(r, &status, &e) == OK) {
        upgrade_accept(r, SLICE("x"), &out);
        assert(out.n > 100 && memcmp(out.p + out.n - 4, "\r\n\r\n", 4) == 0);
    } else if (status != 0) {
        assert(e.text[0] != '\0');
        response_error_body(&out, &e);
    }
    buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0)
        return 0;
    /* The first byte chooses the pieces of the second reading. */
    size_t step = 1 + data[0] % 16;
    AUTO_FREE char *text = xmalloc(n); /* exactly as long, so that reading on is noticed */
    memcpy(text, data + 1, n - 1);
    const char *p = text;
    n--;
    struct request pieces; /* the same for all, as on a connection: nothing of a request may be left in the next one */
    request_init(&pieces, NULL, NULL);
    for (int requests = 0; n > 0 && requests < 16; requests++) {
        struct request whole;
        request_init(&whole, NULL, NULL);
        size_t used = feed(&whole, p, n, n);
        size_t used_pieces = feed(&pieces, p, n, step);
        check_equal(&whole, &pieces);
        bool go_on = whole.complete && whole.status == 0;
        if (go_on) {
            assert(used == used_pieces);
            check_view(&whole);
            check_upgrade(&whole);
        }
        request_fini(&whole);
        if (!go_on)
            break;
        request_reset(&pieces);
        p += used;
        n -= used;
    }
    request_fini(&pieces);
    return 0;
}
