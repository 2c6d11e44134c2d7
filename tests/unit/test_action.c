/* tests/unit/test_action.c: what backends want done: read, carried out, tried again, and in which order. */
#include <stdio.h>

#include "base/mem.h"
#include "gateway/act.h"
#include "gateway/actions.h"
#include "gateway/metrics.h"
#include "gateway/session.h"
#include "tests/support/backend_fake.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"

#define NOW_MS 1700000000000u
#define ARGS                                                                                                           \
    ((const char *const[]){BACKEND_FAKE, "--event-shards", "1", "--policy", "lobby retain-count=10 events=join",       \
                           "--policy", "ask publish=backend", NULL})

/* --- reading --- */

static enum err read_one(const char *text, struct action *ret, struct error *error)
{
    static struct arena arena;
    arena_reset(&arena);
    arena_init(&arena, ACTION_ARENA);
    enum err err = action_read(slice_str(text), SLICE("mine"), NOW_MS, &arena, ret, error);
    arena_reset(&arena);
    return err;
}

static void each_kind_has_its_members(void **state)
{
    struct action a;
    struct error e;
    (void)state;
    assert_int_equal(read_one("{\"do\":\"publish\",\"room\":\"r\",\"data\":1,\"key\":\"k\"}", &a, &e), OK);
    assert_int_equal(a.kind, ACTION_PUBLISH);
    assert_slice(a.message.room, "r");
    assert_slice(a.message.key, "k");
    assert_int_equal(read_one("{\"do\":\"send\",\"to\":{\"session\":\"s1\"},\"data\":[1]}", &a, &e), OK);
    assert_int_equal(read_one("{\"do\":\"broadcast\",\"data_base64\":\"AAE=\"}", &a, &e), OK);
    assert_int_equal(a.message.data.n, 2);
    assert_int_equal(read_one("{\"do\":\"emit\",\"rooms\":[\"r\"],\"data\":1}", &a, &e), OK);
    assert_int_equal(a.kind, ACTION_EMIT);
    assert_int_equal(read_one("{\"do\":\"join\",\"room\":\"r\"}", &a, &e), OK);
    assert_slice(a.control.sid, "mine");
    assert_int_equal(a.control.verb, CONTROL_JOIN);
    assert_int_equal(read_one("{\"do\":\"leave\",\"session\":\"other\",\"room\":\"r\",\"reason\":\"why\"}", &a, &e),
                     OK);
    assert_slice(a.control.sid, "other");
    assert_slice(a.control.reason, "why");
    assert_int_equal(read_one("{\"do\":\"disconnect\",\"code\":4100,\"reconnect_after\":5}", &a, &e), OK);
    assert_int_equal(a.control.close_code, 4100);
    assert_int_equal(read_one("{\"do\":\"disconnect\",\"user\":\"bob\"}", &a, &e), OK);
    assert_int_equal(a.control.sid.n, 0);
    assert_slice(a.user, "bob");
    assert_int_equal(read_one("{\"do\":\"send\",\"event\":\"e\",\"data\":1}", &a, &e), OK);
    assert_int_equal(a.message.to, API_TO_SESSION);
    assert_int_equal(read_one("{\"do\":\"ban\",\"user\":\"bob\",\"for\":60,\"reason\":\"x\"}", &a, &e), OK);
    assert_int_equal(a.ban.until_ms, NOW_MS + 60000);
    assert_slice(a.ban.user, "bob");
    assert_int_equal(read_one("{\"do\":\"unban\",\"user\":\"bob\"}", &a, &e), OK);
    assert_int_equal(read_one("{\"do\":\"attributes\",\"attributes\":{\"a\":1}}", &a, &e), OK);
    assert_slice(a.attributes, "{\"a\":1}");
}

