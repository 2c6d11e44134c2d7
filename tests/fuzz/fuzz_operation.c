/* tests/fuzz/fuzz_operation.c: whole requests to the server API: a line "METHOD /path?query", then the body. Whatever is asked is answered once, in JSON, and with no 5xx.
 * "{session}" in the path is that of a client who is there: alice, in the room lobby, where something has been said. */
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include "base/utf8.h"
#include "gateway/secret.h"
#include "proto/json.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"

#define KEY   "xdk_0123456789abcdef0123456789abcdef"
#define TURNS 100

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerInitialize(int *argc, char ***argv);

struct answer {
    struct http_exchange x;
    int status;
    struct buf body;
};

static char keys_file[40];

static void remove_keys(void)
{
    (void)unlink(keys_file);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    char hash[SECRET_HASH_LEN + 1];
    (void)argc;
    (void)argv;
    (void)snprintf(keys_file, sizeof keys_file, "/tmp/xd-fuzz-keys.%ld", (long)getpid());
    FILE *f = fopen(keys_file, "w");
    assert_non_null(f);
    secret_hash(SLICE(KEY), hash);
    (void)fprintf(f, "{\"keys\":[{\"name\":\"fuzz\",\"sha256\":\"%s\",\"scopes\":[\"admin\"],\"rate\":0}]}", hash);
    assert_int_equal(fclose(f), 0);
    return atexit(remove_keys);
}

static void respond(struct http_exchange *x, const struct http_response *r)
{
    struct answer *a = container_of(x, struct answer, x);
    assert_int_equal(a->status, 0);
    a->status = r->status;
    buf_append(&a->body, r->body);
}

static void check_answer(const struct answer *a)
{
    struct error error;
    struct slice text = buf_slice(&a->body);
    assert_true(a->status >= 200 && a->status < 500);
    if (text.n != 0 && text.p[text.n - 1] == '\n')
        text.n--;
    assert_true(utf8_valid(text) && json_check(text, &error) == OK);
    assert_true(a->status < 400 || (memmem(text.p, text.n, "\"code\":", 7) != NULL));
}

static void ask(struct core *c, struct slice method, struct slice target, struct slice body)
{
    struct answer a = {.x.respond = respond};
    struct slice path = target, query = SLICE_NONE;
    const char *mark = target.n != 0 ? memchr(target.p, '?', target.n) : NULL;
    if (mark != NULL) {
        path.n = (size_t)(mark - target.p);
        query = slice_from(target, path.n + 1);
    }
    gateway_http(c->gw,
                 &(struct http_request){.method = method,
                                        .path = path,
                                        .query = query,
                                        .body = body,
                                        .ip = SLICE("192.0.2.9"),
                                        .authorization = SLICE("Bearer " KEY)},
                 &a.x);
    for (int i = 0; i < TURNS && a.status == 0; i++) {
        loop_fake_run(&c->loop);
        if (a.status == 0)
            loop_fake_advance(&c->loop, 100);
    }
    check_answer(&a);
    buf_fini(&a.body);
}

/* The path as a request has it, behind /api/v1. */
static struct buf make_target(struct slice path, const char *sid)
{
    static const char mark[] = "{session}";
    struct buf b = BUF_INIT;
    buf_append_str(&b, "/api/v1");
    const char *at = path.n != 0 ? memmem(path.p, path.n, mark, sizeof mark - 1) : NULL;
    size_t before = at != NULL ? (size_t)(at - path.p) : path.n;
    buf_append(&b, (struct slice){path.p, before});
    if (at != NULL) {
        buf_append_str(&b, sid);
        buf_append(&b, slice_from(path, before + sizeof mark - 1));
    }
    return b;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct slice all = {(const char *)p, n};
    const char *end = n != 0 ? memchr(p, '\n', n) : NULL;
    struct slice line = {all.p, end != NULL ? (size_t)(end - all.p) : 0};
    const char *space = line.n != 0 ? memchr(line.p, ' ', line.n) : NULL;
    if (space == NULL || memchr(line.p, '\0', line.n) != NULL) /* net/http.c lets no such line in */
        return 0;
    struct slice method = {line.p, (size_t)(space - line.p)};
    struct core c;
    struct client alice;
    core_init(&c, (const char *const[]){"--message-rate", "0", "--api-keys", keys_file, "--policy", "*", NULL});
    client_open(&alice, &c, "/ws/alice");
    lobby_join(&alice);
    lobby_say(&alice, 1);
    struct buf target = make_target(slice_from(line, method.n + 1), alice.sid);
    ask(&c, method, buf_slice(&target), slice_from(all, line.n + 1));
    buf_fini(&target);
    client_vanish(&alice);
    loop_fake_run(&c.loop);
    core_fini(&c);
    return 0;
}
