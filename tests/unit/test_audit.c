/* tests/unit/test_audit.c: the store has lost some of what it was told of sessions: it is told again, and nothing else is. */
#include <stdio.h>

#include "gateway/metrics.h"
#include "gateway/room.h"
#include "gateway/session.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"

#define OPTIONS                                                                                                        \
    ((const char *const[]){"--policy", "* retain-count=10", "--message-rate", "0", "--heartbeat", "3600", NULL})

static void open_pair(struct core *c, struct client *cl)
{
    lobby_open_pair(c, cl, OPTIONS);
    *metrics = (struct metrics){0};
}

static void hang_up(struct core *c, struct client *cl)
{
    client_vanish(&cl[0]);
    client_vanish(&cl[1]);
    loop_fake_run(&c->loop);
    assert_int_equal(gateway_session_count(c->gw), 0);
    core_fini(c);
}

static void on_done(void *arg, const struct broker_result *r)
{
    (void)arg;
    assert_int_equal(r->err, OK);
}

/* The link was lost and is back. */
static void link_back(struct core *c)
{
    c->gw->broker->events->link(c->gw, true);
    loop_fake_advance(&c->loop, 1900);
    assert_int_equal(metrics->restored, 0); /* first things first */
    loop_fake_advance(&c->loop, 2000);
}

struct answer {
    enum err err;
    size_t rooms, members;
};

static void on_audited(void *arg, const struct broker_result *r)
{
    struct answer *a = arg;
    *a = (struct answer){.err = r->err, .rooms = r->count};
    for (size_t i = 0; i < r->count; i++)
        a->members += r->rooms[i].total;
}

static struct answer ask(struct core *c, const char *sid)
{
    struct answer a = {.err = ERR_INTERNAL};
    c->gw->broker->ops->session_audit(c->gw->broker, slice_str(sid), on_audited, &a);
    loop_fake_run(&c->loop);
    return a;
}

static uint64_t stored_rooms(struct core *c, const char *sid)
{
    struct answer a = ask(c, sid);
    assert_int_equal(a.err, OK);
    assert_int_equal(a.members, a.rooms);
    return a.rooms;
}

static void a_membership_that_was_lost(void **state)
{
    struct core c;
    struct client cl[2];
    open_pair(&c, cl);
    c.deaf = true; /* so that nothing but the comparison tells */
    c.gw->broker->ops->leave(c.gw->broker, SLICE("lobby"), slice_str(cl[1].sid), SLICE("bob"), EXIT_LEAVE, on_done,
                             NULL);
    loop_fake_run(&c.loop);
    c.deaf = false;
    assert_int_equal(stored_rooms(&c, cl[1].sid), 0);
    unsigned joins = c.joins;
    link_back(&c);
    assert_int_equal(c.joins, joins + 1);
    assert_int_equal(stored_rooms(&c, cl[1].sid), 1);
    assert_int_equal(metrics->restored, 1);
    client_expect(&cl[0], "\"enter\"", cl[1].sid, "\"total\":2");
    client_expect_nothing(&cl[1]);
    hang_up(&c, cl);
    (void)state;
}

static void a_session_that_was_lost(void **state)
{
    struct core c;
    struct client cl[2];
    open_pair(&c, cl);
    c.deaf = true;
    c.gw->broker->ops->leave(c.gw->broker, SLICE("lobby"), slice_str(cl[1].sid), SLICE("bob"), EXIT_LEAVE, on_done,
                             NULL);
    c.gw->broker->ops->session_remove(c.gw->broker, slice_str(cl[1].sid), SLICE("bob"), SLICE_NONE, on_done, NULL);
    loop_fake_run(&c.loop);
    c.deaf = false;
    assert_int_equal(ask(&c, cl[1].sid).err, ERR_NOT_FOUND);
    unsigned puts = c.puts;
    link_back(&c);
    assert_int_equal(c.puts, puts + 1);
    assert_int_equal(stored_rooms(&c, cl[1].sid), 1);
    assert_int_equal(metrics->restored, 1);
    client_send(&cl[0], "{\"type\":\"send\",\"id\":2,\"to\":{\"user\":\"bob\"},\"data\":1}");
    client_expect(&cl[0], "\"enter\"");
    client_expect(&cl[0], "\"ack\"");
    client_expect(&cl[1], "\"$user:bob\"");
    hang_up(&c, cl);
    (void)state;
}

static void a_leave_that_was_lost(void **state)
{
    struct core c;
    struct client cl[2];
    open_pair(&c, cl);
    c.deaf = true;
    c.gw->broker->ops->join(c.gw->broker, SLICE("left"), slice_str(cl[1].sid), SLICE("bob"), on_done, NULL);
    loop_fake_run(&c.loop);
    c.deaf = false;
    assert_int_equal(stored_rooms(&c, cl[1].sid), 2);
    unsigned leaves = c.leaves;
    link_back(&c);
    assert_int_equal(c.leaves, leaves + 1);
    assert_int_equal(stored_rooms(&c, cl[1].sid), 1);
    assert_int_equal(metrics->restored, 1);
    hang_up(&c, cl);
    (void)state;
}

/* Nothing is missing: nothing is done, also not to those who are just coming or going. */
static void nothing_that_was_lost(void **state)
{
    struct core c;
    struct client cl[2];
    open_pair(&c, cl);
    unsigned joins = c.joins, leaves = c.leaves, puts = c.puts;
    link_back(&c);
    link_back(&c);
    assert_int_equal(metrics->restored, 0);
    c.gw->broker->events->link(c.gw, true);
    loop_fake_advance(&c.loop, 1999);
    client_send(&cl[1], "{\"type\":\"join\",\"id\":3,\"room\":\"new\"}");
    client_send(&cl[0], "{\"type\":\"leave\",\"id\":3,\"room\":\"lobby\"}");
    loop_fake_advance(&c.loop, 2000);
    client_expect(&cl[1], "\"ack\"", "\"room\":\"new\"");
    client_expect(&cl[0], "\"ack\"", "\"room\":\"lobby\"");
    assert_int_equal(metrics->restored, 0);
    assert_int_equal(c.joins, joins + 1);
    assert_int_equal(c.leaves, leaves + 1);
    assert_int_equal(c.puts, puts);
    hang_up(&c, cl);
    (void)state;
}

/* Without any reason, some time. */
static void now_and_then(void **state)
{
    struct core c;
    struct client cl[2];
    open_pair(&c, cl);
    link_back(&c);
    c.deaf = true;
    c.gw->broker->ops->leave(c.gw->broker, SLICE("lobby"), slice_str(cl[1].sid), SLICE("bob"), EXIT_LEAVE, on_done,
                             NULL);
    loop_fake_run(&c.loop);
    c.deaf = false;
    for (int minute = 0; minute < 46 && metrics->restored == 0; minute++)
        loop_fake_advance(&c.loop, 60 * 1000);
    loop_fake_advance(&c.loop, 2000); /* it may have been noticed just now: what is told again waits for a moment */
    assert_int_equal(metrics->restored, 1);
    assert_int_equal(stored_rooms(&c, cl[1].sid), 1);
    hang_up(&c, cl);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_membership_that_was_lost),
        cmocka_unit_test(a_session_that_was_lost),
        cmocka_unit_test(a_leave_that_was_lost),
        cmocka_unit_test(nothing_that_was_lost),
        cmocka_unit_test(now_and_then),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
