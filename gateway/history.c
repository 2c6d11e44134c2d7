/* gateway/history.c: the past of a room, page by page, for whoever may hear its present. */
#include "gateway/history.h"

#include "base/mem.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/grant.h"
#include "gateway/message.h"
#include "gateway/request.h"
#include "gateway/room.h"
#include "gateway/session.h"

/* One request: the head is asked for first when the page is counted from the end. */
struct history {
    struct request *request;
    uint32_t limit;
    uint64_t before; /* exclusive; OFFSET_MAX: none */
    uint64_t known;  /* an offset that the room has reached */
};

static void on_messages(void *arg, const struct broker_result *r)
{
    struct history *h = arg;
    struct request *request = TAKE(h->request);
    uint64_t before = h->before;
    free(h);
    if (request_failed(&request, r))
        return;
    const struct position *last = NULL;
    for (size_t i = 0; i < r->count && r->messages[i].position.offset < before; i++) {
        struct event event = message_logged(request->room, &r->messages[i]);
        event.id = request->id;
        last = event.position;
        conn_event(request->session->conn, &event);
    }
    request_event(&request, &(struct event){.kind = EVENT_ACK,
                                            .room = request->room,
                                            .position = last,
                                            .has_more = true,
                                            .more = r->more && before == OFFSET_MAX});
}

static void read_after(struct history *h, uint64_t after)
{
    struct gateway *g = h->request->session->gw;
    struct log_page page = {.room = h->request->room,
                            .after = after,
                            .limit = h->limit,
                            .may_lag = true,
                            .at_least = room_delivered(g, h->request->room)};
    /* What the client has seen, or what the primary has just said, must be there too. */
    if (h->known > page.at_least)
        page.at_least = h->known;
    g->broker->ops->history(g->broker, &page, on_messages, h);
}

/* The last `limit` messages before an offset: offsets have no holes, so that is where to begin. */
static void read_before(struct history *h, uint64_t before)
{
    read_after(h, before > h->limit + 1 ? before - h->limit - 1 : 0);
}

static void on_head(void *arg, const struct broker_result *r)
{
    struct history *h = arg;
    if (request_failed(&h->request, r)) {
        free(h);
        return;
    }
    h->known = r->position.offset;
    read_before(h, r->position.offset + 1);
}

enum err history_run(struct session *s, const struct command *c, struct error *reterr)
{
    struct gateway *g = s->gw;
    const struct policy *policy = policies_find(g->policies, c->room);
    const struct member *m = session_member(s, c->room);
    if (m == NULL && grant_join(s, c->room, policy, reterr) != OK)
        return reterr->code;
    if (policy->retain_count == 0)
        return fail(reterr, ERR_UNSUPPORTED, "policy %s retains no messages", policy->pattern);
    if (c->has_after && c->has_before)
        return fail(reterr, ERR_BAD_REQUEST, "history takes \"after\" or \"before\", not both");
    struct history *h = xcalloc(1, sizeof *h);
    h->request = request_create(s, c);
    h->limit = c->limit;
    h->before = c->has_before ? c->before : OFFSET_MAX;
    h->known = c->has_after ? c->after : c->has_before && c->before != 0 ? c->before - 1 : 0;
    if (c->has_after)
        read_after(h, c->after);
    else if (c->has_before)
        read_before(h, c->before);
    else
        g->broker->ops->presence(g->broker, c->room, SLICE_NONE, 1, on_head, h);
    return OK;
}
