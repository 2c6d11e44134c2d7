/* gateway/net/request.c: http_parser's callbacks, and what we refuse that it lets through. */
#include "gateway/net/request.h"

#include <ctype.h>
#include <stdio.h>
#include <strings.h>

#include "base/mem.h"
#include "base/text.h"

#define KEEP_MAX 16384 /* bytes of a body's buffer that are kept for the next one */

static const struct {
    const char *name;
    enum header_rule rule;
} known[HEADERS] = {
#define X(code, name, rule) [code] = {name, rule},
    HEADER_MAP(X)
#undef X
};

static struct request *self(http_parser *p)
{
    return p->data;
}

void request_refuse(struct request *r, int status, enum err code, const char *why)
{
    r->status = status;
    (void)fail(&r->error, code, "%s", why);
}

static int refuse_body(struct request *r)
{
    r->status = 413;
    (void)fail(&r->error, ERR_TOO_LARGE, "the body is larger than %zu bytes", r->body_max);
    return -1;
}

/* For callbacks: http_parser stops when they return this. */
static int refuse(struct request *r, int status, enum err code, const char *why)
{
    request_refuse(r, status, code, why);
    return -1;
}

static int on_url(http_parser *p, const char *at, size_t n)
{
    struct request *r = self(p);
    if (r->text.n + n > HTTP_URL_MAX)
        return refuse(r, 414, ERR_TOO_LARGE, "the URL is too long");
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)at[i] <= ' ' || at[i] == 0x7f)
            return refuse(r, 400, ERR_BAD_REQUEST, "the URL has a control character");
    buf_append(&r->text, (struct slice){at, n});
    r->url.n = (uint16_t)r->text.n;
    return 0;
}

