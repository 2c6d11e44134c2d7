/* gateway/protocol/websocket.c: WebSocket frames. */
#include "gateway/protocol/websocket.h"

#include <inttypes.h>

#include "base/utf8.h"

#define FIN         0x80u
#define RSV         0x70u
#define OPCODE      0x0fu
#define MASKED      0x80u
#define LENGTH      0x7fu
#define LENGTH_16   126u
#define LENGTH_64   127u
#define CONTROL_MAX 125u
#define REASON_MAX  (CONTROL_MAX - 2)

/* A client's frame header, as far as it is known. size is its length, or 0 while `need` bytes are needed to know more. */
struct header {
    enum ws_opcode opcode;
    bool fin;
    uint64_t length;
    uint8_t mask[4];
    size_t size, need;
};

static void put_be(char *ret, uint64_t v, size_t bytes)
{
    for (size_t i = bytes; i > 0; i--, v >>= 8)
        ret[i - 1] = (char)(v & 0xff);
}

static uint64_t get_be(const char *p, size_t bytes)
{
    uint64_t v = 0;
    for (size_t i = 0; i < bytes; i++)
        v = v << 8 | (uint8_t)p[i];
    return v;
}

size_t ws_header(char ret[WS_HEADER_MAX], enum ws_opcode opcode, uint64_t n)
{
    ret[0] = (char)(FIN | opcode);
    if (n < LENGTH_16) {
        ret[1] = (char)n;
        return 2;
    }
    if (n <= UINT16_MAX) {
        ret[1] = LENGTH_16;
        put_be(ret + 2, n, 2);
        return 4;
    }
    ret[1] = LENGTH_64;
    put_be(ret + 2, n, 8);
    return 10;
}

void ws_frame_append(struct buf *ret, enum ws_opcode opcode, struct slice payload)
{
    char *header = buf_reserve(ret, WS_HEADER_MAX + payload.n);
    ret->n += ws_header(header, opcode, payload.n);
    buf_append(ret, payload);
}

void ws_close_append(struct buf *ret, int code, struct slice reason)
{
    char payload[CONTROL_MAX];
    if (reason.n > REASON_MAX) {
        reason.n = REASON_MAX;
        while (reason.n > 0 && ((uint8_t)reason.p[reason.n] & 0xc0) == 0x80)
            reason.n--;
    }
    put_be(payload, (uint64_t)code, 2);
    if (reason.n != 0)
        memcpy(payload + 2, reason.p, reason.n);
    ws_frame_append(ret, WS_CLOSE, (struct slice){payload, 2 + reason.n});
}

bool ws_close_parse(struct slice payload, int *ret_code, struct slice *ret_reason)
{
    if (payload.n == 0) {
        *ret_code = 1005;
        *ret_reason = SLICE_NONE;
        return true;
    }
    if (payload.n == 1)
        return false;
    int code = (int)get_be(payload.p, 2);
    bool defined = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014);
    if ((!defined && (code < 3000 || code > 4999)) || !utf8_valid(slice_from(payload, 2)))
        return false;
    *ret_code = code;
    *ret_reason = slice_from(payload, 2);
    return true;
}

bool ws_frame_take(struct slice *frames, enum ws_opcode *ret_opcode, struct slice *ret_payload)
{
    if (frames->n < 2)
        return false;
    uint64_t n = (uint8_t)frames->p[1] & LENGTH;
    size_t header = n < LENGTH_16 ? 2 : n == LENGTH_16 ? 4 : 10;
    if (frames->n < header)
        return false;
    if (header > 2)
        n = get_be(frames->p + 2, header - 2);
    if (n > frames->n - header)
        return false;
    *ret_opcode = (enum ws_opcode)((uint8_t)frames->p[0] & OPCODE);
    *ret_payload = (struct slice){frames->p + header, (size_t)n};
    *frames = slice_from(*frames, header + (size_t)n);
    return true;
}

void ws_parser_init(struct ws_parser *w, uint32_t max_message)
{
    *w = (struct ws_parser){.max_message = max_message};
}

void ws_parser_fini(struct ws_parser *w)
{
    buf_fini(&w->partial);
    buf_fini(&w->held);
}

static bool control(enum ws_opcode opcode)
{
    return opcode >= WS_CLOSE;
}

static bool opcode_known(enum ws_opcode opcode)
{
    return opcode <= WS_BINARY || (opcode >= WS_CLOSE && opcode <= WS_PONG);
}

