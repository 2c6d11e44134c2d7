/* gateway/crowd.c: pages of sessions, and what requests say of them. */
#include "gateway/crowd.h"

#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/control.h"
#include "gateway/gateway.h"
#include "gateway/protocol/socketio.h"
#include "proto/json.h"

/* --- pages --- */

/* Of a namespace: the cursor is `<node>/<cursor of its sessions>`. */
struct walk {
    struct gateway *gw;
    uint32_t limit;
    broker_done *done;
    void *arg;
    struct buf nsp, cursor;
    struct slice node, inner; /* in cursor */
    struct buf now, next;     /* nodes: whose sessions are told, and the one after it */
};

static void walk_end(struct walk *w, const struct broker_result *r)
{
    w->done(w->arg, r);
    buf_fini(&w->nsp);
    buf_fini(&w->cursor);
    buf_fini(&w->now);
    buf_fini(&w->next);
    free(w);
}

static void on_sessions(void *arg, const struct broker_result *r)
{
    struct walk *w = arg;
    struct broker_result result = *r;
    struct buf cursor = BUF_INIT;
    if (r->err == OK && (r->more || w->next.n != 0)) {
        buf_append(&cursor, r->more ? buf_slice(&w->now) : buf_slice(&w->next));
        buf_append_char(&cursor, '/');
        if (r->more)
            buf_append(&cursor, r->cursor);
        result.more = true;
        result.cursor = buf_slice(&cursor);
    }
    walk_end(w, &result);
    buf_fini(&cursor);
}

static int compare(struct slice a, struct slice b)
{
    int order = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
    return order != 0 ? order : (a.n > b.n) - (a.n < b.n);
}

/* The first live node from `from` on (or behind it), in the order of names. */
static struct slice first_node(const struct broker_result *r, struct slice from, bool behind)
{
    struct slice best = SLICE_NONE;
    for (size_t i = 0; i < r->count; i++) {
        struct slice node = r->nodes[i].node;
        int order = from.n != 0 ? compare(node, from) : 1;
        if (!r->nodes[i].alive || node.n == 0 || order < 0 || (behind && order == 0))
            continue;
        if (best.n == 0 || compare(node, best) < 0)
            best = node;
    }
    return best;
}

static void on_nodes(void *arg, const struct broker_result *r)
{
    struct walk *w = arg;
    struct broker *b = w->gw->broker;
    struct slice now = r->err == OK ? first_node(r, w->node, false) : SLICE_NONE;
    if (now.n == 0 || b == NULL) {
        walk_end(w, &(struct broker_result){.err = r->err != OK ? r->err
                                                   : b == NULL  ? ERR_UNAVAILABLE
                                                                : OK,
                                            .why = r->err != OK ? r->why : "this node is stopping"});
        return;
    }
    buf_append(&w->now, now);
    buf_append(&w->next, first_node(r, now, true));
    b->ops->sessions(b,
                     &(struct session_query){.by = SESSIONS_BY_NODE,
                                             .name = buf_slice(&w->now),
                                             .nsp = buf_slice(&w->nsp),
                                             .cursor = slice_eq(now, w->node) ? w->inner : SLICE_NONE,
                                             .limit = w->limit},
                     on_sessions, w);
}

void crowd_page(struct gateway *g, const struct crowd *c, struct slice cursor, uint32_t limit, broker_done *done,
                void *arg)
{
    struct broker *b = g->broker;
    if (c->by == CROWD_ROOM) {
        b->ops->presence(b, c->name, cursor, limit, done, arg);
        return;
    }
    if (c->by != CROWD_NAMESPACE) {
        const struct session_query q = {.by = c->by == CROWD_USER ? SESSIONS_BY_USER : SESSIONS_BY_NODE,
                                        .name = c->name,
                                        .cursor = cursor,
                                        .limit = limit};
        b->ops->sessions(b, &q, done, arg);
        return;
    }
    struct walk *w = xcalloc(1, sizeof *w);
    w->gw = g;
    w->limit = limit;
    w->done = done;
    w->arg = arg;
    buf_append(&w->nsp, c->name);
    buf_append(&w->cursor, cursor);
    const char *slash = cursor.n != 0 ? memchr(w->cursor.p, '/', w->cursor.n) : NULL;
    w->node = buf_slice(&w->cursor);
    if (slash != NULL) {
        w->node.n = (size_t)(slash - w->cursor.p);
        w->inner = slice_from(buf_slice(&w->cursor), w->node.n + 1);
    }
    b->ops->nodes(b, on_nodes, w);
}

/* --- bodies --- */

enum member { ROOM, USER, NAMESPACE, ROOMS, EXCEPT, REASON, CODE, RECONNECT_AFTER, LIMIT, CURSOR, MEMBERS };

