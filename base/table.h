/* base/table.h: hash tables keyed by bytes: uthash with a keyed hash, so that peers cannot choose names that collide.
 *
 * An element embeds `UT_hash_handle hh`; use HASH_ADD_KEYPTR and HASH_FIND. The key's memory belongs to the element. */
#ifndef XD_BASE_TABLE_H
#define XD_BASE_TABLE_H

#include <stdint.h>
#include <stdlib.h>

#include "base/slice.h"

/* SipHash-1-3 (Aumasson, Bernstein) under a key drawn once per process. */
uint64_t table_hash(const void *p, size_t n);

/* Must be called before the first table is used; reads the kernel's random source, ends the process if there is none. */
void table_seed(void);

#define HASH_FUNCTION(keyptr, keylen, hashv) ((hashv) = (unsigned)table_hash((keyptr), (keylen)))
#define uthash_fatal(text)                   abort()
#include <uthash.h>

#endif
