/* tests/unit/test_admit.c: who is banned, or whose token is revoked, does not get in: when coming, when coming back, and with another token. */
#include "tests/support/door_fixture.h"

#define NOW_MS 1700000000000u

static void quietly(void *arg, const struct broker_result *r)
{
    (void)arg;
    assert_int_equal(r->err, OK);
}

static void ban(const char *user, uint64_t until_ms, const char *reason)
{
    struct broker *b = core.gw->broker;
    b->ops->ban(b, &(struct ban_record){.user = slice_str(user), .reason = slice_str(reason), .until_ms = until_ms},
                quietly, NULL);
    loop_fake_run(&core.loop);
}

/* The news is lost. */
static void ban_unheard(const char *user, const char *reason)
{
    core.deaf = true;
    ban(user, 0, reason);
    core.deaf = false;
}

static void revoke(const char *jti, const char *user, uint64_t before_s)
{
    struct broker *b = core.gw->broker;
    const struct revocation what = {
        .jti = slice_str(jti), .user = slice_str(user), .before_s = before_s, .until_ms = NOW_MS + 3600000};
    b->ops->revoke(b, &what, quietly, NULL);
    loop_fake_run(&core.loop);
}

static void expect_close(struct client *cl, int code, const char *reason)
{
    struct slice payload;
    loop_fake_run(&core.loop);
    assert_int_equal(client_next(cl, &payload), WS_CLOSE);
    assert_int_equal((unsigned char)payload.p[0] << 8 | (unsigned char)payload.p[1], code);
    assert_slice(slice_from(payload, 2), reason);
    assert_true(cl->close_asked);
}

static void open_plain(const char *const *more)
{
    const char *args[12] = {"--heartbeat", "3600"};
    size_t n = 2;
    for (; more != NULL && *more != NULL; more++)
        args[n++] = *more;
    core_init(&core, args);
    *metrics = (struct metrics){0};
}

static void come(struct client *cl, const char *token)
{
    struct slice subprotocol;
    assert_int_equal(ask(cl, "/ws", text_of("token=", token, ""), &subprotocol), OK);
}

/* --- coming --- */

static void a_banned_user_is_told_why_and_until_when(void **state)
{
    struct client cl[3];
    (void)state;
    open_plain(NULL);
    ban("mallory", NOW_MS + 86400000, "sells \"things\"");
    ban("eve", 0, "");
    client_connect(&cl[0], &core, "/ws/mallory");
    client_expect(&cl[0], "\"type\":\"error\"", "\"code\":\"banned\"", "\"reason\":\"sells \\\"things\\\"\"",
                  "\"until\":1700086400000", "banned until 2023-11-15T22:13:20Z: sells");
    expect_close(&cl[0], 4004, "banned");
    client_connect(&cl[1], &core, "/ws/eve");
    client_expect(&cl[1], "\"code\":\"banned\"", "\"message\":\"banned\"", "\"reason\":null", "\"until\":null");
    expect_close(&cl[1], 4004, "banned");
    assert_int_equal(metrics->drops[DROP_BANNED], 2);
    assert_int_equal(metrics->errors[ERR_BANNED], 2);
    client_open(&cl[2], &core, "/ws/alice");
    close_core(cl, 3);
}

/* Nobody else ever hears of it. */
static void nothing_of_a_refused_session_is_stored(void **state)
{
    struct client cl[1];
    (void)state;
    open_plain(NULL);
    ban("eve", 0, "");
    unsigned puts = core.puts;
    client_connect(cl, &core, "/ws/eve");
    client_expect(cl, "\"code\":\"banned\"");
    client_vanish(cl);
    loop_fake_run(&core.loop);
    assert_int_equal(core.puts, puts);
    close_core(cl, 0);
}

static void gone_before_the_answer(void **state)
{
    struct client cl[2];
    (void)state;
    open_plain(NULL);
    ban("eve", 0, "");
    client_connect(&cl[0], &core, "/ws/eve");
    client_vanish(&cl[0]);
    client_connect(&cl[1], &core, "/ws/alice");
    client_vanish(&cl[1]);
    loop_fake_run(&core.loop);
    close_core(cl, 0);
}

