/* tests/unit/test_envelope.c: envelopes survive packing, the pieces the scripts append fit, and nothing malformed gets through. */
#include "proto/envelope.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/mem.h"

#define TAG_A "01234567"
#define TAG_B "fedcba98"

static const struct envelope message = {.kind = ENVELOPE_MESSAGE,
                                        .data_type = DATA_BINARY,
                                        .time_ms = 1700000000123,
                                        .room = {"lobby", 5},
                                        .event = {"chat", 4},
                                        .id = {"k1", 2},
                                        .from = {"s1", 2},
                                        .user = {"ad\xc3\xa4", 4},
                                        .node = {"gw1-aaaaaa", 10},
                                        .except = {"s2", 2},
                                        .data = {"\0\xff\r\n", 4},
                                        .position = {7, TAG_B},
                                        .prev = TAG_A,
                                        .was = {.at = {6, TAG_A}, .since = 3}};

static void assert_same(const struct envelope *a, const struct envelope *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->data_type, b->data_type);
    assert_int_equal(a->reason, b->reason);
    assert_int_equal(a->total, b->total);
    assert_int_equal(a->time_ms, b->time_ms);
    assert_int_equal(a->position.offset, b->position.offset);
    assert_string_equal(a->position.tag, b->position.tag);
    assert_string_equal(a->prev, b->prev);
    assert_int_equal(a->was.at.offset, b->was.at.offset);
    assert_int_equal(a->was.since, b->was.since);
    assert_string_equal(a->was.at.tag, b->was.at.tag);
    assert_true(slice_eq(a->room, b->room) && slice_eq(a->event, b->event) && slice_eq(a->id, b->id));
    assert_true(slice_eq(a->from, b->from) && slice_eq(a->user, b->user) && slice_eq(a->node, b->node));
    assert_true(slice_eq(a->except, b->except) && slice_eq(a->data, b->data));
    assert_int_equal(a->user_state, b->user_state);
    assert_true(a->seen_ms == b->seen_ms && a->version == b->version);
    assert_true(slice_eq(a->read_room, b->read_room) && a->read.offset == b->read.offset);
    assert_string_equal(a->read.tag, b->read.tag);
}

static enum err unpack(struct slice bytes, struct arena *a, struct envelope *ret)
{
    struct error error = {.code = OK};
    enum err err = envelope_unpack(bytes, a, ret, &error);
    assert_int_equal(err, error.code);
    return err;
}

static void packed_is_unpacked(void **state)
{
    (void)state;
    struct buf b = BUF_INIT;
    struct arena a;
    struct envelope got;
    arena_init(&a, 65536);
    envelope_pack(&message, &b);
    assert_int_equal(unpack(buf_slice(&b), &a, &got), OK);
    assert_same(&got, &message);
    for (int kind = ENVELOPE_ENTER; kind < ENVELOPE_KINDS; kind++) {
        struct envelope e = {.kind = (enum envelope_kind)kind,
                             .reason = EXIT_NODE_LOST,
                             .total = 4000000000,
                             .room = SLICE("r"),
                             .from = SLICE("s"),
                             .user = SLICE("u"),
                             .position = {UINT64_MAX, TAG_A}};
        if (kind == ENVELOPE_READ) {
            e.read_room = SLICE("lobby");
            e.read = (struct position){41, TAG_A};
        }
        if (kind == ENVELOPE_STATUS) {
            e.user_state = USER_ONLINE;
            e.seen_ms = 1700000000000;
            e.version = 1700000000001;
        }
        buf_clear(&b);
        envelope_pack(&e, &b);
        assert_int_equal(unpack(buf_slice(&b), &a, &got), OK);
        assert_same(&got, &e);
    }
    arena_reset(&a);
    buf_fini(&b);
}

