/* tests/unit/test_door.c: --auth jwt in the core: how a token comes in, with the request or in the first frame. */
#include "tests/support/door_fixture.h"

/* --- coming in --- */

static void a_token_comes_with_the_request(void **state)
{
    struct client cl[4];
    struct error error;
    struct slice subprotocol;
    (void)state;
    open_with("--max-connections", "100");
    const char *alice = token_of("alice", EXP, "");
    enter(&cl[0], alice);
    assert_slice(cl[0].conn->session->user, "alice");
    assert_int_equal(client_ask(&cl[1], &core,
                                (struct http_request){.path = SLICE("/ws/alice"),
                                                      .authorization = slice_str(text_of("bEARER  ", alice, ""))},
                                &subprotocol, &error),
                     OK);
    client_expect(&cl[1], "\"welcome\"", "\"user\":\"alice\"", "\"expires\":" EXP);
    assert_int_equal(
        client_ask(&cl[2], &core,
                   (struct http_request){.path = SLICE("/ws"),
                                         .subprotocols = slice_str(text_of("bearer.", alice, ", xindao.v1.json"))},
                   &subprotocol, &error),
        OK);
    assert_slice(subprotocol, "xindao.v1.json");
    client_expect(&cl[2], "\"welcome\"", "\"user\":\"alice\"");
    assert_int_equal(ask(&cl[3], "/ws", text_of("a=b&token=", alice, "&c"), &subprotocol), OK);
    client_expect(&cl[3], "\"welcome\"", "\"user\":\"alice\"");
    assert_int_equal(metrics->auth_accepted, 4);
    close_core(cl, 4);
}

static void bad_tokens_get_no_further_than_the_request(void **state)
{
    (void)state;
    open_core(NULL);
    const char *alice = token_of("alice", EXP, "");
    struct slice query = slice_str(text_of("token=", alice, ""));
    refused((struct http_request){.query = SLICE("token=x")}, AUTH_MALFORMED, "not a token");
    refused((struct http_request){.query = SLICE("token=")}, AUTH_MALFORMED, "not a token");
    refused((struct http_request){.query = SLICE("token")}, AUTH_MALFORMED, "not a token");
    refused((struct http_request){.query = slice_str(text_of("token=", alice, "%20"))}, AUTH_MALFORMED, "not a token");
    refused((struct http_request){.query = slice_str(text_of("token=", alice, "&token=x"))}, AUTH_AMBIGUOUS,
            "more than one");
    refused((struct http_request){.query = query, .authorization = SLICE("Bearer x")}, AUTH_AMBIGUOUS, "more than one");
    refused((struct http_request){.query = query, .subprotocols = SLICE("bearer.x")}, AUTH_AMBIGUOUS, "more than one");
    refused((struct http_request){.subprotocols = SLICE("bearer.x, bearer.y")}, AUTH_AMBIGUOUS, "more than one");
    refused((struct http_request){.path = SLICE("/ws/bob"), .query = query}, AUTH_OTHER_USER, "another user's");
    refused((struct http_request){.path = SLICE("/ws/Alice"), .query = query}, AUTH_OTHER_USER, "another user's");
    core_fini(&core);
}

static void who_is_not_believed_is_told_why(void **state)
{
    (void)state;
    open_with("--jwt-audience", "chat");
    const char *old = token_of("alice", "1699999900", ",\"aud\":\"chat\"");
    refused((struct http_request){.query = slice_str(text_of("token=", old, ""))}, AUTH_EXPIRED, "has expired");
    const char *other = token_of("alice", EXP, ",\"aud\":\"shop\"");
    refused((struct http_request){.query = slice_str(text_of("token=", other, ""))}, AUTH_AUDIENCE, "another audience");
    const char *early = token_of("alice", EXP, ",\"aud\":\"chat\",\"nbf\":1700000400");
    refused((struct http_request){.query = slice_str(text_of("token=", early, ""))}, AUTH_NOT_YET, "not valid yet");
    core_fini(&core);
}

/* --- the first frame --- */

static void a_token_comes_in_the_first_frame(void **state)
{
    struct client cl[1];
    (void)state;
    open_core(NULL);
    greet(cl, "/ws/alice");
    client_expect_nothing(cl);
    client_send(cl, "{\"type\":\"join\",\"id\":1,\"room\":\"lobby\"}");
    client_expect(cl, "\"error\"", "\"id\":1", "\"unauthorized\"", "say who you are");
    client_send(cl, "ping");
    client_expect(cl, "\"error\"", "\"bad_request\"");
    client_send(cl, text_of("{\"type\":\"auth\",\"id\":2,\"token\":\"", token_of("alice", EXP, ""), "\"}"));
    client_expect(cl, "\"ack\"", "\"id\":2", "\"expires\":" EXP);
    client_expect(cl, "\"welcome\"", "\"user\":\"alice\"");
    lobby_join(cl);
    close_core(cl, 1);
}

