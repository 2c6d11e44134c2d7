/* tests/unit/broker_world.c: recording what a broker tells, and asking it things. */
#include "tests/unit/broker_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"

#define PATIENCE_MS 20000

static char *copy(struct slice s)
{
    return xstrndup(s.n != 0 ? s.p : "", s.n);
}

static void on_envelope(void *owner, const struct envelope *e)
{
    struct world *w = owner;
    assert_true(w->count < SEEN_MAX);
    struct seen *s = &w->seen[w->count++];
    *s = (struct seen){.kind = e->kind,
                       .data_type = e->data_type,
                       .reason = e->reason,
                       .again = e->again,
                       .was = e->was,
                       .total = e->total,
                       .time_ms = e->time_ms,
                       .position = e->position,
                       .room = copy(e->room),
                       .read_room = copy(e->read_room),
                       .read = e->read,
                       .event = copy(e->event),
                       .id = copy(e->id),
                       .from = copy(e->from),
                       .user = copy(e->user),
                       .node = copy(e->node),
                       .except = copy(e->except),
                       .data = copy(e->data),
                       .data_n = e->data.n};
    memcpy(s->prev, e->prev, sizeof s->prev);
}

static void on_link(void *owner, bool up)
{
    struct world *w = owner;
    assert_int_not_equal(w->up, up);
    w->up = up;
    w->ups += up ? 1 : 0;
    w->downs += up ? 0 : 1;
}

static void on_resubscribed(void *owner, struct slice room)
{
    struct world *w = owner;
    assert_true(w->up && room.n != 0);
    w->resubscribed++;
}

static void on_user_changed(void *owner, const struct user_record *u)
{
    struct world *w = owner;
    assert_true(w->status_count < ARRAY_LEN(w->statuses) && u->user.n < sizeof w->statuses[0].user);
    struct status *s = &w->statuses[w->status_count++];
    *s = (struct status){.state = u->state,
                         .sessions = u->sessions,
                         .since_ms = u->since_ms,
                         .seen_ms = u->seen_ms,
                         .version = u->version};
    memcpy(s->user, u->user.p, u->user.n);
}

static void on_rewatched(void *owner, struct slice user)
{
    struct world *w = owner;
    assert_true(w->up && user.n != 0);
    w->rewatched++;
}

static void on_expelled(void *owner)
{
    struct world *w = owner;
    w->expelled++;
}

static void on_taken(void *owner, struct slice sid)
{
    struct world *w = owner;
    w->taken++;
    assert_true(sid.n < sizeof w->taken_sid);
    memcpy(w->taken_sid, sid.p, sid.n);
    w->taken_sid[sid.n] = '\0';
}

static void on_node_stats(void *owner, uint64_t *ret_connections, uint64_t *ret_rooms)
{
    (void)owner;
    *ret_connections = 7;
    *ret_rooms = 3;
}

static const struct broker_events events = {.envelope = on_envelope,
                                            .link = on_link,
                                            .resubscribed = on_resubscribed,
                                            .user_changed = on_user_changed,
                                            .rewatched = on_rewatched,
                                            .expelled = on_expelled,
                                            .taken = on_taken,
                                            .node_stats = on_node_stats};

struct broker_config world_config(const char *url, const char *node)
{
    return (struct broker_config){.url = url,
                                  .node = node,
                                  .address = "127.0.0.1:9443",
                                  .version = "test",
                                  .key_prefix = "xd:",
                                  .lease_ms = 15000,
                                  .timeout_ms = 3000,
                                  .queue_bytes = 16 << 20,
                                  .queue_commands = 10000,
                                  .once_ttl_ms = 120000,
                                  .session_ttl_ms = 3600000,
                                  .user_keep_ms = 600000};
}

void world_init(struct world *w, struct loop_fake *loop, const struct broker_config *cfg)
{
    struct error error;
    *w = (struct world){.loop = loop};
    w->broker = broker_create(&loop->loop, cfg, &events, w, &error);
    assert_non_null(w->broker);
    assert_int_equal(w->ups, 0);
}

static void seen_free(struct seen *s)
{
    char *strings[] = {s->room, s->read_room, s->event, s->id, s->from, s->user, s->node, s->except, s->data};
    for (size_t i = 0; i < ARRAY_LEN(strings); i++)
        free(strings[i]);
}

