/* tests/unit/test_websocket.c: WebSocket frames, by the topics of RFC 6455: every stream is parsed whole, byte by byte and cut at random, and
 * must give the same messages and the same error each time. */
#include <stdio.h>

#include "base/buf.h"
#include "base/mem.h"
#include "gateway/protocol/websocket.h"
#include "tests/support/check.h"

#define MAX_MESSAGE 100000

enum {
    FIN = 0x80,
    T = 0x81,
    B = 0x82,
    C = 0x88,
    PING = 0x89,
    PONG = 0x8a,
    T_MORE = 0x01,
    B_MORE = 0x02,
    MORE = 0x00,
    LAST = 0x80
};

/* One frame of a client: first byte and payload. */
struct frame {
    int first;
    const char *payload;
    size_t n; /* 0: up to NUL */
};

/* What a stream gave, as text: `T:payload|`, … and at the end `=close code`, or nothing. */
struct record {
    struct buf text;
    unsigned stop_after; /* events, 0: never */
    unsigned events;
};

static bool on_message(void *owner, enum ws_opcode opcode, struct slice payload)
{
    static const char letters[] = {
        [WS_TEXT] = 'T', [WS_BINARY] = 'B', [WS_CLOSE] = 'C', [WS_PING] = 'p', [WS_PONG] = 'q'};
    struct record *r = owner;
    assert_in_range(opcode, WS_TEXT, WS_PONG);
    assert_int_not_equal(letters[opcode], 0);
    buf_append_char(&r->text, letters[opcode]);
    buf_append_char(&r->text, ':');
    buf_append(&r->text, payload);
    buf_append_char(&r->text, '|');
    return ++r->events != r->stop_after;
}

static const struct ws_parser_events events = {on_message};

static uint64_t seed = 7;

static void put_frame(struct buf *b, int first, struct slice payload)
{
    char header[WS_HEADER_MAX], mask[4];
    size_t n = ws_header(header, WS_TEXT, payload.n);
    uint64_t random = check_random(&seed);
    memcpy(mask, &random, sizeof mask);
    header[0] = (char)first;
    header[1] = (char)(header[1] | 0x80);
    buf_append(b, (struct slice){header, n});
    buf_append(b, (struct slice){mask, sizeof mask});
    for (size_t i = 0; i < payload.n; i++)
        buf_append_char(b, (char)(payload.p[i] ^ mask[i % 4]));
}

static struct buf stream_of(const struct frame *frames)
{
    struct buf b = BUF_INIT;
    for (; frames->payload != NULL; frames++)
        put_frame(&b, frames->first,
                  (struct slice){frames->payload, frames->n != 0 ? frames->n : strlen(frames->payload)});
    return b;
}

/* Feeds `bytes` in pieces: 0 whole, 1 bytes, else random pieces up to that size. */
static struct buf parse_cut(struct slice bytes, size_t piece, uint32_t max_message, unsigned stop_after)
{
    struct record r = {.text = BUF_INIT, .stop_after = stop_after};
    struct ws_parser w;
    struct error error = {0};
    int code = 0;
    ws_parser_init(&w, max_message);
    enum err err = OK;
    for (size_t at = 0; at < bytes.n && err == OK && (stop_after == 0 || r.events < stop_after);) {
        size_t n = piece == 0 ? bytes.n : 1 + check_random(&seed) % piece;
        if (n > bytes.n - at)
            n = bytes.n - at;
        /* An exact copy, so that the address sanitizer sees an access past the end. */
        char *copy = xmalloc(n);
        memcpy(copy, bytes.p + at, n);
        err = ws_parse(&w, copy, n, &events, &r, &code, &error);
        free(copy);
        at += n;
        assert_true(w.held.n < 140);
        assert_true(w.partial.n <= max_message);
    }
    if (err != OK) {
        assert_int_equal(err, error.code);
        assert_true(strlen(error.text) > 10);
        buf_printf(&r.text, "=%d", code);
    } else {
        assert_int_equal(code, 0);
    }
    ws_parser_fini(&w);
    return r.text;
}

static void check_stream(struct slice bytes, struct slice want, uint32_t max_message, unsigned stop_after)
{
    static const size_t pieces[] = {0, 1, 2, 3, 7, 20, 200, 5000, 5000, 5000};
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        struct buf got = parse_cut(bytes, pieces[i], max_message, stop_after);
        assert_slices_eq(buf_slice(&got), want);
        buf_fini(&got);
    }
}

