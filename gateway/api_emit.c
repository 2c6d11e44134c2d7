/* gateway/api_emit.c: backends emit to Socket.IO clients, and collect their acks. */
#include "base/mem.h"
#include "gateway/api_routes.h"
#include "gateway/broadcast.h"
#include "gateway/emit.h"
#include "gateway/engine.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"

#define ARENA_BYTES (1u << 20)

/* An emission under way. */
struct emitting {
    struct api_call *call;
    bool acks;
};

static void put_list(struct buf *b, const char *label, struct slice elements)
{
    buf_append_str(b, label);
    buf_append(b, elements);
    buf_append_char(b, ']');
}

static void on_emitted(void *arg, const struct broadcast_result *r)
{
    struct emitting *e = arg;
    struct buf body = BUF_INIT;
    if (r->err != OK) {
        api_refuse_result(e->call, r->err, r->why);
        free(e);
        return;
    }
    buf_printf(&body, "{\"nodes\":%llu", (unsigned long long)r->nodes);
    if (e->acks) {
        bool complete = r->answered >= r->nodes && r->uncounted == 0 && !r->dropped;
        put_list(&body, ",\"acks\":[", r->acks);
        put_list(&body, ",\"missing\":[", r->missing);
        buf_printf(&body, ",\"complete\":%s", complete ? "true" : "false");
    }
    buf_append_char(&body, '}');
    api_answer(e->call, buf_slice(&body));
    buf_fini(&body);
    free(e);
}

static enum err may(const struct api_call *c, const struct emission *e, struct error *reterr)
{
    char bytes[NAME_MAX_ROOM];
    struct slice name;
    if (e->to.room_count == 0) {
        struct buf all = BUF_INIT;
        buf_append_str(&all, NAMESPACE_ROOM);
        buf_append(&all, e->to.nsp);
        enum err err = api_may_room(c, buf_slice(&all), reterr);
        buf_fini(&all);
        return err;
    }
    for (size_t i = 0; i < e->to.room_count; i++) {
        if (!emit_room_name(e->to.nsp, e->to.rooms[i], bytes, &name))
            return fail(reterr, ERR_INVALID_NAME, "a room has at most %d bytes with its namespace", NAME_MAX_ROOM);
        if (api_may_room(c, name, reterr) != OK)
            return reterr->code;
    }
    return OK;
}

void api_emit(struct api_call *c, const struct http_request *r)
{
    struct emission e;
    struct arena arena;
    struct error error = {0};
    uint32_t most = c->gw->cfg->max_message_size;
    arena_init(&arena, ARENA_BYTES + 2 * r->body.n);
    enum err err = emission_read_json(r->body, &arena, &e, &error);
    if (err == OK && e.data.n > most)
        err = fail(&error, ERR_TOO_LARGE, "data of %zu bytes, max-message-size is %u", e.data.n, most);
    if (err == OK)
        err = may(c, &e, &error);
    if (err != OK) {
        api_refuse(c, &error);
    } else {
        struct emitting *emitting = xcalloc(1, sizeof *emitting);
        emitting->call = c;
        emitting->acks = e.ack;
        metrics->api_published++;
        broadcast_emit(c->gw, &e, r->body, on_emitted, emitting);
    }
    arena_reset(&arena);
}
