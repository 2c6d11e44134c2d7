/* broker/memory_bans.c: bans and revoked tokens of the embedded broker: they last as long as the process. */
#include <inttypes.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/text.h"
#include "broker/memory.h"

#define SWEEP_VERDICTS 64

enum verdict_kind { VERDICT_BAN = 'b', VERDICT_USER = 'u', VERDICT_TOKEN = 't' };

static struct verdict *find(struct memory *m, enum verdict_kind kind, struct slice name)
{
    struct verdict *v;
    char key[1 + BAN_REASON_MAX];
    if (name.n == 0 || name.n >= sizeof key)
        return NULL;
    key[0] = (char)kind;
    memcpy(key + 1, name.p, name.n);
    HASH_FIND(hh, m->verdicts, key, name.n + 1, v);
    return v;
}

static void drop(struct memory *m, struct verdict *v)
{
    HASH_DELETE(hh, m->verdicts, v);
    list_del(&v->all);
    free(v);
}

static bool over(const struct memory *m, const struct verdict *v)
{
    return v->until_ms != 0 && v->until_ms <= loop_wall_ms(m->b.loop);
}

/* NULL when there is none in force. */
static struct verdict *in_force(struct memory *m, enum verdict_kind kind, struct slice name)
{
    struct verdict *v = find(m, kind, name);
    return v == NULL || over(m, v) ? NULL : v;
}

/* Takes the place of an older one. */
static struct verdict *add(struct memory *m, enum verdict_kind kind, struct slice name, const struct op *op)
{
    struct verdict *old = find(m, kind, name);
    if (old != NULL)
        drop(m, old);
    struct verdict *v = xcalloc(1, sizeof *v + 1 + name.n + op->p.data.n + op->p.from.n);
    char *at = v->bytes;
    *at++ = (char)kind;
    v->name = (struct slice){v->bytes, 1 + slice_put(&at, name).n};
    v->reason = slice_put(&at, op->p.data);
    v->by = slice_put(&at, op->p.from);
    v->since_ms = loop_wall_ms(m->b.loop);
    v->until_ms = op->period_ms;
    v->before_s = op->lead_ms;
    list_append(&m->verdicts_all, &v->all);
    HASH_ADD_KEYPTR(hh, m->verdicts, v->name.p, v->name.n, v);
    return v;
}

static struct ban_record record_of(const struct verdict *v)
{
    return (struct ban_record){.user = slice_from(v->name, 1),
                               .reason = v->reason,
                               .by = v->by,
                               .since_ms = v->since_ms,
                               .until_ms = v->until_ms};
}

static void done(struct op *op)
{
    broker_complete(op->done, op->arg, &(struct broker_result){.err = OK});
}

static void tell(struct memory *m, bool token, struct slice name)
{
    const struct envelope e = {.kind = ENVELOPE_VERDICT,
                               .room = SLICE("$all"),
                               .event = token ? SLICE("token") : SLICE("user"),
                               .user = name,
                               .node = slice_str(m->node)};
    m->b.events->envelope(m->b.owner, &e);
}

/* --- bans --- */

static void run_ban(struct memory *m, struct op *op)
{
    (void)add(m, VERDICT_BAN, op->p.user, op);
    tell(m, false, op->p.user);
    list_for_each_safe (it, &m->parked) {
        struct session *s = list_entry(it, struct session, parked);
        if (s->user != NULL && slice_eq((struct slice){s->user->id, s->user->n}, op->p.user))
            memory_session_end(m, s, EXIT_KICKED);
    }
    done(op);
}

void memory_ban(struct broker *b, const struct ban_record *ban, broker_done *done_fn, void *arg)
{
    const struct publish p = {.user = ban->user, .data = ban->reason, .from = ban->by};
    memory_request(b, run_ban, &p, done_fn, arg)->period_ms = ban->until_ms;
}

static void run_unban(struct memory *m, struct op *op)
{
    struct verdict *v = in_force(m, VERDICT_BAN, op->p.user);
    if (v == NULL) {
        broker_fail(op->done, op->arg, ERR_NOT_FOUND, "this user is not banned");
        return;
    }
    drop(m, v);
    done(op);
}

void memory_unban(struct broker *b, struct slice user, broker_done *done_fn, void *arg)
{
    (void)memory_request(b, run_unban, &(struct publish){.user = user}, done_fn, arg);
}

/* Those that end first first, then by name: as Redis has them. */
static int in_order(const void *left, const void *right)
{
    const struct ban_record *a = left, *b = right;
    uint64_t x = a->until_ms - 1, y = b->until_ms - 1; /* for ever comes last */
    if (x != y)
        return x < y ? -1 : 1;
    int order = memcmp(a->user.p, b->user.p, a->user.n < b->user.n ? a->user.n : b->user.n);
    return order != 0 ? order : (a->user.n > b->user.n) - (a->user.n < b->user.n);
}

