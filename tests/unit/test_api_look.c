/* tests/unit/test_api_look.c: the server API looks at sessions, users, rooms and nodes, gives attributes, and sweeps users and rooms. */
#include <stdio.h>

#include "tests/support/api_fixture.h"
#include "tests/support/check.h"

static void sessions_are_listed_and_shown(void **state)
{
    struct core c;
    struct client cl[3];
    char target[200], want[200];
    lobby_open_pair(&c, cl, ARGS("--resume-window", "60s"));
    client_open(&cl[2], &c, "/ws/alice");
    const char *text = ask(&c, "GET", "/api/v1/sessions?user=alice", "", 200);
    has(text, cl[0].sid);
    has(text, cl[2].sid);
    has(text, "\"user\":\"alice\",\"node\":\"test-node\",\"state\":\"active\",\"since\":1");
    has(text, "],\"next\":null}");
    text = ask(&c, "GET", "/api/v1/sessions?user=alice&limit=1", "", 200);
    has(text, cl[0].sid);
    assert_null(strstr(text, cl[2].sid));
    const char *next = strstr(text, "\"next\":\"") + 8;
    (void)snprintf(target, sizeof target, "/api/v1/sessions?user=alice&limit=1&cursor=%.*s", (int)strcspn(next, "\""),
                   next);
    text = ask(&c, "GET", target, "", 200);
    has(text, cl[2].sid);
    has(text, "\"next\":null}");
    has(ask(&c, "GET", "/api/v1/sessions?room=lobby", "", 200), cl[1].sid);
    has(ask(&c, "GET", "/api/v1/sessions?node=test-node", "", 200), cl[2].sid);
    has(ask(&c, "GET", "/api/v1/sessions?node=other", "", 200), "{\"sessions\":[],\"next\":null}");
    (void)ask(&c, "GET", "/api/v1/sessions", "", 400);
    (void)ask(&c, "GET", "/api/v1/sessions?room=a&user=b", "", 400);
    (void)ask(&c, "GET", "/api/v1/sessions?user=alice&cursor=x", "", 400);
    (void)ask(&c, "GET", "/api/v1/sessions?user=", "", 400);
    (void)ask(&c, "GET", "/api/v1/sessions?room=%24all", "", 404);

    (void)snprintf(target, sizeof target, "/api/v1/sessions/%s", cl[0].sid);
    text = ask(&c, "GET", target, "", 200);
    (void)snprintf(want, sizeof want,
                   "{\"session\":\"%s\",\"user\":\"alice\",\"node\":\"test-node\",\"state\":\"active\",\"protocol\":"
                   "\"native\",\"ip\":\"192.0.2.1\",\"agent\":\"test\",\"origin\":null,",
                   cl[0].sid);
    has(text, want);
    has(text, "\"parked_until\":null,\"attributes\":{},\"rooms\":[{\"room\":\"lobby\",\"since\":1");
    client_vanish(&cl[0]);
    loop_fake_run(&c.loop);
    text = ask(&c, "GET", target, "", 200);
    has(text, "\"state\":\"parked\"");
    has(text, "\"parked_until\":1");
    has(ask(&c, "GET", "/api/v1/users/alice", "", 200),
        "{\"user\":\"alice\",\"state\":\"online\",\"total\":2,\"since\":");
    client_vanish(&cl[2]);
    loop_fake_run(&c.loop);
    has(ask(&c, "GET", "/api/v1/users/alice", "", 200), "\"state\":\"suspended\"");
    has(ask(&c, "GET", "/api/v1/users/nobody", "", 200),
        "{\"user\":\"nobody\",\"state\":\"offline\",\"total\":0,\"since\":null,\"last_seen\":null,\"sessions\":[],"
        "\"next\":null}");
    (void)ask(&c, "GET", "/api/v1/users/%00", "", 400);
    text = ask(&c, "POST", "/api/v1/users/presence", "{\"users\":[\"nobody\",\"alice\"]}", 200);
    has(text, "{\"users\":[{\"user\":\"nobody\",\"state\":\"offline\",\"total\":0,");
    has(text, "},{\"user\":\"alice\",\"state\":\"suspended\",\"total\":2,\"since\":1");
    (void)ask(&c, "POST", "/api/v1/users/presence", "{\"users\":[]}", 400);
    (void)ask(&c, "POST", "/api/v1/users/presence", "{\"users\":[\"a\",1]}", 400);
    (void)ask(&c, "POST", "/api/v1/users/presence", "{\"users\":\"a\"}", 400);
    (void)ask(&c, "GET", "/api/v1/sessions/nobody", "", 404);
    has(ask(&c, "GET", "/api/v1/stats", "", 200),
        "{\"nodes\":1,\"sessions\":1,\"parked\":2,\"rooms\":1,\"node\":{\"node\":\"test-node\"");
    has(ask(&c, "GET", "/api/v1/nodes", "", 200),
        "{\"nodes\":[{\"node\":\"test-node\",\"alive\":true,\"address\":\"0.0.0.0:8443\",\"version\":\"");
    key = CHAT;
    (void)ask(&c, "GET", "/api/v1/sessions?room=lobby", "", 403);
    (void)ask(&c, "GET", "/api/v1/nodes", "", 403);
    (void)ask(&c, "GET", "/api/v1/stats", "", 403);
    (void)ask(&c, "GET", "/api/v1/users/alice", "", 403);
    client_vanish(&cl[1]);
    core_fini(&c);
    (void)state;
}

