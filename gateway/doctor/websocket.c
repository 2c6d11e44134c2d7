/* gateway/doctor/websocket.c: opens a WebSocket as a mini-program does, and looks whether it works and stays. */
#include <assert.h>

#include <openssl/evp.h>

#include "base/random.h"
#include "base/utf8.h"
#include "gateway/doctor/private.h"
#include "proto/json.h"

#define SUBPROTOCOL "xindao.v1.json"
#define KEY_TEXT    25 /* base64 of 16 bytes, and a NUL */
#define ACCEPT_TEXT 29 /* base64 of 20 bytes, and a NUL */
#define FRAMES_MAX  1000
#define CONTROL_MAX 125
#define GUID        "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455 §1.3 */

struct talk {
    struct probe probe;
    struct buf in;
    struct answer answer;
    char accept[ACCEPT_TEXT]; /* what Sec-WebSocket-Accept has to be */
    size_t used;              /* of in, by the frame that was read last */
};

/* --- opening --- */

static void make_key(char ret_key[KEY_TEXT], char ret_accept[ACCEPT_TEXT])
{
    unsigned char raw[16], digest[EVP_MAX_MD_SIZE];
    char input[KEY_TEXT + sizeof GUID];
    unsigned n = 0;
    random_bytes(raw, sizeof raw);
    (void)EVP_EncodeBlock((unsigned char *)ret_key, raw, sizeof raw);
    int length = snprintf(input, sizeof input, "%s%s", ret_key, GUID);
    if (EVP_Digest(input, (size_t)length, digest, &n, EVP_sha1(), NULL) != 1 || n != 20)
        abort(); /* an OpenSSL without SHA-1 knows no WebSocket */
    (void)EVP_EncodeBlock((unsigned char *)ret_accept, digest, (int)n);
}

/* The talk is to be closed in any case. */
static enum err talk_open(const struct visit *v, bool offer, struct talk *ret, struct error *reterr)
{
    char key[KEY_TEXT];
    struct buf request = BUF_INIT;
    *ret = (struct talk){.probe = {.fd = -1}};
    enum err e = tls_open_http(v, &ret->probe, reterr);
    if (e != OK)
        return e;
    make_key(key, ret->accept);
    buf_printf(&request,
               "GET %.*s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
               "Sec-WebSocket-Version: 13\r\nUser-Agent: xindao-doctor\r\n%s\r\n",
               SLICE_FMT(v->target->path), v->target->authority, key,
               offer ? "Sec-WebSocket-Protocol: " SUBPROTOCOL "\r\n" : "");
    e = http_exchange(&ret->probe, buf_slice(&request), &ret->in, &ret->answer, reterr);
    buf_fini(&request);
    if (e == OK)
        ret->used = ret->answer.head;
    return e;
}

static void talk_close(struct talk *t)
{
    if (t->probe.fd >= 0)
        probe_close(&t->probe);
    buf_fini(&t->in);
}

/* --- frames --- */

static enum err send_frame(struct talk *t, unsigned opcode, struct slice payload, struct error *reterr)
{
    char frame[2 + 4 + CONTROL_MAX], mask[4];
    assert(payload.n <= CONTROL_MAX);
    random_bytes(mask, sizeof mask);
    frame[0] = (char)(0x80 | opcode);
    frame[1] = (char)(0x80 | payload.n);
    memcpy(frame + 2, mask, sizeof mask);
    for (size_t i = 0; i < payload.n; i++)
        frame[6 + i] = (char)(payload.p[i] ^ mask[i % 4]);
    return probe_send(&t->probe, (struct slice){frame, 6 + payload.n}, reterr);
}

/* The next frame; its payload is good until the one after. */
static enum err next_frame(struct talk *t, struct frame *ret, struct error *reterr)
{
    bool more = true, end = false;
    buf_consume(&t->in, t->used);
    t->used = 0;
    for (;;) {
        enum err e = frame_parse(buf_slice(&t->in), ret, &more, reterr);
        if (e != OK)
            return e;
        if (!more) {
            t->used = ret->size;
            return OK;
        }
        if (end)
            return fail(reterr, ERR_UNAVAILABLE, "the connection was closed without a close frame");
        e = probe_receive(&t->probe, &t->in, &end, reterr);
        if (e != OK)
            return e;
    }
}

