/* base/log.c: log lines as text or JSON. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/utf8.h"

#define QUOTED_MAX  120
#define QUOTED_BUFS 8
#define FIELDS_MAX  2048

enum log_level log_threshold = LOG_INFO;

static enum log_format log_format = LOG_TEXT;
static char node_name[QUOTED_MAX * 4 + 8];
static const char *const level_names[] = {"ERROR", "WARN", "INFO", "DEBUG"};

void log_setup(enum log_level level, enum log_format format, const char *node)
{
    log_threshold = level;
    log_format = format;
    (void)snprintf(node_name, sizeof node_name, "%s", node != NULL ? log_q(slice_str(node)) : "");
}

static bool plain(struct slice s)
{
    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c <= ' ' || c == '"' || c == '\\' || c == '=' || c == 0x7f)
            return false;
    }
    return utf8_valid(s);
}

const char *log_q(struct slice s)
{
    static char bufs[QUOTED_BUFS][QUOTED_MAX * 4 + 8];
    static unsigned turn;
    char *out = bufs[turn++ % QUOTED_BUFS], *at = out;
    bool cut = s.n > QUOTED_MAX;
    if (cut)
        s.n = QUOTED_MAX;
    if (plain(s)) {
        memcpy(out, s.p, s.n);
        out[s.n] = '\0';
        return out;
    }
    bool ascii_only = !utf8_valid(s); /* a cut may fall inside a character */
    *at++ = '"';
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '"' || c == '\\') {
            *at++ = '\\';
            *at++ = (char)c;
        } else if (c < ' ' || c == 0x7f || (ascii_only && c >= 0x80)) {
            at += snprintf(at, 5, "?%02x", c);
        } else {
            *at++ = (char)c;
        }
    }
    *at++ = '"';
    *at = '\0';
    return out;
}

/* True when this line may be written; tells how many were swallowed before it. */
static bool limit_pass(struct log_limit *limit, uint64_t second, uint32_t *ret_swallowed)
{
    *ret_swallowed = 0;
    if (limit == NULL)
        return true;
    if (limit->second != second) {
        *ret_swallowed = limit->swallowed;
        *limit = (struct log_limit){.second = second, .burst = limit->burst};
    }
    if (limit->used < limit->burst) {
        limit->used++;
        return true;
    }
    limit->swallowed++;
    return false;
}

static void append_json_member(struct buf *b, struct slice key, struct slice value)
{
    bool quoted = value.n >= 2 && value.p[0] == '"';
    buf_printf(b, ",\"%.*s\":", SLICE_FMT(key));
    if (!quoted)
        buf_append_char(b, '"');
    buf_append(b, value);
    if (!quoted)
        buf_append_char(b, '"');
}

/* Where the value at p ends: behind its closing quote, or before the next space. */
static const char *value_end(const char *p)
{
    if (*p != '"')
        return p + strcspn(p, " ");
    for (p++; *p != '\0' && *p != '"'; p++)
        if (*p == '\\' && p[1] != '\0')
            p++;
    return p + (*p == '"');
}

/* Turns `k=v k2="v 2"` into JSON members; the values come from log_q or are plain words and numbers. */
static void append_json_fields(struct buf *b, const char *at)
{
    while (*at != '\0') {
        size_t key = strcspn(at, "= ");
        if (at[key] != '=') {
            at += key + (at[key] == ' ');
            continue;
        }
        const char *value = at + key + 1, *end = value_end(value);
        append_json_member(b, (struct slice){at, key}, (struct slice){value, (size_t)(end - value)});
        at = end + (*end == ' ');
    }
}

/* More fields than fit: the last one is cut somewhere, perhaps inside its quotes, so it goes. */
static void drop_cut_field(char *text)
{
    char *at = text, *last = text;
    while (*at != '\0') {
        last = at;
        at += strcspn(at, "= ");
        if (*at == '=')
            at = text + (value_end(at + 1) - text);
        at += *at == ' ';
    }
    if (last > text)
        last--; /* the space before it */
    *last = '\0';
}

static void append_time(struct buf *b, const struct timespec *now)
{
    struct tm tm;
    gmtime_r(&now->tv_sec, &tm);
    buf_printf(b, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
               tm.tm_min, tm.tm_sec, (int)(now->tv_nsec / 1000000));
}

static void compose(struct buf *b, enum log_level level, const struct timespec *now, const char *message,
                    const char *fields)
{
    if (log_format == LOG_JSON) {
        buf_append_str(b, "{\"time\":\"");
        append_time(b, now);
        buf_printf(b, "\",\"level\":\"%s\",\"message\":\"%s\"", level_names[level], message);
        if (node_name[0] != '\0')
            append_json_member(b, SLICE("node"), slice_str(node_name));
        append_json_fields(b, fields);
        buf_append_str(b, "}\n");
        return;
    }
    append_time(b, now);
    buf_printf(b, " %s %s", level_names[level], message);
    if (node_name[0] != '\0')
        buf_printf(b, " node=%s", node_name);
    if (fields[0] != '\0')
        buf_printf(b, " %s", fields);
    buf_append_char(b, '\n');
}

void log_line(enum log_level level, struct log_limit *limit, const char *message, const char *fields, ...)
{
    struct timespec now;
    uint32_t swallowed;
    clock_gettime(CLOCK_REALTIME, &now);
    if (!limit_pass(limit, (uint64_t)now.tv_sec, &swallowed))
        return;

    char text[FIELDS_MAX];
    va_list ap;
    va_start(ap, fields);
    int n = vsnprintf(text, sizeof text, fields, ap);
    va_end(ap);
    if (n < 0)
        text[0] = '\0';
    else if ((size_t)n >= sizeof text)
        drop_cut_field(text);
    size_t used = strlen(text);
    if (swallowed != 0)
        (void)snprintf(text + used, sizeof text - used, "%sswallowed=%u", used != 0 ? " " : "", swallowed);

    struct buf line = BUF_INIT;
    compose(&line, level, &now, message, text);
    ssize_t ignored = write(STDERR_FILENO, line.p, line.n);
    (void)ignored; /* nobody left to tell */
    buf_fini(&line);
}
