/* loadgen_dialect.h: how a server wants to be talked to: URL, entering a room, publishing. Pure text, no I/O. */
#ifndef XD_BENCH_DIALECT_H
#define XD_BENCH_DIALECT_H

#include <stddef.h>
#include <stdint.h>

/* What a text frame without a payload of ours means. */
enum meaning {
    MEANS_NOTHING,
    MEANS_REPLY,   /* send what was written to `reply` */
    MEANS_ENTERED, /* the room is entered: ready to publish */
    MEANS_ERROR,   /* the run fails, showing the frame */
};

struct frame_text {
    const uint8_t *p;
    size_t n;
};

struct dialect {
    const char *name, *help;
    const char *headers; /* of the upgrade request, each with its CRLF */
    /* These write text and return its length. */
    size_t (*path)(char *buf, size_t size, uint32_t client, uint32_t room);
    size_t (*publish_head)(char *buf, size_t size, uint32_t room);
    const char *publish_tail;
    /* NULL: the upgrade alone enters the room, and no frame but messages means anything. */
    enum meaning (*read)(struct frame_text text, uint32_t room, char *reply, size_t size);
};

/* NULL-terminated list of all, the default first. */
extern const struct dialect *const dialects[];
/* NULL when there is none of that name. */
const struct dialect *dialect_find(const char *name);

#endif
