/* tests/unit/test_polling.c: Engine.IO by long-polling, without HTTP: payloads, what waits and is answered when, limits, and the end. */
#include "base/mem.h"
#include "gateway/engine.h"
#include "gateway/metrics.h"
#include "gateway/polling.h"
#include "gateway/protocol/engineio_payload.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"

static struct core core;

/* --- payloads --- */

static void expect_packets(enum eio_revision revision, bool bytes, struct slice body, const char *const *want)
{
    struct eio_payload in;
    struct error error;
    struct slice packet;
    bool binary;
    assert_int_equal(eio_payload_begin(&in, revision, bytes, body, &error), OK);
    for (; *want != NULL; want++) {
        assert_true(eio_payload_more(&in));
        assert_int_equal(eio_payload_next(&in, &packet, &binary, &error), OK);
        assert_slice(packet, *want);
    }
    assert_false(eio_payload_more(&in));
    eio_payload_fini(&in);
}

static void packets_of_both_revisions(void **state)
{
    static const char *const two[] = {"4\xc3\xa9\xf0\x9f\x98\x80", "2", NULL};
    static const char *const bytes3[] = {"4hi", "\x04\x01\x02", NULL};
    static const char *const bytes4[] = {"4hi", "\x01\x02", NULL};
    (void)state;
    expect_packets(EIO_4, false,
                   SLICE("4\xc3\xa9\xf0\x9f\x98\x80\x1e"
                         "2"),
                   two);
    expect_packets(EIO_3, false,
                   SLICE("4:4\xc3\xa9\xf0\x9f\x98\x80"
                         "1:2"),
                   two);
    expect_packets(EIO_3, true,
                   SLICE("\x00\x03\xff"
                         "4hi\x01\x03\xff\x04\x01\x02"),
                   bytes3);
    expect_packets(EIO_3, false, SLICE("3:4hi6:b4AQI="), bytes3);
    expect_packets(EIO_4, false,
                   SLICE("4hi\x1e"
                         "bAQI="),
                   bytes4);
}

static void what_is_no_payload(void **state)
{
    static const struct {
        enum eio_revision revision;
        bool bytes;
        struct slice body;
    } cases[] = {
        {EIO_4, false, {"", 0}},
        {EIO_3, false, {"", 0}},
        {EIO_4, false, {"4\xff", 2}},
        {EIO_4, false, {"b!", 2}},
        {EIO_3, false, {"x", 1}},
        {EIO_3, false, {"3:4", 3}},
        {EIO_3, false, {":4", 2}},
        {EIO_3, false, {"9999999999:4", 12}},
        {EIO_3, false, {"2:4\xf0\x9f\x98\x80", 7}}, /* half a surrogate pair */
        {EIO_3, false, {"5:b5AQI=", 8}},
        {EIO_3,
         true,
         {"\x02\x01\xff"
          "4",
          4}},
        {EIO_3,
         true,
         {"\x00\x02\xff"
          "4",
          4}},
        {EIO_3, true, {"\x00\x01\xff\xff", 4}},
        {EIO_3, true, {"\x00", 1}},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct eio_payload in;
        struct error error;
        struct slice packet;
        bool binary;
        enum err err = eio_payload_begin(&in, cases[i].revision, cases[i].bytes, cases[i].body, &error);
        while (err == OK && eio_payload_more(&in))
            err = eio_payload_next(&in, &packet, &binary, &error);
        assert_int_equal(err, ERR_BAD_REQUEST);
        eio_payload_fini(&in);
    }
}

static void scripts_and_forms(void **state)
{
    struct buf b = BUF_INIT;
    (void)state;
    eio_jsonp_append(&b, SLICE("1;x2"), SLICE("4\"a\xe2\x80\xa8\xe2\x80\x99\xe2\x80\xa9"));
    assert_slice(buf_slice(&b), "___eio[12](\"4\\\"a\\u2028\xe2\x80\x99\\u2029\");");
    buf_clear(&b);
    assert_true(eio_jsonp_take(SLICE("x=1&d=4%22a%5Cnb%5C%5Cnc%22+%2B"), &b));
    assert_slice(buf_slice(&b), "4\"a\nb\\nc\" +");
    assert_false(eio_jsonp_take(SLICE("d=%4"), &b));
    buf_fini(&b);
}