/* What follows the token in the same packet belongs to the session, however the bytes were cut. */
static void frames_behind_the_token_wait_for_the_welcome(void **state)
{
    (void)state;
    for (size_t cut = 1; cut < 500; cut += 7) {
        struct client cl[1];
        struct buf all = BUF_INIT;
        open_core(NULL);
        greet(cl, "/ws");
        struct conn *real = TAKE(cl->conn);
        static const char join[] = "{\"type\":\"join\",\"id\":7,\"room\":\"lobby\"}";
        const char *auth = text_of("{\"type\":\"auth\",\"token\":\"", token_of("alice", EXP, ""), "\"}");
        size_t n = strlen(auth);
        assert_true(n >= 126 && n < 65536);
        buf_append(&all, (struct slice){(char[]){(char)0x81, (char)0xfe, (char)(n >> 8), (char)n, 0, 0, 0, 0}, 8});
        buf_append_str(&all, auth);
        buf_append(&all, (struct slice){(char[]){(char)0x81, (char)(0x80 | (sizeof join - 1)), 0, 0, 0, 0}, 6});
        buf_append_str(&all, join);
        cl->conn = real;
        size_t first = cut < all.n ? cut : all.n;
        conn_input(real, all.p, first);
        conn_input(real, all.p + first, all.n - first);
        buf_fini(&all);
        client_expect(cl, "\"ack\"");
        client_expect(cl, "\"welcome\"");
        client_expect(cl, "\"ack\"", "\"id\":7", "\"room\":\"lobby\"");
        close_core(cl, 1);
    }
}

static void a_first_frame_without_a_good_token_ends_it(void **state)
{
    struct client cl[4];
    (void)state;
    open_core(NULL);
    greet(&cl[0], "/ws");
    client_send(&cl[0], "{\"type\":\"auth\",\"id\":1,\"token\":\"x\"}");
    client_expect(&cl[0], "\"error\"", "\"id\":1", "\"unauthorized\"", "not a token");
    expect_turned_away(&cl[0]);
    greet(&cl[1], "/ws/bob");
    client_send(&cl[1], text_of("{\"type\":\"auth\",\"token\":\"", token_of("alice", EXP, ""), "\"}"));
    client_expect(&cl[1], "\"unauthorized\"", "another user's");
    expect_turned_away(&cl[1]);
    greet(&cl[2], "/ws");
    for (int i = 0; i < 10; i++) {
        client_send(&cl[2], "{\"type\":\"ping\"}");
        client_expect(&cl[2], "\"unauthorized\"");
    }
    expect_turned_away(&cl[2]);
    greet(&cl[3], "/ws");
    loop_fake_advance(&core.loop, 9000);
    client_expect_nothing(&cl[3]);
    loop_fake_advance(&core.loop, 2000);
    client_expect(&cl[3], "\"unauthorized\"", "no token in 10 seconds");
    expect_turned_away(&cl[3]);
    assert_int_equal(metrics->drops[DROP_UNAUTHORIZED], 4);
    assert_int_equal(metrics->auth_refused[AUTH_MISSING], 1);
    close_core(cl, 4);
}

static void a_first_frame_may_not_be_large(void **state)
{
    struct client cl[1];
    char frame[9500];
    struct slice payload;
    (void)state;
    open_core(NULL);
    greet(cl, "/ws");
    (void)snprintf(frame, sizeof frame, "{\"type\":\"auth\",\"token\":\"%0*d\"}", 9300, 0);
    client_send(cl, frame);
    loop_fake_run(&core.loop);
    assert_int_equal(client_next(cl, &payload), WS_CLOSE);
    assert_int_equal((unsigned char)payload.p[0] << 8 | (unsigned char)payload.p[1], 1009);
    close_core(cl, 1);
}

/* Whoever has brought no token cannot keep the node busy with pings either. */
static void little_may_be_said_before_the_token(void **state)
{
    struct client cl[1];
    struct slice payload;
    char ping[131] = {(char)0x89, (char)0xfd};
    (void)state;
    open_core(NULL);
    greet(cl, "/ws");
    for (int i = 0; i < 400 && !cl->close_asked; i++) {
        char frame[sizeof ping];
        memcpy(frame, ping, sizeof ping);
        conn_input(cl->conn, frame, sizeof frame);
    }
    int opcode;
    loop_fake_run(&core.loop);
    unsigned pongs = 0;
    while ((opcode = client_next(cl, &payload)) == WS_PONG)
        pongs++;
    assert_int_equal(pongs, 4 * (8192 + 1024) / sizeof ping);
    assert_int_equal(opcode, WS_TEXT);
    assert_non_null(strstr(payload.p, "too_large"));
    expect_turned_away(cl);
    close_core(cl, 1);
}

static void draining_does_not_wait_for_who_has_not_said_a_word(void **state)
{
    struct client cl[1];
    (void)state;
    open_core(NULL);
    greet(cl, "/ws");
    gateway_drain(core.gw, NULL, NULL);
    client_expect(cl, "\"goodbye\"", "\"draining\"");
    assert_true(cl->close_asked);
    close_core(cl, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_comes_with_the_request),
        cmocka_unit_test(bad_tokens_get_no_further_than_the_request),
        cmocka_unit_test(who_is_not_believed_is_told_why),
        cmocka_unit_test(a_token_comes_in_the_first_frame),
        cmocka_unit_test(frames_behind_the_token_wait_for_the_welcome),
        cmocka_unit_test(a_first_frame_without_a_good_token_ends_it),
        cmocka_unit_test(a_first_frame_may_not_be_large),
        cmocka_unit_test(little_may_be_said_before_the_token),
        cmocka_unit_test(draining_does_not_wait_for_who_has_not_said_a_word),
    };
    return cmocka_run_group_tests(tests, token_files_make, token_files_remove);
}
