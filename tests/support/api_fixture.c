/* tests/support/api_fixture.c: asking the server API of a gateway without a network, with keys. */
#include "tests/support/api_fixture.h"

#include <stdio.h>
#include <unistd.h>

#include "base/utf8.h"
#include "gateway/secret.h"
#include "proto/json.h"
#include "tests/support/check.h"

struct answer answer;

static void respond(struct http_exchange *x, const struct http_response *r)
{
    struct answer *a = container_of(x, struct answer, x);
    assert_int_equal(a->status, 0);
    a->status = r->status;
    (void)snprintf(a->headers, sizeof a->headers, "%s", r->headers != NULL ? r->headers : "");
    buf_append(&a->body, r->body);
    buf_append_char(&a->body, '\0');
}

/* What is asked when a test says nothing else. */
const char *key = ALL, *request_id = "";
bool by_api_listener;

const char *ask(struct core *c, const char *method, const char *target, const char *body, int want)
{
    char authorization[300] = "";
    buf_fini(&answer.body);
    answer = (struct answer){.x.respond = respond};
    struct slice path = slice_str(target), query = SLICE_NONE;
    const char *mark = strchr(target, '?');
    if (mark != NULL) {
        path.n = (size_t)(mark - target);
        query = slice_str(mark + 1);
    }
    if (key != NULL)
        (void)snprintf(authorization, sizeof authorization, "Bearer %s", key);
    gateway_http(c->gw,
                 &(struct http_request){.method = slice_str(method),
                                        .path = path,
                                        .query = query,
                                        .body = slice_str(body),
                                        .ip = SLICE("192.0.2.9"),
                                        .request_id = slice_str(request_id),
                                        .by_api_listener = by_api_listener,
                                        .authorization = slice_str(authorization)},
                 &answer.x);
    for (int i = 0; i < 100 && answer.status == 0; i++) {
        loop_fake_run(&c->loop);
        if (answer.status == 0)
            loop_fake_advance(&c->loop, 100);
    }
    if (answer.status != want)
        fail_msg("%s %s %s: %d %s", method, target, body, answer.status, answer.body.p);
    struct error error = {0};
    struct slice text = {answer.body.p, answer.body.n - 1};
    if (text.n > 0 && text.p[text.n - 1] == '\n')
        text.n--;
    if (!utf8_valid(text) || json_check(text, &error) != OK)
        fail_msg("%s: %s: %s", target, error.text, answer.body.p);
    return answer.body.p;
}

void has(const char *text, const char *what)
{
    if (strstr(text, what) == NULL)
        fail_msg("no `%s` in `%s`", what, text);
}

const char *post(struct core *c, const char *what, const char *body, int want)
{
    char target[100];
    (void)snprintf(target, sizeof target, "/api/v1/%s", what);
    return ask(c, "POST", target, body, want);
}

void put_key(FILE *f, const char *name, const char *secret, const char *rest)
{
    char hash[SECRET_HASH_LEN + 1];
    secret_hash(slice_str(secret), hash);
    (void)fprintf(f, "{\"name\":\"%s\",\"sha256\":\"%s\",%s}", name, hash, rest);
}

const char *keys_file(void)
{
    static char name[40];
    (void)snprintf(name, sizeof name, "api-keys.%ld.json", (long)getpid());
    return name;
}

int write_keys(void **state)
{
    FILE *f = fopen(KEYS_FILE, "w");
    assert_non_null(f);
    (void)fputs("{\"keys\":[", f);
    put_key(f, "all", ALL, "\"scopes\":[\"admin\"],\"rate\":0");
    (void)fputc(',', f);
    put_key(f, "reader", READER, "\"scopes\":[\"rooms:read\"]");
    (void)fputc(',', f);
    put_key(f, "chat", CHAT,
            "\"scopes\":[\"publish\",\"rooms:read\",\"sessions:write\"],\"rooms\":[\"chat.*\",\"$user:*\"]");
    (void)fputc(',', f);
    put_key(f, "slow", SLOW, "\"scopes\":[\"publish\"],\"rate\":3");
    (void)fputs("]}", f);
    assert_int_equal(fclose(f), 0);
    (void)state;
    return 0;
}

int remove_keys(void **state)
{
    (void)unlink(KEYS_FILE);
    buf_fini(&answer.body);
    (void)state;
    return 0;
}

int reset(void **state)
{
    key = ALL;
    request_id = "";
    by_api_listener = false;
    (void)state;
    return 0;
}
