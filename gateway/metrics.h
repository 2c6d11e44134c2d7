/* gateway/metrics.h: counters and gauges, and their Prometheus text.
 *
 * They live in memory shared by all workers of one gateway, one slot each, so that whichever worker answers /metrics tells of all of them. Every
 * worker writes its own slot only; a torn read costs a wrong digit, nothing else. */
#ifndef XD_METRICS_H
#define XD_METRICS_H

#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "broker/broker.h"
#include "gateway/auth/auth.h"
#include "gateway/limits.h"
#include "gateway/protocol/protocol.h"

/* X(field, Prometheus type, help): becomes xindao_<field>, counters with _total */
// clang-format off
#define METRIC_MAP(X)                                                                        \
    X(connections,          "gauge",   "open connections (any protocol)")                    \
    X(engines,              "gauge",   "open connections of Socket.IO clients")              \
    X(polls,                "counter", "requests of the long-polling transport")             \
    X(polls_forwarded,      "counter", "those that were handed to the node of their session") \
    X(polls_served,         "counter", "those that other nodes have handed to this one")     \
    X(polls_taken_over,     "counter", "connections by long-polling that another node had had") \
    X(polls_given_up,       "counter", "those that went to another node") \
    X(polling_records,      "counter", "times a connection by long-polling was written down for other nodes") \
    X(engine_upgrades,      "counter", "connections that went from long-polling to a WebSocket") \
    X(moves,                "counter", "those among them that came from another node for that") \
    X(moves_refused,        "counter", "WebSockets for connections of other nodes that were closed, because it could not come") \
    X(sessions,             "gauge",   "sessions of this node")                              \
    X(rooms,                "gauge",   "rooms with a member on this node")                   \
    X(memberships,          "gauge",   "memberships of sessions of this node")               \
    X(watches,              "gauge",   "users watched by sessions of this node, counted for each") \
    X(watched_users,        "gauge",   "users among them")                                   \
    X(statuses,             "counter", "changes of watched users told to sessions")          \
    X(queue_bytes,          "gauge",   "bytes that wait for clients to read")                \
    X(accepts,              "counter", "sockets accepted")                                   \
    X(accept_rests,         "counter", "times accepting rested because the loop was behind (overload-lag)") \
    X(tls_handshakes,       "counter", "TLS handshakes completed")                           \
    X(tls_resumed,          "counter", "TLS handshakes among them that resumed a session by its ticket") \
    X(tls_tickets_unknown,  "counter", "session tickets whose key is not known (any more): a full handshake followed") \
    X(upgrades,             "counter", "WebSocket handshakes completed")                     \
    X(http_requests,        "counter", "HTTP requests other than upgrades")                  \
    X(messages_in,          "counter", "WebSocket data messages from clients")               \
    X(bytes_in,             "counter", "plain bytes from clients")                           \
    X(messages_out,         "counter", "frames to single clients: acks, errors, welcomes")   \
    X(deliveries,           "counter", "room messages handed to members")                    \
    X(bytes_out,            "counter", "plain bytes to clients")                             \
    X(encodes,              "counter", "messages encoded (once per room and protocol)")      \
    X(heartbeats,           "counter", "text heartbeats answered")                           \
    X(gaps,                 "counter", "times a room's stream had to be compared with its log")    \
    X(repaired,             "counter", "messages read back from a log")                      \
    X(unrepaired,           "counter", "messages this node missed and could not read back")  \
    X(forks,                "counter", "times the store had another history than was delivered") \
    X(fork_appended,        "counter", "messages of lost branches that this node appended again") \
    X(fork_lost,            "counter", "messages delivered here that the store lost and nobody has brought back") \
    X(tail_bytes,           "gauge",   "newest messages kept to repair forks")               \
    X(set_aside,            "counter", "times a slow member was left to read on from a room's log") \
    X(recovered,            "counter", "returns to a room without loss")                    \
    X(unrecovered,          "counter", "returns to a room that could not be made up")        \
    X(replayed,             "counter", "messages read from a log for returning clients")     \
    X(starts_waiting,       "gauge",   "sessions that wait for their turn to begin or to be resumed") \
    X(starts_deferred,      "counter", "sessions that had to wait for their turn (max-starts)") \
    X(parked,               "counter", "sessions parked when their connection went")         \
    X(resumed,              "counter", "sessions resumed on this node")                      \
    X(restored,             "counter", "sessions, memberships and leaves that the store had lost and was told again") \
    X(duplicates,           "counter", "messages that arrived again and were not delivered") \
    X(bans,                 "counter", "bans decided through this node")                     \
    X(unbans,               "counter", "bans taken back through this node")                  \
    X(revocations,          "counter", "revocations of tokens decided through this node")    \
    X(rechecks,             "counter", "times the store was asked whether a session may still be here") \
    X(auth_accepted,        "counter", "tokens of clients accepted")                         \
    X(auth_expiring,        "counter", "clients told that their token is about to expire")    \
    X(auth_refreshed,       "counter", "tokens replaced while connected")                    \
    X(auth_expired,         "counter", "clients disconnected because their token expired")   \
    X(controls_asked,       "counter", "commands for sessions sent to the nodes that have them (API, bans)") \
    X(controls_done,        "counter", "commands for sessions of this node that were carried out") \
    X(events_waiting,       "gauge",   "events this node has read for the backend and not delivered yet") \
    X(events_lag_ms,        "gauge",   "age of the oldest of them")                          \
    X(events_delivered,     "counter", "events that the backend took")                       \
    X(events_retried,       "counter", "times an event could not be delivered and was put off") \
    X(events_refused,       "counter", "events given up because the backend would not take them") \
    X(actions_done,         "counter", "actions in answers of the backend that were carried out") \
    X(actions_failed,       "counter", "actions in answers of the backend that were not, and lists that could not be read") \
    X(commands_waiting,     "gauge",   "commands in the store that this node has read and that are not over yet") \
    X(commands_done,        "counter", "commands in the store that were carried out")        \
    X(commands_failed,      "counter", "commands in the store that were not: xd:{commands}:results says why") \
    X(commands_dropped,     "counter", "commands in the store that were too many or too old before it was their turn") \
    X(events_undelivered,   "counter", "events that were too many or too old before the backend took them") \
    X(backend_requests,     "counter", "requests to the backend")                            \
    X(backend_calls,        "counter", "questions to the backend while a client waits: connect, call, publish") \
    X(backend_refusals,     "counter", "questions that it answered with a refusal")          \
    X(backend_failures,     "counter", "requests to the backend without an answer, or with 429 or 5xx") \
    X(backend_opened,       "counter", "times the backend was found not to work (circuit breaker)") \
    X(backend_down,         "gauge",   "1: the backend does not work and is asked less often") \
    X(backend_connections,  "gauge",   "open connections to the backend")                    \
    X(backend_us,           "counter", "microseconds that requests to the backend took, all together") \
    X(wechat_requests,      "counter", "login codes that WeChat was asked about")            \
    X(wechat_failures,      "counter", "of them without an answer of use")                   \
    X(wechat_opened,        "counter", "times WeChat was found not to answer (circuit breaker)") \
    X(wechat_us,            "counter", "microseconds that WeChat took, all together")        \
    X(wechat_logins,        "counter", "logins made by the session service (/mina_auth/)")   \
    X(wechat_entered,       "counter", "clients that came in with a login code of WeChat")   \
    X(wechat_checks,        "counter", "logins it has found good")                           \
    X(wechat_refused,       "counter", "requests to it that were answered with a return code other than 0") \
    X(tunnels,              "gauge",   "open tunnels of Wafer applications")                 \
    X(tunnel_urls,          "counter", "URLs of tunnels given out")                          \
    X(tunnel_messages,      "counter", "messages that clients of tunnels sent")              \
    X(tunnel_refused,       "counter", "requests to /get/wsurl and /ws/push that were answered with a code other than 0") \
    X(tunnel_pushes,        "counter", "packets pushed by business servers (/ws/push)")      \
    X(pushes_told,          "counter", "envelopes to other nodes for them")                  \
    X(pushes_unreached,     "counter", "tunnels that a push did not reach because their node did not answer") \
    X(receivers,            "gauge",   "receiveUrls that this node posts callbacks of tunnels to") \
    X(callbacks_given_up,   "counter", "callbacks of tunnels that a business server refused, or did not take in time") \
    X(events_dropped,       "counter", "events of sessions given up because the store would not take them") \
    X(api_requests,         "counter", "requests to the HTTP API (/api/v1)")                 \
    X(api_refused,          "counter", "requests to the server API without a good key")      \
    X(api_published,        "counter", "messages that backends published through the HTTP API") \
    X(acks_asked,           "counter", "acks that Socket.IO clients were asked for")           \
    X(acks_received,        "counter", "those of them that came")                           \
    X(acks_missed,          "counter", "those of them that did not come in time")           \
    X(emitter_messages,     "counter", "messages and requests of Redis emitters heard or read by this node") \
    X(emitter_gaps,         "counter", "times that entries of the stream of Redis emitters were gone before this node had read them") \
    X(limit_subjects,       "gauge",   "users, addresses, keys and rooms whose rate is being counted") \
    X(limit_settlements,    "counter", "times the store was told what was taken of a limit that the nodes share") \
    X(reloads,              "counter", "configuration reloads")
