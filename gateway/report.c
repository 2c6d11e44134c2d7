/* gateway/report.c: what happens to sessions, on its way to the store's events. */
#include "gateway/report.h"

#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "gateway/conn.h"
#include "gateway/delivery.h"
#include "gateway/engine.h"
#include "gateway/gateway.h"
#include "gateway/grant.h"
#include "gateway/metrics.h"
#include "gateway/policy.h"
#include "gateway/room.h"
#include "gateway/session.h"
#include "gateway/tunnel.h"

#define FIELDS      14
#define ID_TAG      8
#define ID_MAX      128u
#define WAITING_MAX 256u /* of one session; its requests are bounded well below */
#define REFUSED_MAX 20u  /* how often the store may refuse one for other reasons than being away */

struct report {
    struct link link;
    struct session *session; /* a reference once it is queued */
    broker_done *done;
    void *arg;
    size_t count;
    struct event_field fields[FIELDS]; /* values point behind the struct, or to id and position */
    char id[ID_MAX];
    struct buf position;
    char bytes[];
};

static void send_first(struct reports *q);

/* --- the queue --- */

void report_free(struct report *r)
{
    if (r != NULL)
        buf_fini(&r->position);
    free(r);
}

void reports_free(struct reports *q)
{
    if (q != NULL)
        list_del(&q->in_gateway);
    free(q);
}

static void tell_done(struct report *r, const struct broker_result *result)
{
    broker_done *done = r->done;
    r->done = NULL;
    if (done != NULL)
        done(r->arg, result);
}

static void drop_first(struct reports *q)
{
    struct report *r = list_first(&q->queue, struct report, link);
    struct session *s = q->session;
    list_del(&r->link);
    q->failures = 0;
    if (--q->count == 0)
        list_del(&q->in_gateway);
    report_free(r);
    session_unref(s);
}

/* Nobody waits for an answer longer than for this one, although all will be told again. */
static void tell_all(struct reports *q, const struct broker_result *result)
{
    list_for_each (it, &q->queue) {
        tell_done(list_entry(it, struct report, link), result);
    }
}

static void on_appended(void *arg, const struct broker_result *result)
{
    struct reports *q = arg;
    struct session *s = q->session;
    struct gateway *g = s->gw;
    bool away = result->err == ERR_UNAVAILABLE || result->err == ERR_TIMEOUT;
    q->busy = false;
    session_ref(s); /* what is told may be the end of it */
    if (result->err == OK)
        tell_done(list_first(&q->queue, struct report, link), result);
    else
        tell_all(q, result);
    if (result->err != OK && !away && ++q->failures >= REFUSED_MAX) {
        LOG(ERROR, "the store does not take an event, dropping it", "session=%s why=%s", s->sid,
            log_q(slice_str(result->why)));
        metrics->events_dropped++;
        drop_first(q);
        if (s->tunnel != NULL)
            tunnel_reported(s);
    } else if (result->err == OK) {
        delivery_kick(g->delivery, s->sid);
        drop_first(q);
        if (s->tunnel != NULL)
            tunnel_reported(s);
    }
    if (g->broker == NULL) {
        /* reports_abandon() follows */
    } else if (result->err != OK) {
        gateway_retry_later(g);
    } else if (q->count != 0) {
        send_first(q);
    } else if (s->conn == NULL) {
        session_retry(s); /* it may go now */
    }
    session_unref(s);
}

static void send_first(struct reports *q)
{
    const struct report *r = list_first(&q->queue, struct report, link);
    struct broker *b = q->session->gw->broker;
    q->busy = true;
    b->ops->event(b,
                  &(struct event_record){.session = slice_str(q->session->sid), .fields = r->fields, .count = r->count},
                  on_appended, q);
}

static void enqueue(struct report *r)
{
    struct session *s = r->session;
    struct reports *q = s->reports;
    if (q == NULL || q->count >= WAITING_MAX) {
        metrics->events_dropped++;
        tell_done(r, &(struct broker_result){.err = ERR_UNAVAILABLE, .why = "too many events wait for the store"});
        report_free(r);
        return;
    }
    session_ref(s);
    list_append(&q->queue, &r->link);
    if (q->count++ == 0)
        list_append(&s->gw->reporting, &q->in_gateway);
    if (!q->busy && q->failures == 0 && q->count == 1)
        send_first(q);
}

void reports_retry(struct gateway *g)
{
    list_for_each (it, &g->reporting) {
        struct reports *q = list_entry(it, struct reports, in_gateway);
        if (!q->busy)
            send_first(q);
    }
}

void reports_abandon(struct gateway *g)
{
    while (!list_empty(&g->reporting)) {
        struct reports *q = list_first(&g->reporting, struct reports, in_gateway);
        struct session *s = q->session;
        session_ref(s);
        tell_all(q, &(struct broker_result){.err = ERR_UNAVAILABLE, .why = "this node is stopping"});
        while (q->count != 0)
            drop_first(q);
        session_unref(s);
    }
}

bool report_pending(const struct session *s)
{
    return s->reports != NULL && s->reports->count != 0;
}

/* --- what is reported --- */

static void put_field(struct report *r, const char *name, struct slice value)
{
    if (value.n != 0)
        r->fields[r->count++] = (struct event_field){slice_str(name), value};
}

