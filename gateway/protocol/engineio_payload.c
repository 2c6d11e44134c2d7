/* gateway/protocol/engineio_payload.c: payloads of the long-polling transport. */
#include "gateway/protocol/engineio_payload.h"

#include "base/base64.h"
#include "base/text.h"
#include "base/utf8.h"
#include "gateway/protocol/websocket.h"
#include "proto/json.h"

#define SEPARATOR  '\x1e'
#define DIGITS_MAX 9u   /* of a length */
#define LENGTH_END 0xff /* revision 3, bytes */

/* --- taking apart --- */

enum err eio_payload_begin(struct eio_payload *ret, enum eio_revision revision, bool bytes, struct slice body,
                           struct error *reterr)
{
    *ret = (struct eio_payload){.revision = revision, .bytes = bytes, .rest = body};
    if (body.n == 0)
        return fail(reterr, ERR_BAD_REQUEST, "a payload without packets");
    if (!bytes && !utf8_valid(body))
        return fail(reterr, ERR_BAD_REQUEST, "a payload of %zu bytes that is not UTF-8", body.n);
    return OK;
}

void eio_payload_fini(struct eio_payload *p)
{
    buf_fini(&p->decoded);
}

bool eio_payload_more(const struct eio_payload *p)
{
    return p->rest.n != 0 || !p->begun;
}

enum err eio_base64_take(enum eio_revision revision, struct slice text, struct buf *decoded, struct slice *ret,
                         struct error *reterr)
{
    size_t n;
    buf_clear(decoded);
    if (revision == EIO_3) {
        if (text.n == 0 || text.p[0] != '0' + (char)EIO_MESSAGE)
            return fail(reterr, ERR_BAD_REQUEST, "base64 of %zu letters that is no message", text.n);
        text = slice_from(text, 1);
        buf_append_char(decoded, (char)EIO_MESSAGE);
    }
    if (!base64_take(BASE64, text, buf_reserve(decoded, base64_bytes(text.n)), &n))
        return fail(reterr, ERR_BAD_REQUEST, "%zu letters that are not base64", text.n);
    decoded->n += n;
    *ret = buf_slice(decoded);
    return OK;
}

static enum err take_text(struct eio_payload *p, struct slice packet, struct slice *ret, bool *ret_binary,
                          struct error *reterr)
{
    *ret_binary = packet.n != 0 && packet.p[0] == 'b';
    if (*ret_binary)
        return eio_base64_take(p->revision, slice_from(packet, 1), &p->decoded, ret, reterr);
    *ret = packet;
    return OK;
}

/* Digits at the front of rest, and the letter that must follow. `zero` is what stands for 0. */
static enum err take_length(struct eio_payload *p, char zero, char end, size_t *ret, struct error *reterr)
{
    size_t at = 0, n = 0;
    for (; at < p->rest.n && at < DIGITS_MAX && p->rest.p[at] >= zero && p->rest.p[at] <= zero + 9; at++)
        n = n * 10 + (size_t)(p->rest.p[at] - zero);
    if (at == 0 || at == p->rest.n || p->rest.p[at] != end)
        return fail(reterr, ERR_BAD_REQUEST, "a packet without its length, %zu bytes before the end", p->rest.n);
    p->rest = slice_from(p->rest, at + 1);
    *ret = n;
    return OK;
}

/* How many bytes are `units` of UTF-16; SIZE_MAX when there are fewer, or they would end within a character. */
static size_t bytes_of_units(struct slice s, size_t units)
{
    size_t at = 0;
    while (units != 0 && at < s.n) {
        unsigned char c = (unsigned char)s.p[at];
        size_t wide = c >= 0xf0 ? 2 : 1;
        if (wide > units)
            return SIZE_MAX;
        units -= wide;
        at += c < 0x80 ? 1u : c < 0xe0 ? 2u : c < 0xf0 ? 3u : 4u;
    }
    return units == 0 ? at : SIZE_MAX;
}

