/* gateway/tunnel_body.c: bodies of /get/wsurl and /ws/push. */
#include "gateway/tunnel_body.h"

#include "base/mem.h"
#include "base/text.h"
#include "base/utf8.h"
#include "gateway/protocol/wafer.h"
#include "proto/json.h"

static enum wafer_code refuse(struct error *reterr, enum wafer_code code, const char *what, const struct error *why)
{
    (void)fail(reterr, ERR_BAD_REQUEST, "%s%s%.120s", what, why != NULL ? ": " : "", why != NULL ? why->text : "");
    return code;
}

static bool text_of(struct json_value v, struct arena *a, struct slice *ret)
{
    struct error ignored;
    if (v.kind == JSON_KIND_NONE || v.kind == JSON_KIND_NULL)
        return true;
    return v.kind == JSON_KIND_STRING && json_unquote(v, a, ret, &ignored) == OK;
}

enum wafer_code wafer_read_request(struct slice body, struct arena *a, struct wafer_request *ret, struct error *reterr)
{
    static const char *const names[] = {"data", "tcId", "tcKey", "signature", "dataEncode"};
    struct json_value v[ARRAY_LEN(names)];
    struct error why;
    struct slice encode = SLICE_NONE;
    *ret = (struct wafer_request){0};
    if (!utf8_valid(body))
        return refuse(reterr, WAFER_NOT_JSON, "the body is not UTF-8", NULL);
    if (json_members(body, names, ARRAY_LEN(names), v, &why) != OK)
        return refuse(reterr, WAFER_NOT_JSON, "the body is not a JSON object", &why);
    if (!text_of(v[0], a, &ret->data) || !text_of(v[1], a, &ret->id) || !text_of(v[2], a, &ret->key) ||
        !text_of(v[3], a, &ret->signature) || !text_of(v[4], a, &encode))
        return refuse(reterr, WAFER_MISSING, "data, tcId, tcKey and signature are texts", NULL);
    if (ret->data.n == 0 || ret->id.n == 0)
        return refuse(reterr, WAFER_MISSING, ret->id.n == 0 ? "tcId is missing" : "data is missing", NULL);
    ret->data_as_text = slice_eq(encode, SLICE("json"));
    return WAFER_OK;
}

enum wafer_code wafer_read_wsurl(struct slice data, struct arena *a, struct slice *ret, struct error *reterr)
{
    static const char *const names[] = {"receiveUrl"};
    struct json_value v[ARRAY_LEN(names)];
    struct error why;
    *ret = SLICE_NONE;
    if (!utf8_valid(data) || json_members(data, names, ARRAY_LEN(names), v, &why) != OK)
        return refuse(reterr, WAFER_BAD_DATA, "data is not a JSON object as text", NULL);
    if (!text_of(v[0], a, ret) || ret->n == 0)
        return refuse(reterr, WAFER_MISSING, "receiveUrl is missing", NULL);
    return WAFER_OK;
}

/* --- /ws/push --- */

/* json_next gives elements of an array; how many there are. */
static size_t count_of(struct json_value array)
{
    struct json_value v;
    size_t at = 0, n = 0;
    while (json_next(array, &at, &v))
        n++;
    return n;
}

static enum wafer_code read_ids(struct json_value list, struct arena *a, struct wafer_push *ret, size_t *left,
                                struct error *reterr)
{
    struct json_value v;
    size_t at = 0, n = list.kind == JSON_KIND_ARRAY ? count_of(list) : 0, i = 0;
    if (list.kind != JSON_KIND_ARRAY)
        return refuse(reterr, WAFER_BAD_DATA, "tunnelIds is not a list", NULL);
    if (n > *left) {
        (void)fail(reterr, ERR_TOO_LARGE, "more than %u tunnelIds in one request", PUSH_IDS_MAX);
        return WAFER_TOO_MUCH;
    }
    *left -= n;
    struct slice *ids = arena_alloc(a, (n + 1) * sizeof *ids);
    if (ids == NULL)
        return refuse(reterr, WAFER_TOO_MUCH, "the request needs too much memory", NULL);
    while (json_next(list, &at, &v)) {
        if (v.kind != JSON_KIND_STRING || !text_of(v, a, &ids[i]))
            return refuse(reterr, WAFER_BAD_DATA, "a tunnelId is not a text", NULL);
        i++;
    }
    ret->ids = ids;
    ret->id_count = n;
    return WAFER_OK;
}