/* `id` and `type` first: that is how people read them. Fields are copied. */
static struct report *report_new(struct session *s, const char *type, const struct event_field *fields, size_t count)
{
    size_t n = s->user.n;
    for (size_t i = 0; i < count; i++)
        n += fields[i].value.n;
    struct report *r = xcalloc(1, sizeof *r + n);
    char tag[ID_TAG + 1], *at = r->bytes;
    random_id(tag, ID_TAG);
    (void)snprintf(r->id, sizeof r->id, "%s.%s.%s", s->sid, type, tag);
    r->session = s;
    list_init(&r->link);
    put_field(r, "id", slice_str(r->id));
    put_field(r, "type", slice_str(type));
    put_field(r, "session", slice_str(s->sid));
    put_field(r, "user", slice_put(&at, s->user));
    put_field(r, "node", slice_str(s->gw->node));
    for (size_t i = 0; i < count; i++)
        put_field(r, fields[i].name.p, slice_put(&at, fields[i].value));
    return r;
}

static struct slice whose(const struct session *s)
{
    return s->tunnel != NULL ? slice_str(s->tunnel->whose) : SLICE_NONE;
}

/* The business server of a tunnel hears of it whether or not anybody else hears of anything. */
static bool reported(const struct session *s)
{
    return s->gw->reports_on || s->tunnel != NULL;
}

static void connect_report(struct session *s, bool again)
{
    const struct event_field fields[] = {
        {SLICE("protocol"), slice_str(s->conn->protocol->name)},
        {SLICE("namespace"), namespace_of(s)},
        {SLICE("ip"), slice_str(s->conn->ip)},
        {SLICE("agent"), slice_str(s->agent)},
        {SLICE("origin"), slice_str(s->origin)},
        {SLICE("attributes"), s->grant != NULL ? buf_slice(&s->grant->claims.attributes) : SLICE_NONE},
        {SLICE("reason"), again ? SLICE("restored") : SLICE_NONE},
        {SLICE("tunnel"), whose(s)},
    };
    enqueue(report_new(s, "connect", fields, ARRAY_LEN(fields)));
}

void report_begin(struct session *s)
{
    if (!reported(s) || s->reports != NULL)
        return;
    s->reports = xcalloc(1, sizeof *s->reports);
    s->reports->session = s;
    list_init(&s->reports->in_gateway);
    list_init(&s->reports->queue);
}

void report_connect(struct session *s)
{
    if (!reported(s) || s->reports != NULL || s->conn == NULL)
        return;
    report_begin(s);
    connect_report(s, false);
}

void report_connect_again(struct session *s)
{
    if (s->reports != NULL && s->conn != NULL)
        connect_report(s, true);
}

void report_tunnel_message(struct session *s, struct slice content)
{
    const struct event_field fields[] = {{SLICE("tunnel"), whose(s)}, {SLICE("content"), content}};
    enqueue(report_new(s, "message", fields, ARRAY_LEN(fields)));
}

static bool wanted(const struct session *s, const struct policy *policy, enum policy_event what)
{
    return s->reports != NULL && s->gw->reports_on && (policy->events & BIT(what)) != 0;
}

void report_join(struct member *m)
{
    if (!wanted(m->session, m->room->policy, POLICY_EVENT_JOIN))
        return;
    const struct event_field fields[] = {{SLICE("room"), m->room->name}};
    enqueue(report_new(m->session, "join", fields, ARRAY_LEN(fields)));
}

void report_leave(const struct member *m)
{
    if (!wanted(m->session, m->room->policy, POLICY_EVENT_LEAVE) || m->session->state == SESSION_ENDING)
        return; /* `disconnect` ends all memberships */
    const struct event_field fields[] = {{SLICE("room"), m->room->name},
                                         {SLICE("reason"), m->reason == EXIT_LEAVE ? SLICE("leave") : SLICE("kicked")}};
    enqueue(report_new(m->session, "leave", fields, ARRAY_LEN(fields)));
}

struct report *report_message_new(struct session *s, struct slice room, const struct command *c)
{
    if (s->reports == NULL || !wanted(s, policies_find(s->gw->policies, room), POLICY_EVENT_MESSAGE))
        return NULL;
    const struct event_field fields[] = {
        {SLICE("room"), room},    {SLICE("event"), c->event},
        {SLICE("key"), c->key},   {SLICE("data_type"), c->data_type == DATA_BINARY ? SLICE("binary") : SLICE_NONE},
        {SLICE("data"), c->data},
    };
    return report_new(s, "message", fields, ARRAY_LEN(fields));
}

/* The id is made of the position: whoever repeats the publish with its key, through whichever node, makes the same event of it. */
void report_message(struct report *r, const struct position *position, broker_done *done, void *arg)
{
    position_append(&r->position, position);
    (void)snprintf(r->id, sizeof r->id, "%s.message.%.*s", r->session->sid, SLICE_FMT(buf_slice(&r->position)));
    r->fields[0].value = slice_str(r->id);
    put_field(r, "position", buf_slice(&r->position));
    r->done = done;
    r->arg = arg;
    enqueue(r);
}

/* --- the end --- */

void report_reason(struct session *s, struct slice reason)
{
    if (s->reports != NULL && s->reports->reason[0] == '\0')
        (void)snprintf(s->reports->reason, sizeof s->reports->reason, "%.*s", SLICE_FMT(reason));
}

struct slice report_end(const struct session *s)
{
    if (s->reports == NULL)
        return SLICE_NONE;
    return s->reports->reason[0] != '\0' ? slice_str(s->reports->reason) : SLICE("closed");
}
