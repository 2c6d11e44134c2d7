/* broker/redis/rooms.c: publishing, joining, leaving: each one script on the keys of one room. */
#include <stdio.h>

#include "base/mem.h"
#include "broker/redis/redis.h"

#define ONCE_KEY_MAX 64

static void arg_room_key(struct args *a, const struct redis *r, struct slice room, const char *after)
{
    (void)arg_key(a, r->prefix, room, after);
}

static void arg_channel(struct args *a, const struct redis *r, struct slice room)
{
    (void)arg_key(a, r->channel_prefix, room, "");
}

static struct slice type_name(enum data_type type)
{
    return type == DATA_BINARY ? SLICE("binary") : type == DATA_EMISSION ? SLICE("emission") : SLICE("json");
}

/* While the slot of a room is being moved within a cluster, scripts whose keys are all on one side are done there and others are put off, and
 * order would be lost. With a key that never exists all of them are put off. Counts it, and adds it. */
static unsigned still_key(const struct redis *r)
{
    return r->cluster != NULL ? 1 : 0;
}

static void arg_still_key(struct args *a, const struct redis *r, struct slice room)
{
    if (r->cluster != NULL)
        arg_room_key(a, r, room, ":still");
}

/* Publishing: to a room, to a user (first asking whether there is one), to a session. */

struct publish_call {
    struct call call;
    uint64_t total;
    bool retained, stored, tells_nodes;
    unsigned flags;
    uint32_t replicas;
    struct command publish; /* until it is sent */
};

/* What the script answered; why as given. */
static struct broker_result publish_result(const struct publish_call *p, const redisReply *r, enum err err,
                                           const char *why)
{
    struct broker_result result = {.err = err, .why = why, .total = p->total, .stored = p->stored};
    uint64_t repeated = 0;
    const redisReply *offset = reply_at(r, 0);
    if (err == OK && offset != NULL && offset->type == REDIS_REPLY_INTEGER && offset->integer < 0) {
        result.err = offset->integer == -1 ? ERR_NOT_FOUND : ERR_UNAVAILABLE;
        result.why = offset->integer == -1   ? "no such session"
                     : offset->integer == -2 ? "the node of this session does not listen at the moment"
                                             : "this session is away at the moment";
    } else if (err == OK && (!reply_position(r, 0, &result.position) || !reply_u64(reply_at(r, 2), &repeated))) {
        result.err = ERR_INTERNAL;
        result.why = "the publish script gave a strange answer";
    }
    result.repeated = repeated != 0;
    if (p->tells_nodes)
        (void)reply_u64(reply_at(r, 3), &result.total);
    return result;
}

static void published(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct publish_call *p = arg;
    struct broker_result result = publish_result(p, r, err, why);
    if (result.err == OK)
        p->call.r->b.stats.published++;
    broker_complete(p->call.done, p->call.arg, &result);
    free(p);
}

/* A publish that replicas shall confirm. */
struct replicated_call {
    struct publish_call publish;
    struct durable_job job;
    struct broker_result result; /* once it is published */
};

static bool replicated_published(struct durable_job *j, const redisReply *r, enum err err, const char *why)
{
    struct replicated_call *c = container_of(j, struct replicated_call, job);
    c->result = publish_result(&c->publish, r, err, why);
    if (c->result.err == OK)
        return true;
    broker_complete(c->publish.call.done, c->publish.call.arg, &c->result);
    free(c);
    return false;
}

static void replicated_confirmed(struct durable_job *j, bool enough, uint32_t replicas, const char *why)
{
    struct replicated_call *c = container_of(j, struct replicated_call, job);
    const char *advice =
        j->repeatable ? "publish it again with the same key" : "without a key a repetition is another message";
    unsigned long long offset = c->result.position.offset;
    char text[192];
    if (why == NULL)
        (void)snprintf(text, sizeof text, "published at offset %llu, but only %u of %u replicas have it; %s", offset,
                       replicas, c->publish.replicas, advice);
    else
        (void)snprintf(text, sizeof text, "published at offset %llu, but not known to be on %u replicas; %s (%s)",
                       offset, c->publish.replicas, advice, why);
    c->publish.call.r->b.stats.published++;
    c->result.replicas = replicas;
    c->result.err = enough ? OK : ERR_NOT_REPLICATED;
    c->result.why = enough ? NULL : text;
    broker_complete(c->publish.call.done, c->publish.call.arg, &c->result);
    free(c);
}