static void check_frames(const struct frame *frames, const char *want)
{
    struct buf bytes = stream_of(frames);
    check_stream(buf_slice(&bytes), slice_str(want), MAX_MESSAGE, 0);
    buf_fini(&bytes);
}

#define FRAMES(...) ((const struct frame[]){__VA_ARGS__, {0, NULL, 0}})

static void messages_of_every_length_class(void **state)
{
    static const size_t sizes[] = {0, 1, 7, 8, 9, 125, 126, 127, 128, 1000, 65535, 65536, 65537, MAX_MESSAGE};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        for (int first = T; first <= B; first++) {
            struct buf payload = BUF_INIT, bytes = BUF_INIT, want = BUF_INIT;
            for (size_t k = 0; k < sizes[i]; k++)
                buf_append_char(&payload, (char)(first == T ? 'a' + k % 26 : k * 7));
            put_frame(&bytes, first, buf_slice(&payload));
            buf_append_str(&want, first == T ? "T:" : "B:");
            buf_append(&want, buf_slice(&payload));
            buf_append_char(&want, '|');
            check_stream(buf_slice(&bytes), buf_slice(&want), MAX_MESSAGE, 0);
            buf_fini(&payload);
            buf_fini(&bytes);
            buf_fini(&want);
        }
    }
}

static void pings_and_pongs(void **state)
{
    (void)state;
    check_frames(FRAMES({PING, "", 0}), "p:|");
    check_frames(FRAMES({PING, "hello", 0}), "p:hello|");
    check_frames(FRAMES({PING, "\xff\xfe", 0}, {PONG, "unasked", 0}), "p:\xff\xfe|q:unasked|");
    check_frames(FRAMES({PING, "1", 0}, {PING, "2", 0}, {T, "x", 0}, {PING, "3", 0}), "p:1|p:2|T:x|p:3|");
    char longest[127];
    memset(longest, 'y', sizeof longest);
    struct buf want = BUF_INIT;
    buf_printf(&want, "p:%.*s|", 125, longest);
    buf_append_char(&want, '\0');
    check_frames(FRAMES({PING, longest, 125}), want.p);
    buf_fini(&want);
    check_frames(FRAMES({T, "a", 0}, {PING, longest, 126}), "T:a|=1002");
}

static void reserved_bits_and_opcodes(void **state)
{
    (void)state;
    for (int rsv = 1; rsv <= 7; rsv++) {
        check_frames(FRAMES({T, "a", 0}, {T | rsv << 4, "b", 0}, {PING, "", 0}), "T:a|=1002");
        check_frames(FRAMES({PING | rsv << 4, "", 0}), "=1002");
        check_frames(FRAMES({C | rsv << 4, "\x03\xe8", 0}), "=1002");
    }
    for (int opcode = 0; opcode <= 15; opcode++) {
        bool known = opcode <= WS_BINARY || (opcode >= WS_CLOSE && opcode <= WS_PONG);
        if (!known)
            check_frames(FRAMES({T, "a", 0}, {FIN | opcode, "b", 0}), "T:a|=1002");
    }
}