static void what_is_wrong_is_said(void **state)
{
    static const char *const bad[][2] = {
        {"1", "an action must be an object"},
        {"{}", "do is missing"},
        {"{\"do\":1}", "do must be a string"},
        {"{\"do\":\"dance\"}", "there is no dance"},
        {"{\"do\":\"publish\",\"data\":1}", "room is missing"},
        {"{\"do\":\"publish\",\"room\":\"$all\",\"data\":1}", "$"},
        {"{\"do\":\"publish\",\"room\":\"r\"}", "either data or data_base64"},
        {"{\"do\":\"send\",\"to\":null,\"data\":1}", "to must be"},
        {"{\"do\":\"emit\",\"rooms\":[\"$all\"],\"data\":1}", "no $ first"},
        {"{\"do\":\"emit\",\"data\":1,\"ack\":true}", "POST /emit"},
        {"{\"do\":\"join\"}", "room is missing"},
        {"{\"do\":\"join\",\"room\":\"$user:x\"}", "$"},
        {"{\"do\":\"join\",\"room\":\"r\",\"session\":\"a b\"}", "session"},
        {"{\"do\":\"leave\",\"room\":7}", "room must be a string"},
        {"{\"do\":\"disconnect\",\"user\":\"u\",\"session\":\"s\"}", "either a session or a user"},
        {"{\"do\":\"disconnect\",\"code\":3000}", "code must be a whole number from 4000 to 4999"},
        {"{\"do\":\"disconnect\",\"reconnect_after\":-1}", "reconnect_after"},
        {"{\"do\":\"ban\"}", "user is missing"},
        {"{\"do\":\"ban\",\"user\":\"u\",\"until\":1}", "until"},
        {"{\"do\":\"ban\",\"user\":\"u\",\"reason\":7}", "reason must be a string"},
        {"{\"do\":\"unban\",\"user\":\"\"}", "user"},
        {"{\"do\":\"publish\",\"do\":\"send\"}", "twice"},
        {"{\"do\":\"broadcast\",\"data\":\"\xff\"}", "not UTF-8"},
    };
    struct action a = {.kind = ACTIONS};
    struct error e;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (read_one(bad[i][0], &a, &e) == OK)
            fail_msg("taken: %s", bad[i][0]);
        if (strstr(e.text, bad[i][1]) == NULL)
            fail_msg("%s: %s", bad[i][0], e.text);
    }
    assert_int_equal(a.kind, ACTIONS); /* untouched */
    struct arena arena;
    arena_init(&arena, ACTION_ARENA);
    assert_int_not_equal(action_read(SLICE("{\"do\":\"join\",\"room\":\"r\"}"), SLICE_NONE, NOW_MS, &arena, &a, &e),
                         OK);
    assert_string_equal(e.text, "session is missing");
    assert_int_not_equal(action_read(SLICE("{\"do\":\"send\",\"data\":1}"), SLICE_NONE, NOW_MS, &arena, &a, &e), OK);
    assert_string_equal(e.text, "to must be an object");
    arena_reset(&arena);
}

static void expect_fields(const char *expected, size_t n, const struct event_field *fields)
{
    struct buf b = BUF_INIT;
    struct error error;
    assert_int_equal(action_of_fields(fields, n, &b, &error), OK);
    assert_slice(buf_slice(&b), expected);
    buf_fini(&b);
}

#define FIELD(name, value)                                                                                             \
    {                                                                                                                  \
        SLICE(name), SLICE(value)                                                                                      \
    }

