/* gateway/polling.c: sessions by long-polling: what waits, what is answered when, and how they end. */
#include "gateway/polling.h"

#include <assert.h>

#include "base/log.h"
#include "base/mem.h"
#include "gateway/conn.h"
#include "gateway/engine.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "gateway/protocol/engineio_payload.h"

#define PACKETS_PER_TURN 256 /* of one POST, before others get their turn */

struct polling {
    struct transport transport; /* of engine->conn */
    struct link link;           /* gateway->pollings */
    struct gateway *gw;
    struct engine *engine;
    struct polling_address *address;
    struct poll *get, *post; /* that wait; NULL: none */
    struct buf frames;       /* for the GET */
    struct eio_payload input;
    struct buf input_bytes; /* what is left of the POST's body */
    struct task work;
    char sid[SID_LEN + 1];
    const char *why;    /* it is over; NULL: it is not */
    bool base64;        /* agreed on at the beginning */
    bool text;          /* this answer, too */
    bool left;          /* the client has said that it goes */
    bool hurry;         /* no GET is to wait */
    bool refused;       /* its client has broken a rule */
    struct buf done[2]; /* the last GET and POST of other nodes, by name */
};

/* --- how many one address has: there is no socket that would be counted --- */

struct polling_address {
    UT_hash_handle hh;
    uint32_t count;
    char ip[CONN_IP_MAX];
};

static struct polling_address *address_enter(struct gateway *g, struct slice ip)
{
    struct polling_address *a;
    HASH_FIND(hh, g->polling_addresses, ip.p, ip.n, a);
    if (a == NULL) {
        a = xcalloc(1, sizeof *a);
        memcpy(a->ip, ip.p, ip.n < sizeof a->ip ? ip.n : sizeof a->ip - 1);
        HASH_ADD_KEYPTR(hh, g->polling_addresses, a->ip, strlen(a->ip), a);
    }
    a->count++;
    g->polling_count++;
    return a;
}

static void address_leave(struct gateway *g, struct polling_address *a)
{
    g->polling_count--;
    if (--a->count != 0)
        return;
    HASH_DELETE(hh, g->polling_addresses, a);
    free(a);
}

static enum err check_room(const struct gateway *g, struct slice ip, struct error *reterr)
{
    const struct polling_address *a;
    uint32_t each = g->cfg->max_connections_per_ip, all = g->cfg->max_connections;
    HASH_FIND(hh, g->polling_addresses, ip.p, ip.n, a);
    if (each != 0 && a != NULL && a->count >= each) {
        metrics->drops[DROP_PER_IP]++;
        return fail(reterr, ERR_LIMIT_EXCEEDED, "this address has %u connections by long-polling already", each);
    }
    if (all != 0 && g->polling_count >= all) {
        metrics->drops[DROP_MAX_CONNECTIONS]++;
        return fail(reterr, ERR_LIMIT_EXCEEDED, "this node has %u connections by long-polling already", all);
    }
    return OK;
}

/* --- answering --- */

static void refuse(struct poll **pointer, enum eio_refusal reason)
{
    struct poll *p = TAKE(*pointer);
    if (p != NULL)
        p->answer(p, &(struct poll_answer){.status = 400, .reason = reason});
}

static void answer_ok(struct poll **pointer)
{
    struct poll *p = TAKE(*pointer);
    if (p != NULL)
        p->answer(p, &(struct poll_answer){.status = 200, .body = SLICE("ok")});
}

/* With what there is; or with nothing, which is a packet too. */
static void answer_get(struct polling *po)
{
    struct buf body = BUF_INIT;
    struct poll *p = TAKE(po->get);
    struct poll_answer a = {.status = 200};
    if (p == NULL)
        return;
    if (po->frames.n == 0)
        ws_frame_append(&po->frames, WS_TEXT, SLICE("6"));
    eio_payload_append(&body, po->engine->revision, buf_slice(&po->frames), po->base64 || po->text,
                       po->left ? '6' : '1', &a.bytes);
    buf_fini(&po->frames);
    a.body = buf_slice(&body);
    p->answer(p, &a);
    buf_fini(&body);
}

