/* tests/unit/test_api_server.c: the server API: who may use it, what it publishes, what it does with sessions, and how it says no. */
#include <stdio.h>
#include <stdlib.h>

#include "gateway/api_keys.h"
#include "gateway/metrics.h"
#include "tests/support/api_fixture.h"
#include "tests/support/check.h"

static void whoever_has_no_good_key_is_not_let_in(void **state)
{
    static const char *const bad[] = {NULL,
                                      "",
                                      "xdk_",
                                      "xdk_0123456789abcdef0123456789abcdee",
                                      "XDK_0123456789abcdef0123456789abcdef",
                                      "xdk_0123456789abcdef0123456789abcdef0",
                                      "eyJhbGciOiJub25lIn0.e30.",
                                      "xdk_\xc3\xa0",
                                      "xdk_0123456789abcdef0123456789abcdef xdk_"};
    struct core c;
    core_init(&c, ARGS(NULL));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        key = bad[i];
        uint64_t before = metrics->api_refused;
        has(post(&c, "publish", "{\"room\":\"r\",\"data\":1}", 401),
            "{\"code\":\"unauthorized\",\"message\":\"an API key is needed\"}");
        has(answer.headers, "WWW-Authenticate: Bearer\r\n");
        assert_int_equal(metrics->api_refused, before + 1);
    }
    key = "xdk_nobody"; /* although the route is open to clients: whoever shows a key must have one */
    (void)ask(&c, "GET", "/api/v1/rooms", "", 401);
    key = NULL;
    (void)ask(&c, "GET", "/api/v1/rooms", "", 200);
    core_fini(&c);
    (void)state;
}

static void scopes_and_rooms_bound_a_key(void **state)
{
    struct core c;
    core_init(&c, ARGS("--policy", "chat.*", "--policy", "secret.* presence=off public-history=off"));
    key = READER;
    has(post(&c, "publish", "{\"room\":\"r\",\"data\":1}", 403), "has not the scope publish");
    (void)ask(&c, "DELETE", "/api/v1/sessions/abc", "", 403);
    (void)ask(&c, "GET", "/api/v1/rooms/secret.1", "",
              200); /* what policy hides from clients is not hidden from backends */
    (void)ask(&c, "GET", "/api/v1/rooms/secret.1/history", "", 200);
    key = CHAT;
    has(post(&c, "publish", "{\"room\":\"chat.1\",\"data\":1}", 200), "{\"room\":\"chat.1\",\"position\":\"1.");
    has(post(&c, "publish", "{\"room\":\"r\",\"data\":1}", 403), "not for this room");
    (void)post(&c, "broadcast", "{\"data\":1}", 403);
    (void)post(&c, "send", "{\"to\":{\"session\":\"abc\"},\"data\":1}", 403);
    (void)post(&c, "send", "{\"to\":{\"user\":\"bob\"},\"data\":1}", 404);
    (void)ask(&c, "GET", "/api/v1/rooms/lobby", "", 403);
    (void)ask(&c, "GET", "/api/v1/rooms/lobby/history", "", 403);
    (void)ask(&c, "GET", "/api/v1/rooms/chat.1/history", "", 200);
    (void)ask(&c, "PUT", "/api/v1/sessions/abc/rooms/lobby", "", 403);
    (void)ask(&c, "PUT", "/api/v1/sessions/abc/rooms/chat.1", "", 404);
    core_fini(&c);
    (void)state;
}

static void a_key_may_ask_so_often(void **state)
{
    struct core c;
    core_init(&c, ARGS(NULL));
    key = SLOW;
    for (int i = 0; i < 3; i++)
        (void)post(&c, "broadcast", "{\"data\":1}", 200);
    has(post(&c, "broadcast", "{\"data\":1}", 429), "\"rate_limited\"");
    has(answer.headers, "Retry-After: 1\r\n");
    loop_fake_advance(&c.loop, 1000);
    has(post(&c, "publish/batch",
             "{\"messages\":[{\"room\":\"r\",\"data\":1},{\"room\":\"r\",\"data\":2},{\"room\":\"r\",\"data\":3},{"
             "\"room\":\"r\",\"data\":4}]}",
             200),
        "{\"room\":\"\",\"code\":\"rate_limited\"");
    core_fini(&c);
    (void)state;
}