static enum err closed(struct slice payload, struct error *reterr)
{
    if (payload.n < 2)
        return fail(reterr, ERR_CONFLICT, "the server said close without a code");
    unsigned code = (unsigned)(unsigned char)payload.p[0] << 8 | (unsigned char)payload.p[1];
    struct slice reason = slice_from(payload, 2);
    return fail(reterr, ERR_CONFLICT, "the server said close %u \"%.*s\"", code, reason.n < 100 ? (int)reason.n : 100,
                reason.p);
}

/* Reads until a frame of this kind is there; pings are answered, a close frame is an error (ERR_CONFLICT) unless it is wanted. */
static enum err wait_frame(struct talk *t, unsigned opcode, struct frame *ret, struct error *reterr)
{
    for (unsigned i = 0; i < FRAMES_MAX; i++) {
        enum err e = next_frame(t, ret, reterr);
        if (e != OK || ret->opcode == opcode)
            return e;
        if (ret->opcode == FRAME_CLOSE)
            return closed(ret->payload, reterr);
        if (ret->opcode == FRAME_PING && (e = send_frame(t, FRAME_PONG, ret->payload, reterr)) != OK)
            return e;
    }
    return fail(reterr, ERR_TOO_LARGE, "%d frames came, and not the one that should", FRAMES_MAX);
}

/* --- the opening handshake --- */

static const char *upgrade_mend(int status)
{
    switch (status) {
    case 400:
        return "the proxy must pass on Upgrade, Connection and the Sec-WebSocket headers, with HTTP/1.1 to the gateway";
    case 401: return "the gateway wants a token that is valid: https://HOST/ws?token=…";
    case 403: return "the proxy or the list of origins forbids it";
    case 404: return "the path must reach the gateway unchanged; its WebSockets are at /ws";
    case 429:
        return "a limit on connections of one address: behind a proxy, let it send the PROXY header (--proxy-protocol)";
    case 502:
    case 503:
    case 504: return "the proxy has no gateway to pass this on to, or they are not ready";
    default: break;
    }
    return status >= 300 && status < 400 ? "WebSocket clients follow no redirection: give them the final URL"
                                         : "let the proxy pass on Upgrade and Connection to the gateway for this path";
}

static bool check_upgrade(const struct visit *v, const struct talk *t)
{
    const struct answer *a = &t->answer;
    if (a->status != 101) {
        report_line(v->report, VERDICT_FAIL, "upgrade", upgrade_mend(a->status), "answered %d, not 101", a->status);
        return false;
    }
    if (!answer_list_has(answer_header(a, "Upgrade", NULL), "websocket") ||
        !answer_list_has(answer_header(a, "Connection", NULL), "upgrade") ||
        answer_header(a, "Sec-WebSocket-Extensions", NULL).n != 0) {
        report_line(v->report, VERDICT_FAIL, "upgrade", "let the proxy pass the headers of the answer on as they are",
                    "101, but Upgrade or Connection is wrong, or an extension was chosen that nobody offered");
        return false;
    }
    report_line(v->report, VERDICT_OK, "upgrade", NULL, "101");
    return true;
}

static bool check_accept(const struct visit *v, const struct talk *t)
{
    size_t count;
    struct slice got = answer_header(&t->answer, "Sec-WebSocket-Accept", &count);
    bool right = count == 1 && slice_eq(got, slice_str(t->accept));
    if (right)
        report_line(v->report, VERDICT_OK, "accept key", NULL, "right");
    else
        report_line(v->report, VERDICT_FAIL, "accept key",
                    "a cache or a proxy answers in the place of the gateway: let it pass this path on",
                    "Sec-WebSocket-Accept is wrong, or is not there once");
    return right;
}

