/* tests/unit/test_grant.c: --auth jwt in the core: what a token lets a session do, when that ends, and who comes back. */
#include "gateway/grant.h"
#include "gateway/room.h"
#include "tests/support/door_fixture.h"

/* --- rights --- */

static void rooms_by_token(void **state)
{
    struct client cl[2];
    (void)state;
    open_with("--policy", "open join=anyone publish=anyone", "--policy", "$user:* publish=token", "--policy",
              "* join=token publish=token");
    enter(&cl[0], token_of("alice", EXP, ",\"xindao\":{\"join\":[\"room-*\"],\"publish\":[\"room-1\",\"$user:b*\"]}"));
    enter(&cl[1], token_of("bob", EXP, ""));
    static const struct {
        const char *frame, *want;
    } cases[] = {
        {"{\"type\":\"join\",\"id\":1,\"room\":\"room-1\"}", "\"ack\""},
        {"{\"type\":\"join\",\"id\":1,\"room\":\"lobby\"}", "the token does not let you join"},
        {"{\"type\":\"history\",\"id\":1,\"room\":\"lobby\"}", "the token does not let you join"},
        {"{\"type\":\"presence\",\"id\":1,\"room\":\"lobby\"}", "the token does not let you join"},
        {"{\"type\":\"presence\",\"id\":1,\"room\":\"room-7\"}", "\"ack\""},
        {"{\"type\":\"publish\",\"id\":1,\"room\":\"room-2\",\"data\":1}", "the token does not let you publish"},
        {"{\"type\":\"publish\",\"id\":1,\"room\":\"open\",\"data\":1}", "\"ack\""},
        {"{\"type\":\"send\",\"id\":1,\"to\":{\"user\":\"alice\"},\"data\":1}", "the token does not let you publish"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        client_send(&cl[0], cases[i].frame);
        client_expect(&cl[0], cases[i].want);
    }
    client_send(&cl[0], "{\"type\":\"send\",\"id\":1,\"to\":{\"user\":\"bob\"},\"data\":1}");
    client_expect(&cl[0], "\"ack\"");
    client_expect(&cl[1], "\"message\"", "\"$user:bob\"");
    client_send(&cl[1], "{\"type\":\"join\",\"id\":1,\"room\":\"room-1\"}");
    client_expect(&cl[1], "\"forbidden\"");
    close_core(cl, 2);
}

/* A star for rooms lets nobody write to people, or to everybody. */
static void the_servers_rooms_are_named_by_a_dollar(void **state)
{
    struct client cl[1];
    (void)state;
    open_with("--policy", "$* publish=token", "--policy", "* publish=token");
    enter(cl, token_of("alice", EXP, ",\"xindao\":{\"publish\":[\"*\",\"?all\"]}"));
    client_send(cl, "{\"type\":\"publish\",\"id\":1,\"room\":\"lobby\",\"data\":1}");
    client_expect(cl, "\"ack\"", "\"id\":1");
    client_send(cl, "{\"type\":\"broadcast\",\"id\":2,\"data\":1}");
    client_expect(cl, "\"forbidden\"", "\"id\":2");
    client_send(cl, "{\"type\":\"send\",\"id\":3,\"to\":{\"user\":\"alice\"},\"data\":1}");
    client_expect(cl, "\"forbidden\"", "\"id\":3");
    close_core(cl, 1);
}

/* Who may be watched is said as rooms of the server; a fresh token may say less. */
static void users_by_token(void **state)
{
    struct client cl[1];
    (void)state;
    open_with("--policy", "$user:* watch=token", "--policy", "*");
    enter(cl, token_of("alice", EXP, ",\"xindao\":{\"watch\":[\"$user:b*\",\"*\"]}"));
    client_send(cl, "{\"type\":\"watch\",\"id\":1,\"users\":[\"bob\"]}");
    client_expect(cl, "\"ack\"", "\"user\":\"bob\"");
    client_send(cl, "{\"type\":\"watch\",\"id\":2,\"users\":[\"ben\",\"carol\"]}");
    client_expect(cl, "\"error\"", "\"forbidden\"", "\"id\":2");
    assert_int_equal(cl->conn->session->watch_count, 1); /* nothing of it was done */
    client_send(cl, text_of("{\"type\":\"auth\",\"id\":3,\"token\":\"", token_of("alice", EXP, ""), "\"}"));
    client_expect(cl, "\"ack\"", "\"id\":3");
    client_expect(cl, "\"error\"", "\"forbidden\"");
    assert_int_equal(cl->conn->session->watch_count, 0);
    close_core(cl, 1);
}

static void rooms_joined_at_once(void **state)
{
    struct client cl[1];
    (void)state;
    open_with("--policy", "shut join=nobody", "--policy", "* join=token");
    enter(cl, token_of("alice", EXP, ",\"xindao\":{\"rooms\":[\"lobby\",\"shut\",\"lobby\"]}"));
    client_expect(cl, "\"error\"", "\"forbidden\"", "\"room\":\"shut\"");
    client_expect(cl, "\"type\":\"joined\"", "\"room\":\"lobby\"", "\"position\"", "\"total\":1");
    client_send(cl, "{\"type\":\"publish\",\"id\":1,\"room\":\"lobby\",\"data\":1}");
    client_expect(cl, "\"ack\"");
    client_expect(cl, "\"message\"");
    client_send(cl, "{\"type\":\"leave\",\"id\":2,\"room\":\"lobby\"}");
    client_expect(cl, "\"ack\"", "\"id\":2");
    client_send(cl, "{\"type\":\"join\",\"id\":3,\"room\":\"lobby\"}");
    client_expect(cl, "\"ack\"", "\"id\":3");
    close_core(cl, 1);
}

/* --- the end of a token --- */

static void an_expired_token_disconnects(void **state)
{
    struct client cl[1];
    (void)state;
    open_core(NULL);
    enter(cl, token_of("alice", EXP, ""));
    loop_fake_advance(&core.loop, 567000);
    client_expect_nothing(cl);
    loop_fake_advance(&core.loop, 4000);
    client_expect(cl, "{\"type\":\"expiring\",\"expires\":1700000600,\"in\":"); /* with a notice of thirty seconds */
    loop_fake_advance(&core.loop, 57000);                                       /* ten minutes, and nearly the leeway */
    client_expect_nothing(cl);
    loop_fake_advance(&core.loop, 4000);
    assert_int_equal(metrics->auth_expiring, 1);
    client_expect(cl, "\"error\"", "\"unauthorized\"", "token expired");
    expect_turned_away(cl);
    assert_int_equal(metrics->auth_expired, 1);
    close_core(cl, 1);
}

/* Who gets tokens for a minute is not told at once that it will soon be over, and asks for another one, and is told … */
static void a_short_token_is_about_to_expire_in_its_last_quarter(void **state)
{
    struct client cl[1];
    (void)state;
    open_with("--jwt-leeway", "0s");
    enter(cl, token_of("alice", "1700000040", ""));
    for (unsigned round = 1; round <= 3; round++) {
        char expires[16];
        loop_fake_advance(&core.loop, 28000);
        client_expect_nothing(cl);
        loop_fake_advance(&core.loop, 4000);
        client_expect(cl, "\"expiring\"");
        (void)snprintf(expires, sizeof expires, "%u", 1700000000 + round * 32 + 40);
        client_send(cl, text_of("{\"type\":\"auth\",\"id\":1,\"token\":\"", token_of("alice", expires, ""), "\"}"));
        client_expect(cl, "\"ack\"", expires);
        assert_int_equal(metrics->auth_expiring, round);
    }
    close_core(cl, 1);
}

static void nobody_is_told_who_does_not_want_to_be(void **state)
{
    struct client cl[1];
    (void)state;
    open_with("--jwt-notice", "0s");
    enter(cl, token_of("alice", EXP, ""));
    loop_fake_advance(&core.loop, 628000);
    client_expect_nothing(cl);
    close_core(cl, 1);
}

static void expiry_may_be_ignored(void **state)
{
    struct client cl[1];
    (void)state;
    open_with("--jwt-expiry", "ignore");
    enter(cl, token_of("alice", EXP, ""));
    loop_fake_advance(&core.loop, 900000);
    client_expect_nothing(cl);
    lobby_join(cl);
    core.cfg.jwt_expiry = EXPIRY_DISCONNECT; /* as a reload does */
    loop_fake_advance(&core.loop, 61000);
    client_expect(cl, "token expired");
    expect_turned_away(cl);
    close_core(cl, 1);
}

static void a_fresh_token_in_time(void **state)
{
    struct client cl[1];
    (void)state;
    open_with("--policy", "* join=token");
    enter(cl, token_of("alice", EXP, ",\"xindao\":{\"join\":[\"lobby\",\"game\"]}"));
    lobby_join(cl);
    client_send(cl, "{\"type\":\"join\",\"id\":2,\"room\":\"game\"}");
    client_expect(cl, "\"ack\"", "\"game\"");
    loop_fake_advance(&core.loop, 590000);
    client_expect(cl, "\"expiring\"");
    const char *fresh = token_of("alice", "1700002000", ",\"xindao\":{\"join\":[\"lobby\"]}");
    client_send(cl, text_of("{\"type\":\"auth\",\"id\":3,\"token\":\"", fresh, "\"}"));
    client_expect(cl, "\"ack\"", "\"id\":3", "\"expires\":1700002000");
    client_expect(cl, "\"error\"", "\"forbidden\"", "\"room\":\"game\""); /* no longer in the token */
    assert_null(session_member(cl->conn->session, SLICE("game")));
    assert_non_null(session_member(cl->conn->session, SLICE("lobby")));
    loop_fake_advance(&core.loop, 600000);
    client_expect_nothing(cl);
    loop_fake_advance(&core.loop, 900000);
    client_expect(cl, "\"expiring\"");
    client_expect(cl, "token expired");
    assert_int_equal(metrics->auth_refreshed, 1);
    close_core(cl, 1);
}

static void a_refresh_that_is_refused_changes_nothing(void **state)
{
    struct client cl[1];
    (void)state;
    open_core(NULL);
    enter(cl, token_of("alice", EXP, ""));
    client_send(cl, text_of("{\"type\":\"auth\",\"id\":1,\"token\":\"", token_of("bob", "1700009000", ""), "\"}"));
    client_expect(cl, "\"error\"", "\"id\":1", "another user's");
    client_send(cl, text_of("{\"type\":\"auth\",\"id\":2,\"token\":\"", token_of("alice", "1600009000", ""), "\"}"));
    client_expect(cl, "\"error\"", "\"id\":2", "has expired");
    client_send(cl, "{\"type\":\"auth\",\"id\":3,\"token\":7}");
    client_expect(cl, "\"error\"", "\"id\":3", "\"bad_request\"");
    assert_slice(cl->conn->session->user, "alice");
    lobby_join(cl);
    close_core(cl, 1);
    core_init(&core, NULL);
    client_open(cl, &core, "/ws/alice");
    client_send(cl, "{\"type\":\"auth\",\"id\":1,\"token\":\"x\"}");
    client_expect(cl, "\"unsupported\"");
    close_core(cl, 1);
}

/* --- coming back --- */

struct ticket {
    char sid[SID_LEN + 1], token[TOKEN_LEN + 1];
};

static struct ticket ticket_of(const struct client *cl)
{
    struct ticket t;
    memcpy(t.sid, cl->conn->session->sid, sizeof t.sid);
    memcpy(t.token, cl->conn->session->token, sizeof t.token);
    return t;
}

static void resume(struct client *cl, const struct ticket *t)
{
    char frame[300];
    (void)snprintf(frame, sizeof frame, "{\"type\":\"resume\",\"id\":9,\"session\":\"%s\",\"token\":\"%s\"}", t->sid,
                   t->token);
    client_send(cl, frame);
}

/* The session outlives its token, but nobody comes to it without a good one, or as somebody else. */
static void an_expired_session_is_resumed_with_a_fresh_token(void **state)
{
    struct client cl[4];
    (void)state;
    open_with("--resume-window", "120");
    enter(&cl[0], token_of("alice", EXP, ""));
    lobby_join(&cl[0]);
    struct ticket t = ticket_of(&cl[0]);
    loop_fake_advance(&core.loop, 632000);
    client_expect(&cl[0], "\"expiring\"");
    client_expect(&cl[0], "token expired");
    expect_turned_away(&cl[0]);
    client_vanish(&cl[0]);
    loop_fake_run(&core.loop);
    assert_int_equal(metrics->parked, 1);
    refused((struct http_request){.query = slice_str(text_of("token=", token_of("alice", EXP, ""), ""))}, AUTH_EXPIRED,
            "expired");
    greet(&cl[0], "/ws");
    resume(&cl[0], &t);
    client_expect(&cl[0], "\"error\"", "\"id\":9", "\"unauthorized\"");
    enter(&cl[1], token_of("mallory", "1700003000", ""));
    resume(&cl[1], &t);
    client_expect(&cl[1], "\"error\"", "\"id\":9", "\"unauthorized\"");
    enter(&cl[2], token_of("alice", "1700003000", ",\"xindao\":{\"rooms\":[\"hall\"]}"));
    client_expect(&cl[2], "\"joined\"", "\"hall\"");
    resume(&cl[2], &t);
    client_expect(&cl[2], "\"welcome\"", "\"id\":9", "\"resumed\":true", t.sid, "\"expires\":1700003000");
    client_expect(&cl[2], "\"recovered\"", "\"lobby\"");
    loop_fake_advance(&core.loop, 10000);
    client_expect_nothing(&cl[2]);
    assert_int_equal(metrics->resumed, 1);
    assert_null(session_member(cl[2].conn->session, SLICE("hall")));
    close_core(cl, 3);
}

/* Who announces a resume is not taken into the rooms of its token for a moment, but gets there when nothing comes of it. */
static void rooms_wait_for_an_announced_resume(void **state)
{
    struct client cl[4];
    struct slice subprotocol;
    (void)state;
    open_with("--resume-window", "120");
    const char *token = token_of("alice", EXP, ",\"xindao\":{\"rooms\":[\"hall\"]}");
    enter(&cl[0], token);
    client_expect(&cl[0], "\"joined\"", "\"hall\"");
    struct ticket t = ticket_of(&cl[0]);
    client_vanish(&cl[0]);
    loop_fake_run(&core.loop);
    const char *query = text_of("resume&token=", token, "");
    assert_int_equal(ask(&cl[0], "/ws", query, &subprotocol), OK);
    client_expect(&cl[0], "\"welcome\"");
    client_expect_nothing(&cl[0]);
    resume(&cl[0], &t);
    client_expect(&cl[0], "\"welcome\"", "\"resumed\":true");
    client_expect(&cl[0], "\"recovered\"", "\"hall\"");
    client_expect_nothing(&cl[0]);
    assert_int_equal(ask(&cl[1], "/ws", query, &subprotocol), OK);
    client_expect(&cl[1], "\"welcome\"");
    t.sid[0] = t.sid[0] == 'A' ? 'B' : 'A';
    resume(&cl[1], &t);
    client_expect(&cl[1], "\"error\"", "\"id\":9");
    client_expect(&cl[1], "\"joined\"", "\"hall\"");
    assert_int_equal(ask(&cl[2], "/ws", query, &subprotocol), OK);
    client_expect(&cl[2], "\"welcome\"");
    client_send(&cl[2], "{\"type\":\"ping\"}");
    client_expect(&cl[2], "\"pong\"");
    client_expect(&cl[2], "\"joined\"", "\"hall\"");
    assert_int_equal(ask(&cl[3], "/ws", query, &subprotocol), OK);
    client_expect(&cl[3], "\"welcome\"");
    t.sid[0] = ',';
    resume(&cl[3], &t);
    client_expect(&cl[3], "\"error\"", "\"invalid_name\"");
    client_expect(&cl[3], "\"joined\"", "\"hall\"");
    close_core(cl, 4);
}

/* A returning session is let back only into the rooms that its new token names. */
static void a_resumed_session_has_the_rights_of_its_new_token(void **state)
{
    struct client cl[2];
    (void)state;
    open_with("--resume-window", "120", "--policy", "* join=token");
    enter(&cl[0], token_of("alice", EXP, ",\"xindao\":{\"join\":[\"lobby\"]}"));
    lobby_join(&cl[0]);
    struct ticket t = ticket_of(&cl[0]);
    client_vanish(&cl[0]);
    loop_fake_run(&core.loop);
    enter(&cl[1], token_of("alice", EXP, ""));
    resume(&cl[1], &t);
    client_expect(&cl[1], "\"welcome\"", "\"resumed\":true");
    client_expect(&cl[1], "\"recovered\":false", "\"forbidden\"");
    assert_null(session_member(cl[1].conn->session, SLICE("lobby")));
    close_core(&cl[1], 1);
}

/* --- keys --- */

static void keys_are_reloaded_or_kept(void **state)
{
    struct client cl[2];
    struct error error = {0};
    (void)state;
    const char *path = token_file("rotating.secret");
    size_t n;
    char *old = token_file_read("secret.secret", &n), *fresh = token_file_read("other.secret", &n);
    (void)token_file_with("rotating.secret", slice_str(old));
    core_init(&core, (const char *const[]){"--auth", "jwt", "--jwt-key", path, NULL});
    enter(&cl[0], token_of("alice", EXP, ""));
    (void)token_file_with("rotating.secret", SLICE("too short"));
    assert_int_equal(gateway_reload_auth(core.gw, &error), ERR_BAD_REQUEST);
    assert_non_null(strstr(error.text, "rotating.secret: a secret of 9 bytes"));
    enter(&cl[1], token_of("bob", EXP, ""));
    (void)token_file_with("rotating.secret", slice_str(fresh));
    assert_int_equal(gateway_reload_auth(core.gw, &error), OK);
    refused((struct http_request){.query = slice_str(text_of("token=", token_of("alice", EXP, ""), ""))},
            AUTH_SIGNATURE, "signature");
    lobby_join(&cl[0]); /* who is in stays */
    free(old);
    free(fresh);
    close_core(cl, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rooms_by_token),
        cmocka_unit_test(the_servers_rooms_are_named_by_a_dollar),
        cmocka_unit_test(users_by_token),
        cmocka_unit_test(rooms_joined_at_once),
        cmocka_unit_test(an_expired_token_disconnects),
        cmocka_unit_test(a_short_token_is_about_to_expire_in_its_last_quarter),
        cmocka_unit_test(nobody_is_told_who_does_not_want_to_be),
        cmocka_unit_test(expiry_may_be_ignored),
        cmocka_unit_test(a_fresh_token_in_time),
        cmocka_unit_test(a_refresh_that_is_refused_changes_nothing),
        cmocka_unit_test(an_expired_session_is_resumed_with_a_fresh_token),
        cmocka_unit_test(rooms_wait_for_an_announced_resume),
        cmocka_unit_test(a_resumed_session_has_the_rights_of_its_new_token),
        cmocka_unit_test(keys_are_reloaded_or_kept),
    };
    return cmocka_run_group_tests(tests, token_files_make, token_files_remove);
}
