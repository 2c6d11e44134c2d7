/* tests/unit/test_policy.c: patterns, policy lines, and which policy a room gets. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "gateway/policy.h"
#include "tests/support/check.h"

static bool match(const char *pattern, const char *name)
{
    return policy_match(pattern, slice_str(name));
}

static void matches_whole_names(void **state)
{
    (void)state;
    assert_true(match("room", "room"));
    assert_false(match("room", "rooms"));
    assert_false(match("rooms", "room"));
    assert_false(match("room", "Room"));
    assert_false(match("", "x"));
    assert_true(match("", ""));
}

static void star_matches_any_run(void **state)
{
    (void)state;
    assert_true(match("*", ""));
    assert_true(match("*", "anything at all"));
    assert_true(match("game.*", "game."));
    assert_true(match("game.*", "game.1.2"));
    assert_false(match("game.*", "game"));
    assert_true(match("*.log", "a.log.log"));
    assert_true(match("a*b*c", "aXbYbZc"));
    assert_false(match("a*b*c", "aXcYb"));
    assert_true(match("**", "x"));
    assert_true(match("*a", "aaaa"));
    assert_false(match("*a", "aaab"));
}

static void question_mark_is_one_character(void **state)
{
    (void)state;
    assert_true(match("?", "a"));
    assert_false(match("?", ""));
    assert_false(match("?", "ab"));
    assert_true(match("?", "\xe4\xb8\xad"));
    assert_true(match("\xe7\xbe\xa4?", "\xe7\xbe\xa4\xf0\x9f\x98\x80"));
    assert_true(match("*?", "\xe4\xb8\xad"));
    assert_false(match("*??", "\xe4\xb8\xad")); /* never a part of a character */
    assert_true(match("*?b", "aab"));
}

/* The obvious recursive matcher, right but exponential. */
static bool slow_match(const char *p, struct slice name)
{
    if (*p == '\0')
        return name.n == 0;
    if (*p == '*')
        return slow_match(p + 1, name) || (name.n != 0 && slow_match(p, slice_from(name, 1)));
    return name.n != 0 && (*p == '?' || *p == name.p[0]) && slow_match(p + 1, slice_from(name, 1));
}

static void agrees_with_the_obvious_matcher(void **state)
{
    static const char letters[] = "aab?*";
    uint64_t random = 7;
    int matched = 0;
    (void)state;
    for (int round = 0; round < 20000; round++) {
        char pattern[9] = "", name[9] = "";
        for (size_t i = 0, n = check_random(&random) % 8; i < n; i++)
            pattern[i] = letters[check_random(&random) % 5];
        for (size_t i = 0, n = check_random(&random) % 8; i < n; i++)
            name[i] = letters[check_random(&random) % 3];
        bool want = slow_match(pattern, slice_str(name));
        matched += want;
        if (match(pattern, name) != want)
            fail_msg("%s %s", pattern, name);
    }
    assert_in_range(matched, 500, 19500);
}

static void hostile_pattern_stays_cheap(void **state)
{
    char pattern[256], name[256];
    (void)state;
    for (size_t i = 0; i < 255; i++)
        pattern[i] = i % 2 == 0 ? '*' : 'a';
    pattern[254] = 'b';
    pattern[255] = '\0';
    memset(name, 'a', 255);
    for (int i = 0; i < 1000; i++) /* exponential matchers do not return */
        assert_false(policy_match(pattern, (struct slice){name, 255}));
}

static struct policies *create(const char *const *lines, size_t count)
{
    struct error err = {OK, ""};
    char **copies = xcalloc(count + 1, sizeof *copies);
    for (size_t i = 0; i < count; i++)
        copies[i] = xstrdup(lines[i]);
    struct policies *p = policies_create(copies, count, false, &err);
    for (size_t i = 0; i < count; i++)
        free(copies[i]);
    free(copies);
    if (p == NULL)
        fail_msg("%s", err.text);
    return p;
}

static const struct policy *find(const struct policies *p, const char *room)
{
    return policies_find(p, slice_str(room));
}

static void without_lines_everything_has_the_defaults(void **state)
{
    struct policies *p = create(NULL, 0);
    const struct policy *room = find(p, "lobby");
    (void)state;
    assert_string_equal(room->pattern, "*");
    assert_int_equal(room->join, WHO_ANYONE);
    assert_int_equal(room->publish, WHO_MEMBERS);
    assert_true(room->presence);
    assert_true(room->notices);
    assert_int_equal(room->slow, POLICY_SLOW_DEFAULT);
    assert_int_equal(room->rate + room->size + room->max_members, 0);
    assert_int_equal(room->retain_count, 100);
    assert_int_equal(room->retain_age_s, 120);
    assert_int_equal(room->public_history, HISTORY_DEFAULT);

    const struct policy *all = find(p, "$all");
    assert_int_equal(all->publish, WHO_ANYONE);
    assert_int_equal(all->join, WHO_NOBODY);
    assert_ptr_equal(find(p, "$user:alice"), all);
    assert_ptr_equal(find(p, "$session:x"), all);
    policies_destroy(&p);
    assert_null(p);
    policies_destroy(&p);
}

