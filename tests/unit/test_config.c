/* tests/unit/test_config.c: the option table, values, flags, environment, file, and whether options fit together. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "gateway/config_table.h"
#include "gateway/config_value.h"
#include "tests/support/check.h"
#include "tests/support/config_fixture.h"

/* --- the table --- */

static void table_is_sound(void **state)
{
    (void)state;
    size_t count = 0;
    config_for_each (o) {
        assert_int_equal(strspn(o->key, "abcdefghijklmnopqrstuvwxyz0123456789-"), strlen(o->key));
        assert_ptr_equal(config_find(slice_str(o->key)), o);
        assert_true(strlen(o->help) > 10 && strlen(o->hint) > 0);
        config_for_each (other) {
            assert_true(other == o || other->offset != o->offset);
        }
        for (size_t i = 0; i < config_verb_count; i++)
            assert_string_not_equal(config_verbs[i].flag, o->key);
        count++;
    }
    assert_true(count >= 30);
    struct config c;
    config_init(&c); /* asserts that each default is inside its bounds */
    assert_int_equal(c.listen.count, 1);
    assert_string_equal(c.listen.items[0], "0.0.0.0:8443");
    assert_int_equal(c.max_message_size, 65536);
    assert_int_equal(c.lease_ms, 6000);
    assert_int_equal(c.heartbeat_s, 25);
    assert_true(c.demo);
    config_fini(&c);
}

/* What is printed for an option is what sets it again. */
static void every_option_reads_what_it_writes(void **state)
{
    (void)state;
    config_for_each (o) {
        struct config c;
        struct error err;
        struct config_source from = {.origin = ORIGIN_FLAG};
        struct buf first = BUF_INIT, second = BUF_INIT;
        config_init(&c);
        if (o->def == NULL || o->type == OPTION_LIST)
            assert_int_equal(config_set(&c, o, SLICE("some text"), &from, &err), OK);
        config_format(&c, o, &first);
        from.given_count = 0;
        assert_int_equal(config_set(&c, o, buf_slice(&first), &from, &err), OK);
        config_format(&c, o, &second);
        assert_slices_eq(buf_slice(&first), buf_slice(&second));
        assert_true(first.n != 0);
        buf_fini(&first);
        buf_fini(&second);
        config_fini(&c);
    }
}

/* --- values --- */

static void sizes_and_times(void **state)
{
    uint32_t v = 0;
    uint64_t ms = 0;
    bool b = false;
    char text[VALUE_TEXT];
    (void)state;
    assert_true(value_size(SLICE("64k"), &v) && v == 65536);
    assert_true(value_size(SLICE("1m"), &v) && v == 1048576);
    assert_true(value_size(SLICE("0"), &v) && v == 0);
    assert_true(value_size(SLICE("4294967295"), &v) && v == UINT32_MAX);
    static const char *const bad_sizes[] = {"",           "k",  "-1",           "1K",   "1kb", "1 k",
                                            "4294967296", "4g", "99999999999g", "0x10", "1.5m"};
    for (size_t i = 0; i < ARRAY_LEN(bad_sizes); i++)
        assert_false(value_size(slice_str(bad_sizes[i]), &v));
    assert_true(value_time(SLICE("30"), &ms) && ms == 30000);
    assert_true(value_time(SLICE("500ms"), &ms) && ms == 500);
    assert_true(value_time(SLICE("5m"), &ms) && ms == 300000);
    assert_true(value_time(SLICE("2h"), &ms) && ms == 7200000);
    assert_true(value_time(SLICE("9999999999d"), &ms) && ms == 9999999999u * 86400000u);
    static const char *const bad_times[] = {"", "s", "1S", "1.5s", "5 m", "-5s", "1w", "99999999999"};
    for (size_t i = 0; i < ARRAY_LEN(bad_times); i++)
        assert_false(value_time(slice_str(bad_times[i]), &ms));
    assert_true(value_bool(SLICE("on"), &b) && b);
    assert_true(value_bool(SLICE("no"), &b) && !b);
    assert_false(value_bool(SLICE("ON"), &b));
    assert_true(value_count(SLICE("12"), &v) && v == 12);
    assert_false(value_count(SLICE("12k"), &v));
    value_format_size(65536, text);
    assert_string_equal(text, "64k");
    value_format_size(65537, text);
    assert_string_equal(text, "65537");
    value_format_time(90000, text);
    assert_string_equal(text, "90s");
    value_format_time(300000, text);
    assert_string_equal(text, "5m");
}

