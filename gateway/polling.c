/* gateway/polling.c: sessions by long-polling: what waits, what is answered when, and how they end. */
#include "gateway/polling_private.h"

#include "base/log.h"
#include "base/mem.h"
#include "gateway/conn.h"
#include "gateway/engine.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "gateway/polling_take.h"

#define ANSWER_QUEUES    4u  /* times max-queue-bytes */
#define PACKETS_PER_TURN 256 /* of one POST, before others get their turn */
#define NAMES_MS         500 /* three names in less than this are not a clock's that shows seconds */

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
    po->answering = po->now = false;
    if (p == NULL)
        return;
    if (po->frames.n == 0)
        ws_frame_append(&po->frames, WS_TEXT, SLICE("6"));
    eio_payload_append(&body, po->engine->revision, buf_slice(&po->frames), po->base64 || po->text,
                       po->left ? '6' : '1', &a.bytes);
    buf_fini(&po->last);
    if (po->renames && po->way.n != 0)
        po->last = po->frames;
    else
        buf_fini(&po->frames);
    po->frames = BUF_INIT;
    a.body = buf_slice(&body);
    p->answer(p, &a);
    buf_fini(&body);
}

/* --- ending --- */

static void polling_free(struct polling *po)
{
    struct gateway *g = po->gw;
    if (g->broker != NULL && po->listed)
        g->broker->ops->control_end(g->broker, slice_str(po->sid));
    if (g->broker != NULL && po->listed && !po->taken && gateway_resume_window_s(g) != 0)
        g->broker->ops->polling_drop(g->broker, slice_str(po->sid));
    list_del(&po->link);
    address_leave(g, po->address);
    task_cancel(&po->work);
    save_fini(&po->save);
    polling_back_free(po->back);
    repeats_fini(&po->repeats);
    buf_fini(&po->name);
    buf_fini(&po->way);
    buf_fini(&po->last);
    eio_payload_fini(&po->input);
    buf_fini(&po->input_bytes);
    buf_fini(&po->frames);
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

void polling_taken(struct polling *po)
{
    if (po->taken)
        return;
    po->taken = true;
    metrics->polls_given_up++;
    LOG(INFO, "connection by long-polling taken by another node", "engine=%.6s", po->sid);
    buf_fini(&po->frames);
    engine_keep(po->engine);
    polling_drop(po, "taken");
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
    po->read = false;
}

/* --- packets of the client --- */

static void answer_post(struct polling *po)
{
    if (po->save.put != NULL || (!po->refused && po->why == NULL && save_taken(&po->save, po->engine)))
        return; /* polling_saved() follows */
    if (po->refused)
        refuse(&po->post, EIO_BAD_REQUEST);
    answer_ok(&po->post);
    po->read = false;
}

static void finish_post(struct polling *po)
{
    eio_payload_fini(&po->input);
    buf_fini(&po->input_bytes);
    po->read = true;
    answer_post(po);
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
        if (packet.n != 0 || po->engine->revision == EIO_4) /* "0:" of revision 3 holds nothing */
            engine_message(po->engine, packet, binary);
    }
    if (c->state != CONN_OPEN || !eio_payload_more(&po->input))
        finish_post(po);
    else if (!c->paused)
        loop_idle(po->gw->loop, &po->work, 0);
}

/* Harmless to the session: it is not of its client. */
static bool other_revision(const struct polling *po, struct poll *poll)
{
    if (poll->revision == 0 || poll->revision == (uint8_t)po->engine->revision)
        return false;
    refuse(&poll, EIO_BAD_REQUEST);
    return true;
}

void polling_post(struct polling *po, struct poll *poll, bool bytes, struct slice body)
{
    struct engine *e = po->engine;
    struct conn *c = e->conn;
    struct error error = {0};
    if (other_revision(po, poll))
        return;
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
    if (po->post == NULL || po->read)
        return;
    buf_append(&po->input_bytes, po->input.rest);
    po->input.rest = buf_slice(&po->input_bytes);
}

