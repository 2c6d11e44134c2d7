/* gateway/net/record.h: TLS 1.3 records after the handshake (RFC 8446 §5), in place of OpenSSL's record layer.
 *
 * OpenSSL makes the handshake; what it derived then goes on here, and its SSL object can be freed. The ciphers themselves are OpenSSL's (EVP). Nothing
 * here knows sockets: bytes to records and back, with the keys, sequence numbers and key updates of one connection. */
#ifndef XD_NET_RECORD_H
#define XD_NET_RECORD_H

#include <openssl/evp.h>

#include "base/buf.h"

#define RECORD_HEADER     5
#define RECORD_PLAIN_MAX  16384u
#define RECORD_SEALED_MAX (RECORD_PLAIN_MAX + 256u) /* after the header, as received: RFC 8446 §5.2 */
#define RECORD_OVERHEAD   22u                       /* header, content type, tag */
#define RECORD_SECRET_MAX 48
#define RECORDS_MAX       (1ull << 23) /* under one key; RFC 8446 §5.5 allows 2^24.5 for AES-GCM */

enum record_type { RECORD_ALERT = 21, RECORD_HANDSHAKE = 22, RECORD_DATA = 23 };

/* RFC 8446 §6, those that are made or understood here. */
enum tls_alert {
    ALERT_CLOSE_NOTIFY = 0,
    ALERT_UNEXPECTED_MESSAGE = 10,
    ALERT_BAD_RECORD_MAC = 20,
    ALERT_RECORD_OVERFLOW = 22,
    ALERT_USER_CANCELED = 90,
};

/* What the handshake leaves: the traffic secrets of both directions, as long as the hash of the suite. */
struct record_secrets {
    unsigned char client[RECORD_SECRET_MAX], server[RECORD_SECRET_MAX];
    size_t client_n, server_n;
    uint64_t written; /* records sent under the server's secret already: session tickets */
};

/* One direction. */
struct record_half {
    EVP_CIPHER_CTX *ctx;
    uint64_t seq;
    unsigned char iv[12], secret[RECORD_SECRET_MAX];
};

struct records {
    const struct record_suite *suite;
    struct record_half out, in;
    uint32_t quiet; /* records in a row that brought no data */
    enum tls_alert alert;
    bool part_done;  /* part is a record that was given out */
    struct buf part; /* a record that has not arrived whole */
};

struct record {
    enum record_type type;
    char *p; /* the content, in the bytes that were given or in records->part */
    size_t n;
};

/* suite is the number of a TLS 1.3 cipher suite (RFC 8446 §B.4). NULL when it or the secrets are not what we know: OpenSSL must go on then. */
struct records *records_create(unsigned suite, const struct record_secrets *secrets);
/* NULL-safe, clears the pointer and the keys. */
void records_destroy(struct records **r);

/* Writes a record of n (at most RECORD_PLAIN_MAX) bytes to ret, which has room for n + RECORD_OVERHEAD, and returns its length. */
size_t records_seal(struct records *r, enum record_type type, const char *p, size_t n, char *ret);
/* After so many records the keys must change (RFC 8446 §5.5): a key update has to be sent. */
static inline bool records_worn(const struct records *r)
{
    return r->out.seq >= RECORDS_MAX;
}

enum record_result { RECORD_MORE, RECORD_READY, RECORD_BAD };

/* Takes bytes off the front of *p until a record is whole. MORE: all were taken. READY: *ret is valid until the next call; the bytes are changed in place.
 * BAD: r->alert says why, to be sent to the peer; nothing more can be read. */
enum record_result records_take(struct records *r, char **p, size_t *n, struct record *ret);

/* Key updates (RFC 8446 §4.6.3). Reads one; false when the bytes are none. *retasked: the peer wants one in return. */
bool records_key_update(struct records *r, struct slice message, bool *retasked);
/* Writes one of ours to ret, which has room for 5 + RECORD_OVERHEAD, and changes to the next key. */
size_t records_update_own(struct records *r, char *ret);

#endif