/* What the first two bytes tell. */
static enum err check_start(const struct ws_parser *w, uint8_t first, uint8_t second, struct error *reterr)
{
    enum ws_opcode opcode = (enum ws_opcode)(first & OPCODE);
    if ((first & RSV) != 0)
        return fail(reterr, ERR_BAD_REQUEST, "reserved bits 0x%x set in a frame, no extension was negotiated",
                    first & RSV);
    if (!opcode_known(opcode))
        return fail(reterr, ERR_BAD_REQUEST, "unknown opcode %u", first & OPCODE);
    if ((second & MASKED) == 0)
        return fail(reterr, ERR_BAD_REQUEST, "a frame is not masked");
    if (control(opcode)) {
        if ((first & FIN) == 0)
            return fail(reterr, ERR_BAD_REQUEST, "a control frame (opcode %u) is fragmented", first & OPCODE);
        if ((second & LENGTH) > CONTROL_MAX)
            return fail(reterr, ERR_BAD_REQUEST, "a control frame (opcode %u) of more than %u bytes", first & OPCODE,
                        CONTROL_MAX);
        return OK;
    }
    if (opcode == WS_CONTINUATION && w->message_opcode == WS_CONTINUATION)
        return fail(reterr, ERR_BAD_REQUEST, "a continuation frame, but no message to continue");
    if (opcode != WS_CONTINUATION && w->message_opcode != WS_CONTINUATION)
        return fail(reterr, ERR_BAD_REQUEST, "a message begins (opcode %u) inside another", first & OPCODE);
    return OK;
}

static enum err check_length(const struct ws_parser *w, size_t extended, const struct header *h, struct error *reterr)
{
    if ((extended == 2 && h->length < LENGTH_16) || (extended == 8 && h->length <= UINT16_MAX))
        return fail(reterr, ERR_BAD_REQUEST, "a length of %llu in %zu bytes, more than it takes",
                    (unsigned long long)h->length, extended);
    if (h->length >> 63 != 0)
        return fail(reterr, ERR_BAD_REQUEST, "a length with its highest bit set");
    if (!control(h->opcode) && h->length > w->max_message - w->partial.n)
        return fail(reterr, ERR_TOO_LARGE, "a message of %" PRIu64 " bytes or more, at most %" PRIu32 " allowed",
                    w->partial.n + h->length, w->max_message);
    return OK;
}

/* Reads a header from the n bytes at p that are there so far. What is wrong is reported as soon as the bytes that show it are there, so that
 * the answer does not depend on how the stream was cut. */
static enum err read_header(const struct ws_parser *w, const char *p, size_t n, struct header *ret,
                            struct error *reterr)
{
    *ret = (struct header){.need = 2};
    if (n < 2)
        return OK;
    uint8_t first = (uint8_t)p[0], second = (uint8_t)p[1];
    enum err err = check_start(w, first, second, reterr);
    if (err != OK)
        return err;
    ret->opcode = (enum ws_opcode)(first & OPCODE);
    ret->fin = (first & FIN) != 0;
    ret->length = second & LENGTH;
    size_t extended = ret->length == LENGTH_64 ? 8 : ret->length == LENGTH_16 ? 2 : 0;
    ret->need = 2 + extended;
    if (n < ret->need)
        return OK;
    if (extended != 0)
        ret->length = get_be(p + 2, extended);
    err = check_length(w, extended, ret, reterr);
    if (err != OK)
        return err;
    ret->need += sizeof ret->mask;
    if (n < ret->need)
        return OK;
    memcpy(ret->mask, p + 2 + extended, sizeof ret->mask);
    ret->size = ret->need;
    return OK;
}

/* Unmasks in place and turns the mask for the bytes that follow. */
static void unmask(char *p, size_t n, uint8_t mask[4])
{
    uint32_t four;
    memcpy(&four, mask, sizeof four);
    uint64_t eight = (uint64_t)four << 32 | four, v;
    size_t i = 0;
    for (; n - i >= sizeof v; i += sizeof v) {
        memcpy(&v, p + i, sizeof v);
        v ^= eight;
        memcpy(p + i, &v, sizeof v);
    }
    for (; i < n; i++)
        p[i] = (char)((uint8_t)p[i] ^ mask[i % 4]);
    uint8_t turned[4];
    for (size_t k = 0; k < sizeof turned; k++)
        turned[k] = mask[(n + k) % 4];
    memcpy(mask, turned, sizeof turned);
}

/* One ws_parse call. */
struct feed {
    char *p;
    size_t n;
    const struct ws_parser_events *events;
    void *owner;
    struct error *reterr;
    bool stopped; /* an event said so; the parser may be gone */
};

static void take(struct feed *f, size_t n)
{
    f->p += n;
    f->n -= n;
}

