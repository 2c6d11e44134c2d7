/* base/buf.h: a growable byte buffer. The caller bounds what it appends; growth itself never fails (base/mem.h). */
#ifndef XD_BASE_BUF_H
#define XD_BASE_BUF_H

#include "base/slice.h"

struct buf {
    char *p;
    size_t n, cap;
};

#define BUF_INIT ((struct buf){NULL, 0, 0})

void buf_fini(struct buf *b);
/* Makes room for n more bytes and returns where they go; the caller adds what it wrote to b->n. */
char *buf_reserve(struct buf *b, size_t n);
void buf_append(struct buf *b, struct slice s);
void buf_append_str(struct buf *b, const char *s);
void buf_append_char(struct buf *b, char c);
void buf_append_u64(struct buf *b, uint64_t v);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3), nonnull(2)));
/* Drops the first n bytes, moving the rest to the front. */
void buf_consume(struct buf *b, size_t n);

static inline void buf_clear(struct buf *b)
{
    b->n = 0;
}

static inline struct slice buf_slice(const struct buf *b)
{
    return (struct slice){b->p, b->n};
}

#endif