static void a_ban_that_is_over_is_none(void **state)
{
    struct client cl[1];
    (void)state;
    open_plain(NULL);
    ban("mallory", NOW_MS + 5000, "");
    loop_fake_advance(&core.loop, 6000);
    client_open(cl, &core, "/ws/mallory");
    close_core(cl, 1);
}

/* --- tokens --- */

static void a_revoked_token_is_not_accepted(void **state)
{
    struct client cl[5];
    (void)state;
    open_core(NULL);
    revoke("t1", "", 0);
    revoke("", "bob", 1699999000);
    come(&cl[0], token_of("alice", EXP, ",\"jti\":\"t1\""));
    client_expect(&cl[0], "\"code\":\"unauthorized\"", "the token has been revoked");
    expect_close(&cl[0], 4001, "unauthorized");
    come(&cl[1], token_of("bob", EXP, ",\"iat\":1699998999.9"));
    client_expect(&cl[1], "\"code\":\"unauthorized\"", "revoked");
    come(&cl[2], token_of("bob", EXP, "")); /* it does not say since when */
    client_expect(&cl[2], "\"code\":\"unauthorized\"", "revoked");
    assert_int_equal(metrics->auth_refused[AUTH_REVOKED], 3);
    assert_int_equal(metrics->drops[DROP_UNAUTHORIZED], 3);
    enter(&cl[3], token_of("bob", EXP, ",\"iat\":1699999000,\"jti\":\"t2\""));
    enter(&cl[4], token_of("alice", EXP, ""));
    close_core(cl, 5);
}

/* However a token writes a name, it is the same one; what only looks like it is another. */
static void names_written_otherwise(void **state)
{
    struct client cl[4];
    (void)state;
    open_core(NULL);
    ban("alice", 0, "");
    revoke("t1", "", 0);
    come(&cl[0], token_of("\\u0061l\\u0069ce", EXP, ""));
    client_expect(&cl[0], "\"banned\"");
    come(&cl[1], token_of("bob", EXP, ",\"jti\":\"\\u00741\""));
    client_expect(&cl[1], "\"unauthorized\"", "revoked");
    enter(&cl[2], token_of("\u0430lice", EXP, "")); /* the first letter is Cyrillic */
    enter(&cl[3], token_of("bob", EXP, ",\"jti\":\"T1\""));
    static const char *const bad[] = {",\"jti\":\"\\ud800\"", ",\"jti\":\"\xc0\xb1\"", ",\"jti\":\"t1\\u0000\""};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        refused((struct http_request){.query = slice_str(text_of("token=", token_of("bob", EXP, bad[i]), ""))},
                i == 2 ? AUTH_CLAIMS : AUTH_MALFORMED, "of the token");
    close_core(cl, 4);
}

static void the_token_in_the_first_frame_too(void **state)
{
    struct client cl[1];
    (void)state;
    open_core(NULL);
    revoke("t1", "", 0);
    greet(cl, "/ws");
    client_send(cl,
                text_of("{\"type\":\"auth\",\"id\":1,\"token\":\"", token_of("alice", EXP, ",\"jti\":\"t1\""), "\"}"));
    client_expect(cl, "\"ack\"", "\"id\":1");
    client_expect(cl, "\"code\":\"unauthorized\"", "revoked");
    expect_close(cl, 4001, "unauthorized");
    close_core(cl, 1);
}

static void names_of_tokens_that_cannot_be_revoked(void **state)
{
    (void)state;
    open_core(NULL);
    static const char *const bad[] = {
        ",\"jti\":7",  ",\"jti\":\"\"", ",\"jti\":\"a\\u0000b\"",      ",\"jti\":null", ",\"iat\":\"1699999000\"",
        ",\"iat\":-1", ",\"iat\":null", ",\"jti\":\"a\",\"jti\":\"b\""};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        refused((struct http_request){.query = slice_str(text_of("token=", token_of("alice", EXP, bad[i]), ""))},
                i == ARRAY_LEN(bad) - 1 ? AUTH_MALFORMED : AUTH_CLAIMS, "of the token");
    core_fini(&core);
}

