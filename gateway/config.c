/* gateway/config.c: defaults, file, environment and flags, in this order, into one struct config; and its reload. */
#include "gateway/config.h"

#include <assert.h>
#include <ctype.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "gateway/config_table.h"

#define FILE_MAX ((size_t)1024 * 1024)

/* --- flags --- */

struct flags {
    int argc;
    char *const *argv;
    int at;
};

/* An argument, or NULL; what begins with -- is a flag, never a value (--key=--value is possible). */
static const char *next_value(struct flags *f)
{
    if (f->at + 1 >= f->argc || strncmp(f->argv[f->at + 1], "--", 2) == 0)
        return NULL;
    return f->argv[++f->at];
}

/* The value of a boolean flag is optional: --demo, --demo on, --demo=on, and --no-demo. */
static struct slice bool_value(struct flags *f)
{
    static const char *const words[] = {"on", "off", "true", "false", "yes", "no", "1", "0"};
    if (f->at + 1 < f->argc) {
        for (size_t i = 0; i < ARRAY_LEN(words); i++)
            if (strcmp(f->argv[f->at + 1], words[i]) == 0)
                return slice_str(f->argv[++f->at]);
    }
    return SLICE("on");
}

static const struct config_verb *find_verb(struct slice name)
{
    for (size_t i = 0; i < config_verb_count; i++)
        if (slice_eq(name, slice_str(config_verbs[i].flag)))
            return &config_verbs[i];
    return NULL;
}

static void unknown_flag(struct slice name, struct error *reterr)
{
    const char *near = config_nearest(name);
    int shown = name.n < 60 ? (int)name.n : 60;
    if (near != NULL)
        (void)fail(reterr, ERR_BAD_REQUEST, "unknown option --%.*s; did you mean --%s?", shown, name.p, near);
    else
        (void)fail(reterr, ERR_BAD_REQUEST, "unknown option --%.*s; --help lists all", shown, name.p);
}

/* The option that arg names, NULL with *reterr when there is none. For --no-X of a boolean the value is "off"; *ret_value.p stays NULL when arg has none. */
static const struct config_option *parse_flag(const char *arg, struct slice *ret_value, struct error *reterr)
{
    if (strncmp(arg, "--", 2) != 0 || arg[2] == '\0') {
        (void)fail(reterr, ERR_BAD_REQUEST, "unexpected argument \"%.60s\"; options begin with --", arg);
        return NULL;
    }
    struct slice name = slice_str(arg + 2), value = SLICE_NONE;
    const char *equals = memchr(name.p, '=', name.n);
    if (equals != NULL) {
        name.n = (size_t)(equals - name.p);
        value = slice_str(equals + 1);
    }
    const struct config_option *o = config_find(name);
    if (o == NULL && value.p == NULL && slice_starts(name, SLICE("no-"))) {
        o = config_find(slice_from(name, 3));
        if (o != NULL && o->type != OPTION_BOOL) {
            (void)fail(reterr, ERR_BAD_REQUEST, "--%.60s: only on/off options have a --no- form", name.p);
            return NULL;
        }
        value = SLICE("off");
    }
    if (o == NULL)
        unknown_flag(name, reterr);
    *ret_value = value;
    return o;
}

/* NULL when arg is none. Only verbs that need a value may have one behind an equals sign. */
static const struct config_verb *parse_verb(const char *arg)
{
    if (strcmp(arg, "-h") == 0)
        return find_verb(SLICE("help"));
    if (strncmp(arg, "--", 2) != 0)
        return NULL;
    size_t n = strcspn(arg + 2, "=");
    const struct config_verb *v = find_verb((struct slice){arg + 2, n});
    return v != NULL && (arg[2 + n] == '\0' || v->hint != NULL) ? v : NULL;
}

/* The one verb with a value is the doctor. */
static enum err take_verb(const struct config_verb *v, struct flags *f, struct config *c, struct error *reterr)
{
    if (v->hint == NULL)
        return OK;
    const char *equals = strchr(f->argv[f->at], '='), *value = equals != NULL ? equals + 1 : next_value(f);
    if (value == NULL || value[0] == '\0')
        return fail(reterr, ERR_BAD_REQUEST, "--%s needs a value: %s", v->flag, v->hint);
    free(c->doctor);
    c->doctor = xstrdup(value);
    return OK;
}

