/* gateway/config_json.c: the configuration file. Errors point at file:line:column. */
#include <jansson.h>
#include <stdio.h>

#include "base/mem.h"
#include "gateway/config_table.h"

/* Walks the keys of the outermost object of a text that jansson has accepted: jansson knows where syntax errors are, but not where a value stood. */
struct keys {
    struct slice text;
    size_t at;
    unsigned line, column, depth;
    bool expect_key;
};

static char step(struct keys *k)
{
    char c = k->text.p[k->at++];
    if (c == '\n') {
        k->line++;
        k->column = 0;
    } else if (((unsigned char)c & 0xc0) != 0x80) {
        k->column++; /* characters, as jansson counts */
    }
    return c;
}

static void skip_string(struct keys *k)
{
    while (k->at < k->text.n) {
        char c = step(k);
        if (c == '"')
            return;
        if (c == '\\' && k->at < k->text.n)
            (void)step(k);
    }
}

/* Moves on to the next key and notes its place in *from. */
static void next_key(struct keys *k, struct config_source *from)
{
    while (k->at < k->text.n) {
        char c = step(k);
        if (c == '"') {
            from->line = k->line;
            from->column = k->column;
            bool is_key = k->depth == 1 && k->expect_key;
            k->expect_key = false;
            skip_string(k);
            if (is_key)
                return;
        } else if (c == '{' || c == '[') {
            k->depth++;
            k->expect_key = c == '{';
        } else if (c == '}' || c == ']') {
            k->depth--;
        } else if (c == ',') {
            k->expect_key = true;
        }
    }
}

static enum err set_scalar(struct config *c, const struct config_option *o, json_t *v, struct config_source *from,
                           struct error *reterr)
{
    if (json_is_string(v))
        return config_set(c, o, slice_str(json_string_value(v)), from, reterr);
    if (json_is_boolean(v) && o->type == OPTION_BOOL)
        return config_set(c, o, json_is_true(v) ? SLICE("on") : SLICE("off"), from, reterr);
    if (json_is_integer(v)) {
        char digits[24];
        (void)snprintf(digits, sizeof digits, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        return config_set(c, o, slice_str(digits), from, reterr);
    }
    struct buf expected = BUF_INIT;
    config_expects(o, &expected);
    enum err e = config_fail(o, from, reterr, "must be %s%.*s", o->type == OPTION_LIST ? "a list of strings: " : "",
                             SLICE_FMT(buf_slice(&expected)));
    buf_fini(&expected);
    return e;
}

static enum err set_json(struct config *c, const struct config_option *o, json_t *v, struct config_source *from,
                         struct error *reterr)
{
    if (!json_is_array(v) || o->type != OPTION_LIST)
        return set_scalar(c, o, v, from, reterr);
    config_set_empty(c, o, from);
    for (size_t i = 0; i < json_array_size(v); i++) {
        enum err e = set_scalar(c, o, json_array_get(v, i), from, reterr);
        if (e != OK)
            return e;
    }
    return OK;
}

static enum err unknown_key(const char *key, const struct config_source *from, struct error *reterr)
{
    const char *near = config_nearest(slice_str(key));
    return fail(reterr, ERR_BAD_REQUEST, "%.100s:%u:%u: unknown key \"%.40s\"%s%s%s", from->file, from->line,
                from->column, key, near != NULL ? "; did you mean \"" : "", near != NULL ? near : "",
                near != NULL ? "\"?" : "");
}

static enum err apply(struct config *c, json_t *root, struct slice text, const char *source, struct error *reterr)
{
    struct config_source from = {.origin = ORIGIN_FILE, .file = source};
    struct keys keys = {.text = text, .line = 1};
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value)
    { /* in the order of the file */
        next_key(&keys, &from);
        const struct config_option *o = config_find(slice_str(key));
        if (o == NULL)
            return unknown_key(key, &from, reterr);
        if (o->offset == offsetof(struct config, config_file))
            return config_fail(o, &from, reterr, "a configuration file cannot name another");
        enum err e = set_json(c, o, value, &from, reterr);
        if (e != OK)
            return e;
    }
    return OK;
}

enum err config_parse_json(struct slice text, const char *source, struct config *c, struct error *reterr)
{
    json_error_t at;
    json_t *root = json_loadb(text.p != NULL ? text.p : "", text.n, JSON_REJECT_DUPLICATES, &at);
    if (root == NULL)
        return fail(reterr, ERR_BAD_REQUEST, "%.100s:%d:%d: %.80s", source, at.line, at.column, at.text);
    enum err e = json_is_object(root)
                     ? apply(c, root, text, source, reterr)
                     : fail(reterr, ERR_BAD_REQUEST, "%.100s:1:1: must be one object: {\"key\": value, …}", source);
    json_decref(root);
    return e;
}
