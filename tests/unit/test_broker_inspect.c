/* tests/unit/test_broker_inspect.c: what backends and operators ask about sessions, rooms and nodes; on every backend. */
#include "tests/unit/broker_suite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"

enum { WINDOW = 60000, MANY = 120 };

static struct answer *do_sessions(struct world *w, enum sessions_by by, const char *name, struct slice cursor,
                                  uint32_t limit)
{
    struct answer *a = answer_new();
    w->broker->ops->sessions(
        w->broker, &(struct session_query){.by = by, .name = slice_str(name), .cursor = cursor, .limit = limit},
        answered, a);
    assert_int_equal(a->times, 0);
    return await(w, a);
}

static struct answer *do_give(struct world *w, const char *sid, const char *was, const char *given)
{
    struct answer *a = answer_new();
    w->broker->ops->session_give(w->broker, slice_str(sid), slice_str(was), slice_str(given), answered, a);
    assert_int_equal(a->times, 0);
    return await(w, a);
}

static struct answer *do_clear(struct world *w, const char *room)
{
    struct answer *a = answer_new();
    w->broker->ops->room_clear(w->broker, slice_str(room), answered, a);
    assert_int_equal(a->times, 0);
    return await(w, a);
}

/* --- what answer does not copy --- */

struct seen_session {
    struct answer a;
    char user[50], node[50], state[20], ip[50], nsp[20], attributes[100], given[100];
    uint64_t connected_ms, parked_until_ms;
    size_t rooms;
    char room[50];
};

static void copy(char *to, size_t size, struct slice s)
{
    (void)snprintf(to, size, "%.*s", SLICE_FMT(s));
}

static void on_session(void *arg, const struct broker_result *r)
{
    struct seen_session *s = arg;
    if (r->err == OK) {
        copy(s->user, sizeof s->user, r->session->user);
        copy(s->node, sizeof s->node, r->session->node);
        copy(s->state, sizeof s->state, r->session->state);
        copy(s->ip, sizeof s->ip, r->session->ip);
        copy(s->nsp, sizeof s->nsp, r->session->nsp);
        copy(s->attributes, sizeof s->attributes, r->session->attributes);
        copy(s->given, sizeof s->given, r->session->given);
        s->connected_ms = r->session->connected_ms;
        s->parked_until_ms = r->session->parked_until_ms;
        s->rooms = r->count;
        if (r->count != 0)
            copy(s->room, sizeof s->room, r->rooms[0].room);
    }
    s->a.times++;
    s->a.err = r->err;
}

static struct seen_session *do_get(struct world *w, const char *sid)
{
    static struct seen_session s;
    s = (struct seen_session){.connected_ms = 0};
    w->broker->ops->session_get(w->broker, slice_str(sid), on_session, &s);
    assert_int_equal(s.a.times, 0);
    await(w, &s.a);
    return &s;
}

static void sessions_come_in_pages(void **state)
{
    struct world *w = world_of(state);
    char name[20], cursor[100];
    unsigned seen[MANY] = {0};
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(name, sizeof name, "s%d", i);
        await_ok(w, do_put_for(w, name, i % 3 == 0 ? "alice" : "bob", WINDOW));
    }
    await_ok(w, do_park(w, "s3", WINDOW));
    struct slice at = SLICE_NONE;
    size_t pages = 0, total = 0;
    for (;; pages++) {
        struct answer *a = do_sessions(w, SESSIONS_BY_USER, "alice", at, 7);
        assert_int_equal(a->err, OK);
        assert_true(a->count <= 7 && pages < MANY);
        for (size_t i = 0; i < a->count; i++) {
            int n = (int)strtol(a->entries[i].name + 1, NULL, 10);
            seen[n]++;
            assert_string_equal(a->entries[i].user, "alice");
            assert_string_equal(a->entries[i].node, "gw1-aaaaaa");
            assert_int_equal(a->entries[i].state, n == 3 ? MEMBER_SUSPENDED : MEMBER_ACTIVE);
        }
        total += a->count;
        if (!a->more)
            break;
        memcpy(cursor, a->cursor, a->cursor_n);
        at = (struct slice){cursor, a->cursor_n};
    }
    for (int i = 0; i < MANY; i++)
        assert_int_equal(seen[i], i % 3 == 0);
    assert_int_equal(total, MANY / 3);
    assert_int_equal(do_sessions(w, SESSIONS_BY_NODE, "gw1-aaaaaa", SLICE_NONE, 1000)->count, MANY - 1);
    assert_int_equal(do_sessions(w, SESSIONS_BY_NODE, "gw9", SLICE_NONE, 1000)->count, 0);
    assert_int_equal(do_sessions(w, SESSIONS_BY_USER, "carol", SLICE_NONE, 10)->count, 0);
    assert_int_equal(do_sessions(w, SESSIONS_BY_USER, "alice", SLICE("no cursor"), 10)->err, ERR_BAD_REQUEST);
}