void world_clear(struct world *w)
{
    for (size_t i = 0; i < w->count; i++)
        seen_free(&w->seen[i]);
    w->count = 0;
}

void world_fini(struct world *w)
{
    broker_destroy(&w->broker);
    assert_null(w->broker);
    world_clear(w);
}

static bool is_ready(void *arg)
{
    struct world *w = arg;
    return w->up && w->broker->ops->not_ready(w->broker) == NULL;
}

void world_ready(struct world *w)
{
    if (!loop_fake_until(w->loop, is_ready, w, PATIENCE_MS))
        fail_msg("not ready: %s", w->broker->ops->not_ready(w->broker));
}

void world_recover(struct world *w)
{
    for (int i = 0; i < 400 && !is_ready(w); i++) {
        loop_fake_advance(w->loop, 50);
        loop_fake_linger(w->loop, 5);
    }
    world_ready(w);
}

struct expectation {
    struct world *w;
    size_t count;
};

static bool is_met(void *arg)
{
    struct expectation *e = arg;
    return e->w->count >= e->count;
}

void world_expect(struct world *w, size_t count)
{
    struct expectation e = {w, count};
    if (!loop_fake_until(w->loop, is_met, &e, PATIENCE_MS))
        fail_msg("%zu envelopes instead of %zu", w->count, count);
    assert_int_equal(w->count, count);
}

struct answer *answer_new(void)
{
    static struct answer answers[16];
    static unsigned next;
    struct answer *a = &answers[next++ % 16];
    memset(a, 0, sizeof *a);
    return a;
}

static void take(char *to, size_t size, struct slice s)
{
    assert_true(s.n < size);
    if (s.n != 0)
        memcpy(to, s.p, s.n);
    to[s.n] = '\0';
}

#define TAKE_SLICE(field, s) take(a->entries[i].field, sizeof a->entries[i].field, (s))

static void take_event(struct answer *a, size_t i, const struct event_entry *e)
{
    size_t n = 0;
    TAKE_SLICE(name, e->id);
    for (size_t f = 0; f < e->count; f++) {
        const struct event_field *field = &e->fields[f];
        if (slice_eq(field->name, SLICE("time")) || slice_eq(field->name, SLICE("node")))
            continue;
        n += (size_t)snprintf(a->entries[i].data + n, sizeof a->entries[i].data - n, "%.*s=%.*s ",
                              SLICE_FMT(field->name), SLICE_FMT(field->value));
        assert_true(n < sizeof a->entries[i].data);
    }
}

