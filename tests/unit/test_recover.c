/* tests/unit/test_recover.c: Socket.IO clients that come back: offsets, what is missed, what cannot be told any more, and clients that are gone before they are told. */
#include <stdio.h>

#include "base/mem.h"
#include "gateway/broadcast.h"
#include "gateway/metrics.h"
#include "gateway/protocol/websocket.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"

#define V4      "/socket.io/?EIO=4&transport=websocket"
#define PID_LEN (SID_LEN + TOKEN_LEN)

static struct core core;

/* A client and what its library keeps. */
struct socket {
    struct client client;
    char pid[PID_LEN + 65], offset[384];
};

static void take_text(struct client *cl, char *ret, size_t size)
{
    struct slice payload;
    loop_fake_run(&core.loop);
    assert_int_equal(client_next(cl, &payload), WS_TEXT);
    (void)snprintf(ret, size, "%.*s", SLICE_FMT(payload));
}

static void copy_between(const char *text, const char *before, char *ret, size_t size)
{
    const char *at = strstr(text, before);
    assert_non_null(at);
    at += strlen(before);
    (void)snprintf(ret, size, "%.*s", (int)strcspn(at, "\""), at);
}

/* Says 40, perhaps with what was kept; true when the session is the same. */
static bool connect_again(struct socket *s, const char *auth)
{
    char text[640], sid[SID_LEN + 1], before[PID_LEN + 65];
    memcpy(before, s->pid, sizeof before);
    client_connect(&s->client, &core, V4);
    client_expect(&s->client, "0{");
    client_send(&s->client, auth);
    take_text(&s->client, text, sizeof text);
    copy_between(text, "\"sid\":\"", sid, sizeof sid);
    copy_between(text, "\"pid\":\"", s->pid, sizeof s->pid);
    assert_memory_equal(s->pid, sid, SID_LEN);
    bool same = strcmp(before, s->pid) == 0;
    if (!same)
        s->offset[0] = '\0';
    return same;
}

static const char *kept(const struct socket *s)
{
    static char auth[640];
    (void)snprintf(auth, sizeof auth,
                   s->offset[0] != '\0' ? "40{\"pid\":\"%s\",\"offset\":\"%s\"}" : "40{\"pid\":\"%s\"}", s->pid,
                   s->offset);
    return auth;
}

/* The next frame, an event that contains this; keeps its offset. */
static void expect_event(struct socket *s, const char *what)
{
    char text[512];
    take_text(&s->client, text, sizeof text);
    if (strstr(text, what) == NULL)
        fail_msg("%s instead of %s", text, what);
    char *last = strrchr(text, '"');
    assert_non_null(last);
    *last = '\0';
    if (strcmp(last + 1, "]") == 0)
        (void)snprintf(s->offset, sizeof s->offset, "%s", strrchr(text, '"') + 1);
}

static void join(struct socket *s, const char *room)
{
    char text[128];
    (void)snprintf(text, sizeof text, "420[\"join\",\"%s\"]", room);
    client_send(&s->client, text);
    expect_event(s, "2[\"$offset\",\".");
    client_expect(&s->client, "430[{\"type\":\"ack\"");
}

static void say(struct client *cl, const char *room, const char *data)
{
    char text[128];
    (void)snprintf(text, sizeof text, "{\"type\":\"publish\",\"room\":\"%s\",\"event\":\"e\",\"data\":%s}", room, data);
    client_send(cl, text);
    loop_fake_run(&core.loop);
}

static void open_core(const char *const *args, struct client *talker)
{
    memset(metrics, 0, sizeof *metrics);
    core_init(&core, args);
    client_open(talker, &core, "/ws/talker");
    for (int i = 0; i < 2; i++) {
        client_send(talker, i == 0 ? "{\"type\":\"join\",\"id\":1,\"room\":\"a\"}"
                                   : "{\"type\":\"join\",\"id\":1,\"room\":\"b\"}");
        client_expect(talker, "\"ack\"");
    }
}

static void close_core(struct client *talker)
{
    client_vanish(talker);
    loop_fake_run(&core.loop);
    core_fini(&core);
}

static const char *const on[] = {"--socketio-recovery",
                                 "on",
                                 "--resume-window",
                                 "60s",
                                 "--policy",
                                 "* notices=off retain-count=5",
                                 "--policy",
                                 "$namespace:* retain-count=5",
                                 "--socketio-event",
                                 "shout do=relay to=namespace",
                                 NULL};