/* What the publish script does: head, data, then the fields that only Redis knows. */
static void pieces_fit_together(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 127, 128, 16383, 16384, 100000};
    AUTO_FREE char *data = xcalloc(1, 100000);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct envelope e = message, got;
        struct buf b = BUF_INIT;
        struct arena a;
        arena_init(&a, 1 << 20);
        e.data = (struct slice){data, sizes[i]};
        envelope_pack_head(&e, &b);
        buf_append(&b, e.data);
        buf_append(&b, SLICE("\x61\x07\0\0\0\0\0\0\0"));
        buf_append(&b, SLICE("\x69\x7b\x68\xe5\xcf\x8b\x01\0\0"));
        buf_append(&b, SLICE("\x72\x08" TAG_A));
        buf_append(&b, SLICE("\x7a\x08" TAG_B));
        assert_int_equal(unpack(buf_slice(&b), &a, &got), OK);
        assert_same(&got, &e);
        arena_reset(&a);
        buf_fini(&b);
    }
}

static void unknown_fields_are_ignored(void **state)
{
    (void)state;
    struct buf b = BUF_INIT;
    struct arena a;
    struct envelope got;
    arena_init(&a, 65536);
    envelope_pack(&message, &b);
    buf_append(&b, SLICE("\xa2\x06\x03new\xa8\x06\x2a\xa5\x06\x01\x02\x03\x04"));
    assert_int_equal(unpack(buf_slice(&b), &a, &got), OK);
    assert_same(&got, &message);
    arena_reset(&a);
    buf_fini(&b);
}

static bool is_refused(const struct envelope *e, struct slice appended)
{
    struct buf b = BUF_INIT;
    struct arena a;
    struct envelope got = {.total = 77};
    arena_init(&a, 1 << 20);
    envelope_pack(e, &b);
    buf_append(&b, appended);
    enum err err = unpack(buf_slice(&b), &a, &got);
    if (err != OK)
        assert_int_equal(got.total, 77); /* untouched */
    arena_reset(&a);
    buf_fini(&b);
    return err == ERR_BAD_REQUEST;
}

#define REFUSED(field, value)                                                                                          \
    do {                                                                                                               \
        struct envelope e_ = message;                                                                                  \
        e_.field = (value);                                                                                            \
        assert_true(is_refused(&e_, SLICE_NONE));                                                                      \
    } while (0)

static void limits_are_kept(void **state)
{
    (void)state;
    char long_name[300];
    memset(long_name, 'n', sizeof long_name);
    assert_false(is_refused(&message, SLICE_NONE));
    REFUSED(room, SLICE_NONE);
    REFUSED(room, ((struct slice){long_name, 256}));
    REFUSED(room, SLICE("a\0b"));
    REFUSED(room, SLICE("a\nb"));
    REFUSED(room, SLICE("\xff"));
    REFUSED(event, ((struct slice){long_name, 129}));
    REFUSED(event, SLICE("\xc3"));
    REFUSED(id, ((struct slice){long_name, 65}));
    REFUSED(from, ((struct slice){long_name, 65}));
    REFUSED(from, SLICE("\xed\xa0\x80"));
    REFUSED(user, ((struct slice){long_name, 129}));
    REFUSED(user, SLICE("a\x7f"));
    REFUSED(node, ((struct slice){long_name, 129}));
    REFUSED(except, ((struct slice){long_name, 65}));
    REFUSED(position.offset, 0);
    REFUSED(was.at.offset, 0);
    REFUSED(was.at.offset, OFFSET_MAX + 1);
    REFUSED(was.since, 6); /* as far as where it stood */
    struct envelope e = message;
    e.room = (struct slice){long_name, 255};
    e.event = (struct slice){long_name, 128};
    e.user = (struct slice){long_name, 128};
    assert_false(is_refused(&e, SLICE_NONE));
    /* The data of a JSON message goes into text frames: it must be there, and it must be UTF-8. */
    e.data_type = DATA_JSON;
    assert_true(is_refused(&e, SLICE_NONE));
    e.data = SLICE_NONE;
    assert_true(is_refused(&e, SLICE_NONE));
    e.data = SLICE("\"\xc3\xa4\"");
    assert_false(is_refused(&e, SLICE_NONE));
    e = (struct envelope){.kind = ENVELOPE_EXIT, .room = SLICE("r")};
    assert_true(is_refused(&e, SLICE_NONE)); /* nobody left */
    e = (struct envelope){.kind = ENVELOPE_VERDICT, .room = SLICE("$all"), .from = SLICE("s")};
    assert_true(is_refused(&e, SLICE_NONE));
    e = (struct envelope){.kind = ENVELOPE_PROBE};
    assert_false(is_refused(&e, SLICE_NONE));
}

