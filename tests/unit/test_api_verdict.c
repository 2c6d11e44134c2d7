/* tests/unit/test_api_verdict.c: bodies about bans and revoked tokens. */
#include "gateway/api_verdict.h"

#include <stdio.h>

#include "tests/support/check.h"

#define NOW_MS 1700000000000u
#define KEEP_S 3600u

static struct arena arena;

static enum err read_ban(const char *body, struct ban_record *ret)
{
    struct error error = {0};
    enum err err = api_read_ban(slice_str(body), &arena, NOW_MS, ret, &error);
    assert_int_equal(err != OK, error.text[0] != '\0');
    return err;
}

static enum err read_revocation(const char *body, struct revocation *ret)
{
    struct error error = {0};
    enum err err = api_read_revocation(slice_str(body), &arena, NOW_MS, KEEP_S, ret, &error);
    assert_int_equal(err != OK, error.text[0] != '\0');
    return err;
}

static void bans(void **state)
{
    static const struct {
        const char *body, *reason;
        uint64_t until_ms;
    } good[] = {
        {"", "", 0},
        {"{}", "", 0},
        {"{\"reason\":null,\"until\":null}", "", 0},
        {"{\"reason\":\"sp\\u0061m \\\"x\\\"\",\"more\":[1]}", "spam \"x\"", 0},
        {"{\"until\":1700000000001}", "", NOW_MS + 1},
        {"{\"for\":90}", "", NOW_MS + 90000},
    };
    struct ban_record ban;
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(read_ban(good[i].body, &ban), OK);
        assert_slice(ban.reason, good[i].reason);
        assert_int_equal(ban.until_ms, good[i].until_ms);
    }
    static const char *const bad[] = {
        "[]",
        "{",
        "null",
        "{\"until\":1700000000000}",
        "{\"until\":-1}",
        "{\"until\":1e13}",
        "{\"until\":\"x\"}",
        "{\"until\":99999999999999999}",
        "{\"for\":0}",
        "{\"for\":null}",
        "{\"for\":1.5}",
        "{\"for\":99999999999}",
        "{\"for\":5,\"until\":1700000000001}",
        "{\"for\":5,\"until\":null}",
        "{\"reason\":7}",
        "{\"reason\":\"\"}",
        "{\"reason\":\"a\\nb\"}",
        "{\"reason\":\"\xff\"}",
        "{\"reason\":\"a\",\"reason\":\"b\"}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (read_ban(bad[i], &ban) == OK)
            fail_msg("%s", bad[i]);
}

static void reasons_have_a_length(void **state)
{
    char body[300];
    struct ban_record ban;
    (void)state;
    (void)snprintf(body, sizeof body, "{\"reason\":\"%0*d\"}", BAN_REASON_MAX, 0);
    assert_int_equal(read_ban(body, &ban), OK);
    assert_int_equal(ban.reason.n, BAN_REASON_MAX);
    (void)snprintf(body, sizeof body, "{\"reason\":\"%0*d\"}", BAN_REASON_MAX + 1, 0);
    assert_int_equal(read_ban(body, &ban), ERR_INVALID_NAME);
}

static void revocations(void **state)
{
    struct revocation what;
    (void)state;
    assert_int_equal(read_revocation("{\"jti\":\"t\\u00e4\"}", &what), OK);
    assert_slice(what.jti, "tä");
    assert_int_equal(what.user.n, 0);
    assert_int_equal(what.until_ms, NOW_MS + KEEP_S * 1000ull);
    assert_int_equal(read_revocation("{\"user\":\"alice\"}", &what), OK);
    assert_slice(what.user, "alice");
    assert_int_equal(what.before_s, 1700000001); /* what was issued in this very second too */
    assert_int_equal(read_revocation("{\"user\":\"alice\",\"before\":5,\"expires\":1700000009}", &what), OK);
    assert_int_equal(what.before_s, 5);
    assert_int_equal(what.until_ms, 1700000009000);
    static const char *const bad[] = {
        "",
        "{}",
        "[]",
        "{\"jti\":\"a\",\"user\":\"b\"}",
        "{\"jti\":\"a\",\"before\":5}",
        "{\"jti\":\"\"}",
        "{\"jti\":null}",
        "{\"jti\":7}",
        "{\"user\":\"a\\u0000\"}",
        "{\"user\":\"a\",\"before\":0}",
        "{\"user\":\"a\",\"before\":\"5\"}",
        "{\"user\":\"a\",\"expires\":1700000000}",
        "{\"user\":\"a\",\"expires\":999999999999}",
        "{\"user\":\"a\",\"user\":\"a\"}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (read_revocation(bad[i], &what) == OK)
            fail_msg("%s", bad[i]);
}

static int begin(void **state)
{
    (void)state;
    arena_init(&arena, 65536);
    return 0;
}

static int end(void **state)
{
    (void)state;
    arena_reset(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bans, begin, end),
        cmocka_unit_test_setup_teardown(reasons_have_a_length, begin, end),
        cmocka_unit_test_setup_teardown(revocations, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
