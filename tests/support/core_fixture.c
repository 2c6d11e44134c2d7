/* tests/support/core_fixture.c: a gateway without a network. */
#include "tests/support/core_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/random.h"
#include "gateway/engine.h"
#include "gateway/session.h"
#include "tests/support/check.h"

/* --- a store that can be down --- */

static struct broker_ops ops;
static const struct broker_ops *memory_ops;
static struct core *core_now;

/* An answer that the fixture gives in the store's stead. */
struct refusal {
    struct timer timer;
    broker_done *done;
    void *arg;
    struct broker_result result;
    struct ban_record ban;
};

static void on_refusal(struct timer *t)
{
    struct refusal *r = container_of(t, struct refusal, timer);
    struct refusal told = *r;
    if (told.result.bans != NULL)
        told.result.bans = &told.ban;
    timer_stop(t);
    free(r);
    told.done(told.arg, &told.result);
}

static struct refusal *refusal_new(const struct broker_result *result, broker_done *done, void *arg)
{
    struct refusal *r = xcalloc(1, sizeof *r);
    r->done = done;
    r->arg = arg;
    r->result = *result;
    timer_init(&r->timer, &core_now->loop.loop, on_refusal);
    return r;
}

static void answer_later(const struct broker_result *result, broker_done *done, void *arg)
{
    timer_start(&refusal_new(result, done, arg)->timer, 0);
}

static bool refuse_if(bool down, broker_done *done, void *arg)
{
    if (down)
        answer_later(&(struct broker_result){.err = ERR_UNAVAILABLE, .why = "the store is down"}, done, arg);
    return down;
}

static bool refuse(broker_done *done, void *arg)
{
    return refuse_if(core_now->store_down, done, arg);
}

static void fake_publish(struct broker *b, const struct publish *p, broker_done *done, void *arg)
{
    bool down = core_now->no_messages || (core_now->no_publish && p->was.at.offset != 0);
    if (!refuse_if(down, done, arg))
        memory_ops->publish(b, p, done, arg);
}

static void fake_subscribe(struct broker *b, struct slice room, broker_done *done, void *arg)
{
    if (!refuse_if(core_now->no_subscriptions, done, arg))
        memory_ops->subscribe(b, room, done, arg);
}

static void fake_join(struct broker *b, struct slice room, struct slice sid, struct slice user, broker_done *done,
                      void *arg)
{
    core_now->joins++;
    if (!refuse_if(core_now->store_down || core_now->no_joins, done, arg))
        memory_ops->join(b, room, sid, user, done, arg);
}

static void fake_leave(struct broker *b, struct slice room, struct slice sid, struct slice user,
                       enum exit_reason reason, broker_done *done, void *arg)
{
    core_now->leaves++;
    if (!refuse(done, arg))
        memory_ops->leave(b, room, sid, user, reason, done, arg);
}

static void fake_session_put(struct broker *b, const struct session_record *s, broker_done *done, void *arg)
{
    core_now->puts++;
    if (!refuse(done, arg))
        memory_ops->session_put(b, s, done, arg);
}

static void fake_session_remove(struct broker *b, struct slice sid, struct slice user, struct slice reason,
                                broker_done *done, void *arg)
{
    if (!refuse(done, arg))
        memory_ops->session_remove(b, sid, user, reason, done, arg);
}

static void fake_event(struct broker *b, const struct event_record *e, broker_done *done, void *arg)
{
    if (!refuse_if(core_now->no_events, done, arg))
        memory_ops->event(b, e, done, arg);
}

static void fake_history(struct broker *b, const struct log_page *page, broker_done *done, void *arg)
{
    if (page->may_lag) {
        core_now->lagging++;
        core_now->at_least = page->at_least;
    } else {
        core_now->exact++;
    }
    if (core_now->lagging_head.offset != 0) {
        answer_later(&(struct broker_result){.position = core_now->lagging_head}, done, arg);
        core_now->lagging_head = (struct position){0};
        return;
    }
    memory_ops->history(b, page, done, arg);
}

/* The store has answered, but it takes a while until that is here. */
static void on_admission(void *arg, const struct broker_result *result)
{
    struct refusal *r = arg;
    r->result = *result;
    if (result->bans != NULL)
        r->ban = result->bans[0];
    timer_start(&r->timer, core_now->late_admission_ms);
}

