/* tests/unit/test_broker.c: messages: what every broker promises, asked of every backend: the embedded one and a real Redis. */
#include "tests/unit/broker_suite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"

static bool is_tag(const char *tag)
{
    return tag_valid(slice_str(tag));
}

static void link_comes_up_once(void **state)
{
    struct world *w = world_of(state);
    assert_int_equal(w->ups, 1);
    assert_int_equal(w->downs, 0);
    assert_null(w->broker->ops->not_ready(w->broker));
}

static void message_arrives_as_published(void **state)
{
    struct world *w = world_of(state);
    do_subscribe(w, "lobby");
    struct publish p = {.room = SLICE("lobby"),
                        .event = SLICE("chat"),
                        .from = SLICE("session-1"),
                        .user = SLICE("alice"),
                        .except = SLICE("session-2"),
                        .key = SLICE("k1"),
                        .data = SLICE("{\"text\":\"h\xc3\xa4\"}")};
    struct answer *a = do_publish(w, &p);
    assert_int_equal(a->err, OK);
    assert_false(a->repeated);
    world_expect(w, 1);
    const struct seen *s = &w->seen[0];
    assert_int_equal(s->kind, ENVELOPE_MESSAGE);
    assert_string_equal(s->room, "lobby");
    assert_string_equal(s->event, "chat");
    assert_string_equal(s->from, "session-1");
    assert_string_equal(s->user, "alice");
    assert_string_equal(s->except, "session-2");
    assert_string_equal(s->id, "k1");
    assert_string_equal(s->node, "gw1-aaaaaa");
    assert_string_equal(s->data, "{\"text\":\"h\xc3\xa4\"}");
    assert_int_equal(s->data_type, DATA_JSON);
    assert_int_equal(s->position.offset, 1);
    assert_true(is_tag(s->position.tag));
    assert_string_equal(s->prev, "");
    assert_true(s->time_ms > 1600000000000);
    assert_int_equal(a->position.offset, 1);
    assert_string_equal(a->position.tag, s->position.tag);
}

static void positions_count_without_holes(void **state)
{
    struct world *w = world_of(state);
    do_subscribe(w, "lobby");
    struct answer *answers[8];
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        char data[16];
        (void)snprintf(data, sizeof data, "%zu", i);
        answers[i] = answer_new();
        struct publish p = {.room = SLICE("lobby"), .data = slice_str(data)};
        w->broker->ops->publish(w->broker, &p, answered, answers[i]);
        assert_int_equal(answers[i]->times, 0);
    }
    world_expect(w, ARRAY_LEN(answers));
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        char data[16];
        (void)snprintf(data, sizeof data, "%zu", i);
        await_ok(w, answers[i]);
        assert_int_equal(answers[i]->position.offset, i + 1);
        assert_int_equal(w->seen[i].position.offset, i + 1);
        assert_string_equal(w->seen[i].data, data);
        assert_string_equal(w->seen[i].position.tag, answers[i]->position.tag);
        assert_string_equal(w->seen[i].prev, i == 0 ? "" : w->seen[i - 1].position.tag);
    }
}

static void only_subscribed_rooms_are_heard(void **state)
{
    struct world *w = world_of(state);
    do_subscribe(w, "here");
    do_subscribe(w, "here");
    assert_int_equal(do_say(w, "there", "1")->err, OK);
    assert_int_equal(do_say(w, "here", "2")->err, OK);
    world_settle(w);
    world_expect(w, 1);
    w->broker->ops->unsubscribe(w->broker, SLICE("here"));
    w->broker->ops->unsubscribe(w->broker, SLICE("never subscribed"));
    world_settle(w);
    assert_int_equal(do_say(w, "here", "3")->position.offset, 2);
    world_settle(w);
    world_expect(w, 1);
    /* Back again, it continues where the room is. */
    do_subscribe(w, "here");
    assert_int_equal(do_say(w, "here", "4")->position.offset, 3);
    world_expect(w, 2);
    assert_int_equal(w->seen[1].position.offset, 3);
}

static void quick_changes_of_mind_end_subscribed(void **state)
{
    struct world *w = world_of(state);
    struct answer *a = NULL;
    for (int i = 0; i < 20; i++) {
        a = answer_new();
        w->broker->ops->subscribe(w->broker, SLICE("lobby"), answered, a);
        if (i % 3 == 0)
            loop_fake_run(w->loop);
        if (i < 19)
            w->broker->ops->unsubscribe(w->broker, SLICE("lobby"));
        if (i % 4 == 0)
            loop_fake_run(w->loop);
    }
    await_ok(w, a);
    do_say(w, "lobby", "1");
    world_expect(w, 1);
}