static void without_keys_there_is_no_server_api(void **state)
{
    struct core c;
    core_init(&c, NULL);
    has(post(&c, "publish", "{\"room\":\"r\",\"data\":1}", 501), "\"unsupported\"");
    (void)ask(&c, "GET", "/api/v1/rooms", "", 200);
    core_fini(&c);
    (void)state;
}

static void a_port_of_its_own_is_the_only_one(void **state)
{
    struct core c;
    core_init(&c, ARGS("--api-listen", "127.0.0.1:1"));
    has(post(&c, "publish", "{\"room\":\"r\",\"data\":1}", 404), "nothing here");
    (void)ask(&c, "GET", "/api/v1/rooms", "", 200);
    by_api_listener = true;
    (void)post(&c, "publish", "{\"room\":\"r\",\"data\":1}", 200);
    (void)ask(&c, "GET", "/readyz", "", 200);
    (void)ask(&c, "GET", "/", "", 404);
    core_fini(&c);
    (void)state;
}

static void requests_have_names_and_methods(void **state)
{
    struct core c;
    core_init(&c, ARGS(NULL));
    request_id = "order-17/a";
    (void)post(&c, "broadcast", "{\"data\":1}", 200);
    has(answer.headers, "X-Request-Id: order-17/a\r\n");
    request_id = "a b";
    (void)post(&c, "broadcast", "{", 400);
    if (strstr(answer.headers, "a b") != NULL || strstr(answer.headers, "X-Request-Id: ") == NULL)
        fail_msg("`%s`", answer.headers);
    (void)ask(&c, "GET", "/api/v1/publish", "", 405);
    has(answer.headers, "Allow: POST\r\n");
    (void)ask(&c, "POST", "/api/v1/rooms/a", "", 405);
    has(answer.headers, "Allow: GET, HEAD");
    (void)ask(&c, "GET", "/api/v1/", "", 404);
    (void)ask(&c, "GET", "/api/v1/rooms/a/b/c", "", 404);
    (void)ask(&c, "GET", "/api/v2/rooms", "", 404);
    core_fini(&c);
    (void)state;
}

static void key_files_are_read_strictly(void **state)
{
#define HASH "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define KEY  "{\"name\":\"a\",\"sha256\":\"" HASH "\",\"scopes\":[\"admin\"]"
    static const char *const bad[][2] = {
        {"", "line 1"},
        {"[]", "\"keys\""},
        {"{\"keys\":[" KEY ",\"name\":\"secret\"}]}", "this member is there already"},
        {"{\"keys\":[]}", "\"keys\""},
        {"{\"keys\":[1]}", "key 1 of the list has no \"name\""},
        {"{\"keys\":[{\"name\":\"\"}]}", "no \"name\""},
        {"{\"keys\":[{\"name\":\"a\"}]}", "key a: \"sha256\""},
        {"{\"keys\":[{\"name\":\"a\",\"sha256\":\"xdk_clear\"}]}", "key a: \"sha256\""},
        {"{\"keys\":[{\"name\":\"a\",\"sha256\":\"" HASH "\"}]}", "key a: \"scopes\""},
        {"{\"keys\":[{\"name\":\"a\",\"sha256\":\"" HASH "\",\"scopes\":[]}]}", "key a: \"scopes\""},
        {"{\"keys\":[{\"name\":\"a\",\"sha256\":\"" HASH "\",\"scopes\":[\"root\"]}]}", "no scope \"root\""},
        {"{\"keys\":[" KEY ",\"rooms\":[]}]}", "key a: \"rooms\""},
        {"{\"keys\":[" KEY ",\"rooms\":[7]}]}", "key a: a pattern"},
        {"{\"keys\":[" KEY ",\"room\":[\"x\"]}]}", "a: there is no member \"room\""},
        {"{\"keys\":[" KEY ",\"rate\":-1}]}", "key a: \"rate\""},
        {"{\"keys\":[" KEY "}," KEY "}]}", "two keys are called a"},
        {"{\"keys\":[" KEY "},{\"name\":\"b\",\"sha256\":\"" HASH "\",\"scopes\":[\"admin\"]}]}",
         "keys a and b are the same"},
        {"{\"keys\":[" KEY "}],\"extra\":1}", "the file: there is no member \"extra\""},
    };
    struct error error;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_null(api_keys_parse(slice_str(bad[i][0]), &error));
        has(error.text, bad[i][1]);
    }
    struct api_keys *k = api_keys_parse(SLICE("{\"keys\":[" KEY "}]}"), &error);
    assert_non_null(k);
    assert_int_equal(api_keys_count(k), 1);
    assert_null(api_keys_find(k, SLICE("xdk_anything")));
    assert_null(api_keys_find(k, SLICE(HASH)));
    api_keys_unref(&k);
    assert_null(api_keys_load("/nowhere/keys.json", &error));
    has(error.text, "/nowhere/keys.json");
    (void)state;
}

