/* gateway/fork.c: lost branches of rooms: remembering what was on them, recognising it when it comes back, bringing it back. */
#include "gateway/fork.h"

#include "base/log.h"
#include "base/mem.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "gateway/room.h"
#include "gateway/tail.h"

#define SETTLE_MS   10000u  /* for other nodes to bring back what they hold */
#define SAME_KEY_MS 120000u /* an idempotency key used again after so long is another message (broker once_ttl_ms) */

void forks_init(struct forks *f)
{
    *f = (struct forks){0};
    list_init(&f->list);
}

/* --- accounting --- */

static void let_go(struct lost *l)
{
    if (l->held != NULL)
        tail_entry_free(l->held);
    l->held = NULL;
}

static void settle(struct fork *f)
{
    list_del(&f->open);
    if (!f->mendable)
        return;
    uint64_t lost = f->to - f->since.offset, gone = lost > f->back ? lost - f->back : 0;
    metrics->fork_lost += gone;
    LOG_PEER(WARN, "fork settled", "room=%s at=%llu lost=%llu held=%llu appended=%llu back=%llu gone=%llu",
             log_q(f->room->name), (unsigned long long)f->since.offset, (unsigned long long)lost,
             (unsigned long long)f->held, (unsigned long long)f->appended, (unsigned long long)f->back,
             (unsigned long long)gone);
}

static struct lost *next_held(const struct forks *f)
{
    list_for_each (it, &f->list) {
        const struct fork *fork = list_entry(it, struct fork, in_room);
        list_for_each (jt, &fork->lost) {
            struct lost *l = list_entry(jt, struct lost, link);
            if (l->held != NULL)
                return l;
        }
    }
    return NULL;
}

void forks_settle(struct gateway *g)
{
    uint64_t now = loop_now_ms(g->loop);
    list_for_each_safe (it, &g->forks_open) {
        struct fork *f = list_entry(it, struct fork, open);
        if (f->due_ms <= now && next_held(&f->room->stream.forks) == NULL)
            settle(f);
    }
}

static void fork_free(struct forks *forks, struct fork *f)
{
    if (!list_empty(&f->open))
        settle(f);
    list_splice(&f->lost, &f->returned);
    list_for_each_safe (it, &f->lost) {
        struct lost *l = list_entry(it, struct lost, link);
        if (forks->sending == l)
            forks->sending = NULL;
        let_go(l);
        free(l);
    }
    list_del(&f->in_room);
    free(f);
}

void forks_fini(struct forks *f)
{
    list_for_each_safe (it, &f->list) {
        fork_free(f, list_entry(it, struct fork, in_room));
    }
}

/* --- a fork is found --- */

static struct lost *lost_new(struct fork *f, const struct position *at, struct tail_entry *held)
{
    struct slice id = held != NULL ? held->m.id : SLICE_NONE;
    struct lost *l = xcalloc(1, sizeof *l + id.n);
    char *copy = (char *)(l + 1);
    if (id.n != 0)
        memcpy(copy, id.p, id.n);
    l->fork = f;
    l->at = *at;
    l->id = (struct slice){copy, id.n};
    l->held = held;
    l->time_ms = held != NULL ? held->m.time_ms : 0;
    memcpy(l->tag, held != NULL && held->m.was.at.offset != 0 ? held->m.was.at.tag : at->tag, sizeof l->tag);
    list_append(&f->lost, &l->link);
    return l;
}

static struct lost *at_in(const struct link *list, uint64_t offset)
{
    list_for_each (it, list) {
        struct lost *l = list_entry(it, struct lost, link);
        if (l->at.offset == offset)
            return l;
    }
    return NULL;
}

static struct lost *lost_at(const struct fork *f, uint64_t offset)
{
    struct lost *l = at_in(&f->lost, offset);
    return l != NULL ? l : at_in(&f->returned, offset);
}

