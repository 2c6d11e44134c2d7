/* gateway/protocol/socketio_encode.c: what Socket.IO clients are told: messages as events, answers as acks, everything else as events whose names begin with $. */
#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/protocol/frame.h"
#include "gateway/protocol/native.h"
#include "gateway/protocol/socketio.h"
#include "gateway/protocol/socketio_offset.h"

#define FRAME_ROOM 320 /* what a packet needs around its data; only a hint */

#define APPEND(b, literal) buf_append((b), SLICE(literal))

/* --- heads --- */

static void put_namespace(struct buf *b, struct slice nsp)
{
    if (slice_eq(nsp, SLICE("/")))
        return;
    buf_append(b, nsp);
    APPEND(b, ",");
}

static void put_head(struct buf *b, enum sio_type type, uint32_t attachment_count, struct slice nsp)
{
    const char head[2] = {'0' + (char)EIO_MESSAGE, (char)('0' + (char)type)};
    buf_append(b, (struct slice){head, 2});
    if (type == SIO_BINARY_EVENT || type == SIO_BINARY_ACK) {
        buf_append_u64(b, attachment_count);
        APPEND(b, "-");
    }
    put_namespace(b, nsp);
}

static void put_attachment(struct buf *b, enum eio_revision revision, struct slice bytes)
{
    struct frame f = frame_begin(b, bytes.n + 1);
    if (revision == EIO_3)
        buf_append_char(b, (char)EIO_MESSAGE);
    buf_append(b, bytes);
    frame_end(b, f, WS_BINARY);
}

/* --- messages --- */

static void put_name(struct buf *b, enum eio_revision revision, struct slice name)
{
    if (name.n == 0)
        name = SLICE("message");
    if (!sio_reserved(revision, name)) {
        json_quote(b, name);
        return;
    }
    APPEND(b, "\"$"); /* no reserved name needs escaping */
    buf_append(b, name);
    APPEND(b, "\"");
}

/* The last argument of an event, which the client's library keeps. */
static void put_offset(struct buf *b, const struct event *e)
{
    APPEND(b, ",\"");
    if (e->position != NULL && !slice_starts(e->room, SLICE("$session:")))
        sio_offset_append(b, e->room, e->position);
    buf_append(b, e->trail);
    APPEND(b, "\"");
}

/* The data is the arguments: of an event, behind its name, or, when a backend answers to one, of its ack. */
static void encode_arguments(const struct sio_protocol *p, const struct event *e, bool ack, struct buf *b)
{
    struct arena arena;
    struct sio_arguments args;
    arena_init(&arena, 2 * e->data.n + 256);
    sio_arguments_from_data(e->data, e->data_type, &arena, &args);
    bool binary = args.attachment_count != 0;
    struct frame f = frame_begin(b, FRAME_ROOM + args.text.n);
    put_head(b,
             ack      ? binary ? SIO_BINARY_ACK : SIO_ACK
             : binary ? SIO_BINARY_EVENT
                      : SIO_EVENT,
             args.attachment_count, p->nsp);
    buf_append(b, e->id); /* of an event: empty, unless it asks for an ack */
    APPEND(b, "[");
    if (!ack)
        put_name(b, p->revision, e->name);
    if (!ack && args.text.n != 0)
        APPEND(b, ",");
    buf_append(b, args.text);
    if (!ack && p->recovers && e->id.n == 0)
        put_offset(b, e);
    APPEND(b, "]");
    frame_end(b, f, WS_TEXT);
    for (uint32_t i = 0; i < args.attachment_count; i++)
        put_attachment(b, p->revision, args.attachments[i]);
    arena_reset(&arena);
}

/* One of a history, told of with everything there is to know. */
static void encode_past_message(const struct sio_protocol *p, const struct event *e, struct buf *b)
{
    struct event past = *e;
    bool binary = e->data_type == DATA_BINARY;
    past.id = SLICE_NONE;
    if (binary) {
        past.data = SLICE("{\"_placeholder\":true,\"num\":0}");
        past.data_type = DATA_JSON;
    }
    struct frame f = frame_begin(b, FRAME_ROOM + past.data.n);
    put_head(b, binary ? SIO_BINARY_EVENT : SIO_EVENT, 1, p->nsp);
    APPEND(b, "[\"$history\",");
    native_encode_json(&past, b);
    APPEND(b, "]");
    frame_end(b, f, WS_TEXT);
    if (binary)
        put_attachment(b, p->revision, e->data);
}

/* --- answers and news --- */

static void put_body(struct buf *b, const struct event *e)
{
    struct event body = *e;
    body.id = SLICE_NONE;
    native_encode_json(&body, b);
    APPEND(b, "]");
}

static void encode_answer(const struct sio_protocol *p, const struct event *e, struct buf *b)
{
    struct frame f = frame_begin(b, FRAME_ROOM);
    put_head(b, SIO_ACK, 0, p->nsp);
    buf_append(b, e->id);
    APPEND(b, "[");
    put_body(b, e);
    frame_end(b, f, WS_TEXT);
}

static void encode_news(const struct sio_protocol *p, const struct event *e, struct slice name, struct buf *b)
{
    struct frame f = frame_begin(b, FRAME_ROOM);
    put_head(b, SIO_EVENT, 0, p->nsp);
    APPEND(b, "[\"$");
    buf_append(b, name);
    APPEND(b, "\",");
    put_body(b, e);
    frame_end(b, f, WS_TEXT);
}