/* --- ending --- */

static void polling_free(struct polling *po)
{
    struct gateway *g = po->gw;
    if (g->broker != NULL)
        g->broker->ops->control_end(g->broker, slice_str(po->sid));
    list_del(&po->link);
    address_leave(g, po->address);
    task_cancel(&po->work);
    eio_payload_fini(&po->input);
    buf_fini(&po->input_bytes);
    buf_fini(&po->frames);
    buf_fini(&po->done[0]);
    buf_fini(&po->done[1]);
    free(po);
}

static void finish(struct polling *po)
{
    answer_get(po);
    if (po->refused || !po->left)
        refuse(&po->post, EIO_BAD_REQUEST);
    answer_ok(&po->post);
    conn_gone(po->engine->conn, po->why); /* the engine goes with it */
    polling_free(po);
}

/* From the loop, when nobody stands on the stack. */
static void end_later(struct polling *po, const char *why)
{
    if (po->why == NULL)
        po->why = why;
    loop_idle(po->gw->loop, &po->work, 0);
}

void polling_drop(struct polling *po, const char *why)
{
    engine_unlist(po->engine);
    po->refused = !po->left;
    end_later(po, why);
}

void polling_left(struct polling *po)
{
    po->left = true;
    polling_drop(po, "peer");
}

void polling_release(struct polling **pointer, struct conn *old)
{
    struct polling *po = TAKE(*pointer);
    po->left = true; /* who waits is told nothing but that there is nothing */
    answer_get(po);
    answer_ok(&po->post);
    polling_free(po);
    conn_gone(old, "upgraded");
}

void pollings_abandon(struct gateway *g)
{
    list_for_each_safe (it, &g->pollings) {
        struct polling *po = list_entry(it, struct polling, link);
        po->why = "closed";
        finish(po);
    }
}

static void bad_input(struct polling *po, const struct error *error)
{
    engine_refuse(po->engine, error);
    refuse(&po->post, EIO_BAD_REQUEST);
}

/* --- packets of the client --- */

static void finish_post(struct polling *po)
{
    eio_payload_fini(&po->input);
    buf_fini(&po->input_bytes);
    if (po->refused)
        refuse(&po->post, EIO_BAD_REQUEST);
    answer_ok(&po->post);
}

/* Until reading is to rest. */
static void take_packets(struct polling *po)
{
    const struct conn *c = po->engine->conn;
    struct error error = {0};
    struct slice packet;
    bool binary;
    unsigned n = 0;
    while (eio_payload_more(&po->input) && c->state == CONN_OPEN && !c->paused && n++ < PACKETS_PER_TURN) {
        if (eio_payload_next(&po->input, &packet, &binary, &error) != OK) {
            bad_input(po, &error);
            break;
        }
        metrics->messages_in++;
        engine_message(po->engine, packet, binary);
    }
    if (c->state != CONN_OPEN || !eio_payload_more(&po->input))
        finish_post(po);
    else if (!c->paused)
        loop_idle(po->gw->loop, &po->work, 0);
}

void polling_post(struct polling *po, struct poll *poll, bool bytes, struct slice body)
{
    struct engine *e = po->engine;
    struct conn *c = e->conn;
    struct error error = {0};
    if (c->state != CONN_OPEN || po->post != NULL) {
        refuse(&poll, EIO_BAD_REQUEST);
        if (po->post != NULL)
            (void)fail(&error, ERR_BAD_REQUEST, "a POST while another one is under way"), engine_refuse(e, &error);
        return;
    }
    if (body.n > c->parser.max_message) {
        metrics->drops[DROP_TOO_LARGE]++;
        poll->answer(poll, &(struct poll_answer){.status = 413});
        return;
    }
    c->last_input_ms = loop_now_ms(po->gw->loop);
    c->pinged = false;
    po->post = poll;
    enum err err = bytes && e->revision == EIO_4
                       ? fail(&error, ERR_BAD_REQUEST, "an octet-stream: Engine.IO 4 has base64")
                       : eio_payload_begin(&po->input, e->revision, bytes, body, &error);
    if (err != OK) {
        bad_input(po, &error);
        return;
    }
    take_packets(po);
    if (po->post == NULL)
        return;
    buf_append(&po->input_bytes, po->input.rest);
    po->input.rest = buf_slice(&po->input_bytes);
}