static void another_token_that_is_revoked_changes_nothing(void **state)
{
    struct client cl[1];
    (void)state;
    open_core(NULL);
    enter(cl, token_of("alice", EXP, ",\"jti\":\"t1\""));
    revoke("t2", "", 0);
    client_send(cl, text_of("{\"type\":\"auth\",\"id\":1,\"token\":\"",
                            token_of("alice", "1700002000", ",\"jti\":\"t2\""), "\"}"));
    client_expect(cl, "\"error\"", "\"id\":1", "\"unauthorized\"", "revoked");
    assert_int_equal(metrics->auth_refreshed, 0);
    lobby_join(cl);
    client_send(cl, text_of("{\"type\":\"auth\",\"id\":2,\"token\":\"",
                            token_of("alice", "1700002000", ",\"jti\":\"t3\""), "\"}"));
    client_expect(cl, "\"ack\"", "\"id\":2", "\"expires\":1700002000");
    close_core(cl, 1);
}

/* The store has found nothing against it, and is told of its end before anybody here knows that there is such a token. */
static void revoked_while_it_is_looked_at(void **state)
{
    struct client cl[1];
    (void)state;
    open_core(NULL);
    enter(cl, token_of("alice", EXP, ",\"jti\":\"t1\""));
    core.late_admission_ms = 1000;
    client_send(cl,
                text_of("{\"type\":\"auth\",\"id\":1,\"token\":\"", token_of("alice", EXP, ",\"jti\":\"t2\""), "\"}"));
    loop_fake_advance(&core.loop, 500);
    revoke("t2", "", 0);
    loop_fake_advance(&core.loop, 2000);
    client_expect(cl, "\"ack\"", "\"id\":1");
    client_expect(cl, "\"error\"", "\"unauthorized\"", "revoked");
    expect_close(cl, 4001, "unauthorized");
    close_core(cl, 1);
}

static void a_banned_user_with_another_token_goes(void **state)
{
    struct client cl[1];
    (void)state;
    open_core(NULL);
    enter(cl, token_of("alice", EXP, ""));
    ban_unheard("alice", "spam");
    client_send(cl, text_of("{\"type\":\"auth\",\"id\":1,\"token\":\"", token_of("alice", EXP, ""), "\"}"));
    client_expect(cl, "\"error\"", "\"id\":1", "\"banned\"", "\"reason\":\"spam\"");
    client_expect(cl, "\"goodbye\"", "\"banned\"");
    expect_close(cl, 4004, "banned");
    close_core(cl, 1);
}

static void gone_while_its_token_is_looked_at(void **state)
{
    struct client cl[1];
    (void)state;
    open_core(NULL);
    enter(cl, token_of("alice", EXP, ""));
    client_send(cl, text_of("{\"type\":\"auth\",\"id\":1,\"token\":\"", token_of("alice", EXP, ""), "\"}"));
    close_core(cl, 1);
}

/* --- coming back --- */

static const char *park(struct client *cl, const char *path, char sid[SID_LEN + 1])
{
    static char token[TOKEN_LEN + 1];
    client_open(cl, &core, path);
    lobby_join(cl);
    memcpy(sid, cl->sid, SID_LEN + 1);
    memcpy(token, cl->conn->session->token, sizeof token);
    ban_unheard("mallory", "spam");
    client_vanish(cl);
    loop_fake_run(&core.loop);
    return token;
}

