/* gateway/protocol/socketio_data.c: the arguments of a Socket.IO event as the data of a message, and back (docs/socketio.md, "Data"). */
#include "base/base64.h"
#include "base/mem.h"
#include "gateway/protocol/socketio.h"

#define ARGUMENTS   "{\"$args\":["
#define ATTACHMENTS "],\"$attachments\":["
#define PLACEHOLDER "{\"_placeholder\":true,\"num\":0}"

/* --- placeholders --- */

/* The index of the attachment that an object stands for. False: the object is wrong. */
static bool placeholder(struct slice object, bool *ret_is, uint64_t *ret_num)
{
    static const char *const names[] = {"_placeholder", "num"};
    struct json_value v[ARRAY_LEN(names)];
    struct error ignored;
    if (json_members(object, names, ARRAY_LEN(names), v, &ignored) != OK)
        return false;
    *ret_is = v[0].kind == JSON_KIND_TRUE;
    return !*ret_is || json_uint(v[1], UINT32_MAX, ret_num);
}

/* Past the string that begins at `at`. */
static size_t skip_string(struct slice json, size_t at)
{
    for (at++; at < json.n && json.p[at] != '"'; at++)
        if (json.p[at] == '\\')
            at++;
    return at + 1;
}

/* The object that begins at `at`, in valid JSON. */
static struct slice object_at(struct slice json, size_t at)
{
    size_t end = at, depth = 0;
    while (end < json.n) {
        char c = json.p[end];
        if (c == '"') {
            end = skip_string(json, end);
            continue;
        }
        end++;
        depth += c == '{';
        if (c == '}' && --depth == 0)
            break;
    }
    return (struct slice){json.p + at, end - at};
}

bool sio_placeholders_valid(struct slice json, uint32_t attachment_count)
{
    size_t at = 0;
    while (at < json.n) {
        bool is;
        uint64_t num = 0;
        if (json.p[at] == '"') {
            at = skip_string(json, at);
            continue;
        }
        if (json.p[at] == '{' && (!placeholder(object_at(json, at), &is, &num) || (is && num >= attachment_count)))
            return false;
        at++;
    }
    return true;
}

/* --- arguments to data --- */

/* `{"$args"`, blanks between them or not: nothing else is looked at for long, because most data is not of that form. */
static bool may_be_wrapped(struct slice data)
{
    const struct slice key = SLICE("\"$args\"");
    size_t at = 0;
    if (data.n == 0 || data.p[at++] != '{')
        return false;
    while (at < data.n && (data.p[at] == ' ' || data.p[at] == '\n' || data.p[at] == '\r' || data.p[at] == '\t'))
        at++;
    return slice_starts(slice_from(data, at), key);
}

struct rest {
    struct slice text; /* of the elements with the commas between them */
    struct json_value first;
    size_t count;
};

static struct rest rest_of(struct slice array, size_t skip)
{
    const struct json_value v = {JSON_KIND_ARRAY, array};
    struct rest r = {0};
    struct json_value element;
    size_t at = 0;
    for (size_t i = 0; json_next(v, &at, &element); i++) {
        if (i < skip)
            continue;
        if (r.count++ == 0)
            r.first = element;
        r.text = (struct slice){r.first.raw.p, (size_t)(element.raw.p + element.raw.n - r.first.raw.p)};
    }
    return r;
}

static char *put(char *at, struct slice s)
{
    if (s.n != 0)
        memcpy(at, s.p, s.n);
    return at + s.n;
}

static enum err wrap(const struct sio_packet *p, struct slice text, struct arena *a, struct slice *ret,
                     struct error *reterr)
{
    size_t size = sizeof ARGUMENTS + text.n + sizeof ATTACHMENTS + 3;
    for (uint32_t i = 0; i < p->attachment_count; i++)
        size += base64_letters(p->attachments[i].n) + 3;
    char *json = arena_alloc(a, size), *at = json;
    if (json == NULL)
        return fail(reterr, ERR_TOO_LARGE, "arguments of %zu bytes", size);
    at = put(put(at, SLICE(ARGUMENTS)), text);
    if (p->attachment_count != 0)
        at = put(at, SLICE(ATTACHMENTS));
    for (uint32_t i = 0; i < p->attachment_count; i++) {
        at = put(at, i != 0 ? SLICE(",\"") : SLICE("\""));
        at = put(base64_put(p->attachments[i], at), SLICE("\""));
    }
    at = put(at, SLICE("]}"));
    *ret = (struct slice){json, (size_t)(at - json)};
    return json_check(*ret, reterr); /* nested one deeper than the packet */
}

enum err sio_data_from_arguments(const struct sio_packet *p, struct slice array, size_t skip, struct arena *a,
                                 struct command *ret, struct error *reterr)
{
    const struct rest r = rest_of(array, skip);
    bool is = false;
    uint64_t num = 0;
    ret->data_type = DATA_JSON;
    if (r.count == 1 && p->attachment_count == 0 && !may_be_wrapped(r.text)) {
        ret->data = r.text;
        return OK;
    }
    if (r.count == 1 && p->attachment_count == 1 && r.first.kind == JSON_KIND_OBJECT &&
        placeholder(r.first.raw, &is, &num) && is) {
        ret->data = p->attachments[0];
        ret->data_type = DATA_BINARY;
        return OK;
    }
    return wrap(p, r.text, a, &ret->data, reterr);
}

/* --- data to arguments --- */

static bool decode(struct slice text, struct arena *a, struct slice *ret)
{
    char *bytes = arena_alloc(a, base64_bytes(text.n));
    ret->p = bytes;
    return bytes != NULL && base64_take(BASE64, text, bytes, &ret->n);
}

static bool take_attachments(struct json_value list, struct arena *a, struct sio_arguments *ret)
{
    struct json_value v;
    size_t at = 0;
    if (list.kind == JSON_KIND_NONE)
        return true;
    if (list.kind != JSON_KIND_ARRAY)
        return false;
    while (json_next(list, &at, &v)) {
        struct error ignored;
        struct slice text;
        if (ret->attachment_count == SIO_ATTACHMENTS_MAX || v.kind != JSON_KIND_STRING ||
            json_unquote(v, a, &text, &ignored) != OK || !decode(text, a, &ret->attachments[ret->attachment_count++]))
            return false;
    }
    return true;
}

static bool unwrap(struct slice data, struct arena *a, struct sio_arguments *ret)
{
    static const char *const names[] = {"$args", "$attachments"};
    struct json_value v[ARRAY_LEN(names)];
    struct error ignored;
    if (json_members(data, names, ARRAY_LEN(names), v, &ignored) != OK || v[0].kind != JSON_KIND_ARRAY ||
        !take_attachments(v[1], a, ret))
        return false;
    ret->text = rest_of(v[0].raw, 0).text;
    return ret->attachment_count == 0 || sio_placeholders_valid(v[0].raw, ret->attachment_count);
}

void sio_arguments_from_data(struct slice data, enum data_type type, struct arena *a, struct sio_arguments *ret)
{
    struct sio_arguments r = {0};
    if (type == DATA_BINARY) {
        *ret = (struct sio_arguments){SLICE(PLACEHOLDER), 1, {data}};
        return;
    }
    *ret = may_be_wrapped(data) && unwrap(data, a, &r) ? r : (struct sio_arguments){.text = data};
}
