/* proto/position.c: positions and their letters. */
#include "proto/position.h"

#include <string.h>

#include "base/text.h"

static bool is_letter(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
}

bool tag_valid(struct slice s)
{
    if (s.n != TAG_LEN)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!is_letter(s.p[i]))
            return false;
    return true;
}

bool position_parse(struct slice s, struct position *ret)
{
    struct position p = {0};
    if (slice_eq(s, SLICE("0"))) {
        *ret = p;
        return true;
    }
    if (s.n <= TAG_LEN + 1 || s.p[s.n - TAG_LEN - 1] != '.' || !tag_valid(slice_from(s, s.n - TAG_LEN)) ||
        !text_u64((struct slice){s.p, s.n - TAG_LEN - 1}, OFFSET_MAX, &p.offset) || p.offset == 0)
        return false;
    memcpy(p.tag, s.p + s.n - TAG_LEN, TAG_LEN);
    *ret = p;
    return true;
}

void position_append(struct buf *ret, const struct position *p)
{
    buf_append_u64(ret, p->offset);
    if (p->offset == 0)
        return;
    buf_append_char(ret, '.');
    buf_append_str(ret, p->tag);
}
