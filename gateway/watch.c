/* gateway/watch.c: who watches whom at this node, and what they are told. */
#include "gateway/watch.h"

#include <assert.h>
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/msg.h"
#include "base/utf8.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/grant.h"
#include "gateway/metrics.h"
#include "gateway/request.h"
#include "gateway/session.h"

#define READS_MAX 4u /* under way at once, of up to USERS_MAX users each */

static const struct slice devices_mark = SLICE("\tdevices");

/* A user whom somebody here watches. */
struct watched {
    UT_hash_handle hh;
    struct gateway *gw;
    struct link watches;   /* struct watch */
    struct link questions; /* struct part: those that wait until it is known how he is */
    struct link read;      /* on gw->watch_reads: is to be asked for */
    enum { WATCH_NOT, WATCH_ASKED, WATCH_ON } subscription;
    uint32_t refs;  /* watches, questions, and requests under way */
    bool known;     /* how he is, or was */
    bool fresh;     /* nothing can have been missed since */
    bool reading;   /* he is being asked for; meanwhile */
    bool overtaken; /* news came, that are newer than the answer may be; */
    bool again;     /* or something may have been missed: the answer will not do */
    struct user_record now;
};

/* Something to be answered when it is known how a number of users are. */
struct question {
    struct request *request; /* holds the session */
    bool restoring;          /* asked by nobody: the session was resumed */
    enum err err;
    char why[160];
    size_t left, count;
    struct part {
        struct link link;     /* in user->questions */
        struct link in_watch; /* unlinked: that watch has ended meanwhile */
        struct question *question;
        struct watched *user;
    } parts[];
};

/* --- users --- */

static struct watched *watched_find(const struct gateway *g, struct slice user)
{
    struct watched *w;
    HASH_FIND(hh, g->watched, user.p, user.n, w);
    return w;
}

static void watched_unref(struct watched *w)
{
    assert(w->refs != 0);
    if (--w->refs != 0)
        return;
    if (w->gw->broker != NULL)
        w->gw->broker->ops->unwatch(w->gw->broker, w->now.user);
    list_del(&w->read);
    HASH_DELETE(hh, w->gw->watched, w);
    metrics->watched_users--;
    free(w);
}

static void part_settled(struct part *p, enum err err, const char *why);

/* Answers who waits. */
static void settle(struct watched *w, enum err err, const char *why)
{
    w->refs++;
    while (!list_empty(&w->questions))
        part_settled(list_first(&w->questions, struct part, link), err, why);
    watched_unref(w);
}

static void read_later(struct watched *w)
{
    if (!list_empty(&w->read))
        return;
    list_append(&w->gw->watch_reads, &w->read);
    loop_idle(w->gw->loop, &w->gw->watch_task, 0);
}

static void on_watching(void *arg, const struct broker_result *result)
{
    struct watched *w = arg;
    w->subscription = result->err == OK ? WATCH_ON : WATCH_NOT;
    if (result->err == OK) {
        read_later(w);
    } else {
        settle(w, result->err, result->why);
        if (w->refs > 1)
            gateway_retry_later(w->gw);
    }
    watched_unref(w);
}

static void subscribe(struct watched *w)
{
    w->refs++;
    w->subscription = WATCH_ASKED;
    w->gw->broker->ops->watch(w->gw->broker, w->now.user, on_watching, w);
}

/* A reference. */
static struct watched *watched_get(struct gateway *g, struct slice user)
{
    struct watched *w = watched_find(g, user);
    if (w == NULL) {
        w = xcalloc(1, sizeof *w + user.n);
        char *name = (char *)(w + 1);
        memcpy(name, user.p, user.n);
        w->gw = g;
        w->now.user = (struct slice){name, user.n};
        list_init(&w->watches);
        list_init(&w->questions);
        list_init(&w->read);
        HASH_ADD_KEYPTR(hh, g->watched, name, user.n, w);
        metrics->watched_users++;
    }
    w->refs++;
    return w;
}

/* --- watches --- */

static struct watch *watch_find(const struct session *s, const struct watched *user)
{
    struct watch *w;
    HASH_FIND_PTR(s->watches, &user, w);
    return w;
}