static void history_keeps_what_was_retained(void **state)
{
    struct world *w = world_of(state);
    assert_int_equal(await_ok(w, do_history(w, "log", 0, 10))->count, 0);
    do_say(w, "log", "\"not retained\"");
    assert_int_equal(await_ok(w, do_history(w, "log", 0, 10))->count, 0);
    struct publish p = {.room = SLICE("log"),
                        .event = SLICE("e"),
                        .from = SLICE("s"),
                        .user = SLICE("u"),
                        .except = SLICE("x"),
                        .retain_count = 5,
                        .retain_age_s = 3600};
    for (int i = 2; i <= 9; i++) {
        char data[16], key[16];
        (void)snprintf(data, sizeof data, "%d", i);
        (void)snprintf(key, sizeof key, "k%d", i);
        p.data = slice_str(data);
        p.key = slice_str(key);
        assert_int_equal(do_publish(w, &p)->position.offset, i);
    }
    struct answer *a = await_ok(w, do_history(w, "log", 0, 100));
    assert_int_equal(a->count, 5);
    assert_false(a->more);
    assert_int_equal(a->position.offset, 9);
    assert_int_equal(a->entries[0].position.offset, 5);
    a = await_ok(w, do_history(w, "log", 6, 2));
    assert_int_equal(a->count, 2);
    assert_true(a->more);
    assert_int_equal(a->entries[0].position.offset, 7);
    assert_true(is_tag(a->entries[0].position.tag));
    assert_string_equal(a->entries[0].data, "7");
    assert_string_equal(a->entries[0].event, "e");
    assert_string_equal(a->entries[0].name, "s");
    assert_string_equal(a->entries[0].user, "u");
    assert_string_equal(a->entries[0].id, "k7");
    assert_string_equal(a->entries[0].except, "x");
    assert_true(a->entries[0].time_ms > 1600000000000);
    assert_int_equal(await_ok(w, do_history(w, "log", 9, 2))->count, 0);
}

static void binary_data_passes_unchanged(void **state)
{
    struct world *w = world_of(state);
    static const char bytes[] = "\x00\r\n$5\r\n\xff\xfe\x00{}%s\x00";
    do_subscribe(w, "bin");
    struct publish p = {
        .room = SLICE("bin"), .data = {bytes, sizeof bytes}, .data_type = DATA_BINARY, .retain_count = 3};
    assert_int_equal(do_publish(w, &p)->err, OK);
    p.data = SLICE_NONE;
    assert_int_equal(do_publish(w, &p)->err, OK);
    world_expect(w, 2);
    assert_int_equal(w->seen[0].data_type, DATA_BINARY);
    assert_int_equal(w->seen[0].data_n, sizeof bytes);
    assert_memory_equal(w->seen[0].data, bytes, sizeof bytes);
    assert_int_equal(w->seen[1].data_n, 0);
    struct answer *a = await_ok(w, do_history(w, "bin", 0, 10));
    assert_int_equal(a->count, 2);
    assert_int_equal(a->entries[0].data_type, DATA_BINARY);
    assert_int_equal(a->entries[0].data_n, sizeof bytes);
    assert_memory_equal(a->entries[0].data, bytes, sizeof bytes);
}

static void large_data_passes_unchanged(void **state)
{
    struct world *w = world_of(state);
    size_t n = 3 << 20;
    AUTO_FREE char *data = xmalloc(n);
    for (size_t i = 0; i < n; i++)
        data[i] = (char)('a' + i % 23);
    data[0] = data[n - 1] = '"';
    do_subscribe(w, "big");
    assert_int_equal(do_publish(w, &(struct publish){.room = SLICE("big"), .data = {data, n}})->err, OK);
    world_expect(w, 1);
    assert_int_equal(w->seen[0].data_n, n);
    assert_memory_equal(w->seen[0].data, data, n);
}

static void key_publishes_once(void **state)
{
    struct world *w = world_of(state);
    do_subscribe(w, "r1");
    do_subscribe(w, "r2");
    struct publish p = {.room = SLICE("r1"), .data = SLICE("1"), .key = SLICE("same:key.1")};
    struct answer *first = do_publish(w, &p);
    do_say(w, "r1", "2");
    struct answer *again = do_publish(w, &p);
    assert_int_equal(again->err, OK);
    assert_true(again->repeated);
    assert_int_equal(again->position.offset, 1);
    assert_string_equal(again->position.tag, first->position.tag);
    p.room = SLICE("r2");
    assert_false(do_publish(w, &p)->repeated);
    world_settle(w);
    world_expect(w, 3);
    assert_string_equal(w->seen[0].id, "same:key.1");
}

