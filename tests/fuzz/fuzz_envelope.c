/* tests/fuzz/fuzz_envelope.c: whatever arrives on a channel: what unpacks must pack to the same again. */
#include <assert.h>

#include "proto/envelope.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void assert_same(const struct envelope *a, const struct envelope *b)
{
    assert(a->kind == b->kind && a->data_type == b->data_type && a->reason == b->reason && a->total == b->total);
    assert(a->time_ms == b->time_ms && a->position.offset == b->position.offset);
    assert(strcmp(a->position.tag, b->position.tag) == 0 && strcmp(a->prev, b->prev) == 0);
    assert(slice_eq(a->room, b->room) && slice_eq(a->event, b->event) && slice_eq(a->id, b->id));
    assert(slice_eq(a->from, b->from) && slice_eq(a->user, b->user) && slice_eq(a->node, b->node));
    assert(slice_eq(a->except, b->except) && slice_eq(a->data, b->data));
    assert(a->user_state == b->user_state && a->seen_ms == b->seen_ms && a->version == b->version);
    assert(slice_eq(a->read_room, b->read_room) && a->read.offset == b->read.offset &&
           strcmp(a->read.tag, b->read.tag) == 0);
    if (a->kind == ENVELOPE_MESSAGE && a->was.at.offset != 0)
        assert(a->was.at.offset == b->was.at.offset && a->was.since == b->was.since &&
               strcmp(a->was.at.tag, b->was.at.tag) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct arena a, again;
    struct envelope first, second;
    struct error error;
    arena_init(&a, 2 * n + 16384);
    arena_init(&again, 1 << 20);
    if (envelope_unpack((struct slice){(const char *)p, n}, &a, &first, &error) == OK) {
        struct buf b = BUF_INIT;
        envelope_pack(&first, &b);
        enum err err = envelope_unpack(buf_slice(&b), &again, &second, &error);
        assert(err == OK);
        assert_same(&first, &second);
        (void)err;
        buf_fini(&b);
    }
    arena_reset(&a);
    arena_reset(&again);
    return 0;
}
