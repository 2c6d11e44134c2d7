/* tests/unit/test_polling_take.c: a connection by long-polling goes on from its record: what is told again and what is not, what is held, and when it cannot. */
#include "base/mem.h"
#include "gateway/engine.h"
#include "gateway/metrics.h"
#include "gateway/polling.h"
#include "gateway/polling_record.h"
#include "gateway/polling_take.h"
#include "gateway/repeats.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"

static struct core core;
static struct client talker;

struct asked {
    struct poll poll;
    int status; /* 0: not answered */
    struct buf body;
};

static void on_answer(struct poll *p, const struct poll_answer *a)
{
    struct asked *q = container_of(p, struct asked, poll);
    assert_int_equal(q->status, 0);
    q->status = a->status;
    buf_append(&q->body, a->body);
    buf_append_char(&q->body, '\0');
}

static struct poll *ask(struct asked *q)
{
    buf_fini(&q->body);
    *q = (struct asked){.poll.answer = on_answer};
    return &q->poll;
}

static void get(struct polling *po, struct asked *q, struct slice name)
{
    polling_get(po, ask(q), false, name);
    loop_fake_run(&core.loop);
}

/* Asks until that has come; a GET may be waiting already. */
static void hear(struct polling *po, struct asked *q, const char *what)
{
    for (int i = 0; i < 5 && (q->status == 0 || strstr(q->body.p, what) == NULL); i++) {
        if (q->status != 0)
            get(po, q, SLICE_NONE);
        loop_fake_run(&core.loop);
        assert_int_not_equal(q->status, 0);
    }
    assert_non_null(strstr(q->body.p, what));
}

static void post(struct polling *po, const char *body)
{
    struct asked q = {0};
    polling_post(po, ask(&q), false, slice_str(body));
    loop_fake_run(&core.loop);
    assert_string_equal(q.body.p, "ok");
    buf_fini(&q.body);
}

static void say(const char *what)
{
    char frame[128];
    (void)snprintf(frame, sizeof frame, "{\"type\":\"publish\",\"room\":\"lobby\",\"event\":\"x\",\"data\":\"%s\"}",
                   what);
    client_send(&talker, frame);
    loop_fake_run(&core.loop);
}

/* A client in `/` and the lobby, who has heard `one` there and polls no more. */
static struct polling *begin(const char *query, struct asked *q)
{
    static const char *const args[] = {"--resume-window", "30s", "--socketio-namespace", "/admin", NULL};
    const struct http_request r = {.query = slice_str(query), .ip = SLICE("192.0.2.1"), .user_agent = SLICE("a \"b\"")};
    struct polling *po = NULL;
    struct error error;
    memset(metrics, 0, sizeof *metrics);
    core_init(&core, args);
    client_open(&talker, &core, "/ws/talker");
    client_send(&talker, "{\"type\":\"join\",\"room\":\"lobby\"}");
    assert_int_equal(polling_open(core.gw, &r, ask(q), true, &po, &error), OK);
    loop_fake_run(&core.loop);
    assert_int_equal(q->status, 200);
    post(po, strstr(query, "EIO=3") != NULL ? "19:420[\"join\",\"lobby\"]"
                                            : "40\x1e"
                                              "420[\"join\",\"lobby\"]");
    hear(po, q, "430[");
    say("one");
    hear(po, q, "42[\"x\",\"one\"]");
    return po;
}

static void end(struct asked *q)
{
    client_vanish(&talker);
    loop_fake_advance(&core.loop, 120000);
    assert_int_equal(metrics->engines, 0);
    assert_int_equal(core.gw->polling_count, 0);
    assert_null(core.gw->engines_by_sid);
    core_fini(&core);
    buf_fini(&q->body);
}

/* The node of po dies. */
static void die(struct polling *po)
{
    polling_taken(po);
    loop_fake_run(&core.loop);
    assert_int_equal(metrics->engines, 0);
}