static void several_rooms_in_one_offset(void **state)
{
    struct client talker;
    struct socket s = {0};
    (void)state;
    open_core(on, &talker);
    assert_false(connect_again(&s, "40"));
    join(&s, "a");
    join(&s, "b");
    say(&talker, "a", "1");
    expect_event(&s, "[\"e\",1,\".");
    say(&talker, "b", "2");
    expect_event(&s, "[\"e\",2,\".");
    say(&talker, "a", "\"lost on the way\"");
    client_vanish(&s.client);
    say(&talker, "b", "4");
    assert_true(connect_again(&s, kept(&s)));
    expect_event(&s, "$recovered");
    expect_event(&s, "lost on the way");
    expect_event(&s, "$recovered");
    expect_event(&s, "[\"e\",4,\".");
    client_expect_nothing(&s.client);
    assert_int_equal(metrics->resumed, 1);
    client_vanish(&s.client);
    for (int i = 0; i < 6; i++)
        say(&talker, "a", "0"); /* more than the log keeps */
    assert_false(connect_again(&s, kept(&s)));
    client_expect_nothing(&s.client);
    client_send(&talker, "{\"type\":\"presence\",\"id\":1,\"room\":\"a\"}");
    do
        take_text(&talker, s.offset, sizeof s.offset);
    while (strstr(s.offset, "\"total\":1") == NULL); /* the old one is over */
    client_vanish(&s.client);
    close_core(&talker);
}

static void on_emitted(void *arg, const struct broadcast_result *r)
{
    assert_int_equal(r->err, OK);
    assert_int_equal(r->nodes, *(const uint64_t *)arg);
}

static void emit_unheeded(const char *body, broadcast_done *done, void *arg)
{
    struct emission e;
    struct arena arena;
    struct error error;
    arena_init(&arena, 4096);
    assert_int_equal(emission_read_json(slice_str(body), &arena, &e, &error), OK);
    broadcast_emit(core.gw, &e, slice_str(body), done, arg);
    arena_reset(&arena);
}

static void emit_heard_by(const char *body, uint64_t nodes)
{
    emit_unheeded(body, on_emitted, &nodes);
    loop_fake_run(&core.loop);
}

static void emit_json(const char *body)
{
    emit_heard_by(body, 1);
}

static void emit_json_unheard(const char *body)
{
    emit_heard_by(body, 0);
}

/* All that is said to everybody is in the offset, whether it has come from a client, from the API or is for all protocols. */
static void what_is_said_to_a_namespace_is_not_missed(void **state)
{
    struct client talker;
    struct socket s = {0}, other = {0};
    char text[256];
    (void)state;
    open_core(on, &talker);
    assert_false(connect_again(&s, "40"));
    assert_false(connect_again(&other, "40"));
    join(&s, "a");
    emit_json("{\"event\":\"all\",\"data\":1}");
    expect_event(&s, "[\"all\",1,\".");
    expect_event(&other, "[\"all\",1,\".");
    client_vanish(&s.client);
    client_send(&other.client, "42[\"shout\",2]");
    expect_event(&other, "[\"shout\",2,\".");
    emit_json("{\"event\":\"few\",\"rooms\":[\"a\"],\"data\":3}");
    emit_json("{\"event\":\"not\",\"except\":[\"a\"],\"data\":4}");
    expect_event(&other, "[\"not\",4,\".");
    (void)snprintf(text, sizeof text, "{\"event\":\"you\",\"rooms\":[\"%.*s\"],\"data\":5}", SID_LEN, s.pid);
    emit_json(text);
    client_send(&talker, "{\"type\":\"broadcast\",\"event\":\"everybody\",\"data\":6}");
    expect_event(&other, "[\"everybody\",6,\".");
    assert_true(connect_again(&s, kept(&s)));
    expect_event(&s, "$recovered"); /* of room a; each log for itself is in order */
    expect_event(&s, "[\"everybody\",6,\".");
    expect_event(&s, "[\"shout\",2,\".");
    expect_event(&s, "[\"few\",3,\".");
    expect_event(&s, "[\"you\",5,\".");
    client_expect_nothing(&s.client);
    client_vanish(&s.client);
    assert_true(connect_again(&s, kept(&s))); /* and nothing comes twice */
    expect_event(&s, "$recovered");
    emit_json("{\"event\":\"few\",\"rooms\":[\"a\"],\"data\":7}");
    expect_event(&s, "[\"few\",7,\".");
    client_expect_nothing(&s.client);
    client_expect_nothing(&other.client);
    client_vanish(&s.client);
    for (int i = 0; i < 6; i++)
        emit_json("{\"event\":\"few\",\"rooms\":[\"a\"],\"data\":8}"); /* more than the log keeps */
    assert_false(connect_again(&s, kept(&s)));
    client_expect_nothing(&s.client);
    client_vanish(&s.client);
    client_vanish(&other.client);
    close_core(&talker);
}

