/* gateway/acks.c: emissions that came from some node, and what clients answer to them. */
#include "gateway/acks.h"

#include <stdio.h>

#include "base/base64.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/utf8.h"
#include "gateway/broadcast.h"
#include "gateway/emit.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "gateway/session.h"
#include "proto/json.h"

#define ASKED_MAX     10000u     /* clients of this node that one emission may wait for … */
#define ASKED_MAX_ALL 100000u    /* … and all together */
#define ANSWERS_MAX   (1u << 20) /* bytes of what they answer to one */

/* A client that has been asked. */
struct asked {
    UT_hash_handle hh; /* by sid */
    bool answered;
    char sid[SID_LEN + 1];
};

struct acks {
    UT_hash_handle hh; /* gateway->acks, by id */
    struct gateway *gw;
    uint64_t id; /* what clients are asked for; of this node */
    struct timer timer;
    struct asked *asked;
    size_t waiting, uncounted; /* uncounted: were asked, and will not be waited for */
    struct buf answers;
    size_t name_n, node_n;
    char names[]; /* of the emission, of the node that has asked */
};

/* --- the end --- */

static void put_missing(const struct acks *a, struct buf *ret)
{
    bool first = true;
    for (const struct asked *m = a->asked; m != NULL; m = m->hh.next) {
        if (m->answered)
            continue;
        buf_append_str(ret, first ? "\"" : ",\"");
        buf_append_str(ret, m->sid);
        buf_append_char(ret, '"');
        first = false;
    }
}

static void acks_free(struct acks *a)
{
    struct asked *m, *next;
    timer_stop(&a->timer);
    a->gw->asked -= HASH_COUNT(a->asked);
    HASH_ITER (hh, a->asked, m, next) {
        HASH_DELETE(hh, a->asked, m);
        free(m);
    }
    HASH_DELETE(hh, a->gw->acks, a);
    buf_fini(&a->answers);
    free(a);
}

static void finish(struct acks *a)
{
    struct gateway *g = a->gw;
    struct buf data = BUF_INIT;
    buf_append_str(&data, "{\"acks\":[");
    buf_append(&data, buf_slice(&a->answers));
    buf_append_str(&data, "],\"missing\":[");
    put_missing(a, &data);
    buf_printf(&data, "],\"uncounted\":%zu}", a->uncounted);
    if (g->broker != NULL)
        g->broker->ops->control_answer(g->broker, &(struct control_message){.sid = {a->names, a->name_n},
                                                                            .node = {a->names + a->name_n, a->node_n},
                                                                            .verb = SLICE(BROADCAST_ANSWER),
                                                                            .data = buf_slice(&data)});
    buf_fini(&data);
    acks_free(a);
}

static void on_timer(struct timer *t)
{
    struct acks *a = container_of(t, struct acks, timer);
    metrics->acks_missed += a->waiting;
    finish(a);
}

void acks_fini(struct gateway *g)
{
    while (g->acks != NULL)
        acks_free(g->acks);
}

/* --- asking --- */

void acks_expect(struct acks *a, const struct session *s)
{
    struct gateway *g = a->gw;
    if (a->waiting >= ASKED_MAX || g->asked >= ASKED_MAX_ALL) {
        a->uncounted++;
        return;
    }
    struct asked *m = xcalloc(1, sizeof *m);
    memcpy(m->sid, s->sid, sizeof m->sid);
    HASH_ADD_KEYPTR(hh, a->asked, m->sid, strlen(m->sid), m);
    a->waiting++;
    g->asked++;
    metrics->acks_asked++;
}

static struct acks *acks_create(struct gateway *g, const struct envelope *e)
{
    struct acks *a = xcalloc(1, sizeof *a + e->from.n + e->node.n);
    a->gw = g;
    a->id = ++g->last_acks;
    a->name_n = e->from.n;
    a->node_n = e->node.n;
    memcpy(a->names, e->from.p, e->from.n);
    if (e->node.n != 0)
        memcpy(a->names + e->from.n, e->node.p, e->node.n);
    timer_init(&a->timer, g->loop, on_timer);
    HASH_ADD(hh, g->acks, id, sizeof a->id, a);
    return a;
}

void acks_envelope(struct gateway *g, const struct envelope *e)
{
    struct emission emission;
    struct error error = {0};
    struct arena arena;
    arena_init(&arena, EMISSION_ARENA(e->data.n));
    if (emission_read_json(e->data, &arena, &emission, &error) != OK) {
        LOG_PEER(WARN, "an emission is not readable", "node=%s code=%s why=%s", log_q(e->node), err_name(error.code),
                 error.text);
    } else if (!e->again) {
        emit_here(g, &emission, NULL, 0);
    } else {
        struct acks *a = acks_create(g, e);
        emit_here(g, &emission, emission.ack ? a : NULL, a->id);
        if (a->waiting == 0)
            finish(a);
        else
            timer_start(&a->timer, emission.timeout_ms);
    }
    arena_reset(&arena);
}

/* --- what they answer --- */

static void put_answer(struct acks *a, const struct asked *m, const struct sio_packet *p)
{
    struct buf *b = &a->answers;
    struct command c = {0};
    struct error error;
    struct arena arena;
    size_t size = p->payload.n;
    for (uint32_t i = 0; i < p->attachment_count; i++)
        size += p->attachments[i].n;
    arena_init(&arena, 4 * size + 256);
    buf_printf(b, "%s{\"session\":\"%s\"", b->n != 0 ? "," : "", m->sid);
    if (sio_data_from_arguments(p, p->payload, 0, &arena, &c, &error) != OK || b->n + 2 * c.data.n > ANSWERS_MAX) {
        buf_append_str(b, ",\"dropped\":true}");
    } else if (c.data_type == DATA_JSON) {
        buf_append_str(b, ",\"data\":");
        buf_append(b, c.data);
        buf_append_char(b, '}');
    } else {
        buf_append_str(b, ",\"data_base64\":\"");
        (void)base64_put(c.data, buf_reserve(b, base64_letters(c.data.n)));
        b->n += base64_letters(c.data.n);
        buf_append_str(b, "\"}");
    }
    arena_reset(&arena);
}

bool acks_take(struct session *s, const struct sio_packet *p)
{
    struct acks *a;
    struct asked *m;
    uint64_t id;
    if (!text_u64(p->id, UINT64_MAX / 16, &id))
        return false;
    HASH_FIND(hh, s->gw->acks, &id, sizeof id, a);
    if (a == NULL)
        return false;
    HASH_FIND(hh, a->asked, s->sid, strlen(s->sid), m);
    if (m == NULL || m->answered)
        return false;
    m->answered = true;
    metrics->acks_received++;
    put_answer(a, m, p);
    if (--a->waiting == 0)
        finish(a);
    return true;
}