/* --- the life of a namespace --- */

static void encode_welcome(const struct sio_protocol *p, const struct event *e, struct buf *b)
{
    struct frame f = frame_begin(b, FRAME_ROOM);
    put_head(b, SIO_CONNECT, 0, p->nsp);
    if (p->revision == EIO_4) {
        APPEND(b, "{\"sid\":\"");
        buf_append(b, e->sid);
        if (p->recovers) {
            APPEND(b, "\",\"pid\":\"");
            buf_append(b, e->sid);
            buf_append(b, e->token);
            buf_append(b, e->trail);
        }
        APPEND(b, "\"}");
    }
    frame_end(b, f, WS_TEXT);
}

void sio_refusal_append(struct buf *ret, enum eio_revision revision, struct slice nsp, const struct event *e)
{
    struct slice text = e->text;
    while (text.n != 0 && !utf8_valid(text)) /* sentences have a fixed size: the last character may be cut */
        text.n--;
    struct frame f = frame_begin(ret, FRAME_ROOM);
    put_head(ret, SIO_CONNECT_ERROR, 0, nsp);
    if (revision == EIO_4) {
        APPEND(ret, "{\"message\":");
        json_quote(ret, text);
        APPEND(ret, ",\"data\":");
        struct event data = *e;
        data.id = SLICE_NONE;
        native_encode_json(&data, ret);
        APPEND(ret, "}");
    } else {
        json_quote(ret, text);
    }
    frame_end(ret, f, WS_TEXT);
}

void sio_unknown_namespace_append(struct buf *ret, enum eio_revision revision, struct slice nsp)
{
    struct frame f = frame_begin(ret, FRAME_ROOM);
    put_head(ret, SIO_CONNECT_ERROR, 0, nsp);
    buf_append(ret, revision == EIO_4 ? SLICE("{\"message\":\"Invalid namespace\"}") : SLICE("\"Invalid namespace\""));
    frame_end(ret, f, WS_TEXT);
}

void sio_offset_event_append(struct buf *ret, struct slice nsp, struct slice offset)
{
    struct frame f = frame_begin(ret, FRAME_ROOM + offset.n);
    put_head(ret, SIO_EVENT, 0, nsp);
    APPEND(ret, "[\"$offset\",\"");
    buf_append(ret, offset);
    APPEND(ret, "\"]");
    frame_end(ret, f, WS_TEXT);
}

void sio_disconnect_append(struct buf *ret, struct slice nsp)
{
    struct frame f = frame_begin(ret, FRAME_ROOM);
    put_head(ret, SIO_DISCONNECT, 0, nsp);
    frame_end(ret, f, WS_TEXT);
}

static void encode(const struct protocol_ops *self, const struct event *e, struct buf *ret)
{
    static const char *const news[EVENTS] = {
        [EVENT_ENTER] = "enter",       [EVENT_EXIT] = "exit",       [EVENT_SUSPEND] = "suspend",
        [EVENT_ERROR] = "error",       [EVENT_GOODBYE] = "goodbye", [EVENT_RECOVERED] = "recovered",
        [EVENT_JOINED] = "joined",     [EVENT_LEFT] = "left",       [EVENT_STATUS] = "status",
        [EVENT_WATCHING] = "watching", [EVENT_READ] = "read",       [EVENT_TOKEN] = "token",
        [EVENT_EXPIRING] = "expiring",
    };
    const struct sio_protocol *p = (const struct sio_protocol *)(const void *)self;
    if (e->before_welcome) {
        if (e->kind == EVENT_ERROR)
            sio_refusal_append(ret, p->revision, p->nsp, e);
    } else if (e->kind == EVENT_WELCOME) {
        encode_welcome(p, e, ret);
    } else if (e->kind == EVENT_MESSAGE && e->id.n != 0 && !e->asks) {
        encode_past_message(p, e, ret);
    } else if (e->kind == EVENT_MESSAGE) {
        encode_arguments(p, e, false, ret);
    } else if (e->kind == EVENT_ACK && e->id.n != 0 && e->data.n != 0) {
        encode_arguments(p, e, true, ret);
    } else if (e->id.n != 0) {
        encode_answer(p, e, ret);
    } else if (news[e->kind] != NULL) {
        encode_news(p, e, slice_str(news[e->kind]), ret);
    }
}

const struct sio_protocol *sio_protocol_of(const struct protocol_ops *ops)
{
    return ops->encode == encode ? (const struct sio_protocol *)(const void *)ops : NULL;
}

struct sio_protocol *sio_protocol_create(enum eio_revision revision, struct slice nsp, bool recovers)
{
    struct sio_protocol *p = xcalloc(1, sizeof *p + nsp.n);
    char *copy = (char *)(p + 1);
    memcpy(copy, nsp.p, nsp.n);
    p->ops = (struct protocol_ops){.name = revision == EIO_4 ? "socketio.v5" : "socketio.v4", .encode = encode};
    p->revision = revision;
    p->recovers = recovers;
    p->nsp = (struct slice){copy, nsp.n};
    return p;
}