static struct answer *put_in(struct world *w, const char *sid, const char *nsp)
{
    struct answer *a = answer_new();
    const struct session_record record = {.sid = slice_str(sid),
                                          .token_hash = SLICE("hash"),
                                          .protocol = SLICE("socketio.v5"),
                                          .nsp = slice_str(nsp),
                                          .attributes = SLICE("{}"),
                                          .connected_ms = 1700000000123,
                                          .resume_window_ms = WINDOW};
    w->broker->ops->session_put(w->broker, &record, answered, a);
    return await_ok(w, a);
}

static struct answer *do_namespace(struct world *w, const char *nsp, struct slice cursor, uint32_t limit)
{
    struct answer *a = answer_new();
    w->broker->ops->sessions(w->broker,
                             &(struct session_query){.by = SESSIONS_BY_NODE,
                                                     .name = SLICE("gw1-aaaaaa"),
                                                     .nsp = slice_str(nsp),
                                                     .cursor = cursor,
                                                     .limit = limit},
                             answered, a);
    return await_ok(w, a);
}

static void namespaces_are_told_apart(void **state)
{
    struct world *w = world_of(state);
    put_in(w, "s1", "/a");
    put_in(w, "s2", "/b");
    await_ok(w, do_put(w, "s3", "alice"));
    struct answer *a = do_namespace(w, "/a", SLICE_NONE, 10);
    assert_int_equal(a->count, 1);
    assert_string_equal(a->entries[0].name, "s1");
    assert_int_equal(do_namespace(w, "/c", SLICE_NONE, 10)->count, 0);
    assert_int_equal(do_namespace(w, "", SLICE_NONE, 10)->count, 3);
    assert_string_equal(do_get(w, "s1")->nsp, "/a");
    assert_string_equal(do_get(w, "s1")->attributes, "{}");
    assert_string_equal(do_get(w, "s3")->nsp, "");
}

/* What is told is removed at once: nobody who was there all the time may be left out. */
static void uncut_pages_stay_right_while_members_go(void **state)
{
    struct world *w = world_of(state);
    char name[20], cursor[100];
    await_ok(w, do_subscribe(w, "lobby"));
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(name, sizeof name, "s%d", i);
        await_ok(w, do_put(w, name, ""));
        await_ok(w, do_join(w, "lobby", name, ""));
    }
    struct slice at = SLICE_NONE;
    size_t told = 0, n = 1;
    while (n != 0) {
        struct answer *a = answer_new();
        w->broker->ops->presence(w->broker, SLICE("lobby"), at, 3 | PAGE_UNCUT, answered, a);
        await_ok(w, a);
        told += a->count;
        n = a->more ? a->cursor_n : 0;
        memcpy(cursor, a->cursor, n);
        at = (struct slice){cursor, n};
        for (size_t i = 0, count = a->count; i < count; i++) {
            (void)snprintf(name, sizeof name, "%.19s", a->entries[i].name);
            await_ok(w, do_leave(w, "lobby", name, "", EXIT_KICKED));
        }
    }
    assert_int_equal(told, MANY);
}