static enum err next_counted(struct eio_payload *p, struct slice *ret, bool *ret_binary, struct error *reterr)
{
    size_t units;
    enum err err = take_length(p, '0', ':', &units, reterr);
    if (err != OK)
        return err;
    size_t n = bytes_of_units(p->rest, units);
    if (n == SIZE_MAX)
        return fail(reterr, ERR_BAD_REQUEST, "a packet of %zu letters in a payload that has %zu bytes left", units,
                    p->rest.n);
    struct slice packet = {p->rest.p, n};
    p->rest = slice_from(p->rest, n);
    return take_text(p, packet, ret, ret_binary, reterr);
}

static enum err next_bytes(struct eio_payload *p, struct slice *ret, bool *ret_binary, struct error *reterr)
{
    size_t n;
    char kind = p->rest.p[0];
    if (kind != 0 && kind != 1)
        return fail(reterr, ERR_BAD_REQUEST, "a packet that is neither text nor bytes but %d", (unsigned char)kind);
    p->rest = slice_from(p->rest, 1);
    enum err err = take_length(p, 0, (char)LENGTH_END, &n, reterr);
    if (err != OK)
        return err;
    if (n > p->rest.n)
        return fail(reterr, ERR_BAD_REQUEST, "a packet of %zu bytes in a payload that has %zu left", n, p->rest.n);
    *ret = (struct slice){p->rest.p, n};
    *ret_binary = kind == 1;
    p->rest = slice_from(p->rest, n);
    return kind == 1 || utf8_valid(*ret) ? OK : fail(reterr, ERR_BAD_REQUEST, "a text of %zu bytes is not UTF-8", n);
}

static enum err next_separated(struct eio_payload *p, struct slice *ret, bool *ret_binary, struct error *reterr)
{
    const char *end = p->rest.n != 0 ? memchr(p->rest.p, SEPARATOR, p->rest.n) : NULL;
    struct slice packet = {p->rest.p, end != NULL ? (size_t)(end - p->rest.p) : p->rest.n};
    p->rest = slice_from(p->rest, end != NULL ? packet.n + 1 : packet.n);
    p->begun = end == NULL; /* behind a separator there is a packet, if an empty one */
    return take_text(p, packet, ret, ret_binary, reterr);
}

enum err eio_payload_next(struct eio_payload *p, struct slice *ret, bool *ret_binary, struct error *reterr)
{
    if (p->revision == EIO_4)
        return next_separated(p, ret, ret_binary, reterr);
    p->begun = true;
    return p->bytes ? next_bytes(p, ret, ret_binary, reterr) : next_counted(p, ret, ret_binary, reterr);
}

/* --- putting together --- */

static size_t units_of(struct slice s)
{
    size_t units = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        units += (c & 0xc0) != 0x80;
        units += c >= 0xf0;
    }
    return units;
}

static void append_base64(struct buf *ret, struct slice bytes)
{
    char *to = buf_reserve(ret, base64_letters(bytes.n));
    ret->n += (size_t)(base64_put(bytes, to) - to);
}

/* "b4…" with its length, or "b…". */
static void append_encoded(struct buf *ret, enum eio_revision revision, struct slice bytes)
{
    if (revision == EIO_3) {
        bytes = slice_from(bytes, 1);
        buf_append_u64(ret, 2 + base64_letters(bytes.n));
        buf_append(ret, SLICE(":b4"));
    } else {
        buf_append_char(ret, 'b');
    }
    append_base64(ret, bytes);
}

static void append_octets(struct buf *ret, bool binary, struct slice packet)
{
    struct buf digits = BUF_INIT;
    buf_append_char(ret, binary ? 1 : 0);
    buf_append_u64(&digits, packet.n);
    for (size_t i = 0; i < digits.n; i++)
        buf_append_char(ret, (char)(digits.p[i] - '0'));
    buf_append_char(ret, (char)LENGTH_END);
    buf_append(ret, packet);
    buf_fini(&digits);
}

static void append_text(struct buf *ret, enum eio_revision revision, struct slice packet)
{
    if (revision == EIO_3) {
        buf_append_u64(ret, units_of(packet));
        buf_append_char(ret, ':');
    }
    buf_append(ret, packet);
}