/* --- packets for the client --- */

void polling_get(struct polling *po, struct poll *poll, bool base64)
{
    struct error error;
    if (po->get != NULL || po->why != NULL) {
        refuse(&poll, EIO_BAD_REQUEST);
        (void)fail(&error, ERR_BAD_REQUEST, "a GET while another one is waiting");
        engine_refuse(po->engine, &error);
        return;
    }
    po->get = poll;
    po->text = base64;
    if (po->hurry)
        loop_idle(po->gw->loop, &po->work, 0);
    conn_writable(po->engine->conn);
}

bool polling_repeated(struct polling *po, bool post, struct slice name)
{
    struct buf *last = &po->done[post];
    if (slice_eq(buf_slice(last), name))
        return true;
    buf_clear(last);
    buf_append(last, name);
    return false;
}

void polling_hurry(struct polling *po, bool hurry)
{
    po->hurry = hurry;
    loop_idle(po->gw->loop, &po->work, 0);
}

void polling_vanished(struct polling *po, const struct poll *poll)
{
    if (po->get == poll)
        po->get = NULL;
    if (po->post == poll)
        po->post = NULL;
    polling_drop(po, "peer");
}

static void on_work(struct task *t)
{
    struct polling *po = container_of(t, struct polling, work);
    if (po->why != NULL) {
        finish(po);
        return;
    }
    if (po->frames.n != 0 || po->hurry)
        answer_get(po);
    if (po->post != NULL)
        take_packets(po);
}

/* --- the transport --- */

static struct polling *of(struct transport *t)
{
    return container_of(t, struct polling, transport);
}

/* All or nothing: frames are not cut. */
static ssize_t polling_write(struct transport *t, const char *p, size_t n)
{
    struct polling *po = of(t);
    if (po->get == NULL || (po->frames.n != 0 && po->frames.n + n > po->gw->cfg->max_queue_bytes))
        return 0;
    buf_append(&po->frames, (struct slice){p, n});
    loop_idle(po->gw->loop, &po->work, 0);
    return (ssize_t)n;
}

static void polling_close(struct transport *t)
{
    struct polling *po = of(t);
    engine_unlist(po->engine);
    end_later(po, "closed");
}

static void polling_pause(struct transport *t, bool paused)
{
    struct polling *po = of(t);
    if (!paused && po->post != NULL)
        loop_idle(po->gw->loop, &po->work, 0);
}

static const struct transport_ops ops = {polling_write, polling_close, polling_pause};

/* --- opening --- */

void polling_name_append(const struct polling *po, struct buf *ret)
{
    buf_append_str(ret, po->engine->sid);
    if (po->engine->revision != EIO_4 && !po->engine->echo)
        return; /* its client takes it for the name of its session */
    buf_append_char(ret, '.');
    buf_append_str(ret, po->gw->node);
}

struct polling *polling_find(const struct gateway *g, struct slice sid)
{
    const struct engine *e = engine_find(g, sid);
    return e != NULL ? e->polling : NULL;
}

enum err polling_open(struct gateway *g, const struct http_request *r, struct poll *first, bool base64,
                      struct polling **ret, struct error *reterr)
{
    enum err err = check_room(g, r->ip, reterr);
    if (err != OK)
        return err;
    struct polling *po = xcalloc(1, sizeof *po);
    po->gw = g;
    po->transport.ops = &ops;
    po->base64 = base64;
    task_init(&po->work, on_work);
    err = engine_open(g, r, &po->transport, &po->engine, reterr);
    if (err != OK) {
        free(po);
        return err;
    }
    po->engine->polling = po;
    po->address = address_enter(g, r->ip);
    po->get = first;
    list_append(&g->pollings, &po->link);
    g->broker->ops->control_listen(g->broker, slice_str(po->engine->sid));
    memcpy(po->sid, po->engine->sid, sizeof po->sid);
    engine_list(po->engine);
    *ret = po;
    return OK;
}