static void session_is_shown_with_its_rooms(void **state)
{
    struct world *w = world_of(state);
    do_subscribe(w, "lobby");
    struct answer *a = answer_new();
    const struct session_record record = {.sid = SLICE("s1"),
                                          .token_hash = SLICE("hash-s1"),
                                          .user = SLICE("alice"),
                                          .protocol = SLICE("native"),
                                          .ip = SLICE("192.0.2.7"),
                                          .attributes = SLICE("{\"a\":1}"),
                                          .connected_ms = 1700000000123,
                                          .resume_window_ms = WINDOW};
    w->broker->ops->session_put(w->broker, &record, answered, a);
    await_ok(w, a);
    await_ok(w, do_join(w, "lobby", "s1", "alice"));
    assert_int_equal(do_give(w, "s1", "{}", "{\"b\":2}")->err, ERR_CONFLICT);
    assert_int_equal(do_give(w, "s1", "", "{\"b\":2}")->err, OK);
    assert_int_equal(do_give(w, "s1", "", "{\"b\":3}")->err, ERR_CONFLICT);
    struct seen_session *s = do_get(w, "s1");
    assert_int_equal(s->a.err, OK);
    assert_string_equal(s->user, "alice");
    assert_string_equal(s->node, "gw1-aaaaaa");
    assert_string_equal(s->state, "active");
    assert_string_equal(s->ip, "192.0.2.7");
    assert_string_equal(s->attributes, "{\"a\":1}");
    assert_string_equal(s->given, "{\"b\":2}");
    assert_int_equal(s->connected_ms, 1700000000123);
    assert_int_equal(s->parked_until_ms, 0);
    assert_int_equal(s->rooms, 1);
    assert_string_equal(s->room, "lobby");
    await_ok(w, do_suspend(w, "lobby", "s1", "alice"));
    await_ok(w, do_park(w, "s1", WINDOW));
    s = do_get(w, "s1");
    assert_string_equal(s->state, "parked");
    assert_true(s->parked_until_ms > 1600000000000);
    assert_int_equal(do_give(w, "s1", "{\"b\":2}", "{\"b\":3}")->err, OK);
    await_ok(w, do_resume(w, "s1", "hash-s1"));
    await_ok(w, do_put_for(w, "s1", "alice",
                           WINDOW)); /* what the node says of it does not take the place of what backends gave */
    assert_string_equal(do_get(w, "s1")->given, "{\"b\":3}");
    assert_int_equal(do_get(w, "nobody")->a.err, ERR_NOT_FOUND);
    assert_int_equal(do_give(w, "nobody", "", "{}")->err, ERR_NOT_FOUND);
}

static void log_of_an_empty_room_is_forgotten(void **state)
{
    struct world *w = world_of(state);
    do_subscribe(w, "lobby");
    await_ok(w, do_put(w, "s1", "alice"));
    await_ok(w, do_join(w, "lobby", "s1", "alice"));
    struct publish p = {.room = SLICE("lobby"), .data = SLICE("1"), .retain_count = 10};
    await_ok(w, do_publish(w, &p));
    assert_int_equal(do_clear(w, "lobby")->err, ERR_CONFLICT);
    assert_int_equal(await_ok(w, do_history(w, "lobby", 0, 10))->count, 1);
    await_ok(w, do_leave(w, "lobby", "s1", "alice", EXIT_KICKED));
    assert_int_equal(do_clear(w, "lobby")->err, OK);
    struct answer *a = await_ok(w, do_history(w, "lobby", 0, 10));
    assert_int_equal(a->count, 0);
    assert_int_equal(a->position.offset, 1);
    a = await_ok(w, do_publish(w, &p)); /* its numbers go on: nobody takes it for the first one */
    assert_int_equal(a->position.offset, 2);
    assert_int_equal(do_clear(w, "never used")->err, OK);
}