static void attributes_are_given_and_taken(void **state)
{
    static const char *const bad[] = {"",
                                      "{}",
                                      "{\"attributes\":[]}",
                                      "{\"attributes\":{\"a\":1,\"a\":2}}",
                                      "{\"attributes\":{\"\\u0000\":1}}",
                                      "{\"attributes\":{\"a\":\"\xff\"}}",
                                      "{\"attributes\":{}}x"};
    struct core c;
    struct client cl;
    char target[100], body[5000];
    core_init(&c, ARGS("--resume-window", "60s"));
    client_open(&cl, &c, "/ws/alice");
    (void)snprintf(target, sizeof target, "/api/v1/sessions/%s", cl.sid);
    has(ask(&c, "PATCH", target, "{\"attributes\":{\"level\":3,\"tags\":[1,\"\xe4\xbd\xa0\"],\"gone\":true}}", 200),
        "\"attributes\":{\"gone\":true,\"level\":3,\"tags\":[1,\"\xe4\xbd\xa0\"]}}");
    has(ask(&c, "PATCH", target, "{\"attributes\":{\"gone\":null,\"level\":4}}", 200),
        "\"attributes\":{\"level\":4,\"tags\":[1,");
    client_vanish(&cl);
    has(ask(&c, "GET", target, "", 200), "\"attributes\":{\"level\":4,\"tags\":[1,");
    has(ask(&c, "PATCH", target, "{\"attributes\":{\"tags\":null}}", 200), "\"attributes\":{\"level\":4}}");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        (void)ask(&c, "PATCH", target, bad[i], 400);
    (void)snprintf(body, sizeof body, "{\"attributes\":{\"a\":\"%04100d\"}}", 0);
    has(ask(&c, "PATCH", target, body, 413), "at most 4096 bytes");
    (void)ask(&c, "PATCH", "/api/v1/sessions/nobody", "{\"attributes\":{}}", 404);
    key = READER;
    (void)ask(&c, "PATCH", target, "{\"attributes\":{}}", 403);
    (void)ask(&c, "GET", target, "", 403);
    core_fini(&c);
    (void)state;
}

static void users_and_rooms_are_swept(void **state)
{
    struct core c;
    struct client cl[3];
    lobby_open_pair(&c, cl, ARGS("--resume-window", "60s"));
    client_open(&cl[2], &c, "/ws/alice");
    lobby_say(&cl[0], 1);
    key = CHAT;
    (void)ask(&c, "DELETE", "/api/v1/rooms/lobby", "", 403);
    (void)ask(&c, "DELETE", "/api/v1/users/alice", "", 403);
    key = ALL;
    client_vanish(&cl[1]); /* parked, and in the lobby */
    loop_fake_run(&c.loop);
    has(ask(&c, "DELETE", "/api/v1/rooms/lobby?reason=closed", "", 200), "{\"room\":\"lobby\",\"removed\":2}");
    has(ask(&c, "GET", "/api/v1/rooms/lobby/members", "", 200), "\"total\":0,\"position\":\"1.");
    has(ask(&c, "GET", "/api/v1/rooms/lobby/history", "", 200), "\"messages\":[],");
    has(ask(&c, "DELETE", "/api/v1/rooms/lobby", "", 200), "\"removed\":0}");
    has(ask(&c, "DELETE", "/api/v1/users/alice?reason=moved", "", 200), "{\"user\":\"alice\",\"disconnected\":2}");
    assert_int_equal(gateway_session_count(c.gw), 0);
    has(ask(&c, "DELETE", "/api/v1/users/alice", "", 200), "\"disconnected\":0}");
    has(ask(&c, "DELETE", "/api/v1/users/bob", "", 200), "\"disconnected\":1}");
    (void)ask(&c, "DELETE", "/api/v1/users/%0a", "", 400);
    (void)ask(&c, "DELETE", "/api/v1/rooms/%24all", "", 404);
    client_vanish(&cl[0]);
    client_vanish(&cl[2]);
    core_fini(&c);
    (void)state;
}

static struct broker_ops sparse;
static const struct broker_ops *whole;
static unsigned empty_pages;

/* As a large hash that has lost most of its fields may give pages of it. */
static bool empty_page(struct slice cursor, broker_done *done, void *arg)
{
    static const struct slice cursors[] = {{"", 0}, {"7", 1}, {"42", 2}};
    if (empty_pages == 0)
        return false;
    assert_true(slice_eq(cursor, cursors[2 - empty_pages]));
    empty_pages--;
    done(arg, &(struct broker_result){.more = true, .cursor = cursors[2 - empty_pages]});
    return true;
}

static void sparse_presence(struct broker *b, struct slice room, struct slice cursor, uint32_t limit, broker_done *done,
                            void *arg)
{
    if (!empty_page(cursor, done, arg))
        whole->presence(b, room, SLICE_NONE, limit, done, arg);
}