/* Nobody is told again what was said before he came, although its log still has it. */
static void the_first_one_in_a_namespace_begins_where_it_is(void **state)
{
    struct client talker;
    struct socket s = {0};
    (void)state;
    open_core(on, &talker);
    emit_json_unheard("{\"event\":\"before\",\"data\":0}");
    assert_false(connect_again(&s, "40"));
    client_vanish(&s.client);
    assert_true(connect_again(&s, kept(&s)));
    client_expect_nothing(&s.client);
    client_vanish(&s.client);
    loop_fake_run(&core.loop);
    emit_json_unheard("{\"event\":\"missed\",\"data\":1}");
    assert_true(connect_again(&s, kept(&s)));
    expect_event(&s, "[\"missed\",1,\".");
    client_expect_nothing(&s.client);
    client_vanish(&s.client);
    close_core(&talker);
}

static void tell(struct client *talker, const struct socket *s, int n)
{
    char text[160];
    (void)snprintf(text, sizeof text, "{\"type\":\"send\",\"to\":{\"session\":\"%.*s\"},\"event\":\"you\",\"data\":%d}",
                   SID_LEN, s->pid, n);
    client_send(talker, text);
    loop_fake_run(&core.loop);
}

/* It is in no log, but it is counted. */
static void what_is_said_to_a_session_alone_is_not_missed_in_silence(void **state)
{
    struct client talker;
    struct socket s = {0};
    (void)state;
    open_core(on, &talker);
    assert_false(connect_again(&s, "40"));
    join(&s, "a");
    tell(&talker, &s, 1);
    expect_event(&s, "[\"you\",1,\".");
    client_vanish(&s.client);
    assert_true(connect_again(&s, kept(&s)));
    expect_event(&s, "$recovered");
    say(&talker, "a", "2");
    expect_event(&s, "[\"e\",2,\".");
    client_vanish(&s.client);
    assert_true(connect_again(&s, kept(&s)));
    expect_event(&s, "$recovered");
    core.deaf = true; /* the connection is gone, and nobody knows yet */
    tell(&talker, &s, 3);
    core.deaf = false;
    client_vanish(&s.client);
    assert_false(connect_again(&s, kept(&s)));
    client_vanish(&s.client);
    close_core(&talker);
}

static bool whispered;

static void on_whispered(void *arg, const struct broker_result *r)
{
    (void)arg;
    whispered = whispered || r->err == OK;
}

/* Again and again, until somebody has taken the session up. */
static bool whisper(void *arg)
{
    const struct socket *s = arg;
    char room[64];
    int n = snprintf(room, sizeof room, "$session:%.*s", SID_LEN, s->pid);
    if (!whispered)
        core.gw->broker->ops->publish(
            core.gw->broker, &(struct publish){.room = {room, (size_t)n}, .event = SLICE("you"), .data = SLICE("1")},
            on_whispered, NULL);
    return whispered;
}

/* What it is told while its rooms are still being looked at has the whole offset. */
static void told_before_the_rooms_are_back(void **state)
{
    struct client talker;
    struct socket s = {0};
    (void)state;
    open_core(on, &talker);
    assert_false(connect_again(&s, "40"));
    join(&s, "a");
    client_vanish(&s.client);
    loop_fake_run(&core.loop);
    client_connect(&s.client, &core, V4);
    client_expect(&s.client, "0{");
    client_send(&s.client, kept(&s));
    whispered = false;
    assert_true(loop_fake_until(&core.loop, whisper, &s, 1000));
    client_expect(&s.client, "40{", s.pid);
    expect_event(&s, "[\"you\",1,\".");
    client_vanish(&s.client);
    say(&talker, "a", "2");
    assert_true(connect_again(&s, kept(&s)));
    expect_event(&s, "$recovered");
    expect_event(&s, "[\"e\",2,\".");
    client_vanish(&s.client);
    close_core(&talker);
}

static void on_any(void *arg, const struct broadcast_result *r)
{
    (void)arg;
    assert_int_equal(r->err, OK);
}

/* Something at every turn of the loop. */
static bool murmur(void *arg)
{
    int *said = arg;
    char body[64];
    (void)snprintf(body, sizeof body, "{\"event\":\"m\",\"data\":%d}", ++*said);
    emit_unheeded(body, on_any, NULL);
    return *said == 20;
}

