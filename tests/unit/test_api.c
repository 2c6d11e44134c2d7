/* tests/unit/test_api.c: the history of a room over HTTP: pages in both directions, what is refused, how much is answered. */
#include <stdio.h>

#include "base/utf8.h"
#include "proto/json.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"

#define ARGS(...) ((const char *const[]){"--message-rate", "0", __VA_ARGS__, NULL})

struct answer {
    struct http_exchange x;
    int status;
    struct buf body;
};

static void respond(struct http_exchange *x, const struct http_response *r)
{
    struct answer *a = container_of(x, struct answer, x);
    assert_int_equal(a->status, 0);
    a->status = r->status;
    buf_append(&a->body, r->body);
    buf_append_char(&a->body, '\0');
}

/* Asks for PATH[?QUERY]; the text lasts until the next call. */
static const char *get(struct core *c, const char *target, int want)
{
    static struct answer a;
    buf_fini(&a.body);
    a = (struct answer){.x.respond = respond};
    struct slice path = slice_str(target), query = SLICE_NONE;
    const char *mark = strchr(target, '?');
    if (mark != NULL) {
        path.n = (size_t)(mark - target);
        query = slice_str(mark + 1);
    }
    gateway_http(c->gw, &(struct http_request){.method = SLICE("GET"), .path = path, .query = query}, &a.x);
    loop_fake_run(&c->loop);
    if (a.status != want)
        fail_msg("%s: %d %s", target, a.status, a.body.p);
    struct error error = {0};
    struct slice text = {a.body.p, a.body.n - 1};
    if (text.n > 0 && text.p[text.n - 1] == '\n')
        text.n--;
    if (!utf8_valid(text) || json_check(text, &error) != OK)
        fail_msg("%s: %s: %s", target, error.text, a.body.p);
    return a.body.p;
}

static void has(const char *text, const char *what)
{
    if (strstr(text, what) == NULL)
        fail_msg("no `%s` in `%s`", what, text);
}

/* The page has exactly the offsets from..to (none when from is 0), and ends with `end`. */
static void expect_page(struct core *c, const char *query, int from, int to, const char *end)
{
    char target[100];
    (void)snprintf(target, sizeof target, "/api/v1/rooms/lobby/history%s", query);
    const char *at = get(c, target, 200);
    const char *text = at;
    for (int i = from; from != 0 && i <= to; i++) {
        char message[40];
        (void)snprintf(message, sizeof message, "{\"position\":\"%d.", i);
        at = strstr(at, message);
        if (at == NULL)
            fail_msg("%s: no %d in `%s`", query, i, text);
    }
    size_t count = 0;
    for (const char *p = text; (p = strstr(p, "{\"position\":\"")) != NULL; p++)
        count++;
    assert_int_equal(count, from == 0 ? 0 : to - from + 1);
    size_t n = strlen(text);
    if (n < strlen(end) || strcmp(text + n - strlen(end), end) != 0)
        fail_msg("%s: `%s` does not end in `%s`", query, text, end);
}

static void open_lobby(struct core *c, struct client *cl, const char *const *args, int messages)
{
    core_init(c, args);
    client_open(cl, c, "/ws/alice");
    lobby_join(cl);
    for (int i = 1; i <= messages; i++)
        lobby_say(cl, i);
}

static void close_lobby(struct core *c, struct client *cl)
{
    client_vanish(cl);
    loop_fake_run(&c->loop);
    core_fini(c);
}

static void pages_go_forwards_and_backwards(void **state)
{
    struct core c;
    struct client cl;
    open_lobby(&c, &cl, ARGS("--policy", "* retain-count=1000"), 350);
    expect_page(&c, "?after=0&limit=10", 1, 10, "\"more\":true,\"previous\":null,\"next\":10}");
    expect_page(&c, "?after=10&limit=250", 11, 260, "\"more\":true,\"previous\":11,\"next\":260}");
    expect_page(&c, "?after=260&limit=90", 261, 350, "\"more\":false,\"previous\":261,\"next\":350}");
    expect_page(&c, "?after=350", 0, 0, "\"more\":false,\"previous\":351,\"next\":350}");
    expect_page(&c, "?after=0&limit=1000", 1, 350, "\"more\":false,\"previous\":null,\"next\":350}");
    expect_page(&c, "", 251, 350, "\"more\":true,\"previous\":251,\"next\":350}");
    expect_page(&c, "?limit=1", 350, 350, "\"more\":true,\"previous\":350,\"next\":350}");
    expect_page(&c, "?limit=350", 1, 350, "\"more\":false,\"previous\":null,\"next\":350}");
    expect_page(&c, "?before=251&limit=249", 2, 250, "\"more\":true,\"previous\":2,\"next\":250}");
    expect_page(&c, "?before=251&limit=250", 1, 250, "\"more\":false,\"previous\":null,\"next\":250}");
    expect_page(&c, "?before=2", 1, 1, "\"more\":false,\"previous\":null,\"next\":1}");
    expect_page(&c, "?before=1", 0, 0, "\"more\":false,\"previous\":null,\"next\":0}");
    expect_page(&c, "?before=0", 0, 0, "\"more\":false,\"previous\":null,\"next\":0}");
    expect_page(&c, "?before=9007199254740991&limit=5", 0, 0,
                "\"more\":false,\"previous\":null,\"next\":9007199254740990}");
    close_lobby(&c, &cl);
    (void)state;
}

