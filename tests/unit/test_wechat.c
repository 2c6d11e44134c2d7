/* tests/unit/test_wechat.c: the file of mini-programs, and lists of addresses. */
#include "gateway/addresses.h"
#include "gateway/wechat/apps.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"

#define ONE "{\"appid\":\"wx1\",\"secret\":\"s1\"}"
#define TWO                                                                                                            \
    "{\"appid\":\"wx2\",\"secret\":\"s2\",\"login_seconds\":1,\"session_seconds\":2,\"watermark_seconds\":3,\"login_"  \
    "rate\":4}"

static void expect_default(const char *text, const char *appid)
{
    struct error error = {0};
    struct wechat_apps *apps = wechat_apps_parse(slice_str(text), &error);
    assert_string_equal(error.text, "");
    const struct wechat_app *app = wechat_apps_find(apps, SLICE_NONE);
    assert_string_equal(app != NULL ? app->appid : "none", appid);
    wechat_apps_unref(&apps);
    assert_null(apps);
}

static void the_default_is_the_only_one_or_the_one_that_is_named(void **state)
{
    (void)state;
    expect_default("{\"apps\":[" ONE "]}", "wx1");
    expect_default("{\"apps\":[" ONE "," TWO "]}", "none");
    expect_default("{\"default\":\"wx2\",\"apps\":[" ONE "," TWO "]}", "wx2");
}

static void an_app_has_what_the_file_says(void **state)
{
    struct error error;
    (void)state;
    struct wechat_apps *apps = wechat_apps_parse(SLICE("{\"apps\":[" ONE "," TWO "]}"), &error);
    const struct wechat_app *one = wechat_apps_find(apps, SLICE("wx1")), *two = wechat_apps_find(apps, SLICE("wx2"));
    assert_int_equal(wechat_apps_count(apps), 2);
    assert_int_equal(one->login_s, 30 * 86400);
    assert_int_equal(one->session_s, 30 * 86400);
    assert_int_equal(one->rate, 50);
    assert_string_equal(two->secret, "s2");
    assert_int_equal(two->login_s, 1);
    assert_int_equal(two->session_s, 2);
    assert_int_equal(two->watermark_s, 3);
    assert_int_equal(two->rate, 4);
    assert_null(wechat_apps_find(apps, SLICE("wx")));
    struct wechat_apps *again = wechat_apps_ref(apps);
    wechat_apps_unref(&apps);
    assert_string_equal(one->appid, "wx1");
    wechat_apps_unref(&again);
}

static void bad_files_are_refused(void **state)
{
    static const char *const bad[][2] = {
        {"[]", "\"apps\""},
        {"{\"apps\":[]}", "1 to 1000"},
        {"{\"apps\":[" ONE "],\"defualt\":1}", "defualt"},
        {"{\"apps\":[" ONE "],\"default\":\"wx3\"}", "none of the list"},
        {"{\"apps\":[" ONE "," ONE "]}", "two apps"},
        {"{\"apps\":[{\"secret\":\"hush\"}]}", "app 1"},
        {"{\"apps\":[{\"appid\":\"a b\",\"secret\":\"hush\"}]}", "app 1"},
        {"{\"apps\":[{\"appid\":\"wx1\"}]}", "secret"},
        {"{\"apps\":[{\"appid\":\"wx1\",\"secret\":\"hush \"}]}", "secret"},
        {"{\"apps\":[{\"appid\":\"wx1\",\"secret\":\"hush\",\"login_seconds\":0}]}", "1 to"},
        {"{\"apps\":[{\"appid\":\"wx1\",\"secret\":\"hush\",\"login_rate\":\"1\"}]}", "login_rate"},
        {"{\"apps\":[{\"appid\":\"wx1\",\"secret\":\"hush\" ]}", "line 1"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error error = {0};
        assert_null(wechat_apps_parse(slice_str(bad[i][0]), &error));
        if (strstr(error.text, bad[i][1]) == NULL || strstr(error.text, "hush") != NULL)
            fail_msg("%s: %s", bad[i][0], error.text);
    }
}

static bool in(const char *range, const char *ip)
{
    AUTO_FREE char *item = xstrdup(range);
    return address_in(&(struct strings){.items = &item, .count = 1}, slice_str(ip));
}

static void addresses_are_in_ranges(void **state)
{
    (void)state;
    assert_true(in("10.1.2.3", "10.1.2.3"));
    assert_false(in("10.1.2.3", "10.1.2.4"));
    assert_true(in("10.0.0.0/8", "10.255.0.1"));
    assert_false(in("10.0.0.0/8", "11.0.0.1"));
    assert_true(in("172.16.0.0/12", "172.31.255.255"));
    assert_false(in("172.16.0.0/12", "172.32.0.0"));
    assert_true(in("0.0.0.0/0", "1.2.3.4"));
    assert_false(in("0.0.0.0/0", "::1"));
    assert_true(in("::/0", "::1"));
    assert_true(in("2001:db8::/33", "2001:db8:7fff::1"));
    assert_false(in("2001:db8::/33", "2001:db8:8000::1"));
    assert_false(in("::/0", "1.2.3.4"));
    assert_false(in("10.0.0.0/8", ""));
    static const char *const bad[] = {"",       "/8",     "10.0.0.0/", "10.0.0.0/33",
                                      "::/129", "10.0.0", "localhost", "10.0.0.0/8 "};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(address_range_valid(slice_str(bad[i])));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_default_is_the_only_one_or_the_one_that_is_named),
        cmocka_unit_test(an_app_has_what_the_file_says),
        cmocka_unit_test(bad_files_are_refused),
        cmocka_unit_test(addresses_are_in_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