static enum err emit(struct feed *f, enum ws_opcode opcode, struct slice payload)
{
    if (opcode == WS_TEXT && !utf8_valid(payload))
        return fail(f->reterr, ERR_BAD_UTF8, "a text message of %zu bytes is not UTF-8", payload.n);
    f->stopped = !f->events->message(f->owner, opcode, payload);
    return OK;
}

/* Hands out what was collected. Detached from the parser first: the event may end it. */
static enum err emit_partial(struct ws_parser *w, struct feed *f)
{
    struct buf message = w->partial;
    enum ws_opcode opcode = w->message_opcode;
    w->partial = BUF_INIT;
    w->message_opcode = WS_CONTINUATION;
    enum err err = emit(f, opcode, buf_slice(&message));
    buf_fini(&message);
    return err;
}

/* Takes bytes of the data frame under way. */
static enum err feed_frame(struct ws_parser *w, struct feed *f)
{
    size_t n = f->n < w->frame_left ? f->n : (size_t)w->frame_left;
    unmask(f->p, n, w->mask);
    buf_append(&w->partial, (struct slice){f->p, n});
    take(f, n);
    w->frame_left -= n;
    if (w->frame_left != 0)
        return OK;
    w->in_frame = false;
    return w->fin ? emit_partial(w, f) : OK;
}

/* A data frame whose header was just taken. */
static enum err begin_frame(struct ws_parser *w, struct feed *f, struct header *h)
{
    if (h->fin && h->opcode != WS_CONTINUATION && f->n >= h->length) {
        char *payload = f->p;
        unmask(payload, (size_t)h->length, h->mask);
        take(f, (size_t)h->length);
        return emit(f, h->opcode, (struct slice){payload, (size_t)h->length});
    }
    if (h->opcode != WS_CONTINUATION)
        w->message_opcode = h->opcode;
    w->fin = h->fin;
    w->frame_left = h->length;
    memcpy(w->mask, h->mask, sizeof w->mask);
    w->in_frame = true;
    return feed_frame(w, f);
}

/* Moves bytes from the input to `held` until it has `need` of them; false when the input ends before. */
static bool hold(struct ws_parser *w, struct feed *f, size_t need)
{
    size_t n = need - w->held.n < f->n ? need - w->held.n : f->n;
    buf_append(&w->held, (struct slice){f->p, n});
    take(f, n);
    return w->held.n == need;
}

/* A frame whose header, or header and control payload, came in pieces. */
static enum err feed_held(struct ws_parser *w, struct feed *f)
{
    struct header h;
    for (;;) {
        enum err err = read_header(w, w->held.p, w->held.n, &h, f->reterr);
        if (err != OK)
            return err;
        if (h.size != 0)
            break;
        if (!hold(w, f, h.need))
            return OK;
    }
    if (!control(h.opcode)) {
        buf_fini(&w->held);
        return begin_frame(w, f, &h);
    }
    char payload[CONTROL_MAX];
    size_t n = (size_t)h.length;
    if (!hold(w, f, h.size + n))
        return OK;
    memcpy(payload, w->held.p + h.size, n);
    buf_fini(&w->held);
    unmask(payload, n, h.mask);
    return emit(f, h.opcode, (struct slice){payload, n});
}

/* The usual case: a frame begins, and its header is all there. */
static enum err feed_header(struct ws_parser *w, struct feed *f)
{
    struct header h;
    enum err err = read_header(w, f->p, f->n, &h, f->reterr);
    if (err != OK)
        return err;
    if (h.size == 0 || (control(h.opcode) && f->n < h.size + h.length)) {
        (void)hold(w, f, f->n);
        return OK;
    }
    take(f, h.size);
    if (!control(h.opcode))
        return begin_frame(w, f, &h);
    char *payload = f->p;
    unmask(payload, (size_t)h.length, h.mask);
    take(f, (size_t)h.length);
    return emit(f, h.opcode, (struct slice){payload, (size_t)h.length});
}

static int close_code(enum err err)
{
    if (err == ERR_TOO_LARGE)
        return 1009;
    return err == ERR_BAD_UTF8 ? 1007 : 1002;
}

/* p is written to, through the feed. NOLINTNEXTLINE(readability-function-size,readability-non-const-parameter) */
enum err ws_parse(struct ws_parser *w, char *p, size_t n, const struct ws_parser_events *events, void *owner,
                  int *ret_close, struct error *reterr)
{
    struct feed f = {.p = p, .n = n, .events = events, .owner = owner, .reterr = reterr};
    enum err err = OK;
    while (f.n != 0 && err == OK && !f.stopped) {
        if (w->in_frame)
            err = feed_frame(w, &f);
        else if (w->held.n != 0)
            err = feed_held(w, &f);
        else
            err = feed_header(w, &f);
    }
    if (err != OK)
        *ret_close = close_code(err);
    return err;
}
