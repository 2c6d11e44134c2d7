/* proto/json.c: the JSON scanner behind proto/json.h: iterative, without allocation, eight string bytes at a time. */
#include "proto/json.h"

#include <endian.h>

#include "base/text.h"
#include "base/utf8.h"

/* at never passes end; problem is set once, where at then stands. */
struct scanner {
    const char *at, *start, *end;
    const char *problem;
};

enum { OBJECT = 1, ARRAY = 0 };

/* Containers around the present value, innermost in the lowest bit of kinds. */
struct nesting {
    uint32_t kinds;
    unsigned depth;
};
_Static_assert(JSON_MAX_DEPTH <= 32, "one bit of `kinds` each");

static bool refuse(struct scanner *s, const char *problem)
{
    s->problem = problem;
    return false;
}

/* The next byte; NUL, which JSON never contains, at the end. */
static inline char peek(const struct scanner *s)
{
    return s->at < s->end ? *s->at : '\0';
}

static inline bool blank(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static inline void skip_blanks(struct scanner *s)
{
    while (s->at < s->end && blank(*s->at))
        s->at++;
}

static inline bool digit(char c)
{
    return c >= '0' && c <= '9';
}

#define EACH_BYTE(c) (0x0101010101010101u * (c))

/* Bit 7 of each byte of v that is a quote, a backslash or a control character; exact up to the first such byte. */
static inline uint64_t special_bytes(uint64_t v)
{
    uint64_t quote = v ^ EACH_BYTE((uint64_t)'"'), backslash = v ^ EACH_BYTE((uint64_t)'\\');
    return (((quote - EACH_BYTE(1u)) & ~quote) | ((backslash - EACH_BYTE(1u)) & ~backslash) |
            ((v - EACH_BYTE(0x20u)) & ~v)) &
           EACH_BYTE(0x80u);
}

static inline bool special(char c)
{
    return c == '"' || c == '\\' || (unsigned char)c < 0x20;
}

/* The first byte that cannot stand in a string as it is; end when there is none. */
static inline const char *plain_end(const char *p, const char *end)
{
    while (end - p >= 8) {
        uint64_t v;
        memcpy(&v, p, sizeof v);
        uint64_t found = special_bytes(le64toh(v));
        if (found != 0)
            return p + __builtin_ctzll(found) / 8;
        p += sizeof v;
    }
    while (p < end && !special(*p))
        p++;
    return p;
}

/* The value of the four hex digits at p, -1 when they are not. */
static int hex4(const char *p, const char *end)
{
    if (end - p < 4)
        return -1;
    int value = 0;
    for (int i = 0; i < 4; i++) {
        int v = text_hex(p[i]);
        if (v < 0)
            return -1;
        value = value * 16 + v;
    }
    return value;
}

static bool high_surrogate(int unit)
{
    return unit >= 0xd800 && unit <= 0xdbff;
}

static bool low_surrogate(int unit)
{
    return unit >= 0xdc00 && unit <= 0xdfff;
}

/* at stands behind `\u`. */
static bool scan_unicode(struct scanner *s)
{
    int unit = hex4(s->at, s->end);
    if (unit < 0)
        return refuse(s, "four hex digits expected");
    if (low_surrogate(unit))
        return refuse(s, "a low surrogate without a high one");
    s->at += 4;
    if (!high_surrogate(unit))
        return true;
    if (s->end - s->at < 6 || s->at[0] != '\\' || s->at[1] != 'u' || !low_surrogate(hex4(s->at + 2, s->end)))
        return refuse(s, "a high surrogate without a low one");
    s->at += 6;
    return true;
}

/* at stands on a backslash. */
static bool scan_escape(struct scanner *s)
{
    s->at++;
    switch (peek(s)) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't': s->at++; return true;
    case 'u': s->at++; return scan_unicode(s);
    default: return refuse(s, "unknown escape");
    }
}

/* at stands on the opening quote. */
static bool scan_string(struct scanner *s)
{
    s->at++;
    for (;;) {
        s->at = plain_end(s->at, s->end);
        switch (peek(s)) {
        case '"': s->at++; return true;
        case '\\':
            if (!scan_escape(s))
                return false;
            break;
        default:
            return refuse(s, s->at == s->end ? "string without its closing quote" : "control character in a string");
        }
    }
}