static void fields_become_json(void **state)
{
    (void)state;
    expect_fields("{\"do\":\"publish\",\"room\":\"a\\\"b\",\"event\":\"1\",\"data\":{\"n\":1}}", 4,
                  (const struct event_field[]){FIELD("do", "publish"), FIELD("room", "a\"b"), FIELD("event", "1"),
                                               FIELD("data", "{\"n\":1}")});
    expect_fields("{\"do\":\"send\",\"to\":{\"user\":\"bob\"},\"data\":\"text\"}", 3,
                  (const struct event_field[]){FIELD("do", "send"), FIELD("user", "bob"), FIELD("data", "\"text\"")});
    expect_fields("{\"do\":\"ban\",\"user\":\"7\",\"for\":60,\"until\":\"007\"}", 4,
                  (const struct event_field[]){FIELD("do", "ban"), FIELD("user", "7"), FIELD("for", "60"),
                                               FIELD("until", "007")});
    expect_fields("{}", 0, NULL);
    struct buf b = BUF_INIT;
    struct error error;
    const struct event_field text[] = {FIELD("data", "1,\"room\":2")};
    assert_int_equal(action_of_fields(text, 1, &b, &error), ERR_BAD_REQUEST);
    assert_string_equal(error.text, "data must be JSON; a text has quotes");
    buf_fini(&b);
}

/* --- answers --- */

static struct backend *backend_of(const struct core *c)
{
    return c->gw->backend;
}

/* Alice, whose connect waits for an answer. */
static void open_alice(struct core *c, struct client *cl)
{
    core_init(c, ARGS);
    client_open(cl, c, "/ws/alice");
    loop_fake_advance(&c->loop, 200);
    assert_non_null(strstr(fake_body(backend_of(c), 0), "\"connect\""));
}

static void finish(struct core *c, struct client *cl)
{
    client_vanish(cl);
    core_fini(c);
}

static void they_are_done_in_order_before_the_next_event(void **state)
{
    struct core c;
    struct client cl;
    uint64_t done = metrics->actions_done;
    (void)state;
    open_alice(&c, &cl);
    client_send(&cl, "{\"type\":\"publish\",\"room\":\"x\",\"data\":1}"); /* not in: an error, no event */
    client_expect(&cl, "\"not_member\"");
    c.no_joins = true; /* the first one has to wait */
    fake_answer(
        backend_of(&c), 0, 200,
        "{\"actions\":[{\"do\":\"join\",\"room\":\"lobby\"},"
        "{\"do\":\"publish\",\"room\":\"lobby\",\"data\":\"hi\"},"
        "{\"do\":\"attributes\",\"attributes\":{\"level\":3}},"
        "{\"do\":\"send\",\"to\":{\"user\":\"alice\"},\"data\":2},{\"do\":\"disconnect\",\"reason\":\"enough\"}]}");
    loop_fake_advance(&c.loop, 1000);
    client_expect_nothing(&cl);
    assert_int_equal(metrics->actions_done, done);
    assert_int_equal(fake_posts(backend_of(&c)), 0);
    c.no_joins = false;
    loop_fake_advance(&c.loop, 4000);
    client_expect(&cl, "\"joined\"", "\"lobby\"");
    client_expect(&cl, "\"message\"", "\"hi\"", "\"from\":null");
    client_expect(&cl, "\"message\"", "$user:alice");
    client_expect(&cl, "\"goodbye\"", "enough");
    assert_int_equal(metrics->actions_done, done + 5);
    loop_fake_advance(&c.loop, 200);
    assert_non_null(strstr(fake_body(backend_of(&c), 0), "\"join\""));
    finish(&c, &cl);
}

static void one_that_fails_does_not_stop_the_others(void **state)
{
    struct core c;
    struct client cl;
    uint64_t done = metrics->actions_done, failed = metrics->actions_failed;
    (void)state;
    open_alice(&c, &cl);
    lobby_join(&cl);
    fake_answer(backend_of(&c), 0, 200,
                "{\"actions\":[7,{\"do\":\"leave\",\"room\":\"nowhere\"},{\"do\":\"unban\",\"user\":\"x\"},"
                "{\"do\":\"attributes\",\"attributes\":7},{\"do\":\"publish\",\"room\":\"lobby\",\"data\":1}]}");
    loop_fake_advance(&c.loop, 200);
    client_expect(&cl, "\"message\"");
    assert_int_equal(metrics->actions_done, done + 1);
    assert_int_equal(metrics->actions_failed, failed + 4);
    finish(&c, &cl);
}

