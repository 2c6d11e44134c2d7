/* broker/memory.c: the embedded broker of a single process: requests queue up and run, in order, when input runs out. */
#include "broker/memory.h"
#include "base/mem.h"

#define SWEEP_MS 1000

/* A publish costs one allocation, one copy and one look-up; nothing is packed, because nobody else would unpack it. */

static void run_refused(struct memory *m, struct op *op)
{
    (void)m;
    broker_fail(op->done, op->arg, ERR_UNAVAILABLE, "too many requests wait for the broker");
}

static void run_unsubscribe(struct memory *m, struct op *op);
static void run_leave(struct memory *m, struct op *op);
static void run_suspend(struct memory *m, struct op *op);

/* What gives something back is never refused: a full queue must not make anything leak. */
static bool gives_back(void (*run)(struct memory *, struct op *))
{
    return run == run_unsubscribe || run == run_leave || run == run_suspend || run == memory_run_session_remove ||
           run == memory_run_session_park || run == memory_run_unwatch || run == memory_run_polling_drop;
}

static bool full(const struct memory *m, size_t more)
{
    return m->b.stats.queued_commands >= m->queue_commands || m->b.stats.queued_bytes + more > m->queue_bytes;
}

struct op *memory_request(struct broker *b, void (*run)(struct memory *, struct op *), const struct publish *p,
                          broker_done *done, void *arg)
{
    struct memory *m = container_of(b, struct memory, b);
    size_t n = p->room.n + p->event.n + p->from.n + p->user.n + p->except.n + p->data.n + p->key.n;
    static const struct publish nothing;
    if (!gives_back(run) && full(m, n)) {
        run = run_refused;
        p = &nothing;
        n = 0;
        b->stats.refused++;
    }
    struct op *op = xmalloc(sizeof *op + n);
    op->run = run;
    op->done = done;
    op->arg = arg;
    op->size = n;
    op->p = *p;
    char *at = op->bytes;
    op->p.room = slice_put(&at, p->room);
    op->p.event = slice_put(&at, p->event);
    op->p.from = slice_put(&at, p->from);
    op->p.user = slice_put(&at, p->user);
    op->p.except = slice_put(&at, p->except);
    op->p.data = slice_put(&at, p->data);
    op->p.key = slice_put(&at, p->key);
    list_append(&m->queue, &op->link);
    b->stats.commands++;
    b->stats.queued_commands++;
    b->stats.queued_bytes += n;
    loop_idle(b->loop, &m->task, 0);
    return op;
}

static void deliver(struct memory *m, const struct envelope *e)
{
    m->b.stats.received++;
    m->b.events->envelope(m->b.owner, e);
}

/* Gives op the next position in the sequence that head stands for. */
static void advance(struct op *op, struct position *head, char ret_prev[TAG_LEN + 1])
{
    memcpy(ret_prev, head->tag, TAG_LEN + 1);
    head->offset++;
    broker_tag(head->tag);
    op->position = *head;
}

static void deliver_message(struct memory *m, const struct op *op, const char prev[TAG_LEN + 1])
{
    struct envelope e = {.kind = ENVELOPE_MESSAGE,
                         .data_type = op->p.data_type,
                         .time_ms = op->time_ms,
                         .room = op->p.room,
                         .event = op->p.event,
                         .id = op->p.key,
                         .from = op->p.from,
                         .user = op->p.user,
                         .node = slice_str(m->node),
                         .except = op->p.except,
                         .data = op->p.data,
                         .position = op->position,
                         .was = op->p.was};
    memcpy(e.prev, prev, sizeof e.prev);
    deliver(m, &e);
}