/* Every message after `since` (whatever it is worth) that this node remembers, with its content if the tail has it. */
static void take_over(struct room *r, struct fork *f)
{
    struct stream *s = &r->stream;
    uint64_t after = f->mendable ? f->since.offset : 0;
    list_for_each_safe (it, &s->tail.entries) {
        struct tail_entry *e = list_entry(it, struct tail_entry, in_room);
        if (e->m.position.offset <= after)
            continue;
        tail_take(&s->tail, e);
        struct lost *l = lost_new(f, &e->m.position, e);
        if (f->mendable)
            f->held++;
        else
            let_go(l);
    }
    for (size_t i = 0; i < STREAM_RECENT; i++) {
        const struct position *p = &s->recent[i];
        if (p->offset > after && p->offset <= f->to && lost_at(f, p->offset) == NULL)
            lost_new(f, p, NULL);
    }
}

void fork_begin(struct room *r, const struct position *since, bool mendable)
{
    struct forks *forks = &r->stream.forks;
    uint32_t kept = 0;
    list_for_each (it, &forks->list) {
        kept++;
    }
    if (kept == FORKS_MAX)
        fork_free(forks, list_first(&forks->list, struct fork, in_room));
    struct fork *f = xcalloc(1, sizeof *f);
    f->room = r;
    f->branch = forks->count++;
    f->mendable = mendable;
    f->since = *since;
    f->to = r->stream.last.offset;
    f->due_ms = loop_now_ms(r->gw->loop) + SETTLE_MS;
    list_init(&f->lost);
    list_init(&f->returned);
    list_append(&forks->list, &f->in_room);
    list_append(&r->gw->forks_open, &f->open);
    take_over(r, f);
    metrics->forks++;
    LOG_PEER(WARN, "fork: the store has another history than this node delivered",
             "room=%s at=%llu ours=%llu lost=%s held=%llu", log_q(r->name), (unsigned long long)since->offset,
             (unsigned long long)f->to, mendable ? "its end" : "more than this node remembers",
             (unsigned long long)f->held);
}

/* --- recognising --- */

const struct fork *fork_of(const struct room *r, const struct position *at)
{
    list_for_each (it, &r->stream.forks.list) {
        const struct fork *f = list_entry(it, struct fork, in_room);
        const struct lost *l = lost_at(f, at->offset);
        if (l != NULL && strcmp(l->at.tag, at->tag) == 0)
            return f;
    }
    return NULL;
}

/* By its tag, or by the key under which its publisher has published it again meanwhile. */
static bool is_same(const struct lost *l, const struct was *was, struct slice id, uint64_t time_ms)
{
    if (was->at.offset != 0 && strcmp(l->tag, was->at.tag) == 0)
        return true;
    uint64_t apart = time_ms > l->time_ms ? time_ms - l->time_ms : l->time_ms - time_ms;
    return id.n != 0 && l->time_ms != 0 && apart < SAME_KEY_MS && slice_eq(l->id, id);
}

static struct lost *find_in(const struct link *list, const struct was *was, struct slice id, uint64_t time_ms)
{
    list_for_each (it, list) {
        struct lost *l = list_entry(it, struct lost, link);
        if (is_same(l, was, id, time_ms))
            return l;
    }
    return NULL;
}

static struct lost *find(const struct fork *f, const struct was *was, struct slice id, uint64_t time_ms)
{
    struct lost *l = find_in(&f->lost, was, id, time_ms);
    return l != NULL ? l : find_in(&f->returned, was, id, time_ms);
}

/* Delivered here so long before the loss that this node no longer knows its tag. If it knows one, that is another message. */
static bool is_forgotten(const struct fork *f, const struct was *was)
{
    return f->mendable && was->at.offset != 0 && was->since == f->since.offset && was->at.offset <= f->to &&
           lost_at(f, was->at.offset) == NULL;
}

