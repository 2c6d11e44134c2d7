/* tests/support/config_fixture.h: loading configurations with a fake environment. */
#ifndef XD_TESTS_CONFIG_FIXTURE_H
#define XD_TESTS_CONFIG_FIXTURE_H

#include "gateway/config.h"

/* name, value, …, NULL; borrowed. NULL: empty. */
extern const char *const *config_fake_env;
char *config_fake_getenv(const char *name);

/* Loads from a command line: words are split at spaces, `~` stands for a space inside a word. */
enum err config_try(const char *words, struct config *ret, struct error *reterr);
/* The same, and the test fails when it does. */
struct config config_of(const char *words);
/* The test fails unless loading fails with `why` in the error. */
void config_refused(const char *words, const char *why);

/* A file with this text; its name is good until the next call. */
const char *config_file_with(const char *text);
/* Teardown of tests that used files or the environment. */
int config_cleanup(void **state);

#endif