/* --- flags --- */

static void flags_in_all_their_forms(void **state)
{
    (void)state;
    struct config c = config_of(
        "--insecure --node=a-1 --listen 127.0.0.1:1 --listen=[::]:2 --no-demo --heartbeat 1m --slow-consumer "
        "drop-oldest "
        "--redis-queue-bytes=4m --policy a.*~rate=1 --policy b~rate=2 --log-format json --proxy-protocol=optional");
    assert_true(c.insecure);
    assert_string_equal(c.node, "a-1");
    assert_int_equal(c.listen.count, 2); /* replaces the default, then appends */
    assert_string_equal(c.listen.items[0], "127.0.0.1:1");
    assert_string_equal(c.listen.items[1], "[::]:2");
    assert_false(c.demo);
    assert_int_equal(c.heartbeat_s, 60);
    assert_int_equal(c.slow_consumer, SLOW_DROP_OLDEST);
    assert_int_equal(c.redis_queue_bytes, 4 << 20);
    assert_int_equal(c.policies.count, 2);
    assert_int_equal(c.log_format, LOG_JSON);
    assert_int_equal(c.proxy_protocol, PROXY_OPTIONAL);
    config_fini(&c);
}

static void booleans_in_all_their_forms(void **state)
{
    static const struct {
        const char *flag;
        bool demo;
    } cases[] = {{"--demo", true},     {"--demo on", true},  {"--demo off", false},     {"--demo=off", false},
                 {"--no-demo", false}, {"--demo=yes", true}, {"--no-demo --demo", true}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char words[64];
        (void)snprintf(words, sizeof words, "%s --insecure", cases[i].flag);
        struct config c = config_of(words);
        assert_int_equal(c.demo, cases[i].demo);
        assert_true(c.insecure);
        config_fini(&c);
    }
}

static void bad_flags_are_named(void **state)
{
    (void)state;
    config_refused("--insecure --max-mesage-size 5",
                   "unknown option --max-mesage-size; did you mean --max-message-size?");
    config_refused("--insecure --no-such-thing", "unknown option --no-such-thing; --help lists all");
    config_refused("--insecure stray", "unexpected argument \"stray\"");
    config_refused("--insecure --", "unexpected argument");
    config_refused("--insecure -x", "unexpected argument");
    config_refused("--insecure --node", "--node: needs a value: NAME");
    config_refused("--node --insecure", "--node: needs a value");
    config_refused("--insecure --no-node", "only on/off options");
    config_refused("--insecure --no-demo=on", "unknown option --no-demo");
    config_refused("--insecure --demo=maybe", "--demo: \"maybe\" is not on or off");
    config_refused("--insecure --demo maybe", "unexpected argument \"maybe\"");
    config_refused("--insecure --log-level loud", "--log-level: \"loud\" is not error, warn, info or debug");
    config_refused("--insecure --workers 0", "--workers: \"0\" is not a number from 1 to 256");
    config_refused("--insecure --max-message-size 1t", "\"1t\" is not a size from 1k to 64m");
    config_refused("--insecure --heartbeat 500ms", "is not a time in whole seconds from 1s to 1h");
    config_refused("--insecure --lease 200ms", "is not a time from 300ms to 10m");
    config_refused("--insecure --node=\xff", "--node: the value is not UTF-8");
    config_refused("--insecure --listen=", "--listen: \"\" is not HOST:PORT");
}

