/* gateway/api_history.c: the log of a room over HTTP, page by page in both directions. */
#include "base/mem.h"
#include "base/text.h"
#include "base/utf8.h"
#include "gateway/api.h"
#include "gateway/api_routes.h"
#include "gateway/door.h"
#include "gateway/event_json.h"
#include "gateway/gateway.h"
#include "gateway/grant.h"
#include "gateway/protocol/protocol.h"
#include "gateway/room.h"
#include "gateway/uri.h"
#include "proto/json.h"

#define CHUNK     100u /* messages of one read: what the store must have in hand at once */
#define READS_MAX 64u  /* pages under way on this node; each holds up to max-queue-bytes */

/* A page under way. Offsets have no holes, so going backwards is reading forwards from far enough below. */
struct reading {
    struct gateway *gw;
    struct http_exchange *x;
    bool backward;
    bool more;               /* there is more in the direction of reading */
    uint32_t limit;          /* messages at most */
    uint64_t asked, edge;    /* exclusive: `after`, or `before`; edge moves as chunks are taken */
    uint64_t base;           /* `after` of the chunk under way */
    bool extra;              /* backward: its first message only tells that there is more */
    uint64_t newest, oldest; /* offsets of what was taken */
    struct position head;
    uint64_t known; /* an offset that the room has reached: the reader or an earlier answer said so */
    uint32_t count;
    struct buf *messages; /* JSON, in the order of reading */
    size_t bytes;
    size_t room_n;
    char room[NAME_MAX_ROOM];
};

/* --- one message --- */

static void put_member(struct buf *b, const char *label, struct slice text)
{
    if (text.n == 0)
        return;
    buf_append_str(b, label);
    json_quote(b, text);
}

static void put_position(struct buf *b, const struct position *p)
{
    buf_append_char(b, '"');
    position_append(b, p);
    buf_append_char(b, '"');
}

/* Whoever may write to the store may have written anything there; it must not break the answer. */
static bool names_valid(const struct message_record *m)
{
    return utf8_valid(m->event) && utf8_valid(m->from) && utf8_valid(m->user);
}

static bool is_json(const struct message_record *m)
{
    struct error ignored;
    return m->data_type == DATA_JSON && utf8_valid(m->data) && json_check(m->data, &ignored) == OK;
}

static void put_message(struct buf *b, const struct message_record *m)
{
    buf_append_str(b, "{\"position\":");
    put_position(b, &m->position);
    put_member(b, ",\"event\":", m->event);
    if (m->from.n != 0) {
        put_member(b, ",\"from\":{\"session\":", m->from);
        put_member(b, ",\"user\":", m->user);
        buf_append_str(b, "},\"time\":");
    } else {
        buf_append_str(b, ",\"from\":null,\"time\":");
    }
    buf_append_u64(b, m->time_ms);
    if (is_json(m)) {
        buf_append_str(b, ",\"data\":");
        buf_append(b, m->data);
        buf_append_char(b, '}');
    } else {
        buf_append_str(b, ",\"data_base64\":");
        json_base64(b, m->data);
        buf_append_char(b, '}');
    }
}

/* --- the end --- */

static void reading_free(struct reading *r)
{
    r->gw->api_reads--;
    for (uint32_t i = 0; i < r->count; i++)
        buf_fini(&r->messages[i]);
    free(r->messages);
    free(r);
}

static void failed(struct reading *r, enum err err, const char *text)
{
    api_fail(r->x, err, text);
    reading_free(r);
}

/* `before` of the page before this one; 0: nothing older is kept. */
static uint64_t previous_page(const struct reading *r)
{
    if (r->backward)
        return r->more ? r->oldest : 0;
    if (r->asked == 0 || (r->count != 0 && r->oldest > r->asked + 1))
        return 0; /* from the beginning on, or what came before is gone */
    return r->asked + 1;
}

/* `after` of the page after this one; it may still be empty. */
static uint64_t next_page(const struct reading *r)
{
    if (r->count != 0)
        return r->newest;
    if (r->backward)
        return r->asked != 0 ? r->asked - 1 : 0;
    return r->asked;
}