/* A message that the store had lost comes back once, whoever brings it, and tells where it stood. */
static void what_was_lost_is_appended_once(void **state)
{
    struct world *w = world_of(state);
    await_ok(w, do_subscribe(w, "r1"));
    struct publish p = {.room = SLICE("r1"), .data = SLICE("1"), .retain_count = 10};
    p.was = (struct was){.at = {.offset = 7, .tag = "000000a7"}, .since = 5};
    assert_false(await_ok(w, do_publish(w, &p))->repeated);
    p.data = SLICE("2");
    struct answer *a = await_ok(w, do_publish(w, &p));
    assert_true(a->repeated);
    assert_int_equal(a->position.offset, 1);
    /* One that had a key is what its publisher would repeat. */
    p.key = SLICE("k");
    p.was.at = (struct position){.offset = 8, .tag = "000000a8"};
    assert_int_equal(await_ok(w, do_publish(w, &p))->position.offset, 2);
    p.was = (struct was){.since = 0};
    assert_true(await_ok(w, do_publish(w, &p))->repeated);
    world_expect(w, 2);
    assert_int_equal(w->seen[0].was.at.offset, 7);
    assert_string_equal(w->seen[0].was.at.tag, "000000a7");
    assert_int_equal(w->seen[0].was.since, 5);
    assert_string_equal(w->seen[0].id, "");
    assert_string_equal(w->seen[1].id, "k");
    a = await_ok(w, do_history(w, "r1", 0, 10));
    assert_int_equal(a->count, 2);
    assert_int_equal(a->entries[1].was.at.offset, 8);
    assert_string_equal(a->entries[1].was.at.tag, "000000a8");
    assert_int_equal(a->entries[1].was.since, 5);
}

static void everybody_is_heard_without_subscribing(void **state)
{
    struct world *w = world_of(state);
    struct answer *a = do_say(w, "$all", "1");
    assert_int_equal(a->err, OK);
    assert_int_equal(a->position.offset, 1);
    world_expect(w, 1);
    assert_string_equal(w->seen[0].room, "$all");
}

/* A completion that asks for more, as cores do. */
struct chain {
    struct world *w;
    int left, done;
    enum err last;
};

static void chain_on(void *arg, const struct broker_result *r)
{
    struct chain *c = arg;
    c->done++;
    c->last = r->err;
    if (c->left-- > 0)
        c->w->broker->ops->publish(c->w->broker, &(struct publish){.room = SLICE("chain"), .data = SLICE("1")},
                                   chain_on, c);
}

static bool chain_over(void *arg)
{
    const struct chain *c = arg;
    return c->left < 0;
}

static void completions_may_ask_for_more(void **state)
{
    struct world *w = world_of(state);
    struct chain c = {.w = w, .left = 50};
    do_subscribe(w, "chain");
    chain_on(&c, &(struct broker_result){.err = OK});
    assert_true(loop_fake_until(w->loop, chain_over, &c, 10000));
    assert_int_equal(c.done, 51);
    assert_int_equal(c.last, OK);
    world_expect(w, 50);
}

static void destroying_completes_what_is_left(void **state)
{
    struct world *w = world_of(state);
    struct answer *a[10];
    for (size_t i = 0; i < ARRAY_LEN(a); i++)
        a[i] = answer_new();
    const struct broker_ops *ops = w->broker->ops;
    struct session_record s = {.sid = SLICE("s1")};
    ops->publish(w->broker, &(struct publish){.room = SLICE("r"), .data = SLICE("1")}, answered, a[0]);
    ops->publish(w->broker, &(struct publish){.room = SLICE("$user:u"), .data = SLICE("1")}, answered, a[1]);
    ops->subscribe(w->broker, SLICE("r"), answered, a[2]);
    ops->join(w->broker, SLICE("r"), SLICE("s1"), SLICE_NONE, answered, a[3]);
    ops->leave(w->broker, SLICE("r"), SLICE("s1"), SLICE_NONE, EXIT_LEAVE, answered, a[4]);
    ops->session_put(w->broker, &s, answered, a[5]);
    ops->session_remove(w->broker, SLICE("s1"), SLICE_NONE, SLICE_NONE, answered, a[6]);
    ops->presence(w->broker, SLICE("r"), SLICE_NONE, 1, answered, a[7]);
    ops->rooms(w->broker, SLICE_NONE, 1, answered, a[8]);
    ops->history(w->broker, &(struct log_page){.room = SLICE("r"), .limit = 1}, answered, a[9]);
    struct chain c = {.w = w, .left = 3};
    ops->subscribe(w->broker, SLICE("r2"), chain_on, &c);
    broker_destroy(&w->broker);
    for (size_t i = 0; i < ARRAY_LEN(a); i++) {
        assert_int_equal(a[i]->times, 1);
        assert_int_equal(a[i]->err, ERR_UNAVAILABLE);
        assert_true(a[i]->why[0] != '\0');
    }
    assert_int_equal(c.done, 4);
    broker_destroy(&w->broker);
}

