/* tests/unit/test_reader.c: taking care of a stream: the lease, what is asked for, and letting go. */
#include "gateway/reader.h"

#include "base/mem.h"
#include "tests/support/check.h"
#include "tests/support/loop_fake.h"

#define LEASE_MS 1000u
#define IDLE_MS  100u

static struct {
    struct loop_fake loop;
    struct reader reader;
    struct events_ask asked;
    char settled[EVENT_PLACE_MAX + 1], after[EVENT_PLACE_MAX + 1];
    broker_done *done;
    void *arg;
    unsigned asks, taken, forgotten, stopped;
    uint64_t dropped;
    bool full;
} t;

static void on_send(struct reader *r, struct events_ask *what, broker_done *done, void *arg)
{
    (void)r;
    assert_null(t.done);
    t.asks++;
    t.asked = *what;
    memset(t.settled, 0, sizeof t.settled);
    memset(t.after, 0, sizeof t.after);
    memcpy(t.settled, what->settled.p, what->settled.n);
    memcpy(t.after, what->after.p != NULL ? what->after.p : "", what->after.n);
    t.done = done;
    t.arg = arg;
}

static bool is_full(struct reader *r)
{
    (void)r;
    return t.full;
}

static void on_take(struct reader *r, const struct event_entry *e)
{
    (void)r;
    (void)e;
    t.taken++;
}

static void on_forget(struct reader *r)
{
    (void)r;
    t.forgotten++;
}

static void on_dropped(struct reader *r, uint64_t n)
{
    (void)r;
    t.dropped += n;
}

static void on_stopped(struct reader *r)
{
    (void)r;
    t.stopped++;
}

static void begin(void)
{
    static const struct reader_ops ops = {on_send, is_full, on_take, on_forget, on_dropped, on_stopped};
    memset(&t, 0, sizeof t);
    loop_fake_init(&t.loop);
    reader_init(&t.reader, &t.loop.loop, &ops, LEASE_MS, IDLE_MS);
    loop_fake_advance(&t.loop, 100);
    assert_int_equal(t.asks, 1);
}

static void finish(void)
{
    reader_stop(&t.reader);
    loop_fake_fini(&t.loop);
}

static void answer(const struct broker_result *r)
{
    broker_done *done = TAKE(t.done);
    assert_non_null(done);
    done(t.arg, r);
}

static void answer_mine(bool anew, const char *place)
{
    const struct event_entry e = {.id = slice_str(place)};
    answer(&(struct broker_result){
        .mine = true, .anew = anew, .cursor = SLICE("5-0"), .events = &e, .count = place != NULL});
}

static void it_goes_on_where_it_was(void **state)
{
    (void)state;
    begin();
    answer_mine(true, "6-0");
    assert_int_equal(t.taken, 1);
    loop_fake_advance(&t.loop, IDLE_MS);
    assert_string_equal(t.after, "6-0");
    assert_string_equal(t.settled, "");
    answer_mine(false, NULL);
    reader_settled(&t.reader, "6-0");
    reader_kick(&t.reader);
    loop_fake_advance(&t.loop, 5);
    assert_int_equal(t.asks, 3);
    assert_string_equal(t.settled, "6-0");
    t.full = true;
    answer_mine(false, NULL);
    loop_fake_advance(&t.loop, LEASE_MS / 3 - 1);
    assert_int_equal(t.asks, 3);
    loop_fake_advance(&t.loop, 1);
    assert_int_equal(t.asked.limit, 0);
    answer(&(struct broker_result){.mine = false}); /* it is another node's */
    assert_int_equal(t.forgotten, 2);
    finish();
}

/* The store counts the lease from when it was asked, not from when we heard of it. */
static void a_slow_answer_makes_no_lease_longer(void **state)
{
    (void)state;
    begin();
    loop_fake_advance(&t.loop, LEASE_MS * 6 / 10);
    answer_mine(true, "6-0");
    assert_int_equal(t.forgotten, 1);
    loop_fake_advance(&t.loop, LEASE_MS / 2); /* by now it may be another node's */
    answer(&(struct broker_result){.err = ERR_UNAVAILABLE, .why = "the store is away"});
    assert_int_equal(t.forgotten, 2);
    finish();
}

static void what_was_dropped_is_told_once(void **state)
{
    (void)state;
    begin();
    answer(&(struct broker_result){.mine = true, .anew = true, .dropped = 3});
    loop_fake_advance(&t.loop, IDLE_MS);
    answer(&(struct broker_result){.mine = true, .dropped = 3});
    loop_fake_advance(&t.loop, IDLE_MS);
    answer(&(struct broker_result){.mine = true, .dropped = 5});
    assert_int_equal(t.dropped, 5);
    finish();
}

static void stopping_waits_for_the_store(void **state)
{
    (void)state;
    begin();
    reader_stop(&t.reader);
    assert_true(t.reader.asking);
    answer_mine(true, "6-0");
    assert_int_equal(t.stopped, 1);
    assert_int_equal(t.taken, 0);
    reader_release(&t.reader, NULL, NULL);
    assert_int_equal(t.asked.lease_ms, 0);
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_goes_on_where_it_was),
        cmocka_unit_test(a_slow_answer_makes_no_lease_longer),
        cmocka_unit_test(what_was_dropped_is_told_once),
        cmocka_unit_test(stopping_waits_for_the_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
