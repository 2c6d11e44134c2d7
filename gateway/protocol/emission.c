/* gateway/protocol/emission.c: the messages of Redis emitters: msgpack. */
#include "gateway/protocol/emission.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

#include "base/base64.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/protocol/protocol.h"
#include "gateway/protocol/socketio.h"

#define DEPTH_MAX     (JSON_MAX_DEPTH - 2) /* of an argument: it stands in an array in an object */
#define SECONDS_MAX   8640000000000ll      /* of a JavaScript Date, either way */
#define EXT_TIMESTAMP (-1)

/* --- one item --- */

enum item_kind {
    ITEM_NIL,
    ITEM_FALSE,
    ITEM_TRUE,
    ITEM_UINT,
    ITEM_INT,
    ITEM_FLOAT,
    ITEM_STR,
    ITEM_BIN,
    ITEM_EXT,
    ITEM_ARRAY,
    ITEM_MAP
};

struct item {
    enum item_kind kind;
    uint64_t n; /* UINT; STR, BIN, EXT: length; ARRAY: elements; MAP: pairs */
    int64_t i;  /* INT; EXT: its type */
    double d;
    struct slice bytes;
};

static bool take(struct slice *in, size_t n, struct slice *ret)
{
    if (in->n < n)
        return false;
    *ret = (struct slice){in->p, n};
    *in = slice_from(*in, n);
    return true;
}

static bool take_number(struct slice *in, size_t bytes, uint64_t *ret)
{
    struct slice s;
    uint64_t n = 0;
    if (!take(in, bytes, &s))
        return false;
    for (size_t i = 0; i < bytes; i++)
        n = n << 8 | (uint8_t)s.p[i];
    *ret = n;
    return true;
}

static bool take_int(struct slice *in, size_t bytes, struct item *ret)
{
    uint64_t n;
    if (!take_number(in, bytes, &n))
        return false;
    if (bytes < 8 && (n >> (8 * bytes - 1)) != 0)
        n |= UINT64_MAX << (8 * bytes);
    ret->kind = ITEM_INT;
    memcpy(&ret->i, &n, sizeof n);
    return true;
}

static bool take_float(struct slice *in, size_t bytes, struct item *ret)
{
    uint64_t n;
    if (!take_number(in, bytes, &n))
        return false;
    ret->kind = ITEM_FLOAT;
    if (bytes == 4) {
        float f;
        uint32_t half = (uint32_t)n;
        memcpy(&f, &half, sizeof f);
        ret->d = (double)f;
    } else {
        memcpy(&ret->d, &n, sizeof n);
    }
    return true;
}

/* A length of so many bytes, then what has it. */
static bool take_run(struct slice *in, enum item_kind kind, size_t length_bytes, struct item *ret)
{
    uint64_t type = 0;
    ret->kind = kind;
    if (length_bytes != 0 && !take_number(in, length_bytes, &ret->n))
        return false;
    if (kind == ITEM_ARRAY || kind == ITEM_MAP)
        return true;
    if (kind == ITEM_EXT && !take_number(in, 1, &type))
        return false;
    ret->i = (int64_t)type - (type >= 128 ? 256 : 0);
    return take(in, ret->n, &ret->bytes);
}

static bool take_fixext(struct slice *in, size_t n, struct item *ret)
{
    ret->n = n;
    return take_run(in, ITEM_EXT, 0, ret);
}