/* What is said while he asks for his session, while its rooms are looked at, and then: nothing twice, nothing before what he missed. */
static void said_while_he_comes_back(void **state)
{
    static const char *const many[] = {"--socketio-recovery", "on", "--resume-window", "60s", NULL};
    struct client talker;
    struct socket s = {0};
    int said = 0;
    (void)state;
    open_core(many, &talker);
    assert_false(connect_again(&s, "40"));
    client_vanish(&s.client);
    loop_fake_run(&core.loop);
    emit_unheeded("{\"event\":\"m\",\"data\":0}", on_any, NULL);
    loop_fake_run(&core.loop);
    client_connect(&s.client, &core, V4);
    client_expect(&s.client, "0{");
    client_send(&s.client, kept(&s));
    assert_true(loop_fake_until(&core.loop, murmur, &said, 1000));
    client_expect(&s.client, "40{", s.pid);
    for (int i = 0; i <= said; i++) {
        char text[32];
        (void)snprintf(text, sizeof text, "[\"m\",%d,\".", i);
        expect_event(&s, text);
    }
    client_expect_nothing(&s.client);
    client_vanish(&s.client);
    close_core(&talker);
}

static void quietly(void *arg, const struct broker_result *r)
{
    (void)arg;
    assert_int_equal(r->err, OK);
}

/* Who was taken out of a room while he was away would not know; who has left it himself knows. */
static void who_is_in_less_rooms_than_he_knows_of_is_not_recovered(void **state)
{
    struct client talker;
    struct socket s = {0};
    char sid[SID_LEN + 1];
    (void)state;
    open_core(on, &talker);
    assert_false(connect_again(&s, "40"));
    join(&s, "a");
    join(&s, "b");
    client_send(&s.client, "421[\"leave\",\"b\"]");
    expect_event(&s, "2[\"$offset\",\".");
    client_expect(&s.client, "431[{\"type\":\"ack\"");
    client_vanish(&s.client);
    assert_true(connect_again(&s, kept(&s)));
    expect_event(&s, "$recovered");
    client_vanish(&s.client);
    loop_fake_run(&core.loop);
    (void)snprintf(sid, sizeof sid, "%.*s", SID_LEN, s.pid);
    core.gw->broker->ops->away_leave(core.gw->broker, slice_str(sid), SLICE("a"), quietly, NULL);
    loop_fake_run(&core.loop);
    assert_false(connect_again(&s, kept(&s)));
    client_vanish(&s.client);
    close_core(&talker);
}

static void who_is_gone_before_it_is_told_stays_parked(void **state)
{
    struct client talker;
    struct socket s = {0};
    (void)state;
    open_core(on, &talker);
    assert_false(connect_again(&s, "40"));
    join(&s, "a");
    client_vanish(&s.client);
    loop_fake_run(&core.loop);
    say(&talker, "a", "1");
    for (int i = 0; i < 3; i++) {
        struct client hasty;
        client_connect(&hasty, &core, V4);
        client_expect(&hasty, "0{");
        client_send(&hasty, kept(&s));
        if (i == 1)
            loop_fake_advance(&core.loop, 0);
        if (i == 2)
            loop_fake_run(&core.loop);
        client_vanish(&hasty);
        loop_fake_run(&core.loop);
    }
    assert_true(connect_again(&s, kept(&s)));
    expect_event(&s, "$recovered");
    expect_event(&s, "[\"e\",1,\".");
    client_vanish(&s.client);
    close_core(&talker);
}

/* On a bad line a client may come twice; the second one takes the session while the first one's rooms are still being looked at. */
static void two_want_the_same_session_at_once(void **state)
{
    struct client talker;
    struct socket s = {0}, twice[2];
    char auth[640];
    (void)state;
    open_core(on, &talker);
    assert_false(connect_again(&s, "40{\"user\":\"ann\"}"));
    join(&s, "a");
    say(&talker, "a", "1");
    expect_event(&s, "2[\"e\",1,\"");
    client_vanish(&s.client);
    loop_fake_run(&core.loop);
    (void)snprintf(auth, sizeof auth, "40{\"user\":\"ann\",%s", kept(&s) + strlen("40{"));
    for (size_t i = 0; i < ARRAY_LEN(twice); i++) {
        client_connect(&twice[i].client, &core, V4);
        client_expect(&twice[i].client, "0{");
    }
    for (size_t i = 0; i < ARRAY_LEN(twice); i++)
        client_send(&twice[i].client, auth);
    loop_fake_run(&core.loop);
    assert_int_equal(gateway_session_count(core.gw), 2); /* the talker's, and one of theirs */
    client_vanish(&twice[0].client);
    client_vanish(&twice[1].client);
    close_core(&talker);
}