static struct publish_call *publish_call_new(struct redis *r, const struct publish *p, broker_done *done, void *arg)
{
    struct publish_call *c;
    if (p->replicas == 0) {
        c = xcalloc(1, sizeof *c);
    } else {
        struct replicated_call *replicated = xcalloc(1, sizeof *replicated);
        replicated->job = (struct durable_job){.repeatable = p->key.n != 0 || p->was.at.offset != 0,
                                               .published = replicated_published,
                                               .confirmed = replicated_confirmed};
        c = &replicated->publish;
    }
    c->call = (struct call){.r = r, .done = done, .arg = arg};
    c->retained = p->retain_count != 0;
    c->replicas = p->replicas;
    /* Without a key nobody could tell a repetition from a second message. */
    c->flags = REQUEST_TELLS | (p->key.n != 0 || p->was.at.offset != 0 ? REQUEST_REPEATABLE : 0u);
    return c;
}

/* Sends c->publish. */
static void publish_send(struct publish_call *c)
{
    struct redis *r = c->call.r;
    if (c->replicas == 0) {
        store_send_prepared(r->store, &c->publish, c->flags, published, c);
        return;
    }
    struct replicated_call *replicated = container_of(c, struct replicated_call, publish);
    const char *why = store_send_durable(r->store, &c->publish, c->replicas, &replicated->job);
    if (why == NULL)
        return;
    redis_complete_later(r, c->call.done, c->call.arg, ERR_UNAVAILABLE, why);
    free(replicated);
}

static void user_looked_up(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct publish_call *p = arg;
    uint64_t away = 0;
    bool known = p->retained ? reply_u64(reply_at(r, 0), &p->total) && reply_u64(reply_at(r, 1), &away)
                             : reply_u64(r, &p->total);
    p->stored = p->retained && p->total == away;
    if (err == OK && !known) {
        err = ERR_INTERNAL;
        why = "the user directory gave a strange answer";
    }
    if (err == OK && p->total == 0 && !p->retained) {
        err = ERR_NOT_FOUND;
        why = "no such user";
    }
    if (err != OK) {
        redisFreeCommand(p->publish.bytes);
        broker_fail(p->call.done, p->call.arg, err, why);
        free(p);
        return;
    }
    publish_send(p);
}

static void pack_message(const struct redis *r, const struct publish *p, const char *tag, struct buf *ret)
{
    struct envelope e = {.kind = ENVELOPE_MESSAGE,
                         .data_type = p->data_type,
                         .room = p->room,
                         .event = p->event,
                         .id = p->key,
                         .from = p->from,
                         .user = p->user,
                         .node = slice_str(r->node),
                         .except = p->except,
                         .data = p->data,
                         .was = p->was};
    memcpy(e.position.tag, tag, TAG_LEN + 1);
    envelope_pack_head(&e, ret);
}

static void arg_once_key(struct args *a, const char *before, struct slice name, struct slice key)
{
    if (key.n == 0)
        return;
    char after[8 + ONCE_KEY_MAX];
    (void)snprintf(after, sizeof after, ":once:%.*s", SLICE_FMT(key));
    (void)arg_key(a, before, name, after);
}

/* A minus tells the script that replicas will be waited for. */
static void arg_once_ttl(struct args *a, const struct redis *r, const struct publish *p)
{
    if (p->replicas == 0) {
        arg_u64(a, r->once_ttl_ms);
        return;
    }
    char text[16];
    (void)snprintf(text, sizeof text, "-%u", r->once_ttl_ms);
    arg_join(a, slice_str(text), SLICE_NONE);
}

