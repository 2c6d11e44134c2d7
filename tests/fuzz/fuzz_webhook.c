/* tests/fuzz/fuzz_webhook.c: what a backend answers: never more than its limits, the same however it is cut into pieces; and URLs.
 *
 * The first byte says in which pieces the rest arrives; a leading 'U' means that it is a URL. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "gateway/webhook/response.h"
#include "gateway/webhook/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void feed(struct response *r, const char *p, size_t n, size_t piece)
{
    size_t at = 0;
    response_init(r);
    while (at < n && r->state != RESPONSE_DONE && r->state != RESPONSE_BAD) {
        size_t part = n - at < piece ? n - at : piece;
        size_t used = response_feed(r, p + at, part);
        assert(used <= part && (used == part || r->state == RESPONSE_DONE || r->state == RESPONSE_BAD));
        at += used;
        assert(r->body.n <= RESPONSE_BODY_MAX && r->line.n <= RESPONSE_HEAD_MAX);
    }
    if (r->state != RESPONSE_DONE && r->state != RESPONSE_BAD)
        response_eof(r);
    assert(r->state == RESPONSE_DONE || (r->state == RESPONSE_BAD && r->why != NULL && !r->keep));
    assert(r->state != RESPONSE_DONE || (r->status >= 200 && r->status <= 599));
}

static void try_url(const uint8_t *data, size_t size)
{
    AUTO_FREE char *text = xstrndup((const char *)data, size);
    struct webhook_url u;
    struct error error;
    if (webhook_url_parse(text, &u, &error) != OK) {
        assert(error.code == ERR_BAD_REQUEST && error.text[0] != '\0');
        return;
    }
    assert(u.host[0] != '\0' && u.target[0] == '/' && u.port != 0);
    assert(strpbrk(u.host, " \r\n/@") == NULL && strpbrk(u.target, " \r\n") == NULL &&
           strpbrk(u.authority, " \r\n") == NULL);
    webhook_url_fini(&u);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] == 'U') {
        try_url(data + 1, size - 1);
        return 0;
    }
    struct response whole = {.state = RESPONSE_STATUS}, pieces = {.state = RESPONSE_STATUS};
    feed(&whole, (const char *)data + 1, size - 1, size);
    feed(&pieces, (const char *)data + 1, size - 1, 1 + data[0] % 7);
    assert(whole.state == pieces.state && whole.body.n == pieces.body.n);
    if (whole.state == RESPONSE_DONE)
        assert(whole.status == pieces.status && whole.keep == pieces.keep &&
               (whole.body.n == 0 || memcmp(whole.body.p, pieces.body.p, whole.body.n) == 0));
    response_fini(&whole);
    response_fini(&pieces);
    return 0;
}
