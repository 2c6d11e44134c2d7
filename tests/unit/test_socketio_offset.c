/* tests/unit/test_socketio_offset.c: offsets of Socket.IO clients, and inserting them into frames. */
#include "gateway/protocol/socketio_offset.h"

#include "base/mem.h"
#include "gateway/protocol/websocket.h"
#include "tests/support/check.h"

static void trails_are_inserted_into_frames_of_every_length(void **state)
{
    static const size_t lengths[] = {3, 100, 121, 122, 125, 126, 65520, 65535, 65536, 70000};
    const struct slice trail = SLICE(".AAAAtag1B");
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        struct buf text = BUF_INIT, frames = BUF_INIT, ret = BUF_INIT, want = BUF_INIT;
        while (text.n < lengths[i] - 2)
            buf_append_char(&text, 'x');
        struct slice head = buf_slice(&text);
        ws_frame_append(&frames, WS_TEXT, SLICE("before"));
        ws_frame_append(&want, WS_TEXT, SLICE("before"));
        const uint32_t start = (uint32_t)frames.n;
        struct buf with = BUF_INIT;
        buf_append(&with, head);
        buf_append(&with, trail);
        buf_append(&with, SLICE("\"]"));
        buf_append(&text, SLICE("\"]"));
        ws_frame_append(&frames, WS_TEXT, buf_slice(&text));
        ws_frame_append(&want, WS_TEXT, buf_slice(&with));
        ws_frame_append(&frames, WS_BINARY, SLICE("bytes"));
        ws_frame_append(&want, WS_BINARY, SLICE("bytes"));
        sio_trail_insert(buf_slice(&frames), &start, 1, trail, &ret);
        assert_true(slice_eq(buf_slice(&ret), buf_slice(&want)));
        buf_fini(&text);
        buf_fini(&frames);
        buf_fini(&ret);
        buf_fini(&want);
        buf_fini(&with);
    }
}

static void offsets_are_read_as_they_were_written(void **state)
{
    static const uint64_t numbers[] = {1, 63, 64, 4095, 4096, 1ull << 40};
    struct position at, got;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        struct buf b = BUF_INIT;
        at = (struct position){numbers[i], "Qn4wXk2_"};
        sio_offset_append(&b, SLICE("lobby"), &at);
        sio_offset_append(&b, SLICE("hall"), &(struct position){0});
        assert_int_equal(sio_offset_find(buf_slice(&b), SLICE("lobby"), &got), SIO_OFFSET_POSITION);
        assert_true(sio_offset_is(&got, &at));
        at.tag[3] = '?';
        assert_false(sio_offset_is(&got, &at));
        assert_int_equal(sio_offset_find(buf_slice(&b), SLICE("hall"), &got), SIO_OFFSET_POSITION);
        assert_int_equal(got.offset, 0);
        assert_int_equal(sio_offset_find(buf_slice(&b), SLICE("elsewhere"), &got), SIO_OFFSET_NOTHING);
        b.p[5] = '"'; /* of its tag: it would be told again */
        assert_int_equal(sio_offset_find(buf_slice(&b), SLICE("lobby"), &got), SIO_OFFSET_AMBIGUOUS);
        buf_clear(&b);
        sio_offset_append(&b, SLICE("lobby"), &(struct position){.offset = numbers[i]});
        assert_null(memchr(b.p, '\0', b.n));
        buf_fini(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trails_are_inserted_into_frames_of_every_length),
        cmocka_unit_test(offsets_are_read_as_they_were_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
