/* tests/fuzz/fuzz_polling.c: bodies of the long-polling transport: what is taken apart becomes an answer that is taken apart into the same packets. The first byte says
 * of which kind the body is. */
#include <assert.h>
#include <stdint.h>

#include "base/utf8.h"
#include "gateway/protocol/engineio_payload.h"
#include "gateway/protocol/websocket.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* All packets as frames of a WebSocket; false when they do not add up. */
static bool take_apart(enum eio_revision revision, bool bytes, struct slice body, struct buf *ret)
{
    struct eio_payload in;
    struct error error;
    struct slice packet;
    bool binary;
    enum err err = eio_payload_begin(&in, revision, bytes, body, &error);
    while (err == OK && eio_payload_more(&in)) {
        err = eio_payload_next(&in, &packet, &binary, &error);
        if (err != OK)
            break;
        assert(binary || utf8_valid(packet));
        ws_frame_append(ret, binary ? WS_BINARY : WS_TEXT, packet);
    }
    eio_payload_fini(&in);
    return err == OK;
}

/* What no server says: bytes of revision 3 that are no message, and texts that would be taken for bytes, or for several. */
static bool can_return(enum eio_revision revision, struct slice frames)
{
    enum ws_opcode opcode;
    struct slice packet;
    while (ws_frame_take(&frames, &opcode, &packet)) {
        if (opcode == WS_BINARY && revision == EIO_3 && (packet.n == 0 || packet.p[0] != 4))
            return false;
        if (opcode == WS_TEXT && packet.n != 0 && (packet.p[0] == 'b' || memchr(packet.p, 0x1e, packet.n) != NULL))
            return false;
    }
    return true;
}

static void check_return(enum eio_revision revision, bool base64, struct slice frames)
{
    struct buf body = BUF_INIT, again = BUF_INIT;
    bool bytes;
    eio_payload_append(&body, revision, frames, base64, '1', &bytes);
    assert(!(bytes && base64));
    bool ok = take_apart(revision, bytes, buf_slice(&body), &again);
    assert(ok);
    assert(slice_eq(buf_slice(&again), frames));
    buf_fini(&body);
    buf_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct buf frames = BUF_INIT, payload = BUF_INIT;
    if (n == 0)
        return 0;
    enum eio_revision revision = (p[0] & 1) != 0 ? EIO_3 : EIO_4;
    struct slice body = {(const char *)p + 1, n - 1};
    if ((p[0] & 4) != 0 && eio_jsonp_take(body, &payload))
        body = buf_slice(&payload);
    if (take_apart(revision, revision == EIO_3 && (p[0] & 2) != 0, body, &frames) &&
        can_return(revision, buf_slice(&frames))) {
        check_return(revision, false, buf_slice(&frames));
        check_return(revision, true, buf_slice(&frames));
    }
    buf_fini(&frames);
    buf_fini(&payload);
    return 0;
}