static void fake_admit(struct broker *b, const struct admission *who, broker_done *done, void *arg)
{
    if (core_now->late_admission_ms == 0)
        memory_ops->admit(b, who, done, arg);
    else
        memory_ops->admit(b, who, on_admission, refusal_new(&(struct broker_result){0}, done, arg));
}

static struct broker_events events;
static const struct broker_events *gateway_events;

static void on_envelope(void *owner, const struct envelope *e)
{
    if (!core_now->deaf)
        gateway_events->envelope(owner, e);
}

static void intercept(struct core *c)
{
    gateway_events = c->gw->broker->events;
    events = *gateway_events;
    events.envelope = on_envelope;
    c->gw->broker->events = &events;
    core_now = c;
    memory_ops = c->gw->broker->ops;
    ops = *memory_ops;
    ops.publish = fake_publish;
    ops.subscribe = fake_subscribe;
    ops.join = fake_join;
    ops.leave = fake_leave;
    ops.session_put = fake_session_put;
    ops.session_remove = fake_session_remove;
    ops.history = fake_history;
    ops.admit = fake_admit;
    ops.event = fake_event;
    c->gw->broker->ops = &ops;
}

/* --- the gateway --- */

static char *no_environment(const char *name)
{
    (void)name;
    return NULL;
}

void core_init(struct core *c, const char *const *args)
{
    char *argv[32] = {xstrdup("xindao-gateway"), xstrdup("--insecure")};
    int argc = 2;
    bool parks = false;
    for (; args != NULL && *args != NULL; args++) {
        parks |= strcmp(*args, "--resume-window") == 0;
        argv[argc++] = xstrdup(*args);
    }
    struct error error = {0};
    enum config_action action;
    *c = (struct core){0};
    table_seed();
    log_setup(LOG_ERROR, LOG_TEXT, NULL);
    loop_fake_init(&c->loop);
    if (config_load(argc, argv, no_environment, &c->cfg, &action, &error) != OK)
        fail_msg("config: %s", error.text);
    while (argc != 0)
        free(argv[--argc]);
    if (!parks)
        c->cfg.resume_window_s = 0;
    c->gw = gateway_create(&c->loop.loop, &c->cfg, "test-node", &error);
    if (c->gw == NULL)
        fail_msg("gateway: %s", error.text);
    intercept(c);
    loop_fake_run(&c->loop);
}

void core_fini(struct core *c)
{
    gateway_destroy(&c->gw);
    config_fini(&c->cfg);
    loop_fake_fini(&c->loop);
}

/* --- clients --- */

static ssize_t client_write(struct transport *t, const char *p, size_t n)
{
    struct client *cl = container_of(t, struct client, transport);
    if (cl->window != SIZE_MAX) {
        n = n < cl->window ? n : cl->window;
        cl->window -= n;
    }
    buf_append(&cl->raw, (struct slice){p, n});
    return (ssize_t)n;
}

static void client_close(struct transport *t)
{
    container_of(t, struct client, transport)->close_asked = true;
}

static void client_pause(struct transport *t, bool paused)
{
    container_of(t, struct client, transport)->paused = paused;
}

enum err client_ask(struct client *cl, struct core *c, struct http_request r, struct slice *ret_subprotocol,
                    struct error *reterr)
{
    static const struct transport_ops transport_ops = {client_write, client_close, client_pause};
    *cl = (struct client){.transport.ops = &transport_ops, .core = c, .window = SIZE_MAX};
    r.ip = SLICE("192.0.2.1");
    r.user_agent = SLICE("test");
    enum err err = gateway_upgrade(c->gw, &r, &cl->transport, &cl->conn, ret_subprotocol, reterr);
    if (err == OK && cl->conn->session != NULL)
        memcpy(cl->sid, cl->conn->session->sid, sizeof cl->sid);
    return err;
}

void client_connect(struct client *cl, struct core *c, const char *path)
{
    struct error error = {0};
    struct slice subprotocol;
    const char *query = strchr(path, '?');
    struct http_request r = {.path = {path, query != NULL ? (size_t)(query - path) : strlen(path)},
                             .query = query != NULL ? slice_str(query + 1) : SLICE_NONE};
    if (client_ask(cl, c, r, &subprotocol, &error) != OK)
        fail_msg("upgrade: %s", error.text);
    if (cl->conn->engine != NULL)
        timer_start(&cl->conn->engine->patience, 0); /* the clock stands still */
}

void client_open(struct client *cl, struct core *c, const char *path)
{
    client_connect(cl, c, path);
    client_expect(cl, "\"welcome\"", cl->sid);
}