/* --- packets for the client --- */

/* A client that writes the same into all its requests does not name them. */
static void name_it(struct polling *po, struct slice name)
{
    bool worthless = slice_eq(buf_slice(&po->name), name);
    po->named = !worthless;
    if (worthless)
        return;
    uint64_t now = loop_now_ms(po->gw->loop);
    po->renames = po->renames || (po->named_ms[0] != 0 && now - po->named_ms[0] < NAMES_MS);
    po->named_ms[0] = po->named_ms[1];
    po->named_ms[1] = now;
    buf_clear(&po->name);
    buf_append(&po->name, name);
}

void polling_named(struct polling *po, struct slice name)
{
    name_it(po, name);
    po->named = false; /* the store has nothing before it */
}

static void came_by(struct polling *po, struct slice node)
{
    buf_clear(&po->way);
    buf_append(&po->way, node);
}

/* The last GET once more, by another way: the node that brought it has died, with it or with its answer. A client whose names come back by themselves has had that answer. */
static bool comes_again(const struct polling *po, const struct poll *poll, struct slice name)
{
    bool same = name.n != 0 && slice_eq(buf_slice(&po->name), name);
    bool elsewhere = po->way.n != 0 && !slice_eq(buf_slice(&po->way), poll->node);
    return po->why == NULL && same && elsewhere && (po->get != NULL || po->last.n != 0);
}

static void get_again(struct polling *po, struct poll *poll, bool base64)
{
    struct poll *before = po->get;
    LOG_PEER(INFO, "a GET came again by another node", "engine=%.6s before=%.*s", po->sid, (int)po->way.n, po->way.p);
    po->get = poll;
    po->text = base64;
    came_by(po, poll->node);
    if (before != NULL) {
        refuse(&before, EIO_BAD_REQUEST); /* to nobody; what is to come is for this one */
        return;
    }
    po->frames = po->last; /* just that: so the store's record stays right */
    po->last = BUF_INIT;
    answer_get(po);
}

void polling_get(struct polling *po, struct poll *poll, bool base64, struct slice name)
{
    struct error error;
    if (other_revision(po, poll))
        return;
    if (comes_again(po, poll, name)) {
        get_again(po, poll, base64);
        return;
    }
    if (po->get != NULL || po->why != NULL) {
        refuse(&poll, EIO_BAD_REQUEST);
        (void)fail(&error, ERR_BAD_REQUEST, "a GET while another one is waiting");
        engine_refuse(po->engine, &error);
        return;
    }
    po->get = poll;
    po->text = base64;
    buf_fini(&po->last);
    name_it(po, name);
    came_by(po, poll->node);
    if (po->hurry)
        polling_wake(po);
    conn_writable(po->engine->conn);
    polling_go_on(po, name);
}

bool polling_repeated(struct polling *po, bool post, struct slice node, uint64_t number)
{
    return repeats_is(&po->repeats, node, post, number);
}

void polling_wake(struct polling *po)
{
    loop_idle(po->gw->loop, &po->work, 0);
}

void polling_saved(struct polling *po, bool taken)
{
    if (taken)
        polling_taken(po);
    if (po->why != NULL)
        return; /* finish() follows */
    if (po->answering)
        answer_get(po);
    if (po->read)
        answer_post(po);
    polling_wake(po);
    conn_writable(po->engine->conn);
}

/* All that is queued goes with it: that is what the store is told. */
static void get_ready(struct polling *po)
{
    struct engine *e = po->engine;
    if (po->get == NULL || po->answering || po->save.put != NULL || e->returning != 0)
        return; /* polling_saved() or polling_wake() follows */
    e->unsettled = namespaces_opening(e);
    po->answering = save_answer(&po->save, e, po->base64, po->named ? buf_slice(&po->name) : SLICE_NONE);
    if (!po->answering)
        answer_get(po);
}