/* What begins with a byte from 0xc0 to 0xdf, by the specification's table. */
static bool take_tagged(struct slice *in, uint8_t tag, struct item *ret)
{
    switch (tag) {
    case 0xc0: ret->kind = ITEM_NIL; return true;
    case 0xc2: ret->kind = ITEM_FALSE; return true;
    case 0xc3: ret->kind = ITEM_TRUE; return true;
    case 0xc4:
    case 0xc5:
    case 0xc6: return take_run(in, ITEM_BIN, (size_t)1 << (tag - 0xc4), ret);
    case 0xc7:
    case 0xc8:
    case 0xc9: return take_run(in, ITEM_EXT, (size_t)1 << (tag - 0xc7), ret);
    case 0xca:
    case 0xcb: return take_float(in, (size_t)4 << (tag - 0xca), ret);
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf: ret->kind = ITEM_UINT; return take_number(in, (size_t)1 << (tag - 0xcc), &ret->n);
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3: return take_int(in, (size_t)1 << (tag - 0xd0), ret);
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8: return take_fixext(in, (size_t)1 << (tag - 0xd4), ret);
    case 0xd9:
    case 0xda:
    case 0xdb: return take_run(in, ITEM_STR, (size_t)1 << (tag - 0xd9), ret);
    case 0xdc:
    case 0xdd: return take_run(in, ITEM_ARRAY, (size_t)2 << (tag - 0xdc), ret);
    case 0xde:
    case 0xdf: return take_run(in, ITEM_MAP, (size_t)2 << (tag - 0xde), ret);
    default: return false;
    }
}

static bool take_item(struct slice *in, struct item *ret)
{
    uint64_t tag;
    *ret = (struct item){0};
    if (!take_number(in, 1, &tag))
        return false;
    if (tag >= 0xc0 && tag < 0xe0)
        return take_tagged(in, (uint8_t)tag, ret);
    if (tag < 0x80) {
        *ret = (struct item){.kind = ITEM_UINT, .n = tag};
        return true;
    }
    if (tag >= 0xe0) {
        *ret = (struct item){.kind = ITEM_INT, .i = (int64_t)tag - 256};
        return true;
    }
    ret->n = tag < 0xa0 ? tag & 0x0f : tag & 0x1f;
    return take_run(in, tag < 0x90 ? ITEM_MAP : tag < 0xa0 ? ITEM_ARRAY : ITEM_STR, 0, ret);
}

/* --- items as JSON --- */

struct writer {
    struct buf *out; /* NULL: what is read is left out */
    size_t max;
    uint32_t attachment_count;
    struct slice attachments[SIO_ATTACHMENTS_MAX];
};

static enum err put_attachment(struct writer *w, struct slice bytes, struct error *reterr)
{
    if (w->attachment_count == SIO_ATTACHMENTS_MAX)
        return fail(reterr, ERR_TOO_LARGE, "more than %d attachments", SIO_ATTACHMENTS_MAX);
    buf_printf(w->out, "{\"_placeholder\":true,\"num\":%u}", w->attachment_count);
    w->attachments[w->attachment_count++] = bytes;
    return OK;
}

/* Shortest of what JavaScript reads as the same number. */
static void put_float(struct buf *b, double d)
{
    char text[40];
    if (!isfinite(d)) {
        buf_append_str(b, "null"); /* as JSON.stringify() has it */
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        double back;
        (void)snprintf(text, sizeof text, "%.*g", digits, d);
        if (sscanf(text, "%lf", &back) == 1 && !(back < d) && !(back > d)) /* NOLINT(cert-err34-c): our own text */
            break;
    }
    buf_append_str(b, text);
}

/* A Date, which is a string in JSON. */
static enum err put_timestamp(struct buf *b, const struct item *v, struct error *reterr)
{
    struct slice in = v->bytes;
    uint64_t seconds = 0, nanoseconds = 0, both;
    int64_t s;
    bool ok = v->i == EXT_TIMESTAMP;
    if (ok && v->n == 4) {
        ok = take_number(&in, 4, &seconds);
    } else if (ok && v->n == 8 && take_number(&in, 8, &both)) {
        seconds = both & 0x3ffffffffull;
        nanoseconds = both >> 34;
    } else {
        ok = ok && v->n == 12 && take_number(&in, 4, &nanoseconds) && take_number(&in, 8, &seconds);
    }
    memcpy(&s, &seconds, sizeof s);
    struct tm tm;
    time_t t = (time_t)s;
    if (!ok || nanoseconds > 999999999 || s > SECONDS_MAX || s < -SECONDS_MAX || gmtime_r(&t, &tm) == NULL)
        return fail(reterr, ERR_BAD_REQUEST, "an extension of type %lld and %llu bytes, which no client could be told",
                    (long long)v->i, (unsigned long long)v->n);
    int year = tm.tm_year + 1900;
    if (year >= 0 && year <= 9999)
        buf_printf(b, "\"%04d", year);
    else
        buf_printf(b, "\"%c%06d", year < 0 ? '-' : '+', year < 0 ? -year : year);
    buf_printf(b, "-%02d-%02dT%02d:%02d:%02d.%03uZ\"", tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
               (unsigned)(nanoseconds / 1000000));
    return OK;
}

