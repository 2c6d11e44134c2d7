/* gateway/config_print.c: --help and --print-config. */
#include <jansson.h>
#include <stdio.h>

#include "base/mem.h"
#include "gateway/config_table.h"

#define HELP_COLUMN 34
#define HELP_WIDTH  110

/* Writes words of text into lines that begin at HELP_COLUMN; `at` is where the first line stands now. */
static void print_wrapped(FILE *out, int at, const char *text)
{
    bool first = true;
    while (*text != '\0') {
        int word = (int)strcspn(text, " ");
        if (first ? at + 2 > HELP_COLUMN : at + 1 + word > HELP_WIDTH) {
            fputc('\n', out);
            at = 0;
            first = true;
        }
        int pad = first ? HELP_COLUMN - at : 1;
        fprintf(out, "%*s%.*s", pad, "", word, text);
        at += pad + word;
        first = false;
        text += word + (text[word] == ' ');
    }
    fputc('\n', out);
}

static void print_option(FILE *out, const struct config_option *o)
{
    char env[CONFIG_ENV_NAME];
    config_env_name(o, env);
    int at = fprintf(out, o->type == OPTION_BOOL ? "  --%s [%s]" : "  --%s %s", o->key, o->hint);
    print_wrapped(out, at, o->help);

    struct buf notes = BUF_INIT;
    if (o->def != NULL)
        buf_printf(&notes, "[%s, %s", o->def, env);
    else
        buf_printf(&notes, "[%s", env);
    buf_append_str(&notes, o->reloadable ? ", reloadable]" : "]");
    buf_append_char(&notes, '\0');
    print_wrapped(out, 0, notes.p);
    buf_fini(&notes);
}

void config_print_help(FILE *out)
{
    fputs(
        "Usage: xindao-gateway [OPTION]…\n\n"
        "A realtime room server: https and wss on one port, joined with others through Redis.\n"
        "Start with: xindao-gateway --tls-cert chain.pem --tls-key key.pem\n\n"
        "An option is a flag (--node a or --node=a; --demo, --no-demo), a variable of the environment, or a key of "
        "the\n"
        "JSON file given by --config; a flag beats the environment, which beats the file, which beats the default.\n"
        "Sizes are bytes or 64k, 1m; times are seconds or 500ms, 30s, 5m. In the environment the values of a "
        "repeatable\n"
        "option are separated by ;. SIGHUP reads everything again and applies what is reloadable, certificates too.\n",
        out);
    for (size_t i = 0; i < config_group_count; i++) {
        fprintf(out, "\n%s [default, variable]:\n", config_groups[i].title);
        for (size_t j = 0; j < config_groups[i].count; j++)
            print_option(out, &config_groups[i].options[j]);
    }
    fputs("\nInstead of running:\n", out);
    for (size_t i = 0; i < config_verb_count; i++)
        print_wrapped(out,
                      fprintf(out, "  --%s%s%s", config_verbs[i].flag, config_verbs[i].hint != NULL ? " " : "",
                              config_verbs[i].hint != NULL ? config_verbs[i].hint : ""),
                      config_verbs[i].help);
}

static json_t *list_json(const struct strings *l)
{
    json_t *array = json_array();
    for (size_t i = 0; i < l->count; i++)
        json_array_append_new(array, json_string(l->items[i]));
    return array;
}

/* NULL for what is not set. */
static json_t *value_json(const struct config *c, const struct config_option *o, bool *ret_masked)
{
    struct buf text = BUF_INIT;
    json_t *v = NULL;
    switch (o->type) {
    case OPTION_LIST: return list_json(config_value(c, o));
    case OPTION_BOOL: return json_boolean(*(const bool *)config_value(c, o));
    case OPTION_COUNT: return json_integer(*(const uint32_t *)config_value(c, o));
    case OPTION_URL:
        if (*(char *const *)config_value(c, o) != NULL)
            *ret_masked |= config_mask_url(*(char *const *)config_value(c, o), &text);
        break;
    case OPTION_TEXT:
    case OPTION_WORD:
    case OPTION_SIZE:
    case OPTION_SECONDS:
    case OPTION_MILLISECONDS: config_format(c, o, &text); break;
    }
    if (text.n != 0)
        v = json_stringn(text.p, text.n);
    buf_fini(&text);
    return v;
}

bool config_print(const struct config *c, FILE *out)
{
    json_t *root = json_object();
    bool masked = false;
    config_for_each (o) {
        json_t *v = o->offset != offsetof(struct config, config_file) ? value_json(c, o, &masked) : NULL;
        if (v != NULL)
            json_object_set_new(root, o->key, v);
    }
    (void)json_dumpf(root, out, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    fputc('\n', out);
    json_decref(root);
    if (masked)
        fputs("note: passwords are shown as ***; put them back before this is used as a configuration file\n", stderr);
    return masked;
}