void client_send(struct client *cl, const char *text)
{
    static const unsigned char mask[4] = {0x12, 0x34, 0x56, 0x78};
    size_t n = strlen(text), at = 0;
    AUTO_FREE unsigned char *frame = xmalloc(n + 14);
    frame[at++] = 0x81;
    if (n < 126) {
        frame[at++] = (unsigned char)(0x80 | n);
    } else {
        assert_true(n < 65536);
        frame[at++] = 0x80 | 126;
        frame[at++] = (unsigned char)(n >> 8);
        frame[at++] = (unsigned char)n;
    }
    memcpy(frame + at, mask, 4);
    at += 4;
    for (size_t i = 0; i < n; i++)
        frame[at + i] = (unsigned char)text[i] ^ mask[i % 4];
    if (cl->conn != NULL)
        conn_input(cl->conn, (char *)frame, at + n);
}

int client_next(struct client *cl, struct slice *ret_payload)
{
    static char payload[70000];
    const unsigned char *p = (const unsigned char *)cl->raw.p;
    size_t head = 2;
    if (cl->raw.n < 2)
        return -1;
    size_t n = p[1];
    assert_true(n <= 126); /* unmasked, and no test needs more than 64 KB */
    if (n == 126) {
        if (cl->raw.n < 4)
            return -1;
        n = (size_t)p[2] << 8 | p[3];
        head = 4;
    }
    if (cl->raw.n < head + n)
        return -1;
    int opcode = p[0];
    memcpy(payload, p + head, n);
    payload[n] = '\0';
    *ret_payload = (struct slice){payload, n};
    buf_consume(&cl->raw, head + n);
    return opcode & 0x0f;
}

void client_expect_(struct client *cl, const char *where, ...)
{
    struct slice payload;
    loop_fake_run(&cl->core->loop);
    if (client_next(cl, &payload) < 0)
        fail_msg("%s: nothing arrived", where);
    va_list ap;
    va_start(ap, where);
    for (const char *want = va_arg(ap, const char *); want != NULL; want = va_arg(ap, const char *))
        if (memmem(payload.p, payload.n, want, strlen(want)) == NULL)
            fail_msg("%s: no `%s` in `%s`", where, want, payload.p);
    va_end(ap);
}

void client_expect_nothing(struct client *cl)
{
    struct slice payload;
    loop_fake_run(&cl->core->loop);
    if (client_next(cl, &payload) >= 0)
        fail_msg("unexpected: `%s`", payload.p);
}

void client_take(struct client *cl, size_t window)
{
    cl->window = window;
    if (cl->conn != NULL)
        conn_writable(cl->conn);
}

void client_vanish(struct client *cl)
{
    struct conn *c = TAKE(cl->conn);
    buf_fini(&cl->raw);
    if (c != NULL)
        conn_gone(c, "peer");
}

/* --- the lobby --- */

void lobby_join(struct client *cl)
{
    client_send(cl, "{\"type\":\"join\",\"id\":1,\"room\":\"lobby\"}");
    client_expect(cl, "\"type\":\"ack\"", "\"id\":1", "\"room\":\"lobby\"");
}

void lobby_say(struct client *cl, int i)
{
    char frame[100];
    (void)snprintf(frame, sizeof frame, "{\"type\":\"publish\",\"room\":\"lobby\",\"data\":%d}", i);
    client_send(cl, frame);
    loop_fake_run(&cl->core->loop);
}

void lobby_expect(struct client *cl, int from, int to)
{
    char data[32], offset[32];
    for (int i = from; i <= to; i++) {
        (void)snprintf(data, sizeof data, "\"data\":%d}", i);
        (void)snprintf(offset, sizeof offset, "\"position\":\"%d.", i);
        client_expect(cl, "\"message\"", data, offset);
    }
}

void lobby_open_pair(struct core *c, struct client *cl, const char *const *args)
{
    core_init(c, args);
    client_open(&cl[0], c, "/ws/alice");
    client_open(&cl[1], c, "/ws/bob");
    lobby_join(&cl[0]);
    lobby_join(&cl[1]);
    client_expect(&cl[0], "\"enter\"", cl[1].sid, "\"total\":2");
}

const char *position_text(const struct position *p, char ret[POSITION_MAX + 1])
{
    struct buf b = BUF_INIT;
    position_append(&b, p);
    memcpy(ret, b.p, b.n);
    ret[b.n] = '\0';
    buf_fini(&b);
    return ret;
}
