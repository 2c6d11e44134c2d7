/* tests/fuzz/fuzz_offset.c: an offset as a Socket.IO client may present it. What is read of it is written as it was meant; the first byte is the length of the room's name. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "gateway/protocol/socketio_offset.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n == 0)
        return 0;
    size_t length = p[0] < n - 1 ? p[0] : n - 1;
    struct slice room = {(const char *)p + 1, length}, offset = {(const char *)p + 1 + length, n - 1 - length};
    struct position at = {0}, back = {0};
    struct buf b = BUF_INIT;
    if (sio_offset_find(offset, room, &at) != SIO_OFFSET_POSITION)
        return 0;
    assert(at.offset >> 60 == 0 && strlen(at.tag) <= 4);
    if (at.offset != 0) {
        assert(strlen(at.tag) == 4);
        sio_offset_append(&b, room, &at);
        enum sio_offset_says says = sio_offset_find(buf_slice(&b), room, &back);
        assert(says == SIO_OFFSET_POSITION && sio_offset_is(&back, &at));
        sio_offset_append(&b, room, &at);
        assert(sio_offset_find(buf_slice(&b), room, &back) == SIO_OFFSET_AMBIGUOUS);
    }
    buf_fini(&b);
    return 0;
}