static enum config_action action_of(const char *flag, enum err *ret_err)
{
    char program[] = "xindao-gateway", bad[] = "--nonsense", copy[32];
    char *argv[] = {program, bad, copy, NULL};
    struct config c = {0};
    struct error err;
    enum config_action action = CONFIG_RUN;
    (void)snprintf(copy, sizeof copy, "%s", flag);
    *ret_err = config_load(3, argv, config_fake_getenv, &c, &action, &err);
    config_fini(&c);
    return action;
}

static void actions(void **state)
{
    enum err e;
    (void)state;
    /* Help helps even when the rest is wrong; checking does not. */
    assert_int_equal(action_of("--help", &e), CONFIG_HELP);
    assert_int_equal(e, OK);
    assert_int_equal(action_of("-h", &e), CONFIG_HELP);
    assert_int_equal(action_of("--version", &e), CONFIG_VERSION);
    (void)action_of("--check-config", &e);
    assert_int_not_equal(e, OK);
}

static enum err doctor_of(char *first, char *second, char *third, struct config *ret, enum config_action *ret_action)
{
    char program[] = "xindao-gateway";
    char *argv[] = {program, first, second, third, NULL};
    struct error err;
    return config_load(third != NULL ? 4 : second != NULL ? 3 : 2, argv, config_fake_getenv, ret, ret_action, &err);
}

static void doctor_takes_a_url(void **state)
{
    char verb[] = "--doctor", url[] = "https://a.example", joined[] = "--doctor=https://b.example",
         idle[] = "--doctor-idle=3";
    char empty[] = "--doctor=", bad[] = "--nonsense", check_url[] = "--check-config=x";
    enum config_action action = CONFIG_RUN;
    struct config c = {0};
    (void)state;
    assert_int_equal(doctor_of(verb, url, idle, &c, &action), OK); /* without a certificate: this is not to run */
    assert_int_equal(action, CONFIG_DOCTOR);
    assert_string_equal(c.doctor, "https://a.example");
    assert_int_equal(c.doctor_idle_s, 3);
    config_fini(&c);
    assert_int_equal(doctor_of(joined, NULL, NULL, &c, &action), OK);
    assert_string_equal(c.doctor, "https://b.example");
    config_fini(&c);
    assert_null(c.doctor);
    assert_int_not_equal(doctor_of(verb, NULL, NULL, &c, &action), OK);
    assert_int_not_equal(doctor_of(verb, idle, NULL, &c, &action), OK);
    assert_int_not_equal(doctor_of(empty, NULL, NULL, &c, &action), OK);
    assert_int_not_equal(doctor_of(verb, url, bad, &c, &action), OK);
    assert_int_not_equal(doctor_of(check_url, NULL, NULL, &c, &action), OK);
}

/* --- environment --- */

static void environment_is_read(void **state)
{
    static const char *const vars[] = {"XINDAO_INSECURE",
                                       "on",
                                       "XINDAO_LISTEN",
                                       " :1 ;:2;",
                                       "XINDAO_MAX_QUEUE_BYTES",
                                       "1m",
                                       "XINDAO_BROKER",
                                       "",
                                       "XINDAO_GATEWAY",
                                       "/not/an/option",
                                       NULL};
    (void)state;
    config_fake_env = vars;
    struct config c = config_of("");
    assert_true(c.insecure);
    assert_int_equal(c.listen.count, 2);
    assert_string_equal(c.listen.items[0], ":1");
    assert_int_equal(c.max_queue_bytes, 1 << 20);
    assert_string_equal(c.broker, "memory"); /* an empty variable is none */
    config_fini(&c);
}

static void bad_variable_is_named(void **state)
{
    static const char *const vars[] = {"XINDAO_INSECURE", "on", "XINDAO_LEASE", "1x", NULL};
    (void)state;
    config_fake_env = vars;
    config_refused("", "XINDAO_LEASE: \"1x\" is not a time from 300ms to 10m");
}

/* --- the file --- */

