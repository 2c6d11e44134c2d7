/* gateway/doctor/private.h: what the files of the doctor share. */
#ifndef XD_DOCTOR_PRIVATE_H
#define XD_DOCTOR_PRIVATE_H

#include <sys/socket.h>

#include <openssl/ssl.h>

#include "base/buf.h"
#include "gateway/doctor/answer.h"
#include "gateway/doctor/doctor.h"
#include "gateway/doctor/report.h"
#include "gateway/doctor/target.h"

#define ADDRESSES_MAX 8
#define ADDRESS_TEXT  64
#define HEAD_MAX      16384 /* of an HTTP answer; ours have 300 bytes */

/* --- probe.c: one connection --- */

struct address {
    struct sockaddr_storage sa;
    socklen_t n;
    char text[ADDRESS_TEXT]; /* without the port */
};

/* A connection with a deadline. What waits, waits until then, and fails with ERR_TIMEOUT. */
struct probe {
    int fd;
    SSL *ssl; /* NULL before TLS */
    uint64_t deadline;
};

uint64_t now_ms(void);

/* A literal address, or what DNS says of the name; at most ADDRESSES_MAX, *ret_all is how many there were. ERR_TIMEOUT: DNS did not answer, which says nothing about the name. */
enum err address_lookup(const char *host, uint16_t port, struct address ret[ADDRESSES_MAX], size_t *ret_all,
                        struct error *reterr);
enum err address_parse(const char *text, uint16_t port, struct address *ret);

/* ERR_UNSUPPORTED: this machine has no way to such addresses (IPv6, mostly), which says nothing about the server. */
enum err probe_connect(const struct address *a, struct probe *ret, struct error *reterr);
/* Takes ssl in any case. ERR_BAD_REQUEST: the other side does not speak TLS. */
enum err probe_handshake(struct probe *probe, SSL *ssl, struct error *reterr);
enum err probe_send(struct probe *probe, struct slice bytes, struct error *reterr);
/* Appends what has come, at most 4096 bytes; *ret_end is set when the other side has closed. */
enum err probe_receive(struct probe *probe, struct buf *ret, bool *ret_end, struct error *reterr);
void probe_step(struct probe *probe, uint64_t ms); /* a new deadline from now */
void probe_close(struct probe *probe);

/* --- one address under examination --- */

struct visit {
    const struct target *target;
    const struct address *address;
    const struct doctor_options *options;
    struct report *report;
    bool no_alpn; /* the server refuses the extension */
};

/* --- tls.c, certificate.c --- */

/* What to offer. Zeros: TLS 1.0 to 1.3, every cipher, with the name, no ALPN. */
struct offer {
    int min, max;
    const char *ciphers; /* of TLS 1.2 and before */
    bool no_name, alpn;
};

/* Connects and shakes hands; certificates are looked at later, not here. */
enum err tls_open(const struct visit *v, const struct offer *offer, struct probe *ret, struct error *reterr);
/* What this server offers to everybody, to exchange HTTP with it. */
enum err tls_open_http(const struct visit *v, struct probe *ret, struct error *reterr);
/* False when there is no use in going on with this address. */
bool tls_check(struct visit *v);
void certificate_check(const struct visit *v, SSL *ssl);
/* Whether ca_file has certificates. */
enum err certificate_file_check(const char *file, struct error *reterr);

/* --- http.c, websocket.c --- */

/* Sends a request and reads until the end of the answer's head. ret_in has the head and whatever came behind it; *ret points into it. */
enum err http_exchange(struct probe *probe, struct slice request, struct buf *ret_in, struct answer *ret,
                       struct error *reterr);
void http_check(const struct visit *v);
void websocket_check(const struct visit *v);

#endif
