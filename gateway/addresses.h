/* gateway/addresses.h: lists of addresses: ADDRESS or ADDRESS/BITS, IPv4 and IPv6. */
#ifndef XD_ADDRESSES_H
#define XD_ADDRESSES_H

#include "base/slice.h"
#include "gateway/config.h"

bool address_range_valid(struct slice text);
/* Is ip, as text, in one of the ranges? */
bool address_in(const struct strings *ranges, struct slice ip);

#endif