static void flags_beat_environment_beats_file_beats_default(void **state)
{
    static const char *const vars[] = {"XINDAO_NODE", "env", "XINDAO_KEY_PREFIX", "env:", "XINDAO_ORIGIN",
                                       "https://env", NULL};
    char words[128];
    (void)state;
    config_fake_env = vars;
    (void)snprintf(
        words, sizeof words, "--node flag --config %s",
        config_file_with("{\"insecure\": true, \"node\": \"file\", \"key-prefix\": \"file:\", \"max-connections\": 5,\n"
                         "\"origin\": [\"https://file\", \"https://two\"], \"listen\": [\"[::1]:5\", \":6\"]}"));
    struct config c = config_of(words);
    assert_string_equal(c.node, "flag");
    assert_string_equal(c.key_prefix, "env:");
    assert_int_equal(c.max_connections, 5);
    assert_int_equal(c.origins.count, 1);
    assert_string_equal(c.origins.items[0], "https://env");
    assert_int_equal(c.listen.count, 2);
    assert_string_equal(c.listen.items[0], "[::1]:5");
    assert_int_equal(c.max_message_size, 65536);
    config_fini(&c);
}

static void file_may_be_named_by_the_environment(void **state)
{
    const char *vars[] = {"XINDAO_CONFIG", config_file_with("{\"insecure\": true, \"node\": \"f\"}"), NULL};
    (void)state;
    config_fake_env = vars;
    struct config c = config_of("");
    assert_string_equal(c.node, "f");
    config_fini(&c);
    config_fake_env = NULL;
}

static void values_of_every_json_type(void **state)
{
    struct config c;
    struct error err;
    (void)state;
    config_init(&c);
    assert_int_equal(
        config_parse_json(SLICE("{\"demo\": \"off\", \"insecure\": true, \"heartbeat\": 30, \"lease\": \"800ms\","
                                "\"max-message-size\": 2048, \"max-queue-bytes\": \"1m\", \"origin\": [],"
                                "\"listen\": \":7\", \"log-level\": \"warn\"}"),
                          "test", &c, &err),
        OK);
    assert_false(c.demo);
    assert_true(c.insecure);
    assert_int_equal(c.heartbeat_s, 30);
    assert_int_equal(c.lease_ms, 800);
    assert_int_equal(c.max_message_size, 2048);
    assert_int_equal(c.max_queue_bytes, 1 << 20);
    assert_int_equal(c.origins.count, 0);
    assert_int_equal(c.listen.count, 1);
    assert_int_equal(c.log_level, LOG_WARN);
    config_fini(&c);
}

static void bad_files_are_pointed_at(void **state)
{
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"", "f.json:1:0: "},
        {"[1]", "f.json:1:1: must be one object"},
        {"{\"node\": \"a\",}", "f.json:1:14: "},
        {"{\n  \"nodes\": \"a\"\n}", "f.json:2:3: unknown key \"nodes\"; did you mean \"node\"?"},
        {"{\"quite different\": 1}", "f.json:1:2: unknown key \"quite different\""},
        {"{\"node\": \"a\",\n \"node\": \"b\"}", "duplicate object key"},
        {"{\"policy\": [\"{\", \"\\\"node\\\":\"], \"demo\": {\"node\": [1]},\n\n    \"x\": 1}",
         "f.json:1:32: demo: must be on or off"},
        {"{\"listen\": [\"\xe4\xb8\xad:1\", \"x\"], \"demo\": 7}", "f.json:1:26: demo: \"7\" is not on or off"},
        {"{\"max-connections\": 1.5}", "f.json:1:2: max-connections: must be a number from 1"},
        {"{\"max-connections\": null}", "max-connections: must be a number"},
        {"{\"max-connections\": -1}", "max-connections: \"-1\" is not a number"},
        {"{\"max-connections\": 4294967297}", "\"4294967297\" is not"},
        {"{\"node\": [\"a\"]}", "node: must be NAME"},
        {"{\"listen\": [[\":1\"]]}", "listen: must be a list of strings"},
        {"{\"listen\": {}}", "listen: must be a list of strings"},
        {"{\"lease\": \"6 s\"}", "lease: \"6 s\" is not a time"},
        {"{\"config\": \"other.json\"}", "cannot name another"},
        {"{\"node\": \"a\\u0000b\"}", "f.json:1:"},
        {"{\"node\": \"\xff\"}", "f.json:1:"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct config c;
        struct error err = {OK, ""};
        config_init(&c);
        enum err e = config_parse_json(slice_str(cases[i].text), "f.json", &c, &err);
        if (e == OK || strstr(err.text, cases[i].why) == NULL)
            fail_msg("%s: \"%s\" does not say \"%s\"", cases[i].text, e == OK ? "accepted" : err.text, cases[i].why);
        config_fini(&c);
    }
}

