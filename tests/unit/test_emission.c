/* tests/unit/test_emission.c: messages of Redis emitters, byte by byte: what they become, and what is refused. */
#include <stdio.h>

#include "base/mem.h"
#include "gateway/protocol/emission.h"
#include "gateway/protocol/socketio.h"
#include "tests/support/check.h"

#define MAX_DATA 100000u

/* As npm @socket.io/redis-emitter 5.1 publishes emit("hi", …): the head up to the arguments, how many elements `data` has, and what follows. */
#define HEAD                                                                                                           \
    "\x93\xa7"                                                                                                         \
    "emitter\x83\xa4type\x02\xa4"                                                                                      \
    "data"
#define HI "\xa2hi"
#define TAIL                                                                                                           \
    "\xa3nsp\xa1/\x83\xa5rooms\x90\xa5"                                                                                \
    "flags\x80\xa6"                                                                                                    \
    "except\x90"

static enum err decode(struct slice body, struct emission *ret, struct error *error)
{
    *error = (struct error){0};
    return emission_read_msgpack(body, MAX_DATA, ret, error);
}

static void expect_args(struct slice body, const char *want)
{
    struct emission e;
    struct error error;
    struct buf text = BUF_INIT;
    if (decode(body, &e, &error) != OK)
        fail_msg("%s: %s", want, error.text);
    buf_printf(&text, "{\"$args\":[%s}", want);
    assert_slices_eq(e.data, buf_slice(&text));
    buf_fini(&text);
    emission_fini(&e);
}

