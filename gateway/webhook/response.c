/* gateway/webhook/response.c: status line, headers, body: as long as it is told, in chunks, or until the end. What is ambiguous is refused. */
#include "gateway/webhook/response.h"

#include <strings.h>

#include "base/text.h"

void response_init(struct response *r)
{
    struct buf body = r->body, line = r->line;
    buf_clear(&body);
    buf_clear(&line);
    *r = (struct response){.body = body, .line = line};
}

void response_fini(struct response *r)
{
    buf_fini(&r->body);
    buf_fini(&r->line);
}

static void bad(struct response *r, const char *why)
{
    r->state = RESPONSE_BAD;
    r->keep = false;
    r->why = why;
}

static bool is(struct slice name, const char *what)
{
    return name.n == strlen(what) && strncasecmp(name.p, what, name.n) == 0;
}

/* --- lines --- */

static void on_status(struct response *r, struct slice line)
{
    uint64_t status;
    if (line.n < 12 || !slice_starts(line, SLICE("HTTP/1.")) || (line.p[7] != '0' && line.p[7] != '1') ||
        line.p[8] != ' ' || !text_u64((struct slice){line.p + 9, 3}, 599, &status) || status < 100 ||
        (line.n > 12 && line.p[12] != ' ')) {
        bad(r, "it does not answer with HTTP/1.1");
        return;
    }
    r->status = (int)status;
    r->keep = line.p[7] == '1';
    r->state = RESPONSE_HEADERS;
}

static void on_length(struct response *r, struct slice value)
{
    uint64_t length;
    if (!text_u64(value, UINT32_MAX, &length) || (r->has_length && length != r->left))
        bad(r, "its Content-Length is not one number");
    else if (length > RESPONSE_BODY_MAX)
        bad(r, "its answer is longer than 256 KB");
    else
        r->left = length;
    r->has_length = true;
}

/* Words of a list, such as `keep-alive, close`. */
static bool list_has(struct slice list, const char *word)
{
    while (list.n != 0) {
        const char *comma = memchr(list.p, ',', list.n);
        size_t n = comma != NULL ? (size_t)(comma - list.p) : list.n;
        if (is(text_trim((struct slice){list.p, n}), word))
            return true;
        list = slice_from(list, comma != NULL ? n + 1 : n);
    }
    return false;
}

static void on_header(struct response *r, struct slice line)
{
    const char *colon = memchr(line.p, ':', line.n);
    if (colon == NULL || colon == line.p || line.p[0] == ' ' || line.p[0] == '\t' || colon[-1] == ' ') {
        bad(r, "a header of its answer is malformed");
        return;
    }
    struct slice name = {line.p, (size_t)(colon - line.p)}, value = text_trim(slice_from(line, name.n + 1));
    uint64_t seconds;
    if (is(name, "content-length")) {
        on_length(r, value);
    } else if (is(name, "transfer-encoding")) {
        if (r->chunked || !is(value, "chunked"))
            bad(r, "its Transfer-Encoding is not chunked");
        r->chunked = true;
    } else if (is(name, "connection")) {
        if (list_has(value, "close"))
            r->keep = false;
    } else if (is(name, "retry-after") && text_u64(value, 3600, &seconds)) {
        r->retry_after_s = (uint32_t)seconds;
    }
}

static void on_headers_end(struct response *r)
{
    if (r->status < 200) { /* 100 Continue and the like: the answer follows */
        size_t head = r->head;
        if (r->status == 101) {
            bad(r, "it wants to speak something else than HTTP");
            return;
        }
        response_init(r);
        r->head = head;
    } else if (r->status == 204 || r->status == 304) {
        r->state = RESPONSE_DONE;
    } else if (r->chunked && r->has_length) {
        bad(r, "its answer has both a Content-Length and a Transfer-Encoding");
    } else if (r->chunked) {
        r->state = RESPONSE_CHUNK_SIZE;
    } else if (r->has_length) {
        r->state = r->left != 0 ? RESPONSE_BODY : RESPONSE_DONE;
    } else {
        r->keep = false;
        r->state = RESPONSE_TO_END;
    }
}