void answered(void *arg, const struct broker_result *r)
{
    struct answer *a = arg;
    a->times++;
    a->err = r->err;
    (void)snprintf(a->why, sizeof a->why, "%s", r->why != NULL ? r->why : "");
    a->position = r->position;
    a->total = r->total;
    a->repeated = r->repeated;
    a->stored = r->stored;
    a->replicas = r->replicas;
    a->more = r->more;
    a->away = r->away;
    a->connected_ms = r->connected_ms;
    a->limit_used = r->limit_used;
    a->limit_wanted = r->limit_wanted;
    a->mine = r->mine;
    a->anew = r->anew;
    a->dropped = r->dropped;
    const struct tunnel_offer *o = r->err == OK ? r->offer : NULL;
    take(a->owner, sizeof a->owner,
         o != NULL                           ? o->sid
         : r->wechat != NULL && r->err == OK ? r->wechat->openid
                                             : r->user);
    take(a->watches, sizeof a->watches, o != NULL ? o->tunnel : r->watches);
    if (r->err == OK && r->polling != NULL)
        (void)snprintf(a->watches, sizeof a->watches, "%.*s|%.*s|%.*s", SLICE_FMT(r->polling->state),
                       SLICE_FMT(r->polling->before), SLICE_FMT(r->polling->answered));
    for (size_t i = 0; i < r->count && r->where != NULL; i++)
        TAKE_SLICE(name, r->where[i]);
    for (size_t i = 0; i < r->count && r->users != NULL; i++) {
        TAKE_SLICE(user, r->users[i].user);
        a->entries[i].user_state = r->users[i].state;
        a->entries[i].total = r->users[i].sessions;
        a->entries[i].since_ms = r->users[i].since_ms;
        a->entries[i].seen_ms = r->users[i].seen_ms;
        a->entries[i].version = r->users[i].version;
    }
    take(a->cursor, sizeof a->cursor, r->cursor);
    a->cursor_n = r->cursor.n;
    a->count = r->count;
    for (size_t i = 0; i < r->count && r->members != NULL; i++) {
        TAKE_SLICE(name, r->members[i].sid);
        TAKE_SLICE(user, r->members[i].user);
        TAKE_SLICE(node, r->members[i].node);
        a->entries[i].since_ms = r->members[i].since_ms;
        a->entries[i].state = r->members[i].state;
    }
    for (size_t i = 0; i < r->count && r->rooms != NULL; i++) {
        TAKE_SLICE(name, r->rooms[i].room);
        a->entries[i].total = r->rooms[i].total;
    }
    for (size_t i = 0; i < r->count && r->secrets != NULL; i++) {
        TAKE_SLICE(data, r->secrets[i].text);
        a->entries[i].age_ms = r->secrets[i].age_ms;
    }
    for (size_t i = 0; i < r->count && r->bans != NULL; i++) {
        TAKE_SLICE(name, r->bans[i].user);
        TAKE_SLICE(user, r->bans[i].by);
        TAKE_SLICE(data, r->bans[i].reason);
        a->entries[i].since_ms = r->bans[i].since_ms;
        a->entries[i].time_ms = r->bans[i].until_ms;
    }
    for (size_t i = 0; i < r->count && r->events != NULL; i++)
        take_event(a, i, &r->events[i]);
    for (size_t i = 0; i < r->count && r->messages != NULL; i++) {
        const struct message_record *m = &r->messages[i];
        TAKE_SLICE(name, m->from);
        TAKE_SLICE(user, m->user);
        TAKE_SLICE(event, m->event);
        TAKE_SLICE(id, m->id);
        TAKE_SLICE(except, m->except);
        a->entries[i].was = m->was;
        TAKE_SLICE(data, m->data);
        a->entries[i].data_n = m->data.n;
        a->entries[i].data_type = m->data_type;
        a->entries[i].time_ms = m->time_ms;
        a->entries[i].position = m->position;
    }
}

static bool is_answered(void *arg)
{
    const struct answer *a = arg;
    return a->times != 0;
}

struct answer *await(struct world *w, struct answer *a)
{
    if (!loop_fake_until(w->loop, is_answered, a, PATIENCE_MS))
        fail_msg("no answer");
    assert_int_equal(a->times, 1);
    return a;
}

struct answer *await_ok(struct world *w, struct answer *a)
{
    await(w, a);
    if (a->err != OK)
        fail_msg("%s: %s", err_name(a->err), a->why);
    return a;
}

/* Never before the call has returned. */
#define ASK(w, op, ...)                                                                                                \
    ({                                                                                                                 \
        struct answer *a_ = answer_new();                                                                              \
        (w)->broker->ops->op((w)->broker, __VA_ARGS__, answered, a_);                                                  \
        assert_int_equal(a_->times, 0);                                                                                \
        await((w), a_);                                                                                                \
    })

struct answer *do_publish(struct world *w, const struct publish *p)
{
    return ASK(w, publish, p);
}

struct answer *do_say(struct world *w, const char *room, const char *data)
{
    return do_publish(
        w, &(struct publish){
               .room = slice_str(room), .event = SLICE("message"), .data = slice_str(data), .from = SLICE("me")});
}

struct answer *do_subscribe(struct world *w, const char *room)
{
    return ASK(w, subscribe, slice_str(room));
}

struct answer *do_join(struct world *w, const char *room, const char *sid, const char *user)
{
    return ASK(w, join, slice_str(room), slice_str(sid), slice_str(user));
}

struct answer *do_leave(struct world *w, const char *room, const char *sid, const char *user, enum exit_reason reason)
{
    return ASK(w, leave, slice_str(room), slice_str(sid), slice_str(user), reason);
}

struct answer *do_put(struct world *w, const char *sid, const char *user)
{
    struct session_record s = {.sid = slice_str(sid),
                               .user = slice_str(user),
                               .protocol = SLICE("xindao.v1.json"),
                               .ip = SLICE("192.0.2.1"),
                               .agent = SLICE("test agent/1.0"),
                               .origin = SLICE("https://example.org"),
                               .token_hash = SLICE("abcdef"),
                               .connected_ms = 1700000000000};
    return ASK(w, session_put, &s);
}

