/* gateway/uri.h: the parts of a request target (RFC 3986): percent-decoding and query parameters. */
#ifndef XD_URI_H
#define XD_URI_H

#include "base/slice.h"

/* Decodes %XX into out (capacity size) and sets *ret to it. False when a percent sign is not followed by two hex digits, or it does not fit. '+' stays
 * '+': paths are not forms. */
bool uri_decode(struct slice s, char *out, size_t size, struct slice *ret);

/* The raw value of the first parameter of that name in a query (`a=1&b=2`), empty when absent; *ret_found tells. */
struct slice uri_query(struct slice query, const char *name, bool *ret_found);

/* A decimal number in [0, max] and nothing else. */
bool uri_uint(struct slice s, uint64_t max, uint64_t *ret);

#endif