static void keys_are_read_again(void **state)
{
    struct core c;
    struct error error = {0};
    core_init(&c, ARGS(NULL));
    (void)post(&c, "broadcast", "{\"data\":1}", 200);
    FILE *f = fopen(KEYS_FILE, "w");
    assert_non_null(f);
    (void)fputs("{", f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(gateway_reload_api_keys(c.gw, &error), ERR_BAD_REQUEST);
    (void)post(&c, "broadcast", "{\"data\":1}", 200);
    f = fopen(KEYS_FILE, "w");
    assert_non_null(f);
    (void)fputs("{\"keys\":[", f);
    put_key(f, "other", READER, "\"scopes\":[\"publish\"]");
    (void)fputs("]}", f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(gateway_reload_api_keys(c.gw, &error), OK);
    (void)post(&c, "broadcast", "{\"data\":1}", 401);
    key = READER;
    (void)post(&c, "broadcast", "{\"data\":1}", 200);
    core_fini(&c);
    (void)write_keys(state);
}

/* --- publishing --- */

static void messages_reach_rooms_users_sessions_and_all(void **state)
{
    struct core c;
    struct client cl[2];
    char body[200];
    lobby_open_pair(&c, cl, ARGS("--policy", "lobby publish=nobody join=anyone"));
    has(post(&c, "publish", "{\"room\":\"lobby\",\"event\":\"e\",\"data\":{ \"a\" : 1.50 }}", 200),
        "\"position\":\"1.");
    for (int i = 0; i < 2; i++)
        client_expect(&cl[i], "\"room\":\"lobby\"", "\"event\":\"e\"", "\"from\":null", "\"data\":{ \"a\" : 1.50 }}");
    (void)snprintf(body, sizeof body, "{\"room\":\"lobby\",\"data\":2,\"except\":\"%s\"}", cl[0].sid);
    (void)post(&c, "publish", body, 200);
    client_expect_nothing(&cl[0]);
    client_expect(&cl[1], "\"data\":2}");
    has(post(&c, "send", "{\"to\":{\"user\":\"alice\"},\"data\":3}", 200), "\"room\":\"$user:alice\"");
    client_expect(&cl[0], "\"room\":\"$user:alice\"", "\"data\":3}");
    (void)snprintf(body, sizeof body, "{\"to\":{\"sessions\":[\"%s\",\"gone\"]},\"data\":4}", cl[1].sid);
    has(post(&c, "send", body, 200),
        "{\"room\":\"$session:gone\",\"code\":\"not_found\",\"message\":\"no such session\"}]}");
    client_expect(&cl[1], "\"data\":4}");
    has(post(&c, "send", "{\"to\":{\"users\":[\"alice\",\"bob\"]},\"data\":5}", 200),
        "{\"results\":[{\"room\":\"$user:alice\",");
    client_expect(&cl[0], "\"data\":5}");
    client_expect(&cl[1], "\"data\":5}");
    has(post(&c, "broadcast", "{\"data\":6}", 200), "{\"room\":\"$all\"");
    client_expect(&cl[0], "\"room\":\"$all\"", "\"data\":6}");
    client_expect(&cl[1], "\"room\":\"$all\"", "\"data\":6}");
    client_vanish(&cl[0]);
    client_vanish(&cl[1]);
    core_fini(&c);
    (void)state;
}

static void bytes_are_published_too(void **state)
{
    static const char *const bad[] = {"AA=", "A", "A===", "====", "AA=A", "AB==", "AAB=", "A A=", "AA==AA==", "-_=="};
    struct core c;
    char body[100];
    core_init(&c, ARGS(NULL));
    (void)post(&c, "publish", "{\"room\":\"r\",\"data_base64\":\"+++\\/AA==\"}", 200);
    (void)post(&c, "publish", "{\"room\":\"r\",\"data_base64\":\"\"}", 200);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        (void)snprintf(body, sizeof body, "{\"room\":\"r\",\"data_base64\":\"%s\"}", bad[i]);
        has(post(&c, "publish", body, 400), "not padded base64");
    }
    const char *text = ask(&c, "GET", "/api/v1/rooms/r/history", "", 200);
    has(text, "\"data_base64\":\"+++/AA==\"}");
    has(text, "\"data_base64\":\"\"}");
    core_fini(&c);
    (void)state;
}

static void the_same_key_publishes_once(void **state)
{
    struct core c;
    core_init(&c, ARGS("--policy", "small size=4"));
    (void)post(&c, "publish", "{\"room\":\"r\",\"data\":1,\"key\":\"k1\"}", 200);
    has(post(&c, "publish", "{\"room\":\"r\",\"data\":2,\"key\":\"k1\"}", 200), "\"repeated\":true}");
    has(ask(&c, "GET", "/api/v1/rooms/r", "", 200), "\"position\":\"1.");
    const char *text =
        post(&c, "publish/batch",
             "{\"messages\":[{\"room\":\"r\",\"data\":3},{\"room\":\"r\"},{\"room\":\"small\",\"data\":12345},7,"
             "{\"room\":\"r\",\"data\":4,\"key\":\"k1\"},{\"room\":\"q\",\"data\":5}]}",
             200);
    has(text, "{\"results\":[{\"room\":\"r\",\"position\":\"2.");
    has(text, "},{\"room\":\"\",\"code\":\"bad_request\",\"message\":\"a message has either data or data_base64\"},"
              "{\"room\":\"small\",\"code\":\"too_large\",");
    has(text, "{\"room\":\"\",\"code\":\"bad_request\",\"message\":\"a message must be an "
              "object\"},{\"room\":\"r\",\"position\":\"1.");
    has(text, "{\"room\":\"q\",\"position\":\"1.");
    core_fini(&c);
    (void)state;
}

static void bad_bodies_are_refused(void **state)
{
    static const struct {
        const char *what, *body;
        int status;
    } bad[] = {
        {"publish", "", 400},
        {"publish", "[]", 400},
        {"publish", "{\"room\":\"r\"}", 400},
        {"publish", "{\"data\":1}", 400},
        {"publish", "{\"room\":\"r\",\"data\":1,\"data_base64\":\"\"}", 400},
        {"publish", "{\"room\":\"r\",\"data\":1}x", 400},
        {"publish", "{\"room\":\"r\",\"room\":\"q\",\"data\":1}", 400},
        {"publish", "{\"room\":7,\"data\":1}", 400},
        {"publish", "{\"room\":\"\",\"data\":1}", 400},
        {"publish", "{\"room\":\"$all\",\"data\":1}", 400},
        {"publish", "{\"room\":\"a\\u0000b\",\"data\":1}", 400},
        {"publish", "{\"room\":\"r\",\"data\":\"\xff\"}", 400},
        {"publish", "{\"room\":\"r\",\"data\":1,\"key\":\"a b\"}", 400},
        {"publish", "{\"room\":\"r\",\"data\":1,\"event\":\"\\n\"}", 400},
        {"publish", "{\"room\":\"r\",\"data\":1,\"except\":5}", 400},
        {"publish/batch", "{\"messages\":[]}", 400},
        {"publish/batch", "{\"messages\":{}}", 400},
        {"publish/batch", "{}", 400},
        {"send", "{\"data\":1}", 400},
        {"send", "{\"to\":{},\"data\":1}", 400},
        {"send", "{\"to\":{\"user\":\"a\",\"session\":\"b\"},\"data\":1}", 400},
        {"send", "{\"to\":{\"users\":\"a\"},\"data\":1}", 400},
        {"send", "{\"to\":{\"users\":[]},\"data\":1}", 400},
        {"send", "{\"to\":{\"sessions\":[\"}{\"]},\"data\":1}", 400},
        {"send", "{\"to\":{\"user\":\"nobody\"},\"data\":1}", 404},
        {"broadcast", "{}", 400},
    };
    struct core c;
    core_init(&c, ARGS(NULL));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        (void)post(&c, bad[i].what, bad[i].body, bad[i].status);
    char *deep = malloc(70000);
    memset(deep, '[', 70000);
    memcpy(deep, "{\"room\":\"r\",\"data\":", 19);
    deep[69999] = '\0';
    (void)post(&c, "publish", deep, 400);
    free(deep);
    core_fini(&c);
    (void)state;
}

/* --- sessions --- */

static void sessions_are_changed_by_name(void **state)
{
    struct core c;
    struct client cl[2];
    char target[200];
    lobby_open_pair(&c, cl, ARGS("--policy", "staff join=nobody"));
    (void)snprintf(target, sizeof target, "/api/v1/sessions/%s/rooms/staff", cl[0].sid);
    has(ask(&c, "PUT", target, "", 200), "\"room\":\"staff\"}");
    client_expect(&cl[0], "\"joined\"", "\"staff\"");
    (void)snprintf(target, sizeof target, "/api/v1/sessions/%s/rooms/staff?reason=over", cl[0].sid);
    (void)ask(&c, "DELETE", target, "", 200);
    client_expect(&cl[0], "\"left\"", "\"reason\":\"over\"");
    (void)ask(&c, "DELETE", target, "", 403);
    (void)snprintf(target, sizeof target, "/api/v1/sessions/%s?reason=spam&code=4100&reconnect_after=60000", cl[1].sid);
    has(ask(&c, "DELETE", target, "", 200), cl[1].sid);
    client_expect(&cl[1], "\"goodbye\"", "\"reason\":\"spam\"", "\"reconnect_after\":60000");
    (void)ask(&c, "DELETE", target, "", 404);
    (void)snprintf(target, sizeof target, "/api/v1/sessions/%s?code=1000", cl[0].sid);
    has(ask(&c, "DELETE", target, "", 400), "code must be a number from 4000 to 4999");
    (void)ask(&c, "DELETE", "/api/v1/sessions/a%7Db", "", 400);
    (void)ask(&c, "PUT", "/api/v1/sessions/ab/rooms/%24all", "", 404);
    (void)ask(&c, "PUT", "/api/v1/sessions/ab/rooms/%ff", "", 400);
    (void)ask(&c, "DELETE", "/api/v1/sessions/ab?reason=%0a", "", 400);
    client_vanish(&cl[0]);
    client_vanish(&cl[1]);
    core_fini(&c);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(whoever_has_no_good_key_is_not_let_in),
        CASE(scopes_and_rooms_bound_a_key),
        CASE(a_key_may_ask_so_often),
        CASE(without_keys_there_is_no_server_api),
        CASE(a_port_of_its_own_is_the_only_one),
        CASE(requests_have_names_and_methods),
        CASE(key_files_are_read_strictly),
        CASE(keys_are_read_again),
        CASE(messages_reach_rooms_users_sessions_and_all),
        CASE(bytes_are_published_too),
        CASE(the_same_key_publishes_once),
        CASE(bad_bodies_are_refused),
        CASE(sessions_are_changed_by_name),
    };
    return cmocka_run_group_tests(tests, write_keys, remove_keys);
}