/* Most messages are new: no need to look for them. Nobody repeats one under its key after so long. */
static bool may_be_back(const struct room *r, const struct was *was, struct slice id)
{
    if (was->at.offset != 0)
        return true;
    const struct link *forks = &r->stream.forks.list;
    if (id.n == 0 || list_empty(forks))
        return false;
    const struct fork *newest = list_entry(forks->prev, struct fork, in_room);
    return loop_now_ms(r->gw->loop) < newest->due_ms + SAME_KEY_MS;
}

bool fork_sight(const struct room *r, const struct was *was, struct slice id, uint64_t time_ms, struct sight *ret)
{
    const struct link *forks = &r->stream.forks.list;
    if (!may_be_back(r, was, id))
        return false;
    for (struct link *it = forks->prev; it != forks; it = it->prev) { /* the newest that took it */
        struct fork *f = list_entry(it, struct fork, in_room);
        struct lost *l = find(f, was, id, time_ms);
        if (l == NULL && !is_forgotten(f, was))
            continue;
        *ret = (struct sight){
            .fork = f, .lost = l, .since = f->since.offset, .offset = l != NULL ? l->at.offset : was->at.offset};
        return true;
    }
    *ret = (struct sight){.since = was->since, .offset = was->at.offset};
    return was->at.offset != 0;
}

bool fork_return(struct room *r, const struct envelope *e, struct sight *ret)
{
    if (!fork_sight(r, &e->was, e->id, e->time_ms, ret))
        return false;
    struct lost *l = ret->lost;
    if (ret->fork != NULL && (l == NULL || !l->back))
        ret->fork->back++;
    if (l != NULL) {
        l->back = true;
        list_del(&l->link);
        list_append(&l->fork->returned, &l->link);
        if (r->stream.forks.sending != l) /* its publish will be answered as a repetition */
            let_go(l);
    }
    return true;
}

bool fork_seen_by(const struct member *m, const struct sight *s)
{
    const struct fork *f = s->fork;
    if (f != NULL && f->branch < m->branch_end &&
        (m->branch < f->branch || (m->branch == f->branch && m->entered < s->offset)))
        return true;
    return m->lost_to != 0 && s->since == m->lost_since && s->offset > m->seen.start && s->offset <= m->lost_to;
}

/* --- bringing back --- */

static void on_appended(void *arg, const struct broker_result *result)
{
    struct room *r = arg;
    struct forks *forks = &r->stream.forks;
    struct lost *l = TAKE(forks->sending);
    forks->mending = false;
    bool later = err_retry(result->err) && r->gw->broker != NULL;
    if (result->err == OK && !result->repeated) {
        metrics->fork_appended++;
        if (l != NULL)
            l->fork->appended++;
    } else if (result->err != OK && !later) {
        LOG_PEER(WARN, "a lost message cannot be appended again", "room=%s code=%s why=%s", log_q(r->name),
                 err_name(result->err), log_q(slice_str(result->why)));
    }
    if (l != NULL && (!later || l->back))
        let_go(l);
    if (later)
        gateway_retry_later(r->gw); /* comes back by stream_retry: the same message first, the order is kept */
    else if (r->gw->broker != NULL)
        fork_mend(r);
    room_unref(r);
}

void fork_mend(struct room *r)
{
    struct forks *forks = &r->stream.forks;
    struct lost *l = next_held(forks);
    if (l == NULL || forks->mending || r->stream.state != STREAM_LIVE)
        return;
    const struct message_record *m = &l->held->m;
    struct publish p = {.room = r->name,
                        .event = m->event,
                        .from = m->from,
                        .user = m->user,
                        .except = m->except,
                        .data = m->data,
                        .key = m->id,
                        .was = m->was,
                        .data_type = m->data_type,
                        .retain_count = r->policy->retain_count,
                        .retain_age_s = r->policy->retain_age_s};
    if (p.was.at.offset == 0)
        p.was = (struct was){.at = l->at, .since = l->fork->since.offset};
    forks->mending = true;
    forks->sending = l;
    room_ref(r);
    r->gw->broker->ops->publish(r->gw->broker, &p, on_appended, r);
}
