/* gateway/act.c: carrying out what backends want. */
#include "gateway/act.h"

#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "gateway/broadcast.h"
#include "gateway/gateway.h"
#include "gateway/gift.h"
#include "gateway/metrics.h"
#include "gateway/sweep.h"

#define PATIENCE_MS  30000u
#define RETRY_MS     100u /* at first; then twice as long each time, … */
#define RETRY_MAX_MS 3200u

struct act {
    struct link in_gateway;
    struct gateway *gw;
    const struct action *what;
    struct slice key, by;
    act_done *done;
    void *arg;
    struct timer timer; /* armed: the next attempt */
    uint64_t end_ms;
    uint32_t rest_ms;
    unsigned attempts;
    size_t left; /* parts of this attempt that are under way */
    bool again;  /* one of them may succeed later */
    struct act_result result;
    char why[sizeof(((struct error *)0)->text)];
};

enum err act_publish(struct gateway *g, const struct api_message *m, struct slice room, broker_done *done, void *arg,
                     struct error *reterr)
{
    const struct policy *policy = policies_find(g->policies, room);
    uint32_t most = policy->size != 0 ? policy->size : g->cfg->max_message_size;
    if (m->data.n > most)
        return fail(reterr, ERR_TOO_LARGE, "data of %zu bytes, policy %s allows %u", m->data.n, policy->pattern, most);
    g->broker->ops->publish(g->broker,
                            &(struct publish){.room = room,
                                              .event = m->event,
                                              .except = m->except,
                                              .data = m->data,
                                              .key = m->key,
                                              .data_type = m->data_type,
                                              .retain_count = policy->retain_count,
                                              .retain_age_s = policy->retain_age_s,
                                              .replicas = policy->replicas},
                            done, arg);
    return OK;
}

/* --- how it went --- */

static void act_end(struct act *a)
{
    timer_stop(&a->timer);
    list_del(&a->in_gateway);
    a->done(a->arg, &a->result);
    free(a);
}

static void part_over(struct act *a, enum err err, const char *why)
{
    if (err != OK && a->result.err == OK) {
        a->result.err = err;
        (void)snprintf(a->why, sizeof a->why, "%s", why != NULL ? why : err_name(err));
        a->result.why = a->why;
    }
    a->again = a->again || err_retry(err) || err == ERR_CONFLICT; /* what is in the way is soon over */
    if (--a->left != 0)
        return;
    bool late = loop_now_ms(a->gw->loop) >= a->end_ms;
    if (a->result.err == OK || !a->again || late || a->gw->broker == NULL) {
        act_end(a);
        return;
    }
    timer_start(&a->timer, a->rest_ms);
    a->rest_ms = a->rest_ms * 2 < RETRY_MAX_MS ? a->rest_ms * 2 : RETRY_MAX_MS;
}

static void on_published(void *arg, const struct broker_result *r)
{
    struct act *a = arg;
    a->result.position = r->position;
    part_over(a, r->err, r->why);
}

/* What an attempt before may have done is done. */
static bool done_before(const struct act *a, enum err err)
{
    return a->attempts > 1 && (err == ERR_NOT_FOUND || err == ERR_NOT_MEMBER);
}

static void on_controlled(void *arg, enum err err, const char *why)
{
    struct act *a = arg;
    bool joins = a->what->kind == ACTION_JOIN;
    part_over(a, !joins && done_before(a, err) ? OK : err, why);
}

static void on_swept(void *arg, enum err err, const char *why, uint64_t moved)
{
    (void)moved;
    part_over(arg, err, why);
}

static void on_given(void *arg, enum err err, const char *why, struct slice attributes)
{
    (void)attributes;
    part_over(arg, err, why);
}

static void on_banned(void *arg, const struct broker_result *r)
{
    struct act *a = arg;
    bool ban = a->what->kind == ACTION_BAN;
    if (r->err == OK) {
        LOG(INFO, ban ? "user banned" : "ban taken back", "by=%s user=%s", log_q(a->by), log_q(a->what->user));
        metrics->bans += ban;
        metrics->unbans += !ban;
    }
    part_over(a, !ban && done_before(a, r->err) ? OK : r->err, r->why);
}

