/* tests/support/core_fixture.h: a gateway with the embedded broker, a clock that only the test moves, and clients without sockets. */
#ifndef XD_TESTS_CORE_FIXTURE_H
#define XD_TESTS_CORE_FIXTURE_H

#include "base/buf.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "tests/support/loop_fake.h"

/* A client: what the gateway wrote to it, and how much it is willing to take. */
struct client {
    struct transport transport;
    struct core *core;
    struct conn *conn; /* NULL when gone */
    struct buf raw;    /* bytes received, frames not taken yet */
    size_t window;     /* bytes it still takes; SIZE_MAX: all */
    bool close_asked, paused;
    char sid[SID_LEN + 1];
};

struct core {
    struct loop_fake loop;
    struct config cfg;
    struct gateway *gw;
    bool deaf;                    /* what the broker tells the gateway is lost */
    bool no_joins;                /* joining fails with ERR_UNAVAILABLE */
    bool no_messages;             /* publishing fails with ERR_UNAVAILABLE */
    bool no_publish;              /* appending again fails with ERR_UNAVAILABLE */
    struct position lagging_head; /* the next history finds a store that has come no further yet */
    bool no_subscriptions;        /* subscribing fails with ERR_UNAVAILABLE */
    bool store_down;              /* joins, leaves, puts and removals fail with ERR_UNAVAILABLE */
    bool no_events;               /* appending events fails with ERR_UNAVAILABLE */
    uint32_t late_admission_ms;   /* what the store says of who may be here arrives so much later */
    unsigned joins, leaves, puts;
    unsigned exact, lagging; /* pages of logs that had to be the primary's, and that might be a replica's */
    uint64_t at_least;       /* of the last of these */
    bool drained;
};

/* args: further command-line options, NULL-terminated, or NULL. Nothing is parked unless they say --resume-window. */
void core_init(struct core *c, const char *const *args);
/* Closes what is open; fails the test on anything left behind. */
void core_fini(struct core *c);

/* Asks for an upgrade with this path, query and headers. */
enum err client_ask(struct client *cl, struct core *c, struct http_request r, struct slice *ret_subprotocol,
                    struct error *reterr);
/* Connects to path ("/ws/alice", "/ws?resume"); nothing has run yet. */
void client_connect(struct client *cl, struct core *c, const char *path);
/* Connects, runs, takes the welcome. */
void client_open(struct client *cl, struct core *c, const char *path);
/* Sends one masked text frame. */
void client_send(struct client *cl, const char *text);
/* Lets the loop run, then expects the next frame to contain every given substring (NULL-terminated). */
void client_expect_(struct client *cl, const char *where, ...);
#define client_expect(cl, ...) client_expect_(cl, __FILE__ ":" XD_STRING(__LINE__), __VA_ARGS__, NULL)
#define XD_STRING_(x)          #x
#define XD_STRING(x)           XD_STRING_(x)
/* Lets the loop run, then expects that nothing arrived. */
void client_expect_nothing(struct client *cl);
/* Takes the next frame; returns its opcode, or -1. The payload is valid until the next call. */
int client_next(struct client *cl, struct slice *ret_payload);
/* The client takes so many more bytes. */
void client_take(struct client *cl, size_t window);
/* The connection breaks. */
void client_vanish(struct client *cl);

/* Many tests play in the lobby. lobby_open_pair: core_init, then Alice (0) and Bob (1) are in. */
void lobby_open_pair(struct core *c, struct client *cl, const char *const *args);
void lobby_join(struct client *cl);
/* Publishes the number and lets the loop run; nothing is taken. */
void lobby_say(struct client *cl, int i);
/* Expects these numbers, each at the offset of the same number. */
void lobby_expect(struct client *cl, int from, int to);

/* p as clients write it. Returns ret. */
const char *position_text(const struct position *p, char ret[POSITION_MAX + 1]);

#endif