static struct watch *watch_add(struct session *s, struct watched *user)
{
    struct watch *w = xcalloc(1, sizeof *w);
    w->user = user;
    w->session = s;
    list_init(&w->asked);
    user->refs++;
    list_append(&user->watches, &w->in_user);
    HASH_ADD_PTR(s->watches, user, w);
    s->watch_count++;
    metrics->watches++;
    return w;
}

static void watch_remove(struct watch *w)
{
    struct session *s = w->session;
    while (!list_empty(&w->asked))
        list_del(w->asked.next);
    HASH_DELETE(hh, s->watches, w);
    list_del(&w->in_user);
    s->watch_count--;
    metrics->watches--;
    watched_unref(w->user);
    free(w);
}

void watch_end(struct session *s)
{
    struct watch *w, *next;
    HASH_ITER (hh, s->watches, w, next)
        watch_remove(w);
}

/* --- news --- */

static struct event_user shown(const struct user_record *u)
{
    return (struct event_user){
        .user = u->user, .state = u->state, .sessions = u->sessions, .since_ms = u->since_ms, .seen_ms = u->seen_ms};
}

static struct msg *encode(const struct protocol_ops *protocol, const struct event *e)
{
    struct buf bytes = BUF_INIT;
    protocol->encode(protocol, e, &bytes);
    metrics->encodes++;
    struct msg *m = msg_new(buf_slice(&bytes));
    buf_fini(&bytes);
    return m;
}

/* One encoding for all who follow each other with the same protocol. */
static void tell(const struct watched *u, bool state_too)
{
    const struct event_user user = shown(&u->now);
    const struct event e = {.kind = EVENT_STATUS, .users = &user, .user_count = 1};
    const struct protocol_ops *protocol = NULL;
    struct msg *m = NULL;
    list_for_each (it, &u->watches) {
        const struct watch *w = list_entry(it, struct watch, in_user);
        struct conn *conn = w->session->conn;
        if (!w->live || conn == NULL || (!state_too && !w->devices))
            continue;
        if (conn->protocol != protocol) {
            msg_unref(&m);
            protocol = conn->protocol;
            m = encode(protocol, &e);
        }
        metrics->statuses++;
        (void)conn_send(conn, m, POLICY_SLOW_DEFAULT);
    }
    msg_unref(&m);
}

static void apply(struct watched *w, const struct user_record *u)
{
    const struct user_record before = w->now;
    bool known = w->known;
    w->now = *u;
    w->now.user = before.user;
    w->known = w->fresh = true;
    if (known && (before.state != u->state || before.sessions != u->sessions))
        tell(w, before.state != u->state);
    settle(w, OK, NULL);
}

void watch_changed(struct gateway *g, const struct user_record *u)
{
    struct watched *w = watched_find(g, u->user);
    if (w == NULL || (w->known && u->version <= w->now.version))
        return;
    w->overtaken = true;
    apply(w, u);
}

/* --- asking --- */

struct read {
    struct gateway *gw;
    size_t count;
    struct watched *users[USERS_MAX];
};

static void on_read(void *arg, const struct broker_result *result)
{
    struct read *r = arg;
    struct gateway *g = r->gw;
    g->watch_reading--;
    for (size_t i = 0; i < r->count; i++) {
        struct watched *w = r->users[i];
        w->reading = false;
        if (w->again && g->broker != NULL) {
            read_later(w);
        } else if (result->err != OK) {
            settle(w, result->err, result->why);
            gateway_retry_later(g);
        } else if (!w->overtaken) {
            apply(w, &result->users[i]);
        }
        watched_unref(w);
    }
    free(r);
    if (!list_empty(&g->watch_reads))
        loop_idle(g->loop, &g->watch_task, 0);
}

static void read_some(struct gateway *g)
{
    struct slice names[USERS_MAX];
    struct read *r = xcalloc(1, sizeof *r);
    r->gw = g;
    while (r->count < USERS_MAX && !list_empty(&g->watch_reads)) {
        struct watched *w = list_first(&g->watch_reads, struct watched, read);
        list_del(&w->read);
        w->refs++;
        w->reading = true;
        w->overtaken = w->again = false;
        names[r->count] = w->now.user;
        r->users[r->count++] = w;
    }
    g->watch_reading++;
    g->broker->ops->users(g->broker, names, r->count, on_read, r);
}