static void missing_or_strange_files_are_refused(void **state)
{
    (void)state;
    config_refused("--insecure --config /nonexistent/x.json", "--config /nonexistent/x.json: No such file");
    config_refused("--insecure --config /tmp", "--config /tmp: Is a directory");
    config_refused("--insecure --config /dev/zero", "--config /dev/zero: larger than 1024 KiB");
}

/* --- do they fit together? --- */

static void options_must_fit_together(void **state)
{
    (void)state;
    config_refused("", "no certificate: give --tls-cert and --tls-key, or --insecure");
    config_refused("--tls-cert a", "tls-cert without tls-key");
    config_refused("--tls-key a", "tls-key without tls-cert");
    config_refused("--insecure --tls-cert a --tls-key b", "exclude each other");
    config_refused("--insecure --workers 2", "workers 2 with broker memory");
    config_refused("--insecure --policy b --policy a.*~durability=replicated:2",
                   "policy a.*: durability=replicated:2 with broker memory: only Redis has replicas");
    config_refused("--insecure --workers 2 --broker redis://h:1 --listen :0", "port 0");
    config_refused("--insecure --lease 5s", "lease must be at least twice redis-timeout");
    config_refused("--insecure --max-queue-bytes 64k", "cannot hold one message");
    config_refused("--insecure --broker redis://h:1 --redis-queue-bytes 100k", "cannot hold two messages");
    config_refused("--insecure --node a/b", "node: \"a/b\" is not");
    config_refused("--insecure --node 12345678901234567890123456789012345678901234567890123456789012345",
                   "is not 1 to 64");
    config_refused("--insecure --key-prefix {x}", "key-prefix");
    config_refused("--insecure --origin example.com", "origin: \"example.com\" is not");
    config_refused("--insecure --origin https://a/", "origin");
    config_refused("--insecure --engineio-echo echo", "engineio-echo: \"echo\" is not a path");
    config_refused("--insecure --engineio-echo /socket.io", "engineio-echo: \"/socket.io\" is a socketio-path");
    config_refused("--insecure --socketio-path x", "socketio-path: \"x\" is not a path");
    config_refused("--insecure --policy a~rats=1", "policy a: unknown key \"rats\"; did you mean rate?");
    struct config c = config_of("--tls-cert a --tls-key b --workers 4 --broker redis://127.0.0.1:6379/1 --origin null "
                                "--origin https://*.example.com:444 --policy a.*~durability=replicated:2 "
                                "--socketio-path /a --engineio-echo /a.b --engineio-echo /socket.io/");
    config_fini(&c);
}