static void whisper_args(struct args *a, const struct redis *r, const struct publish *p, const struct buf *head,
                         const char *tag)
{
    struct slice sid = slice_from(p->room, sizeof "$session:" - 1);
    script_args(a, r, SCRIPT_WHISPER, p->key.n != 0 ? 2 : 1);
    (void)arg_key(a, r->session_prefix, sid, "");
    arg_once_key(a, r->session_prefix, sid, p->key);
    arg_inbox(a, r, sid);
    arg_slice(a, buf_slice(head));
    arg_slice(a, p->data);
    arg_str(a, tag);
    arg_once_ttl(a, r, p);
}

/* As message_parse() reads it. */
static void arg_was(struct args *a, const struct was *was)
{
    char text[96];
    if (was->at.offset == 0)
        return;
    (void)snprintf(text, sizeof text, "%llu %s %llu", (unsigned long long)was->at.offset, was->at.tag,
                   (unsigned long long)was->since);
    arg_str(a, "was");
    arg_join(a, slice_str(text), SLICE_NONE);
}

/* Rooms of the server have no members by whom it shows that they are in use: kept as long as users, who may be away for long, are remembered. */
static uint64_t keep_ms(const struct redis *r, const struct publish *p)
{
    return p->room.p[0] == '$' && p->retain_count != 0 && r->user_keep_ms > KEEP_MS ? r->user_keep_ms : KEEP_MS;
}

static void publish_args(struct args *a, const struct redis *r, const struct publish *p, const struct buf *head,
                         const char *tag)
{
    char scratch[ONCE_SCRATCH];
    struct slice once = broker_once_key(p, scratch);
    script_args(a, r, SCRIPT_PUBLISH, once.n != 0 ? 4 : 3 + still_key(r));
    arg_room_key(a, r, p->room, ":head");
    arg_room_key(a, r, p->room, ":log");
    arg_room_key(a, r, p->room, ":members");
    arg_once_key(a, r->prefix, p->room, once);
    if (once.n == 0)
        arg_still_key(a, r, p->room);
    arg_channel(a, r, p->room);
    arg_slice(a, buf_slice(head));
    arg_slice(a, p->data);
    arg_str(a, tag);
    arg_u64(a, p->retain_count);
    arg_u64(a, p->retain_age_s * 1000ull);
    arg_u64(a, keep_ms(r, p));
    if (once.n != 0)
        arg_once_ttl(a, r, p);
    else
        arg_u64(a, 0);
    if (p->retain_count == 0)
        return;
    const struct {
        const char *name;
        struct slice value;
    } fields[] = {{"id", p->key},
                  {"from", p->from},
                  {"user", p->user},
                  {"event", p->event},
                  {"type", type_name(p->data_type)},
                  {"except", p->except},
                  {"data", p->data}};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (fields[i].value.n == 0)
            continue;
        arg_str(a, fields[i].name);
        arg_slice(a, fields[i].value);
    }
    arg_was(a, &p->was);
}

void redis_publish(struct broker *b, const struct publish *p, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    if (p->replicas > REPLICAS_MAX) {
        redis_complete_later(r, done, arg, ERR_UNSUPPORTED, "a publish cannot wait for so many replicas");
        return;
    }
    if (p->key.n > ONCE_KEY_MAX) {
        redis_complete_later(r, done, arg, ERR_INVALID_NAME, "the idempotency key is too long");
        return;
    }
    struct publish_call *c = publish_call_new(r, p, done, arg);
    struct buf head = BUF_INIT;
    char tag[TAG_LEN + 1];
    broker_tag(tag);
    pack_message(r, p, tag, &head);
    struct args a;
    c->total = room_is_session(p->room);
    if (c->total != 0)
        whisper_args(&a, r, p, &head, tag);
    else
        publish_args(&a, r, p, &head, tag);
    c->publish = store_prepare(r->store, &a);
    if (room_is_user(p->room)) {
        users_count_args(&a, r, slice_from(p->room, sizeof "$user:" - 1), c->retained);
        store_send(r->store, &a, REQUEST_REPEATABLE, user_looked_up, c);
    } else {
        c->tells_nodes = c->total == 0;
        publish_send(c);
    }
    buf_fini(&head);
}