static enum err put_item(struct writer *w, const struct item *v, struct error *reterr)
{
    struct buf *b = w->out;
    if (v->kind == ITEM_STR && !utf8_valid(v->bytes))
        return fail(reterr, ERR_BAD_UTF8, "a string of %zu bytes that is not UTF-8", v->bytes.n);
    if (b == NULL)
        return OK;
    switch (v->kind) {
    case ITEM_NIL: buf_append_str(b, "null"); break;
    case ITEM_FALSE: buf_append_str(b, "false"); break;
    case ITEM_TRUE: buf_append_str(b, "true"); break;
    case ITEM_UINT: buf_append_u64(b, v->n); break;
    case ITEM_INT: buf_printf(b, "%lld", (long long)v->i); break;
    case ITEM_FLOAT: put_float(b, v->d); break;
    case ITEM_STR: json_quote(b, v->bytes); break;
    case ITEM_BIN: return put_attachment(w, v->bytes, reterr);
    case ITEM_EXT: return put_timestamp(b, v, reterr);
    case ITEM_ARRAY: buf_append_char(b, '['); break;
    case ITEM_MAP: buf_append_char(b, '{'); break;
    }
    return OK;
}

struct level {
    uint64_t items, done; /* of a map: keys and values */
    bool map;
};

static void put_separator(struct buf *b, const struct level *l)
{
    if (b != NULL && l->done != 0)
        buf_append_char(b, l->map && l->done % 2 == 1 ? ':' : ',');
}

static void put_end(struct buf *b, const struct level *l)
{
    if (b != NULL)
        buf_append_char(b, l->map ? '}' : ']');
}

static enum err truncated(struct error *reterr)
{
    return fail(reterr, ERR_BAD_REQUEST, "the msgpack ends too early, or has a type that does not exist");
}

static enum err bad_key(struct error *reterr)
{
    return fail(reterr, ERR_BAD_REQUEST, "a map has a key that is no string");
}

/* Takes one value with all that is in it. */
static enum err copy_value(struct slice *in, struct writer *w, struct error *reterr)
{
    struct level stack[DEPTH_MAX];
    size_t depth = 0;
    do {
        struct item v;
        bool key = false;
        if (!take_item(in, &v))
            return truncated(reterr);
        if (depth != 0) {
            struct level *top = &stack[depth - 1];
            put_separator(w->out, top);
            key = top->map && top->done % 2 == 0;
            top->done++;
        }
        enum err err = key && v.kind != ITEM_STR ? bad_key(reterr) : put_item(w, &v, reterr);
        if (err != OK)
            return err;
        if (w->out != NULL && w->out->n > w->max)
            return fail(reterr, ERR_TOO_LARGE, "more than %zu bytes as JSON", w->max);
        bool map = v.kind == ITEM_MAP, opens = map || v.kind == ITEM_ARRAY;
        if (opens && depth == DEPTH_MAX)
            return fail(reterr, ERR_TOO_LARGE, "nested more than %d deep", DEPTH_MAX);
        if (opens)
            stack[depth++] = (struct level){.items = map ? 2 * v.n : v.n, .map = map};
        while (depth != 0 && stack[depth - 1].done == stack[depth - 1].items)
            put_end(w->out, &stack[--depth]);
    } while (depth != 0);
    return OK;
}

