/* tests/fuzz/fuzz_doctor.c: what servers may say to the doctor. The first byte chooses: the head of an answer, or a stream of frames. Both must be judged the same
 * however little of them has come: never taken and later refused, never outside the bytes. */
#include <assert.h>

#include "base/mem.h"
#include "gateway/doctor/answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void inside(struct slice part, struct slice all)
{
    assert(part.n == 0 || (part.p >= all.p && part.p + part.n <= all.p + all.n));
}

static void answer(struct slice in)
{
    static const char *const names[] = {"Date", "Upgrade", "Connection", "Sec-WebSocket-Accept"};
    struct answer a;
    struct error err;
    time_t when;
    bool more;
    if (answer_parse(in, &a, &more, &err) != OK || more)
        return;
    assert(a.status >= 100 && a.status <= 999 && a.head <= in.n);
    inside(a.headers, in);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        size_t count;
        struct slice value = answer_header(&a, names[i], &count);
        assert((count != 0) == (value.p != NULL));
        inside(value, a.headers);
        (void)answer_list_has(value, "upgrade");
        (void)answer_date(value, &when);
    }
    AUTO_FREE char *less = xstrndup(in.p, a.head - 1);
    enum err e = answer_parse((struct slice){less, a.head - 1}, &a, &more, &err);
    assert(e == OK && more);
}

static void frames(struct slice in)
{
    struct frame f, again;
    struct error err;
    bool more;
    while (frame_parse(in, &f, &more, &err) == OK && !more) {
        assert(f.size <= in.n && f.payload.n <= FRAME_MAX && f.size >= f.payload.n + 2);
        inside(f.payload, in);
        AUTO_FREE char *less = xstrndup(in.p, f.size - 1);
        enum err e = frame_parse((struct slice){less, f.size - 1}, &again, &more, &err);
        assert(e == OK && more);
        in = slice_from(in, f.size);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n == 0)
        return 0;
    AUTO_FREE char *copy = malloc(n); /* of the exact size, so that the sanitizer sees its end */
    assert(copy != NULL);
    memcpy(copy, p + 1, n - 1);
    struct slice in = {copy, n - 1};
    if (p[0] % 2 == 0)
        answer(in);
    else
        frames(in);
    return 0;
}