/* Membership. The directory of rooms (xd:rooms) lies elsewhere in a cluster, so it follows in a command of its own; listing
 * drops rooms that are empty, and nodes add theirs again now and then. */

struct member_call {
    struct call call;
    bool joins, suspends, owed_on_failure;
    bool contestable; /* done only if the membership is through this node; that may be wrong, see contest() */
    enum exit_reason reason;
    struct broker_result result; /* while contested */
    size_t sid_n, user_n, room_n;
    char names[]; /* sid, user, room */
};

static struct slice call_sid(const struct member_call *m)
{
    return (struct slice){m->names, m->sid_n};
}

static struct slice call_user(const struct member_call *m)
{
    return (struct slice){m->names + m->sid_n, m->user_n};
}

static struct slice call_room(const struct member_call *m)
{
    return (struct slice){m->names + m->sid_n + m->user_n, m->room_n};
}

static void directory(struct redis *r, const char *command, struct slice room)
{
    struct args a;
    args_init(&a);
    arg_str(&a, command);
    arg_str(&a, r->rooms_key);
    if (strcmp(command, "ZADD") == 0)
        arg_str(&a, "0");
    arg_slice(&a, room);
    store_send(r->store, &a, REQUEST_REPEATABLE, NULL, NULL);
}

static void member_end(struct member_call *m, const struct broker_result *result)
{
    struct redis *r = m->call.r;
    if (result->err == OK && !r->closing) {
        if (!m->suspends)
            local_rejoined(r, call_sid(m), call_room(m));
        if (m->joins && result->total == 1)
            directory(r, "ZADD", call_room(m));
        else if (!m->joins && result->total == 0)
            directory(r, "ZREM", call_room(m));
    }
    if (m->owed_on_failure && result->err != OK && !r->closing)
        sessions_owe(r, call_sid(m), call_room(m), call_user(m), m->reason);
    broker_complete(m->call.done, m->call.arg, result);
    free(m);
}

static void touch_args(struct args *a, const struct redis *r, struct slice sid, struct slice field, struct slice room)
{
    script_args(a, r, SCRIPT_TOUCH, 1);
    (void)arg_key(a, r->session_prefix, sid, "");
    arg_str(a, r->node);
    arg_u64(a, r->session_ttl_ms);
    arg_join(a, field, room);
    arg_u64(a, loop_wall_ms(r->b.loop));
}

static void on_contested(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct member_call *m = arg;
    struct redis *r = m->call.r;
    uint64_t state = 0;
    if (err != OK)
        m->result = (struct broker_result){.err = err, .why = why};
    if (err != OK || r->closing || !reply_u64(reply, &state) || (state != 1 && state != 3)) {
        member_end(m, &m->result);
        return;
    }
    struct member_id id = {
        .room = call_room(m), .sid = call_sid(m), .user = call_user(m), .node = slice_str(r->node), .any = true};
    if (m->suspends)
        redis_suspend_as(r, &id, m->call.done, m->call.arg);
    else
        redis_leave_as(r, &id, m->reason, m->call.done, m->call.arg);
    free(m);
}

/* A session of ours is no member through us. Perhaps it is none; or it is one through the node where it was before, because it has not joined again since it
 * was resumed here, or because that node has not heard that it moved. If the session is still ours then so is the membership, whatever its entry says. */