/* --- sessions --- */

struct asked {
    struct poll poll;
    int status; /* 0: not answered */
    bool bytes;
    struct buf body;
};

static void on_answer(struct poll *p, const struct poll_answer *a)
{
    struct asked *q = container_of(p, struct asked, poll);
    assert_int_equal(q->status, 0);
    q->status = a->status;
    q->bytes = a->bytes;
    buf_append(&q->body, a->body);
}

static struct asked *ask_init(struct asked *q)
{
    buf_fini(&q->body);
    *q = (struct asked){.poll.answer = on_answer};
    return q;
}

static void open_core(const char *const *args)
{
    memset(metrics, 0, sizeof *metrics);
    core_init(&core, args);
}

static void close_core(void)
{
    loop_fake_run(&core.loop);
    assert_int_equal(metrics->engines, 0);
    assert_int_equal(metrics->queue_bytes, 0);
    assert_int_equal(core.gw->polling_count, 0);
    assert_null(core.gw->engines_by_sid);
    core_fini(&core);
}

static enum err try_open(struct asked *q, const char *query, struct polling **ret)
{
    struct error error;
    const struct http_request r = {.query = slice_str(query), .ip = SLICE("192.0.2.1")};
    enum err err = polling_open(core.gw, &r, &ask_init(q)->poll, false, ret, &error);
    loop_fake_run(&core.loop);
    return err;
}

static struct polling *open_polling(struct asked *q, const char *query)
{
    struct polling *po = NULL;
    assert_int_equal(try_open(q, query, &po), OK);
    assert_int_equal(q->status, 200);
    return po;
}

static void get(struct polling *po, struct asked *q)
{
    polling_get(po, &ask_init(q)->poll, false, SLICE_NONE);
    loop_fake_run(&core.loop);
}

static void post(struct polling *po, struct asked *q, const char *body)
{
    polling_post(po, &ask_init(q)->poll, false, slice_str(body));
    loop_fake_run(&core.loop);
}

static void an_answer_waits_for_something_to_say(void **state)
{
    struct asked g = {0}, p = {0};
    (void)state;
    open_core(NULL);
    struct polling *po = open_polling(&g, "EIO=4");
    get(po, &g);
    assert_int_equal(g.status, 0);
    post(po, &p,
         "40\x1e"
         "42[\"join\",\"a\"]");
    assert_slice(buf_slice(&p.body), "ok");
    assert_int_equal(g.status, 200);
    assert_true(memmem(g.body.p, g.body.n, "40{\"sid\":", 9) != NULL);
    get(po, &g);
    loop_fake_advance(&core.loop, core.cfg.socketio_ping_interval_ms);
    assert_slice(buf_slice(&g.body), "2");
    post(po, &p, "1");
    assert_int_equal(p.status, 200);
    close_core();
    buf_fini(&g.body);
    buf_fini(&p.body);
}

static void what_is_said_between_two_gets_waits_within_limits(void **state)
{
    static const char *const args[] = {"--max-queue-bytes",       "16k", "--max-message-size", "4k", "--socketio-event",
                                       "e do=relay to=namespace", NULL};
    struct asked g = {0}, p = {0};
    struct buf body = BUF_INIT;
    (void)state;
    open_core(args);
    struct polling *po = open_polling(&g, "EIO=3");
    buf_append(&body, SLICE("2006:42[\"e\",\""));
    for (int i = 0; i < 1996; i++)
        buf_append_char(&body, 'x');
    buf_append(&body, SLICE("\"]"));
    buf_append_char(&body, '\0');
    for (int i = 0; i < 3; i++)
        post(po, &p, body.p);
    assert_int_equal(p.status, 200);
    get(po, &g);
    assert_true(g.body.n > 6000);
    for (int i = 0; i < 12; i++)
        if (core.gw->engines_by_sid != NULL)
            post(po, &p, body.p);
    assert_int_equal(metrics->drops[DROP_SLOW_CONSUMER], 1);
    loop_fake_advance(&core.loop, 6000);
    close_core();
    buf_fini(&body);
    buf_fini(&g.body);
    buf_fini(&p.body);
}

