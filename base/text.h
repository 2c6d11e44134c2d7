/* base/text.h: the small change of parsing. */
#ifndef XD_BASE_TEXT_H
#define XD_BASE_TEXT_H

#include "base/slice.h"

/* Without spaces and tabs at either end. */
struct slice text_trim(struct slice s);

/* A decimal number in [0, max] and nothing else; false, *ret untouched, otherwise. */
bool text_u64(struct slice s, uint64_t max, uint64_t *ret);

/* The value of a hex digit, -1 for anything else. */
int text_hex(char c);

/* Decodes %XX into out (capacity size) and sets *ret to it. False when a percent sign is not followed by two hex digits, or it does not fit. '+' stays
 * '+': paths are not forms. */
bool text_percent_decode(struct slice s, char *out, size_t size, struct slice *ret);

#endif