static void contest(struct member_call *m)
{
    struct redis *r = m->call.r;
    struct args a;
    if (m->suspends)
        touch_args(&a, r, call_sid(m), SLICE("last_seen"), SLICE_NONE);
    else
        touch_args(&a, r, call_sid(m), SLICE("room:"), call_room(m)); /* it was taken out too early */
    store_send(r->store, &a, REQUEST_REPEATABLE | REQUEST_UNBOUNDED, on_contested, m);
}

static void member_changed(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct member_call *m = arg;
    struct redis *r = m->call.r;
    uint64_t was = 1;
    struct broker_result result = {.err = err, .why = why};
    if (err == OK && (!reply_position(reply, 0, &result.position) || !reply_u64(reply_at(reply, 2), &result.total) ||
                      !reply_u64(reply_at(reply, 3), &was))) {
        result.err = ERR_INTERNAL;
        result.why = "the membership script gave a strange answer";
    }
    if (result.err == OK && m->contestable && was == 0 && !r->closing && local_find(r, call_sid(m)) != NULL) {
        m->result = result;
        contest(m);
        return;
    }
    member_end(m, &result);
}

static struct member_call *member_call_new(struct redis *r, const struct member_id *id, broker_done *done, void *arg)
{
    struct member_call *m = xcalloc(1, sizeof *m + id->sid.n + id->user.n + id->room.n);
    m->call = (struct call){.r = r, .done = done, .arg = arg};
    m->sid_n = id->sid.n;
    m->user_n = id->user.n;
    m->room_n = id->room.n;
    memcpy(m->names, id->sid.p, id->sid.n);
    if (id->user.n != 0)
        memcpy(m->names + m->sid_n, id->user.p, id->user.n);
    memcpy(m->names + m->sid_n + m->user_n, id->room.p, id->room.n);
    return m;
}

static void member_arguments(struct args *a, const struct redis *r, const struct member_id *id)
{
    arg_channel(a, r, id->room);
    arg_slice(a, id->sid);
    arg_slice(a, id->any ? SLICE("*") : id->node);
}

static void member_args(struct args *a, const struct redis *r, enum script script, const struct member_id *id)
{
    script_args(a, r, script, 3 + still_key(r));
    arg_room_key(a, r, id->room, ":members");
    arg_room_key(a, r, id->room, ":head");
    arg_room_key(a, r, id->room, ":log");
    arg_still_key(a, r, id->room);
    member_arguments(a, r, id);
}

static void pack_notice(enum envelope_kind kind, const struct member_id *id, enum exit_reason reason, struct buf *ret)
{
    struct envelope e = {
        .kind = kind, .reason = reason, .room = id->room, .from = id->sid, .user = id->user, .node = id->node};
    envelope_pack_head(&e, ret);
}

/* The session's hash names its rooms before it is a member of them: whoever cleans up after it finds every room. */
static void note_args(struct args *a, const struct redis *r, const struct member_id *id)
{
    touch_args(a, r, id->sid, SLICE("room:"), id->room);
}

static void unnote_args(struct args *a, const struct redis *r, const struct member_id *id)
{
    script_args(a, r, SCRIPT_UNNOTE, 1);
    (void)arg_key(a, r->session_prefix, id->sid, "");
    arg_slice(a, id->node);
    arg_join(a, SLICE("room:"), id->room);
}

/* One membership's turn; second may be NULL. */
static void member_turn(struct redis *r, const struct member_id *id, struct turn_step *first, struct turn_step *second)
{
    struct buf key = BUF_INIT;
    buf_append(&key, id->sid);
    buf_append_char(&key, ' ');
    buf_append(&key, id->room);
    turn_take(r, buf_slice(&key), first, second);
    buf_fini(&key);
}