static void repeating_an_event_says_nothing_twice(void **state)
{
    static const char answer[] = "{\"actions\":[{\"do\":\"publish\",\"room\":\"lobby\",\"data\":1},"
                                 "{\"do\":\"publish\",\"room\":\"lobby\",\"data\":2}]}";
    struct core c;
    struct client cl;
    (void)state;
    open_alice(&c, &cl);
    lobby_join(&cl);
    const struct actions_of of = {.id = SLICE("an.event")}, other = {.id = SLICE("another.event")};
    const struct actions_of *turns[] = {&of, &of, &other};
    for (size_t i = 0; i < ARRAY_LEN(turns); i++) {
        struct json_value list;
        static const char *const names[] = {"actions"};
        struct error error;
        assert_int_equal(json_members(slice_str(answer), names, 1, &list, &error), OK);
        actions_of_answer(c.gw, list, turns[i]);
        loop_fake_advance(&c.loop, 10);
    }
    client_expect(&cl, "\"message\"", "\"data\":1", "\"1.");
    client_expect(&cl, "\"message\"", "\"data\":2", "\"2.");
    client_expect(&cl, "\"message\"", "\"data\":1", "\"3.");
    client_expect(&cl, "\"message\"", "\"data\":2", "\"4.");
    client_expect_nothing(&cl);
    finish(&c, &cl);
}

/* --- of who comes in --- */

#define GUESTS BACKEND_FAKE, "--auth", "backend", "--socketio-namespace", "/n", "--socketio-event", "* do=backend"

static void who_comes_in_is_who_is_meant(void **state)
{
    static const char *const args[] = {GUESTS, NULL};
    struct core c;
    struct client cl;
    (void)state;
    core_init(&c, args);
    client_connect(&cl, &c, "/ws");
    loop_fake_run(&c.loop);
    fake_answer(backend_of(&c), 0, 200,
                "{\"actions\":[{\"do\":\"join\",\"room\":\"hall\"},{\"do\":\"send\",\"event\":\"hi\",\"data\":1}]}");
    client_expect(&cl, "\"welcome\"");
    client_expect(&cl, "\"joined\"", "\"hall\"");
    client_expect(&cl, "\"message\"", "\"hi\"");
    finish(&c, &cl);
}

/* What a Socket.IO client has said meanwhile finds it done. */
static void what_it_says_meanwhile_waits(void **state)
{
    static const char *const args[] = {GUESTS, NULL};
    struct core c;
    struct client cl;
    (void)state;
    core_init(&c, args);
    client_connect(&cl, &c, "/socket.io/?EIO=4&transport=websocket");
    client_expect(&cl, "0{");
    client_send(&cl, "40/n,{\"a\":[1]}");
    client_send(&cl, "42/n,[\"first\",2]");
    loop_fake_run(&c.loop);
    assert_int_equal(fake_posts(backend_of(&c)), 1);
    assert_non_null(strstr(fake_body(backend_of(&c), 0), "\"namespace\":\"/n\",\"data\":{\"a\":[1]}"));
    c.no_joins = true;
    fake_answer(backend_of(&c), 0, 200,
                "{\"actions\":[{\"do\":\"send\",\"event\":\"auth\",\"data\":{\"$args\":[1,\"x\"]}},{\"do\":\"join\","
                "\"room\":\"hall\"}]}");
    client_expect(&cl, "40/n,{\"sid\":");
    client_expect_nothing(&cl); /* not in one breath with it */
    loop_fake_advance(&c.loop, 5);
    client_expect(&cl, "42/n,[\"auth\",1,\"x\"]");
    loop_fake_advance(&c.loop, 1000);
    assert_int_equal(fake_posts(backend_of(&c)), 1); /* the event `connect` */
    assert_non_null(strstr(fake_body(backend_of(&c), 0), "\"namespace\":\"/n\",\"ip\""));
    c.no_joins = false;
    loop_fake_advance(&c.loop, 2000);
    client_expect(&cl, "42/n,[\"$joined\"", "\"hall\"");
    assert_int_equal(fake_posts(backend_of(&c)), 2);
    assert_non_null(strstr(fake_body(backend_of(&c), 1), "\"namespace\":\"/n\",\"event\":\"first\",\"data\":2"));
    finish(&c, &cl);
}