static void fragments(void **state)
{
    (void)state;
    check_frames(FRAMES({T_MORE, "one ", 0}, {LAST, "two", 0}), "T:one two|");
    check_frames(FRAMES({T_MORE, "a", 0}, {MORE, "b", 0}, {MORE, "c", 0}, {LAST, "d", 0}, {T, "e", 0}), "T:abcd|T:e|");
    check_frames(FRAMES({B_MORE, "", 0}, {MORE, "", 0}, {LAST, "", 0}), "B:|");
    check_frames(FRAMES({T_MORE, "", 0}, {MORE, "x", 0}, {LAST, "", 0}, {B, "y", 0}), "T:x|B:y|");
    /* Control frames in between are handed out at once. */
    check_frames(
        FRAMES({T_MORE, "a", 0}, {PING, "p", 0}, {MORE, "b", 0}, {PONG, "q", 0}, {PING, "", 0}, {LAST, "c", 0}),
        "p:p|q:q|p:|T:abc|");
    check_frames(FRAMES({T_MORE, "a", 0}, {C, "\x03\xe8", 0}), "C:\x03\xe8|");
    /* Control frames must not be fragments. */
    check_frames(FRAMES({WS_PING, "a", 0}, {LAST, "b", 0}), "=1002");
    check_frames(FRAMES({WS_PONG, "a", 0}, {LAST, "b", 0}), "=1002");
    check_frames(FRAMES({WS_CLOSE, "", 0}), "=1002");
    /* Nothing to continue. */
    check_frames(FRAMES({LAST, "a", 0}), "=1002");
    check_frames(FRAMES({MORE, "a", 0}, {T, "b", 0}), "=1002");
    check_frames(FRAMES({T, "a", 0}, {LAST, "b", 0}), "T:a|=1002");
    check_frames(FRAMES({T_MORE, "a", 0}, {LAST, "b", 0}, {LAST, "c", 0}), "T:ab|=1002");
    /* A message inside another. */
    check_frames(FRAMES({T_MORE, "a", 0}, {T, "b", 0}), "=1002");
    check_frames(FRAMES({T_MORE, "a", 0}, {B_MORE, "b", 0}), "=1002");
    check_frames(FRAMES({B_MORE, "a", 0}, {PING, "x", 0}, {T, "b", 0}), "p:x|=1002");
}

static void text_is_utf8(void **state)
{
    static const char *const valid[] = {"\xce\xba\xcf\x8c\xcf\x83\xce\xbc\xce\xb5",
                                        "\xf4\x8f\xbf\xbf",
                                        "\xef\xbf\xbf",
                                        "\xed\x9f\xbf",
                                        "\xee\x80\x80",
                                        "\x7f"};
    static const char *const invalid[] = {
        "\xf4\x90\x80\x80", "\xed\xa0\x80",        "\xc0\xaf", "\xe0\x80\xaf", "\x80", "\xff", "\xce",
        "good \xe4\xb8",    "\xf8\x88\x80\x80\x80"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(valid); i++) {
        char want[64];
        (void)snprintf(want, sizeof want, "T:%s|T:%s|T:z|", valid[i], valid[i]);
        /* Cut inside a character, with a control frame in the gap: only the whole message must be UTF-8. */
        check_frames(FRAMES({T, valid[i], 0}, {T_MORE, valid[i], 1}, {LAST, valid[i] + 1, 0}, {T, "z", 0}), want);
    }
    for (size_t i = 0; i < ARRAY_LEN(invalid); i++) {
        check_frames(FRAMES({T, "a", 0}, {T, invalid[i], 0}, {T, "z", 0}), "T:a|=1007");
        check_frames(FRAMES({T_MORE, "ok ", 0}, {PING, "\xff", 0}, {MORE, invalid[i], 0}, {LAST, "z", 0}),
                     "p:\xff|=1007");
        char want[64];
        (void)snprintf(want, sizeof want, "B:%s|", invalid[i]);
        check_frames(FRAMES({B, invalid[i], 0}), want);
    }
}

static void close_frames(void **state)
{
    (void)state;
    check_frames(FRAMES({C, "", 0}), "C:|");
    check_frames(FRAMES({C, "\x03\xe8 bye", 0}), "C:\x03\xe8 bye|");
    char longest[126];
    memset(longest, 'r', sizeof longest);
    check_frames(FRAMES({C, longest, 126}), "=1002");
    /* What comes after is not looked at when the event says stop, not even when it is wrong. */
    struct buf bytes = stream_of(FRAMES({T, "a", 0}, {C, "", 0}, {PING, "late", 0}, {0x7f, "wrong", 0}));
    check_stream(buf_slice(&bytes), SLICE("T:a|C:|"), MAX_MESSAGE, 2);
    buf_fini(&bytes);
}

static void close_payloads(void **state)
{
    int code;
    struct slice reason;
    (void)state;
    assert_true(ws_close_parse(SLICE_NONE, &code, &reason));
    assert_int_equal(code, 1005);
    assert_int_equal(reason.n, 0);
    assert_false(ws_close_parse(SLICE("\x03"), &code, &reason));
    assert_true(ws_close_parse(SLICE("\x03\xe8"), &code, &reason));
    assert_int_equal(code, 1000);
    assert_int_equal(reason.n, 0);
    assert_true(ws_close_parse(SLICE("\x0f\xa1 \xc3\xa9"), &code, &reason));
    assert_int_equal(code, 4001);
    assert_slice(reason, " \xc3\xa9");
    assert_false(ws_close_parse(SLICE("\x03\xe8 \xc3"), &code, &reason));

    for (int c = 0; c <= 0xffff; c++) {
        const char bytes[2] = {(char)(c >> 8), (char)c};
        bool want = c >= 1000 && c <= 4999 && (c < 1015 || c >= 3000) && c != 1004 && c != 1005 && c != 1006;
        code = -1;
        assert_int_equal(ws_close_parse((struct slice){bytes, 2}, &code, &reason), want);
        assert_int_equal(code, want ? c : -1);
    }
}