struct answer *do_put_for(struct world *w, const char *sid, const char *user, uint32_t window_ms)
{
    char hash[64];
    (void)snprintf(hash, sizeof hash, "hash-%s", sid);
    struct session_record s = {.sid = slice_str(sid),
                               .user = slice_str(user),
                               .token_hash = slice_str(hash),
                               .connected_ms = 1700000000000,
                               .resume_window_ms = window_ms};
    return ASK(w, session_put, &s);
}

struct answer *do_suspend(struct world *w, const char *room, const char *sid, const char *user)
{
    return ASK(w, suspend, slice_str(room), slice_str(sid), slice_str(user));
}

struct answer *do_park(struct world *w, const char *sid, uint32_t ttl_ms)
{
    return ASK(w, session_park, slice_str(sid), ttl_ms);
}

struct answer *do_resume(struct world *w, const char *sid, const char *hash)
{
    return ASK(w, session_resume, slice_str(sid), slice_str(hash));
}

struct answer *do_remove(struct world *w, const char *sid, const char *user)
{
    return ASK(w, session_remove, slice_str(sid), slice_str(user), SLICE("closed"));
}

struct answer *do_read_mark(struct world *w, const struct read_mark *mark)
{
    return ASK(w, read, mark);
}

struct answer *do_watch(struct world *w, const char *user)
{
    return ASK(w, watch, slice_str(user));
}

struct answer *do_users(struct world *w, const char *one, const char *two)
{
    const struct slice users[] = {slice_str(one), slice_str(two)};
    return ASK(w, users, users, two != NULL ? 2 : 1);
}

static bool status_came(void *arg)
{
    const struct mark_status {
        struct world *w;
        size_t count;
    } *m = arg;
    return m->w->status_count >= m->count;
}

void world_status(struct world *w, size_t count, const char *user, enum user_state state, uint64_t sessions)
{
    struct {
        struct world *w;
        size_t count;
    } m = {w, count};
    if (!loop_fake_until(w->loop, status_came, &m, PATIENCE_MS))
        fail_msg("%zu changes of users instead of %zu", w->status_count, count);
    assert_int_equal(w->status_count, count);
    const struct status *s = &w->statuses[count - 1];
    assert_string_equal(s->user, user);
    assert_int_equal(s->state, state);
    assert_int_equal(s->sessions, sessions);
    assert_true(count == 1 || s->version > w->statuses[count - 2].version ||
                strcmp(w->statuses[count - 2].user, user) != 0);
}

struct answer *do_audit(struct world *w, const char *sid)
{
    return ASK(w, session_audit, slice_str(sid));
}

struct answer *do_presence(struct world *w, const char *room, struct slice cursor, uint32_t limit)
{
    return ASK(w, presence, slice_str(room), cursor, limit);
}

struct answer *do_rooms(struct world *w, struct slice cursor, uint32_t limit)
{
    return ASK(w, rooms, cursor, limit);
}

struct answer *do_history(struct world *w, const char *room, uint64_t after, uint32_t limit)
{
    struct log_page page = {.room = slice_str(room), .after = after, .limit = limit};
    return ASK(w, history, &page);
}

struct answer *do_read(struct world *w, const struct log_page *page)
{
    return ASK(w, history, page);
}

struct mark {
    struct world *w;
    const char *text;
    size_t at;
};

static bool mark_seen(void *arg)
{
    struct mark *m = arg;
    for (m->at = 0; m->at < m->w->count; m->at++) {
        if (strcmp(m->w->seen[m->at].data, m->text) == 0)
            return true;
    }
    return false;
}

void world_settle(struct world *w)
{
    static uint64_t n;
    char text[32];
    (void)snprintf(text, sizeof text, "\"settle-%lu\"", (unsigned long)++n);
    assert_int_equal(do_say(w, "$all", text)->err, OK);
    struct mark m = {w, text, 0};
    if (!loop_fake_until(w->loop, mark_seen, &m, PATIENCE_MS))
        fail_msg("a broadcast did not come back");
    if (!w->loop->real_clock)
        loop_fake_linger(w->loop, 5); /* in a cluster other rooms come over other connections */
    seen_free(&w->seen[m.at]);
    w->count--;
    memmove(&w->seen[m.at], &w->seen[m.at + 1], (w->count - m.at) * sizeof w->seen[0]);
}
