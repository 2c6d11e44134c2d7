/* gateway/config_option.c: one option: setting it from text, writing it as text, telling what is wrong with it. */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/config_table.h"
#include "gateway/config_value.h"

#define SHOWN_MAX 60 /* bytes of a bad value that an error repeats */

/* Writes "--key", "XINDAO_KEY" or "file:line:column: key". */
static void describe(const struct config_option *o, const struct config_source *from, char *ret, size_t size)
{
    char env[CONFIG_ENV_NAME];
    switch (from->origin) {
    case ORIGIN_DEFAULT: (void)snprintf(ret, size, "default of %s", o->key); return;
    case ORIGIN_FILE: (void)snprintf(ret, size, "%s:%u:%u: %s", from->file, from->line, from->column, o->key); return;
    case ORIGIN_ENV:
        config_env_name(o, env);
        (void)snprintf(ret, size, "%s", env);
        return;
    case ORIGIN_FLAG: (void)snprintf(ret, size, "--%s", o->key); return;
    }
}

enum err config_fail(const struct config_option *o, const struct config_source *from, struct error *reterr,
                     const char *fmt, ...)
{
    char where[sizeof reterr->text], what[sizeof reterr->text];
    va_list ap;
    describe(o, from, where, sizeof where);
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return fail(reterr, ERR_BAD_REQUEST, "%s: %s", where, what);
}

/* "VALUE is wrong: must be …". A URL is not repeated: it may hold a password. */
static enum err bad_value(const struct config_option *o, struct slice value, const struct config_source *from,
                          struct error *reterr)
{
    struct buf expected = BUF_INIT;
    config_expects(o, &expected);
    int shown = value.n < SHOWN_MAX ? (int)value.n : SHOWN_MAX;
    enum err e = config_fail(o, from, reterr, "\"%.*s\" is not %.*s", shown, value.p != NULL ? value.p : "",
                             SLICE_FMT(buf_slice(&expected)));
    buf_fini(&expected);
    return e;
}

static bool set_number(const struct config_option *o, struct slice value, uint32_t *ret)
{
    uint64_t v = 0;
    uint32_t small = 0;
    if (o->type == OPTION_SECONDS || o->type == OPTION_MILLISECONDS) {
        if (!value_time(value, &v) || (o->type == OPTION_SECONDS && v % 1000 != 0))
            return false;
        v /= o->type == OPTION_SECONDS ? 1000 : 1;
    } else {
        if (!(o->type == OPTION_SIZE ? value_size : value_count)(value, &small))
            return false;
        v = small;
    }
    if (v < o->min || v > o->max)
        return false;
    *ret = (uint32_t)v;
    return true;
}

static void list_clear(struct strings *l)
{
    for (size_t i = 0; i < l->count; i++)
        free(l->items[i]);
    free(l->items);
    *l = (struct strings){NULL, 0};
}

void config_set_empty(struct config *c, const struct config_option *o, struct config_source *from)
{
    for (size_t i = 0; i < from->given_count; i++)
        if (from->given[i] == o)
            return;
    assert(from->given_count < ARRAY_LEN(from->given));
    from->given[from->given_count++] = o;
    list_clear(config_field(c, o));
}

static void set_list(struct config *c, const struct config_option *o, struct slice value, struct config_source *from)
{
    struct strings *l = config_field(c, o);
    config_set_empty(c, o, from);
    l->items = xrealloc(l->items, (l->count + 1) * sizeof *l->items);
    l->items[l->count++] = xstrndup(value.p, value.n);
}

static void set_text(char **field, struct slice value)
{
    free(*field);
    *field = value.n != 0 ? xstrndup(value.p, value.n) : NULL; /* empty takes back what a weaker source gave */
}

enum err config_set(struct config *c, const struct config_option *o, struct slice value, struct config_source *from,
                    struct error *reterr)
{
    void *field = config_field(c, o);
    unsigned word;
    bool good = true;
    if (!utf8_valid(value) || memchr(value.p != NULL ? value.p : "", '\0', value.n) != NULL)
        return config_fail(o, from, reterr, "the value is not UTF-8 text");
    switch (o->type) {
    case OPTION_TEXT:
    case OPTION_URL: set_text(field, value.n == 0 && o->def != NULL ? slice_str(o->def) : value); break;
    case OPTION_LIST:
        good = value.n != 0;
        if (good)
            set_list(c, o, value, from);
        break;
    case OPTION_BOOL: good = value_bool(value, field); break;
    case OPTION_WORD:
        good = value_word(value, o->words, &word);
        if (good)
            memcpy(field, &word, sizeof word); /* every enum of struct config is an unsigned, config_table.c checks */
        break;
    case OPTION_COUNT:
    case OPTION_SIZE:
    case OPTION_SECONDS:
    case OPTION_MILLISECONDS: good = set_number(o, value, field); break;
    }
    return good ? OK : bad_value(o, value, from, reterr);
}