static enum err skip_value(struct slice *in, struct error *reterr)
{
    return copy_value(in, &(struct writer){0}, reterr);
}

/* --- the message --- */

static enum err take_names(struct slice *in, struct slice *ret, size_t *ret_count, struct error *reterr)
{
    struct item list, name;
    if (!take_item(in, &list))
        return truncated(reterr);
    if (list.kind == ITEM_NIL)
        return OK;
    if (list.kind != ITEM_ARRAY || list.n > EMISSION_ROOMS_MAX)
        return fail(reterr, ERR_TOO_LARGE, "rooms are a list of at most %d", EMISSION_ROOMS_MAX);
    for (*ret_count = 0; *ret_count < list.n; (*ret_count)++) {
        if (!take_item(in, &name))
            return truncated(reterr);
        if (name.kind != ITEM_STR || !utf8_valid(name.bytes))
            return fail(reterr, ERR_BAD_REQUEST, "a room whose name is no string");
        ret[*ret_count] = name.bytes;
    }
    return OK;
}

/* The members of a map, one by one. */
typedef enum err member_fn(void *arg, struct slice key, struct slice *in, struct error *reterr);

static enum err each_member(struct slice *in, member_fn *fn, void *arg, struct error *reterr)
{
    struct item map, key;
    if (!take_item(in, &map))
        return truncated(reterr);
    if (map.kind != ITEM_MAP)
        return fail(reterr, ERR_BAD_REQUEST, "something else where a map should be");
    for (uint64_t i = 0; i < map.n; i++) {
        if (!take_item(in, &key))
            return truncated(reterr);
        if (key.kind != ITEM_STR)
            return bad_key(reterr);
        enum err err = fn(arg, key.bytes, in, reterr);
        if (err != OK)
            return err;
    }
    return OK;
}

static enum err take_flag(void *arg, struct slice key, struct slice *in, struct error *reterr)
{
    struct emission *e = arg;
    e->is_volatile = e->is_volatile || (slice_eq(key, SLICE("volatile")) && in->n != 0 && (uint8_t)in->p[0] == 0xc3);
    return skip_value(in, reterr);
}

static enum err take_option(void *arg, struct slice key, struct slice *in, struct error *reterr)
{
    struct emission *e = arg;
    if (slice_eq(key, SLICE("rooms")))
        return take_names(in, e->to.rooms, &e->to.room_count, reterr);
    if (slice_eq(key, SLICE("except")))
        return take_names(in, e->to.except, &e->to.except_count, reterr);
    if (slice_eq(key, SLICE("flags")) && in->n != 0 && (uint8_t)in->p[0] != 0xc0) /* nil */
        return each_member(in, take_flag, e, reterr);
    return skip_value(in, reterr);
}

/* A packet under way. */
struct packet {
    struct emission *e;
    size_t max;
    bool is_event;
};

static enum err take_name(struct emission *e, struct slice *in, struct error *reterr)
{
    struct item name;
    if (!take_item(in, &name))
        return truncated(reterr);
    if (name.kind != ITEM_STR || !utf8_name_valid(name.bytes, NAME_MAX_EVENT))
        return fail(reterr, ERR_INVALID_NAME, "the name of an event has 1 to %d bytes and no control characters",
                    NAME_MAX_EVENT);
    e->event = name.bytes;
    return OK;
}

static void put_attachments(struct buf *b, const struct writer *w)
{
    for (uint32_t i = 0; i < w->attachment_count; i++) {
        buf_append_str(b, i == 0 ? "],\"$attachments\":[\"" : ",\"");
        (void)base64_put(w->attachments[i], buf_reserve(b, base64_letters(w->attachments[i].n)));
        b->n += base64_letters(w->attachments[i].n);
        buf_append_char(b, '"');
    }
    buf_append_str(b, "]}");
}