static void on_task(struct task *t)
{
    struct gateway *g = container_of(t, struct gateway, watch_task);
    while (g->broker != NULL && g->watch_reading < READS_MAX && !list_empty(&g->watch_reads))
        read_some(g);
}

/* What is known of him may be old. */
static void doubt(struct watched *w)
{
    w->fresh = false;
    w->again = w->reading;
    if (w->subscription == WATCH_ON && !w->reading)
        read_later(w);
}

void watch_link_up(struct gateway *g)
{
    struct watched *w, *next;
    HASH_ITER (hh, g->watched, w, next)
        doubt(w);
}

void watch_again(struct gateway *g, struct slice user)
{
    struct watched *w = watched_find(g, user);
    if (w != NULL)
        doubt(w);
}

void watch_retry(struct gateway *g)
{
    struct watched *w, *next;
    HASH_ITER (hh, g->watched, w, next) {
        if (w->subscription == WATCH_NOT)
            subscribe(w);
        else if (w->subscription == WATCH_ON && !w->fresh && !w->reading)
            read_later(w);
    }
}

void watch_init(struct gateway *g)
{
    list_init(&g->watch_reads);
    task_init(&g->watch_task, on_task);
}

void watch_fini(struct gateway *g)
{
    struct watched *w, *next;
    HASH_ITER (hh, g->watched, w, next)
        w->refs++; /* an answer lets go of everybody whom its request named */
    HASH_ITER (hh, g->watched, w, next)
        settle(w, ERR_UNAVAILABLE, "the gateway is closing");
    HASH_ITER (hh, g->watched, w, next)
        watched_unref(w);
    assert(g->watched == NULL);
    task_cancel(&g->watch_task);
}

/* --- questions --- */

/* What the store has of it is what it has here. */
static void note(struct session *s)
{
    s->watches_noted = true;
    if (s->conn != NULL && s->state == SESSION_ACTIVE)
        session_put(s);
}

static void answer(struct question *q)
{
    struct session *s = q->request->session;
    AUTO_FREE struct event_user *users = xcalloc(q->count, sizeof *users);
    for (size_t i = 0; i < q->count; i++)
        users[i] = shown(&q->parts[i].user->now);
    struct event e = {.kind = EVENT_ACK, .users = users, .user_count = q->count};
    if (q->restoring) {
        e.kind = EVENT_WATCHING;
        conn_event(s->conn, &e);
        request_drop(&q->request);
    } else {
        request_event(&q->request, &e);
    }
}

/* What failed ends the watch that it began, unless that is asked for in another request, too. */
static void part_finish(struct part *p, enum err err)
{
    if (list_empty(&p->in_watch))
        return;
    struct watch *w = watch_find(p->question->request->session, p->user);
    list_del(&p->in_watch);
    if (err == OK)
        w->live = true;
    else if (!w->live && list_empty(&w->asked))
        watch_remove(w);
}

static void finish(struct question *q)
{
    struct session *s = q->request->session;
    session_ref(s);
    for (size_t i = 0; i < q->count; i++)
        part_finish(&q->parts[i], q->err);
    if (q->err == OK)
        answer(q);
    else
        request_fail(&q->request, q->err, q->why);
    for (size_t i = 0; i < q->count; i++)
        watched_unref(q->parts[i].user);
    free(q);
    note(s);
    session_unref(s);
}

static void part_settled(struct part *p, enum err err, const char *why)
{
    struct question *q = p->question;
    list_del(&p->link);
    if (err != OK && q->err == OK) {
        q->err = err;
        (void)snprintf(q->why, sizeof q->why, "%s%s", why != NULL ? why : err_name(err),
                       q->restoring ? ": whom this session watched is not known here, watch again" : "");
    }
    if (--q->left == 0)
        finish(q);
}

static struct question *question_create(struct session *s, const struct command *c, size_t count, bool restoring)
{
    struct question *q = xcalloc(1, sizeof *q + count * sizeof q->parts[0]);
    q->request = request_create(s, c);
    q->restoring = restoring;
    q->left = 1; /* until all are asked */
    return q;
}

