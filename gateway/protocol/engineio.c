/* gateway/protocol/engineio.c: Engine.IO packets. */
#include "gateway/protocol/engineio.h"

#include "gateway/protocol/frame.h"
#include "proto/json.h"

enum eio_revision eio_revision(struct slice eio)
{
    return slice_eq(eio, SLICE("4")) ? EIO_4 : EIO_3;
}

static enum err parse_binary(enum eio_revision revision, struct slice message, struct eio_packet *ret,
                             struct error *reterr)
{
    if (revision == EIO_4) {
        *ret = (struct eio_packet){EIO_MESSAGE, true, message};
        return OK;
    }
    if (message.n == 0 || message.p[0] != (char)EIO_MESSAGE)
        return fail(reterr, ERR_BAD_REQUEST, "a binary message of %zu bytes does not begin with the byte 4", message.n);
    *ret = (struct eio_packet){EIO_MESSAGE, true, slice_from(message, 1)};
    return OK;
}

enum err eio_parse(enum eio_revision revision, struct slice message, bool binary, struct eio_packet *ret,
                   struct error *reterr)
{
    if (binary)
        return parse_binary(revision, message, ret, reterr);
    if (message.n == 0 || message.p[0] < '0' || message.p[0] >= '0' + (char)EIO_TYPES)
        return fail(reterr, ERR_BAD_REQUEST, "a message of %zu bytes does not begin with the type of a packet, 0 to 6",
                    message.n);
    *ret = (struct eio_packet){(enum eio_type)(message.p[0] - '0'), false, slice_from(message, 1)};
    return OK;
}

void eio_open_append(struct buf *ret, const struct eio_open *o)
{
    struct frame f = frame_begin(ret, 128);
    buf_append(ret, SLICE("0{\"sid\":"));
    json_quote(ret, o->sid);
    buf_append(ret, SLICE(",\"upgrades\":["));
    if (o->upgrade)
        buf_append(ret, SLICE("\"websocket\""));
    buf_append(ret, SLICE("],\"pingInterval\":"));
    buf_append_u64(ret, o->ping_interval_ms);
    buf_append(ret, SLICE(",\"pingTimeout\":"));
    buf_append_u64(ret, o->ping_timeout_ms);
    buf_append(ret, SLICE(",\"maxPayload\":"));
    buf_append_u64(ret, o->max_payload);
    buf_append(ret, SLICE("}"));
    frame_end(ret, f, WS_TEXT);
}

void eio_refusal_append(struct buf *ret, enum eio_refusal why)
{
    static const char *const texts[EIO_REFUSALS] = {
        [EIO_UNKNOWN_TRANSPORT] = "Transport unknown",
        [EIO_UNKNOWN_SID] = "Session ID unknown",
        [EIO_BAD_METHOD] = "Bad handshake method",
        [EIO_BAD_REQUEST] = "Bad request",
        [EIO_FORBIDDEN] = "Forbidden",
        [EIO_UNSUPPORTED_VERSION] = "Unsupported protocol version",
    };
    eio_refused_append(ret, why, slice_str(texts[why]));
}

void eio_refused_append(struct buf *ret, enum eio_refusal why, struct slice sentence)
{
    buf_printf(ret, "{\"code\":%d,\"message\":", (int)why);
    json_quote(ret, sentence);
    buf_append_char(ret, '}');
}
