/* tests/unit/test_config_text.c: what people read: --help, --print-config, the documentation, the sample file; and reload. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "gateway/config_table.h"
#include "tests/support/check.h"
#include "tests/support/config_fixture.h"

/* --- printing --- */

static char *printed(const struct config *c, bool *ret_masked)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    assert_non_null(f);
    *ret_masked = config_print(c, f);
    assert_int_equal(fclose(f), 0);
    return text;
}

static void print_loads_again(void **state)
{
    bool masked;
    (void)state;
    struct config c = config_of(
        "--tls-cert /a/\"b\\ --tls-key k --policy a~rate=1 --policy b --node n --lease 1234ms --redis-timeout 100ms "
        "--message-rate 0 "
        "--max-message-size 1025 --demo off --broker redis://h:1/2 --slow-consumer drop-oldest --log-level debug");
    AUTO_FREE char *first = printed(&c, &masked);
    assert_false(masked);
    config_fini(&c);
    char words[128];
    (void)snprintf(words, sizeof words, "--config %s", config_file_with(first));
    c = config_of(words);
    assert_string_equal(c.tls_cert, "/a/\"b\\");
    assert_int_equal(c.lease_ms, 1234);
    AUTO_FREE char *second = printed(&c, &masked);
    assert_string_equal(first, second);
    config_fini(&c);
}

static void print_masks_passwords(void **state)
{
    static const struct {
        const char *url, *shown;
    } cases[] = {{"redis://u:p@h:1/2", "redis://u:***@h:1/2"},
                 {"redis://:p@h:1", "redis://:***@h:1"},
                 {"redis://u:p/p@p@h:1", "redis://u:***@h:1"},
                 {"redis://p@h:1", "redis://***@h:1"},
                 {"redis://h:1", "redis://h:1"},
                 {"memory", "memory"},
                 {"redis://u:@h:1", "redis://u:@h:1"},
                 {"redis://@h:1", "redis://@h:1"},
                 {"redis+sentinel://a:1/m?sentinel_user=u&sentinel_password=p",
                  "redis+sentinel://a:1/m?sentinel_user=u&sentinel_password=***"},
                 {"redis+sentinel://u:p@a,b/m?sentinel_password=p&ca=f",
                  "redis+sentinel://u:***@a,b/m?sentinel_password=***&ca=f"},
                 {"redis+sentinel://a:1/m?sentinel_password=p@p", "redis+sentinel://a:***@p"}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf shown = BUF_INIT;
        assert_int_equal(config_mask_url(cases[i].url, &shown), strstr(cases[i].shown, "***") != NULL);
        assert_slice(buf_slice(&shown), cases[i].shown);
        buf_fini(&shown);
    }
    bool masked;
    struct config c = config_of("--insecure --broker redis://user:secret@h:1");
    AUTO_FREE char *text = printed(&c, &masked);
    assert_true(masked);
    assert_null(strstr(text, "secret"));
    assert_non_null(strstr(text, "redis://user:***@h:1"));
    config_fini(&c);
}

static void help_names_everything(void **state)
{
    AUTO_FREE char *text = NULL;
    size_t size = 0;
    (void)state;
    FILE *f = open_memstream(&text, &size);
    config_print_help(f);
    assert_int_equal(fclose(f), 0);
    config_for_each (o) {
        char flag[80], env[CONFIG_ENV_NAME], notes[200];
        (void)snprintf(flag, sizeof flag, "\n  --%s ", o->key);
        config_env_name(o, env);
        (void)snprintf(notes, sizeof notes, "[%s%s%s%s]\n", o->def != NULL ? o->def : "", o->def != NULL ? ", " : "",
                       env, o->reloadable ? ", reloadable" : "");
        if (strstr(text, flag) == NULL || strstr(text, notes) == NULL)
            fail_msg("%s %s is not in --help", flag, notes);
    }
    for (size_t i = 0; i < config_verb_count; i++)
        assert_non_null(strstr(text, config_verbs[i].flag));
    for (const char *line = text; *line != '\0'; line += strcspn(line, "\n") + 1)
        assert_true(strcspn(line, "\n") <= 116);
}

/* --- reload --- */

