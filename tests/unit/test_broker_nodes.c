/* tests/unit/test_broker_nodes.c: several nodes on one Redis: one order, death, and what survivors do about it. */
#include "tests/unit/broker_pair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"

static bool everything_came(void *arg)
{
    const struct pair *f = arg;
    return f->w[0].count >= 400 && f->w[1].count >= 400;
}

static void both_nodes_see_one_order(void **state)
{
    struct pair *f = *state;
    do_subscribe(&f->w[0], "lobby");
    do_subscribe(&f->w[1], "lobby");
    for (int i = 0; i < 400; i++) {
        struct world *w = &f->w[i % 2];
        char data[24], sid[24];
        (void)snprintf(data, sizeof data, "%d", i);
        (void)snprintf(sid, sizeof sid, "s%d", i / 20);
        if (i % 10 == 4)
            w->broker->ops->join(w->broker, SLICE("lobby"), slice_str(sid), SLICE_NONE, NULL, NULL);
        else if (i % 10 == 8)
            w->broker->ops->publish(
                w->broker, &(struct publish){.room = SLICE("lobby"), .data = SLICE("\"x\""), .retain_count = 10}, NULL,
                NULL);
        else
            w->broker->ops->publish(w->broker, &(struct publish){.room = SLICE("lobby"), .data = slice_str(data)}, NULL,
                                    NULL);
        if (i % 7 == 0)
            loop_fake_linger(w->loop, 1);
    }
    assert_true(pair_until(f, everything_came, f));
    const char *prev = "";
    uint64_t offset = 0;
    for (size_t i = 0; i < 400; i++) {
        const struct seen *a = &f->w[0].seen[i], *b = &f->w[1].seen[i];
        assert_int_equal(a->kind, b->kind);
        assert_string_equal(a->position.tag, b->position.tag);
        assert_int_equal(a->position.offset, b->position.offset);
        assert_string_equal(a->data, b->data);
        assert_string_equal(a->from, b->from);
        if (a->kind == ENVELOPE_MESSAGE) {
            assert_int_equal(a->position.offset, ++offset);
            assert_string_equal(a->prev, prev);
            prev = a->position.tag;
        } else { /* entering has its place, after what was published before */
            assert_int_equal(a->position.offset, offset);
            assert_string_equal(a->position.tag, prev);
        }
    }
    assert_int_equal(offset, 360);
}

static bool second_saw(void *arg)
{
    const struct pair *f = arg;
    return f->w[1].count >= 1;
}

static bool inbox_is_deserted(void *arg)
{
    (void)arg;
    redisReply *r = redis_fixture_command(&redis, "PUBSUB NUMSUB xd:node:{gw2-bbbbbb}");
    bool deserted = r->element[1]->integer == 0;
    freeReplyObject(r);
    return deserted;
}

static void whispers_find_the_session_at_its_node(void **state)
{
    struct pair *f = *state;
    do_put(&f->w[1], "s2", "bob");
    struct answer *a = await_ok(&f->w[0], do_say(&f->w[0], "$session:s2", "1"));
    assert_int_equal(a->position.offset, 1);
    assert_true(pair_until(f, second_saw, f));
    assert_string_equal(f->w[1].seen[0].room, "$session:s2");
    assert_string_equal(f->w[1].seen[0].node, "gw1-aaaaaa");
    assert_int_equal(f->w[0].count, 0);
    do_say(&f->w[0], "$all", "2");
    world_expect(&f->w[0], 1);
    world_expect(&f->w[1], 2);
    assert_int_equal(do_say(&f->w[0], "$user:bob", "3")->total, 1);
    /* Dead, but not cleaned up yet: nothing is acknowledged that nobody gets, and no position is used up. */
    pair_stop(f, 1);
    assert_true(pair_until(f, inbox_is_deserted, NULL));
    a = do_say(&f->w[0], "$session:s2", "4");
    assert_int_equal(a->err, ERR_UNAVAILABLE);
    char text[32];
    redis_fixture_text(&redis, text, sizeof text, "HGET xd:session:{s2} offset");
    assert_string_equal(text, "1");
}

