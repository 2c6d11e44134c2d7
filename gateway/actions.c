/* gateway/actions.c: lists of actions. */
#include "gateway/actions.h"

#include <assert.h>
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/act.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"

#define ID_MAX    128u /* of an event, in keys; others write events, too */
#define KEY_MAX   (ID_MAX + 8)
#define BYTES_MAX ((size_t)32 << 20) /* of lists that nobody waits for */

struct actions {
    struct link paused; /* in gateway->paused_actions until its timer is over */
    struct timer timer;
    struct gateway *gw;
    actions_done *done; /* NULL: nobody waits */
    void *arg;
    struct json_value list; /* of text */
    size_t at, index;
    bool counted;       /* in gateway->actions_bytes */
    struct arena arena; /* of the one under way */
    struct action action;
    char key[KEY_MAX];
    struct slice id, session; /* of text; session: or sid */
    char sid[SID_LEN + 1];
    size_t n;
    char text[];
};

static void go_on(struct actions *l);

static void tell_failure(struct slice id, size_t index, const char *what, enum err err, const char *why)
{
    metrics->actions_failed++;
    LOG_PEER(WARN, "an action of the backend failed", "of=%s index=%zu do=%s code=%s why=%s", log_q(id), index, what,
             err_name(err), log_q(slice_str(why)));
}

static void end(struct actions *l)
{
    if (l->counted)
        l->gw->actions_bytes -= l->n;
    if (l->done != NULL)
        l->done(l->arg);
    timer_stop(&l->timer);
    list_del(&l->paused);
    arena_reset(&l->arena);
    free(l);
}

static void on_acted(void *arg, const struct act_result *r)
{
    struct actions *l = arg;
    if (l->gw->broker != NULL && r->err != OK)
        tell_failure(l->id, l->index - 1, action_word(l->action.kind), r->err, r->why);
    metrics->actions_done += r->err == OK;
    if (l->gw->broker != NULL)
        go_on(l);
    else
        end(l);
}

/* A key that no client can have: of theirs none has a `#`. */
static void begin(struct actions *l)
{
    int n = snprintf(l->key, sizeof l->key, "%.*s#%zu", SLICE_FMT(l->id), l->index);
    struct slice key = l->id.n != 0 ? (struct slice){l->key, (size_t)n} : SLICE_NONE;
    l->index++;
    act(l->gw, &l->action, key, SLICE("backend"), on_acted, l);
}

static void go_on(struct actions *l)
{
    struct json_value element;
    struct error error;
    while (json_next(l->list, &l->at, &element)) {
        arena_reset(&l->arena);
        if (action_read(element.raw, l->session, loop_wall_ms(l->gw->loop), &l->arena, &l->action, &error) == OK) {
            begin(l);
            return;
        }
        tell_failure(l->id, l->index++, "-", error.code, error.text);
    }
    end(l);
}

static void start(struct actions *l)
{
    if (l->gw->broker != NULL)
        go_on(l);
    else
        end(l);
}

/* False: there is none to be carried out. */
static bool bounded(struct json_value list, struct slice id)
{
    struct json_value element;
    struct error error;
    size_t n = 0, at = 0;
    if (list.kind != JSON_KIND_ARRAY) {
        tell_failure(id, 0, "-", ERR_BAD_REQUEST, "actions must be an array");
        return false;
    }
    while (json_next(list, &at, &element))
        n++;
    if (n <= ACTIONS_MAX)
        return n != 0;
    tell_failure(id, 0, "-",
                 fail(&error, ERR_TOO_LARGE, "%zu actions, %d allowed: none was carried out", n, ACTIONS_MAX),
                 error.text);
    return false;
}

static void on_timer(struct timer *t)
{
    struct actions *l = container_of(t, struct actions, timer);
    list_del(&l->paused);
    start(l);
}

static struct actions *create(struct gateway *g, struct json_value list, const struct actions_of *of)
{
    struct slice id = {of->id.p, of->id.n < ID_MAX ? of->id.n : ID_MAX};
    struct actions *l = xcalloc(1, sizeof *l + list.raw.n + id.n + of->session.n);
    char *at = l->text;
    list_init(&l->paused);
    timer_init(&l->timer, g->loop, on_timer);
    l->gw = g;
    l->n = list.raw.n;
    l->list = (struct json_value){list.kind, slice_put(&at, list.raw)};
    l->id = slice_put(&at, id);
    l->session = slice_put(&at, of->session);
    arena_init(&l->arena, ACTION_ARENA);
    return l;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* What is no object says nothing to us. */
static bool find_list(struct slice body, struct slice id, struct json_value *ret)
{
    static const char *const names[] = {"actions"};
    struct error error;
    size_t space = 0;
    *ret = (struct json_value){.kind = JSON_KIND_NONE};
    while (space < body.n && is_space(body.p[space]))
        space++;
    if (space == body.n || body.p[space] != '{')
        return false;
    enum err err = utf8_valid(body) ? json_members(body, names, 1, ret, &error)
                                    : fail(&error, ERR_BAD_UTF8, "the answer is not UTF-8");
    if (err != OK)
        tell_failure(id, 0, "-", err, error.text);
    return err == OK && ret->kind != JSON_KIND_NONE;
}

bool actions_of_event(struct gateway *g, struct slice body, const struct actions_of *of, actions_done *done, void *arg)
{
    struct json_value list;
    if (g->broker == NULL || !find_list(body, of->id, &list) || !bounded(list, of->id))
        return false;
    struct actions *l = create(g, list, of);
    l->done = done;
    l->arg = arg;
    go_on(l);
    return true;
}

struct actions *actions_hold(struct gateway *g, struct json_value list, const struct actions_of *of)
{
    if (list.kind == JSON_KIND_NONE || g->broker == NULL || !bounded(list, of->id))
        return NULL;
    if (g->actions_bytes + list.raw.n > BYTES_MAX) {
        tell_failure(of->id, 0, "-", ERR_RATE_LIMITED, "too many actions are under way on this node");
        return NULL;
    }
    struct actions *l = create(g, list, of);
    l->counted = true;
    g->actions_bytes += l->n;
    return l;
}

void actions_release(struct actions **pointer, struct slice session, uint32_t pause_ms, actions_done *done, void *arg)
{
    struct actions *l = TAKE(*pointer);
    if (l == NULL)
        return;
    assert(session.n <= SID_LEN);
    if (session.n != 0)
        memcpy(l->sid, session.p, session.n);
    l->session = (struct slice){l->sid, session.n};
    l->done = done;
    l->arg = arg;
    if (pause_ms == 0) {
        start(l);
        return;
    }
    list_append(&l->gw->paused_actions, &l->paused);
    timer_start(&l->timer, pause_ms);
}

void actions_fini(struct gateway *g)
{
    while (!list_empty(&g->paused_actions))
        end(list_first(&g->paused_actions, struct actions, paused));
}

void actions_of_answer(struct gateway *g, struct json_value list, const struct actions_of *of)
{
    struct actions *l = actions_hold(g, list, of);
    if (l != NULL)
        start(l);
}