// clang-format on

/* Why something was refused, dropped or closed; label reason. X(enumerator, word) */
#define DROP_MAP(X)                                                                                                    \
    X(DROP_HANDSHAKE_TIMEOUT, "handshake_timeout")                                                                     \
    X(DROP_TLS, "tls_error")                                                                                           \
    X(DROP_PROXY, "proxy_header")                                                                                      \
    X(DROP_HTTP, "bad_http")                                                                                           \
    X(DROP_MAX_CONNECTIONS, "max_connections")                                                                         \
    X(DROP_PER_IP, "max_connections_per_ip")                                                                           \
    X(DROP_ACCEPT_RATE, "accept_rate")                                                                                 \
    X(DROP_FD_LIMIT, "open_files")                                                                                     \
    X(DROP_ORIGIN, "origin")                                                                                           \
    X(DROP_BANNED, "banned")                                                                                           \
    X(DROP_UNAUTHORIZED, "unauthorized")                                                                               \
    X(DROP_PROTOCOL, "websocket_protocol")                                                                             \
    X(DROP_SOCKETIO, "socketio_protocol")                                                                              \
    X(DROP_UTF8, "bad_utf8")                                                                                           \
    X(DROP_TOO_LARGE, "too_large")                                                                                     \
    X(DROP_ERRORS, "too_many_errors")                                                                                  \
    X(DROP_IDLE, "idle")                                                                                               \
    X(DROP_SLOW_CONSUMER, "slow_consumer")                                                                             \
    X(DROP_OLDEST, "drop_oldest")                                                                                      \
    X(DROP_VOLATILE, "volatile")                                                                                       \
    X(DROP_EMITTER, "emitter")                                                                                         \
    X(DROP_NOTICES, "notices_held")                                                                                    \
    X(DROP_TUNNEL_URL, "tunnel_url")                                                                                   \
    X(DROP_TUNNELS, "max_tunnels")                                                                                     \
    X(DROP_TUNNEL_PACKET, "tunnel_packet")                                                                             \
    X(DROP_UNAVAILABLE, "unavailable")                                                                                 \
    X(DROP_DRAINING, "draining")