static bool node_two_is_gone(void *arg)
{
    const struct pair *f = arg;
    return f->w[0].broker->stats.reaped_nodes >= 1;
}

static void populate(struct pair *f, int sessions)
{
    struct world *w = &f->w[1];
    for (int i = 0; i < sessions; i++) {
        char sid[24], room[24];
        (void)snprintf(sid, sizeof sid, "dead-%d", i);
        (void)snprintf(room, sizeof room, "room-%d", i % 5);
        do_put(w, sid, i % 2 == 0 ? "bob" : "");
        await_ok(w, do_join(w, "lobby", sid, i % 2 == 0 ? "bob" : ""));
        await_ok(w, do_join(w, room, sid, i % 2 == 0 ? "bob" : ""));
        if (f->w[0].broker != NULL)
            loop_fake_linger(&f->loop[0], 1); /* it must not miss its heartbeat meanwhile */
    }
}

static void assert_cleaned_up(const struct pair *f)
{
    assert_int_equal(redis_fixture_number(&redis, "HLEN xd:{lobby}:members"), 1);
    assert_int_equal(keys_of("xd:session:*"), 1);
    assert_int_equal(keys_of("xd:user:{bob}"), 0);
    assert_int_equal(keys_of("xd:node:{gw2*"), 0);
    assert_int_equal(keys_of("xd:*room-*:members"), 0);
    assert_int_equal(redis_fixture_number(&redis, "ZCARD xd:nodes"), 1);
    assert_int_equal(redis_fixture_number(&redis, "ZCARD xd:rooms"), 1);
    assert_null(f->w[0].broker->ops->not_ready(f->w[0].broker));
}

enum { DEAD_SESSIONS = 150 };

static void survivor_cleans_up_after_a_dead_node(void **state)
{
    struct pair *f = *state;
    do_subscribe(&f->w[0], "lobby");
    do_put(&f->w[0], "alive", "alice");
    await_ok(&f->w[0], do_join(&f->w[0], "lobby", "alive", "alice"));
    populate(f, DEAD_SESSIONS);
    pair_stop(f, 1); /* without a word, as kill -9 */
    world_settle(&f->w[0]);
    world_clear(&f->w[0]);
    assert_true(pair_until(f, node_two_is_gone, f));
    world_settle(&f->w[0]);
    assert_int_equal(f->w[0].count, DEAD_SESSIONS);
    unsigned seen[DEAD_SESSIONS] = {0};
    for (size_t i = 0; i < f->w[0].count; i++) {
        const struct seen *s = &f->w[0].seen[i];
        assert_int_equal(s->kind, ENVELOPE_EXIT);
        assert_int_equal(s->reason, EXIT_NODE_LOST);
        assert_int_equal(s->total, DEAD_SESSIONS - i);
        unsigned n;
        assert_int_equal(sscanf(s->from, "dead-%u", &n), 1);
        seen[n]++;
        assert_string_equal(s->user, n % 2 == 0 ? "bob" : "");
    }
    for (size_t i = 0; i < DEAD_SESSIONS; i++)
        assert_int_equal(seen[i], 1); /* once */
    assert_int_equal(f->w[0].broker->stats.reaped_sessions, DEAD_SESSIONS);
    assert_int_equal(f->w[0].expelled, 0);
    assert_cleaned_up(f);
    assert_int_equal(do_say(&f->w[0], "$user:bob", "1")->err, ERR_NOT_FOUND);
}

