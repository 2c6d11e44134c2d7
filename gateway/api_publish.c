/* gateway/api_publish.c: backends publish: to rooms, to users and sessions, to everybody; one message or many in one request. */
#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/act.h"
#include "gateway/api_routes.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "proto/json.h"

#define ARENA_BYTES (1u << 20) /* and for what the body unfolds to */

/* What became of one message. */
struct outcome {
    struct posting *posting;
    enum err err;
    struct position position;
    uint32_t replicas;
    bool repeated;
    struct slice room; /* owned by the posting's names */
    char why[sizeof(((struct error *)0)->text)];
};

/* A request whose messages are on their way to the store. */
struct posting {
    struct api_call *call;
    bool many; /* the answer is a list */
    size_t count, left;
    struct buf names;
    struct outcome outcomes[];
};

/* --- the answer --- */

static void put_position(struct buf *b, const struct position *p)
{
    buf_append_str(b, ",\"position\":\"");
    position_append(b, p);
    buf_append_char(b, '"');
}

static void put_outcome(struct buf *b, const struct outcome *o)
{
    buf_append_str(b, "{\"room\":");
    json_quote(b, o->room);
    if (o->position.offset != 0)
        put_position(b, &o->position);
    if (o->replicas != 0)
        buf_printf(b, ",\"replicas\":%u", o->replicas);
    if (o->repeated)
        buf_append_str(b, ",\"repeated\":true");
    if (o->err != OK) {
        buf_printf(b, ",\"code\":\"%s\",\"message\":", err_name(o->err));
        json_quote(b, slice_str(o->why));
        if (err_retry(o->err))
            buf_append_str(b, ",\"retry\":true");
    }
    buf_append_char(b, '}');
}

static void answer(struct posting *p)
{
    struct buf body = BUF_INIT;
    const struct outcome *only = &p->outcomes[0];
    if (!p->many && only->err != OK) {
        api_refuse_result(p->call, only->err, only->why);
    } else {
        if (p->many)
            buf_append_str(&body, "{\"results\":[");
        for (size_t i = 0; i < p->count; i++) {
            if (i != 0)
                buf_append_char(&body, ',');
            put_outcome(&body, &p->outcomes[i]);
        }
        if (p->many)
            buf_append_str(&body, "]}");
        api_answer(p->call, buf_slice(&body));
    }
    buf_fini(&body);
    buf_fini(&p->names);
    free(p);
}

static void count_down(struct posting *p)
{
    if (--p->left == 0)
        answer(p);
}

/* --- publishing --- */

static void refuse(struct outcome *o, enum err err, const char *why)
{
    o->err = err;
    (void)snprintf(o->why, sizeof o->why, "%s", why != NULL ? why : err_name(err));
    metrics->errors[err] += o->posting->many; /* else it is counted with the answer */
}

static void on_published(void *arg, const struct broker_result *r)
{
    struct outcome *o = arg;
    o->position = r->position;
    o->replicas = r->replicas;
    o->repeated = r->repeated;
    if (r->err != OK)
        refuse(o, r->err, r->err == ERR_INTERNAL ? "the store could not do it" : r->why);
    count_down(o->posting);
}

static struct slice keep(struct posting *p, struct slice room)
{
    buf_append(&p->names, room); /* reserved: it does not move */
    return (struct slice){p->names.p + p->names.n - room.n, room.n};
}

static void publish(struct outcome *o, const struct api_message *m, struct slice room)
{
    struct api_call *c = o->posting->call;
    struct error error = {0};
    o->room = keep(o->posting, room);
    enum err err = api_may_room(c, room, &error);
    if (err == OK)
        err = act_publish(c->gw, m, room, on_published, o, &error);
    if (err != OK) {
        refuse(o, error.code, error.text);
        count_down(o->posting);
        return;
    }
    metrics->api_published++;
}

static struct posting *posting_create(struct api_call *c, size_t count, size_t names, bool many)
{
    struct posting *p = xcalloc(1, sizeof *p + count * sizeof p->outcomes[0]);
    p->call = c;
    p->many = many;
    p->count = count;
    p->left = count + 1; /* one for who fills it */
    (void)buf_reserve(&p->names, names + 1);
    for (size_t i = 0; i < count; i++)
        p->outcomes[i].posting = p;
    return p;
}

static void post(struct api_call *c, const struct api_message *m)
{
    struct slice room = m->room;
    const struct slice *targets = m->targets != NULL ? m->targets : &room;
    size_t count = m->targets != NULL ? m->target_count : 1, names = 0;
    for (size_t i = 0; i < count; i++)
        names += targets[i].n;
    struct posting *p = posting_create(c, count, names, m->targets != NULL);
    for (size_t i = 0; i < count; i++)
        publish(&p->outcomes[i], m, targets[i]);
    count_down(p);
}

static void read_and_post(struct api_call *c, const struct http_request *r,
                          enum err read(struct slice, struct arena *, struct api_message *, struct error *))
{
    struct arena arena;
    struct api_message m;
    struct error error = {0};
    arena_init(&arena, ARENA_BYTES + 2 * r->body.n);
    if (read(r->body, &arena, &m, &error) != OK)
        api_refuse(c, &error);
    else
        post(c, &m);
    arena_reset(&arena);
}

/* --- routes --- */

void api_publish(struct api_call *c, const struct http_request *r)
{
    read_and_post(c, r, api_read_publish);
}

void api_send(struct api_call *c, const struct http_request *r)
{
    read_and_post(c, r, api_read_send);
}

void api_broadcast(struct api_call *c, const struct http_request *r)
{
    read_and_post(c, r, api_read_broadcast);
}

/* The messages of a batch go to the store in order, each for itself: one that fails does not stop the others. */
static void post_batch(struct api_call *c, const struct api_message *messages, const struct error *errors, size_t count)
{
    size_t names = 0;
    for (size_t i = 0; i < count; i++)
        names += errors[i].code == OK ? messages[i].room.n : 0;
    struct posting *p = posting_create(c, count, names, true);
    for (size_t i = 0; i < count; i++) {
        struct outcome *o = &p->outcomes[i];
        if (errors[i].code == OK && (i == 0 || api_key_take(c))) {
            publish(o, &messages[i], messages[i].room);
            continue;
        }
        refuse(o, errors[i].code != OK ? errors[i].code : ERR_RATE_LIMITED,
               errors[i].code != OK ? errors[i].text : "more messages per second than the key may send");
        count_down(p);
    }
    count_down(p);
}

void api_publish_batch(struct api_call *c, const struct http_request *r)
{
    struct arena arena;
    struct api_message *messages;
    struct error *errors, error = {0};
    size_t count;
    arena_init(&arena, ARENA_BYTES + 2 * r->body.n);
    if (api_read_batch(r->body, &arena, &messages, &errors, &count, &error) != OK)
        api_refuse(c, &error);
    else
        post_batch(c, messages, errors, count);
    arena_reset(&arena);
}
