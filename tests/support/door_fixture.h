/* tests/support/door_fixture.h: a core with --auth jwt, and clients that come to it with tokens. */
#ifndef XD_TESTS_DOOR_FIXTURE_H
#define XD_TESTS_DOOR_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>

#include "gateway/metrics.h"
#include "gateway/session.h"
#include "tests/support/check.h"
#include "tests/support/core_fixture.h"
#include "tests/support/token.h"

#define EXP "1700000600" /* ten minutes from the start of the fake clock */

static struct core core; /* each program has one test at a time */

static void open_core(const char *const *more)
{
    const char *args[24] = {"--auth", "jwt", "--jwt-key", token_key_file(TOKEN_SECRET), "--heartbeat", "3600"};
    size_t n = 6;
    for (; more != NULL && *more != NULL; more++)
        args[n++] = *more;
    core_init(&core, args);
    *metrics = (struct metrics){0};
}

#define open_with(...) open_core((const char *const[]){__VA_ARGS__, NULL})

static void close_core(struct client *cl, int n)
{
    for (int i = 0; i < n; i++)
        client_vanish(&cl[i]);
    loop_fake_run(&core.loop);
    assert_int_equal(gateway_session_count(core.gw), 0);
    assert_true(list_empty(&core.gw->greetings));
    core_fini(&core);
}

/* more: further claims, beginning with a comma. Good until the next eight. */
static inline const char *token_of(const char *user, const char *exp, const char *more)
{
    static char tokens[8][1200];
    static unsigned next;
    char claims[600], *out = tokens[next++ % ARRAY_LEN(tokens)];
    (void)snprintf(claims, sizeof claims, "{\"sub\":\"%s\",\"exp\":%s%s}", user, exp, more);
    char *token = token_sign(TOKEN_SECRET, "HS256", "{\"alg\":\"HS256\"}", claims);
    (void)snprintf(out, sizeof tokens[0], "%s", token);
    free(token);
    return out;
}

static inline const char *text_of(const char *before, const char *token, const char *after)
{
    static char texts[4][1400];
    static unsigned next;
    char *out = texts[next++ % ARRAY_LEN(texts)];
    (void)snprintf(out, sizeof texts[0], "%s%s%s", before, token, after);
    return out;
}

static inline enum err ask(struct client *cl, const char *path, const char *query, struct slice *ret_subprotocol)
{
    struct error error;
    return client_ask(cl, &core, (struct http_request){.path = slice_str(path), .query = slice_str(query)},
                      ret_subprotocol, &error);
}

/* Connects with a token in the query. */
static void enter(struct client *cl, const char *token)
{
    struct slice subprotocol;
    char query[1300];
    (void)snprintf(query, sizeof query, "token=%s", token);
    assert_int_equal(ask(cl, "/ws", query, &subprotocol), OK);
    client_expect(cl, "\"welcome\"", cl->sid);
}

static void refused(struct http_request r, enum auth_refusal why, const char *text)
{
    struct client cl;
    struct slice subprotocol;
    struct error error = {0};
    uint64_t before = metrics->auth_refused[why];
    if (r.path.n == 0)
        r.path = SLICE("/ws");
    assert_int_equal(client_ask(&cl, &core, r, &subprotocol, &error), ERR_UNAUTHORIZED);
    assert_int_equal(metrics->auth_refused[why], before + 1);
    if (strstr(error.text, text) == NULL)
        fail_msg("not \"%s\" but \"%s\"", text, error.text);
}

static void greet(struct client *cl, const char *path)
{
    struct slice subprotocol;
    assert_int_equal(ask(cl, path, "", &subprotocol), OK);
    assert_null(cl->conn->session);
    assert_int_equal(gateway_session_count(core.gw), 0);
}

static inline void expect_turned_away(struct client *cl)
{
    struct slice payload;
    loop_fake_run(&core.loop);
    assert_int_equal(client_next(cl, &payload), WS_CLOSE);
    assert_int_equal((unsigned char)payload.p[0] << 8 | (unsigned char)payload.p[1], 4001);
    assert_true(cl->close_asked);
}

#endif