static enum wafer_code read_packet(struct json_value packet, struct arena *a, struct wafer_push *ret, size_t *left,
                                   struct error *reterr)
{
    static const char *const names[] = {"tunnelIds", "type", "content"};
    struct json_value v[ARRAY_LEN(names)];
    struct slice type = SLICE_NONE;
    struct error why;
    *ret = (struct wafer_push){0};
    if (packet.kind != JSON_KIND_OBJECT || json_members(packet.raw, names, ARRAY_LEN(names), v, &why) != OK)
        return refuse(reterr, WAFER_BAD_DATA, "a packet is not an object {tunnelIds, type, content}", NULL);
    if (!text_of(v[1], a, &type) || !text_of(v[2], a, &ret->content))
        return refuse(reterr, WAFER_BAD_DATA, "type and content of a packet are texts", NULL);
    if (slice_eq(type, SLICE("close")))
        ret->type = WAFER_PUSH_CLOSE;
    else if (!slice_eq(type, SLICE("message")))
        return refuse(reterr, WAFER_BAD_DATA, "the type of a packet is message or close", NULL);
    else if (wafer_check_content(ret->content, &why) != OK)
        return refuse(reterr, WAFER_BAD_DATA, "the content of a message is not a JSON object as text", &why);
    return read_ids(v[0], a, ret, left, reterr);
}

enum wafer_code wafer_read_push(struct slice data, struct arena *a, struct wafer_push **ret, size_t *ret_count,
                                struct error *reterr)
{
    struct error why;
    struct json_value list = {JSON_KIND_ARRAY, data}, packet;
    size_t at = 0, left = PUSH_IDS_MAX, count = 0;
    while (list.raw.n != 0 && strchr(" \t\r\n", list.raw.p[0]) != NULL)
        list.raw = slice_from(list.raw, 1);
    if (!utf8_valid(data) || json_check(data, &why) != OK || list.raw.p[0] != '[')
        return refuse(reterr, WAFER_BAD_DATA, "data is not a JSON list as text", NULL);
    size_t n = count_of(list);
    if (n > PUSH_PACKETS_MAX) {
        (void)fail(reterr, ERR_TOO_LARGE, "%zu packets, at most %u", n, PUSH_PACKETS_MAX);
        return WAFER_TOO_MUCH;
    }
    struct wafer_push *packets = arena_alloc(a, (n + 1) * sizeof *packets);
    if (packets == NULL)
        return refuse(reterr, WAFER_TOO_MUCH, "the request needs too much memory", NULL);
    while (json_next(list, &at, &packet)) {
        enum wafer_code code = read_packet(packet, a, &packets[count++], &left, reterr);
        if (code != WAFER_OK)
            return code;
    }
    *ret = packets;
    *ret_count = count;
    return WAFER_OK;
}

/* --- between nodes --- */

/* `1 <type> <tenant> <length>:<content><tunnels>` */
void wafer_put_told(const struct wafer_told *t, struct buf *ret)
{
    buf_append(ret, t->type == WAFER_PUSH_CLOSE ? SLICE("1 c ") : SLICE("1 m "));
    buf_append(ret, t->tenant);
    buf_append_char(ret, ' ');
    buf_append_u64(ret, t->content.n);
    buf_append_char(ret, ':');
    buf_append(ret, t->content);
    buf_append(ret, t->ids);
}

static bool take_word(struct slice *from, char border, struct slice *ret)
{
    const char *end = from->n != 0 ? memchr(from->p, border, from->n) : NULL;
    if (end == NULL)
        return false;
    *ret = (struct slice){from->p, (size_t)(end - from->p)};
    *from = slice_from(*from, ret->n + 1);
    return true;
}

bool wafer_name_valid(struct slice name, size_t letters)
{
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-'))
            return false;
    }
    return name.n == letters;
}

bool wafer_read_told(struct slice data, size_t letters, struct wafer_told *ret)
{
    struct slice version, type, length;
    struct error error;
    uint64_t n;
    if (!take_word(&data, ' ', &version) || !slice_eq(version, SLICE("1")) || !take_word(&data, ' ', &type) ||
        !take_word(&data, ' ', &ret->tenant) || !take_word(&data, ':', &length) || !text_u64(length, data.n, &n))
        return false;
    ret->type = slice_eq(type, SLICE("c")) ? WAFER_PUSH_CLOSE : WAFER_PUSH_MESSAGE;
    ret->content = (struct slice){data.p, (size_t)n};
    ret->ids = slice_from(data, (size_t)n);
    if (ret->ids.n % letters != 0 || !wafer_name_valid(ret->ids, ret->ids.n))
        return false;
    return ret->type == WAFER_PUSH_CLOSE ||
           (slice_eq(type, SLICE("m")) && wafer_check_content(ret->content, &error) == OK);
}