static void question_add(struct question *q, struct slice user, bool devices)
{
    struct session *s = q->request->session;
    struct part *p = &q->parts[q->count++];
    struct watched *u = watched_get(s->gw, user);
    struct watch *w = watch_find(s, u);
    if (w == NULL)
        w = watch_add(s, u);
    w->devices = devices;
    p->question = q;
    p->user = u;
    list_init(&p->link);
    list_append(&w->asked, &p->in_watch);
    if (u->fresh)
        return;
    q->left++;
    list_append(&u->questions, &p->link);
    if (u->subscription == WATCH_NOT)
        subscribe(u);
}

static void question_ask(struct question *q)
{
    if (--q->left == 0)
        finish(q);
}

/* --- what clients ask for --- */

enum err watch_run(struct session *s, const struct command *c, struct error *reterr)
{
    const uint32_t most = s->gw->cfg->max_watches_per_session;
    size_t more = 0;
    for (size_t i = 0; i < c->user_count; i++) {
        if (grant_watch(s, c->users[i], reterr) != OK)
            return reterr->code;
        const struct watched *u = watched_find(s->gw, c->users[i]);
        more += u == NULL || watch_find(s, u) == NULL;
    }
    if (s->watch_count + more > most)
        return fail(reterr, ERR_LIMIT_EXCEEDED,
                    "%zu users more than the %u watched already, %u allowed "
                    "(max-watches-per-session)",
                    more, s->watch_count, most);
    struct question *q = question_create(s, c, c->user_count, false);
    for (size_t i = 0; i < c->user_count; i++)
        question_add(q, c->users[i], c->devices);
    question_ask(q);
    return OK;
}

enum err unwatch_run(struct session *s, const struct command *c, struct error *reterr)
{
    (void)reterr;
    if (c->users == NULL)
        watch_end(s);
    for (size_t i = 0; c->users != NULL && i < c->user_count; i++) {
        const struct watched *u = watched_find(s->gw, c->users[i]);
        struct watch *w = u != NULL ? watch_find(s, u) : NULL;
        if (w != NULL)
            watch_remove(w);
    }
    note(s);
    struct request *r = request_create(s, c);
    const uint64_t total = s->watch_count;
    request_ack(&r, NULL, &total);
    return OK;
}

/* --- sessions that move --- */

void watch_text(const struct session *s, struct buf *ret)
{
    struct watch *w, *next;
    HASH_ITER (hh, s->watches, w, next) {
        if (ret->n != 0)
            buf_append_char(ret, '\n');
        buf_append(ret, w->user->now.user);
        if (w->devices)
            buf_append(ret, devices_mark);
    }
}

/* Cuts the next line off; false at the end. */
static bool next_line(struct slice *rest, struct slice *ret_user, bool *ret_devices)
{
    if (rest->n == 0)
        return false;
    const char *end = memchr(rest->p, '\n', rest->n);
    struct slice line = {rest->p, end != NULL ? (size_t)(end - rest->p) : rest->n};
    *rest = slice_from(*rest, line.n + (end != NULL));
    *ret_devices = slice_ends(line, devices_mark);
    *ret_user = (struct slice){line.p, line.n - (*ret_devices ? devices_mark.n : 0)};
    return true;
}

static bool still_may(const struct session *s, struct slice user)
{
    struct error ignored;
    return utf8_name_valid(user, NAME_MAX_USER) && grant_watch(s, user, &ignored) == OK &&
           s->watch_count < s->gw->cfg->max_watches_per_session;
}

void watch_restore(struct session *s, struct slice text)
{
    const struct command nothing = {.kind = CMD_WATCH};
    struct slice rest = text, user;
    bool devices;
    unsigned dropped = 0;
    while (rest.n != 0) {
        struct question *q = question_create(s, &nothing, USERS_MAX, true);
        while (q->count < USERS_MAX && next_line(&rest, &user, &devices)) {
            if (still_may(s, user))
                question_add(q, user, devices);
            else
                dropped++;
        }
        question_ask(q);
    }
    if (dropped != 0)
        session_error(s, SLICE_NONE, SLICE_NONE, ERR_FORBIDDEN,
                      SLICE("some of whom this session watched may not be watched any more"));
}

void watch_review(struct session *s)
{
    struct watch *w, *next;
    struct error error;
    HASH_ITER (hh, s->watches, w, next) {
        if (grant_watch(s, w->user->now.user, &error) == OK)
            continue;
        session_error(s, SLICE_NONE, SLICE_NONE, error.code, slice_str(error.text));
        watch_remove(w);
    }
}