static void on_chunk_size(struct response *r, struct slice line)
{
    size_t i = 0;
    r->left = 0;
    for (; i < line.n && text_hex(line.p[i]) >= 0 && r->left <= RESPONSE_BODY_MAX; i++)
        r->left = r->left * 16 + (unsigned)text_hex(line.p[i]);
    if (r->left > RESPONSE_BODY_MAX)
        bad(r, "its answer is longer than 256 KB");
    else if (i == 0 || (i < line.n && line.p[i] != ';' && line.p[i] != ' ' && line.p[i] != '\t'))
        bad(r, "the size of a chunk of its answer is malformed");
    else
        r->state = r->left != 0 ? RESPONSE_CHUNK : RESPONSE_TRAILERS;
}

static void on_line(struct response *r, struct slice line)
{
    switch (r->state) {
    case RESPONSE_STATUS: on_status(r, line); break;
    case RESPONSE_HEADERS:
        if (line.n != 0)
            on_header(r, line);
        else
            on_headers_end(r);
        break;
    case RESPONSE_CHUNK_SIZE: on_chunk_size(r, line); break;
    case RESPONSE_CHUNK_END:
        r->state = RESPONSE_CHUNK_SIZE;
        if (line.n != 0)
            bad(r, "a chunk of its answer is longer than it says");
        break;
    default: /* trailers say nothing to us */
        if (line.n == 0)
            r->state = RESPONSE_DONE;
    }
}

/* --- bytes --- */

static size_t take_line(struct response *r, const char *p, size_t n)
{
    const char *end = memchr(p, '\n', n);
    size_t used = end != NULL ? (size_t)(end - p) + 1 : n;
    r->head += used;
    if (r->head > RESPONSE_HEAD_MAX) {
        bad(r, "the head of its answer is longer than 16 KB");
        return used;
    }
    buf_append(&r->line, (struct slice){p, used});
    if (end == NULL)
        return used;
    struct slice line = {r->line.p, r->line.n - 1};
    if (line.n != 0 && line.p[line.n - 1] == '\r')
        line.n--;
    on_line(r, line);
    buf_clear(&r->line);
    return used;
}

static size_t take_body(struct response *r, const char *p, size_t n)
{
    size_t used = r->state != RESPONSE_TO_END && n > r->left ? (size_t)r->left : n;
    if (r->body.n + used > RESPONSE_BODY_MAX) {
        bad(r, "its answer is longer than 256 KB");
        return used;
    }
    buf_append(&r->body, (struct slice){p, used});
    r->left -= r->state != RESPONSE_TO_END ? used : 0;
    if (r->left == 0 && r->state == RESPONSE_BODY)
        r->state = RESPONSE_DONE;
    else if (r->left == 0 && r->state == RESPONSE_CHUNK)
        r->state = RESPONSE_CHUNK_END;
    return used;
}

size_t response_feed(struct response *r, const char *p, size_t n)
{
    size_t at = 0;
    while (at < n && r->state != RESPONSE_DONE && r->state != RESPONSE_BAD) {
        bool body = r->state == RESPONSE_BODY || r->state == RESPONSE_TO_END || r->state == RESPONSE_CHUNK;
        at += body ? take_body(r, p + at, n - at) : take_line(r, p + at, n - at);
    }
    return at;
}

void response_eof(struct response *r)
{
    if (r->state == RESPONSE_TO_END)
        r->state = RESPONSE_DONE;
    else if (r->state != RESPONSE_DONE && r->state != RESPONSE_BAD)
        bad(r, r->state == RESPONSE_STATUS && r->head == 0 ? "it closed the connection without an answer"
                                                           : "it closed the connection in the middle of its answer");
    r->keep = false;
}