static bool has_bytes(struct slice frames)
{
    struct slice payload;
    enum ws_opcode opcode;
    while (ws_frame_take(&frames, &opcode, &payload))
        if (opcode == WS_BINARY)
            return true;
    return false;
}

void eio_payload_append(struct buf *ret, enum eio_revision revision, struct slice frames, bool base64, char closing,
                        bool *ret_bytes)
{
    struct slice payload;
    enum ws_opcode opcode;
    bool octets = revision == EIO_3 && !base64 && has_bytes(frames), first = true;
    *ret_bytes = octets;
    while (ws_frame_take(&frames, &opcode, &payload)) {
        if (opcode == WS_CLOSE)
            payload = (struct slice){&closing, 1};
        else if (opcode != WS_TEXT && opcode != WS_BINARY)
            continue;
        if (!first && revision == EIO_4)
            buf_append_char(ret, SEPARATOR);
        first = false;
        if (octets)
            append_octets(ret, opcode == WS_BINARY, payload);
        else if (opcode == WS_BINARY)
            append_encoded(ret, revision, payload);
        else
            append_text(ret, revision, payload);
    }
}

/* --- JSONP --- */

void eio_jsonp_append(struct buf *ret, struct slice index, struct slice payload)
{
    struct buf quoted = BUF_INIT;
    buf_append(ret, SLICE("___eio["));
    for (size_t i = 0; i < index.n; i++)
        if (index.p[i] >= '0' && index.p[i] <= '9')
            buf_append_char(ret, index.p[i]);
    buf_append(ret, SLICE("]("));
    json_quote(&quoted, payload);
    /* U+2028 and U+2029 end a line of JavaScript, but not of JSON. */
    struct slice rest = buf_slice(&quoted);
    const char *at;
    while ((at = memmem(rest.p, rest.n, "\xe2\x80", 2)) != NULL && (size_t)(at - rest.p) + 2 < rest.n) {
        bool line = at[2] == '\xa8' || at[2] == '\xa9';
        size_t before = (size_t)(at - rest.p);
        buf_append(ret, (struct slice){rest.p, before + (line ? 0u : 3u)});
        if (line)
            buf_append_str(ret, at[2] == '\xa8' ? "\\u2028" : "\\u2029");
        rest = slice_from(rest, before + 3);
    }
    buf_append(ret, rest);
    buf_append(ret, SLICE(");"));
    buf_fini(&quoted);
}

/* The value of the field `d` as it stands in the form. */
static struct slice field(struct slice form)
{
    while (form.n != 0) {
        const char *amp = memchr(form.p, '&', form.n);
        struct slice pair = {form.p, amp != NULL ? (size_t)(amp - form.p) : form.n};
        if (slice_starts(pair, SLICE("d=")))
            return slice_from(pair, 2);
        form = slice_from(form, amp != NULL ? pair.n + 1 : pair.n);
    }
    return SLICE_NONE;
}

/* In the field a line feed is written \n, and what was \n in the payload has one more backslash. */
static void append_unescaped(struct buf *ret, struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\\' && i + 2 < s.n && s.p[i + 1] == '\\' && s.p[i + 2] == 'n') {
            buf_append(ret, SLICE("\\n"));
            i += 2;
        } else if (s.p[i] == '\\' && i + 1 < s.n && s.p[i + 1] == 'n') {
            buf_append_char(ret, '\n');
            i++;
        } else {
            buf_append_char(ret, s.p[i]);
        }
    }
}

bool eio_jsonp_take(struct slice form, struct buf *ret)
{
    struct slice raw = field(form), text;
    struct buf spaced = BUF_INIT;
    buf_append(&spaced, raw);
    for (size_t i = 0; i < spaced.n; i++)
        if (spaced.p[i] == '+')
            spaced.p[i] = ' ';
    char *decoded = buf_reserve(&spaced, raw.n + 1);
    bool ok = text_percent_decode((struct slice){spaced.p, raw.n}, decoded, raw.n + 1, &text);
    if (ok)
        append_unescaped(ret, text);
    buf_fini(&spaced);
    return ok;
}
