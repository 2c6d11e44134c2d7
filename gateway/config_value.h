/* gateway/config_value.h: how people write values in options and policies: counts, sizes, times, words.
 *
 * Parsers take the whole of s or nothing; *ret is untouched on failure. */
#ifndef XD_CONFIG_VALUE_H
#define XD_CONFIG_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

/* Decimal digits only. */
bool value_count(struct slice s, uint32_t *ret);
/* Bytes, or with k, m, g (powers of 1024): 512, 64k, 1m. */
bool value_size(struct slice s, uint32_t *ret);
/* Seconds, or with ms, s, m, h, d: 30, 500ms, 30s, 5m. In milliseconds. */
bool value_time(struct slice s, uint64_t *ret_ms);
/* on, true, yes, 1 and off, false, no, 0. */
bool value_bool(struct slice s, bool *ret);
/* Index in a list that ends with NULL. */
bool value_word(struct slice s, const char *const *words, unsigned *ret);

#define VALUE_TEXT 24 /* bytes that the two below need at most */
/* The shortest way to write it that the parsers above read back. */
void value_format_size(uint32_t bytes, char ret[VALUE_TEXT]);
void value_format_time(uint64_t ms, char ret[VALUE_TEXT]);

/* How many letters have to be changed, added or dropped to make b of a; names longer than 64 bytes are infinitely far. */
unsigned value_distance(struct slice a, struct slice b);

#endif
