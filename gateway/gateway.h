/* gateway/gateway.h: one node: its sessions and rooms, its broker and the policy between them. Everything in the core hangs on this struct. */
#ifndef XD_GATEWAY_H
#define XD_GATEWAY_H

#include "base/buf.h"
#include "base/loop.h"
#include "base/table.h"
#include "base/wheel.h"
#include "broker/broker.h"
#include "gateway/auth/auth.h"
#include "gateway/config.h"
#include "gateway/policy.h"
#include "gateway/start.h"
#include "gateway/tail.h"
#include "gateway/transport.h"

#define NODE_ID_MAX 80
#define VERSION     "0.1.0"

struct acks;
struct backend;
struct broadcast;
struct delivery;
struct emitter;
struct emitter_stream;
struct namespace;
struct orders;
struct pushes;
struct limits;
struct room;
struct session;
struct sio_rules;
struct tunnels;
struct watched;
struct wechat;
struct wechat_apps;

struct gateway {
    const struct config *cfg; /* borrowed; reloadable options are read when used */
    struct loop *loop;
    struct broker *broker; /* NULL only while the gateway is being destroyed */
    struct policies *policies;
    struct auth_jwt *auth;     /* NULL with --auth open */
    struct api_keys *api_keys; /* NULL: there is no server API */
    char node[NODE_ID_MAX];

    struct session *sessions; /* by sid, also those that only wait to be removed from the store */
    struct room *rooms;       /* by name */
    struct room *all;         /* $all: every session of this node */

    struct control_call *controls; /* control.c: commands for sessions that are under way, by id */
    uint64_t last_control;

    struct limits *limits;
    struct starts starts;
    struct link greetings;                     /* connections that have still to say who they are */
    struct link engines;                       /* connections of Socket.IO clients */
    struct engine *engines_by_sid;             /* those that began by long-polling */
    struct link pollings;                      /* those that still are */
    struct polling_address *polling_addresses; /* polling.c */
    uint32_t polling_count;
    struct forward *forwards; /* requests that were handed to other nodes, by id */
    struct guest *guests;     /* and those that came from there */
    struct peer *peers;       /* nodes that somebody here waits for, by name */
    struct move *moves;       /* WebSockets that are to take over connections of other nodes, by id */
    uint64_t last_forward;
    struct namespace *namespaces; /* those that have somebody on this node */
    struct sio_rules *sio_rules;
    struct emitter *emitter;               /* NULL: it is off */
    struct emitter_stream *emitter_stream; /* the same */
    struct acks *acks;                     /* that clients of this node are asked for, by id */
    uint64_t last_acks, asked;
    struct broadcast *broadcasts; /* emissions of this node that wait for others' answers, by name */
    uint64_t last_emission;
    struct link catchup_turns; /* returning members that wait for a read of the log */
    uint32_t catchup_reads;
    uint32_t api_reads; /* histories that the HTTP API reads */

    struct tunnels *tunnels; /* NULL: none are served */
    struct pushes *pushes;   /* the same */

    struct wechat *wechat;           /* NULL: nobody logs in at WeChat */
    struct wechat_apps *wechat_apps; /* the same */

    struct backend *backend;   /* NULL: there is none */
    struct delivery *delivery; /* the same */
    bool reports_on;           /* the backend hears of what happens to sessions */
    struct link reporting;     /* sessions that have something to report */

    struct link acts;           /* act.c: what backends want done and is under way */
    struct link paused_actions; /* actions.c: what is about to be */
    size_t actions_bytes;       /* actions.c: of lists that nobody waits for */
    struct orders *orders;      /* NULL: this node carries out no commands */

    struct tails tails;     /* of the rooms' newest messages */
    struct link forks_open; /* not accounted for yet */

    struct wheel wheel;   /* one tick a second */
    struct link rechecks; /* sessions that the store is to be asked about again */
    struct timer recheck;
    uint64_t verdicts; /* so many have been heard, or may have been missed */

    struct watched *watched; /* users whom clients of this node watch */
    struct link watch_reads; /* those of them who have to be asked for */
    struct task watch_task;
    uint32_t watch_reading;

    struct link audits; /* sessions that are to be compared with what the store has of them */
    struct timer audit;
    bool audit_wanted; /* of all of them, when the timer is up */
    struct timer tick;
    struct timer retry;        /* sessions and memberships the store could not be told about */
    struct buf scratch;        /* for encoding what goes to one client; contents last until the next encode */
    struct buf trail, trailed; /* trail.c: one client's trail, and bytes with it */

    bool retrying, draining, retiring;
    void (*drained)(void *arg); /* called once when draining and no session is left */
    void *drained_arg;
    struct link farewells; /* draining: sessions that have not been told, longest here first */
    struct timer farewell;
    uint64_t farewell_at, farewell_end, farewell_rate, farewell_credit;
};

/* cfg is borrowed for the gateway's whole life. NULL with *reterr when the broker's URL or a policy is bad. */
struct gateway *gateway_create(struct loop *loop, const struct config *cfg, const char *node, struct error *reterr);
/* NULL-safe. No connection may be left. */
void gateway_destroy(struct gateway **g);

/* Takes over reloadable options that need more than being read: the policies. On failure nothing changes. */
enum err gateway_reload(struct gateway *g, struct error *reterr);

/* Reads the keys of requests to the backend again; on failure the old ones stay. */
enum err gateway_reload_backend(struct gateway *g, struct error *reterr);
/* Reads the files that requests to the backend need, and forgets them: for --check-config. */
enum err gateway_check_backend(const struct config *cfg, struct error *reterr);
/* Reads the keys of tokens again; on failure the old ones stay. */
enum err gateway_reload_auth(struct gateway *g, struct error *reterr);
/* The same for the keys of backends. */
enum err gateway_reload_api_keys(struct gateway *g, struct error *reterr);
/* Reads the keys of cfg and forgets them: for --check-config. */
enum err gateway_check_auth(const struct config *cfg, struct error *reterr);

/* Says goodbye to one session after another, evenly over half of the drain time, so that they do not all come to the other nodes at once. Until its turn
 * has come a session goes on as ever; new ones are not let in. Calls done(arg) when all have left the store and this
 * node is out of the directory. */
void gateway_drain(struct gateway *g, void (*done)(void *arg), void *arg);

/* NULL when this node can serve; else why not. What /readyz tells. */
const char *gateway_not_ready(struct gateway *g);

/* Sessions of this node, also those that only wait to be removed from the store. */
uint32_t gateway_session_count(const struct gateway *g);

/* Called by a session that has left the store. */
void gateway_session_left(struct gateway *g);

/* Timer of the goodbyes. */
void gateway_farewell(struct timer *t);

/* A private message: the envelope's room is its session's. */
void gateway_tell_session(struct gateway *g, const struct envelope *e);

/* How long sessions may be resumed; 0: not at all. */
uint32_t gateway_resume_window_s(const struct gateway *g);

/* Runs the retry soon: something could not be told to the store. */
void gateway_retry_later(struct gateway *g);

#endif
