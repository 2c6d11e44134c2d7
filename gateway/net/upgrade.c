/* gateway/net/upgrade.c: the WebSocket opening handshake. */
#include "gateway/net/upgrade.h"

#include <openssl/evp.h>

#define KEY_TEXT   24 /* base64 of 16 bytes */
#define SHA1_BYTES 20

bool upgrade_wanted(const struct request *r)
{
    return request_list_has(request_header(r, HEADER_UPGRADE), "websocket");
}

/* Base64 of exactly 16 bytes: 22 letters, of which the last has 4 zero bits, and "==". */
static bool key_valid(struct slice key)
{
    if (key.n != KEY_TEXT || key.p[22] != '=' || key.p[23] != '=' || memchr(key.p, '=', 22) != NULL)
        return false;
    unsigned char bytes[18];
    return EVP_DecodeBlock(bytes, (const unsigned char *)key.p, KEY_TEXT) == sizeof bytes;
}

enum err upgrade_check(const struct request *r, int *ret_status, struct error *reterr)
{
    *ret_status = 400;
    if (r->parser.method != HTTP_GET)
        return fail(reterr, ERR_BAD_REQUEST, "a WebSocket is opened with GET");
    if (r->parser.http_minor < 1)
        return fail(reterr, ERR_BAD_REQUEST, "a WebSocket needs HTTP/1.1");
    if (!request_list_has(request_header(r, HEADER_CONNECTION), "upgrade"))
        return fail(reterr, ERR_BAD_REQUEST,
                    "Connection does not say Upgrade; is there a proxy that does not know WebSockets?");
    if (r->body.n != 0)
        return fail(reterr, ERR_BAD_REQUEST, "a WebSocket handshake has no body");
    if (!slice_eq(request_header(r, HEADER_WS_VERSION), SLICE("13"))) {
        *ret_status = 426;
        return fail(reterr, ERR_BAD_REQUEST, "only WebSocket version 13 is spoken here");
    }
    if (!key_valid(request_header(r, HEADER_WS_KEY)))
        return fail(reterr, ERR_BAD_REQUEST, "Sec-WebSocket-Key is not the base64 of 16 bytes");
    return OK;
}

void upgrade_accept(const struct request *r, struct slice subprotocol, struct buf *ret)
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455 §1.3 */
    char input[KEY_TEXT + sizeof guid - 1];
    memcpy(input, request_header(r, HEADER_WS_KEY).p, KEY_TEXT);
    memcpy(input + KEY_TEXT, guid, sizeof guid - 1);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (EVP_Digest(input, sizeof input, digest, &n, EVP_sha1(), NULL) != 1 || n != SHA1_BYTES)
        abort(); /* an OpenSSL without SHA-1 cannot serve any WebSocket */
    unsigned char accept[(SHA1_BYTES + 2) / 3 * 4 + 1];
    (void)EVP_EncodeBlock(accept, digest, SHA1_BYTES);
    buf_append_str(
        ret, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ");
    buf_append_str(ret, (const char *)accept);
    if (subprotocol.n != 0) {
        buf_append_str(ret, "\r\nSec-WebSocket-Protocol: ");
        buf_append(ret, subprotocol);
    }
    buf_append_str(ret, "\r\n\r\n");
}
