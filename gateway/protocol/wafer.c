/* gateway/protocol/wafer.c: the packets of tunnels. */
#include "gateway/protocol/wafer.h"

#include <stdio.h>

#include "base/base64.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/protocol/frame.h"
#include "proto/json.h"

#define APPEND(b, literal) buf_append((b), SLICE(literal))
#define ENVELOPE           64 /* what a message needs around its event and data; only a hint */

/* --- from the client --- */

void wafer_read(struct slice text, struct wafer_packet *ret)
{
    static const char *const types[] = {
        [WAFER_MESSAGE] = "message", [WAFER_PING] = "ping", [WAFER_PONG] = "pong", [WAFER_CLOSE] = "close"};
    const char *colon = text.n != 0 ? memchr(text.p, ':', text.n) : NULL;
    size_t n = colon != NULL ? (size_t)(colon - text.p) : text.n;
    *ret = (struct wafer_packet){.type = WAFER_UNKNOWN};
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (slice_eq((struct slice){text.p, n}, slice_str(types[i])))
            ret->type = (enum wafer_type)i;
    if (ret->type == WAFER_MESSAGE && colon != NULL)
        ret->content = slice_from(text, n + 1);
}

static bool heartbeat(struct slice frame, bool binary, struct slice *ret_answer)
{
    if (binary || !slice_eq(frame, SLICE("ping")))
        return false;
    *ret_answer = SLICE("pong");
    return true;
}

static enum err decode(struct slice frame, bool binary, struct arena *a, struct command *ret, struct error *reterr)
{
    (void)frame;
    (void)binary;
    (void)a;
    *ret = (struct command){0};
    return fail(reterr, ERR_UNSUPPORTED, "a tunnel takes no commands");
}

/* --- to the client --- */

enum err wafer_check_content(struct slice content, struct error *reterr)
{
    if (!utf8_valid(content))
        return fail(reterr, ERR_BAD_REQUEST, "it is not UTF-8");
    return json_members(content, NULL, 0, NULL, reterr);
}

void wafer_message(struct slice content, struct buf *ret)
{
    struct frame f = frame_begin(ret, content.n + sizeof "message:" - 1);
    APPEND(ret, "message:");
    buf_append(ret, content);
    frame_end(ret, f, WS_TEXT);
}

void wafer_close(struct buf *ret)
{
    ws_frame_append(ret, WS_TEXT, SLICE("close"));
}

static void put_base64(struct slice bytes, struct buf *b)
{
    APPEND(b, "\"");
    (void)base64_put(bytes, buf_reserve(b, base64_letters(bytes.n)));
    b->n += base64_letters(bytes.n);
    APPEND(b, "\",\"binary\":true");
}

static void encode_message(const struct event *e, struct buf *ret)
{
    bool binary = e->data_type == DATA_BINARY;
    struct frame f = frame_begin(ret, ENVELOPE + e->name.n + (binary ? base64_letters(e->data.n) : e->data.n));
    APPEND(ret, "message:{\"type\":");
    json_quote(ret, e->name.n != 0 ? e->name : SLICE("message"));
    APPEND(ret, ",\"content\":");
    if (binary)
        put_base64(e->data, ret);
    else
        buf_append(ret, e->data.n != 0 ? e->data : SLICE("null"));
    APPEND(ret, "}");
    frame_end(ret, f, WS_TEXT);
}

/* Reasons for which a client is to come again; its SDK does so by itself when the connection ends without a `close`. */
static bool come_again(struct slice reason)
{
    static const char *const reasons[] = {"draining", "idle", "unavailable", "slow_consumer"};
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
        if (slice_eq(reason, slice_str(reasons[i])))
            return true;
    return false;
}

static void encode(const struct protocol_ops *self, const struct event *e, struct buf *ret)
{
    char text[sizeof "timeout:4294967295"];
    (void)self;
    if (e->kind == EVENT_MESSAGE) {
        encode_message(e, ret);
    } else if (e->kind == EVENT_WELCOME) {
        int n = snprintf(text, sizeof text, "timeout:%u", e->heartbeat_s);
        ws_frame_append(ret, WS_TEXT, (struct slice){text, (size_t)n});
    } else if (e->kind == EVENT_GOODBYE && e->reconnect_after_ms == 0 && !come_again(e->text)) {
        wafer_close(ret);
    }
}

const struct protocol_ops protocol_wafer = {
    .name = "wafer",
    .subprotocol = "",
    .heartbeat = heartbeat,
    .decode = decode,
    .encode = encode,
};