static bool check_subprotocol(const struct visit *v, const struct talk *t)
{
    size_t count;
    struct slice got = answer_header(&t->answer, "Sec-WebSocket-Protocol", &count);
    bool right = count == 1 && slice_eq(got, SLICE(SUBPROTOCOL));
    if (right)
        report_line(v->report, VERDICT_OK, "subprotocol", NULL, "%s was offered and chosen", SUBPROTOCOL);
    else
        report_line(v->report, VERDICT_FAIL, "subprotocol",
                    "let the proxy pass on Sec-WebSocket-Protocol, in both directions",
                    "%s was offered, \"%.*s\" chosen: a client that offers it closes", SUBPROTOCOL,
                    got.n < 60 ? (int)got.n : 60, got.p != NULL ? got.p : "");
    return right;
}

/* A second connection that offers no subprotocol: then the server must not choose one (RFC 6455 §4.1). */
static void check_none_offered(const struct visit *v)
{
    struct talk t;
    struct error why;
    size_t count = 0;
    enum err e = talk_open(v, false, &t, &why);
    if (e == OK)
        (void)answer_header(&t.answer, "Sec-WebSocket-Protocol", &count);
    if (e != OK)
        report_line(v->report, VERDICT_FAIL, "no subprotocol", "see upgrade", "%s", why.text);
    else if (t.answer.status != 101)
        report_line(v->report, VERDICT_FAIL, "no subprotocol", upgrade_mend(t.answer.status),
                    "answered %d, not 101, when none is offered", t.answer.status);
    else if (count != 0)
        report_line(v->report, VERDICT_FAIL, "no subprotocol", "a proxy must not add Sec-WebSocket-Protocol",
                    "none was offered, and one was chosen: clients close");
    else
        report_line(v->report, VERDICT_OK, "no subprotocol", NULL, "none offered, none chosen");
    if (e == OK && t.answer.status == 101)
        (void)send_frame(&t, FRAME_CLOSE, SLICE("\x03\xe8"), &why); /* 1000: the session is not parked */
    talk_close(&t);
}

/* --- the conversation --- */

/* The word of "type" and of "code", as written; false for what is no such message. */
static bool message_is(struct slice text, const char *type, const char *code)
{
    static const char *const names[] = {"type", "code"};
    struct json_value values[2] = {{0}};
    struct error ignored;
    return utf8_valid(text) && json_members(text, names, 2, values, &ignored) == OK &&
           slice_eq(values[0].raw, slice_str(type)) && (code == NULL || slice_eq(values[1].raw, slice_str(code)));
}

/* The gateway says nothing to who has not shown a token yet; to a command it says why. */
static bool wants_token(struct talk *t)
{
    struct frame f;
    struct error ignored;
    probe_step(&t->probe, DOCTOR_STEP_MS);
    return send_frame(t, FRAME_TEXT, SLICE("{\"type\":\"leave\",\"id\":1,\"room\":\"doctor\"}"), &ignored) == OK &&
           wait_frame(t, FRAME_TEXT, &f, &ignored) == OK && message_is(f.payload, "\"error\"", "\"unauthorized\"");
}

/* Returns whether there is somebody to go on talking to. */
static bool check_welcome(const struct visit *v, struct talk *t)
{
    struct frame f;
    struct error why;
    probe_step(&t->probe, DOCTOR_STEP_MS);
    uint64_t since = now_ms();
    enum err e = wait_frame(t, FRAME_TEXT, &f, &why);
    if (e == OK && f.fin && message_is(f.payload, "\"welcome\"", NULL)) {
        report_line(v->report, VERDICT_OK, "welcome", NULL, "after %u ms", (unsigned)(now_ms() - since));
        return true;
    }
    if (e == ERR_TIMEOUT && wants_token(t)) {
        report_line(
            v->report, VERDICT_SKIP, "welcome", NULL,
            "the gateway waits for a token (--auth jwt); with one the rest is checked too: https://HOST/ws?token=...");
        return false;
    }
    report_line(v->report, VERDICT_FAIL, "welcome",
                "is this a Xindao gateway, and can it reach its Redis? /readyz and its log say so",
                "the first message is no welcome: %s", e != OK ? why.text : "it is something else");
    return false;
}