static void values_become_json(void **state)
{
    static const struct {
        struct slice bytes;
        const char *json;
    } rows[] = {
        {SLICE("\xc0"), "null]"},
        {SLICE("\xc2"), "false]"},
        {SLICE("\xc3"), "true]"},
        {SLICE("\x7f"), "127]"},
        {SLICE("\xe0"), "-32]"},
        {SLICE("\xcc\xff"), "255]"},
        {SLICE("\xcd\x01\x00"), "256]"},
        {SLICE("\xce\xff\xff\xff\xff"), "4294967295]"},
        {SLICE("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), "18446744073709551615]"},
        {SLICE("\xd0\x80"), "-128]"},
        {SLICE("\xd1\x80\x00"), "-32768]"},
        {SLICE("\xd2\x80\x00\x00\x00"), "-2147483648]"},
        {SLICE("\xd3\x80\x00\x00\x00\x00\x00\x00\x00"), "-9223372036854775808]"},
        {SLICE("\xca\x3f\xc0\x00\x00"), "1.5]"},
        {SLICE("\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a"), "0.1]"},
        {SLICE("\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"), "null]"},
        {SLICE("\xd9\x02\"\n"), "\"\\\"\\n\"]"},
        {SLICE("\xda\x00\x01x"), "\"x\"]"},
        {SLICE("\xdb\x00\x00\x00\x01x"), "\"x\"]"},
        {SLICE("\x92\x01\x90"), "[1,[]]]"},
        {SLICE("\xdc\x00\x01\xc0"), "[null]]"},
        {SLICE("\x82\xa1"
               "a\x01\xa1"
               "b\x80"),
         "{\"a\":1,\"b\":{}}]"},
        {SLICE("\xde\x00\x01\xa1k\x91\xc0"), "{\"k\":[null]}]"},
        {SLICE("\xc4\x02hi"), "{\"_placeholder\":true,\"num\":0}],\"$attachments\":[\"aGk=\"]"},
        {SLICE("\xd6\xff\x00\x00\x00\x00"), "\"1970-01-01T00:00:00.000Z\"]"},
        {SLICE("\xd7\xff\x1d\x53\x58\x00\x65\x53\xf1\x00"), "\"2023-11-14T22:13:20.123Z\"]"},
        {SLICE("\xc7\x0c\xff\x3b\x8b\x87\xc0\xff\xff\xff\xff\xff\xff\xff\xff"), "\"1969-12-31T23:59:59.999Z\"]"},
        {SLICE("\xc7\x0c\xff\x00\x00\x00\x00\x00\x00\x00\x3a\xff\xf4\x41\x80"), "\"+010000-01-01T00:00:00.000Z\"]"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf b = BUF_INIT;
        buf_append(&b, SLICE(HEAD "\x92" HI));
        buf_append(&b, rows[i].bytes);
        buf_append(&b, SLICE(TAIL));
        expect_args(buf_slice(&b), rows[i].json);
        /* Cut anywhere, it is refused. */
        for (size_t n = 0; n < b.n; n++) {
            struct emission e;
            struct error error;
            assert_int_not_equal(decode((struct slice){b.p, n}, &e, &error), OK);
        }
        buf_fini(&b);
    }
    expect_args(SLICE(HEAD "\x91" HI TAIL), "]");
    expect_args(SLICE(HEAD "\x93" HI "\x01\x02" TAIL), "1,2]");
}

static void who_is_meant(void **state)
{
    struct emission e;
    struct error error;
    (void)state;
    assert_int_equal(decode(SLICE(HEAD "\x91" HI "\xa3nsp\xa2/a\x83\xa5rooms\x92\xa1x\xa1y\xa5"
                                       "flags\x82\xa8volatile\xc3\xa8"
                                       "compress\xc2\xa6"
                                       "except\x91\xa1z"),
                            &e, &error),
                     OK);
    assert_slice(e.to.nsp, "/a");
    assert_slice(e.event, "hi");
    assert_int_equal(e.to.room_count, 2);
    assert_slice(e.to.rooms[1], "y");
    assert_int_equal(e.to.except_count, 1);
    assert_slice(e.to.except[0], "z");
    assert_true(e.is_volatile);
    emission_fini(&e);
}

static void what_is_refused(void **state)
{
    static const struct {
        struct slice bytes;
        enum err err;
    } rows[] = {
        {SLICE(""), ERR_BAD_REQUEST},
        {SLICE("hello"), ERR_BAD_REQUEST},
        {SLICE("\x93\x01\x80\x80"), ERR_BAD_REQUEST},
        {SLICE(HEAD "\x90" TAIL), ERR_BAD_REQUEST},      /* no name */
        {SLICE(HEAD "\x91\x01" TAIL), ERR_INVALID_NAME}, /* a number for a name */
        {SLICE(HEAD "\x91\xa0" TAIL), ERR_INVALID_NAME}, /* an empty one */
        {SLICE(HEAD "\x92" HI "\xa1\xff" TAIL), ERR_BAD_UTF8},
        {SLICE(HEAD "\x92" HI "\xc1" TAIL), ERR_BAD_REQUEST},         /* no such type */
        {SLICE(HEAD "\x92" HI "\xd4\x05\x00" TAIL), ERR_BAD_REQUEST}, /* an extension we do not know */
        {SLICE(HEAD "\x92" HI "\x81\x01\x01" TAIL), ERR_BAD_REQUEST}, /* a key that is no string */
        {SLICE(HEAD "\x92" HI "\xdd\xff\xff\xff\xff"), ERR_BAD_REQUEST},
        {SLICE(HEAD "\x92" HI "\xdf\xff\xff\xff\xff"), ERR_BAD_REQUEST},
        {SLICE(HEAD "\x92" HI "\xdb\xff\xff\xff\xff"), ERR_BAD_REQUEST},
        {SLICE(HEAD "\x93" HI "\xc4\x01x\x82\xac_placeholder\xc3\xa3num\x05" TAIL), ERR_BAD_REQUEST},
        {SLICE("\x93\xa1x\x83\xa4type\x03\xa4"
               "data\x91" HI TAIL),
         ERR_BAD_REQUEST}, /* an ack */
        {SLICE("\x93\xa1x\x84\xa2id\x01\xa4type\x02\xa4"
               "data\x91" HI TAIL),
         ERR_UNSUPPORTED}, /* wants one */
        {SLICE(HEAD "\x91" HI "\xa3nsp\xa1/\x81\xa5rooms\xdc\x01\x00"), ERR_TOO_LARGE},
        {SLICE(HEAD "\x91" HI "\xa3nsp\xa1/\x81\xa5rooms\x91\x01"), ERR_BAD_REQUEST},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct emission e;
        struct error error;
        assert_int_equal(decode(rows[i].bytes, &e, &error), rows[i].err);
    }
}

/* `n` times `one`, as the single argument's inside. */
static enum err repeat(struct slice before, struct slice one, size_t n, struct slice after)
{
    struct buf b = BUF_INIT;
    struct emission e;
    struct error error;
    buf_append(&b, before);
    for (size_t i = 0; i < n; i++)
        buf_append(&b, one);
    buf_append(&b, after);
    enum err err = decode(buf_slice(&b), &e, &error);
    if (err == OK) {
        assert_int_equal(json_check(e.data, &error), OK);
        emission_fini(&e);
    }
    buf_fini(&b);
    return err;
}

static void limits(void **state)
{
    (void)state;
    struct slice before = SLICE(HEAD "\x92" HI), after = SLICE("\xc0" TAIL);
    assert_int_equal(repeat(before, SLICE("\x91"), JSON_MAX_DEPTH - 2, after), OK);
    assert_int_equal(repeat(before, SLICE("\x91"), JSON_MAX_DEPTH - 1, after), ERR_TOO_LARGE);
    assert_int_equal(repeat(SLICE(HEAD "\x92" HI "\x9a"), SLICE("\xc4\x01x"), 10, SLICE(TAIL)), OK);
    assert_int_equal(repeat(SLICE(HEAD "\x92" HI "\x9b"), SLICE("\xc4\x01x"), 11, SLICE(TAIL)), ERR_TOO_LARGE);
    assert_int_equal(repeat(SLICE(HEAD "\x92" HI "\xdc\x4a\x38"), SLICE("\xc0"), 19000, SLICE(TAIL)), OK);
    assert_int_equal(repeat(SLICE(HEAD "\x92" HI "\xdc\x75\x30"), SLICE("\xc0"), 30000, SLICE(TAIL)), ERR_TOO_LARGE);
}

static void requests(void **state)
{
    struct emitter_request r;
    struct arena a;
    struct error error;
    (void)state;
    arena_init(&a, 4096);
    assert_int_equal(emitter_read_request(
                         SLICE("{\"type\":2,\"opts\":{\"rooms\":[\"r9\"],\"except\":[\"x\"]},\"rooms\":[\"a\",\"b\"]}"),
                         &a, &r, &error),
                     OK);
    assert_int_equal(r.verb, EMITTER_JOIN);
    assert_int_equal(r.to.room_count + r.to.except_count, 2);
    assert_slice(r.rooms[1], "b");
    assert_int_equal(emitter_read_request(SLICE("{\"type\":4,\"opts\":{\"rooms\":[],\"except\":[]},\"close\":true}"),
                                          &a, &r, &error),
                     OK);
    assert_true(r.close);
    static const struct {
        const char *body;
        enum err err;
    } rows[] = {
        {"", ERR_BAD_REQUEST},
        {"\xff", ERR_BAD_UTF8},
        {"{\"uid\":\"emitter\",\"type\":6,\"data\":[]}", ERR_UNSUPPORTED},
        {"{\"type\":2,\"sid\":\"x\",\"room\":\"y\"}", ERR_UNSUPPORTED},
        {"{\"type\":2,\"opts\":{\"rooms\":[1]},\"rooms\":[]}", ERR_BAD_REQUEST},
        {"{\"type\":2,\"opts\":{},\"rooms\":\"a\"}", ERR_BAD_REQUEST},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_int_equal(emitter_read_request(slice_str(rows[i].body), &a, &r, &error), rows[i].err);
    arena_reset(&a);
}

/* --- entries of the streams adapter's stream --- */

#define PACKET(data)                                                                                                   \
    "{\"packet\":{\"type\":2,\"data\":" data ",\"nsp\":\"/\"},\"opts\":{\"rooms\":[],\"flags\":{},\"except\":[]}}"

struct streamed {
    struct arena arena;
    struct emission e;
    struct error error;
};

static enum err read_entry(struct streamed *s, const char *nsp, const char *data)
{
    *s = (struct streamed){0};
    arena_init(&s->arena, 4096);
    return emission_read_streamed(slice_str(nsp), slice_str(data), 1000, &s->arena, &s->e, &s->error);
}

static void entry_fini(struct streamed *s)
{
    emission_fini(&s->e);
    arena_reset(&s->arena);
}

static void entries_of_the_stream(void **state)
{
    static const struct {
        const char *data, *args; /* args: NULL: two attachments */
    } rows[] = {
        {PACKET("[\"hi\"]"), "{\"$args\":[]}"},
        {PACKET("[ \"h\\u0069\" , {\"a\": [1.0]} , 2 ]"), "{\"$args\":[ {\"a\": [1.0]} , 2 ]}"},
        /* msgpack of {packet: {type: 2, data: ['hi', Buffer.from('xy'), 1]}, opts: {rooms: [], except: [], flags: {}}}, as a server has it, which leaves out nsp */
        {"gqZwYWNrZXSCpHR5cGUCpGRhdGGTomhpxAJ4eQGkb3B0c4Olcm9vbXOQpmV4Y2VwdJClZmxhZ3OA",
         "{\"$args\":[{\"_placeholder\":true,\"num\":0},1],\"$attachments\":[\"eHk=\"]}"},
    };
    struct streamed s;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (read_entry(&s, "/", rows[i].data) != OK)
            fail_msg("%s: %s", rows[i].data, s.error.text);
        assert_slice(s.e.event, "hi");
        assert_slice(s.e.data, rows[i].args);
        assert_slice(s.e.to.nsp, "/");
        assert_false(s.e.is_volatile);
        entry_fini(&s);
    }
    assert_int_equal(read_entry(&s, "/admin",
                                "{\"opts\":{\"rooms\":[\"a\",\"b\"],\"except\":[\"c\"],\"flags\":{\"volatile\":true}},"
                                "\"packet\":{\"type\":2,\"data\":[\"hi\"]}}"),
                     OK);
    assert_int_equal(s.e.to.room_count * 10 + s.e.to.except_count, 21);
    assert_slice(s.e.to.rooms[1], "b");
    assert_true(s.e.is_volatile);
    entry_fini(&s);
}

static void entries_that_are_refused(void **state)
{
    static const struct {
        const char *data;
        enum err err;
    } rows[] = {
        {"", ERR_BAD_REQUEST},
        {"{", ERR_BAD_REQUEST},
        {"{}", ERR_BAD_REQUEST},
        {"A", ERR_BAD_REQUEST},
        {"k", ERR_BAD_REQUEST},
        {"gA==", ERR_BAD_REQUEST},
        {"{\"\xff\":1}", ERR_BAD_UTF8},
        {PACKET("[]"), ERR_BAD_REQUEST},
        {PACKET("{}"), ERR_BAD_REQUEST},
        {PACKET("[1]"), ERR_INVALID_NAME},
        {PACKET("[\"\"]"), ERR_INVALID_NAME},
        {"{\"packet\":{\"type\":2,\"data\":[\"hi\"]}}", ERR_BAD_REQUEST},
        {"{\"packet\":{\"type\":3,\"data\":[\"hi\"]},\"opts\":{}}", ERR_BAD_REQUEST},
        {"{\"packet\":{\"type\":2,\"data\":[\"hi\"],\"nsp\":\"/x\"},\"opts\":{}}", ERR_BAD_REQUEST},
        {"{\"packet\":{\"type\":2,\"data\":[\"hi\"],\"id\":0},\"opts\":{}}", ERR_UNSUPPORTED},
        {"{\"packet\":{\"type\":2,\"data\":[\"hi\"]},\"opts\":{},\"requestId\":\"a\"}", ERR_UNSUPPORTED},
        {"{\"packet\":{\"type\":2,\"data\":[\"hi\"]},\"opts\":{\"rooms\":\"a\"}}", ERR_BAD_REQUEST},
    };
    struct streamed s;
    char large[1200];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (read_entry(&s, "/", rows[i].data) != rows[i].err)
            fail_msg("%s: %s, %s", rows[i].data, err_name(s.error.code), s.error.text);
        entry_fini(&s);
    }
    for (int n = 1000; n <= 1001; n++) {
        (void)snprintf(large, sizeof large, PACKET("[\"hi\",\"%0*d\"]"), n - 2, 0);
        assert_int_equal(read_entry(&s, "/", large), n == 1000 ? OK : ERR_TOO_LARGE);
        entry_fini(&s);
    }
}

static void requests_of_the_stream(void **state)
{
    struct emitter_request r;
    struct arena a;
    struct error error;
    (void)state;
    arena_init(&a, 4096);
    struct slice body =
        SLICE("{\"opts\":{\"rooms\":[\"x\"],\"except\":[],\"flags\":{}},\"rooms\":[\"a\"],\"close\":true}");
    assert_int_equal(emitter_read_streamed(STREAMED_LEAVE, SLICE("/n"), body, &a, &r, &error), OK);
    assert_int_equal(r.verb, EMITTER_LEAVE);
    assert_slice(r.to.nsp, "/n");
    assert_slice(r.to.rooms[0], "x");
    assert_slice(r.rooms[0], "a");
    assert_true(r.close);
    assert_int_equal(emitter_read_streamed(STREAMED_JOIN, SLICE("/"), SLICE("AAAA"), &a, &r, &error), ERR_BAD_REQUEST);
    assert_int_equal(emitter_read_streamed(STREAMED_JOIN, SLICE("/"), SLICE("{\"rooms\":[]}"), &a, &r, &error),
                     ERR_BAD_REQUEST);
    assert_int_equal(emitter_read_streamed(STREAMED_JOIN, SLICE("/"), SLICE("\xff"), &a, &r, &error), ERR_BAD_UTF8);
    arena_reset(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_become_json),
        cmocka_unit_test(who_is_meant),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(limits),
        cmocka_unit_test(requests),
        cmocka_unit_test(entries_of_the_stream),
        cmocka_unit_test(entries_that_are_refused),
        cmocka_unit_test(requests_of_the_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