/* `<until> <user>`, of the last one on the page before. */
static bool cursor_parse(struct slice cursor, struct ban_record *ret)
{
    const char *space = cursor.n != 0 ? memchr(cursor.p, ' ', cursor.n) : NULL;
    if (space == NULL)
        return false;
    struct slice until = {cursor.p, (size_t)(space - cursor.p)};
    ret->user = slice_from(cursor, until.n + 1);
    return ret->user.n != 0 && text_u64(until, UINT64_MAX, &ret->until_ms);
}

static size_t collect(struct memory *m, struct ban_record *ret)
{
    struct verdict *v, *next;
    size_t n = 0;
    HASH_ITER (hh, m->verdicts, v, next) {
        if (v->name.p[0] == VERDICT_BAN && !over(m, v))
            ret[n++] = record_of(v);
    }
    qsort(ret, n, sizeof *ret, in_order);
    return n;
}

static void run_bans(struct memory *m, struct op *op)
{
    struct ban_record last;
    char cursor[24 + BAN_REASON_MAX];
    size_t from = 0;
    if (op->p.data.n != 0 && !cursor_parse(op->p.data, &last)) {
        broker_fail(op->done, op->arg, ERR_BAD_REQUEST, "not a cursor of this list");
        return;
    }
    AUTO_FREE struct ban_record *bans = xcalloc((size_t)HASH_COUNT(m->verdicts) + 1, sizeof *bans);
    size_t n = collect(m, bans);
    while (op->p.data.n != 0 && from < n && in_order(&bans[from], &last) <= 0)
        from++;
    struct broker_result result = {.bans = bans + from, .count = n - from, .more = n - from > op->limit};
    if (result.more) {
        result.count = op->limit;
        last = bans[from + op->limit - 1];
        int length = snprintf(cursor, sizeof cursor, "%" PRIu64 " %.*s", last.until_ms, SLICE_FMT(last.user));
        result.cursor = (struct slice){cursor, (size_t)length};
    }
    broker_complete(op->done, op->arg, &result);
}

void memory_bans(struct broker *b, struct slice cursor, uint32_t limit, broker_done *done_fn, void *arg)
{
    memory_request(b, run_bans, &(struct publish){.data = cursor}, done_fn, arg)->limit = limit;
}

/* --- tokens --- */

static void run_revoke(struct memory *m, struct op *op)
{
    enum verdict_kind kind = op->p.key.n != 0 ? VERDICT_TOKEN : VERDICT_USER;
    struct slice name = kind == VERDICT_TOKEN ? op->p.key : op->p.user;
    const struct verdict *old = in_force(m, kind, name);
    if (old != NULL && old->until_ms > op->period_ms)
        op->period_ms = old->until_ms;
    if (old != NULL && old->before_s > op->lead_ms)
        op->lead_ms = old->before_s;
    (void)add(m, kind, name, op);
    tell(m, kind == VERDICT_TOKEN, name);
    done(op);
}

void memory_revoke(struct broker *b, const struct revocation *what, broker_done *done_fn, void *arg)
{
    const struct publish p = {.user = what->user, .key = what->jti, .from = what->by};
    struct op *op = memory_request(b, run_revoke, &p, done_fn, arg);
    op->period_ms = what->until_ms;
    op->lead_ms = what->before_s;
}

static void run_admit(struct memory *m, struct op *op)
{
    const struct verdict *v = in_force(m, VERDICT_BAN, op->p.user);
    if (v != NULL) {
        const struct ban_record ban = record_of(v);
        broker_complete(op->done, op->arg,
                        &(struct broker_result){.err = ERR_BANNED, .why = "banned", .count = 1, .bans = &ban});
        return;
    }
    v = op->limit != 0 ? in_force(m, VERDICT_USER, op->p.user) : NULL;
    if ((v != NULL && op->time_ms < v->before_s) || in_force(m, VERDICT_TOKEN, op->p.key) != NULL)
        broker_fail(op->done, op->arg, ERR_UNAUTHORIZED, "the token has been revoked");
    else
        done(op);
}

void memory_admit(struct broker *b, const struct admission *who, broker_done *done_fn, void *arg)
{
    const struct publish p = {.user = who->user, .key = who->by_token ? who->jti : SLICE_NONE};
    struct op *op = memory_request(b, run_admit, &p, done_fn, arg);
    op->limit = who->by_token;
    op->time_ms = who->issued_s;
}

/* --- the end --- */

void memory_bans_sweep(struct memory *m)
{
    for (int i = 0; i < SWEEP_VERDICTS && !list_empty(&m->verdicts_all); i++) {
        struct verdict *v = list_first(&m->verdicts_all, struct verdict, all);
        list_del(&v->all);
        list_append(&m->verdicts_all, &v->all);
        if (over(m, v))
            drop(m, v);
    }
}

void memory_bans_clear(struct memory *m)
{
    while (!list_empty(&m->verdicts_all))
        drop(m, list_first(&m->verdicts_all, struct verdict, all));
}
