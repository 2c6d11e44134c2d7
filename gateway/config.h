/* gateway/config.h: every option of the gateway, from one table (gateway/config_table.c): flag --max-queue-bytes = environment variable
 * XINDAO_MAX_QUEUE_BYTES = key "max-queue-bytes" of the JSON file given by --config. A flag beats the environment, which beats the file, which beats
 * the default. */
#ifndef XD_CONFIG_H
#define XD_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "base/slice.h"

enum sio_transports { SIO_TRANSPORTS_ALL, SIO_TRANSPORTS_WEBSOCKET, SIO_TRANSPORTS_POLLING };
enum emitter_mode { EMITTER_OFF, EMITTER_CLASSIC, EMITTER_STREAMS, EMITTER_BOTH };
enum auth_mode { AUTH_OPEN, AUTH_JWT, AUTH_BACKEND };
enum expiry_rule { EXPIRY_DISCONNECT, EXPIRY_IGNORE };
enum slow_rule { SLOW_DISCONNECT, SLOW_DROP_OLDEST, SLOW_RESUME };
enum ticket_mode { TICKETS_OFF, TICKETS_1_3, TICKETS_ALL };
enum proxy_mode { PROXY_OFF, PROXY_ON, PROXY_OPTIONAL };

struct strings { /* values of a repeatable option, in the order given */
    char **items;
    size_t count;
};

struct config {
    struct strings listen, api_listen, origins, policies, jwt_keys;
    struct strings socketio_paths, socketio_namespaces, socketio_events;
    char *tls_cert, *tls_key, *broker, *node, *key_prefix, *config_file, *jwt_audience, *jwt_issuer, *api_keys;
    char *wafer_tenants, *wafer_url, *wafer_ca;
    struct strings wafer_hosts;
    uint32_t wafer_url_time_s, wafer_concurrency;
    char *socketio_emitter_key, *socketio_emitter_stream, *engineio_echo;
    char *backend_url, *backend_secret_file, *backend_ca;
    char *wechat_apps, *wechat_url, *wechat_ca;
    struct strings wechat_allow;
    bool insecure, api_insecure, wechat_login, demo, events, commands, socketio, socketio_eio3, socketio_recovery;
    enum auth_mode auth;
    enum emitter_mode socketio_emitter;
    enum sio_transports socketio_transports;
    enum expiry_rule jwt_expiry;
    enum slow_rule slow_consumer;
    enum proxy_mode proxy_protocol;
    enum ticket_mode tls_tickets;
    enum log_level log_level;
    enum log_format log_format;
    uint32_t workers;
    uint32_t ticket_rotation_s;
    uint32_t max_connections, max_connections_per_ip, max_accepts_per_second, overload_lag_ms, max_starts;
    uint32_t max_watches_per_session, user_memory_s;
    uint32_t max_message_size, api_body_size, max_rooms_per_session, max_queue_bytes, max_requests_per_session;
    uint32_t message_rate, message_burst;              /* frames per second from one client; 0: no limit */
    uint32_t user_rate, user_burst, ip_rate, ip_burst; /* the same of one user, one address, in the whole cluster */
    uint32_t handshake_timeout_s, heartbeat_s, resume_window_s, drain_time_s, jwt_leeway_s, jwt_notice_s,
        revocation_time_s;
    uint32_t socketio_ping_interval_ms, socketio_ping_timeout_ms, socketio_connect_timeout_ms, socketio_gzip_threshold;
    uint32_t tail_bytes, tail_total_bytes;
    uint32_t backend_timeout_ms, backend_concurrency;
    uint32_t wechat_timeout_ms, wechat_concurrency;
    uint32_t event_shards, event_count, event_age_s, command_count, command_age_s;
    uint32_t lease_ms, redis_timeout_ms, redis_queue_bytes;
    bool redis_read_replicas;
    char *doctor; /* the URL of --doctor, which is no option; NULL: none */
    char *doctor_ca;
    struct strings doctor_addresses;
    uint32_t doctor_idle_s;
};

/* What main should do after parsing. */
enum config_action { CONFIG_RUN, CONFIG_HELP, CONFIG_VERSION, CONFIG_CHECK, CONFIG_PRINT, CONFIG_DOCTOR };

/* Every option at its default; node and the certificate are still missing. */
void config_init(struct config *c);

/* Reads defaults, file, environment and argv; checks every value and that they fit together. On failure *reterr names the option, where it came from,
 * the bad value and what would be right; *ret is untouched. getenv_fn is getenv, or a fake. For CONFIG_HELP and CONFIG_VERSION nothing else is read,
 * *ret has the defaults; for CONFIG_DOCTOR the values are checked one by one, but not whether a gateway could run with them. The caller owns *ret in any case of OK. */
enum err config_load(int argc, char *const *argv, char *(*getenv_fn)(const char *), struct config *ret,
                     enum config_action *ret_action, struct error *reterr);
void config_fini(struct config *c);

/* Copies the reloadable options of `fresh` into c (taking strings), and names those that changed but need a restart in ret_ignored, comma-separated.
 * Options that did not change keep their memory. fresh is still to be given to config_fini. */
void config_reload(struct config *c, struct config *fresh, char *ret_ignored, size_t size);

void config_print_help(FILE *out);
/* The effective configuration as JSON that loads again; passwords in URLs are shown as ***, then it says so on stderr and returns true. */
bool config_print(const struct config *c, FILE *out);

/* Parses a JSON configuration text into c (after config_init); what config_load uses for the file, and what is fuzzed. source names it in
 * errors. Values are checked one by one, not together. On failure c holds what came before the error. */
enum err config_parse_json(struct slice text, const char *source, struct config *c, struct error *reterr);

/* Splits HOST:PORT, [V6]:PORT (host without brackets then) or :PORT (host empty: all addresses), the syntax of --listen. False when it is none. The
 * host is an address or a name; a name may still not resolve. */
bool config_split_listen(struct slice text, struct slice *ret_host, uint16_t *ret_port);

#endif
