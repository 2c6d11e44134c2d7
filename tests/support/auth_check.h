/* tests/support/auth_check.h: a checker of tokens with some keys, and what it says of a token. */
#ifndef XD_TESTS_AUTH_CHECK_H
#define XD_TESTS_AUTH_CHECK_H

#include "base/mem.h"
#include "gateway/auth/auth.h"
#include "tests/support/check.h"
#include "tests/support/token.h"

#define NOW    1700000000u
#define CLAIMS "{\"sub\":\"alice\",\"exp\":1700000600}"

static inline struct auth_jwt *jwt_with_config(struct auth_jwt_config cfg, const char *const *keys)
{
    struct error error = {0};
    char *options[8];
    for (cfg.key_count = 0; keys[cfg.key_count] != NULL; cfg.key_count++)
        options[cfg.key_count] = xstrdup(keys[cfg.key_count]);
    cfg.keys = options;
    struct auth_jwt *a = auth_jwt_create(&cfg, &error);
    for (size_t i = 0; i < cfg.key_count; i++)
        free(options[i]);
    if (a == NULL)
        fail_msg("%s", error.text);
    return a;
}

#define jwt_with(...)                                                                                                  \
    jwt_with_config((struct auth_jwt_config){.leeway_s = 30}, (const char *const[]){__VA_ARGS__, NULL})

/* Takes token. */
static inline void expect_at(const struct auth_jwt *a, char *token, enum auth_refusal want, uint64_t now_s, int line)
{
    struct auth_claims claims = {0};
    struct error error = {0};
    enum auth_refusal got = auth_jwt_check(a, slice_str(token), now_s, &claims, &error);
    if (got != want)
        fail_msg("line %d: %s, not %s: %s\n%.200s", line, auth_refusal_word(got), auth_refusal_word(want), error.text,
                 token);
    if (got == AUTH_OK)
        assert_non_null(claims.user);
    else
        assert_true(error.code == ERR_UNAUTHORIZED && error.text[0] != '\0' && claims.user == NULL);
    auth_claims_fini(&claims);
    free(token);
}

#define expect(a, token, want) expect_at(a, token, want, NOW, __LINE__)

#endif