static void every_key_is_understood(void **state)
{
    static const char *const lines[] = {
        "  a.*\tjoin=nobody publish=nobody presence=off notices=off slow=drop-oldest "
        "rate=20 size=4k  max-members=3 retain-count=100 retain-age=10m public-history=on ",
        "b public-history=off publish=anyone slow=resume join=anyone presence=on notices=on"};
    struct policies *p = create(lines, 2);
    const struct policy *a = find(p, "a.1"), *b = find(p, "b");
    (void)state;
    assert_string_equal(a->pattern, "a.*");
    assert_int_equal(a->join, WHO_NOBODY);
    assert_int_equal(a->publish, WHO_NOBODY);
    assert_false(a->presence);
    assert_false(a->notices);
    assert_int_equal(a->slow, POLICY_SLOW_DROP_OLDEST);
    assert_int_equal(a->rate, 20);
    assert_int_equal(a->size, 4096);
    assert_int_equal(a->max_members, 3);
    assert_int_equal(a->retain_count, 100);
    assert_int_equal(a->retain_age_s, 600);
    assert_int_equal(a->public_history, HISTORY_ON);
    assert_int_equal(b->public_history, HISTORY_OFF);
    assert_int_equal(b->publish, WHO_ANYONE);
    assert_int_equal(b->slow, POLICY_SLOW_RESUME);
    assert_int_equal(b->replicas, 0);
    policies_destroy(&p);
}

static void first_match_wins(void **state)
{
    static const char *const lines[] = {"game.lobby rate=1", "game.* rate=2", "game.lobby rate=3", "* rate=4"};
    struct policies *p = create(lines, 4);
    (void)state;
    assert_int_equal(find(p, "game.lobby")->rate, 1);
    assert_int_equal(find(p, "game.7")->rate, 2);
    assert_int_equal(find(p, "chat")->rate, 4);
    policies_destroy(&p);
}

static void durability_is_fast_or_so_many_replicas(void **state)
{
    static const char *const lines[] = {"a durability=fast", "b durability=replicated:1",
                                        "$user:* retain-count=10 durability=replicated:8"};
    struct policies *p = create(lines, 1);
    (void)state;
    assert_null(policies_replicated(p));
    policies_destroy(&p);
    p = create(lines, 3);
    assert_int_equal(find(p, "a")->replicas, 0);
    assert_int_equal(find(p, "b")->replicas, 1);
    assert_int_equal(find(p, "$user:bob")->replicas, 8);
    assert_int_equal(find(p, "other")->replicas, 0);
    assert_ptr_equal(policies_replicated(p), find(p, "b"));
    policies_destroy(&p);
}

static void the_backend_hears_of_what_the_line_says(void **state)
{
    static const char *const lines[] = {"a events=none", "b events=join,message publish=backend",
                                        "$user:* events=leave"};
    struct policies *p = create(lines, 1);
    (void)state;
    assert_null(policies_with_events(p));
    assert_null(policies_by_backend(p));
    policies_destroy(&p);
    p = create(lines, 3);
    assert_int_equal(find(p, "b")->events, BIT(POLICY_EVENT_JOIN) | BIT(POLICY_EVENT_MESSAGE));
    assert_int_equal(find(p, "$user:bob")->events, BIT(POLICY_EVENT_LEAVE));
    assert_int_equal(find(p, "other")->events, 0);
    assert_ptr_equal(policies_with_events(p), find(p, "b"));
    assert_ptr_equal(policies_by_backend(p), find(p, "b"));
    policies_destroy(&p);
}

static void star_does_not_reach_rooms_of_the_server(void **state)
{
    static const char *const lines[] = {"* publish=nobody", "?all publish=nobody", "$user:* rate=5",
                                        "$all publish=nobody"};
    struct policies *p = create(lines, 4);
    (void)state;
    assert_int_equal(find(p, "$all")->publish, WHO_NOBODY);
    assert_int_equal(find(p, "$user:bob")->rate, 5);
    assert_int_equal(find(p, "$user:bob")->publish, WHO_ANYONE);
    assert_int_equal(find(p, "$session:x")->publish, WHO_ANYONE);
    policies_destroy(&p);
}