static void full_queue_refuses(void **state)
{
    struct fixture *f = *state;
    world_fini(&f->w);
    struct broker_config cfg = world_config(suite_url, "gw1-bbbbbb");
    cfg.queue_commands = 20;
    cfg.queue_bytes = 100000;
    world_init(&f->w, &f->loop, &cfg);
    world_ready(&f->w);
    struct world *w = &f->w;
    enum { ASKED = 60 };
    static struct answer answers[ASKED];
    memset(answers, 0, sizeof answers);
    for (int i = 0; i < ASKED; i++)
        w->broker->ops->publish(w->broker, &(struct publish){.room = SLICE("r"), .data = SLICE("1")}, answered,
                                &answers[i]);
    int ok = 0;
    for (int i = 0; i < ASKED; i++) {
        await(w, &answers[i]);
        assert_true(answers[i].err == OK || answers[i].err == ERR_UNAVAILABLE);
        ok += answers[i].err == OK ? 1 : 0;
    }
    assert_true(ok >= 18 && ok <= 20); /* a probe or a heartbeat may stand in the queue too */
    assert_int_equal(w->broker->stats.refused, ASKED - ok);
    AUTO_FREE char *data = xcalloc(1, 100001);
    memset(data, '1', 100000);
    assert_int_equal(do_say(w, "r", data)->err, ERR_UNAVAILABLE);
    assert_int_equal(do_say(w, "r", "1")->position.offset, ok + 1);
    assert_int_equal(w->broker->stats.queued_commands, 0);
    assert_int_equal(w->broker->stats.queued_bytes, 0);
    /* What gives back is never refused. */
    do_put(w, "s1", "");
    await_ok(w, do_join(w, "r", "s1", ""));
    for (int i = 0; i < ASKED; i++)
        w->broker->ops->publish(w->broker, &(struct publish){.room = SLICE("r"), .data = SLICE("1")}, NULL, NULL);
    await_ok(w, do_leave(w, "r", "s1", "", EXIT_DISCONNECT));
    await_ok(w, do_remove(w, "s1", ""));
}

static void counters_count(void **state)
{
    struct world *w = world_of(state);
    const struct broker_stats *s = &w->broker->stats;
    uint64_t subscriptions = s->subscriptions;
    do_subscribe(w, "r");
    assert_int_equal(s->subscriptions, subscriptions + 1);
    do_say(w, "r", "1");
    do_say(w, "r", "2");
    world_expect(w, 2);
    assert_int_equal(s->published, 2);
    assert_int_equal(s->received, 2);
    assert_true(s->commands >= 3);
    assert_int_equal(s->queued_commands, 0);
    w->broker->ops->unsubscribe(w->broker, SLICE("r"));
    world_settle(w);
    assert_int_equal(s->subscriptions, subscriptions);
    assert_int_equal(s->undecodable, 0);
}

static int run(const char *name)
{
    const struct CMUnitTest tests[] = {
        T(link_comes_up_once),
        T(message_arrives_as_published),
        T(positions_count_without_holes),
        T(only_subscribed_rooms_are_heard),
        T(quick_changes_of_mind_end_subscribed),
        T(history_keeps_what_was_retained),
        T(binary_data_passes_unchanged),
        T(large_data_passes_unchanged),
        T(key_publishes_once),
        T(what_was_lost_is_appended_once),
        T(everybody_is_heard_without_subscribing),
        T(completions_may_ask_for_more),
        T(destroying_completes_what_is_left),
        T(full_queue_refuses),
        T(counters_count),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return suite_main(run, false);
}