static void headers_that_break_the_rules(void **state)
{
    static const struct {
        struct slice bytes;
        const char *want;
    } cases[] = {
        {SLICE("\x81\x05hello"), "=1002"},                            /* not masked */
        {SLICE("\x81\x00"), "=1002"},                                 /* not masked, at once */
        {SLICE("\x89\x7e"), "=1002"},                                 /* a long ping */
        {SLICE("\x89\xfe\x00\x10"), "=1002"},                         /* a ping with an extended length */
        {SLICE("\x82\xfe\x00\x7d"), "=1002"},                         /* 125 in two bytes */
        {SLICE("\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff"), "=1002"}, /* 65535 in eight */
        {SLICE("\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00"), "=1002"}, /* highest bit */
        {SLICE("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff"), "=1009"}, /* nobody has so much */
        {SLICE("\x82\xff\x00\x00\x00\x00\x00\x01\x86\xa1"), "=1009"}, /* max + 1, before its mask arrived */
        {SLICE("\x82\xff\x00\x00\x00\x00\x00\x01\x86\xa0"), ""},      /* max */
        {SLICE("\x82"), ""},                                          /* more to come */
        {SLICE("\xf2"), ""},                                          /* judged with the second byte */
        {SLICE("GET / HTTP/1.1\r\n"), "=1002"},                       /* not even WebSocket */
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        check_stream(cases[i].bytes, slice_str(cases[i].want), MAX_MESSAGE, 0);
}

static void size_limit(void **state)
{
    struct buf bytes = stream_of(FRAMES({T, "12345678", 0}, {T, "123456789", 0}));
    (void)state;
    check_stream(buf_slice(&bytes), SLICE("T:12345678|=1009"), 8, 0);
    buf_fini(&bytes);
    /* Fragments count together; control frames do not count. */
    bytes = stream_of(FRAMES({T_MORE, "1234", 0}, {PING, "0123456789", 0}, {MORE, "5678", 0}, {LAST, "", 0},
                             {B_MORE, "12345", 0}, {LAST, "6789", 0}));
    check_stream(buf_slice(&bytes), SLICE("p:0123456789|T:12345678|=1009"), 8, 0);
    buf_fini(&bytes);
    bytes = stream_of(FRAMES({T, "", 0}, {PING, "1", 0}, {T, "a", 0}));
    check_stream(buf_slice(&bytes), SLICE("T:|p:1|=1009"), 0, 0);
    buf_fini(&bytes);
}

/* A random stream, mostly right, sometimes bent in one byte. */
static struct buf random_stream(void)
{
    static const int firsts[] = {T, B, T_MORE, B_MORE, MORE, LAST, PING, PONG, C};
    struct buf b = BUF_INIT;
    bool inside = false;
    for (uint64_t i = check_random(&seed) % 12; i > 0; i--) {
        char payload[400];
        size_t n = check_random(&seed) % (check_random(&seed) % 4 == 0 ? sizeof payload : 20);
        int first = firsts[check_random(&seed) % ARRAY_LEN(firsts)];
        memset(payload, 'a' + (int)(check_random(&seed) % 26), sizeof payload);
        if (check_random(&seed) % 8 != 0) { /* make it fit */
            if (inside && first != PING && first != PONG)
                first = check_random(&seed) % 2 != 0 ? MORE : LAST;
            else if (!inside && (first == MORE || first == LAST))
                first = T;
            if (first >= C && n > 125)
                n = 125;
        }
        put_frame(&b, first, (struct slice){payload, n});
        inside = first < FIN || (inside && first >= C);
    }
    if (b.n != 0 && check_random(&seed) % 4 == 0)
        b.p[check_random(&seed) % b.n] = (char)check_random(&seed);
    return b;
}

static void the_cuts_do_not_matter(void **state)
{
    unsigned failed = 0, empty = 0;
    (void)state;
    for (int round = 0; round < 3000; round++) {
        struct buf bytes = random_stream(), want = parse_cut(buf_slice(&bytes), 0, 1000, 0);
        check_stream(buf_slice(&bytes), buf_slice(&want), 1000, 0);
        failed += want.n >= 5 && want.p[want.n - 5] == '=';
        empty += want.n == 0;
        buf_fini(&bytes);
        buf_fini(&want);
    }
    /* Both kinds were seen, or this test tests nothing. */
    assert_in_range(failed, 500, 2500);
    assert_in_range(empty, 0, 1000);
}

static void memory_is_given_back(void **state)
{
    struct record r = {.text = BUF_INIT};
    struct ws_parser w;
    struct error error;
    int code;
    (void)state;
    struct buf bytes = stream_of(FRAMES({T_MORE, "half", 0}, {LAST, "whole", 0}, {PING, "12345", 0}));
    ws_parser_init(&w, MAX_MESSAGE);
    for (size_t i = 0; i < bytes.n; i++)
        assert_int_equal(ws_parse(&w, bytes.p + i, 1, &events, &r, &code, &error), OK);
    assert_null(w.partial.p);
    assert_null(w.held.p);
    ws_parser_fini(&w);
    buf_fini(&bytes);
    buf_fini(&r.text);
}

static void builds_frames(void **state)
{
    struct buf b = BUF_INIT;
    char zeros[70000] = {0};
    (void)state;
    ws_frame_append(&b, WS_TEXT, SLICE("hi"));
    ws_frame_append(&b, WS_PONG, SLICE_NONE);
    ws_frame_append(&b, WS_BINARY, SLICE("\0"));
    assert_slices_eq(buf_slice(&b), SLICE("\x81\x02hi\x8a\x00\x82\x01\0"));
    static const struct {
        size_t n;
        struct slice header;
    } sizes[] = {{125, SLICE("\x82\x7d")},
                 {126, SLICE("\x82\x7e\x00\x7e")},
                 {65535, SLICE("\x82\x7e\xff\xff")},
                 {65536, SLICE("\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00")}};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        buf_clear(&b);
        ws_frame_append(&b, WS_BINARY, (struct slice){zeros, sizes[i].n});
        assert_int_equal(b.n, sizes[i].header.n + sizes[i].n);
        assert_slices_eq(((struct slice){b.p, sizes[i].header.n}), sizes[i].header);
    }
    buf_fini(&b);
}

