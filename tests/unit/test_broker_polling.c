/* tests/unit/test_broker_polling.c: connections by long-polling, whose they are and what is kept of them: asked of every backend. */
#include "tests/unit/broker_suite.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define SID   "c1.gw1-aaaaaa"
#define KEY   "xd:polling:{" SID "}"
#define US    "gw1-aaaaaa"
#define OTHER "gw2-bbbbbb"
#define STATE "{\"sessions\":[]}"

static const struct polling_record whole = {
    .sid = SLICE(SID), .state = SLICE(STATE), .before = SLICE("{}"), .answered = SLICE("q7"), .ttl_ms = 60000};

/* The answer, and, if there is one, whose it is. */
static enum err ended(struct world *w, struct answer *a, const char *node)
{
    assert_int_equal(a->times, 0);
    (void)await(w, a);
    assert_int_equal(a->count, node != NULL);
    if (node != NULL)
        assert_string_equal(a->entries[0].name, node);
    return a->err;
}

static enum err put(struct world *w, struct polling_record record, const char *node)
{
    struct answer *a = answer_new();
    w->broker->ops->polling_put(w->broker, &record, answered, a);
    return ended(w, a, node);
}

static enum err find(struct world *w, const char *node)
{
    struct answer *a = answer_new();
    w->broker->ops->polling_find(w->broker, SLICE(SID), answered, a);
    return ended(w, a, node);
}

static enum err take(struct world *w, const char *from, const char *node, const char *record)
{
    struct answer *a = answer_new();
    w->broker->ops->polling_take(w->broker, SLICE(SID), slice_str(from), answered, a);
    enum err err = ended(w, a, node);
    assert_string_equal(a->watches, record);
    return err;
}

/* From now on it is another node's; false where there can be none. */
static bool given_away(void)
{
    struct redis_fixture *server = suite_redis(KEY);
    if (server != NULL)
        freeReplyObject(redis_fixture_command(server, "HSET " KEY " node " OTHER));
    return server != NULL;
}

static void it_is_found(void **state)
{
    struct world *w = world_of(state);
    assert_int_equal(find(w, NULL), ERR_NOT_FOUND);
    assert_int_equal(take(w, OTHER, NULL, ""), ERR_NOT_FOUND);
    assert_int_equal(put(w, whole, US), OK);
    assert_int_equal(find(w, US), OK);
    assert_int_equal(take(w, OTHER, US, STATE "|{}|q7"), OK); /* it is ours already */
}

static void it_is_written_anew(void **state)
{
    struct world *w = world_of(state);
    assert_int_equal(put(w, whole, US), OK);
    assert_int_equal(
        put(w, (struct polling_record){.sid = SLICE(SID), .state = SLICE("{\"a\":1}"), .ttl_ms = 60000}, US), OK);
    assert_int_equal(take(w, US, US, "{\"a\":1}||"), OK); /* nothing is left of what was before */
}

static void it_is_dropped(void **state)
{
    struct world *w = world_of(state);
    w->broker->ops->polling_drop(w->broker, SLICE(SID)); /* there is none: nothing happens */
    assert_int_equal(put(w, whole, US), OK);
    w->broker->ops->polling_drop(w->broker, SLICE(SID));
    assert_int_equal(find(w, NULL), ERR_NOT_FOUND);
}

static void it_is_forgotten_in_time(void **state)
{
    struct world *w = world_of(state);
    struct redis_fixture *server = suite_redis(KEY);
    struct polling_record longer = whole;
    longer.ttl_ms = 90000;
    assert_int_equal(put(w, whole, US), OK);
    assert_int_equal(put(w, longer, US), OK);
    if (server != NULL) {
        assert_in_range(redis_fixture_number(server, "PTTL " KEY), 80000, 90000);
        assert_int_equal(take(w, US, US, STATE "|{}|q7"), OK);
        assert_in_range(redis_fixture_number(server, "PTTL " KEY), 80000, 90000);
        return;
    }
    loop_fake_advance(w->loop, 89999);
    assert_int_equal(find(w, US), OK);
    loop_fake_advance(w->loop, 1);
    assert_int_equal(find(w, NULL), ERR_NOT_FOUND);
    assert_int_equal(put(w, whole, US), OK); /* again */
    loop_fake_advance(w->loop, 120000);      /* swept */
    assert_int_equal(take(w, US, NULL, ""), ERR_NOT_FOUND);
}

static void what_is_anothers_stays_his(void **state)
{
    struct world *w = world_of(state);
    assert_int_equal(put(w, whole, US), OK);
    if (!given_away())
        return;
    struct polling_record newer = whole;
    newer.state = SLICE("{}");
    assert_int_equal(put(w, newer, OTHER), ERR_CONFLICT);
    w->broker->ops->polling_drop(w->broker, SLICE(SID));
    assert_int_equal(find(w, OTHER), OK);
    assert_int_equal(take(w, "gw3-cccccc", OTHER, ""), ERR_CONFLICT);
    assert_int_equal(take(w, "", OTHER, ""), ERR_CONFLICT);
    assert_int_equal(take(w, OTHER, US, STATE "|{}|q7"), OK);
    assert_int_equal(find(w, US), OK);
    assert_int_equal(put(w, newer, US), OK);
}

static void it_is_readable(void **state)
{
    struct world *w = world_of(state);
    struct redis_fixture *server = suite_redis(KEY);
    char text[64];
    assert_int_equal(put(w, whole, US), OK);
    if (server == NULL)
        return;
    assert_int_equal(redis_fixture_number(server, "HLEN " KEY), 4);
    redis_fixture_text(server, text, sizeof text, "HGET " KEY " node");
    assert_string_equal(text, US);
    redis_fixture_text(server, text, sizeof text, "HGET " KEY " state");
    assert_string_equal(text, STATE);
}

static void what_others_wrote_there_does_no_harm(void **state)
{
    struct world *w = world_of(state);
    struct redis_fixture *server = suite_redis(KEY);
    if (server == NULL)
        return;
    freeReplyObject(redis_fixture_command(server, "HSET " KEY " node " OTHER));
    assert_int_equal(take(w, OTHER, US, "||"), OK);
    freeReplyObject(redis_fixture_command(server, "DEL " KEY));
    freeReplyObject(redis_fixture_command(server, "HSET " KEY " state {}"));
    assert_int_equal(find(w, NULL), ERR_NOT_FOUND);
    assert_int_equal(take(w, OTHER, NULL, ""), ERR_NOT_FOUND);
    freeReplyObject(redis_fixture_command(server, "DEL " KEY));
    freeReplyObject(redis_fixture_command(server, "SET " KEY " x"));
    assert_int_equal(put(w, whole, NULL), ERR_INTERNAL);
    assert_int_equal(take(w, OTHER, NULL, ""), ERR_INTERNAL);
    assert_int_equal(find(w, NULL), ERR_INTERNAL);
}

static int run(const char *name)
{
    const struct CMUnitTest tests[] = {T(it_is_found),
                                       T(it_is_written_anew),
                                       T(it_is_dropped),
                                       T(it_is_forgotten_in_time),
                                       T(what_is_anothers_stays_his),
                                       T(it_is_readable),
                                       T(what_others_wrote_there_does_no_harm)};
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return suite_main(run, false);
}
