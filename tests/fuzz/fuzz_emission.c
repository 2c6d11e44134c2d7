/* tests/fuzz/fuzz_emission.c: what is said on the channels of Redis emitters, or stands in their stream: what is taken for an event is valid JSON of bounded size that the
 * encoder takes; the first byte chooses between messages and requests, and entries of both kinds. */
#include <assert.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/protocol/emission.h"
#include "gateway/protocol/socketio.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

#define MAX_DATA 4096u

static void check_target(const struct emission_target *to)
{
    assert(to->room_count <= EMISSION_ROOMS_MAX && to->except_count <= EMISSION_ROOMS_MAX);
    for (size_t i = 0; i < to->room_count; i++)
        assert(utf8_valid(to->rooms[i]));
    for (size_t i = 0; i < to->except_count; i++)
        assert(utf8_valid(to->except[i]));
}

static void check_event(struct emission *e)
{
    struct error error;
    struct sio_arguments args;
    struct arena a;
    struct slice data = e->data;
    check_target(&e->to);
    arena_init(&a, 2 * data.n + 256);
    assert(utf8_valid(data) && json_check(data, &error) == OK && utf8_name_valid(e->event, 128));
    sio_arguments_from_data(data, DATA_JSON, &a, &args);
    assert(!slice_eq(args.text, data)); /* it was taken for arguments, not for one of them */
    assert(args.attachment_count == 0 || sio_placeholders_valid(data, args.attachment_count));
    arena_reset(&a);
    emission_fini(e);
}

static void check_emission(struct slice body)
{
    struct emission e;
    struct error error;
    if (emission_read_msgpack(body, MAX_DATA, &e, &error) == OK)
        check_event(&e);
}

static void check_entry(struct slice body)
{
    struct emission e;
    struct error error;
    struct arena a;
    arena_init(&a, 1 << 16);
    if (emission_read_streamed(SLICE("/"), body, MAX_DATA, &a, &e, &error) == OK)
        check_event(&e);
    arena_reset(&a);
}

static void check_streamed_request(struct slice body)
{
    struct emitter_request r;
    struct error error;
    struct arena a;
    arena_init(&a, 1 << 16);
    if (emitter_read_streamed(STREAMED_JOIN, SLICE("/"), body, &a, &r, &error) == OK) {
        check_target(&r.to);
        assert(r.room_count <= EMISSION_ROOMS_MAX);
    }
    arena_reset(&a);
}

static void check_request(struct slice body)
{
    struct emitter_request r;
    struct error error;
    struct arena a;
    arena_init(&a, 1 << 16);
    if (emitter_read_request(body, &a, &r, &error) == OK) {
        check_target(&r.to);
        assert(r.verb >= EMITTER_JOIN && r.verb <= EMITTER_DISCONNECT && r.room_count <= EMISSION_ROOMS_MAX);
    }
    arena_reset(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n == 0)
        return 0;
    struct slice body = {(const char *)p + 1, n - 1};
    if (p[0] == 'r')
        check_request(body);
    else if (p[0] == 's')
        check_entry(body);
    else if (p[0] == 'j')
        check_streamed_request(body);
    else
        check_emission(body);
    return 0;
}