static void bad_lines_are_refused_with_a_reason(void **state)
{
    static const struct {
        const char *line, *why;
    } cases[] = {
        {"", "pattern must be"},
        {"   ", "pattern must be"},
        {"\xff", "pattern must be"},
        {"a\x01", "pattern must be"},
        {"rate=5", "the pattern comes first"},
        {"a rate", "\"rate\" is not KEY=VALUE"},
        {"a rats=5", "unknown key \"rats\"; did you mean rate?"},
        {"a max_members=5", "did you mean max-members?"},
        {"a quite-something=5", "unknown key \"quite-something\""},
        {"a =5", "unknown key"},
        {"a rate=", "rate=: must be messages per second"},
        {"a rate=-1", "rate=-1: must be"},
        {"a rate=4294967296", "must be messages"},
        {"a size=1x", "must be a size"},
        {"a size=4g", "must be a size"},
        {"a retain-age=500ms", "must be a time"},
        {"a join=members", "must be anyone, token or nobody"},
        {"a publish=all", "must be anyone, members, token, backend or nobody"},
        {"a join=backend", "must be anyone, token or nobody"},
        {"a events=", "must be none, or some of message, join, leave"},
        {"a events=message,", "must be none, or some of message, join, leave"},
        {"a events=message,message", "must be none, or some of message, join, leave"},
        {"a events=connect", "must be none, or some of message, join, leave"},
        {"a slow=later", "must be default, disconnect, drop-oldest or resume"},
        {"a presence=maybe", "must be on or off"},
        {"a public-history=members", "must be default, on or off"},
        {"a rate=1 rate=1", "rate is given twice"},
        {"a durability=replicated", "must be fast, or replicated:N with N from 1 to 8"},
        {"a durability=replicated:0", "durability=replicated:0: must be fast, or"},
        {"a durability=replicated:9", "must be fast, or"},
        {"a durability=replicated:-1", "must be fast, or"},
        {"a durability=replicated:1x", "must be fast, or"},
        {"a durability=fast:1", "must be fast, or"},
        {"a durability=replicated:1 retain-count=0", "there is no log for the replicas to hold"},
        {"$all durability=replicated:1", "there is no log for the replicas to hold"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {OK, ""};
        char *lines[] = {xstrdup("good rate=1"), xstrdup(cases[i].line)};
        struct policies *p = policies_create(lines, 2, false, &err);
        if (p != NULL || err.code != ERR_BAD_REQUEST || strstr(err.text, cases[i].why) == NULL)
            fail_msg("\"%s\": %s", cases[i].line, p != NULL ? "accepted" : err.text);
        free(lines[0]);
        free(lines[1]);
    }
}

static void patterns_may_be_as_long_as_names(void **state)
{
    char line[300];
    struct error err = {OK, ""};
    (void)state;
    memset(line, 'x', sizeof line);
    line[256] = '\0';
    char *lines[] = {line};
    assert_null(policies_create(lines, 1, false, &err));
    line[255] = '\0';
    struct policies *p = policies_create(lines, 1, false, &err);
    assert_non_null(p);
    policies_destroy(&p);
}

static void rooms_that_all_are_in_are_kept_for_those_who_come_back(void **state)
{
    struct error err = {OK, ""};
    char *lines[] = {xstrdup("$all publish=nobody"), xstrdup("$namespace:/bare retain-count=0")};
    (void)state;
    struct policies *p = policies_create(lines, 2, true, &err);
    assert_non_null(p);
    assert_int_equal(find(p, "$all")->publish, WHO_NOBODY);
    assert_int_equal(find(p, "$all")->retain_count, 1000);
    assert_int_equal(find(p, "$namespace:/")->retain_count, 1000);
    assert_int_equal(find(p, "$namespace:/")->retain_age_s, 120);
    assert_int_equal(find(p, "$namespace:/bare")->retain_count, 0);
    assert_int_equal(find(p, "$user:ann")->retain_count, 0);
    policies_destroy(&p);
    p = policies_create(lines, 1, false, &err);
    assert_int_equal(find(p, "$all")->retain_count, 0);
    assert_int_equal(find(p, "$namespace:/")->retain_count, 0);
    policies_destroy(&p);
    free(lines[0]);
    free(lines[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_whole_names),
        cmocka_unit_test(star_matches_any_run),
        cmocka_unit_test(question_mark_is_one_character),
        cmocka_unit_test(agrees_with_the_obvious_matcher),
        cmocka_unit_test(hostile_pattern_stays_cheap),
        cmocka_unit_test(without_lines_everything_has_the_defaults),
        cmocka_unit_test(every_key_is_understood),
        cmocka_unit_test(first_match_wins),
        cmocka_unit_test(rooms_that_all_are_in_are_kept_for_those_who_come_back),
        cmocka_unit_test(durability_is_fast_or_so_many_replicas),
        cmocka_unit_test(the_backend_hears_of_what_the_line_says),
        cmocka_unit_test(star_does_not_reach_rooms_of_the_server),
        cmocka_unit_test(bad_lines_are_refused_with_a_reason),
        cmocka_unit_test(patterns_may_be_as_long_as_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