void redis_join_as(struct redis *r, const struct member_id *id, struct args *note, broker_done *done, void *arg)
{
    struct member_call *m = member_call_new(r, id, done, arg);
    m->joins = true;
    struct buf head = BUF_INIT;
    pack_notice(ENVELOPE_ENTER, id, EXIT_LEAVE, &head);
    struct args a;
    member_args(&a, r, SCRIPT_JOIN, id);
    arg_slice(&a, id->user);
    arg_slice(&a, buf_slice(&head));
    struct turn_step first = {.args = note, .flags = REQUEST_REPEATABLE};
    struct turn_step join = {.args = &a, .flags = REQUEST_REPEATABLE | REQUEST_TELLS, .done = member_changed, .arg = m};
    member_turn(r, id, note != NULL ? &first : &join, note != NULL ? &join : NULL);
    buf_fini(&head);
}

void redis_join(struct broker *b, struct slice room, struct slice sid, struct slice user, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct member_id id = {.room = room, .sid = sid, .user = user, .node = slice_str(r->node)};
    sessions_owe_no_more(r, sid, room);
    struct args note;
    note_args(&note, r, &id);
    redis_join_as(r, &id, &note, done, arg);
}

/* What was decided because a session is ours may be wrong after an outage. */
static unsigned member_flags(const struct redis *r, const struct member_id *id)
{
    bool decided = id->any && slice_eq(id->node, slice_str(r->node));
    return REQUEST_UNBOUNDED | (decided ? 0 : REQUEST_REPEATABLE);
}

void redis_leave_as(struct redis *r, const struct member_id *id, enum exit_reason reason, broker_done *done, void *arg)
{
    struct member_call *m = member_call_new(r, id, done, arg);
    m->reason = reason;
    m->owed_on_failure = slice_eq(id->node, slice_str(r->node));
    m->contestable = m->owed_on_failure && !id->any;
    struct buf head = BUF_INIT;
    pack_notice(ENVELOPE_EXIT, id, reason, &head);
    struct args a, unnote;
    member_args(&a, r, SCRIPT_LEAVE, id);
    arg_slice(&a, buf_slice(&head));
    arg_u64(&a, KEEP_MS);
    unnote_args(&unnote, r, id);
    const unsigned flags = REQUEST_REPEATABLE | REQUEST_UNBOUNDED;
    member_turn(
        r, id,
        &(struct turn_step){.args = &a, .flags = member_flags(r, id) | REQUEST_TELLS, .done = member_changed, .arg = m},
        &(struct turn_step){.args = &unnote, .flags = flags});
    buf_fini(&head);
}

/* NOLINTNEXTLINE(readability-function-size): the interface wants so many */
void redis_leave(struct broker *b, struct slice room, struct slice sid, struct slice user, enum exit_reason reason,
                 broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    const struct member_id id = {.room = room, .sid = sid, .user = user, .node = slice_str(r->node)};
    redis_leave_as(r, &id, reason, done, arg);
}

void redis_suspend_as(struct redis *r, const struct member_id *id, broker_done *done, void *arg)
{
    struct member_call *m = member_call_new(r, id, done, arg);
    m->suspends = true;
    m->contestable = slice_eq(id->node, slice_str(r->node)) && !id->any;
    struct buf head = BUF_INIT;
    pack_notice(ENVELOPE_SUSPEND, id, EXIT_LEAVE, &head);
    struct args a;
    script_args(&a, r, SCRIPT_SUSPEND, 2 + still_key(r));
    arg_room_key(&a, r, id->room, ":members");
    arg_room_key(&a, r, id->room, ":head");
    arg_still_key(&a, r, id->room);
    member_arguments(&a, r, id);
    arg_slice(&a, buf_slice(&head));
    member_turn(
        r, id,
        &(struct turn_step){.args = &a, .flags = member_flags(r, id) | REQUEST_TELLS, .done = member_changed, .arg = m},
        NULL);
    buf_fini(&head);
}

/* NOLINTNEXTLINE(readability-function-size): the interface wants so many */
void redis_suspend(struct broker *b, struct slice room, struct slice sid, struct slice user, broker_done *done,
                   void *arg)
{
    struct redis *r = redis_of(b);
    const struct member_id id = {.room = room, .sid = sid, .user = user, .node = slice_str(r->node)};
    redis_suspend_as(r, &id, done, arg);
}