/* As a reaper leaves things that died in the middle: the sessions taken, some of them half cleaned, its lock still there. */
static void dying_reaper_is_taken_over_from(void **state)
{
    struct pair *f = *state;
    do_put(&f->w[0], "alive", "alice");
    await_ok(&f->w[0], do_join(&f->w[0], "lobby", "alive", "alice"));
    populate(f, 20);
    pair_stop(f, 1);
    freeReplyObject(redis_fixture_command(&redis, "DEL xd:node:{gw2-bbbbbb}"));
    freeReplyObject(redis_fixture_command(&redis, "RENAME xd:node:{gw2-bbbbbb}:sessions xd:node:{gw2-bbbbbb}:lost"));
    freeReplyObject(
        redis_fixture_command(&redis, "SET xd:node:{gw2-bbbbbb}:reaper gw9-dddddd PX %d", 2 * PAIR_LEASE_MS));
    freeReplyObject(redis_fixture_command(&redis, "HDEL xd:{lobby}:members dead-3"));
    freeReplyObject(redis_fixture_command(&redis, "HDEL xd:{lobby}:members dead-4"));
    assert_true(pair_until(f, node_two_is_gone, f));
    assert_cleaned_up(f);
}

/* Everything was down for so long that the sessions' hashes expired: nothing tells which rooms they were in but the rooms. */
static void sessions_without_hashes_are_found_in_their_rooms(void **state)
{
    struct pair *f = *state;
    do_subscribe(&f->w[0], "lobby");
    do_put(&f->w[0], "alive", "alice");
    await_ok(&f->w[0], do_join(&f->w[0], "lobby", "alive", "alice"));
    populate(f, 20);
    pair_stop(f, 1);
    for (int i = 0; i < 20; i += 3)
        freeReplyObject(redis_fixture_command(&redis, "DEL xd:session:{dead-%d}", i));
    world_settle(&f->w[0]);
    world_clear(&f->w[0]);
    assert_true(pair_until(f, node_two_is_gone, f));
    freeReplyObject(redis_fixture_command(&redis, "DEL xd:user:{bob}")); /* it expires by itself */
    assert_cleaned_up(f);
    world_settle(&f->w[0]);
    assert_int_equal(f->w[0].count, 20);
    for (size_t i = 0; i < f->w[0].count; i++)
        assert_int_equal(f->w[0].seen[i].reason, EXIT_NODE_LOST);
}

static bool was_expelled(const struct world *w)
{
    return w->expelled >= 1 && w->broker->ops->not_ready(w->broker) == NULL;
}

static bool second_was_expelled(void *arg)
{
    const struct pair *f = arg;
    return was_expelled(&f->w[1]);
}

static bool first_was_expelled(void *arg)
{
    const struct pair *f = arg;
    return was_expelled(&f->w[0]);
}

static bool lobby_is_empty(void *arg)
{
    (void)arg;
    return redis_fixture_number(&redis, "EXISTS xd:{lobby}:members") == 0;
}

/* A node that stood still for longer than its lease comes back: it learns that its sessions are gone, and puts them again. */
static void sleeper_learns_that_it_was_given_up(void **state)
{
    struct pair *f = *state;
    struct world *sleeper = &f->w[1];
    populate(f, 3);
    struct broker *hidden = TAKE(sleeper->broker); /* until() runs the other one only */
    assert_true(pair_until(f, node_two_is_gone, f));
    assert_true(lobby_is_empty(NULL));
    sleeper->broker = hidden;
    assert_int_equal(sleeper->expelled, 0);
    assert_true(pair_until(f, second_was_expelled, f));
    assert_int_equal(sleeper->expelled, 1);
    assert_int_equal(redis_fixture_number(&redis, "EXISTS xd:node:{gw2-bbbbbb}"), 1);
    populate(f, 3);
    assert_int_equal(redis_fixture_number(&redis, "HLEN xd:{lobby}:members"), 3);
    assert_int_equal(redis_fixture_number(&redis, "SCARD xd:node:{gw2-bbbbbb}:sessions"), 4); /* and the mark */
    pair_linger(f, PAIR_LEASE_MS / 2);                                                        /* each: a whole one */
    assert_int_equal(sleeper->expelled, 1);
    assert_int_equal(f->w[0].expelled, 0);
    assert_int_equal(redis_fixture_number(&redis, "HLEN xd:{lobby}:members"), 3);
}