static void who_did_not_wait_was_nobody(void **state)
{
    static const char answer[] =
        "{\"actions\":[{\"do\":\"broadcast\",\"data\":1},{\"do\":\"join\",\"room\":\"hall\"}]}";
    static const char *const args[] = {GUESTS, NULL};
    uint64_t done = metrics->actions_done, failed = metrics->actions_failed;
    struct core c;
    struct client cl[3];
    (void)state;
    core_init(&c, args);
    for (int i = 0; i < 3; i++)
        client_connect(&cl[i], &c, "/ws");
    loop_fake_run(&c.loop);
    assert_int_equal(fake_posts(backend_of(&c)), 3);
    client_vanish(&cl[0]);
    fake_answer(backend_of(&c), 0, 200, answer);
    loop_fake_run(&c.loop);
    assert_int_equal(metrics->actions_done, done + 1);
    assert_int_equal(metrics->actions_failed, failed + 1);
    c.store_down = true; /* so it cannot begin */
    fake_answer(backend_of(&c), 0, 200, answer);
    loop_fake_run(&c.loop);
    client_expect(&cl[1], "\"goodbye\"", "unavailable");
    client_vanish(&cl[1]);
    c.store_down = false;
    loop_fake_advance(&c.loop, 2000);
    assert_int_equal(metrics->actions_done, done + 2);
    assert_int_equal(metrics->actions_failed, failed + 2);
    fake_answer(backend_of(&c), 0, 200, "{\"allow\":false,\"actions\":[{\"do\":\"broadcast\",\"data\":1}]}");
    loop_fake_run(&c.loop);
    assert_int_equal(metrics->actions_done, done + 3);
    client_vanish(&cl[2]);
    core_fini(&c);
}

static void the_gateway_may_end_meanwhile(void **state)
{
    static const char *const args[] = {GUESTS, NULL};
    struct core c;
    struct client cl;
    (void)state;
    core_init(&c, args);
    client_connect(&cl, &c, "/socket.io/?EIO=3&transport=websocket");
    client_expect(&cl, "0{");
    fake_answer(backend_of(&c), 0, 200, "{\"actions\":[{\"do\":\"broadcast\",\"data\":1}]}");
    client_expect(&cl, "40");
    finish(&c, &cl);
    core_init(&c, args);
    client_connect(&cl, &c, "/socket.io/?EIO=3&transport=websocket");
    client_expect(&cl, "0{");
    c.no_joins = true;
    fake_answer(backend_of(&c), 0, 200, "{\"actions\":[{\"do\":\"join\",\"room\":\"hall\"}]}");
    client_expect(&cl, "40");
    loop_fake_advance(&c.loop, 50);
    finish(&c, &cl);
}

static void lists_are_bounded(void **state)
{
    struct core c;
    struct client cl;
    struct buf many = BUF_INIT;
    uint64_t done = metrics->actions_done, failed = metrics->actions_failed;
    (void)state;
    open_alice(&c, &cl);
    lobby_join(&cl);
    buf_append_str(&many, "{\"actions\":[0");
    for (int i = 0; i < ACTIONS_MAX; i++)
        buf_append_str(&many, ",{\"do\":\"broadcast\",\"data\":1}");
    buf_append(&many, SLICE("]}\0"));
    fake_answer(backend_of(&c), 0, 200, many.p);
    buf_fini(&many);
    loop_fake_advance(&c.loop, 200);
    fake_answer(backend_of(&c), 0, 200, "{\"actions\":{}}"); /* the join's */
    client_expect_nothing(&cl);
    client_vanish(&cl);
    loop_fake_advance(&c.loop, 200);
    fake_answer(backend_of(&c), 0, 200, "{\"actions\":[");
    assert_int_equal(metrics->actions_done, done);
    assert_int_equal(metrics->actions_failed, failed + 3);
    core_fini(&c);
}