/* A replica may answer that is not behind what was delivered here, what the reader knows, and its own earlier chunks. */
static void every_page_may_lag_so_far(void **state)
{
    struct core c;
    struct client cl;
    open_lobby(&c, &cl, ARGS("--policy", "* retain-count=1000"), 350);
    assert_int_equal(c.lagging, 0);
    unsigned exact = c.exact;
    expect_page(&c, "?after=10&limit=250", 11, 260, "\"next\":260}");
    assert_int_equal(c.lagging, 3);
    assert_int_equal(c.at_least, 350);
    expect_page(&c, "?after=1000", 0, 0, "\"next\":1000}");
    assert_int_equal(c.at_least, 1000);
    expect_page(&c, "?before=1001&limit=5", 0, 0, "\"next\":1000}");
    assert_int_equal(c.at_least, 1000);
    client_vanish(&cl);
    loop_fake_run(&c.loop);
    expect_page(&c, "?after=200&limit=10", 201, 210, "\"next\":210}"); /* nobody is there any more */
    assert_int_equal(c.at_least, 200);
    expect_page(&c, "?after=0&limit=250", 1, 250, "\"next\":250}");
    assert_int_equal(c.at_least, 350);
    expect_page(&c, "?limit=1", 350, 350, "\"next\":350}");
    assert_int_equal(c.at_least, 350);
    assert_int_equal(c.exact, exact);
    core_fini(&c);
    (void)state;
}

static void what_is_gone_is_not_offered(void **state)
{
    struct core c;
    struct client cl;
    open_lobby(&c, &cl, ARGS("--policy", "* retain-count=20"), 50);
    expect_page(&c, "", 31, 50, "\"more\":false,\"previous\":null,\"next\":50}");
    expect_page(&c, "?limit=20", 31, 50, "\"more\":false,\"previous\":null,\"next\":50}");
    expect_page(&c, "?limit=19", 32, 50, "\"more\":true,\"previous\":32,\"next\":50}");
    expect_page(&c, "?before=32&limit=19", 31, 31, "\"more\":false,\"previous\":null,\"next\":31}");
    expect_page(&c, "?before=31", 0, 0, "\"more\":false,\"previous\":null,\"next\":30}");
    expect_page(&c, "?after=7&limit=2", 31, 32, "\"more\":true,\"previous\":null,\"next\":32}");
    close_lobby(&c, &cl);
    (void)state;
}

static void messages_are_told_as_they_were_written(void **state)
{
    struct core c;
    struct client cl;
    open_lobby(&c, &cl, ARGS("--policy", "* retain-count=20"), 0);
    has(get(&c, "/api/v1/rooms/lobby/history", 200),
        "{\"room\":\"lobby\",\"position\":null,\"messages\":[],\"more\":false,\"previous\":null,\"next\":0}");
    client_send(&cl, "{\"type\":\"publish\",\"room\":\"lobby\",\"event\":\"\\\"e\",\"data\":{ \"a\" : 1.50 }}");
    loop_fake_run(&c.loop);
    const char *text = get(&c, "/api/v1/rooms/lobby/history", 200);
    has(text, "{\"room\":\"lobby\",\"position\":\"1.");
    has(text, "\"event\":\"\\\"e\",\"from\":{\"session\":\"");
    has(text, "\"user\":\"alice\"},\"time\":");
    has(text, ",\"data\":{ \"a\" : 1.50 }}],\"more\":false,");
    close_lobby(&c, &cl);
    (void)state;
}

static void on_published(void *arg, const struct broker_result *r)
{
    (void)arg;
    assert_int_equal(r->err, OK);
}

static void publish(struct core *c, struct publish p)
{
    p.room = SLICE("lobby");
    p.retain_count = 100;
    c->gw->broker->ops->publish(c->gw->broker, &p, on_published, NULL);
    loop_fake_run(&c->loop);
}