static struct polling *revive(const char *sid, struct slice state, struct slice before, enum err want)
{
    struct polling *po = NULL;
    struct error error;
    const struct polling_record r = {.state = state, .before = before, .answered = SLICE("p7far")};
    assert_int_equal(polling_revive(core.gw, slice_str(sid), &r, &po, &error), want);
    loop_fake_run(&core.loop);
    return po;
}

static void keep_record(const struct gateway *g, char sid[SID_LEN + 1], struct buf *ret)
{
    const struct engine *e = list_first(&g->engines, struct engine, link);
    memcpy(sid, e->sid, SID_LEN + 1);
    record_append(e, true, ret);
}

static void what_was_missed_is_told_and_nothing_else(void **state)
{
    struct asked q = {0};
    struct buf record = BUF_INIT;
    char sid[SID_LEN + 1];
    (void)state;
    struct polling *po = begin("EIO=4", &q);
    keep_record(core.gw, sid, &record);
    die(po);
    say("two");
    po = revive(sid, buf_slice(&record), SLICE_NONE, OK);
    assert_ptr_equal(polling_find(core.gw, slice_str(sid)), po);
    post(po, "42[\"publish\",\"lobby\",\"x\",\"three\"]"); /* held: its sessions are not there yet */
    assert_int_equal(metrics->resumed, 0);
    get(po, &q, SLICE("p7near"));
    assert_int_equal(metrics->resumed, 1);
    assert_int_equal(metrics->polls_taken_over, 1);
    assert_null(strstr(q.body.p, "40{"));
    assert_null(strstr(q.body.p, "\"one\""));
    hear(po, &q, "42[\"x\",\"two\"]");
    hear(po, &q, "42[\"x\",\"three\"]");
    post(po, "1");
    buf_fini(&record);
    end(&q);
}

static void an_answer_that_was_lost_is_told_again(void **state)
{
    struct asked q = {0};
    struct buf before = BUF_INIT, record = BUF_INIT;
    char sid[SID_LEN + 1];
    (void)state;
    struct polling *po = begin("EIO=4", &q);
    keep_record(core.gw, sid, &before);
    say("two");
    hear(po, &q, "\"two\"");
    keep_record(core.gw, sid, &record);
    die(po);
    po = revive(sid, buf_slice(&record), buf_slice(&before), OK);
    get(po, &q, SLICE("p7far"));
    assert_null(strstr(q.body.p, "\"one\""));
    hear(po, &q, "42[\"x\",\"two\"]");
    polling_left(po);
    buf_fini(&before);
    buf_fini(&record);
    end(&q);
}

static void a_namespace_that_cannot_be_told_again_ends_it(void **state)
{
    struct asked q = {0};
    struct buf before = BUF_INIT, record = BUF_INIT;
    char sid[SID_LEN + 1];
    (void)state;
    struct polling *po = begin("EIO=4", &q);
    keep_record(core.gw, sid, &before);
    post(po, "40/admin,");
    hear(po, &q, "40/admin,{");
    keep_record(core.gw, sid, &record);
    die(po);
    po = revive(sid, buf_slice(&record), buf_slice(&before), OK);
    get(po, &q, SLICE("p7far"));
    assert_non_null(strrchr(q.body.p, '1'));
    assert_null(core.gw->engines_by_sid);
    /* Who has received it goes on. */
    po = revive(sid, buf_slice(&record), buf_slice(&before), OK);
    get(po, &q, SLICE("p8far"));
    assert_int_equal(metrics->resumed, 2);
    polling_left(po);
    buf_fini(&before);
    buf_fini(&record);
    end(&q);
}

static void replace(struct buf *text, const char *what, const char *by)
{
    struct buf b = BUF_INIT;
    const char *at = memmem(text->p, text->n, what, strlen(what));
    assert_non_null(at);
    buf_append(&b, (struct slice){text->p, (size_t)(at - text->p)});
    buf_append_str(&b, by);
    buf_append(&b, slice_from(buf_slice(text), (size_t)(at - text->p) + strlen(what)));
    buf_fini(text);
    *text = b;
}