static void publish_to_session(struct memory *m, struct op *op)
{
    struct session *s = memory_session_find(m, slice_from(op->p.room, sizeof "$session:" - 1));
    if (s == NULL) {
        broker_fail(op->done, op->arg, ERR_NOT_FOUND, "no such session");
        return;
    }
    if (!list_empty(&s->parked)) {
        broker_fail(op->done, op->arg, ERR_UNAVAILABLE, "this session is away at the moment");
        return;
    }
    char prev[TAG_LEN + 1];
    advance(op, &s->head, prev);
    if (op->p.key.n != 0)
        memory_once_add(m, op->p.room, op->p.key, &op->position);
    deliver_message(m, op, prev);
    struct broker_result r = {.position = op->position, .total = 1};
    broker_complete(op->done, op->arg, &r);
}

static void publish_to_room(struct memory *m, struct op *op, uint64_t total, bool stored)
{
    struct room *room = memory_room(m, op->p.room);
    char prev[TAG_LEN + 1], scratch[ONCE_SCRATCH];
    advance(op, &room->head, prev);
    struct broker_result r = {.position = op->position, .total = total, .stored = stored};
    struct slice once = broker_once_key(&op->p, scratch);
    if (once.n != 0)
        memory_once_add(m, op->p.room, once, &op->position);
    /* The envelope borrows from op, so the log takes op last. */
    if (room->subscribed || slice_eq(op->p.room, SLICE("$all"))) {
        r.total += !room_is_user(op->p.room); /* the one node that there is */
        deliver_message(m, op, prev);
    }
    broker_complete(op->done, op->arg, &r);
    if (op->p.retain_count != 0)
        memory_log_append(m, room, op);
    memory_room_touch(m, room);
}

static void run_publish(struct memory *m, struct op *op)
{
    if (op->p.replicas != 0) {
        broker_fail(op->done, op->arg, ERR_UNSUPPORTED, "the memory broker has no replicas");
        return;
    }
    char scratch[ONCE_SCRATCH];
    struct slice once = broker_once_key(&op->p, scratch);
    const struct position *first = once.n != 0 ? memory_once_find(m, op->p.room, once) : NULL;
    if (first != NULL) {
        struct broker_result r = {.position = *first, .repeated = true};
        broker_complete(op->done, op->arg, &r);
        return;
    }
    op->time_ms = loop_wall_ms(m->b.loop);
    uint64_t total = 0;
    bool stored = false;
    if (room_is_user(op->p.room)) {
        struct user *u = memory_user_find(m, slice_from(op->p.room, sizeof "$user:" - 1));
        if ((u == NULL || u->sessions == 0) && op->p.retain_count == 0) {
            broker_fail(op->done, op->arg, ERR_NOT_FOUND, "no such user");
            return;
        }
        total = u != NULL ? u->sessions : 0;
        stored = op->p.retain_count != 0 && (u == NULL || u->sessions == u->suspended);
    }
    m->b.stats.published++;
    if (room_is_session(op->p.room))
        publish_to_session(m, op);
    else
        publish_to_room(m, op, total, stored);
}

static void memory_publish(struct broker *b, const struct publish *p, broker_done *done, void *arg)
{
    (void)memory_request(b, run_publish, p, done, arg);
}

static void run_subscribe(struct memory *m, struct op *op)
{
    struct room *room = memory_room(m, op->p.room);
    if (!room->subscribed)
        m->b.stats.subscriptions++;
    room->subscribed = true;
    memory_room_touch(m, room);
    broker_complete(op->done, op->arg, &(struct broker_result){.position = room->head});
}

static void memory_subscribe(struct broker *b, struct slice room, broker_done *done, void *arg)
{
    (void)memory_request(b, run_subscribe, &(struct publish){.room = room}, done, arg);
}

static void run_unsubscribe(struct memory *m, struct op *op)
{
    struct room *room = memory_room_find(m, op->p.room);
    if (room == NULL || !room->subscribed)
        return;
    m->b.stats.subscriptions--;
    room->subscribed = false;
    memory_room_touch(m, room);
}

static void memory_unsubscribe(struct broker *b, struct slice room)
{
    (void)memory_request(b, run_unsubscribe, &(struct publish){.room = room}, NULL, NULL);
}

