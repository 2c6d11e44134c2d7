/* broker/redis/emit.c: something for every node that listens to a room: published on its channel, past its log. */
#include "base/mem.h"
#include "broker/redis/redis.h"

struct emit_call {
    struct call call;
    uint16_t slot;
    bool answered; /* by nodes: in a cluster through the inbox of the slot, which is opened first */
    struct buf envelope, room;
};

static void emit_complete(struct emit_call *c, const struct broker_result *result)
{
    if (result->err != OK && c->answered)
        inbox_release(c->call.r, c->slot);
    broker_complete(c->call.done, c->call.arg, result);
    buf_fini(&c->envelope);
    buf_fini(&c->room);
    free(c);
}

static void on_published(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct broker_result result = {.err = err, .why = why};
    if (err == OK && !reply_u64(reply, &result.total)) {
        result.err = ERR_INTERNAL;
        result.why = "a publish gave a strange answer";
    }
    emit_complete(arg, &result);
}

static void on_inbox_open(void *arg, const struct broker_result *result)
{
    struct emit_call *c = arg;
    struct redis *r = c->call.r;
    struct args a;
    if (result->err != OK || r->closing) {
        emit_complete(c, &(struct broker_result){.err = ERR_UNAVAILABLE, .why = "the store cannot be reached"});
        return;
    }
    args_init(&a);
    arg_str(&a, r->cluster != NULL ? "SPUBLISH" : "PUBLISH");
    (void)arg_key(&a, r->channel_prefix, buf_slice(&c->room), "");
    arg_slice(&a, buf_slice(&c->envelope));
    store_send(r->store, &a, 0, on_published, c);
}

void redis_emit(struct broker *b, const struct emit_message *m, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    if (r->closing) {
        redis_complete_later(r, done, arg, ERR_UNAVAILABLE, "the broker is closing");
        return;
    }
    const struct envelope e = {.kind = ENVELOPE_EMIT,
                               .room = m->room,
                               .from = m->sid,
                               .again = m->answered,
                               .node = slice_str(r->node),
                               .data = m->data};
    struct emit_call *c = xcalloc(1, sizeof *c);
    c->call = (struct call){.r = r, .done = done, .arg = arg};
    c->slot = session_slot(r, m->sid);
    c->answered = m->answered;
    envelope_pack(&e, &c->envelope);
    buf_append(&c->room, m->room);
    struct gather *g = gather_new(r, on_inbox_open, c);
    if (c->answered) {
        inbox_hold(r, c->slot);
        inbox_wait(r, c->slot, g);
    }
    gather_close(g);
}
