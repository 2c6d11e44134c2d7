/* tests/support/config_fixture.c: loading configurations with a fake environment. */
#include "tests/support/config_fixture.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/check.h"

#define ARGS_MAX 40

const char *const *config_fake_env;

char *config_fake_getenv(const char *name)
{
    static char value[256]; /* until the next call, as POSIX allows getenv */
    for (const char *const *e = config_fake_env; e != NULL && e[0] != NULL; e += 2) {
        if (strcmp(e[0], name) == 0) {
            (void)snprintf(value, sizeof value, "%s", e[1]);
            return value;
        }
    }
    return NULL;
}

enum err config_try(const char *words, struct config *ret, struct error *reterr)
{
    char text[1024], *argv[ARGS_MAX] = {NULL}, *save = NULL;
    char program[] = "xindao-gateway";
    int argc = 0;
    enum config_action action;
    argv[argc++] = program;
    (void)snprintf(text, sizeof text, "%s", words);
    for (char *w = strtok_r(text, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save)) {
        assert_true(argc < ARGS_MAX);
        for (char *p = w; *p != '\0'; p++)
            if (*p == '~')
                *p = ' ';
        argv[argc++] = w;
    }
    return config_load(argc, argv, config_fake_getenv, ret, &action, reterr);
}

struct config config_of(const char *words)
{
    struct config c;
    struct error err = {OK, ""};
    if (config_try(words, &c, &err) != OK)
        fail_msg("%s: %s", words, err.text);
    return c;
}

void config_refused(const char *words, const char *why)
{
    struct config c, before;
    struct error err = {OK, ""};
    memset(&c, 0x5a, sizeof c);
    memcpy(&before, &c, sizeof c);
    if (config_try(words, &c, &err) == OK)
        fail_msg("%s: accepted", words);
    if (strstr(err.text, why) == NULL)
        fail_msg("%s: \"%s\" does not say \"%s\"", words, err.text, why);
    assert_memory_equal(&c, &before, sizeof c);
}

const char *config_file_with(const char *text)
{
    static char path[64];
    (void)snprintf(path, sizeof path, "/tmp/xindao-test-config-%ld.json", (long)getpid());
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
    return path;
}

int config_cleanup(void **state)
{
    (void)state;
    config_fake_env = NULL;
    (void)unlink(config_file_with(""));
    return 0;
}