/* RFC 9110 §5.6.2. http_parser as Debian builds it lets a space through, and takes "Content-Length : 5" for a length where others do not. */
static bool is_token(unsigned char c)
{
    return isalnum(c) || (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static int on_header_field(http_parser *p, const char *at, size_t n)
{
    struct request *r = self(p);
    if (r->head_complete)
        return 0; /* trailers of a chunked body: nobody asked for them */
    if (r->in_value || r->header_count == 0) {
        r->in_value = false;
        r->name_n = 0;
        if (++r->header_count > HTTP_HEADERS_MAX)
            return refuse(r, 431, ERR_TOO_LARGE, "there are too many headers");
    }
    for (size_t i = 0; i < n; i++) {
        if (!is_token((unsigned char)at[i]))
            return refuse(r, 400, ERR_BAD_REQUEST, "a header has a name that is not a token");
        if (r->name_n < HEADER_NAME_MAX)
            r->name[r->name_n++] = (char)tolower((unsigned char)at[i]);
    }
    return 0;
}

/* The header's name is complete: where does its value go? */
static int begin_value(struct request *r)
{
    r->in_value = true;
    r->current = HEADER_OTHER;
    for (enum header h = 0; h < HEADERS; h++)
        if (strlen(known[h].name) == r->name_n && memcmp(known[h].name, r->name, r->name_n) == 0)
            r->current = h;
    if (r->current == HEADER_OTHER)
        return 0;
    struct span *value = &r->headers[r->current];
    if ((r->seen & BIT(r->current)) == 0) {
        r->seen |= (uint16_t)BIT(r->current);
        *value = (struct span){(uint16_t)r->text.n, 0};
        return 0;
    }
    switch (known[r->current].rule) {
    case HEADER_ONCE: return refuse(r, 400, ERR_BAD_REQUEST, "a header that must stand alone is there twice");
    case HEADER_FIRST: r->current = HEADER_OTHER; return 0;
    case HEADER_LIST: break;
    }
    /* The list moves to the end of the text, where it can grow. */
    size_t at = r->text.n;
    (void)buf_reserve(&r->text, value->n);
    buf_append(&r->text, (struct slice){r->text.p + value->at, value->n});
    buf_append(&r->text, SLICE(", "));
    *value = (struct span){(uint16_t)at, (uint16_t)(value->n + 2)};
    return 0;
}

static int on_header_value(http_parser *p, const char *at, size_t n)
{
    struct request *r = self(p);
    if (r->head_complete)
        return 0;
    if (!r->in_value && begin_value(r) != 0)
        return -1;
    if (r->current == HEADER_OTHER)
        return 0;
    /* A list given n times is copied n times; this keeps 16-bit positions right. */
    if (r->text.n + n > UINT16_MAX / 2)
        return refuse(r, 431, ERR_TOO_LARGE, "the header is too large");
    buf_append(&r->text, (struct slice){at, n});
    r->headers[r->current].n = (uint16_t)(r->headers[r->current].n + n);
    return 0;
}

static int check_head(struct request *r)
{
    const http_parser *p = &r->parser;
    if (p->http_major != 1 || p->http_minor > 1)
        return refuse(r, 505, ERR_BAD_REQUEST, "only HTTP/1.0 and 1.1 are spoken here");
    if (p->method == HTTP_CONNECT)
        return refuse(r, 405, ERR_BAD_REQUEST, "this is not a proxy");
    if (p->http_minor == 1 && (r->seen & BIT(HEADER_HOST)) == 0)
        return refuse(r, 400, ERR_BAD_REQUEST, "the Host header is missing");
    /* http_parser has a length of all ones when there is none. */
    bool sized = (p->flags & F_CONTENTLENGTH) != 0;
    bool large = (p->flags & F_CHUNKED) != 0 || (sized && p->content_length > HTTP_BODY_MAX);
    r->body_max = large && r->body_rule != NULL ? r->body_rule(r->owner, r) : HTTP_BODY_MAX;
    if (sized && p->content_length > r->body_max)
        return refuse_body(r);
    struct slice expect = request_header(r, HEADER_EXPECT);
    if (expect.n != 0 && (expect.n != 12 || strncasecmp(expect.p, "100-continue", 12) != 0))
        return refuse(r, 417, ERR_BAD_REQUEST, "the expectation is not known");
    bool body = (p->flags & F_CHUNKED) != 0 || (sized && p->content_length > 0);
    r->wants_continue = expect.n != 0 && p->http_minor == 1 && body;
    return 0;
}

static int on_headers_complete(http_parser *p)
{
    struct request *r = self(p);
    if (r->head_complete)
        return 0;
    r->head_complete = true;
    return check_head(r);
}

static int on_body(http_parser *p, const char *at, size_t n)
{
    struct request *r = self(p);
    r->wants_continue = false;
    if (r->body.n + n > r->body_max)
        return refuse_body(r);
    buf_append(&r->body, (struct slice){at, n});
    return 0;
}

static int on_message_complete(http_parser *p)
{
    struct request *r = self(p);
    r->complete = true;
    r->wants_continue = false;
    r->keep_alive = http_should_keep_alive(p) != 0;
    http_parser_pause(p, 1); /* what follows is the next request's */
    return 0;
}

static const http_parser_settings settings = {
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

void request_init(struct request *r, request_body_rule *rule, void *owner)
{
    memset(r, 0, sizeof *r);
    r->body_rule = rule;
    r->owner = owner;
    http_parser_init(&r->parser, HTTP_REQUEST);
    r->parser.data = r;
    http_parser_set_max_header_size(HTTP_HEADER_MAX);
}

void request_fini(struct request *r)
{
    buf_fini(&r->text);
    buf_fini(&r->body);
}

void request_reset(struct request *r)
{
    struct buf text = r->text, body = r->body;
    request_init(r, r->body_rule, r->owner);
    buf_clear(&text);
    r->text = text;
    if (body.cap <= KEEP_MAX)
        r->body = body;
    else
        buf_fini(&body);
    buf_clear(&r->body);
}

size_t request_feed(struct request *r, const char *p, size_t n)
{
    r->begun = true;
    size_t used = http_parser_execute(&r->parser, &settings, p, n);
    enum http_errno e = HTTP_PARSER_ERRNO(&r->parser);
    if (r->complete || r->status != 0)
        return used;
    if (e == HPE_HEADER_OVERFLOW)
        request_refuse(r, 431, ERR_TOO_LARGE, "the header is too large");
    else if (e != HPE_OK)
        request_refuse(r, 400, ERR_BAD_REQUEST, http_errno_description(e));
    return used;
}

struct slice request_header(const struct request *r, enum header h)
{
    if ((r->seen & BIT(h)) == 0)
        return SLICE_NONE;
    return text_trim((struct slice){r->text.p + r->headers[h].at, r->headers[h].n});
}

bool request_list_has(struct slice list, const char *word)
{
    size_t want = strlen(word);
    while (list.n > 0) {
        const char *comma = memchr(list.p, ',', list.n);
        size_t n = comma != NULL ? (size_t)(comma - list.p) : list.n;
        struct slice item = text_trim((struct slice){list.p, n});
        if (item.n == want && strncasecmp(item.p, word, want) == 0)
            return true;
        list = slice_from(list, comma != NULL ? n + 1 : n);
    }
    return false;
}

/* "http://host/path?query" and "/path?query" to their parts; an absolute URL counts as its path (RFC 9112 §3.2.2). */
static void split_url(struct slice url, struct slice *ret_path, struct slice *ret_query)
{
    const char *scheme = url.n > 0 && url.p[0] != '/' ? memmem(url.p, url.n, "://", 3) : NULL;
    if (scheme != NULL) {
        struct slice rest = slice_from(url, (size_t)(scheme - url.p) + 3);
        size_t at = 0;
        while (at < rest.n && rest.p[at] != '/' && rest.p[at] != '?' && rest.p[at] != '#')
            at++;
        url = slice_from(rest, at);
    }
    const char *fragment = url.n > 0 ? memchr(url.p, '#', url.n) : NULL;
    if (fragment != NULL)
        url.n = (size_t)(fragment - url.p);
    const char *question = url.n > 0 ? memchr(url.p, '?', url.n) : NULL;
    *ret_query = SLICE_NONE;
    if (question != NULL) {
        *ret_query = slice_from(url, (size_t)(question - url.p) + 1);
        url.n = (size_t)(question - url.p);
    }
    *ret_path = url.n > 0 && url.p[0] == '/' ? url : SLICE("/");
}

void request_view(const struct request *r, struct http_request *ret)
{
    enum http_method method = r->parser.method == HTTP_HEAD ? HTTP_GET : (enum http_method)r->parser.method;
    *ret = (struct http_request){
        .method = slice_str(http_method_str(method)),
        .host = request_header(r, HEADER_HOST),
        .origin = request_header(r, HEADER_ORIGIN),
        .user_agent = request_header(r, HEADER_USER_AGENT),
        .referer = request_header(r, HEADER_REFERER),
        .authorization = request_header(r, HEADER_AUTHORIZATION),
        .subprotocols = request_header(r, HEADER_WS_PROTOCOL),
        .accept_encoding = request_header(r, HEADER_ACCEPT_ENCODING),
        .content_type = request_header(r, HEADER_CONTENT_TYPE),
        .request_id = request_header(r, HEADER_REQUEST_ID),
        .body = buf_slice(&r->body),
    };
    split_url((struct slice){r->text.p, r->url.n}, &ret->path, &ret->query);
}