/* There is nobody else. */
static void memory_hear(struct broker *b, struct slice channel)
{
    (void)b;
    (void)channel;
}

void memory_announce(struct memory *m, const struct room *room, struct envelope *e)
{
    if (!room->subscribed)
        return;
    e->total = (uint32_t)HASH_COUNT(room->members);
    e->time_ms = loop_wall_ms(m->b.loop);
    e->room = room->name;
    e->node = slice_str(m->node);
    e->position = room->head;
    deliver(m, e);
}

static void run_join(struct memory *m, struct op *op)
{
    struct room *room = memory_room(m, op->p.room);
    bool changed = memory_member_add(m, room, op->p.from, op->p.user);
    memory_room_touch(m, room);
    struct broker_result r = {.position = room->head, .total = HASH_COUNT(room->members)};
    memory_announce(
        m, room, &(struct envelope){.kind = ENVELOPE_ENTER, .from = op->p.from, .user = op->p.user, .again = !changed});
    broker_complete(op->done, op->arg, &r);
}

static void memory_join(struct broker *b, struct slice room, struct slice sid, struct slice user, broker_done *done,
                        void *arg)
{
    (void)memory_request(b, run_join, &(struct publish){.room = room, .from = sid, .user = user}, done, arg);
}

static void run_suspend(struct memory *m, struct op *op)
{
    struct room *room = memory_room_find(m, op->p.room);
    if (room != NULL && memory_member_suspend(room, op->p.from))
        memory_announce(m, room, &(struct envelope){.kind = ENVELOPE_SUSPEND, .from = op->p.from, .user = op->p.user});
    broker_complete(op->done, op->arg, &(struct broker_result){.err = OK});
}

static void memory_suspend(struct broker *b, struct slice room, struct slice sid, struct slice user, broker_done *done,
                           void *arg)
{
    (void)memory_request(b, run_suspend, &(struct publish){.room = room, .from = sid, .user = user}, done, arg);
}

static void run_leave(struct memory *m, struct op *op)
{
    struct room *room = memory_room_find(m, op->p.room);
    struct broker_result r = {.err = OK};
    if (room == NULL) {
        broker_complete(op->done, op->arg, &r);
        return;
    }
    bool was_member = memory_member_remove(m, room, op->p.from);
    r.position = room->head;
    r.total = HASH_COUNT(room->members);
    if (was_member)
        memory_announce(
            m, room,
            &(struct envelope){.kind = ENVELOPE_EXIT, .from = op->p.from, .user = op->p.user, .reason = op->reason});
    memory_room_touch(m, room);
    broker_complete(op->done, op->arg, &r);
}

/* NOLINTNEXTLINE(readability-function-size): the interface wants so many */
/* NOLINTNEXTLINE(readability-function-size): the interface wants so many */
static void memory_leave(struct broker *b, struct slice room, struct slice sid, struct slice user,
                         enum exit_reason reason, broker_done *done, void *arg)
{
    struct op *op = memory_request(b, run_leave, &(struct publish){.room = room, .from = sid, .user = user}, done, arg);
    op->reason = reason;
}

static void memory_presence(struct broker *b, struct slice room, struct slice cursor, uint32_t limit, broker_done *done,
                            void *arg)
{
    struct op *op = memory_request(b, memory_run_presence, &(struct publish){.room = room, .data = cursor}, done, arg);
    op->limit = limit;
}

static void memory_rooms(struct broker *b, struct slice cursor, uint32_t limit, broker_done *done, void *arg)
{
    struct op *op = memory_request(b, memory_run_rooms, &(struct publish){.data = cursor}, done, arg);
    op->limit = limit;
}

static void memory_history(struct broker *b, const struct log_page *page, broker_done *done, void *arg)
{
    struct op *op = memory_request(b, memory_run_history, &(struct publish){.room = page->room}, done, arg);
    op->position = (struct position){.offset = page->after};
    op->limit = page->limit;
}