/* While others clean up after it, a node that came back must not register; if they die in the middle it finishes their work itself. */
static void returning_node_waits_for_its_reaper(void **state)
{
    struct pair *f = *state;
    populate(f, 3);
    pair_stop(f, 0);
    struct world *w = &f->w[1];
    freeReplyObject(
        redis_fixture_command(&redis, "SET xd:node:{gw2-bbbbbb}:reaper gw9-dddddd PX %d", 3 * PAIR_LEASE_MS));
    freeReplyObject(redis_fixture_command(&redis, "RENAME xd:node:{gw2-bbbbbb}:sessions xd:node:{gw2-bbbbbb}:lost"));
    freeReplyObject(redis_fixture_command(&redis, "DEL xd:node:{gw2-bbbbbb}"));
    loop_fake_linger(&f->loop[1], PAIR_LEASE_MS);
    assert_non_null(w->broker->ops->not_ready(w->broker));
    assert_int_equal(redis_fixture_number(&redis, "EXISTS xd:node:{gw2-bbbbbb}"), 0);
    assert_int_equal(w->expelled, 0);
    assert_true(pair_until(f, second_was_expelled, f));
    assert_true(lobby_is_empty(NULL));
    assert_int_equal(redis_fixture_number(&redis, "EXISTS xd:node:{gw2-bbbbbb}:lost xd:node:{gw2-bbbbbb}:reaper"), 0);
}

static void late_heartbeat_alone_expels_nobody(void **state)
{
    struct pair *f = *state;
    populate(f, 3);
    pair_stop(f, 0);
    freeReplyObject(redis_fixture_command(&redis, "DEL xd:node:{gw2-bbbbbb}"));
    loop_fake_linger(&f->loop[1], PAIR_LEASE_MS);
    assert_int_equal(redis_fixture_number(&redis, "EXISTS xd:node:{gw2-bbbbbb}"), 1);
    assert_int_equal(f->w[1].expelled, 0);
    assert_int_equal(redis_fixture_number(&redis, "HLEN xd:{lobby}:members"), 3);
}

static void emptied_redis_expels_everybody(void **state)
{
    struct pair *f = *state;
    do_put(&f->w[0], "s1", "alice");
    populate(f, 3);
    freeReplyObject(redis_fixture_command(&redis, "FLUSHALL"));
    assert_true(pair_until(f, first_was_expelled, f));
    assert_true(pair_until(f, second_was_expelled, f));
}

static void retired_node_leaves_nothing(void **state)
{
    struct pair *f = *state;
    struct world *w = &f->w[1];
    do_put(w, "s1", "bob");
    await_ok(w, do_join(w, "lobby", "s1", "bob"));
    await_ok(w, do_leave(w, "lobby", "s1", "bob", EXIT_DISCONNECT));
    do_remove(w, "s1", "bob");
    struct answer *a = answer_new();
    w->broker->ops->retire(w->broker, answered, a);
    await_ok(w, a);
    assert_non_null(w->broker->ops->not_ready(w->broker));
    pair_linger(f, PAIR_LEASE_MS * 3 / 8); /* two heartbeats */
    assert_int_equal(keys_of("xd:*gw2*"), 0);
    assert_int_equal(keys_of("xd:*"),
                     4); /* the other node, its set of sessions, the directory of nodes, when bob was seen */
    pair_stop(f, 1);
}

static void retiring_too_early_leaves_the_rest_to_others(void **state)
{
    struct pair *f = *state;
    do_put(&f->w[0], "alive", "alice");
    await_ok(&f->w[0], do_join(&f->w[0], "lobby", "alive", "alice"));
    populate(f, 3);
    struct world *w = &f->w[1];
    struct answer *a = answer_new();
    w->broker->ops->retire(w->broker, answered, a);
    await_ok(w, a);
    pair_stop(f, 1);
    assert_true(pair_until(f, node_two_is_gone, f));
    assert_cleaned_up(f);
}

