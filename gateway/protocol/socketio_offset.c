/* gateway/protocol/socketio_offset.c: offsets of Socket.IO clients. */
#include "gateway/protocol/socketio_offset.h"

#include <string.h>

#include "gateway/protocol/frame.h"

#define NAME_LETTERS 4u
#define TAG_LETTERS  4u
#define DIGITS_MAX   11u /* of 64 bits */

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void append_letters(struct buf *ret, uint64_t v, unsigned count)
{
    for (unsigned i = count; i-- > 0;)
        buf_append_char(ret, letters[v >> (6 * i) & 63]);
}

/* The same on every node, so not the hash of our tables. FNV-1a, 24 bits of it. */
static uint64_t name_hash(struct slice room)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < room.n; i++)
        h = (h ^ (unsigned char)room.p[i]) * 16777619u;
    return (h ^ h >> 24) & 0xffffff;
}

void sio_offset_append(struct buf *ret, struct slice room, const struct position *at)
{
    unsigned digits = 0;
    while (digits < DIGITS_MAX && at->offset >> (6 * digits) != 0)
        digits++;
    buf_append_char(ret, '.');
    append_letters(ret, name_hash(room), NAME_LETTERS);
    if (at->offset == 0)
        return; /* nothing has been said yet: it has no tag */
    /* Of a message that no log has any more the tag may not be known. */
    buf_append(ret, at->tag[0] != '\0' ? (struct slice){at->tag, TAG_LETTERS} : SLICE("----"));
    append_letters(ret, at->offset, digits);
}

/* Made of our letters: false is something else. */
static bool read_number(struct slice s, uint64_t *ret)
{
    uint64_t v = 0;
    if (s.n == 0 || s.n > DIGITS_MAX - 1)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        const char *at = s.p[i] != '\0' ? strchr(letters, s.p[i]) : NULL;
        if (at == NULL)
            return false;
        v = v << 6 | (uint64_t)(at - letters);
    }
    *ret = v;
    return true;
}

static bool read_element(struct slice e, struct position *ret)
{
    *ret = (struct position){0};
    if (e.n == NAME_LETTERS)
        return true;
    if (e.n < NAME_LETTERS + TAG_LETTERS)
        return false;
    uint64_t ignored;
    memcpy(ret->tag, e.p + NAME_LETTERS, TAG_LETTERS);
    return read_number((struct slice){ret->tag, TAG_LETTERS}, &ignored) && /* it may be told to the client again */
           read_number(slice_from(e, NAME_LETTERS + TAG_LETTERS), &ret->offset);
}

enum sio_offset_says sio_offset_find(struct slice offset, struct slice room, struct position *ret)
{
    struct buf name = BUF_INIT;
    enum sio_offset_says says = SIO_OFFSET_NOTHING;
    append_letters(&name, name_hash(room), NAME_LETTERS);
    const char *start = offset.p;
    while (offset.n != 0) {
        const char *dot = memchr(offset.p, '.', offset.n);
        struct slice e = {offset.p, dot != NULL ? (size_t)(dot - offset.p) : offset.n};
        offset = slice_from(offset, e.n + (dot != NULL));
        if (e.n < NAME_LETTERS && (e.n != 0 || e.p != start))
            break; /* not ours, and somebody may have written thousands */
        if (!slice_starts(e, buf_slice(&name)))
            continue;
        bool first = says == SIO_OFFSET_NOTHING;
        says = first && read_element(e, ret) ? SIO_OFFSET_POSITION : SIO_OFFSET_AMBIGUOUS;
    }
    buf_fini(&name);
    return says;
}

size_t sio_offset_count(struct slice offset)
{
    size_t n = 0;
    for (size_t i = 0; i < offset.n; i++)
        n += offset.p[i] == '.';
    return n;
}

bool sio_offset_is(const struct position *said, const struct position *at)
{
    return said->offset == at->offset && (at->offset == 0 || strncmp(said->tag, at->tag, TAG_LETTERS) == 0);
}

/* The payload of the frame of our own making that begins there. */
static struct slice payload_at(struct slice frames, size_t at)
{
    const unsigned char *f = (const unsigned char *)frames.p + at;
    size_t n = f[1], header = 2;
    if (n >= 126) {
        size_t bytes = n == 126 ? 2 : 8;
        n = 0;
        for (; header < 2 + bytes; header++)
            n = n << 8 | f[header];
    }
    return (struct slice){frames.p + at + header, n};
}

void sio_trail_insert(struct slice frames, const uint32_t *starts, size_t count, struct slice trail, struct buf *ret)
{
    const size_t tail = 2;
    size_t at = 0;
    (void)buf_reserve(ret, frames.n + count * (trail.n + WS_HEADER_MAX));
    for (size_t i = 0; i < count; i++) {
        struct slice text = payload_at(frames, starts[i]);
        buf_append(ret, (struct slice){frames.p + at, starts[i] - at});
        char *header = buf_reserve(ret, WS_HEADER_MAX);
        ret->n += ws_header(header, WS_TEXT, text.n + trail.n);
        buf_append(ret, (struct slice){text.p, text.n - tail});
        buf_append(ret, trail);
        buf_append(ret, (struct slice){text.p + text.n - tail, tail});
        at = (size_t)(text.p - frames.p) + text.n;
    }
    buf_append(ret, slice_from(frames, at));
}
