/* tests/unit/test_emit.c: emissions to Socket.IO clients in the core: who gets them, what is asked and answered, and clients who do not keep up or go meanwhile. */
#include <stdio.h>

#include "base/mem.h"
#include "gateway/broadcast.h"
#include "gateway/emitter.h"
#include "gateway/engine.h"
#include "gateway/metrics.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"

static struct core core;

static const char *const some_namespace[] = {"--socketio-namespace", "/a", NULL};

static void open_core(const char *const *args)
{
    memset(metrics, 0, sizeof *metrics);
    core_init(&core, args);
}

static void close_core(struct client *cl, size_t n)
{
    for (size_t i = 0; i < n; i++)
        client_vanish(&cl[i]);
    loop_fake_run(&core.loop);
    assert_int_equal(core.gw->asked, 0);
    core_fini(&core);
}

static void open_v4(struct client *cl, const char *connect)
{
    struct slice payload;
    client_connect(cl, &core, "/socket.io/?EIO=4&transport=websocket");
    client_expect(cl, "0{\"sid\":\"");
    client_send(cl, connect);
    loop_fake_run(&core.loop);
    assert_int_equal(client_next(cl, &payload), WS_TEXT);
    const char *at = strstr(payload.p, "\"sid\":\"");
    assert_non_null(at);
    memcpy(cl->sid, at + 7, SID_LEN);
}

static void expect_exactly(struct client *cl, const char *want)
{
    struct slice payload;
    loop_fake_run(&core.loop);
    assert_int_equal(client_next(cl, &payload), WS_TEXT);
    assert_slice(payload, want);
}

/* --- emissions of a backend --- */

struct told {
    int times;
    enum err err;
    uint64_t nodes, answered, uncounted;
    char acks[300], missing[100];
};

static void on_emitted(void *arg, const struct broadcast_result *r)
{
    struct told *t = arg;
    t->times++;
    t->err = r->err;
    t->nodes = r->nodes;
    t->answered = r->answered;
    t->uncounted = r->uncounted;
    (void)snprintf(t->acks, sizeof t->acks, "%.*s", SLICE_FMT(r->acks));
    (void)snprintf(t->missing, sizeof t->missing, "%.*s", SLICE_FMT(r->missing));
}

static void emit(const char *json, struct told *told)
{
    struct emission e;
    struct error error;
    struct arena a;
    arena_init(&a, 1 << 16);
    *told = (struct told){0};
    if (emission_read_json(slice_str(json), &a, &e, &error) != OK)
        fail_msg("%s", error.text);
    broadcast_emit(core.gw, &e, slice_str(json), on_emitted, told);
    arena_reset(&a);
    assert_int_equal(told->times, 0);
    loop_fake_run(&core.loop);
}

static void acks_are_collected(void **state)
{
    struct client cl[2];
    struct told told;
    char want[200];
    (void)state;
    open_core(NULL);
    open_v4(&cl[0], "40");
    open_v4(&cl[1], "40");
    emit("{\"event\":\"q\",\"data\":{\"$args\":[1,\"x\"]},\"ack\":true,\"timeout\":100}", &told);
    expect_exactly(&cl[0], "421[\"q\",1,\"x\"]");
    expect_exactly(&cl[1], "421[\"q\",1,\"x\"]");
    client_send(&cl[0], "431[\"yes\"]");
    client_send(&cl[0], "431[\"again\"]");
    client_send(&cl[1], "432[\"another\"]");
    loop_fake_run(&core.loop);
    assert_int_equal(told.times, 0);
    client_send(&cl[1], "431[]");
    loop_fake_run(&core.loop);
    assert_int_equal(told.times, 1);
    assert_int_equal(told.err, OK);
    assert_int_equal(told.answered, 1);
    (void)snprintf(want, sizeof want,
                   "{\"session\":\"%s\",\"data\":\"yes\"},{\"session\":\"%s\",\"data\":{\"$args\":[]}}", cl[0].sid,
                   cl[1].sid);
    assert_string_equal(told.acks, want);
    assert_string_equal(told.missing, "");
    close_core(cl, 2);
}

static void who_is_silent_or_gone_is_missing(void **state)
{
    struct client cl[2];
    struct told told;
    (void)state;
    open_core(NULL);
    open_v4(&cl[0], "40");
    open_v4(&cl[1], "40");
    emit("{\"data\":1,\"ack\":true,\"timeout\":100}", &told);
    client_vanish(&cl[1]);
    loop_fake_advance(&core.loop, 99);
    assert_int_equal(told.times, 0);
    loop_fake_advance(&core.loop, 1);
    loop_fake_run(&core.loop);
    assert_int_equal(told.times, 1);
    assert_string_equal(told.acks, "");
    assert_non_null(strstr(told.missing, cl[0].sid));
    assert_non_null(strstr(told.missing, cl[1].sid));
    assert_int_equal(metrics->acks_missed, 2);
    client_send(&cl[0], "431[1]"); /* too late: it changes nothing */
    loop_fake_run(&core.loop);
    close_core(cl, 1);
}