static enum err take_data(const struct packet *p, struct slice *in, struct error *reterr)
{
    struct buf *out = &p->e->made;
    struct writer w = {.out = out, .max = p->max};
    struct item list;
    if (!take_item(in, &list))
        return truncated(reterr);
    if (list.kind != ITEM_ARRAY || list.n == 0 || out->n != 0)
        return fail(reterr, ERR_BAD_REQUEST, "the data of an event is one array that begins with its name");
    enum err err = take_name(p->e, in, reterr);
    buf_append_str(out, "{\"$args\":[");
    for (uint64_t i = 1; err == OK && i < list.n; i++) {
        if (i != 1)
            buf_append_char(out, ',');
        err = copy_value(in, &w, reterr);
    }
    if (err != OK)
        return err;
    struct slice args = slice_from(buf_slice(out), sizeof "{\"$args\":" - 1);
    if (w.attachment_count != 0 && !sio_placeholders_valid(args, w.attachment_count))
        return fail(reterr, ERR_BAD_REQUEST, "an object that would be taken for an attachment");
    put_attachments(out, &w);
    return OK;
}

static enum err take_member(void *arg, struct slice key, struct slice *in, struct error *reterr)
{
    struct packet *p = arg;
    struct item v;
    if (slice_eq(key, SLICE("data")))
        return take_data(p, in, reterr);
    if (!slice_eq(key, SLICE("type")) && !slice_eq(key, SLICE("nsp")))
        return slice_eq(key, SLICE("id")) ? fail(reterr, ERR_UNSUPPORTED, "an event that asks for an ack")
                                          : skip_value(in, reterr);
    if (!take_item(in, &v))
        return truncated(reterr);
    if (slice_eq(key, SLICE("type")))
        p->is_event = v.kind == ITEM_UINT && (v.n == SIO_EVENT || v.n == SIO_BINARY_EVENT);
    else if (v.kind == ITEM_STR)
        p->e->to.nsp = v.bytes;
    return OK;
}

static enum err finish(const struct packet *p, enum err err, struct error *reterr)
{
    struct emission *e = p->e;
    if (err == OK && (!p->is_event || e->made.n == 0 || e->to.nsp.n == 0))
        err = fail(reterr, ERR_BAD_REQUEST, "a packet that is no event, or of no namespace");
    e->data = buf_slice(&e->made);
    if (err != OK)
        emission_fini(e);
    return err;
}

enum err emission_read_msgpack(struct slice body, size_t max_data, struct emission *ret, struct error *reterr)
{
    struct packet p = {.e = ret, .max = max_data};
    struct item list, uid;
    *ret = (struct emission){0};
    if (!take_item(&body, &list) || list.kind != ITEM_ARRAY || list.n < 3 || !take_item(&body, &uid) ||
        uid.kind != ITEM_STR)
        return fail(reterr, ERR_BAD_REQUEST, "not an array of a name, a packet and options");
    enum err err = each_member(&body, take_member, &p, reterr);
    if (err == OK)
        err = each_member(&body, take_option, ret, reterr);
    return finish(&p, err, reterr);
}

/* The parts of what the streams adapter's emitter says. */
static enum err take_part(void *arg, struct slice key, struct slice *in, struct error *reterr)
{
    struct packet *p = arg;
    if (slice_eq(key, SLICE("packet")))
        return each_member(in, take_member, p, reterr);
    if (slice_eq(key, SLICE("opts")))
        return each_member(in, take_option, p->e, reterr);
    return slice_eq(key, SLICE("requestId")) ? fail(reterr, ERR_UNSUPPORTED, "an event that asks for an ack")
                                             : skip_value(in, reterr);
}

enum err emission_read_streamed_msgpack(struct slice nsp, struct slice body, size_t max_data, struct emission *ret,
                                        struct error *reterr)
{
    struct packet p = {.e = ret, .max = max_data};
    ret->to.nsp = nsp;
    return finish(&p, each_member(&body, take_part, &p, reterr), reterr);
}

void emission_fini(struct emission *e)
{
    buf_fini(&e->made);
    buf_fini(&e->bytes);
}