static void kinds_of_the_future_are_told_apart(void **state)
{
    (void)state;
    struct buf b = BUF_INIT;
    struct arena a;
    struct envelope got;
    struct error error = {0};
    arena_init(&a, 65536);
    envelope_pack(&message, &b);
    buf_append(&b, SLICE("\x10\x7f"));
    assert_int_equal(envelope_unpack(buf_slice(&b), &a, &got, &error), ERR_UNKNOWN_TYPE);
    buf_append(&b, SLICE("\x08\x02")); /* … but of a version we know */
    assert_int_equal(envelope_unpack(buf_slice(&b), &a, &got, &error), ERR_BAD_REQUEST);
    arena_reset(&a);
    buf_fini(&b);
}

static void malformed_fields_are_refused(void **state)
{
    (void)state;
    static const struct slice appended[] = {
        {"\x08\x02", 2},     /* v = 2 */
        {"\x08\x00", 2},     /* v = 0 */
        {"\x10\x00", 2},     /* kind 0 */
        {"\x50\x02", 2},     /* data_type 2 */
        {"\x80\x01\x04", 3}, /* reason 4 */
        {"\x7a\x08"
         "0123+567",
         10}, /* a tag of other letters */
        {"\x7a\x07"
         "0123456",
         9},             /* a short tag */
        {"\x7a\x00", 2}, /* an offset without a tag */
        {"\x72\x01"
         "x",
         3}, /* prev */
        {"\x1a\x7f"
         "x",
         3},                                                      /* longer than what is there */
        {"\x1a", 1},                                              /* cut off */
        {"\x1b", 1},                                              /* a group */
        {"\x00\x01", 2},                                          /* field 0 */
        {"\x61\x01\x02", 3},                                      /* half a number */
        {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12}, /* a varint without end */
    };
    for (size_t i = 0; i < ARRAY_LEN(appended); i++) {
        if (!is_refused(&message, appended[i]))
            fail_msg("case %zu got through", i);
    }
}

static void truncation_never_unpacks_to_something_else(void **state)
{
    (void)state;
    struct buf b = BUF_INIT;
    envelope_pack(&message, &b);
    for (size_t n = 0; n < b.n; n++) {
        struct arena a;
        struct envelope got;
        arena_init(&a, 65536);
        /* An exact copy: reading past it is an error that the sanitizer sees. */
        AUTO_FREE char *cut = xmalloc(n + 1);
        memcpy(cut, b.p, n);
        if (unpack((struct slice){cut, n}, &a, &got) == OK)
            assert_true(got.position.offset == 7 && slice_eq(got.room, message.room));
        arena_reset(&a);
    }
    buf_fini(&b);
}

static void memory_is_capped(void **state)
{
    (void)state;
    struct buf b = BUF_INIT;
    struct arena a;
    struct envelope got;
    envelope_pack(&message, &b);
    for (int i = 0; i < 1000; i++)
        buf_append(&b, SLICE("\xa2\x06\x01x"));
    arena_init(&a, 1024);
    assert_int_equal(unpack(buf_slice(&b), &a, &got), ERR_BAD_REQUEST);
    assert_true(a.used <= 1024);
    arena_reset(&a);
    buf_fini(&b);
}

static void reasons_have_names(void **state)
{
    (void)state;
    assert_string_equal(exit_reason_name(EXIT_LEAVE), "leave");
    assert_string_equal(exit_reason_name(EXIT_DISCONNECT), "disconnect");
    assert_string_equal(exit_reason_name(EXIT_NODE_LOST), "node_lost");
    assert_string_equal(exit_reason_name(EXIT_KICKED), "kicked");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_is_unpacked),
        cmocka_unit_test(pieces_fit_together),
        cmocka_unit_test(unknown_fields_are_ignored),
        cmocka_unit_test(limits_are_kept),
        cmocka_unit_test(kinds_of_the_future_are_told_apart),
        cmocka_unit_test(malformed_fields_are_refused),
        cmocka_unit_test(truncation_never_unpacks_to_something_else),
        cmocka_unit_test(memory_is_capped),
        cmocka_unit_test(reasons_have_names),
    };
    return cmocka_run_group_tests_name("envelope", tests, NULL, NULL);
}
