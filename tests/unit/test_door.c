/* tests/unit/test_door.c: --auth jwt in the core: how a token comes in, what it lets a session do, and when that ends. */
#include <stdio.h>
#include <stdlib.h>

#include "gateway/grant.h"
#include "gateway/metrics.h"
#include "gateway/room.h"
#include "gateway/session.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"
#include "tests/support/token.h"

#define EXP "1700000600" /* ten minutes from the start of the fake clock */

static struct core core;

static void open_core(const char *const *more)
{
    const char *args[24] = {"--auth", "jwt", "--jwt-key", token_key_file(TOKEN_SECRET), "--heartbeat", "3600"};
    size_t n = 6;
    for (; more != NULL && *more != NULL; more++)
        args[n++] = *more;
    core_init(&core, args);
    *metrics = (struct metrics){0};
}

#define open_with(...) open_core((const char *const[]){__VA_ARGS__, NULL})

static void close_core(struct client *cl, int n)
{
    for (int i = 0; i < n; i++)
        client_vanish(&cl[i]);
    loop_fake_run(&core.loop);
    assert_int_equal(gateway_session_count(core.gw), 0);
    assert_true(list_empty(&core.gw->greetings));
    core_fini(&core);
}

/* more: further claims, beginning with a comma. Good until the next eight. */
static const char *token_of(const char *user, const char *exp, const char *more)
{
    static char tokens[8][1200];
    static unsigned next;
    char claims[600], *out = tokens[next++ % ARRAY_LEN(tokens)];
    (void)snprintf(claims, sizeof claims, "{\"sub\":\"%s\",\"exp\":%s%s}", user, exp, more);
    char *token = token_sign(TOKEN_SECRET, "HS256", "{\"alg\":\"HS256\"}", claims);
    (void)snprintf(out, sizeof tokens[0], "%s", token);
    free(token);
    return out;
}

static const char *text_of(const char *before, const char *token, const char *after)
{
    static char texts[4][1400];
    static unsigned next;
    char *out = texts[next++ % ARRAY_LEN(texts)];
    (void)snprintf(out, sizeof texts[0], "%s%s%s", before, token, after);
    return out;
}

static enum err ask(struct client *cl, const char *path, const char *query, struct slice *ret_subprotocol)
{
    struct error error;
    return client_ask(cl, &core, (struct http_request){.path = slice_str(path), .query = slice_str(query)},
                      ret_subprotocol, &error);
}

/* Connects with a token in the query. */
static void enter(struct client *cl, const char *token)
{
    struct slice subprotocol;
    char query[1300];
    (void)snprintf(query, sizeof query, "token=%s", token);
    assert_int_equal(ask(cl, "/ws", query, &subprotocol), OK);
    client_expect(cl, "\"welcome\"", cl->sid);
}

static void refused(struct http_request r, enum auth_refusal why, const char *text)
{
    struct client cl;
    struct slice subprotocol;
    struct error error = {0};
    uint64_t before = metrics->auth_refused[why];
    if (r.path.n == 0)
        r.path = SLICE("/ws");
    assert_int_equal(client_ask(&cl, &core, r, &subprotocol, &error), ERR_UNAUTHORIZED);
    assert_int_equal(metrics->auth_refused[why], before + 1);
    if (strstr(error.text, text) == NULL)
        fail_msg("not \"%s\" but \"%s\"", text, error.text);
}

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

static void greet(struct client *cl, const char *path)
{
    struct slice subprotocol;
    assert_int_equal(ask(cl, path, "", &subprotocol), OK);
    assert_null(cl->conn->session);
    assert_int_equal(gateway_session_count(core.gw), 0);
}

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

static void expect_turned_away(struct client *cl)
{
    struct slice payload;
    loop_fake_run(&core.loop);
    assert_int_equal(client_next(cl, &payload), WS_CLOSE);
    assert_int_equal((unsigned char)payload.p[0] << 8 | (unsigned char)payload.p[1], 4001);
    assert_true(cl->close_asked);
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
    loop_fake_advance(&core.loop, 628000); /* ten minutes, and nearly the leeway */
    client_expect_nothing(cl);
    loop_fake_advance(&core.loop, 4000);
    client_expect(cl, "\"error\"", "\"unauthorized\"", "token expired");
    expect_turned_away(cl);
    assert_int_equal(metrics->auth_expired, 1);
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
    const char *fresh = token_of("alice", "1700002000", ",\"xindao\":{\"join\":[\"lobby\"]}");
    client_send(cl, text_of("{\"type\":\"auth\",\"id\":3,\"token\":\"", fresh, "\"}"));
    client_expect(cl, "\"ack\"", "\"id\":3", "\"expires\":1700002000");
    client_expect(cl, "\"error\"", "\"forbidden\"", "\"room\":\"game\""); /* no longer in the token */
    assert_null(session_member(cl->conn->session, SLICE("game")));
    assert_non_null(session_member(cl->conn->session, SLICE("lobby")));
    loop_fake_advance(&core.loop, 600000);
    client_expect_nothing(cl);
    loop_fake_advance(&core.loop, 900000);
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
    struct client cl[3];
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
    t.sid[0] ^= 1;
    resume(&cl[1], &t);
    client_expect(&cl[1], "\"error\"", "\"id\":9");
    client_expect(&cl[1], "\"joined\"", "\"hall\"");
    assert_int_equal(ask(&cl[2], "/ws", query, &subprotocol), OK);
    client_expect(&cl[2], "\"welcome\"");
    client_send(&cl[2], "{\"type\":\"ping\"}");
    client_expect(&cl[2], "\"pong\"");
    client_expect(&cl[2], "\"joined\"", "\"hall\"");
    close_core(cl, 3);
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

static int make_files(void **state)
{
    (void)state;
    token_files_make();
    return 0;
}

static int remove_files(void **state)
{
    (void)state;
    token_files_remove();
    return 0;
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
        cmocka_unit_test(draining_does_not_wait_for_who_has_not_said_a_word),
        cmocka_unit_test(rooms_by_token),
        cmocka_unit_test(rooms_joined_at_once),
        cmocka_unit_test(an_expired_token_disconnects),
        cmocka_unit_test(expiry_may_be_ignored),
        cmocka_unit_test(a_fresh_token_in_time),
        cmocka_unit_test(a_refresh_that_is_refused_changes_nothing),
        cmocka_unit_test(an_expired_session_is_resumed_with_a_fresh_token),
        cmocka_unit_test(rooms_wait_for_an_announced_resume),
        cmocka_unit_test(a_resumed_session_has_the_rights_of_its_new_token),
        cmocka_unit_test(keys_are_reloaded_or_kept),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