/* Sets everything argv says in c. With `only` set, just that option: --config is needed before the others. */
static enum err apply_flags(int argc, char *const *argv, const struct config_option *only, struct config *c,
                            struct error *reterr)
{
    struct config_source from = {.origin = ORIGIN_FLAG};
    struct flags f = {argc, argv, 1};
    for (; f.at < argc; f.at++) {
        struct slice value = SLICE_NONE;
        const struct config_verb *verb = parse_verb(argv[f.at]);
        if (verb != NULL) {
            if (take_verb(verb, &f, c, reterr) != OK)
                return reterr->code;
            continue;
        }
        const struct config_option *o = parse_flag(argv[f.at], &value, reterr);
        if (o == NULL)
            return reterr->code;
        if (value.p == NULL && o->type == OPTION_BOOL) {
            value = bool_value(&f);
        } else if (value.p == NULL) {
            value = slice_str(next_value(&f));
            if (value.p == NULL)
                return config_fail(o, &from, reterr, "needs a value: %s", o->hint);
        }
        if (only != NULL && o != only)
            continue;
        enum err e = config_set(c, o, value, &from, reterr);
        if (e != OK)
            return e;
    }
    return OK;
}

/* --- environment --- */

static struct slice trim(struct slice s)
{
    while (s.n != 0 && isspace((unsigned char)s.p[0]))
        s = slice_from(s, 1);
    while (s.n != 0 && isspace((unsigned char)s.p[s.n - 1]))
        s.n--;
    return s;
}

/* Items are separated by semicolons; empty ones are skipped. */
static enum err set_items(struct config *c, const struct config_option *o, struct slice all, struct config_source *from,
                          struct error *reterr)
{
    while (all.n != 0) {
        const char *end = memchr(all.p, ';', all.n);
        size_t n = end != NULL ? (size_t)(end - all.p) : all.n;
        struct slice item = trim((struct slice){all.p, n});
        enum err e = item.n != 0 ? config_set(c, o, item, from, reterr) : OK;
        if (e != OK)
            return e;
        all = slice_from(all, n + (end != NULL));
    }
    return OK;
}

static enum err set_one(struct config *c, const struct config_option *o, const char *text, struct config_source *from,
                        struct error *reterr)
{
    return o->type == OPTION_LIST ? set_items(c, o, slice_str(text), from, reterr)
                                  : config_set(c, o, slice_str(text), from, reterr);
}

/* A variable that is set but empty counts as not set, as compose files produce it for ${X:-}. */
static enum err apply_env(char *(*getenv_fn)(const char *), const struct config_option *only, struct config *c,
                          struct error *reterr)
{
    struct config_source from = {.origin = ORIGIN_ENV};
    config_for_each (o) {
        char name[CONFIG_ENV_NAME];
        config_env_name(o, name);
        const char *text = only == NULL || only == o ? getenv_fn(name) : NULL;
        enum err e = text != NULL && text[0] != '\0' ? set_one(c, o, text, &from, reterr) : OK;
        if (e != OK)
            return e;
    }
    return OK;
}

/* --- file --- */

static enum err apply_file(const char *path, struct config *c, struct error *reterr)
{
    struct buf text = BUF_INIT;
    const char *why = file_read(path, FILE_MAX, &text);
    enum err e = why == NULL ? OK : fail(reterr, ERR_NOT_FOUND, "--config %.120s: %s", path, why);
    if (e == OK)
        e = config_parse_json(buf_slice(&text), path, c, reterr);
    buf_fini(&text);
    return e;
}

/* --- all together --- */

void config_init(struct config *c)
{
    struct config_source from = {.origin = ORIGIN_DEFAULT};
    struct error err;
    *c = (struct config){0};
    config_for_each (o) {
        enum err e = o->def != NULL ? set_one(c, o, o->def, &from, &err) : OK;
        assert(e == OK); /* a default out of its own bounds */
        (void)e;
    }
}

/* The host name as far as it can be a node's name. */
static char *default_node(void)
{
    char host[256];
    if (gethostname(host, sizeof host) != 0)
        host[0] = '\0';
    host[sizeof host - 1] = '\0';
    char name[65];
    size_t n = 0;
    for (const char *p = host; *p != '\0' && n < sizeof name - 1; p++)
        name[n++] = isalnum((unsigned char)*p) || *p == '.' || *p == '_' || *p == '-' ? *p : '-';
    return n != 0 ? xstrndup(name, n) : xstrdup("node");
}

