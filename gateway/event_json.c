/* gateway/event_json.c: fields to JSON. */
#include "gateway/event_json.h"

#include "base/base64.h"
#include "base/text.h"
#include "base/utf8.h"
#include "proto/json.h"

struct slice event_field(const struct event_entry *e, const char *name)
{
    for (size_t i = 0; i < e->count; i++)
        if (slice_eq(e->fields[i].name, slice_str(name)))
            return e->fields[i].value;
    return SLICE_NONE;
}

void json_base64(struct buf *ret, struct slice s)
{
    buf_append_char(ret, '"');
    (void)base64_put(s, buf_reserve(ret, base64_letters(s.n)));
    ret->n += base64_letters(s.n);
    buf_append_char(ret, '"');
}

static bool is(struct slice name, const char *what)
{
    return slice_eq(name, slice_str(what));
}

/* False: it cannot be told. */
static bool append_value(struct slice name, struct slice value, bool binary, struct buf *ret)
{
    struct error ignored;
    uint64_t number;
    if (is(name, "data") && binary) {
        json_base64(ret, value);
        return true;
    }
    if (!utf8_valid(value))
        return false;
    if (is(name, "data") || is(name, "attributes")) {
        if (json_check(value, &ignored) != OK)
            return false;
        buf_append(ret, value);
    } else if (is(name, "time")) {
        if (!text_u64(value, UINT64_MAX, &number))
            return false;
        buf_append_u64(ret, number);
    } else {
        json_quote(ret, value);
    }
    return true;
}

void event_json(const struct event_entry *e, struct buf *ret)
{
    bool binary = is(event_field(e, "data_type"), "binary"), first = true;
    buf_append_char(ret, '{');
    for (size_t i = 0; i < e->count; i++) {
        size_t before = ret->n;
        if (!utf8_valid(e->fields[i].name))
            continue;
        if (!first)
            buf_append_char(ret, ',');
        json_quote(ret, e->fields[i].name);
        buf_append_char(ret, ':');
        if (append_value(e->fields[i].name, e->fields[i].value, binary, ret))
            first = false;
        else
            ret->n = before;
    }
    buf_append_char(ret, '}');
}
