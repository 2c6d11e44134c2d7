/* tests/unit/broker_world.h: a broker under test with everything it tells recorded. Shared by the tests of all backends. */
#ifndef XD_TESTS_BROKER_WORLD_H
#define XD_TESTS_BROKER_WORLD_H

#include "broker/broker.h"
#include "tests/support/loop_fake.h"

#define SEEN_MAX 4096

struct seen {
    enum envelope_kind kind;
    enum data_type data_type;
    enum exit_reason reason;
    uint32_t total;
    uint64_t time_ms;
    struct position position;
    char prev[TAG_LEN + 1];
    bool again;
    struct was was;
    struct position read;
    char *room, *read_room, *event, *id, *from, *user, *node, *except, *data; /* NUL after the end */
    size_t data_n;
};

/* One node. */
struct world {
    struct loop_fake *loop;
    struct broker *broker;
    struct seen seen[SEEN_MAX];
    size_t count;
    struct status {
        char user[150];
        enum user_state state;
        uint64_t sessions, since_ms, seen_ms, version;
    } statuses[64];
    size_t status_count;
    int ups, downs, expelled, taken, resubscribed, rewatched;
    char taken_sid[64]; /* the last */
    bool up;
};

/* What a completion said, copied. */
struct answer {
    int times;
    enum err err;
    char why[200];
    struct position position;
    uint64_t total, connected_ms;
    uint64_t limit_used, limit_wanted;
    bool repeated, more, away, mine, anew, stored;
    uint64_t dropped;
    uint32_t replicas;
    char owner[150];   /* user of a session resumed, who has logged in, or the session of a tunnel */
    char watches[300]; /* or whose tunnel, or a record of long-polling: `<state>|<before>|<answered>` */
    char cursor[400];
    size_t cursor_n, count;
    struct {
        char name[300], user[150], node[100], event[130], id[70],
            except[70]; /* name: session, room, sender, or who is banned (user: by whom, time_ms: until) */
        uint64_t total, since_ms, time_ms;
        int64_t age_ms;
        uint64_t seen_ms, version;
        enum user_state user_state;
        enum member_state state;
        enum data_type data_type;
        struct position position;
        struct was was;
        char data[300]; /* of an event: `name=value ` of all fields but time and node */
        size_t data_n;
    } entries[1000];
};

/* The defaults of every test; change what you like before world_init. */
struct broker_config world_config(const char *url, const char *node);
void world_init(struct world *w, struct loop_fake *loop, const struct broker_config *cfg);
void world_fini(struct world *w);
/* Fails the test unless the broker becomes ready within some seconds of real time. */
void world_ready(struct world *w);
/* The same, moving the fake clock slowly enough for real sockets: for brokers that have to connect anew. */
void world_recover(struct world *w);
/* Waits for that many envelopes. */
void world_expect(struct world *w, size_t count);
/* Lets everything under way arrive: a message of our own goes through the store and back. */
void world_settle(struct world *w);
void world_clear(struct world *w);
/* Waits for so many changes of users who are watched, the last of which is the one named. */
void world_status(struct world *w, size_t count, const char *user, enum user_state state, uint64_t sessions);

/* The completion to pass with an answer. */
void answered(void *arg, const struct broker_result *r);
/* Waits for the answer. */
struct answer *await(struct world *w, struct answer *a);
struct answer *await_ok(struct world *w, struct answer *a);

/* Requests that wait. The answer is one of a few static ones, good until some more requests were made. */
struct answer *do_publish(struct world *w, const struct publish *p);
struct answer *do_say(struct world *w, const char *room, const char *data);
struct answer *do_subscribe(struct world *w, const char *room);
struct answer *do_join(struct world *w, const char *room, const char *sid, const char *user);
struct answer *do_leave(struct world *w, const char *room, const char *sid, const char *user, enum exit_reason reason);
struct answer *do_put(struct world *w, const char *sid, const char *user);
/* The same with a window to come back in, and a token whose hash is "hash-<sid>". */
struct answer *do_put_for(struct world *w, const char *sid, const char *user, uint32_t window_ms);
struct answer *do_suspend(struct world *w, const char *room, const char *sid, const char *user);
struct answer *do_park(struct world *w, const char *sid, uint32_t ttl_ms);
struct answer *do_resume(struct world *w, const char *sid, const char *hash);
struct answer *do_remove(struct world *w, const char *sid, const char *user);
struct answer *do_read_mark(struct world *w, const struct read_mark *mark);
struct answer *do_watch(struct world *w, const char *user);
/* Of one user, or two. */
struct answer *do_users(struct world *w, const char *one, const char *two);
struct answer *do_audit(struct world *w, const char *sid);
struct answer *do_presence(struct world *w, const char *room, struct slice cursor, uint32_t limit);
struct answer *do_rooms(struct world *w, struct slice cursor, uint32_t limit);
struct answer *do_history(struct world *w, const char *room, uint64_t after, uint32_t limit);
/* A page of a log that may come from a replica. */
struct answer *do_read(struct world *w, const struct log_page *page);
struct answer *answer_new(void);

#endif