static enum err load(int argc, char *const *argv, char *(*getenv_fn)(const char *), bool to_run, struct config *c,
                     struct error *reterr)
{
    const struct config_option *file = config_find(SLICE("config"));
    enum err e = apply_env(getenv_fn, file, c, reterr);
    if (e == OK)
        e = apply_flags(argc, argv, file, c, reterr);
    if (e == OK && c->config_file != NULL)
        e = apply_file(c->config_file, c, reterr);
    if (e == OK)
        e = apply_env(getenv_fn, NULL, c, reterr);
    if (e == OK)
        e = apply_flags(argc, argv, NULL, c, reterr);
    if (e == OK && c->node == NULL)
        c->node = default_node();
    return e == OK && to_run ? config_check(c, reterr) : e;
}

enum err config_load(int argc, char *const *argv, char *(*getenv_fn)(const char *), struct config *ret,
                     enum config_action *ret_action, struct error *reterr)
{
    enum config_action action = CONFIG_RUN;
    for (int i = 1; i < argc; i++) {
        const struct config_verb *v = parse_verb(argv[i]);
        action = v != NULL ? v->action : action;
        if (action == CONFIG_HELP || action == CONFIG_VERSION)
            break;
    }
    struct config c;
    config_init(&c);
    enum err e = OK;
    if (action != CONFIG_HELP && action != CONFIG_VERSION)
        e = load(argc, argv, getenv_fn, action != CONFIG_DOCTOR, &c, reterr);
    if (e != OK) {
        config_fini(&c);
        return e;
    }
    *ret = c;
    *ret_action = action;
    return OK;
}

static void option_free(struct config *c, const struct config_option *o)
{
    if (o->type == OPTION_TEXT || o->type == OPTION_URL) {
        char **text = config_field(c, o);
        free(*text);
        *text = NULL;
    } else if (o->type == OPTION_LIST) {
        struct config_source nowhere = {.origin = ORIGIN_DEFAULT};
        config_set_empty(c, o, &nowhere);
    }
}

void config_fini(struct config *c)
{
    config_for_each (o)
        option_free(c, o);
    free(c->doctor);
    c->doctor = NULL;
}

static size_t field_size(const struct config_option *o)
{
    switch (o->type) {
    case OPTION_TEXT:
    case OPTION_URL: return sizeof(char *);
    case OPTION_LIST: return sizeof(struct strings);
    case OPTION_BOOL: return sizeof(bool);
    case OPTION_WORD: return sizeof(unsigned);
    case OPTION_COUNT:
    case OPTION_SIZE:
    case OPTION_SECONDS:
    case OPTION_MILLISECONDS: return sizeof(uint32_t);
    }
    return 0;
}

static bool same_list(const struct strings *a, const struct strings *b)
{
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++)
        same = strcmp(a->items[i], b->items[i]) == 0;
    return same;
}

static bool same_value(const struct config *a, const struct config *b, const struct config_option *o)
{
    if (o->type == OPTION_LIST)
        return same_list(config_value(a, o), config_value(b, o));
    struct buf left = BUF_INIT, right = BUF_INIT;
    config_format(a, o, &left);
    config_format(b, o, &right);
    bool same = slice_eq(buf_slice(&left), buf_slice(&right));
    buf_fini(&left);
    buf_fini(&right);
    return same;
}

/* Copies or takes one option's value. */
static void option_take(struct config *c, struct config *fresh, const struct config_option *o)
{
    void *to = config_field(c, o), *from = config_field(fresh, o);
    option_free(c, o);
    memcpy(to, from, field_size(o));
    if (o->type == OPTION_TEXT || o->type == OPTION_URL || o->type == OPTION_LIST)
        memset(from, 0, field_size(o));
}

void config_reload(struct config *c, struct config *fresh, char *ret_ignored, size_t size)
{
    struct buf ignored = BUF_INIT;
    /* Listeners stay what they are: a certificate may be replaced by another, TLS not be switched on or off. */
    bool tls_switched = (c->tls_cert == NULL) != (fresh->tls_cert == NULL);
    config_for_each (o) {
        if (same_value(c, fresh, o))
            continue;
        bool is_tls = o->offset == offsetof(struct config, tls_cert) || o->offset == offsetof(struct config, tls_key);
        if (o->reloadable && !(is_tls && tls_switched))
            option_take(c, fresh, o);
        else
            buf_printf(&ignored, "%s%s", ignored.n != 0 ? "," : "", o->key);
    }
    if (size != 0) {
        size_t n = ignored.n < size ? ignored.n : size - 1;
        if (n != 0)
            memcpy(ret_ignored, ignored.p, n);
        ret_ignored[n] = '\0';
    }
    buf_fini(&ignored);
}
