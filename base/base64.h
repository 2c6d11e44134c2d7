/* base/base64.h: RFC 4648 base64, read strictly: no other letters, no blanks, no bits left over. */
#ifndef XD_BASE_BASE64_H
#define XD_BASE_BASE64_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/slice.h"

/* §4 with padding; §5, the URL alphabet, without. */
enum base64 { BASE64, BASE64URL };

/* How many letters n bytes become with padding, and how many bytes n letters become at most. */
static inline size_t base64_letters(size_t n)
{
    return (n + 2) / 3 * 4;
}

static inline size_t base64_bytes(size_t n)
{
    return n / 4 * 3 + 3;
}

/* Writes base64_letters(bytes.n) letters of BASE64, without a NUL. Returns the end. */
char *base64_put(struct slice bytes, char *to);

/* Appends BASE64URL. */
void base64url_append(struct buf *ret, struct slice bytes);

/* ret has room for base64_bytes(text.n). */
bool base64_take(enum base64 alphabet, struct slice text, void *ret, size_t *ret_n);

#endif
