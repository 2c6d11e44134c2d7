/* tests/fuzz/fuzz_socketio.c: messages of a Socket.IO client, as they come: what is taken for an event becomes data that comes out of the encoder as it went
 * in, or nearly so. The first byte is the revision; then messages, each behind a byte for its kind and one for its length. */
#include <assert.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/protocol/socketio.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

#define ATTACHMENTS_MAX 600u

/* The payload of the server frame at *at. */
static struct slice next_frame(const struct buf *b, size_t *at, bool *ret_binary)
{
    const uint8_t *f = (const uint8_t *)b->p + *at;
    size_t length = f[1], header = 2;
    assert(b->n >= *at + 2 && (f[0] == 0x81 || f[0] == 0x82));
    if (length >= 126) {
        size_t bytes = length == 126 ? 2 : 8;
        length = 0;
        for (; header < 2 + bytes; header++)
            length = length << 8 | f[header];
    }
    assert(b->n >= *at + header + length);
    *ret_binary = f[0] == 0x82;
    *at += header + length;
    return (struct slice){(const char *)f + header, length};
}

/* Encodes the message as others would get it, takes it apart like a client, and expects the same data. */
static void check_return(enum eio_revision revision, const struct command *c, struct arena *a)
{
    struct sio_protocol *protocol = sio_protocol_create(revision, SLICE("/n"), false);
    struct sio_assembly assembly = {.max_bytes = SIZE_MAX};
    struct sio_packet packet = {0};
    struct buf b = BUF_INIT;
    struct error error;
    bool complete = false, binary;
    const struct event e = {
        .kind = EVENT_MESSAGE, .room = SLICE("r"), .name = c->event, .data = c->data, .data_type = c->data_type};
    protocol->ops.encode(&protocol->ops, &e, &b);
    for (size_t at = 0; at < b.n;) {
        struct eio_packet outer;
        struct slice payload = next_frame(&b, &at, &binary);
        assert(binary || utf8_valid(payload));
        assert(!complete && eio_parse(revision, payload, binary, &outer, &error) == OK && outer.type == EIO_MESSAGE);
        enum err err = sio_assemble(&assembly, outer.data, outer.binary, &complete, &packet, &error);
        assert(err == OK);
    }
    assert(complete && slice_eq(packet.nsp, SLICE("/n")));
    struct command back;
    enum err err = sio_decode_message(&packet, a, &back, &error);
    if (err == OK && !sio_reserved(revision, c->event) && back.data_type == c->data_type)
        assert(slice_eq(back.event, c->event));
    buf_fini(&b);
    sio_assembly_fini(&assembly);
    free(protocol);
}

static void check_packet(enum eio_revision revision, const struct sio_packet *p)
{
    struct arena a;
    struct command c;
    struct error error;
    assert(p->nsp.n >= 1 && p->nsp.p[0] == '/');
    assert(p->attachment_count <= SIO_ATTACHMENTS_MAX && p->id.n <= SIO_ID_MAX);
    assert(p->payload.n == 0 || json_check(p->payload, &error) == OK);
    if (p->type != SIO_EVENT && p->type != SIO_BINARY_EVENT)
        return;
    arena_init(&a, 1 << 16);
    if (sio_decode_message(p, &a, &c, &error) == OK) {
        assert(utf8_name_valid(c.event, NAME_MAX_EVENT) && !sio_reserved(EIO_4, c.event));
        assert(c.data_type == DATA_BINARY || json_check(c.data, &error) == OK);
        check_return(revision, &c, &a);
    }
    for (enum command_kind kind = 0; kind < COMMANDS; kind++) {
        if (sio_decode_verb(p, kind, &a, &c, &error) == OK)
            assert(c.kind == kind && (c.data_type == DATA_BINARY || c.data.n == 0 || json_check(c.data, &error) == OK));
        assert(slice_eq(c.id, p->id));
    }
    arena_reset(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct sio_assembly assembly = {.max_bytes = ATTACHMENTS_MAX};
    if (n == 0)
        return 0;
    enum eio_revision revision = (p[0] & 1) != 0 ? EIO_3 : EIO_4;
    for (size_t at = 1; at + 2 <= n;) {
        bool binary = (p[at] & 1) != 0, complete;
        size_t length = p[at + 1];
        at += 2;
        if (length > n - at)
            length = n - at;
        struct slice message = {(const char *)p + at, length};
        struct eio_packet outer;
        struct sio_packet packet;
        struct error error = {0};
        at += length;
        if (!binary && !utf8_valid(message))
            break; /* the WebSocket parser refuses it */
        if (eio_parse(revision, message, binary, &outer, &error) != OK)
            break;
        if (outer.type != EIO_MESSAGE)
            continue;
        if (sio_assemble(&assembly, outer.data, outer.binary, &complete, &packet, &error) != OK) {
            assert(utf8_valid(slice_str(error.text)) && error.text[0] != '\0');
            break;
        }
        if (complete)
            check_packet(revision, &packet);
    }
    sio_assembly_fini(&assembly);
    return 0;
}