void polling_hurry(struct polling *po, bool hurry)
{
    po->hurry = hurry;
    loop_idle(po->gw->loop, &po->work, 0);
}

void polling_answer_now(struct polling *po, const struct poll *poll)
{
    if (po->get != poll)
        return;
    po->now = true;
    polling_wake(po);
}

bool polling_is_still(const struct polling *po)
{
    return po->get == NULL && po->post == NULL && po->back == NULL && po->frames.n == 0;
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
    if (po->frames.n != 0 || po->hurry || po->now)
        get_ready(po);
    if (po->post != NULL && !po->read)
        take_packets(po);
}

/* --- the transport --- */

static struct polling *of(struct transport *t)
{
    return container_of(t, struct polling, transport);
}

/* All or nothing: frames are not cut. An answer takes what is queued, if it can: what is left cannot be told exactly by another node. */
static ssize_t polling_write(struct transport *t, const char *p, size_t n)
{
    struct polling *po = of(t);
    if (po->taken)
        return (ssize_t)n; /* nobody is told anything */
    if (po->get == NULL || po->answering)
        return 0;
    if (po->frames.n != 0 && po->frames.n + n > (size_t)ANSWER_QUEUES * po->gw->cfg->max_queue_bytes)
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
    if (!paused && po->post != NULL && !po->read)
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

bool polling_name_read(struct slice name, struct slice *ret_sid, struct slice *ret_node)
{
    *ret_sid = name;
    *ret_node = SLICE("");
    if (name.n < SID_LEN)
        return false;
    if (name.n > SID_LEN) {
        ret_sid->n = SID_LEN;
        *ret_node = slice_from(name, SID_LEN + 1);
        if (name.p[SID_LEN] != '.' || ret_node->n == 0 || ret_node->n >= NODE_ID_MAX)
            return false;
    }
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] <= ' ' || name.p[i] > '~' || strchr("{}%", name.p[i]) != NULL)
            return false;
    return true;
}

struct polling *polling_find(const struct gateway *g, struct slice sid)
{
    const struct engine *e = engine_find(g, sid);
    return e != NULL ? e->polling : NULL;
}

void polling_list(struct polling *po)
{
    memcpy(po->sid, po->engine->sid, sizeof po->sid);
    po->listed = true;
    po->gw->broker->ops->control_listen(po->gw->broker, slice_str(po->sid));
    engine_list(po->engine);
}

static struct polling *polling_new(struct gateway *g, bool base64)
{
    struct polling *po = xcalloc(1, sizeof *po);
    po->gw = g;
    po->transport.ops = &ops;
    po->base64 = base64;
    task_init(&po->work, on_work);
    return po;
}

static void begin(struct polling *po)
{
    struct engine *e = po->engine;
    e->polling = po;
    po->address = address_enter(po->gw, slice_str(e->conn->ip));
    list_append(&po->gw->pollings, &po->link);
}

enum err polling_create(struct gateway *g, enum eio_revision revision, struct slice ip, bool base64,
                        struct polling **ret, struct error *reterr)
{
    enum err err = check_room(g, ip, reterr);
    if (err != OK)
        return err;
    struct polling *po = polling_new(g, base64);
    po->engine = engine_create(conn_create(g, &po->transport, NULL, ip), revision);
    begin(po);
    *ret = po;
    return OK;
}

enum err polling_open(struct gateway *g, const struct http_request *r, struct poll *first, bool base64,
                      struct polling **ret, struct error *reterr)
{
    enum err err = check_room(g, r->ip, reterr);
    if (err != OK)
        return err;
    struct polling *po = polling_new(g, base64);
    err = engine_open(g, r, &po->transport, &po->engine, reterr);
    if (err != OK) {
        free(po);
        return err;
    }
    begin(po);
    po->get = first;
    polling_list(po);
    *ret = po;
    return OK;
}