/* --- doing it --- */

static void say(struct act *a)
{
    struct api_message m = a->what->message;
    const struct slice *targets = m.targets != NULL ? m.targets : &m.room;
    size_t count = m.targets != NULL ? m.target_count : 1;
    struct error error;
    if (m.key.n == 0)
        m.key = a->key;
    for (size_t i = 0; i < count; i++) {
        a->left++;
        if (act_publish(a->gw, &m, targets[i], on_published, a, &error) != OK)
            part_over(a, error.code, error.text);
    }
}

static void on_emitted(void *arg, const struct broadcast_result *r)
{
    part_over(arg, r->err, r->why);
}

static void emit(struct act *a)
{
    struct slice object = a->what->emission;
    struct emission e;
    struct error error = {0};
    struct arena arena;
    arena_init(&arena, ACTION_ARENA);
    a->left++;
    enum err err = emission_read_json(object, &arena, &e, &error);
    if (err == OK && e.data.n > a->gw->cfg->max_message_size)
        err = fail(&error, ERR_TOO_LARGE, "data of %zu bytes, max-message-size is %u", e.data.n,
                   a->gw->cfg->max_message_size);
    if (err == OK)
        broadcast_emit(a->gw, &e, object, on_emitted, a);
    else
        part_over(a, err, error.text);
    arena_reset(&arena);
}

static void ban_user(struct act *a)
{
    struct broker *b = a->gw->broker;
    struct ban_record ban = a->what->ban;
    ban.by = a->by;
    a->left++;
    b->ops->ban(b, &ban, on_banned, a);
}

static void attempt(struct act *a)
{
    struct gateway *g = a->gw;
    const struct action *w = a->what;
    struct error error;
    a->attempts++;
    a->result = (struct act_result){.err = OK};
    a->again = false;
    a->left = 1; /* this function's */
    switch (w->kind) {
    case ACTION_PUBLISH:
    case ACTION_SEND:
    case ACTION_BROADCAST: say(a); break;
    case ACTION_EMIT: emit(a); break;
    case ACTION_JOIN:
    case ACTION_LEAVE:
    case ACTION_DISCONNECT:
        a->left++;
        if (w->control.sid.n != 0)
            control_send(g, &w->control, on_controlled, a);
        else
            sweep_begin(g, CONTROL_DISCONNECT, w->user, w->control.reason, on_swept, a);
        break;
    case ACTION_BAN: ban_user(a); break;
    case ACTION_UNBAN:
        a->left++;
        g->broker->ops->unban(g->broker, w->user, on_banned, a);
        break;
    case ACTION_ATTRIBUTES:
        a->left++;
        if (gift_give(g, w->control.sid, w->attributes, on_given, a, &error) != OK)
            part_over(a, error.code, error.text);
        break;
    case ACTIONS: break;
    }
    part_over(a, OK, NULL);
}

static void on_timer(struct timer *t)
{
    struct act *a = container_of(t, struct act, timer);
    if (a->gw->broker != NULL)
        attempt(a);
    else
        act_end(a);
}

void act(struct gateway *g, const struct action *what, struct slice key, struct slice by, act_done *done, void *arg)
{
    struct act *a = xcalloc(1, sizeof *a);
    a->gw = g;
    a->what = what;
    a->key = key;
    a->by = by;
    a->done = done;
    a->arg = arg;
    a->end_ms = loop_now_ms(g->loop) + PATIENCE_MS;
    a->rest_ms = RETRY_MS;
    list_append(&g->acts, &a->in_gateway);
    timer_init(&a->timer, g->loop, on_timer);
    timer_start(&a->timer, 0);
}

void act_fini(struct gateway *g)
{
    while (!list_empty(&g->acts))
        act_end(list_first(&g->acts, struct act, in_gateway));
}