static bool scan_digits(struct scanner *s)
{
    if (!digit(peek(s)))
        return refuse(s, "digit expected");
    while (digit(peek(s)))
        s->at++;
    return true;
}

static bool scan_number(struct scanner *s)
{
    if (peek(s) == '-')
        s->at++;
    if (peek(s) == '0')
        s->at++;
    else if (!scan_digits(s))
        return false;
    if (peek(s) == '.') {
        s->at++;
        if (!scan_digits(s))
            return false;
    }
    if (peek(s) == 'e' || peek(s) == 'E') {
        s->at++;
        if (peek(s) == '+' || peek(s) == '-')
            s->at++;
        return scan_digits(s);
    }
    return true;
}

static bool scan_word(struct scanner *s, struct slice word)
{
    if (!slice_starts((struct slice){s->at, (size_t)(s->end - s->at)}, word))
        return refuse(s, "value expected");
    s->at += word.n;
    return true;
}

static enum json_kind kind_at(char c)
{
    switch (c) {
    case '{': return JSON_KIND_OBJECT;
    case '[': return JSON_KIND_ARRAY;
    case '"': return JSON_KIND_STRING;
    case 't': return JSON_KIND_TRUE;
    case 'f': return JSON_KIND_FALSE;
    case 'n': return JSON_KIND_NULL;
    case '-': return JSON_KIND_NUMBER;
    default: return digit(c) ? JSON_KIND_NUMBER : JSON_KIND_NONE;
    }
}

/* A member's key up to the value; *ret_key is the string with its quotes. */
static bool scan_key(struct scanner *s, struct slice *ret_key)
{
    skip_blanks(s);
    if (peek(s) != '"')
        return refuse(s, "member name expected");
    const char *key = s->at;
    if (!scan_string(s))
        return false;
    *ret_key = (struct slice){key, (size_t)(s->at - key)};
    skip_blanks(s);
    if (peek(s) != ':')
        return refuse(s, "':' expected");
    s->at++;
    return true;
}

/* Enters the container at `at` and goes on to its first value; an empty one is left again at once, *ret_closed says so. */
static bool open_container(struct scanner *s, struct nesting *n, uint32_t kind, bool *ret_closed)
{
    struct slice ignored;
    if (n->depth == JSON_MAX_DEPTH)
        return refuse(s, "nested too deep");
    s->at++;
    skip_blanks(s);
    *ret_closed = peek(s) == (kind == OBJECT ? '}' : ']');
    if (*ret_closed) {
        s->at++;
        return true;
    }
    n->depth++;
    n->kinds = n->kinds << 1 | kind;
    return kind == OBJECT ? scan_key(s, &ignored) : true;
}

/* A value has ended: leaves the containers that end here, until another value follows or depth is down to `outside`. */
static bool close_containers(struct scanner *s, struct nesting *n, unsigned outside)
{
    struct slice ignored;
    while (n->depth > outside) {
        bool object = n->kinds & OBJECT;
        skip_blanks(s);
        char c = peek(s);
        if (c == ',') {
            s->at++;
            return object ? scan_key(s, &ignored) : true;
        }
        if (c != (object ? '}' : ']'))
            return refuse(s, object ? "',' or '}' expected" : "',' or ']' expected");
        s->at++;
        n->depth--;
        n->kinds >>= 1;
    }
    return true;
}

/* Scans what stands at `at`, a container only as far as its first value. */
static bool scan_begin(struct scanner *s, enum json_kind kind, struct nesting *n, bool *ret_ended)
{
    *ret_ended = true;
    switch (kind) {
    case JSON_KIND_OBJECT: return open_container(s, n, OBJECT, ret_ended);
    case JSON_KIND_ARRAY: return open_container(s, n, ARRAY, ret_ended);
    case JSON_KIND_STRING: return scan_string(s);
    case JSON_KIND_NUMBER: return scan_number(s);
    case JSON_KIND_TRUE: return scan_word(s, SLICE("true"));
    case JSON_KIND_FALSE: return scan_word(s, SLICE("false"));
    case JSON_KIND_NULL: return scan_word(s, SLICE("null"));
    case JSON_KIND_NONE: break;
    }
    return refuse(s, "value expected");
}