static void reload_takes_what_may_change(void **state)
{
    char ignored[128];
    (void)state;
    struct config c = config_of("--tls-cert a --tls-key b --node n --heartbeat 10 --policy x~rate=1 --demo on");
    struct config fresh =
        config_of("--tls-cert a2 --tls-key b --node other --heartbeat 20 --policy y~rate=1 --policy z "
                  "--demo off --lease 9s --log-level debug");
    char *key = c.tls_key;
    config_reload(&c, &fresh, ignored, sizeof ignored);
    config_fini(&fresh);
    assert_string_equal(ignored, "node,lease");
    assert_string_equal(c.node, "n");
    assert_int_equal(c.lease_ms, 6000);
    assert_string_equal(c.tls_cert, "a2");
    assert_ptr_equal(c.tls_key, key); /* what did not change keeps its memory */
    assert_int_equal(c.heartbeat_s, 20);
    assert_int_equal(c.policies.count, 2);
    assert_string_equal(c.policies.items[1], "z");
    assert_false(c.demo);
    assert_int_equal(c.log_level, LOG_DEBUG);
    config_fini(&c);
}

static void reload_without_change_ignores_nothing(void **state)
{
    char ignored[16] = "x";
    (void)state;
    struct config c = config_of("--insecure"), fresh = config_of("--insecure");
    config_reload(&c, &fresh, ignored, sizeof ignored);
    assert_string_equal(ignored, "");
    config_fini(&fresh);
    config_fini(&c);
}

static void reload_does_not_switch_tls(void **state)
{
    char ignored[64];
    (void)state;
    struct config c = config_of("--tls-cert a --tls-key b"), fresh = config_of("--insecure");
    config_reload(&c, &fresh, ignored, sizeof ignored);
    assert_string_equal(ignored, "tls-cert,tls-key,insecure");
    assert_string_equal(c.tls_cert, "a");
    assert_false(c.insecure);
    config_reload(&c, &fresh, ignored, 12); /* a short buffer is cut, not overrun */
    assert_string_equal(ignored, "tls-cert,tl");
    config_fini(&fresh);
    config_fini(&c);
}

/* --- what people read --- */

static char *source_file(const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", XINDAO_SOURCE_DIR, name);
    FILE *f = fopen(path, "r");
    if (f == NULL)
        fail_msg("cannot open %s", path);
    struct buf b = BUF_INIT;
    size_t n;
    while ((n = fread(buf_reserve(&b, 4096), 1, 4096, f)) != 0)
        b.n += n;
    (void)fclose(f);
    buf_append_char(&b, '\0');
    return b.p;
}

/* docs/configuration.md has exactly these rows, one per option. The rows that are missing are printed. */
static void documentation_has_every_option(void **state)
{
    AUTO_FREE char *docs = source_file("docs/configuration.md");
    size_t options = 0, rows = 0, missing = 0;
    (void)state;
    config_for_each (o) {
        char env[CONFIG_ENV_NAME];
        struct buf row = BUF_INIT;
        config_env_name(o, env);
        buf_printf(&row, "| `%s` | `%s` | ", o->key, env);
        config_expects(o, &row);
        buf_printf(&row, " | %s%s%s | %s | %s |\n", o->def != NULL ? "`" : "", o->def != NULL ? o->def : "",
                   o->def != NULL ? "`" : "", o->reloadable ? "yes" : "", o->help);
        buf_append_char(&row, '\0');
        if (strstr(docs, row.p) == NULL) {
            print_error("%s", row.p);
            missing++;
        }
        options++;
        buf_fini(&row);
    }
    for (const char *p = strstr(docs, "\n| `"); p != NULL; p = strstr(p + 1, "\n| `"))
        rows += strstr(p, "XINDAO_") != NULL && strcspn(p + 1, "\n") > (size_t)(strstr(p, "XINDAO_") - p);
    assert_int_equal(missing, 0);
    assert_int_equal(rows, options); /* no row of an option that is gone */
}

/* The sample file loads, and shows whatever an operator would change. */
static void sample_file_loads(void **state)
{
    AUTO_FREE char *text = source_file("deploy/gateway.json");
    char words[512];
    (void)state;
    (void)snprintf(words, sizeof words, "--config %s/deploy/gateway.json", XINDAO_SOURCE_DIR);
    struct config c = config_of(words);
    config_fini(&c);
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value) assert_non_null(config_find(slice_str(key)));
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(print_loads_again, config_cleanup),
        cmocka_unit_test(print_masks_passwords),
        cmocka_unit_test(help_names_everything),
        cmocka_unit_test(reload_takes_what_may_change),
        cmocka_unit_test(reload_without_change_ignores_nothing),
        cmocka_unit_test(reload_does_not_switch_tls),
        cmocka_unit_test(documentation_has_every_option),
        cmocka_unit_test(sample_file_loads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
