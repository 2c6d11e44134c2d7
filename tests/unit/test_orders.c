/* tests/unit/test_orders.c: commands of the store: what waits for what, what is told of them, and letting go meanwhile. */
#include <stdio.h>

#include "base/mem.h"
#include "gateway/metrics.h"
#include "gateway/orders.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"

#define FIELDS 8

static struct {
    struct core core;
    struct client alice;
    struct broker_ops ops;
    broker_done *done;
    void *arg;
    unsigned asks;
    char settled[EVENT_PLACE_MAX + 1];
    bool released;
    struct buf results; /* `command result, ` */
} t;

static void on_commands(struct broker *b, const struct events_ask *ask, broker_done *done, void *arg)
{
    (void)b;
    assert_null(t.done);
    t.asks++;
    t.done = done;
    t.arg = arg;
    t.released = ask->lease_ms == 0;
    if (ask->settled.n != 0)
        (void)snprintf(t.settled, sizeof t.settled, "%.*s", SLICE_FMT(ask->settled));
}

static void on_result(struct broker *b, const struct event_field *fields, size_t count, broker_done *done, void *arg)
{
    (void)count;
    buf_printf(&t.results, "%.*s %.*s, ", SLICE_FMT(fields[0].value), SLICE_FMT(fields[2].value));
    b->ops->subscribe(b, SLICE("results"), done, arg); /* completes later, or when the broker goes */
}

static void begin(void)
{
    memset(&t, 0, sizeof t);
    core_init(&t.core, NULL);
    t.ops = *t.core.gw->broker->ops;
    t.ops.commands = on_commands;
    t.ops.command_result = on_result;
    t.core.gw->broker->ops = &t.ops;
    client_open(&t.alice, &t.core, "/ws/alice");
    t.core.gw->orders = orders_create(t.core.gw, 1000);
    loop_fake_advance(&t.core.loop, 100);
    assert_int_equal(t.asks, 1);
}

static void finish(void)
{
    client_vanish(&t.alice);
    core_fini(&t.core);
    buf_fini(&t.results);
}

/* Each command is `name value name value …`; places are 1-0, 2-0 … */
static void give(const char *const *commands, size_t n)
{
    struct event_entry entries[8];
    struct event_field fields[8][FIELDS];
    char places[8][24], text[8][256];
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(places[i], sizeof places[i], "%zu-0", i + 1);
        (void)snprintf(text[i], sizeof text[i], "%s", commands[i]);
        entries[i] = (struct event_entry){.id = slice_str(places[i]), .fields = fields[i]};
        char *rest = text[i];
        while (rest != NULL) {
            const char *name = strsep(&rest, " "), *value = strsep(&rest, " ");
            fields[i][entries[i].count++] = (struct event_field){slice_str(name), slice_str(value)};
        }
    }
    broker_done *done = TAKE(t.done);
    done(t.arg, &(struct broker_result){
                    .mine = true, .anew = t.asks == 1, .cursor = SLICE("0-0"), .events = entries, .count = n});
    loop_fake_advance(&t.core.loop, 10);
}

static void expect_results(const char *expected)
{
    assert_slice(buf_slice(&t.results), expected);
}

static void who_shares_a_name_waits_and_nobody_else(void **state)
{
    char join[100];
    (void)state;
    begin();
    (void)snprintf(join, sizeof join, "do join session %s room lobby", t.alice.sid);
    const char *const commands[] = {join, "do publish room lobby data 1", "do publish room other data 2", "do dance",
                                    "do publish room lobby data 3"};
    t.core.no_joins = true;
    give(commands, ARRAY_LEN(commands));
    expect_results("4-0 unknown_type, 3-0 ok, ");
    assert_int_equal(metrics->commands_waiting, 5);
    t.core.no_joins = false;
    loop_fake_advance(&t.core.loop, 1000);
    expect_results("4-0 unknown_type, 3-0 ok, 1-0 ok, 2-0 ok, 5-0 ok, ");
    assert_int_equal(metrics->commands_waiting, 0);
    client_expect(&t.alice, "\"joined\"");
    client_expect(&t.alice, "\"data\":1");
    client_expect(&t.alice, "\"data\":3");
    give(NULL, 0); /* what was asked before they were over */
    loop_fake_advance(&t.core.loop, 100);
    assert_string_equal(t.settled, "5-0");
    finish();
}

