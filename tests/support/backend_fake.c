/* tests/support/backend_fake.c: posts in a list. */
#include "tests/support/backend_fake.h"

#include "base/list.h"
#include "base/mem.h"
#include "tests/support/check.h"

struct fake_post {
    struct link link;
    backend_done *done;
    void *arg;
    struct buf body;
};

struct backend {
    struct link posts;
    bool closed;
    void (*changed)(void *arg);
    void *changed_arg;
    struct backend_stats stats;
};

struct backend *backend_create(struct loop *loop, const struct backend_config *cfg, struct error *reterr)
{
    struct backend *b = xcalloc(1, sizeof *b);
    (void)loop;
    (void)cfg;
    (void)reterr;
    list_init(&b->posts);
    return b;
}

static void complete(struct fake_post *p, const struct backend_result *r)
{
    list_del(&p->link);
    p->done(p->arg, r);
    buf_fini(&p->body);
    free(p);
}

static struct fake_post *post_at(const struct backend *b, size_t at)
{
    list_for_each (it, &b->posts) {
        if (at-- == 0)
            return list_entry(it, struct fake_post, link);
    }
    fail_msg("there is no such post");
    return NULL;
}

void backend_destroy(struct backend **bp)
{
    struct backend *b = TAKE(*bp);
    while (b != NULL && !list_empty(&b->posts))
        complete(post_at(b, 0), &(struct backend_result){.err = ERR_BACKEND_UNAVAILABLE, .why = "stopping"});
    free(b);
}

enum err backend_reload(struct backend *b, struct error *reterr)
{
    (void)b;
    (void)reterr;
    return OK;
}

void backend_post(struct backend *b, struct slice id, struct slice body, backend_done *done, void *arg)
{
    struct fake_post *p = xcalloc(1, sizeof *p);
    p->done = done;
    p->arg = arg;
    buf_append(&p->body, body);
    buf_append_char(&p->body, '\0');
    list_append(&b->posts, &p->link);
    assert_non_null(strstr(p->body.p, "\"id\":\""));
    assert_true(id.n != 0);
}

uint32_t backend_closed_for_ms(const struct backend *b)
{
    return b->closed ? 500 : 0;
}

void backend_on_change(struct backend *b, void (*changed)(void *arg), void *arg)
{
    b->changed = changed;
    b->changed_arg = arg;
}

const struct backend_stats *backend_stats(struct backend *b)
{
    return &b->stats;
}

/* --- for tests --- */

size_t fake_posts(const struct backend *b)
{
    size_t n = 0;
    list_for_each (it, &b->posts) {
        n++;
    }
    return n;
}

const char *fake_body(const struct backend *b, size_t at)
{
    return post_at(b, at)->body.p;
}

void fake_answer(struct backend *b, size_t at, int status, const char *body)
{
    complete(post_at(b, at), &(struct backend_result){.err = OK, .status = status, .body = slice_str(body)});
}

void fake_fail(struct backend *b, size_t at, enum err err, uint32_t retry_ms)
{
    complete(post_at(b, at), &(struct backend_result){.err = err, .why = "the test says so", .retry_ms = retry_ms});
}

void fake_closed(struct backend *b, bool closed)
{
    b->closed = closed;
    if (b->changed != NULL)
        b->changed(b->changed_arg);
}