/* In data, each with its length before it. */
static void memory_users(struct broker *b, const struct slice *users, size_t count, broker_done *done, void *arg)
{
    struct buf names = BUF_INIT;
    for (size_t i = 0; i < count; i++) {
        buf_append(&names, (struct slice){(const char *)&users[i].n, sizeof users[i].n});
        buf_append(&names, users[i]);
    }
    struct op *op = memory_request(b, memory_run_users, &(struct publish){.data = buf_slice(&names)}, done, arg);
    op->limit = (uint32_t)count;
    buf_fini(&names);
}

static void memory_watch(struct broker *b, struct slice user, broker_done *done, void *arg)
{
    (void)memory_request(b, memory_run_watch, &(struct publish){.user = user}, done, arg);
}

static void memory_unwatch(struct broker *b, struct slice user)
{
    (void)memory_request(b, memory_run_unwatch, &(struct publish){.user = user}, NULL, NULL);
}

static void memory_read(struct broker *b, const struct read_mark *mark, broker_done *done, void *arg)
{
    struct op *op = memory_request(
        b, memory_run_read, &(struct publish){.user = mark->user, .from = mark->sid, .room = mark->room}, done, arg);
    op->position = mark->at;
    op->back = mark->back;
    op->tell = mark->tell;
}

static void memory_secrets(struct broker *b, struct slice fresh, uint64_t period_ms, uint64_t lead_ms,
                           broker_done *done, void *arg)
{
    struct op *op = memory_request(b, memory_run_secrets, &(struct publish){.data = fresh}, done, arg);
    op->period_ms = period_ms;
    op->lead_ms = lead_ms;
}

static const char *memory_not_ready(struct broker *b)
{
    struct memory *m = container_of(b, struct memory, b);
    return m->up ? NULL : "starting";
}

static void run_nothing(struct memory *m, struct op *op)
{
    (void)m;
    broker_complete(op->done, op->arg, &(struct broker_result){.err = OK});
}

static void memory_retire(struct broker *b, broker_done *done, void *arg)
{
    (void)memory_request(b, run_nothing, &(struct publish){.from = SLICE_NONE}, done, arg);
}

/* What completions ask for meanwhile waits for the next turn, so that they cannot starve the loop. */
static void dispatch(struct task *t)
{
    struct memory *m = container_of(t, struct memory, task);
    if (!m->up) {
        m->up = true;
        m->b.events->link(m->b.owner, true);
    }
    struct link turn;
    list_init(&turn);
    list_splice(&turn, &m->queue);
    while (!list_empty(&turn)) {
        struct op *op = list_first(&turn, struct op, link);
        list_del(&op->link);
        m->b.stats.queued_commands--;
        m->b.stats.queued_bytes -= op->size;
        op->run(m, op);
        if (list_empty(&op->link)) /* else a log keeps it */
            free(op);
    }
}

static void on_sweep(struct timer *t)
{
    struct memory *m = container_of(t, struct memory, sweep);
    memory_sweep(m);
    memory_sessions_expire(m);
    memory_bans_sweep(m);
    memory_tunnels_sweep(m);
    memory_polling_sweep(m);
    memory_wechat_sweep(m);
    memory_users_expire(m);
    timer_start(t, SWEEP_MS);
}

static void complete_rest(struct memory *m)
{
    while (!list_empty(&m->queue)) {
        struct op *op = list_first(&m->queue, struct op, link);
        list_del(&op->link);
        broker_fail(op->done, op->arg, ERR_UNAVAILABLE, "the broker is closing");
        free(op);
    }
}