struct seen_nodes {
    struct answer a;
    size_t count;
    char node[50], version[50];
    uint64_t connections, parked, rooms;
    bool alive;
};

static void on_nodes(void *arg, const struct broker_result *r)
{
    struct seen_nodes *n = arg;
    n->a.times++;
    n->a.err = r->err;
    n->count = r->count;
    n->parked = r->parked;
    n->rooms = r->total;
    if (r->count == 0)
        return;
    copy(n->node, sizeof n->node, r->nodes[0].node);
    copy(n->version, sizeof n->version, r->nodes[0].version);
    n->connections = r->nodes[0].connections;
    n->alive = r->nodes[0].alive;
}

static void nodes_are_listed(void **state)
{
    struct world *w = world_of(state);
    struct seen_nodes n = {.count = 0};
    do_subscribe(w, "lobby");
    await_ok(w, do_put_for(w, "s1", "alice", WINDOW));
    await_ok(w, do_join(w, "lobby", "s1", "alice"));
    await_ok(w, do_put_for(w, "s2", "bob", WINDOW));
    await_ok(w, do_park(w, "s2", WINDOW));
    world_settle(w);
    w->broker->ops->nodes(w->broker, on_nodes, &n);
    await(w, &n.a);
    assert_int_equal(n.a.err, OK);
    assert_int_equal(n.count, 1);
    assert_string_equal(n.node, "gw1-aaaaaa");
    assert_int_equal(n.connections, 7);
    assert_true(n.alive);
    assert_int_equal(n.parked, 1);
    assert_int_equal(n.rooms, 1);
}

static void each_room_has_its_own_total(void **state)
{
    struct world *w = world_of(state);
    char room[20], sid[20];
    for (int i = 0; i < 12; i++) {
        (void)snprintf(room, sizeof room, "room%d", i);
        await_ok(w, do_subscribe(w, room));
        for (int k = 0; k <= i; k++) {
            (void)snprintf(sid, sizeof sid, "s%d", k);
            if (i == 11 || k == i)
                await_ok(w, do_put(w, sid, ""));
            await_ok(w, do_join(w, room, sid, ""));
        }
    }
    struct answer *a = await_ok(w, do_rooms(w, SLICE_NONE, 100));
    assert_int_equal(a->count, 12);
    for (size_t i = 0; i < a->count; i++)
        assert_int_equal(a->entries[i].total, strtoul(a->entries[i].name + 4, NULL, 10) + 1);
}

/* Others may write to Redis what they like. */
static void spoilt_keys_are_left_out(void **state)
{
    struct world *w = world_of(state);
    struct redis_fixture *server = suite_redis("xd:user:{alice}");
    if (server == NULL)
        return;
    await_ok(w, do_put(w, "s1", "alice"));
    freeReplyObject(redis_fixture_command(server, "SADD xd:user:{alice} gone"));
    struct redis_fixture *other = suite_redis("xd:session:{spoilt}");
    freeReplyObject(redis_fixture_command(server, "SADD xd:user:{alice} spoilt"));
    freeReplyObject(redis_fixture_command(other, "SET xd:session:{spoilt} x"));
    struct answer *a = do_sessions(w, SESSIONS_BY_USER, "alice", SLICE_NONE, 10);
    assert_int_equal(a->err, OK);
    assert_int_equal(a->count, 1);
    assert_string_equal(a->entries[0].name, "s1");
    assert_int_equal(do_get(w, "spoilt")->a.err, ERR_INTERNAL);
    assert_int_equal(do_give(w, "spoilt", "", "{}")->err, ERR_INTERNAL);
}

static int run(const char *name)
{
    const struct CMUnitTest tests[] = {
        T(sessions_come_in_pages),
        T(namespaces_are_told_apart),
        T(uncut_pages_stay_right_while_members_go),
        T(session_is_shown_with_its_rooms),
        T(log_of_an_empty_room_is_forgotten),
        T(nodes_are_listed),
        T(each_room_has_its_own_total),
        T(spoilt_keys_are_left_out),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return suite_main(run, false);
}