static void what_cannot_go_on(void **state)
{
    struct asked q = {0};
    struct buf record = BUF_INIT, unsettled = BUF_INIT;
    char sid[SID_LEN + 1];
    (void)state;
    struct polling *po = begin("EIO=3&b64=1", &q);
    keep_record(core.gw, sid, &record);
    record_unsettle(buf_slice(&record), &unsettled);
    die(po);
    (void)revive(sid, buf_slice(&unsettled), SLICE_NONE, ERR_NOT_FOUND);
    (void)revive(sid, SLICE("{}"), SLICE_NONE, ERR_BAD_REQUEST);
    (void)revive(sid, SLICE_NONE, SLICE_NONE, ERR_BAD_REQUEST);
    /* Something was said to it alone that it has not been told, or its session is another's. */
    replace(&record, "\"rooms\":[", "\"alone\":\"3.AAAAAAAA\",\"rooms\":[");
    po = revive(sid, buf_slice(&record), SLICE_NONE, OK);
    get(po, &q, SLICE_NONE);
    assert_null(core.gw->engines_by_sid);
    loop_fake_run(&core.loop);
    replace(&record, "\"alone\":\"3.AAAAAAAA\",", "");
    replace(&record, "\"token\":\"", "\"token\":\"x");
    (void)revive(sid, buf_slice(&record), SLICE_NONE, ERR_BAD_REQUEST);
    buf_fini(&record);
    buf_fini(&unsettled);
    end(&q);
}

/* Whoever has sent something, but asked for nothing yet. */
static void a_websocket_before_it_has_gone_on(void **state)
{
    struct asked q = {0};
    struct buf record = BUF_INIT;
    struct client cl;
    struct slice payload;
    char sid[SID_LEN + 1], path[64];
    (void)state;
    struct polling *po = begin("EIO=4", &q);
    keep_record(core.gw, sid, &record);
    die(po);
    po = revive(sid, buf_slice(&record), SLICE_NONE, OK);
    post(po, "42[\"publish\",\"lobby\",\"x\",\"two\"]");
    (void)snprintf(path, sizeof path, "/socket.io/?EIO=4&transport=websocket&sid=%s", sid);
    client_connect(&cl, &core, path);
    client_send(&cl, "2probe");
    loop_fake_run(&core.loop);
    assert_int_equal(client_next(&cl, &payload), WS_CLOSE);
    client_vanish(&cl);
    buf_fini(&cl.raw);
    get(po, &q, SLICE_NONE);
    hear(po, &q, "42[\"x\",\"two\"]");
    post(po, "1");
    buf_fini(&record);
    end(&q);
}

static void requests_that_came_before(void **state)
{
    struct repeats r = {0};
    char node[16];
    (void)state;
    assert_false(repeats_is(&r, SLICE("a"), false, 5));
    assert_true(repeats_is(&r, SLICE("a"), false, 5));
    assert_false(repeats_is(&r, SLICE("a"), true, 4));
    assert_false(repeats_is(&r, SLICE("b"), false, 5));
    assert_false(repeats_is(&r, SLICE("a"), false, 6));
    assert_true(repeats_is(&r, SLICE("a"), false, 5));
    assert_false(repeats_is(&r, SLICE("a"), false, 0));
    for (int i = 0; i < 15; i++) {
        (void)snprintf(node, sizeof node, "n%d", i);
        assert_false(repeats_is(&r, slice_str(node), false, 1));
    }
    assert_true(repeats_is(&r, SLICE("a"), false, 6)); /* who asks is not forgotten: b is */
    assert_false(repeats_is(&r, SLICE("b"), false, 5));
    repeats_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_missed_is_told_and_nothing_else),
        cmocka_unit_test(an_answer_that_was_lost_is_told_again),
        cmocka_unit_test(a_namespace_that_cannot_be_told_again_ends_it),
        cmocka_unit_test(what_cannot_go_on),
        cmocka_unit_test(a_websocket_before_it_has_gone_on),
        cmocka_unit_test(requests_that_came_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