static void append_number(const struct config_option *o, uint32_t v, struct buf *ret)
{
    char text[VALUE_TEXT];
    if (o->type == OPTION_SECONDS || o->type == OPTION_MILLISECONDS)
        value_format_time(o->type == OPTION_SECONDS ? (uint64_t)v * 1000 : v, text);
    else if (o->type == OPTION_SIZE)
        value_format_size(v, text);
    else
        (void)snprintf(text, sizeof text, "%u", v);
    buf_append_str(ret, text);
}

static unsigned word_value(const void *field)
{
    unsigned v;
    memcpy(&v, field, sizeof v);
    return v;
}

void config_format(const struct config *c, const struct config_option *o, struct buf *ret)
{
    const void *field = config_value(c, o);
    const struct strings *l = field;
    switch (o->type) {
    case OPTION_TEXT:
    case OPTION_URL: buf_append_str(ret, *(char *const *)field); break;
    case OPTION_LIST:
        for (size_t i = 0; i < l->count; i++)
            buf_printf(ret, "%s%s", i != 0 ? ";" : "", l->items[i]);
        break;
    case OPTION_BOOL: buf_append_str(ret, *(const bool *)field ? "on" : "off"); break;
    case OPTION_WORD: buf_append_str(ret, o->words[word_value(field)]); break;
    case OPTION_COUNT:
    case OPTION_SIZE:
    case OPTION_SECONDS:
    case OPTION_MILLISECONDS: append_number(o, *(const uint32_t *)field, ret); break;
    }
}

static void append_bounds(const struct config_option *o, const char *what, struct buf *ret)
{
    buf_append_str(ret, what);
    append_number(o, o->min, ret);
    buf_append_str(ret, " to ");
    append_number(o, o->max, ret);
}

void config_expects(const struct config_option *o, struct buf *ret)
{
    switch (o->type) {
    case OPTION_TEXT:
    case OPTION_URL:
    case OPTION_LIST: buf_append_str(ret, o->hint); break;
    case OPTION_BOOL: buf_append_str(ret, "on or off"); break;
    case OPTION_WORD:
        for (size_t i = 0; o->words[i] != NULL; i++)
            buf_printf(ret, "%s%s", i == 0 ? "" : o->words[i + 1] != NULL ? ", " : " or ", o->words[i]);
        break;
    case OPTION_COUNT: append_bounds(o, "a number from ", ret); break;
    case OPTION_SIZE: append_bounds(o, "a size from ", ret); break;
    case OPTION_SECONDS: append_bounds(o, "a time in whole seconds from ", ret); break;
    case OPTION_MILLISECONDS: append_bounds(o, "a time from ", ret); break;
    }
}

/* The values of parameters that are passwords. */
static bool mask_parameters(const char *s, struct buf *ret)
{
    static const char name[] = "password=";
    bool masked = false;
    const char *at;
    while ((at = strstr(s, name)) != NULL) {
        const char *value = at + sizeof name - 1;
        buf_append(ret, (struct slice){s, (size_t)(value - s)});
        s = value + strcspn(value, "&");
        if (s != value)
            buf_append_str(ret, "***");
        masked = masked || s != value;
    }
    buf_append_str(ret, s);
    return masked;
}

bool config_mask_url(const char *url, struct buf *ret)
{
    const char *scheme = strstr(url, "://"), *at = strrchr(url, '@');
    if (scheme == NULL || at == NULL || at < scheme + 3)
        return mask_parameters(url, ret);
    /* Up to the last @: a password with unescaped / or @ is covered too. Without a colon the whole may be a password. */
    const char *user = scheme + 3, *colon = memchr(user, ':', (size_t)(at - user));
    const char *shown_end = colon != NULL ? colon + 1 : user;
    bool masked = at != shown_end; /* else user: and nothing */
    buf_append(ret, (struct slice){url, (size_t)(shown_end - url)});
    if (masked)
        buf_append_str(ret, "***");
    return mask_parameters(at, ret) || masked;
}
