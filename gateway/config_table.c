/* gateway/config_table.c: the options. Flags, environment, file, --help, --print-config, reload and docs/configuration.md follow from here. */
#include "gateway/config_table.h"

#include <ctype.h>
#include <stdio.h>

#include "base/mem.h"
#include "broker/broker.h"
#include "gateway/config_value.h"

#define RELOAD    true
#define RESTART   false
#define KIB       1024u
#define MIB       (1024u * KIB)
#define GIB       (1024u * MIB)
#define HOUR      3600u
#define MINUTE_MS 60000u

/* The member's offset; a division by zero does not compile when its type is not what the option writes. */
#define MEMBER(member, type)                                                                                           \
    (offsetof(struct config, member) /                                                                                 \
     (__builtin_types_compatible_p(__typeof__(((struct config *)0)->member), type) ? 1 : 0))
#define MEMBER_ENUM(member)                                                                                            \
    (offsetof(struct config, member) / (sizeof(((struct config *)0)->member) == sizeof(unsigned) ? 1 : 0))

static const char *const auth_words[] = {[AUTH_OPEN] = "open", [AUTH_JWT] = "jwt", [AUTH_BACKEND] = "backend", NULL};
static const char *const transport_words[] = {
    [SIO_TRANSPORTS_ALL] = "all", [SIO_TRANSPORTS_WEBSOCKET] = "websocket", [SIO_TRANSPORTS_POLLING] = "polling", NULL};
static const char *const emitter_words[] = {
    [EMITTER_OFF] = "off", [EMITTER_CLASSIC] = "classic", [EMITTER_STREAMS] = "streams", [EMITTER_BOTH] = "both", NULL};
static const char *const expiry_words[] = {[EXPIRY_DISCONNECT] = "disconnect", [EXPIRY_IGNORE] = "ignore", NULL};
static const char *const slow_words[] = {
    [SLOW_DISCONNECT] = "disconnect", [SLOW_DROP_OLDEST] = "drop-oldest", [SLOW_RESUME] = "resume", NULL};