enum drop_reason {
#define X(code, word) code,
    DROP_MAP(X)
#undef X
        DROP_REASONS
};

#define LAG_BUCKETS 8 /* loop lag: bounds in metrics.c */

struct metrics {
#define X(field, type, help) uint64_t field;
    METRIC_MAP(X)
#undef X
    uint64_t drops[DROP_REASONS];
    uint64_t errors[ERR_COUNT];  /* errors told to clients, by code */
    uint64_t commands[COMMANDS]; /* by kind */
    uint64_t auth_refused[AUTH_REFUSALS];
    uint64_t limited[LIMIT_KINDS]; /* refused because of a limit that the nodes share */
    uint64_t lag_bucket[LAG_BUCKETS + 1], lag_us_sum, lag_count;
    uint64_t store_up;          /* 1: ready() */
    struct broker_stats broker; /* copied before rendering, and by each worker now and then */
};

/* This process' slot. Points at a static one until metrics_share/metrics_use. */
extern struct metrics *metrics;

/* Before forking: room for n workers. metrics_use: this process is worker i. */
void metrics_share(uint32_t n);
void metrics_use(uint32_t i);

void metrics_lag(uint64_t us);

/* Appends all workers' metrics in the Prometheus text format 0.0.4, label worker="i" when there are several. */
void metrics_render(struct buf *ret);

const char *drop_reason_word(enum drop_reason r);

#endif