/* Anybody may say that he is nobody, and then ask for a session of somebody who is banned. */
static void a_banned_user_does_not_come_back(void **state)
{
    struct client cl[3];
    char sid[SID_LEN + 1], frame[300];
    (void)state;
    open_plain((const char *const[]){"--resume-window", "60s", NULL});
    client_open(&cl[1], &core, "/ws/alice");
    lobby_join(&cl[1]);
    const char *token = park(&cl[0], "/ws/mallory", sid);
    client_expect(&cl[1], "\"enter\"");
    client_expect(&cl[1], "\"suspend\"");
    client_open(&cl[2], &core, "/ws");
    (void)snprintf(frame, sizeof frame, "{\"type\":\"resume\",\"id\":9,\"session\":\"%s\",\"token\":\"%s\"}", sid,
                   token);
    client_send(&cl[2], frame);
    client_expect(&cl[2], "\"error\"", "\"id\":9", "\"banned\"", "\"reason\":\"spam\"");
    expect_close(&cl[2], 4004, "banned");
    client_vanish(&cl[2]);
    loop_fake_run(&core.loop);
    client_open(&cl[2], &core, "/ws");
    client_send(&cl[2], frame);
    client_expect(&cl[2], "\"error\"", "\"not_found\""); /* it was not parked again */
    close_core(cl + 1, 2);
}

/* It was heard; before the store has said whom it concerns, the client asks for its former session. */
static void revoked_while_it_comes_back(void **state)
{
    struct client cl[2];
    char frame[300];
    (void)state;
    open_with("--resume-window", "60s");
    enter(&cl[0], token_of("alice", EXP, ""));
    lobby_join(&cl[0]);
    (void)snprintf(frame, sizeof frame, "{\"type\":\"resume\",\"id\":9,\"session\":\"%s\",\"token\":\"%s\"}", cl[0].sid,
                   cl[0].conn->session->token);
    client_vanish(&cl[0]);
    enter(&cl[1], token_of("alice", EXP, ",\"jti\":\"t1\""));
    core.late_admission_ms = 1000;
    revoke("t1", "", 0);
    assert_int_equal(metrics->rechecks, 1);
    client_send(&cl[1], frame);
    loop_fake_advance(&core.loop, 3000);
    client_expect(&cl[1], "\"error\"", "\"id\":9", "\"unauthorized\"", "revoked");
    expect_close(&cl[1], 4001, "unauthorized");
    close_core(cl + 1, 1);
}

/* --- while here --- */

static void who_is_banned_while_here_goes(void **state)
{
    struct client cl[4];
    (void)state;
    open_plain((const char *const[]){"--resume-window", "60s", NULL});
    client_open(&cl[0], &core, "/ws/alice");
    lobby_join(&cl[0]);
    for (int i = 1; i < 3; i++) {
        client_open(&cl[i], &core, "/ws/mallory");
        lobby_join(&cl[i]);
        client_expect(&cl[0], "\"enter\"", cl[i].sid);
        if (i == 2)
            client_expect(&cl[1], "\"enter\"");
    }
    ban("mallory", 0, "spam");
    for (int i = 1; i < 3; i++) {
        client_expect(&cl[i], "\"error\"", "\"banned\"", "\"reason\":\"spam\"");
        client_expect(&cl[i], "\"goodbye\"", "\"banned\"");
        expect_close(&cl[i], 4004, "banned");
        client_expect(&cl[0], "\"exit\"", "\"kicked\"");
    }
    client_expect_nothing(&cl[0]);
    assert_int_equal(gateway_session_count(core.gw), 1);
    assert_int_equal(metrics->rechecks, 2);
    client_connect(&cl[3], &core, "/ws/mallory");
    client_expect(&cl[3], "\"banned\"");
    close_core(cl, 4);
}