static bool it_has_moved(void *arg)
{
    const struct pair *f = arg;
    return f->w[1].taken != 0;
}

/* The old connection is noticed to be gone when the client is already asking on a new one, on the same node. */
static void parked_and_back_at_once(void **state)
{
    struct pair *f = *state;
    struct world *w = &f->w[1];
    const struct broker_ops *ops = w->broker->ops;
    struct answer *parked = answer_new(), *back = answer_new();
    await_ok(w, do_put_for(w, "s1", "bob", 60000));
    ops->session_park(w->broker, SLICE("s1"), 60000, answered, parked);
    ops->session_resume(w->broker, SLICE("s1"), SLICE("hash-s1"), answered, back);
    await_ok(w, back);
    await_ok(w, do_put_for(w, "s1", "bob", 60000));
    await_ok(w, parked);
    world_settle(w);
    assert_int_equal(redis_fixture_number(&redis, "SISMEMBER xd:node:{gw2-bbbbbb}:sessions s1"), 1);
    /* It is known to be here: that it goes elsewhere is told. */
    await_ok(&f->w[0], do_resume(&f->w[0], "s1", "hash-s1"));
    assert_true(pair_until(f, it_has_moved, f));
}

/* Whoever asked has lost its link for a moment, or the slot of its inbox moves. */
static void answer_is_said_again_until_it_is_heard(void **state)
{
    struct pair *f = *state;
    struct broker *b = f->w[0].broker;
    const struct control_message m = {
        .sid = SLICE("s1"), .id = SLICE("7f"), .verb = SLICE("done"), .node = SLICE("gw3-cccccc"), .data = SLICE("{}")};
    b->ops->control_answer(b, &m);
    pair_linger(f, 20);
    redisContext *late = redisConnectWithTimeout("127.0.0.1", redis.port, (struct timeval){2, 0});
    assert_non_null(late);
    assert_int_equal(redisSetTimeout(late, (struct timeval){2, 0}), REDIS_OK);
    freeReplyObject(redisCommand(late, "SUBSCRIBE xd:node:{gw3-cccccc}"));
    pair_linger(f, 200);
    redisReply *heard = NULL;
    assert_int_equal(redisGetReply(late, (void **)&heard), REDIS_OK);
    assert_string_equal(heard->element[0]->str, "message");
    assert_non_null(memmem(heard->element[2]->str, heard->element[2]->len, "done", 4));
    freeReplyObject(heard);
    redisFree(late);
    /* Nobody will ever hear this one: it is given up with the broker, if not before. */
    b->ops->control_answer(
        b, &(struct control_message){.sid = m.sid, .id = m.id, .verb = m.verb, .node = SLICE("gw4-dddddd")});
    pair_linger(f, 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        P(both_nodes_see_one_order),
        P(whispers_find_the_session_at_its_node),
        P(parked_and_back_at_once),
        P_REAL(answer_is_said_again_until_it_is_heard),
        P_REAL(survivor_cleans_up_after_a_dead_node),
        P_REAL(dying_reaper_is_taken_over_from),
        P_REAL(sessions_without_hashes_are_found_in_their_rooms),
        P_REAL(sleeper_learns_that_it_was_given_up),
        P_REAL(returning_node_waits_for_its_reaper),
        P_REAL(late_heartbeat_alone_expels_nobody),
        P_REAL(emptied_redis_expels_everybody),
        P_REAL(retired_node_leaves_nothing),
        P_REAL(retiring_too_early_leaves_the_rest_to_others),
    };
    pair_begin();
    return pair_end(cmocka_run_group_tests_name("broker: several nodes", tests, NULL, NULL));
}