static void broker_urls(void **state)
{
    static const char *const good[] = {"memory",
                                       "redis://h",
                                       "redis://h:6380",
                                       "redis://[::1]:6380/3",
                                       "redis://:p@h:1",
                                       "redis://u:p@1.2.3.4:1/",
                                       "redis://u:p/w@d@h:1/2",
                                       "rediss://h:1",
                                       "redis+sentinel://:p@h:1,[::1]/m/2?sentinel_password=p",
                                       "redis+cluster://u:p@h:1,[::1],h2:3"};
    static const char *const bad[] = {"",
                                      "Memory",
                                      "redis:",
                                      "redis://",
                                      "redis://:1",
                                      "redis://h:0",
                                      "redis://h:65536",
                                      "redis://h:x",
                                      "redis://h:1/x",
                                      "redis://1.2.3:4",
                                      "http://h:1",
                                      "redis://u@"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        char words[128];
        (void)snprintf(words, sizeof words, "--insecure --broker=%s", good[i]);
        struct config c = config_of(words);
        config_fini(&c);
    }
    for (size_t i = 1; i < ARRAY_LEN(bad); i++) {
        char words[128];
        (void)snprintf(words, sizeof words, "--insecure --broker=%s", bad[i]);
        config_refused(words, "broker: ");
    }
}

static void listen_addresses(void **state)
{
    static const struct {
        const char *text, *host;
        uint16_t port;
    } good[] = {{"0.0.0.0:8443", "0.0.0.0", 8443}, {"[::]:1", "::", 1},     {":65535", "", 65535},
                {"localhost:0", "localhost", 0},   {"[::1]:80", "::1", 80}, {"[fe80::1%eth0]:80", "fe80::1%eth0", 80},
                {"a.b-c.d:5", "a.b-c.d", 5}};
    static const char *const bad[] = {"",     "8443",        "1.2.3:4", "1.2.3.400:5", ":",      ":65536",
                                      ":-1",  ":x",          "h:",      "::1:80",      "[::]",   "[x]:1",
                                      "[]:1", "[1.2.3.4]:5", "h h:1",   "h/:1",        "[::1:80"};
    struct slice host;
    uint16_t port;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(config_split_listen(slice_str(good[i].text), &host, &port));
        assert_slice(host, good[i].host);
        assert_int_equal(port, good[i].port);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (config_split_listen(slice_str(bad[i]), &host, &port))
            fail_msg("%s accepted", bad[i]);
}

static void node_is_the_host_name_by_default(void **state)
{
    (void)state;
    struct config c = config_of("--insecure");
    assert_in_range(strlen(c.node), 1, 64);
    assert_int_equal(strspn(c.node, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"),
                     strlen(c.node));
    config_fini(&c);
}

static void errors_never_show_a_password(void **state)
{
    static const char *const urls[] = {"redis://u:secret@",       "redis://:secret@h:x",  "redis://secret@h:99999",
                                       "redis://u:sec/ret@x@h:x", "rediss://:secret@h:0", "http://u:secret@h"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        struct config c;
        struct error err = {OK, ""};
        char words[128];
        (void)snprintf(words, sizeof words, "--insecure --broker=%s", urls[i]);
        assert_int_not_equal(config_try(words, &c, &err), OK);
        if (strstr(err.text, "sec") != NULL)
            fail_msg("%s", err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_is_sound),
        cmocka_unit_test(every_option_reads_what_it_writes),
        cmocka_unit_test(sizes_and_times),
        cmocka_unit_test(flags_in_all_their_forms),
        cmocka_unit_test(booleans_in_all_their_forms),
        cmocka_unit_test(bad_flags_are_named),
        cmocka_unit_test(actions),
        cmocka_unit_test(doctor_takes_a_url),
        cmocka_unit_test_teardown(environment_is_read, config_cleanup),
        cmocka_unit_test_teardown(bad_variable_is_named, config_cleanup),
        cmocka_unit_test_teardown(flags_beat_environment_beats_file_beats_default, config_cleanup),
        cmocka_unit_test_teardown(file_may_be_named_by_the_environment, config_cleanup),
        cmocka_unit_test(values_of_every_json_type),
        cmocka_unit_test(bad_files_are_pointed_at),
        cmocka_unit_test(missing_or_strange_files_are_refused),
        cmocka_unit_test(options_must_fit_together),
        cmocka_unit_test(broker_urls),
        cmocka_unit_test(listen_addresses),
        cmocka_unit_test(node_is_the_host_name_by_default),
        cmocka_unit_test(errors_never_show_a_password),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
