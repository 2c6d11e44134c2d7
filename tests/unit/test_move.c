/* tests/unit/test_move.c: a connection by long-polling that goes from one node to another, one end at a time: the test is the other node. */
#include "broker/broker.h"
#include "gateway/engine.h"
#include "gateway/metrics.h"
#include "gateway/move.h"
#include "gateway/polling.h"
#include "gateway/polling_record.h"
#include "gateway/room.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"

#define OTHERS "sixteenbytes0000"

static struct core core;
static struct broker_ops ops;
static char asked[64], id[32]; /* of the other node, last */
static unsigned listened;

static void on_control_to(struct broker *b, const struct control_message *m, broker_done *done, void *arg)
{
    (void)b;
    (void)snprintf(asked, sizeof asked, "%.*s", SLICE_FMT(m->verb));
    (void)snprintf(id, sizeof id, "%.*s", SLICE_FMT(m->id));
    listened++;
    done(arg, &(struct broker_result){.err = OK});
}

static void on_control_listen(struct broker *b, struct slice sid)
{
    (void)b;
    (void)sid;
    listened++;
}

static void on_control_end(struct broker *b, struct slice sid)
{
    (void)b;
    (void)sid;
    listened--;
}

static void begin(void)
{
    memset(metrics, 0, sizeof *metrics);
    listened = 0;
    core_init(&core, NULL);
    ops = *core.gw->broker->ops;
    ops.control_to = on_control_to;
    ops.control_listen = on_control_listen;
    ops.control_end = on_control_end;
    core.gw->broker->ops = &ops;
}

static void end(void)
{
    loop_fake_advance(&core.loop, 120000);
    assert_int_equal(metrics->engines, 0);
    assert_null(core.gw->moves);
    assert_int_equal(listened, 0);
    core_fini(&core);
}

static void say(enum envelope_kind kind, const char *sid, const char *verb, const char *data)
{
    const struct envelope e = {.kind = kind,
                               .event = slice_str(verb),
                               .from = slice_str(sid),
                               .id = slice_str(kind == ENVELOPE_CONTROL ? "m1" : id),
                               .node = SLICE("other"),
                               .data = slice_str(data)};
    move_envelope(core.gw, &e);
    loop_fake_run(&core.loop);
}

static void answer(const char *verb, const char *data)
{
    say(ENVELOPE_CONTROLLED, OTHERS, verb, data);
}

static void expect_exactly(struct client *cl, const char *want)
{
    struct slice payload;
    loop_fake_run(&core.loop);
    assert_int_equal(client_next(cl, &payload), WS_TEXT);
    assert_slice(payload, want);
}

static void expect_close(struct client *cl, int code)
{
    struct slice payload;
    loop_fake_run(&core.loop);
    assert_int_equal(client_next(cl, &payload), WS_CLOSE);
    assert_int_equal((unsigned char)payload.p[0] << 8 | (unsigned char)payload.p[1], code);
}

/* Up to where the other node has been asked to give it. */
static void decide(struct client *cl)
{
    client_connect(cl, &core, "/socket.io/?EIO=4&transport=websocket&sid=" OTHERS ".other");
    client_send(cl, "2probe");
    assert_string_equal(asked, "move-probe");
    answer("move-ready", "$all\nlobby\n");
    loop_fake_advance(&core.loop, 20); /* it looks now and then whether they are heard */
    expect_exactly(cl, "3probe");
    assert_int_equal(core.gw->all->expecting, 1);
    assert_int_equal(room_find(core.gw, SLICE("lobby"))->expecting, 1);
    client_send(cl, "5");
    assert_string_equal(asked, "move-take");
}

/* As any node writes it, of a connection without sessions. */
static void make_record(struct buf *ret)
{
    struct client cl;
    client_connect(&cl, &core, "/socket.io/?EIO=4&transport=websocket");
    loop_fake_run(&core.loop);
    record_append(cl.conn->engine, false, ret);
    client_vanish(&cl);
    buf_fini(&cl.raw);
    loop_fake_run(&core.loop);
}

static void given(const char *head, const char *half)
{
    struct buf record = BUF_INIT, data = BUF_INIT;
    make_record(&record);
    buf_printf(&data, "%zu%s\n", record.n, head);
    buf_append(&data, buf_slice(&record));
    buf_append_str(&data, half);
    buf_append_char(&data, '\0');
    answer("move-given", data.p);
    buf_fini(&record);
    buf_fini(&data);
}

static void it_is_over_when_all_is_here(void **state)
{
    struct client cl;
    (void)state;
    begin();
    decide(&cl);
    given("", "");
    assert_int_equal(metrics->moves, 1);
    assert_non_null(cl.conn->engine);
    loop_fake_advance(&core.loop, 9900);
    assert_int_equal(core.gw->all->expecting, 1);
    loop_fake_advance(&core.loop, 200);
    assert_int_equal(core.gw->all->expecting, 0);
    assert_null(room_find(core.gw, SLICE("lobby")));
    assert_null(core.gw->moves);
    assert_null(cl.conn->engine->move);
    assert_int_equal(listened, 0);
    assert_false(cl.close_asked);
    client_vanish(&cl);
    buf_fini(&cl.raw);
    end();
}

static void half_a_packet_that_is_none(void **state)
{
    static const char *const bad[][2] = {
        {" 3", "2\n4"}, {" 2", "44"}, {" 9", "1\n4"}, {" ", ""}, {" x", ""}, {" 3 ", "1\n4"}, {" 4", "1\n44"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct client cl;
        begin();
        decide(&cl);
        given(bad[i][0], bad[i][1]);
        expect_close(&cl, 1000);
        assert_int_equal(metrics->moves, 0);
        assert_int_equal(metrics->moves_refused, 1);
        client_vanish(&cl);
        buf_fini(&cl.raw);
        end();
    }
}

static void what_comes_when_the_websocket_is_on_its_way_out(void **state)
{
    struct client cl;
    (void)state;
    begin();
    decide(&cl);
    conn_close(cl.conn, 1001, SLICE_NONE);
    given("", "");
    assert_int_equal(metrics->moves, 0);
    assert_null(cl.conn->engine);
    client_vanish(&cl);
    buf_fini(&cl.raw);
    end();
}

static void on_answer(struct poll *p, const struct poll_answer *a)
{
    (void)p;
    (void)a;
}

static void a_probe_that_comes_twice_is_one(void **state)
{
    const struct http_request r = {.query = SLICE("EIO=4"), .ip = SLICE("192.0.2.1")};
    struct poll poll = {.answer = on_answer};
    struct polling *po;
    struct error error;
    (void)state;
    begin();
    assert_int_equal(polling_open(core.gw, &r, &poll, true, &po, &error), OK);
    loop_fake_run(&core.loop);
    const struct engine *e = list_first(&core.gw->engines, struct engine, link);
    for (int i = 0; i < 2; i++) {
        say(ENVELOPE_CONTROL, e->sid, "move-probe", "4");
        assert_non_null(e->leaving);
    }
    say(ENVELOPE_CONTROL, e->sid, "move-over", "4");
    assert_null(e->leaving);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_over_when_all_is_here),
        cmocka_unit_test(half_a_packet_that_is_none),
        cmocka_unit_test(what_comes_when_the_websocket_is_on_its_way_out),
        cmocka_unit_test(a_probe_that_comes_twice_is_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