static void bytes_are_told_as_base64(void **state)
{
    static const struct {
        struct slice data;
        const char *text;
    } cases[] = {{SLICE("\0"), "AA=="},
                 {SLICE("\xff\xfe"), "//4="},
                 {SLICE("foo"), "Zm9v"},
                 {SLICE(""), ""},
                 {SLICE("\xfb\xef\xbe\x00"), "++++AA=="}};
    struct core c;
    char want[60];
    core_init(&c, ARGS("--demo", "off"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        publish(&c, (struct publish){.event = SLICE("b"), .data = cases[i].data, .data_type = DATA_BINARY});
        (void)snprintf(want, sizeof want, "\"data_base64\":\"%s\"}],", cases[i].text);
        has(get(&c, "/api/v1/rooms/lobby/history?limit=1", 200), want);
    }
    has(get(&c, "/api/v1/rooms/lobby/history", 200), "\"event\":\"b\",\"from\":null,");
    /* Somebody else wrote to the store. */
    publish(&c, (struct publish){.event = SLICE("b"), .data = SLICE("}"), .data_type = DATA_JSON});
    has(get(&c, "/api/v1/rooms/lobby/history?limit=1", 200), "\"data_base64\":\"fQ==\"}],");
    publish(&c, (struct publish){.event = SLICE("\xff"), .data = SLICE("1"), .data_type = DATA_JSON});
    has(get(&c, "/api/v1/rooms/lobby/history?after=6", 200), "\"messages\":[],");
    core_fini(&c);
    (void)state;
}

static void an_answer_is_bounded(void **state)
{
    struct core c;
    struct client cl;
    char frame[10100];
    open_lobby(&c, &cl, ARGS("--policy", "* retain-count=1000"), 0);
    c.cfg.max_queue_bytes = 65536;
    (void)snprintf(frame, sizeof frame, "{\"type\":\"publish\",\"room\":\"lobby\",\"data\":\"%010000d\"}", 0);
    for (int i = 1; i <= 20; i++) {
        client_send(&cl, frame);
        loop_fake_run(&c.loop);
        buf_clear(&cl.raw);
    }
    expect_page(&c, "?after=0", 1, 6, "\"more\":true,\"previous\":null,\"next\":6}");
    expect_page(&c, "?after=6", 7, 12, "\"more\":true,\"previous\":7,\"next\":12}");
    expect_page(&c, "", 15, 20, "\"more\":true,\"previous\":15,\"next\":20}");
    expect_page(&c, "?before=15", 9, 14, "\"more\":true,\"previous\":9,\"next\":14}");
    expect_page(&c, "?before=7", 1, 6, "\"more\":false,\"previous\":null,\"next\":6}");
    c.cfg.max_queue_bytes = 100; /* one message always fits */
    expect_page(&c, "?before=7", 6, 6, "\"more\":true,\"previous\":6,\"next\":6}");
    expect_page(&c, "?after=7", 8, 8, "\"more\":true,\"previous\":8,\"next\":8}");
    close_lobby(&c, &cl);
    (void)state;
}

static void policy_decides_who_reads(void **state)
{
    struct core c;
    core_init(&c, ARGS("--policy", "open.* join=nobody public-history=on", "--policy", "closed.* public-history=off",
                       "--policy", "secret.* join=nobody", "--policy", "short.* retain-count=0"));
    (void)get(&c, "/api/v1/rooms/open.1/history", 200);
    (void)get(&c, "/api/v1/rooms/lobby/history", 200);
    has(get(&c, "/api/v1/rooms/closed.1/history", 403), "{\"code\":\"forbidden\",\"message\":\"");
    has(get(&c, "/api/v1/rooms/secret.1/history", 403), "\"forbidden\"");
    has(get(&c, "/api/v1/rooms/short.1/history", 501), "\"unsupported\"");
    has(get(&c, "/api/v1/rooms/$all/history", 404), "\"not_found\"");
    c.cfg.auth = AUTH_JWT; /* not everybody may connect: HTTP shows only what it is told to show */
    (void)get(&c, "/api/v1/rooms/open.1/history", 200);
    has(get(&c, "/api/v1/rooms/lobby/history", 401), "\"unauthorized\"");
    has(get(&c, "/api/v1/rooms/%24user:alice/history", 404), "\"not_found\"");
    core_fini(&c);
    (void)state;
}

static void what_makes_no_sense_is_refused(void **state)
{
    struct core c;
    core_init(&c, NULL);
    static const char *const bad[] = {"after=1&before=2",       "after=",  "after=x",    "before=-1",
                                      "after=9007199254740992", "limit=0", "limit=1001", "limit=x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char target[100];
        (void)snprintf(target, sizeof target, "/api/v1/rooms/lobby/history?%s", bad[i]);
        has(get(&c, target, 400), "\"bad_request\"");
    }
    has(get(&c, "/api/v1/rooms//history", 400), "\"invalid_name\"");
    has(get(&c, "/api/v1/rooms/%ff/history", 400), "\"invalid_name\"");
    has(get(&c, "/api/v1/rooms/history", 200), "\"room\":\"history\",\"total\":0");
    has(get(&c, "/api/v1/rooms/a%2Fhistory", 200), "\"room\":\"a/history\",\"total\":0");
    has(get(&c, "/api/v1/rooms/a%2Fhistory/history", 200), "\"room\":\"a/history\",\"position\":null,");
    c.gw->api_reads = 64;
    has(get(&c, "/api/v1/rooms/lobby/history", 429), "\"rate_limited\"");
    assert_int_equal(c.gw->api_reads, 64);
    c.gw->api_reads = 0;
    core_fini(&c);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_go_forwards_and_backwards), cmocka_unit_test(every_page_may_lag_so_far),
        cmocka_unit_test(what_is_gone_is_not_offered),     cmocka_unit_test(messages_are_told_as_they_were_written),
        cmocka_unit_test(bytes_are_told_as_base64),        cmocka_unit_test(an_answer_is_bounded),
        cmocka_unit_test(policy_decides_who_reads),        cmocka_unit_test(what_makes_no_sense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
