/* gateway/tunnel_body.h: what business servers post to the tunnel service: JSON bodies to plain structs. Pure: no I/O, no state. */
#ifndef XD_TUNNEL_BODY_H
#define XD_TUNNEL_BODY_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/slice.h"

#define PUSH_IDS_MAX     2500u /* of one request, all packets together */
#define PUSH_PACKETS_MAX 100u

/* Why a request is refused; callers see the code. 9001 to 9004 mean what they mean in the SDKs' own answers. */
#define WAFER_CODE_MAP(X)                                                                                              \
    X(WAFER_OK, 0)                                                                                                     \
    X(WAFER_NOT_JSON, 9001)                                                                                            \
    X(WAFER_MISSING, 9002)                                                                                             \
    X(WAFER_SIGNATURE, 9003)                                                                                           \
    X(WAFER_BAD_DATA, 9004)                                                                                            \
    X(WAFER_UNKNOWN_TENANT, 9005)                                                                                      \
    X(WAFER_RECEIVE_URL, 9006)                                                                                         \
    X(WAFER_TOO_MUCH, 9007)                                                                                            \
    X(WAFER_TOO_OFTEN, 9008)                                                                                           \
    X(WAFER_UNAVAILABLE, 9009)                                                                                         \
    X(WAFER_HOST, 9010)

enum wafer_code {
#define X(name, code) name = (code),
    WAFER_CODE_MAP(X)
#undef X
};

/* Slices point into the body or the arena, as long as both. Empty: not given. */
struct wafer_request {
    struct slice data, id, key, signature; /* data: the text that was signed */
    bool data_as_text; /* the answer's data is to be a text, as this request's (`"dataEncode":"json"`) */
};

enum wafer_push_type { WAFER_PUSH_MESSAGE, WAFER_PUSH_CLOSE };

struct wafer_push {
    enum wafer_push_type type;
    struct slice content; /* a JSON object; of a message */
    const struct slice *ids;
    size_t id_count;
};

/* The body may be any bytes. Not WAFER_OK: *reterr has the sentence. */
enum wafer_code wafer_read_request(struct slice body, struct arena *a, struct wafer_request *ret, struct error *reterr);
/* data of /get/wsurl: where callbacks are to go. */
enum wafer_code wafer_read_wsurl(struct slice data, struct arena *a, struct slice *ret, struct error *reterr);
/* data of /ws/push: packets, in the arena. */
enum wafer_code wafer_read_push(struct slice data, struct arena *a, struct wafer_push **ret, size_t *ret_count,
                                struct error *reterr);

/* One node tells another: a packet for tunnels that are there. ids: names of so many letters each, one behind the other. */
struct wafer_told {
    enum wafer_push_type type;
    struct slice tenant, content, ids;
};

void wafer_put_told(const struct wafer_told *t, struct buf *ret);
/* The store is shared, so what comes may be any bytes. False: it is none, or one of a later version. */
bool wafer_read_told(struct slice data, size_t letters, struct wafer_told *ret);

bool wafer_name_valid(struct slice name, size_t letters);

#endif