static const char *const proxy_words[] = {[PROXY_OFF] = "off", [PROXY_ON] = "on", [PROXY_OPTIONAL] = "optional", NULL};
static const char *const ticket_words[] = {[TICKETS_OFF] = "off", [TICKETS_1_3] = "1.3", [TICKETS_ALL] = "all", NULL};
static const char *const level_words[] = {
    [LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug", NULL};
static const char *const format_words[] = {[LOG_TEXT] = "text", [LOG_JSON] = "json", NULL};

// clang-format off
#define TEXT(key, member, def, reload, hint, help)     {key, OPTION_TEXT, MEMBER(member, char *), def, 0, 0, NULL, reload, hint, help}
#define URL(key, member, def, reload, hint, help)      {key, OPTION_URL, MEMBER(member, char *), def, 0, 0, NULL, reload, hint, help}
#define LIST(key, member, def, reload, hint, help)     {key, OPTION_LIST, MEMBER(member, struct strings), def, 0, 0, NULL, reload, hint, help}
#define BOOL(key, member, def, reload, help)           {key, OPTION_BOOL, MEMBER(member, bool), def, 0, 0, NULL, reload, "on|off", help}
#define WORD(key, member, words, def, reload, hint, help) {key, OPTION_WORD, MEMBER_ENUM(member), def, 0, 0, words, reload, hint, help}
#define NUMBER(type, key, member, def, min, max, reload, hint, help) \
    {key, type, MEMBER(member, uint32_t), def, min, max, NULL, reload, hint, help}
#define COUNT(key, member, def, min, max, reload, help)   NUMBER(OPTION_COUNT, key, member, def, min, max, reload, "N", help)
#define SIZE(key, member, def, min, max, reload, help)    NUMBER(OPTION_SIZE, key, member, def, min, max, reload, "BYTES", help)
#define SECONDS(key, member, def, min, max, reload, help) NUMBER(OPTION_SECONDS, key, member, def, min, max, reload, "TIME", help)
#define MILLISECONDS(key, member, def, min, max, reload, help) \
    NUMBER(OPTION_MILLISECONDS, key, member, def, min, max, reload, "TIME", help)

static const struct config_option network[] = {
    LIST("listen", listen, "0.0.0.0:8443", RESTART, "HOST:PORT", "where to accept clients, https and wss on one port; repeatable; [::]:8443 for IPv6"),
    LIST("api-listen", api_listen, NULL, RESTART, "HOST:PORT", "where backends reach the server API, and only there; repeatable; none: where clients are"),
    TEXT("tls-cert", tls_cert, NULL, RELOAD, "FILE", "PEM file with the certificate and its full chain"),
    TEXT("tls-key", tls_key, NULL, RELOAD, "FILE", "PEM file with the certificate's private key"),
    WORD("tls-tickets", tls_tickets, ticket_words, "1.3", RELOAD, "off|1.3|all", "TLS versions in which clients may resume their TLS session, on any node"),
    SECONDS("ticket-rotation", ticket_rotation_s, "12h", 4, 7 * 24 * HOUR, RELOAD, "how long a key of session tickets is used; tickets are taken for as long after that"),
    BOOL("insecure", insecure, "off", RESTART, "serve plain http and ws: only behind a proxy that terminates TLS"),
    BOOL("api-insecure", api_insecure, "off", RESTART, "serve plain http on api-listen: only in a private network"),
    WORD("proxy-protocol", proxy_protocol, proxy_words, "off", RESTART, "off|on|optional", "expect a PROXY header (v1 or v2) of a load balancer in front of each connection"),
    LIST("origin", origins, NULL, RELOAD, "ORIGIN", "web page origin that may connect, such as https://example.com; repeatable; none: any"),
    COUNT("workers", workers, "1", 1, 256, RESTART, "processes that share the listeners, each a node of its own; more than one needs Redis"),
};

static const struct config_option cluster[] = {
    TEXT("node", node, NULL, RESTART, "NAME", "name of this node in logs and in Redis; default: the host name"),
    URL("broker", broker, "memory", RESTART, "URL", "what joins the nodes: memory (one process), redis://[user:password@]host:port[/db], redis+sentinel://host,host/NAME, redis+cluster://host,host; rediss for TLS"),
    TEXT("key-prefix", key_prefix, "xd:", RESTART, "TEXT", "what all keys and channels in Redis begin with"),
    MILLISECONDS("lease", lease_ms, "6s", 300, 10 * MINUTE_MS, RESTART, "a node that is silent for so long is dead, its sessions are removed by the others"),
    MILLISECONDS("redis-timeout", redis_timeout_ms, "3s", 100, 1 * MINUTE_MS, RESTART, "how long to wait for a connection to Redis or for an answer"),
    SIZE("redis-queue-bytes", redis_queue_bytes, "8m", 64 * KIB, 1 * GIB, RESTART, "requests that may wait for Redis; over it they are refused as unavailable"),
    BOOL("redis-read-replicas", redis_read_replicas, "off", RESTART, "read the history that clients ask for from a replica: one that Sentinel or the cluster names, or ?replica=host:port of the url"),
};

static const struct config_option clients[] = {
    WORD("auth", auth, auth_words, "open", RESTART, "open|jwt|backend", "how clients prove who they are; open: they are whoever the URL says; jwt: by a signed token; backend: it is asked"),
    LIST("jwt-key", jwt_keys, NULL, RELOAD, "[KID=]FILE", "key that tokens are checked with: PEM public key, JSON Web Key Set, or secret; repeatable"),
    TEXT("jwt-audience", jwt_audience, NULL, RELOAD, "TEXT", "tokens must be for this audience; none: must name no audience"),
    TEXT("jwt-issuer", jwt_issuer, NULL, RELOAD, "TEXT", "tokens must be from this issuer; none: any"),
    SECONDS("jwt-leeway", jwt_leeway_s, "30s", 0, 10 * 60, RELOAD, "how far the clocks of who makes tokens and of this node may differ"),
    SECONDS("revocation-time", revocation_time_s, "365d", 60, 3650 * 24 * HOUR, RELOAD, "how long it is remembered that a token is revoked, if the request does not say when it expires"),
    SECONDS("jwt-notice", jwt_notice_s, "30s", 0, HOUR, RELOAD, "how long before its token expires a connected client is told, at most the last quarter of its life; 0s: not at all"),
    WORD("jwt-expiry", jwt_expiry, expiry_words, "disconnect", RELOAD, "disconnect|ignore", "what happens to a client whose token expires while it is connected"),
};

static const struct config_option backends[] = {
    SIZE("api-body-size", api_body_size, "1m", 64 * KIB, 64 * MIB, RELOAD, "body of a request to the server API with a key; without one it is 64k"),
    TEXT("api-keys", api_keys, NULL, RELOAD, "FILE", "JSON file with the keys of backends that may use the server API; none: it is off"),
};

static const struct config_option socketio[] = {
    BOOL("socketio", socketio, "on", RELOAD, "serve Socket.IO clients"),
    LIST("socketio-path", socketio_paths, "/socket.io/", RELOAD, "PATH", "where Socket.IO clients connect; repeatable"),
    WORD("socketio-transports", socketio_transports, transport_words, "all", RELOAD, "all|websocket|polling", "how Socket.IO clients may connect"),
    SIZE("socketio-gzip-threshold", socketio_gzip_threshold, "1k", 0, 64 * MIB, RELOAD, "answers of the long-polling transport from this size on are compressed; 0: none"),
    LIST("socketio-namespace", socketio_namespaces, NULL, RELOAD, "PATTERN", "namespaces there are, besides /; repeatable"),
    LIST("socketio-event", socketio_events, NULL, RELOAD, "\"PATTERN KEY=VALUE ...\"", "what events of Socket.IO clients mean; repeatable, the first match wins"),
    BOOL("socketio-eio3", socketio_eio3, "on", RELOAD, "take Engine.IO 3 too: socket.io-client 2.x, and whatever does not say EIO=4"),
    TEXT("engineio-echo", engineio_echo, NULL, RELOAD, "PATH", "diagnosis: an Engine.IO connection to this path is sent back all its messages; none: there is no such path"),
    BOOL("socketio-recovery", socketio_recovery, "off", RESTART, "Socket.IO clients 4.6+ may take up their sessions again; their handlers see offsets as last arguments"),
    MILLISECONDS("socketio-ping-interval", socketio_ping_interval_ms, "25s", 100, 1 * 60 * MINUTE_MS, RELOAD, "how often Socket.IO clients are pinged, or are to ping"),
    MILLISECONDS("socketio-ping-timeout", socketio_ping_timeout_ms, "20s", 100, 1 * 60 * MINUTE_MS, RELOAD, "how long the answer may take, or the ping may be late"),
    WORD("socketio-emitter", socketio_emitter, emitter_words, "off", RESTART, "off|classic|streams|both", "hear what Redis emitters say to Socket.IO clients: on the channels of the classic adapter, in the stream of the streams adapter, or both"),
    TEXT("socketio-emitter-key", socketio_emitter_key, "socket.io", RESTART, "TEXT", "what their channels begin with: their option key"),
    TEXT("socketio-emitter-stream", socketio_emitter_stream, "socket.io", RESTART, "TEXT", "the stream that they append to: their option streamName"),
    MILLISECONDS("socketio-connect-timeout", socketio_connect_timeout_ms, "45s", 100, 1 * 60 * MINUTE_MS, RELOAD, "time in which a Socket.IO client must connect its first namespace"),
};

static const struct config_option rooms[] = {
    LIST("policy", policies, NULL, RELOAD, "\"PATTERN KEY=VALUE ...\"", "rules of the rooms whose name matches; repeatable, the first match wins"),
    SIZE("tail-bytes", tail_bytes, "1m", 0, 64 * MIB, RELOAD, "newest messages of one room that are kept to repair what a failover of Redis loses; 0: none"),
    SIZE("tail-total-bytes", tail_total_bytes, "32m", 0, 1 * GIB, RELOAD, "the same of all rooms of one process"),
    SECONDS("user-memory", user_memory_s, "30d", 0, 3650 * 24 * HOUR, RESTART, "how long it is known of a user who is gone when he was last seen"),
    BOOL("demo", demo, "on", RELOAD, "serve the chat demo at /"),
};

static const struct config_option backend[] = {
    TEXT("backend-url", backend_url, NULL, RESTART, "URL", "where events are posted to, signed: https://app.internal/xindao; switches events on"),
    TEXT("backend-secret-file", backend_secret_file, NULL, RELOAD, "FILE", "what requests to the backend are signed with: a line, or two while keys change"),
    TEXT("backend-ca", backend_ca, NULL, RESTART, "FILE", "PEM file with the authorities that the backend's certificate may be of; none: the system's"),
    MILLISECONDS("backend-timeout", backend_timeout_ms, "5s", 100, 1 * MINUTE_MS, RESTART, "how long to wait for an answer of the backend"),
    COUNT("backend-concurrency", backend_concurrency, "16", 1, 1000, RESTART, "events that one process posts at the same time"),
    BOOL("events", events, "off", RESTART, "keep what happens to sessions, for a backend to read: streams in Redis"),
    COUNT("event-shards", event_shards, "4", 1, EVENT_SHARDS_MAX, RESTART, "streams that events are spread over, by session; the same on all nodes"),
    COUNT("event-count", event_count, "100000", 100, 100000000, RESTART, "events that one stream keeps; over it the oldest go, delivered or not"),
    SECONDS("event-age", event_age_s, "1d", 10, 365 * 24 * HOUR, RESTART, "how long events are kept"),
    BOOL("commands", commands, "off", RESTART, "carry out commands that backends write to the stream {commands} in Redis"),
    COUNT("command-count", command_count, "100000", 100, 100000000, RESTART, "commands that the stream keeps; over it the oldest go, carried out or not"),
    SECONDS("command-age", command_age_s, "1h", 10, 365 * 24 * HOUR, RESTART, "commands that are older are not carried out any more, and go"),
};

static const struct config_option wechat[] = {
    TEXT("wechat-apps", wechat_apps, NULL, RELOAD, "FILE", "JSON file with the mini-programs whose users may log in here; none: nobody does"),
    LIST("wechat-allow", wechat_allow, NULL, RELOAD, "ADDRESS[/BITS]", "business servers that may use the session service (/mina_auth/); repeatable; none: whoever reaches api-listen, and nobody without that"),
    BOOL("wechat-login", wechat_login, "off", RESTART, "with auth jwt: clients may come in with a code of wx.login, and get a token for it"),
    TEXT("wechat-url", wechat_url, "https://api.weixin.qq.com", RESTART, "URL", "where WeChat is asked about login codes"),
    TEXT("wechat-ca", wechat_ca, NULL, RESTART, "FILE", "PEM file with the authorities that its certificate may be of; none: the system's"),
    MILLISECONDS("wechat-timeout", wechat_timeout_ms, "5s", 100, 1 * MINUTE_MS, RESTART, "how long to wait for an answer of WeChat"),
    COUNT("wechat-concurrency", wechat_concurrency, "16", 1, 1000, RESTART, "questions that one process asks WeChat at the same time, 1024 more wait"),
};

static const struct config_option tunnels[] = {
    TEXT("wafer-tenants", wafer_tenants, NULL, RELOAD, "FILE", "JSON file with the Wafer applications whose tunnels are served here; none: there are no tunnels"),
    TEXT("wafer-url", wafer_url, NULL, RELOAD, "URL", "what URLs of tunnels begin with: wss://app.example; none: wss:// and the Host of the request, if wafer-host has it"),
    LIST("wafer-host", wafer_hosts, NULL, RELOAD, "HOST[:PORT]", "a host that URLs of tunnels may have; repeatable"),
    SECONDS("wafer-url-time", wafer_url_time_s, "60s", 1, 1 * HOUR, RELOAD, "how long the URL of a tunnel may wait for its client"),
    TEXT("wafer-ca", wafer_ca, NULL, RESTART, "FILE", "PEM file with the authorities that the certificates of business servers may be of; none: the system's"),
    COUNT("wafer-concurrency", wafer_concurrency, "16", 1, 1000, RESTART, "callbacks that one process posts at the same time to each receiveUrl"),
};

static const struct config_option limits[] = {
    COUNT("max-connections", max_connections, "100000", 1, 10000000, RELOAD, "open connections of one process"),
    COUNT("max-connections-per-ip", max_connections_per_ip, "1000", 0, 10000000, RELOAD, "open connections of one client address and process; 0: no limit"),
    COUNT("max-accepts-per-second", max_accepts_per_second, "0", 0, 1000000, RELOAD, "new connections per second and process, the rest waits; 0: no limit"),
    MILLISECONDS("overload-lag", overload_lag_ms, "200ms", 0, 1 * MINUTE_MS, RELOAD, "after a turn of the event loop that took so long new connections wait for a while; 0: never"),
    COUNT("max-starts", max_starts, "256", 1, 1000000, RELOAD, "sessions that begin or are resumed at a time, the rest waits; returning clients go first"),
    SIZE("max-message-size", max_message_size, "64k", 1 * KIB, 64 * MIB, RELOAD, "one WebSocket message of a client"),
    SIZE("max-queue-bytes", max_queue_bytes, "256k", 16 * KIB, 1 * GIB, RELOAD, "what may wait for one client that reads slowly"),
    WORD("slow-consumer", slow_consumer, slow_words, "disconnect", RELOAD, "disconnect|drop-oldest|resume", "what happens to a client whose queue is full"),
    COUNT("max-rooms-per-session", max_rooms_per_session, "100", 1, 100000, RELOAD, "rooms one session may be in"),
    COUNT("max-watches-per-session", max_watches_per_session, "500", 0, 100000, RELOAD, "users one session may watch"),
    COUNT("max-requests-per-session", max_requests_per_session, "64", 1, 10000, RELOAD, "commands of one session that wait for the store; then its input is paused"),
    COUNT("message-rate", message_rate, "50", 0, 1000000, RELOAD, "messages per second one client may send; 0: no limit"),
    COUNT("message-burst", message_burst, "100", 0, 1000000, RELOAD, "messages one client may send at once after a pause; 0: as many as the rate"),
    COUNT("user-rate", user_rate, "0", 0, 1000000, RELOAD, "messages per second all clients of one user may send in the whole cluster; 0: no limit"),
    COUNT("user-burst", user_burst, "0", 0, 1000000, RELOAD, "messages they may send at once after a pause; 0: as many as the rate"),
    COUNT("ip-rate", ip_rate, "0", 0, 1000000, RELOAD, "messages per second all clients of one address may send in the whole cluster; 0: no limit"),
    COUNT("ip-burst", ip_burst, "0", 0, 1000000, RELOAD, "messages they may send at once after a pause; 0: as many as the rate"),
};

static const struct config_option times[] = {
    SECONDS("handshake-timeout", handshake_timeout_s, "10s", 1, 10 * 60, RELOAD, "time for TLS, for a request, and between requests"),
    SECONDS("heartbeat", heartbeat_s, "25s", 1, 1 * HOUR, RELOAD, "a client that is silent for so long is pinged, and closed after twice the time"),
    SECONDS("resume-window", resume_window_s, "60s", 0, 24 * HOUR, RELOAD, "a session whose connection broke may be resumed for so long, 0: it ends at once"),
    SECONDS("drain-time", drain_time_s, "20s", 0, 1 * HOUR, RELOAD, "grace time after SIGTERM; clients are sent elsewhere one after another, evenly over half of it"),
};

static const struct config_option files[] = {
    TEXT("config", config_file, NULL, RESTART, "FILE", "JSON file with these options, names as here without the dashes"),
    WORD("log-level", log_level, level_words, "info", RELOAD, "error|warn|info|debug", "least important lines to log"),
    WORD("log-format", log_format, format_words, "text", RELOAD, "text|json", "log lines for people or for machines"),
};

static const struct config_option doctor[] = {
    TEXT("doctor-ca", doctor_ca, NULL, RESTART, "FILE", "PEM file with certificates to trust besides the system's"),
    LIST("doctor-address", doctor_addresses, NULL, RESTART, "ADDRESS", "connect to this address instead of what DNS says; repeatable"),
    SECONDS("doctor-idle", doctor_idle_s, "0s", 0, 1 * HOUR, RESTART, "also keep a silent connection for so long; 0: do not"),
};

const struct config_group config_groups[] = {
    {"Network", network, ARRAY_LEN(network)},
    {"Cluster", cluster, ARRAY_LEN(cluster)},
    {"Clients", clients, ARRAY_LEN(clients)},
    {"Backends", backends, ARRAY_LEN(backends)},
    {"Socket.IO", socketio, ARRAY_LEN(socketio)},
    {"Rooms", rooms, ARRAY_LEN(rooms)},
    {"Backend", backend, ARRAY_LEN(backend)},
    {"WeChat", wechat, ARRAY_LEN(wechat)},
    {"Tunnels", tunnels, ARRAY_LEN(tunnels)},
    {"Limits", limits, ARRAY_LEN(limits)},
    {"Times", times, ARRAY_LEN(times)},
    {"Configuration and logs", files, ARRAY_LEN(files)},
    {"For --doctor", doctor, ARRAY_LEN(doctor)},
};
const size_t config_group_count = ARRAY_LEN(config_groups);

const struct config_verb config_verbs[] = {
    {"check-config", NULL, "check the configuration, certificate included, and exit", CONFIG_CHECK},
    {"print-config", NULL, "print the effective configuration as JSON and exit", CONFIG_PRINT},
    {"doctor", "URL", "check https://your.domain from outside as mini-programs do, a line and a mend for each thing, and exit with 1 when something is wrong", CONFIG_DOCTOR},
    {"version", NULL, "print the version and exit", CONFIG_VERSION},
    {"help", NULL, "print this and exit", CONFIG_HELP},
};
const size_t config_verb_count = ARRAY_LEN(config_verbs);
// clang-format on

const struct config_option *config_find(struct slice key)
{
    config_for_each (o) {
        if (slice_eq(key, slice_str(o->key)))
            return o;
    }
    return NULL;
}

const char *config_nearest(struct slice key)
{
    const char *best = NULL;
    unsigned least = (unsigned)(key.n / 3) + 1; /* at most a third of the letters may differ */
    config_for_each (o) {
        unsigned distance = value_distance(key, slice_str(o->key));
        if (distance != 0 && distance <= least) {
            least = distance - 1;
            best = o->key;
        }
    }
    return best;
}

void config_env_name(const struct config_option *o, char ret[CONFIG_ENV_NAME])
{
    int n = snprintf(ret, CONFIG_ENV_NAME, "XINDAO_%s", o->key);
    for (int i = 0; i < n; i++)
        ret[i] = ret[i] == '-' ? '_' : (char)toupper((unsigned char)ret[i]);
}
