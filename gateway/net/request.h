/* gateway/net/request.h: one HTTP/1.x request out of a stream of bytes, within limits. Pure: no sockets.
 *
 * URL and the values of the headers below are copied to `text`; everything else is checked, counted and forgotten. */
#ifndef XD_REQUEST_H
#define XD_REQUEST_H

#include <http_parser.h>

#include "base/buf.h"
#include "base/error.h"
#include "gateway/transport.h"

#define HTTP_HEADER_MAX  8192 /* request line and header */
#define HTTP_HEADERS_MAX 64
#define HTTP_URL_MAX     4096
#define HTTP_BODY_MAX    65536 /* unless somebody says that this one may have more */

enum header_rule {
    HEADER_ONCE,  /* a second one makes the request ambiguous: refused */
    HEADER_FIRST, /* later ones are ignored */
    HEADER_LIST,  /* joined with ", " as RFC 9110 §5.3 says */
};

// clang-format off
#define HEADER_MAP(X)                                                     \
    X(HEADER_HOST,            "host",                      HEADER_ONCE)   \
    X(HEADER_ORIGIN,          "origin",                    HEADER_ONCE)   \
    X(HEADER_USER_AGENT,      "user-agent",                HEADER_FIRST)  \
    X(HEADER_REFERER,         "referer",                   HEADER_FIRST)  \
    X(HEADER_AUTHORIZATION,   "authorization",             HEADER_ONCE)   \
    X(HEADER_ACCEPT_ENCODING, "accept-encoding",           HEADER_LIST)   \
    X(HEADER_CONTENT_TYPE,    "content-type",              HEADER_ONCE)   \
    X(HEADER_EXPECT,          "expect",                    HEADER_LIST)   \
    X(HEADER_CONNECTION,      "connection",                HEADER_LIST)   \
    X(HEADER_UPGRADE,         "upgrade",                   HEADER_LIST)   \
    X(HEADER_WS_KEY,          "sec-websocket-key",         HEADER_ONCE)   \
    X(HEADER_WS_VERSION,      "sec-websocket-version",     HEADER_ONCE)   \
    X(HEADER_WS_PROTOCOL,     "sec-websocket-protocol",    HEADER_LIST)   \
    X(HEADER_REQUEST_ID,      "x-request-id",              HEADER_FIRST)
// clang-format on

enum header {
#define X(code, name, rule) code,
    HEADER_MAP(X)
#undef X
        HEADERS,
    HEADER_OTHER = HEADERS
};

#define HEADER_NAME_MAX 32 /* longer than any name of ours */

struct span {
    uint16_t at, n;
};

struct request;
/* How large a body may be that is larger than HTTP_BODY_MAX, or chunked; asked once the head is complete. */
typedef size_t request_body_rule(void *owner, const struct request *r);

struct request {
    http_parser parser;
    request_body_rule *body_rule; /* NULL: none may */
    void *owner;
    size_t body_max; /* once the head is complete */
    struct buf text, body;
    struct span url, headers[HEADERS];
    uint16_t seen; /* BIT(header) */
    uint8_t header_count;
    uint8_t name_n;
    char name[HEADER_NAME_MAX]; /* of the header under way, lower case */
    enum header current;
    bool in_value;
    bool begun;         /* a byte of it is here */
    bool head_complete; /* all headers are there */
    bool complete;      /* the whole request is */
    bool keep_alive;
    bool wants_continue; /* Expect: 100-continue, and the body is still to come */
    int status;          /* not 0: refused, with this status and `error` */
    struct error error;
};

void request_init(struct request *r, request_body_rule *rule, void *owner);
void request_fini(struct request *r);
/* For the next request of the connection. */
void request_reset(struct request *r);

/* Takes bytes up to the end of the request and returns how many those were. Afterwards the request is complete, refused (r->status), or wants
 * more. Must not be called again when complete or refused. */
size_t request_feed(struct request *r, const char *p, size_t n);

/* A known header, trimmed; empty when absent. */
struct slice request_header(const struct request *r, enum header h);

/* True when the comma-separated list has this word, in any case. */
bool request_list_has(struct slice list, const char *word);

/* The complete request as the core sees it, borrowed from r. A HEAD looks like a GET: its response is made the same way. */
void request_view(const struct request *r, struct http_request *ret);

/* Refuses the request by hand. */
void request_refuse(struct request *r, int status, enum err code, const char *why);

#endif