static const char *const names[MEMBERS] = {
    [ROOM] = "room",     [USER] = "user",     [NAMESPACE] = "namespace", [ROOMS] = "rooms",
    [EXCEPT] = "except", [REASON] = "reason", [CODE] = "code",           [RECONNECT_AFTER] = "reconnect_after",
    [LIMIT] = "limit",   [CURSOR] = "cursor",
};

/* At most `most` names. */
struct names {
    const char *what;
    size_t most, max;
};

static enum err read_names(struct json_value list, struct names of, struct arena *a, struct slice *ret,
                           size_t *ret_count, struct error *reterr)
{
    struct json_value v;
    size_t at = 0;
    if (list.kind == JSON_KIND_NONE)
        return OK;
    if (list.kind != JSON_KIND_ARRAY)
        return fail(reterr, ERR_BAD_REQUEST, "%s must be an array", of.what);
    while (json_next(list, &at, &v)) {
        if (*ret_count == of.most)
            return fail(reterr, ERR_TOO_LARGE, "%s has more than %zu elements", of.what, of.most);
        enum err err = json_name(v, of.what, of.max, a, &ret[(*ret_count)++], reterr);
        if (err != OK)
            return err;
    }
    return OK;
}

static enum err read_number(const struct json_value *v, enum member which, uint32_t least, uint32_t most, uint32_t *ret,
                            struct error *reterr)
{
    uint64_t n;
    if (v[which].kind == JSON_KIND_NONE)
        return OK;
    if (!json_uint(v[which], most, &n) || n < least)
        return fail(reterr, ERR_BAD_REQUEST, "%s must be a number from %u to %u", names[which], least, most);
    *ret = (uint32_t)n;
    return OK;
}

static enum err read_crowd(const struct json_value *v, struct arena *a, struct crowd *ret, struct error *reterr)
{
    static const struct {
        enum member member;
        enum crowd_by by;
        size_t max;
    } kinds[] = {{ROOM, CROWD_ROOM, NAME_MAX_ROOM},
                 {USER, CROWD_USER, NAME_MAX_USER},
                 {NAMESPACE, CROWD_NAMESPACE, SIO_NAMESPACE_MAX}};
    int given = 0;
    enum err err = OK;
    for (size_t i = 0; err == OK && i < ARRAY_LEN(kinds); i++) {
        if (v[kinds[i].member].kind == JSON_KIND_NONE)
            continue;
        given++;
        ret->by = kinds[i].by;
        err = json_name(v[kinds[i].member], names[kinds[i].member], kinds[i].max, a, &ret->name, reterr);
    }
    if (err == OK && given != 1)
        err = fail(reterr, ERR_BAD_REQUEST, "one of room, user and namespace says whose sessions");
    if (err == OK && ret->by == CROWD_ROOM && ret->name.p[0] == '$')
        err = fail(reterr, ERR_INVALID_NAME, "rooms that begin with $ are the server's own");
    if (err == OK && ret->by == CROWD_NAMESPACE && ret->name.p[0] != '/')
        err = fail(reterr, ERR_INVALID_NAME, "a namespace begins with /");
    return err;
}

enum err crowd_read(struct slice body, struct arena *a, struct crowd_request *ret, struct error *reterr)
{
    struct json_value v[MEMBERS];
    *ret = (struct crowd_request){.limit = 100};
    if (!utf8_valid(body))
        return fail(reterr, ERR_BAD_UTF8, "the body is not UTF-8");
    enum err err = json_members(body, names, MEMBERS, v, reterr);
    if (err == OK)
        err = read_crowd(v, a, &ret->crowd, reterr);
    if (err == OK)
        err = read_names(v[ROOMS], (struct names){names[ROOMS], CROWD_ROOMS_MAX, NAME_MAX_ROOM}, a, ret->rooms,
                         &ret->room_count, reterr);
    if (err == OK)
        err = read_names(v[EXCEPT], (struct names){names[EXCEPT], CROWD_EXCEPT_MAX, NAME_MAX_KEY}, a, ret->except,
                         &ret->except_count, reterr);
    if (err == OK)
        err = json_name(v[REASON], names[REASON], CONTROL_REASON_MAX, a, &ret->reason, reterr);
    if (err == OK && v[CURSOR].kind != JSON_KIND_NULL)
        err = json_name(v[CURSOR], names[CURSOR], CROWD_CURSOR_MAX, a, &ret->cursor, reterr);
    if (err == OK)
        err = read_number(v, CODE, 4000, 4999, &ret->code, reterr);
    if (err == OK)
        err = read_number(v, RECONNECT_AFTER, 0, 24 * 3600 * 1000, &ret->reconnect_after_ms, reterr);
    if (err == OK)
        err = read_number(v, LIMIT, 1, CROWD_LIMIT_MAX, &ret->limit, reterr);
    return err;
}
