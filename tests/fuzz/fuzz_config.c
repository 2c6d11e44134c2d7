/* tests/fuzz/fuzz_config.c: the configuration file: what loads must print as something that loads to the same. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "gateway/config_table.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static char *print(const struct config *c)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    assert(f != NULL);
    (void)config_print(c, f);
    (void)fclose(f);
    return text;
}

static void check_roundtrip(const struct config *c)
{
    struct config again;
    struct error err;
    AUTO_FREE char *first = print(c);
    config_init(&again);
    enum err e = config_parse_json(slice_str(first), "printed", &again, &err);
    assert(e == OK);
    AUTO_FREE char *second = print(&again);
    assert(strcmp(first, second) == 0);
    config_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct config c;
    struct error err = {OK, ""};
    config_init(&c);
    if (config_parse_json((struct slice){(const char *)p, n}, "fuzz", &c, &err) == OK) {
        if (strchr(c.broker, '@') == NULL) /* a password is not printed */
            check_roundtrip(&c);
        c.node = c.node != NULL ? c.node : xstrdup("node");
        if (config_check(&c, &err) != OK)
            assert(err.code != OK && err.text[0] != '\0');
    } else {
        assert(err.code != OK && err.text[0] != '\0');
    }
    config_fini(&c);
    return 0;
}
