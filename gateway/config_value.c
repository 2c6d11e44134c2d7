/* gateway/config_value.c: counts, sizes, times and words as people write them. */
#include "gateway/config_value.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

#include "base/mem.h"

struct unit {
    const char *suffix;
    uint64_t factor;
};

#define KIB    UINT64_C(1024)
#define SECOND UINT64_C(1000)

static const struct unit sizes[] = {{"", 1}, {"k", KIB}, {"m", KIB *KIB}, {"g", KIB *KIB *KIB}};
static const struct unit times[] = {
    {"", SECOND}, {"ms", 1}, {"s", SECOND}, {"m", 60 * SECOND}, {"h", 3600 * SECOND}, {"d", 86400 * SECOND}};

/* Splits s into leading digits and the rest; at most 10 digits, so that no factor above overflows. */
static bool number(struct slice s, uint64_t *ret, struct slice *ret_rest)
{
    uint64_t v = 0;
    size_t i = 0;
    for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++)
        v = v * 10 + (uint64_t)(s.p[i] - '0');
    if (i == 0 || i > 10)
        return false;
    *ret = v;
    *ret_rest = slice_from(s, i);
    return true;
}

static bool with_unit(struct slice s, const struct unit *units, size_t count, uint64_t *ret)
{
    uint64_t v;
    struct slice rest;
    /* The length is looked at first: no more digits than that can overflow v. */
    if (s.n > 14 || !number(s, &v, &rest))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (slice_eq(rest, slice_str(units[i].suffix))) {
            *ret = v * units[i].factor;
            return true;
        }
    }
    return false;
}

bool value_count(struct slice s, uint32_t *ret)
{
    uint64_t v;
    if (!with_unit(s, sizes, 1, &v) || v > UINT32_MAX)
        return false;
    *ret = (uint32_t)v;
    return true;
}

bool value_size(struct slice s, uint32_t *ret)
{
    uint64_t v;
    if (!with_unit(s, sizes, ARRAY_LEN(sizes), &v) || v > UINT32_MAX)
        return false;
    *ret = (uint32_t)v;
    return true;
}

bool value_time(struct slice s, uint64_t *ret_ms)
{
    return with_unit(s, times, ARRAY_LEN(times), ret_ms);
}

bool value_bool(struct slice s, bool *ret)
{
    static const char *const words[] = {"off", "on", "false", "true", "no", "yes", "0", "1", NULL};
    unsigned at;
    if (!value_word(s, words, &at))
        return false;
    *ret = at % 2 == 1;
    return true;
}

bool value_word(struct slice s, const char *const *words, unsigned *ret)
{
    for (unsigned i = 0; words[i] != NULL; i++) {
        if (slice_eq(s, slice_str(words[i]))) {
            *ret = i;
            return true;
        }
    }
    return false;
}

static void format(uint64_t v, const struct unit *units, size_t count, char ret[VALUE_TEXT])
{
    const struct unit *best = &units[0];
    for (size_t i = 0; i < count; i++)
        if (v != 0 && units[i].factor >= best->factor && v % units[i].factor == 0)
            best = &units[i];
    (void)snprintf(ret, VALUE_TEXT, "%" PRIu64 "%s", v / best->factor, best->suffix);
}

void value_format_size(uint32_t bytes, char ret[VALUE_TEXT])
{
    format(bytes, sizes, ARRAY_LEN(sizes), ret);
}

void value_format_time(uint64_t ms, char ret[VALUE_TEXT])
{
    if (ms == 0)
        (void)snprintf(ret, VALUE_TEXT, "0s");
    else
        format(ms, times + 1, ARRAY_LEN(times) - 1, ret); /* without the bare number: the unit is worth showing */
}

unsigned value_distance(struct slice a, struct slice b)
{
    unsigned row[65];
    if (a.n > 64 || b.n > 64)
        return UINT_MAX;
    for (unsigned j = 0; j <= b.n; j++)
        row[j] = j;
    for (unsigned i = 1; i <= a.n; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= b.n; j++) {
            unsigned best = diagonal + (a.p[i - 1] != b.p[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[b.n];
}
