/* base/utf8.h: UTF-8 validation (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF). */
#ifndef XD_BASE_UTF8_H
#define XD_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

bool utf8_valid(struct slice s);

/* A name people see: valid UTF-8, 1..max bytes, no control characters (C0, DEL, C1). */
bool utf8_name_valid(struct slice s, size_t max);

#endif
