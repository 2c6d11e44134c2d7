/* tests/support/check.h: cmocka with the headers it wants before it, and what it lacks: comparing slices, random input that can be repeated. */
#ifndef XD_TESTS_CHECK_H
#define XD_TESTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/slice.h"

/* Shows both when they differ. */
#define assert_slice(got, want)     check_slice_at((got), slice_str(want), __FILE__, __LINE__)
#define assert_slices_eq(got, want) check_slice_at((got), (want), __FILE__, __LINE__)

static inline void check_slice_at(struct slice got, struct slice want, const char *file, int line)
{
    if (slice_eq(got, want))
        return;
    print_error("got  %zu bytes \"%.*s\"\nwant %zu bytes \"%.*s\"\n", got.n, SLICE_FMT(got), want.n, SLICE_FMT(want));
    _fail(file, line);
}

/* xorshift64*; the same sequence in every run. */
static inline uint64_t check_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1du;
}

#endif