static void memory_destroy(struct broker *b)
{
    struct memory *m = container_of(b, struct memory, b);
    m->closing = true;
    complete_rest(m);
    task_cancel(&m->task);
    timer_stop(&m->sweep);
    struct room *room, *next_room;
    HASH_ITER (hh, m->rooms, room, next_room)
        memory_room_free(m, room);
    memory_sessions_clear(m);
    memory_users_clear(m);
    memory_once_clear(m);
    memory_secrets_clear(m);
    memory_bans_clear(m);
    memory_tunnels_clear(m);
    memory_polling_clear(m);
    memory_wechat_clear(m);
    memory_events_clear(m);
    free(m->node);
    free(m->address);
    free(m->version);
    free(m);
}

static const struct broker_ops memory_ops = {
    .name = "memory",
    .publish = memory_publish,
    .subscribe = memory_subscribe,
    .unsubscribe = memory_unsubscribe,
    .emit = memory_emit,
    .hear = memory_hear,
    .hear_no_more = memory_hear,
    .join = memory_join,
    .leave = memory_leave,
    .suspend = memory_suspend,
    .presence = memory_presence,
    .rooms = memory_rooms,
    .history = memory_history,
    .session_put = memory_session_put,
    .session_park = memory_session_park,
    .session_resume = memory_session_resume,
    .session_remove = memory_session_remove,
    .session_audit = memory_session_audit,
    .ban = memory_ban,
    .unban = memory_unban,
    .bans = memory_bans,
    .revoke = memory_revoke,
    .admit = memory_admit,
    .sessions = memory_sessions_list,
    .session_get = memory_session_get,
    .session_give = memory_session_give,
    .room_clear = memory_room_clear,
    .nodes = memory_nodes,
    .control = memory_control,
    .control_to = memory_control_to,
    .where = memory_where,
    .control_answer = memory_control_answer,
    .control_end = memory_control_end,
    .control_listen = memory_control_listen,
    .session_end = memory_session_end_away,
    .away_join = memory_away_join,
    .away_leave = memory_away_leave,
    .event = memory_event,
    .events = memory_events,
    .users = memory_users,
    .watch = memory_watch,
    .unwatch = memory_unwatch,
    .read = memory_read,
    .secrets = memory_secrets,
    .tunnel_offer = memory_tunnel_offer,
    .tunnel_take = memory_tunnel_take,
    .polling_put = memory_polling_put,
    .polling_take = memory_polling_take,
    .polling_find = memory_polling_find,
    .polling_drop = memory_polling_drop,
    .wechat_put = memory_wechat_put,
    .wechat_check = memory_wechat_check,
    .not_ready = memory_not_ready,
    .retire = memory_retire,
    .destroy = memory_destroy,
};

struct broker *broker_memory_create(struct loop *loop, const struct broker_config *cfg,
                                    const struct broker_events *events, void *owner)
{
    struct memory *m = xcalloc(1, sizeof *m);
    m->b = (struct broker){.ops = &memory_ops, .events = events, .owner = owner, .loop = loop};
    m->node = xstrdup(cfg->node);
    m->address = xstrdup(cfg->address != NULL ? cfg->address : "");
    m->version = xstrdup(cfg->version != NULL ? cfg->version : "");
    m->started_ms = loop_wall_ms(loop);
    m->queue_bytes = cfg->queue_bytes;
    m->queue_commands = cfg->queue_commands;
    m->once_ttl_ms = cfg->once_ttl_ms;
    m->user_keep_ms = cfg->user_keep_ms;
    list_init(&m->queue);
    list_init(&m->rooms_all);
    list_init(&m->occupied);
    list_init(&m->vacant);
    list_init(&m->once_list);
    list_init(&m->parked);
    list_init(&m->verdicts_all);
    list_init(&m->offers_by_age);
    list_init(&m->pollings_by_age);
    list_init(&m->wechat_all);
    memory_events_init(m, cfg);
    list_init(&m->gone);
    task_init(&m->task, dispatch);
    timer_init(&m->sweep, loop, on_sweep);
    timer_start(&m->sweep, SWEEP_MS);
    loop_idle(loop, &m->task, 0); /* the first turn reports the link up */
    return &m->b;
}