static void an_emit_waits_for_all_before_it(void **state)
{
    static const char *const commands[] = {"do publish room lobby data 1", "do emit event say data 1",
                                           "do publish room b data 1"};
    (void)state;
    begin();
    t.core.no_messages = true;
    give(commands, ARRAY_LEN(commands));
    expect_results("");
    t.core.no_messages = false;
    loop_fake_advance(&t.core.loop, 1000);
    expect_results("1-0 ok, 2-0 ok, 3-0 ok, ");
    finish();
}

static void stopping_waits_for_what_is_under_way(void **state)
{
    static const char *const commands[] = {"do publish room a data 1", "do publish room a data 2"};
    unsigned stopped = 0;
    (void)state;
    begin();
    t.core.no_messages = true;
    give(commands, ARRAY_LEN(commands));
    loop_fake_advance(&t.core.loop, 50);
    if (t.done != NULL)
        give(NULL, 0);
    orders_stop(t.core.gw->orders, NULL, &stopped);
    loop_fake_advance(&t.core.loop, 100);
    assert_false(t.released);
    t.core.no_messages = false;
    loop_fake_advance(&t.core.loop, 4000);
    expect_results("1-0 ok, ");
    assert_true(t.released); /* the second one is for whoever is next */
    assert_string_equal(t.settled, "1-0");
    finish();
}

static void whatever_is_under_way_it_can_be_destroyed(void **state)
{
    static const char *const commands[] = {"do publish room a data 1", "do disconnect session nobody",
                                           "do publish room a data 2", "do broadcast data 3", "do dance"};
    (void)state;
    begin();
    t.core.no_messages = true; /* waiting to be tried again, and for each other */
    give(commands, ARRAY_LEN(commands));
    finish();
    begin();
    struct broker_result r = {.mine = false};
    TAKE(t.done)(t.arg, &r);
    finish();
}

static void what_is_another_nodes_is_let_go(void **state)
{
    static const char *const commands[] = {"do publish room a data 1", "do publish room a data 2"};
    (void)state;
    begin();
    t.core.no_messages = true;
    give(commands, ARRAY_LEN(commands));
    loop_fake_advance(&t.core.loop, 20);
    struct broker_result other = {.mine = false};
    TAKE(t.done)(t.arg, &other);
    assert_int_equal(metrics->commands_waiting, 0);
    t.core.no_messages = false;
    loop_fake_advance(&t.core.loop, 4000);
    expect_results("1-0 ok, "); /* it was begun */
    finish();
}

static struct {
    unsigned count;
    broker_done *done;
    void *arg;
} publishes;

static void hold_publish(struct broker *b, const struct publish *p, broker_done *done, void *arg)
{
    (void)b;
    (void)p;
    publishes.count++;
    publishes.done = done;
    publishes.arg = arg;
}

/* The stream was lost, and came back before what had been begun was over: it is the same command, and not done twice at once. */
static void what_comes_back_waits_for_what_was_begun(void **state)
{
    static const char *const commands[] = {"do publish room a data 1"};
    const struct broker_result ok = {.position = {1, "tag"}};
    (void)state;
    begin();
    memset(&publishes, 0, sizeof publishes);
    t.ops.publish = hold_publish;
    give(commands, ARRAY_LEN(commands));
    assert_int_equal(publishes.count, 1);
    loop_fake_advance(&t.core.loop, 50);
    struct broker_result other = {.mine = false};
    TAKE(t.done)(t.arg, &other);
    loop_fake_advance(&t.core.loop, 1000);
    broker_done *first = publishes.done;
    void *arg = publishes.arg;
    give(commands, ARRAY_LEN(commands));
    loop_fake_advance(&t.core.loop, 1000);
    assert_int_equal(publishes.count, 1);
    first(arg, &ok);
    loop_fake_advance(&t.core.loop, 100);
    assert_int_equal(publishes.count, 2);
    publishes.done(publishes.arg, &ok);
    loop_fake_advance(&t.core.loop, 100);
    expect_results("1-0 ok, 1-0 ok, ");
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_shares_a_name_waits_and_nobody_else),
        cmocka_unit_test(an_emit_waits_for_all_before_it),
        cmocka_unit_test(stopping_waits_for_what_is_under_way),
        cmocka_unit_test(whatever_is_under_way_it_can_be_destroyed),
        cmocka_unit_test(what_is_another_nodes_is_let_go),
        cmocka_unit_test(what_comes_back_waits_for_what_was_begun),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
