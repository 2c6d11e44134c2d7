/* tests/fuzz/fuzz_websocket.c: a stream of client frames must give the same messages and the same end however it is cut, and messages that were
 * framed again must parse to themselves. The first byte chooses the limit and how the stream is cut. */
#include <assert.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/protocol/websocket.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* What a stream gave: for each event opcode, length (8 bytes) and payload; at the end the close code. */
struct record {
    struct buf events;
    uint32_t max_message;
    int code;
    bool closed;
};

static bool on_message(void *owner, enum ws_opcode opcode, struct slice payload)
{
    struct record *r = owner;
    uint64_t length = payload.n;
    assert(opcode == WS_TEXT || opcode == WS_BINARY || (opcode >= WS_CLOSE && opcode <= WS_PONG));
    assert(payload.n <= (opcode < WS_CLOSE ? r->max_message : 125u));
    assert(opcode != WS_TEXT || utf8_valid(payload));
    buf_append_char(&r->events, (char)opcode);
    buf_append(&r->events, (struct slice){(const char *)&length, sizeof length});
    buf_append(&r->events, payload);
    r->closed = opcode == WS_CLOSE;
    return !r->closed;
}

static const struct ws_parser_events events = {on_message};

/* Pieces of 1 + (a byte of pattern) bytes; a piece is an exact copy, so that the address sanitizer sees an access past its end. */
static struct record parse(struct slice bytes, uint32_t max_message, const uint8_t *pattern, size_t pattern_n)
{
    struct record r = {.events = BUF_INIT, .max_message = max_message};
    struct ws_parser w;
    struct error error = {0};
    enum err err = OK;
    ws_parser_init(&w, max_message);
    size_t at = 0;
    for (size_t turn = 0; at < bytes.n && err == OK && !r.closed; turn++) {
        size_t n = pattern_n == 0 ? bytes.n : 1 + (size_t)pattern[turn % pattern_n];
        n = n < bytes.n - at ? n : bytes.n - at;
        char *copy = xmalloc(n);
        memcpy(copy, bytes.p + at, n);
        err = ws_parse(&w, copy, n, &events, &r, &r.code, &error);
        free(copy);
        at += n;
        assert(w.held.n < 140 && w.partial.n <= max_message);
    }
    if (err == OK)
        assert(r.code == 0);
    else
        assert(error.code == err && (r.code == 1002 || r.code == 1007 || r.code == 1009));
    ws_parser_fini(&w);
    return r;
}

static void assert_same(struct record *a, struct record *b)
{
    assert(a->code == b->code);
    assert(slice_eq(buf_slice(&a->events), buf_slice(&b->events)));
}

/* Frames every event of r again, as a client would, and parses that. */
static void check_again(struct record *r)
{
    static const char mask[4] = {0x5a, 0, 0x7f, 0x11};
    static const uint8_t pattern[] = {0, 2, 30, 5};
    struct buf stream = BUF_INIT;
    for (size_t at = 0; at < r->events.n;) {
        uint64_t length;
        memcpy(&length, r->events.p + at + 1, sizeof length);
        struct slice payload = {r->events.p + at + 1 + sizeof length, (size_t)length};
        char *header = buf_reserve(&stream, WS_HEADER_MAX);
        size_t n = ws_header(header, (enum ws_opcode)r->events.p[at], length);
        header[1] = (char)(header[1] | (char)0x80);
        stream.n += n;
        buf_append(&stream, (struct slice){mask, sizeof mask});
        for (size_t i = 0; i < payload.n; i++)
            buf_append_char(&stream, (char)(payload.p[i] ^ mask[i % 4]));
        if (r->events.p[at] == WS_CLOSE) {
            int code;
            struct slice reason;
            if (ws_close_parse(payload, &code, &reason))
                assert(code >= 1000 && code < 5000 && utf8_valid(reason));
        }
        at += 1 + sizeof length + payload.n;
    }
    struct record again = parse(buf_slice(&stream), r->max_message, pattern, sizeof pattern);
    assert(again.code == 0);
    assert(slice_eq(buf_slice(&again.events), buf_slice(&r->events)));
    buf_fini(&again.events);
    buf_fini(&stream);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const uint32_t limits[] = {100000, 1000, 126, 8};
    static const uint8_t ones[] = {0};
    if (n == 0)
        return 0;
    struct slice bytes = {(const char *)p + 1, n - 1};
    uint32_t max_message = limits[p[0] % ARRAY_LEN(limits)];
    const uint8_t pattern[] = {(uint8_t)(p[0] >> 2), (uint8_t)(p[0] >> 4), (uint8_t)n};
    struct record whole = parse(bytes, max_message, NULL, 0);
    struct record bytewise = parse(bytes, max_message, ones, sizeof ones);
    struct record cut = parse(bytes, max_message, pattern, sizeof pattern);
    assert_same(&whole, &bytewise);
    assert_same(&whole, &cut);
    check_again(&whole);
    buf_fini(&whole.events);
    buf_fini(&bytewise.events);
    buf_fini(&cut.events);
    return 0;
}
