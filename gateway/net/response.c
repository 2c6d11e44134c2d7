/* gateway/net/response.c: HTTP responses as bytes. */
#include "gateway/net/response.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include <http_parser.h>
#define ZLIB_CONST
#include <zlib.h>

#define GZIP_LEVEL  1         /* answers to polls are made while others wait */
#define GZIP_WINDOW (16 + 15) /* 16: with the header of gzip */
#define GZIP_MEMORY 8

/* The Date header; made anew once per second. */
static const char *date(uint64_t wall_ms)
{
    static time_t made;
    static char text[40];
    static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t now = (time_t)(wall_ms / 1000);
    struct tm t;
    if (now == made || gmtime_r(&now, &t) == NULL)
        return text;
    made = now;
    (void)snprintf(text, sizeof text, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[t.tm_wday % 7], t.tm_mday % 32,
                   months[t.tm_mon % 12], (t.tm_year + 1900) % 10000, t.tm_hour % 24, t.tm_min % 60, t.tm_sec % 61);
    return text;
}

/* False: it stays as it is. */
static bool compress_body(struct slice body, struct buf *ret)
{
    z_stream z = {0};
    if (body.n > UINT32_MAX ||
        deflateInit2(&z, GZIP_LEVEL, Z_DEFLATED, GZIP_WINDOW, GZIP_MEMORY, Z_DEFAULT_STRATEGY) != Z_OK)
        return false;
    uLong bound = deflateBound(&z, (uLong)body.n);
    z.next_in = (const Bytef *)body.p;
    z.avail_in = (uInt)body.n;
    z.next_out = (Bytef *)buf_reserve(ret, bound);
    z.avail_out = (uInt)bound;
    bool done = deflate(&z, Z_FINISH) == Z_STREAM_END && z.total_out < body.n;
    ret->n = z.total_out;
    (void)deflateEnd(&z);
    return done;
}

static void append(struct buf *ret, const struct http_response *r, const struct response_context *c, bool gzip)
{
    buf_append_str(ret, "HTTP/1.1 ");
    buf_append_u64(ret, (uint64_t)r->status);
    buf_append_char(ret, ' ');
    buf_append_str(ret, http_status_str((enum http_status)r->status));
    buf_append_str(ret, "\r\nDate: ");
    buf_append_str(ret, date(c->wall_ms));
    buf_append_str(ret, "\r\nContent-Type: ");
    buf_append_str(ret, r->content_type != NULL ? r->content_type : "application/json; charset=utf-8");
    buf_append_str(ret, "\r\nContent-Length: ");
    buf_append_u64(ret, r->body.n);
    buf_append_str(ret, "\r\nX-Content-Type-Options: nosniff\r\n");
    if (r->headers == NULL || strcasestr(r->headers, "cache-control:") == NULL)
        buf_append_str(ret, "Cache-Control: no-store\r\n");
    if (r->compress)
        buf_append_str(ret, gzip ? "Vary: Accept-Encoding\r\nContent-Encoding: gzip\r\n" : "Vary: Accept-Encoding\r\n");
    if (r->headers != NULL)
        buf_append_str(ret, r->headers);
    if (!c->keep_alive)
        buf_append_str(ret, "Connection: close\r\n");
    else if (c->http_1_0)
        buf_append_str(ret, "Connection: keep-alive\r\n");
    buf_append_str(ret, "\r\n");
    if (!c->head)
        buf_append(ret, r->body);
}

void response_append(struct buf *ret, const struct http_response *r, const struct response_context *c)
{
    struct buf body = BUF_INIT;
    struct http_response small = *r;
    bool gzip = r->compress && c->gzip && compress_body(r->body, &body);
    if (gzip)
        small.body = buf_slice(&body);
    append(ret, &small, c, gzip);
    buf_fini(&body);
}

void response_error_body(struct buf *ret, const struct error *e)
{
    buf_append_str(ret, "{\"code\":\"");
    buf_append_str(ret, err_name(e->code));
    buf_append_str(ret, "\",\"message\":\"");
    for (const char *p = e->text; *p != '\0'; p++) {
        if (*p == '"' || *p == '\\')
            buf_append_char(ret, '\\');
        buf_append_char(ret, (unsigned char)*p < ' ' ? ' ' : *p);
    }
    buf_append_str(ret, "\"}\n");
}