static void put_messages(struct buf *b, const struct reading *r)
{
    for (uint32_t i = 0; i < r->count; i++) {
        if (i != 0)
            buf_append_char(b, ',');
        buf_append(b, buf_slice(&r->messages[r->backward ? r->count - 1 - i : i]));
    }
}

static void respond(struct reading *r)
{
    struct buf body = BUF_INIT;
    uint64_t previous = previous_page(r);
    (void)buf_reserve(&body, r->bytes + r->room_n + 512);
    put_member(&body, "{\"room\":", (struct slice){r->room, r->room_n});
    buf_append_str(&body, ",\"position\":");
    if (r->head.offset != 0)
        put_position(&body, &r->head);
    else
        buf_append_str(&body, "null");
    buf_append_str(&body, ",\"messages\":[");
    put_messages(&body, r);
    buf_append_str(&body, r->more ? "],\"more\":true,\"previous\":" : "],\"more\":false,\"previous\":");
    if (previous != 0)
        buf_append_u64(&body, previous);
    else
        buf_append_str(&body, "null");
    buf_append_str(&body, ",\"next\":");
    buf_append_u64(&body, next_page(r));
    buf_append_char(&body, '}');
    r->x->respond(r->x, &(struct http_response){.status = 200, .body = buf_slice(&body)});
    buf_fini(&body);
    reading_free(r);
}

/* --- reading --- */

/* False when the answer is full: as long as what may wait for any client, but for a first message that is longer than that. */
static bool take(struct reading *r, const struct message_record *m)
{
    struct buf one = BUF_INIT;
    put_message(&one, m);
    if (r->count == r->limit || (r->count != 0 && r->bytes + one.n > r->gw->cfg->max_queue_bytes)) {
        buf_fini(&one);
        return false;
    }
    r->messages[r->count++] = one;
    r->bytes += one.n + 1;
    if (r->count == 1 || m->position.offset > r->newest)
        r->newest = m->position.offset;
    if (r->count == 1 || m->position.offset < r->oldest)
        r->oldest = m->position.offset;
    return true;
}

/* Both: true when another chunk is to be read. */
static bool take_after(struct reading *r, const struct broker_result *result)
{
    r->more = result->more;
    for (size_t i = 0; i < result->count; i++) {
        const struct message_record *m = &result->messages[i];
        if (names_valid(m) && !take(r, m)) {
            r->more = true;
            return false;
        }
        r->edge = m->position.offset;
    }
    return r->more && r->count < r->limit && r->edge > r->base;
}

static bool take_before(struct reading *r, const struct broker_result *result)
{
    r->more = false;
    for (size_t i = result->count; i > 0; i--) {
        const struct message_record *m = &result->messages[i - 1];
        if (m->position.offset >= r->edge)
            continue; /* the log begins later than the chunk */
        if (r->extra && m->position.offset == r->base + 1) {
            r->more = true;
            break;
        }
        if (names_valid(m) && !take(r, m)) {
            r->more = true;
            return false;
        }
    }
    r->edge = r->base + 2;
    return r->more && r->count < r->limit;
}

static void read_chunk(struct reading *r);

static void on_chunk(void *arg, const struct broker_result *result)
{
    struct reading *r = arg;
    if (result->err != OK) {
        failed(r, result->err, "the store did not answer");
        return;
    }
    r->head = result->position;
    if (r->head.offset > r->known)
        r->known = r->head.offset;
    if (r->backward ? take_before(r, result) : take_after(r, result))
        read_chunk(r);
    else
        respond(r);
}

static void read_chunk(struct reading *r)
{
    struct broker *b = r->gw->broker;
    uint32_t n = r->limit - r->count < CHUNK ? r->limit - r->count : CHUNK;
    r->base = r->edge;
    if (r->backward) {
        n++;
        r->extra = r->edge > n;
        r->base = r->extra ? r->edge - n - 1 : 0;
    }
    struct log_page page = {
        .room = {r->room, r->room_n}, .after = r->base, .limit = n, .may_lag = true, .at_least = r->known};
    uint64_t delivered = room_delivered(r->gw, page.room);
    if (delivered > page.at_least)
        page.at_least = delivered;
    b->ops->history(b, &page, on_chunk, r);
}

