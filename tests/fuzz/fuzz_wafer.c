/* tests/fuzz/fuzz_wafer.c: a packet of a tunnel is a part of what was sent; what is told of it is one text frame that a client's SDK can take apart. The first byte chooses. */
#include <assert.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/protocol/wafer.h"
#include "gateway/protocol/websocket.h"
#include "proto/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static struct slice payload_of(const struct buf *b)
{
    size_t length = (uint8_t)b->p[1], header = length < 126 ? 2 : length == 126 ? 4 : 10;
    assert((uint8_t)b->p[0] == 0x81 && b->n >= header);
    return slice_from(buf_slice(b), header);
}

static void check_content(struct slice payload)
{
    struct error error;
    assert(slice_starts(payload, SLICE("message:")));
    enum err err = wafer_check_content(slice_from(payload, sizeof "message:" - 1), &error);
    assert(err == OK);
}

static void fuzz_packet(struct slice text)
{
    struct wafer_packet packet;
    struct error error;
    struct slice answer;
    if (!utf8_valid(text))
        return; /* the WebSocket parser refuses it */
    wafer_read(text, &packet);
    assert(packet.content.n == 0 || packet.content.p + packet.content.n == text.p + text.n);
    assert(!protocol_wafer.heartbeat(text, false, &answer) || packet.type == WAFER_PING);
    if (wafer_check_content(packet.content, &error) != OK)
        return;
    struct buf b = BUF_INIT;
    wafer_message(packet.content, &b);
    check_content(payload_of(&b));
    buf_fini(&b);
}

/* A message of a room: the first line is its event, the rest its data. */
static void fuzz_message(struct slice text, bool binary)
{
    const char *end = text.n != 0 ? memchr(text.p, '\n', text.n) : NULL;
    struct error error;
    struct buf b = BUF_INIT;
    if (end == NULL)
        return;
    struct event e = {
        .kind = EVENT_MESSAGE, .name = {text.p, (size_t)(end - text.p)}, .data_type = binary ? DATA_BINARY : DATA_JSON};
    e.data = slice_from(text, e.name.n + 1);
    if (!utf8_valid(e.name) || (!binary && (!utf8_valid(e.data) || json_check(e.data, &error) != OK)))
        return;
    if (!binary && wafer_check_content(e.data, &error) != OK)
        return; /* one level deeper it may be too deep */
    protocol_wafer.encode(&protocol_wafer, &e, &b);
    struct slice payload = payload_of(&b);
    assert(slice_starts(payload, SLICE("message:{\"type\":")) && slice_ends(payload, SLICE("}")));
    assert(utf8_valid(payload));
    buf_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n == 0)
        return 0;
    struct slice text = {(const char *)p + 1, n - 1};
    if (p[0] % 3 == 0)
        fuzz_packet(text);
    else
        fuzz_message(text, p[0] % 3 == 1);
    return 0;
}