/* It has left its namespace, with something still to be told, and does not ask again. */
static void who_leaves_without_listening_is_gone_soon(void **state)
{
    static const char *const args[] = {"--socketio-event", "e do=relay to=namespace", NULL};
    struct asked g = {0}, p = {0};
    (void)state;
    open_core(args);
    struct polling *po = open_polling(&g, "EIO=4");
    post(po, &p,
         "40\x1e"
         "42[\"e\"]\x1e"
         "41");
    assert_int_equal(gateway_session_count(core.gw), 1);
    loop_fake_advance(&core.loop, 12000);
    assert_int_equal(gateway_session_count(core.gw), 0);
    close_core();
    buf_fini(&g.body);
    buf_fini(&p.body);
}

static void who_speaks_the_other_revision_does_no_harm(void **state)
{
    struct asked g = {0}, p = {0};
    (void)state;
    open_core(NULL);
    struct polling *po = open_polling(&g, "EIO=3");
    ask_init(&p)->poll.revision = EIO_4;
    polling_post(po, &p.poll, false, SLICE("1"));
    assert_int_equal(p.status, 400);
    ask_init(&p)->poll.revision = EIO_4;
    polling_get(po, &p.poll, false, SLICE_NONE);
    assert_int_equal(p.status, 400);
    post(po, &p, "0:"); /* which holds nothing */
    assert_slice(buf_slice(&p.body), "ok");
    ask_init(&p)->poll.revision = EIO_3;
    polling_post(po, &p.poll, false, SLICE("1:1"));
    loop_fake_run(&core.loop);
    assert_int_equal(p.status, 200);
    close_core();
    buf_fini(&g.body);
    buf_fini(&p.body);
}

static void one_address_has_so_many(void **state)
{
    static const char *const args[] = {"--max-connections-per-ip", "2", NULL};
    struct asked a = {0}, b = {0}, c = {0};
    struct polling *po;
    (void)state;
    open_core(args);
    po = open_polling(&a, "EIO=4");
    (void)open_polling(&b, "EIO=4");
    assert_int_equal(try_open(&c, "EIO=4", &po), ERR_LIMIT_EXCEEDED);
    assert_int_equal(c.status, 0);
    assert_int_equal(metrics->drops[DROP_PER_IP], 1);
    loop_fake_advance(&core.loop, 60000); /* nobody answers the pings */
    close_core();
    buf_fini(&a.body);
    buf_fini(&b.body);
    buf_fini(&c.body);
}

static void a_long_post_is_taken_in_turns(void **state)
{
    struct asked g = {0}, p = {0}, late = {0};
    struct buf body = BUF_INIT;
    (void)state;
    open_core(NULL);
    struct polling *po = open_polling(&g, "EIO=3");
    for (int i = 0; i < 1000; i++)
        buf_append(&body, SLICE("1:2"));
    polling_post(po, &ask_init(&p)->poll, false, buf_slice(&body));
    assert_int_equal(p.status, 0);
    memset(body.p, 'x', body.n); /* it was borrowed */
    loop_fake_run(&core.loop);
    assert_int_equal(p.status, 200);
    assert_int_equal(metrics->heartbeats, 1000);
    get(po, &g);
    assert_int_equal(g.body.n - (memmem(g.body.p, g.body.n, "2:40", 4) != NULL ? 4 : 0), 3000);
    /* Two at once break the rules. */
    buf_clear(&body);
    for (int i = 0; i < 1000; i++)
        buf_append(&body, SLICE("1:2"));
    polling_post(po, &ask_init(&p)->poll, false, buf_slice(&body));
    polling_post(po, &ask_init(&late)->poll, false, SLICE("1:2"));
    assert_int_equal(late.status, 400);
    loop_fake_run(&core.loop);
    assert_int_equal(p.status, 400);
    close_core();
    buf_fini(&body);
    buf_fini(&g.body);
    buf_fini(&p.body);
    buf_fini(&late.body);
}

static void get_by(struct polling *po, struct asked *q, const char *node, const char *name)
{
    ask_init(q)->poll.node = slice_str(node);
    polling_get(po, &q->poll, false, slice_str(name));
    loop_fake_run(&core.loop);
}

