/* gateway/uri.h: the parts of a request target (RFC 3986). */
#ifndef XD_URI_H
#define XD_URI_H

#include "base/slice.h"

/* How often a query has a parameter of that name. */
unsigned uri_query_count(struct slice query, const char *name);

/* The raw value of the first parameter of that name in a query (`a=1&b=2`), empty when absent; *ret_found tells. */
struct slice uri_query(struct slice query, const char *name, bool *ret_found);

/* `https://host:port` of a URL; empty when it has none. */
struct slice uri_origin(struct slice url);

#endif