static void whose_token_is_revoked_comes_back_with_another(void **state)
{
    struct client cl[3];
    char sid[SID_LEN + 1], frame[300], token[TOKEN_LEN + 1];
    (void)state;
    open_with("--resume-window", "60s");
    enter(&cl[0], token_of("alice", EXP, ",\"jti\":\"t1\""));
    enter(&cl[1], token_of("alice", EXP, ",\"jti\":\"t2\""));
    lobby_join(&cl[0]);
    memcpy(sid, cl[0].sid, sizeof sid);
    memcpy(token, cl[0].conn->session->token, sizeof token);
    revoke("t1", "", 0);
    client_expect(&cl[0], "\"error\"", "\"unauthorized\"", "the token has been revoked");
    expect_close(&cl[0], 4001, "unauthorized");
    client_expect_nothing(&cl[1]);
    assert_false(cl[1].close_asked);
    client_vanish(&cl[0]);
    enter(&cl[2], token_of("alice", EXP, ",\"jti\":\"t3\""));
    (void)snprintf(frame, sizeof frame, "{\"type\":\"resume\",\"id\":1,\"session\":\"%s\",\"token\":\"%s\"}", sid,
                   token);
    client_send(&cl[2], frame);
    client_expect(&cl[2], "\"welcome\"", "\"resumed\":true");
    client_expect(&cl[2], "\"recovered\"", "\"lobby\"");
    close_core(cl + 1, 2);
}

static void older_tokens_of_a_user_are_revoked(void **state)
{
    struct client cl[3];
    (void)state;
    open_core(NULL);
    enter(&cl[0], token_of("alice", EXP, ",\"iat\":1699999000"));
    enter(&cl[1], token_of("alice", EXP, ",\"iat\":1699999500"));
    enter(&cl[2], token_of("bob", EXP, ",\"iat\":1699999000"));
    revoke("", "alice", 1699999500);
    client_expect(&cl[0], "\"error\"", "revoked");
    expect_close(&cl[0], 4001, "unauthorized");
    client_expect_nothing(&cl[1]);
    client_expect_nothing(&cl[2]);
    assert_false(cl[1].close_asked || cl[2].close_asked);
    close_core(cl, 3);
}

static uint64_t turns_end;

static bool turns_are_over(void *arg)
{
    (void)arg;
    return core.loop.turns >= turns_end;
}

/* The store has been asked before the ban, and knows of the session after it. */
static void banned_on_the_threshold(void **state)
{
    struct broker *b;
    (void)state;
    for (int turns = 0; turns < 6; turns++) {
        struct client cl[1];
        struct slice payload;
        open_plain(NULL);
        b = core.gw->broker;
        client_connect(cl, &core, "/ws/mallory");
        turns_end = core.loop.turns + (uint64_t)turns;
        (void)loop_fake_until(&core.loop, turns_are_over, NULL, 100);
        b->ops->ban(b, &(struct ban_record){.user = SLICE("mallory")}, quietly, NULL);
        loop_fake_advance(&core.loop, 200);
        bool told = false;
        while (client_next(cl, &payload) == WS_TEXT)
            told = told || memmem(payload.p, payload.n, "\"banned\"", 8) != NULL;
        assert_true(told);
        assert_true(cl->close_asked);
        close_core(cl, 1);
    }
}

/* The news of a ban was lost; the node asks when its link is back. */
static void after_an_outage_all_are_asked_for(void **state)
{
    struct client cl[2];
    (void)state;
    open_plain(NULL);
    client_open(&cl[0], &core, "/ws/mallory");
    client_open(&cl[1], &core, "/ws/alice");
    ban_unheard("mallory", "");
    client_expect_nothing(&cl[0]);
    core.gw->broker->events->link(core.gw, false);
    core.gw->broker->events->link(core.gw, true);
    loop_fake_advance(&core.loop, 1000);
    client_expect(&cl[0], "\"banned\"");
    client_expect_nothing(&cl[1]);
    assert_int_equal(metrics->rechecks, 2);
    close_core(cl, 2);
}

/* Those too that have still to begin, and nobody for ever because he was asked for once more. */
static void whose_turn_comes_after_an_outage_begins(void **state)
{
    struct client cl[3];
    (void)state;
    open_plain((const char *const[]){"--max-starts", "1", NULL});
    core.late_admission_ms = 1500;
    for (int i = 0; i < 3; i++)
        client_connect(&cl[i], &core, i == 1 ? "/ws/mallory" : "/ws/alice");
    ban_unheard("mallory", "");
    core.gw->broker->events->link(core.gw, false);
    core.gw->broker->events->link(core.gw, true);
    loop_fake_advance(&core.loop, 1700);
    core.late_admission_ms = 0;
    loop_fake_advance(&core.loop, 2000);
    client_expect(&cl[0], "\"welcome\"");
    client_expect(&cl[1], "\"banned\"");
    client_expect(&cl[2], "\"welcome\"");
    close_core(cl, 3);
}

