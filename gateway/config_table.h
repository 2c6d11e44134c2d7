/* gateway/config_table.h: the one table of options and what config*.c share; everybody else includes config.h. */
#ifndef XD_CONFIG_TABLE_H
#define XD_CONFIG_TABLE_H

#include "base/buf.h"
#include "base/slice.h"
#include "gateway/config.h"

enum option_type {
    OPTION_TEXT,    /* char *, NULL when not given */
    OPTION_URL,     /* the same, but may hold a password, which is never shown */
    OPTION_LIST,    /* struct strings; the flag may be repeated */
    OPTION_BOOL,    /* bool */
    OPTION_WORD,    /* an enum whose values are the indexes of words */
    OPTION_COUNT,   /* uint32_t, like the three below */
    OPTION_SIZE,    /* bytes */
    OPTION_SECONDS, /* whole seconds */
    OPTION_MILLISECONDS,
};

struct config_option {
    const char *key;
    enum option_type type;
    size_t offset;            /* in struct config */
    const char *def;          /* as one would write it; NULL: none */
    uint32_t min, max;        /* of numbers, in the unit of the field */
    const char *const *words; /* of OPTION_WORD, ends with NULL */
    bool reloadable;
    const char *hint; /* what --help shows as the value */
    const char *help; /* one line */
};

struct config_group {
    const char *title;
    const struct config_option *options;
    size_t count;
};

/* Flags that say what to do. They have no variable and no key. */
struct config_verb {
    const char *flag;
    const char *hint; /* of the value that must follow; NULL: none follows */
    const char *help;
    enum config_action action;
};

extern const struct config_group config_groups[];
extern const size_t config_group_count;
extern const struct config_verb config_verbs[];
extern const size_t config_verb_count;

/* NOLINTBEGIN(bugprone-macro-parentheses) */
#define config_for_each(o)                                                                                             \
    for (const struct config_group *g_##o = config_groups; g_##o < config_groups + config_group_count; g_##o++)        \
        for (const struct config_option *o = g_##o->options; o < g_##o->options + g_##o->count; o++)
/* NOLINTEND(bugprone-macro-parentheses) */

/* NULL when there is none. */
const struct config_option *config_find(struct slice key);
/* The key that was probably meant; NULL when none comes close. */
const char *config_nearest(struct slice key);

/* XINDAO_MAX_QUEUE_BYTES of max-queue-bytes. */
#define CONFIG_ENV_NAME 64
void config_env_name(const struct config_option *o, char ret[CONFIG_ENV_NAME]);

/* Where a value came from, for errors. */
enum config_origin { ORIGIN_DEFAULT, ORIGIN_FILE, ORIGIN_ENV, ORIGIN_FLAG };
struct config_source {
    enum config_origin origin;
    const char *file;
    unsigned line, column;
    const struct config_option *given[64]; /* lists this source has begun; it replaces what weaker ones gave */
    size_t given_count;
};

/* Parses and checks one value. Lists: appends, or replaces when this is the source's first. */
enum err config_set(struct config *c, const struct config_option *o, struct slice value, struct config_source *from,
                    struct error *reterr);
/* A list without items. */
void config_set_empty(struct config *c, const struct config_option *o, struct config_source *from);
/* An error about o, beginning with where its value came from. */
enum err config_fail(const struct config_option *o, const struct config_source *from, struct error *reterr,
                     const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Do the values fit together? */
enum err config_check(const struct config *c, struct error *reterr);

/* Appends the value as one would write it. */
void config_format(const struct config *c, const struct config_option *o, struct buf *ret);
/* "a size from 1k to 16m", "on or off", …: what o accepts. */
void config_expects(const struct config_option *o, struct buf *ret);
/* Appends url with its password as ***; returns whether it had one. */
bool config_mask_url(const char *url, struct buf *ret);

static inline void *config_field(struct config *c, const struct config_option *o)
{
    return (char *)c + o->offset;
}

static inline const void *config_value(const struct config *c, const struct config_option *o)
{
    return (const char *)c + o->offset;
}

#endif