static void sparse_sessions(struct broker *b, const struct session_query *q, broker_done *done, void *arg)
{
    struct session_query all = *q;
    all.cursor = SLICE_NONE;
    if (!empty_page(q->cursor, done, arg))
        whole->sessions(b, &all, done, arg);
}

static void a_sweep_does_not_end_at_an_empty_page(void **state)
{
    struct core c;
    struct client cl[2];
    lobby_open_pair(&c, cl, ARGS("--resume-window", "60s"));
    whole = c.gw->broker->ops;
    sparse = *whole;
    sparse.presence = sparse_presence;
    sparse.sessions = sparse_sessions;
    c.gw->broker->ops = &sparse;
    empty_pages = 2;
    has(ask(&c, "DELETE", "/api/v1/rooms/lobby", "", 200), "\"removed\":2}");
    empty_pages = 2;
    has(ask(&c, "DELETE", "/api/v1/users/alice", "", 200), "\"disconnected\":1}");
    client_vanish(&cl[0]);
    client_vanish(&cl[1]);
    core_fini(&c);
    (void)state;
}

static void endless_sessions(struct broker *b, const struct session_query *q, broker_done *done, void *arg)
{
    (void)q;
    (void)b;
    done(arg, &(struct broker_result){.more = true, .cursor = SLICE("1")});
}

/* Nobody was found, but not everything was looked at: that is not said to be done. */
static void a_sweep_that_never_ends_says_so(void **state)
{
    struct core c;
    core_init(&c, ARGS("--resume-window", "60s"));
    sparse = *c.gw->broker->ops;
    sparse.sessions = endless_sessions;
    c.gw->broker->ops = &sparse;
    has(ask(&c, "DELETE", "/api/v1/users/alice", "", 503), "unavailable");
    core_fini(&c);
    (void)state;
}

static const char *trace(struct core *c, int offset, const char *sid, const char *result)
{
    char target[120], want[40];
    (void)snprintf(target, sizeof target, "/api/v1/rooms/lobby/messages/%d/trace?session=%s", offset, sid);
    (void)snprintf(want, sizeof want, "\"result\":\"%s\"", result);
    const char *text = ask(c, "GET", target, "", 200);
    has(text, want);
    return text;
}

static void a_message_is_traced(void **state)
{
    struct core c;
    struct client cl[2];
    char body[200], sid[SID_LEN + 1];
    core_init(&c, ARGS("--resume-window", "60s", "--slow-consumer", "resume"));
    client_open(&cl[0], &c, "/ws/alice");
    lobby_join(&cl[0]);
    lobby_say(&cl[0], 1);
    client_open(&cl[1], &c, "/ws/bob");
    (void)trace(&c, 1, cl[1].sid, "not_member");
    lobby_join(&cl[1]);
    lobby_say(&cl[0], 2);
    has(trace(&c, 1, cl[0].sid, "sent"), "\"node\":\"test-node\",\"position\":\"1.");
    (void)trace(&c, 1, cl[1].sid, "joined_later");
    has(trace(&c, 2, cl[1].sid, "sent"), ",\"published\":1700000");
    (void)trace(&c, 3, cl[1].sid, "no_message");
    (void)trace(&c, 2, "nobody", "no_session");
    (void)snprintf(body, sizeof body, "{\"room\":\"lobby\",\"data\":3,\"except\":\"%s\"}", cl[0].sid);
    (void)post(&c, "publish", body, 200);
    (void)trace(&c, 3, cl[0].sid, "excluded");
    cl[1].window = 0; /* bob does not read */
    lobby_say(&cl[0], 4);
    (void)trace(&c, 4, cl[1].sid, "queued");
    (void)trace(&c, 4, cl[0].sid, "sent");
    memcpy(sid, cl[1].sid, sizeof sid);
    client_vanish(&cl[1]);
    loop_fake_run(&c.loop);
    (void)trace(&c, 4, sid, "parked");
    (void)ask(&c, "GET", "/api/v1/rooms/lobby/messages/0/trace?session=a", "", 400);
    (void)ask(&c, "GET", "/api/v1/rooms/lobby/messages/x/trace?session=a", "", 400);
    (void)ask(&c, "GET", "/api/v1/rooms/lobby/messages/1/trace", "", 400);
    (void)ask(&c, "GET", "/api/v1/rooms/lobby/messages/1/trace?session=%7B", "", 400);
    (void)ask(&c, "GET", "/api/v1/rooms/%24all/messages/1/trace?session=a", "", 404);
    key = READER;
    (void)ask(&c, "GET", "/api/v1/rooms/lobby/messages/1/trace?session=a", "", 403);
    client_vanish(&cl[0]);
    core_fini(&c);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(sessions_are_listed_and_shown),   CASE(attributes_are_given_and_taken),
        CASE(users_and_rooms_are_swept),       CASE(a_sweep_does_not_end_at_an_empty_page),
        CASE(a_sweep_that_never_ends_says_so), CASE(a_message_is_traced),
    };
    return cmocka_run_group_tests(tests, write_keys, remove_keys);
}