/* One whole value, `outside` containers deep already. */
static bool scan_value(struct scanner *s, unsigned outside, struct json_value *ret)
{
    struct nesting n = {0, outside};
    bool ended;
    skip_blanks(s);
    const char *begin = s->at;
    enum json_kind kind = kind_at(peek(s));
    do {
        skip_blanks(s);
        if (!scan_begin(s, kind_at(peek(s)), &n, &ended))
            return false;
        if (ended && !close_containers(s, &n, outside))
            return false;
    } while (n.depth > outside);
    *ret = (struct json_value){kind, {begin, (size_t)(s->at - begin)}};
    return true;
}

static size_t utf8_encode(uint32_t c, char ret[4])
{
    if (c < 0x80) {
        ret[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        ret[i] = (char)(0x80 | (c & 0x3f));
    ret[0] = (char)((0xf00u >> n & 0xf0u) | c);
    return n;
}

/* Decodes the escape at *at, valid as scan_escape left it, and moves behind it; returns how many bytes it stands for. */
static size_t unescape(const char **at, const char *end, char ret[4])
{
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    char letter = (*at)[1];
    if (letter != 'u') {
        const char *found = strchr(letters, letter);
        ret[0] = found != NULL ? meanings[found - letters] : letter;
        *at += 2;
        return 1;
    }
    int unit = hex4(*at + 2, end);
    *at += 6;
    if (!high_surrogate(unit))
        return utf8_encode((uint32_t)unit, ret);
    int low = hex4(*at + 2, end);
    *at += 6;
    return utf8_encode(0x10000u + ((uint32_t)(unit - 0xd800) << 10) + (uint32_t)(low - 0xdc00), ret);
}

/* What stands between the quotes. */
static struct slice inside(struct slice string)
{
    return (struct slice){string.p + 1, string.n - 2};
}

/* Whether the key means `name`. */
static bool key_is(struct slice key, const char *name)
{
    const char *at = inside(key).p, *end = at + inside(key).n;
    while (at < end) {
        char c[4];
        size_t n = 1;
        if (*at == '\\')
            n = unescape(&at, end, c);
        else
            c[0] = *at++;
        for (size_t i = 0; i < n; i++, name++)
            if (*name == '\0' || c[i] != *name)
                return false;
    }
    return *name == '\0';
}

static bool scan_member(struct scanner *s, const char *const *names, size_t count, struct json_value *values)
{
    struct slice key = SLICE_NONE;
    struct json_value ignored;
    if (!scan_key(s, &key))
        return false;
    for (size_t i = 0; i < count; i++) {
        if ((key.p[1] != names[i][0] && key.p[1] != '\\') || !key_is(key, names[i]))
            continue; /* most differ in the first byte */
        if (values[i].kind == JSON_KIND_NONE)
            return scan_value(s, 1, &values[i]);
        s->at = key.p;
        return refuse(s, "member given twice");
    }
    return scan_value(s, 1, &ignored);
}

static bool scan_object(struct scanner *s, const char *const *names, size_t count, struct json_value *values)
{
    skip_blanks(s);
    if (peek(s) != '{')
        return refuse(s, "'{' expected");
    s->at++;
    skip_blanks(s);
    if (peek(s) == '}') {
        s->at++;
        return true;
    }
    for (;;) {
        if (!scan_member(s, names, count, values))
            return false;
        skip_blanks(s);
        char c = peek(s);
        if (c != ',' && c != '}')
            return refuse(s, "',' or '}' expected");
        s->at++;
        if (c == '}')
            return true;
    }
}

/* After the value only blanks may follow. */
static enum err finish(struct scanner *s, struct error *reterr)
{
    if (s->problem == NULL) {
        skip_blanks(s);
        if (s->at == s->end)
            return OK;
        s->problem = "bytes after the value";
    }
    return fail(reterr, ERR_BAD_REQUEST, "not valid JSON: %s at byte %zu", s->problem, (size_t)(s->at - s->start));
}

static struct scanner scanner_of(struct slice text)
{
    const char *p = text.p != NULL ? text.p : "";
    return (struct scanner){p, p, p + text.n, NULL};
}

enum err json_members(struct slice text, const char *const *names, size_t count, struct json_value *values,
                      struct error *reterr)
{
    struct scanner s = scanner_of(text);
    for (size_t i = 0; i < count; i++)
        values[i] = (struct json_value){JSON_KIND_NONE, SLICE_NONE};
    (void)scan_object(&s, names, count, values);
    return finish(&s, reterr);
}

enum err json_check(struct slice text, struct error *reterr)
{
    struct scanner s = scanner_of(text);
    struct json_value ignored;
    (void)scan_value(&s, 0, &ignored);
    return finish(&s, reterr);
}

enum err json_unquote(struct json_value v, struct arena *a, struct slice *ret, struct error *reterr)
{
    struct slice raw = inside(v.raw);
    const char *at = raw.p, *end = raw.p + raw.n;
    if (memchr(raw.p, '\\', raw.n) == NULL) {
        *ret = raw;
        return OK;
    }
    char *out = arena_alloc(a, raw.n); /* no escape is shorter than what it stands for */
    if (out == NULL)
        return fail(reterr, ERR_TOO_LARGE, "a string of %zu bytes with escapes, more than the frame may need in memory",
                    raw.n);
    size_t n = 0;
    while (at < end) {
        const char *plain = plain_end(at, end);
        memcpy(out + n, at, (size_t)(plain - at));
        n += (size_t)(plain - at);
        at = plain;
        if (at < end) {
            char c[4];
            size_t len = unescape(&at, end, c);
            memcpy(out + n, c, len);
            n += len;
        }
    }
    *ret = (struct slice){out, n};
    return OK;
}

enum err json_name(struct json_value v, const char *what, size_t max, struct arena *a, struct slice *ret,
                   struct error *reterr)
{
    if (v.kind == JSON_KIND_NONE)
        return OK;
    if (v.kind != JSON_KIND_STRING)
        return fail(reterr, ERR_BAD_REQUEST, "%s must be a string", what);
    enum err err = json_unquote(v, a, ret, reterr);
    if (err == OK && !utf8_name_valid(*ret, max))
        err = fail(reterr, ERR_INVALID_NAME, "%s must be 1 to %zu bytes without control characters", what, max);
    return err;
}

bool json_next(struct json_value array, size_t *at, struct json_value *ret)
{
    struct scanner s = scanner_of(array.raw);
    s.at += *at != 0 ? *at : 1; /* past the bracket, or past the value before */
    skip_blanks(&s);
    if (peek(&s) == ',')
        s.at++;
    skip_blanks(&s);
    if (peek(&s) == ']' || !scan_value(&s, 1, ret))
        return false;
    *at = (size_t)(s.at - s.start);
    return true;
}

bool json_uint(struct json_value v, uint64_t max, uint64_t *ret)
{
    uint64_t value = 0;
    if (v.kind != JSON_KIND_NUMBER)
        return false;
    for (size_t i = 0; i < v.raw.n; i++) {
        if (!digit(v.raw.p[i]))
            return false;
        uint64_t d = (uint64_t)(v.raw.p[i] - '0');
        if (d > max || value > (max - d) / 10)
            return false;
        value = value * 10 + d;
    }
    *ret = value;
    return true;
}

static void append_escape(struct buf *ret, char c)
{
    static const char hex[] = "0123456789abcdef";
    static const char short_form[0x20] = {['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};
    unsigned char u = (unsigned char)c;
    char out[6] = {'\\', c};
    size_t n = 2;
    if (u < 0x20 && short_form[u] != '\0') {
        out[1] = short_form[u];
    } else if (u < 0x20) {
        out[1] = 'u';
        out[2] = out[3] = '0';
        out[4] = hex[u >> 4];
        out[5] = hex[u & 15];
        n = 6;
    }
    buf_append(ret, (struct slice){out, n});
}

void json_quote(struct buf *ret, struct slice s)
{
    const char *at = s.p != NULL ? s.p : "", *end = at + s.n;
    (void)buf_reserve(ret, s.n + 2);
    buf_append_char(ret, '"');
    while (at < end) {
        const char *plain = plain_end(at, end);
        buf_append(ret, (struct slice){at, (size_t)(plain - at)});
        at = plain;
        if (at < end)
            append_escape(ret, *at++);
    }
    buf_append_char(ret, '"');
}