static bool ping(struct talk *t, struct error *reterr)
{
    struct frame f;
    probe_step(&t->probe, DOCTOR_STEP_MS);
    if (send_frame(t, FRAME_PING, SLICE("doctor"), reterr) != OK || wait_frame(t, FRAME_PONG, &f, reterr) != OK)
        return false;
    bool same = slice_eq(f.payload, SLICE("doctor"));
    if (!same)
        (void)fail(reterr, ERR_BAD_REQUEST, "the pong is not the one to this ping");
    return same;
}

static bool check_ping(const struct visit *v, struct talk *t)
{
    struct error why;
    uint64_t since = now_ms();
    bool ok = ping(t, &why);
    if (ok)
        report_line(v->report, VERDICT_OK, "ping", NULL, "answered after %u ms", (unsigned)(now_ms() - since));
    else
        report_line(v->report, VERDICT_FAIL, "ping", "the proxy must pass frames on in both directions, unbuffered",
                    "not answered: %s", why.text);
    return ok;
}

static bool check_idle(const struct visit *v, struct talk *t)
{
    static const char mend[] = "set the proxy's timeout for idle tunnels (HAProxy: timeout tunnel; nginx: "
                               "proxy_read_timeout) well above the heartbeat";
    struct frame f;
    struct error why;
    uint32_t seconds = v->options->idle_s;
    if (seconds == 0) {
        report_line(v->report, VERDICT_SKIP, "idle", NULL,
                    "not tried: --doctor-idle TIME keeps a silent connection for so long");
        return true;
    }
    probe_step(&t->probe, (uint64_t)seconds * 1000);
    uint64_t since = now_ms();
    enum err e;
    do
        e = wait_frame(t, FRAME_TEXT, &f, &why);
    while (e == OK);
    unsigned after = (unsigned)((now_ms() - since) / 1000);
    if (e != ERR_TIMEOUT)
        report_line(v->report, VERDICT_FAIL, "idle", mend, "ended after %u s: %s", after, why.text);
    else if (!ping(t, &why))
        report_line(v->report, VERDICT_FAIL, "idle", mend, "silent for %u s, and then a ping was not answered: %s",
                    seconds, why.text);
    else
        report_line(v->report, VERDICT_OK, "idle", NULL, "alive after %u s of silence", seconds);
    return e == ERR_TIMEOUT;
}

static void check_close(const struct visit *v, struct talk *t)
{
    struct frame f;
    struct error why;
    probe_step(&t->probe, DOCTOR_STEP_MS);
    enum err e = send_frame(t, FRAME_CLOSE, SLICE("\x03\xe8"), &why);
    if (e == OK)
        e = wait_frame(t, FRAME_CLOSE, &f, &why);
    if (e == OK)
        report_line(v->report, VERDICT_OK, "close", NULL, "answered");
    else
        report_line(v->report, VERDICT_WARN, "close",
                    "the proxy should let the last words through (HAProxy: timeout client-fin)",
                    "the close frame was not answered: %s", why.text);
}

static void check_talk(const struct visit *v, struct talk *t)
{
    if (!check_upgrade(v, t) || !check_accept(v, t))
        return;
    (void)check_subprotocol(v, t);
    if (!check_welcome(v, t) || !check_ping(v, t) || !check_idle(v, t))
        return;
    check_close(v, t);
}

void websocket_check(const struct visit *v)
{
    struct talk t;
    struct error why;
    enum err e = talk_open(v, true, &t, &why);
    if (e != OK)
        report_line(v->report, VERDICT_FAIL, "upgrade",
                    "let the proxy pass on Upgrade and Connection to the gateway for this path",
                    "no answer to the handshake: %s", why.text);
    else
        check_talk(v, &t);
    bool opened = e == OK && t.answer.status == 101;
    talk_close(&t);
    if (opened)
        check_none_offered(v);
}
