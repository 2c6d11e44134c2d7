/* tests/unit/test_wheel.c: the timing wheel, with a clock that the test moves, and against a plain list of due times. */
#include "base/mem.h"
#include "base/wheel.h"
#include "tests/support/check.h"

#define TICK 100

struct probe {
    struct wheel_entry entry;
    unsigned runs;
    struct wheel *wheel;
    struct probe *other; /* what `run` touches, when set */
    uint64_t again_ms;   /* sets itself again when not 0 */
};

static void on_run(struct wheel_entry *e)
{
    struct probe *p = container_of(e, struct probe, entry);
    assert_true(list_empty(&e->link));
    p->runs++;
    if (p->again_ms != 0)
        wheel_set(p->wheel, e, p->again_ms);
    if (p->other != NULL)
        wheel_unset(&p->other->entry);
}

static struct probe probe_init(struct wheel *w)
{
    struct probe p = {.wheel = w};
    return p;
}

static void fires_once_never_early(void **state)
{
    static const uint64_t delays[] = {0, 1, 99, 100, 101, 5000, 25500, 25600, 25700, 51200, 1000000};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(delays); i++) {
        struct wheel w;
        struct probe p = probe_init(&w);
        uint64_t start = 12345 + 37 * i, now = start, fired = 0;
        wheel_init(&w, TICK, start);
        wheel_entry_init(&p.entry, on_run);
        wheel_set(&w, &p.entry, delays[i]);
        for (; now < start + delays[i] + 3 * TICK; now += 7) {
            wheel_advance(&w, now);
            if (p.runs != 0 && fired == 0)
                fired = now;
        }
        assert_int_equal(p.runs, 1);
        assert_in_range(fired, start + delays[i], start + delays[i] + 2 * TICK + 7);
        wheel_advance(&w, now + 1000000);
        assert_int_equal(p.runs, 1);
    }
}

static void can_be_moved_and_unset(void **state)
{
    struct wheel w;
    struct probe p = probe_init(&w);
    (void)state;
    wheel_init(&w, TICK, 0);
    wheel_entry_init(&p.entry, on_run);
    wheel_unset(&p.entry); /* harmless */
    wheel_set(&w, &p.entry, 500);
    wheel_advance(&w, 400);
    wheel_set(&w, &p.entry, 500);
    wheel_advance(&w, 800);
    assert_int_equal(p.runs, 0);
    wheel_advance(&w, 1100);
    assert_int_equal(p.runs, 1);
    wheel_set(&w, &p.entry, 500);
    wheel_unset(&p.entry);
    wheel_unset(&p.entry);
    wheel_advance(&w, 100000);
    assert_int_equal(p.runs, 1);
}

static void callbacks_may_set_and_unset(void **state)
{
    struct wheel w;
    struct probe again = probe_init(&w), first = probe_init(&w), second = probe_init(&w);
    (void)state;
    wheel_init(&w, TICK, 0);
    again.again_ms = 100;
    wheel_entry_init(&again.entry, on_run);
    wheel_set(&w, &again.entry, 0);
    for (uint64_t now = 0; now <= 2000; now += TICK)
        wheel_advance(&w, now);
    assert_in_range(again.runs, 9, 10); /* one tick of grace each time */
    wheel_unset(&again.entry);

    /* Two in one slot, each takes the other away: one runs. */
    first.other = &second;
    second.other = &first;
    wheel_entry_init(&first.entry, on_run);
    wheel_entry_init(&second.entry, on_run);
    wheel_set(&w, &first.entry, 300);
    wheel_set(&w, &second.entry, 300);
    wheel_advance(&w, 10000);
    assert_int_equal(first.runs + second.runs, 1);
}

/* An entry that sets itself again in a far jump must not run for ever, and a jump must reach what is due. */
static void survives_a_long_pause(void **state)
{
    struct wheel w;
    struct probe again = probe_init(&w), late = probe_init(&w), far = probe_init(&w);
    (void)state;
    wheel_init(&w, TICK, 0);
    again.again_ms = TICK;
    wheel_entry_init(&again.entry, on_run);
    wheel_entry_init(&late.entry, on_run);
    wheel_entry_init(&far.entry, on_run);
    wheel_set(&w, &again.entry, TICK);
    wheel_set(&w, &late.entry, 3600 * 1000);
    wheel_set(&w, &far.entry, 2 * 3600 * 1000);
    wheel_advance(&w, 3600 * 1000 + 2 * TICK);
    assert_int_equal(late.runs, 1);
    assert_int_equal(far.runs, 0);
    assert_in_range(again.runs, 1, WHEEL_SLOTS);
    wheel_advance(&w, 2 * 3600 * 1000 + 2 * TICK);
    assert_int_equal(far.runs, 1);
    /* Time that stands still or goes back does nothing. */
    wheel_set(&w, &late.entry, 0);
    wheel_advance(&w, 0);
    assert_int_equal(late.runs, 1);
    wheel_unset(&again.entry);
}

enum { ENTRIES = 50 };

static void behaves_like_a_list_of_due_times(void **state)
{
    static struct probe probes[ENTRIES];
    uint64_t due[ENTRIES] = {0}, now = 1000, seed = 99; /* due 0: not set */
    unsigned ran = 0;
    struct wheel w;
    (void)state;
    wheel_init(&w, TICK, now);
    for (size_t i = 0; i < ENTRIES; i++) {
        probes[i] = probe_init(&w);
        wheel_entry_init(&probes[i].entry, on_run);
    }
    for (int round = 0; round < 20000; round++) {
        size_t i = check_random(&seed) % ENTRIES;
        uint64_t delay = check_random(&seed) % 60000;
        if (check_random(&seed) % 3 != 0) {
            wheel_set(&w, &probes[i].entry, delay);
            due[i] = now + delay;
        } else {
            wheel_unset(&probes[i].entry);
            due[i] = 0;
        }
        now += check_random(&seed) % (round % 100 == 0 ? 100000 : 150);
        wheel_advance(&w, now);
        for (size_t k = 0; k < ENTRIES; k++) {
            if (probes[k].runs != 0) {
                assert_int_equal(probes[k].runs, 1);
                assert_true(due[k] != 0 && due[k] <= now);
                due[k] = 0;
                probes[k].runs = 0;
                ran++;
            }
            assert_true(due[k] == 0 || due[k] + 2 * TICK > now); /* not late */
        }
    }
    assert_in_range(ran, 1000, 20000);
    for (size_t i = 0; i < ENTRIES; i++)
        wheel_unset(&probes[i].entry);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fires_once_never_early),           cmocka_unit_test(can_be_moved_and_unset),
        cmocka_unit_test(callbacks_may_set_and_unset),      cmocka_unit_test(survives_a_long_pause),
        cmocka_unit_test(behaves_like_a_list_of_due_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