static uint64_t turns_end;

static bool turns_are_over(void *arg)
{
    (void)arg;
    return core.loop.turns >= turns_end;
}

/* Whenever the ban is heard: also while his rooms are looked at, when he sits in none. */
static void banned_while_he_is_recovered(void **state)
{
    (void)state;
    for (int turns = 0; turns < 12; turns++) {
        struct client talker;
        struct socket s = {0};
        struct slice payload;
        char auth[512];
        open_core(on, &talker);
        struct broker *b = core.gw->broker;
        assert_false(connect_again(&s, "40{\"user\":\"mallory\"}"));
        join(&s, "a");
        say(&talker, "a", "1");
        expect_event(&s, "2[\"e\",1,\"");
        client_vanish(&s.client);
        loop_fake_run(&core.loop);
        (void)snprintf(auth, sizeof auth, "40{\"user\":\"mallory\",%s", kept(&s) + strlen("40{"));
        client_connect(&s.client, &core, V4);
        client_expect(&s.client, "0{");
        client_send(&s.client, auth);
        turns_end = core.loop.turns + (uint64_t)turns;
        (void)loop_fake_until(&core.loop, turns_are_over, NULL, 100);
        b->ops->ban(b, &(struct ban_record){.user = SLICE("mallory")}, quietly, NULL);
        loop_fake_advance(&core.loop, 200);
        bool told = false;
        while (client_next(&s.client, &payload) == WS_TEXT)
            told = told || memmem(payload.p, payload.n, "banned", 6) != NULL;
        if (!told)
            fail_msg("banned after %d turns, and not told", turns);
        client_vanish(&s.client);
        loop_fake_run(&core.loop);
        assert_int_equal(gateway_session_count(core.gw), 1);
        close_core(&talker);
    }
}

static void what_is_no_session_of_ours_begins_anew(void **state)
{
    static const char *const auths[] = {
        "40{\"pid\":\"x\"}", "40{\"pid\":5,\"offset\":{}}",
        "40{\"pid\":\"000000000000000000000000000000000000000000000000\",\"offset\":\".\"}", NULL};
    struct client talker;
    struct socket s = {0}, other = {0};
    (void)state;
    open_core(on, &talker);
    for (size_t i = 0; auths[i] != NULL; i++) {
        assert_false(connect_again(&s, auths[i]));
        client_vanish(&s.client);
    }
    assert_false(connect_again(&s, "40"));
    client_vanish(&s.client);
    other = s;
    other.pid[PID_LEN - 1] ^= 1; /* its name is right, its token is not */
    assert_false(connect_again(&other, kept(&other)));
    assert_true(connect_again(&s, kept(&s)));
    client_vanish(&s.client);
    client_vanish(&other.client);
    close_core(&talker);
}

static void without_the_option_there_is_no_pid(void **state)
{
    static const char *const off[] = {"--resume-window", "60s", NULL};
    struct client talker, cl;
    char text[256];
    (void)state;
    open_core(off, &talker);
    client_connect(&cl, &core, V4);
    client_expect(&cl, "0{");
    client_send(&cl, "40{\"pid\":\"x\",\"offset\":1}");
    take_text(&cl, text, sizeof text);
    assert_null(strstr(text, "pid"));
    client_send(&cl, "420[\"join\",\"a\"]");
    client_expect(&cl, "430[");
    say(&talker, "a", "1");
    take_text(&cl, text, sizeof text);
    assert_string_equal(text, "42[\"e\",1]");
    client_vanish(&cl);
    loop_fake_run(&core.loop);
    assert_int_equal(metrics->parked, 0);
    close_core(&talker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(several_rooms_in_one_offset),
        cmocka_unit_test(what_is_said_to_a_namespace_is_not_missed),
        cmocka_unit_test(what_is_said_to_a_session_alone_is_not_missed_in_silence),
        cmocka_unit_test(told_before_the_rooms_are_back),
        cmocka_unit_test(said_while_he_comes_back),
        cmocka_unit_test(who_is_in_less_rooms_than_he_knows_of_is_not_recovered),
        cmocka_unit_test(the_first_one_in_a_namespace_begins_where_it_is),
        cmocka_unit_test(who_is_gone_before_it_is_told_stays_parked),
        cmocka_unit_test(two_want_the_same_session_at_once),
        cmocka_unit_test(banned_while_he_is_recovered),
        cmocka_unit_test(what_is_no_session_of_ours_begins_anew),
        cmocka_unit_test(without_the_option_there_is_no_pid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
