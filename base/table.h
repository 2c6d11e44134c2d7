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

/* Analysers see what the macros do, not how: expanded, they are the longest code of every function they stand in, and the lists inside
 * uthash are beyond what an analyser follows. */
#if defined(__clang_analyzer__) || defined(__cppcheck__)
void *table_any(const void *table, const void *key, size_t n);
void *table_added(const void *table, void *element);
#undef HASH_FIND
#undef HASH_ADD
#undef HASH_ADD_KEYPTR
#undef HASH_DELETE
#undef HASH_ITER
#define HASH_FIND(hh, head, key, n, out)      ((out) = table_any((head), (key), (n)))
#define HASH_ADD(hh, head, field, n, el)      ((head) = table_added((head), (el)))
#define HASH_ADD_KEYPTR(hh, head, key, n, el) ((void)table_any((head), (key), (n)), (head) = table_added((head), (el)))
#define HASH_DELETE(hh, head, el)             ((head) = table_any((head), (el), 0))
#define HASH_ITER(hh, head, el, tmp)                                                                                   \
    for ((el) = (head), (tmp) = table_any((el), NULL, 0); (el) != NULL; (el) = (tmp), (tmp) = table_any((el), NULL, 0))
#endif

#endif
