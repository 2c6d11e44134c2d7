/* broker/redis/reads.c: how far users have read, beside their inboxes. */
#include "broker/redis/redis.h"

#include "base/mem.h"

static void on_read(void *arg, const redisReply *reply, enum err err, const char *why)
{
    struct call *c = arg;
    struct broker_result result = {.err = err, .why = why};
    const redisReply *offset = reply_at(reply, 0);
    if (err == OK && offset != NULL && offset->type == REDIS_REPLY_INTEGER && offset->integer < 0) {
        result.err = ERR_LIMIT_EXCEEDED;
        result.why = "how far this user has read is known of enough rooms already";
    } else if (err == OK && !reply_position(reply, 0, &result.position)) {
        result.err = ERR_INTERNAL;
        result.why = "the read script gave a strange answer";
    }
    broker_complete(c->done, c->arg, &result);
    free(c);
}

static void arg_envelope(struct args *a, const struct redis *r, const struct read_mark *mark, struct slice inbox)
{
    struct buf head = BUF_INIT;
    struct envelope e = {.kind = ENVELOPE_READ,
                         .room = inbox,
                         .from = mark->sid,
                         .user = mark->user,
                         .node = slice_str(r->node),
                         .read_room = mark->room};
    envelope_pack_head(&e, &head);
    arg_join(a, buf_slice(&head), SLICE_NONE);
    buf_fini(&head);
}

void redis_read(struct broker *b, const struct read_mark *mark, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct call *c = xcalloc(1, sizeof *c);
    struct buf inbox = BUF_INIT;
    struct args a;
    *c = (struct call){.r = r, .done = done, .arg = arg};
    buf_append(&inbox, SLICE("$user:"));
    buf_append(&inbox, mark->user);
    script_args(&a, r, SCRIPT_READ, r->cluster != NULL ? 3 : 2);
    (void)arg_key(&a, r->prefix, buf_slice(&inbox), ":head");
    (void)arg_key(&a, r->prefix, buf_slice(&inbox), ":read");
    if (r->cluster != NULL)
        (void)arg_key(&a, r->prefix, buf_slice(&inbox), ":still");
    (void)arg_key(&a, r->channel_prefix, buf_slice(&inbox), "");
    arg_slice(&a, mark->room);
    arg_u64(&a, mark->at.offset);
    arg_str(&a, mark->at.tag);
    arg_u64(&a, mark->back);
    arg_u64(&a, slice_eq(mark->room, buf_slice(&inbox)));
    arg_u64(&a, READ_ROOMS_MAX);
    arg_u64(&a, r->user_keep_ms);
    arg_u64(&a, mark->tell);
    arg_envelope(&a, r, mark, buf_slice(&inbox));
    /* Said twice is as good as once, unless it may go back. */
    store_send(r->store, &a, REQUEST_TELLS | (mark->back ? 0 : REQUEST_REPEATABLE), on_read, c);
    buf_fini(&inbox);
}