static void one_that_waits_when_the_gateway_ends_is_answered(void **state)
{
    struct client cl;
    struct told told;
    (void)state;
    open_core(NULL);
    open_v4(&cl, "40");
    emit("{\"data\":1,\"ack\":true}", &told);
    client_vanish(&cl);
    loop_fake_run(&core.loop);
    core_fini(&core);
    assert_int_equal(told.times, 1);
    assert_int_equal(told.err, ERR_UNAVAILABLE);
}

static void too_many_that_wait_are_refused(void **state)
{
    static struct told told[1001];
    struct client cl;
    (void)state;
    open_core(NULL);
    open_v4(&cl, "40");
    for (size_t i = 0; i < 1001; i++)
        emit("{\"data\":1,\"ack\":true,\"timeout\":100}", &told[i]);
    loop_fake_advance(&core.loop, 0);
    assert_int_equal(told[1000].times, 1);
    assert_int_equal(told[1000].err, ERR_RATE_LIMITED);
    assert_int_equal(told[0].times, 0);
    loop_fake_advance(&core.loop, 100);
    loop_fake_run(&core.loop);
    assert_int_equal(told[0].times, 1);
    assert_int_equal(told[999].times, 1);
    close_core(&cl, 1);
}

/* --- what comes on channels --- */

/* As the option does with Redis. */
static void hear_emitters(void)
{
    core.cfg.socketio_emitter = EMITTER_CLASSIC;
    core.gw->emitter = emitter_create(core.gw);
}

static void hear(const char *channel, struct slice body)
{
    core.gw->broker->events->heard(core.gw, slice_str(channel), body);
}

#define MESSAGE(args, opts)                                                                                            \
    "\x93\xa1u\x83\xa4type\x02\xa4"                                                                                    \
    "data" args "\xa3nsp\xa1/" opts
#define EVERYBODY                                                                                                      \
    "\x83\xa5rooms\x90\xa5"                                                                                            \
    "flags\x80\xa6"                                                                                                    \
    "except\x90"
#define VOLATILE                                                                                                       \
    "\x83\xa5rooms\x90\xa5"                                                                                            \
    "flags\x81\xa8volatile\xc3\xa6"                                                                                    \
    "except\x90"

static void volatile_ones_are_not_for_those_who_have_something_to_read(void **state)
{
    struct client cl[2];
    (void)state;
    open_core(some_namespace);
    hear_emitters();
    open_v4(&cl[0], "40");
    open_v4(&cl[1], "40");
    cl[1].window = 0;
    hear("socket.io#/#", SLICE(MESSAGE("\x92\xa1"
                                       "e\x01",
                                       EVERYBODY)));
    hear("socket.io#/#", SLICE(MESSAGE("\x92\xa1"
                                       "e\x02",
                                       VOLATILE)));
    hear("socket.io#/#", SLICE(MESSAGE("\x92\xa1"
                                       "e\x03",
                                       EVERYBODY)));
    expect_exactly(&cl[0], "42[\"e\",1]");
    expect_exactly(&cl[0], "42[\"e\",2]");
    expect_exactly(&cl[0], "42[\"e\",3]");
    client_take(&cl[1], SIZE_MAX);
    expect_exactly(&cl[1], "42[\"e\",1]");
    expect_exactly(&cl[1], "42[\"e\",3]");
    assert_int_equal(metrics->drops[DROP_VOLATILE], 1);
    close_core(cl, 2);
}

static void channels_and_packets_must_agree(void **state)
{
    struct client cl;
    (void)state;
    open_core(some_namespace);
    hear_emitters();
    open_v4(&cl, "40/a,");
    hear("socket.io#/a#", SLICE(MESSAGE("\x92\xa1"
                                        "e\x01",
                                        EVERYBODY))); /* it says it is for / */
    hear("socket.io#/b#", SLICE(MESSAGE("\x92\xa1"
                                        "e\x01",
                                        EVERYBODY))); /* nobody listens there */
    hear("socket.io-request#/a#", SLICE("nonsense"));
    client_expect_nothing(&cl);
    assert_int_equal(metrics->drops[DROP_EMITTER], 2);
    assert_int_equal(metrics->emitter_messages, 2);
    hear("socket.io-request#/a#",
         SLICE("{\"type\":2,\"opts\":{\"rooms\":[],\"except\":[]},\"rooms\":[\"r\",\"$all\",\"\"]}"));
    client_expect(&cl, "42/a,[\"$joined\",", "\"room\":\"/a,r\"");
    hear("socket.io-request#/a#", SLICE("{\"type\":4,\"opts\":{\"rooms\":[\"r\"],\"except\":[]},\"close\":true}"));
    client_expect(&cl, "$goodbye");
    expect_exactly(&cl, "41/a,");
    assert_true(cl.close_asked);
    close_core(&cl, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acks_are_collected),
        cmocka_unit_test(who_is_silent_or_gone_is_missing),
        cmocka_unit_test(one_that_waits_when_the_gateway_ends_is_answered),
        cmocka_unit_test(too_many_that_wait_are_refused),
        cmocka_unit_test(volatile_ones_are_not_for_those_who_have_something_to_read),
        cmocka_unit_test(channels_and_packets_must_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