static void half_a_minute_is_enough(void **state)
{
    struct core c;
    struct client cl;
    uint64_t failed = metrics->actions_failed;
    (void)state;
    open_alice(&c, &cl);
    lobby_join(&cl);
    c.no_messages = true;
    fake_answer(backend_of(&c), 0, 200, "{\"actions\":[{\"do\":\"publish\",\"room\":\"lobby\",\"data\":1}]}");
    loop_fake_advance(&c.loop, 29000);
    assert_int_equal(metrics->actions_failed, failed);
    assert_int_equal(fake_posts(backend_of(&c)), 0); /* the join waits */
    loop_fake_advance(&c.loop, 6000);
    assert_int_equal(metrics->actions_failed, failed + 1);
    assert_non_null(strstr(fake_body(backend_of(&c), 0), "\"join\""));
    finish(&c, &cl);
}

static void the_gateway_may_go_meanwhile(void **state)
{
    struct core c;
    struct client cl;
    (void)state;
    open_alice(&c, &cl);
    c.no_messages = true;
    fake_answer(backend_of(&c), 0, 200, "{\"actions\":[{\"do\":\"broadcast\",\"data\":1}]}");
    loop_fake_advance(&c.loop, 150); /* waits to be tried again */
    client_vanish(&cl);
    core_fini(&c);
    open_alice(&c, &cl);
    fake_answer(backend_of(&c), 0, 200, "{\"actions\":[{\"do\":\"disconnect\"},{\"do\":\"broadcast\",\"data\":1}]}");
    client_vanish(&cl);
    core_fini(&c);
}

static void answers_to_questions_have_them_too(void **state)
{
    struct core c;
    struct client cl;
    (void)state;
    open_alice(&c, &cl);
    fake_answer(backend_of(&c), 0, 204, "");
    client_send(&cl, "{\"type\":\"call\",\"id\":1,\"event\":\"enter\"}");
    loop_fake_run(&c.loop);
    fake_answer(backend_of(&c), 0, 200, "{\"data\":5,\"actions\":[{\"do\":\"join\",\"room\":\"ask\"}]}");
    client_expect(&cl, "\"ack\"", "\"data\":5");
    client_expect(&cl, "\"joined\"", "\"ask\"");
    client_send(&cl, "{\"type\":\"publish\",\"id\":2,\"room\":\"ask\",\"data\":\"fool\"}");
    loop_fake_run(&c.loop);
    fake_answer(
        backend_of(&c), 0, 200,
        "{\"allow\":false,\"reason\":\"language\",\"actions\":[{\"do\":\"ban\",\"user\":\"alice\",\"for\":60}]}");
    client_expect(&cl, "\"refused\"", "language");
    loop_fake_advance(&c.loop, 100);
    client_expect(&cl, "\"banned\"");
    client_vanish(&cl);
    core_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_has_its_members),
        cmocka_unit_test(what_is_wrong_is_said),
        cmocka_unit_test(fields_become_json),
        cmocka_unit_test(they_are_done_in_order_before_the_next_event),
        cmocka_unit_test(one_that_fails_does_not_stop_the_others),
        cmocka_unit_test(repeating_an_event_says_nothing_twice),
        cmocka_unit_test(who_comes_in_is_who_is_meant),
        cmocka_unit_test(what_it_says_meanwhile_waits),
        cmocka_unit_test(who_did_not_wait_was_nobody),
        cmocka_unit_test(the_gateway_may_end_meanwhile),
        cmocka_unit_test(lists_are_bounded),
        cmocka_unit_test(half_a_minute_is_enough),
        cmocka_unit_test(the_gateway_may_go_meanwhile),
        cmocka_unit_test(answers_to_questions_have_them_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