static void builds_close_frames(void **state)
{
    struct buf b = BUF_INIT, reason = BUF_INIT;
    (void)state;
    ws_close_append(&b, 1001, SLICE("draining"));
    assert_slice(buf_slice(&b), "\x88\x0a\x03\xe9"
                                "draining");
    buf_clear(&b);
    ws_close_append(&b, 1000, SLICE_NONE);
    assert_slice(buf_slice(&b), "\x88\x02\x03\xe8");
    /* Cut to 123 bytes, but never inside a character. */
    for (int i = 0; i < 122; i++)
        buf_append_char(&reason, 'x');
    buf_append_str(&reason, "\xe4\xb8\xad more");
    buf_clear(&b);
    ws_close_append(&b, 1000, buf_slice(&reason));
    assert_int_equal(b.n, 2 + 2 + 122);
    assert_int_equal((uint8_t)b.p[1], 124);
    buf_clear(&reason);
    for (int i = 0; i < 200; i++)
        buf_append_char(&reason, 'x');
    buf_clear(&b);
    ws_close_append(&b, 1000, buf_slice(&reason));
    assert_int_equal(b.n, 2 + 125);
    buf_fini(&b);
    buf_fini(&reason);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_of_every_length_class),
        cmocka_unit_test(pings_and_pongs),
        cmocka_unit_test(reserved_bits_and_opcodes),
        cmocka_unit_test(fragments),
        cmocka_unit_test(text_is_utf8),
        cmocka_unit_test(close_frames),
        cmocka_unit_test(close_payloads),
        cmocka_unit_test(headers_that_break_the_rules),
        cmocka_unit_test(size_limit),
        cmocka_unit_test(the_cuts_do_not_matter),
        cmocka_unit_test(memory_is_given_back),
        cmocka_unit_test(builds_frames),
        cmocka_unit_test(builds_close_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
