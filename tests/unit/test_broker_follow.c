/* tests/unit/test_broker_follow.c: a stream that others append to: where reading begins, pages, what is told once whatever becomes of the stream, and of the link. */
#include "tests/unit/broker_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"
#include "tests/support/proxy.h"
#include "tests/support/redis_fixture.h"

#define PATIENCE_MS 15000
#define STREAM      "xd:others" /* the user of the fixture may read it */

struct fixture {
    struct loop_fake loop;
    struct world w;
    struct proxy proxy;
    char text[4096]; /* what was told: `n=1 n=2 | n=3 `, a bar where something may be missing */
    unsigned pages, ended;
};

static struct redis_fixture redis;

static void add(const char *id, int n)
{
    freeReplyObject(redis_fixture_command(&redis, "XADD " STREAM " %s n %d", id, n));
}

static void on_page(void *arg, const struct broker_result *r)
{
    struct fixture *f = arg;
    if (r->err != OK) {
        assert_int_equal(r->err, ERR_UNAVAILABLE);
        f->ended++;
        return;
    }
    f->pages++;
    assert_true(r->count > 0);
    size_t n = strlen(f->text);
    if (r->anew)
        n += (size_t)snprintf(f->text + n, sizeof f->text - n, "| ");
    for (size_t i = 0; i < r->count; i++) {
        const struct event_field *field = &r->events[i].fields[0];
        n += (size_t)snprintf(f->text + n, sizeof f->text - n, "%.*s ", SLICE_FMT(field->value));
    }
    f->w.broker->ops->follow(f->w.broker, on_page, f);
}

static bool has_all(void *arg)
{
    const struct fixture *f = arg;
    return strstr(f->text, "99 ") != NULL;
}

/* 99 is always the last. */
static void expect(struct fixture *f, const char *text)
{
    assert_true(loop_fake_until(&f->loop, has_all, f, PATIENCE_MS));
    assert_string_equal(f->text, text);
    f->text[0] = '\0';
}

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    freeReplyObject(redis_fixture_command(&redis, "FLUSHALL"));
    loop_fake_init_real(&f->loop);
    proxy_start(&f->proxy, &f->loop.loop, redis.port);
    *state = f;
    return 0;
}

static void begin(struct fixture *f)
{
    struct broker_config cfg = world_config(f->proxy.url, "gw1-aaaaaa");
    cfg.follow = STREAM;
    world_init(&f->w, &f->loop, &cfg);
    world_ready(&f->w);
    f->w.broker->ops->follow(f->w.broker, on_page, f);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    world_fini(&f->w);
    assert_int_equal(f->ended, 1);
    proxy_stop(&f->proxy);
    loop_fake_fini(&f->loop);
    free(f);
    return 0;
}

static void from_the_end_page_by_page(void **state)
{
    struct fixture *f = *state;
    char want[400];
    size_t n = 0;
    add("*", 1);
    begin(f);
    for (int i = 20; i < 100; i++) {
        add("*", i);
        n += (size_t)snprintf(want + n, sizeof want - n, "%d ", i);
    }
    expect(f, want);
    assert_true(f->pages >= 3);
}

/* What nobody waits for is not read. */
static void one_page_at_a_time(void **state)
{
    struct fixture *f = *state;
    struct broker_config cfg = world_config(f->proxy.url, "gw1-aaaaaa");
    cfg.follow = STREAM;
    world_init(&f->w, &f->loop, &cfg);
    world_ready(&f->w);
    add("*", 1);
    add("*", 99);
    loop_fake_linger(&f->loop, 50);
    assert_int_equal(f->pages, 0);
    f->w.broker->ops->follow(f->w.broker, on_page, f);
    expect(f, "1 99 ");
}

static void a_lost_link_loses_nothing(void **state)
{
    struct fixture *f = *state;
    begin(f);
    add("*", 1);
    loop_fake_linger(&f->loop, 50);
    proxy_cut(&f->proxy);
    add("*", 2);
    add("*", 99);
    expect(f, "1 2 99 ");
}

/* The new primary lacks the last two entries that were told, and has others with ids before theirs. */
static void ids_may_go_back(void **state)
{
    struct fixture *f = *state;
    begin(f);
    add("1000-0", 1);
    add("2000-0", 2);
    add("3000-0", 3);
    loop_fake_linger(&f->loop, 50);
    proxy_cut(&f->proxy);
    freeReplyObject(redis_fixture_command(&redis, "DEL " STREAM));
    add("1000-0", 1);
    add("2000-5", 4);
    add("2500-0", 99);
    expect(f, "1 2 3 4 99 ");
    add("2600-0", 99);
    expect(f, "99 ");
}

static void what_was_cut_off_is_noticed(void **state)
{
    struct fixture *f = *state;
    begin(f);
    add("*", 1);
    loop_fake_linger(&f->loop, 50);
    proxy_cut(&f->proxy);
    add("*", 2);
    add("*", 99);
    freeReplyObject(redis_fixture_command(&redis, "XTRIM " STREAM " MAXLEN 1"));
    expect(f, "1 | 99 ");
    /* That our own place is gone says nothing while what was told before it is there. */
    add("*", 3);
    loop_fake_linger(&f->loop, 50);
    char last[32];
    redisReply *r = redis_fixture_command(&redis, "XREVRANGE " STREAM " + - COUNT 1");
    (void)snprintf(last, sizeof last, "%s", r->element[0]->element[0]->str);
    freeReplyObject(r);
    freeReplyObject(redis_fixture_command(&redis, "XDEL " STREAM " %s", last));
    proxy_cut(&f->proxy);
    add("*", 99);
    expect(f, "3 99 ");
}

int main(void)
{
#define F(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        F(from_the_end_page_by_page), F(one_page_at_a_time),          F(a_lost_link_loses_nothing),
        F(ids_may_go_back),           F(what_was_cut_off_is_noticed),
    };
    redis_fixture_start(&redis);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    redis_fixture_stop(&redis);
    return failed;
}
