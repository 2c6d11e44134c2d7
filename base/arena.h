/* base/arena.h: memory for one inbound frame or reply: allocated in pieces, freed at once, with a hard cap. */
#ifndef XD_BASE_ARENA_H
#define XD_BASE_ARENA_H

#include "base/slice.h"

struct arena {
    struct arena_block *blocks;
    size_t used, cap;
};

/* Nothing is allocated before the first arena_alloc. */
void arena_init(struct arena *a, size_t cap);
/* Frees everything; the arena may be used again. */
void arena_reset(struct arena *a);
/* Aligned for any type, not zeroed; NULL when the cap would be passed. */
void *arena_alloc(struct arena *a, size_t n);

#endif