/* --- over HTTP --- */

struct http_answer {
    struct http_exchange x;
    int status;
    char body[400];
};

static void on_http(struct http_exchange *x, const struct http_response *r)
{
    struct http_answer *a = container_of(x, struct http_answer, x);
    assert_int_equal(a->status, 0);
    a->status = r->status;
    (void)snprintf(a->body, sizeof a->body, "%.*s", SLICE_FMT(r->body));
}

static void expect_http(const char *path, const char *token, int status, const char *text)
{
    struct http_answer a = {.x.respond = on_http};
    struct slice query = slice_str(text_of("token=", token, ""));
    gateway_http(core.gw,
                 &(struct http_request){
                     .method = SLICE("GET"), .path = slice_str(path), .query = query, .ip = SLICE("192.0.2.1")},
                 &a.x);
    loop_fake_run(&core.loop);
    if (a.status != status || strstr(a.body, text) == NULL)
        fail_msg("%s: %d %s", path, a.status, a.body);
}

static void who_may_not_be_here_reads_nothing_either(void **state)
{
    static const char *const paths[] = {"/api/v1/rooms", "/api/v1/rooms/lobby", "/api/v1/rooms/lobby/history"};
    struct client cl[1];
    (void)state;
    open_core(NULL);
    enter(cl, token_of("alice", EXP, ""));
    lobby_join(cl);
    lobby_say(cl, 1);
    ban("mallory", 0, "spam");
    revoke("t1", "", 0);
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        expect_http(paths[i], token_of("mallory", EXP, ""), 403, "\"code\":\"banned\",\"message\":\"banned: spam\"");
        expect_http(paths[i], token_of("alice", EXP, ",\"jti\":\"t1\""), 401, "the token has been revoked");
        expect_http(paths[i], token_of("alice", EXP, ""), 200, "lobby");
    }
    expect_http("/api/v1/rooms/%", token_of("alice", EXP, ""), 400, "invalid_name");
    expect_http("/api/v1/rooms/%", token_of("mallory", EXP, ""), 403, "banned");
    close_core(cl, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_banned_user_is_told_why_and_until_when),
        cmocka_unit_test(nothing_of_a_refused_session_is_stored),
        cmocka_unit_test(gone_before_the_answer),
        cmocka_unit_test(a_ban_that_is_over_is_none),
        cmocka_unit_test(a_revoked_token_is_not_accepted),
        cmocka_unit_test(names_written_otherwise),
        cmocka_unit_test(the_token_in_the_first_frame_too),
        cmocka_unit_test(names_of_tokens_that_cannot_be_revoked),
        cmocka_unit_test(another_token_that_is_revoked_changes_nothing),
        cmocka_unit_test(revoked_while_it_is_looked_at),
        cmocka_unit_test(a_banned_user_with_another_token_goes),
        cmocka_unit_test(gone_while_its_token_is_looked_at),
        cmocka_unit_test(a_banned_user_does_not_come_back),
        cmocka_unit_test(revoked_while_it_comes_back),
        cmocka_unit_test(who_may_not_be_here_reads_nothing_either),
        cmocka_unit_test(who_is_banned_while_here_goes),
        cmocka_unit_test(whose_token_is_revoked_comes_back_with_another),
        cmocka_unit_test(older_tokens_of_a_user_are_revoked),
        cmocka_unit_test(banned_on_the_threshold),
        cmocka_unit_test(after_an_outage_all_are_asked_for),
        cmocka_unit_test(whose_turn_comes_after_an_outage_begins),
    };
    return cmocka_run_group_tests(tests, token_files_make, token_files_remove);
}