static void on_head(void *arg, const struct broker_result *result)
{
    struct reading *r = arg;
    if (result->err != OK) {
        failed(r, result->err, "the store did not answer");
        return;
    }
    r->known = result->position.offset;
    r->asked = r->edge = result->position.offset + 1;
    read_chunk(r);
}

/* --- the request --- */

/* Unless the policy says otherwise, the history is shown to who could read it by connecting: as anybody, or with the token of the request. A key is for the rooms it
 * names. */
static enum err check_reader(struct api_call *c, const struct http_request *request, struct slice room,
                             const struct policy *p, struct error *reterr)
{
    bool open, may = p->public_history == HISTORY_ON;
    struct auth_claims claims = {0};
    if (c->key != NULL)
        return api_may_room(c, room, reterr);
    if (p->public_history == HISTORY_DEFAULT) {
        enum err err = door_http(c->gw, request, &open, &claims, reterr);
        if (err != OK)
            return err;
        if (!open)
            api_admit(c, &claims, request->ip);
        may = p->join == WHO_ANYONE || (p->join == WHO_TOKEN && !open && grant_names(&claims, room));
        auth_claims_fini(&claims);
    }
    return may ? OK
               : fail(reterr, ERR_FORBIDDEN,
                      "policy does not show you the history of this room over HTTP (public-history)");
}

static enum err check_room(struct api_call *c, const struct http_request *request, struct slice room,
                           struct error *reterr)
{
    const struct gateway *g = c->gw;
    const struct policy *p = policies_find(g->policies, room);
    if (check_reader(c, request, room, p, reterr) != OK)
        return reterr->code;
    if (p->retain_count == 0)
        return fail(reterr, ERR_UNSUPPORTED, "policy retains no messages of this room");
    if (g->api_reads > READS_MAX)
        return fail(reterr, ERR_RATE_LIMITED, "%u histories are being read on this node already", READS_MAX);
    return OK;
}

static enum err parse_offset(struct slice query, const char *name, bool *ret_found, uint64_t *ret, struct error *reterr)
{
    struct slice value = uri_query(query, name, ret_found);
    if (*ret_found && !text_u64(value, OFFSET_MAX, ret))
        return fail(reterr, ERR_BAD_REQUEST, "%s must be an offset: a number from 0 to %llu", name, OFFSET_MAX);
    return OK;
}

static enum err parse(struct slice query, struct reading *r, bool *ret_newest, struct error *reterr)
{
    bool after, before;
    if (api_limit(query, &r->limit, reterr) != OK || parse_offset(query, "after", &after, &r->asked, reterr) != OK ||
        parse_offset(query, "before", &before, &r->asked, reterr) != OK)
        return reterr->code;
    if (after && before)
        return fail(reterr, ERR_BAD_REQUEST, "history takes after or before, not both");
    r->backward = !after;
    r->edge = r->asked;
    r->known = r->backward && r->asked != 0 ? r->asked - 1 : r->asked;
    *ret_newest = !after && !before;
    return OK;
}

void api_get_history(struct api_call *c, const struct http_request *request)
{
    struct gateway *g = c->gw;
    struct error error;
    struct slice room;
    bool newest = false;
    struct reading *r = xcalloc(1, sizeof *r);
    r->gw = g;
    r->x = &c->base;
    g->api_reads++;
    if (api_room(c->params[0], r->room, &room, &error) != OK || parse(request->query, r, &newest, &error) != OK ||
        check_room(c, request, room, &error) != OK) {
        failed(r, error.code, error.text);
        return;
    }
    r->room_n = room.n;
    r->messages = xcalloc(r->limit, sizeof *r->messages);
    if (newest)
        g->broker->ops->presence(g->broker, room, SLICE_NONE, 1, on_head, r);
    else
        read_chunk(r);
}