/* The node that brought a GET has died, with it or with its answer, and the client's load balancer asks another one. */
static void a_get_that_comes_again_by_another_node(void **state)
{
    static const char *const args[] = {"--socketio-event", "e do=relay to=namespace", NULL};
    struct asked g = {0}, again = {0}, p = {0};
    (void)state;
    open_core(args);
    struct polling *po = open_polling(&g, "EIO=4");
    polling_named(po, SLICE("t0"));
    get_by(po, &g, "far", "t1");
    post(po, &p, "40");
    assert_int_equal(g.status, 200);
    get_by(po, &g, "far", "t2");
    assert_int_equal(g.status, 0);
    get_by(po, &again, "near", "t2"); /* nothing has been said yet */
    assert_int_equal(g.status, 400);
    assert_int_equal(again.status, 0);
    post(po, &p, "42[\"e\",1]");
    assert_slice(buf_slice(&again.body), "42[\"e\",1]");
    get_by(po, &g, "far", "t2"); /* the answer was lost */
    assert_slice(buf_slice(&g.body), "42[\"e\",1]");
    get_by(po, &g, "", "t2"); /* and once more */
    assert_slice(buf_slice(&g.body), "42[\"e\",1]");
    get_by(po, &g, "far", "t3");
    assert_int_equal(g.status, 0);
    post(po, &p, "42[\"e\",2]");
    assert_slice(buf_slice(&g.body), "42[\"e\",2]");
    get_by(po, &g, "near", "t4");
    get_by(po, &again, "near", "t4"); /* by the same way: two at once */
    assert_int_equal(again.status, 400);
    close_core();
    buf_fini(&g.body);
    buf_fini(&again.body);
    buf_fini(&p.body);
}

/* Some write the time into it, in seconds, and ask wherever they are sent. */
static void a_name_that_comes_back_by_itself_repeats_nothing(void **state)
{
    static const char *const args[] = {"--socketio-event", "e do=relay to=namespace", NULL};
    struct asked g = {0}, p = {0};
    (void)state;
    open_core(args);
    struct polling *po = open_polling(&g, "EIO=4");
    polling_named(po, SLICE("1700000000"));
    get_by(po, &g, "far", "1700000000");
    post(po, &p, "40");
    loop_fake_advance(&core.loop, 900);
    get_by(po, &g, "near", "1700000001");
    post(po, &p, "42[\"e\",1]");
    loop_fake_advance(&core.loop, 1000);
    for (int i = 0; i < 3; i++) {
        get_by(po, &g, i % 2 == 0 ? "far" : "near", "1700000002");
        assert_int_equal(g.status, 0);
        post(po, &p, "42[\"e\",2]");
        assert_slice(buf_slice(&g.body), "42[\"e\",2]");
    }
    post(po, &p, "1");
    close_core();
    buf_fini(&g.body);
    buf_fini(&p.body);
}

static void who_waits_when_the_node_ends_is_answered(void **state)
{
    struct asked g = {0};
    (void)state;
    open_core(NULL);
    get(open_polling(&g, "EIO=4"), &g);
    assert_int_equal(g.status, 0);
    core_fini(&core);
    assert_int_equal(g.status, 200);
    assert_slice(buf_slice(&g.body), "6");
    buf_fini(&g.body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packets_of_both_revisions),
        cmocka_unit_test(what_is_no_payload),
        cmocka_unit_test(scripts_and_forms),
        cmocka_unit_test(an_answer_waits_for_something_to_say),
        cmocka_unit_test(what_is_said_between_two_gets_waits_within_limits),
        cmocka_unit_test(who_leaves_without_listening_is_gone_soon),
        cmocka_unit_test(who_speaks_the_other_revision_does_no_harm),
        cmocka_unit_test(one_address_has_so_many),
        cmocka_unit_test(a_long_post_is_taken_in_turns),
        cmocka_unit_test(a_get_that_comes_again_by_another_node),
        cmocka_unit_test(a_name_that_comes_back_by_itself_repeats_nothing),
        cmocka_unit_test(who_waits_when_the_node_ends_is_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
